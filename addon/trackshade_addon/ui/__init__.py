# SPDX-License-Identifier: GPL-3.0-or-later
"""Panels, operators and lists: they draw what is known and call what does the work."""
