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
from trackshade_addon.messages import texts, translations
from trackshade_addon.messages.translations import CONTEXT

SOURCE = Path(trackshade_addon.__file__ or "").parent


GERMAN = translations.tables()["de_DE"]


def translated() -> list[tuple[str, str]]:
    """English and German."""
    return sorted({(english, text) for (_, english), text in GERMAN.items()})


def gaps(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def said() -> set[str]:
    """Every text in the add-on's source."""
    return {
        node.value
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def sentences() -> Iterator[str]:
    """Every pattern that the interface fills, and everything that the checks say."""
    for path in [*(SOURCE / "ui").glob("*.py"), *(SOURCE / "checks").glob("*.py"), *(SOURCE / "messages").glob("*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        variables, places = (
            {"text", "patterns", "_IMAGE_FITS"},
            {"tr": (0,), "tr_count": (0, 1), "Finding": (2,), "_about": (2,)},
        )
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and any(
                isinstance(target, ast.Name) and target.id in variables for target in node.targets
            ):
                yield from constants(node.value)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                for place in places.get(node.func.id, ()):
                    yield from constants(node.args[place])


def constants(node: ast.AST) -> Iterator[str]:
    """The texts that a node may be: itself, or the choices of a condition."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from constants(node.body)
        yield from constants(node.orelse)
    elif isinstance(node, ast.Dict):
        for value in node.values:
            yield from constants(value)
    elif isinstance(node, ast.Tuple):
        for value in node.elts:
            yield from constants(value)


def test_whatever_the_panel_puts_together_is_translated() -> None:
    found = {text for text in sentences() if text != "{sentence}"}
    assert {"Done in {time}", "The scene has no camera.", "Out of view in frames {frames}: {names}."} <= found
    assert {"The image ({size}) shows the scene's frame and is scaled to {model}.", "No problems found"} <= found
    assert "The first {count} of {requested} frames, up to frame {last}." in found
    assert "Restored the materials of 1 object" in found
    found |= {*texts._STATES.values()}
    assert found - {english for english, _ in translated()} == set()


def test_no_translation_is_of_a_text_that_is_gone() -> None:
    assert {english for english, _ in translated()} - said() == set()


@pytest.mark.parametrize(("english", "text"), translated())
def test_a_translation_has_the_same_gaps(english: str, text: str) -> None:
    assert gaps(english) == gaps(text)
    assert english.endswith(".") == text.endswith(".")


def test_a_context_of_its_own_comes_before_the_others() -> None:
    table = GERMAN
    assert table["Operator", "Shade"] == table["*", "Shade"] == "Schattieren"
    assert table[CONTEXT, "Crop"] == "Beschneiden"
    assert ("*", "Crop") not in table  # which is Blender's own word
    assert table[CONTEXT, "View Layer"] == "Ansichtsebene"
    assert ("*", "View Layer") not in table  # which Blender itself translates as "show layer"
    assert table[CONTEXT, "Repeat"] == "Wiederholen"
    assert ("Operator", "Repeat") not in table


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
    assert texts.tr("{state}, {step} of {steps}", state=texts.state_text("running"), step=3, steps=6) == (
        "Schattiere, 3 von 6"
    )
    look = bpy.app.translations.pgettext_iface
    assert look("Shade", "Operator") == "Schattieren"
    assert look("Crop", CONTEXT) == "Beschneiden"
    trackshade_addon.unregister()
    assert look("Shade", "Operator") == "Shade"
    trackshade_addon.register()
