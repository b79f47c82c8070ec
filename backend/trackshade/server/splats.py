# SPDX-License-Identifier: GPL-3.0-or-later
"""The splats of a job: Gaussians on the meshes, with the colors of all frames of the result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trackshade.results.cells.images import CellImages
from trackshade.results.frames import unwritable
from trackshade.server.job import JobRun, timed
from trackshade.splats.sequence import build_splats
from trackshade.splats.usd import scene_rate, usd_modules, write_splat_usd

FILE = "splats.usdc"  # in the folder of the result


def check_splats(count: int) -> None:
    """Raise UsageError if splats are wanted and cannot be written."""
    if count:
        usd_modules()


def write_splats(run: JobRun, folders: Sequence[Path]) -> dict[str, Any] | None:
    """Write the splats that a job asks for, all frames to one file.

    Args:
        run: the job, whose frames are written.
        folders: the folder of each camera's frames.

    Returns:
        Plain values for the record; None if the job asks for none.

    Raises:
        OutputError: the file cannot be written.
        ShotError: the shot shows no surface.
    """
    settings, shot = run.settings, run.shot
    if not settings.splats:
        return None
    frames = range(1, len(shot.frame_numbers) + 1)
    files = [folder / "frames" / f"{number:04d}.{settings.image_format}" for number in frames for folder in folders]
    with timed(run.timings, "splats"):
        cells = CellImages(shot, files)
        built = build_splats(
            cells,
            settings.splats,
            seed=settings.seed,
            threads=run.threads,
            progress=lambda part, stage: run.report(f"Splats: {stage}", None, progress=part),
        )
        try:
            write_splat_usd(run.folder / FILE, built.frames(), scene_rate(cells.shot))
        except OSError as error:
            raise unwritable(run.folder, error) from error
    return {"file": FILE, "count": settings.splats}
