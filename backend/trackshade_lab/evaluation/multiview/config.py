# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of an evaluation of grids."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trackshade.core.errors import UsageError
from trackshade.pipelines.multiview.arms import ARMS, DEFAULT, PUBLISHED
from trackshade.pipelines.multiview.matrix import TEMPERATURE

BASELINES = {
    "truth": "ground truth",
    "autoencoder": "truth, encoded and decoded",
    "warp": "references warped along the tracks",
    "propagation": "propagation of the references, surfaces filled",
    "mini": "the embedded video model, each row from its own first frame",
}
LIGHT, DETAIL = "light", "detail"
VARIANTS = (
    f"warp+{LIGHT}",
    f"rows+{LIGHT}+{DETAIL}",
    f"{PUBLISHED}+{LIGHT}+{DETAIL}",
    f"{DEFAULT}+{DETAIL}",
    f"{DEFAULT}+{LIGHT}",
    f"{DEFAULT}+{LIGHT}+{DETAIL}",
)
_LIT_BASELINES = ("warp", "propagation")


@dataclass(frozen=True)
class ArmVariant:
    """An arm or a baseline, with or without what Trackshade adds to it.

    Attributes:
        name: of `ARMS` or `BASELINES`.
        light: whether references are relit by clay renders.
        detail: whether detail that the autoencoder loses is added; see `MatrixDenoiser.picture`.
    """

    name: str
    light: bool
    detail: bool

    @classmethod
    def parse(cls, text: str) -> ArmVariant:
        """Return the variant of a text such as "rows" or "rows+light+detail". Raise UsageError for any other."""
        name, *added = text.split("+")
        allowed = {LIGHT, DETAIL} if name in ARMS else {LIGHT} if name in _LIT_BASELINES else set()
        if name not in (*ARMS, *BASELINES) or len(set(added)) < len(added) or not allowed.issuperset(added):
            raise UsageError(
                "bad-setting",
                f"There is no arm '{text}'.",
                f"Choose from {', '.join((*BASELINES, *ARMS))}; add +{LIGHT} or +{DETAIL} to arms.",
            )
        return cls(name, LIGHT in added, DETAIL in added)


@dataclass(frozen=True)
class MultiviewEvaluation:
    """What to evaluate.

    Attributes:
        model: folder of the denoiser.
        prompt: which cells are given; see `arms.known_cells`.
        scenes: number of held-out scenes.
        seeds: number of seeds of the noise for each scene.
        views: cameras V.
        frames: frames F.
        size: (width, height) of the cells.
        span: limits of the angle between the first camera and the last, degrees.
        steps: denoising steps.
        greatest_sigma: noise level that sampling begins with.
        arms: texts that `ArmVariant.parse` reads.
        temperature: how far samples deviate from the mean where references are not relit; see
            `ReferenceGuidedTransformer3DModel.forward`.
        bf16: whether products are computed in bfloat16.
    """

    model: Path
    prompt: Any = "cross"
    scenes: int = 60
    seeds: int = 3
    views: int = 5
    frames: int = 9
    size: tuple[int, int] = (144, 96)
    span: tuple[float, float] = (90.0, 120.0)
    steps: int = 6
    greatest_sigma: float = 20.0
    arms: tuple[str, ...] = (*BASELINES, *ARMS, *VARIANTS)
    temperature: float = TEMPERATURE
    bf16: bool = True
