# SPDX-License-Identifier: GPL-3.0-or-later
"""A job while it runs: what it has, how it reports its progress, and how its result is written."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from trackshade.config.model_spec import ModelSpec
from trackshade.config.settings import ShadeSettings
from trackshade.control.video import TrackingVideo
from trackshade.ipc import protocol as states
from trackshade.propagation.light import Light
from trackshade.results.overview import Overview
from trackshade.results.record import Images
from trackshade.results.write import write_result
from trackshade.server.job_inputs import JobInputs
from trackshade.server.parts import Packed, Parts, Spread, do_in_order
from trackshade.server.propagate import KeptWork, KeyPictures, light_of
from trackshade.shot import Shot
from trackshade.shot.fitting import ShotFit

PREVIEW_SIZE = 320  # pixels of the longer side, at most


class Reporter(Protocol):
    """Report the progress of a job. Both methods raise CancelledError if the job was cancelled."""

    def report(self, state: str, message: str = "", preview: bytes | None = None, **details: Any) -> None:
        """Report a state, a detail, a preview (a small encoded image) and further fields."""
        ...

    def check(self) -> None:
        """Check for a cancel."""
        ...


class JobHost(Reporter, Protocol):
    """What runs a job for the broker."""

    def spread(self, parts: Parts) -> Generator[Packed, None, None]:
        """Do all parts of some work, also by other workers that are idle; yield their results in order."""
        ...


@dataclass(frozen=True, eq=False)
class JobRun:
    """A job while it runs."""

    shot: Shot
    spec: ModelSpec
    settings: ShadeSettings
    inputs: JobInputs
    fit: ShotFit
    tracking: TrackingVideo
    work: KeptWork
    folder: Path
    reporter: Reporter
    timings: dict[str, float]
    memory: dict[str, Any] = field(default_factory=dict)  # memory preset of the video model, once it has run
    view: int = 0  # camera of a shot with several that this part of the job is about
    views: int = 1  # number of cameras of the whole job
    device: str = "cpu"  # device of the worker; "auto" for the best one
    used: dict[str, Any] = field(default_factory=dict)  # what the video model was given, once it has run
    spread: Spread = do_in_order  # does work that consists of parts

    @cached_property
    def report(self) -> Callable[..., None]:
        """Reports a message, a preview or None, and details; leaves out steps that are too small to see."""

        def report(message: str, preview: bytes | None, **details: Any) -> None:
            self.reporter.report(states.RUNNING, message, preview, **details)

        return _throttled(report, self.reporter.check)

    def report_coverage(self, fraction: float) -> None:
        """Report how much of the coverage is measured."""
        self.report("Measuring what the key pictures show", None, progress=fraction)

    @property
    def threads(self) -> int:
        """Number of threads for work of its own."""
        return os.cpu_count() or 1

    @property
    def key_pictures(self) -> str:
        """Which pictures are propagated: "first-frame" or "video"."""
        return self.spec.key_pictures if self.settings.key_pictures == "auto" else self.settings.key_pictures

    @property
    def is_at_model_size(self) -> bool:
        """Whether the frames are those of the model as they are."""
        if self.settings.output == "tracking" or self.settings.output_size == "model":
            return True
        is_same = self.tracking.shot is self.shot
        return is_same and self.key_pictures == "video" and not self.inputs.keys and self.inputs.light is None

    def write(
        self,
        frames: np.ndarray | Overview,
        shot: Shot,
        first_frame: np.ndarray | None,
        input_render: Images | None,
        digests: dict[str, str],
        propagation: dict[str, Any] | None = None,
        warnings: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Write the result; see `write_result`."""
        fit = {"frame_map": self.fit.frame_map.to_dict(), "size_fit": self.fit.size_fit.to_dict()}
        if self.used:
            fit["inputs"] = self.used
        if self.memory:
            fit["memory"] = self.memory
            warnings = [*warnings, *([self.memory["warning"]] if "warning" in self.memory else [])]
        return write_result(
            self.folder,
            frames=frames,
            tracking=self.tracking,
            shot=shot,
            settings=self.settings,
            spec=self.spec,
            first_frame=first_frame,
            input_render=input_render,
            timings=self.timings,
            warnings=[*shot.warnings, *warnings],
            model_digests=digests,
            model_fit=fit,
            propagation=propagation,
            more_files=[propagation["splats"]["file"]] if propagation is not None and propagation.get("splats") else [],
        )

    def light(self, keys: KeyPictures) -> tuple[Light | None, str | None]:
        """Return the light of the samples of `keys.shot`, or None and the reason."""
        return self._light_at(keys.positions)

    def model_light(self) -> Light | None:
        """Return the light of the cells that the model sees, at its size; None if there is none."""
        light, _ = self._light_at(self.fit.positions)
        return None if light is None else lambda cell: self.fit.fit_linear(light(cell))

    def _light_at(self, positions: np.ndarray) -> tuple[Light | None, str | None]:
        inputs, light, views = self.inputs, self.settings.light, len(self.shot.cameras)
        if light == "render" and inputs.input_render is not None:
            return light_of(inputs.input_render, positions, False, views), None
        if light == "clay" and inputs.light is not None:
            return light_of(inputs.light, positions, True, views), None
        return None, "It was switched off." if light == "none" else "No clay renders were sent."


def _throttled(report: Callable[..., None], check: Callable[[], None]) -> Callable[..., None]:
    """Return a report that leaves out steps of less than a twentieth of a stage, and checks for a cancel instead."""
    latest: tuple[str, int] | None = None

    def throttled(message: str, preview: bytes | None = None, **details: Any) -> None:
        nonlocal latest
        now = message, int(20 * details.get("progress", 0))
        if now == latest and preview is None:
            check()
        else:
            latest = now
            report(message, preview, **details)

    return throttled


def encode_preview(frame: np.ndarray) -> bytes:
    """Encode an image, [H, W, 3] uint8, as PNG if it is tiny, otherwise as JPEG of at most PREVIEW_SIZE pixels."""
    image, data = Image.fromarray(frame), io.BytesIO()
    if max(image.size) <= PREVIEW_SIZE // 2:
        image.save(data, "PNG")
    else:
        image.thumbnail((PREVIEW_SIZE, PREVIEW_SIZE))
        image.save(data, "JPEG", quality=80)
    return data.getvalue()


@contextmanager
def timed(timings: dict[str, float], name: str) -> Iterator[None]:
    """Note the time that a stage takes, seconds."""
    begun = time.perf_counter()
    yield
    timings[name] = time.perf_counter() - begun
