# SPDX-License-Identifier: GPL-3.0-or-later
"""Exports are what the systems read: each is read back as its own reader or documentation says."""

from __future__ import annotations

import io
import json
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import OpenImageIO as oiio
import pytest
import torch
from PIL import Image

from tests.helpers.matrices import seen_by
from tests.helpers.propagation_reference import box_over_floor
from tests.helpers.shots import changing_shot
from trackshade.cli.app import main
from trackshade.cli.shade import picture_beside
from trackshade.config.export_formats import EXPORT_FORMATS
from trackshade.config.settings import ShadeSettings
from trackshade.control.passes import PassRange, flow_picture, frame_passes
from trackshade.control.tracks import Tracks, sample_tracks
from trackshade.core.camera_files import read_camera_path
from trackshade.core.errors import OutputError, ShotError, UsageError
from trackshade.core.fitting import fit_size
from trackshade.core.geometry import project
from trackshade.core.images import write_png
from trackshade.exports import ExportSource, export_shot, fit_to_format
from trackshade.exports.export import RECORD
from trackshade.exports.tracks import draw_ltx_tracks
from trackshade.results.frames import FrameWriter
from trackshade.shot import Shot
from trackshade.shot.fitting import resize_shot, sample_shot
from trackshade.shot.track_set import FIRST, Order, write_set

SIZE = (96, 64)


@pytest.fixture(scope="module")
def shot() -> Shot:
    """A box that moves over a floor for 9 frames, seen by a camera that moves."""
    return resize_shot(box_over_floor(9, travel=0.2), SIZE)


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)


def written(shot: Shot, name: str, out: Path, picture: np.ndarray | None = None, **options: Any) -> dict[str, Any]:
    return export_shot(ExportSource(shot, picture), name, out, **options)


def frames_of(path: Path) -> np.ndarray:
    """[T, H, W, 3] uint8 the frames of a video."""
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


