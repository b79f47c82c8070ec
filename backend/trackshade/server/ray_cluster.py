# SPDX-License-Identifier: GPL-3.0-or-later
"""Speaks with a Ray cluster, in a thread of its own; the only module that imports Ray.

Commands of the broker's thread are queued; what actors do comes back as events, and `wake` ends the broker's poll. Each
actor always has one call of `take` under way, which returns its next messages; when an actor dies, that call fails.
Pieces of results are written here, so that the broker's thread only sees the messages that it knows from processes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from trackshade import __version__
from trackshade.core.errors import JobError, ProtocolError, UsageError
from trackshade.ipc import Message, decode, encode
from trackshade.ipc.messages import with_buffers
from trackshade.ipc.self_pipe import SelfPipe
from trackshade.server.ray_worker import Frames, Offer, RayWorker

log = logging.getLogger("trackshade.broker")

LOCAL = "local"
TAKE = 5.0  # seconds that an actor waits for a message before it answers without one
TURN = 0.02  # seconds that the thread waits for answers before it looks for commands
LOOK_AROUND = 2.0  # seconds between two looks at the nodes of the cluster
CONNECT_TIME = 10.0  # seconds that a cluster may take to answer
END_TIME = 10.0  # seconds that the thread may take to end
THREADS = 4  # of an actor: a job, `take`, and what comes meanwhile


@dataclass(frozen=True)
class ActorReady:
    """An actor has started."""

    number: int
    pid: int
    node: str  # id of its node


@dataclass(frozen=True)
class ActorMessages:
    """Messages of an actor."""

    number: int
    messages: list[Frames]


@dataclass(frozen=True)
class HelpEnd:
    """An actor does no parts of another one's job any more."""

    number: int
    error: str  # why it could not, or ""


@dataclass(frozen=True)
class ActorEnd:
    """An actor has ended, or could not be started."""

    number: int
    reason: str
    node_lost: bool  # whether its node is known to be lost


Event = ActorReady | ActorMessages | HelpEnd | ActorEnd


@dataclass(eq=False)
class _Actor:
    """An actor, and the job that it has."""

    number: int
    handle: Any
    node: str = ""
    job: str = ""
    chunks: Path = Path()  # folder of the broker's chunks
    partial: Path = Path()  # where the files of the result go
    result: Path = Path()
    error: JobError | None = None  # why the result could not be written
    calls: list[Any] = field(default_factory=list)  # whose results nobody needs, but which have to be kept
    offer: Any = None  # reference to the parts that it offers, which Ray brings to each node once


