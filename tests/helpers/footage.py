# SPDX-License-Identifier: GPL-3.0-or-later
"""Footage with known truth, by casting rays: textured rectangles before a camera, some of which move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np


@dataclass(frozen=True, eq=False)
class Card:
    """A textured rectangle: corner + u * right + v * down, u and v from 0 to 1, in a world like the first camera's."""

    corner: np.ndarray
    right: np.ndarray
    down: np.ndarray
    texture: np.ndarray  # [h, w, 3] uint8
    move: Callable[[float], np.ndarray] = field(default=lambda s: np.zeros(3))  # translation at a time from 0 to 1


def noise(seed: int, size: tuple[int, int], finest: float = 1.2, contrast: float = 55.0) -> np.ndarray:
    """Return a texture with detail of all sizes, [h, w, 3] uint8."""
    rng = np.random.default_rng(seed)
    total = np.zeros((size[1], size[0], 3))
    for sigma in finest * 2.0 ** np.arange(5):
        layer = cv2.GaussianBlur(rng.normal(size=total.shape), (0, 0), sigma)
        total += layer / layer.std()
    return np.clip(rng.uniform(100, 155, 3) + contrast * total / total.std(), 0, 255).astype(np.uint8)


def room(seed: int = 0, moving: bool = False) -> list[Card]:
    """Return a floor, two walls and two boards that stand in front of them; one of these moves if asked."""
    x, y, z = np.eye(3)
    shift = (lambda s: np.array([1.3 * s, 0.0, -0.2 * s])) if moving else (lambda s: np.zeros(3))
    return [
        Card(np.array([-6.0, 1.2, 1.0]), 12 * x, 9 * z, noise(seed, (900, 700))),
        Card(np.array([-6.0, -4.0, 9.0]), 12 * x, 6 * y, noise(seed + 1, (900, 450))),
        Card(np.array([-3.2, -4.0, 1.0]), 9 * z, 6 * y, noise(seed + 2, (700, 450))),
        Card(np.array([0.4, -0.2, 5.0]), np.array([1.2, 0.0, 0.5]), 1.4 * y, noise(seed + 3, (200, 200))),
        Card(np.array([-1.4, 0.0, 4.0]), 1.1 * x, 1.2 * y, noise(seed + 4, (200, 200)), shift),
    ]


