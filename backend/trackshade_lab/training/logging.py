# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run tells: a line of JSON per entry, TensorBoard beside it, and sentences for people."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Report = Callable[[dict[str, Any]], None]
_CURVES = ("loss", "norm", "rate", "samples_per_second", "psnr", "psnr_other_tracks")


class Log:
    """Of one run. Entries with a "step" become curves; silent where this is not the first process of a launch."""

    def __init__(self, out: Path, report: Report | None, *, tensorboard: bool, speaks: bool = True) -> None:
        self._path, self._report, self._speaks = out / "log.jsonl", report, speaks
        self._folder = out / "tensorboard"
        self._wanted = tensorboard and speaks
        self._writer: Any = None

    def begin(self, step: int) -> None:
        """Says at which step the curves go on: what an interrupted run drew after it is dropped."""
        if not self._wanted or self._writer is not None:
            return
        if importlib.util.find_spec("tensorboard") is None:
            self({"event": "note", "text": "TensorBoard is not installed; pip install 'trackshade[training]' has it."})
            return
        from torch.utils.tensorboard.writer import SummaryWriter

        self._writer = SummaryWriter(self._folder, purge_step=step)

    def __call__(self, entry: dict[str, Any]) -> None:
        if not self._speaks:
            return
        entry = {"time": time.strftime("%H:%M:%S"), **entry}
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
        if self._writer is not None and "step" in entry:
            for name in _CURVES:
                if name in entry:
                    self._writer.add_scalar(f"{entry['stage']}/{name}", entry[name], entry["step"])
            self._writer.flush()
        if self._report:
            self._report(entry)

    def picture(self, name: str, picture: np.ndarray, step: int) -> None:
        """[H, W, 3] 8-bit, for TensorBoard."""
        if self._writer is not None:
            self._writer.add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def sentence(entry: Mapping[str, Any]) -> str:
    """An entry in words."""
    head = " ".join(str(entry[key]) for key in ("time", "stage") if key in entry)
    if "text" in entry:
        return f"{head} {entry['text']}"
    if "done" in entry:
        return f"{head} {entry['done']} of {entry['count']}"
    if "loss" in entry:
        words = [f"loss {entry['loss']:.4f}", f"{entry['samples_per_second']:.3g} samples/s"]
        words.append(f"{duration(60 * entry['minutes_left'])} left")
        return f"{head} step {entry['step']}: " + ", ".join(words)
    known = {"time", "stage", "event", "step"}
    more = ", ".join(f"{key.replace('_', ' ')} {_short(value)}" for key, value in entry.items() if key not in known)
    step = f" step {entry['step']}" if "step" in entry else ""
    return f"{head}{step} {entry.get('event', '')}".rstrip() + (f": {more}" if more else "")


def duration(seconds: float) -> str:
    """ "45 s", "12 min" or "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
