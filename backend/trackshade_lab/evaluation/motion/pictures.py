# SPDX-License-Identifier: GPL-3.0-or-later
"""The generator's pictures against true ones: joints by a detector, silhouettes, colors, sharpness, and the camera."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from trackshade.motion.framing import LIMBS

from ...motion.batches import MotionBatch
from ...motion.generator_task import GeneratorModel
from ..measures import Column
from ..summary import estimate_difference, estimate_mean
from .detector import JointDetector, detect
from .said import DIFFERENCES, sample
from .sources import TITLES, source_names

COLUMNS = {
    "joints": Column("joints, px", 2),
    "exact": Column("against exact ones, px", 2),
    "silhouette": Column("silhouette IoU", 3),
    "psnr": Column("PSNR on the figure, dB", 2),
    "sharpness": Column("sharpness", 2),
}
_CONTRAST = 0.1  # difference from the background of what counts as a figure
_CAMERA_TOLERANCE = 20.0  # degrees

Change = Callable[[torch.Tensor], torch.Tensor]  # of motion tokens [B, T, K, dim]


class Truth(NamedTuple):
    """True clips, and what the detector finds in them."""

    batch: MotionBatch
    places: torch.Tensor  # [N, L, 2] pixels
    sharpness: torch.Tensor  # [N / F], of the autoencoded frames


def measure_pictures(
    model: GeneratorModel, detector: JointDetector, count: int, steps: int, report: Callable[[str], None]
) -> dict[str, Any]:
    """Measure the second table.

    Returns:
        "rows" by azimuth difference (sources, and as bounds the autoencoded truth, the puppet and the reference
        repeated), "nulls" at 90 degrees, "camera" (the share of clips whose azimuth is within 20 degrees of what was
        asked, and the detector's share on true frames), and "sheet", pictures of the first clips at 90 degrees.
    """
    rows: dict[int, list[dict[str, Any]]] = {}
    result: dict[str, Any] = {}
    for difference in DIFFERENCES:
        truths = [
            _observe(model, detector, batch)
            for batch in sample(9500 + difference, count, azimuth_difference=difference, apart=0.0)
        ]
        rows[difference] = []
        made: dict[str, list[torch.Tensor]] = {}
        for name in source_names(model):
            report(f"pictures: {difference} degrees, {TITLES[name]}")
            made[name] = [generate(model, truth.batch, name, steps) for truth in truths]
            rows[difference].append(_row(name, TITLES[name], detector, truths, made[name]))
        for name, title, make in (
            ("puppet", "puppet without generator", _puppets),
            ("autoencoded", "autoencoded truth", _autoencoded),
            ("repeated", "reference repeated", _repeated),
        ):
            pictures = [make(model, truth.batch) for truth in truths]
            rows[difference].append(_row(name, title, detector, truths, pictures))
        if difference == 90:
            result["sheet"] = (truths[0].batch, {name: parts[0] for name, parts in made.items()})
            result["nulls"] = _nulls(model, detector, truths, made["tokens"], steps)
    return {"rows": rows, "camera": _camera(model, detector, count, steps), **result}


def measure_tokens(
    model: GeneratorModel, detector: JointDetector, count: int, steps: int, **options: Any
) -> dict[str, np.ndarray]:
    """Return the measures of `COLUMNS` by clip, of pictures that tokens drive at 90 degrees.

    Args:
        model: the networks.
        detector: finds joints.
        count: number of unseen clips, those of `measure_pictures`.
        steps: denoising steps.
        options: further `ClipOptions`.
    """
    parts = []
    for batch in sample(9500 + 90, count, azimuth_difference=90, apart=0.0, **options):
        truth = _observe(model, detector, batch)
        parts.append(_measure(detector, truth, generate(model, batch, "tokens", steps)))
    return {key: np.concatenate([part[key] for part in parts]) for key in COLUMNS}


@torch.no_grad()
def generate(
    model: GeneratorModel, batch: MotionBatch, source: str, steps: int, change: Change | None = None
) -> torch.Tensor:
    """Generate the clips of a batch as in use: the reference's azimuth is read from the picture.

    Args:
        model: the networks.
        batch: true clips.
        source: what says the motion.
        steps: denoising steps.
        change: changes the motion.

    Returns:
        Pictures [N, 3, H, W] in 0..1.
    """
    count = batch.num_frames
    tokens = model.source_tokens(batch, source).unflatten(0, (-1, count))
    if change is not None:
        tokens = change(tokens)
    networks = model.networks(source)
    facing = networks.read_azimuth(batch.reference)
    relative = batch.azimuth.unflatten(0, (-1, count)) - batch.reference_azimuth[:, None]
    elevation = batch.elevation.unflatten(0, (-1, count))
    reference_adapter = model.networks("tokens").adapter
    condition = networks.condition(
        batch.reference, tokens, facing, facing[:, None] + relative, elevation, reference_adapter
    )
    noise = torch.randn(condition.estimates.shape, generator=torch.Generator().manual_seed(0))
    latents = networks.denoise(noise, condition, steps)
    return networks.decode(latents.flatten(0, 1))


def _puppets(model: GeneratorModel, batch: MotionBatch) -> torch.Tensor:
    networks, count = model.networks("tokens"), batch.num_frames
    tokens = model.source_tokens(batch, "tokens").unflatten(0, (-1, count))
    facing = networks.read_azimuth(batch.reference)
    relative = batch.azimuth.unflatten(0, (-1, count)) - batch.reference_azimuth[:, None]
    elevation = batch.elevation.unflatten(0, (-1, count))
    condition = networks.condition(batch.reference, tokens, facing, facing[:, None] + relative, elevation)
    return condition.guidance.estimates().flatten(0, 1)


def _autoencoded(model: GeneratorModel, batch: MotionBatch) -> torch.Tensor:
    networks = model.networks("tokens")
    return networks.decode(networks.encode(batch.target))


def _repeated(model: GeneratorModel, batch: MotionBatch) -> torch.Tensor:
    return batch.reference.repeat_interleave(batch.num_frames, 0)


def _observe(model: GeneratorModel, detector: JointDetector, batch: MotionBatch) -> Truth:
    places, _ = detect(detector, batch.target)
    return Truth(batch, places, _sharpness(_autoencoded(model, batch), batch))


def _row(
    name: str, title: str, detector: JointDetector, truths: list[Truth], pictures: list[torch.Tensor]
) -> dict[str, Any]:
    measured = [_measure(detector, truth, images) for truth, images in zip(truths, pictures, strict=True)]
    return {"id": name, "title": title} | {
        key: estimate_mean(np.concatenate([part[key] for part in measured])) for key in COLUMNS
    }


def _measure(detector: JointDetector, truth: Truth, pictures: torch.Tensor) -> dict[str, np.ndarray]:
    """Return the measures of `COLUMNS` by clip."""
    batch = truth.batch
    places, _ = detect(detector, pictures)
    figure = batch.coverage > 0.5
    background = batch.background.repeat_interleave(batch.num_frames, 0)
    shown = (pictures - background).abs().amax(1) > _CONTRAST
    visible = (batch.target - background).abs().amax(1) > _CONTRAST  # of the figure, some has the background's color
    both, either = (shown & visible).float().sum((1, 2)), (shown | visible).float().sum((1, 2))
    squared = (pictures - batch.target).square().mean(1)

    def by_clip(values: torch.Tensor) -> torch.Tensor:
        return values.unflatten(0, (-1, batch.num_frames)).mean(1)

    def distance(target: torch.Tensor) -> np.ndarray:
        return by_clip((places - target)[:, list(LIMBS)].norm(dim=-1).mean(1)).numpy()

    errors = by_clip((squared * figure).sum((1, 2))) / by_clip(figure.float().sum((1, 2)))
    return {
        "joints": distance(truth.places),
        "exact": distance(batch.landmarks),
        "silhouette": by_clip(both / either.clamp_min(1)).numpy(),
        "psnr": (-10 * torch.log10(errors.clamp_min(1e-6))).numpy(),
        "sharpness": (_sharpness(pictures, batch) / truth.sharpness).numpy(),
    }


def _sharpness(pictures: torch.Tensor, batch: MotionBatch) -> torch.Tensor:
    """Return the mean gradient on the figures by clip, [N / F]."""
    figure = (batch.coverage > 0.5)[:, 1:, 1:].float()
    across = (pictures[:, :, 1:, 1:] - pictures[:, :, 1:, :-1]).abs().mean(1)
    down = (pictures[:, :, 1:, 1:] - pictures[:, :, :-1, 1:]).abs().mean(1)
    count = batch.num_frames
    total, area = ((across + down) * figure).sum((1, 2)), figure.sum((1, 2))
    return total.unflatten(0, (-1, count)).sum(1) / area.unflatten(0, (-1, count)).sum(1)


def _nulls(
    model: GeneratorModel, detector: JointDetector, truths: list[Truth], right: list[torch.Tensor], steps: int
) -> list[dict[str, Any]]:
    """Measure wrong motions, which a generator that follows its driver must answer with wrong pictures."""
    base = np.concatenate([_measure(detector, t, p)["joints"] for t, p in zip(truths, right, strict=True)])
    rows = [{"id": "right", "title": "right driver", "joints": estimate_mean(base)}]
    changes: dict[str, tuple[str, Change]] = {
        "shuffled": ("another clip's motion", lambda tokens: tokens.roll(1, 0)),
        "reversed": ("time reversed", lambda tokens: tokens.flip(1)),
        "frozen": ("time frozen", lambda tokens: tokens[:, :1].expand_as(tokens)),
    }
    for name, (title, change) in changes.items():
        wrong = [generate(model, truth.batch, "tokens", steps, change) for truth in truths]
        errors = np.concatenate([_measure(detector, t, p)["joints"] for t, p in zip(truths, wrong, strict=True)])
        increase = estimate_difference(errors / base.mean(), base / base.mean())
        rows.append({"id": name, "title": title, "joints": estimate_mean(errors), "increase": increase})
    return rows


def _camera(model: GeneratorModel, detector: JointDetector, count: int, steps: int) -> dict[str, Any]:
    """Compare the azimuth that the detector sees with the one that was asked relative to the reference."""
    found: dict[str, list[float]] = {"generated": [], "truth": [], "reference": []}
    for batch in sample(9700, count, apart=1.0, cross_view=1.0):
        pictures = generate(model, batch, "tokens", steps)
        for name, images in (("generated", pictures), ("truth", batch.target)):
            _, azimuth = detect(detector, images)
            difference = (azimuth - batch.azimuth).unflatten(0, (-1, batch.num_frames))
            mean = torch.atan2(difference.sin().mean(1), difference.cos().mean(1))
            found[name] += (torch.rad2deg(mean).abs() <= _CAMERA_TOLERANCE).float().tolist()
        read = model.networks("tokens").read_azimuth(batch.reference) - batch.reference_azimuth
        error = torch.rad2deg(torch.atan2(read.sin(), read.cos())).abs()
        found["reference"] += (error <= _CAMERA_TOLERANCE).float().tolist()
    return {name: estimate_mean(values) for name, values in found.items()}
