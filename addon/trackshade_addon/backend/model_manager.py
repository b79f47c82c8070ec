# SPDX-License-Identifier: GPL-3.0-or-later
"""The models: which are present; fetching, verifying and removing them; the models folder; the user's checkpoints.

Long work is done by a `BackgroundTask`, mostly in the backend's environment (`trackshade.cli.backend_tasks`).
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trackshade.config import checkpoints, registry
from trackshade.core import folders
from trackshade.core.errors import CancelledError, TrackshadeError, UsageError
from trackshade.core.text import format_size

from . import moving
from .environment import BackendPrefs
from .tasks import BackgroundTask, run_backend_task

MAX_AGE = 3.0  # seconds after which the disk is scanned again
ALL = ""  # in place of a model's name: the folder of all models

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelRow:
    """A row of the panel's list."""

    spec: registry.ModelSpec
    state: str  # "here", "absent", "part" (partly downloaded), "fetching", "checking" or "removing"
    bytes: int | None  # size on disk, if known
    progress: float | None = None  # 0 to 1 during a task, if known
    message: str = ""  # what is being done, or a success
    error: TrackshadeError | None = None  # why the latest task failed, or None


@dataclass(frozen=True)
class _Scan:
    """The models on disk."""

    folder: Path  # folder of the downloaded models
    specs: tuple[registry.ModelSpec, ...]  # all models
    states: Mapping[str, str]  # "here", "part" or "absent", by model
    sizes: Mapping[str, int]  # bytes by model, of those that were measured


