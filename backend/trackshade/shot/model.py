# SPDX-License-Identifier: GPL-3.0-or-later
"""The data model of a shot: frozen dataclasses over read-only arrays.

A geometry that does not deform is stored once (leading dimension 1) and instances share it. World positions are
computed where they are used, never stored.
"""

from __future__ import annotations

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
    """A triangle mesh whose vertices keep their identity over the shot.

    Attributes:
        positions: [T or 1, V, 3] float32, object space, metres.
        triangles: [F, 3] int32, vertex indices.
        uv: [F, 3, 2] float32, texture coordinates of the triangles' corners, or None.
        materials: [F] int32, the material slot of each triangle; None where all triangles have slot 0.
        more_uv: further texture coordinates, each like `uv`, for cut-outs that do not use `uv`.
    """

    positions: Float32
    triangles: NDArray[np.int32]
    uv: Float32 | None = None
    materials: NDArray[np.int32] | None = None
    more_uv: tuple[Float32, ...] = ()

    def __post_init__(self) -> None:
        check.freeze(self, "positions", np.float32, (None, None, 3))
        check.freeze(self, "triangles", np.int32, (None, 3))
        if self.uv is not None:
            check.freeze(self, "uv", np.float32, (len(self.triangles), 3, 2))
        if self.materials is not None:
            check.freeze(self, "materials", np.int32, (len(self.triangles),))
        check.freeze_all(self, "more_uv", np.float32, (len(self.triangles), 3, 2))

    @property
    def deforms(self) -> bool:
        return len(self.positions) > 1

    def at(self, t: int) -> Float32:
        """[V, 3] object-space positions of sample `t`."""
        return self.positions[t if self.deforms else 0]


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
        geometry: index into `Shot.geometries`.
        matrix_world: [T, 4, 4] float64, object to world.
        visible: [T] bool, seen by the camera's render.
        holdout: hides what is behind it and is itself black.
        pass_index: the object's pass index.
        surfaces: index into `Shot.surfaces`; None where both sides of all triangles are drawn in every sample.
    """

    name: str
    geometry: int
    matrix_world: Float64
    visible: Bool
    holdout: bool = False
    pass_index: int = 0
    surfaces: int | None = None

    def __post_init__(self) -> None:
        check.freeze(self, "matrix_world", np.float64, (None, 4, 4))
        check.freeze(self, "visible", np.bool_, (len(self.matrix_world),))


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
        frames: [T] float64, scene frame numbers, ascending; sub-frames allowed.
        fps: rate at which the samples play.
        size: (width, height) of the image that the intrinsics belong to, pixels.
        source: where it came from: plain JSON values, such as file, scene, frame map, size fit, warnings.

    Raises:
        ShotError: when the parts do not fit together. Values are checked by `check_values`.
    """

    frames: Float64
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
        check.freeze(self, "frames", np.float64, (None,))
        check.check_structure(self)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, shared ones once."""
        from trackshade.shot.encoding import encode

        return sum(array.nbytes for array in encode(self)[1])

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self.source.get("warnings", ()))

    def world_positions(self, mesh: int, t: int) -> Float32:
        """[V, 3] float32 world positions, metres, of mesh `mesh` at sample `t`."""
        track = self.meshes[mesh]
        matrix = track.matrix_world[t]
        local = self.geometries[track.geometry].at(t)
        return (local @ matrix[:3, :3].T + matrix[:3, 3]).astype(np.float32)

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
