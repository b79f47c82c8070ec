# SPDX-License-Identifier: GPL-3.0-or-later
"""What is seen is what is sent: the preview, drawn, beside the tracking video that the backend makes of the shot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import bpy
import gpu
import numpy as np
import pytest
from mathutils import Matrix

from tests.helpers import stage
from trackshade.client import Client, PrivateBackend, connect
from trackshade.config.settings import ShadeSettings
from trackshade.shot import Shot
from trackshade_addon.capture import capture, first_frame, plan_scene
from trackshade_addon.capture.stepping import finish
from trackshade_addon.demo_scene import build_demo_scene
from trackshade_addon.overlay.draw import Overlay, draw_overlay
from trackshade_addon.overlay.reference import read_reference_steps

pytestmark = pytest.mark.skipif(not hasattr(gpu, "init"), reason="needs bpy 5.2, which draws without a window")


@pytest.fixture(scope="module", autouse=True)
def _graphics() -> None:
    if not first_frame._has_graphics():
        pytest.skip("this machine has no graphics driver")


@pytest.fixture(scope="module")
def client(backend: PrivateBackend) -> Iterator[Client]:
    with connect(backend.info.endpoint, backend.info.token) as client:
        yield client


def sent(client: Client, shot: Shot, out: Path) -> tuple[np.ndarray, np.ndarray]:
    """[T, H, W, 3] the tracking video, and [T, H, W] where it is away from silhouettes."""
    job = client.submit(shot, ShadeSettings(output="tracking"))
    client.wait(job)
    client.fetch(job, out)
    frames = np.stack([read(path) for path in sorted((out / "tracking").glob("*.png"))])
    index, depth = np.load(out / "object_index.npy"), np.load(out / "depth.npy")
    return frames, np.stack([inner(i, d) for i, d in zip(index, depth, strict=True)])


def read(path: Path) -> np.ndarray:
    image = bpy.data.images.load(str(path))
    image.colorspace_settings.name = "Non-Color"
    w, h = image.size
    pixels = np.empty(w * h * 4, np.float32)
    image.pixels.foreach_get(pixels)
    bpy.data.images.remove(image)
    return np.rint(255 * pixels.reshape(h, w, 4)[::-1, :, :3]).astype(np.uint8)


def inner(index: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """[H, W] whether a pixel's neighbors show the same mesh, at about the same depth."""
    place = np.where(np.isfinite(depth), 1.0 / depth, 0.0)
    around = [(a, b) for a in (0, 1, 2) for b in (0, 1, 2)]
    h, w = index.shape
    same = np.zeros((h, w), bool)
    labels = np.stack([index[a : h - 2 + a, b : w - 2 + b] for a, b in around])
    places = np.stack([place[a : h - 2 + a, b : w - 2 + b] for a, b in around])
    same[1:-1, 1:-1] = (np.ptp(labels, axis=0) == 0) & (np.ptp(places, axis=0) <= 0.05 * places.max(axis=0))
    return same


def seen(shot: Shot, overlay: Overlay) -> np.ndarray:
    """[T, H, W, 3] the preview, drawn through the shot's camera as the scene is in each of its frames."""
    scene, layer = bpy.context.scene, bpy.context.view_layer
    gpu.init()
    w, h = shot.size
    buffer = gpu.types.GPUOffScreen(w, h)
    pictures = []
    for t, frame in enumerate(shot.frame_numbers):
        scene.frame_set(int(frame), subframe=float(frame % 1))
        with buffer.bind():
            draw_overlay(layer.depsgraph, overlay, projection(shot, t), background=True)
            pixels = gpu.state.active_framebuffer_get().read_color(0, 0, w, h, 4, 0, "UBYTE")
            pixels.dimensions = w * h * 4
            pictures.append(np.array(pixels, np.uint8).reshape(h, w, 4)[::-1, :, :3])
    return np.stack(pictures)


def projection(shot: Shot, t: int) -> Matrix:
    """World to OpenGL's clip space, by the shot's own camera."""
    (w, h), k, (near, far) = shot.size, shot.camera.intrinsics[t], shot.camera.clip[t]
    across, down = 2 * k[0, 2] / w - 1, 1 - 2 * k[1, 2] / h
    if shot.camera.orthographic[t]:
        rows = [[2 * k[0, 0] / w, 0, 0, across], [0, -2 * k[1, 1] / h, 0, down],
                [0, 0, 2 / (far - near), -(far + near) / (far - near)], [0, 0, 0, 1]]  # fmt: skip
    else:
        rows = [[2 * k[0, 0] / w, 0, across, 0], [0, -2 * k[1, 1] / h, down, 0],
                [0, 0, (far + near) / (far - near), -2 * far * near / (far - near)], [0, 0, 1, 0]]  # fmt: skip
    return Matrix((np.array(rows) @ shot.camera.world_to_camera[t]).tolist())


def compare(client: Client, out: Path) -> np.ndarray:
    """Holds the preview of the present scene against its tracking video, which is returned."""
    scene, layer = bpy.context.scene, bpy.context.view_layer
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 144, 96, 100
    frames, size = plan_scene(scene)
    shot = capture(scene, layer, frame_map=frames, size_fit=size)
    video, inside = sent(client, shot, out)
    overlay = Overlay(finish(read_reference_steps(scene, layer, frames, size)))
    difference = np.abs(seen(shot, overlay).astype(int) - video).max(axis=-1)
    assert inside.mean() > 0.5
    assert difference[inside].max() <= 1  # a value may lie on the border between two of the 8-bit levels
    assert (difference[inside] == 0).mean() > 0.999
    assert (difference == 0).mean() > 0.99  # and silhouettes differ by a pixel at most here and there
    return video


