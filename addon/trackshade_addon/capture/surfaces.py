# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks of material slots, sample by sample, as the surfaces of a shot."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from trackshade.shot import Surfaces

from .cutouts import Cutouts
from .materials import PLAIN, Look, Looks
from .recording import Recording
from .warnings import Kind, Warnings

CHANGED_CUTOUT = Kind(
    "The image that cuts out {names}, or its place, changes over time: the shot keeps the first.",
    "The images that cut out {names}, or their places, change over time: the shot keeps the first.",
)
NO_COORDINATES = Kind(
    "{names} is cut out by an image whose UV map it does not have: it is tracked as solid.",
    "{names} are cut out by images whose UV maps they do not have: they are tracked as solid.",
)


class SurfaceTable:
    """The surfaces of a shot; meshes that look alike in every sample share one."""

    def __init__(self, total: int, cutouts: Cutouts, warnings: Warnings) -> None:
        self.surfaces: list[Surfaces] = []
        self._total, self._cutouts, self._warnings = total, cutouts, warnings
        self._known: dict[tuple[int, bytes], int] = {}

    def of(self, name: str, looks: Mapping[int, Looks], visible: np.ndarray, recording: Recording | None) -> int | None:
        """The number of a mesh's surfaces; None where all of it is solid.

        Args:
            name: the object's.
            looks: by sample, where not all of the mesh is solid.
            visible: [T] in which samples it is seen at all.
            recording: its geometry.
        """
        if not looks or recording is None:
            return None
        count = max(map(len, looks.values()))
        sides = np.ones((2, self._total, count), np.bool_)  # front and back
        for t in range(self._total):
            if visible[t]:
                found = _filled(looks.get(t, ()), count)
                sides[:, t] = [look.front for look in found], [look.back for look in found]
            elif t:
                sides[:, t] = sides[:, t - 1]
        chosen = [self._cutout(name, [_filled(looks.get(int(t), ()), count)[slot] for t in np.flatnonzero(visible)],
                               recording) for slot in range(count)]  # fmt: skip
        cutouts, layers = np.array(chosen, np.int32).T.copy()
        key = count, b"".join(part.tobytes() for part in (sides, cutouts, layers))
        if key not in self._known:
            self._known[key] = len(self.surfaces)
            front, back = sides[:, :1] if (sides == sides[:, :1]).all() else sides
            self.surfaces.append(Surfaces(front.copy(), back.copy(), cutouts, layers))
        return self._known[key]

    def _cutout(self, name: str, looks: list[Look], recording: Recording) -> tuple[int, int]:
        """The cut-out of a slot, -1 for none, and its layer of texture coordinates."""
        shown = [look for look in looks if look.shown]
        first = next((look for look in shown if look.cutout is not None), None)
        if first is None or first.cutout is None:
            return -1, 0
        moved = recording.coordinates_change
        if moved or any((look.cutout, look.uv) != (first.cutout, first.uv) for look in shown):
            self._warnings.name(CHANGED_CUTOUT, name)
        if first.uv in (None, recording.uv_name) and recording.has_uv:
            return first.cutout, 0
        if first.uv in recording.layers:
            return first.cutout, 1 + recording.layers.index(first.uv)
        self._warnings.name(NO_COORDINATES, name)
        return -1, 0


def _filled(looks: Looks, count: int) -> Looks:
    """Looks of `count` slots; the last stands for those beyond it."""
    return looks + (looks[-1] if looks else PLAIN,) * (count - len(looks))
