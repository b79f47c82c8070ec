# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs: their one path from a scene to a placed result, and those of this Blender."""
