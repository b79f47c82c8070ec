# SPDX-License-Identifier: GPL-3.0-or-later
"""Forms of a shot with several cameras: through one of them, and with a sample for each frame and camera.

Everything that reads a shot sees one camera in each sample. So a shot that is *unrolled* to one sample for each pair of
a frame and a camera, a *cell*, can be drawn and propagated like any other. Its positions are not copied.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from trackshade.core.file_names import file_name
from trackshade.shot.model import Shot
from trackshade.shot.parts import CameraTrack


def through_camera(shot: Shot, view: int) -> Shot:
    """Return a shot through one of its cameras alone.

    Args:
        shot: a shot as it was captured.
        view: index into `Shot.cameras`.
    """
    return replace(shot, camera=shot.cameras[view], more_cameras=())


def unroll_cameras(shot: Shot) -> Shot:
    """Return a shot that has a sample for each frame and camera.

    Args:
        shot: a shot of T samples and V cameras, as it was captured.

    Returns:
        The shot of T * V samples; sample `t * V + v` shows frame t through camera v. It is `shot` itself if that has
        one camera.
    """
    count = len(shot.cameras)
    if count == 1:
        return shot

    def repeated(array: np.ndarray) -> np.ndarray:
        return np.repeat(array, count, axis=0)

    return replace(
        shot,
        frame_numbers=repeated(shot.frame_numbers),
        camera=_interleave(shot.cameras),
        geometries=tuple(replace(geometry, views=count) for geometry in shot.geometries),
        meshes=tuple(
            replace(
                mesh,
                matrix_world=repeated(mesh.matrix_world),
                visible=repeated(mesh.visible),
                changes=tuple((t * count, geometry) for t, geometry in mesh.changes),
            )
            for mesh in shot.meshes
        ),
        objects=tuple(replace(item, matrix_world=repeated(item.matrix_world)) for item in shot.objects),
        surfaces=tuple(
            item if len(item.front) == 1 else replace(item, front=repeated(item.front), back=repeated(item.back))
            for item in shot.surfaces
        ),
        more_cameras=(),
        views=count,
    )


def find_cuts(shot: Shot) -> list[int]:
    """Return the samples at which another camera takes over, such as by markers on Blender's timeline.

    Args:
        shot: a shot of one camera. With several, none of which is switched, there are no cuts.
    """
    sources = shot.camera.sources
    return [] if shot.more_cameras else [t for t in range(1, len(sources)) if sources[t] != sources[t - 1]]


def first_cells(shot: Shot) -> list[int]:
    """Return the cells that are rendered for the first frame: that of each camera, and the first one after each cut.

    Args:
        shot: a shot as it was captured.
    """
    return [*range(len(shot.cameras)), *find_cuts(shot)]


def camera_file_names(cameras: Sequence[CameraTrack]) -> list[str]:
    """Return a different file name for each camera, also where upper and lower case are the same; see `file_name`."""
    return _number_equal_names([file_name(camera.name, "camera") for camera in cameras])


def stored_camera_names(cameras: Sequence[CameraTrack], is_there: Callable[[str], bool]) -> list[str]:
    """Return by what names files of cameras are stored.

    Args:
        cameras: The cameras of the shot.
        is_there: Whether there are files by a name.

    Returns:
        The names of `camera_file_names`; for a camera without files by that name, but by the one that versions up to
        0.1 gave it, which had ASCII letters only, that one.
    """
    earlier = []
    for camera in cameras:
        ascii_only = unicodedata.normalize("NFKD", camera.name).encode("ascii", "ignore").decode()
        earlier.append(file_name(ascii_only, "camera"))
    pairs = zip(camera_file_names(cameras), _number_equal_names(earlier), strict=True)
    return [before if not is_there(name) and is_there(before) else name for name, before in pairs]


def _number_equal_names(plain_names: Sequence[str]) -> list[str]:
    names: list[str] = []
    for plain in plain_names:
        name, number = plain, 2
        while name.casefold() in {known.casefold() for known in names}:
            name, number = f"{plain}-{number}", number + 1
        names.append(name)
    return names


def picture_names(shot: Shot, is_there: Callable[[str], bool] = lambda name: True) -> dict[int, str]:
    """Return by cell how the files of an export are called that hold pictures other than the first frame.

    Args:
        shot: a shot as it was captured.
        is_there: Whether there are files by a name; see `stored_camera_names`.

    Returns:
        The names of further cameras; of one camera, the numbers of the frames after cuts.
    """
    views = dict(enumerate(stored_camera_names(shot.cameras, is_there)))
    return {cell: views.get(cell, f"{shot.frame_numbers[cell]:g}") for cell in first_cells(shot)[1:]}


def _interleave(cameras: Sequence[CameraTrack]) -> CameraTrack:
    """Return one camera that is each of the cameras in turn in every sample."""

    def mixed(name: str) -> np.ndarray:
        arrays = np.stack([getattr(camera, name) for camera in cameras], axis=1)
        return arrays.reshape(-1, *arrays.shape[2:])

    return CameraTrack(
        name=", ".join(camera.name for camera in cameras),
        sources=tuple(
            source for sample in zip(*(camera.sources for camera in cameras), strict=True) for source in sample
        ),
        intrinsics=mixed("intrinsics"),
        world_to_camera=mixed("world_to_camera"),
        orthographic=mixed("orthographic"),
        clip=mixed("clip"),
    )
