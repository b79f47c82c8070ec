# SPDX-License-Identifier: GPL-3.0-or-later
"""The broker: one thread that waits for clients, workers and the thread that verifies chunks.

It never imports torch, keeps a chunk in memory only until it is written, and keeps running whatever a client or
worker sends.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Sequence

import zmq

from trackshade import __version__
from trackshade.core.errors import OutputError, ProtocolError, TrackshadeError
from trackshade.ipc import Message, decode
from trackshade.ipc.messages import error_reply, request_id, with_buffers
from trackshade.ipc.protocol import FINAL_STATES, MAX_HELLO_BYTES, PROTOCOL
from trackshade.ipc.self_pipe import SelfPipe
from trackshade.server.chunk_store import storage_error
from trackshade.server.job_store import JobStore, StoredEvent, event_body
from trackshade.server.memory import MemoryMonitor
from trackshade.server.options import ServeOptions
from trackshade.server.request_handler import RequestHandler
from trackshade.server.router_socket import RouterSocket
from trackshade.server.scheduler import Scheduler
from trackshade.server.sessions import Sessions, hello_first
from trackshade.server.worker_pool import WorkerPool

log = logging.getLogger("trackshade.broker")

TICK = 0.2  # seconds between two checks of processes and clocks
MESSAGES_PER_TURN = 64  # of one socket before the others are read, and
TURN = 0.05  # seconds for them
CLEAN_EVERY = 3600.0


class Broker:
    """Serves until `stop` is set. The store, the sockets and the self-pipe are closed by the caller."""

    def __init__(
        self, store: JobStore, clients: RouterSocket, workers: RouterSocket, wake: SelfPipe, options: ServeOptions
    ) -> None:
        self.stop = False
        self._store = store
        self._clients = clients
        self._worker_socket = workers
        self._wake = wake
        self._options = options
        self._sessions = Sessions(store.token)
        self._workers = WorkerPool(workers, options.devices, store.folder / "logs", options.cancel_grace)
        self._scheduler = Scheduler(store, self._workers, self._publish, wake.set, defer_queued=options.has_owner)
        memory = MemoryMonitor(options.devices[0] if options.devices else "cpu")
        self._requests = RequestHandler(store, self._sessions, self._scheduler, self._workers, memory)
        self._last_busy = self._last_check = time.monotonic()
        self._clean()

    def run(self) -> None:
        """Serve until `stop` is set or nobody has needed the backend for `idle_exit` seconds."""
        poller = zmq.Poller()
        for source in (self._clients.socket, self._worker_socket.socket, self._wake):
            poller.register(source, zmq.POLLIN)
        while not self.stop and not self._is_idle_for_long():
            ready = dict(poller.poll(int(TICK * 1000)))
            if self._wake.fileno() in ready:
                self._wake.clear()
                self._scheduler.take_verified()
            if self._clients.socket in ready:
                self._answer_clients()
            if self._worker_socket.socket in ready:
                self._workers.receive(self._scheduler.take_message)
            if time.monotonic() - self._last_check > TICK:
                self._check()
            self._scheduler.run_queued()

    def close(self) -> None:
        """End the workers in an orderly way; their jobs are queued for the next start."""
        self._scheduler.close()

    def _check(self) -> None:
        self._last_check = time.monotonic()
        for death in self._workers.check(self._options.worker_idle):
            self._scheduler.take_worker_death(death)
        self._scheduler.check()
        self._sessions.drop_silent()
        if self._last_check - self._last_clean > CLEAN_EVERY:
            self._clean()

    def _is_idle_for_long(self) -> bool:
        now = time.monotonic()
        if len(self._sessions) or self._scheduler.has_work():
            self._last_busy = now
        return self._options.idle_exit is not None and now - self._last_busy > self._options.idle_exit

    def _clean(self) -> None:
        self._last_clean = time.monotonic()
        try:
            self._store.clean(self._options.chunk_days, self._options.keep)
        except OutputError as error:
            log.warning("%s", error)  # on a full disk even deleting needs a little space

    def _answer_clients(self) -> None:
        until = time.monotonic() + TURN
        for identity, frames in self._clients.receive(MESSAGES_PER_TURN):
            try:
                self._check_size(identity, frames)
                answer = self._answer(identity, decode(frames))
            except TrackshadeError as error:
                answer = error_reply(request_id(frames), error)
            except (OSError, sqlite3.Error) as error:
                reason = error if isinstance(error, OSError) else OSError(0, str(error))
                answer = error_reply(request_id(frames), storage_error(reason, self._store.folder))
            except Exception:  # an error in one handler must not end the service for everybody
                log.exception("a message could not be handled")
                fault = ProtocolError("internal-error", "The backend failed on a message.", "See the backend's log.")
                answer = error_reply(request_id(frames), fault)
            self._send(identity, answer)
            if time.monotonic() > until:
                return  # the disk may be slow; workers have to be read, too

    def _answer(self, identity: bytes, message: Message) -> Message:
        if message.type == "hello":
            self._sessions.open(identity, message)
            body = {"protocol": PROTOCOL, "package": __version__, "window": self._sessions.window(), "pid": os.getpid()}
            return Message("welcome", message.id, body)
        return self._requests.answer(self._sessions.find(identity), message)

    def _check_size(self, identity: bytes, frames: Sequence[memoryview]) -> None:
        """Refuse, without decoding it, a message of a sender without a session that is too long for a hello."""
        if not self._sessions.knows(identity) and (len(frames) != 1 or len(frames[0]) > MAX_HELLO_BYTES):
            raise hello_first()

    def _send(self, identity: bytes, message: Message) -> None:
        if not self._clients.send(identity, message):
            self._sessions.drop(identity)  # gone or not reading: it says hello again, and asks for what it missed

    def _publish(self, event: StoredEvent) -> None:
        previews = (event.preview,) if event.preview else ()
        for session, number in self._sessions.subscribers(event.job):
            if event.body.get("state") in FINAL_STATES:
                del session.subscriptions[event.job]
            self._send(session.identity, with_buffers("event", number, event_body(event), *previews))
