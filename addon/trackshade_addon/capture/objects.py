# SPDX-License-Identifier: GPL-3.0-or-later
"""Transforms over the pass: matrices that grow by a row a frame, and those of every object of the view layer."""

from __future__ import annotations

from collections.abc import Mapping

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from trackshade.shot import ObjectTrack

from .visibility import is_plate


class Matrices:
    """[T, 4, 4] float64 object to world, of which the samples seen so far are known."""

    __slots__ = ("_flat", "latest", "values")

    def __init__(self, total: int) -> None:
        self.values: NDArray[np.float64] = np.empty((total, 4, 4), np.float64)
        self._flat = self.values.reshape(total, 16)
        self.latest = -1  # sample that was put last

    def put(self, t: int, matrix: Matrix) -> None:
        """Takes sample `t`; between samples a thing stays where it was, and before the first, where it appears."""
        # Slices of the rows are several times faster than numpy's own way through the nested sequences.
        entries = matrix[0][:] + matrix[1][:] + matrix[2][:] + matrix[3][:]
        if self.latest < t - 1:
            self._flat[self.latest + 1 : t] = self._flat[self.latest] if self.latest >= 0 else entries
        self._flat[t] = entries
        self.latest = t

    def complete(self) -> NDArray[np.float64]:
        """The whole track; the latest matrix holds to the end."""
        self._flat[self.latest + 1 :] = self._flat[self.latest]
        return self.values


class Objects:
    """The transforms of all objects of a view layer, lights and empties included; plates of our own are left out."""

    def __init__(self, view_layer: bpy.types.ViewLayer, total: int) -> None:
        self._view_layer = view_layer
        self._total = total
        self._tracks: dict[int, tuple[str, str, Matrices | None]] = {}

    def put(self, t: int, depsgraph: bpy.types.Depsgraph, drawn: Mapping[int, Matrices]) -> None:
        """Takes sample `t`.

        Args:
            drawn: by object, the matrices of those that were met as surfaces; they are shared, not read again.
        """
        for obj in self._view_layer.objects:
            uid = obj.session_uid
            if t == 0 and obj.evaluated_get(depsgraph).is_evaluated and not is_plate(obj):
                self._tracks[uid] = obj.name, obj.type, None
            track = self._tracks.get(uid)
            if track is None:
                continue
            shared = drawn.get(uid)
            name, kind, own = track
            if own is None and shared is not None and shared.latest == t:
                continue
            if own is None:
                own = Matrices(self._total)
                if t > 0 and shared is not None:
                    own.values[:t], own.latest = shared.values[:t], t - 1
                self._tracks[uid] = name, kind, own
            own.put(t, obj.evaluated_get(depsgraph).matrix_world)

    def tracks(self, drawn: Mapping[int, Matrices]) -> tuple[ObjectTrack, ...]:
        return tuple(
            ObjectTrack(name, kind, (drawn[uid] if own is None else own).complete())
            for uid, (name, kind, own) in self._tracks.items()
        )
