# SPDX-License-Identifier: GPL-3.0-or-later
"""The result of a finished job, in a form for people and scripts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trackshade.core.errors import OutputError
from trackshade.core.json_files import read_object
from trackshade.ipc.protocol import is_file_name

_FILE_KEYS = {"tracking.mp4": "tracking_video", "job.json": "record"}  # the others have the key of their stem


def name_files(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the paths of files and folders of a result by a short key.

    Args:
        folder: the result.
        names: their names in it. A folder keeps its whole name, which may be that of a camera, such as "Camera.001".
    """
    files: dict[str, str] = {}
    for name in names:
        path = folder / name
        key = name if path.is_dir() else _FILE_KEYS.get(name, path.stem)
        files[name if key in files else key] = str(path)
    return files


@dataclass(frozen=True)
class JobResult:
    """A finished job."""

    job: str  # id of the job
    out: Path  # folder of the result
    record: dict[str, Any]  # contents of its job.json
    warnings: tuple[str, ...]  # sentences of the capture, the job and the placement
    seconds: float  # how long it took
    scene_file: Path | None = None  # copy of the scene that shows the result, or None

    @staticmethod
    def load(job: str, folder: Path, seconds: float) -> JobResult:
        """Read a fetched result. Raise OutputError("damaged-result") if its record cannot be read."""
        try:
            record = _checked(read_object(folder / "job.json"))
        except (OSError, ValueError) as error:
            raise OutputError(
                "damaged-result", f"The record of the result in {folder} cannot be read: {error}."
            ) from error
        return JobResult(job, folder, record, tuple(record.get("warnings", ())), seconds)

    def placed(self, warnings: Iterable[str], scene_file: Path | None = None) -> JobResult:
        """Return the result with the warnings of its placement, and the file that shows it."""
        return replace(self, warnings=tuple(dict.fromkeys([*self.warnings, *warnings])), scene_file=scene_file)

    def to_dict(self) -> dict[str, Any]:
        """Return what a command prints with --json."""
        files = name_files(self.out, self.record.get("files", ()))
        if self.scene_file is not None:
            files["scene"] = str(self.scene_file)
        shot = _part(self.record, "shot")
        # How the range, the frame and a given first frame were fitted, and what the light is.
        parts = {key: _part(shot, key) for key in ("frame_map", "size_fit")}
        source = _part(shot, "source")
        parts |= {key: _part(source, key) for key in ("first_frame", "light") if "statement" in _part(source, key)}
        return {
            "job": self.job,
            "out": str(self.out),
            "files": files,
            "fit": {key: part.get("statement") for key, part in parts.items()},
            "model": _part(self.record, "model").get("name"),
            "seed": self.record.get("seed"),
            "consistency": self.record.get("consistency"),
            "warnings": list(self.warnings),
            "seconds": round(self.seconds, 2),
        }


def _checked(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record; raise ValueError if its lists have another form, as after an edit."""
    for key in ("warnings", "files"):
        names = record.get(key, [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"its {key} are no list of texts")
    if any(not is_file_name(name) for name in record.get("files", ())):
        raise ValueError("it names files elsewhere")
    return record


def _part(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return a record inside a record; an empty one where there is something else."""
    found = record.get(key)
    return found if isinstance(found, dict) else {}
