# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts of the interface and their translations."""
