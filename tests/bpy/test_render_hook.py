# SPDX-License-Identifier: GPL-3.0-or-later
"""The hook on exports: real renders of Cycles, real backend; what is kept, what becomes of it, what is said."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import bpy
import numpy as np
import pytest

import renders
from backends import backend_python
from renders import animate, demo, exported
from trackshade.client import PrivateBackend
from trackshade.shot import Shot
from trackshade.shot.track_set import read_set
from trackshade_addon.place.colour import read_levels
from trackshade_addon.render import hook
from trackshade_addon.ui import session


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateBackend]:
    with renders.served(tmp_path_factory.mktemp("store")) as backend:
        yield backend


pytestmark = pytest.mark.usefixtures("backend")


def hooked(folder: Path, picture: str = "none") -> bpy.types.Scene:
    scene = demo(folder, "CYCLES")
    scene.frame_step = 3
    layer = scene.view_layers[0].trackshade
    layer.use_hook, layer.hook_picture = True, picture
    hook.said.clear()
    return scene


def said() -> str:
    return " ".join(hook.said.values())


def out(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "out").iterdir() if path.suffix != ".png")


def test_a_complete_export_is_shaded_and_placed(tmp_path: Path) -> None:
    scene = hooked(tmp_path, "after")
    scene.view_layers[0].trackshade.hook_place = True
    animate(scene)
    assert len(exported(tmp_path)) == 17
    assert out(tmp_path) == ["shot_ViewLayer-shaded", "shot_ViewLayer-tracks"]
    made = tmp_path / "out" / "shot_ViewLayer-shaded"
    assert (made / "scene.blend").is_file()
    assert np.array_equal(read_levels(made / "first_frame.png"), read_levels(exported(tmp_path)[0]))
    assert said() == f"Shaded: {made}"
    assert not any("trackshade" in repr(handler) for handler in bpy.app.handlers.frame_change_post)
