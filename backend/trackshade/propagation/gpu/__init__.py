# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames drawn with torch: `drawing.TorchDrawer` takes the place of `propagation.drawing.BandDrawer`."""
