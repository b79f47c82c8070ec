# SPDX-License-Identifier: GPL-3.0-or-later
"""The cameras of generated clips, and the pictures that they take of figures of capsules and of characters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trackshade.motion.framing import DISTANCE, HAND_WIDTH, LANDMARKS, focal_length, project

from .characters import Role
from .figures import CAPSULE_ENDS, POINTS, Figures
from .meshes import Mesh
from .raster import Backdrops, find_visible, render

FRAME_SIZE = (48, 64)  # width and height
HAND_SIZE = 24
LANDMARK_POINTS = [POINTS.index(name) for name in LANDMARKS]
_HANDS = (("hand_l", "fingers_l"), ("hand_r", "fingers_r"))
_HAND_POINTS = [[POINTS.index(name) for name in pair] for pair in _HANDS]


@dataclass(frozen=True)
class View:
    """Cameras of N clips: all arrays begin with [N, F]."""

    azimuth: np.ndarray
    elevation: np.ndarray
    zoom: np.ndarray
    roll: np.ndarray
    offset: np.ndarray  # [N, F, 2] pixels
    distance: np.ndarray  # of the camera, metres

    def take(self, index: Sequence[int]) -> View:
        """Return those of some clips."""
        return View(
            self.azimuth[index], self.elevation[index], self.zoom[index], self.roll[index], self.offset[index],
            self.distance[index],
        )  # fmt: skip

    def place(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return places of points on the plane one unit before the cameras, [N, F, P, 2], and depths [N, F, P]."""
        plane, depth = project(points, self.azimuth, self.elevation, self.distance)
        sine, cosine = np.sin(self.roll)[..., None], np.cos(self.roll)[..., None]
        x, y = plane[..., 0], plane[..., 1]
        return np.stack([cosine * x - sine * y, sine * x + cosine * y], axis=-1), depth

    @property
    def focal(self) -> np.ndarray:
        """The focal lengths, [N, F] pixels."""
        return self.zoom * focal_length(FRAME_SIZE[1]) * self.distance / DISTANCE

    @property
    def center(self) -> np.ndarray:
        """Where the axes of the cameras are in the pictures, [N, F, 2] pixels."""
        width, height = FRAME_SIZE
        return np.array([width / 2, height / 2]) + self.offset

    def to_pixels(self, plane: np.ndarray) -> np.ndarray:
        """Return the pixels [N, F, P, 2] of places on that plane."""
        return plane * self.focal[..., None, None] + self.center[..., None, :]


@dataclass(frozen=True)
class Bodies:
    """The bodies of N clips: figures of capsules, and characters where a clip has a role.

    Attributes:
        figures: a figure for each clip, also where a character takes its place.
        roles: a role or None for each clip.
    """

    figures: Figures
    roles: list[Role | None]

    def see(
        self,
        local: np.ndarray,  # [N, F, J, 3, 3]
        view: View,
    ) -> Sight:
        """Return what cameras see of the bodies in poses."""
        points = self.figures.pose(local)
        meshes: dict[int, Mesh] = {}
        for clips in self._by_character():
            roles = [role for role in (self.roles[clip] for clip in clips) if role is not None]
            character = roles[0].character
            transforms = character.transforms(local[clips])
            for role, clip, pose in zip(roles, clips, transforms, strict=True):
                points[clip] = role.place_points(pose)
            sizes = np.array([role.size for role in roles])
            vertices = character.place_vertices(transforms) * sizes[:, None, None, None]
            plane, depth = view.take(clips).place(vertices)
            parts = character.triangle_joints
            for number, (role, clip) in enumerate(zip(roles, clips, strict=True)):
                meshes[clip] = Mesh(plane[number], depth[number], character.triangles, parts, role.paint)
        plane, depth = view.place(points)
        return Sight(self, view, points, view.to_pixels(plane), depth, meshes)

    def _by_character(self) -> list[list[int]]:
        """Return the clips of each character."""
        found: dict[int, list[int]] = {}
        for clip, role in enumerate(self.roles):
            if role is not None:
                found.setdefault(id(role.character), []).append(clip)
        return list(found.values())


