# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend's life: set up, started on first need, shared with other Blenders, watched, given up, ended.

Everything here returns at once. Threads do the work; they end with Blender, and the backend ends with the last Blender
that holds it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from trackshade.client import Client, connect, find_served, later
from trackshade.core.errors import CancelledError, ProtocolError, TrackshadeError, UsageError

from . import environment, installer
from .background_task import BackgroundTask
from .installer import Plan
from .prefs import BackendPrefs

LOOK_EVERY = 2.0  # seconds between two questions for the backend's status
STALE = 7.0  # seconds without an answer after which it counts as away
SETTLE = 5.0  # seconds that disabling the add-on waits for a set-up to put its things away
KINDS = ("missing", "setting-up", "stopped", "starting", "ready", "failed")


@dataclass(frozen=True)
class BackendState:
    """What a panel shows.

    Attributes:
        kind: one of KINDS.
        message: a sentence, or ""; of an error only what is wrong, not what to do.
        error: why there is none, or None.
        progress: 0 to 1, or None.
        device: name of the device, or "".
        version: of the backend's Trackshade, or "".
        free_bytes, total_bytes: of the device's memory, where they are known.
    """

    kind: str
    message: str = ""
    error: TrackshadeError | None = None
    progress: float | None = None
    device: str = ""
    version: str = ""
    free_bytes: int | None = None
    total_bytes: int | None = None


class BackendManager:
    """One for each Blender."""

    def __init__(self) -> None:
        self.work: BackgroundTask | None = None  # the latest set-up
        self.error: TrackshadeError | None = None  # why there is no backend; cleared by a new try
        self.status: Mapping[str, Any] = {}
        self._lock = threading.RLock()
        self._client: Future[Client] | None = None
        self._answered = 0.0
        self._over = threading.Event()  # of the present connection
        self._made: tuple[float, BackendPrefs | None, environment.Environment | None] = (float("-inf"), None, None)
        self._looked: tuple[float, BackendPrefs | None, TrackshadeError | None] = (float("-inf"), None, None)

    # the connection

    def connect(self, choice: BackendPrefs, model: str | None) -> Future[Client]:
        """The connection of this Blender, made if there is none; the backend loads the model, if any, already.

        Fails with the reason where the backend was given up, until `try_again`.
        """
        with self._lock:
            client = self._client
            if client is None or (client.done() and client.exception() is not None):
                if self.error is not None and self.error.code == "backend-gave-up":
                    return _failed(self.error)
                if self.work is not None and self.work.running:
                    return _failed(_set_up_runs())
                refused = _refused(choice)
                if refused is not None:
                    return _failed(refused)  # which `state` finds out for itself
                client = self._begin(choice, model)
            elif client.done() and model is not None:
                later(client.result().warm, model)
            return client

    def _begin(self, choice: BackendPrefs, model: str | None) -> Future[Client]:
        self.error, self.status = None, {}
        self._over = over = threading.Event()
        self._client = client = later(_connected, choice.address or None, choice.python(), choice.kind, model)
        made = None if choice.existing else choice.made()
        if made is not None:
            environment.started(made)
        threading.Thread(target=self._watch, args=(client, over), name="trackshade-watch", daemon=True).start()
        return client

    def _watch(self, connecting: Future[Client], over: threading.Event) -> None:
        """Asks how it is for as long as there is a connection."""
        try:
            client = connecting.result()
            while not over.is_set():
                self.status = client.status()
                self._answered = time.monotonic()
                over.wait(LOOK_EVERY)
        except TrackshadeError as error:
            with self._lock:
                if over.is_set() or self._client is not connecting:
                    return
                self.error, self._client = error, None
            _close(connecting)

    def client(self) -> Client | None:
        """The connection if it is there now."""
        future = self._client
        return future.result() if future is not None and future.done() and future.exception() is None else None

    def stop(self) -> None:
        """Lets go of the backend; it ends unless another Blender holds it."""
        with self._lock:
            client, self._client = self._client, None
            self._over.set()
            self.status = {}
            self.error = None
            if self.work is not None and not self.work.running:
                self.work.error = None  # seen, and something else is tried
        if client is not None:
            client.add_done_callback(lambda done: later(_close, done))

    def try_again(self, choice: BackendPrefs, model: str) -> Future[Client]:
        """Starts anew after it was given up."""
        self.stop()
        return self.connect(choice, model)

    def free_memory(self) -> Future[int] | None:
        """Has the backend give memory back; how many of its workers are busy and keep theirs. None without one."""
        client = self.client()
        return None if client is None else later(client.free)

    # the set-up

    def set_up(self, plan: Plan) -> BackgroundTask:
        """Begins to make the environment; the backend of an earlier one is let go of first.

        Raises UsageError where one is being made already.
        """
        with self._lock:
            if self.work is not None and self.work.running:
                raise _set_up_runs()
            self.stop()
            self.work = BackgroundTask(lambda work: installer.set_up(plan, work.report, work), "Checking")
            return self.work

    @property
    def set_up_failed(self) -> bool:
        """Whether what failed last was the set-up."""
        error = self._set_up_error()
        return error is not None and not isinstance(error, CancelledError) and self.error is None

    def cancel_set_up(self) -> None:
        if self.work is not None:
            self.work.cancel()

    def close(self) -> None:
        """Ends everything, as Blender is about to end or the add-on to be disabled."""
        self.cancel_set_up()
        self.stop()
        if self.work is not None:
            self.work.wait(SETTLE)

    # what to show

    def state(self, choice: BackendPrefs) -> BackendState:
        if self.work is not None and self.work.running:
            return BackendState("setting-up", self.work.words, progress=self.work.share)
        client, made = self._client, self.made(choice)
        facts: dict[str, Any] = _facts(made, self.status)
        if client is not None and not client.done():
            return BackendState("starting", "The backend is starting", **facts)
        if client is not None and client.exception() is None:
            if time.monotonic() - self._answered > STALE and self.status:
                return BackendState("starting", "Waiting for the backend", **facts)
            return BackendState("ready", _note(made), **facts)
        error = self.error or _failure(client) or self._set_up_error()
        if error is not None and not isinstance(error, CancelledError) and error.code != "not-set-up":
            return BackendState("failed", error.message, error, **facts)
        refused = self._refusal(choice)
        if refused is not None:
            return BackendState("missing", refused.message, refused, **facts)
        return BackendState("stopped", _note(made), **facts)

    def made(self, choice: BackendPrefs) -> environment.Environment | None:
        """Our own environment, looked for at most once a second."""
        when, asked, made = self._made
        if asked != choice or time.monotonic() - when > 1.0:
            made = choice.made()
            self._made = (time.monotonic(), choice, made)
        return None if choice.existing else made

    def refusal(self, choice: BackendPrefs) -> TrackshadeError | None:
        """Why there is no connection, and none can be made as things are."""
        if self.work is not None and self.work.running:
            return _set_up_runs()
        return None if self._client is not None else self._refusal(choice)

    def _refusal(self, choice: BackendPrefs) -> TrackshadeError | None:
        """Why there can be no connection as things are chosen, looked for at most once a second."""
        when, asked, refused = self._looked
        if asked != choice or time.monotonic() - when > 1.0:
            refused = _refused(choice)
            self._looked = (time.monotonic(), choice, refused)
        return refused

    def _set_up_error(self) -> TrackshadeError | None:
        return None if self.work is None else self.work.error


