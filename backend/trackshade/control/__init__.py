# SPDX-License-Identifier: GPL-3.0-or-later
"""Control: from a Shot to the tracking video that conditions the model. numpy and numba only."""

from trackshade.control.points import PointTracks
from trackshade.control.video import TrackingVideo, tracking_video
from trackshade.shot.track_colors import MeshRule, point_colors

__all__ = ["MeshRule", "PointTracks", "TrackingVideo", "point_colors", "tracking_video"]
