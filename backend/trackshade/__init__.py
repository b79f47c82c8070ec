# SPDX-License-Identifier: GPL-3.0-or-later
"""Trackshade: animated scenes get a look from pictures that are carried along their exact tracks to every frame."""

__version__ = "0.1.0"
