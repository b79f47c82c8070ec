# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion of figures: the skeleton that the motion model speaks of."""
