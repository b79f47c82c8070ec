# SPDX-License-Identifier: GPL-3.0-or-later
"""Camera moves around a figure: named in words, or those of a camera's path, as azimuth and elevation of each frame.

At azimuth 0 and elevation 0 the camera stands at -Y of the figure and looks at it. An increasing azimuth moves the
camera to its right, as in `trackshade.motion.skeleton`, whose body faces -Y.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np

from trackshade.core.errors import ShotError, UsageError

ELEVATION = 10.0  # degrees above the horizon, where the words name none
EXAMPLES = (
    "static",
    "circles to the left",
    "orbits right by 90 degrees",
    "rises by 20 degrees",
    "sinks",
    "swings by 30 degrees",
    "from behind",
    "from the left",
    "from above",
    "30 degrees to the right",
)
"""Phrases that are understood, of each kind one. They are joined by commas, "and", and "then"."""
_MAX_TURN, _MAX_ELEVATION = 3600.0, 85.0
_CIRCLE, _RISE, _SWING, _ABOVE, _BELOW = 90.0, 20.0, 30.0, 40.0, -15.0  # degrees where no number is given
_SIDES = {"front": 0.0, "left": 90.0, "right": -90.0, "behind": 180.0, "back": 180.0}  # of the figure
_FRACTIONS = {"quarter": 90.0, "half": 180.0, "full": 360.0, "whole": 360.0, "all": 360.0}
_CIRCLES = "(?:circl(?:es?|ing)|orbit(?:s|ing)?|arc(?:s|ing)?|(?:goes|moves|turns) around)(?: around)?"
_RISES = "ris(?:es?|ing)|climb(?:s|ing)?|(?:goes|moves|cranes) up"
_SINKS = "sink(?:s|ing)?|lowers|descend(?:s|ing)?|(?:goes|moves|cranes) down"
_STATIC = "static|still|fixed|stands still|does not move"
_SWINGS = "swing(?:s|ing)?|sway(?:s|ing)?"
_FILLERS = re.compile(r"\b(the|a|an|camera|shot|view|is|it|slowly|steadily|gently|of|by|figure|person)\b")


@dataclass(frozen=True, eq=False)
class CameraAngles:
    """Where a camera stands around a figure.

    Attributes:
        azimuths: [T] degrees.
        elevations: [T] degrees above the horizon.
        is_absolute: whether the azimuths count from the figure's front, else from the reference's view.
    """

    azimuths: np.ndarray
    elevations: np.ndarray
    is_absolute: bool = False


@dataclass(frozen=True)
class _Part:
    """What the words between two "then" say."""

    start: float | None = None  # azimuth, degrees
    is_absolute: bool = False
    elevation: float | None = None
    turn: float = 0.0  # degrees over the part
    rise: float = 0.0
    swing: float = 0.0


def parse_camera_words(text: str, count: int) -> CameraAngles:
    """Return the camera of `count` frames that words name, such as "from behind, circles to the left and rises".

    Raises:
        UsageError: a phrase is not understood; its fix lists phrases that are.
    """
    pieces = re.split(r"\bthen\b|;", text.lower())
    parts = [_parse_part(piece, text) for piece in pieces if piece.strip(" ,.")] or [_Part()]
    if any(part.is_absolute for part in parts[1:]):
        raise UsageError(
            "unknown-camera-words",
            f"After 'then', '{text[:200]}' names a side of the figure.",
            "Name the side at the beginning, and how the camera moves from there.",
        )
    borders = np.linspace(0, max(1, count - 1), len(parts) + 1)
    azimuths, elevations = np.zeros(count), np.full(count, parts[0].elevation or ELEVATION)
    azimuth, elevation = 0.0, ELEVATION
    for part, first, last in zip(parts, borders[:-1], borders[1:], strict=True):
        azimuth = azimuth if part.start is None else part.start
        elevation = elevation if part.elevation is None else part.elevation
        share = (np.arange(count) - first) / (last - first)
        inside = (share >= 0) & (share <= 1)
        swing = part.swing * np.sin(2 * np.pi * share)
        azimuths[inside] = (azimuth + part.turn * share + swing)[inside]
        elevations[inside] = (elevation + part.rise * share)[inside]
        azimuth, elevation = azimuth + part.turn, elevation + part.rise
    elevations = np.clip(elevations, -_MAX_ELEVATION, _MAX_ELEVATION)
    return CameraAngles(azimuths, elevations, parts[0].is_absolute)


def angles_of_path(
    world_to_camera: np.ndarray,  # [T, 4, 4]
    figure: np.ndarray,  # [3] or [T, 3] world
    facing: np.ndarray | None = None,  # [T, 3, 3] orientation of the figure; None for the world's axes
) -> CameraAngles:
    """Return where a camera stands around a figure; its azimuths do not jump by full turns.

    Raises:
        ShotError: the camera is in the figure's place.
    """
    matrices = np.asarray(world_to_camera, np.float64)
    places = -np.swapaxes(matrices[:, :3, :3], 1, 2) @ matrices[:, :3, 3:]
    away = places[..., 0] - np.broadcast_to(figure, (len(matrices), 3))
    if facing is not None:
        away = (np.swapaxes(facing, 1, 2) @ away[..., None])[..., 0]
    flat = np.hypot(away[:, 0], away[:, 1])
    if np.any(np.hypot(flat, away[:, 2]) < 1e-9):
        raise ShotError(
            "camera-in-figure", "The camera is where the figure is.", "Choose another center, or move the camera."
        )
    azimuths = np.degrees(np.unwrap(np.arctan2(away[:, 0], np.negative(away[:, 1]))))
    return CameraAngles(azimuths, np.degrees(np.arctan2(away[:, 2], flat)), is_absolute=True)


def relative_to_first(angles: CameraAngles) -> CameraAngles:
    """Return angles whose azimuths count from the first frame's view, which the reference shows."""
    return replace(angles, azimuths=angles.azimuths - angles.azimuths[0], is_absolute=False)


