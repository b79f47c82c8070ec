# SPDX-License-Identifier: GPL-3.0-or-later
"""Fills the parts of a surface's image that no key picture shows."""
