# SPDX-License-Identifier: GPL-3.0-or-later
"""Training and evaluation of the motion model: generated figures in motion, seen by many cameras."""