def exr(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    image = oiio.ImageBuf(str(path))
    pixels = image.get_pixels(oiio.FLOAT)
    assert pixels is not None, path
    return pixels, image.spec().channelnames


def in_camera(world: np.ndarray, shot: Shot, t: int) -> np.ndarray:
    m = shot.camera.world_to_camera[t]
    return world @ m[:3, :3].T + m[:3, 3]


def surface(shot: Shot, t: int, depth: np.ndarray) -> np.ndarray:
    """[H, W, 3] world positions at the centers of pixels."""
    rows, columns = np.indices(depth.shape)
    rays = np.stack([columns + 0.5, rows + 0.5, np.ones(depth.shape)], axis=-1)
    local = rays @ np.linalg.inv(shot.camera.intrinsics[t]).T * depth[..., None]
    m = np.linalg.inv(shot.camera.world_to_camera[t])
    return local @ m[:3, :3].T + m[:3, 3]


# Tracks


def test_tracks_lie_on_the_surfaces(shot: Shot) -> None:
    tracks = sample_tracks(shot, 60)
    assert tracks.pixels.shape == (9, 60, 2)
    assert tracks.visible[0].all()
    assert not tracks.visible.all()  # the box leaves the frame
    box = tracks.mesh == 1
    assert 0 < box.sum() < 60
    for t in range(9):
        places = in_camera(tracks.world[t], shot, t)
        np.testing.assert_allclose(tracks.pixels[t], project(places, shot.camera.intrinsics[t], False), atol=1e-5)
        np.testing.assert_allclose(tracks.depth[t], places[:, 2], rtol=1e-6)
        np.testing.assert_allclose(tracks.world[t, ~box], tracks.world[0, ~box], atol=1e-6)
        np.testing.assert_allclose(tracks.world[t, box] - tracks.world[0, box], [[0.3 * t, 0.2 * t, 0]] * box.sum())


def test_a_point_behind_the_camera_stays_where_it_was(shot: Shot) -> None:
    cameras = shot.camera.world_to_camera.copy()
    cameras[4:, 2, 3] -= 50.0  # everything is behind it
    turned = replace(shot, camera=replace(shot.camera, world_to_camera=cameras))
    tracks = sample_tracks(turned, 20)
    assert not tracks.visible[4:].any()
    assert np.array_equal(tracks.pixels[4:], np.repeat(tracks.pixels[3:4], 5, 0))


def test_wan_move_reads_tracks_of_81_frames(shot: Shot, picture: np.ndarray, tmp_path: Path) -> None:
    record = written(shot, "wan-move", tmp_path / "out", picture, points=50)
    tracks, visible = (np.load(tmp_path / "out" / f"{name}.npy") for name in ("tracks", "visibility"))
    assert (tracks.shape, tracks.dtype) == ((1, 81, 50, 2), np.float32)
    assert (visible.shape, visible.dtype) == ((1, 81, 50), np.bool_)
    assert record["size"] == [832, 480]
    assert Image.open(tmp_path / "out" / "first_frame.png").size == (832, 480)
    cells = set()  # as its reader does: every 4th frame, cells of 8 pixels, what is hidden or outside left out
    for frame in range(0, 81, 4):
        for (x, y), seen in zip(tracks[0, frame], visible[0, frame], strict=True):
            if seen:
                assert 0 <= x < 832
                assert 0 <= y < 480
                cells.add((frame // 4, int(y // 8), int(x // 8)))
    assert {cell[0] for cell in cells} == set(range(21))
    assert max(cell[1] for cell in cells) < 60
    fitted = fit_to_format(shot, "wan-move").apply(shot)
    np.testing.assert_allclose(tracks[0], sample_tracks(fitted, 50).pixels, rtol=1e-6)


def test_ati_reads_trajectories_of_121_frames(shot: Shot, tmp_path: Path) -> None:
    written(shot, "ati", tmp_path / "out", points=30)
    data = torch.load(tmp_path / "out" / "tracks.pth", weights_only=True)
    assert isinstance(data, bytes)
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        array = archive["array"]
    assert array.shape == (30, 121, 1, 3)
    # The reader divides by 8, puts the center of the frame at 0, and takes 81 of the frames at 24 per second.
    points = (array[..., :2] / 8 - [416, 240]) / 240
    visible = array[..., 2] / 8
    taken = [0, *(1 + (1 + 3 * k) // 2 for k in range(80))]
    assert taken[-1] == 120
    fitted = fit_to_format(shot, "ati").apply(shot)
    tracks = sample_tracks(fitted, 30)
    assert np.array_equal(visible[..., 0].T, tracks.visible)
    expected = (tracks.pixels - [416, 240]) / 240
    np.testing.assert_allclose(points[:, taken, 0].transpose(1, 0, 2), expected[taken], atol=1e-5)


@pytest.mark.long
def test_ltx_tracks_grow_and_change_color_with_their_age() -> None:
    pixels = np.stack([np.linspace(20, 980, 61), np.full(61, 540.0)], axis=1)[:, None]
    visible = np.ones((61, 1), bool)
    visible[30] = False
    tracks = Tracks(pixels, np.ones((61, 1)), np.zeros((61, 1, 3)), visible, np.zeros(1, np.int64))
    images = list(draw_ltx_tracks(tracks, (1080, 1080), (1080, 1080)))
    assert len(images) == 61
    for age, blue, green, red, radius in [(0, 0, 0, 255, 8), (50, 255, 0, 0, 2)]:  # now, and the oldest
        center = np.rint(pixels[60 - age, 0] - 0.5).astype(int)
        assert images[60][center[1], center[0]].tolist() == [blue, green, red]  # channels in this order
        assert (images[60][center[1] - radius : center[1] + radius + 1, center[0]] > 0).any(axis=1).all()
        assert not images[60][center[1] + radius + 1, center[0]].any()
    assert not images[60][540, int(pixels[9, 0, 0]) - 3].any()  # older than 50 frames
    hidden = np.rint(pixels[30, 0] - 0.5).astype(int)
    assert images[30][hidden[1], hidden[0]].tolist() != [255, 0, 0]
    half = next(draw_ltx_tracks(tracks, (1080, 1080), (540, 270)))
    assert half.shape == (270, 540, 3)


# Passes


@pytest.mark.parametrize("orthographic", [False, True])
def test_passes_equal_the_geometry(orthographic: bool) -> None:
    shot = resize_shot(box_over_floor(3, orthographic, 0.2), SIZE)
    for t, passes in enumerate(frame_passes(shot)):
        floor, box = passes.index == 1, passes.index == 2
        assert floor.sum() > 100
        assert box.sum() > 50
        assert np.array_equal(np.isinf(passes.depth), passes.index == 0)
        up = shot.camera.world_to_camera[t][:3, 2] * (1, -1, -1)  # the floor's normal, with y up and z to the viewer
        np.testing.assert_allclose(passes.normal[floor], np.tile(up, (floor.sum(), 1)), atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(passes.normal[box], axis=1), 1, atol=1e-5)
        if t == 2:
            assert not passes.flow.any()
        elif not orthographic:
            world = surface(shot, t, np.where(np.isinf(passes.depth), 1, passes.depth))
            world[box] += (0.3, 0.2, 0)
            moved = project(in_camera(world, shot, t + 1), shot.camera.intrinsics[t + 1], False)
            rows, columns = np.indices(passes.depth.shape)
            expected = moved - np.stack([columns + 0.5, rows + 0.5], axis=-1)
            covered = passes.index > 0
            np.testing.assert_allclose(passes.flow[covered][:, :2], expected[covered], atol=2e-3)
            seen = passes.flow[..., 2] > 0
            inside = ((moved >= 0) & (moved < SIZE)).all(axis=-1)
            assert not (seen & ~inside).any()
            assert (covered & inside & ~seen).any()  # what the box covers next
            assert seen[covered & inside].mean() > 0.9


def test_flow_follows_a_mesh_that_changes_its_topology() -> None:
    shot = changing_shot()  # in sample 1, a fan with a new vertex in the middle; it moves by 1 m to the right
    first = next(frame_passes(shot))
    covered = first.index > 0
    assert covered.any()
    np.testing.assert_allclose(first.flow[covered][:, :2], [[90 / 5, 0]] * covered.sum(), atol=1e-3)


def test_directions_of_flow_have_the_colors_of_the_wheel() -> None:
    passes: Any = types.SimpleNamespace(flow=np.array([[[2, 0, 1], [0, 0, 1], [-2, 0, 1], [1, 0, 1]]], np.float32))
    colors = flow_picture(passes, PassRange((0, 1), 2.0))[0].tolist()
    assert colors == [[255, 0, 0], [255, 255, 255], [0, 255, 255], [255, 128, 128]]


def test_passes_are_written_as_exr(shot: Shot, tmp_path: Path) -> None:
    record = written(shot, "exr", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "meshes.json").read_text()) == {"1": "Mesh", "2": "Mesh"}
    for t, passes in enumerate(frame_passes(shot)):
        file = f"{t + 1:04d}.exr"
        depth, names = exr(tmp_path / "out" / "depth" / file)
        assert names == ("Y",)  # Blender reads a single channel of no other name
        assert np.array_equal(depth[..., 0], np.minimum(passes.depth, 1e10))
        assert np.array_equal(exr(tmp_path / "out" / "normal" / file)[0], passes.normal)
        assert np.array_equal(exr(tmp_path / "out" / "flow" / file)[0], passes.flow)
        assert np.array_equal(exr(tmp_path / "out" / "index" / file)[0][..., 0], passes.index)
    assert record["frame_numbers"] == list(range(1, 10))


def test_passes_are_written_as_videos(shot: Shot, tmp_path: Path) -> None:
    written(shot, "mp4", tmp_path / "out")
    videos = {name: frames_of(tmp_path / "out" / f"{name}.mp4") for name in ("depth", "normal", "flow", "index")}
    assert {video.shape for video in videos.values()} == {(9, 64, 96, 3)}
    first = next(frame_passes(shot))
    gray, covered = videos["depth"][0, ..., 0].astype(int), first.index > 0
    nearness = np.argsort(np.argsort(-first.depth[covered]))
    assert np.corrcoef(nearness, gray[covered])[0, 1] > 0.95
    assert gray[~covered].max() < 8
    ups = videos["normal"][0][first.index == 1]
    assert abs(ups - (first.normal[first.index == 1][0] * 0.5 + 0.5) * 255).mean() < 6


# Control clips


def test_vace_takes_the_clips(shot: Shot, picture: np.ndarray, tmp_path: Path) -> None:
    from diffusers.pipelines.wan.pipeline_wan_vace import WanVACEPipeline
    from diffusers.video_processor import VideoProcessor

    record = written(shot, "vace", tmp_path / "out", picture, size=(832, 480))
    assert len(record["frame_numbers"]) == 9  # 4 k + 1 already
    depth, gray, mask = (frames_of(tmp_path / "out" / f"{name}.mp4") for name in ("depth", "gray", "mask"))
    pipeline: Any = types.SimpleNamespace(
        video_processor=VideoProcessor(vae_scale_factor=8),
        vae_scale_factor_spatial=8,
        transformer=types.SimpleNamespace(config=types.SimpleNamespace(patch_size=(1, 2, 2))),
    )
    images: Any = [[Image.fromarray(frame) for frame in video] for video in (depth, mask)]
    taken: Any = WanVACEPipeline.preprocess_conditions(
        pipeline,
        video=images[0],
        mask=images[1],
        height=480,
        width=832,
        num_frames=9,
        dtype=torch.float32,
    )
    video, made, _ = taken
    assert video.shape == made.shape == (1, 3, 9, 480, 832)
    assert made[:, :, 0].max() < 0.05  # the picture is kept
    assert made[:, :, 1:].min() > 0.95
    assert gray[1:].std() > 10
    assert abs(depth[0].astype(int) - gray[0]).max() < 3  # both begin with the picture


@pytest.mark.parametrize(
    ("size", "expected"), [((96, 64), (96, 64)), ((3840, 2160), (1920, 1088)), ((720, 1300), (704, 1312))]
)
def test_ltx_has_sizes_of_multiples_of_32(shot: Shot, size: tuple[int, int], expected: tuple[int, int]) -> None:
    fit = fit_to_format(resize_shot(shot, size), "ltx")
    assert fit.size_fit.size == expected
    assert len(fit.positions) == 9


def test_ltx_takes_the_clips(shot: Shot, picture: np.ndarray, tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    written(shot, "ltx", tmp_path / "out", picture, points=20, report=lambda *step: done.append(step))
    layout, depth, motion = (frames_of(tmp_path / "out" / f"{n}.mp4") for n in ("layout", "depth", "motion_tracks"))
    assert layout.shape == depth.shape == (9, 64, 96, 3)
    assert motion.shape == (9, 32, 48, 3)
    assert layout.std(axis=-1).max() < 4  # gray
    assert motion.any()
    assert done == sorted(done)
    assert done[-1] == (9, 9)


# Cameras


def test_nerfstudio_reads_the_cameras_and_points(shot: Shot, picture: np.ndarray, tmp_path: Path) -> None:
    images = [tmp_path / f"{t}.png" for t in range(9)]
    for path in images:
        Image.fromarray(picture).save(path)
    with FrameWriter(tmp_path, SIZE, 24, image_format="exr") as writer:  # which nerfstudio does not read
        writer.add(picture)
        images[3] = writer.path(0)
    record = export_shot(ExportSource(shot, None, images), "nerfstudio", tmp_path / "out", points=500)
    assert any("move during the shot" in warning for warning in record["warnings"])
    data = json.loads((tmp_path / "out" / "transforms.json").read_text())
    assert (data["camera_model"], data["w"], data["h"]) == ("OPENCV", *SIZE)
    for t, frame in enumerate(data["frames"]):
        assert Image.open(tmp_path / "out" / frame["file_path"]).size == SIZE
        pose = np.array(frame["transform_matrix"])
        eye = np.linalg.inv(shot.camera.world_to_camera[t])[:3, 3]
        np.testing.assert_allclose(pose[:3, 3], eye, atol=1e-9)
        np.testing.assert_allclose(-pose[:3, 2], shot.camera.world_to_camera[t][2, :3], atol=1e-9)  # looks along -z
        assert pose[2, 1] > 0  # y of the camera is up
    read = read_camera_path(tmp_path / "out" / "transforms.json")
    np.testing.assert_allclose(read.world_to_camera, shot.camera.world_to_camera, atol=1e-9)
    assert read.intrinsics is not None
    np.testing.assert_allclose(read.intrinsics, shot.camera.intrinsics)
    header, body = (tmp_path / "out" / data["ply_file_path"]).read_bytes().split(b"end_header\n")
    assert b"element vertex 500\n" in header
    kinds = [("place", "<f4", 3), ("color", "u1", 3)]
    points = np.frombuffer(body, kinds)
    assert np.abs(points["place"][:, 2]).max() < 3  # on the floor or the box
    assert (np.abs(points["place"][:, 2]) < 1e-3).mean() > 0.5
    colors = set(map(tuple, picture.reshape(-1, 3).tolist()))
    assert set(map(tuple, points["color"].tolist())) <= colors


def test_nerfstudio_refuses_what_it_cannot_express(shot: Shot, tmp_path: Path) -> None:
    flat = resize_shot(box_over_floor(3, True), SIZE)
    for name in ("nerfstudio", "camera"):
        with pytest.raises(ShotError, match="orthographic"):
            written(flat, name, tmp_path / f"out{EXPORT_FORMATS[name].file_suffix}")
    with pytest.raises(ShotError, match="2 images for 9 frames"):
        export_shot(ExportSource(shot, None, [tmp_path / "a.png"] * 2), "nerfstudio", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_camera_model_takes_the_path(shot: Shot, tmp_path: Path) -> None:
    from diffusers.pipelines.sana_wm.pipeline_sana_wm import SanaWMPipeline

    written(shot, "camera", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz", allow_pickle=False) as data:
        c2w, intrinsics = data["c2w"], data["intrinsics"]
    pipeline: Any = types.SimpleNamespace(vae_temporal_compression_ratio=8)
    poses, lens = SanaWMPipeline.prepare_camera_trajectory(pipeline, c2w, None, intrinsics, 9)
    assert poses.shape == (9, 4, 4)
    assert lens[0].tolist() == pytest.approx(shot.camera.intrinsics[0][[0, 1, 0, 1], [0, 1, 2, 2]].tolist())
    np.testing.assert_allclose(poses[0], np.eye(4), atol=1e-6)
    first = np.linalg.inv(shot.camera.world_to_camera[0])
    np.testing.assert_allclose(first @ poses, np.linalg.inv(shot.camera.world_to_camera), atol=1e-5)


def test_arrays_hold_no_objects(shot: Shot, tmp_path: Path) -> None:
    written(shot, "npz", tmp_path / "out.npz", points=40)
    with np.load(tmp_path / "out.npz", allow_pickle=False) as data:
        arrays = {name: data[name] for name in data.files}
    assert arrays["tracks"].shape == (9, 40, 2)
    assert arrays["world"].shape == (9, 40, 3)
    assert arrays["matrix_world"].shape == (2, 9, 4, 4)
    assert arrays["mesh_names"].tolist() == ["Mesh", "Mesh"]
    np.testing.assert_allclose(read_camera_path(tmp_path / "out.npz").world_to_camera, shot.camera.world_to_camera)


def test_a_shot_is_resampled_to_the_frame_rate_of_a_model(shot: Shot, tmp_path: Path) -> None:
    """16 fps from 24: the same duration, with states between two frames; half the rate has every other frame."""
    record = written(shot, "npz", tmp_path / "16.npz", points=40, fps=16)
    assert record["fps"] == 16
    np.testing.assert_allclose(record["frame_numbers"], 1 + 1.5 * np.arange(6).clip(0, 8 / 1.5))
    half = written(shot, "npz", tmp_path / "12.npz", points=40, fps=12)
    assert half["frame_numbers"] == [1, 3, 5, 7, 9]
    with np.load(tmp_path / "12.npz") as every_other, np.load(tmp_path / "16.npz") as between:
        np.testing.assert_array_equal(every_other["world_to_camera"], shot.camera.world_to_camera[::2])
        middle = between["matrix_world"][:, 1, :3, 3]  # frame 2.5
    places = np.stack([mesh.matrix_world[1:3, :3, 3].mean(axis=0) for mesh in shot.meshes])
    np.testing.assert_allclose(middle, places, atol=1e-6)
    assert written(shot, "wan-move", tmp_path / "wan", points=9, fps=16)["fps"] > 16  # 81 frames in the same time
    for rate in (-1, float("nan"), 1e9):
        with pytest.raises(UsageError, match="frame rate is"):
            written(shot, "npz", tmp_path / "other.npz", fps=rate)


def test_tracks_that_a_render_has_kept_are_exported(shot: Shot, picture: np.ndarray, tmp_path: Path) -> None:
    """A folder of kept tracks is exported as its shot is, with its picture and its pictures of all frames."""
    order = Order(1, 9, 1, 24.0, ShadeSettings(light="render"), True, "shot-shaded")
    tracks = write_set(tmp_path / "tracks", order)
    names = {"keys": [["floor"], ["box"]], "topology": ["x"] * len(shot.geometries)}
    named = replace(shot, source={"size_fit": fit_size(SIZE, (1.0, 1.0), (SIZE,)).to_dict(), **names})
    for t, frame in enumerate(order.frames().frame_numbers):
        sample_shot(named, [t]).save(tracks.path(frame))
        write_png(tracks.picture(frame), picture)
    write_png(tracks.folder / FIRST, picture)
    for name in ("npz", "vace", "nerfstudio"):
        out = tmp_path / f"{name}{EXPORT_FORMATS[name].file_suffix}"
        options = ["--format", name, "--out", str(out), *(["--points", "40"] if name != "vace" else [])]
        assert main(["export", str(tracks.folder), *options]) == 0
    written(shot, "npz", tmp_path / "shot.npz", points=40)
    with np.load(tmp_path / "npz.npz") as kept, np.load(tmp_path / "shot.npz") as direct:
        np.testing.assert_array_equal(kept["tracks"], direct["tracks"])
        np.testing.assert_array_equal(kept["world_to_camera"], direct["world_to_camera"])
    assert (tmp_path / "vace" / "first_frame.png").is_file()
    assert len([*(tmp_path / "nerfstudio" / "images").iterdir()]) == 9
    assert main(["export", str(tracks.folder)]) == 2  # it is captured already


def test_the_first_frame_of_a_results_tracks_is_that_of_the_result(shot: Shot, tmp_path: Path) -> None:
    path = tmp_path / "tracks.shot"
    assert picture_beside(shot, path) == tmp_path / "tracks.png"
    (tmp_path / "job.json").touch()
    assert picture_beside(shot, path) == tmp_path / "first_frame.png"
    assert picture_beside(seen_by(shot, (0.2, 0, 0)), path).parent.parent == tmp_path
    (tmp_path / "tracks.png").touch()
    assert picture_beside(shot, path) == tmp_path / "tracks.png"


# Outputs


@pytest.mark.parametrize("name", ["npz", "splats-usd"])
def test_a_file_is_named_as_what_it_is(shot: Shot, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"does not end in {EXPORT_FORMATS[name].file_suffix}"):
        written(shot, name, tmp_path / "out")
    assert not [*tmp_path.iterdir()]


def test_an_earlier_export_is_replaced_only_with_force(shot: Shot, tmp_path: Path) -> None:
    out = tmp_path / "out"
    written(shot, "exr", out)
    with pytest.raises(OutputError, match="exists and was kept"):
        written(shot, "exr", out)
    written(shot, "nerfstudio", out, points=10, force=True)
    assert json.loads((out / RECORD).read_text())["format"] == "nerfstudio"
    assert not (out / "depth").exists()
    (out / RECORD).unlink()
    with pytest.raises(OutputError, match="something else"):
        written(shot, "exr", out, force=True)
    assert (out / "transforms.json").exists()


@pytest.mark.parametrize("name", sorted(set(EXPORT_FORMATS) - {"camera"}))
def test_canceling_leaves_nothing(name: str, shot: Shot, picture: np.ndarray, tmp_path: Path) -> None:
    form, images = EXPORT_FORMATS[name], []
    if form.images == "needed":
        if "usd" in name:
            pytest.importorskip("pxr")
        Image.fromarray(picture).save(tmp_path / "frame.png")
        images = [tmp_path / "frame.png"] * 9
    before = list(tmp_path.iterdir())

    def cancel(done: int, total: int) -> None:
        if done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_shot(
            ExportSource(shot, images=images),
            name,
            tmp_path / f"out{form.file_suffix}",
            points=20 if form.points else None,
            report=cancel,
        )
    assert list(tmp_path.iterdir()) == before


def test_what_a_format_does_not_have_is_refused(shot: Shot, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="no export format"):
        written(shot, "gif", out)
    with pytest.raises(UsageError, match="no tracked points"):
        written(shot, "exr", out, points=5)
    with pytest.raises(UsageError, match="0 tracking points"):
        written(shot, "ati", out, points=0)
    with pytest.raises(UsageError, match="multiples of 32"):
        written(shot, "ltx", out, size=(100, 64))
    with pytest.raises(ShotError, match="832 × 480 or 480 × 832"):
        written(shot, "ati", out, size=(640, 480))
    with pytest.raises(ShotError, match="model takes 81"):
        written(shot, "wan-move", out, frame_rule="choose")
    empty = replace(shot, meshes=tuple(replace(mesh, visible=np.zeros(9, bool)) for mesh in shot.meshes))
    with pytest.raises(ShotError, match="sees no mesh"):
        written(empty, "wan-move", out)
    assert list(tmp_path.iterdir()) == []
