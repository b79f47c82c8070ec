# SPDX-License-Identifier: GPL-3.0-or-later
"""The data model of a shot: frozen dataclasses over read-only arrays.

A geometry that does not deform is stored once (leading dimension 1) and instances share it. World positions are
computed where they are used, never stored.

A mesh whose vertices or faces change during the shot has one geometry for each run of samples with the same topology
(`MeshTrack.changes`). Every vertex of a later geometry knows where its surface point comes from: `Geometry.origins` is
its place in object space at its first moment, `Geometry.births` the sample of that moment. How they are found is
described in `trackshade.shot.carrying`.
"""

from __future__ import annotations

import bisect
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackshade.shot import validation as check

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

EXTENSIONS = ("REPEAT", "EXTEND", "CLIP", "MIRROR")
"""What lies outside the image of a cut-out: its repetition, its edge, nothing (0), its mirror image."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """A triangle mesh whose vertices keep their identity over the samples that it covers.

    Attributes:
        positions: [n, V, 3] float32, object space, metres, of the samples `start` to `start + n - 1`. Outside of these
            the nearest of them holds; n = 1 for a mesh that does not deform.
        triangles: [F, 3] int32, vertex indices.
        uv: [F, 3, 2] float32, texture coordinates of the triangles' corners, or None.
        materials: [F] int32, the material slot of each triangle; None where all triangles have slot 0.
        more_uv: further texture coordinates, each like `uv`, for cut-outs that do not use `uv`.
        origins: [V, 3] float32, object-space place of each vertex's surface point at its first moment; None where that
            is the first of `positions`.
        births: [V] int32, sample in which each vertex's surface point was first seen; None for `start`.
        start: sample that `positions` begin with.
    """

    positions: Float32
    triangles: NDArray[np.int32]
    uv: Float32 | None = None
    materials: NDArray[np.int32] | None = None
    more_uv: tuple[Float32, ...] = ()
    origins: Float32 | None = None
    births: NDArray[np.int32] | None = None
    start: int = 0

    def __post_init__(self) -> None:
        check.freeze(self, "positions", np.float32, (None, None, 3))
        check.freeze(self, "triangles", np.int32, (None, 3))
        if self.uv is not None:
            check.freeze(self, "uv", np.float32, (len(self.triangles), 3, 2))
        if self.materials is not None:
            check.freeze(self, "materials", np.int32, (len(self.triangles),))
        check.freeze_all(self, "more_uv", np.float32, (len(self.triangles), 3, 2))
        if self.origins is not None:
            check.freeze(self, "origins", np.float32, (self.positions.shape[1], 3))
        if self.births is not None:
            check.freeze(self, "births", np.int32, (self.positions.shape[1],))

    @property
    def deforms(self) -> bool:
        return len(self.positions) > 1

    @property
    def first(self) -> Float32:
        """[V, 3] object-space places of the vertices' surface points at their first moment."""
        return self.positions[0] if self.origins is None else self.origins

    @property
    def born(self) -> NDArray[np.int32]:
        """[V] int32, sample in which each vertex's surface point was first seen."""
        if self.births is not None:
            return self.births
        return np.full(self.positions.shape[1], self.start, np.int32)

    def at(self, t: int) -> Float32:
        """[V, 3] object-space positions of sample `t`."""
        return self.positions[self.row(t)]

    def row(self, t: int) -> int:
        """Index into `positions` of sample `t`."""
        return min(max(t - self.start, 0), len(self.positions) - 1)

    def same_points(self, other: Geometry) -> bool:
        """Whether vertex i of one is vertex i of the other: both have the same faces and the same origins."""
        return self is other or (
            self.positions.shape[1] == other.positions.shape[1]
            and check.same_array(self.triangles, other.triangles)
            and check.same_array(self.first, other.first)
        )


@dataclass(frozen=True, eq=False)
class Cutout:
    """A part of an image that decides which pixels of a surface are drawn: the alpha of a leaf, for example.

    Attributes:
        alpha: [H, W] uint8, one channel of the image; the first row is the bottom one (v = 0).
        opaque: [256] bool, whether a pixel is drawn, by the value sampled from `alpha`.
        transform: [2, 3] float64, takes texture coordinates (u, v, 1) to image coordinates, 0 to 1 across the image.
        extension: what lies outside the image, one of `EXTENSIONS`.
        smooth: whether samples are interpolated linearly, instead of taken from the nearest texel.
    """

    alpha: NDArray[np.uint8]
    opaque: Bool
    transform: Float64
    extension: str = "REPEAT"
    smooth: bool = True

    def __post_init__(self) -> None:
        check.freeze(self, "alpha", np.uint8, (None, None))
        check.freeze(self, "opaque", np.bool_, (256,))
        check.freeze(self, "transform", np.float64, (2, 3))
        check.check_cutout(self)


@dataclass(frozen=True, eq=False)
class Surfaces:
    """How the camera's render shows the material slots of a mesh. Meshes with the same materials share one.

    The last slot stands for all slots of a geometry beyond it.

    Attributes:
        front: [T or 1, S] bool, whether the triangles of each slot are drawn where they are seen from their front.
        back: [T or 1, S] bool, the same where they are seen from behind.
        cutouts: [S] int32, index into `Shot.cutouts`, or -1.
        uv_layers: [S] int32, texture coordinates of the cut-out: 0 for `Geometry.uv`, n for `Geometry.more_uv[n - 1]`.
    """

    front: Bool
    back: Bool
    cutouts: NDArray[np.int32]
    uv_layers: NDArray[np.int32]

    def __post_init__(self) -> None:
        slots = len(self.cutouts)
        check.freeze(self, "front", np.bool_, (None, slots))
        check.freeze(self, "back", np.bool_, (len(self.front), slots))
        check.freeze(self, "cutouts", np.int32, (None,))
        check.freeze(self, "uv_layers", np.int32, (slots,))

    def at(self, t: int) -> tuple[Bool, Bool]:
        """[S] `front` and [S] `back` of sample `t`."""
        row = t if len(self.front) > 1 else 0
        return self.front[row], self.back[row]


