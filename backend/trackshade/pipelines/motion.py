# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion from footage: motion tokens of a driving video, the rotations they say, and pictures of another figure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch


class MotionPipeline:
    """Reads the motion of a figure in a driving video, and lets the figure of a reference picture do it.

    The motion tokens of a frame say what the body does and not where the camera stood. One frame of the driving video
    gives the tokens of one frame of the result, so that videos of any length can be encoded; generation takes them in
    windows of `frame_count` frames.
    """

    @classmethod
    def from_pretrained(cls, folder: str | Path | None = None, device: str | torch.device = "cpu") -> MotionPipeline:
        """Load a folder that training has exported, strictly.

        Args:
            folder: the folder; that of the embedded `mini-motion` if None.
            device: device of torch.

        Raises:
            ModelError: if weights are missing, damaged or those of another model.
        """
        raise NotImplementedError

    @property
    def frame_size(self) -> tuple[int, int]:
        """Width and height in pixels of driving frames, of the reference and of the result."""
        raise NotImplementedError

    @property
    def hand_size(self) -> int:
        """Side in pixels of the square crops of hands."""
        raise NotImplementedError

    @property
    def frame_count(self) -> int:
        """Number of frames that are generated together; longer motions are generated in such windows."""
        raise NotImplementedError

    @property
    def fps(self) -> float:
        """Frame rate of the training clips."""
        raise NotImplementedError

    def encode_motion(
        self,
        frames: np.ndarray,  # [T, H, W, 3] float32 in 0..1
        hands: np.ndarray | None = None,  # [T, 2, h, h, 3] float32 in 0..1
        hands_visible: np.ndarray | None = None,  # [T, 2] bool
    ) -> np.ndarray:
        """Return the motion tokens of driving frames, [T, K, C] float32.

        Args:
            frames: crops about the figure, sRGB, of `frame_size`. The figure fills about four fifths of the height and
                is upright about the middle; crops of another size are resampled.
            hands: square crops about the left and the right hand, in this order, of `hand_size` px, or of another size,
                which is resampled. Each is centred on the middle of the hand and is as wide as about a quarter of the
                figure's height. None: without hands.
            hands_visible: which of them show the hand; all by default.

        Raises:
            ModelError: if the arrays have other shapes or hold no frame.
        """
        raise NotImplementedError

    def joint_rotations(
        self,
        tokens: np.ndarray,  # [T, K, C]
    ) -> np.ndarray:
        """Return the local rotations of the joints of `trackshade.motion.skeleton`, [T, J, 3, 3] float32.

        The root's is the identity: tokens do not say how the body is turned or where it is.
        """
        raise NotImplementedError

    def facing(
        self,
        picture: np.ndarray,  # [H, W, 3] uint8 or float32 in 0..1
    ) -> float:
        """Return the azimuth in degrees, -180 to 180, of the camera that sees the figure of a picture.

        At 0 it sees the figure's front, at 90 its left side: the azimuth increases as the camera moves to its right.
        """
        raise NotImplementedError

    def __call__(
        self,
        reference: np.ndarray,  # [H, W, 3] uint8
        tokens: np.ndarray,  # [T, K, C]
        azimuths: np.ndarray,  # [T] degrees
        elevations: np.ndarray,  # [T] degrees
        seed: int = 0,
        steps: int = 2,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """Generate the figure of a reference picture in the motion of tokens, [T, H, W, 3] uint8 of `frame_size`.

        Args:
            reference: crop about the figure, as of a driving frame; another size is resampled.
            tokens: motion tokens.
            azimuths: the camera of each frame relative to the reference's view; an increasing azimuth moves the camera
                to its right.
            elevations: elevation of the camera of each frame above the horizon.
            seed: seed of the noise.
            steps: denoising steps of each window.
            on_progress: called as on_progress(done, total) after every step; what it raises ends the generation.

        Raises:
            ModelError: if the arrays have other shapes or lengths, or the picture is blank.
        """
        raise NotImplementedError
