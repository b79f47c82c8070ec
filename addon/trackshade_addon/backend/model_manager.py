# SPDX-License-Identifier: GPL-3.0-or-later
"""The models: which are there, fetching and checking them, the folder that they are in, checkpoints of one's own.

What takes its time is a task in the backend's environment (`trackshade.cli.backend_tasks`), or a thread; see
`BackgroundTask`.
"""

from __future__ import annotations

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

from . import backend_task, moving
from .background_task import BackgroundTask
from .prefs import BackendPrefs

FRESH = 3.0  # seconds for which sizes on the disk are believed
MOVING = ""  # in place of a model's name: the folder of all


@dataclass(frozen=True)
class ModelRow:
    """A line of the list.

    Attributes:
        state: "here", "absent", "part" (begun), "fetching", "checking", "removing".
        bytes: on the disk, where it is known.
        progress: 0 to 1 while something goes on, where it can be told.
        message: what goes on, or what went well.
        error: what went wrong, or None.
    """

    spec: registry.ModelSpec
    state: str
    bytes: int | None
    progress: float | None = None
    message: str = ""
    error: TrackshadeError | None = None


@dataclass(frozen=True)
class _Found:
    """What a look at the disk found.

    Attributes:
        folder: of the fetched models.
        states: "here", "part" or "absent", by model.
        sizes: bytes, by model; only of those that were measured.
    """

    folder: Path
    specs: tuple[registry.ModelSpec, ...]
    states: Mapping[str, str]
    sizes: Mapping[str, int]


