# SPDX-License-Identifier: GPL-3.0-or-later
"""Trackshade: animated meshes shaded by video diffusion conditioned on their own 3D tracks."""

__version__ = "0.1.0"
