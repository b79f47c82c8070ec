# SPDX-License-Identifier: GPL-3.0-or-later
"""Fits a captured shot to what a model takes: its number of frames and its image size.

A shot has every frame of its range at the scene's own size. `plan_fit` decides which samples the model sees and where
the shot's image lies in the model's, by the rules of `trackshade.core.fitting`; `ShotFit.apply` makes the shot of it.

Samples that fall on samples of the shot are copied. Between two samples, positions, intrinsics and clip limits are
interpolated linearly, and matrices by location, nearest rotation, and scale and shear. What cannot be interpolated is
that of the sample before: visibility, sides of surfaces, topology, the camera where it is switched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trackshade.core.errors import ShotError
from trackshade.core.fitting import FrameMap, SizeFit, fit_frames, fit_size
from trackshade.core.resampling import resample
from trackshade.core.text import join_or
from trackshade.shot.input_image import fit_image, input_image_from_array, size_fit_of
from trackshade.shot.model import Shot
from trackshade.shot.parts import CameraTrack, Geometry, Int32, MeshTrack, Surfaces

_WHOLE = 1e-5  # samples by which a position may differ from a whole one
_SINGULAR = 1e-6  # of the largest singular value, below which a matrix has no definite rotation


class Accepted(Protocol):
    """What a shot is fitted to: a `ModelSpec`, or a format of another system."""

    @property
    def name(self) -> str:
        """Name for messages."""
        ...

    @property
    def allowed_frame_counts(self) -> tuple[int, ...]:
        """Numbers of frames that it accepts."""
        ...

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Image sizes (width, height) that it accepts, pixels."""
        ...


@dataclass(frozen=True, eq=False)
class ShotFit:
    """How a model sees a shot.

    Attributes:
        frame_map: scene frames that the model's frames show.
        size_fit: where the shot's image lies in the model's image.
        positions: [N] sample of the shot that each of the model's frames shows, ascending; fractions lie between two.
    """

    frame_map: FrameMap
    size_fit: SizeFit
    positions: NDArray[np.float64]

    def apply(self, shot: Shot) -> Shot:
        """Return the shot that the model takes; the same shot if it has the model's frames and size already.

        The frame map and the size fit in its source relate it to the scene, as those of the shot do.
        """
        same_frames = np.array_equal(self.positions, np.arange(len(shot.frame_numbers)))
        same_size = self.size_fit.is_identity
        if same_frames and same_size:
            return shot
        fitted = sample_shot(
            shot, self.positions, frame_numbers=np.array(self.frame_map.frame_numbers), fps=self.frame_map.fps
        )
        source = dict(shot.source)
        if not same_frames or not source.get("frame_map"):
            source["frame_map"] = self.frame_map.to_dict()
        if not same_size or not source.get("size_fit"):
            before = size_fit_of(shot)
            source["size_fit"] = (self.size_fit if before is None else before.then(self.size_fit)).to_dict()
        camera, *more = (
            replace(camera, intrinsics=self.size_fit.apply(camera.intrinsics)) for camera in fitted.cameras
        )
        return replace(fitted, size=self.size_fit.size, camera=camera, more_cameras=tuple(more), source=source)

    def fit_image(
        self,
        image: NDArray[np.uint8],  # [H, W, 3] sRGB of the shot's size
    ) -> NDArray[np.uint8]:  # [h, w, 3] sRGB of the model's size
        """Resample an image as the shot was, in linear light."""
        if self.size_fit.is_identity:
            return image
        return fit_image(input_image_from_array(image), self.size_fit.size, self.size_fit, "frame").pixels

    def fit_linear(
        self,
        image: NDArray[np.float32],  # [h, w, C] of the shot's frame, at any size
    ) -> NDArray[np.float32]:  # [H, W, C] of the model's size
        """Resample values that can be averaged, such as linear light, as the shot was."""
        fit = self.size_fit
        x, y = fit.source[0] / image.shape[1], fit.source[1] / image.shape[0]
        return resample(image, fit.size, (fit.scale[0] * x, fit.scale[1] * y), fit.offset).astype(np.float32)


