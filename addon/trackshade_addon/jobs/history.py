# SPDX-License-Identifier: GPL-3.0-or-later
"""What there is of the open file from before Blender was started: results, and jobs that were running in a crash.

A result says which file it was made from. So that results follow a file that is saved under another name, or for the
first time, each scene keeps the folders of those that were made from it under other names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
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
_KEY = "trackshade_results"  # property of a scene: folders of results, as JSON
_PERIOD = 0.1  # seconds between two looks at whether the records are read


@dataclass(frozen=True)
class FoundResult:
    """A result on disk, made from the open file.

    Attributes:
        result: the result.
        file: path of the file that it was made from; "" for one that was never saved.
        scene: name of the scene that it was made from.
        request: what was captured.
        settings: how it was shaded.
    """

    result: JobResult
    file: str
    scene: str
    request: ShotRequest
    settings: ShadeSettings


_saving: list[Job] = []  # the jobs of the file that is being saved
_before: list[tuple[bpy.types.Scene, str | None]] = []  # what its scenes had before


def find_results(
    folder: Path, file: str, most: int = MOST, earlier: Mapping[Path, str] | None = None
) -> list[FoundResult]:
    """Return the newest results in a folder that were made from a file, oldest first.

    Args:
        folder: where results are; it need not exist.
        file: path of the file.
        most: number of results, at most.
        earlier: folders of further results, with the names of the scenes that they belong to; see `earlier_results`.
    """
    found: list[FoundResult] = []
    earlier = earlier or {}
    for path in _newest_first({*_subfolders(folder), *earlier}):
        result = _read(path)
        if result is not None and path in earlier:
            result = replace(result, scene=earlier[path])
        elif result is not None and not _is_file(result.file, file):
            result = None
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
        results = later(find_results, results_folder(), file, MOST, earlier_results()) if file else None
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


def earlier_results() -> dict[Path, str]:
    """Return the folders of results that the open file's scenes have from its earlier names, with the scenes' names."""
    return {Path(folder): scene.name for scene in bpy.data.scenes for folder in _folders_of(scene)}


@bpy.app.handlers.persistent
def on_save_pre(file: str = "", *_: object) -> None:
    """Have each scene keep the results that are listed of it and were made under another name of the file."""
    if not file:  # the startup file
        return
    found = [(job, scene) for job in current().jobs if (scene := job.scene.find()) is not None]
    _saving[:] = [job for job, _ in found]
    _before.clear()
    for scene in bpy.data.scenes:
        if scene.library is not None:
            continue
        listed = [str(job.out) for job, own in found if own == scene and _is_of_another(job, file)]
        before = _folders_of(scene)
        folders = [*(folder for folder in before if folder not in listed), *listed][-MOST:]
        if folders != before:
            _before.append((scene, scene.get(_KEY)))
            scene[_KEY] = json.dumps(folders)


@bpy.app.handlers.persistent
def on_save_post(file: str = "", *_: object) -> None:
    """Let the jobs of the file follow it to its new name. After a copy was saved, its scenes are as before."""
    if file and not _is_same(file, bpy.data.filepath):
        for scene, value in _before:
            if value is None:
                del scene[_KEY]
            else:
                scene[_KEY] = value
    for job in _saving:
        if job in current().jobs and job.scene.file != bpy.data.filepath:
            job.follow_file(bpy.data.filepath)
    _saving.clear()
    _before.clear()


def _is_of_another(job: Job, file: str) -> bool:
    """Return whether a job has a result that was made under another name of the file."""
    if job.result is None:
        return False
    try:
        recorded = str(job.result.record["shot"]["source"].get("file", ""))
    except (KeyError, TypeError, AttributeError):
        return False
    return not _is_same(recorded, file)


def _folders_of(scene: bpy.types.Scene) -> list[str]:
    try:
        found = json.loads(scene.get(_KEY, "[]"))
    except (TypeError, ValueError, RecursionError):  # somebody changed it
        return []
    return [folder for folder in found if isinstance(folder, str)] if isinstance(found, list) else []


def _subfolders(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _newest_first(folders: Iterable[Path]) -> Iterator[Path]:
    """Return those of some folders that hold a record, the newest record first."""
    records = []
    for folder in folders:
        try:
            records.append(((folder / "job.json").stat().st_mtime, folder))
        except (OSError, ValueError):  # no result
            continue
    for _, folder in sorted(records, reverse=True):
        yield folder


def _read(folder: Path) -> FoundResult | None:
    """Return the result in a folder; None if there is none that was made from a file."""
    try:
        result = JobResult.load(folder.name, folder, 0.0)
        source: Mapping[str, Any] = result.record["shot"]["source"]
        settings = ShadeSettings.from_dict(result.record["settings"])
        request = ShotRequest.from_dict(source.get("request", {}))
        return FoundResult(result, str(source.get("file", "")), str(source["scene"]), request, settings)
    except (TrackshadeError, KeyError, TypeError, ValueError, AttributeError, json.JSONDecodeError):
        return None  # damaged, or of another version


def _is_file(recorded: str, file: str) -> bool:
    """Return whether a record is about a file, or about one that is gone and had its name: it may have been moved."""
    if not recorded:
        return False
    return _is_same(recorded, file) or (Path(recorded).name == Path(file).name and not Path(recorded).exists())


def _is_same(path: str, other: str) -> bool:
    return os.path.normcase(os.path.normpath(path)) == os.path.normcase(os.path.normpath(other))
