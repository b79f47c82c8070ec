# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend process as this Blender uses it: set-up, start on first need, connection, status, and end.

Every call returns at once and must come from Blender's main thread; other threads do the work. They end with Blender,
and the backend, which all Blenders share, ends with the last Blender that is connected to it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from trackshade.client import Client, connect, find_served, later
from trackshade.core.errors import CancelledError, ProtocolError, TrackshadeError, UsageError

from . import installer
from .environment import BackendPrefs, Environment, find_source, note_use
from .prefs import current_prefs
from .set_up_preview import SetUpPreview, SetUpSizes
from .tasks import BackgroundTask

STATUS_INTERVAL = 2.0  # seconds between two requests for the backend's status
STALE = 7.0  # seconds without an answer after which the backend counts as away
TEST_TIME = 5.0  # seconds in which a backend has to answer a test of the connection
SETTLE = 5.0  # seconds that disabling the add-on waits for a set-up to clean up
T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BackendState:
    """The backend's state, for a panel."""

    kind: str  # "missing", "setting-up", "stopped", "starting", "ready" or "failed"
    message: str = ""  # a sentence, or ""; for an error what is wrong, without what to do about it
    error: TrackshadeError | None = None  # why there is no backend, or None
    progress: float | None = None  # 0 to 1, or None if unknown
    device: str = ""  # name of the device, or ""
    version: str = ""  # version of the backend's Trackshade, or ""
    free_bytes: int | None = None  # free memory of the device, if known
    total_bytes: int | None = None  # total memory of the device, if known
    is_gpu: bool = False  # whether that is the memory of a graphics card


class _Cached(Generic[T]):
    """Remembers for a second what a function of the preferences returned: panels ask whenever they are drawn."""

    def __init__(self, function: Callable[[BackendPrefs], T]) -> None:
        self._function = function
        self._latest: tuple[float, BackendPrefs, T] | None = None

    def __call__(self, prefs: BackendPrefs) -> T:
        if self._latest is None or self._latest[1] != prefs or time.monotonic() - self._latest[0] > 1.0:
            self._latest = time.monotonic(), prefs, self._function(prefs)
        return self._latest[2]