def camera_matrices(angles: CameraAngles, distance: float) -> np.ndarray:
    """Return cameras that look at the origin from a distance, world to camera [T, 4, 4] with OpenCV's axes."""
    azimuth, elevation = np.radians(angles.azimuths), np.radians(angles.elevations)
    away = np.stack([
        np.sin(azimuth) * np.cos(elevation), -np.cos(azimuth) * np.cos(elevation), np.sin(elevation)
    ], axis=1)  # fmt: skip
    ahead = np.negative(away)
    right = np.stack([np.cos(azimuth), np.sin(azimuth), np.zeros(len(azimuth))], axis=1)
    matrices = np.tile(np.eye(4), (len(away), 1, 1))
    matrices[:, :3, :3] = np.stack([right, np.cross(ahead, right), ahead], axis=1)
    matrices[:, 2, 3] = distance
    return matrices


def _parse_part(piece: str, text: str) -> _Part:
    part = _Part()
    for phrase in re.split(r",|\.(?!\d)|\band\b|\bwhile\b", piece):
        if phrase.strip():
            part = _with_phrase(part, " ".join(phrase.split()), text)
    return part


def _with_phrase(part: _Part, phrase: str, text: str) -> _Part:
    number, words = _take_number(phrase)
    words = " ".join(_FILLERS.sub(" ", words).split())
    side = re.search(r"\b(left|right)\b", words)
    sign = 0.0 if side is None else -1.0 if side[1] == "left" else 1.0
    bare = " ".join(re.sub(r"\b(to|towards|left|right)\b", " ", words).split())
    if re.fullmatch(_STATIC, words):
        return part
    if sign and re.fullmatch(_CIRCLES, bare):
        return replace(part, turn=sign * _checked(_CIRCLE if number is None else number, _MAX_TURN, phrase))
    if re.fullmatch(_RISES, words):
        return replace(part, rise=_checked(_RISE if number is None else number, _MAX_ELEVATION, phrase))
    if re.fullmatch(_SINKS, words):
        return replace(part, rise=-_checked(_RISE if number is None else number, _MAX_ELEVATION, phrase))
    if re.fullmatch(_SWINGS, words):
        return replace(part, swing=_checked(_SWING if number is None else number, 180.0, phrase))
    place = re.fullmatch(r"from (?:in )?(front|left|right|behind|back|above|below|side)(?: side)?", words)
    if place is not None and place[1] in ("above", "below"):
        elevation = _ABOVE if place[1] == "above" else _BELOW
        if number is not None:
            elevation = np.copysign(_checked(number, _MAX_ELEVATION, phrase), elevation)
        return replace(part, elevation=float(elevation))
    if place is not None and number is None:
        return replace(part, start=_SIDES[{"side": "left"}.get(place[1], place[1])], is_absolute=True)
    if re.fullmatch(r"(?:at )?eye level", words):
        return replace(part, elevation=0.0)
    if number is not None and sign and not bare.replace("from", "").strip():
        return replace(part, start=sign * _checked(number, _MAX_TURN, phrase), is_absolute=False)
    raise UsageError(
        "unknown-camera-words",
        f"'{phrase}' names no camera move that is known, in '{text[:200]}'.",
        "Known are, joined by commas: " + "; ".join(EXAMPLES) + ".",
    )


def _take_number(phrase: str) -> tuple[float | None, str]:
    """Return the degrees that a phrase names, or None, and the other words."""
    found = re.search(r"(\d+(?:\.\d+)?)\s*(?:°|degrees?\b|deg\b)?", phrase)
    if found is not None:
        return float(found[1]), phrase[: found.start()] + " " + phrase[found.end() :]
    found = re.search(r"\b(?:by |in )?(?:a |an |the )?(quarter|half|full|whole|all)(?: an?)?(?: around)?"
                      r"(?: (?:circle|turn)\b)?", phrase)  # fmt: skip
    if found is not None:
        return _FRACTIONS[found[1]], phrase[: found.start()] + " " + phrase[found.end() :]
    return None, phrase


def _checked(value: float, largest: float, phrase: str) -> float:
    if value > largest:
        raise UsageError(
            "unknown-camera-words", f"'{phrase}' names more than {largest:g} degrees.", "Give a smaller angle."
        )
    return value
