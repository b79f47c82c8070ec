# SPDX-License-Identifier: GPL-3.0-or-later
"""Scene files of every type open, and those that cannot say what is wrong with them."""

from __future__ import annotations

import json
import os
import struct
import zipfile
from pathlib import Path

import bpy
import numpy as np
import pytest

from tests.helpers import stage
from trackshade.core.errors import ShotError, UsageError
from trackshade_addon.capture.auto_camera import add_auto_camera
from trackshade_addon.capture.completeness import find_gaps
from trackshade_addon.capture.stepping import finish
from trackshade_addon.importers import exchange, fbx, read_scene
from trackshade_addon.importers import usd as usd_importer
from trackshade_addon.importers.exchange import animation_range

EXPORTERS = {
    ".glb": lambda path: bpy.ops.export_scene.gltf(filepath=path, export_format="GLB", export_cameras=True),
    ".gltf": lambda path: bpy.ops.export_scene.gltf(filepath=path, export_format="GLTF_SEPARATE"),
    ".usd": lambda path: bpy.ops.wm.usd_export(filepath=path, export_animation=True),
    ".usda": lambda path: bpy.ops.wm.usd_export(filepath=path, export_animation=True),
    ".usdc": lambda path: bpy.ops.wm.usd_export(filepath=path, export_animation=True),
    ".abc": lambda path: bpy.ops.wm.alembic_export(filepath=path, as_background_job=False),
    ".fbx": lambda path: bpy.ops.export_scene.fbx(filepath=path, bake_anim=True),
    ".obj": lambda path: bpy.ops.wm.obj_export(filepath=path),
    ".ply": lambda path: bpy.ops.wm.ply_export(filepath=path),
    ".stl": lambda path: bpy.ops.wm.stl_export(filepath=path),
}
STILL = (".obj", ".ply", ".stl")


def open_scene(path: Path, trust_scripts: bool = False) -> bpy.types.Scene:
    return read_scene(path, trust_scripts=trust_scripts).scene


def animated(scene) -> None:
    """A square that rises by 3 from frame 4 to 12."""
    scene.frame_start, scene.frame_end = 4, 12
    obj = stage.add(scene, "Thing", stage.grid())
    stage.key(obj, "location", {4: (0, 0, 0), 12: (0, 0, 3)})


def rise(scene) -> float:
    """How much the highest vertex of the scene rises over its range."""
    tops = []
    for frame in (scene.frame_start, scene.frame_end):
        scene.frame_set(frame)
        depsgraph = bpy.context.evaluated_depsgraph_get()
        points = [
            item.matrix_world @ vertex.co
            for item in depsgraph.object_instances
            if item.object.type == "MESH"
            for vertex in item.object.data.vertices
        ]
        tops.append(max(point.z for point in points))
    return tops[1] - tops[0]


@pytest.mark.parametrize("suffix", EXPORTERS)
def test_each_type_opens_with_its_animation(scene, tmp_path, suffix):
    animated(scene)
    path = tmp_path / f"scene{suffix}"
    EXPORTERS[suffix](str(path))
    opened = open_scene(path)
    assert opened == bpy.context.scene
    assert any(obj.type == "MESH" for obj in opened.objects)
    if suffix in STILL:
        assert opened.frame_end > opened.frame_start
        return
    assert opened.frame_end > opened.frame_start
    assert opened.frame_end - opened.frame_start <= 12
    assert rise(opened) == pytest.approx(3.0, abs=0.01)
    assert opened.frame_current in (opened.frame_start, opened.frame_end)


@pytest.mark.parametrize("suffix", EXPORTERS)
def test_folders_and_names_in_any_script_open(scene, tmp_path, suffix):
    animated(scene)
    path = tmp_path / "W\u00fcrfel \u65b9" / f"b\u00e4ll {suffix[1:]}{suffix.upper()}"
    path.parent.mkdir()
    EXPORTERS[suffix](str(path.with_suffix(suffix)))
    path.with_suffix(suffix).rename(path)
    assert any(obj.type == "MESH" for obj in open_scene(path).objects)


def test_a_blend_file_opens_as_it_is(scene, tmp_path):
    animated(scene)
    scene.render.engine = "BLENDER_WORKBENCH"
    path = tmp_path / "scene.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    before = path.read_bytes()
    bpy.ops.wm.read_factory_settings(use_empty=False)
    opened = open_scene(path)
    assert (opened.frame_start, opened.frame_end) == (4, 12)
    assert opened.render.engine == "BLENDER_WORKBENCH"
    assert path.read_bytes() == before


def test_scripts_of_a_file_do_not_run_unless_trusted(scene, tmp_path):
    text = bpy.data.texts.new("autorun.py")
    text.write("import bpy\nbpy.context.scene['ran'] = True\n")
    text.use_module = True
    path = tmp_path / "scene.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    assert "ran" not in open_scene(path)
    assert "ran" in open_scene(path, trust_scripts=True)


