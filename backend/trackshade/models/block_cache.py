# SPDX-License-Identifier: GPL-3.0-or-later
"""First-block cache: skips most of a transformer in steps in which its first block does nearly what it did before.

Diffusers' hooks for this expect that nothing but the blocks changes the tokens between them. The tracking branch does,
so that its contributions would be counted twice; here they are part of what is cached, and skipped with it.

Source: ParaAttention's First Block Cache; TeaCache (Liu et al. 2024, arXiv 2411.19108).
"""

from __future__ import annotations

import torch


class BlockCache:
    """What a transformer keeps from one step to the next.

    Attributes:
        threshold: Mean change of the first block's residual, relative to the mean of the residual, below which the
            other blocks are skipped. With 0 they never are.
        computed: Number of forward passes that ran all blocks since the last reset.
        skipped: Number of those that ran the first one only.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.reset()

    def reset(self) -> None:
        """Forget everything, before another video is made."""
        self._first: torch.Tensor | None = None
        self._rest: torch.Tensor | None = None
        self._scale = 0.0
        self.computed = self.skipped = 0

    def find(self, first: torch.Tensor, control_scale: float) -> torch.Tensor | None:
        """Return what the other blocks added in an earlier step, [B, N, dim]; None if they have to run.

        Args:
            first: [B, N, dim] what the first block adds, with the tracking branch's part.
            control_scale: Factor of the tracking branch; another one than that of the earlier step is no match.
        """
        known, rest = self._first, self._rest
        is_same_scale = self._scale == control_scale
        if known is not None and rest is not None and known.shape == first.shape and is_same_scale:
            change = (first - known).abs().mean() / known.abs().mean().clamp(min=1e-12)
            if float(change) < self.threshold:
                self.skipped += 1
                return rest
        self._first, self._rest, self._scale = first, None, control_scale
        self.computed += 1
        return None

    def keep(self, rest: torch.Tensor) -> None:
        """Keep what the other blocks have added, [B, N, dim], for later steps."""
        self._rest = rest
