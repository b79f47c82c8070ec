# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures how well propagation carries one picture to all frames of a shot, on scenes whose true frames are known."""