def test_what_is_open_is_replaced_and_add_ons_stay(scene, tmp_path):
    animated(scene)
    path = tmp_path / "scene.glb"
    EXPORTERS[".glb"](str(path))
    stage.add(scene, "Old", stage.grid("Old"))
    before = set(bpy.context.preferences.addons.keys())
    opened = open_scene(path)
    assert "Old" not in opened.objects
    assert before <= set(bpy.context.preferences.addons.keys())


def test_imports_can_be_rendered_anywhere_and_have_light(scene, tmp_path):
    animated(scene)
    path = tmp_path / "scene.glb"
    EXPORTERS[".glb"](str(path))
    opened = open_scene(path)
    assert opened.render.engine == "CYCLES"
    assert any(obj.type == "LIGHT" for obj in opened.objects)


def test_the_camera_of_the_file_is_used(scene, tmp_path):
    animated(scene)
    stage.add_camera(scene)
    path = tmp_path / "scene.glb"
    EXPORTERS[".glb"](str(path))
    assert open_scene(path).camera is not None


def refusal(path: Path | str) -> ShotError:
    with pytest.raises(ShotError) as caught:
        open_scene(path)
    assert Path(path).name in caught.value.message
    assert caught.value.exit_code == 3
    return caught.value


def test_a_missing_file(tmp_path):
    assert refusal(tmp_path / "none.blend").code == "missing-file"
    assert refusal(tmp_path / "none.glb").code == "missing-file"


def test_a_folder(tmp_path):
    (tmp_path / "scene.glb").mkdir()
    assert refusal(tmp_path / "scene.glb").code == "missing-file"


def test_an_unknown_type(tmp_path):
    (tmp_path / "scene.max").write_bytes(b"x")
    error = refusal(tmp_path / "scene.max")
    assert error.code == "unknown-type"
    assert ".blend" in str(error.fix)


@pytest.mark.parametrize("suffix", [".blend", *EXPORTERS])
def test_an_empty_file(tmp_path, suffix):
    (tmp_path / f"scene{suffix}").write_bytes(b"")
    assert refusal(tmp_path / f"scene{suffix}").code == "damaged-file"


@pytest.mark.parametrize("suffix", [".blend", *EXPORTERS])
def test_a_file_of_something_else(tmp_path, suffix):
    (tmp_path / f"scene{suffix}").write_bytes(np.random.default_rng(0).bytes(5000))
    assert refusal(tmp_path / f"scene{suffix}").code == "damaged-file"


@pytest.mark.parametrize("suffix", [".blend", ".glb", ".usdc", ".abc", ".fbx"])
def test_a_file_cut_short(scene, tmp_path, suffix):
    animated(scene)
    path = tmp_path / f"scene{suffix}"
    if suffix == ".blend":
        bpy.ops.wm.save_as_mainfile(filepath=str(path))
    else:
        EXPORTERS[suffix](str(path))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert refusal(path).code == "damaged-file"


def test_a_blend_file_of_the_future(scene, tmp_path):
    path = tmp_path / "scene.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path), compress=False)
    data = path.read_bytes()
    assert data.startswith(b"BLENDER")
    # The version stands behind the letters, in the form of its time: "-v405" or "17-01v0502".
    at = data.index(b"v") + 1
    digits = 4 if data[at : at + 4].isdigit() else 3
    path.write_bytes(data[:at] + b"9" * digits + data[at + digits :])
    error = refusal(path)
    assert error.code == "file-too-new"
    assert "Update Blender" in str(error.fix)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the administrator may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    path = tmp_path / "scene.blend"
    path.write_bytes(b"BLENDER")
    path.chmod(0)
    assert refusal(path).code == "unreadable-file"


def test_the_range_of_an_animation_spans_strips_and_shape_keys(scene):
    obj = stage.add(scene, "Thing", stage.grid())
    assert animation_range(scene) is None
    obj.shape_key_add(name="Basis")
    stage.key(obj.shape_key_add(name="Up"), "value", {5: 0.0, 20: 1.0})
    assert animation_range(scene) == (5, 20)
    stage.key(obj, "location", {2.5: (0, 0, 0), 9: (1, 0, 0)})
    assert animation_range(scene) == (2, 20)
    animation = obj.animation_data
    action, animation.action = animation.action, None
    animation.nla_tracks.new().strips.new("Strip", 30, action)
    found = animation_range(scene)
    assert found is not None
    assert found[1] > 30


