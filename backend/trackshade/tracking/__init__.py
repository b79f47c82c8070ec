# SPDX-License-Identifier: GPL-3.0-or-later
"""Tracking: from footage to a scene of tracked points, without weights. numpy, scipy, numba, OpenCV and PyAV.

Networks that follow points (`trackers`) are loaded only if they are asked for.
"""

from trackshade.tracking.track import track_video

__all__ = ["track_video"]