class BackendManager:
    """Manages the backend of one Blender, by its preferences."""

    def __init__(self) -> None:
        self.set_up_task: BackgroundTask | None = None  # the latest set-up
        self._preview = SetUpPreview()
        self.check_task: BackgroundTask | None = None  # the latest check of an existing environment; gives a sentence
        self.error: TrackshadeError | None = None  # why the backend failed; a new attempt clears it
        self.status: Mapping[str, Any] = {}  # the backend's latest status
        self._lock = threading.RLock()
        self._client: Future[Client] | None = None
        self._answered = 0.0  # when the status came last
        self._disconnected = threading.Event()  # ends the thread that watches the present connection
        self._environment = _Cached(_own_environment)
        self._obstacle = _Cached(_find_obstacle)

    # Connection

    def connect(self, model: str | None = "mini") -> Future[Client]:
        """Return the connection of this Blender; start the backend if necessary, and load a model in advance, if any.

        The client must not be closed. The future fails with the reason if there can be no connection; after the backend
        has failed repeatedly, it fails until `retry`.
        """
        prefs = current_prefs()
        with self._lock:
            client = self._client
            if client is None or (client.done() and client.exception() is not None):
                if self.error is not None and self.error.code == "backend-gave-up":
                    return _failed(self.error)
                if self._is_setting_up():
                    return _failed(_set_up_runs())
                obstacle = _find_obstacle(prefs)
                if obstacle is not None:
                    return _failed(obstacle)  # not remembered: `state` finds it as well
                client = self._start(prefs, model)
            elif client.done() and model is not None:
                later(client.result().warm, model)
            return client

    def _start(self, prefs: BackendPrefs, model: str | None) -> Future[Client]:
        python = prefs.python()
        _log.info("Connecting to the backend (%s)", prefs.address or python)
        self.error, self.status = None, {}
        self._disconnected = disconnected = threading.Event()
        self._client = client = later(_connect, prefs, python, model)
        environment = _own_environment(prefs)
        if environment is not None:
            note_use(environment)
        threading.Thread(target=self._watch, args=(client, disconnected), name="trackshade-watch", daemon=True).start()
        return client

    def _watch(self, connecting: Future[Client], disconnected: threading.Event) -> None:
        """Request the status as long as there is a connection."""
        try:
            client = connecting.result()
            _log.info("Connected to the backend")
            while not disconnected.is_set():
                self.status = client.status()
                self._answered = time.monotonic()
                disconnected.wait(STATUS_INTERVAL)
        except TrackshadeError as error:
            with self._lock:
                if disconnected.is_set() or self._client is not connecting:
                    return
                self.error, self._client = error, None
            _log.warning("The backend is not available: %s", error)
            _close(connecting)

    def client(self) -> Client | None:
        """Return the connection if it is established."""
        future = self._client
        return future.result() if future is not None and future.done() and future.exception() is None else None

    def stop(self) -> None:
        """Disconnect from the backend, which ends unless another Blender uses it."""
        with self._lock:
            client, self._client = self._client, None
            self._disconnected.set()
            self.status = {}
            self.error = None
            if self.set_up_task is not None and not self.set_up_task.running:
                self.set_up_task.error = None  # it was shown
        if client is not None:
            client.add_done_callback(lambda done: later(_close, done))

    def retry(self) -> None:
        """Repeat what failed last: the set-up, or the start of the backend."""
        if self.set_up_failed():
            self.set_up()
        else:
            self.stop()
            self.connect()

    def free_memory(self) -> Future[int] | None:
        """Free the device's memory; return how many workers are busy and keep theirs, or None without a connection."""
        client = self.client()
        return None if client is None else later(client.free)

    # Set-up

    def set_up(self) -> BackgroundTask:
        """Start making or updating the environment, after disconnecting from the backend.

        Raises:
            UsageError: a set-up is running already, or the wheel of Trackshade is missing.
        """
        prefs, source = current_prefs(), find_source()
        with self._lock:
            if self._is_setting_up():
                raise _set_up_runs()
            self.stop()
            self._preview.forget()
            task = BackgroundTask(lambda task: installer.set_up(prefs, source, task.report, task), "Checking")
            self.set_up_task = task
            return task

    def set_up_failed(self) -> bool:
        """Return whether the set-up, and not the start of the backend, failed last."""
        error = self._set_up_error()
        return error is not None and not isinstance(error, CancelledError) and self.error is None

    def cancel_set_up(self) -> None:
        """Cancel the set-up, if one is running."""
        if self.set_up_task is not None:
            self.set_up_task.cancel()

    def set_up_sizes(self) -> SetUpSizes | None:
        """Return what a set-up would download and take; None if it is not known (yet), or needs no packages."""
        prefs = current_prefs()
        return None if installer.is_outdated(prefs.home, prefs.kind) else self._preview.sizes(prefs)

    def set_up_obstacle(self) -> TrackshadeError | None:
        """Return why there can be no set-up for the device of the preferences, or None."""
        return self._preview.error(current_prefs())

    def needs_packages(self) -> bool:
        """Return whether `set_up` would have to download packages although Blender may not use the network."""
        prefs = current_prefs()
        return not (prefs.online or prefs.wheels is not None or installer.is_outdated(prefs.home, prefs.kind))

    def check_environment(self) -> BackgroundTask:
        """Start checking the existing environment that the preferences name."""
        python = current_prefs().existing

        def check(task: BackgroundTask) -> str:
            found = installer.probe(python, task)
            if "broken" in found or found["missing"]:
                reason = found.get("broken") or f"{', '.join(found['missing'])} cannot be found"
                raise UsageError(
                    "no-backend", f"{python} is incomplete: {reason}.", "Install Trackshade's backend in it."
                )
            return f"{python} has Trackshade {found['version']}, on {found['devices'][0]['name']}."

        self.check_task = BackgroundTask(check, "Checking the environment")
        return self.check_task

    def test_connection(self) -> BackgroundTask:
        """Start connecting to the backend whose address the preferences hold; the task gives a sentence."""
        prefs = current_prefs()
        self.stop()  # so that the next job uses these preferences

        self.check_task = BackgroundTask(lambda task: check_address(prefs), "Connecting to the backend")
        return self.check_task

    def close(self) -> None:
        """End everything, before Blender ends or the add-on is disabled."""
        self._preview.forget()
        if self.check_task is not None:
            self.check_task.cancel()
            self.check_task = None
        self.cancel_set_up()
        self.stop()
        if self.set_up_task is not None:
            self.set_up_task.wait(SETTLE)

    # State

    def state(self) -> BackendState:
        """Return the state to show in a panel."""
        prefs = current_prefs()
        if self.set_up_task is not None and self.set_up_task.running:
            return BackendState("setting-up", self.set_up_task.message, progress=self.set_up_task.progress)
        client, environment = self._client, self._environment(prefs)
        facts = _describe(environment, self.status)
        if client is not None and not client.done():
            return BackendState("starting", "The backend is starting", **facts)
        if client is not None and client.exception() is None:
            if time.monotonic() - self._answered > STALE and self.status:
                return BackendState("starting", "Waiting for the backend", **facts)
            return BackendState("ready", _device_note(environment), **facts)
        error = self.error or _connection_error(client) or self._set_up_error()
        if error is not None and not isinstance(error, CancelledError) and error.code != "not-set-up":
            return BackendState("failed", error.message, error, **facts)
        obstacle = self._obstacle(prefs)
        if obstacle is not None:
            return BackendState("missing", obstacle.message, obstacle, **facts)
        return BackendState("stopped", _device_note(environment), **facts)

    def environment(self) -> Environment | None:
        """Return the environment that Set Up made, as of a second ago; None if another one is used."""
        return self._environment(current_prefs())

    def is_managed(self) -> bool:
        """Return whether the backend runs in an environment of Set Up, not in an existing one or elsewhere."""
        prefs = current_prefs()
        return not (prefs.existing or prefs.address)

    def is_busy(self) -> bool:
        """Return whether something is in progress that a panel shows."""
        tasks = [task for task in (self.check_task, self.set_up_task) if task is not None]
        return any(task.running for task in tasks) or self._preview.is_busy() or self.state().kind == "starting"

    def unavailable_error(self) -> TrackshadeError | None:
        """Return why no job can be started: there is no backend that runs or could be started. None if one can."""
        if self._is_setting_up():
            return _set_up_runs()
        return None if self._client is not None else self._obstacle(current_prefs())

    def _is_setting_up(self) -> bool:
        return self.set_up_task is not None and self.set_up_task.running

    def _set_up_error(self) -> TrackshadeError | None:
        return None if self.set_up_task is None else self.set_up_task.error