def test_the_demonstration(client: Client, tmp_path: Path) -> None:
    build_demo_scene(tmp_path / "demo.blend")
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "demo.blend"))
    video = compare(client, tmp_path / "out")
    assert len(np.unique(video.reshape(-1, 3), axis=0)) > 1000


@pytest.mark.parametrize("kind", ["PERSP", "ORTHO"])
def test_things_that_bend_come_go_and_block(kind: str, scene: bpy.types.Scene, client: Client, tmp_path: Path) -> None:
    camera = stage.add_camera(scene)
    camera.data.type, camera.data.ortho_scale, camera.data.shift_x = kind, 6.0, 0.1
    stage.key(camera, "location", {1: (0, -10, 0), 17: (1, -9, 1)})
    scene.frame_end = 17
    floor = stage.add(scene, "Floor", stage.mesh("Floor", [(-9, -20, -1), (9, -20, -1), (0, 60, -1)], [(0, 1, 2)]))
    assert floor.location.x == 0  # it reaches behind the camera
    mesh = stage.grid("Copies")
    for number in range(3):
        copy = stage.add(scene, f"Copy {number}", mesh)
        stage.key(copy, "location", {1: (number - 1, number, 0), 17: (1 - number, number, 0.5)})
    bending = stage.add(scene, "Bending", stage.grid("Bending", 24))
    bending.location.z = 1.0
    bending.modifiers.new("Wave", "WAVE").height = 0.6
    late = stage.add(scene, "Late", stage.grid("Late"))
    late.location = (-1, -2, -0.5)
    stage.key(late, "hide_render", {1: True, 5: False})
    hole = stage.add(scene, "Hole", stage.grid("Hole"))
    hole.scale = (0.3, 1, 0.3)
    hole.location = (0.4, -3, 0)
    hole.is_holdout = True
    video = compare(client, tmp_path / "out")
    assert (video[8] != video[0]).any()


def test_what_the_render_shows_through_is_not_drawn(scene: bpy.types.Scene, client: Client, tmp_path: Path) -> None:
    """A fog box around everything, walls that EEVEE culls, one of them mirrored, and a part that is transparent."""
    stage.add_camera(scene)
    scene.frame_end = 17
    stage.add(scene, "Behind", stage.grid("Behind")).location.y = 3
    fog, culled, clear = (bpy.data.materials.new(name) for name in ("Fog", "Culled", "Clear"))
    for material in (fog, clear):
        material.use_nodes = True
        tree = material.node_tree
        tree.nodes.clear()
        shader = tree.nodes.new("ShaderNodeBsdfTransparent" if material == clear else "ShaderNodeVolumeScatter")
        out = tree.nodes.new("ShaderNodeOutputMaterial")
        tree.links.new(shader.outputs[0], out.inputs["Surface" if material == clear else "Volume"])
    culled.use_backface_culling = True
    bpy.ops.mesh.primitive_cube_add(size=8)
    bpy.context.object.data.materials.append(fog)
    for place, turn, scale in ((-1.5, 0, 1), (-0.5, np.pi, 1), (0.5, 0, -1), (1.5, np.pi, -1)):
        wall = stage.add(scene, f"Wall {place}", stage.grid("Wall"))
        wall.location.x, wall.rotation_euler.z = place, turn
        wall.scale = 0.4, 0.4 * scale, 0.4
        wall.data.materials.append(culled)
    part = stage.add(scene, "Part", stage.grid("Part"))
    part.location, part.scale = (0, -1, 0.7), (0.3, 0.3, 0.3)
    part.data.materials.append(None)
    part.data.materials.append(clear)
    for polygon in part.data.polygons:
        polygon.material_index = polygon.index % 2
    stage.key(part, "location", {1: (0, -1, 0.7), 17: (0.5, -1, 0.7)})
    compare(client, tmp_path / "out")


def test_meshes_that_grow(scene: bpy.types.Scene, client: Client, tmp_path: Path) -> None:
    """Copies of what bends, faces that are built, and a ball that is remeshed as it grows, played forward."""
    camera = stage.add_camera(scene)
    stage.key(camera, "location", {1: (0, -9, 0), 17: (0.5, -9, 0.3)})
    scene.frame_end = 17
    row = stage.add(scene, "Row", stage.grid("Row", 12))
    row.location = (-2.5, 1, 0.5)
    bend = row.modifiers.new("Bend", "SIMPLE_DEFORM")
    bend.deform_method, bend.deform_axis = "TWIST", "X"
    stage.key(bend, "angle", {1: 0.0, 17: 1.0})
    stage.key(row.modifiers.new("Array", "ARRAY"), "count", {1: 1, 6: 2, 12: 3})
    built = stage.add(scene, "Built", stage.grid("Built", 16))
    built.scale = (2, 2, 1)
    built.location.y = 3
    build = built.modifiers.new("Build", "BUILD")
    build.frame_start, build.frame_duration = -10, 24
    bpy.ops.object.metaball_add(radius=0.8, location=(1.5, -1, -0.8))
    ball = bpy.context.object
    ball.data.resolution = ball.data.render_resolution = 0.2
    stage.key(ball.data.elements[0], "radius", {1: 0.8, 17: 1.2})
    video = compare(client, tmp_path / "out")
    assert (video.any(axis=-1).sum(axis=(1, 2))[[0, 16]] > 0).all()
    assert video[16].any(axis=-1).sum() > 1.2 * video[0].any(axis=-1).sum()
