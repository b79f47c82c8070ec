# SPDX-License-Identifier: GPL-3.0-or-later
"""The description of a generated scene: what there is and how it moves, independent of who renders it.

Two renderers draw it: the numpy renderer of `clip`, and Blender, which reads the file that `blender` writes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from trackshade.shot import CameraTrack, Geometry, MeshTrack, Shot
from trackshade_lab.scenes.captions import CaptionFacts

FPS = 8.0  # frames per second; what a body does by itself has a rate in seconds
NEAR, FAR = 0.02, 1e4  # clipping distances of cameras, metres


@dataclass
class Part:
    """A mesh of one material that moves rigidly or deforms."""

    rest: np.ndarray  # [V, 3] float32 vertices in object space, where textures are evaluated, metres
    triangles: np.ndarray  # [F, 3] int32 vertex indices
    material: np.ndarray  # [MATERIAL_SIZE] float32 packed parameters; see `shading`
    matrices: np.ndarray  # [T, 4, 4] float64, object space to the body's space; to the world in a `Scene`
    # [T, V, 3] float32 vertices of each frame in object space, or None for a rigid part
    deformed: np.ndarray | None = None


@dataclass
class Body:
    """A solid or jointed object, made of parts that may move relative to each other."""

    parts: list[Part]  # the meshes, most important first
    words: str  # description for captions, such as "red striped box"
    radius: float  # radius of a sphere around the body's origin that contains it, metres
    height: float  # height of the origin above the ground that the body stands on, metres
    action: str = ""  # what the body does by itself, such as "waving its arms", or an empty string
    wheel_radius: float = 0.0  # radius of the wheels, metres; 0 without wheels
    wheels: list[Part] = field(default_factory=list)  # the parts that turn as the body drives
    color: str | None = None  # color name of most of the visible surface, or None
    walks: bool = False  # whether the body moves forward along its x axis while it acts
    is_fusible: bool = False  # whether the parts are limbs that `sculpted.fuse_parts` can join by one smooth skin


@dataclass(frozen=True)
class Scene:
    """A scene over T frames, ready to be rendered. Coordinates are Blender's: right-handed, z up, metres."""

    kind: str  # kind of scene; see `clip.clip_kinds`
    caption: str  # one sentence about the scene
    color: str | None  # color name of the main body in the caption, if most of the body shows it, else None
    facts: CaptionFacts  # what the caption was written from
    parts: tuple[Part, ...]  # all meshes with their matrices to the world, ground and walls first
    body: np.ndarray  # [P] int32 body number of each part: 0 for ground and walls, 1.. for bodies, the main body first.
    world_to_camera: np.ndarray  # [T, 4, 4] float64, OpenCV axes
    intrinsics: np.ndarray  # [T, 3, 3] float64, pixels
    sun: np.ndarray  # [3] unit vector that points toward the sun
    sun_color: np.ndarray  # [3] linear
    ambient: float  # strength of ambient light
    softness: float  # half width of shadow edges, texels of the shadow map
    sky: np.ndarray  # [2, 3] linear colors below and above the horizon

    # The parts as one mesh, for the rasterizer.

    @cached_property
    def world(self) -> np.ndarray:
        """[T, V, 3] float32 world positions of the vertices of all parts, metres."""
        positions = []
        for part in self.parts:
            local = part.rest[None] if part.deformed is None else part.deformed
            turned = local @ part.matrices[:, :3, :3].transpose(0, 2, 1).astype(np.float32)
            positions.append(turned + part.matrices[:, None, :3, 3].astype(np.float32))
        return np.ascontiguousarray(np.concatenate(positions, axis=1), np.float32)

    @cached_property
    def rest(self) -> np.ndarray:
        """[V, 3] float32 object-space positions, where textures are evaluated."""
        return np.concatenate([part.rest for part in self.parts]).astype(np.float32)

    @cached_property
    def triangles(self) -> np.ndarray:
        """[F, 3] int32 indices into the vertices of all parts."""
        offsets = np.cumsum([0, *(len(part.rest) for part in self.parts)])
        pairs = zip(self.parts, offsets, strict=False)
        return np.concatenate([part.triangles + offset for part, offset in pairs]).astype(np.int32)

    @cached_property
    def part(self) -> np.ndarray:
        """[F] int32 number of the part that each triangle belongs to."""
        counts = [len(part.triangles) for part in self.parts]
        return np.repeat(np.arange(len(self.parts), dtype=np.int32), counts)

    @cached_property
    def materials(self) -> np.ndarray:
        """[P, MATERIAL_SIZE] float32 packed material parameters of each part."""
        return np.stack([part.material for part in self.parts]).astype(np.float32)


def scene_shot(scene: Scene, size: tuple[int, int]) -> Shot:
    """Convert a scene that was built for frames of `size` (width, height) to a shot, for every control signal.

    Each part becomes one mesh in world space. Its `pass_index` is the body number (0 for ground and walls). Meshes are
    in drawing order.
    """
    frames = len(scene.world_to_camera)
    identity = np.broadcast_to(np.eye(4), (frames, 4, 4))
    visible = np.ones(frames, np.bool_)
    geometries, meshes, first = [], [], 0
    for number, (part, body) in enumerate(zip(scene.parts, scene.body, strict=True)):
        world = scene.world[:, first : first + len(part.rest)]
        first += len(part.rest)
        if np.array_equal(world, np.broadcast_to(world[:1], world.shape)):
            world = world[:1]
        geometries.append(Geometry(np.ascontiguousarray(world), part.triangles.astype(np.int32)))
        name = f"stage {number}" if body == 0 else f"body {body} part {number}"
        meshes.append(MeshTrack(name, number, identity, visible, pass_index=int(body)))
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
        np.arange(1.0, frames + 1.0), FPS, (size[0], size[1]), camera, tuple(geometries), tuple(meshes), source=source
    )
