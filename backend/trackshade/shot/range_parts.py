# SPDX-License-Identifier: GPL-3.0-or-later
"""A shot that was captured in parts of its frame range, by several machines, as one shot.

A folder of parts holds what several `trackshade export --chunk` have written: `1.shot`, `11.shot` and so on, with the
first frame beside the first one, and clay renders beside each. Parts are told by their frames, not by their names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from trackshade.core.errors import ShotError
from trackshade.core.fitting import FrameMap, all_frames
from trackshade.shot.file import LIGHT_SUFFIX
from trackshade.shot.joining import check_sizes, join_samples
from trackshade.shot.model import Shot
from trackshade.shot.parts import CameraTrack, Geometry, MeshTrack, Surfaces

_PART = "*.shot"
_TOLERANCE = 1e-4  # scene frames


def find_parts(folder: Path) -> list[Path]:
    """Return the files of a folder of parts in the order of their frames. Raise ShotError."""
    paths = [path for path in folder.glob(_PART) if not path.name.startswith(".")]
    if not paths:
        fix = "Name a shot file, or a folder of shots that 'trackshade export --chunk' has written."
        raise ShotError("no-parts", f"There are no tracks in {folder}.", fix)
    first_frames = {path: float(Shot.load(path).frame_numbers[0]) for path in paths}
    return sorted(paths, key=lambda path: first_frames[path])


def join_parts(paths: Sequence[Path]) -> Shot:
    """Return the shot of parts of one frame range, as a capture of the whole range would have made it.

    Args:
        paths: The parts, in the order of their frames.

    Raises:
        ShotError: "missing-part" if frames between two parts are missing, or "mixed-set" if the parts do not fit
            together.
    """
    parts = [Shot.load(path) for path in paths]
    if len(parts) == 1:
        return parts[0]
    folder = paths[0].parent
    check_sizes(folder, parts)
    names = {tuple(camera.name for camera in part.cameras) for part in parts}
    if len(names) > 1 or len({part.fps for part in parts}) > 1:
        raise ShotError(
            "mixed-set", f"The tracks in {folder} are of different cameras or rates.", "Export all parts again."
        )
    frames = _frames(folder, parts)
    joined = join_samples([sample for part in parts for sample in split(part)], frames)
    first = parts[0].source
    kept = {key: first[key] for key in ("first_frame",) if key in first}
    return replace(joined, source={**joined.source, **kept})


def read_light(paths: Sequence[Path]) -> np.ndarray | None:  # [T, h, w, 3] float16 scene-linear
    """Return the clay renders beside parts, mapped from their files; None if there are none beside one of them.

    Raises:
        ShotError: They cannot be read, or are of different sizes.
    """
    files = [path.with_suffix(LIGHT_SUFFIX) for path in paths]
    if not all(file.exists() for file in files):
        return None
    try:
        arrays = [np.load(file, mmap_mode="r", allow_pickle=False) for file in files]
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    except (OSError, ValueError) as error:
        what = files[0] if len(files) == 1 else files[0].parent
        raise ShotError("bad-light", f"{what} cannot be read: {error}.", "Export it again.") from error


def split(shot: Shot) -> list[Shot]:
    """Return a shot with one sample for each sample of a shot; it holds the meshes that are visible then."""
    names = [_topology(geometry) for geometry in shot.geometries]
    kept: dict[tuple[int, int], Geometry] = {}  # by index and row, so that what does not deform is made once
    return [_sample(shot, t, names, kept) for t in range(len(shot.frame_numbers))]


def _sample(shot: Shot, t: int, names: Sequence[str], kept: dict[tuple[int, int], Geometry]) -> Shot:
    numbers: dict[int, int] = {}  # index in the sample of each geometry of the shot
    geometries: list[Geometry] = []
    meshes = []
    for mesh in shot.meshes:
        if not mesh.visible[t]:
            continue
        index = mesh.geometry_at(t)
        if index not in numbers:
            numbers[index] = len(geometries)
            whole = shot.geometries[index]
            key = index, whole.row(t)
            if key not in kept:
                rows = whole.positions[key[1] : key[1] + 1]
                kept[key] = Geometry(rows, whole.triangles, whole.uv, whole.materials, whole.more_uv)
            geometries.append(kept[key])
        meshes.append(
            MeshTrack(
                mesh.name,
                numbers[index],
                mesh.matrix_world[t : t + 1],
                mesh.visible[t : t + 1],
                mesh.holdout,
                mesh.pass_index,
                surfaces=mesh.surfaces,
            )
        )
    return Shot(
        frame_numbers=shot.frame_numbers[t : t + 1],
        fps=shot.fps,
        size=shot.size,
        camera=_camera(shot.camera, t),
        geometries=tuple(geometries),
        meshes=tuple(meshes),
        objects=tuple(replace(item, matrix_world=item.matrix_world[t : t + 1]) for item in shot.objects),
        view_layer=shot.view_layer,
        source={**shot.source, "keys": [[]] * len(meshes), "topology": [names[index] for index in numbers]},
        surfaces=tuple(_surfaces(item, t) for item in shot.surfaces),
        cutouts=shot.cutouts,
        more_cameras=tuple(_camera(camera, t) for camera in shot.more_cameras),
    )


def _camera(camera: CameraTrack, t: int) -> CameraTrack:
    return CameraTrack(
        name=camera.name,
        sources=camera.sources[t : t + 1],
        intrinsics=camera.intrinsics[t : t + 1],
        world_to_camera=camera.world_to_camera[t : t + 1],
        orthographic=camera.orthographic[t : t + 1],
        clip=camera.clip[t : t + 1],
    )


def _surfaces(item: Surfaces, t: int) -> Surfaces:
    row = min(t, len(item.front) - 1)
    return Surfaces(item.front[row : row + 1], item.back[row : row + 1], item.cutouts, item.uv_layers)


def _topology(geometry: Geometry) -> str:
    """Return a name that geometries with corresponding vertices and faces have in all parts.

    Texture coordinates do not count: those that modifiers make vary in their last digits from one capture to the next.
    """
    state = hashlib.blake2b(str(geometry.positions.shape[1]).encode(), digest_size=16)
    state.update(np.ascontiguousarray(geometry.triangles).tobytes())
    return state.hexdigest()


def _frames(folder: Path, parts: Sequence[Shot]) -> FrameMap:
    """Return the frames of all parts. Raise ShotError if they are not a range."""
    numbers = np.concatenate([part.frame_numbers for part in parts])
    distances = np.diff(numbers)
    step = float(np.median(distances))
    wrong = np.flatnonzero(np.abs(distances - step) > _TOLERANCE)
    if step <= 0 or len(wrong):
        at = int(wrong[0]) if len(wrong) else 0
        raise ShotError(
            "missing-part",
            f"The tracks in {folder} go from frame {numbers[at]:g} to frame {numbers[at + 1]:g}.",
            "Export the frames between them, or remove what belongs to another range.",
        )
    return all_frames(float(numbers[0]), float(numbers[-1]), step, parts[0].fps)
