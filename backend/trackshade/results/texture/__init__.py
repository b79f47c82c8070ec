# SPDX-License-Identifier: GPL-3.0-or-later
"""Texture: a video gathered onto the surfaces that it shows, through their tracks. numpy, numba and Pillow only."""
