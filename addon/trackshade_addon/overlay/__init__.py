# SPDX-License-Identifier: GPL-3.0-or-later
"""The tracking colors in the viewport: the colors of the tracking video, drawn on the meshes as they are now."""
