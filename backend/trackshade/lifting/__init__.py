# SPDX-License-Identifier: GPL-3.0-or-later
"""Lifts a photo to a scene: meshes that show the photo from its own camera, and can be seen from others."""

from trackshade.lifting.lift import lift_image

__all__ = ["lift_image"]
