# SPDX-License-Identifier: GPL-3.0-or-later
"""Lays a result onto its surfaces in a real Blender window and takes it off again, for a maintainer; not a test.

    blender FILE.blend --python tests/gui/drive_surfaces.py -- OUT RESULT

The extension has to be enabled with a backend, and RESULT be made from FILE. Places it in each way by the panel,
through the shot's camera and from where the view was left, and presses Put Materials Back: the view is then the same
picture as before. Ends Blender with 0 where all went well.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import bpy
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from window import Steps, arguments, module, picture, run, view

OUT, RESULT = (Path(word).absolute() for word in arguments()[:2])
PLACEMENT_MODES = ("projected", "baked", "heat")
LIMIT = 600.0  # seconds for a bake
FRAME = 5
NOISE = 30  # levels


def scene() -> Any:
    return bpy.context.window_manager.windows[0].scene


def look(camera: bool) -> None:
    view()["area"].spaces.active.region_3d.view_perspective = "CAMERA" if camera else "PERSP"


def place(way: str) -> Steps:
    scene().trackshade.place_as = way
    with bpy.context.temp_override(**view()):
        assert bpy.ops.trackshade.import_result("EXEC_DEFAULT", filepath=str(RESULT)) == {"FINISHED"}
    session, limit = module("session").current(), time.monotonic() + LIMIT
    while session.busy:
        assert time.monotonic() < limit, "the bake takes too long"
        yield 0.2
    assert any("trackshade_materials" in obj for obj in scene().objects), session.jobs[0].result


def shown(name: str) -> np.ndarray:
    """[H/8, W/8, 3] levels of the 3D view's middle in a picture that was taken: how many samples an edge has had when
    it is taken cannot be told, so squares of 8 are compared.
    """
    # An image that Blender itself loads would have the view gather its samples anew.
    ppm = subprocess.run(["convert", str(OUT / f"{name}.png"), "-depth", "8", "ppm:-"], capture_output=True, check=True)
    _, size, _, levels = ppm.stdout.split(b"\n", 3)
    width, height = map(int, size.split())
    values = np.frombuffer(levels, np.uint8).reshape(height, width, 3)[::-1].astype(np.float64)
    region = view()["region"]
    middle = values[region.y : region.y + region.height, region.x : region.x + region.width]
    rows, columns = region.height // 16, region.width // 16
    middle = middle[4 * rows : 12 * rows, 4 * columns : 12 * columns]
    return middle.reshape(rows, 8, columns, 8, 3).mean(axis=(1, 3))


def both(name: str) -> Steps:
    """Pictures through the camera and from where the view was left, once shaders are compiled and it stands still."""
    for camera, words in ((True, "camera"), (False, "free")):
        look(camera)
        before, now = np.zeros(1), np.full(1, 255)
        while now.std() < 5 or np.abs(now - before).max() > NOISE:
            before = now
            yield 4.0  # a sample of a display in software may take seconds
            yield from picture(OUT, f"{name}-{words}")
            now = shown(f"{name}-{words}")


def drive() -> Steps:
    OUT.mkdir(parents=True, exist_ok=True)
    bpy.context.preferences.view.show_splash = False
    scene().frame_set(FRAME)
    scene().eevee.taa_samples = 4
    space = view()["area"].spaces.active
    space.shading.type = "MATERIAL"
    space.overlay.show_overlays = space.show_gizmo = False
    yield 3.0
    yield from both("own")
    for way in PLACEMENT_MODES:
        yield from place(way)
        yield 3.0
        yield from both(way)
        with bpy.context.temp_override(**view()):
            assert bpy.ops.trackshade.restore_materials() == {"FINISHED"}
        yield 3.0
        yield from both(f"{way}-off")
        for words in ("camera", "free"):
            change = np.abs(shown(f"{way}-off-{words}") - shown(f"own-{words}")).max(axis=-1)
            worn = np.abs(shown(f"{way}-{words}") - shown(f"own-{words}")).max(axis=-1)
            print(f"{way}, {words}: {(worn > NOISE).mean():.1%} of the view is another with the result on, "
                  f"{(change > NOISE).mean():.1%} with it off again", flush=True)  # fmt: skip
            assert (worn > NOISE).mean() > 0.05
            assert (change > NOISE).mean() < 0.001


run(drive())
