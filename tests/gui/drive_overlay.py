# SPDX-License-Identifier: GPL-3.0-or-later
"""Drives the tracking colors in a real Blender window, for a maintainer; not part of the test suite.

    blender DEMO.blend --python tests/gui/drive_overlay.py -- OUT

The extension has to be enabled, and DEMO be the demonstration scene. Looks at the colors in free view, through the
camera, while playing, after an edit and its undo, in two windows, in a new file and after the add-on was switched off.
What stands on the screen is held against what is drawn into a buffer of our own, value by value.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import bpy
import gpu
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from window import Steps, arguments, module, picture, run, view

OUT = Path(arguments()[0]).absolute()
LOOK = 1.5  # seconds until the first frame has been looked at again


def colors(shown: bool, opacity: float = 1.0, background: bool = False) -> None:
    own = bpy.context.window_manager.windows[0].scene.trackshade_overlay
    own.show, own.opacity, own.background = shown, opacity, background


def looks() -> list[Any]:
    """Notes every look at the first frame."""
    watcher, noted = module("overlay.watch").watcher, []
    call = watcher.update

    def update(*arguments: Any) -> Any:
        noted.append(arguments)
        return call(*arguments)

    watcher.update = update
    return noted


def compare(name: str) -> None:
    """Holds the picture of the window, colors on black, against the same view drawn into a buffer."""
    where = view()
    region, window = where["region"], where["window"]
    space = where["area"].spaces.active
    shown = module("overlay.watch").watcher.get(window.scene, window.view_layer)
    draw = module("overlay.draw")
    buffer = gpu.types.GPUOffScreen(region.width, region.height)
    with buffer.bind():
        gpu.state.viewport_set(0, 0, region.width, region.height)
        matrix = space.region_3d.perspective_matrix
        draw.draw_overlay(window.view_layer.depsgraph, shown.overlay, matrix, background=True)
        pixels = gpu.state.active_framebuffer_get().read_color(0, 0, region.width, region.height, 4, 0, "UBYTE")
    pixels.dimensions = region.width * region.height * 4
    drawn = np.array(pixels, np.uint8).reshape(region.height, region.width, 4)[..., :3].astype(int)
    image = bpy.data.images.load(str(OUT / f"{name}.png"))
    screen = np.rint(255 * np.array(image.pixels[:])).reshape(image.size[1], image.size[0], 4)[..., :3].astype(int)
    bpy.data.images.remove(image)
    screen = screen[region.y : region.y + region.height, region.x : region.x + region.width]
    middle = tuple(slice(3 * side // 10, 7 * side // 10) for side in (region.height, region.width))  # inside the frame
    screen, drawn = screen[middle], drawn[middle]
    lit = drawn.max(axis=-1) > 0
    difference = np.abs(screen - drawn)
    dark = (drawn > 1) & (drawn < 5)  # which Blender's own way to the screen has no room for: see the overlay's README
    close = (difference <= np.where(dark, 4, 1)).all(axis=-1)
    print(f"{name}: {lit.sum()} pixels in color; of their values {(difference[lit] == 0).mean():.2%} are the same on "
          f"the screen, {(difference[lit] <= 1).mean():.2%} within one level")  # fmt: skip
    assert close[lit].mean() > 0.999


def turned(matrix: bool) -> None:
    space = view()["area"].spaces.active
    space.region_3d.view_perspective = "CAMERA" if matrix else "PERSP"


def drive() -> Steps:
    OUT.mkdir(parents=True, exist_ok=True)
    noted = looks()
    scene = bpy.context.window_manager.windows[0].scene
    scene.frame_set(1)
    scene.render.dither_intensity = 0.0  # which the screen shows, too
    colors(True)
    yield LOOK
    yield from picture(OUT, "free")
    assert len(noted) == 1
    colors(True, opacity=0.5)
    yield from picture(OUT, "half")
    colors(True, background=True)
    overlay = view()["area"].spaces.active.overlay
    overlay.show_floor = overlay.show_axis_x = overlay.show_axis_y = overlay.show_text = overlay.show_extras = False
    overlay.show_cursor = view()["area"].spaces.active.show_gizmo = False
    yield from picture(OUT, "free-black")
    compare("free-black")
    turned(True)
    yield 1.0
    scene.frame_set(25)
    yield from picture(OUT, "camera-25")
    compare("camera-25")
    overlay.show_floor = overlay.show_extras = overlay.show_text = True
    colors(True)

    print("playback")
    before = scene.frame_current
    with bpy.context.temp_override(**view()):
        bpy.ops.screen.animation_play()
    yield 2.0
    looked = len(noted)
    scene.objects["Floor"].location.x += 0.01
    yield from picture(OUT, "playing")
    assert len(noted) == looked, "the frame is not stepped while it plays"
    with bpy.context.temp_override(**view()):
        bpy.ops.screen.animation_cancel(restore_frame=False)
    yield 2 * LOOK
    assert scene.frame_current != before
    assert len(noted) == looked + 1, "but then"

    print("an edit and its undo")
    with bpy.context.temp_override(**view()):
        scene.objects["Floor"].location.x = 0.0
        bpy.ops.ed.undo_push(message="before")
        scene.objects["Floor"].location.x = 2.0
        bpy.ops.ed.undo_push(message="moved")
    yield 2 * LOOK
    looked = len(noted)
    yield from picture(OUT, "moved")
    with bpy.context.temp_override(**view()):
        bpy.ops.ed.undo()
    yield 2 * LOOK
    yield from picture(OUT, "undone")
    assert len(noted) > looked
    looked = len(noted)
    scene = bpy.context.window_manager.windows[0].scene
    assert scene.objects["Floor"].location.x == 0
    for obj in scene.objects:
        obj.select_set(obj.name == "Ball")
    yield 2 * LOOK
    assert len(noted) == looked, "a selection is no change"

    print("the popover")
    with bpy.context.temp_override(**view()):
        bpy.ops.wm.call_panel(name="VIEW3D_PT_overlay")
    yield from picture(OUT, "popover")

    print("two windows")
    turned(False)
    with bpy.context.temp_override(**view()):
        bpy.ops.wm.window_new()
    yield LOOK
    yield from picture(OUT, "two-windows")

    print("a new file")
    bpy.ops.wm.read_homefile(use_factory_startup=True, load_ui=False)
    bpy.context.preferences.view.show_splash = False
    yield LOOK
    yield from picture(OUT, "new-file")
    colors(True)
    looked = len(noted)
    yield 2 * LOOK
    yield from picture(OUT, "new-file-colors")
    assert len(noted) == looked + 1

    print("switched off")
    drawing = module("overlay.view")
    sys.modules[drawing.__name__.rpartition(".overlay.")[0]].unregister()
    assert drawing._handle is None
    yield from picture(OUT, "switched-off")


run(drive())
