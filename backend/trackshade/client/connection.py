# SPDX-License-Identifier: GPL-3.0-or-later
"""A session with a backend, maintained by a thread of its own, so that no caller waits for a socket.

The thread sends requests, notices a lost connection, says hello again and repeats unanswered requests, each of which
may safely arrive twice.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Any, TypeVar

from trackshade import __version__
from trackshade.client.client_socket import Address, ClientSocket, Disconnect
from trackshade.client.events import Subscription
from trackshade.core.errors import ProtocolError, TrackshadeError
from trackshade.ipc import PROTOCOL, Message
from trackshade.ipc.messages import BufferEntry
from trackshade.ipc.protocol import CREDITS

T = TypeVar("T")

LOOK_EVERY = 1.0  # seconds without an answer to hello until the backend's address is looked up again
HELLO_EVERY = 2.0  # seconds until an unanswered hello is repeated on a new socket, doubled with every time
WAIT = 0.2  # seconds that the thread waits for messages
MAX_TURN = 2 * WAIT  # seconds between two readings of the clock, unless the thread is blocked
PING_AFTER = 2.0  # seconds without a message until a heartbeat is sent
LOST_AFTER = 8.0  # seconds without a message, heartbeats unanswered, until the connection counts as lost
BUSY_TIME = 180.0  # seconds that a backend may take to answer while its sockets answer heartbeats
_FATAL = (
    *("bad-token", "bad-endpoint", "wrong-token", "version-mismatch", "too-many-clients", "wrong-keys"),
    *("backend-ended", "backend-gave-up"),
)


@dataclass
class _Request:
    message: Message
    future: Future[Message]
    created: float  # seconds of the connection's clock


class Connection:
    """A session with a backend.

    Attributes:
        backend: The backend's answer to hello.
        patience: Seconds that a backend may be away before requests fail. One whose sockets answer is not away.

    `find` returns the address. It is called again whenever the connection is lost, as the address of a restarted
    backend may differ. `client` is the name of this client, for the backend.
    """

    def __init__(self, find: Callable[[], Address], client: str, patience: float) -> None:
        self.backend: Mapping[str, Any] = {}
        self.patience = patience
        self._find = find
        self._client = client
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._new_requests: list[_Request] = []  # not yet taken by the thread
        self._subscriptions: set[Subscription] = set()
        self._fatal: TrackshadeError | None = None
        self._closing = False
        self._socket = ClientSocket()
        # Used by the thread only.
        self._address: Address | None = None
        self._last_error: TrackshadeError | None = None
        self._is_accepted = False  # whether the backend has answered the latest hello
        self._hello = 0  # id of the latest hello
        self._hellos = 0  # connections since the last accepted hello
        self._window = CREDITS
        self._pending: dict[int, _Request] = {}
        self._chunks: deque[_Request] = deque()  # waiting for credit
        self._chunks_out: set[int] = set()
        self._blocked = 0.0  # seconds in which the thread could not run
        self._last_tick = time.monotonic()
        self._looked = self._opened = self._heard = self._pinged = self._lost = self._clock()
        self._thread = threading.Thread(target=self._run, name="trackshade-connection", daemon=True)
        self._thread.start()

    def request(
        self, kind: str, body: Mapping[str, Any], on_answer: Callable[[Future[Message]], None] | None = None
    ) -> Future[Message]:
        """Send a request; return a future of the reply, or of the error.

        The connection's thread calls `on_answer` with the future before it takes later messages, for which a callback
        that is added to the future may be too late. If the connection is closed, it is called at once.
        """
        return self._ask(Message(kind, next(self._numbers), body), on_answer)

    def send_chunk(self, digest: bytes, data: memoryview) -> Future[Message]:
        """Send a chunk as soon as there is credit for it. `data` must not change until it is answered."""
        entry = BufferEntry.of_bytes(len(data), digest)
        return self._ask(Message("chunk", next(self._numbers), {}, (entry,), (data,)))

    def subscribe(self, job: str, since: int) -> Subscription:
        """Subscribe to the events of a job after number `since`; lasts over losses of the connection."""
        subscription = Subscription(job, since, self.request)
        subscription.created = self._clock()
        with self._lock:
            self._subscriptions.add(subscription)
        subscription.request_missed()
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription."""
        with self._lock:
            self._subscriptions.discard(subscription)

    def close(self) -> None:
        """End the session; unanswered requests fail."""
        self._closing = True
        self._socket.wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(5)

    def _ask(self, message: Message, on_answer: Callable[[Future[Message]], None] | None = None) -> Future[Message]:
        request = _Request(message, Future(), self._clock())
        if on_answer is not None:
            request.future.add_done_callback(on_answer)
        with self._lock:
            refused = self._fatal or (_closed() if self._closing else None)
            if refused is None:
                self._new_requests.append(request)
        if refused is None:
            self._socket.wake()
        else:
            request.future.set_exception(refused)
        return request.future

    def _clock(self) -> float:
        """Return seconds, without those in which the thread could not run.

        Blender holds the interpreter lock while it renders or opens a file; that time must not count as a backend that
        does not answer.
        """
        return time.monotonic() - self._blocked

    def _run(self) -> None:
        try:
            while not self._closing:
                self._run_once()
        finally:
            with self._lock:
                self._closing = True
            self._fail_all(_closed())
            self._socket.close()

    def _run_once(self) -> None:
        self._keep_connected()
        self._take_new_requests()
        self._socket.wait(round(1000 * WAIT))
        for message in self._socket.messages():
            self._heard = self._clock()
            self._take_message(message)
        event = self._socket.take_disconnect()
        if event is Disconnect.KEYS_REFUSED and self._address is not None:
            where = self._address.endpoint
            fix = "Copy the client's public key into the backend's folder of clients, and its server.key here."
            self._fail_for_good(
                ProtocolError("wrong-keys", f"The backend at {where} does not accept this client's CURVE keys.", fix)
            )
        elif event is Disconnect.LOST and self._is_accepted:
            self._reconnect()

    def _tick(self) -> float:
        """Update the clock. Time since the last call above MAX_TURN counts as blocked."""
        now = time.monotonic()
        self._blocked += max(0.0, now - self._last_tick - MAX_TURN)
        self._last_tick = now
        return now - self._blocked

    def _keep_connected(self) -> None:
        now = self._tick()
        if self._fatal is not None:
            return
        if self._is_accepted:
            if now - self._heard > LOST_AFTER and not self._socket.has_input():  # the thread may have been blocked
                self._reconnect()
            elif now - max(self._heard, self._pinged) > PING_AFTER:
                self._pinged = now
                self._socket.send(Message("ping", 0))
        elif not self._socket.is_open or (now - self._looked > LOOK_EVERY and not self._socket.has_input()):
            self._open()
        if not self._is_accepted:
            self._fail_overdue(now)

    def _open(self) -> None:
        """Look up the address. Begin a new connection if it is another one, or hello was not answered for long."""
        self._looked = now = self._clock()
        try:
            address = self._find()
            wait = LOST_AFTER if self._socket.is_connected else min(LOST_AFTER, HELLO_EVERY * 2**self._hellos)
            if self._socket.is_open and address == self._address and now - self._opened < wait:
                return
            self._hellos += 1
            self._opened, self._address = now, address
            self._socket.open(address)
        except TrackshadeError as error:
            self._socket.disconnect()
            self._last_error = error
            if error.code in _FATAL:
                self._fail_for_good(error)
            return
        self._last_error = None
        self._say_hello()

    def _say_hello(self) -> None:
        assert self._address is not None
        self._is_accepted = False
        self._hello = next(self._numbers)
        own = {"protocol": PROTOCOL, "package": __version__, "client": self._client}
        self._socket.send(Message("hello", self._hello, {**own, "token": self._address.token}))

    def _reconnect(self) -> None:
        """Start again with finding the address."""
        self._is_accepted = False
        self._hellos = 0
        self._lost = self._clock()
        self._socket.disconnect()

    def _take_new_requests(self) -> None:
        with self._lock:
            requests = list(self._new_requests)
            self._new_requests.clear()
            self._pending.update((request.message.id, request) for request in requests)
        for request in requests:
            self._dispatch(request)

    def _dispatch(self, request: _Request) -> None:
        if request.message.type == "chunk":
            self._chunks.append(request)
            self._send_chunks()
        elif self._is_accepted:
            self._socket.send(request.message)

    def _send_chunks(self) -> None:
        while self._is_accepted and self._chunks and len(self._chunks_out) < self._window:
            request = self._chunks.popleft()
            self._chunks_out.add(request.message.id)
            self._socket.send(request.message)

    def _take_message(self, message: Message) -> None:
        if message.type == "welcome" and message.id == self._hello:
            self._take_welcome(message)
        elif message.type == "event":
            for subscription in self._copy_of_subscriptions():
                subscription.take(message)
        elif message.type == "error" and message.id == self._hello:
            self._take_refusal(TrackshadeError.from_dict(dict(message.body)))
        elif message.type == "error" and message.body.get("code") == "hello-first":
            if self._is_accepted:  # the backend was restarted at the same address
                self._say_hello()
        elif message.type in ("reply", "error"):
            self._take_answer(message)

    def _take_welcome(self, message: Message) -> None:
        self._is_accepted = True
        self._hellos = 0
        self.backend = message.body
        self._window = int(message.body.get("window", 1))
        self._chunks.clear()
        self._chunks_out.clear()
        for request in list(self._pending.values()):
            self._dispatch(request)
        for subscription in self._copy_of_subscriptions():
            subscription.request_missed()

    def _take_refusal(self, error: TrackshadeError) -> None:
        with contextlib.suppress(TrackshadeError):
            if error.code == "wrong-token" and self._find() != self._address:  # another backend has this address now
                self._reconnect()
                return
        self._fail_for_good(error)

    def _take_answer(self, message: Message) -> None:
        request = self._pending.pop(message.id, None)
        if "window" in message.body:
            self._window = max(1, int(message.body["window"]))
        if message.id in self._chunks_out:
            self._chunks_out.discard(message.id)
            self._send_chunks()
        if request is None:
            return
        if message.type == "error":
            request.future.set_exception(TrackshadeError.from_dict(dict(message.body)))
        else:
            request.future.set_result(message)

    def _fail_overdue(self, now: float) -> None:
        """Fail what has waited too long: `patience`, or BUSY_TIME while the backend shows signs of life."""
        patience = max(self.patience, BUSY_TIME) if self._socket.is_connected else self.patience
        overdue = [r for r in self._pending.values() if now - max(r.created, self._lost) > patience]
        for request in overdue:
            del self._pending[request.message.id]
            request.future.set_exception(self._unreachable())
        if now - self._lost > patience:
            for subscription in self._copy_of_subscriptions():
                if now - subscription.created > patience:
                    subscription.fail(self._unreachable())
                    self.unsubscribe(subscription)

    def _unreachable(self) -> TrackshadeError:
        if self._last_error is not None:
            return self._last_error
        where = f" at {self._address.endpoint}" if self._address is not None else ""
        return ProtocolError(
            "backend-unreachable",
            f"The backend{where} does not answer.",
            "See whether `trackshade serve` still runs there; jobs that it accepted go on when it is started again.",
        )

    def _fail_for_good(self, error: TrackshadeError) -> None:
        with self._lock:
            self._fatal = error
        self._is_accepted = False
        self._socket.disconnect()
        self._fail_all(error)

    def _fail_all(self, error: TrackshadeError) -> None:
        with self._lock:
            requests = [*self._pending.values(), *self._new_requests]
            self._new_requests.clear()
        self._pending.clear()
        self._chunks.clear()
        for request in requests:
            request.future.set_exception(error)
        for subscription in self._copy_of_subscriptions():
            subscription.fail(error)
            self.unsubscribe(subscription)

    def _copy_of_subscriptions(self) -> list[Subscription]:
        with self._lock:
            return list(self._subscriptions)


def wait(future: Future[T]) -> T:
    """Wait for the result of a future, in short intervals so that Ctrl-C works on every system."""
    while True:
        try:
            return future.result(0.5)
        except FutureTimeout:
            if future.done():
                return future.result()


def _closed() -> ProtocolError:
    return ProtocolError("closed", "The connection to the backend was closed.")
