# SPDX-License-Identifier: GPL-3.0-or-later
"""The client: jobs in, events and results out."""

from __future__ import annotations

import os
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from trackshade.client import fetching
from trackshade.client.client_socket import Address
from trackshade.client.connection import Connection, wait
from trackshade.client.events import Event
from trackshade.client.launch import PrivateBackend
from trackshade.client.shared import SharedBackend
from trackshade.client.subscription import Subscription
from trackshade.client.uploader import Uploader
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import CancelledError, ProtocolError, ShotError, TrackshadeError
from trackshade.ipc import ArrayEntry, Manifest
from trackshade.ipc.chunks import is_small, raw_bytes
from trackshade.shot import Shot
from trackshade.shot.given_image import given_array, with_first_frame

T = TypeVar("T")
MAX_ROUNDS = 5  # of sending what the backend lacks; more than one only where it was restarted or cleaned up


class Client:
    """A session with a backend; usable from any thread. Made by `connect`; a context manager.

    Only `submit`, `fetch`, `wait` and `events` take long: run them with `later` where nothing may wait.
    """

    def __init__(
        self, find: Callable[[], Address], patience: float, held: PrivateBackend | SharedBackend | None = None
    ) -> None:
        self.held = held
        self._connection = Connection(find, f"pid {os.getpid()}", patience)
        threads = max(2, min(4, (os.cpu_count() or 2) // 2))
        self._hashing = ThreadPoolExecutor(threads, "trackshade-hash")
        self._uploader: Uploader | None = None
        self._polled: dict[str, Subscription] = {}

    # jobs

    def submit(
        self,
        shot: Shot,
        settings: ShadeSettings,
        first_frame: np.ndarray | None = None,  # [H, W, 3] uint8 sRGB
        input_render: np.ndarray | None = None,  # [T, H, W, 3] uint8 sRGB
        job_id: str | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> str:
        """Send a shot and have it shaded; the job's id, once the backend has accepted it for good.

        Only chunks that the backend lacks are sent. A repeated submit with the same `job_id` is the same job.
        `on_progress` is called with the number of chunks still to go. A first frame of another size is fitted to the
        shot's image, as a picture file is; the record says how.

        Raises ShotError for images of a wrong kind, OutputError where the backend's disk is full, ProtocolError where
        it cannot be reached, ModelError or UsageError for settings that it refuses.
        """
        job = job_id or secrets.token_hex(8)
        if first_frame is not None and np.shape(first_frame) != (shot.size[1], shot.size[0], 3):
            shot, first_frame = with_first_frame(shot, given_array(first_frame))
        manifest, uploader = self._upload(shot, first_frame, input_render, on_progress)
        body = {"job": job, "settings": settings.to_dict(), "manifest": manifest.to_dict()}
        for _ in range(MAX_ROUNDS):
            answer = self._ask("submit", body)
            if answer["accepted"]:
                return job
            self._resend(uploader, answer["missing"])
        raise ProtocolError("not-accepted", "The backend keeps losing parts of the shot.", "See the backend's log.")

    def uploader(self) -> Uploader:
        """Begin to send arrays while they are still being filled; the next `submit` goes on from there."""
        self._uploader = Uploader(self._connection, self._hashing)
        return self._uploader

    def events(self, job: str, since: int = 0, timeout: float | None = None) -> Iterator[Event]:
        """The job's events numbered above `since`, as they come, up to the final one.

        Goes on over a restart of the backend. Ends early where nothing came for `timeout` seconds (None: however long
        it takes, as long as the backend answers heartbeats).

        Raises ProtocolError for an unknown job or a backend that stays away.
        """
        subscription = self._connection.subscribe(job, since)
        try:
            while True:
                event = _next(subscription, timeout)
                if event is None:
                    return
                yield event
                if event.final:
                    return
        finally:
            self._connection.unsubscribe(subscription)

    def poll(self, job: str) -> list[Event]:
        """The events since the last call, from the first one on; never waits. For a timer.

        Raises what went wrong, once; the next call tries again.
        """
        subscription = self._polled.get(job)
        if subscription is None:
            subscription = self._polled[job] = self._connection.subscribe(job, 0)
        found: list[Event] = []
        while True:
            try:
                item = subscription.arrived.get_nowait()
            except queue.Empty:
                return found
            if isinstance(item, Event):
                found.append(item)
                if item.final:
                    self._connection.unsubscribe(subscription)
            elif found:
                subscription.arrived.put(item)
                return found
            else:
                self._polled[job] = self._connection.subscribe(job, subscription.last)
                raise item

    def wait(self, job: str, on_event: Callable[[Event], None] | None = None) -> Event:
        """Wait for the end of a job; its last event. Raises the job's error where it failed, Cancelled."""
        last: Event | None = None
        for event in self.events(job):
            last = event
            if on_event is not None:
                on_event(event)
        if last is None:
            raise ProtocolError("unknown-job", f"The backend has no job {job}.")
        if last.error is not None:
            raise last.error
        if last.state == "cancelled":
            raise CancelledError("cancelled", f"Job {job} was cancelled.")
        return last

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs of the backend's store, oldest first: id, state, created, settings, last event."""
        return list(self._ask("jobs", {})["jobs"])

    def cancel(self, job: str) -> str:
        """Cancel a job; the state that it has now. One that runs has its final event within moments."""
        return str(self._ask("cancel", {"job": job})["state"])

    def fetch(self, job: str, out: Path, force: bool = False) -> Path:
        """Bring a finished job's result to the folder `out`, whole or not at all.

        Raises OutputError where `out` has something in it (unless `force`) or cannot be written, the job's own error
        where it failed, ProtocolError.
        """
        out = Path(os.path.abspath(out))
        fetching.fetch(self._connection, job, out, force)
        return out

    # the backend

    def models(self) -> list[dict[str, Any]]:
        """The models that the backend knows."""
        return list(self._ask("models", {})["models"])

    def warm(self, model: str = "mini") -> None:
        """Have a worker load a model now, while there is nothing to shade yet; returns at once."""
        self._ask("warm", {"model": model})

    def free(self) -> int:
        """Give the memory of idle workers back by ending them; how many are still busy."""
        return int(self._ask("free", {})["busy"])

    def status(self) -> dict[str, Any]:
        """Facts about the backend: versions, pid, store, workers."""
        return {**self._connection.backend, **self._ask("status", {})}

    @property
    def sent_bytes(self) -> int:
        """How much this client has sent so far."""
        return self._connection.sent_bytes

    def check(self) -> None:
        """Wait for the backend's first answer. Raises ProtocolError: unreachable, wrong token, other version."""
        self._ask("ping", {})

    def set_patience(self, seconds: float) -> None:
        """How long the backend may be away before calls fail."""
        self._connection.patience = seconds

    def close(self) -> None:
        """End the session, and the backend that it holds unless others hold it too."""
        self._hashing.shutdown(wait=False, cancel_futures=True)
        self._connection.close()
        if self.held is not None:
            self.held.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, kind: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        return wait(self._connection.request(kind, body)).body

    def _upload(
        self,
        shot: Shot,
        first_frame: np.ndarray | None,
        input_render: np.ndarray | None,
        on_progress: Callable[[int], None] | None,
    ) -> tuple[Manifest, Uploader]:
        """Have everything hashed, and sent where it is missing. Goes on with an uploader that was begun."""
        header, arrays = shot.encode()
        small = b"".join(raw_bytes(array) for array in arrays if is_small(array.nbytes))
        extra = {
            "packed": np.frombuffer(small, np.uint8) if small else None,
            "first_frame": _image(first_frame, 3),
            "input_render": _image(input_render, 4),
        }
        large = [array for array in arrays if not is_small(array.nbytes)]
        begun, self._uploader = self._uploader, None
        uploader = begun if begun is not None and not begun.failed else Uploader(self._connection, self._hashing)
        for array in (*large, *extra.values()):
            if array is not None:
                uploader.final(array, len(array))
        uploader.finish(on_progress)
        entries = tuple(_packed(a) if is_small(a.nbytes) else uploader.entry(a) for a in arrays)
        named = {name: None if array is None else uploader.entry(array) for name, array in extra.items()}
        return Manifest(header, entries, **named), uploader

    def _resend(self, uploader: Uploader, missing: list[bytes]) -> None:
        """Send what the backend lost between storing it and the submit."""
        sent = []
        for digest in missing:
            data = uploader.chunk(digest)
            if data is None:
                raise ProtocolError("malformed-message", "The backend asks for a part that the shot does not have.")
            sent.append(self._connection.send_chunk(digest, data))
        for future in sent:
            wait(future)


def _image(array: np.ndarray | None, dimensions: int) -> np.ndarray | None:
    if array is None:
        return None
    if array.dtype != np.uint8 or array.ndim != dimensions or array.shape[-1] != 3 or array.size == 0:
        what = "The first frame" if dimensions == 3 else "The input render"
        raise ShotError("bad-image", f"{what} must be 8-bit RGB; it is {array.dtype} {list(array.shape)}.")
    return np.ascontiguousarray(array)


def _packed(array: np.ndarray) -> ArrayEntry:
    return ArrayEntry(array.dtype.str, array.shape, ())


def _next(subscription: Subscription, timeout: float | None) -> Event | None:
    """The next event, None after `timeout` seconds without one; waits in slices so that Ctrl-C is noticed."""
    limit = None if timeout is None else time.monotonic() + timeout
    while True:
        rest = 0.5 if limit is None else min(0.5, limit - time.monotonic())
        try:
            item = subscription.arrived.get(timeout=max(0.0, rest))
        except queue.Empty:
            if limit is not None and time.monotonic() >= limit:
                return None
            continue
        if isinstance(item, TrackshadeError):
            raise item
        return item


def later(call: Callable[..., T], *arguments: Any, **named: Any) -> Future[T]:
    """Run a call that takes its time in a thread of its own: `later(client.submit, shot, settings)`.

    The future tells when it is done; the thread does not hold up the end of the process.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call(*arguments, **named))
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to who asks for the result
            future.set_exception(error)

    threading.Thread(target=run, name="trackshade-later", daemon=True).start()
    return future