def test_an_automatic_camera_sees_all_that_moves(scene):
    obj = stage.add(scene, "Thing", stage.grid())
    obj.rotation_euler = (0.3, 0.2, 0.1)
    stage.key(obj, "location", {1: (0, 0, 0), 5: (4, 1, 2)})
    ground = stage.add(scene, "Ground", stage.grid("Ground"))
    ground.scale = (1000, 1000, 1000)
    scene.frame_set(3)
    camera = finish(add_auto_camera(scene, scene.view_layers[0], [1, 2, 3, 4, 5]))
    assert scene.camera == camera
    assert scene.frame_current == 3
    shot = stage.shoot(scene, 5)
    index = shot.meshes.index(stage.track(shot, "Thing"))
    seen = []
    for t in range(5):
        matrix = shot.camera.world_to_camera[t]
        points = shot.world_positions(index, t) @ matrix[:3, :3].T + matrix[:3, 3]
        k = shot.camera.intrinsics[t]
        seen.append(points[:, :2] / points[:, 2:] * (k[0, 0], k[1, 1]) + k[:2, 2])
        near, far = shot.camera.clip[t]
        assert np.all((points[:, 2] > near) & (points[:, 2] < far))
    # In the frame of the scene, which the model's image contains.
    left, top, right, bottom = stage.fit(scene).frame_in_model()
    pixels = np.concatenate(seen)
    assert pixels[:, 0].min() > left
    assert pixels[:, 0].max() < right
    assert pixels[:, 1].min() > top
    assert pixels[:, 1].max() < bottom
    assert max(np.ptp(pixels[:, 0]) / (right - left), np.ptp(pixels[:, 1]) / (bottom - top)) > 0.6


def test_an_automatic_camera_of_an_empty_scene(scene):
    with pytest.raises(ShotError, match="No surface is visible") as caught:
        finish(add_auto_camera(scene, scene.view_layers[0], [1]))
    assert caught.value.code == "nothing-visible"
    assert not bpy.data.cameras


def test_an_automatic_camera_sees_what_was_saved_in_edit_mode(scene, tmp_path):
    obj = stage.add(scene, "Thing", stage.grid())
    bpy.context.view_layer.objects.active = obj
    bpy.ops.object.mode_set(mode="EDIT")
    path = tmp_path / "edited.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    opened = open_scene(path)
    assert opened.objects["Thing"].mode == "EDIT"
    finish(add_auto_camera(opened, opened.view_layers[0], [1]))
    assert stage.names(stage.shoot(opened)) == ["Thing"]


# files of Blender


@pytest.mark.parametrize("name", ["scene.BLEND", "scene.blend1", "scene.blend32", "scene.blend@", "quit.blend",
                                  "shot_4711_autosave.blend", "Ton \u00fcber M\u00e4rz.blend"])  # fmt: skip
def test_backups_and_other_names_of_a_blend_file(scene, tmp_path, name):
    animated(scene)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
    (tmp_path / "scene.blend").rename(tmp_path / name)
    assert "Thing" in open_scene(tmp_path / name).objects


def test_a_scene_of_several_is_chosen_by_name(scene, tmp_path):
    scene.name = "Kitchen"
    other = bpy.data.scenes.new("Street")
    stage.add(other, "Car", stage.grid())
    path = tmp_path / "film.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    assert open_scene(path).name == "Kitchen"
    street = read_scene(path, scene="Street").scene
    assert (street.name, bpy.context.scene) == ("Street", street)
    with pytest.raises(UsageError, match="no scene 'Garden'") as caught:
        read_scene(path, scene="Garden")
    assert "'Kitchen', 'Street'" in str(caught.value)


def test_animations_are_not_chosen_where_there_are_none_by_name(scene, tmp_path):
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
    with pytest.raises(UsageError, match="no animations to choose"):
        read_scene(tmp_path / "scene.blend", animation="Walk")


def test_a_build_of_blender_without_an_importer_is_told(tmp_path):
    with pytest.raises(ShotError, match="has no importer for the type") as caught:
        exchange.run(tmp_path / "scene.usdc", bpy.ops.wm, "importer_that_is_not_built_in")
    assert caught.value.code == "unsupported-file"


# USD

QUAD = """
def Mesh "Quad" {
  int[] faceVertexCounts = [4]
  int[] faceVertexIndices = [0, 1, 2, 3]
  point3f[] points = [(-1, -1, 0), (1, -1, 0), (1, 1, 0), (-1, 1, 0)]
  %s
}
"""
STANDS = QUAD % ""
MOVES = (
    QUAD
    % """double3 xformOp:translate.timeSamples = { 3: (0, 0, 0), 20.5: (3, 0, 0) }
  uniform token[] xformOpOrder = ["xformOp:translate"]"""
)
DEFORMS = QUAD % "point3f[] velocities.timeSamples = { 1: [(0,0,0)], 30: [(1,0,0)] }"


def usd(path: Path, body: str, header: str = "") -> Path:
    path.write_text(f"#usda 1.0\n(\n{header}\n)\n{body}")
    return path


def facts(opened: bpy.types.Scene) -> tuple[int, int, float]:
    return opened.frame_start, opened.frame_end, round(opened.render.fps / opened.render.fps_base, 3)


