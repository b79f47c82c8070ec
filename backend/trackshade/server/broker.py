# SPDX-License-Identifier: GPL-3.0-or-later
"""The broker: one thread that waits for clients, workers and the thread that verifies chunks.

It never imports torch, keeps a chunk in memory only until it is written, and keeps running whatever a client or
worker sends.
"""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import zmq

from trackshade import __version__
from trackshade.core.errors import ProtocolError, TrackshadeError
from trackshade.ipc import Message, decode
from trackshade.ipc.messages import error_reply, request_id, with_buffers
from trackshade.ipc.protocol import FINAL_STATES, MAX_HELLO_BYTES, PROTOCOL
from trackshade.ipc.self_pipe import SelfPipe
from trackshade.server.chunk_store import storage_error
from trackshade.server.cleaning import StoreLimits, clean_store
from trackshade.server.job_store import JobStore, StoredEvent, event_body
from trackshade.server.memory import MemoryMonitor
from trackshade.server.options import ServeOptions
from trackshade.server.own_files import OwnFiles
from trackshade.server.request_handler import RequestHandler
from trackshade.server.router_socket import RouterSocket
from trackshade.server.scheduler import Scheduler
from trackshade.server.sessions import Sessions, hello_first
from trackshade.server.workers import Workers

log = logging.getLogger("trackshade.broker")

TICK = 0.2  # seconds between two checks of processes and clocks
MESSAGES_PER_TURN = 64  # of one socket before the others are read, and
TURN = 0.05  # seconds for them
CLEAN_EVERY = 3600.0
CLEAN_TIME = 0.01  # seconds of cleaning between other work
LOG_FAULT_EVERY = 1.0  # seconds


class Broker:
    """Serves until `stop` is set. The store, the sockets and the self-pipe are closed by the caller."""

    def __init__(
        self,
        store: JobStore,
        clients: RouterSocket,
        workers: Workers,
        wake: SelfPipe,
        own_files: OwnFiles,
        options: ServeOptions,
    ) -> None:
        self.stop = False
        self._store = store
        self._clients = clients
        self._wake = wake
        self._own_files = own_files
        self._options = options
        self._sessions = Sessions(store.token)
        self._workers = workers
        self._scheduler = Scheduler(store, self._workers, self._publish, wake.set, defer_queued=options.has_owner)
        memory = MemoryMonitor(options.devices[0] if options.devices else "cpu")
        self._requests = RequestHandler(store, self._sessions, self._scheduler, self._workers, memory)
        self._last_busy = self._last_check = time.monotonic()
        self._last_clean = self._last_fault = float("-inf")
        self._cleaning: Iterator[None] = iter(())

    def run(self) -> None:
        """Serve until `stop` is set or nobody has needed the backend for `idle_exit` seconds.

        Raises:
            OutputError: "store-removed".
        """
        poller = zmq.Poller()
        for source in (self._clients.socket, self._workers.source, self._wake):
            poller.register(source, zmq.POLLIN)
        while not self.stop and not self._is_idle_for_long():
            ready = dict(poller.poll(int(TICK * 1000)))
            if self._wake.fileno() in ready:
                self._wake.clear()
                self._guarded(self._scheduler.take_verified)
            if self._clients.socket in ready:
                self._guarded(self._answer_clients)
            if self._has_messages(ready):
                self._guarded(lambda: self._workers.receive(self._scheduler.take_message))
            if time.monotonic() - self._last_check > TICK:
                self._own_files.check()
                self._guarded(self._check)
            self._guarded(self._scheduler.run_queued)

    def _has_messages(self, ready: Mapping[Any, int]) -> bool:
        """Return whether the poll has found messages of workers; it names files by their descriptors."""
        source = self._workers.source
        return source in ready or (isinstance(source, SelfPipe) and source.fileno() in ready)

    def _guarded(self, step: Callable[[], None]) -> None:
        """Do a part of the work. What goes wrong in it is logged, and ends neither the other parts nor the process."""
        try:
            step()
        except TrackshadeError as error:
            self._log_fault(str(error))
        except Exception:  # noqa: BLE001 - the log has it
            self._log_fault("An error in the broker:", exc_info=True)

    def _log_fault(self, text: str, exc_info: bool = False) -> None:
        now = time.monotonic()
        if now - self._last_fault > LOG_FAULT_EVERY:  # a lasting fault comes back in each turn
            self._last_fault = now
            log.warning("%s", text, exc_info=exc_info)

    def close(self) -> None:
        """End the workers in an orderly way; their jobs are queued for the next start."""
        self._scheduler.close()

    def _check(self) -> None:
        self._last_check = time.monotonic()
        self._sessions.drop_silent()
        for death in self._workers.check(self._options.worker_idle):
            self._guarded(functools.partial(self._scheduler.take_worker_death, death))
        self._guarded(self._scheduler.check)
        self._guarded(self._clean)

    def _is_idle_for_long(self) -> bool:
        now = time.monotonic()
        if len(self._sessions) or self._scheduler.has_work():
            self._last_busy = now
        return self._options.idle_exit is not None and now - self._last_busy > self._options.idle_exit

    def _clean(self) -> None:
        """Continue to clean the store, or begin again."""
        begun, options = time.monotonic(), self._options
        if begun - self._last_clean > CLEAN_EVERY:
            self._last_clean = begun
            limits = StoreLimits(options.chunk_days, options.keep, options.result_days, options.result_gb * 1e9)
            self._cleaning = clean_store(self._store, limits)
            self._scheduler.drop_unclaimed(options.chunk_days)
        for _ in self._cleaning:
            if time.monotonic() - begun > CLEAN_TIME:
                return

    def _answer_clients(self) -> None:
        until = time.monotonic() + TURN
        for identity, frames in self._clients.receive(MESSAGES_PER_TURN):
            try:
                self._check_size(identity, frames)
                self._send(identity, self._answer(identity, decode(frames)))
            except TrackshadeError as error:
                self._send(identity, error_reply(request_id(frames), error))
            except OSError as error:
                self._send(identity, error_reply(request_id(frames), storage_error(error, self._store.folder)))
            except Exception:  # an error in one handler must not end the service for everybody
                log.exception("a message could not be handled")
                fault = ProtocolError("internal-error", "The backend failed on a message.", "See the backend's log.")
                self._send(identity, error_reply(request_id(frames), fault))
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
