# SPDX-License-Identifier: GPL-3.0-or-later
"""What the user sets: properties of scenes and view layers, and the add-on's preferences."""
