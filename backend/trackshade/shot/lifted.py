# SPDX-License-Identifier: GPL-3.0-or-later
"""Lifted scenes: a photo or a video as 3D meshes or tracked points, which the add-on builds as Blender objects.

The backend writes a lifted scene to a file and the add-on reads it; the file has the form of a shot's file. The camera
is the one that took the picture. Every mesh is textured by projecting the picture through the camera of its frame
`picture_frame`, so that this camera shows the picture unchanged.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from trackshade.core.errors import ShotError, UsageError
from trackshade.shot.arrays import first_bad_sample, freeze
from trackshade.shot.file import read_file, write_file
from trackshade.shot.parts import Float32, Float64

KIND = "lifted"
MeshKind = Literal["ground", "wall", "ceiling", "sky", "background", "object", "points"]
MESH_KINDS = ("ground", "wall", "ceiling", "sky", "background", "object", "points")
Point = tuple[float, float]
Rectangle = tuple[float, float, float, float]
_WHOLE = "Give a perspective as lifting prints it."


@dataclass(frozen=True)
class Perspective:
    """How a picture's camera stands in the scene, and how certain that is; the handles that a user can move.

    Points are in pixels of the picture, from its top left corner.

    Attributes:
        horizon: the points where the horizon meets the left and the right border; they may lie outside the picture.
        vanishing_point: where lines that lead away from the camera meet.
        rectangle: left, top, right and bottom of the back wall; None where there is none, as in a landscape.
        focal: focal length in pixels.
        focal_error: standard deviation of the focal length's natural logarithm; 0 if the focal length was given.
        indoors: whether side walls and a ceiling are built.
        horizon_sure: whether the horizon was found with good support, or given.
        focal_sure: whether the focal length was found with good support, or given.
    """

    horizon: tuple[Point, Point]
    vanishing_point: Point
    rectangle: Rectangle | None
    focal: float
    focal_error: float = 0.0
    indoors: bool = False
    horizon_sure: bool = True
    focal_sure: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return the plain values."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Perspective:
        """Return the perspective of plain values. Raise UsageError, which names the bad value."""
        try:
            left, right = ((float(x), float(y)) for x, y in data["horizon"])
            x, y = (float(value) for value in data["vanishing_point"])
            rectangle = data.get("rectangle")
            values = Perspective(
                (left, right),
                (x, y),
                None if rectangle is None else _four(rectangle),
                float(data["focal"]),
                float(data.get("focal_error", 0.0)),
                **{key: bool(data[key]) for key in ("indoors", "horizon_sure", "focal_sure") if key in data},
            )
        except KeyError as error:
            raise UsageError("bad-perspective", f"The perspective has no {error}.", _WHOLE) from error
        except (TypeError, ValueError) as error:
            raise UsageError("bad-perspective", f"The perspective is not valid: {error}.", _WHOLE) from error
        numbers = (*left, *right, x, y, *(values.rectangle or ()), values.focal, values.focal_error)
        if not all(math.isfinite(number) for number in numbers) or values.focal <= 0:
            raise UsageError("bad-perspective", "The perspective's points must be finite and its focal length above 0.")
        return values


@dataclass(frozen=True, eq=False)
class LiftedMesh:
    """A mesh or a set of points of a lifted scene.

    Attributes:
        name: name of the Blender object.
        kind: what it stands for: one of `MESH_KINDS`.
        positions: [T or 1, V, 3] world positions, metres; T is the scene's number of frames.
        triangles: [F, 3] indices of vertices, counter-clockwise seen from the front; empty for points.
        visible: [T or 1, V] whether a tracked point is seen; empty [0, V] where all are always seen.
        pivot: [3] world position that the object is moved and turned about: where it touches the ground, or its center.
        one_sided: whether it is invisible from behind, as walls that the camera may leave are.
        added: number of vertices, the last ones, that are no tracked points and continue the surface.
    """

    name: str
    kind: MeshKind
    positions: Float32
    triangles: np.ndarray
    visible: np.ndarray
    pivot: Float64
    one_sided: bool = False
    added: int = 0

    def __post_init__(self) -> None:
        freeze(self, "positions", np.float32, (None, None, 3))
        freeze(self, "triangles", np.int32, (None, 3))
        freeze(self, "visible", np.bool_, (None, self.positions.shape[1]))
        freeze(self, "pivot", np.float64, (3,))
        vertices = self.positions.shape[1]
        if self.kind not in MESH_KINDS:
            raise ShotError("bad-kind", f"'{self.name}' has the unknown kind {self.kind!r}.")
        if self.triangles.size and (self.triangles.min() < 0 or self.triangles.max() >= vertices):
            raise ShotError("bad-index", f"A triangle of '{self.name}' names a vertex that is not there.")
        if not 0 <= self.added <= vertices:
            raise ShotError("bad-index", f"'{self.name}' has {vertices} vertices, of which {self.added} are added.")
        if first_bad_sample(self.positions) is not None or not np.isfinite(self.pivot).all():
            raise ShotError("not-finite", f"'{self.name}' has positions that are not finite.")


@dataclass(frozen=True, eq=False)
class LiftedScene:
    """A photo or a video as a scene.

    Attributes:
        picture: absolute path of the photo or the video.
        size: (width, height) of the picture as it is shown, that is, after its orientation tag, pixels.
        fps: frames per second; 0 for a photo.
        intrinsics: [3, 3] of the camera, pixels.
        world_to_camera: [T, 4, 4] camera of each frame, x right, y down, z forward.
        meshes: what the scene consists of.
        perspective: how it was found; None where depth was given or the camera was solved.
        picture_frame: index of the frame whose picture the meshes show.
        notes: plain values for people and programs: "source" of the depth, "warnings", measures.
    """

    picture: str
    size: tuple[int, int]
    fps: float
    intrinsics: Float64
    world_to_camera: Float64
    meshes: tuple[LiftedMesh, ...]
    perspective: Perspective | None = None
    picture_frame: int = 0
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        freeze(self, "intrinsics", np.float64, (3, 3))
        freeze(self, "world_to_camera", np.float64, (None, 4, 4))
        count = len(self.world_to_camera)
        if not np.isfinite(self.intrinsics).all() or not np.isfinite(self.world_to_camera).all():
            raise ShotError("not-finite", "The lifted scene's camera is not finite.")
        if not 0 <= self.picture_frame < count:
            raise ShotError("bad-index", f"The lifted scene has {count} frames and names frame {self.picture_frame}.")
        for mesh in self.meshes:
            if len(mesh.positions) not in (1, count) or len(mesh.visible) not in (0, 1, count):
                raise ShotError("bad-shape", f"'{mesh.name}' has another number of frames than its scene ({count}).")

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about what could not be found or is doubtful."""
        return tuple(self.notes.get("warnings", ()))

    def save(self, path: str | os.PathLike[str], force: bool = False) -> Path:
        """Write the scene to a file, whole or not at all. Raise OutputError."""
        arrays: list[np.ndarray] = []

        def put(array: np.ndarray) -> int:
            arrays.append(array.view(np.uint8) if array.dtype == np.bool_ else array)
            return len(arrays) - 1

        header: dict[str, Any] = {
            "version": 1,
            "kind": KIND,
            "picture": self.picture,
            "size": list(self.size),
            "fps": float(self.fps),
            "intrinsics": put(self.intrinsics),
            "world_to_camera": put(self.world_to_camera),
            "picture_frame": self.picture_frame,
            "perspective": None if self.perspective is None else self.perspective.to_dict(),
            "notes": dict(self.notes),
            "meshes": [
                {
                    "name": mesh.name,
                    "kind": mesh.kind,
                    "one_sided": mesh.one_sided,
                    "added": mesh.added,
                    **{key: put(getattr(mesh, key)) for key in ("positions", "triangles", "visible", "pivot")},
                }
                for mesh in self.meshes
            ],
        }
        header["arrays"] = [{"dtype": array.dtype.str, "shape": list(array.shape)} for array in arrays]
        return write_file(Path(path), header, arrays, force)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> LiftedScene:
        """Read a scene's file.

        Raises:
            ShotError: the file is missing, damaged, not a lifted scene, or written by a newer version.
        """
        header, arrays = read_file(Path(path))
        if header.get("kind") != KIND:
            raise ShotError("not-lifted", f"{path} is a shot, not a lifted scene.", "Make one with: trackshade lift")
        try:
            perspective = header["perspective"]
            return LiftedScene(
                picture=str(header["picture"]),
                size=(int(header["size"][0]), int(header["size"][1])),
                fps=float(header["fps"]),
                intrinsics=arrays[header["intrinsics"]],
                world_to_camera=arrays[header["world_to_camera"]],
                picture_frame=int(header["picture_frame"]),
                perspective=None if perspective is None else Perspective.from_dict(perspective),
                notes=dict(header["notes"]),
                meshes=tuple(
                    LiftedMesh(
                        name=str(item["name"]),
                        kind=item["kind"],
                        one_sided=bool(item["one_sided"]),
                        added=int(item.get("added", 0)),
                        positions=arrays[item["positions"]],
                        triangles=arrays[item["triangles"]],
                        visible=arrays[item["visible"]].view(np.bool_),
                        pivot=arrays[item["pivot"]],
                    )
                    for item in header["meshes"]
                ),
            )
        except (KeyError, IndexError, TypeError, ValueError, UsageError) as error:
            raise ShotError("damaged-shot", f"{path} is damaged: {error!r}.", "Lift the picture again.") from error


def _four(values: Any) -> Rectangle:
    left, top, right, bottom = (float(value) for value in values)
    return left, top, right, bottom