@pytest.mark.parametrize(
    ("header", "body", "expected"),
    [
        ("", STANDS, (1, 250, 24)),
        ('defaultPrim = "Quad"', STANDS, (1, 250, 24)),
        ("startTimeCode = 1\nendTimeCode = 1", STANDS, (1, 250, 24)),
        ("", MOVES, (3, 21, 24)),
        ("", DEFORMS, (1, 30, 24)),
        ("startTimeCode = 5", MOVES, (3, 21, 24)),
        ("startTimeCode = 10\nendTimeCode = 2", MOVES, (3, 21, 24)),
        ("startTimeCode = 101\nendTimeCode = 117\ntimeCodesPerSecond = 30", MOVES, (101, 117, 30)),
        ("startTimeCode = 0\nendTimeCode = 24\ntimeCodesPerSecond = 30\nframesPerSecond = 24", MOVES, (0, 24, 30)),
        ("startTimeCode = 0\nendTimeCode = 24\nframesPerSecond = 25", MOVES, (0, 24, 25)),
        ("timeCodesPerSecond = 23.976", MOVES, (3, 21, 23.976)),
        ("timeCodesPerSecond = 29.97002997", MOVES, (3, 21, 29.97)),
        ("timeCodesPerSecond = 12.5", MOVES, (3, 21, 12.5)),
        ("timeCodesPerSecond = 1000", MOVES, (3, 21, 1000)),
    ],
)
@pytest.mark.parametrize("package", [True, False], ids=["pxr", "without"])
def test_usd_gives_its_range_and_its_rate(tmp_path, monkeypatch, package, header, body, expected):
    if not package:  # as in a Blender that is built without USD's Python package
        monkeypatch.setattr(usd_importer, "_pxr", lambda: None)
    opened = open_scene(usd(tmp_path / "scene.usda", body, header))
    assert facts(opened) == expected
    assert any(obj.type == "MESH" for obj in opened.objects)


@pytest.mark.parametrize(
    "body",
    [
        'def Xform "W" (\n  variants = { string look = "a" }\n  prepend variantSets = "look"\n) {\n'
        f'variantSet "look" = {{\n"a" {{\n{STANDS}}}\n"b" {{\n}}\n}}\n}}\n',
        'def "W" ( payload = @./part.usda@ ) {}\n',
        'def "A" ( instanceable = true\n references = @./part.usda@ ) {}\n',
        f'def PointInstancer "P" {{\n rel prototypes = </P/Quad>\n int[] protoIndices = [0, 0]\n'
        f" point3f[] positions = [(0, 0, 0), (3, 0, 0)]\n{STANDS}}}\n",
    ],
)
def test_usd_of_many_makes_stands_still(tmp_path, body):
    usd(tmp_path / "part.usda", f'def Xform "Part" {{\n{STANDS}}}\n', 'defaultPrim = "Part"')
    opened = open_scene(usd(tmp_path / "scene.usda", body))
    depsgraph = bpy.context.evaluated_depsgraph_get()
    assert any(item.object.type == "MESH" for item in depsgraph.object_instances)
    assert facts(opened) == (1, 250, 24)


def test_binary_usd_gives_its_rate_and_says_where_it_cannot_be_read(scene, tmp_path, monkeypatch):
    animated(scene)
    scene.render.fps = 30
    path = tmp_path / "scene.usdc"
    EXPORTERS[".usdc"](str(path))
    assert facts(open_scene(path)) == (4, 12, 30)
    monkeypatch.setattr(usd_importer, "_pxr", lambda: None)
    read = read_scene(path)
    assert "rate of scene.usdc could not be read; 24 frames per second" in read.warnings[0]
    assert facts(read.scene) == (4, 12, 24)


def test_what_a_usd_stage_refers_to_and_is_not_there(tmp_path):
    path = usd(tmp_path / "scene.usda", 'def "W" ( references = @./gone.usda@ ) {}\n')
    error = refusal(path)
    assert error.code == "missing-file"
    assert "gone.usda" in error.message
    opened = open_scene(usd(path, f'{STANDS}\ndef "W" ( references = @./gone.usda@ ) {{}}\n'))
    assert [(gap.kind, gap.name) for gap in find_gaps(opened, opened.view_layers[0])] == [("reference", "gone.usda")]


def test_what_a_usd_stage_does_not_compose_is_not_missing(tmp_path):
    """Files of variants that are not chosen and of prims that are not active."""
    body = f"""{STANDS}
def Xform "A" (
  variants = {{ string look = "one" }}
  prepend variantSets = "look"
) {{
  variantSet "look" = {{
    "one" {{ }}
    "two" {{
      def Xform "R" ( references = @./gone_variant.usda@ ) {{ }}
    }}
  }}
}}
def Xform "B" (
  active = false
  payload = @./gone_inactive.usda@
) {{ }}
def Shader "S" {{
  asset inputs:file = @./gone.png@
}}
"""
    opened = open_scene(usd(tmp_path / "scene.usda", body))
    assert [gap.name for gap in find_gaps(opened, opened.view_layers[0])] == ["gone.png"]


@pytest.mark.parametrize(
    ("name", "content", "code", "words"),
    [
        ("a.usda", b'#usda 1.0\ndef Mesh "Q" { this is not }\n', "damaged-file", "Expected"),
        ("a.usda", b"#usda 1.0\n", "empty-file", "nothing in it has a surface"),
        ("a.usda", b'#usda 1.0\ndef SphereLight "L" {\n}\n', "empty-file", "1 light"),
        ("a.usda", b'#usda 1.0\nclass Mesh "Q" {\n}\n', "empty-file", "nothing in it has a surface"),
        ("a.usdc", b"PXR-USDC" + bytes([0, 99, 0] + 5 * [0]) + bytes(200), "unsupported-file", "version mismatch"),
        ("a.usdz", b"PK\3\4 and then something else", "damaged-file", "archive"),
    ],
)
def test_usd_that_cannot_be_shown_is_told_apart(tmp_path, name, content, code, words):
    (tmp_path / name).write_bytes(content)
    error = refusal(tmp_path / name)
    assert (error.code, words in error.message) == (code, True), error.message


