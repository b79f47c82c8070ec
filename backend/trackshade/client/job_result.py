# SPDX-License-Identifier: GPL-3.0-or-later
"""What a finished job leaves, in a form for people and scripts; and whether there is a place for it."""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trackshade.config.registry import ModelSpec
from trackshade.core.errors import OutputError
from trackshade.core.text import format_size

_KEYS = {"tracking.mp4": "tracking_video", "job.json": "record"}  # of files that have no name of their own otherwise


@dataclass(frozen=True)
class JobResult:
    """A finished job.

    Attributes:
        out: folder of the result.
        record: what its job.json says.
        scene_file: copy of the scene with the plate, or None.
        warnings: of the capture, the job and the placing.
    """

    job: str
    out: Path
    record: dict[str, Any]
    scene_file: Path | None
    warnings: tuple[str, ...]
    seconds: float

    @staticmethod
    def of(
        job: str, folder: Path, seconds: float, scene_file: Path | None = None, placing: Sequence[str] = ()
    ) -> JobResult:
        """That of a fetched result; `placing` are further warnings.

        Raises:
            OutputError: the record cannot be read.
        """
        try:
            record = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise OutputError(
                "damaged-result", f"The record of the result in {folder} cannot be read: {error}."
            ) from error
        warnings = dict.fromkeys([*record.get("warnings", ()), *placing])
        return JobResult(job, folder, record, scene_file, tuple(warnings), seconds)

    def to_dict(self) -> dict[str, Any]:
        """What a command prints with --json."""
        files = {_KEYS.get(name, Path(name).stem): str(self.out / name) for name in self.record.get("files", ())}
        if self.scene_file is not None:
            files["scene"] = str(self.scene_file)
        shot = self.record.get("shot", {})
        return {
            "job": self.job,
            "out": str(self.out),
            "files": files,
            "fit": _statements(shot),
            "model": self.record.get("model", {}).get("name"),
            "seed": self.record.get("seed"),
            "consistency": self.record.get("consistency"),
            "warnings": list(self.warnings),
            "seconds": round(self.seconds, 2),
        }


def _statements(shot: Mapping[str, Any]) -> dict[str, str | None]:
    """How the range, the frame and a given first frame were fitted, of a record's part about the shot."""
    said = {key: (shot.get(key) or {}).get("statement") for key in ("frame_map", "size_fit")}
    picture = shot.get("source", {}).get("first_frame")
    return said if picture is None else {**said, "first_frame": picture["statement"]}


def free_folder(chosen: str | None, stem: str, kind: str = "shaded") -> Path:
    """The folder that was asked for, else one in the working folder that is not there yet."""
    if chosen is not None:
        return Path(chosen).absolute()
    name = f"{stem}-{kind}"
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(Path(item).absolute() for item in names if not Path(item).exists())


def check_output(out: Path, force: bool, spec: ModelSpec | None = None) -> None:
    """Looks, before any work, whether a result can be put at `out`; changes nothing.

    Raises:
        OutputError: it is taken, holds something else than a result, cannot be written or has too little space.
    """
    try:
        taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
        if taken and not force:
            raise OutputError("output-exists", f"{out} exists and was kept.", "Choose another --out, or use --force.")
        if taken and not (out / "job.json").is_file():
            raise OutputError(
                "output-not-ours",
                f"{out} holds something else than a result, and was kept in spite of --force.",
                "Choose another --out.",
            )
        existing = next(parent for parent in [out, *out.absolute().parents] if parent.exists())
        with tempfile.TemporaryFile(dir=existing.parent if existing == out else existing):
            free = shutil.disk_usage(existing).free
    except OSError as error:
        raise OutputError(
            "output-unwritable",
            f"The result cannot be written to {out}: {error.strerror or error}.",
            "Choose a folder that can be written.",
        ) from error
    if spec is not None:
        width, height = max(spec.sizes, key=lambda size: size[0] * size[1])
        needed = (
            6 * max(spec.allowed_frame_counts) * width * height
        )  # two exact picture sequences; videos are far smaller
        if free < needed:
            raise OutputError(
                "output-full",
                f"The disk of {out} has {format_size(free)} left; a result takes up to {format_size(needed)}.",
                "Free some space, or choose another folder.",
            )
