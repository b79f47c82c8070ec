# SPDX-License-Identifier: GPL-3.0-or-later
"""Textures: colors of a video, gathered onto the surfaces that it shows. numpy, numba and Pillow only."""
