# SPDX-License-Identifier: GPL-3.0-or-later
"""Splits a long video into passes of a model, each of which begins with the last frames of the one before."""

from __future__ import annotations


def plan_passes(num_frames: int, longest: int, held: int) -> list[tuple[int, int]]:
    """Return the frames (start, end) of each pass, end excluded.

    Args:
        num_frames: Number of frames of the video.
        longest: Most frames of a pass; 0 for no limit.
        held: Frames of a pass that the next one begins with, fewer than `longest`.
    """
    if not longest or num_frames <= longest:
        return [(0, num_frames)]
    passes, end = [(0, longest)], longest
    while end < num_frames:
        start = end - held
        end = min(num_frames, start + longest)
        passes.append((start, end))
    return passes
