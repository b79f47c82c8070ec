# SPDX-License-Identifier: GPL-3.0-or-later
"""Clips on disk: folders of plain .npy files that readers map into memory. Writing is resumable and atomic.

    OUT/shard-000000/  video.npy [N, T, H, W, 3] u8, tracking.npy likewise, captions.json
A shard exists once it is whole: it is written beside and renamed.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from trackshade.core.atomic_files import atomic_folder
from trackshade.core.errors import UsageError
from trackshade.core.processes import SAFE_PATH
from trackshade_lab.scenes.clip import Split, generate_clip

_VERSION = 2  # of the clips that a seed gives


@dataclass(frozen=True)
class _Plan:
    first_seed: int
    count: int
    size: tuple[int, int]
    frames: int
    split: Split
    kind: str | None
    control: str = "mesh"
    version: int = _VERSION

    def same_clips(self, found: dict) -> bool:
        """Whether the shard described by `found` holds exactly these clips."""
        return {"control": "mesh", **found} == json.loads(json.dumps(asdict(self)))


@dataclass(frozen=True)
class Shards:
    """All clips of a folder, as one sequence over its mapped shards. Some may be of single pictures: T is 1 there."""

    videos: tuple[np.ndarray, ...]  # each [N, T, H, W, 3] u8
    trackings: tuple[np.ndarray, ...]
    captions: tuple[str, ...]
    kinds: tuple[str, ...]
    colors: tuple[str | None, ...]  # the caption's color of the main body, where most of it shows that
    control: str = "mesh"  # what the tracking videos are; see `control.signals`

    def __len__(self) -> int:
        return len(self.captions)

    @property
    def frames(self) -> int:
        """T of those that are no single pictures."""
        return max(video.shape[1] for video in self.videos)

    @cached_property
    def whole(self) -> np.ndarray:
        """[N] the numbers of the clips that have all frames."""
        return np.flatnonzero(np.concatenate([np.full(len(v), v.shape[1] == self.frames) for v in self.videos]))

    def __getitem__(self, n: int) -> tuple[np.ndarray, np.ndarray, str, str]:
        """Video, tracking video, caption and kind of clip `n`."""
        if not 0 <= n < len(self):
            raise IndexError(n)
        k = n
        for video, tracking in zip(self.videos, self.trackings, strict=True):
            if k < len(video):
                return video[k], tracking[k], self.captions[n], self.kinds[n]
            k -= len(video)
        raise IndexError(n)

    @cached_property
    def named(self) -> np.ndarray:
        """[N] the numbers of the clips whose caption names their main body's color."""
        return np.flatnonzero([color is not None for color in self.colors])


def generate_shards(
    out_dir: Path | str,
    count: int,
    first_seed: int = 0,
    split: Split = "train",
    processes: int = 1,
    *,
    size: tuple[int, int] = (144, 96),
    frames: int = 17,
    kind: str | None = None,
    control: str = "mesh",
    shard: int = 250,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write the clips of seeds first_seed … first_seed + count − 1; returns the shards' folders, in order.

    A shard that is there already with the same clips is kept; another in its place raises FileExistsError.
    `control`: the signal that stands for the tracking video. `progress(done, count)` is called after every shard.
    """
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    folders, missing, done = [], [], 0
    for n, offset in enumerate(range(0, count, shard)):
        folder = out / f"shard-{n:06d}"
        plan = _Plan(first_seed + offset, min(shard, count - offset), (size[0], size[1]), frames, split, kind, control)
        folders.append(folder)
        if folder.exists():
            if not plan.same_clips(json.loads((folder / "captions.json").read_text())["plan"]):
                raise FileExistsError(f"{folder} holds other clips; choose another folder or remove it")
            done += plan.count
        else:
            missing.append((folder, plan))
    if progress and done:
        progress(done, count)
    if missing and processes > 1:
        generate_clip(0, (16, 16), 1)  # compiles the kernels once, for all processes to find on disk
    # Fresh processes, not forks: the parent may hold threads (torch, numba). One thread in each.
    with _one_thread(), ProcessPoolExecutor(max(1, processes), multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(partial(_write_shard, folder, plan)): plan.count for folder, plan in missing}
        for future in as_completed(futures):
            future.result()
            done += futures[future]
            if progress:
                progress(done, count)
    return folders


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let processes that start now compute in one thread, as many of them share the cores already, and import nothing
    from the current folder.
    """
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


def _write_shard(folder: Path, plan: _Plan) -> None:
    write_shard(folder, asdict(plan), (plan.count, plan.frames, plan.size[1], plan.size[0]), _clips(plan))


def _clips(plan: _Plan) -> Iterator[ShardClip]:
    for seed in range(plan.first_seed, plan.first_seed + plan.count):
        clip = generate_clip(
            seed, plan.size, plan.frames, plan.kind, split=plan.split, keep_scene=True, control=plan.control
        )
        color = clip.scene.color if clip.scene else None
        yield ShardClip(clip.video, clip.tracking, clip.caption, clip.kind, color)


@dataclass(frozen=True)
class ShardClip:
    """A clip on its way into a shard; see `Shards`."""

    video: np.ndarray  # [T, H, W, 3] u8, as the tracking
    tracking: np.ndarray
    caption: str
    kind: str
    color: str | None


def write_shard(
    folder: Path, plan: dict[str, Any], shape: tuple[int, int, int, int], clips: Iterable[ShardClip]
) -> None:
    """Write `clips` as the shard `folder`, whole or not at all; `shape` is [N, T, H, W], `plan` what they are."""
    captions, kinds, colors = [], [], []
    with atomic_folder(folder, replace=False) as part:
        video = np.lib.format.open_memmap(part / "video.npy", "w+", np.uint8, (*shape, 3))
        tracking = np.lib.format.open_memmap(part / "tracking.npy", "w+", np.uint8, (*shape, 3))
        for n, clip in enumerate(clips):
            video[n], tracking[n] = clip.video, clip.tracking
            captions.append(clip.caption)
            kinds.append(clip.kind)
            colors.append(clip.color)
        video.flush()
        tracking.flush()
        told = {"plan": plan, "captions": captions, "kinds": kinds, "colours": colors}
        (part / "captions.json").write_text(json.dumps(told, indent=1))


def shard_folders(out_dir: Path | str) -> list[Path]:
    """The whole shards of a folder and of the folders in it, in order."""
    out = Path(out_dir)
    return sorted([*out.glob("shard-*"), *out.glob("*/shard-*")])


def load_shards(out_dir: Path | str) -> Shards:
    """Map all whole shards of a folder and of the folders in it, in order.

    Raises FileNotFoundError where there is none, UsageError where they hold different control signals, or clips of
    different sizes or lengths (single pictures may be among them).
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
        raise UsageError(
            "bad-dataset",
            f"{out_dir} holds shards of {' and of '.join(sorted(controls))}.",
            "Keep them in folders of their own.",
        )
    if len({video.shape[2:] for video in videos}) > 1 or len({video.shape[1] for video in videos} - {1}) > 1:
        raise UsageError(
            "bad-dataset",
            f"{out_dir} holds clips of different sizes or lengths.",
            "Keep them in folders of their own; only single pictures may stand beside clips.",
        )
    return Shards(tuple(videos), tuple(trackings), tuple(captions), tuple(kinds), tuple(colors), controls.pop())