class ModelManager:
    """Manages the models of one Blender.

    Every call returns at once. The disk is scanned by a thread, so that drawing the list reads no file.
    """

    def __init__(self) -> None:
        self._tasks: dict[str, tuple[str, BackgroundTask]] = {}  # by model: the latest task and its kind
        self._scan: _Scan | None = None
        self._changes = 0  # made by this Blender
        self._scanned = float("-inf")
        self._scanning = threading.Lock()  # held by the thread that scans
        self._lock = threading.Lock()

    def rows(self) -> list[ModelRow]:
        """Return the rows of the list; sizes appear a moment later."""
        scan = self._latest_scan()
        return [self._row(spec, scan) for spec in scan.specs]

    def specs(self) -> tuple[registry.ModelSpec, ...]:
        """Return all models."""
        return self._latest_scan().specs

    def spec(self, name: str) -> registry.ModelSpec | None:
        """Return the model of a name, or None."""
        return next((spec for spec in self.specs() if spec.name == name), None)

    def folder(self) -> Path:
        """Return the folder of the fetched models."""
        return self._latest_scan().folder

    def task(self, name: str = ALL) -> BackgroundTask | None:
        """Return the latest task on a model, or on the folder of all; None if there was none."""
        found = self._tasks.get(name)
        return None if found is None else found[1]

    def is_busy(self) -> bool:
        """Return whether any task is running."""
        return any(task.running for _, task in self._tasks.values())

    def fetch(self, name: str, prefs: BackendPrefs) -> BackgroundTask:
        """Download a model, or continue. Raise UsageError without network or backend, or if the model is in use."""
        if not prefs.online:
            raise UsageError(
                "offline",
                "Blender may not use the network.",
                "Turn on 'Allow Online Access' (Preferences > System > Network), or use a checkpoint folder.",
            )
        return self._run_backend_task("fetch", "fetching", name, prefs)

    def pause(self, name: str) -> None:
        """Stop a fetch; the next one continues from there."""
        task = self.task(name)
        if task is not None:
            task.cancel()

    def cancel(self, name: str) -> BackgroundTask:
        """Stop a download and delete its files. Raise UsageError while the models are moved."""
        self._check_idle(ALL)
        self.pause(name)
        earlier = self.task(name)
        folder = _partial_folder(registry.spec(name))

        def remove(task: BackgroundTask) -> None:
            if earlier is not None:
                earlier.wait()
            shutil.rmtree(folder, ignore_errors=True)

        return self._begin("removing", name, remove)

    def verify(self, name: str, prefs: BackendPrefs) -> BackgroundTask:
        """Compare a model's files with the published digests. Raise UsageError without backend, or if it is in use."""
        return self._run_backend_task("verify", "checking", name, prefs)

    def remove(self, name: str) -> BackgroundTask | None:
        """Delete a fetched model. A checkpoint of the user is only removed from the list, at once.

        Raises:
            UsageError: the model is part of Trackshade, or in use.
            OutputError: the list of checkpoints cannot be written.
        """
        spec = registry.spec(name)
        if spec.shipped:
            raise UsageError("shipped", f"{name} is part of Trackshade.")
        self._check_idle(name)
        if spec.folder:
            checkpoints.unregister(name)
            self._note_change()
            return None
        folder = registry.model_folder(spec)

        def remove(task: BackgroundTask) -> None:
            _log.info("Removing the model %s from %s", name, folder)
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(_partial_folder(spec), ignore_errors=True)

        return self._begin("removing", name, remove)

    def use_folder(self, folder: Path, prefs: BackendPrefs) -> BackgroundTask:
        """Add a folder with a checkpoint to the models, once the backend has checked it.

        Raises:
            UsageError: there is no backend, or the models are in use.
        """
        python = _python(prefs)
        self._check_idle(ALL)

        def check(task: BackgroundTask) -> str:
            found = run_backend_task(task, python, "check", str(folder), on_line=task.log_lines.append)
            taken = tuple(item.name for item in registry.models())
            return checkpoints.register(folder, str(found["like"]), taken).name

        return self._begin("checking", ALL, check, "Checking the checkpoint")

    def move(self, target: Path) -> BackgroundTask:
        """Move all models to another folder. Raise UsageError if one is in use."""
        for name in self._tasks:
            self._check_idle(name)
        return self._begin("moving", ALL, lambda task: moving.move_models(target, task.report, task))

    def close(self) -> None:
        """End all tasks; downloads continue the next time."""
        for _, task in self._tasks.values():
            task.cancel()
        for _, task in self._tasks.values():
            task.wait(2.0)

    def _run_backend_task(self, command: str, kind: str, name: str, prefs: BackendPrefs) -> BackgroundTask:
        registry.spec(name)  # raises UsageError for an unknown name
        python = _python(prefs)
        self._check_idle(name)
        message = kind.capitalize()

        def run(task: BackgroundTask) -> dict[str, Any]:
            def progress(done: int, total: int, _: str) -> None:
                task.report(done / total, f"{message}, {format_size(done)} of {format_size(total)}")

            return run_backend_task(task, python, command, name, progress=progress, on_line=task.log_lines.append)

        return self._begin(kind, name, run)

    def _begin(
        self, kind: str, name: str, function: Callable[[BackgroundTask], Any], message: str = ""
    ) -> BackgroundTask:
        message = message or kind.capitalize()

        def run(task: BackgroundTask) -> Any:
            _log.info("%s: %s", message, name or "all models")
            try:
                return function(task)
            finally:
                self._note_change()

        task = BackgroundTask(run, message)
        self._tasks[name] = kind, task
        return task

    def _check_idle(self, name: str) -> None:
        """Raise UsageError if a task is running on this model, or on the folder of all."""
        kind, task = self._tasks.get(ALL, ("", None))
        fix = "Wait until it has finished, or cancel it."
        if task is not None and task.running and kind == "moving":
            raise UsageError("models-busy", "The models are being moved.", fix)
        if task is not None and task.running and name == ALL:
            raise UsageError("models-busy", "A checkpoint is being checked.", fix)
        task = self.task(name)
        if task is not None and task.running:
            fix = "Wait until it has finished, or pause it."
            raise UsageError("models-busy", f"{name} is being fetched or checked.", fix)

    def _row(self, spec: registry.ModelSpec, scan: _Scan) -> ModelRow:
        kind, task = self._tasks.get(spec.name, ("", None))
        size = scan.sizes.get(spec.name)
        if task is not None and task.running:
            return ModelRow(spec, kind, size, task.progress, task.message)
        state, error = scan.states[spec.name], None if task is None else task.error
        if error is not None and not isinstance(error, CancelledError):
            return ModelRow(spec, state, size, error=error)
        verified = task is not None and kind == "checking" and error is None
        return ModelRow(spec, state, size, message="Verified" if verified else "")

    # Scanning the disk

    def _latest_scan(self) -> _Scan:
        """Return the latest scan. A thread renews one that is too old; only the first is made here, without sizes."""
        if self._scan is None:
            self._scan = _scan({})
        if time.monotonic() - self._scanned > MAX_AGE and self._scanning.acquire(blocking=False):
            threading.Thread(target=self._scan_again, name="trackshade-models", daemon=True).start()
        return self._scan

    def _scan_again(self) -> None:
        try:
            while True:
                changes = self._changes
                scan = _scan({})
                scan = replace(scan, sizes=_measure(scan.specs))
                with self._lock:
                    if changes == self._changes:  # else it may be older than the change
                        self._scan, self._scanned = scan, time.monotonic()
                        return
        finally:
            self._scanning.release()

    def _note_change(self) -> None:
        """Scan anew after a change; sizes follow with the next scan."""
        with self._lock:
            self._changes += 1
        scan = _scan({} if self._scan is None else self._scan.sizes)
        with self._lock:
            self._scan, self._scanned = scan, float("-inf")


def _scan(sizes: Mapping[str, int]) -> _Scan:
    specs = registry.models()
    return _Scan(folders.models_dir(), specs, {spec.name: _state(spec) for spec in specs}, sizes)


def _state(spec: registry.ModelSpec) -> str:
    try:
        if registry.is_present(spec):
            return "here"
        return "part" if _partial_folder(spec).is_dir() else "absent"
    except OSError:  # the folder may not be read
        return "absent"


def _measure(specs: Iterable[registry.ModelSpec]) -> dict[str, int]:
    """Return the bytes on disk of each model, complete or partial."""
    return {
        spec.name: _size(folder)
        for spec in specs
        for folder in (_partial_folder(spec), registry.model_folder(spec))  # the latter counts if both exist
        if folder.is_dir()
    }


def _python(prefs: BackendPrefs) -> str:
    python = prefs.python()
    if python is None:
        raise UsageError("not-set-up", "The backend is not set up yet.", "Press Set Up.")
    return python


def _partial_folder(spec: registry.ModelSpec) -> Path:
    """Return where a fetch collects the files of a model until it is complete."""
    folder = registry.model_folder(spec)
    return folder.with_name(folder.name + ".part")


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # deleted in the meantime
            total += path.stat().st_size if path.is_file() else 0
    return total
