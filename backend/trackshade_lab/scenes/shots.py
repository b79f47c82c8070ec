# SPDX-License-Identifier: GPL-3.0-or-later
"""A procedural scene as a shot, the same thing that is captured from Blender, so that every control signal can be made
of it.
"""

from __future__ import annotations

import numpy as np

from trackshade.shot import CameraTrack, Geometry, MeshTrack, Shot
from trackshade_lab.scenes.scene import FPS, Scene

NEAR, FAR = 0.02, 1e4  # metres, of procedural cameras


def scene_shot(scene: Scene, size: tuple[int, int], fps: float = FPS) -> Shot:
    """The shot of a scene that was made for pictures of `size` (w, h), playing at `fps`.

    One mesh a part, in world space, with the identity as its matrix; `pass_index` is the number of its body (0 for
    grounds and walls). Meshes are in the order that clips are drawn in.
    """
    frames = len(scene.world)
    identity = np.broadcast_to(np.eye(4), (frames, 4, 4))
    visible = np.ones(frames, np.bool_)
    geometries, meshes = [], []
    for part, body in enumerate(scene.body):
        triangles = scene.triangles[scene.part == part]
        first, end = int(triangles.min()), int(triangles.max()) + 1  # a part's vertices lie together
        world = scene.world[:, first:end]
        if np.array_equal(world, np.broadcast_to(world[:1], world.shape)):
            world = world[:1]
        geometries.append(Geometry(np.ascontiguousarray(world), (triangles - first).astype(np.int32)))
        name = f"stage {part}" if body == 0 else f"body {body} part {part}"
        meshes.append(MeshTrack(name, part, identity, visible, pass_index=int(body)))
    camera = CameraTrack(
        "camera",
        ("camera",) * frames,
        scene.intrinsics,
        scene.world_to_camera,
        np.zeros(frames, np.bool_),
        np.tile([NEAR, FAR], (frames, 1)),
    )
    source = {"made": "procedural", "kind": scene.kind, "caption": scene.caption}
    return Shot(
        np.arange(1.0, frames + 1.0), fps, (size[0], size[1]), camera, tuple(geometries), tuple(meshes), source=source
    )
