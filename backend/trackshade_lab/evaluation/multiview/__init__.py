# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures grids of many cameras and many frames against true renders."""
