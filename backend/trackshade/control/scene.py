# SPDX-License-Identifier: GPL-3.0-or-later
"""Drawing the meshes of a shot: one sample into buffers, with memory for one mesh at a time."""

from __future__ import annotations

import numpy as np

from trackshade.control.colours import MeshRule, inverse_distance, inverse_range, paint_places
from trackshade.control.raster import Buffers, draw, group_pixels, to_screen
from trackshade.shot import Shot


class ShotRaster:
    """Draws samples of one shot, one after the other. Every thread needs its own."""

    def __init__(self, shot: Shot) -> None:
        self.shot = shot
        self.buffers = Buffers.empty(shot.size)
        largest = max((len(g.positions[0]) for g in shot.geometries), default=0)
        self._scratch = np.empty((largest, 4), np.float64)

    def vertices(self, mesh: int, t: int) -> np.ndarray:
        """Screen vertices `[V, 4]` of a mesh at sample `t`; good until the next call."""
        track, camera = self.shot.meshes[mesh], self.shot.camera
        positions = self.shot.geometries[track.geometry].at(t)
        return to_screen(
            positions,
            camera.world_to_camera[t] @ track.matrix_world[t],
            camera.intrinsics[t],
            bool(camera.orthographic[t]),
            out=self._scratch[: len(positions)],
        )

    def draw(self, t: int) -> Buffers:
        """What the camera sees at sample `t`; labels are indices of `Shot.meshes`. Good until the next
        call.
        """
        near, far = (float(c) for c in self.shot.camera.clip[t])
        self.buffers.clear()
        for mesh, track in enumerate(self.shot.meshes):
            if track.visible[t]:
                triangles = self.shot.geometries[track.geometry].triangles
                draw(self.buffers, self.vertices(mesh, t), triangles, mesh, near, far)
        return self.buffers

    def paint(self, t: int, rule: MeshRule, out: np.ndarray) -> None:
        """Colour what `draw(t)` drew by the mesh rule into `out` `[H, W, 3]` u8; holdouts stay as they
        are.
        """
        pixels, starts = group_pixels(self.buffers, len(self.shot.meshes))
        for mesh in np.flatnonzero(np.diff(starts)):
            track = self.shot.meshes[mesh]
            if track.holdout:
                continue
            geometry = self.shot.geometries[track.geometry]
            seen = pixels[starts[mesh] : starts[mesh + 1]]
            vertices = self.vertices(mesh, t)
            first = geometry.at(0)
            paint_places(self.buffers, seen, vertices, geometry.triangles, first, rule, track.matrix_world[0], out)


def mesh_rule(shot: Shot) -> MeshRule:
    """The mesh rule of a shot. Its range of distances is taken over all vertices of the meshes that are drawn
    in colour in some sample."""
    camera = shot.camera
    inverse = [np.zeros(0, np.float32)]
    for track in shot.meshes:
        if not track.holdout and track.visible.any():
            m = camera.world_to_camera[0] @ track.matrix_world[0]
            positions = shot.geometries[track.geometry].at(0)
            inverse.append(inverse_distance(positions @ m[:3, :3].T + m[:3, 3]).astype(np.float32))
    return MeshRule(
        np.array(camera.world_to_camera[0]),
        np.array(camera.intrinsics[0]),
        bool(camera.orthographic[0]),
        shot.size,
        inverse_range(np.concatenate(inverse)),
    )
