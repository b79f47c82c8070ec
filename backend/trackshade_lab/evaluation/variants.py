# SPDX-License-Identifier: GPL-3.0-or-later
"""The variants of a clip that are measured: the truth, a ceiling, the model's videos, baselines and controls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trackshade.core.errors import UsageError

from .clips import HeldOutClip
from .generator import VideoGenerator

# Rows of the tables, by identifier.
VARIANTS = {
    "truth": "ground truth",
    "ceiling": "autoencoder's ceiling",
    "right": "model, right tracks",
    "warp": "first frame warped along the tracks",
    "inpainted": "the same, holes inpainted",
    "still": "first frame repeated",
    "other": "another scene's tracks",
    "none": "no tracks",
    "destroyed": "identity destroyed",
}
_CELL_SIZE = 1 / 36  # of the frame's width, for `destroy_identity`


def parse_variants(names: str | None) -> tuple[str, ...]:
    """Parse a comma-separated list of variants; None selects all.

    Returns:
        Identifiers in the order of the tables, always with the truth.

    Raises:
        UsageError: for an unknown variant.
    """
    if not names:
        return tuple(VARIANTS)
    requested = [name.strip() for name in names.split(",") if name.strip()]
    if unknown := [name for name in requested if name not in VARIANTS]:
        raise UsageError("unknown-way", f"There is no variant '{unknown[0]}'.", f"Choose of {', '.join(VARIANTS)}.")
    return tuple(name for name in VARIANTS if name == "truth" or name in requested)


def make_variant(
    variant: str, clips: Sequence[HeldOutClip], generator: VideoGenerator
) -> tuple[list[np.ndarray], float | None]:
    """Make a variant of some clips.

    Returns:
        Videos [T, H, W, 3] uint8, and the seconds that the model took for each; None if it was not used.
    """
    targets = [clip.target for clip in clips]
    match variant:
        case "truth":
            return [target.video for target in targets], None
        case "ceiling":
            return [generator.autoencode(target.video) for target in targets], None
        case "still":
            return [np.broadcast_to(target.video[:1], target.video.shape) for target in targets], None
        case "warp":
            return [target.warp.video for target in targets], None
        case "inpainted":
            return [target.warp.inpainted for target in targets], None
        case "other":
            tracking = [clip.other_tracking() for clip in clips]
        case "none":
            tracking = [np.zeros_like(target.tracking) for target in targets]
        case "destroyed":
            tracking = [destroy_identity(c.target.tracking, c.object_index, c.spec.seed) for c in clips]
        case _:
            tracking = [target.tracking for target in targets]
    return generate_videos(clips, tracking, generator)


def generate_videos(
    clips: Sequence[HeldOutClip],
    tracking: Sequence[np.ndarray],  # [T, H, W, 3] uint8 each
    generator: VideoGenerator,
    use_first_frame: bool = True,
) -> tuple[list[np.ndarray], float]:
    """Generate clips from their captions, first frames and the given tracking videos.

    Returns:
        Videos [T, H, W, 3] uint8, and the seconds that each took.
    """
    return generator.generate(
        prompts=[clip.caption for clip in clips],
        images=[clip.target.video[0] for clip in clips] if use_first_frame else None,
        tracking=tracking,
        seeds=[clip.spec.seed for clip in clips],
    )


def destroy_identity(
    tracking: np.ndarray,  # [T, H, W, 3] uint8, by the mesh rule
    object_index: np.ndarray,  # [T, H, W]
    seed: int = 0,
    cell_size: float = _CELL_SIZE,  # relative to the frame's width
) -> np.ndarray:
    """Exchange the points of a tracking video, and keep its silhouettes and depths.

    Each object's surface is divided into cells by the points' places in the first frame, and the cells' places are
    exchanged at random within the object, the same way in every frame. Within a cell places still vary continuously.
    A model that follows only silhouettes loses nothing by this. An object with a single cell keeps its places.
    """
    height, width = tracking.shape[1:3]
    side = cell_size * width  # px
    columns, rows = int(np.ceil(width / side)), int(np.ceil(height / side))
    step = np.array([255 / columns, 255 / rows])  # 8-bit levels of a cell
    covered = tracking.any(axis=-1)
    places = tracking[covered][:, :2].astype(np.float64)  # [N, 2]
    cells = np.minimum((places // step).astype(int), [columns - 1, rows - 1])
    cell_ids = cells[:, 1] * columns + cells[:, 0]
    objects = object_index[covered]
    rng = np.random.default_rng(seed)
    new_ids = cell_ids.copy()
    for index in np.unique(objects):
        of_object = objects == index
        present = np.unique(cell_ids[of_object])
        order = rng.permutation(present)
        # Every cell gets the place of the next in a random ring: none keeps its own.
        following = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
        exchanged = np.array([following[cell] for cell in present])
        new_ids[of_object] = exchanged[np.searchsorted(present, cell_ids[of_object])]
    new_cells = np.stack([new_ids % columns, new_ids // columns], axis=1)
    destroyed = tracking.copy()
    colors = destroyed[covered]
    colors[:, :2] = np.rint(places + (new_cells - cells) * step).clip(0, 255)
    colors[~colors.any(axis=1), 1] = 1  # black means no track
    destroyed[covered] = colors
    return destroyed
