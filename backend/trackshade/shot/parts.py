# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of a shot: frozen dataclasses over read-only arrays.

A geometry that does not deform is stored once (leading dimension 1), and instances share it. World positions are
computed where they are used, never stored.

A mesh whose vertices or faces change during the shot has one geometry for each run of samples with the same topology
(`MeshTrack.changes`). `Geometry.origins` and `Geometry.births` say where and when each vertex's surface point was first
there; `trackshade.shot.carrying` describes how they are found.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackshade.core.errors import ShotError
from trackshade.shot.arrays import freeze, same_array

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]
Bool = NDArray[np.bool_]

EXTENSIONS = ("REPEAT", "EXTEND", "CLIP", "MIRROR")
"""What lies outside the image of a cut-out: its repetition, its edge, nothing (0), its mirror image."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """A triangle mesh whose vertices keep their identity over the samples that it covers.

    Attributes:
        positions: [n, V, 3] object space, metres, of the samples `start` to `start + n - 1`. Outside of these the
            nearest one is used; n = 1 for a mesh that does not deform.
        triangles: [F, 3] vertex indices.
        uv: [F, 3, 2] texture coordinates of the triangles' corners, or None.
        materials: [F] material slot of each triangle; None if all triangles have slot 0.
        more_uv: further texture coordinates, each like `uv`, for cut-outs that do not use `uv`.
        origins: [V, 3] object-space position of each vertex's surface point in its first sample; None if that is the
            first of `positions`.
        births: [V] sample in which each vertex's surface point was first there; None for `start`.
        start: sample that `positions` begin with.
        views: number of cameras of the shot (`Shot.views`). With more than one, `start` and `births` count frames, and
            each row of `positions` is that of all samples of a frame.
    """

    positions: Float32
    triangles: Int32
    uv: Float32 | None = None
    materials: Int32 | None = None
    more_uv: tuple[Float32, ...] = ()
    origins: Float32 | None = None
    births: Int32 | None = None
    start: int = 0
    views: int = 1

    def __post_init__(self) -> None:
        freeze(self, "positions", np.float32, (None, None, 3))
        freeze(self, "triangles", np.int32, (None, 3))
        for name in ("uv", "more_uv"):
            freeze(self, name, np.float32, (len(self.triangles), 3, 2))
        freeze(self, "materials", np.int32, (len(self.triangles),))
        freeze(self, "origins", np.float32, (self.positions.shape[1], 3))
        freeze(self, "births", np.int32, (self.positions.shape[1],))

    @property
    def deforms(self) -> bool:
        """Whether there is more than one sample of positions."""
        return len(self.positions) > 1

    @property
    def first(self) -> Float32:
        """[V, 3] object-space positions of the vertices' surface points in their first sample, metres."""
        return self.positions[0] if self.origins is None else self.origins

    @property
    def born(self) -> Int32:
        """[V] sample in which each vertex's surface point was first there."""
        return np.full(self.positions.shape[1], self.start, np.int32) if self.births is None else self.births

    def at(self, t: int) -> Float32:
        """Return the object-space positions [V, 3] of sample `t`, metres."""
        return self.positions[self.row(t)]

    def row(self, t: int) -> int:
        """Return the index into `positions` of sample `t`."""
        return min(max(t // self.views - self.start, 0), len(self.positions) - 1)

    def same_points(self, other: Geometry) -> bool:
        """Return whether vertex i of both is the same point: they have the same faces and the same origins."""
        return self is other or (
            self.positions.shape[1] == other.positions.shape[1]
            and same_array(self.triangles, other.triangles)
            and same_array(self.first, other.first)
        )


@dataclass(frozen=True, eq=False)
class Cutout:
    """A part of an image that decides which pixels of a surface are drawn, such as the alpha of a leaf.

    Attributes:
        alpha: [H, W] one channel of the image; the first row is the bottom one (v = 0).
        opaque: [256] whether a pixel is drawn, by the value sampled from `alpha`.
        transform: [2, 3] takes texture coordinates (u, v, 1) to image coordinates, 0 to 1 across the image.
        extension: what lies outside the image, one of `EXTENSIONS`.
        smooth: whether samples are interpolated linearly, instead of taken from the nearest texel.
    """

    alpha: NDArray[np.uint8]
    opaque: Bool
    transform: Float64
    extension: str = "REPEAT"
    smooth: bool = True

    def __post_init__(self) -> None:
        freeze(self, "alpha", np.uint8, (None, None))
        freeze(self, "opaque", np.bool_, (256,))
        freeze(self, "transform", np.float64, (2, 3))
        if self.extension not in EXTENSIONS:
            raise ShotError("bad-type", f"A cut-out's extension is {self.extension!r}, not one of {EXTENSIONS}.")
        if not self.alpha.size:
            raise ShotError("bad-shape", "A cut-out's image has no pixels.")
        if not np.isfinite(self.transform).all():
            raise ShotError("not-finite", "The transform of a cut-out's texture coordinates is not finite.")


@dataclass(frozen=True, eq=False)
class Surfaces:
    """How the camera's render shows the material slots of a mesh. Meshes with the same materials share one.

    The last slot stands for all slots of a geometry beyond it.

    Attributes:
        front: [T or 1, S] whether the triangles of each slot are drawn where they are seen from their front.
        back: [T or 1, S] the same where they are seen from behind.
        cutouts: [S] index into `Shot.cutouts`, or -1.
        uv_layers: [S] texture coordinates of the cut-out: 0 for `Geometry.uv`, n for `Geometry.more_uv[n - 1]`.
    """

    front: Bool
    back: Bool
    cutouts: Int32
    uv_layers: Int32

    def __post_init__(self) -> None:
        slots = len(self.cutouts)
        freeze(self, "front", np.bool_, (None, slots))
        freeze(self, "back", np.bool_, (len(self.front), slots))
        freeze(self, "cutouts", np.int32, (None,))
        freeze(self, "uv_layers", np.int32, (slots,))

    def at(self, t: int) -> tuple[Bool, Bool]:
        """Return `front` [S] and `back` [S] of sample `t`."""
        row = t if len(self.front) > 1 else 0
        return self.front[row], self.back[row]


@dataclass(frozen=True, eq=False)
class MeshTrack:
    """One visible object or instance: a geometry under a moving matrix.

    Attributes:
        name: the object's name; instances carry their instancer's name too.
        geometry: index into `Shot.geometries` of the mesh's first geometry.
        matrix_world: [T, 4, 4] object to world, metres.
        visible: [T] whether the camera's render shows it.
        holdout: whether it hides what is behind it and is itself black.
        pass_index: the object's pass index.
        surfaces: index into `Shot.surfaces`; None if both sides of all triangles are drawn in every sample.
        changes: (sample, index into `Shot.geometries`) from which sample on the mesh has which other geometry;
            ascending.
    """

    name: str
    geometry: int
    matrix_world: Float64
    visible: Bool
    holdout: bool = False
    pass_index: int = 0
    surfaces: int | None = None
    changes: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        freeze(self, "matrix_world", np.float64, (None, 4, 4))
        freeze(self, "visible", np.bool_, (len(self.matrix_world),))

    def geometry_at(self, t: int) -> int:
        """Return the index into `Shot.geometries` of the geometry that the mesh has in sample `t`."""
        count = bisect.bisect_right(self.changes, t, key=lambda change: change[0])
        return self.changes[count - 1][1] if count else self.geometry

    @property
    def geometries(self) -> tuple[int, ...]:
        """Indices of all geometries that the mesh has during the shot, each once, in the order of time."""
        return tuple(dict.fromkeys((self.geometry, *(index for _, index in self.changes))))


@dataclass(frozen=True, eq=False)
class CameraTrack:
    """The camera that each sample is seen through.

    Attributes:
        name: the first sample's camera.
        sources: [T] name of the camera of each sample, since markers may switch it.
        intrinsics: [T, 3, 3] pixels of `Shot.size`; pixels per metre for an orthographic camera.
        world_to_camera: [T, 4, 4] OpenCV axes: x right, y down, z forward.
        orthographic: [T] whether the camera is orthographic.
        clip: [T, 2] near and far limit along the view axis, metres.
    """

    name: str
    sources: tuple[str, ...]
    intrinsics: Float64
    world_to_camera: Float64
    orthographic: Bool
    clip: Float64

    def __post_init__(self) -> None:
        count = len(self.sources)
        freeze(self, "intrinsics", np.float64, (count, 3, 3))
        freeze(self, "world_to_camera", np.float64, (count, 4, 4))
        freeze(self, "orthographic", np.bool_, (count,))
        freeze(self, "clip", np.float64, (count, 2))


@dataclass(frozen=True, eq=False)
class ObjectTrack:
    """The transform of any object of the scene, empties and lights included.

    Attributes:
        name: the object's name.
        kind: Blender's object type, such as "EMPTY" or "LIGHT".
        matrix_world: [T, 4, 4] object to world, metres.
    """

    name: str
    kind: str
    matrix_world: Float64

    def __post_init__(self) -> None:
        freeze(self, "matrix_world", np.float64, (None, 4, 4))
