# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws samples of a shot into buffers, one mesh at a time."""

from __future__ import annotations

import numpy as np

from trackshade.control.raster import BLACK, INVISIBLE, Buffers, PaintMode, draw, to_screen
from trackshade.control.surfaces import ShotSlots
from trackshade.shot import Shot
from trackshade.shot.track_colors import MeshRule


class ShotRaster:
    """Draws samples of one shot, one after the other. Every thread needs its own instance.

    Attributes:
        shot: the shot.
        buffers: what `draw` writes to unless it is given others.
    """

    def __init__(self, shot: Shot) -> None:
        self.shot = shot
        self.buffers = Buffers.empty(shot.size)
        largest = max((len(g.positions[0]) for g in shot.geometries), default=0)
        self._slots = ShotSlots(shot)
        self._scratch = np.empty((largest, 4), np.float64)

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
        near, far = (float(c) for c in self.shot.camera.clip[t])
        buffers = into or self.buffers
        buffers.clear()
        for mesh, track in enumerate(self.shot.meshes):
            if track.visible[t]:
                geometry = self.shot.geometry_of(mesh, t)
                if rule is None or out is None:
                    paint = PaintMode(INVISIBLE, geometry.first)
                elif track.holdout:
                    paint = PaintMode(BLACK, geometry.first, out=out)
                else:
                    paint = PaintMode.by_rule(rule, geometry.first, track.matrix_world[0], out)
                slots = self._slots.of(mesh, t)
                is_mirrored = slots is not None and bool(np.linalg.det(track.matrix_world[t, :3, :3]) < 0)
                draw(buffers, self.vertices(mesh, t), geometry.triangles, mesh, near, far, paint, slots, is_mirrored)
        return buffers
