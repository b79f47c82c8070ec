# SPDX-License-Identifier: GPL-3.0-or-later
"""A session with a backend, kept up by a thread of its own, so that nobody else ever waits for a socket.

The thread sends what was asked for, notices a lost connection by itself, says hello again and repeats what was not
answered: every request may safely arrive twice.
"""

from __future__ import annotations

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
from trackshade.client.client_socket import Address, ClientSocket, HungUp
from trackshade.client.subscription import Subscription
from trackshade.core.errors import ProtocolError, TrackshadeError
from trackshade.ipc import PROTOCOL, Message
from trackshade.ipc.endpoints import curve_refused
from trackshade.ipc.messages import BufferEntry
from trackshade.ipc.protocol import CREDITS

T = TypeVar("T")

HELLO_EVERY = 1.0  # seconds until an unanswered hello is tried on a new socket
WAIT = 0.2  # seconds that a turn of the thread waits for messages
TURN = 2 * WAIT  # that a turn takes at most, unless it is held up
PING_AFTER = 2.0  # seconds of silence until a heartbeat is asked for
LOST_AFTER = 8.0  # seconds of silence, heartbeats unanswered, until the connection counts as lost
_FATAL = ("wrong-token", "version-mismatch", "too-many-clients", "wrong-keys", "backend-ended", "backend-gave-up")


@dataclass
class _Request:
    message: Message
    future: Future[Message]
    since: float  # by the connection's clock