def plan_fit(
    shot: Shot,
    spec: Accepted,
    *,
    frame_rule: str = "auto",
    size_mode: str = "pad",
    size: tuple[int, int] | None = None,
    frame_counts: tuple[int, ...] | None = None,
) -> ShotFit:
    """Decide which samples of a shot a model sees, and at what size.

    Args:
        shot: the shot, of any length and size.
        spec: the model.
        frame_rule: one of `FRAME_RULES`; see `fit_frames`. A single frame is held where the rule is "auto" or
            "resample".
        size_mode: "pad" or "crop"; see `SizeFit`.
        size: (width, height) of the model, pixels; None for the nearest in aspect.
        frame_counts: those of the model's frame counts that are considered; None for all.

    Raises:
        ShotError: the shot is too short for the rule, or the model has no such size.
    """
    if size is not None and tuple(size) not in spec.sizes:
        raise ShotError(
            "size-not-taken",
            f"The model {spec.name} has no size {size[0]} × {size[1]}: it takes "
            f"{join_or(f'{width} × {height}' for width, height in spec.sizes)}.",
            "Choose one of its sizes, or none.",
        )
    aspect = _pixel_aspect(shot)
    sizes = spec.sizes if size is None else (size,)
    if aspect == (1.0, 1.0) and shot.size in sizes:
        sizes = (shot.size,)
    frame_map, positions = _fit_frames(shot, frame_counts or spec.allowed_frame_counts, frame_rule)
    return ShotFit(frame_map, fit_size(shot.size, aspect, sizes, size_mode), positions)


def fit_shot(
    shot: Shot,
    spec: Accepted,
    *,
    frame_rule: str = "auto",
    size_mode: str = "pad",
    size: tuple[int, int] | None = None,
) -> Shot:
    """Return the shot that a model takes; see `plan_fit` and `ShotFit.apply`."""
    return plan_fit(shot, spec, frame_rule=frame_rule, size_mode=size_mode, size=size).apply(shot)


def sample_shot(
    shot: Shot,
    positions: ArrayLike,  # [N] samples, ascending; fractions lie between two
    *,
    frame_numbers: NDArray[np.float64] | None = None,  # [N]
    fps: float | None = None,
) -> Shot:
    """Return a shot of some of a shot's samples, or of states between them.

    Args:
        shot: the shot.
        positions: the samples.
        frame_numbers: scene frame numbers of the result; those of the samples by default.
        fps: rate at which they play; that of the shot by default.
    """
    places = np.asarray(positions, np.float64)
    low = np.floor(places + _WHOLE).astype(int)
    weight = np.where(places - low > _WHOLE, places - low, 0.0)
    if frame_numbers is None:
        frame_numbers = np.interp(low + weight, np.arange(len(shot.frame_numbers)), shot.frame_numbers)
    if np.array_equal(low, np.arange(len(shot.frame_numbers))) and not weight.any():
        return replace(shot, frame_numbers=frame_numbers, fps=shot.fps if fps is None else fps)
    sampler = _Sampler(low, np.minimum(low + 1, len(shot.frame_numbers) - 1), weight)
    shown = [[mesh.geometry_at(t) for t in low.tolist()] for mesh in shot.meshes]
    used = sorted({index for indices in shown for index in indices})
    numbers = {index: number for number, index in enumerate(used)}
    first_shown = {index: t for indices in shown for t, index in zip(low[::-1], reversed(indices), strict=True)}
    return replace(
        shot,
        frame_numbers=frame_numbers,
        fps=shot.fps if fps is None else fps,
        camera=sampler.camera(shot.camera),
        more_cameras=tuple(sampler.camera(camera) for camera in shot.more_cameras),
        geometries=tuple(sampler.geometry(shot.geometries[index], int(first_shown[index])) for index in used),
        meshes=tuple(
            sampler.mesh(mesh, [numbers[index] for index in indices])
            for mesh, indices in zip(shot.meshes, shown, strict=True)
        ),
        objects=tuple(replace(item, matrix_world=sampler.matrices(item.matrix_world)) for item in shot.objects),
        surfaces=tuple(sampler.surfaces(item) for item in shot.surfaces),
    )


