# SPDX-License-Identifier: GPL-3.0-or-later
"""`evaluate`: generate all variants of held-out clips and measure them.

Figures are written clip by clip, so that an evaluation that was stopped is resumed.

    OUT/settings.json           what is evaluated, and a digest of its weights
    OUT/clips/KIND-SEED.json    figures of one clip
    OUT/sheets/KIND-SEED.png    truth, generated videos and baselines, frame by frame
    OUT/report.json report.md   figures of all clips; tables with intervals
    OUT/plots/                  plots of the tables
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from trackshade.config.registry import model_folder, spec
from trackshade.control.signals import PointRule, control_signal
from trackshade.core.errors import UsageError
from trackshade.models.checkpoint import digest

from .clips import ClipSpec, HeldOutClip, generate_held_out, plan_clips
from .generator import SamplingConfig, VideoGenerator, find_pipeline_folder
from .image_measures import PerceptualDistance, dominant_color_name, find_lpips
from .measures import frame_psnr, measure
from .store import EvaluationStore, write_sheet
from .variants import VARIANTS, generate_videos, make_variant

OnMessage = Callable[[str], None]
_CONTROL_MEASURES = ("psnr", "ssim", "lpips", "psnr_covered", "psnr_uncovered", "end_px", "end_share", "gradient")


@dataclass(frozen=True)
class EvaluationConfig:
    """What to evaluate."""

    sampling: SamplingConfig  # model and sampling settings
    clips: int = 108  # number of held-out clips
    spin: int = 24  # number of extra clips of the spin set
    kinds: tuple[str, ...] = ()  # kinds of scenes; all if empty
    variants: tuple[str, ...] = tuple(VARIANTS)  # of `VARIANTS`, always with the truth
    text: bool = True  # whether to evaluate the color that the text names
    controls: tuple[str, ...] = ()  # control signals to compare
    # pipeline folders of models trained with a control signal, by signal; else `sampling`'s model
    control_models: Mapping[str, str] = field(default_factory=dict)
    point_rule: PointRule = "mesh"  # colors of the signals tracks-N
    sheets: int = 12  # number of clips with a contact sheet
    batch: int = 4  # clips generated at a time
    device: str | None = None  # of the model; default: the best one

    def settings(self) -> dict[str, Any]:
        """Return what the figures of a clip depend on, as stored in settings.json."""
        control_weights = dict.fromkeys(self.controls, "")
        for name, folder in self.control_models.items():
            if name in control_weights:
                control_weights[name] = _digest_weights(replace(self.sampling, folder=folder))
        return {
            "sampling": asdict(self.sampling) | {"size": list(self.sampling.size)},
            "weights": _digest_weights(self.sampling),
            "kinds": list(self.kinds),
            "ways": list(self.variants),
            "text": self.text,
            "controls": control_weights,
            "point_rule": self.point_rule,
        }


def _digest_weights(sampling: SamplingConfig) -> str:
    if sampling.folder is None:
        return digest(model_folder(spec(sampling.model)))
    return digest(find_pipeline_folder(Path(sampling.folder)))


def evaluate(config: EvaluationConfig, out: Path, on_message: OnMessage, force: bool = False) -> dict[str, Any]:
    """Measure every clip that is not measured yet; `force` discards figures that the folder `out` holds.

    Returns:
        The records of all clips, and how they were made.

    Raises:
        UsageError: for too few clips, unknown kinds, variants or signals, or another evaluation in `out`.
        ModelError: if a model cannot be loaded or does not take the size.
        OutputError: if `out` cannot be written.
    """
    if config.clips + config.spin < 2:
        raise UsageError("bad-setting", "An interval needs two clips or more.", "Give --clips 2 or more.")
    specs = plan_clips(config.clips, config.spin, config.kinds)
    store = EvaluationStore(out, config.settings(), force)
    distance, note = find_lpips()
    batches = [specs[first : first + config.batch] for first in range(0, len(specs), config.batch)]
    batches = [batch for batch in batches if not all(store.has(clip.name) for clip in batch)]
    remaining = sum(map(len, batches))
    if remaining < len(specs):
        on_message(f"{len(specs) - remaining} of {len(specs)} clips are measured already.")
    start, done = time.monotonic(), 0
    evaluator = None
    for batch in batches:
        evaluator = evaluator or _ClipEvaluator(config, out, distance, {clip.name for clip in specs[: config.sheets]})
        for record in evaluator.measure_clips(batch):
            store.write(record)
            done += 1
            minutes = (time.monotonic() - start) / done * (remaining - done) / 60
            scores = [
                f"{title} {record['ways'][variant]['psnr']:.1f} dB"
                for variant, title in (("right", "model"), ("warp", "warp"), ("still", "still"))
                if variant in record["ways"]
            ]
            on_message(
                f"clip {done} of {remaining}, {record['name']}: {', '.join(scores)}; about {minutes:.0f} min left"
            )
    return {
        "settings": config.settings() | {"clips": config.clips, "spin": config.spin},
        "notes": [note],
        "clips": [store.read(clip.name) for clip in specs],
    }


class _ClipEvaluator:
    """Measures clips with models that are loaded once."""

    def __init__(
        self, config: EvaluationConfig, out: Path, distance: PerceptualDistance | None, sheet_names: set[str]
    ) -> None:
        self.config, self.out, self.distance, self.sheet_names = config, out, distance, sheet_names
        self.generator = VideoGenerator(config.sampling, config.device)
        self.control_generators = {
            name: VideoGenerator(replace(config.sampling, folder=folder), config.device)
            for name, folder in config.control_models.items()
            if name in config.controls
        }

    def measure_clips(self, specs: Sequence[ClipSpec]) -> list[dict[str, Any]]:
        """Return the records of a batch of clips."""
        sampling = self.config.sampling
        clips = [generate_held_out(clip, sampling.size, sampling.frames) for clip in specs]
        records = [_describe_clip(clip) for clip in clips]
        sheets: list[list[tuple[str, np.ndarray]]] = [[] for _ in clips]
        for variant in self.config.variants:
            videos, seconds = make_variant(variant, clips, self.generator)
            for clip, record, sheet, video in zip(clips, records, sheets, videos, strict=True):
                record["ways"][variant] = measure(clip.target, video, self.distance)
                record["frames"][variant] = frame_psnr(clip.target.video, video)
                sheet.append((VARIANTS[variant], video))
                if seconds is not None:
                    record["seconds"] = seconds
        if self.config.text:
            self._measure_text(clips, records, sheets)
        for name in self.config.controls:
            self._measure_control(name, clips, records, sheets)
        for clip, sheet in zip(clips, sheets, strict=True):
            if clip.spec.name in self.sheet_names:
                path = self.out / "sheets" / f"{clip.spec.name}.png"
                write_sheet(path, clip.caption, clip.target.tracking, sheet)
        return records

    def _measure_text(self, clips: Sequence[HeldOutClip], records: list[dict[str, Any]], sheets: list[list]) -> None:
        """Find the color shown without a first frame, for clips whose caption names a color that dominates."""
        selected = [n for n, clip in enumerate(clips) if clip.color is not None]
        if not selected:
            return
        tracking = [clips[n].target.tracking for n in selected]
        videos, _ = generate_videos([clips[n] for n in selected], tracking, self.generator, use_first_frame=False)
        for n, video in zip(selected, videos, strict=True):
            mask = clips[n].target.object_mask
            assert mask is not None  # held-out clips have one
            records[n]["text"] = {
                "named": clips[n].color,
                "truth": dominant_color_name(clips[n].target.video, mask),
                "made": dominant_color_name(video, mask),
            }
            sheets[n].append(("text and tracks, no first frame", video))

    def _measure_control(
        self, name: str, clips: Sequence[HeldOutClip], records: list[dict[str, Any]], sheets: list[list]
    ) -> None:
        signals = [control_signal(clip.shot, name, clip.spec.seed, self.config.point_rule) for clip in clips]
        videos, _ = generate_videos(clips, signals, self.control_generators.get(name, self.generator))
        for clip, record, sheet, video in zip(clips, records, sheets, videos, strict=True):
            figures = measure(clip.target, video, self.distance)
            record["controls"][name] = {key: figures[key] for key in _CONTROL_MEASURES if key in figures}
            sheet.append((f"control: {name}", video))


def _describe_clip(clip: HeldOutClip) -> dict[str, Any]:
    motion = clip.target.camera_motion
    assert motion is not None  # the shot is known
    return {
        "name": clip.spec.name,
        "kind": clip.spec.kind,
        "seed": clip.spec.seed,
        "extra": clip.spec.is_extra,
        "caption": clip.caption,
        "covered": float(clip.target.warp.covered[1:].mean()),
        "movement": {"degrees": motion.degrees, "share": motion.translation, "small": motion.is_small},
        "ways": {},
        "frames": {},
        "controls": {},
        "text": None,
        "seconds": None,
    }
