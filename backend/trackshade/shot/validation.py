# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold for a shot: shapes and types at once, values on request."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trackshade.core.errors import ShotError

if TYPE_CHECKING:
    from trackshade.shot.model import Cutout, Geometry, MeshTrack, Shot, Surfaces


def freeze(owner: Any, name: str, dtype: type[np.generic], shape: tuple[int | None, ...]) -> None:
    """Checks an array attribute and makes it read-only in place (None in `shape` stands for any length)."""
    object.__setattr__(owner, name, _frozen(getattr(owner, name), f"{type(owner).__name__}.{name}", dtype, shape))


def freeze_all(owner: Any, name: str, dtype: type[np.generic], shape: tuple[int | None, ...]) -> None:
    """The same for an attribute that holds a tuple of arrays."""
    where = f"{type(owner).__name__}.{name}"
    object.__setattr__(owner, name, tuple(_frozen(array, where, dtype, shape) for array in getattr(owner, name)))


def _frozen(array: Any, where: str, dtype: type[np.generic], shape: tuple[int | None, ...]) -> np.ndarray:
    wanted = np.dtype(dtype)
    if not isinstance(array, np.ndarray) or array.dtype != wanted:
        found = getattr(array, "dtype", type(array).__name__)
        raise ShotError("bad-type", f"{where} must be an array of {wanted}, not {found}.")
    fits = array.ndim == len(shape) and all(
        want is None or have == want for have, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        asked = ", ".join("any" if n is None else str(n) for n in shape)
        raise ShotError("bad-shape", f"{where} must have the shape [{asked}], not {list(array.shape)}.")
    if not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
    if array.flags.writeable:
        array = array.view()  # the caller may still be writing through its own reference
        array.flags.writeable = False
    return array


def check_cutout(cutout: Cutout) -> None:
    """Raises ShotError unless an image can be sampled by the cut-out's rules."""
    from trackshade.shot.model import EXTENSIONS

    if cutout.extension not in EXTENSIONS:
        raise ShotError("bad-type", f"A cut-out's extension is {cutout.extension!r}, not one of {EXTENSIONS}.")
    if not cutout.alpha.size:
        raise ShotError("bad-shape", "A cut-out's image has no pixels.")
    if not np.isfinite(cutout.transform).all():
        raise ShotError("not-finite", "The transform of a cut-out's texture coordinates is not finite.")


def same_array(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether two arrays hold the same values; at once where they are the same memory."""
    same_memory = a.shape == b.shape and a.__array_interface__["data"][0] == b.__array_interface__["data"][0]
    return same_memory or np.array_equal(a, b)


def check_structure(shot: Shot) -> None:
    """Raises ShotError unless all parts of the shot agree on the number of samples and on each other."""
    count = len(shot.frame_numbers)
    if count < 1:
        raise ShotError("empty-shot", "The shot has no frames.", "Choose a range of at least one frame.")
    if not np.all(np.isfinite(shot.frame_numbers)) or np.any(np.diff(shot.frame_numbers) <= 0):
        raise ShotError("bad-frames", "The shot's frame numbers must be finite and ascend.")
    if not (isinstance(shot.fps, (int, float)) and math.isfinite(shot.fps) and shot.fps > 0):
        raise ShotError("bad-rate", f"The shot's rate is {shot.fps} frames per second; it must be above 0.")
    if len(shot.size) != 2 or any(not isinstance(n, int) or not 1 <= n <= 65536 for n in shot.size):
        raise ShotError("bad-size", f"The shot's size {shot.size} must be two whole numbers of pixels.")
    _same_count("the camera", len(shot.camera.sources), count)
    for geometry, item in enumerate(shot.geometries):
        samples = len(item.positions)
        if not 0 <= item.start < count:
            raise ShotError(
                "bad-index", f"Geometry {geometry} starts at sample {item.start}; the shot has {count} samples."
            )
        if not 1 <= samples <= count - item.start:
            raise ShotError(
                "bad-shape",
                f"Geometry {geometry} has {samples} samples from sample {item.start} on; the shot has {count}.",
                "Store 1 sample where nothing deforms, else one for each frame that the geometry covers.",
            )
    for mesh in shot.meshes:
        _same_count(f"mesh '{mesh.name}'", len(mesh.matrix_world), count)
        for geometry in (mesh.geometry, *(index for _, index in mesh.changes)):
            if not 0 <= geometry < len(shot.geometries):
                raise ShotError(
                    "bad-index",
                    f"Mesh '{mesh.name}' names geometry {geometry}; the shot has {len(shot.geometries)}.",
                )
        _check_changes(shot, mesh)
        if mesh.surfaces is not None and not 0 <= mesh.surfaces < len(shot.surfaces):
            raise ShotError(
                "bad-index",
                f"Mesh '{mesh.name}' names surfaces {mesh.surfaces}; the shot has {len(shot.surfaces)}.",
            )
    for index, item in enumerate(shot.surfaces):
        if len(item.front) not in (1, count) or not len(item.cutouts):
            raise ShotError(
                "bad-shape",
                f"Surfaces {index} have {len(item.front)} samples of {len(item.cutouts)} slots; the shot has {count} "
                "samples.",
            )
        if item.cutouts.min() < -1 or item.cutouts.max() >= len(shot.cutouts):
            raise ShotError("bad-index", f"Surfaces {index} name a cut-out that is not there.")
    for item in shot.objects:
        _same_count(f"object '{item.name}'", len(item.matrix_world), count)


def _check_changes(shot: Shot, mesh: MeshTrack) -> None:
    """Raises ShotError unless the mesh's changes ascend, and its geometries cover the samples that show them."""
    times = [0, *(t for t, _ in mesh.changes), len(shot.frame_numbers)]
    if any(later <= earlier for earlier, later in itertools.pairwise(times)):
        raise ShotError(
            "bad-index",
            f"Mesh '{mesh.name}' changes its geometry at the samples {times[1:-1]}, which must ascend from 1 to at "
            f"most {len(shot.frame_numbers) - 1}.",
        )
    shown = (mesh.geometry, *(index for _, index in mesh.changes))
    for index, (begin, end) in zip(shown, itertools.pairwise(times), strict=True):
        item = shot.geometries[index]
        last = item.start + len(item.positions)
        if item.deforms and (mesh.visible[begin : item.start].any() or mesh.visible[max(begin, last) : end].any()):
            raise ShotError(
                "bad-shape",
                f"Geometry {index} has the samples {item.start} to {last - 1}, but '{mesh.name}' shows it in the "
                f"samples {begin} to {end - 1}; the shot has {len(shot.frame_numbers)}.",
                "Store 1 sample where nothing deforms, else one for each frame that shows the geometry.",
            )


def check_values(shot: Shot) -> None:
    """Raises ShotError for numbers that are not finite and for triangles that name missing vertices."""
    camera = shot.camera
    for name in ("intrinsics", "world_to_camera", "clip"):
        _finite_matrices(shot, getattr(camera, name), f"The {name.replace('_', ' ')} of camera '{camera.name}'")
    if np.any(camera.intrinsics[:, 0, 0] <= 0) or np.any(camera.intrinsics[:, 1, 1] <= 0):
        raise ShotError("bad-camera", f"Camera '{camera.name}' has a focal length that is not above 0.")
    for mesh in shot.meshes:
        _finite_matrices(shot, mesh.matrix_world, f"The transform of '{mesh.name}'")
    for item in shot.objects:
        _finite_matrices(shot, item.matrix_world, f"The transform of '{item.name}'")
    for index, geometry in enumerate(shot.geometries):
        users = [mesh for mesh in shot.meshes if index in mesh.geometries]
        _check_geometry(shot, geometry, users)


def _check_geometry(shot: Shot, geometry: Geometry, users: list[MeshTrack]) -> None:
    name = users[0].name if users else "unused geometry"
    vertices = geometry.positions.shape[1]
    triangles = geometry.triangles
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
        frame = f"{shot.frame_numbers[geometry.start + t]:g}"
        if not geometry.deforms:
            frame += " and all others"
        raise ShotError(
            "not-finite",
            f"Vertex {bad} of '{name}' has no finite position at frame {frame}.",
            "Look for a modifier or driver that divides by zero there.",
        )
    if geometry.origins is not None and not np.isfinite(geometry.origins).all():
        raise ShotError("not-finite", f"The origins of the vertices of '{name}' are not all finite.")
    births = geometry.births
    if births is not None and births.size and (births.min() < 0 or births.max() >= len(shot.frame_numbers)):
        raise ShotError(
            "bad-index",
            f"The vertices of '{name}' are born in samples {births.min()} to {births.max()}; the shot has "
            f"{len(shot.frame_numbers)} samples.",
        )


def _check_cutout_layers(surfaces: Surfaces, geometry: Geometry, name: str) -> None:
    layers = surfaces.uv_layers[surfaces.cutouts >= 0]
    if layers.size and (
        layers.min() < 0 or layers.max() > len(geometry.more_uv) or (geometry.uv is None and layers.min() == 0)
    ):
        raise ShotError("bad-index", f"A cut-out of '{name}' needs texture coordinates that are not there.")


def first_bad_sample(positions: NDArray[np.float32]) -> int | None:
    """Index of the first sample of [T, V, 3] that holds a value that is not finite, or None."""
    for t, sample in enumerate(positions):
        # NaN and infinity survive min and max, and no array of flags is made for the common case.
        if sample.size and not (np.isfinite(sample.min()) and np.isfinite(sample.max())):
            return t
    return None


def _finite_matrices(shot: Shot, array: NDArray[np.float64], what: str) -> None:
    bad = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))
    if bad.size:
        raise ShotError("not-finite", f"{what} is not finite at frame {shot.frame_numbers[bad[0]]:g}.")


def _same_count(what: str, have: int, want: int) -> None:
    if have != want:
        raise ShotError("bad-shape", f"The shot has {want} frames, but {what} has {have}.")