def _connected(address: str | None, python: str | None, kind: str, model: str | None) -> Client:
    options = [] if kind == "auto" else ["--device", kind]
    info = None if address or python else find_served()
    if info is not None:  # nothing is set up here, so no other one is to be started
        client = connect(info.endpoint, info.token)
    else:
        client = connect(address, python=python, shared=True, options=options)
    try:
        if model is not None:
            client.warm(model)
    except BaseException:
        client.close()
        raise
    return client


def _refused(choice: BackendPrefs) -> TrackshadeError | None:
    if choice.address:
        return None
    if choice.python() is None:
        return None if _is_served() else _not_set_up()
    made = None if choice.existing else choice.made()
    if made is not None:
        try:
            installer.check_version(made.version, ours_to_make=True)
        except UsageError as error:
            return error
    return None


def _is_served() -> bool:
    try:
        return find_served() is not None
    except ProtocolError:
        return False


def _not_set_up() -> ProtocolError:
    return ProtocolError("not-set-up", "The backend is not set up yet.", "Press Set Up.")


def _set_up_runs() -> UsageError:
    return UsageError("set-up-runs", "The backend is being set up.", "Wait for it, or cancel it.")


def _close(connecting: Future[Client]) -> None:
    if connecting.exception() is None:
        connecting.result().close()


def _failed(error: TrackshadeError) -> Future[Client]:
    future: Future[Client] = Future()
    future.set_exception(error)
    return future


def _failure(client: Future[Client] | None) -> TrackshadeError | None:
    """Why there is no connection, of one that was tried."""
    error = None if client is None else client.exception()
    if error is None or isinstance(error, TrackshadeError):
        return error
    return ProtocolError("defect", f"Trackshade has failed ({type(error).__name__}: {error}).", "Report it.")


def _facts(made: environment.Environment | None, status: Mapping[str, Any]) -> dict[str, Any]:
    memory = status.get("memory") or {}
    devices = made.probe.get("devices") if made is not None else None
    first = devices[0] if devices else {}
    return {
        "device": str(memory.get("name") or first.get("name") or ""),
        "version": str(status.get("package") or (made.version if made is not None else "")),
        "free_bytes": memory.get("free"),
        "total_bytes": memory.get("total") or first.get("total"),
    }


def _note(made: environment.Environment | None) -> str:
    """What is worth knowing of an environment that works."""
    devices = made.probe.get("devices") if made is not None else None
    if made is not None and made.kind == "cuda" and devices and devices[0].get("device") == "cpu":
        return "This PyTorch cannot use the NVIDIA GPU: name its package index in the preferences, and set up again."
    return ""
