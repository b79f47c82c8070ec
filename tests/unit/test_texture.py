# SPDX-License-Identifier: GPL-3.0-or-later
"""Baking: texels and their places, colors through tracks, flicker, gaps, coordinates of every kind, the folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from tests.helpers.matrices import seen_by
from tests.helpers.result_shots import at, grid, paint, shot
from trackshade.cli import backend_tasks
from trackshade.config import registry
from trackshade.config.settings import ShadeSettings
from trackshade.control.texels import find_texels
from trackshade.control.video import tracking_video
from trackshade.core.errors import CancelledError, OutputError, ShotError, UsageError
from trackshade.results import write_result
from trackshade.results.baking import BakeOptions, bake_result
from trackshade.results.cells.views import render_views, views_from_buffers
from trackshade.results.record import shot_digest
from trackshade.results.sheets import consistency_figure, variation_in_frame
from trackshade.results.texture.bake import bake_texture, choose_size, to_texels
from trackshade.results.texture.fill import fill
from trackshade.results.texture.heat import LEVELS, UNKNOWN, color_map, heat_map
from trackshade.shot import Geometry, Shot
from trackshade.shot.cameras import camera_file_names, through_camera

T = 7


def square_uv(geometry: Geometry) -> np.ndarray:
    """[F, 3, 2]: the square of `grid`, laid over the whole texture."""
    return ((geometry.positions[0][geometry.triangles][..., :2] + 1) / 2).astype(np.float32)


def square(**changed: object) -> Geometry:
    made = grid()
    return replace(made, uv=square_uv(made), **changed)  # type: ignore[arg-type]


def moving(geometry: Geometry | None = None, **options: object) -> Shot:
    """The square slides and turns; all of it stays in the picture."""
    matrices = [at(-0.3 + 0.1 * t, 0.05 * t, 0, turn=0.06 * t) for t in range(T)]
    return shot([("Square", matrices)], size=(240, 160), geometry=geometry or square(), **options)  # type: ignore[arg-type]


def ramp_of(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[..., 3] levels of a point (x, y) of the square, -1..1."""
    return 30 + 200 * np.stack([(x + 1) / 2, (y + 1) / 2, (x + y + 2) / 4], axis=-1)


def truth(size: int) -> np.ndarray:
    """[S, S, 3] levels of the texture that the square is painted with."""
    center = (np.arange(size) + 0.5) / size * 2 - 1
    return ramp_of(*np.broadcast_arrays(center[None, :], -center[:, None]))


def painted(made: Shot) -> np.ndarray:
    """[T, H, W, 3] uint8, a video that carries the ramp along exactly."""
    vertices = made.geometries[0].positions[0]
    return paint(made, {n: ramp_of(vertices[:, 0], vertices[:, 1]) for n in range(len(made.meshes))}).frames


def baked(made: Shot, video: np.ndarray, size: int = 64, mesh: int = 0, uv: np.ndarray | None = None):
    track = made.meshes[mesh]
    coordinates = made.geometries[track.geometry].uv if uv is None else uv
    assert coordinates is not None
    return bake_texture(render_views(made, 2), video, mesh, coordinates, size, 2)