class Models:
    """One for each Blender. Everything returns at once, and no file is read by what draws: that is a thread's work."""

    def __init__(self) -> None:
        self._works: dict[str, tuple[str, BackgroundTask]] = {}  # by model: what is done, and the latest work
        self._found: _Found | None = None
        self._changes = 0  # made from here
        self._looked = float("-inf")
        self._looking = threading.Lock()  # held by the thread that looks
        self._lock = threading.Lock()

    def rows(self) -> list[ModelRow]:
        """The list; sizes come a moment later."""
        found = self._latest()
        return [self._row(spec, found) for spec in found.specs]

    def specs(self) -> tuple[registry.ModelSpec, ...]:
        """All models."""
        return self._latest().specs

    def spec(self, name: str) -> registry.ModelSpec | None:
        """The model of that name, None where there is none."""
        return next((spec for spec in self.specs() if spec.name == name), None)

    def folder(self) -> Path:
        """Of the fetched models."""
        return self._latest().folder

    def work(self, name: str = MOVING) -> BackgroundTask | None:
        """The latest work on a model, or on the folder of all."""
        found = self._works.get(name)
        return None if found is None else found[1]

    def busy(self) -> bool:
        return any(work.running for _, work in self._works.values())

    def fetch(self, name: str, choice: BackendPrefs) -> BackgroundTask:
        """Fetches a model, or goes on where an earlier fetch ended. Raises UsageError."""
        if not choice.online:
            raise UsageError(
                "offline",
                "Blender may not use the network.",
                "Turn on 'Allow Online Access' (Preferences > System > Network), or use a checkpoint folder.",
            )
        return self._errand("fetching", name, choice, "fetch", name)

    def pause(self, name: str) -> None:
        """Ends a fetch; the next one goes on from there."""
        work = self.work(name)
        if work is not None:
            work.cancel()

    def cancel(self, name: str) -> BackgroundTask:
        """Ends a fetch and removes what it had got. Raises UsageError where the models are being moved."""
        self._free(MOVING)
        self.pause(name)
        earlier = self.work(name)
        folder = _part(registry.spec(name))

        def remove(work: BackgroundTask) -> None:
            if earlier is not None:
                earlier.wait()
            shutil.rmtree(folder, ignore_errors=True)

        return self._begin("removing", name, "Removing", remove)

    def verify(self, name: str, choice: BackendPrefs) -> BackgroundTask:
        """Compares a model's files with what they should be. Raises UsageError."""
        return self._errand("checking", name, choice, "verify", name)

    def remove(self, name: str) -> BackgroundTask | None:
        """Deletes a fetched model; a checkpoint of one's own only leaves the list. Raises UsageError, OutputError."""
        spec = registry.spec(name)
        if spec.shipped:
            raise UsageError("shipped", f"{name} is part of Trackshade.")
        self._free(name)
        if spec.folder:
            checkpoints.unregister(name)
            self._changed()
            return None
        folder = registry.model_folder(spec)

        def remove(work: BackgroundTask) -> None:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(_part(spec), ignore_errors=True)

        return self._begin("removing", name, "Removing", remove)

    def use_folder(self, folder: Path, choice: BackendPrefs) -> BackgroundTask:
        """Has the backend's environment check a checkpoint, then adds it to the models. Raises UsageError."""
        python = _python(choice)
        self._free(MOVING)

        def check(work: BackgroundTask) -> str:
            found = backend_task.send(work, python, "check", str(folder), on_line=work.lines.append)
            taken = tuple(item.name for item in registry.models())
            return checkpoints.register(folder, str(found["like"]), taken).name

        return self._begin("checking", MOVING, "Checking the checkpoint", check)

    def move(self, target: Path) -> BackgroundTask:
        """Moves all models to another folder. Raises UsageError while anything is done with one."""
        for name in self._works:
            self._free(name)
        return self._begin("moving", MOVING, "Moving", lambda work: moving.move_models(target, work.report, work))

    def close(self) -> None:
        """Ends what runs; fetches go on from there the next time."""
        for _, work in self._works.values():
            work.cancel()
        for _, work in self._works.values():
            work.wait(2.0)

    def _errand(self, kind: str, name: str, choice: BackendPrefs, *arguments: str) -> BackgroundTask:
        registry.spec(name)
        python = _python(choice)
        self._free(name)
        words = "Fetching" if kind == "fetching" else "Checking"

        def run(work: BackgroundTask) -> dict[str, Any]:
            def progress(done: int, total: int) -> None:
                work.report(done / total, f"{words}, {format_size(done)} of {format_size(total)}")

            return backend_task.send(work, python, *arguments, progress=progress, on_line=work.lines.append)

        return self._begin(kind, name, words, run)

    def _begin(self, kind: str, name: str, words: str, call: Callable[[BackgroundTask], Any]) -> BackgroundTask:
        def whole(work: BackgroundTask) -> Any:
            try:
                return call(work)
            finally:
                self._changed()

        work = BackgroundTask(whole, words)
        self._works[name] = kind, work
        return work

    def _free(self, name: str) -> None:
        """Raises UsageError where something is done with this model, or with all."""
        kind, work = self._works.get(MOVING, ("", None))
        if work is not None and work.running and kind == "moving":
            raise UsageError("models-busy", "The models are being moved.", "Wait for it, or cancel it.")
        if work is not None and work.running and name == MOVING:
            raise UsageError("models-busy", "A checkpoint is being checked.", "Wait for it, or cancel it.")
        work = self.work(name)
        if work is not None and work.running:
            raise UsageError("models-busy", f"{name} is being fetched or checked.", "Wait for it, or pause it.")

    def _row(self, spec: registry.ModelSpec, found: _Found) -> ModelRow:
        kind, work = self._works.get(spec.name, ("", None))
        size = found.sizes.get(spec.name)
        if work is not None and work.running:
            return ModelRow(spec, kind, size, work.share, work.words)
        state, error = found.states[spec.name], None if work is None else work.error
        if error is not None and not isinstance(error, CancelledError):
            return ModelRow(spec, state, size, error=error)
        checked = work is not None and kind == "checking" and error is None
        return ModelRow(spec, state, size, message="Verified" if checked else "")

    # what is on the disk

    def _latest(self) -> _Found:
        """What was found last. Looked for again in a thread where that is old, and here only the first time."""
        if self._found is None:
            self._found = _look({})
        if time.monotonic() - self._looked > FRESH and self._looking.acquire(blocking=False):
            threading.Thread(target=self._look_again, name="trackshade-models", daemon=True).start()
        return self._found

    def _look_again(self) -> None:
        try:
            while True:
                changes = self._changes
                found = _look({})
                found = replace(found, sizes=_sizes(found.specs))
                with self._lock:
                    if changes == self._changes:  # else it may have changed after it was looked at
                        self._found, self._looked = found, time.monotonic()
                        return
        finally:
            self._looking.release()

    def _changed(self) -> None:
        """Something was done here; sizes are measured with the next look."""
        with self._lock:
            self._changes += 1
        found = _look({} if self._found is None else self._found.sizes)
        with self._lock:
            self._found, self._looked = found, float("-inf")


def _look(sizes: Mapping[str, int]) -> _Found:
    specs = registry.models()
    return _Found(folders.models_dir(), specs, {spec.name: _state(spec) for spec in specs}, sizes)


def _state(spec: registry.ModelSpec) -> str:
    try:
        if registry.is_present(spec):
            return "here"
        return "part" if _part(spec).is_dir() else "absent"
    except OSError:  # in a folder that may not be looked into
        return "absent"


def _sizes(specs: Iterable[registry.ModelSpec]) -> dict[str, int]:
    """Bytes of each model that is here, whole or in part."""
    return {
        spec.name: _size(folder)
        for spec in specs
        for folder in (_part(spec), registry.model_folder(spec))  # the latter counts where both are there
        if folder.is_dir()
    }


def _python(choice: BackendPrefs) -> str:
    python = choice.python()
    if python is None:
        raise UsageError("not-set-up", "The backend is not set up yet.", "Press Set Up.")
    return python


def _part(spec: registry.ModelSpec) -> Path:
    """What a fetch that was begun has got."""
    folder = registry.model_folder(spec)
    return folder.with_name(folder.name + ".part")


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # gone meanwhile
            continue
    return total
