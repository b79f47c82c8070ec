# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors, geometry, colors, images, folders and processes: what every other package builds on. Needs numpy only."""
