# SPDX-License-Identifier: GPL-3.0-or-later
"""Gaussian splats that ride on the meshes of a shot, with colors from the pictures of its cells."""
