# SPDX-License-Identifier: GPL-3.0-or-later
"""Drives the panel in a real Blender window, for a maintainer; not part of the test suite.

    blender --enable-event-simulate --python tests/gui/drive.py -- OUT [--shade]

The extension has to be installed and enabled. Takes pictures of the panel (as it comes, narrow, at twice the size) into
the folder OUT, without and with findings; with --shade it presses the button twice, so that two jobs queue, waits for
them, and says how long our own code held Blender's main thread. Ends Blender with 0 where all went well.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Generator
from pathlib import Path

import bpy

ARGUMENTS = sys.argv[sys.argv.index("--") + 1 :]
OUT = Path(ARGUMENTS[0]).absolute()
SHADES = "--shade" in ARGUMENTS
PAUSE = 1.5  # seconds that Blender gets to draw
HELD = 0.016  # seconds that the main thread may be held
LIMIT = 600.0  # seconds for both jobs

Steps = Generator[float, None, None]


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


def picture(name: str) -> Steps:
    for _ in range(3):  # sizes settle in the redraw after a change
        view()[1].tag_redraw()
        yield PAUSE / 3
    path = OUT / f"{name}.png"
    grab = shutil.which("import")  # ImageMagick's: Blender's own picture is black on a software display
    if grab is not None and os.environ.get("DISPLAY"):
        subprocess.run([grab, "-window", "root", str(path)], check=True)
        return
    window, area, _ = view()
    with bpy.context.temp_override(window=window, area=area):
        bpy.ops.screen.screenshot(filepath=str(path))
    yield 0.1


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
    yield from picture(name)
    bpy.context.preferences.view.ui_scale = 2.0
    yield from picture(f"{name}-200")
    bpy.context.preferences.view.ui_scale = 1.0
    yield PAUSE


def timed(owner: type, name: str, times: list[float], counts: Callable[[], bool]) -> None:
    """Has the duration of each call of a method noted where it `counts` before and after."""
    call = getattr(owner, name)

    def wrapper(self: object, argument: object = None) -> object:  # Blender counts a draw function's arguments
        before, began = counts(), time.perf_counter()
        try:
            return call(self, argument)
        finally:
            if before and counts():
                times.append(time.perf_counter() - began)

    setattr(owner, name, wrapper)


def shade() -> Steps:
    """Two jobs, one after the other, and how long the main thread was held meanwhile."""
    session = sys.modules[next(name for name in sys.modules if name.endswith("trackshade.ui.session"))]
    panel = sys.modules[session.__name__.rpartition(".")[0] + ".panel"]
    spent: dict[str, list[float]] = {"ticks": [], "draws": []}
    timed(session.Session, "advance", spent["ticks"], lambda: not session.current().holds_scene)
    timed(panel._Part, "draw", spent["draws"], lambda: True)
    timed(panel.TRACKSHADE_PT_shade, "draw", spent["draws"], lambda: True)
    if bpy.context.scene.render.engine == "CYCLES":
        bpy.context.scene.cycles.samples = 2
    for number in range(2):
        window, area, _ = view()
        bpy.context.scene.trackshade.prompt = f"a red box, take {number + 1}"
        with bpy.context.temp_override(window=window, area=area):
            assert bpy.ops.trackshade.shade("INVOKE_DEFAULT") == {"RUNNING_MODAL"}
        while session.current().holds_scene:
            yield 0.05
    yield from picture("jobs-running")
    limit = time.monotonic() + LIMIT
    while session.current().busy:
        assert time.monotonic() < limit, "the jobs take too long"
        yield 0.2
    for job in session.current().jobs:
        print(f"{job.title}: {job.state} {job.error or job.out}")
        assert job.error is None, job.error
    for what, times in spent.items():
        times.sort()
        most, longest = (1000 * times[at] for at in (len(times) * 99 // 100, -1))
        over = sum(each > HELD for each in times)
        print(
            f"{what} after the capture: {len(times)}, 99 % within {most:.1f} ms, longest {longest:.1f} ms, {over} over"
        )
    yield from scales("jobs-done")


def drive() -> Steps:
    OUT.mkdir(parents=True, exist_ok=True)
    yield 1.0
    yield from open_tab()
    yield from scales("panel")
    bpy.context.scene.camera = None
    yield from picture("no-camera")
    window, area, _ = view()
    with bpy.context.temp_override(window=window, area=area):
        bpy.ops.trackshade.add_camera()
        bpy.ops.trackshade.check()
    yield from picture("checked")
    if SHADES:
        yield from shade()
    yield from drag_edge(90)
    yield from picture("narrow")


steps = drive()


def turn() -> float | None:
    try:
        return next(steps)
    except StopIteration:
        code = 0
    except Exception:  # noqa: BLE001 - whatever it is ends this Blender with a report
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


bpy.app.timers.register(turn, first_interval=2.0, persistent=True)
