# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers and transformers are typed too loosely for these rules.
# pyright: reportAttributeAccessIssue=false
"""`evaluate`: right tracks against another scene's, against the first frame repeated, and the autoencoder's bound."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import UsageError
from ..pipelines import DiffusionShaderPipeline
from ..training.data import Clip, clip_kinds, generate_clip
from .measures import bootstrap, displacement, psnr

WAYS = (
    "right",
    "other",
    "still",
    "bound",
)  # right tracks, another scene's, first frame repeated, encoded and decoded truth


@dataclass(frozen=True)
class Report:
    """Measures per clip, and how they were made."""

    settings: dict[str, Any]
    kinds: tuple[str, ...]  # [N] of each clip
    psnr: dict[str, list[float]]  # way -> [N] dB, over the frames after the first
    displacement: dict[str, list[float]]  # way -> [N] px, of the main object; NaN where it is hardly seen
    seconds_per_clip: float

    def rows(self) -> list[dict[str, Any]]:
        """One row per kind, then the total."""
        kinds = np.array(self.kinds)
        rows = []
        for kind in [*dict.fromkeys(self.kinds), "all"]:
            chosen = np.ones(len(kinds), bool) if kind == "all" else kinds == kind
            row: dict[str, Any] = {"kind": kind, "clips": int(chosen.sum())}
            for way in WAYS:
                row[f"psnr_{way}"] = float(np.mean(np.array(self.psnr[way])[chosen]))
                row[f"px_{way}"] = _mean(np.array(self.displacement[way])[chosen])
            rows.append(row)
        return rows

    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % bootstrap intervals of the totals."""
        named = {f"psnr_{way}": self.psnr[way] for way in WAYS} | {f"px_{way}": self.displacement[way] for way in WAYS}
        return {name: bootstrap(np.array(values)) for name, values in named.items()}

    def table(self) -> str:
        """Markdown table."""
        lines = [
            "| scene kind | clips | PSNR right tracks | other tracks | first frame repeated | autoencoder "
            "| px right | px other | px repeated |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for row in self.rows():
            values = [f"{row[f'psnr_{way}']:.1f}" for way in WAYS] + [f"{row[f'px_{way}']:.1f}" for way in WAYS[:3]]
            lines.append(f"| {row['kind']} | {row['clips']} | {' | '.join(values)} |")
        spans = self.intervals()
        lines.append("")
        lines.append(
            "95 % intervals: "
            + ", ".join(
                f"{name} {spans[name][0]:.1f} to {spans[name][1]:.1f}"
                for name in ("psnr_right", "psnr_other", "px_right")
            )
            + f"; {self.seconds_per_clip:.1f} s a clip."
        )
        return "\n".join(lines)

    def save(self, path: Path) -> None:
        data = asdict(self) | {"rows": self.rows(), "intervals": self.intervals()}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_plain(data), indent=1), encoding="utf-8")


def _mean(values: np.ndarray) -> float:
    """Mean of what is a number; NaN where nothing is."""
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")


def _plain(value: Any) -> Any:
    """JSON has no NaN: null instead."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def held_out_clips(
    count: int, size: tuple[int, int], frames: int, kinds: tuple[str, ...] = (), first_seed: int = 100_000
) -> list[Clip]:
    """`count` clips spread evenly over the kinds (all, if none is named), of the held-out split."""
    kinds = kinds or tuple(clip_kinds("held-out"))
    return [generate_clip(first_seed + n, size, frames, kinds[n % len(kinds)], split="held-out") for n in range(count)]


def evaluate(
    pipeline: DiffusionShaderPipeline,
    clips: int = 72,
    steps: int = 6,
    guidance: float = 1.0,
    seed: int = 0,
    out: str | Path | None = None,
    kinds: tuple[str, ...] = (),
    size: tuple[int, int] = (96, 64),
    frames: int = 9,
    batch: int = 8,
    prompts: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Generate held-out clips and measure them; with `out`, a JSON report is written there.

    Each clip is made with its own tracks and with those of the next clip in the list (another scene), from the same
    first frame, noise
    and prompt. `prompts` False leaves the prompt empty.
    """
    if clips < 2:
        raise UsageError(
            "bad-setting", f"{clips} clips are too few: each is compared with another's tracks.", "Take 2 or more."
        )
    truth = held_out_clips(clips, size, frames, kinds)
    trackings = [clip.tracking for clip in truth]
    made: dict[str, list[np.ndarray]] = {"right": [], "other": []}
    started, done = time.monotonic(), 0
    for way, tracks in (("right", trackings), ("other", trackings[1:] + trackings[:1])):
        for first in range(0, clips, batch):
            part = slice(first, first + batch)
            result = pipeline(
                prompt=[clip.caption if prompts else "" for clip in truth[part]],
                image=np.stack([clip.video[0] for clip in truth[part]]),
                tracking_video=np.stack(tracks[part]),
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=torch.Generator().manual_seed(seed + first),
                output_type="uint8",
            )
            made[way] += list(result.frames)
            done += len(truth[part])
            if progress:
                progress(done, 2 * clips)
    seconds = (time.monotonic() - started) / (2 * clips)
    made["still"] = [np.broadcast_to(clip.video[:1], clip.video.shape) for clip in truth]
    made["bound"] = [_bound(pipeline, clip.video) for clip in truth]
    report = Report(
        settings={
            "clips": clips,
            "steps": steps,
            "guidance": guidance,
            "seed": seed,
            "size": list(size),
            "frames": frames,
            "prompts": prompts,
        },
        kinds=tuple(clip.kind for clip in truth),
        psnr={way: [psnr(c.video[1:], m[1:]) for c, m in zip(truth, made[way], strict=False)] for way in WAYS},
        displacement={
            way: [
                displacement(c.video[1:], m[1:], c.object_index[1:] == 1)
                for c, m in zip(truth, made[way], strict=False)
            ]
            for way in WAYS
        },
        seconds_per_clip=seconds,
    )
    if out is not None:
        report.save(Path(out))
    return report


@torch.no_grad()
def _bound(pipeline: DiffusionShaderPipeline, video: np.ndarray) -> np.ndarray:
    """The video after the autoencoder alone."""
    unit = (
        torch.from_numpy(np.ascontiguousarray(video)).permute(0, 3, 1, 2)[None].float() / 127.5 - 1
    )  # [1, T, 3, H, W]
    decoded = pipeline.decode_latents(pipeline.encode_video(unit, None) * pipeline.vae.config.scaling_factor)
    return (decoded[0] * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
