# SPDX-License-Identifier: GPL-3.0-or-later
"""Trackshade's tests. They import what they share from `tests.helpers`."""
