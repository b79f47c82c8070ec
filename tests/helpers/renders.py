# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders on the demonstration scene, at the embedded model's own size so that pixels can be compared."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np

from trackshade_addon.demo_scene import build_demo_scene
from trackshade_addon.placement.color import read_levels

SIZE = (144, 96)


def demo(folder: Path, engine: str = "TRACKSHADE", size: tuple[int, int] = SIZE) -> bpy.types.Scene:
    """The demonstration scene in a file of its own, quick to render, with its frames going to `folder`/out."""
    build_demo_scene(folder / "demo.blend")
    bpy.ops.wm.open_mainfile(filepath=str(folder / "demo.blend"))
    scene = bpy.context.scene
    render, own = scene.render, scene.trackshade
    render.engine = engine
    render.resolution_x, render.resolution_y = size
    render.dither_intensity = 0
    render.filepath = str(folder / "out" / "shot_")
    scene.cycles.samples = 1
    bpy.ops.wm.save_mainfile()  # for commands that open it
    own.first_frame, own.light, own.steps, own.seed = "none", "none", 1, 3
    own.output_size = "model"  # no propagation, which takes most of such a job's time
    return scene


def animate(scene: bpy.types.Scene, **options: object) -> set[str]:
    """Renders the animation as Ctrl-F12 does; raises RuntimeError with what the engine says."""
    return bpy.ops.render.render(animation=True, scene=scene.name, **options)


def still(scene: bpy.types.Scene, path: Path) -> np.ndarray:
    """[H, W, 3] levels of the present frame as F12 renders it."""
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True, scene=scene.name)
    return read_levels(path)


def exported(folder: Path) -> list[Path]:
    return sorted((folder / "out").glob("shot_*.png"))


def multilayer(scene: bpy.types.Scene) -> None:
    """Has the render written with all passes, in a form that our reader knows."""
    output = scene.render.image_settings
    if hasattr(output, "media_type"):
        output.media_type = "MULTI_LAYER_IMAGE"
    output.file_format, output.exr_codec, output.color_depth = "OPEN_EXR_MULTILAYER", "NONE", "32"
    if hasattr(output, "use_exr_interleave"):
        output.use_exr_interleave = True
