# SPDX-License-Identifier: GPL-3.0-or-later
"""Shards: clips on disk, in folders of .npy files that readers map into memory.

    OUT/shard-000000/  video.npy [N, T, H, W, 3] uint8, tracking.npy likewise, captions.json

A shard is written under another name and renamed once it is complete, so writing can be interrupted and resumed.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from trackshade.core.atomic_files import atomic_folder
from trackshade.core.errors import UsageError
from trackshade.core.processes import SAFE_PATH
from trackshade_lab.scenes.clip import Split, generate_clip

_VERSION = 2  # changes when seeds give other clips


ShardClip = tuple[np.ndarray, np.ndarray, str, str, str | None]  # video, tracking video, caption, kind, color


@dataclass(frozen=True)
class Shards:
    """All clips of a folder, as one sequence over its memory-mapped shards."""

    videos: tuple[np.ndarray, ...]  # [N, T, H, W, 3] uint8 of each shard; T is 1 in shards of stills
    trackings: tuple[np.ndarray, ...]  # tracking videos, as `videos`
    captions: tuple[str, ...]  # caption of each clip
    kinds: tuple[str, ...]  # kind of each clip; see `clip.clip_kinds`
    # color name of the main body in each caption, if most of the body shows it, else None
    colors: tuple[str | None, ...]
    control: str = "mesh"  # control signal in the tracking videos; see `control.signals`

    def __len__(self) -> int:
        return len(self.captions)

    @property
    def frames(self) -> int:
        """Number of frames of the clips that are not stills."""
        return max(video.shape[1] for video in self.videos)

    @cached_property
    def whole(self) -> np.ndarray:
        """Indices [N] of the clips that are not stills, unless all are."""
        return np.flatnonzero(np.concatenate([np.full(len(v), v.shape[1] == self.frames) for v in self.videos]))

    def __getitem__(self, n: int) -> tuple[np.ndarray, np.ndarray, str, str]:
        """Return video, tracking video, caption and kind of clip `n`."""
        if not 0 <= n < len(self):
            raise IndexError(n)
        starts = np.cumsum([0, *map(len, self.videos)])
        shard = int(np.searchsorted(starts, n, side="right")) - 1
        k = n - starts[shard]
        return self.videos[shard][k], self.trackings[shard][k], self.captions[n], self.kinds[n]

    @cached_property
    def named(self) -> np.ndarray:
        """Indices [N] of the clips whose caption names the main body's color."""
        return np.flatnonzero([color is not None for color in self.colors])


