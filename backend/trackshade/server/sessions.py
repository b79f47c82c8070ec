# SPDX-License-Identifier: GPL-3.0-or-later
"""The clients of a broker: who has said hello, what they may send, and which events they wait for."""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from trackshade import __version__
from trackshade.core.errors import ProtocolError
from trackshade.ipc import Message
from trackshade.ipc.fields import take, take_count
from trackshade.ipc.protocol import CREDITS, PROTOCOL, check_protocol

SILENCE = 60.0  # seconds without a word (clients ping every few) after which a session ends
ALL_CREDITS = 24  # chunks on the way from all clients together: what bounds the memory for them
MAX_SESSIONS = 256


@dataclass
class Session:
    """A connection that has said hello."""

    identity: bytes
    client: str
    heard: float
    subscriptions: dict[str, int] = field(default_factory=dict)  # job -> id of the request


class Sessions:
    """All sessions of a broker."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._sessions: dict[bytes, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def window(self) -> int:
        """How many chunks each client may have on the way now."""
        return max(1, min(CREDITS, ALL_CREDITS // max(1, len(self._sessions))))

    def greet(self, identity: bytes, message: Message) -> Session:
        """Open a session. Raises ProtocolError for another protocol version or a wrong token."""
        check_protocol(
            take_count(message.body, "protocol"),
            PROTOCOL,
            client_package=take(message.body, "package", str)[:40],
            backend_package=__version__,
        )
        if not hmac.compare_digest(take(message.body, "token", str).encode(), self._token.encode()):
            raise ProtocolError(
                "wrong-token",
                "The backend does not accept this token.",
                "Use the token in the backend's connection file, or leave it out to have it found.",
            )
        if len(self._sessions) >= MAX_SESSIONS and identity not in self._sessions:
            raise ProtocolError("too-many-clients", "The backend has too many clients.", "Close some of them.")
        client = take(message.body, "client", str)[:100]
        session = self._sessions[identity] = Session(identity, client, time.monotonic())
        return session

    def find(self, identity: bytes) -> Session:
        """The session of this connection. Raises ProtocolError("hello-first")."""
        session = self._sessions.get(identity)
        if session is None:
            raise ProtocolError("hello-first", "A connection has to begin with hello and the token.")
        session.heard = time.monotonic()
        return session

    def get(self, identity: bytes) -> Session | None:
        return self._sessions.get(identity)

    def drop(self, identity: bytes) -> None:
        """End a session; its client has to say hello again."""
        self._sessions.pop(identity, None)

    def drop_silent(self) -> None:
        """End the sessions of clients that went away without a word."""
        limit = time.monotonic() - SILENCE
        for session in [s for s in self._sessions.values() if s.heard < limit]:
            self.drop(session.identity)

    def listeners(self, job: str) -> list[tuple[Session, int]]:
        """Who waits for events of this job, and the id to answer with."""
        return [(s, s.subscriptions[job]) for s in self._sessions.values() if job in s.subscriptions]


def welcome(window: int, pid: int) -> Mapping[str, object]:
    """The body of the answer to hello."""
    return {"protocol": PROTOCOL, "package": __version__, "window": window, "pid": pid}