class RayCluster:
    """A connection to a Ray cluster.

    Args:
        address: "auto", HOST:PORT or ray://HOST:PORT of a cluster, or "local" to start one on this machine.
        on_cpu: Whether workers use no GPU although there are some.
        worker: Class of the actors.

    Raises:
        UsageError: "no-ray": Ray is not installed.
        ProtocolError: "ray-unreachable".
    """

    def __init__(self, address: str, on_cpu: bool = False, worker: type[RayWorker] = RayWorker) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            fix = "Install it from the source folder: pip install '.[backend,ray]'."
            raise UsageError("no-ray", "Ray is not installed in the backend's Python.", fix) from error
        self._ray = ray
        _check_reachable(address)
        options: dict[str, Any] = {"include_dashboard": False} if address == LOCAL else {}
        try:
            ray.init(
                None if address == LOCAL else address,
                namespace="trackshade",
                log_to_driver=False,
                logging_level=logging.WARNING,
                ignore_reinit_error=True,
                **options,
            )
        except Exception as error:  # of Ray, gRPC or the system
            raise _unreachable(address, error) from error
        self.wake = SelfPipe()
        self.device = "cpu"
        self.room = 0
        self.node_count = 0  # nodes that have room for workers
        self._on_cpu = on_cpu
        self._worker = worker
        self._alive: set[str] = set()
        self._commands: queue.SimpleQueue[tuple[int, Callable[[], object]] | None] = queue.SimpleQueue()
        self._events: deque[Event] = deque()
        self._actors: dict[int, _Actor] = {}
        self._pending: dict[Any, tuple[_Actor, str]] = {}  # by the reference of a call: whose it is, and which
        self._next_look = 0.0
        self._look_around()
        self._thread = threading.Thread(target=self._run, name="ray", daemon=True)
        self._thread.start()

    # Called by the broker's thread.

    def events(self) -> list[Event]:
        """Return what has happened since the last call."""
        found = []
        while self._events:
            found.append(self._events.popleft())
        return found

    def is_node_alive(self, node: str) -> bool:
        """Return whether a node was there at the last look; true for "", a node that is not known."""
        return not node or node in self._alive

    def start(self, number: int) -> None:
        """Start an actor."""
        self._commands.put((number, lambda: self._start(number)))

    def run(self, number: int, job: str, body: Mapping[str, Any]) -> None:
        """Give a job to an actor; `body` is that of `Scheduler`."""
        self._commands.put((number, lambda: self._run_job(number, job, body)))

    def load(self, number: int, model: str) -> None:
        """Make an actor load a model."""
        self._commands.put((number, lambda: self._call(number, lambda actor: actor.handle.load.remote(model))))

    def cancel(self, number: int, job: str) -> None:
        """Ask an actor to cancel a job."""
        self._commands.put((number, lambda: self._call(number, lambda actor: actor.handle.cancel.remote(job))))

    def help(self, number: int, owner: int, ticket: int) -> None:
        """Make an actor do parts of another one's job; `ticket` identifies this help."""
        self._commands.put((number, lambda: self._help(number, owner, ticket)))

    def recall(self, number: int, ticket: int) -> None:
        """Have an actor end a help after its present part."""
        self._commands.put((number, lambda: self._call(number, lambda actor: actor.handle.recall.remote(ticket))))

    def end(self, number: int) -> None:
        """End an actor, whatever it does."""
        self._commands.put((number, lambda: self._forget(number)))

    def close(self) -> None:
        """End all actors and disconnect; a local cluster ends."""
        self._commands.put(None)
        self._thread.join(END_TIME)
        with contextlib.suppress(Exception):  # whatever Ray says, this process ends
            self._ray.shutdown()
        self.wake.close()

    # The thread.

    def _run(self) -> None:
        while True:
            try:
                if not self._do_commands():
                    break
                self._take_answers()
                self._look_around()
            except Exception:  # the log has it; the next turn may work
                log.exception("An error on the way to the Ray cluster:")
                time.sleep(1.0)
        for number in list(self._actors):
            self._forget(number)

    def _do_commands(self) -> bool:
        """Do what the broker wants; return False at the end."""
        while True:
            try:
                command = self._commands.get_nowait()
            except queue.Empty:
                return True
            if command is None:
                return False
            number, do = command
            try:
                do()
            except Exception as error:  # otherwise the broker would wait for ever for what the command was to begin
                log.exception("An error on the way to a worker on the Ray cluster:")
                self._lose(number, error)

    def _look_around(self) -> None:
        """Look which nodes and GPUs there are."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_AROUND
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        self._alive = {str(node["NodeID"]) for node in nodes}
        on_nodes = [0 if self._on_cpu else int(node["Resources"].get("GPU", 0)) for node in nodes]
        self.device = "cuda" if any(on_nodes) else "cpu"
        if not any(on_nodes):
            on_nodes = [int(node["Resources"].get("CPU", 0) >= 1) for node in nodes]
        room = sum(on_nodes)
        self.node_count = sum(count > 0 for count in on_nodes)
        if room != self.room:
            log.info("Room on the Ray cluster: workers: %d (%s), nodes: %d", room, self.device, self.node_count)
            self.room = room
            self.wake.set()

    def _start(self, number: int) -> None:
        kind = self._ray.remote(self._worker)
        needs = {"num_gpus": 1, "num_cpus": 1} if self.device == "cuda" else {"num_cpus": 1}
        kind = kind.options(max_concurrency=THREADS, scheduling_strategy="SPREAD", max_restarts=0, **needs)
        actor = self._actors[number] = _Actor(number, kind.remote(self.device))
        self._pending[actor.handle.__ray_call__.remote(_describe)] = actor, "describe"

    def _run_job(self, number: int, job: str, body: Mapping[str, Any]) -> None:
        actor = self._actors.get(number)
        if actor is None:
            return
        actor.job, actor.error = job, None
        actor.chunks, actor.partial, actor.result = (Path(body[key]) for key in ("chunks", "partial", "result"))
        request = {"job": job, "manifest": body["manifest"], "settings": body["settings"]}
        actor.calls.clear()
        self._pending[actor.handle.run.remote(bytes(encode(Message("run", 0, request))[0]))] = actor, "run"

    def _call(self, number: int, call: Callable[[_Actor], Any]) -> None:
        actor = self._actors.get(number)
        if actor is not None:
            actor.calls.append(call(actor))

    def _help(self, number: int, owner: int, ticket: int) -> None:
        actor, source = self._actors.get(number), self._actors.get(owner)
        if actor is None:
            return
        if source is None:
            self._tell(HelpEnd(number, ""))
            return
        if source.offer is None:
            source.offer = source.handle.__ray_call__.remote(_offer)
        call = actor.handle.__ray_call__.remote(_help, ticket, source.handle, source.offer, str(number))
        self._pending[call] = actor, "help"

    def _take_answers(self) -> None:
        if not self._pending:
            time.sleep(TURN)
            return
        ready, _ = self._ray.wait(list(self._pending), num_returns=len(self._pending), timeout=TURN)
        for ref in ready:
            if ref not in self._pending:
                continue  # its actor has ended meanwhile
            actor, call = self._pending.pop(ref)
            try:
                self._take_answer(actor, call, self._ray.get(ref))
            except Exception as error:  # of Ray, of the actor, or because its answer cannot be used
                if call == "help":  # of an actor that may live; if not, `take` fails, too
                    self._tell(HelpEnd(actor.number, _one_line(error)))
                else:
                    log.info("A call of a worker on the Ray cluster failed: %s", call, exc_info=True)
                    self._lose(actor.number, error)

    def _take_answer(self, actor: _Actor, call: str, answer: Any) -> None:
        """Take what a call of an actor has returned, and call `take` again."""
        if call == "help":
            self._tell(HelpEnd(actor.number, ""))
        if call not in ("describe", "take"):
            return  # a message tells of the end of a job
        if call == "describe":
            self._greet(actor, answer)
        elif answer:
            self._take_messages(actor, answer)
        if actor.number in self._actors:
            self._pending[actor.handle.take.remote(TAKE)] = actor, "take"

    def _greet(self, actor: _Actor, facts: Mapping[str, Any]) -> None:
        if facts["version"] != __version__:
            self._forget(actor.number)
            reason = (
                f"It has Trackshade {facts['version']}, and the broker {__version__}: install the same on all nodes."
            )
            self._tell(ActorEnd(actor.number, reason, False))
            return
        actor.node = str(facts["node"])
        self._tell(ActorReady(actor.number, facts["pid"], actor.node))

    def _lose(self, number: int, error: Exception) -> None:
        """Give up an actor that has ended or that cannot be spoken with, so that its job starts again elsewhere."""
        actor = self._forget(number)
        self._next_look = 0.0
        with contextlib.suppress(Exception):
            self._look_around()
        is_lost = actor is not None and bool(actor.node) and actor.node not in self._alive
        self._tell(ActorEnd(number, _one_line(error), is_lost))

    def _forget(self, number: int) -> _Actor | None:
        """Kill an actor, which may have ended already: what it does counts no more. Return it if it was there."""
        actor = self._actors.pop(number, None)
        if actor is not None:
            self._pending = {ref: item for ref, item in self._pending.items() if item[0] is not actor}
            with contextlib.suppress(Exception):
                self._ray.kill(actor.handle)
        return actor

    def _take_messages(self, actor: _Actor, messages: list[Frames]) -> None:
        passed = []
        for frames in messages:
            message = decode(frames)
            if message.type == "need":
                self._give_chunks(actor, message)
            elif message.type == "file":
                self._write_piece(actor, message)
            elif message.type == "finished":
                passed.append(self._finish(actor, message, frames))
            else:
                if message.type == "parts":
                    actor.offer = None  # the one before is over
                passed.append(frames)
        if passed:
            self._tell(ActorMessages(actor.number, passed))

    def _give_chunks(self, actor: _Actor, message: Message) -> None:
        found: dict[bytes, bytes | None] = {}
        for digest in message.body["digests"]:
            path = actor.chunks / digest[:1].hex() / digest.hex()
            try:
                found[digest] = path.read_bytes()
            except OSError:
                found[digest] = None  # the worker says that it is missing
        self._pending[actor.handle.put_chunks.remote(found)] = actor, "chunks"

    def _write_piece(self, actor: _Actor, message: Message) -> None:
        if message.body.get("job") != actor.job or actor.error is not None:
            return
        name, offset = PurePosixPath(message.body["path"]), int(message.body["offset"])
        try:
            if name.is_absolute() or ".." in name.parts:
                raise OSError(0, "it is outside of the result's folder")
            path = actor.partial.joinpath(*name.parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb" if offset == 0 else "r+b") as file:
                file.seek(offset)
                file.write(message.buffers[0])
        except OSError as error:
            actor.error = JobError(
                "result-unwritable",
                f"{actor.partial.name}/{name} of the result cannot be written: {error.strerror or error}.",
                "Make room on the disk of the job store.",
            )

    def _finish(self, actor: _Actor, message: Message, frames: Frames) -> Frames:
        """Give a result its place; return the message that tells of it, or of why that failed."""
        if message.body.get("job") != actor.job:
            return frames
        if actor.error is None:
            try:
                if not actor.result.exists():  # otherwise an earlier attempt was finished
                    os.rename(actor.partial, actor.result)
                return frames
            except OSError as error:
                text = f"The result cannot be moved to {actor.result}: {error.strerror or error}."
                actor.error = JobError("result-unwritable", text, "Make room on the disk of the job store.")
        failed = with_buffers("failed", 0, {"job": actor.job, "error": actor.error.to_dict()})
        return [bytes(frame) for frame in encode(failed)]

    def _tell(self, event: Event) -> None:
        self._events.append(event)
        self.wake.set()


def _describe(worker: RayWorker) -> dict[str, Any]:
    """Return what `RayWorker.describe` does, and the id of its node. Runs in the actor."""
    import ray

    return {**worker.describe(), "node": ray.get_runtime_context().get_node_id()}


def _offer(worker: RayWorker) -> Offer | None:
    """Return what `RayWorker.offer` does. Runs in the actor; Ray copies it to each other node once."""
    return worker.offer()


def _help(worker: RayWorker, ticket: int, owner: Any, offer: Offer | None, name: str) -> None:
    """Make a worker do parts of the job of `owner`, another actor. Runs in the actor."""
    import ray

    if offer is not None:
        worker.help(
            ticket,
            offer,
            lambda: ray.get(owner.take_part.remote(offer.number, name)),
            lambda index, result: owner.put_part.remote(offer.number, index, result),
        )


def _one_line(error: Exception) -> str:
    """Return what an error says, without the traceback that Ray adds to those of an actor."""
    cause = getattr(error, "cause", None) or error
    return " ".join(line.strip() for line in str(cause).splitlines() if line.strip())[:300] or type(cause).__name__


def _check_reachable(address: str) -> None:
    """Raise ProtocolError("ray-unreachable") unless something listens at HOST:PORT; Ray itself waits for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIME).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str, error: Exception) -> ProtocolError:
    fix = (
        "Start the cluster with 'ray start --head', and name its address: auto, or HOST:PORT. If it wants a token, set "
        "RAY_AUTH_MODE=token, and have the same token here (RAY_AUTH_TOKEN or ~/.ray/auth_token)."
    )
    return ProtocolError("ray-unreachable", f"No Ray cluster at {address}: {error}"[:400], fix)
