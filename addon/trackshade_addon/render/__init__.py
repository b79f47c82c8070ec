# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's own render button: the engine "Trackshade", and the hook on what other engines export."""
