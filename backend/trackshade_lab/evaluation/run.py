# SPDX-License-Identifier: GPL-3.0-or-later
"""`evaluate`: make held-out clips again in every way and measure them. What is measured is kept clip by clip, so that a
run that was stopped goes on where it was.

    OUT/settings.json           what is evaluated, and the digest of its weights
    OUT/clips/KIND-SEED.json    figures of one clip
    OUT/sheets/KIND-SEED.png    truth, what was made, and baselines, frame by frame
    OUT/report.json report.md   figures of all, with intervals; tables
    OUT/plots/                  the same as pictures
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trackshade.config.registry import model_folder, spec
from trackshade.control.signals import PointRule, control_signal
from trackshade.core.errors import UsageError
from trackshade.core.images import psnr
from trackshade.models.checkpoint import digest

from . import store
from .color_words import shown_color
from .generator import Generator, Sampling, pipeline_folder
from .held_out import Held, Item, make_held, plan
from .measures import measure
from .perceptual import Distance, find_lpips
from .sheets import write_sheet
from .variants import MADE, TEXT, WAYS, generated, make

Progress = Callable[[str], None]
_CONTROL_MEASURES = ("psnr", "ssim", "lpips", "psnr_covered", "psnr_uncovered", "end_px", "end_share", "gradient")


@dataclass(frozen=True)
class Evaluation:
    """What to evaluate.

    Attributes:
        clips, spin: held-out clips, and further ones of the spin set.
        ways: of `WAYS`; the truth is always among them.
        controls: signals of the control table, each fed to its model in `control_models` (a folder), else to the model.
        sheets: how many clips are drawn.
        batch: clips that the model makes at a time.
    """

    sampling: Sampling
    clips: int = 108
    spin: int = 24
    kinds: tuple[str, ...] = ()
    ways: tuple[str, ...] = tuple(WAYS)
    text: bool = True
    controls: tuple[str, ...] = ()
    control_models: Mapping[str, str] = field(default_factory=dict)
    point_rule: PointRule = "mesh"
    sheets: int = 12
    batch: int = 4
    device: str | None = None

    def settings(self) -> dict[str, Any]:
        """What figures depend on; how many clips there are does not change those of one."""
        return {
            "sampling": self.sampling.to_dict(),
            "weights": weights_digest(self.sampling),
            "kinds": list(self.kinds),
            "ways": list(self.ways),
            "text": self.text,
            "controls": {
                name: weights_digest(self.sampling.with_folder(folder))
                if (folder := self.control_models.get(name))
                else ""
                for name in self.controls
            },
            "point_rule": self.point_rule,
        }


def weights_digest(sampling: Sampling) -> str:
    """Of the weights that are evaluated."""
    folder = model_folder(spec(sampling.model)) if sampling.folder is None else Path(sampling.folder)
    return digest(folder if sampling.folder is None else pipeline_folder(folder))


def evaluate(evaluation: Evaluation, out: Path, say: Progress, force: bool = False) -> dict[str, Any]:
    """Measure every clip that `out` does not hold yet; the records of all, and how they were made.

    Raises:
        UsageError: too few clips, unknown kinds, ways or signals; `out` holds another evaluation.
        ModelError: a model cannot be loaded or does not take the size. OutputError: `out` cannot be written.
    """
    if evaluation.clips + evaluation.spin < 2:
        raise UsageError("bad-setting", "An interval needs two clips or more.", "Give --clips 2 or more.")
    items = plan(evaluation.clips, evaluation.spin, evaluation.kinds)
    kept = store.open_store(out, evaluation.settings(), force)
    perceptual, note = find_lpips()
    begun, done = time.monotonic(), 0
    missing = [chunk for chunk in _chunks(items, evaluation.batch) if not kept.has(chunk)]
    waiting = sum(map(len, missing))
    if waiting < len(items):
        say(f"{len(items) - waiting} of {len(items)} clips are measured already.")
    workshop = _Workshop(evaluation, out, perceptual, drawn_items(items, evaluation.sheets)) if missing else None
    for chunk in missing:
        assert workshop is not None
        for record in workshop.records(chunk):
            kept.put(record)
            done += 1
            left = (time.monotonic() - begun) / done * (waiting - done)
            say(f"clip {done} of {waiting}, {record['name']}: {_headline(record)}; about {left / 60:.0f} min left")
    return {
        "settings": evaluation.settings() | {"clips": evaluation.clips, "spin": evaluation.spin},
        "notes": [note],
        "clips": [kept.get(item.name) for item in items],
    }


def drawn_items(items: Sequence[Item], count: int) -> frozenset[str]:
    """Names of the clips that get a sheet: of each kind in turn, as the plan has them."""
    return frozenset(item.name for item in items[:count])


class _Workshop:
    """Models and measures, loaded once."""

    def __init__(self, evaluation: Evaluation, out: Path, perceptual: Distance | None, drawn: frozenset[str]) -> None:
        self.evaluation, self.out, self.perceptual, self.drawn = evaluation, out, perceptual, drawn
        self.generator = Generator(evaluation.sampling, evaluation.device)
        self.control_generators = {
            name: Generator(evaluation.sampling.with_folder(folder), evaluation.device)
            for name, folder in evaluation.control_models.items()
            if name in evaluation.controls
        }

    def records(self, chunk: Sequence[Item]) -> list[dict[str, Any]]:
        """Figures of the clips of a chunk."""
        sampling = self.evaluation.sampling
        held = [make_held(item, sampling.size, sampling.frames) for item in chunk]
        records = [_facts(item) for item in held]
        shown: list[list[tuple[str, np.ndarray]]] = [[] for _ in held]
        for way in self.evaluation.ways:
            made = make(way, held, self.generator)
            for item, record, rows, video in zip(held, records, shown, made.videos, strict=True):
                record["ways"][way] = measure(item.subject, video, self.perceptual)
                record["frames"][way] = frame_psnr(item.subject.video, video)
                rows.append((WAYS[way], video))
                if way in MADE:
                    record["seconds"] = made.seconds
        if self.evaluation.text:
            self._text(held, records, shown)
        for name in self.evaluation.controls:
            self._control(name, held, records, shown)
        for item, rows in zip(held, shown, strict=True):
            if item.item.name in self.drawn:
                write_sheet(self.out / "sheets" / f"{item.item.name}.png", item.caption, item.subject.tracking, rows)
        return records

    def _text(self, held: Sequence[Held], records: list[dict[str, Any]], shown: list[list]) -> None:
        """The color of the text, first frame dropped, for clips whose caption names one that dominates."""
        chosen = [n for n, item in enumerate(held) if item.color is not None]
        if not chosen:
            return
        made = make(TEXT, [held[n] for n in chosen], self.generator)
        for n, video in zip(chosen, made.videos, strict=True):
            main = held[n].subject.main
            assert main is not None  # held-out clips know it
            records[n]["text"] = {
                "named": held[n].color,
                "truth": shown_color(held[n].subject.video, main),
                "made": shown_color(video, main),
            }
            shown[n].append(("text and tracks, no first frame", video))

    def _control(self, name: str, held: Sequence[Held], records: list[dict[str, Any]], shown: list[list]) -> None:
        rule = self.evaluation.point_rule
        signals = [control_signal(item.shot, name, item.seed, rule) for item in held]
        made = generated(held, signals, self.control_generators.get(name, self.generator))
        for item, record, rows, video in zip(held, records, shown, made.videos, strict=True):
            figures = measure(item.subject, video, self.perceptual)
            record["controls"][name] = {key: figures[key] for key in _CONTROL_MEASURES if key in figures}
            rows.append((f"control: {name}", video))


def frame_psnr(truth: np.ndarray, made: np.ndarray) -> list[float]:
    """[T - 1] dB, of each frame after the first."""
    return [psnr(a[None], b[None]) for a, b in zip(truth[1:], made[1:], strict=True)]


def _facts(held: Held) -> dict[str, Any]:
    moved = held.subject.movement
    return {
        "name": held.item.name,
        "kind": held.item.kind,
        "seed": held.item.seed,
        "extra": held.item.extra,
        "caption": held.caption,
        "covered": float(held.subject.warp.covered[1:].mean()),
        "movement": None if moved is None else {"degrees": moved.degrees, "share": moved.share, "small": moved.small},
        "ways": {},
        "frames": {},
        "controls": {},
        "text": None,
        "seconds": None,
    }


def _chunks(items: Sequence[Item], size: int) -> list[list[Item]]:
    return [list(items[first : first + size]) for first in range(0, len(items), size)]


def _headline(record: Mapping[str, Any]) -> str:
    figures = [
        (title, record["ways"].get(way)) for way, title in (("right", "model"), ("warp", "warp"), ("still", "still"))
    ]
    return ", ".join(f"{title} {found['psnr']:.1f} dB" for title, found in figures if found)