class Connection:
    """A session. `find` gives the address and is asked again whenever the connection is lost, as a backend that was
    started again may be elsewhere; `patience` is how long (seconds) a backend may be away before requests fail.
    """

    def __init__(self, find: Callable[[], Address], client: str, patience: float) -> None:
        self.backend: Mapping[str, Any] = {}
        self.patience = patience
        self._find = find
        self._client = client
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._fresh: deque[_Request] = deque()  # asked for, not yet taken by the thread
        self._subscriptions: set[Subscription] = set()
        self._fatal: TrackshadeError | None = None
        self._closing = False
        self._line = ClientSocket()
        # From here on the thread's own.
        self._address: Address | None = None
        self._why_away: TrackshadeError | None = None
        self._welcomed = False
        self._hello = 0
        self._window = CREDITS
        self._pending: dict[int, _Request] = {}
        self._chunks: deque[_Request] = deque()  # waiting for credit
        self._chunks_out: set[int] = set()
        self._held_up = 0.0  # seconds in which this thread could not listen
        self._turned = time.monotonic()
        self._opened = self._heard = self._pinged = self._lost = self._clock()
        self._thread = threading.Thread(target=self._run, name="trackshade-connection", daemon=True)
        self._thread.start()

    # for everybody

    def request(
        self, kind: str, body: Mapping[str, Any], on_answer: Callable[[Future[Message]], None] | None = None
    ) -> Future[Message]:
        """Send a request; the answer, or what went wrong, arrives in the future.

        `on_answer` is called with the future by the connection's thread, before it looks at what arrived later (by
        the caller's, where the connection is closed or refused). A callback added to the future may come too late
        for that.
        """
        return self._ask(Message(kind, next(self._numbers), body), on_answer)

    def send_chunk(self, digest: bytes, data: memoryview) -> Future[Message]:
        """Send a chunk as soon as there is credit for it. `data` must not change until then."""
        entry = BufferEntry.of_bytes(len(data), digest)
        return self._ask(Message("chunk", next(self._numbers), {}, (entry,), (data,)))

    def subscribe(self, job: str, since: int) -> Subscription:
        """The events of a job from `since` on, over any loss of the connection."""
        subscription = Subscription(job, since, self.request)
        subscription.since = self._clock()
        with self._lock:
            self._subscriptions.add(subscription)
        subscription.ask()
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        with self._lock:
            self._subscriptions.discard(subscription)

    @property
    def sent_bytes(self) -> int:
        return self._line.sent_bytes

    def close(self) -> None:
        """End the session; what is still unanswered fails."""
        self._closing = True
        self._line.wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(5)

    def _ask(self, message: Message, on_answer: Callable[[Future[Message]], None] | None = None) -> Future[Message]:
        request = _Request(message, Future(), self._clock())
        if on_answer is not None:
            request.future.add_done_callback(on_answer)
        with self._lock:
            refused = self._fatal or (_closed() if self._closing else None)
            if refused is None:
                self._fresh.append(request)
        if refused is not None:
            request.future.set_exception(refused)
        else:
            self._line.wake()
        return request.future

    def _clock(self) -> float:
        """Seconds, without those in which the thread could not listen: whoever holds Python's lock for long, as Blender
        does while it renders or opens a file, is not to make the backend late.
        """
        return time.monotonic() - self._held_up

    # the thread

    def _run(self) -> None:
        try:
            while not self._closing:
                self._turn()
        finally:
            with self._lock:
                self._closing = True
            self._fail_all(_closed())
            self._line.close()

    def _turn(self) -> None:
        self._keep_connected()
        self._take_fresh()
        self._line.wait(round(1000 * WAIT))
        for message in self._line.messages():
            self._heard = self._clock()
            self._take(message)
        event = self._line.hung_up()
        if event is HungUp.KEYS_REFUSED and self._address is not None:
            self._refuse(curve_refused(self._address.endpoint))
        elif event is HungUp.LOST and self._welcomed:
            self._lose()

    def _tick(self) -> float:
        """The clock, as only the thread itself may read it: what it was held up since its last look is not counted,
        wherever in a turn that was.
        """
        now = time.monotonic()
        self._held_up += max(0.0, now - self._turned - TURN)
        self._turned = now
        return now - self._held_up

    def _keep_connected(self) -> None:
        now = self._tick()
        if self._fatal is not None:
            return
        if self._welcomed:
            if now - self._heard > LOST_AFTER and not self._line.has_mail():  # this thread may have been held up
                self._lose()
            elif now - max(self._heard, self._pinged) > PING_AFTER:
                self._pinged = now
                self._line.send(Message("ping", 0))
        elif not self._line.is_open or (now - self._opened > HELLO_EVERY and not self._line.has_mail()):
            self._open()
        if not self._welcomed:
            self._give_up_on_late(now)

    def _open(self) -> None:
        self._line.hang_up()
        self._opened = self._clock()
        try:
            self._address = address = self._find()
        except TrackshadeError as error:
            self._why_away = error
            if error.code in _FATAL:
                self._refuse(error)
            return
        self._why_away = None
        self._line.open(address)
        self._say_hello()

    def _say_hello(self) -> None:
        assert self._address is not None
        self._welcomed = False
        self._hello = next(self._numbers)
        body = {
            "protocol": PROTOCOL,
            "package": __version__,
            "token": self._address.token,
            "client": self._client,
        }
        self._line.send(Message("hello", self._hello, body))

    def _lose(self) -> None:
        """The backend is away: try again, from the address on."""
        self._welcomed = False
        self._lost = self._clock()
        self._line.hang_up()

    def _take_fresh(self) -> None:
        while True:
            with self._lock:
                if not self._fresh:
                    return
                request = self._fresh.popleft()
            self._pending[request.message.id] = request
            self._dispatch(request)

    def _dispatch(self, request: _Request) -> None:
        if request.message.type == "chunk":
            self._chunks.append(request)
            self._send_chunks()
        elif self._welcomed:
            self._line.send(request.message)

    def _send_chunks(self) -> None:
        while self._welcomed and self._chunks and len(self._chunks_out) < self._window:
            request = self._chunks.popleft()
            self._chunks_out.add(request.message.id)
            self._line.send(request.message)

    def _take(self, message: Message) -> None:
        if message.type == "welcome" and message.id == self._hello:
            self._greeted(message)
        elif message.type == "event":
            for subscription in self._copy_of_subscriptions():
                subscription.take(message)
        elif message.type == "error" and message.id == self._hello:
            self._hello_refused(TrackshadeError.from_dict(dict(message.body)))
        elif message.type == "error" and message.body.get("code") == "hello-first":
            if self._welcomed:  # the backend was started again behind the same address
                self._say_hello()
        elif message.type in ("reply", "error"):
            self._answered(message)

    def _greeted(self, message: Message) -> None:
        self._welcomed = True
        self.backend = message.body
        self._window = int(message.body.get("window", 1))
        self._chunks.clear()
        self._chunks_out.clear()
        for request in list(self._pending.values()):
            self._dispatch(request)
        for subscription in self._copy_of_subscriptions():
            subscription.ask()

    def _hello_refused(self, error: TrackshadeError) -> None:
        if error.code == "wrong-token" and self._moved():
            self._lose()
        else:
            self._refuse(error)

    def _moved(self) -> bool:
        try:
            return self._find() != self._address
        except TrackshadeError:
            return False

    def _answered(self, message: Message) -> None:
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

    # giving up

    def _give_up_on_late(self, now: float) -> None:
        late = [r for r in self._pending.values() if now - max(r.since, self._lost) > self.patience]
        for request in late:
            del self._pending[request.message.id]
            request.future.set_exception(self._unreachable())
        if now - self._lost > self.patience:
            for subscription in self._copy_of_subscriptions():
                if now - subscription.since > self.patience:
                    subscription.fail(self._unreachable())
                    self.unsubscribe(subscription)

    def _unreachable(self) -> TrackshadeError:
        if self._why_away is not None:
            return self._why_away
        where = f" at {self._address.endpoint}" if self._address is not None else ""
        return ProtocolError(
            "backend-unreachable",
            f"The backend{where} does not answer.",
            "See whether `trackshade serve` still runs there; jobs that it accepted go on when it is started again.",
        )

    def _refuse(self, error: TrackshadeError) -> None:
        with self._lock:
            self._fatal = error
        self._welcomed = False
        self._line.hang_up()
        self._fail_all(error)

    def _fail_all(self, error: TrackshadeError) -> None:
        with self._lock:
            requests = [*self._pending.values(), *self._fresh]
            self._fresh.clear()
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
    """A future's result, waited for in slices so that Ctrl-C is noticed on every system."""
    while True:
        try:
            return future.result(0.5)
        except FutureTimeout:
            if future.done():
                return future.result()


def _closed() -> ProtocolError:
    return ProtocolError("closed", "The connection to the backend was closed.")
