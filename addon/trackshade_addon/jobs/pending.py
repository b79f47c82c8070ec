# SPDX-License-Identifier: GPL-3.0-or-later
"""Records of jobs whose results are not fetched yet, so that a Blender that was ended finds them again.

The backend keeps an accepted job over every crash. What it does not know is where its result goes and in which scene it
is placed. That is written to a file before the shot is sent, and deleted when the job is over. The Blender of the job
holds a lock on the file; a file without one is of a Blender that has crashed.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trackshade.config.settings import ShadeSettings
from trackshade.core import folders
from trackshade.core.atomic_files import write_json
from trackshade.core.errors import TrackshadeError
from trackshade.ipc.locks import FileLock

from ..capture.request import ShotRequest
from ..properties.placement_options import PlacementOptions

_RECORD, _LOCK = ".json", ".lock"


@dataclass(frozen=True)
class PendingJob:
    """A job whose result is not fetched yet.

    Attributes:
        job: its id at the backend.
        out: folder that is reserved for its result.
        file: path of the file that it was started in; "" for one that was never saved.
        scene: name of the scene.
        request: what was captured.
        settings: how it is shaded.
        placement: how the result is placed.
    """

    job: str
    out: Path
    file: str
    scene: str
    request: ShotRequest
    settings: ShadeSettings
    placement: PlacementOptions

    def to_dict(self) -> dict[str, Any]:
        """Return the form that is stored."""
        parts = {"request": self.request.to_dict(), "settings": self.settings.to_dict()}
        own = {"job": self.job, "out": str(self.out), "file": self.file, "scene": self.scene}
        return {**own, **parts, "placement": asdict(self.placement)}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> PendingJob:
        """Read that form. Raise KeyError, TypeError, ValueError or TrackshadeError if it is damaged."""
        return PendingJob(
            *(str(data["job"]), Path(str(data["out"])), str(data["file"]), str(data["scene"])),
            *(ShotRequest.from_dict(data["request"]), ShadeSettings.from_dict(data["settings"])),
            PlacementOptions(**data["placement"]),
        )


class PendingRecord:
    """The file of a pending job, which this Blender has locked."""

    def __init__(self, path: Path, lock: FileLock) -> None:
        self._path: Path | None = path
        self._lock = lock

    @staticmethod
    def write(job: PendingJob) -> PendingRecord | None:
        """Write the record of a job; return None if the disk cannot be written, which is no reason not to shade."""
        try:
            path = pending_folder() / f"{job.job}{_RECORD}"
            path.parent.mkdir(parents=True, exist_ok=True)
            record = PendingRecord(path, FileLock(path.with_suffix(_LOCK)))
            write_json(path, job.to_dict())
        except (OSError, TrackshadeError):
            return None
        return record

    def update(self, job: PendingJob) -> None:
        """Write the record anew, as after the job's file was saved under another name."""
        if self._path is not None:
            with contextlib.suppress(TrackshadeError):  # the disk cannot be written: the earlier record stays
                write_json(self._path, job.to_dict())

    def remove(self) -> None:
        """Delete the record: the job is over. Calling it again does nothing."""
        path, self._path = self._path, None
        if path is not None:
            with contextlib.suppress(OSError):
                path.unlink()
            self._lock.release()
            with contextlib.suppress(OSError):
                path.with_suffix(_LOCK).unlink()

    def release(self) -> None:
        """Leave the record to another Blender, or to a later one. Calling it again does nothing."""
        path, self._path = self._path, None
        if path is not None:
            self._lock.release()


def pending_folder() -> Path:
    """Return the folder of records. Raise UsageError if there is no home folder."""
    return folders.home() / "pending"


def claim_pending(is_wanted: Callable[[PendingJob], bool]) -> list[tuple[PendingJob, PendingRecord]]:
    """Lock and return the jobs of Blenders that have crashed, oldest first. Damaged records are deleted.

    Args:
        is_wanted: returns whether a job is wanted; the others are left.
    """
    found = []
    try:
        paths = sorted(pending_folder().glob(f"*{_RECORD}"), key=_age)
    except (OSError, TrackshadeError):
        return []
    for path in paths:
        try:
            record = PendingRecord(path, FileLock(path.with_suffix(_LOCK)))
        except OSError:  # its Blender runs
            continue
        try:
            job = PendingJob.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:  # it ended just now
            record.remove()
            continue
        except OSError:
            record.release()
            continue
        except (ValueError, KeyError, TypeError, AttributeError, TrackshadeError):
            record.remove()
            continue
        if is_wanted(job):
            found.append((job, record))
        else:
            record.release()
    return found


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
