# SPDX-License-Identifier: GPL-3.0-or-later
"""What there is of the open file from before Blender was started: results, and jobs that were running in a crash."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy

from trackshade.client import later
from trackshade.client.job_result import JobResult
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import TrackshadeError

from ..capture.request import ShotRequest
from ..properties.preferences import results_folder
from .job import Job, SceneReference
from .pending import PendingJob, PendingRecord, claim_pending
from .session import current

MOST = 50  # results that are listed
_PERIOD = 0.1  # seconds between two looks at whether the records are read


@dataclass(frozen=True)
class FoundResult:
    """A result on disk, made from the open file.

    Attributes:
        result: the result.
        scene: name of the scene that it was made from.
        request: what was captured.
        settings: how it was shaded.
    """

    result: JobResult
    scene: str
    request: ShotRequest
    settings: ShadeSettings


def find_results(folder: Path, file: str, most: int = MOST) -> list[FoundResult]:
    """Return the newest results in a folder that were made from a file, oldest first.

    Args:
        folder: where results are; it need not exist.
        file: path of the file.
        most: number of results, at most.
    """
    found: list[FoundResult] = []
    for path in _newest_folders(folder):
        result = _read(path, file)
        if result is not None:
            found.append(result)
            if len(found) == most:
                break
    return found[::-1]


def find_pending(file: str) -> list[tuple[PendingJob, PendingRecord]]:
    """Lock and return the jobs of a file that were running when their Blender crashed, oldest first.

    Args:
        file: path of the file; "" for the jobs of files that were never saved.
    """
    return claim_pending(lambda job: _is_file(job.file, file) if job.file and file else job.file == file)


def restore() -> None:
    """List what there is of the open file and not listed yet, as soon as a thread has read the records."""
    if not bpy.app.background:
        file = bpy.data.filepath
        results = later(find_results, results_folder(), file) if file else None
        _Restoring(file, results, later(find_pending, file)).follow()


def follow_pending(found: list[tuple[PendingJob, PendingRecord]]) -> None:
    """Add jobs that were running in a crash to the session, which follows them. Main thread only."""
    for pending, record in found:
        current().follow_pending(Job.pending(pending, record))


def list_results(results: list[FoundResult], file: str) -> None:
    """Add results of a file to the session, before its own jobs, unless they are listed already. Main thread only."""
    session = current()
    known = {job.out for job in session.jobs}
    session.add_finished([
        Job.finished(SceneReference.of(item.scene, file), item.request, item.settings, item.result)
        for item in results
        if item.result.out not in known
    ])  # fmt: skip


@dataclass(frozen=True)
class _Restoring:
    """Reading of the records of a file's results and jobs."""

    file: str
    results: Future[list[FoundResult]] | None  # None for a file that was never saved
    pending: Future[list[tuple[PendingJob, PendingRecord]]]

    def follow(self) -> None:
        """List them when they are read, unless another file is open by then."""

        def check() -> float | None:
            if not (self.pending.done() and (self.results is None or self.results.done())):
                return _PERIOD
            if bpy.data.filepath == self.file:
                list_results([] if self.results is None else self.results.result(), self.file)
                follow_pending(self.pending.result())
            else:
                for _, record in self.pending.result():
                    record.release()
            return None

        bpy.app.timers.register(check, first_interval=_PERIOD)


def _newest_folders(folder: Path) -> Iterator[Path]:
    """Return the folders in a folder that hold a record, the newest record first."""
    records = []
    try:
        for entry in folder.iterdir():
            try:
                records.append(((entry / "job.json").stat().st_mtime, entry))
            except OSError:  # no result
                continue
    except OSError:
        return
    for _, entry in sorted(records, reverse=True):
        yield entry


def _read(folder: Path, file: str) -> FoundResult | None:
    """Return the result in a folder, if it was made from a file, or from one that is gone and had its name."""
    try:
        result = JobResult.load(folder.name, folder, 0.0)
        source: Mapping[str, Any] = result.record["shot"]["source"]
        if not _is_file(str(source.get("file", "")), file):
            return None
        settings = ShadeSettings.from_dict(result.record["settings"])
        return FoundResult(result, str(source["scene"]), ShotRequest.from_dict(source.get("request", {})), settings)
    except (TrackshadeError, KeyError, TypeError, ValueError, AttributeError, json.JSONDecodeError):
        return None  # damaged, or of another version


def _is_file(recorded: str, file: str) -> bool:
    """Return whether a record is about a file, which may have been moved since."""
    same = os.path.normcase(os.path.normpath(recorded)) == os.path.normcase(os.path.normpath(file))
    return same or (Path(recorded).name == Path(file).name and not Path(recorded).exists())
