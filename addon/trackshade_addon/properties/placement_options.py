# SPDX-License-Identifier: GPL-3.0-or-later
"""How a result is placed: the choices of the panel, of a command or of a script."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

TEXTURE_MODES = ("baked", "projected", "heat")  # that put a result on the surfaces of the scene


@dataclass(frozen=True)
class PlacementOptions:
    """How a result is placed; None for the default of `place`."""

    mode: str | None = "both"  # one of PLACEMENT_MODES, or None to leave the result in its folder
    distance: float | None = None  # distance of the plate from the camera in meters
    interpolation: str | None = None  # interpolation of the plate's image
    texture_size: int | None = None  # texels along a side of a baked texture

    @property
    def bakes(self) -> bool:
        """Whether textures are baked, which takes a while and needs the backend's environment."""
        return self.mode in TEXTURE_MODES

    @property
    def has_plate(self) -> bool:
        """Whether a plate is placed."""
        return self.mode in ("both", "plate")

    @property
    def is_seen_through_camera(self) -> bool:
        """Whether the result is visible in the 3D viewport when looking through the camera."""
        return self.has_plate or self.mode == "background"

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of `place` and `prepare`."""
        return {
            "mode": self.mode or "both",
            "distance": self.distance,
            "interpolation": self.interpolation,
            "texture_size": self.texture_size,
        }
