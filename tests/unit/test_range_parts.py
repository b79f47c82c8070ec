# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of a frame range, captured on their own, are joined to what one capture would have made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.shots import changing_shot, small_shot
from trackshade.core.errors import ShotError
from trackshade.results.record import shot_digest
from trackshade.shot import Shot
from trackshade.shot.file import LIGHT_SUFFIX
from trackshade.shot.range_parts import find_parts, join_parts, read_light, split


def visible_everywhere(shot: Shot) -> Shot:
    """A shot as a capture makes it: a mesh that is visible in no sample is not part of it."""
    return replace(shot, meshes=tuple(mesh for mesh in shot.meshes if mesh.visible.any()))


def part(shot: Shot, first: int, count: int) -> Shot:
    """The samples of a shot from `first` on, as a capture of these frames would have them."""
    samples = split(shot)[first : first + count]
    if count == 1:
        return samples[0]
    return join_parts_of(samples)


def join_parts_of(samples: list[Shot]) -> Shot:
    from trackshade.core.fitting import all_frames
    from trackshade.shot.joining import join_samples

    numbers = [float(sample.frame_numbers[0]) for sample in samples]
    return join_samples(samples, all_frames(numbers[0], numbers[-1], 1.0, samples[0].fps))


@pytest.mark.parametrize("sizes", [(6,), (1, 5), (3, 3), (2, 2, 2), (1, 1, 1, 1, 1, 1)])
def test_parts_of_a_shot_are_the_shot(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    shot = visible_everywhere(small_shot(6))
    first = 0
    for count in sizes:
        part(shot, first, count).save(tmp_path / f"{first + 1}.shot")
        first += count
    paths = find_parts(tmp_path)
    assert [path.stem for path in paths] == [str(1 + sum(sizes[:i])) for i in range(len(sizes))]
    joined = join_parts(paths)
    joined.check_values()
    assert shot_digest(joined) == shot_digest(shot)


def test_a_topology_that_comes_back_after_the_end_of_a_part(tmp_path: Path) -> None:
    shot = changing_shot()
    count = len(shot.frame_numbers)
    for first, number in ((0, 2), (2, count - 2)):
        part(shot, first, number).save(tmp_path / f"{first}.shot")
    joined = join_parts(find_parts(tmp_path))
    assert joined.meshes[0].changes == shot.meshes[0].changes
    for t in range(count):
        np.testing.assert_array_equal(joined.world_positions(0, t), shot.world_positions(0, t))
        np.testing.assert_array_equal(joined.geometry_of(0, t).triangles, shot.geometry_of(0, t).triangles)


def test_rounding_of_texture_coordinates_is_no_change_of_topology(tmp_path: Path) -> None:
    shot = visible_everywhere(small_shot(4))
    for first in (0, 2):
        half = part(shot, first, 2)
        uv = half.geometries[1].uv
        assert uv is not None
        noisy = replace(half.geometries[1], uv=np.nextafter(uv, np.float32(first)))
        replace(half, geometries=(half.geometries[0], noisy)).save(tmp_path / f"{first}.shot")
    assert [mesh.changes for mesh in join_parts(find_parts(tmp_path)).meshes] == [(), ()]


def test_a_mesh_that_only_one_part_shows(tmp_path: Path) -> None:
    shot = visible_everywhere(small_shot(4))
    seen = np.array([False, False, True, True])
    shot = replace(shot, meshes=(shot.meshes[0], replace(shot.meshes[1], visible=seen)))
    for first in (0, 2):
        part(shot, first, 2).save(tmp_path / f"{first}.shot")
    joined = join_parts(find_parts(tmp_path))
    assert [mesh.name for mesh in joined.meshes] == ["Triangle", "Square"]
    np.testing.assert_array_equal(joined.meshes[1].visible, seen)


def test_several_cameras_are_kept(tmp_path: Path) -> None:
    shot = visible_everywhere(small_shot(4))
    shot = replace(shot, more_cameras=(replace(shot.camera, name="Side"),))
    for first in (0, 2):
        part(shot, first, 2).save(tmp_path / f"{first}.shot")
    assert shot_digest(join_parts(find_parts(tmp_path))) == shot_digest(shot)


def test_a_part_that_is_missing_or_of_something_else_is_told(tmp_path: Path) -> None:
    with pytest.raises(ShotError, match="There are no tracks"):
        find_parts(tmp_path)
    shot = small_shot(6)
    for first in (0, 4):
        part(shot, first, 2).save(tmp_path / f"{first}.shot")
    with pytest.raises(ShotError, match="from frame 2 to frame 5"):
        join_parts(find_parts(tmp_path))
    replace(part(shot, 2, 2), fps=30.0).save(tmp_path / "2.shot")
    with pytest.raises(ShotError, match="different cameras or rates"):
        join_parts(find_parts(tmp_path))


def test_clay_renders_are_joined(tmp_path: Path) -> None:
    light = np.random.default_rng(0).random((4, 2, 3, 3)).astype(np.float16)
    paths = [tmp_path / "1.shot", tmp_path / "3.shot"]
    for path, rows in zip(paths, (light[:2], light[2:]), strict=True):
        with path.with_suffix(LIGHT_SUFFIX).open("wb") as file:
            np.save(file, rows)
    joined = read_light(paths)
    assert joined is not None
    np.testing.assert_array_equal(joined, light)
    paths[1].with_suffix(LIGHT_SUFFIX).unlink()
    assert read_light(paths) is None
