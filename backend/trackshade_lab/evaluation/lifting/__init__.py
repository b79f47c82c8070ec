# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures how well photos are lifted to scenes, where the camera and the depth are known."""
