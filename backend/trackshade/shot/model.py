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


@dataclass(frozen=True, eq=False)
class Geometry:
    """A triangle mesh whose vertices keep their identity over the shot.

    Attributes:
        positions: [T or 1, V, 3] float32, object space, metres.
        triangles: [F, 3] int32, vertex indices.
        uv: [F, 3, 2] float32, texture coordinates of the triangles' corners, or None.
    """

    positions: Float32
    triangles: NDArray[np.int32]
    uv: Float32 | None = None

    def __post_init__(self) -> None:
        check.freeze(self, "positions", np.float32, (None, None, 3))
        check.freeze(self, "triangles", np.int32, (None, 3))
        if self.uv is not None:
            check.freeze(self, "uv", np.float32, (len(self.triangles), 3, 2))

    @property
    def deforms(self) -> bool:
        return len(self.positions) > 1

    def at(self, t: int) -> Float32:
        """[V, 3] object-space positions of sample `t`."""
        return self.positions[t if self.deforms else 0]


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
    """

    name: str
    geometry: int
    matrix_world: Float64
    visible: Bool
    holdout: bool = False
    pass_index: int = 0

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
