# SPDX-License-Identifier: GPL-3.0-or-later
"""Drives the panel in a real Blender window, for a maintainer; not part of the test suite.

    blender --enable-event-simulate --python tests/gui/drive.py -- OUT [--shade]

The extension has to be installed and enabled. Takes pictures of the panel (as it comes, narrow, at twice the size) into
the folder OUT, without and with findings. With --shade it presses the button several times, so that jobs queue; undoes
something meanwhile; has two windows shade a scene each; and says how long our own code held Blender's main thread. Ends
Blender with 0 where all went well.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy

sys.path.insert(0, str(Path(__file__).parent))
from window import PAUSE, Steps, arguments, module, picture, run

ARGUMENTS = arguments()
OUT = Path(ARGUMENTS[0]).absolute()
SHADES = "--shade" in ARGUMENTS
HELD = 0.016  # seconds that the main thread may be held
LIMIT = 900.0  # seconds for all jobs
JOBS = 4  # that queue


def view() -> tuple[bpy.types.Window, bpy.types.Area, bpy.types.Region]:
    """The first 3D view and its sidebar."""
    window = bpy.context.window_manager.windows[0]
    area = next(area for area in window.screen.areas if area.type == "VIEW_3D")
    return window, area, next(region for region in area.regions if region.type == "UI")


def open_tab() -> Steps:
    window, area, region = view()
    with bpy.context.temp_override(window=window, area=area):
        bpy.ops.screen.screen_full_area(use_hide_panels=False)
    yield PAUSE
    window, area, region = view()
    area.spaces.active.show_region_ui = True
    yield PAUSE
    window, area, region = view()
    region.active_panel_category = "Trackshade"
    area.tag_redraw()
    yield PAUSE


def drag_edge(pixels: int) -> Steps:
    """Makes the sidebar narrower by so many pixels."""
    window, _, region = view()
    x, y = region.x, region.y + region.height // 2
    window.event_simulate("MOUSEMOVE", "NOTHING", x=x + 30, y=y)
    yield 0.2
    window.event_simulate("MOUSEMOVE", "NOTHING", x=x, y=y)
    yield 0.2
    window.event_simulate("LEFTMOUSE", "PRESS", x=x, y=y)
    yield 0.2
    for step in range(1, 11):
        window.event_simulate("MOUSEMOVE", "NOTHING", x=x + pixels * step // 10, y=y)
        yield 0.05
    window.event_simulate("LEFTMOUSE", "RELEASE", x=x + pixels, y=y)
    yield PAUSE


def scales(name: str) -> Steps:
    """The panel as it is, at twice the size, and narrow."""
    yield from picture(OUT, name)
    bpy.context.preferences.view.ui_scale = 2.0
    yield from picture(OUT, f"{name}-200")
    bpy.context.preferences.view.ui_scale = 1.0
    yield PAUSE


def timed(owner: type, name: str, times: list[float], counts: Callable[[], bool]) -> None:
    """Has the duration of each call of a method noted where it `counts` before and after."""
    call = getattr(owner, name)

    def wrapper(self: object, argument: object = None) -> object:  # Blender counts a draw function's arguments
        before, began = counts(), time.perf_counter()
        try:
            return call(self) if argument is None else call(self, argument)
        finally:
            if before and counts():
                times.append(time.perf_counter() - began)

    setattr(owner, name, wrapper)


def begin(number: int, window: Any = None) -> Steps:
    """Presses the button in a window, and waits until the scene is captured."""
    window = window or bpy.context.window_manager.windows[0]
    area = next(area for area in window.screen.areas if area.type == "VIEW_3D")
    window.scene.trackshade.prompt = f"a red box, take {number}"
    with bpy.context.temp_override(window=window, area=area):
        assert bpy.ops.trackshade.shade("INVOKE_DEFAULT") == {"RUNNING_MODAL"}
    while module("session").current().holds_scene:
        held = [[item.bl_idname for item in each.modal_operators] for each in bpy.context.window_manager.windows]
        assert all(any(name.startswith("TRACKSHADE_OT") for name in names) for names in held), held
        yield 0.05


def finish() -> Steps:
    """Waits until no job runs; all of them have gone well."""
    session, limit = module("session").current(), time.monotonic() + LIMIT
    while session.busy:
        assert time.monotonic() < limit, "the jobs take too long"
        yield 0.2
    for job in session.jobs:
        assert job.error is None, job.error


def watched() -> dict[str, list[float]]:
    """From now on: how long each call of ours takes on the main thread, but while frames are captured."""
    session = module("session")
    spent: dict[str, list[float]] = {"ticks of jobs": [], "looks of the checks": [], "panels drawn": []}
    timed(session.Session, "advance", spent["ticks of jobs"], lambda: not session.current().holds_scene)
    timed(module("checks.watch").ChecksWatcher, "run", spent["looks of the checks"], lambda: True)
    panels = [
        module("panel").SettingsPanel,
        module("panel").TRACKSHADE_PT_shade,
        module("jobs_list").TRACKSHADE_PT_jobs,
    ]
    spent["waits for the interpreter"] = waits = []  # which threads that send and fetch hold by turns

    def probe() -> float:
        began = time.perf_counter()
        time.sleep(0)  # lets go of it, and takes it again
        if session.current().busy and not session.current().holds_scene:
            waits.append(time.perf_counter() - began)
        return 0.02

    bpy.app.timers.register(probe)
    for owner in (*panels, module("backend_panel").TRACKSHADE_PT_backend, module("models_panel").TRACKSHADE_PT_models):
        timed(owner, "draw", spent["panels drawn"], lambda: True)
    return spent


def shade() -> Steps:
    """Jobs that queue, an undo while they run, and two windows with a scene each; how long Blender was held."""
    spent = watched()
    if bpy.context.scene.render.engine == "CYCLES":
        bpy.context.scene.cycles.samples = 2
    for number in range(JOBS):
        yield from begin(number + 1)
    yield from picture(OUT, "jobs-running")
    window, area, _ = view()
    with bpy.context.temp_override(window=window, area=area):
        bpy.ops.mesh.primitive_cube_add(location=(0, 0, 5))
        bpy.ops.ed.undo_push(message="Add Cube")
        bpy.ops.ed.undo()
    yield from finish()
    plates = [item.name for item in bpy.context.scene.objects if "plate" in item.name]
    assert len(plates) == JOBS, plates
    with bpy.context.temp_override(window=window, area=area):
        bpy.ops.ed.undo()
    yield PAUSE
    assert len([item for item in bpy.context.scene.objects if "plate" in item.name]) == JOBS - 1
    for what, times in spent.items():
        times.sort()
        most, longest = (1000 * times[at] for at in (len(times) * 99 // 100, -1))
        over = sum(each > HELD for each in times)
        print(
            f"{what}: {len(times)}, 99 % within {most:.1f} ms, longest {longest:.1f} ms, {over} over {1000 * HELD:g} ms"
        )
    yield from two_scenes()
    yield from scales("jobs-done")


def two_scenes() -> Steps:
    """Each window's job is placed in its own scene."""
    window, area, _ = view()
    with bpy.context.temp_override(window=window, area=area):
        bpy.ops.screen.screen_full_area(use_hide_panels=False)  # back to the layout, which alone can be doubled
    yield PAUSE
    with bpy.context.temp_override(window=bpy.context.window_manager.windows[0]):
        bpy.ops.wm.window_new_main()  # a child window would share its parent's scene
    yield PAUSE
    other = bpy.context.window_manager.windows[1]
    with bpy.context.temp_override(window=other):
        bpy.ops.scene.new(type="FULL_COPY")
    scenes = [bpy.context.window_manager.windows[0].scene, other.scene]
    assert scenes[0] != scenes[1]
    before = [len([item for item in scene.objects if "plate" in item.name]) for scene in scenes]
    yield from begin(JOBS + 1, other)
    yield from begin(JOBS + 2)
    yield from finish()
    scenes = [window.scene for window in bpy.context.window_manager.windows]
    after = [len([item for item in scene.objects if "plate" in item.name]) for scene in scenes]
    assert after == [count + 1 for count in before], (before, after)
    yield from picture(OUT, "two-windows")
    with bpy.context.temp_override(window=bpy.context.window_manager.windows[1]):
        bpy.ops.wm.window_close()
    yield PAUSE


def drive() -> Steps:
    OUT.mkdir(parents=True, exist_ok=True)
    yield 1.0
    yield from open_tab()
    yield from scales("panel")
    bpy.context.scene.camera = None
    yield from picture(OUT, "no-camera")
    window, area, _ = view()
    with bpy.context.temp_override(window=window, area=area):
        bpy.ops.trackshade.add_camera()
        bpy.ops.trackshade.check()
    yield from picture(OUT, "checked")
    if SHADES:
        yield from shade()
    yield from drag_edge(90)
    yield from picture(OUT, "narrow")


run(drive())
