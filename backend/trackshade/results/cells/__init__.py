# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of cells, which are pairs of a frame and a camera, and the colors of surface points that they show."""