def test_every_texel_inside_a_triangle_has_its_place() -> None:
    geometry = square()
    found = find_texels(to_texels(square_uv(geometry), 32), (32, 32))
    assert np.array_equal(found.target, np.arange(32 * 32))
    assert found.shared == 0
    corners = geometry.positions[0][geometry.triangles[found.triangle]].astype(np.float64)
    b, c = found.weights.astype(np.float64).T
    places = corners[:, 0] * (1 - b - c)[:, None] + corners[:, 1] * b[:, None] + corners[:, 2] * c[:, None]
    target = np.repeat(found.target, np.diff(found.start))
    center = (np.stack([target % 32, 31 - target // 32], axis=1) + 0.5) / 32 * 2 - 1
    assert np.abs(places[:, :2] - center).max() < 1e-5


@given(hnp.arrays(np.float32, (5, 3, 2), elements=st.floats(0, 1, width=32)), st.sampled_from([1, 7, 16]))
def test_any_triangles_give_places_that_lie_on_them(uv: np.ndarray, size: int) -> None:
    found = find_texels(to_texels(uv, size), (size, size))
    assert np.all(np.diff(found.target) > 0)
    assert len(found.triangle) == found.start[-1]
    b, c = found.weights.astype(np.float64).T
    assert (b >= 0).all()
    assert (c >= 0).all()
    assert (b + c <= 1 + 1e-6).all()
    corners = uv[found.triangle].astype(np.float64)
    places = corners[:, 0] * (1 - b - c)[:, None] + corners[:, 1] * b[:, None] + corners[:, 2] * c[:, None]
    target = np.repeat(found.target, np.diff(found.start))
    center = (np.stack([target % size, size - 1 - target // size], axis=1) + 0.5) / size
    assert np.abs(places - center).max(initial=0) < 1e-3


def test_a_video_that_carries_a_texture_gives_it_again() -> None:
    made = moving()
    found = baked(made, painted(made))
    assert found.coverage > 0.98  # the rim of the square shows less than a whole pixel
    assert np.abs(found.color - truth(64)).max() < 4  # the rim's is taken from beside
    assert np.nanmax(found.variation) < 2.0


def test_an_orthographic_camera_and_a_deforming_mesh_too() -> None:
    geometry = square()
    positions = np.repeat(geometry.positions, T, axis=0)
    positions[..., 2] = 0.3 * np.sin(2 * positions[..., 0] + np.arange(T)[:, None])
    for orthographic in (False, True):
        made = moving(Geometry(positions, geometry.triangles, geometry.uv), orthographic=orthographic)
        found = baked(made, painted(made))
        assert found.coverage > 0.95
        assert np.abs(found.color - truth(64))[found.covered].mean() < 1.0


def test_flicker_in_some_frames_does_not_move_the_color() -> None:
    made = moving()
    video = painted(made)
    video[[2, 5]] = 255 - video[[2, 5]]
    found = baked(made, video)
    assert np.abs(found.color - truth(64)).mean() < 2.0
    assert np.nanmean(found.variation) > 20


def test_what_is_hidden_stays_uncovered_and_is_filled_from_beside() -> None:
    still = [at(0, 0, 0)] * T
    made = shot([("Square", still), ("Above", [at(0, 0, 1.0, scale=0.4)] * T)], size=(240, 160), geometry=square())
    vertices = made.geometries[0].positions[0]
    color = ramp_of(vertices[:, 0], vertices[:, 1])
    found = baked(made, paint(made, {0: color, 1: np.full_like(color, 255.0)}).frames)
    hidden = ~found.covered & found.island
    assert hidden[32, 32]
    assert not hidden[5, 5]
    assert 0.1 < hidden.mean() < 0.5
    assert np.abs(found.color - truth(64))[found.covered].max() < 3  # nothing of what hides it is mixed in
    assert np.abs(found.color - truth(64))[hidden].mean() < 25  # about what is around it
    assert np.isnan(found.variation[hidden]).all()


def test_a_mesh_that_is_turned_over_by_its_scale_is_seen_the_same() -> None:
    mirror = np.diag([-1.0, 1, 1, 1])
    made = shot([("Square", [at(0, 0, 0) @ mirror] * T)], size=(240, 160), geometry=square())
    found = baked(made, painted(made))
    assert found.coverage > 0.98  # the rim of the square shows less than a whole pixel
    assert np.abs(found.color - truth(64)).max() < 4


def test_the_near_view_outweighs_the_far_one() -> None:
    made = shot([("Square", [at(0, 0, 3), at(0, 0, -20)])], size=(240, 160), geometry=square())
    video = np.zeros((2, 160, 240, 3), np.uint8)
    video[0], video[1] = 200, 100
    assert abs(int(baked(made, video).color[32, 32, 0]) - 200) < 5


def test_mirrored_coordinates_are_mixed_and_said() -> None:
    made = moving()
    uv = square_uv(made.geometries[0])
    uv[..., 0] = np.abs(uv[..., 0] - 0.5) * 2
    found = baked(made, painted(made), uv=uv)
    assert found.shared > 0.9
    assert found.coverage > 0.98  # the rim of the square shows less than a whole pixel


def test_coordinates_outside_the_square_are_refused_by_name() -> None:
    made = moving()
    with pytest.raises(ShotError, match="'Square' leave the unit square") as error:
        baked(made, painted(made), uv=square_uv(made.geometries[0]) + np.float32(1))
    assert error.value.code == "udim-tiles"
    with pytest.raises(ShotError, match="not all numbers"):
        baked(made, painted(made), uv=square_uv(made.geometries[0]) * np.float32(np.nan))


def test_instances_of_one_mesh_get_colors_of_their_own() -> None:
    made = shot(
        [("Left", [at(-1.1, 0, 0)] * 3), ("Right", [at(1.1, 0, 0)] * 3)], size=(240, 160), geometry=square()
    )  # fmt: skip
    flat = np.ones((len(made.geometries[0].positions[0]), 3))
    video = paint(made, {0: flat * 50, 1: flat * 180}).frames
    assert [int(baked(made, video, mesh=n).color[32, 32, 0]) for n in (0, 1)] == [50, 180]


def test_a_texture_is_a_little_finer_than_the_picture() -> None:
    made = moving()
    views = render_views(made, 1)
    uv = square_uv(made.geometries[0])
    pixels = max(int((owner == 0).sum()) for owner in views.clear_mesh)
    assert pixels**0.5 < choose_size(views, 0, uv, 2048) <= 5 * pixels**0.5
    assert choose_size(views, 0, uv, 64) == 64


@settings(max_examples=30)
@given(hnp.arrays(np.bool_, (9, 13)), st.integers(0, 3))
def test_filling_keeps_what_is_known_and_stays_within_it(known: np.ndarray, rim: int) -> None:
    values = np.random.default_rng(0).uniform(50, 200, (9, 13, 3)).astype(np.float32)
    filled = fill(values, known, rim)
    assert np.array_equal(filled[known], values[known])
    if known.any():
        assert filled.min() >= values[known].min() - 0.01
        assert filled.max() <= values[known].max() + 0.01
    else:
        assert not filled.any()


def test_the_heat_map_shows_where_it_swims() -> None:
    made = moving()
    video = painted(made)
    rng = np.random.default_rng(0)
    vertices = made.geometries[0].positions[0]
    swims = vertices[:, 0] > 0
    colors = ramp_of(vertices[:, 0], vertices[:, 1])[None] + rng.normal(0, 1, (T, 1, 1)) * 30 * swims[None, :, None]
    video = paint(made, {0: np.clip(colors, 0, 255)}).frames
    found = baked(made, video)
    left, right = found.variation[:, :24], found.variation[:, 40:]
    assert np.nanmax(left) < 3
    assert np.nanpercentile(right[:, :-2], 5) > 8
    picture = heat_map(found.variation, found.island)
    assert picture[:, 40:].astype(int).sum() > 4 * picture[:, :24].astype(int).sum()
    values, has = variation_in_frame(render_views(made, 1), video, 3)
    assert has.any()
    shown = values[has]
    assert np.nanmedian(shown[shown > 5]) == pytest.approx(float(np.nanmedian(right)), rel=0.2)


def test_the_colors_of_heat_grow_lighter_and_are_labelled() -> None:
    light = color_map(np.linspace(0, 1, 33)).astype(float) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(light) > 0).all()
    assert tuple(color_map(np.array([np.nan]))[0]) == UNKNOWN
    made = moving()
    figure = np.asarray(consistency_figure(render_views(made, 1), painted(made)))
    assert np.array_equal(figure, np.asarray(consistency_figure(render_views(made, 2), painted(made), 2)))
    brightest = color_map(np.array([LEVELS / LEVELS]))[0]
    assert (figure == brightest).all(axis=2).any()  # the bar's end


def result(folder: Path, made: Shot, frames: np.ndarray) -> Path:
    """A result as a backend leaves it."""
    write_result(
        folder, frames=frames, tracking=tracking_video(made), shot=made, settings=ShadeSettings(),
        spec=registry.spec("mini"), first_frame=None, input_render=None, timings={}, warnings=[], model_digests={},
    )  # fmt: skip
    return folder


def test_a_result_bakes_by_itself(tmp_path: Path) -> None:
    made = moving()
    folder = result(tmp_path / "r", made, painted(made))
    told: list[float] = []
    record = bake_result(folder, BakeOptions(size=64, projection=True), lambda what, share: told.append(share))
    assert told == sorted(told)
    assert told[-1] < 1
    (entry,) = record["meshes"]
    assert (entry["name"], entry["size"]) == ("Square", 64)
    assert entry["covered"] == pytest.approx(1 - entry["uncovered_texels"] / 64**2, abs=1e-4)
    there = folder / "texture"
    assert json.loads((there / "texture.json").read_text()) == json.loads(json.dumps(record))
    color = np.asarray(Image.open(there / entry["texture"]))
    assert np.abs(color - truth(64)).max() < 4
    assert (np.asarray(Image.open(there / entry["coverage"])) == 0).sum() == entry["uncovered_texels"]
    assert np.asarray(Image.open(there / entry["variation"])).shape == (64, 64, 3)
    assert Image.open(folder / "consistency.png").width > 300
    again = bake_result(folder, BakeOptions())
    assert again["meshes"][0]["size"] == 256
    assert not (there / "reach").exists()  # the earlier one is replaced as a whole


def test_a_result_of_two_cameras_is_baked_from_both(tmp_path: Path) -> None:
    """The first camera sees half of the square; the other one sees the other half."""
    made = moving()
    made = seen_by(made, (1.2, 0, 0))
    made = replace(made, camera=seen_by(made, (-1.2, 0, 0)).more_cameras[0])
    for view, name in enumerate(camera_file_names(made.cameras)):
        single = through_camera(made, view)
        vertices = single.geometries[0].positions[0]
        video = paint(single, {0: ramp_of(vertices[:, 0], vertices[:, 1])}).frames
        (tmp_path / name / "frames").mkdir(parents=True)
        for t, image in enumerate(video):
            Image.fromarray(image).save(tmp_path / name / "frames" / f"{t + 1:04d}.png")
    made.save(tmp_path / "tracks.shot")
    (tmp_path / "job.json").write_text(json.dumps({"shot": {"digest": shot_digest(made)}}))
    record = bake_result(tmp_path, BakeOptions(size=64))
    color = np.asarray(Image.open(tmp_path / "texture" / record["meshes"][0]["texture"]))
    assert record["meshes"][0]["covered"] > 0.95
    assert np.abs(color - truth(64)).mean() < 1.5
    with pytest.raises(UsageError, match="a projection has one"):
        bake_result(tmp_path, BakeOptions(size=64, projection=True))


def test_the_projection_says_where_each_point_is_in_the_picture(tmp_path: Path) -> None:
    for orthographic in (False, True):
        made = moving(orthographic=orthographic)
        folder = result(tmp_path / f"{orthographic}", made, painted(made))
        record = bake_result(folder, BakeOptions(size=64, projection=True))
        entry, decode = record["meshes"][0], record["projection"]
        data = (folder / "texture" / entry["tracks"]).read_bytes()
        assert data[:12] == b"POINTCACHE2\0"
        assert len(data) == 32 + T * entry["vertices"] * 12
        tracks = np.frombuffer(data, "<f4", offset=32).reshape(T, entry["vertices"], 3).astype(np.float64)
        for t in (0, T - 1):
            x, y, z = tracks[t].T
            place = np.stack([x, y], axis=1) if orthographic else np.stack([x / z, y / z], axis=1)
            pixels = place * [240, -160] + [0, 160]
            reach = np.asarray(Image.open(folder / "texture" / "reach" / f"{t + 1:04d}.png")).astype(float) / 65535

            def key(z: np.ndarray, flat: bool = orthographic, decode: dict[str, float] = decode) -> np.ndarray:
                return ((-z if flat else 1 / z) - decode["low"]) / (decode["high"] - decode["low"])

            j, i = np.floor(pixels).astype(int).T
            inner = np.abs(made.geometries[0].positions[0]).max(axis=1) < 0.9
            inner &= (pixels > 2).all(axis=1) & (pixels < [238, 158]).all(axis=1)
            i, j = np.clip(i, 0, 159), np.clip(j, 0, 239)
            color = painted(made)[t][i, j].astype(float)
            vertices = made.geometries[0].positions[0]
            assert np.abs(color - ramp_of(vertices[:, 0], vertices[:, 1]))[inner].max() < 3
            assert (key(z)[inner] >= reach[i, j][inner]).all()
            assert (reach == 1).any()  # where nothing is
            assert (key(1.05 * z) < reach[i, j])[inner].all()  # and what lies behind is not seen


def test_mesh_by_mesh_reasons_and_what_stays_out(tmp_path: Path) -> None:
    bare = grid()
    made = moving()
    both = replace(
        made,
        geometries=(*made.geometries, bare),
        meshes=(*made.meshes, replace(made.meshes[0], name="Bare", geometry=1)),
    )  # fmt: skip
    folder = result(tmp_path / "r", both, painted(made))
    record = bake_result(folder, BakeOptions(size=64))
    assert [entry["name"] for entry in record["meshes"]] == ["Square"]
    assert [item["code"] for item in record["left_out"]] == ["no-coordinates"]
    assert "'Bare' has no texture coordinates" in record["warnings"][-1]
    with pytest.raises(ShotError, match="'Bare' has no texture coordinates"):
        bake_result(folder, BakeOptions(objects=("Bare",)))
    with pytest.raises(UsageError, match="no mesh 'Cube'"):
        bake_result(folder, BakeOptions(objects=("Cube",)))
    given = replace(both, geometries=(bare, replace(bare, uv=square_uv(bare))))
    given.save(tmp_path / "given.shot")
    record = bake_result(folder, BakeOptions(size=64, coordinates=tmp_path / "given.shot"))
    assert [entry["name"] for entry in record["meshes"]] == ["Square", "Bare"]


def test_what_is_missing_or_wrong_is_a_sentence(tmp_path: Path) -> None:
    made = moving()
    folder = result(tmp_path / "r", made, painted(made))
    with pytest.raises(OutputError, match="no result in"):
        bake_result(tmp_path)
    with pytest.raises(UsageError, match="3 × 3"):
        bake_result(folder, BakeOptions(size=3))
    with pytest.raises(CancelledError):
        bake_result(folder, BakeOptions(size=64), cancel=lambda: True)
    assert not (folder / "texture").exists()
    assert list(folder.glob(".texture*")) == []
    (folder / "tracks.shot").rename(tmp_path / "kept.shot")
    with pytest.raises(ShotError, match="does not hold its shot"):
        bake_result(folder)
    assert bake_result(folder, BakeOptions(size=64, shot=tmp_path / "kept.shot"))["meshes"]
    moving(orthographic=True).save(tmp_path / "other.shot")
    with pytest.raises(ShotError, match="is not the shot"):
        bake_result(folder, BakeOptions(shot=tmp_path / "other.shot"))
    (folder / "frames" / "0003.png").write_bytes(b"no")
    with pytest.raises(OutputError, match=r"frames/0003\.png cannot be read"):
        bake_result(folder, BakeOptions(shot=tmp_path / "kept.shot"))


def test_the_errand_bakes_and_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = moving()
    folder = result(tmp_path / "r", made, painted(made))
    found = backend_tasks.TASKS["bake"](str(folder), json.dumps({"size": 64, "objects": ["Square"]}))
    assert found["record"]["meshes"][0]["covered"] > 0.98
    assert '"progress"' in capsys.readouterr().out


def test_views_are_the_same_from_frames_that_were_drawn_before() -> None:
    made = moving()
    video = tracking_video(made)
    one, other = render_views(made, 2), views_from_buffers(made, video.depth, video.object_index)
    assert np.array_equal(one.clear_mesh, other.clear_mesh)
    assert np.array_equal(one.depth_limit, other.depth_limit)
