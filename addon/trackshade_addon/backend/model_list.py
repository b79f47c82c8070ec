# SPDX-License-Identifier: GPL-3.0-or-later
"""The models: which are there, fetching and checking them, the folder that they are in, checkpoints of one's own.

What takes its time is an errand in the backend's environment (`trackshade.errands`), or a thread; see `Work`.
"""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trackshade import checkpoints, registry, relay
from trackshade import settings as places
from trackshade.client.launch import environment as variables_of
from trackshade.errors import Cancelled, JobError, TrackshadeError, UsageError

from . import moving
from .choice import Choice
from .work import Work

FRESH = 3.0  # seconds for which sizes on the disk are believed
MOVING = ""  # in place of a model's name: the folder of all


@dataclass(frozen=True)
class ModelRow:
    """A line of the list.

    Attributes:
        state: "here", "absent", "part" (begun), "fetching", "checking", "removing".
        bytes: on the disk, where it is known.
        progress: 0 to 1 while something goes on, where it can be told.
        message: what goes on, or what went wrong.
    """

    spec: registry.ModelSpec
    state: str
    bytes: int | None
    progress: float | None = None
    message: str = ""
    failed: bool = False


class Models:
    """One for each Blender. Everything returns at once."""

    def __init__(self) -> None:
        self._works: dict[str, tuple[str, Work]] = {}  # by model: what is done, and the latest work
        self._sizes: dict[Path, int] = {}
        self._looked = float("-inf")
        self._looking = threading.Lock()

    def rows(self) -> list[ModelRow]:
        """The list; sizes are looked up in a thread and come a moment later."""
        self._look()
        return [self._row(spec) for spec in registry.models()]

    def folder(self) -> Path:
        return places.models_dir()

    def work(self, name: str = MOVING) -> Work | None:
        """The latest work on a model, or on the folder of all."""
        found = self._works.get(name)
        return None if found is None else found[1]

    def busy(self) -> bool:
        return any(work.running for _, work in self._works.values())

    def fetch(self, name: str, choice: Choice) -> Work:
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

    def cancel(self, name: str) -> Work:
        """Ends a fetch and removes what it had got."""
        self.pause(name)
        earlier = self.work(name)
        folder = _part(registry.spec(name))

        def remove(work: Work) -> None:
            if earlier is not None:
                earlier.wait()
            shutil.rmtree(folder, ignore_errors=True)

        return self._begin("removing", name, Work(remove, "Removing"))

    def verify(self, name: str, choice: Choice) -> Work:
        """Compares a model's files with what they should be."""
        return self._errand("checking", name, choice, "verify", name)

    def remove(self, name: str) -> Work | None:
        """Deletes a fetched model; a checkpoint of one's own only leaves the list. Raises UsageError, OutputError."""
        spec = registry.spec(name)
        if spec.shipped:
            raise UsageError("shipped", f"{name} is part of Trackshade.")
        self._free(name)
        if spec.folder:
            checkpoints.forget(name)
            return None
        folder = registry.model_folder(spec)

        def remove(work: Work) -> None:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(_part(spec), ignore_errors=True)

        return self._begin("removing", name, Work(remove, "Removing"))

    def use_folder(self, folder: Path, choice: Choice) -> Work:
        """Has the backend's environment check a checkpoint, then adds it to the models."""
        python = _python(choice)

        def check(work: Work) -> str:
            found = _run_errand(work, python, "Checking the checkpoint", "check", str(folder))
            taken = tuple(item.name for item in registry.models())
            return checkpoints.register(folder, str(found["like"]), taken).name

        return self._begin("checking", MOVING, Work(check, "Checking the checkpoint"))

    def move(self, target: Path) -> Work:
        """Moves all models to another folder. Raises UsageError while one is being fetched."""
        if self.busy():
            raise UsageError("models-busy", "A model is being fetched or checked.", "Wait for it, or pause it.")
        move = Work(lambda work: moving.move_models(target, work.report, work), "Moving")
        return self._begin("moving", MOVING, move)

    def close(self) -> None:
        """Ends what runs; fetches go on from there the next time."""
        for _, work in self._works.values():
            work.cancel()
        for _, work in self._works.values():
            work.wait(2.0)

    def _errand(self, kind: str, name: str, choice: Choice, *arguments: str) -> Work:
        registry.spec(name)
        python = _python(choice)
        words = "Fetching" if kind == "fetching" else "Checking"
        return self._begin(kind, name, Work(lambda work: _run_errand(work, python, words, *arguments), words))

    def _begin(self, kind: str, name: str, work: Work) -> Work:
        self._works[name] = kind, work
        return work

    def _free(self, name: str) -> None:
        work = self.work(name)
        if work is not None and work.running:
            raise UsageError("models-busy", f"{name} is being fetched or checked.", "Wait for it, or pause it.")

    def _row(self, spec: registry.ModelSpec) -> ModelRow:
        kind, work = self._works.get(spec.name, ("", None))
        size = self._sizes.get(registry.model_folder(spec), self._sizes.get(_part(spec)))
        if work is not None and work.running:
            return ModelRow(spec, kind, size, work.share, work.words)
        if registry.is_present(spec):
            state = "here"
        else:
            state = "part" if _part(spec).is_dir() else "absent"
        error = None if work is None else work.error
        if error is not None and not isinstance(error, Cancelled):
            return ModelRow(spec, state, size, message=str(error), failed=True)
        checked = work is not None and kind == "checking" and error is None
        return ModelRow(spec, state, size, message="Verified" if checked else "")

    def _look(self) -> None:
        if time.monotonic() - self._looked > FRESH and self._looking.acquire(blocking=False):
            threading.Thread(target=self._measure, name="trackshade-sizes", daemon=True).start()

    def _measure(self) -> None:
        try:
            folders = [folder for spec in registry.models() for folder in (registry.model_folder(spec), _part(spec))]
            self._sizes = {folder: size for folder in folders if (size := _size(folder)) is not None}
            self._looked = time.monotonic()
        finally:
            self._looking.release()


def _run_errand(work: Work, python: str, words: str, *arguments: str) -> dict[str, Any]:
    """Runs an errand to its end; what it found. Raises its error, JobError where it ended without a word."""
    told: dict[str, Any] = {}

    def on_line(line: str) -> None:
        message = relay.parse(line)
        if message is None:
            work.lines.append(line)
        elif message.get("event") == "progress":
            done, total = int(message["done"]), max(1, int(message["total"]))
            work.report(done / total, f"{words}, {done / 1e9:.2f} of {total / 1e9:.2f} GB")
        else:
            told.update(message)

    try:
        ended = work.run([python, "-m", "trackshade.errands", *arguments], on_line, variables=variables_of(python))
    except OSError as error:
        raise UsageError("wrong-python", f"{python} cannot be run: {error.strerror}.", "Choose another.") from error
    if told.get("event") == "error":
        raise TrackshadeError.from_dict(told)
    if told.get("event") != "result":
        said = next((line for line in reversed(ended.tail) if line.strip()), "it said nothing")
        raise JobError("errand-failed", f"The backend's environment failed: {said[:300]}", "Set the backend up again.")
    return told


def _python(choice: Choice) -> str:
    python = choice.python()
    if python is None:
        raise UsageError("not-set-up", "The backend is not set up yet.", "Press Set Up in the Backend panel.")
    return python


def _part(spec: registry.ModelSpec) -> Path:
    """What a fetch that was begun has got."""
    folder = registry.model_folder(spec)
    return folder.with_name(folder.name + ".part")


def _size(folder: Path) -> int | None:
    if not folder.is_dir():
        return None
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # gone meanwhile
            continue
    return total