def test_a_compressed_usdz_is_of_a_form_that_usd_does_not_read(tmp_path):
    usd(tmp_path / "scene.usda", STANDS)
    with zipfile.ZipFile(tmp_path / "scene.usdz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "scene.usda", "scene.usda")
    assert refusal(tmp_path / "scene.usdz").code == "unsupported-file"


def lacks(opened: bpy.types.Scene) -> list[tuple[str, str]]:
    return [(gap.kind, gap.name) for gap in find_gaps(opened, opened.view_layers[0])]


def test_a_texture_that_a_usd_stage_names_and_a_library_of_an_obj_file(tmp_path):
    look = """def Material "M" {
  token outputs:surface.connect = </M/S.outputs:surface>
  def Shader "S" {
    uniform token info:id = "UsdPreviewSurface"
    color3f inputs:diffuseColor.connect = </M/T.outputs:rgb>
    token outputs:surface
  }
  def Shader "T" {
    uniform token info:id = "UsdUVTexture"
    asset inputs:file = @./wood.%s@
    float3 outputs:rgb
  }
}
"""
    bound = QUAD % "rel material:binding = </M>"
    assert lacks(open_scene(usd(tmp_path / "scene.usda", bound + look % "png"))) == [("image", "wood.png")]
    tiles = usd(tmp_path / "scene.usda", bound + look % "<UDIM>.png")
    assert lacks(open_scene(tiles)) == [("image", "wood.<UDIM>.png")]
    (tmp_path / "wood.1001.png").write_bytes(b"")
    assert ("image", "wood.<UDIM>.png") not in lacks(open_scene(tiles))
    path = tmp_path / "scene.obj"
    path.write_text("mtllib gone.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nusemtl Wood\nf 1 2 3\n")
    assert lacks(open_scene(path)) == [("reference", "gone.mtl")]
    (tmp_path / "gone.mtl").write_text("newmtl Wood\nmap_Kd bark.png\n")
    assert lacks(open_scene(path)) == [("image", "bark.png")]


# Alembic


@pytest.mark.parametrize(("rate", "base"), [(24, 1.0), (30, 1.0), (60, 1.0), (24, 1.001)])
def test_alembic_gives_its_rate(scene, tmp_path, rate, base):
    scene.render.fps, scene.render.fps_base = rate, base
    animated(scene)
    path = tmp_path / "scene.abc"
    bpy.ops.wm.alembic_export(filepath=str(path), as_background_job=False, start=4, end=12)
    opened = open_scene(path)
    assert facts(opened) == (4, 12, round(rate / base, 3))
    assert rise(opened) == pytest.approx(3.0, abs=0.01)


def test_alembic_that_stands_still_and_of_the_old_form(scene, tmp_path):
    stage.add(scene, "Thing", stage.grid())
    path = tmp_path / "scene.abc"
    bpy.ops.wm.alembic_export(filepath=str(path), as_background_job=False, start=1, end=1)
    opened = open_scene(path)
    assert (opened.frame_start, opened.frame_end) == (1, 250)
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(500))
    assert refusal(path).code == "unsupported-file"


# FBX

TEXT_FBX = """; FBX 7.4.0 project file
FBXHeaderExtension:  {
\tFBXHeaderVersion: 1003
\tFBXVersion: 7400
}
GlobalSettings:  {
\tVersion: 1000
\tProperties70:  {
\t\tP: "UpAxis", "int", "Integer", "",1
\t\tP: "UpAxisSign", "int", "Integer", "",1
\t\tP: "FrontAxis", "int", "Integer", "",2
\t\tP: "FrontAxisSign", "int", "Integer", "",1
\t\tP: "CoordAxis", "int", "Integer", "",0
\t\tP: "CoordAxisSign", "int", "Integer", "",1
\t\tP: "UnitScaleFactor", "double", "Number", "",1
\t}
}
Objects:  {
\tGeometry: 1000, "Geometry::Quad", "Mesh" {
\t\tVertices: *12 {
\t\t\ta: -100,-100,0,100,-100,0,100,100,0,-100,100,0
\t\t}
\t\tPolygonVertexIndex: *4 {
\t\t\ta: 0,1,2,-4
\t\t}
\t}
\tModel: 2000, "Model::Quad", "Mesh" {
\t\tVersion: 232
\t}
}
Connections:  {
\tC: "OO",2000,0
\tC: "OO",1000,2000
}
"""
SECOND = 46186158000  # of FBX's time


