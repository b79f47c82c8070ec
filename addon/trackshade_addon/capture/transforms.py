# SPDX-License-Identifier: GPL-3.0-or-later
"""Transforms over the samples of a capture: of a single instance, and of every object of the view layer."""

from __future__ import annotations

from collections.abc import Mapping

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from trackshade.shot import ObjectTrack

from .visibility import is_plate


class TransformTrack:
    """The transforms of one instance, filled sample by sample.

    Args:
        total: number of samples.

    Attributes:
        values: [T, 4, 4] object to world.
        latest: index of the latest sample that was set; -1 for none.
    """

    __slots__ = ("_flat", "latest", "values")

    def __init__(self, total: int) -> None:
        self.values: NDArray[np.float64] = np.empty((total, 4, 4), np.float64)
        self._flat = self.values.reshape(total, 16)
        self.latest = -1

    def set(self, t: int, matrix: Matrix) -> None:
        """Sets sample `t`. Samples in between repeat the one before; samples before the first repeat the first."""
        # Slicing the rows is several times faster than having numpy convert the nested sequences.
        entries = matrix[0][:] + matrix[1][:] + matrix[2][:] + matrix[3][:]
        if self.latest < t - 1:
            self._flat[self.latest + 1 : t] = self._flat[self.latest] if self.latest >= 0 else entries
        self._flat[t] = entries
        self.latest = t

    def finish(self) -> NDArray[np.float64]:
        """Repeats the latest transform to the end, and returns all."""
        self._flat[self.latest + 1 :] = self._flat[self.latest]
        return self.values


class ObjectTransforms:
    """The transforms of all objects of a view layer, including lights and empties, without plates of Trackshade."""

    def __init__(self, view_layer: bpy.types.ViewLayer, total: int) -> None:
        self._view_layer = view_layer
        self._total = total
        self._tracks: dict[int, tuple[str, str, TransformTrack | None]] = {}

    def add_sample(self, t: int, depsgraph: bpy.types.Depsgraph, surfaces: Mapping[int, TransformTrack]) -> None:
        """Reads sample `t`. `surfaces` has the tracks of objects with a surface, which are not read again."""
        for obj in self._view_layer.objects:
            uid = obj.session_uid
            if t == 0 and obj.evaluated_get(depsgraph).is_evaluated and not is_plate(obj):
                self._tracks[uid] = obj.name, obj.type, None
            track = self._tracks.get(uid)
            if track is None:
                continue
            shared = surfaces.get(uid)
            name, kind, transforms = track
            if transforms is None and shared is not None and shared.latest == t:
                continue
            if transforms is None:
                transforms = TransformTrack(self._total)
                if t > 0 and shared is not None:
                    transforms.values[:t], transforms.latest = shared.values[:t], t - 1
                self._tracks[uid] = name, kind, transforms
            transforms.set(t, obj.evaluated_get(depsgraph).matrix_world)

    def tracks(self, surfaces: Mapping[int, TransformTrack]) -> tuple[ObjectTrack, ...]:
        """The tracks for the shot. `surfaces` as in `add_sample`."""
        return tuple(
            ObjectTrack(name, kind, (surfaces[uid] if transforms is None else transforms).finish())
            for uid, (name, kind, transforms) in self._tracks.items()
        )