def look_at(place: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return world to camera, [4, 4], with y downwards."""
    forward = (target - place) / np.linalg.norm(target - place)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    return np.vstack([np.c_[rotation, -rotation @ place], [0, 0, 0, 1]])


def arc(count: int, degrees: float = 16.0, forward: float = 0.6) -> np.ndarray:
    """Return cameras that go around what is 5 m ahead, and towards it: world to camera [T, 4, 4]."""
    out = []
    for s in np.linspace(0, 1, count):
        angle = np.radians(degrees) * s
        place = np.array([5 * np.sin(angle), -0.25 * s, 5 - (5 - forward * s) * np.cos(angle)])
        out.append(look_at(place, np.array([0.0, 0.0, 5.0])))
    return np.stack(out) @ np.linalg.inv(out[0])


@dataclass(frozen=True, eq=False)
class Truth:
    """A rendered clip and what is true of it."""

    cards: list[Card]
    images: np.ndarray  # [T, H, W, 3] uint8
    intrinsics: np.ndarray  # [3, 3]
    cameras: np.ndarray  # [T, 4, 4] world to camera

    def tracks(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return where the surfaces at pixels [N, 2] of frame 0 are in all frames.

        Returns:
            [T, N, 2] pixels, [T, N] whether they are seen there, and [N] the number of their card, -1 for none.
        """
        count = len(self.images)
        distance, card = _cast(self.cards, 0.0, self.intrinsics, self.cameras[0], pixels)
        height, width = self.images.shape[1:3]
        out, seen = np.zeros((count, len(pixels), 2)), np.zeros((count, len(pixels)), bool)
        rays = np.c_[pixels, np.ones(len(pixels))] @ np.linalg.inv(self.intrinsics).T
        first = (distance[:, None] * rays - self.cameras[0][:3, 3]) @ self.cameras[0][:3, :3]
        for t, camera in enumerate(self.cameras):
            s = t / max(1, count - 1)
            moves = np.array([item.move(s) - item.move(0.0) for item in self.cards])
            world = first + np.where(card[:, None] >= 0, moves[card], 0)
            local = world @ camera[:3, :3].T + camera[:3, 3]
            out[t] = (local[:, :2] / local[:, 2:]) @ self.intrinsics[:2, :2].T + self.intrinsics[:2, 2]
            nearest, _ = _cast(self.cards, s, self.intrinsics, camera, out[t])
            inside = ((out[t] >= 0) & (out[t] < (width, height))).all(axis=1) & (local[:, 2] > 0)
            seen[t] = inside & (nearest > local[:, 2] * 0.999)
        return out, seen & (card >= 0), card

    def cards_at(self, t: int) -> np.ndarray:
        """Return the number of the card that each pixel of a frame shows, [H, W]; -1 for none."""
        height, width = self.images.shape[1:3]
        y, x = np.mgrid[:height, :width] + 0.5
        s = t / max(1, len(self.cameras) - 1)
        pixels = np.stack([x, y], axis=-1).reshape(-1, 2)
        return _cast(self.cards, s, self.intrinsics, self.cameras[t], pixels)[1].reshape(height, width)


def render(cards: list[Card], cameras: np.ndarray, size: tuple[int, int] = (192, 128), focal: float = 0.95) -> Truth:
    """Render a clip; `focal` is in widths."""
    width, height = size
    intrinsics = np.array([[focal * width, 0, width / 2], [0, focal * width, height / 2], [0, 0, 1]])
    more = 3
    y, x = np.mgrid[: height * more, : width * more]
    pixels = (np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) / more
    images = []
    for t, camera in enumerate(cameras):
        s = t / max(1, len(cameras) - 1)
        color = np.zeros((len(pixels), 3), np.float32)
        distance, card = _cast(cards, s, intrinsics, camera, pixels)
        rays = np.c_[pixels, np.ones(len(pixels))] @ np.linalg.inv(intrinsics).T
        world = (distance[:, None] * rays - camera[:3, 3]) @ camera[:3, :3]
        for number, item in enumerate(cards):
            hit = card == number
            if hit.any():
                u, v = _coordinates(item, s, world[hit])
                th, tw = item.texture.shape[:2]
                # In rows of at most 32,767 pixels, the most that OpenCV takes.
                x, y = [np.resize(part, (-(-len(part) // 4096), 4096)).astype(np.float32)
                      for part in (u * tw - 0.5, v * th - 0.5)]  # fmt: skip
                found = cv2.remap(item.texture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
                color[hit] = found.reshape(-1, 3)[: hit.sum()]
        large = color.reshape(height * more, width * more, 3)
        images.append(np.round(cv2.resize(large, size, interpolation=cv2.INTER_AREA)).astype(np.uint8))
    return Truth(cards, np.stack(images), intrinsics, cameras)


def _coordinates(item: Card, s: float, world: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    local = world - item.corner - item.move(s)
    return local @ item.right / (item.right @ item.right), local @ item.down / (item.down @ item.down)


def _cast(
    cards: list[Card], s: float, intrinsics: np.ndarray, camera: np.ndarray, pixels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the depth of what pixels [N, 2] show, inf for nothing, and the number of its card, -1 for nothing."""
    rays = np.c_[pixels, np.ones(len(pixels))] @ np.linalg.inv(intrinsics).T @ camera[:3, :3]
    place = -camera[:3, :3].T @ camera[:3, 3]
    distance, card = np.full(len(pixels), np.inf), np.full(len(pixels), -1)
    for number, item in enumerate(cards):
        normal = np.cross(item.right, item.down)
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = normal @ (item.corner + item.move(s) - place) / (rays @ normal)
            u, v = _coordinates(item, s, place + depth[:, None] * rays)
            hit = (depth > 1e-6) & (depth < distance) & (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
        distance[hit], card[hit] = depth[hit], number
    return distance, card
