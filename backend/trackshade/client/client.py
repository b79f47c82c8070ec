# SPDX-License-Identifier: GPL-3.0-or-later
"""The client: submits jobs, and delivers events and results."""

from __future__ import annotations

import os
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from trackshade.client.backend_process import PrivateBackend, SharedBackend
from trackshade.client.client_socket import Address
from trackshade.client.connection import Connection, wait
from trackshade.client.download import download_result
from trackshade.client.events import JobEvent, Subscription
from trackshade.client.uploader import Uploader
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import CancelledError, ProtocolError, ShotError, TrackshadeError
from trackshade.ipc import ArrayEntry, Manifest
from trackshade.ipc.chunks import is_small, raw_bytes
from trackshade.shot import Shot
from trackshade.shot.input_image import attach_first_frame, input_image_from_array

T = TypeVar("T")
MAX_ROUNDS = 5  # of sending missing chunks; more than one only if the backend was restarted or cleaned up


class Client:
    """A session with a backend, created by `connect`. A context manager; all threads may use it.

    `submit`, `fetch`, `wait` and `events` take long: run them with `later` in a thread that must not wait.

    `find` and `patience` are those of `Connection`. `process` is a backend that belongs to the client: `close` ends it
    unless other programs share it.
    """

    def __init__(
        self, find: Callable[[], Address], patience: float, process: PrivateBackend | SharedBackend | None = None
    ) -> None:
        self.process = process
        self._connection = Connection(find, f"pid {os.getpid()}", patience)
        threads = max(2, min(4, (os.cpu_count() or 2) // 2))
        self._hashing = ThreadPoolExecutor(threads, "trackshade-hash")
        self._uploader: Uploader | None = None
        self._polled: dict[str, Subscription] = {}

    def submit(
        self,
        shot: Shot,
        settings: ShadeSettings,
        first_frame: np.ndarray | None = None,  # [H, W, 3] uint8 sRGB
        input_render: np.ndarray | None = None,  # [T, H, W, 3] uint8 sRGB
        job_id: str | None = None,
        on_progress: Callable[[int], None] | None = None,
        *,
        keys: Mapping[int, np.ndarray] | None = None,  # [h, w, 3] uint8 sRGB each
        light: np.ndarray | None = None,  # [T, h, w, 3] float16 scene-linear
        references: Sequence[np.ndarray] = (),  # [h, w, 3] uint8 sRGB each
        hands: np.ndarray | None = None,  # [T, 2, h, h, 3] uint8 sRGB
    ) -> str:
        """Submit a job. Only chunks that the backend lacks are sent.

        Args:
            shot: The shot.
            settings: The settings.
            first_frame: The first frame. One of another size is fitted to the shot as an image file is.
            input_render: The scene's own render of all frames, for comparison.
            job_id: Job id; a repeated submit with the same id is the same job. Default: a new one.
            on_progress: Called with the number of chunks that are not stored yet.
            keys: Further pictures to propagate, by the sample that they show; any size of the shot's aspect. One of
                sample 0 is propagated instead of the first frame, which the model still gets.
            light: Clay renders of all samples (the scene in matte white under its own lights), with which propagated
                pictures are relit; any size of the shot's aspect.
            references: Pictures of what is to be seen, for models that use them; any size.
            hands: Crops around the left and the right hand in driving frames, black where one is not seen.

        Returns:
            The job's id, once the backend has stored the job.

        Raises:
            TrackshadeError: An image, the model or a setting is invalid, or the backend is away or its disk is full.
        """
        job = job_id or secrets.token_hex(8)
        if first_frame is not None and np.shape(first_frame) != (shot.size[1], shot.size[0], 3):
            shot, first_frame = attach_first_frame(shot, input_image_from_array(first_frame))
        images = {"first_frame": first_frame, "input_render": input_render, "light": light}
        if hands is not None:  # the left one above the right one
            images["hands"] = hands.reshape(len(hands), -1, *hands.shape[3:])
        manifest, uploader = self._upload(shot, images, keys or {}, references, on_progress)
        body = {"job": job, "settings": settings.to_dict(), "manifest": manifest.to_dict()}
        for _ in range(MAX_ROUNDS):
            answer = self._ask("submit", body)
            if answer["accepted"]:
                return job
            self._resend(uploader, answer["missing"])
        raise ProtocolError("not-accepted", "The backend keeps losing parts of the shot.", "See the backend's log.")

    def uploader(self) -> Uploader:
        """Return an uploader that sends arrays while they are still being filled; the next `submit` completes it."""
        self._uploader = Uploader(self._connection, self._hashing)
        return self._uploader

    def events(self, job: str, since: int = 0, timeout: float | None = None) -> Iterator[JobEvent]:
        """Yield the events of a job as they arrive, up to the final one, also over a restart of the backend.

        Args:
            job: Job id.
            since: Number of the event after which to begin.
            timeout: Seconds without an event after which to stop; None waits as long as the backend runs.

        Raises:
            ProtocolError: The job is unknown, or the backend stays away.
        """
        subscription = self._connection.subscribe(job, since)
        try:
            while event := _next(subscription, timeout):
                yield event
                if event.final:
                    return
        finally:
            self._connection.unsubscribe(subscription)

    def poll(self, job: str) -> list[JobEvent]:
        """Return the events since the last call without waiting, for a timer. The first call begins at the first one.

        An error is raised once; the next call tries again.
        """
        subscription = self._polled.get(job)
        if subscription is None:
            subscription = self._polled[job] = self._connection.subscribe(job, 0)
        found: list[JobEvent] = []
        while True:
            try:
                item = subscription.arrived.get_nowait()
            except queue.Empty:
                return found
            if isinstance(item, JobEvent):
                found.append(item)
                if item.final:
                    self._connection.unsubscribe(subscription)
            elif found:
                subscription.arrived.put(item)
                return found
            else:
                self._polled[job] = self._connection.subscribe(job, subscription.last)
                raise item

    def wait(self, job: str, on_event: Callable[[JobEvent], None] | None = None) -> JobEvent:
        """Wait for the end of a job, call `on_event` with each event, and return the final one.

        Raises:
            TrackshadeError: The job's error if it failed, or CancelledError.
        """
        last: JobEvent | None = None
        for last in self.events(job):
            if on_event is not None:
                on_event(last)
        if last is None:
            raise ProtocolError("unknown-job", f"The backend has no job {job}.")
        if last.error is not None:
            raise last.error
        if last.state == "cancelled":
            raise CancelledError("cancelled", f"Job {job} was canceled.")
        return last

    def jobs(self) -> list[dict[str, Any]]:
        """Return the jobs of the backend's store, oldest first.

        Each has its id, state, created, settings, last event, and as "waiting" why it waits for the store ("" if not).
        """
        found: list[dict[str, Any]] = []
        after: int | None = 0
        while after is not None:
            answer = self._ask("jobs", {"after": after})
            found += answer["jobs"]
            following = answer.get("next")  # an earlier backend sends one page
            after = following if isinstance(following, int) and following > after else None
        return found

    def waiting_reason(self, job: str) -> str:
        """Return why a job waits for the backend's store to be writable, such as a full disk; "" if it does not."""
        return str(self._ask("waiting", {"job": job})["reason"])

    def cancel(self, job: str) -> str:
        """Cancel a job; return its state. The final event of a running job follows soon."""
        return str(self._ask("cancel", {"job": job})["state"])

    def fetch(self, job: str, out: Path, force: bool = False) -> Path:
        """Download a finished job's result to the folder `out`, whole or not at all; see `download_result`."""
        out = Path(os.path.abspath(out))
        download_result(self._connection, job, out, force)
        return out

    def models(self) -> list[dict[str, Any]]:
        """Return the models that the backend knows."""
        return list(self._ask("models", {})["models"])

    def warm(self, model: str = "mini") -> None:
        """Make a worker load a model before there is a job for it; return at once."""
        self._ask("warm", {"model": model})

    def free(self) -> int:
        """End idle workers, which frees their memory; return how many are busy."""
        return int(self._ask("free", {})["busy"])

    def status(self) -> dict[str, Any]:
        """Return facts about the backend: versions, process id, store, workers, memory."""
        return {**self._connection.backend, **self._ask("status", {})}

    def check(self) -> None:
        """Wait for an answer of the backend. Raise ProtocolError."""
        self._ask("ping", {})

    def set_patience(self, seconds: float) -> None:
        """Set how many seconds the backend may be away before calls fail."""
        self._connection.patience = seconds

    def close(self) -> None:
        """End the session, and a private backend, or a shared one that no other program uses."""
        self._hashing.shutdown(wait=False, cancel_futures=True)
        self._connection.close()
        if self.process is not None:
            self.process.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _ask(self, kind: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        return wait(self._connection.request(kind, body)).body

    def _upload(
        self,
        shot: Shot,
        images: Mapping[str, np.ndarray | None],
        keys: Mapping[int, np.ndarray],
        references: Sequence[np.ndarray],
        on_progress: Callable[[int], None] | None,
    ) -> tuple[Manifest, Uploader]:
        """Send what the backend lacks, with the uploader that was begun if there is one; return the manifest."""
        header, arrays = shot.encode()
        small = b"".join(raw_bytes(array) for array in arrays if is_small(array.nbytes))
        extra = {name: _image(name, image) for name, image in images.items() if image is not None}
        if small:
            extra["packed"] = np.frombuffer(small, np.uint8)
        pictures = {sample: _image("key picture", image) for sample, image in sorted(keys.items())}
        others = [_image("reference", image) for image in references]
        large = [array for array in arrays if not is_small(array.nbytes)]
        begun, self._uploader = self._uploader, None
        uploader = begun if begun is not None and not begun.failed else Uploader(self._connection, self._hashing)
        for array in (*large, *extra.values(), *pictures.values(), *others):
            uploader.add(array, len(array))
        uploader.finish(on_progress)
        entries = tuple(
            ArrayEntry(a.dtype.str, a.shape, ()) if is_small(a.nbytes) else uploader.entry(a) for a in arrays
        )
        named = {name: uploader.entry(array) for name, array in extra.items()}
        keyed = {sample: uploader.entry(array) for sample, array in pictures.items()}
        referred = tuple(uploader.entry(array) for array in others)
        return Manifest(header, entries, **named, keys=keyed, references=referred), uploader

    def _resend(self, uploader: Uploader, missing: list[bytes]) -> None:
        """Send the chunks that the backend lost between storing them and the submit."""
        sent = []
        for digest in missing:
            data = uploader.chunk(digest)
            if data is None:
                raise ProtocolError("malformed-message", "The backend asks for a part that the shot does not have.")
            sent.append(self._connection.send_chunk(digest, data))
        for future in sent:
            wait(future)


def _image(name: str, array: np.ndarray) -> np.ndarray:
    dtype, words = (np.float16, "16-bit float") if name == "light" else (np.uint8, "8-bit")
    dimensions = 4 if name in ("input_render", "light", "hands") else 3
    if array.dtype != dtype or array.ndim != dimensions or array.shape[-1] != 3 or array.size == 0:
        what = f"The {name.replace('_', ' ')}"
        raise ShotError("bad-image", f"{what} must be {words} RGB; it is {array.dtype} {list(array.shape)}.")
    return np.ascontiguousarray(array)


def _next(subscription: Subscription, timeout: float | None) -> JobEvent | None:
    """Wait for the next event, in short intervals so that Ctrl-C works; None after `timeout` seconds."""
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
    """Return the future of a slow call, `later(client.submit, shot, settings)`, which a daemon thread runs."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call(*arguments, **named))
        except BaseException as error:  # noqa: BLE001 - the future raises it
            future.set_exception(error)

    threading.Thread(target=run, name="trackshade-later", daemon=True).start()
    return future
