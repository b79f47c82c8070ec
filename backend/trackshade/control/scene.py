# SPDX-License-Identifier: GPL-3.0-or-later
"""Drawing the meshes of a shot: one sample into buffers, with memory for one mesh at a time."""

from __future__ import annotations

import numpy as np

from trackshade.control.paint_modes import BLACK, PaintMode
from trackshade.control.paint_modes import NOTHING as INVISIBLE
from trackshade.control.raster import Buffers, draw, to_screen
from trackshade.control.surfaces import ShotSlots
from trackshade.shot import Shot
from trackshade.shot.track_colors import MeshRule


class ShotRaster:
    """Draws samples of one shot, one after the other. Every thread needs its own."""

    def __init__(self, shot: Shot) -> None:
        self.shot = shot
        self.buffers = Buffers.empty(shot.size)
        largest = max((len(g.positions[0]) for g in shot.geometries), default=0)
        self._slots = ShotSlots(shot)
        self._scratch = np.empty((largest, 4), np.float64)

    def vertices(self, mesh: int, t: int, positions: np.ndarray | None = None) -> np.ndarray:
        """Screen vertices `[V, 4]` of a mesh at sample `t`, or of other points `positions` [V, 3] of its object, of
        which there are not more than the largest geometry has; good until the next call.
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
        self, t: int, rule: MeshRule | None = None, out: np.ndarray | None = None, into: Buffers | None = None
    ) -> Buffers:
        """What the camera sees at sample `t`, drawn `into` buffers or its own, which are good until the next call;
        labels are indices of `Shot.meshes`.

        With a `rule`, `out` `[H, W, 3]` u8 is painted by it, holdouts black; what nothing covers stays as it is.
        """
        near, far = (float(c) for c in self.shot.camera.clip[t])
        buffers = into or self.buffers
        buffers.clear()
        for mesh, track in enumerate(self.shot.meshes):
            if track.visible[t]:
                geometry = self.shot.geometry_of(mesh, t)
                first = geometry.first
                if rule is None or out is None:
                    ink = PaintMode(INVISIBLE, first)
                elif track.holdout:
                    ink = PaintMode(BLACK, first, out=out)
                else:
                    ink = PaintMode.by(rule, first, track.matrix_world[0], out)
                slots = self._slots.of(mesh, t)
                mirrored = slots is not None and bool(np.linalg.det(track.matrix_world[t, :3, :3]) < 0)
                draw(buffers, self.vertices(mesh, t), geometry.triangles, mesh, near, far, ink, slots, mirrored)
        return buffers
