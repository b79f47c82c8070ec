# SPDX-License-Identifier: GPL-3.0-or-later
"""A scene and its result for the tests of placing on surfaces."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np

from tests.helpers.backend_python import run_in_backend
from tests.helpers.place_results import levels
from tests.helpers.stage import add_camera, key
from trackshade.core.fitting import FrameMap, fit_frames, fit_size
from trackshade_addon.capture import capture
from trackshade_addon.capture.first_frame import render_sample

SIZE = (120, 80)
FRAMES = 5
WRITE = """
import sys
from pathlib import Path
import numpy as np
from trackshade.config import registry
from trackshade.control.video import tracking_video
from trackshade.results import write_result
from trackshade.config.settings import ShadeSettings
from trackshade.shot import Shot

folder = Path(sys.argv[1])
shot = Shot.load(folder / "made.shot")
write_result(
    folder / "result", frames=np.load(folder / "made.npy"), tracking=tracking_video(shot), shot=shot,
    settings=ShadeSettings(output=sys.argv[2]), spec=registry.spec("mini"), first_frame=None, input_render=None,
    timings={}, warnings=[], model_digests={},
)
"""


def set_stage(scene: bpy.types.Scene) -> bpy.types.Scene:
    """A painted board that turns and bends, seen from the front."""
    render = scene.render
    render.resolution_x, render.resolution_y = SIZE
    render.engine, render.dither_intensity = "CYCLES", 0
    render.image_settings.file_format, render.image_settings.color_mode = "PNG", "RGB"
    scene.cycles.samples, scene.cycles.use_denoising = 4, False
    scene.view_settings.view_transform = "Standard"
    scene.frame_start, scene.frame_end = 1, FRAMES
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=12, y_subdivisions=12, size=2)
    board = bpy.context.object
    board.name = "Board"
    board.data.materials.append(painted())
    bend = board.modifiers.new("Bend", "SIMPLE_DEFORM")
    bend.deform_method, bend.deform_axis = "BEND", "X"
    key(bend, "angle", {1: 0.0, FRAMES: 0.8})
    key(board, "rotation_euler", {1: (1.4, 0.0, 0.0), FRAMES: (1.7, 0.1, 0.4)})
    add_camera(scene, (0, -5, 0)).data.lens = 60
    return scene


def painted(name: str = "Paint") -> bpy.types.Material:
    """A material that shines with a color ramp over the texture's square."""
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    tree = material.node_tree
    tree.nodes.clear()
    where, shine = tree.nodes.new("ShaderNodeUVMap"), tree.nodes.new("ShaderNodeEmission")
    output, scale = tree.nodes.new("ShaderNodeOutputMaterial"), tree.nodes.new("ShaderNodeVectorMath")
    scale.operation = "MULTIPLY_ADD"
    scale.inputs[1].default_value, scale.inputs[2].default_value = (0.6, 0.6, 0), (0.1, 0.2, 0.3)
    tree.links.new(where.outputs[0], scale.inputs[0])
    tree.links.new(scale.outputs[0], shine.inputs["Color"])
    tree.links.new(shine.outputs[0], output.inputs["Surface"])
    return material


def shade(
    scene: bpy.types.Scene,
    folder: Path,
    frames: FrameMap | None = None,
    video: np.ndarray | None = None,
    output: str = "video",
) -> Path:
    """A result whose frames are what the scene's engine renders, or `video`: as a backend leaves it."""
    chosen = frames or fit_frames(1, FRAMES, 1, 24.0, (FRAMES,))
    shot = capture(scene, frame_map=chosen, size_fit=fit_size(SIZE, (1.0, 1.0), (SIZE,)))
    shot.save(folder / "made.shot")
    if video is None:
        video = np.stack([render_sample(shot, t, scene, scene.view_layers[0]) for t in range(len(shot.frame_numbers))])
    np.save(folder / "made.npy", video)
    run_in_backend(WRITE, folder, output)
    return folder / "result"


def render(scene: bpy.types.Scene, frame: int, folder: Path) -> np.ndarray:
    scene.frame_set(frame)
    scene.render.filepath = str(folder / "o.png")
    bpy.ops.render.render(write_still=True, scene=scene.name)
    return levels(folder / "o.png")


def look_from_the_side(scene: bpy.types.Scene) -> None:
    camera = bpy.data.objects.new("Other", scene.camera.data)
    scene.collection.objects.link(camera)
    camera.location, camera.rotation_euler = (1.5, -4.6, 0.4), (np.pi / 2 - 0.08, 0, 0.3)
    scene.camera = camera


def alike(one: np.ndarray, other: np.ndarray) -> bool:
    """But for silhouettes, where a render mixes in what is behind."""
    change = np.abs(one - other).max(axis=-1)
    return bool(np.median(change) <= 2 and np.mean(change > 16) < 0.03)


def _look(obj: bpy.types.Object) -> tuple[object, ...]:
    data = obj.data
    return (
        obj.name,
        [modifier.name for modifier in obj.modifiers],
        [(slot.link, slot.material and slot.material.name) for slot in obj.material_slots],
        [(layer.name, layer.active_render) for layer in getattr(data, "uv_layers", ())],
        [material and material.name for material in getattr(data, "materials", ())],
        sorted(name for name in [*obj.keys(), *data.keys()] if name.startswith("trackshade")),
    )


def state(scene: bpy.types.Scene) -> list[object]:
    """What taking off has to bring back."""
    return [
        sorted(map(_look, scene.objects)),
        sorted(m.name for m in bpy.data.materials),
        sorted(i.name for i in bpy.data.images if i.type not in ("RENDER_RESULT", "COMPOSITING")),
        sorted(c.name for c in bpy.data.collections),
        sorted(g.name for g in bpy.data.node_groups),
        sorted(m.name for m in bpy.data.meshes),
    ]  # fmt: skip