def take_text(number: int, name: str, axis: str, distance: float) -> tuple[str, str]:
    """A take of the text file above in which the square goes along an axis in one second; objects, connections."""
    stack, layer, node, curve = (number * 10 + part for part in range(4))
    objects = f"""
\tAnimationStack: {stack}, "AnimStack::{name}", "" {{
\t\tProperties70:  {{
\t\t\tP: "LocalStop", "KTime", "Time", "",{SECOND}
\t\t}}
\t}}
\tAnimationLayer: {layer}, "AnimLayer::BaseLayer", "" {{
\t}}
\tAnimationCurveNode: {node}, "AnimCurveNode::T", "" {{
\t\tProperties70:  {{
\t\t\tP: "d|{axis}", "Number", "", "A",0
\t\t}}
\t}}
\tAnimationCurve: {curve}, "AnimCurve::", "" {{
\t\tDefault: 0
\t\tKeyVer: 4008
\t\tKeyTime: *2 {{
\t\t\ta: 0,{SECOND}
\t\t}}
\t\tKeyValueFloat: *2 {{
\t\t\ta: 0,{distance}
\t\t}}
\t\tKeyAttrFlags: *1 {{
\t\t\ta: 24836
\t\t}}
\t\tKeyAttrDataFloat: *4 {{
\t\t\ta: 0,0,0,0
\t\t}}
\t\tKeyAttrRefCount: *1 {{
\t\t\ta: 2
\t\t}}
\t}}
"""
    connections = f"""
\tC: "OO",{layer},{stack}
\tC: "OO",{node},{layer}
\tC: "OP",{node},2000, "Lcl Translation"
\tC: "OP",{curve},{node}, "d|{axis}"
"""
    return objects, connections


OLD_FBX = """; FBX 6.1.0 project file
FBXHeaderExtension:  {
\tFBXHeaderVersion: 1003
\tFBXVersion: 6100
}
Objects:  {
\tModel: "Model::Quad", "Mesh" {
\t\tVersion: 232
\t\tVertices: -100,-100,0,100,-100,0,100,100,0,-100,100,0
\t\tPolygonVertexIndex: 0,1,2,-4
\t\tGeometryVersion: 124
\t}
}
Connections:  {
\tConnect: "OO", "Model::Quad", "Model::Scene"
}
"""
builtin_importer = pytest.mark.skipif(not fbx.has_builtin_importer(), reason="this Blender has only the add-on")


@pytest.fixture(params=[True, False], ids=["own", "add-on"])
def reader(request, monkeypatch) -> bool:
    """Each of the two that read FBX: Blender's own, and the add-on alone, as in Blender 4.4 and older."""
    if request.param and not fbx.has_builtin_importer():
        pytest.skip("this Blender has only the importer that is an add-on")
    monkeypatch.setattr(fbx, "has_builtin_importer", lambda: request.param)
    return request.param


@builtin_importer
@pytest.mark.parametrize("text", [TEXT_FBX, OLD_FBX])
def test_fbx_in_text_and_of_old_versions_opens_in_metres(tmp_path, text):
    (tmp_path / "scene.FBX").write_text(text)
    opened = open_scene(tmp_path / "scene.FBX")
    assert tuple(opened.objects["Quad"].dimensions) == pytest.approx((2, 2, 0))
    assert facts(opened) == (1, 250, 24)


def test_fbx_that_cannot_be_shown_is_told_apart(scene, tmp_path, reader):
    path = tmp_path / "scene.fbx"
    bpy.ops.export_scene.fbx(filepath=str(path))
    assert refusal(path).code == "empty-file"
    stage.add_camera(bpy.context.scene)
    bpy.ops.export_scene.fbx(filepath=str(path))
    error = refusal(path)
    assert (error.code, "1 camera" in error.message) == ("empty-file", True)
    if reader:
        path.write_text(TEXT_FBX[: TEXT_FBX.index("Objects:")] + "Objects:  {\n}\nConnections:  {\n}\n")
        assert refusal(path).code == "empty-file"
    path.write_text(TEXT_FBX[: TEXT_FBX.index("PolygonVertexIndex")])
    assert refusal(path).code == "damaged-file"
    path.write_text(TEXT_FBX)
    if not reader:
        error = refusal(path)
        assert (error.code, "ASCII" in error.message) == ("unsupported-file", True)


@pytest.mark.parametrize("rate", [(25, 1.0), (30, 1.001), (24, 1.001)])
def test_fbx_gives_its_rate_and_range(scene, tmp_path, reader, rate):
    scene.render.fps, scene.render.fps_base = rate
    animated(scene)
    path = tmp_path / "scene.fbx"
    EXPORTERS[".fbx"](str(path))
    opened = open_scene(path)
    assert facts(opened) == (1, 9, round(rate[0] / rate[1], 3))  # FBX begins at 0 s, which Blender calls frame 1
    assert rise(opened) == pytest.approx(3, abs=0.01)


