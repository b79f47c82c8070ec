# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures how well footage is tracked, on rendered scenes whose tracks and cameras are known."""
