# SPDX-License-Identifier: GPL-3.0-or-later
"""Camera paths of synthetic scenes, and their words."""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np
from mathutils import Quaternion, Vector

from . import shapes
from .bodies import key
from .motion import UP, ease

SENSOR = 36.0  # millimetres, of the wider edge
MOVES = {"orbit": 0.3, "dolly": 0.16, "truck": 0.14, "crane": 0.1, "pan": 0.1, "tilt": 0.04, "zoom": 0.08, "": 0.08}


@dataclass(frozen=True)
class View:
    """Where a camera is: eyes and aims [T, 3] metres, lens [T] millimetres, roll [T] radians, its words."""

    eyes: np.ndarray
    aims: np.ndarray
    lens: np.ndarray
    roll: np.ndarray
    words: str

    def seen(self, places: np.ndarray, aspect: float) -> tuple[np.ndarray, np.ndarray]:
        """Of [T, 3]: x and y in halves of the frame [T, 2], and metres along the axis [T]."""
        forward = self.aims - self.eyes
        forward /= np.linalg.norm(forward, axis=1, keepdims=True)
        right = np.cross(forward, UP)
        right /= np.linalg.norm(right, axis=1, keepdims=True)
        away = places - self.eyes
        depth = np.maximum((away * forward).sum(axis=1), 1e-3)
        scale = 2 * self.lens / SENSOR / depth
        across = (away * right).sum(axis=1) * scale
        up = (away * np.cross(right, forward)).sum(axis=1) * scale * aspect
        return np.stack([across, up], axis=1), depth


def draw_view(
    rng: np.random.Generator, frames: int, fps: float, target: np.ndarray, extent: float, aspect: float, moving: bool
) -> View:
    """A camera that looks at `target` from where `extent` metres around it fill most of the frame."""
    s, sign = ease(rng, frames), int(rng.choice([-1, 1]))
    size = float(rng.choice([0.3, 0.6, 1.0, 1.4], p=[0.2, 0.3, 0.3, 0.2]))
    lens = np.full(frames, rng.uniform(32, 60))
    distance = np.full(frames, max(extent * aspect * 2 * lens[0] / SENSOR, 1.8 * extent))
    azimuth = np.full(frames, rng.uniform(0, 2 * np.pi))
    elevation = np.full(frames, np.radians(rng.uniform(6, 42)))
    side = np.array([-np.sin(azimuth[0]), np.cos(azimuth[0]), 0.0])
    aims, shift, roll = np.tile(target, (frames, 1)), np.zeros((frames, 3)), np.zeros(frames)
    how = str(rng.choice(list(MOVES), p=list(MOVES.values()))) if moving else ""
    words = ""
    if how == "orbit":
        azimuth = azimuth + s * np.radians(rng.uniform(25, 60)) * sign * size
        words = str(rng.choice(["orbits", "circles around", "moves around the scene"]))
    elif how == "dolly":
        change = rng.uniform(-0.4, -0.2) if sign < 0 else rng.uniform(0.25, 0.6)
        distance = distance * (1 + s * change * min(size, 1.2))
        choices = ["moves in", "dollies in", "pushes in"] if sign < 0 else ["pulls back", "dollies out", "moves away"]
        words = str(rng.choice(choices))
    elif how == "truck":
        shift = np.outer(s, side * sign * distance[0] * rng.uniform(0.15, 0.3) * size)
        aims = aims + shift * rng.uniform(0.3, 1.0)
        words = str(rng.choice(["slides sideways", "tracks sideways"]))
    elif how == "crane":
        elevation = np.clip(elevation + s * np.radians(rng.uniform(12, 32)) * sign * size, 0.02, 1.25)
        words = str(rng.choice(["rises", "cranes up"] if sign > 0 else ["sinks", "cranes down"]))
    elif how == "pan":
        aims = aims + np.outer(s, side * sign * distance[0] * rng.uniform(0.12, 0.26) * size)
        words = str(rng.choice(["pans", "turns"])) + (" left" if sign < 0 else " right")
    elif how == "tilt":
        aims = aims + np.outer(s, UP * distance[0] * rng.uniform(0.08, 0.16) * size * sign)
        words = "tilts up" if sign > 0 else "tilts down"
    elif how == "zoom":
        lens = lens * (1 + s * (rng.uniform(0.2, 0.5) if sign > 0 else rng.uniform(-0.32, -0.18)) * min(size, 1.2))
        words = "zooms in" if sign > 0 else "zooms out"
    if moving and (not how or rng.random() < 0.15):
        steps = np.linspace(0, 5.0 * frames / fps, frames)[:, None]
        waves = np.sum([np.sin(steps * rng.uniform(0.4, 1.3, 3) + rng.uniform(0, 6.28, 3)) for _ in range(2)], axis=0)
        shift = shift + waves * 0.015 * distance[0]
        aims = aims + np.roll(waves, 1, axis=1) * 0.017 * distance[0]
        roll = 0.025 * waves[:, 0]
        words = f"{words}, handheld" if words else str(rng.choice(["is handheld", "shakes"]))
    away = np.stack(
        [np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)], axis=1
    )
    eyes = target + shift + distance[:, None] * away
    eyes[:, 2] = np.maximum(eyes[:, 2], 0.15)
    return View(eyes, aims, lens, roll, words)


def add_camera(view: View) -> bpy.types.Object:
    """The view as the scene's camera."""
    camera = shapes.link(bpy.data.cameras.new("Camera"), "Camera")
    camera.data.sensor_width, camera.data.clip_start, camera.data.clip_end = SENSOR, 0.05, 500.0
    camera.rotation_mode = "QUATERNION"
    turns = []
    for eye, aim, roll in zip(view.eyes, view.aims, view.roll, strict=True):
        turn = Vector(aim - eye).to_track_quat("-Z", "Y")
        turns.append(tuple(turn @ Quaternion((0.0, 0.0, 1.0), roll)))
    key(camera, "location", view.eyes)
    key(camera, "rotation_quaternion", np.array(turns))
    if np.ptp(view.lens) > 0:
        key(camera.data, "lens", view.lens)
    camera.data.lens = float(view.lens[0])
    bpy.context.scene.camera = camera
    return camera
