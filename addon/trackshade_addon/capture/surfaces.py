# SPDX-License-Identifier: GPL-3.0-or-later
"""The appearance of material slots over the samples, as the surfaces of a shot."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from trackshade.shot import Surfaces

from .geometry_builder import GeometryBuilder
from .materials import OPAQUE, SlotAppearance, SlotAppearances
from .warnings import WarningKind, Warnings

CHANGED_CUTOUT = WarningKind(
    "The image that cuts out {names}, or its place, changes over time: the shot keeps the first.",
    "The images that cut out {names}, or their places, change over time: the shot keeps the first.",
)
NO_COORDINATES = WarningKind(
    "{names} is cut out by an image whose UV map it does not have: it is tracked as opaque.",
    "{names} are cut out by images whose UV maps they do not have: they are tracked as opaque.",
)


class SurfaceTable:
    """Collects the surfaces of a shot; meshes that look the same in every sample share one.

    Args:
        total: number of samples.
        warnings: receives warnings.

    Attributes:
        surfaces: the surfaces by index.
    """

    def __init__(self, total: int, warnings: Warnings) -> None:
        self.surfaces: list[Surfaces] = []
        self._total, self._warnings = total, warnings
        self._indices: dict[tuple[int, bytes], int] = {}

    def add(
        self,
        name: str,
        appearances: Mapping[int, SlotAppearances],
        visible: np.ndarray,  # [T] bool
        geometry: GeometryBuilder | None,
    ) -> int | None:
        """Adds the surfaces of a mesh.

        Args:
            name: the object's name.
            appearances: by sample, the appearance of each slot, unless all of the mesh is opaque.
            visible: whether the mesh is visible in each sample.
            geometry: its geometry.

        Returns:
            The index of its surfaces; None if all of it is opaque.
        """
        if not appearances or geometry is None:
            return None
        count = max(map(len, appearances.values()))
        sides = np.ones((2, self._total, count), np.bool_)  # front and back
        for t in range(self._total):
            if visible[t]:
                slots = _extend(appearances.get(t, ()), count)
                sides[:, t] = [slot.front for slot in slots], [slot.back for slot in slots]
            elif t:
                sides[:, t] = sides[:, t - 1]
        by_sample = [_extend(appearances.get(int(t), ()), count) for t in np.flatnonzero(visible)]
        found = [self._cutout(name, list(samples), geometry) for samples in zip(*by_sample, strict=True)]
        cutouts, layers = np.array(found or [(-1, 0)] * count, np.int32).T.copy()
        key = count, b"".join(part.tobytes() for part in (sides, cutouts, layers))
        if key not in self._indices:
            self._indices[key] = len(self.surfaces)
            front, back = sides[:, :1] if (sides == sides[:, :1]).all() else sides
            self.surfaces.append(Surfaces(front.copy(), back.copy(), cutouts, layers))
        return self._indices[key]

    def _cutout(self, name: str, samples: list[SlotAppearance], geometry: GeometryBuilder) -> tuple[int, int]:
        """The cutout of a slot, -1 for none, and the index of its UV map."""
        shown = [sample for sample in samples if sample.is_shown]
        first = next((sample for sample in shown if sample.cutout is not None), None)
        if first is None or first.cutout is None:
            return -1, 0
        changes = any((sample.cutout, sample.uv) != (first.cutout, first.uv) for sample in shown)
        if geometry.uv_changes or changes:
            self._warnings.add_name(CHANGED_CUTOUT, name)
        if first.uv in (None, geometry.uv_name) and geometry.has_uv:
            return first.cutout, 0
        if first.uv in geometry.uv_maps:
            return first.cutout, 1 + geometry.uv_maps.index(first.uv)
        self._warnings.add_name(NO_COORDINATES, name)
        return -1, 0


def _extend(slots: SlotAppearances, count: int) -> SlotAppearances:
    """Repeats the last of the slots until there are `count`."""
    return slots + (slots[-1] if slots else OPAQUE,) * (count - len(slots))
