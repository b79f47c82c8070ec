# SPDX-License-Identifier: GPL-3.0-or-later
"""The first frame is the scene's own render, and lies exactly over the tracks."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import bpy
import numpy as np
import pytest

from tests.helpers import stage
from trackshade.core import colors, geometry
from trackshade.core.errors import ShotError
from trackshade.shot import Shot
from trackshade_addon.capture import first_frame, plan_scene
from trackshade_addon.capture.first_frame import read_picture, render_sample

pytestmark = pytest.mark.smoke


def glowing(name: str, color: tuple[float, float, float]) -> bpy.types.Material:
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    tree = material.node_tree
    tree.nodes.clear()
    emission = tree.nodes.new("ShaderNodeEmission")
    emission.inputs["Color"].default_value = (*color, 1.0)
    output = tree.nodes.new("ShaderNodeOutputMaterial")
    tree.links.new(emission.outputs[0], output.inputs["Surface"])
    return material


def plain(scene, engine: str = "CYCLES") -> None:
    """White surfaces on black, one sample in the middle of each pixel, no view transform."""
    scene.render.engine = engine
    scene.view_settings.view_transform = "Standard"
    scene.world = bpy.data.worlds.new("Night")
    scene.world.color = (0, 0, 0)
    for node in scene.world.node_tree.nodes if scene.world.node_tree else ():
        if node.type == "BACKGROUND":
            node.inputs["Color"].default_value = (0, 0, 0, 1)
    scene.render.filter_size = 0.01
    if engine == "CYCLES":
        scene.cycles.samples, scene.cycles.use_denoising = 1, False
        scene.cycles.filter_width = 0.01
    else:
        shading = scene.display.shading
        shading.light, shading.color_type, shading.single_color = "FLAT", "SINGLE", (1, 1, 1)
        shading.background_type = "WORLD"
        scene.display.render_aa = "OFF"


def silhouette(shot: Shot, t: int) -> np.ndarray:
    """[H, W] bool: pixels whose center a projected triangle covers, one triangle at a time."""
    width, height = shot.size
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    covered = np.zeros((height, width), bool)
    matrix = shot.camera.world_to_camera[t]
    for index, mesh in enumerate(shot.meshes):
        camera = shot.world_positions(index, t) @ matrix[:3, :3].T + matrix[:3, 3]
        pixels = geometry.project(camera, shot.camera.intrinsics[t], bool(shot.camera.orthographic[t]))
        for a, b, c in pixels[shot.geometries[mesh.geometry].triangles]:
            sides = [(q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0]) for p, q in ((a, b), (b, c), (c, a))]
            covered |= np.all([side >= 0 for side in sides], axis=0) | np.all([side <= 0 for side in sides], axis=0)
    return covered


@pytest.mark.parametrize("engine", ["CYCLES", "BLENDER_WORKBENCH"])
@pytest.mark.parametrize("kind", ["PERSP", "ORTHO"])
@pytest.mark.parametrize(("size", "mode"), [((96, 64), "pad"), ((60, 80), "crop"), ((96, 64), "as rendered")])
def test_the_picture_lies_over_the_tracks(scene, engine, kind, size, mode):
    if engine != "CYCLES" and not first_frame._has_graphics():
        pytest.skip("this machine has no graphics driver")
    plain(scene, engine)
    camera = stage.add_camera(scene, (0.2, -6, 0.3))
    camera.data.type, camera.data.ortho_scale = kind, 4.0
    camera.data.shift_x, camera.data.shift_y = 0.1, -0.05
    stage.key(camera, "location", {1: (0.2, -6, 0.3), 3: (1.0, -5, 0.0)})
    camera.rotation_euler.y = 0.4
    scene.render.resolution_x, scene.render.resolution_y = size
    scene.render.pixel_aspect_x = 1.5
    white = glowing("White", (1, 1, 1))
    wave = stage.add(scene, "Wave", stage.grid(cells=8))
    wave.modifiers.new("Wave", "WAVE")
    ring = stage.add(scene, "Ring", bpy.data.curves.new("Ring", "FONT"))
    ring.data.body, ring.rotation_euler = "O8", (1.5, 0, 0.3)
    ring.data.extrude, ring.location = 0.1, (0.8, -0.5, 0.2)
    for obj in (wave, ring):
        obj.data.materials.append(white)
    fit = plan_scene(scene)[1] if mode == "as rendered" else stage.fit(scene, (96, 64), mode)
    shot = stage.capture(scene, frame_map=stage.frames(3), size_fit=fit)
    for t in (0, 2):
        picture = render_sample(shot, t, scene)
        assert picture.shape == (64, 96, 3)
        rendered = picture[..., 0] > 127
        expected = silhouette(shot, t)
        assert 0.03 < expected.mean() < 0.97
        assert (rendered != expected).mean() < 0.004, (rendered != expected).sum()


def test_colors_are_those_that_the_view_transform_shows(scene):
    plain(scene)
    stage.add_camera(scene, (0, -1, 0))
    stage.add(scene, "Wall", stage.grid()).data.materials.append(glowing("Grey", (0.5, 0.2, 0.05)))
    shot = stage.shoot(scene, 1)
    picture = render_sample(shot, 0, scene)
    expected = np.round(255 * colors.linear_to_srgb((0.5, 0.2, 0.05)))
    assert np.abs(picture.reshape(-1, 3) - expected).max() <= 1
    scene.view_settings.view_transform = "AgX"
    other = render_sample(shot, 0, scene)
    assert np.abs(other.astype(int) - picture).max() > 10


def test_plates_are_not_in_the_picture(scene):
    plain(scene)
    stage.add_camera(scene)
    stage.add(scene, "Thing", stage.grid()).data.materials.append(glowing("White", (1, 1, 1)))
    shot = stage.shoot(scene, 1)
    before = render_sample(shot, 0, scene)
    plate = stage.add(scene, "Plate", stage.grid("Plate"))
    plate.location.y, plate["trackshade_plate"] = -5, "job"
    plate.data.materials.append(glowing("Red", (1, 0, 0)))
    np.testing.assert_array_equal(render_sample(shot, 0, scene), before)
    assert not plate.hide_render


def test_what_would_spoil_the_picture_is_off(scene):
    """Motion blur, a render region and metadata burnt in: each would change pixels."""
    plain(scene)
    stage.add_camera(scene)
    thing = stage.add(scene, "Thing", stage.grid())
    thing.data.materials.append(glowing("White", (1, 1, 1)))
    stage.key(thing, "location", {0: (-3, 0, 0), 2: (3, 0, 0)})
    shot = stage.shoot(scene, 1)
    before = render_sample(shot, 0, scene)
    render = scene.render
    render.use_motion_blur = render.use_stamp = render.use_border = render.use_crop_to_border = True
    render.border_max_x = 0.3
    np.testing.assert_array_equal(render_sample(shot, 0, scene), before)


def test_the_wanted_view_layer_is_rendered(scene):
    plain(scene)
    stage.add_camera(scene)
    home = bpy.data.collections.new("Home")
    scene.collection.children.link(home)
    for name, where, collection in (("Left", -1, scene.collection), ("Right", 1, home)):
        obj = bpy.data.objects.new(name, stage.grid(name))
        obj.data.materials.append(glowing(name, (1, 1, 1)))
        obj.location.x, obj.scale = 2 * where, (0.5, 0.5, 0.5)
        collection.objects.link(obj)
    second = scene.view_layers.new("Second")
    second.layer_collection.children["Home"].exclude = True
    shot = stage.shoot(scene, 1, view_layer=second)
    picture = render_sample(shot, 0, scene)
    assert picture[:, :48].max() > 200
    assert picture[:, 48:].max() < 20


class Failing(bpy.types.RenderEngine):
    bl_idname = "TRACKSHADE_FAILING"
    bl_label = "Failing"

    def render(self, depsgraph):
        self.report({"ERROR"}, "the moon is not full")


def test_an_engine_that_fails_says_why(scene):
    bpy.utils.register_class(Failing)
    try:
        stage.add_camera(scene)
        stage.add(scene, "Thing", stage.grid())
        shot = stage.shoot(scene, 1)
        scene.render.engine = Failing.bl_idname
        with pytest.raises(ShotError, match="the moon is not full") as caught:
            render_sample(shot, 0, scene)
        scene.render.engine = "CYCLES"
    finally:
        bpy.utils.unregister_class(Failing)
    assert caught.value.code == "render-failed"
    assert "--first-frame" in str(caught.value.fix)


_WITHOUT_GRAPHICS = """
import bpy, sys
sys.path.insert(0, sys.argv[1])
from tests.helpers import stage
from trackshade.core.errors import ShotError
from trackshade_addon.capture.first_frame import render_sample
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
stage.add_camera(scene)
stage.add(scene, "Thing", stage.grid())
shot = stage.shoot(scene, 1)
scene.render.engine = "BLENDER_WORKBENCH"
try:
    render_sample(shot, 0, scene)
except ShotError as error:
    print("REFUSED", error.code)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="hides the graphics driver by a variable of Linux's EGL")
def test_without_graphics_an_error_comes_instead_of_the_end_of_blender(tmp_path):
    hidden = {"__EGL_VENDOR_LIBRARY_DIRS": str(tmp_path), "DISPLAY": "", "WAYLAND_DISPLAY": ""}
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_GRAPHICS, str(Path(__file__).parents[2])],
        env=os.environ | hidden,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "REFUSED render-failed" in done.stdout, done.stderr


def png(pixels: np.ndarray) -> bytes:
    """An 8-bit RGB file, written by the book."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_pictures_are_read_exactly(scene, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 11, 3), np.uint8)
    path = tmp_path / "picture.png"
    path.write_bytes(png(pixels))
    np.testing.assert_array_equal(read_picture(path), pixels)
    assert len(bpy.data.images) == 0


@pytest.mark.parametrize("content", [None, b"no picture"])
def test_what_is_no_picture_is_refused(scene, tmp_path, content):
    path = tmp_path / "picture.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ShotError, match=r"picture\.png") as caught:
        read_picture(path)
    assert caught.value.code == "bad-picture"
    assert len(bpy.data.images) == 0
