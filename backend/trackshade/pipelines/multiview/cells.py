# SPDX-License-Identifier: GPL-3.0-or-later
"""All cells of a shot with several cameras, from the pictures of some of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch

from ...config.memory_presets import GIB
from ...core.errors import UsageError
from ...core.resampling import resample
from ...propagation.light import Light, Relighting
from ...propagation.pictures import surface_picture
from ...propagation.poses import resize_shot
from ...propagation.propagation import to_linear
from ...shot import Shot
from ...shot.cameras import unroll_cameras
from .arms import ARMS, DEFAULT, sample_with_arm
from .grid import Cell
from .matrix import MatrixDenoiser, MatrixModel
from .prompts import complete_references
from .sampling import Experts, karras_sigmas
from .warping import ReferenceWarp

STEPS = 6
SIGMAS = (0.05, 20.0)  # least and greatest noise level
MOST_CLIPS = 16  # that are denoised in one call; more are not faster
BASE_BYTES = 700 << 20  # of the process with mini-matrix, measured
BYTES_PER_PIXEL = 300  # of a clip, for each pixel of its cells, measured on mini-matrix with 144x96 and 288x192
_SHARE = 0.8  # of the memory that is used
LONGEST_CLIP = 17  # cells of a clip, as in the model's training


def batch_for_memory(memory: str, size: tuple[int, int], free: int | None) -> int:
    """Return how many clips may be denoised in one call.

    Args:
        memory: one of `trackshade.config.memory_presets.MEMORY_CHOICES`: GiB, "auto" for what is free, or "full".
        size: (width, height) of the cells.
        free: bytes of free memory; None if that is unknown.
    """
    limit = {"full": None, "auto": free}[memory] if memory in ("full", "auto") else int(memory) * GIB
    if limit is None:
        return MOST_CLIPS
    clip = BYTES_PER_PIXEL * LONGEST_CLIP * size[0] * size[1]
    return min(MOST_CLIPS, max(1, (int(_SHARE * limit) - BASE_BYTES) // clip))


def sample_cells(
    model: MatrixModel,
    shot: Shot,
    given: Mapping[Cell, np.ndarray],
    *,
    arm: str = DEFAULT,
    steps: int = STEPS,
    seed: int = 0,
    size: tuple[int, int] = (144, 96),
    light: Light | None = None,
    clips_per_batch: int = MOST_CLIPS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """Sample all cells of a shot.

    Args:
        model: the denoiser.
        shot: F frames with V cameras, as it was captured.
        given: pictures [h, w, 3] uint8 by cell (view, frame), the crossing of the reference row and the reference
            column first. What they leave out of that row and that column is made first.
        arm: one of `ARMS`.
        steps: denoising steps.
        seed: of the noise.
        size: (width, height) of the cells.
        light: clay renders of all samples of the unrolled shot, by which pictures are relit for other cells. If it is
            None, or the first picture has another light than its clay render, they are not relit.
        clips_per_batch: greatest number of clips that are denoised in one call, which limits the memory.
        progress: called as progress(done, total) after every step; what it raises ends the sampling.

    Returns:
        The cells, [V, F, H, W, 3] uint8. Given ones are sampled, too.

    Raises:
        UsageError: there is one camera, no picture, a picture of a cell that the shot does not have, no such arm, or
            the size has another aspect than the cameras.
        ShotError: what `Shot.check_values` finds, or a clay render is not a picture.
    """
    views, frames = len(shot.cameras), len(shot.frame_numbers)
    _check(views, frames, given, arm)
    shot.check_values()
    unrolled = resize_shot(unroll_cameras(shot), size)
    pictures = {cell: _resize(image, size) for cell, image in given.items()}
    relighting = None if light is None else match_relighting(unrolled, pictures, light)
    denoiser = MatrixDenoiser(model, ReferenceWarp(unrolled, relighting))
    experts = Experts(dict.fromkeys(("row", "column", "frame"), denoiser), clips_per_batch, LONGEST_CLIP)
    generator, sigmas = torch.Generator().manual_seed(seed), karras_sigmas(steps, *SIGMAS)
    shape = model.encode(next(iter(pictures.values()))[None]).shape[1:]
    noise = torch.randn(views, frames, *shape, generator=generator)
    references = complete_references(
        experts, noise, sigmas, pictures, lambda cell, latents: denoiser.picture(cell, latents, pictures)
    )

    def to_picture(cell: Cell, latents: torch.Tensor) -> np.ndarray:
        return denoiser.picture(cell, latents, references)

    cells = sample_with_arm(
        ARMS[arm], experts, noise, sigmas, references, to_picture, generator=generator, progress=progress
    )
    return np.stack([np.stack([to_picture((v, f), cells[v, f]) for f in range(frames)]) for v in range(views)])


def match_relighting(shot: Shot, pictures: Mapping[Cell, np.ndarray], light: Light) -> Relighting | None:
    """Return how pictures of an unrolled shot are relit by its clay renders; None if their light is another one.

    Args:
        shot: the shot, unrolled.
        pictures: pictures by cell; the light of the first one counts.
        light: the clay renders.
    """
    (view, frame), picture = next(iter(pictures.items()))
    t = frame * shot.views + view
    return Relighting.match(shot, t, surface_picture(shot, t, to_linear(picture)), light)[1]


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a picture [H, W, 3] uint8 at a size."""
    height, width = image.shape[:2]
    if (width, height) == tuple(size):
        return image
    resized = resample(image, size, (size[0] / width, size[1] / height), (0.0, 0.0))
    return np.clip(np.round(resized), 0, 255).astype(np.uint8)


def _check(views: int, frames: int, given: Mapping[Cell, np.ndarray], arm: str) -> None:
    if arm not in ARMS:
        raise UsageError("bad-setting", f"There is no arm '{arm}'.", f"Choose one of {', '.join(ARMS)}.")
    if views < 2:
        raise UsageError(
            "one-camera", "The shot has one camera, so there is no grid of cameras and frames.", "Use `render`."
        )
    if not given:
        raise UsageError("no-key-picture", "No picture of any cell is given.", "Give or render a first frame.")
    for view, frame in given:
        if not (0 <= view < views and 0 <= frame < frames):
            raise UsageError(
                "no-sample", f"A picture shows frame {frame} of camera {view}; the shot has {frames} and {views}."
            )
