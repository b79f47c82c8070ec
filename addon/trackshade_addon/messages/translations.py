# SPDX-License-Identifier: GPL-3.0-or-later
"""Translations of the interface. A language is a TOML file named after its locale, such as `de_DE.toml`.

Blender looks a text up in a context, too. Labels of buttons are in Blender's context "Operator", others in its default
context; words that Blender uses in another sense, such as "Crop", are in CONTEXT, which their properties name.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import bpy

CONTEXT = "Trackshade"
_CONTEXTS = ("*", "Operator", CONTEXT)

Table = dict[tuple[str, str], str]  # by context and English text


def tables() -> dict[str, Table]:
    """Return the table of each locale, as Blender takes them."""
    paths = sorted(Path(__file__).parent.glob("*.toml"))
    return {path.stem: _expand_contexts(tomllib.loads(path.read_text(encoding="utf-8"))) for path in paths}


def _expand_contexts(tables: dict[str, dict[str, str]]) -> Table:
    """Add the table "texts" to all contexts in which a text has no translation of its own."""
    texts = tables.pop("texts")
    everywhere = {(context, english): text for english, text in texts.items() for context in _CONTEXTS}
    return everywhere | {(name, english): text for name, table in tables.items() for english, text in table.items()}


def attach(owner: str) -> None:
    """Register the translations for an add-on."""
    bpy.app.translations.register(owner, tables())


def detach(owner: str) -> None:
    """Unregister the translations of an add-on."""
    bpy.app.translations.unregister(owner)
