# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel in Blender's languages. A language is a module with TEXTS, such as `german`, and a line in `tables`.

Blender finds a text by a context too. Labels of buttons are in Blender's "Operator", the others in its default; words
that Blender uses in another sense, such as "Fill", are in CONTEXT, which their properties name.
"""

from __future__ import annotations

import bpy

from . import german

CONTEXT = "Trackshade"
_EVERYWHERE = ("*", "Operator", CONTEXT)

Table = dict[tuple[str, str], str]  # by context and English text


def tables() -> dict[str, Table]:
    """By locale, as Blender takes them."""
    return {"de_DE": _in_contexts(german.TEXTS)}


def _in_contexts(texts: dict[str | tuple[str, str], str]) -> Table:
    """A text without a context is for all of them, but where it has one of its own."""
    everywhere = {
        (context, key): text for key, text in texts.items() if isinstance(key, str) for context in _EVERYWHERE
    }
    return everywhere | {key: text for key, text in texts.items() if isinstance(key, tuple)}


def attach(owner: str) -> None:
    bpy.app.translations.register(owner, tables())


def detach(owner: str) -> None:
    bpy.app.translations.unregister(owner)
