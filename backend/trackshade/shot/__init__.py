# SPDX-License-Identifier: GPL-3.0-or-later
"""The shot: an animated scene as geometry, matrices and a camera, and its file."""

from trackshade.shot.model import Shot
from trackshade.shot.parts import CameraTrack, Cutout, Geometry, MeshTrack, ObjectTrack, Surfaces

__all__ = ["CameraTrack", "Cutout", "Geometry", "MeshTrack", "ObjectTrack", "Shot", "Surfaces"]