def generate_shards(
    out_dir: Path | str,
    count: int,
    first_seed: int = 0,
    split: Split = "train",
    processes: int = 1,
    *,
    size: tuple[int, int] = (144, 96),
    num_frames: int = 17,
    kind: str | None = None,
    control: str = "mesh",
    shard: int = 250,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write the clips of seeds `first_seed` … `first_seed + count − 1` as shards of `shard` clips.

    A shard that exists already with the same clips is kept. For the clips see `generate_clip`. `progress` is called
    with the numbers of clips done and in total after each shard.

    Returns:
        The folders of the shards, in order.

    Raises:
        FileExistsError: if a shard with other clips is in the way.
    """
    settings = {
        "size": list(size), "frames": num_frames, "split": split, "kind": kind, "control": control, "version": _VERSION,
    }  # fmt: skip
    folders, missing = plan_shards(out_dir, "shard-{number:06d}", count, first_seed, shard, settings)
    done = count - sum(plan["count"] for plan in missing.values())
    if progress and done:
        progress(done, count)
    if missing and processes > 1:
        generate_clip(0, (16, 16), 1)  # compiles the kernels once and caches them for all processes
    # Spawn processes, because the parent may have threads (torch, numba), which forks break.
    with _single_threaded(), ProcessPoolExecutor(max(1, processes), multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(_generate_shard, folder, plan): plan["count"] for folder, plan in missing.items()}
        for future in as_completed(futures):
            future.result()
            done += futures[future]
            if progress:
                progress(done, count)
    return folders


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Make processes that start now use one thread each, and import nothing from the current folder."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", SAFE_PATH)
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _generate_shard(folder: Path, plan: dict[str, Any]) -> None:
    seeds = range(plan["first_seed"], plan["first_seed"] + plan["count"])
    options = {key: plan[key] for key in ("kind", "split", "control")}
    clips = (generate_clip(seed, tuple(plan["size"]), plan["frames"], **options) for seed in seeds)
    write_shard(folder, plan, ((c.video, c.tracking, c.caption, c.kind, c.scene.color) for c in clips))


def plan_shards(
    out_dir: Path | str, name: str, count: int, first_seed: int, shard: int, settings: dict[str, Any]
) -> tuple[list[Path], dict[Path, dict[str, Any]]]:
    """Plan the shards of consecutive seeds in a folder, which is created.

    `name` formats a shard's name from its "number" and "seed"; `settings` are what else determines the clips.

    Returns:
        The folders of all shards, and the plans of those that do not exist yet, by folder.

    Raises:
        FileExistsError: if a shard with other clips is in the way.
    """
    out, folders, missing = Path(out_dir), [], {}
    out.mkdir(parents=True, exist_ok=True)
    for number, offset in enumerate(range(0, count, shard)):
        seed = first_seed + offset
        folder = out / name.format(number=number, seed=seed)
        folders.append(folder)
        plan = {"first_seed": seed, "count": min(shard, count - offset), **settings}
        if not folder.exists():
            missing[folder] = plan
        elif {"control": "mesh", **json.loads((folder / "captions.json").read_text())["plan"]} != {
            "control": "mesh",  # early shards do not name it
            **plan,
        }:
            raise FileExistsError(f"{folder} holds other clips; choose another folder or remove it")
    return folders, missing


def write_shard(folder: Path, plan: dict[str, Any], clips: Iterable[ShardClip]) -> None:
    """Write a shard completely or not at all; `plan` describes the clips, to recognize the shard."""
    shape, texts = (plan["count"], plan["frames"], *plan["size"][::-1], 3), []
    with atomic_folder(folder, single_writer=True) as part:
        files = [part / "video.npy", part / "tracking.npy"]
        videos = [np.lib.format.open_memmap(file, "w+", np.uint8, shape) for file in files]
        for n, (video, tracking, *text) in enumerate(clips):
            videos[0][n], videos[1][n] = video, tracking
            texts.append(text)
        for video in videos:
            video.flush()
        columns = zip(("captions", "kinds", "colours"), zip(*texts, strict=True), strict=True)
        (part / "captions.json").write_text(json.dumps({"plan": plan, **dict(columns)}, indent=1))


def shard_folders(out_dir: Path | str) -> list[Path]:
    """Return the shards of a folder and of its subfolders, in order."""
    out = Path(out_dir)
    return sorted([*out.glob("shard-*"), *out.glob("*/shard-*")])


def load_shards(out_dir: Path | str) -> Shards:
    """Map all shards of a folder and of its subfolders into memory, in order.

    Raise FileNotFoundError if there is none, and UsageError if they hold different control signals, or clips of
    different sizes or lengths (stills may be mixed with clips).
    """
    folders = shard_folders(out_dir)
    if not folders:
        raise FileNotFoundError(f"no shards in {out_dir}")
    videos, trackings, captions, kinds, colors, controls = [], [], [], [], [], set()
    for folder in folders:
        text = json.loads((folder / "captions.json").read_text())
        videos.append(np.load(folder / "video.npy", mmap_mode="r", allow_pickle=False))
        trackings.append(np.load(folder / "tracking.npy", mmap_mode="r", allow_pickle=False))
        captions += text["captions"]
        kinds += text["kinds"]
        controls.add(text.get("plan", {}).get("control", "mesh"))
        colors += text.get("colours", [None] * len(text["captions"]))
    if len(controls) > 1:
        fix = "Keep them in folders of their own."
        raise UsageError("bad-dataset", f"{out_dir} holds shards of {' and of '.join(sorted(controls))}.", fix)
    if len({video.shape[2:] for video in videos}) > 1 or len({video.shape[1] for video in videos} - {1}) > 1:
        fix = "Keep them in folders of their own; only single pictures may stand beside clips."
        raise UsageError("bad-dataset", f"{out_dir} holds clips of different sizes or lengths.", fix)
    return Shards(tuple(videos), tuple(trackings), tuple(captions), tuple(kinds), tuple(colors), controls.pop())
