# SPDX-License-Identifier: GPL-3.0-or-later
"""Stills of one frame for a job: the first frame that it starts from, or several to choose a look from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

import trackshade
from trackshade.config.image_models import image_model
from trackshade.config.settings import ShadeSettings
from trackshade.core.atomic_files import writing
from trackshade.core.colors import linear_to_srgb, srgb_to_linear, to_uint8
from trackshade.core.errors import UsageError
from trackshade.core.resampling import resample
from trackshade.ipc import protocol as states
from trackshade.results.record import format_json
from trackshade.results.sheets import still_sheet
from trackshade.shot import Shot

if TYPE_CHECKING:
    from trackshade.pipelines.look_stills import LookPipeline
    from trackshade.server.job import JobRun

Report = Callable[..., None]
FOLDER = "stills"


def load_look(settings: ShadeSettings, device: str | None, report: Report) -> LookPipeline:
    """Load the image model of a job, with its LoRA files.

    Raises:
        ModelError: The model is unknown, or its weights are missing or damaged.
    """
    report(states.LOADING, "Loading PyTorch")
    from trackshade.pipelines.look_stills import LookPipeline

    def progress(share: float, what: str) -> None:
        report(states.LOADING, what[:1].upper() + what[1:], progress=round(share, 3))

    loras = [parse_lora(text) for text in settings.loras]
    return LookPipeline.load(image_model(settings.image_model), device=device, loras=loras, progress=progress)


def parse_lora(text: str) -> tuple[Path, float]:
    """Parse a LoRA file and its strength, such as "style.safetensors:0.7"; the strength is 1 if it is not given.

    Raises:
        UsageError: The strength is not a number.
    """
    path, colon, strength = text.rpartition(":")
    if not colon or strength.startswith(("/", "\\")):  # no strength; a drive's colon is followed by a slash
        return Path(text), 1.0
    try:
        return Path(path), float(strength)
    except ValueError as error:
        raise UsageError("bad-setting", f"'{strength}' is not the strength of a LoRA.", "Write FILE:0.7.") from error


def paint_stills(
    look: LookPipeline,
    shot: Shot,
    t: int,
    settings: ShadeSettings,
    count: int,
    report: Report,
    image: np.ndarray | None = None,  # [H, W, 3] uint8 sRGB, of the shot's size
    mask: np.ndarray | None = None,  # [H, W] bool
) -> Iterator[np.ndarray]:
    """Paint stills of sample `t`, the first one by the job's seed and each further one by the next seed.

    Args:
        look: The image model.
        shot: The shot.
        t: The sample.
        settings: Prompt, steps, guidance and strength; None stands for the model's default.
        count: Number of stills.
        report: Receives the steps; raises CancelledError if the job was cancelled.
        image: Image to start from.
        mask: Where the image is painted anew; None for everywhere.

    Yields:
        [H, W, 3] uint8 sRGB of the shot's size.
    """
    from trackshade.pipelines.look_stills import depth_image

    size = look.spec.size_for(shot.size)

    def on_step(done: int, total: int) -> None:
        name = "The look" if count == 1 else f"Look {min((done - 1) * count // total, count - 1) + 1} of {count}"
        report(states.RUNNING, name, step=done, steps=total)

    for still in look.paint(
        settings.prompt,
        depth_image(shot, t, size),
        range(settings.seed, settings.seed + count),
        image=None if image is None else _resized(image, size),
        mask=None if mask is None else _covered(mask, size),
        strength=settings.strength,
        negative_prompt=settings.negative_prompt,
        steps=settings.steps,
        guidance=settings.guidance,
        control_scale=settings.control_scale,
        on_step=on_step,
    ):
        full = _resized(still, shot.size)
        yield full if image is None or mask is None else np.where(mask[..., None], full, image)


def paint_first_frame(look: LookPipeline, run: JobRun) -> np.ndarray:
    """Paint the first frame of a job, from the one that was sent if there is one; [H, W, 3] uint8 sRGB."""
    return next(paint_stills(look, run.shot, 0, run.settings, 1, run.reporter.report, run.inputs.first_frame))


def write_stills(
    folder: Path,
    look: LookPipeline,
    shot: Shot,
    settings: ShadeSettings,
    report: Report,
    image: np.ndarray | None = None,  # [H, W, 3] uint8 sRGB, of the shot's size
) -> dict[str, Any]:
    """Write stills of the first frame, a sheet to choose from, and the record.

    Returns:
        The record, the content of `job.json`: paths of the stills, relative to `folder`, and the seed of each.

    Raises:
        OutputError: They cannot be written.
    """
    stills, entries = [], []
    with writing("The stills", folder):
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        for still in paint_stills(look, shot, 0, settings, settings.stills, report, image):
            seed, path = settings.seed + len(stills), f"{FOLDER}/{len(stills) + 1:04d}.png"
            Image.fromarray(still).save(folder / path)
            stills.append((f"{path}, seed {seed}", still))
            entries.append({"path": path, "seed": seed})
        still_sheet(stills).save(folder / "sheet.png")
        record = {
            "trackshade": trackshade.__version__,
            "model": {"name": look.spec.name, "license": look.spec.license},
            "settings": settings.to_dict(),
            "seed": settings.seed,
            "stills": entries,
            "files": [FOLDER, "sheet.png", "job.json"],
            "warnings": list(shot.warnings),
        }
        (folder / "job.json").write_text(format_json(record) + "\n", encoding="utf-8")
    return record


def _covered(
    mask: np.ndarray,  # [H, W] bool
    size: tuple[int, int],
) -> np.ndarray:
    """Return which pixels of another (width, height) a mask touches."""
    return np.asarray(Image.fromarray(to_uint8(mask)).resize(size, Image.Resampling.BOX)) > 0


def _resized(
    image: np.ndarray,  # [H, W, 3] uint8 sRGB
    size: tuple[int, int],
) -> np.ndarray:
    """Return an image at another (width, height), resampled in linear light."""
    height, width = image.shape[:2]
    if (width, height) == size:
        return image
    scale = size[0] / width, size[1] / height
    return to_uint8(linear_to_srgb(resample(image, size, scale, (0.0, 0.0), lambda rows: srgb_to_linear(rows / 255.0))))
