# SPDX-License-Identifier: GPL-3.0-or-later
"""Control: from a Shot to the tracking video that steers the model. numpy and numba only."""

from trackshade.colours import MeshRule, dense_colours, point_colours
from trackshade.control.points import PointTracks
from trackshade.control.video import TrackingVideo, tracking_video

__all__ = ["MeshRule", "PointTracks", "TrackingVideo", "dense_colours", "point_colours", "tracking_video"]
