# SPDX-License-Identifier: GPL-3.0-or-later
"""Shards of clips that Blender renders: synthetic scenes from seeds, so that pictures of its engines are not foreign.

The add-on builds the scenes and renders them (`synthesise`), in a process of its own; tracking videos and captions are
made here, as those of shots and of procedural clips are.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from trackshade.cli.blender import run_addon
from trackshade.config import options
from trackshade.control.video import tracking_video
from trackshade.shot import Shot
from trackshade_lab.scenes.captions import Told, caption
from trackshade_lab.scenes.clip import Split
from trackshade_lab.scenes.shards import ShardClip, write_shard

_VERSION = 1  # of the scenes that a seed gives


def render_shards(
    out_dir: Path | str,
    count: int,
    first_seed: int = 0,
    split: Split = "train",
    *,
    size: tuple[int, int] = (144, 96),
    frames: int = 17,
    engine: str | None = None,
    blender: str | None = None,
    shard: int = 20,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write the rendered clips of seeds first_seed … first_seed + count − 1; returns the shards' folders, in order.

    A shard that is there already with the same clips is kept; another in its place raises FileExistsError. `engine`:
    "workbench", "eevee" or "cycles" for all, else each scene's own. `blender`: see `run_addon`, which says what else is
    raised. `progress(done, count)` is called after every clip.
    """
    out, folders = Path(out_dir), []
    for offset in range(0, count, shard):
        number, first = min(shard, count - offset), first_seed + offset
        folder = out / f"shard-rendered-{first:06d}"
        folders.append(folder)
        plan = {
            "rendered": _VERSION, "first_seed": first, "count": number, "split": split, "size": list(size),
            "frames": frames, "engine": engine,
        }  # fmt: skip
        if folder.exists():
            if json.loads((folder / "captions.json").read_text())["plan"] != plan:
                raise FileExistsError(f"{folder} holds other clips; choose another folder or remove it")
            continue

        def told(done: int, offset: int = offset) -> None:
            if progress:
                progress(offset + done, count)

        with tempfile.TemporaryDirectory(prefix="trackshade-rendered-") as made:
            values = {
                "out": made, "count": number, "first_seed": first, "split": split, "engine": engine, "width": size[0],
                "height": size[1], "length": frames,
            }  # fmt: skip
            run_addon(
                options.to_arguments("synthesise", values), blender, lambda message: told(int(message.get("step") or 0))
            )
            write_shard(folder, plan, (number, frames, size[1], size[0]), _clips(Path(made)))
        told(number)
    return folders


def _clips(folder: Path) -> Iterator[ShardClip]:
    """Of what `synthesise` leaves, by seed."""
    for path in sorted(folder.glob("*.json")):
        facts = json.loads(path.read_text(encoding="utf-8"))
        told = Told(**{**facts, "bodies": tuple(tuple(body) for body in facts["bodies"])})
        words = caption(np.random.default_rng([int(path.stem), 5]), told)
        pictures = sorted(path.with_suffix(".render").glob("*.png"))
        video = np.stack([np.asarray(Image.open(picture).convert("RGB")) for picture in pictures])
        tracking = tracking_video(Shot.load(path.with_suffix(".shot")), threads=1).frames
        yield ShardClip(video, tracking, words, f"rendered {told.kind}", told.color_in(words))
