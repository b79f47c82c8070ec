# SPDX-License-Identifier: GPL-3.0-or-later
"""Exports of surfaces with the colors of several cameras, read back as their specifications say."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers import propagation_reference as reference
from tests.helpers.matrices import box_matrix, levels_of, painted_cells, seen_by
from tests.helpers.textured import draw_textured
from trackshade.core.errors import ShotError, UsageError
from trackshade.exports import ExportSource, export_shot
from trackshade.results.cells.images import CellImages
from trackshade.results.texture.animate import animate_texture
from trackshade.shot import Shot
from trackshade.shot.cameras import camera_file_names, unroll_cameras

FRAMES = 3


@pytest.fixture(scope="module")
def shot() -> Shot:
    return replace(box_matrix(FRAMES), fps=12.0, frame_numbers=np.array([1.0, 3.0, 5.0]))


@pytest.fixture(scope="module")
def files(shot: Shot, tmp_path_factory: pytest.TempPathFactory) -> list[Path | None]:
    """An image of each cell but one."""
    folder = tmp_path_factory.mktemp("cells")
    names, made = camera_file_names(shot.cameras), []
    for t, image in enumerate(painted_cells(shot)):
        path = folder / names[t % 3] / f"{t // 3 + 1:04d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
        made.append(path)
    return [*made[:4], None, *made[5:]]


@pytest.mark.slow
def test_splats_as_ply_and_usd(shot: Shot, files: list[Path | None], tmp_path: Path) -> None:
    record = export_shot(ExportSource(shot, images=files), "splats-ply", tmp_path / "ply", points=500)
    assert sorted(path.name for path in (tmp_path / "ply").glob("*.ply")) == ["0001.ply", "0002.ply", "0003.ply"]
    assert record["frame_numbers"] == [1, 3, 5]
    usd = pytest.importorskip("pxr.Usd")
    export_shot(ExportSource(shot, images=files), "splats-usd", tmp_path / "splats.usdc", points=500)
    stage = usd.Stage.Open(str(tmp_path / "splats.usdc"))
    assert (stage.GetStartTimeCode(), stage.GetEndTimeCode(), stage.GetTimeCodesPerSecond()) == (1, 5, 24)
    found = stage.GetDefaultPrim().GetAttribute("positions")
    assert found.GetTimeSamples() == [1, 3, 5]
    assert abs(len(found.Get(3)) - 500) <= 4


def test_light_that_does_not_fit_the_shot(shot: Shot, files: list[Path | None], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs images"):
        export_shot(ExportSource(shot), "splats-ply", tmp_path / "out")
    with pytest.raises(ShotError, match="3 pictures for 9 cells"):
        export_shot(ExportSource(shot, images=files[:3]), "gltf", tmp_path / "out.glb")
    assert not list(tmp_path.iterdir())


def read_glb(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    magic, version, length = struct.unpack("<4sII", data[:12])
    assert (magic, version, length) == (b"glTF", 2, len(data))
    size, kind = struct.unpack("<I4s", data[12:20])
    assert kind == b"JSON"
    binary = data[20 + size :]
    assert binary[4:8] == b"BIN\0"
    return json.loads(data[20 : 20 + size]), binary[8:]


def accessor(document: dict[str, Any], binary: bytes, index: int) -> np.ndarray:
    item = document["accessors"][index]
    view = document["bufferViews"][item["bufferView"]]
    columns = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}[item["type"]]
    kind = {5126: "<f4", 5125: "<u4"}[item["componentType"]]
    values = np.frombuffer(binary, kind, item["count"] * columns, view["byteOffset"])
    return values.reshape(-1, columns)


def to_z_up(points: np.ndarray) -> np.ndarray:
    return np.stack([points[:, 0], -points[:, 2], points[:, 1]], axis=1)


def test_gltf_has_the_meshes_their_motion_and_textures(shot: Shot, files: list[Path | None], tmp_path: Path) -> None:
    export_shot(ExportSource(shot, images=files), "gltf", tmp_path / "shot.glb")
    document, binary = read_glb(tmp_path / "shot.glb")
    assert [node["name"] for node in document["nodes"]] == [track.name for track in shot.meshes]
    animation = document["animations"][0]
    moved = [n for n, track in enumerate(shot.meshes) if np.ptp(track.matrix_world, axis=0).max() > 0]
    assert {channel["target"]["node"] for channel in animation["channels"]} == set(moved)
    for n, track in enumerate(shot.meshes):
        primitive = document["meshes"][document["nodes"][n]["mesh"]]["primitives"][0]
        points = to_z_up(accessor(document, binary, primitive["attributes"]["POSITION"]))
        corners = accessor(document, binary, primitive["indices"]).ravel()
        geometry = shot.geometries[track.geometry]
        np.testing.assert_allclose(points[corners], geometry.positions[0][geometry.triangles.ravel()], atol=1e-6)
        normals = to_z_up(accessor(document, binary, primitive["attributes"]["NORMAL"]))[corners].reshape(-1, 3, 3)
        np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-5)
        a, b, c = (points[corners][k::3] for k in range(3))
        outward = np.cross(b - a, c - a)
        assert ((normals * outward[:, None]).sum(axis=-1) > 0).all()
        view = document["bufferViews"][document["images"][n]["bufferView"]]
        data = binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
        texture = np.asarray(Image.open(io.BytesIO(data)))
        uv = accessor(document, binary, primitive["attributes"]["TEXCOORD_0"])[corners].reshape(-1, 3, 2)
        middle = np.rint(uv.mean(axis=1) * texture.shape[0] - 0.5).astype(int)
        center = geometry.positions[0][geometry.triangles].mean(axis=1)
        truth = levels_of(reference.smooth_texture, n, center)
        difference = np.abs(texture[middle[:, 1], middle[:, 0]] - truth).mean(axis=1)
        assert np.percentile(difference, 40) < 6  # of the faces that are seen
    for channel in animation["channels"]:
        sampler = animation["samplers"][channel["sampler"]]
        np.testing.assert_allclose(accessor(document, binary, sampler["input"]).ravel(), np.arange(FRAMES) / 12.0)
        assert channel["target"]["path"] == "translation"
        places = to_z_up(accessor(document, binary, sampler["output"]))
        matrices = shot.meshes[channel["target"]["node"]].matrix_world
        np.testing.assert_allclose(places, matrices[:, :3, 3], atol=1e-6)


def test_usd_has_a_texture_for_each_frame(shot: Shot, files: list[Path | None], tmp_path: Path) -> None:
    usd = pytest.importorskip("pxr.Usd")
    geom = pytest.importorskip("pxr.UsdGeom")
    export_shot(ExportSource(shot, images=files), "usd", tmp_path / "out")
    stage = usd.Stage.Open(str(tmp_path / "out" / "scene.usdc"))
    meshes = [prim for prim in stage.Traverse() if prim.GetTypeName() == "Mesh"]
    assert len(meshes) == len(shot.meshes)
    for n, prim in enumerate(meshes):
        for t, number in enumerate(shot.frame_numbers):
            matrix = np.array(geom.Xformable(prim).ComputeLocalToWorldTransform(number)).T
            np.testing.assert_allclose(matrix, shot.meshes[n].matrix_world[t], atol=1e-9)
        points = np.array(prim.GetAttribute("points").Get(1))
        np.testing.assert_allclose(points, shot.geometry_of(n, 0).positions[0])
        normals = geom.Mesh(prim).GetNormalsAttr().Get(1)
        assert len(normals) == len(geom.Mesh(prim).GetFaceVertexIndicesAttr().Get(1))
        assert geom.Mesh(prim).GetNormalsInterpolation() == "faceVarying"
        shader = stage.GetPrimAtPath(f"/Shot/Materials/{prim.GetName()}/Texture")
        for t, number in enumerate(shot.frame_numbers):
            file = shader.GetAttribute("inputs:file").Get(number).path
            assert file.endswith(f".{t + 1:04d}.png")
            assert (tmp_path / "out" / file).is_file()
        name = prim.GetName()
        size = Image.open(tmp_path / "out" / "textures" / f"{name}.0001.png").size
        assert Image.open(tmp_path / "out" / "textures" / f"{name}.disagreement.png").size == size


def test_nerfstudio_has_all_cameras(shot: Shot, files: list[Path | None], tmp_path: Path) -> None:
    export_shot(ExportSource(shot, images=files), "nerfstudio", tmp_path / "out", points=300)
    data = json.loads((tmp_path / "out" / "transforms.json").read_text())
    names, unrolled = camera_file_names(shot.cameras), unroll_cameras(shot)
    cells = [t for t in range(9) if files[t] is not None]
    assert [frame["file_path"] for frame in data["frames"]] == [
        f"images/{names[t % 3]}/{t // 3 + 1:04d}.png" for t in cells
    ]
    for frame, t in zip(data["frames"], cells, strict=True):
        assert (tmp_path / "out" / frame["file_path"]).is_file()
        assert frame["time"] == t // 3 / 2
        matrix = np.array(frame["transform_matrix"]) @ np.diag([1, -1, -1, 1])
        np.testing.assert_allclose(np.linalg.inv(matrix), unrolled.camera.world_to_camera[t], atol=1e-9)


def test_textures_of_frames_are_those_of_the_surface(shot: Shot) -> None:
    """A texture that changes with the frame is baked frame by frame; another camera sees what it would have painted."""

    def changing(frame: int):
        return lambda mesh, points: (0.5 + 0.25 * frame) * reference.smooth_texture(mesh, points)

    unrolled = unroll_cameras(shot)
    by_frame = [painted_cells(shot, changing(frame)) for frame in range(2)]
    cells = CellImages(shot, [by_frame[min(t // 3, 1)][t] for t in range(9)])
    textures = {n: animate_texture(cells, n, frames=(0, 1)) for n in range(len(shot.meshes))}
    other = unroll_cameras(replace(seen_by(shot, (0.1, -0.1, 0)), more_cameras=()))
    for frame in (0, 1):
        truth = painted_cells(other, changing(frame))[frame]
        image, covered, surface = draw_textured(other, frame, textures, frame)
        assert (covered & surface).mean() > 0.5
        assert np.abs(image - truth)[covered & surface].mean() < 2.5
    assert np.nanmedian(textures[0].disagreement) < 2
    assert unrolled.views == 3
