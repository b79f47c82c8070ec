# SPDX-License-Identifier: GPL-3.0-or-later
"""From a fresh install to a shaded plate in a real Blender window, for a maintainer; not part of the test suite.

    blender --python tests/gui/drive_set_up.py -- OUT WHEELS|- [PYTHON]

The extension has to be installed and enabled, and no backend set up. WHEELS is a folder that was filled as the guide
says, or - for a set-up over the network; PYTHON what the environment is made with where that is not Blender's own.
Begins the set-up, cancels it, begins again, and shades the scene that Blender starts with. Takes pictures into the
folder OUT, prints the longest times for which Blender's main thread was held (see `gaps.py`), and ends Blender with 0
where all went well and our code held it for no longer than a second.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import bpy

sys.path.insert(0, str(Path(__file__).parent))
from gaps import GapWatch
from window import PAUSE, Steps, arguments, module, picture, run, view

LIMIT = 1800.0  # seconds for each thing that is waited for
OUT = Path(arguments()[0]).absolute()
WHEELS, *PYTHON = ("" if item == "-" else str(Path(item).absolute()) for item in arguments()[1:])


def until(holds: Callable[[], bool]) -> Steps:
    limit = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < limit, "it takes too long"
        yield 0.2


def press(name: str) -> None:
    with bpy.context.temp_override(**view()):
        getattr(bpy.ops.trackshade, name)("INVOKE_DEFAULT")


def drive() -> Steps:
    OUT.mkdir(parents=True, exist_ok=True)
    watch = GapWatch()
    backend = module("trackshade.backend")
    area = view()["area"]
    area.spaces.active.show_region_ui = True
    yield PAUSE
    next(region for region in area.regions if region.type == "UI").active_panel_category = "Trackshade"
    assert backend.manager.state().kind == "missing", "a backend is set up already"
    assert not bpy.ops.trackshade.shade.poll()
    yield from picture(OUT, "fresh")
    own = module("properties.preferences").get_preferences()
    own.wheels_folder, own.base_python = WHEELS, PYTHON[0] if PYTHON else ""
    watch.phase = "set-up"
    press("set_up")
    yield from until(
        lambda: backend.manager.state().kind != "setting-up" or (backend.manager.state().progress or 0) > 0.1
    )
    yield from picture(OUT, "setting-up")
    press("cancel_set_up")
    yield from until(lambda: backend.manager.state().kind != "setting-up")
    assert backend.manager.state().kind == "missing", backend.manager.state().message
    assert not list(module("backend.prefs").current_prefs().home.glob("env-*")), "a cancelled set-up has left something"
    press("set_up")
    yield from until(lambda: backend.manager.state().kind != "setting-up")
    assert backend.manager.state().kind == "stopped", backend.manager.state().message
    yield from picture(OUT, "set-up")
    session = module("jobs.session").current()
    watch.phase = "start"
    press("shade")
    while session.busy:
        watch.phase = "capture" if session.holds_scene else session.jobs[-1].state
        yield 0.05
    job = session.latest
    assert job.error is None, job.error
    assert any("plate" in item.name for item in bpy.context.scene.objects)
    watch.phase = "afterwards"
    with bpy.context.temp_override(**view()):
        bpy.ops.view3d.view_camera()
    yield PAUSE
    long = watch.report()
    assert not long, long
    yield from picture(OUT, "shaded")


run(drive())
