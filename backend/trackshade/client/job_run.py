# SPDX-License-Identifier: GPL-3.0-or-later
"""The path of a job: capture, submit, follow, fetch, place. Panel, render engine, hook, commands and scripts share it.

The path is a generator that does a little at each `next` and never waits for the backend. A timer or a modal operator
of Blender can drive it, and so can a loop that sleeps (`run_to_end`).
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_all
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from trackshade.client import Client, JobEvent, connect, later
from trackshade.client.job_result import JobResult
from trackshade.client.output_folder import OutputFolder
from trackshade.client.progress import Progress, wait_for
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import CancelledError, JobError, OutputError, ProtocolError
from trackshade.shot import Shot
from trackshade.shot.input_image import InputImage, attach_first_frame, fit_larger

T = TypeVar("T")
PAUSE = 0.02  # seconds that a loop sleeps while the path waits
FIRST_PATIENCE, PATIENCE = 10.0, 30.0  # seconds to wait for a backend that was named, and for one that was lost
ASK_EVERY = 2.0  # seconds without an event until the backend is asked why
CANCEL_PATIENCE = 5.0  # seconds to wait until the backend has heard of a cancelled job

_cancelling: set[Future[None]] = set()  # requests to cancel a job that are not answered yet


@dataclass(frozen=True)
class CapturedShot:
    """What a job sends to the backend."""

    shot: Shot  # the shot
    first_frame: np.ndarray | None = None  # [H, W, 3] uint8 sRGB image of the first sample at the shot's size, or None
    input_render: np.ndarray | None = None  # [T, H, W, 3] uint8 sRGB renders of all samples at the shot's size, or None
    # Further pictures to propagate, by the sample that they show: [h, w, 3] uint8 sRGB of the shot's aspect.
    keys: Mapping[int, np.ndarray] = field(default_factory=dict)
    light: np.ndarray | None = None  # [T, h, w, 3] float16 scene-linear clay renders of all samples, or None
    references: tuple[np.ndarray, ...] = ()  # [h, w, 3] uint8 sRGB pictures of what is to be seen
    hands: np.ndarray | None = None  # [T, 2, h, h, 3] uint8 sRGB crops of hands in driving frames, or None

    @staticmethod
    def with_picture(shot: Shot, image: InputImage, content: str = "any") -> CapturedShot:
        """Return a shot with an image as its first frame, and as a key picture of its own resolution if it is larger.

        Args:
            shot: The shot.
            image: The image.
            content: See `trackshade.shot.input_image.place_image`.
        """
        larger = fit_larger(shot, image, content)
        shot, first = attach_first_frame(shot, image, content)
        return CapturedShot(shot, first, keys={} if larger is None else {0: larger})


CaptureStep = Callable[[Future[Client]], Generator[Progress, None, CapturedShot]]
PlacementStep = Callable[[JobResult], Generator[Progress, None, JobResult]]


def run_job(
    capture: CaptureStep,
    settings: ShadeSettings,
    client: Future[Client],
    out: OutputFolder,
    place: PlacementStep | None = None,
    job: str | None = None,
) -> Generator[Progress, None, JobResult]:
    """Run a whole job, from its shot to its placed result.

    Args:
        capture: Obtains the shot: captures the scene, reads a render, joins tracks or loads a file. Called with the
            client, so that frames can be uploaded while later ones are captured.
        settings: How the shot is shaded.
        client: Connection to the backend, which may still be on its way.
        out: Where the result goes.
        place: Brings the result into a scene; None to leave it in its folder.
        job: Id of the job; by default a new one.

    Raises:
        TrackshadeError: As raised by `capture`, `shade_shot` and `place`.
    """
    start = time.monotonic()
    captured = yield from capture(client)
    result = yield from shade_shot(captured, settings, client, out, job)
    if place is not None:
        result = yield from place(result)
    return replace(result, seconds=time.monotonic() - start)


def shade_shot(
    captured: CapturedShot,
    settings: ShadeSettings,
    client: Future[Client],
    out: OutputFolder,
    job: str | None = None,
) -> Generator[Progress, None, JobResult]:
    """Have the backend shade a shot, and fetch the result.

    If the generator is closed or fails while the job is running, the backend is asked to cancel the job.

    Args:
        captured: The shot.
        settings: How it is shaded.
        client: Connection to the backend, which may still be on its way.
        out: Where the result goes.
        job: Id of the job; by default a new one.

    Raises:
        TrackshadeError: The backend cannot be reached, the job failed or was cancelled, or the output is not possible.
    """
    start = time.monotonic()
    backend = yield from wait_for(client, "starting", "the backend")
    job = job or secrets.token_hex(8)
    chunks_left = [0]  # of one megabyte each

    def remaining() -> str:
        return f"{chunks_left[0]} MB to go" if chunks_left[0] else "the shot"

    submitted = later(
        backend.submit,
        captured.shot,
        settings,
        captured.first_frame,
        captured.input_render,
        job,
        lambda count: chunks_left.__setitem__(0, count),
        keys=captured.keys,
        light=captured.light,
        references=captured.references,
        hands=captured.hands,
    )
    yield from _complete(backend, job, submitted, out, remaining)
    return JobResult.load(job, out.path, time.monotonic() - start)


def resume_job(
    job: str, client: Future[Client], out: OutputFolder, place: PlacementStep | None = None
) -> Generator[Progress, None, JobResult]:
    """Follow a job that an earlier process has submitted, and fetch and place its result.

    If the generator is closed while the job is running, the backend is asked to cancel the job.

    Args:
        job: Id of the job.
        client: Connection to the backend, which may still be on its way.
        out: Where the result goes.
        place: Brings the result into a scene; None to leave it in its folder.

    Raises:
        JobError: The earlier process has ended before the backend had the whole shot.
        TrackshadeError: As raised by `shade_shot` and `place`.
    """
    start = time.monotonic()
    backend = yield from wait_for(client, "starting", "the backend")
    submitted: Future[str] = Future()
    submitted.set_result(job)
    try:
        yield from _complete(backend, job, submitted, out)
    except ProtocolError as error:
        if error.code != "unknown-job":
            raise
        raise JobError(
            "not-submitted",
            "The job is not known to the backend: it ended before the whole shot was sent, or was deleted.",
            "Shade the shot again.",
        ) from error
    result = JobResult.load(job, out.path, time.monotonic() - start)
    return result if place is None else (yield from place(result))


def run_to_end(
    steps: Generator[Progress, None, T],
    report: Callable[[Progress], None],  # called with the progress each time that it has changed
    check: Callable[[], None] | None = None,  # called after each step; may raise to end the path
    cancel_patience: float = CANCEL_PATIENCE,  # seconds to wait for the backend to hear that a job was cancelled
) -> T:
    """Run a path to its end, sleeping while it waits, in a thread that has nothing else to do.

    Raises:
        CancelledError: On Ctrl-C, after the path has restored everything that it changed.
        TrackshadeError: As raised by the path.
    """
    latest = None
    try:
        while True:
            try:
                progress = next(steps)
            except StopIteration as end:
                return end.value
            if progress.to_dict() != latest:
                latest = progress.to_dict()
                report(progress)
            if check is not None:
                check()
            if progress.waits:
                time.sleep(PAUSE)
    except KeyboardInterrupt:
        raise CancelledError from None
    finally:
        steps.close()
        wait_for_cancellations(cancel_patience)


def wait_for_cancellations(seconds: float) -> None:
    """Wait until the backend knows which jobs were cancelled; it would run the others to their end."""
    wait_for_all(list(_cancelling), seconds)


@contextmanager
def connect_with_options(options: Mapping[str, Any], model: str | None) -> Iterator[Future[Client]]:
    """Connect to a backend in a thread, as the options of a command say; the connection ends with the block.

    The options are "endpoint", "curve" and "backend_python". The backend loads `model`, if given, in advance.
    """
    curve = None if options["curve"] is None else Path(options["curve"])
    python = options["backend_python"] or os.environ.get("TRACKSHADE_PYTHON")

    def open_connection() -> Client:
        # A backend that does not answer at first is probably not on its way.
        client = connect(options["endpoint"], curve=curve, python=python, patience=FIRST_PATIENCE)
        client.set_patience(PATIENCE)
        if model is not None:
            client.warm(model)
        return client

    def close_connection(done: Future[Client]) -> None:
        if done.exception() is None:
            done.result().close()

    connecting = later(open_connection)
    try:
        yield connecting
    finally:
        connecting.add_done_callback(close_connection)


def _complete(
    backend: Client, job: str, submitted: Future[str], out: OutputFolder, remaining: Callable[[], str] = str
) -> Generator[Progress, None, None]:
    """Follow a job that is being submitted, and fetch its result; ask the backend to cancel it if that is broken off.

    `remaining` returns what is still to be sent.
    """
    is_over = False
    try:
        yield from wait_for(submitted, "sending", remaining)
        last = yield from _follow(backend, job)
        is_over = True
        if last.error is not None:
            raise last.error
        if last.state == "cancelled":
            raise CancelledError("cancelled", "The job was canceled.")
        yield from _fetch(backend, job, out)
    finally:
        if not is_over:
            request = later(_cancel, backend, job, submitted)
            _cancelling.add(request)
            request.add_done_callback(_cancelling.discard)


def _follow(client: Client, job: str) -> Generator[Progress, None, JobEvent]:
    """Yield the progress of a job as its events arrive; return the last event.

    While there are none, the backend is asked now and then whether the job waits for a store that cannot be written.
    """
    latest, reason = Progress("queued", waits=True), ""
    question: Future[str] | None = None
    ask_at = time.monotonic() + ASK_EVERY
    while True:
        for event in client.poll(job):
            latest, reason = Progress(event.state, event.message, event.step, event.steps, preview=event.preview), ""
            question, ask_at = None, time.monotonic() + ASK_EVERY
            yield latest
            if event.final:
                return event
        if question is not None and question.done():
            reason = question.result() if question.exception() is None else ""
            question = None
        if time.monotonic() >= ask_at:
            question, ask_at = later(client.waiting_reason, job), time.monotonic() + ASK_EVERY
        yield replace(latest, waits=True, preview=None, message=reason or latest.message)


def _fetch(client: Client, job: str, out: OutputFolder) -> Generator[Progress, None, None]:
    """Fetch a result; into another new folder if somebody else has put something into the reserved one."""
    while True:
        try:
            yield from wait_for(later(client.fetch, job, out.path, out.force), "fetching", str(out.path))
            return
        except OutputError as error:
            if error.code != "output-exists" or not out.reserve_next():
                fix = f"{error.fix or ''} The backend has it for some days: `trackshade fetch {job} --out DIR`."
                raise OutputError(error.code, error.message, fix.strip()) from error


def _cancel(client: Client, job: str, submitted: Future[str]) -> None:
    """Cancel a job, which may still be on its way to the backend."""
    submitted.result()
    client.cancel(job)
