# SPDX-License-Identifier: GPL-3.0-or-later
"""Footage that drives the motion model: read, searched for a figure, and cropped around it."""