@dataclass(frozen=True, eq=False)
class MeshTrack:
    """One visible thing: a geometry under a moving matrix.

    Attributes:
        name: the object's name; instances carry their instancer's name too.
        geometry: index into `Shot.geometries`: the first geometry of the mesh.
        matrix_world: [T, 4, 4] float64, object to world.
        visible: [T] bool, seen by the camera's render.
        holdout: hides what is behind it and is itself black.
        pass_index: the object's pass index.
        surfaces: index into `Shot.surfaces`; None where both sides of all triangles are drawn in every sample.
        changes: (sample, index into `Shot.geometries`) where the topology changes: from which sample on the mesh has
            which geometry; ascending.
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
        check.freeze(self, "matrix_world", np.float64, (None, 4, 4))
        check.freeze(self, "visible", np.bool_, (len(self.matrix_world),))

    def geometry_at(self, t: int) -> int:
        """Index into `Shot.geometries` of the geometry that the mesh has in sample `t`."""
        found = bisect.bisect_right(self.changes, t, key=lambda change: change[0])
        return self.changes[found - 1][1] if found else self.geometry

    @property
    def geometries(self) -> tuple[int, ...]:
        """Indices of all geometries that the mesh has during the shot, each once, in the order of time."""
        return tuple(dict.fromkeys((self.geometry, *(index for _, index in self.changes))))


@dataclass(frozen=True, eq=False)
class CameraTrack:
    """The camera that each sample is seen through.

    Attributes:
        name: the first sample's camera.
        sources: [T] name of the camera behind each sample (markers may switch it).
        intrinsics: [T, 3, 3] float64, pixels of `Shot.size`; pixels per metre where orthographic.
        world_to_camera: [T, 4, 4] float64, OpenCV axes (x right, y down, z forward).
        orthographic: [T] bool.
        clip: [T, 2] float64, near and far along the view axis, metres.
    """

    name: str
    sources: tuple[str, ...]
    intrinsics: Float64
    world_to_camera: Float64
    orthographic: Bool
    clip: Float64

    def __post_init__(self) -> None:
        count = len(self.sources)
        check.freeze(self, "intrinsics", np.float64, (count, 3, 3))
        check.freeze(self, "world_to_camera", np.float64, (count, 4, 4))
        check.freeze(self, "orthographic", np.bool_, (count,))
        check.freeze(self, "clip", np.float64, (count, 2))


@dataclass(frozen=True, eq=False)
class ObjectTrack:
    """The transform of any object of the scene, empties and lights included.

    Attributes:
        kind: Blender's object type, such as "EMPTY" or "LIGHT".
        matrix_world: [T, 4, 4] float64, object to world.
    """

    name: str
    kind: str
    matrix_world: Float64

    def __post_init__(self) -> None:
        check.freeze(self, "matrix_world", np.float64, (None, 4, 4))


@dataclass(frozen=True, eq=False)
class Shot:
    """An animated scene, seen through one camera over T samples.

    Attributes:
        frame_numbers: [T] float64, scene frame numbers, ascending; sub-frames allowed.
        fps: rate at which the samples play.
        size: (width, height) of the image that the intrinsics belong to, pixels.
        source: where it came from: plain JSON values, such as file, scene, frame map, size fit, warnings.

    Raises:
        ShotError: when the parts do not fit together. Values are checked by `check_values`.
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

    def __post_init__(self) -> None:
        check.freeze(self, "frame_numbers", np.float64, (None,))
        check.check_structure(self)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, shared ones once."""
        from trackshade.shot.encoding import encode

        return sum(array.nbytes for array in encode(self)[1])

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self.source.get("warnings", ()))

    def geometry_of(self, mesh: int, t: int) -> Geometry:
        """The geometry that mesh `mesh` has in sample `t`."""
        return self.geometries[self.meshes[mesh].geometry_at(t)]

    def world_positions(self, mesh: int, t: int) -> Float32:
        """[V, 3] float32 world positions, metres, of mesh `mesh` at sample `t`."""
        return _in_world(self.geometry_of(mesh, t).at(t), self.meshes[mesh].matrix_world[t])

    def first_places(self, mesh: int, t: int = 0) -> Float32:
        """[V, 3] float32, metres: where the vertices that mesh `mesh` has in sample `t` would have been in the first
        sample. It is what they are colored by: their origins, under the object's first matrix.
        """
        return _in_world(self.geometry_of(mesh, t).first, self.meshes[mesh].matrix_world[0])

    def check_values(self) -> None:
        """Looks at every number.

        Raises:
            ShotError: a value is not finite, or a triangle names a vertex that is not there; says which object
                and frame.
        """
        check.check_values(self)

    def save(self, path: str | os.PathLike[str], force: bool = False) -> Path:
        """Writes the shot's file, whole or not at all; see `trackshade.shot.file`."""
        from trackshade.shot.file import save

        return save(self, Path(path), force)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Shot:
        """Reads a shot's file; arrays are mapped, not read; see `trackshade.shot.file`."""
        from trackshade.shot.file import load

        return load(Path(path))


def _in_world(local: Float32, matrix: Float64) -> Float32:
    return (local @ matrix[:3, :3].T + matrix[:3, 3]).astype(np.float32)
