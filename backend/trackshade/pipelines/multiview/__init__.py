# SPDX-License-Identifier: GPL-3.0-or-later
"""Samples all cells of a grid of cameras and frames together, with denoisers of rows and columns (Diffusion²)."""