def resize_shot(shot: Shot, size: tuple[int, int]) -> Shot:
    """Return a shot whose image has another (width, height), pixels, and shows the same."""
    if size == shot.size:
        return shot
    scale = np.diag([size[0] / shot.size[0], size[1] / shot.size[1], 1.0])
    camera, *more = (replace(camera, intrinsics=scale @ camera.intrinsics) for camera in shot.cameras)
    return replace(shot, size=size, camera=camera, more_cameras=tuple(more))


class _Sampler:
    """Takes the parts of a shot at samples `low`, and `weight` of the way from there to samples `high`."""

    def __init__(self, low: NDArray[np.int_], high: NDArray[np.int_], weight: NDArray[np.float64]) -> None:
        self._low, self._high, self._weight = low, high, weight
        self._births: dict[int, tuple[Int32, Int32]] = {}  # by identity, with what keeps the identity in use

    def index(self, samples: ArrayLike) -> NDArray[np.int_]:
        """Return the first new sample at or after each old one; the last new one if there is none."""
        return np.minimum(np.searchsorted(self._low, samples), len(self._low) - 1)

    def linear(self, values: NDArray, weight: NDArray[np.float64] | None = None) -> NDArray:
        """Interpolate [T, ...] linearly; rows that do not change are copied exactly."""
        weight = self._weight if weight is None else weight
        taken = values[self._low]
        between = np.flatnonzero(weight)
        if len(between):
            share = weight[between].reshape(-1, *[1] * (values.ndim - 1)).astype(values.dtype)
            before, after = values[self._low[between]], values[self._high[between]]
            taken[between] = before + share * (after - before)
        return taken

    def matrices(self, matrices: NDArray[np.float64], weight: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Interpolate affine matrices [T, 4, 4]."""
        weight = self._weight if weight is None else weight
        taken = matrices[self._low]
        between = np.flatnonzero((weight > 0) & (taken != matrices[self._high]).any(axis=(1, 2)))
        if len(between):
            taken[between] = _blend(taken[between], matrices[self._high[between]], weight[between])
        return taken

    def camera(self, camera: CameraTrack) -> CameraTrack:
        """Return the camera; where it is switched between two samples, the one before is held."""
        names = np.array(camera.sources)
        switched = (names[self._low] != names[self._high]) | (
            camera.orthographic[self._low] != camera.orthographic[self._high]
        )
        weight = np.where(switched, 0.0, self._weight)
        taken = camera.world_to_camera[self._low]
        between = np.flatnonzero(weight)
        if len(between):  # the location is interpolated in the world
            moved = np.linalg.pinv(self.matrices(np.linalg.pinv(camera.world_to_camera), weight))
            changed = (camera.world_to_camera[self._low] != camera.world_to_camera[self._high]).any(axis=(1, 2))
            between = between[changed[between]]
            taken[between] = moved[between]
        return CameraTrack(
            name=camera.name,
            sources=tuple(camera.sources[t] for t in self._low.tolist()),
            intrinsics=self.linear(camera.intrinsics, weight),
            world_to_camera=taken,
            orthographic=camera.orthographic[self._low],
            clip=self.linear(camera.clip, weight),
        )

    def geometry(self, geometry: Geometry, first_shown: int) -> Geometry:
        """Return a geometry; `first_shown` is the first old sample in which a mesh has it."""
        births = geometry.births
        if births is not None:
            key = id(births)
            if key not in self._births:
                self._births[key] = births, self.index(births).astype(np.int32)
            births = self._births[key][1]
        start = int(self.index(geometry.start))
        if not geometry.deforms:
            return replace(geometry, births=births, start=start)
        rows = np.flatnonzero((self._low >= geometry.start) & (self._low < geometry.start + len(geometry.positions)))
        if len(rows):
            own = self._low[rows] - geometry.start
            part = _Sampler(own, np.minimum(own + 1, len(geometry.positions) - 1), self._weight[rows])
            positions = part.linear(geometry.positions)
            begins = own[0] == 0 and self._weight[rows[0]] == 0
        else:
            positions, begins = geometry.at(first_shown)[None].copy(), False
        origins = geometry.origins if begins or geometry.origins is not None else geometry.positions[0].copy()
        return replace(geometry, positions=positions, births=births, origins=origins, start=start)

    def mesh(self, mesh: MeshTrack, geometries: Sequence[int]) -> MeshTrack:
        """Return a mesh; `geometries` are the new indices of its geometries by new sample."""
        changes = [(t, index) for t, index in enumerate(geometries) if t and index != geometries[t - 1]]
        return replace(
            mesh,
            geometry=geometries[0],
            matrix_world=self.matrices(mesh.matrix_world),
            visible=mesh.visible[self._low],
            changes=tuple(changes),
        )

    def surfaces(self, surfaces: Surfaces) -> Surfaces:
        """Return surfaces with the sides of the samples before."""
        if len(surfaces.front) == 1:
            return surfaces
        return replace(surfaces, front=surfaces.front[self._low], back=surfaces.back[self._low])


def _fit_frames(shot: Shot, counts: Sequence[int], rule: str) -> tuple[FrameMap, NDArray[np.float64]]:
    """Return the model's frames, and the samples [N] of the shot that they show."""
    numbers = shot.frame_numbers
    count, first, last = len(numbers), float(numbers[0]), float(numbers[-1])
    if count == 1 and 1 not in counts and rule in ("auto", "resample"):
        held = min(counts)
        text = f"The single frame {first:g}, held for {held} frames."
        frames = tuple(first + i for i in range(held))
        return FrameMap(first, first, 1.0, "hold", frames, float(shot.fps), text), np.zeros(held)
    step = (last - first) / (count - 1) if count > 1 else 1.0
    found = fit_frames(first, last, step, shot.fps * step, counts, rule)
    places = np.array(fit_frames(0, count - 1, 1, shot.fps, counts, rule).frame_numbers)
    near = np.rint(places)
    places = np.where(np.abs(places - near) < _WHOLE, near, places)
    frames = np.interp(places, np.arange(count), numbers)
    return replace(found, frame_numbers=tuple(frames.tolist())), places


def _pixel_aspect(shot: Shot) -> tuple[float, float]:
    """Return the (x, y) aspect of the pixels of the shot's own image."""
    fit = size_fit_of(shot)
    if fit is None:
        return 1.0, 1.0
    x, y = (aspect / scale for aspect, scale in zip(fit.pixel_aspect, fit.scale, strict=True))
    return (1.0, 1.0) if math.isclose(x, y, rel_tol=1e-9) else (x, y)


def _blend(
    before: NDArray[np.float64],  # [N, 4, 4] affine
    after: NDArray[np.float64],  # [N, 4, 4] affine
    weight: NDArray[np.float64],  # [N]
) -> NDArray[np.float64]:
    """Interpolate matrices by location, nearest rotation, and scale and shear (polar decomposition).

    Matrices without a definite rotation, or with a mirror image between them, are interpolated number by number.
    """
    share = weight[:, None, None]
    blended = before + share * (after - before)
    rotations, stretches, definite = [], [], np.ones(len(weight), bool)
    for matrix in (before, after):
        u, values, v = np.linalg.svd(matrix[:, :3, :3])
        definite &= values[:, 2] > _SINGULAR * values[:, 0]
        rotations.append(u @ v)
        stretches.append(np.swapaxes(v, 1, 2) @ (values[:, :, None] * v))
    definite &= np.sign(np.linalg.det(rotations[0])) == np.sign(np.linalg.det(rotations[1]))
    u, values, v = np.linalg.svd(rotations[0] + share * (rotations[1] - rotations[0]))
    definite &= (values[:, 2] > _SINGULAR) & (np.sign(np.linalg.det(u @ v)) == np.sign(np.linalg.det(rotations[0])))
    stretch = stretches[0] + share * (stretches[1] - stretches[0])
    blended[:, :3, :3] = np.where(definite[:, None, None], (u @ v) @ stretch, blended[:, :3, :3])
    return blended
