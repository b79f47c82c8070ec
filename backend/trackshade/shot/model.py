# SPDX-License-Identifier: GPL-3.0-or-later
"""The shot: an animated scene, seen through one camera, and what must hold for it."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trackshade.core.errors import ShotError
from trackshade.shot.arrays import first_bad_sample, freeze
from trackshade.shot.encoding import decode_shot, encode_shot
from trackshade.shot.file import read_file, write_file
from trackshade.shot.parts import CameraTrack, Cutout, Float32, Float64, Geometry, MeshTrack, ObjectTrack, Surfaces


@dataclass(frozen=True, eq=False)
class Shot:
    """An animated scene, seen through one or several cameras over T samples.

    A capture has one sample for each frame, its first camera in `camera` and the others in `more_cameras`.
    `trackshade.shot.cameras` makes two other forms of it: the same shot through another camera, and the shot with a
    sample for each pair of a frame and a camera.

    Attributes:
        frame_numbers: [T] scene frame numbers, ascending; sub-frames are allowed. With several views, each stands
            `views` times.
        fps: rate at which the samples play, frames per second.
        size: (width, height) of the image that the intrinsics belong to, pixels.
        camera: the camera of each sample.
        geometries: what the meshes name; instances share one.
        meshes: the visible meshes.
        objects: transforms of all objects.
        view_layer: name of the view layer that was captured.
        source: where the shot came from, as plain JSON values: file, scene, frame map, size fit, warnings.
        surfaces: what the meshes name.
        cutouts: what the surfaces name.
        more_cameras: further cameras, which see the same samples at the same size.
        views: number of consecutive samples that show the same frame through different cameras.

    Raises:
        ShotError: the parts do not fit together. Values are checked by `check_values`.
    """

    frame_numbers: Float64
    fps: float
    size: tuple[int, int]
    camera: CameraTrack
    geometries: tuple[Geometry, ...]
    meshes: tuple[MeshTrack, ...]
    objects: tuple[ObjectTrack, ...] = ()
    view_layer: str = ""
    source: Mapping[str, Any] = field(default_factory=dict)
    surfaces: tuple[Surfaces, ...] = ()
    cutouts: tuple[Cutout, ...] = ()
    more_cameras: tuple[CameraTrack, ...] = ()
    views: int = 1

    def __post_init__(self) -> None:
        freeze(self, "frame_numbers", np.float64, (None,))
        _check_timing_and_size(self)
        count = len(self.frame_numbers)
        for camera in self.cameras:
            _check_count("the camera", len(camera.sources), count)
        for index, geometry in enumerate(self.geometries):
            _check_samples(index, geometry, count)
        for mesh in self.meshes:
            _check_mesh(self, mesh)
        for index, surfaces in enumerate(self.surfaces):
            _check_surfaces(self, index, surfaces)
        for item in self.objects:
            _check_count(f"object '{item.name}'", len(item.matrix_world), count)

    @property
    def cameras(self) -> tuple[CameraTrack, ...]:
        """All cameras, `camera` first."""
        return self.camera, *self.more_cameras

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, shared ones once."""
        return sum(array.nbytes for array in self.encode()[1])

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about what the capture could not represent."""
        return tuple(self.source.get("warnings", ()))

    def geometry_of(self, mesh: int, t: int) -> Geometry:
        """Return the geometry that mesh `mesh` has in sample `t`."""
        return self.geometries[self.meshes[mesh].geometry_at(t)]

    def world_positions(self, mesh: int, t: int) -> Float32:
        """Return the world positions [V, 3] of mesh `mesh` in sample `t`, metres."""
        return _to_world(self.geometry_of(mesh, t).at(t), self.meshes[mesh].matrix_world[t])

    def first_places(self, mesh: int, t: int = 0) -> Float32:
        """Return where the vertices that a mesh has in sample `t` would have been in the first sample.

        These world positions [V, 3], metres, determine their colors: their origins under the object's first matrix.
        """
        return _to_world(self.geometry_of(mesh, t).first, self.meshes[mesh].matrix_world[0])

    def check_values(self) -> None:
        """Raise ShotError, which says where, if a value is not finite or an index names something that is not there."""
        for camera in self.cameras:
            for name in ("intrinsics", "world_to_camera", "clip"):
                _check_finite(self, getattr(camera, name), f"The {name.replace('_', ' ')} of camera '{camera.name}'")
            if np.any(camera.intrinsics[:, [0, 1], [0, 1]] <= 0):
                raise ShotError("bad-camera", f"Camera '{camera.name}' has a focal length that is not above 0.")
        for item in (*self.meshes, *self.objects):
            _check_finite(self, item.matrix_world, f"The transform of '{item.name}'")
        for index, geometry in enumerate(self.geometries):
            _check_geometry_values(self, geometry, [mesh for mesh in self.meshes if index in mesh.geometries])

    def encode(self) -> tuple[dict[str, Any], list[np.ndarray]]:
        """Return the shot as a plain header and a list of arrays; see `trackshade.shot.encoding`."""
        return encode_shot(self)

    @staticmethod
    def decode(header: Mapping[str, Any], arrays: Sequence[np.ndarray]) -> Shot:
        """Return the shot that `encode` made a header and arrays of. Raise ShotError if they are damaged."""
        return decode_shot(Shot, header, arrays)

    def save(self, path: str | os.PathLike[str], force: bool = False) -> Path:
        """Write the shot to a file, whole or not at all.

        Raises:
            OutputError: the file exists and `force` is not set, or the folder cannot be written or is full.
        """
        return write_file(Path(path), *self.encode(), force)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Shot:
        """Read a shot's file.

        Raises:
            ShotError: the file is missing, damaged, cut short, or written by a newer version.
        """
        return Shot.decode(*read_file(Path(path)))


def _to_world(
    local: Float32,  # [V, 3] object space
    matrix: Float64,  # [4, 4] object to world
) -> Float32:
    return (local @ matrix[:3, :3].T + matrix[:3, 3]).astype(np.float32)


def _check_timing_and_size(shot: Shot) -> None:
    if len(shot.frame_numbers) < 1:
        raise ShotError("empty-shot", "The shot has no frames.", "Choose a range of at least one frame.")
    views = shot.views
    if not 1 <= views <= len(shot.frame_numbers) or len(shot.frame_numbers) % views:
        raise ShotError(
            "bad-views", f"{len(shot.frame_numbers)} samples cannot show each frame through {views} cameras."
        )
    numbers = shot.frame_numbers.reshape(-1, views)
    if not np.all(np.isfinite(numbers)) or np.any(np.diff(numbers[:, 0]) <= 0):
        raise ShotError("bad-frames", "The shot's frame numbers must be finite and ascend.")
    if np.any(numbers != numbers[:, :1]) or any(geometry.views != views for geometry in shot.geometries):
        raise ShotError("bad-views", f"The samples of a frame and the geometries must have {views} cameras.")
    if not (isinstance(shot.fps, (int, float)) and math.isfinite(shot.fps) and shot.fps > 0):
        raise ShotError("bad-rate", f"The shot's rate is {shot.fps} frames per second; it must be above 0.")
    if len(shot.size) != 2 or any(not isinstance(n, int) or not 1 <= n <= 65536 for n in shot.size):
        raise ShotError("bad-size", f"The shot's size {shot.size} must be two whole numbers of pixels.")


def _check_count(what: str, actual: int, expected: int) -> None:
    if actual != expected:
        raise ShotError("bad-shape", f"The shot has {expected} frames, but {what} has {actual}.")


def _check_samples(index: int, geometry: Geometry, count: int) -> None:
    samples = len(geometry.positions)
    start, count = geometry.start, count // geometry.views
    if not 0 <= start < count:
        raise ShotError("bad-index", f"Geometry {index} starts at sample {start}; the shot has {count} samples.")
    if not 1 <= samples <= count - start:
        raise ShotError(
            "bad-shape",
            f"Geometry {index} has {samples} samples from sample {start} on; the shot has {count}.",
            "Store 1 sample where nothing deforms, else one for each frame that the geometry covers.",
        )


def _check_mesh(shot: Shot, mesh: MeshTrack) -> None:
    """Raise ShotError unless the mesh's indices exist and its geometries cover the samples that show them."""
    name, count, geometries, surfaces = mesh.name, len(shot.frame_numbers), len(shot.geometries), len(shot.surfaces)
    _check_count(f"mesh '{name}'", len(mesh.matrix_world), count)
    shown = (mesh.geometry, *(index for _, index in mesh.changes))
    for index in shown:
        if not 0 <= index < geometries:
            raise ShotError("bad-index", f"Mesh '{name}' names geometry {index}; the shot has {geometries}.")
    if mesh.surfaces is not None and not 0 <= mesh.surfaces < surfaces:
        raise ShotError("bad-index", f"Mesh '{name}' names surfaces {mesh.surfaces}; the shot has {surfaces}.")
    times = [0, *(t for t, _ in mesh.changes), count]
    if any(later <= earlier for earlier, later in itertools.pairwise(times)):
        raise ShotError(
            "bad-index",
            f"Mesh '{name}' changes its geometry at the samples {times[1:-1]}, which must ascend from 1 to at "
            f"most {count - 1}.",
        )
    for index, (begin, end) in zip(shown, itertools.pairwise(times), strict=True):
        item = shot.geometries[index]
        first, last = item.start * item.views, (item.start + len(item.positions)) * item.views
        if item.deforms and (mesh.visible[begin:first].any() or mesh.visible[max(begin, last) : end].any()):
            raise ShotError(
                "bad-shape",
                f"Geometry {index} has the samples {first} to {last - 1}, but '{name}' shows it in the "
                f"samples {begin} to {end - 1}; the shot has {count}.",
                "Store 1 sample where nothing deforms, else one for each frame that shows the geometry.",
            )