def check_address(prefs: BackendPrefs) -> str:
    """Connect to the backend at the address in the preferences, and return a sentence about it. Raise as `connect`."""
    with connect(prefs.address, prefs.token or None, curve=prefs.keys(), patience=TEST_TIME) as client:
        status = client.status()
    device = (status.get("memory") or {}).get("name")
    return f"{prefs.address} has Trackshade {status['package']}{f', on {device}' if device else ''}."


def _connect(prefs: BackendPrefs, python: str | None, model: str | None) -> Client:
    options = [] if prefs.kind == "auto" else ["--device", prefs.kind]
    info = None if prefs.address or python else find_served()
    if info is not None:  # no environment here, but another program of this user runs a backend
        client = connect(info.endpoint, info.token)
    else:
        token, keys = (prefs.token or None, prefs.keys()) if prefs.address else (None, None)
        client = connect(prefs.address or None, token, curve=keys, python=python, shared=True, options=options)
    try:
        if model is not None:
            client.warm(model)
    except BaseException:
        client.close()
        raise
    return client


def _own_environment(prefs: BackendPrefs) -> Environment | None:
    return None if prefs.existing else prefs.environment()


def _find_obstacle(prefs: BackendPrefs) -> TrackshadeError | None:
    """Return why a backend cannot be reached or started with these preferences, or None."""
    if prefs.address:
        return None
    if prefs.python() is None:
        try:
            is_served = find_served() is not None
        except ProtocolError:
            is_served = False
        return None if is_served else ProtocolError("not-set-up", "The backend is not set up yet.", "Press Set Up.")
    environment = _own_environment(prefs)
    try:
        if environment is not None:
            installer.check_version(environment.version, is_own=True)
    except UsageError as error:
        return error
    return None


def _set_up_runs() -> UsageError:
    return UsageError("set-up-runs", "The backend is being set up.", "Wait until it has finished, or cancel it.")


def _close(connecting: Future[Client]) -> None:
    if connecting.exception() is None:
        connecting.result().close()


def _failed(error: TrackshadeError) -> Future[Client]:
    future: Future[Client] = Future()
    future.set_exception(error)
    return future


def _connection_error(client: Future[Client] | None) -> TrackshadeError | None:
    """Return why connecting failed, or None."""
    error = None if client is None else client.exception()
    if error is None or isinstance(error, TrackshadeError):
        return error
    return ProtocolError("defect", f"Trackshade has failed ({type(error).__name__}: {error}).", "Report it.")


def _describe(environment: Environment | None, status: Mapping[str, Any]) -> dict[str, Any]:
    """Return device, version and memory for a BackendState, from the backend's status or else from the environment."""
    memory = status.get("memory") or {}
    first = _first_device(environment)
    return {
        "device": str(memory.get("name") or first.get("name") or ""),
        "version": str(status.get("package") or (environment.version if environment is not None else "")),
        "free_bytes": memory.get("free"),
        "is_gpu": "name" in memory,
        "total_bytes": memory.get("total") or first.get("total"),
    }


def _device_note(environment: Environment | None) -> str:
    """Return a hint about an environment that works but does not use the GPU, or ""."""
    if environment is not None and environment.kind == "cuda" and _first_device(environment).get("device") == "cpu":
        return "PyTorch cannot use the NVIDIA GPU: update its driver, and set up again."
    return str(environment.probe.get("note", "")) if environment is not None else ""


def _first_device(environment: Environment | None) -> Mapping[str, Any]:
    return next(iter((environment.probe.get("devices") if environment is not None else None) or ()), {})
