# SPDX-License-Identifier: GPL-3.0-or-later
"""Small copies of some frames of a result, for its contact sheet and its consistency.

A result may have any number of frames of any size; measuring at most `MAX_FRAMES` of them, of at most `MAX_SIDE`
pixels, takes the same time and memory for all. A result that is smaller is taken as it is.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from trackshade.control.video import TrackingVideo, tracking_video
from trackshade.shot import Shot
from trackshade.shot.fitting import resize_shot, sample_shot

MAX_FRAMES, MAX_SIDE = 49, 720


class Overview:
    """Some frames of a shot at a small size.

    Attributes:
        shot: the samples that are shown, at that size.
        frames: [N, h, w, 3] uint8, the result's frames, filled by `add`.
    """

    def __init__(self, shot: Shot) -> None:
        """Choose frames and size; the first and the last frame are among them."""
        count = len(shot.frame_numbers)
        chosen = np.unique(np.rint(np.linspace(0, count - 1, min(count, MAX_FRAMES))).astype(int))
        ratio = min(1.0, MAX_SIDE / max(shot.size))
        self._places = {int(t): i for i, t in enumerate(chosen)}
        size = (max(1, round(shot.size[0] * ratio)), max(1, round(shot.size[1] * ratio)))
        self.shot = resize_shot(sample_shot(shot, chosen), size)
        self.frames = self.empty()

    def empty(self) -> np.ndarray:
        """Return memory for frames, [N, h, w, 3] uint8."""
        return np.zeros((len(self._places), *self.shot.size[::-1], 3), np.uint8)

    def add(
        self,
        t: int,
        image: np.ndarray,  # [H, W, 3] uint8
        frames: np.ndarray | None = None,
    ) -> None:
        """Keep a small copy of frame `t` in `frames` if it is among those that are shown."""
        if t not in self._places:
            return
        if image.shape[1::-1] != self.shot.size:
            image = np.asarray(
                Image.fromarray(np.ascontiguousarray(image)).resize(self.shot.size, Image.Resampling.BOX)
            )
        (self.frames if frames is None else frames)[self._places[t]] = image

    def tracking(self, video: TrackingVideo) -> TrackingVideo:
        """Return the tracking video of these frames: `video` if it is just that."""
        own = video.shot
        same = own.size == self.shot.size and np.array_equal(own.frame_numbers, self.shot.frame_numbers)
        if same and np.array_equal(own.camera.intrinsics, self.shot.camera.intrinsics):
            return video
        return tracking_video(self.shot, needs_surface=False)