def _check_surfaces(shot: Shot, index: int, surfaces: Surfaces) -> None:
    count = len(shot.frame_numbers)
    if len(surfaces.front) not in (1, count) or not len(surfaces.cutouts):
        raise ShotError(
            "bad-shape",
            f"Surfaces {index} have {len(surfaces.front)} samples of {len(surfaces.cutouts)} slots; the shot has "
            f"{count} samples.",
        )
    if surfaces.cutouts.min() < -1 or surfaces.cutouts.max() >= len(shot.cutouts):
        raise ShotError("bad-index", f"Surfaces {index} name a cut-out that is not there.")


def _check_finite(
    shot: Shot,
    array: Float64,  # [T, ...]
    what: str,
) -> None:
    bad = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))
    if bad.size:
        raise ShotError("not-finite", f"{what} is not finite at frame {shot.frame_numbers[bad[0]]:g}.")


def _check_geometry_values(shot: Shot, geometry: Geometry, users: list[MeshTrack]) -> None:
    name = users[0].name if users else "unused geometry"
    vertices, triangles = geometry.positions.shape[1], geometry.triangles
    if triangles.size and (triangles.min() < 0 or triangles.max() >= vertices):
        raise ShotError("bad-index", f"A triangle of '{name}' names a vertex that is not there ({vertices} vertices).")
    if geometry.materials is not None and geometry.materials.size and geometry.materials.min() < 0:
        raise ShotError("bad-index", f"A triangle of '{name}' has a material slot below 0.")
    for mesh in users:
        if mesh.surfaces is not None:
            _check_cutout_layers(shot.surfaces[mesh.surfaces], geometry, mesh.name)
    t = first_bad_sample(geometry.positions)
    if t is not None:
        bad = int(np.flatnonzero(~np.isfinite(geometry.positions[t]).all(axis=1))[0])
        frame = f"{shot.frame_numbers[geometry.start + t]:g}{'' if geometry.deforms else ' and all others'}"
        raise ShotError(
            "not-finite",
            f"Vertex {bad} of '{name}' has no finite position at frame {frame}.",
            "Look for a modifier or driver that divides by zero there.",
        )
    if geometry.origins is not None and not np.isfinite(geometry.origins).all():
        raise ShotError("not-finite", f"The origins of the vertices of '{name}' are not all finite.")
    births, count = geometry.births, len(shot.frame_numbers)
    if births is not None and births.size and (births.min() < 0 or births.max() >= count):
        raise ShotError(
            "bad-index",
            f"The vertices of '{name}' are born in samples {births.min()} to {births.max()}; the shot has "
            f"{count} samples.",
        )


def _check_cutout_layers(surfaces: Surfaces, geometry: Geometry, name: str) -> None:
    layers = surfaces.uv_layers[surfaces.cutouts >= 0]
    if layers.size and (
        layers.min() < 0 or layers.max() > len(geometry.more_uv) or (geometry.uv is None and layers.min() == 0)
    ):
        raise ShotError("bad-index", f"A cut-out of '{name}' needs texture coordinates that are not there.")