def test_a_character_with_bones_shape_keys_and_a_camera_keeps_its_range(scene, tmp_path, reader):
    obj = stage.add(scene, "Body", stage.grid())
    obj.shape_key_add(name="Basis")
    stage.key(obj.shape_key_add(name="Smile"), "value", {1: 0.0, 5: 1.0})
    armature = bpy.data.armatures.new("Rig")
    rig = stage.add(scene, "Rig", armature)
    scene.view_layers[0].objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    bone = armature.edit_bones.new("Arm")
    bone.tail = (0, 0, 1)
    bpy.ops.object.mode_set(mode="OBJECT")
    obj.vertex_groups.new(name="Arm").add(range(25), 1.0, "REPLACE")
    obj.modifiers.new("Armature", "ARMATURE").object = rig
    obj.parent = rig
    stage.key(rig.pose.bones["Arm"], "location", {1: (0, 0, 0), 12: (0, 3, 0)})
    camera = stage.add_camera(scene)
    stage.key(camera, "location", {1: (0, -10, 0), 20: (0, -12, 0)})
    scene.frame_end = 20
    stage.key(camera.data, "lens", {1: 50, 20: 60})
    path = tmp_path / "scene.fbx"
    bpy.ops.wm.save_as_mainfile(filepath=str(path.with_suffix(".blend")))
    bpy.ops.export_scene.fbx(filepath=str(path), bake_anim_use_nla_strips=False, bake_anim_use_all_actions=False)
    opened = open_scene(path)
    assert 19 <= opened.frame_end - opened.frame_start <= 21
    assert opened.camera is not None
    assert rise(opened) == pytest.approx(3, abs=0.05)
    # By default Blender writes a take for each action, and the camera's is the first.
    with_takes(path)
    read = read_scene(path)
    assert "2 animations: 'CameraAction' and 'RigAction'. 'CameraAction' plays" in read.warnings[0]
    for name in ("CameraAction", "RigAction"):
        opened = read_scene(path, animation=name).scene
        end = opened.frame_end
        assert (opened.frame_start, end) == (1, 20 if name == "CameraAction" else 12)
        assert rise(opened) == pytest.approx(0 if name == "CameraAction" else 3, abs=0.05)
        opened.frame_set(5)
        assert opened.objects["Body"].data.shape_keys.key_blocks["Smile"].value == pytest.approx(1, abs=0.01)


@builtin_importer
def test_takes_of_other_programs_are_chosen_by_name(tmp_path):
    takes = [take_text(500, "Take 001", "X", 200), take_text(600, "Idle|Base", "X", -300)]
    text = TEXT_FBX.replace("}\nConnections", "".join(objects for objects, _ in takes) + "}\nConnections")
    path = tmp_path / "scene.fbx"
    path.write_text(text[: text.rindex("}")] + "".join(connections for _, connections in takes) + "}\n")
    read = read_scene(path)
    assert "2 animations: 'Idle|Base' and 'Take 001'. 'Take 001' plays" in read.warnings[0]
    assert travel(read.scene, "Quad") == (2, 0, 0)
    assert travel(read_scene(path, animation="Take 001").scene, "Quad") == (2, 0, 0)
    assert travel(read_scene(path, animation="Idle|Base").scene, "Quad") == (-3, 0, 0)


def with_takes(path: Path) -> None:
    bpy.ops.wm.open_mainfile(filepath=str(path.with_suffix(".blend")))
    bpy.ops.export_scene.fbx(filepath=str(path))


def two_takes(scene: bpy.types.Scene) -> None:
    """A and B; in take "Walk" A goes 2 m along x, in take "Wave" 3 m along z. B stands still."""
    obj = stage.add(scene, "A", stage.grid("A"))
    stage.add(scene, "B", stage.grid("B"))
    for name, end in (("Walk", (2, 0, 0)), ("Wave", (0, 0, 3))):
        obj.animation_data_clear()
        stage.key(obj, "location", {1: (0, 0, 0), 17: end})
        obj.animation_data.action.name = name
        obj.animation_data.action.use_fake_user = True


def travel(opened: bpy.types.Scene, name: str) -> tuple[float, ...]:
    ends = []
    for frame in (opened.frame_start, opened.frame_end):
        opened.frame_set(frame)
        depsgraph = bpy.context.evaluated_depsgraph_get()
        ends.append(np.array(opened.objects[name].evaluated_get(depsgraph).matrix_world)[:3, 3])
    return tuple(np.round(ends[1] - ends[0], 3))


def test_a_take_of_an_fbx_file_is_chosen_by_name(scene, tmp_path, reader):
    two_takes(scene)
    path = tmp_path / "scene.fbx"
    bpy.ops.export_scene.fbx(filepath=str(path), bake_anim_use_nla_strips=False, bake_anim_use_all_actions=True)
    assert "2 animations: 'Walk' and 'Wave'. 'Walk' plays" in read_scene(path).warnings[0]
    for name, expected in (("Walk", (2, 0, 0)), ("Wave", (0, 0, 3))):
        chosen = read_scene(path, animation=name)
        assert chosen.warnings == ()
        assert travel(chosen.scene, "A") == expected
        assert travel(chosen.scene, "B") == (0, 0, 0)
    with pytest.raises(UsageError, match="no animation 'Run'") as caught:
        read_scene(path, animation="Run")
    assert "Wave" in str(caught.value)


