# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel in other languages than English."""

from __future__ import annotations

import ast
import string
from collections.abc import Iterator
from pathlib import Path

import bpy
import pytest

import trackshade_addon
from trackshade_addon.messages import german, texts, translations
from trackshade_addon.messages.translations import CONTEXT

SOURCE = Path(trackshade_addon.__file__ or "").parent


def translated() -> list[tuple[str, str]]:
    """English and German."""
    return [(key if isinstance(key, str) else key[1], text) for key, text in german.TEXTS.items()]


def gaps(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def said() -> set[str]:
    """Every text in the add-on's source."""
    return {
        node.value
        for path in SOURCE.rglob("*.py")
        if path.name != "german.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def sentences() -> Iterator[str]:
    """Every pattern that the panel fills, and everything that the checks say."""
    for path in (SOURCE / "ui").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                place = {"tr": 0, "Finding": 2}.get(node.func.id, len(node.args))
                if place < len(node.args) and isinstance(node.args[place], ast.Constant):
                    yield ast.literal_eval(node.args[place])


def test_whatever_the_panel_puts_together_is_translated() -> None:
    found = {text for text in sentences() if not text.startswith("{") or not text.endswith("}")}
    assert {"Done in {time}", "The scene has no camera."} <= found
    found |= {*texts._STATES.values(), "{here}; needs {memory} of memory; {licence}"}
    assert found - {english for english, _ in translated()} == set()


def test_no_translation_is_of_a_text_that_is_gone() -> None:
    assert {english for english, _ in translated()} - said() == set()


@pytest.mark.parametrize(("english", "text"), translated())
def test_a_translation_has_the_same_gaps(english: str, text: str) -> None:
    assert gaps(english) == gaps(text)
    assert english.endswith(".") == text.endswith(".")


def test_a_context_of_its_own_comes_before_the_others() -> None:
    table = translations.tables()["de_DE"]
    assert table["Operator", "Shade"] == table["*", "Shade"] == "Schattieren"
    assert table[CONTEXT, "Fill"] == "Füllend"
    assert ("*", "Fill") not in table  # which is Blender's own word
    assert table[CONTEXT, "View Layer"] == "Ansichtsebene"
    assert ("*", "View Layer") not in table  # which Blender itself translates as "show layer"
    assert table[CONTEXT, "Redo"] == "Noch einmal"
    assert ("Operator", "Redo") not in table  # which takes an undo back


@pytest.fixture
def in_german() -> Iterator[None]:
    """Blender in German. Its Python module speaks English only; a Blender of its own runs this."""
    if not bpy.app.build_options.international:
        pytest.skip("this Blender was built without languages")
    trackshade_addon.register()
    view = bpy.context.preferences.view
    before = view.language
    view.language, view.use_translate_interface, view.use_translate_tooltips = "de_DE", True, True
    yield
    view.language = before
    trackshade_addon.unregister()


@pytest.mark.usefixtures("in_german")
def test_the_panel_speaks_german_until_it_is_disabled() -> None:
    assert texts.tr("{state}, {step} of {steps}", state=texts.state_name("running"), step=3, steps=6) == (
        "Schattiere, 3 von 6"
    )
    look = bpy.app.translations.pgettext_iface
    assert look("Shade", "Operator") == "Schattieren"
    assert look("Fill", CONTEXT) == "Füllend"
    trackshade_addon.unregister()
    assert look("Shade", "Operator") == "Shade"
    trackshade_addon.register()
