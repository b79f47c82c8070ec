# SPDX-License-Identifier: GPL-3.0-or-later
"""The log of a run: JSON lines in log.jsonl, TensorBoard, validation images, and sentences for the console."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Report = Callable[[dict[str, Any]], None]
_SCALARS = ("loss", "norm", "rate", "samples_per_second", "psnr", "psnr_other_tracks")


class RunLog:
    """Writes the log entries of a run; does nothing in other processes than the main one."""

    def __init__(self, out: Path, report: Report | None, *, tensorboard: bool, is_main_process: bool = True) -> None:
        """Open the log of the run in `out`; `report` also gets every entry."""
        self._out, self._report, self._is_main_process = out, report, is_main_process
        self._use_tensorboard = tensorboard and is_main_process
        self._writer: Any = None

    def start(self, step: int) -> None:
        """Open TensorBoard at a step; what an interrupted run logged after that step is dropped there."""
        if not self._use_tensorboard or self._writer is not None:
            return
        if importlib.util.find_spec("tensorboard") is None:
            self({"event": "note", "text": "TensorBoard is not installed: pip install 'trackshade[training]'."})
            return
        from torch.utils.tensorboard.writer import SummaryWriter

        self._writer = SummaryWriter(self._out / "tensorboard", purge_step=step)

    def __call__(self, entry: dict[str, Any]) -> None:
        """Log an entry; one with a "step" also gets scalars in TensorBoard."""
        if not self._is_main_process:
            return
        entry = {"time": time.strftime("%H:%M:%S"), **entry}
        with (self._out / "log.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
        if self._writer is not None and "step" in entry:
            for name in _SCALARS:
                if name in entry:
                    self._writer.add_scalar(f"{entry['stage']}/{name}", entry[name], entry["step"])
            self._writer.flush()
        if self._report:
            self._report(entry)

    def write_samples(self, clips: Sequence[Sequence[np.ndarray]], step: int) -> None:
        """Write validation samples of a step to sheets/ as one PNG, and to TensorBoard.

        Each clip has several videos (truth, generated, tracking), [T, H, W, 3] uint8 each, which are drawn below each
        other, their frames from left to right.
        """
        image = np.concatenate([np.concatenate(list(video), axis=1) for videos in clips for video in videos])
        folder = self._out / "sheets"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"step-{step:06d}.png")
        if self._writer is not None:
            self._writer.add_image("sheet", image, step, dataformats="HWC")

    def close(self) -> None:
        """Close TensorBoard."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def format_entry(entry: Mapping[str, Any]) -> str:
    """Format a log entry for the console."""
    prefix = " ".join(str(entry[key]) for key in ("time", "stage") if key in entry)
    if "text" in entry:
        return f"{prefix} {entry['text']}"
    if "done" in entry:
        return f"{prefix} {entry['done']} of {entry['count']}"
    if "loss" in entry:
        return (
            f"{prefix} step {entry['step']}: loss {entry['loss']:.4f}, {entry['samples_per_second']:.3g} samples/s, "
            f"{format_duration(60 * entry['minutes_left'])} left"
        )
    shown = {key: value for key, value in entry.items() if key not in ("time", "stage", "event", "step")}
    details = ", ".join(
        f"{key.replace('_', ' ')} {f'{value:.4g}' if isinstance(value, float) else value}"
        for key, value in shown.items()
    )
    step = f" step {entry['step']}" if "step" in entry else ""
    return f"{prefix}{step} {entry.get('event', '')}".rstrip() + (f": {details}" if details else "")


def format_duration(seconds: float) -> str:
    """Format a duration as "45 s", "12 min" or "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