# glTF


def gltf_of(path: Path, **changes: object) -> Path:
    """Squares A and B; animation "Walk" moves A 3 m, "Wave" moves B 3 m, in one second."""
    position = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], "f4")
    parts = [position, np.array([0, 1, 2, 0, 2, 3], "u2"), np.array([0, 1], "f4"), np.array([[0] * 3, [3, 0, 0]], "f4")]
    data = b"".join(part.tobytes() for part in parts)
    places = np.cumsum([0, *(part.nbytes for part in parts)])

    def animation(name: str, node: int) -> dict:
        return {"name": name, "samplers": [{"input": 2, "output": 3}],
                "channels": [{"sampler": 0, "target": {"node": node, "path": "translation"}}]}  # fmt: skip

    content = {
        "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0, 1]}],
        "nodes": [{"name": "A", "mesh": 0}, {"name": "B", "mesh": 0, "translation": [0, 5, 0]}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3", "min": [-1, -1, 0], "max": [1, 1, 0]},
            {"bufferView": 1, "componentType": 5123, "count": 6, "type": "SCALAR"},
            {"bufferView": 2, "componentType": 5126, "count": 2, "type": "SCALAR", "min": [0], "max": [1]},
            {"bufferView": 3, "componentType": 5126, "count": 2, "type": "VEC3"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": int(at), "byteLength": part.nbytes}
            for at, part in zip(places, parts, strict=False)
        ],
        "buffers": [{"byteLength": len(data), "uri": "with%20space.bin"}],
        "animations": [animation("Walk", 0), animation("Wave", 1)],
        **changes,
    }  # fmt: skip
    (path.parent / "with space.bin").write_bytes(data)
    if path.suffix == ".glb":
        del content["buffers"][0]["uri"]  # type: ignore[index]
        text = json.dumps(content).encode()
        text += b" " * (-len(text) % 4)
        path.write_bytes(
            b"glTF" + struct.pack("<II", 2, 28 + len(text) + len(data)) + struct.pack("<I4s", len(text), b"JSON") + text
            + struct.pack("<I4s", len(data), b"BIN\0") + data
        )  # fmt: skip
    else:
        path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("suffix", [".gltf", ".glb"])
def test_an_animation_of_a_gltf_file_is_chosen_by_name(tmp_path, suffix):
    path = gltf_of(tmp_path / f"scene{suffix}")
    before = sorted(tmp_path.iterdir()), path.read_bytes()
    opened = read_scene(path)
    assert opened.warnings == (
        f"{path.name} has 2 animations: 'Walk' and 'Wave'. 'Walk' plays; --animation NAME chooses another.",
    )
    assert [travel(opened.scene, name) for name in "AB"] == [(3, 0, 0), (0, 0, 0)]
    opened = read_scene(path, animation="Wave")
    assert opened.warnings == ()
    assert [travel(opened.scene, name) for name in "AB"] == [(0, 0, 0), (3, 0, 0)]
    assert tuple(opened.scene.objects["A"].location) == (0, 0, 0)
    assert read_scene(path, animation="Walk").scene.objects["B"].location.z == pytest.approx(5)
    with pytest.raises(UsageError, match="It has: 'Walk' and 'Wave'"):
        read_scene(path, animation="Run")
    assert (sorted(tmp_path.iterdir()), path.read_bytes()) == before


def test_a_gltf_file_with_one_animation_or_none_says_nothing(tmp_path):
    assert read_scene(gltf_of(tmp_path / "scene.gltf", animations=[])).warnings == ()


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"buffers": [{"byteLength": 92, "uri": "gone.bin"}]}, "missing-file", "gone.bin"),
        ({"extensionsRequired": ["STUDIO_bricks"], "extensionsUsed": ["STUDIO_bricks"]}, "unsupported-file", "STUDIO"),
        ({"asset": {"version": "1.0"}}, "unsupported-file", "version"),
        ({"nodes": [], "scenes": [{"nodes": []}], "animations": []}, "empty-file", "nothing in it"),
    ],
)
def test_gltf_that_cannot_be_shown_is_told_apart(tmp_path, changes, code, words):
    error = refusal(gltf_of(tmp_path / "scene.gltf", **changes))
    assert (error.code, words in error.message) == (code, True), error.message


def test_several_cameras_are_told_unless_one_was_chosen(tmp_path):
    cameras = [{"type": "perspective", "perspective": {"yfov": 0.6, "znear": 0.1}}]
    nodes = [{"name": "A", "mesh": 0}, {"name": "Side", "camera": 0}, {"name": "Front", "camera": 0}]
    path = gltf_of(tmp_path / "scene.gltf", cameras=cameras, nodes=nodes, scenes=[{"nodes": [0, 1, 2]}], animations=[])
    opened = read_scene(path)
    assert opened.scene.camera is not None
    assert "2 cameras: Front, Side" in opened.warnings[0]
    assert f"'{opened.scene.camera.name}' is used" in opened.warnings[0]
    assert read_scene(path, camera="Side").warnings == ()
