# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws samples of a shot into buffers, all instances of a geometry at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from trackshade.control.raster import (
    BLACK,
    COLORED,
    COLORED_ORTHOGRAPHIC,
    INVISIBLE,
    Buffers,
    Instances,
    draw_instances,
    to_screen,
)
from trackshade.control.surfaces import ShotSlots, Slots
from trackshade.shot import Geometry, Shot
from trackshade.shot.track_colors import MeshRule

Each = Callable[[Callable[[int], Any], range], Iterator[Any]]
"""Yields the results of a function for all items of a range, in any number of threads."""

BANDS = 4  # of an image, that threads draw


class _Group(NamedTuple):
    """Meshes with the same geometry and surfaces."""

    geometry: Geometry
    instances: Instances
    slots: Slots | None


class ShotRaster:
    """Draws samples of one shot, one after the other. Every thread needs its own instance.

    Args:
        shot: the shot.
        each: what draws bands of an image in several threads, which are not to be those that call `draw`; one thread
            draws all of it if None. The results are the same.

    Attributes:
        shot: the shot.
        buffers: what `draw` writes to unless it is given others.
    """

    def __init__(self, shot: Shot, each: Each | None = None) -> None:
        self.shot = shot
        self.buffers = Buffers.empty(shot.size)
        self._each = each
        largest = max((len(g.positions[0]) for g in shot.geometries), default=0)
        self._slots = ShotSlots(shot)
        self._scratch = np.empty((largest, 4), np.float64)
        self._no_parameters = np.zeros((len(shot.meshes), 18))
        self._changing = [mesh for mesh, track in enumerate(shot.meshes) if track.changes]
        static: dict[tuple[int, int | None], list[int]] = {}
        for mesh, track in enumerate(shot.meshes):
            if not track.changes:
                static.setdefault((track.geometry, track.surfaces), []).append(mesh)
        # Of the meshes with one geometry: their indices [N], and in which samples they are visible, [N, T].
        self._static = {
            key: (np.array(meshes), np.stack([shot.meshes[mesh].visible for mesh in meshes]))
            for key, meshes in static.items()
        }
        self._rule: MeshRule | None = None
        self._parameters: dict[int, np.ndarray] = {}

    def vertices(
        self,
        mesh: int,
        t: int,
        positions: np.ndarray | None = None,  # [V, 3] object space, metres
    ) -> np.ndarray:
        """Return screen vertices [V, 4] of a mesh in sample `t`, valid until the next call.

        Args:
            mesh: index into `Shot.meshes`.
            t: the sample.
            positions: other points of the object, at most as many as the largest geometry has vertices.
        """
        track, camera = self.shot.meshes[mesh], self.shot.camera
        if positions is None:
            positions = self.shot.geometry_of(mesh, t).at(t)
        return to_screen(
            positions,
            camera.world_to_camera[t] @ track.matrix_world[t],
            camera.intrinsics[t],
            bool(camera.orthographic[t]),
            out=self._scratch[: len(positions)],
        )

    def draw(
        self,
        t: int,
        rule: MeshRule | None = None,
        out: np.ndarray | None = None,  # [H, W, 3] uint8
        into: Buffers | None = None,
    ) -> Buffers:
        """Draw what the camera sees in sample `t`.

        Args:
            t: the sample.
            rule: colors for `out`; holdouts are black, and what nothing covers stays as it is.
            out: image to paint.
            into: buffers to draw into; this object's own if None.

        Returns:
            The buffers; labels are indices into `Shot.meshes`. This object's own are valid until the next call.
        """
        buffers = into or self.buffers
        image = out if out is not None else np.zeros((0, 0, 3), np.uint8)
        groups = [self._group(meshes, t, None if out is None else rule) for meshes in self._groups(t).values()]
        height = len(buffers.depth)
        if self._each is None:
            self._draw_rows(groups, t, buffers, image, (0, height), self._scratch)
            return buffers
        edges = [height * n // BANDS for n in range(BANDS + 1)]

        def work(band: int) -> None:
            self._draw_rows(groups, t, buffers, image, (edges[band], edges[band + 1]), np.empty_like(self._scratch))

        for _ in self._each(work, range(BANDS)):
            pass
        return buffers

    def _draw_rows(
        self,
        groups: list[_Group],
        t: int,
        buffers: Buffers,
        image: np.ndarray,
        rows: tuple[int, int],
        scratch: np.ndarray,  # [V, 4] float64
    ) -> None:
        camera = self.shot.camera
        near, far = (float(c) for c in camera.clip[t])
        buffers.rows(*rows).clear()
        for geometry, instances, slots in groups:
            positions = geometry.at(t)
            draw_instances(
                buffers, instances, positions, geometry.triangles, camera.intrinsics[t], bool(camera.orthographic[t]),
                near, far, geometry.first, image, slots, scratch[: len(positions)], rows,
            )  # fmt: skip

    def _group(self, meshes: list[int], t: int, rule: MeshRule | None) -> _Group:
        """Return meshes that have the same geometry and surfaces in sample `t`."""
        tracks = self.shot.meshes
        # Much faster than np.stack for many meshes.
        matrices = np.concatenate([tracks[mesh].matrix_world[t] for mesh in meshes]).reshape(-1, 4, 4)
        slots = self._slots.of(meshes[0], t)
        kinds, parameters = np.full(len(meshes), INVISIBLE), self._no_parameters[: len(meshes)]
        if rule is not None:
            kinds, parameters = self._paint(meshes, rule)
        instances = Instances(
            np.array(meshes, np.int64),
            self.shot.camera.world_to_camera[t] @ matrices,
            kinds,
            parameters,
            np.zeros(len(meshes), np.bool_) if slots is None else np.linalg.det(matrices[:, :3, :3]) < 0,
        )
        return _Group(self.shot.geometries[tracks[meshes[0]].geometry_at(t)], instances, slots)

    def _groups(self, t: int) -> dict[tuple[int, int | None], list[int]]:
        """Return the meshes that are visible in sample `t`, by geometry and surfaces."""
        groups: dict[tuple[int, int | None], list[int]] = {}
        for (index, surfaces), (meshes, visible) in self._static.items():
            if visible[:, t].any():
                groups[index, surfaces] = meshes[visible[:, t]].tolist()
        for mesh in self._changing:
            track = self.shot.meshes[mesh]
            if track.visible[t]:
                groups.setdefault((track.geometry_at(t), track.surfaces), []).append(mesh)
        return groups

    def _paint(self, meshes: list[int], rule: MeshRule) -> tuple[np.ndarray, np.ndarray]:
        """Return the kinds [N] and parameters [N, 18] of paint of meshes."""
        if self._rule is not rule:
            self._rule, self._parameters = rule, {}
        for mesh in meshes:
            if mesh not in self._parameters:
                self._parameters[mesh] = rule.packed_parameters(self.shot.meshes[mesh].matrix_world[0])
        colored = COLORED_ORTHOGRAPHIC if rule.orthographic else COLORED
        kinds = np.array([BLACK if self.shot.meshes[mesh].holdout else colored for mesh in meshes])
        return kinds, np.stack([self._parameters[mesh] for mesh in meshes])
