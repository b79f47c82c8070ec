# SPDX-License-Identifier: GPL-3.0-or-later
"""Generated clips as tensors, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .clips import FRAME_SIZE, Clips


@dataclass(frozen=True)
class MotionBatch:
    """N frames of N / F clips; the frames of a clip follow each other.

    Pictures are in 0..1, angles in radians, places in pixels. Pictures that were not rendered are empty.
    """

    num_frames: int  # F
    local: torch.Tensor  # [N, J, 3, 3]
    body_landmarks: torch.Tensor  # [N, L, 3] metres
    landmarks: torch.Tensor  # [N, L, 2] of the target
    azimuth: torch.Tensor  # [N] of the target's camera
    elevation: torch.Tensor  # [N]
    driving_azimuth: torch.Tensor  # [N]
    driving_landmarks: torch.Tensor  # [N, L, 2] in the driving frames
    exact_landmarks: torch.Tensor  # [N, L, 2] of the driving figure, in the target's framing
    driving_visible: torch.Tensor  # [N, L] bool, landmarks that the driving frames show
    visible: torch.Tensor  # [N, L] bool, landmarks that the targets show
    hands_visible: torch.Tensor  # [N, 2] bool
    reference_azimuth: torch.Tensor  # [N / F]
    reference_landmarks: torch.Tensor  # [N / F, L, 2]
    driving: torch.Tensor  # [N, 3, H, W]
    hands: torch.Tensor  # [N, 2, 3, h, h]
    target: torch.Tensor  # [N, 3, H, W]
    coverage: torch.Tensor  # [N, H, W]
    reference: torch.Tensor  # [N / F, 3, H, W]
    background: torch.Tensor  # [N / F, 3, H, W], without figure

    @classmethod
    def from_clips(cls, clips: Clips, device: torch.device | str = "cpu") -> MotionBatch:
        """Flatten the frames of clips and move them to a device."""

        def flat(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(array, np.float32)).flatten(0, 1).to(device)

        def pictures(array: np.ndarray | None) -> torch.Tensor:
            return torch.empty(0) if array is None else flat(array).movedim(-1, -3).contiguous()

        def single(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(device)

        num_frames = clips.azimuth.shape[1]
        visible = torch.from_numpy(clips.hands_visible).to(device)
        still, background = (
            torch.empty(0) if array is None else single(array).movedim(-1, -3).contiguous()
            for array in (clips.reference, clips.background)
        )
        return cls(
            num_frames=num_frames,
            local=flat(clips.local),
            body_landmarks=flat(clips.body_landmarks),
            landmarks=flat(clips.landmarks),
            azimuth=flat(clips.azimuth),
            elevation=flat(clips.elevation),
            driving_azimuth=flat(clips.driving_azimuth),
            driving_landmarks=flat(clips.driving_landmarks),
            exact_landmarks=flat(clips.exact_landmarks),
            driving_visible=flat(clips.driving_visible).bool(),
            visible=flat(clips.visible).bool(),
            hands_visible=visible[:, None].expand(-1, num_frames).reshape(-1, 1).expand(-1, 2),
            reference_azimuth=single(clips.reference_azimuth),
            reference_landmarks=single(clips.reference_landmarks),
            driving=pictures(clips.driving),
            hands=pictures(clips.hands),
            target=pictures(clips.target),
            coverage=torch.empty(0) if clips.coverage is None else flat(clips.coverage),
            reference=still,
            background=background,
        )

    def to_units(
        self,
        places: torch.Tensor,  # [..., 2] pixels
    ) -> torch.Tensor:
        """Return places in units of a quarter of the frame's height from its center."""
        width, height = FRAME_SIZE
        return (places - places.new_tensor([width / 2, height / 2])) / (height / 4)