@dataclass(frozen=True)
class Sight:
    """What the cameras of N clips see in F frames.

    Attributes:
        bodies: the bodies.
        view: the cameras.
        points: [N, F, P, 3] metres, of `figures.POINTS`.
        pixels: [N, F, P, 2] their places in the pictures.
        depth: [N, F, P] metres.
        meshes: what is seen of characters, by clip.
    """

    bodies: Bodies
    view: View
    points: np.ndarray
    pixels: np.ndarray
    depth: np.ndarray
    meshes: dict[int, Mesh]

    @property
    def landmarks(self) -> np.ndarray:
        """The places of landmarks, [N, F, L, 2] pixels."""
        return self.pixels[:, :, LANDMARK_POINTS]

    def render(self, backdrops: Backdrops, samples: int = 2) -> tuple[np.ndarray, np.ndarray]:
        """Return pictures [N, F, H, W, 3] and coverage by the bodies [N, F, H, W]; see `raster.render`."""
        return self._render(self.pixels, self.view.focal, self.view.center, backdrops, FRAME_SIZE, samples)

    def render_background(self, backdrops: Backdrops) -> np.ndarray:
        """Return pictures without bodies, [N, F, H, W, 3]."""
        nowhere = np.full(self.pixels.shape, -1e4)
        empty = Sight(self.bodies, self.view, self.points, nowhere, self.depth, {})
        return empty.render(backdrops)[0]

    def find_visible(self) -> np.ndarray:
        """Return which landmarks are visible, [N, F, L] bool; see `raster.find_visible`."""
        focal = self.view.focal
        count, frames = focal.shape
        clip = np.repeat(np.arange(count), frames)
        visible = find_visible(
            self.pixels.reshape(-1, *self.pixels.shape[2:]), self.depth.reshape(count * frames, -1), focal.ravel(),
            CAPSULE_ENDS, self.bodies.figures.radii[clip], np.array(LANDMARK_POINTS), FRAME_SIZE,
        )  # fmt: skip
        visible = visible.reshape(count, frames, -1)
        landmarks, depth, center = self.landmarks, self.depth[:, :, LANDMARK_POINTS], self.view.center
        for number, mesh in self.meshes.items():
            role = self.bodies.roles[number]
            assert role is not None
            visible[number] = mesh.find_visible(
                landmarks[number], depth[number], role.character.own_parts, focal[number], center[number], FRAME_SIZE
            )
        return visible

    def render_hands(self, rng: np.random.Generator, backdrops: Backdrops) -> np.ndarray:
        """Return crops about the hands, [N, F, 2, h, h, 3], whose centers and widths are not exact."""
        focal = self.view.focal
        count, frames = focal.shape
        crops = np.empty((count, frames, 2, HAND_SIZE, HAND_SIZE, 3), np.float32)
        for side, points in enumerate(_HAND_POINTS):
            middle = self.pixels[:, :, points].mean(axis=2)
            width = focal / self.depth[:, :, points[0]] * HAND_WIDTH * rng.uniform(0.85, 1.2, (count, 1))
            scale = HAND_SIZE / width
            middle = middle + rng.normal(0, 0.06, middle.shape) * width[..., None]
            places = (self.pixels - middle[:, :, None]) * scale[..., None, None] + HAND_SIZE / 2
            center = (self.view.center - middle) * scale[..., None] + HAND_SIZE / 2
            crops[:, :, side], _ = self._render(places, focal * scale, center, backdrops, (HAND_SIZE, HAND_SIZE), 1)
        return crops

    def _render(
        self,
        places: np.ndarray,
        focal: np.ndarray,
        center: np.ndarray,
        backdrops: Backdrops,
        size: tuple[int, int],
        samples: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Render the bodies with their points at places, by focal lengths [N, F] and centers [N, F, 2]."""
        count, frames = focal.shape
        pictures = np.empty((count, frames, size[1], size[0], 3), np.float32)
        coverage = np.empty((count, frames, size[1], size[0]), np.float32)
        figures = self.bodies.figures
        capsules = np.array([number for number in range(count) if number not in self.meshes], int)
        clip = np.repeat(capsules, frames)
        flat, covered = render(
            places[capsules].reshape(-1, *places.shape[2:]), self.depth[capsules].reshape(-1, self.depth.shape[-1]),
            focal[capsules].ravel(), CAPSULE_ENDS, figures.radii[clip], figures.colors[clip], backdrops.take(clip),
            size, samples,
        )  # fmt: skip
        pictures[capsules] = flat.reshape(-1, *pictures.shape[1:])
        coverage[capsules] = covered.reshape(-1, *coverage.shape[1:])
        for number, mesh in self.meshes.items():
            own = backdrops.take(np.repeat(number, frames))
            mesh.render(focal[number], center[number], own, pictures[number], coverage[number], samples)
        return pictures, coverage
