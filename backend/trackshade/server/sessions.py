# SPDX-License-Identifier: GPL-3.0-or-later
"""The clients of a broker: their sessions, credit and subscriptions to events."""

from __future__ import annotations

import hmac
import time
from dataclasses import dataclass, field

from trackshade import __version__
from trackshade.core.errors import ProtocolError
from trackshade.ipc import Message, decode
from trackshade.ipc.protocol import CREDITS, MAX_HELLO_BYTES, PROTOCOL, check_protocol, require, require_count

SILENCE = 60.0  # seconds without a message after which a session ends; clients ping every few seconds
ALL_CREDITS = 24  # chunks in transit from all clients together, which bounds the memory for them
MAX_SESSIONS = 256


def is_hello(token: str, frame: bytes) -> bool:
    """Return whether the only frame of a message is a hello with the token."""
    if len(frame) > MAX_HELLO_BYTES:
        return False
    try:
        message = decode([frame])
    except ProtocolError:
        return False
    return message.type == "hello" and _is_token(token, message.body.get("token"))


def _is_token(token: str, given: object) -> bool:
    return isinstance(given, str) and hmac.compare_digest(given.encode(), token.encode())


def hello_first() -> ProtocolError:
    """Make the error for a message of a connection that has not said hello."""
    return ProtocolError("hello-first", "A connection has to begin with hello and the token.")


@dataclass
class Session:
    """A connection whose hello was accepted."""

    identity: bytes
    client: str
    last_message: float  # monotonic seconds
    subscriptions: dict[str, int] = field(default_factory=dict)  # by job: id of the request


class Sessions:
    """All sessions of a broker."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._sessions: dict[bytes, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def window(self) -> int:
        """Return how many chunks each client may have in transit now."""
        return max(1, min(CREDITS, ALL_CREDITS // max(1, len(self._sessions))))

    def open(self, identity: bytes, message: Message) -> Session:
        """Open a session for a hello. Raise ProtocolError for another protocol version or a wrong token."""
        check_protocol(
            require_count(message.body, "protocol"),
            PROTOCOL,
            client_package=require(message.body, "package", str)[:40],
            backend_package=__version__,
        )
        if not _is_token(self._token, require(message.body, "token", str)):
            raise ProtocolError(
                "wrong-token",
                "The backend does not accept this token.",
                "Use the token in the backend's connection file, or leave it out to have it found.",
            )
        if len(self._sessions) >= MAX_SESSIONS and identity not in self._sessions:
            raise ProtocolError("too-many-clients", "The backend has too many clients.", "Close some of them.")
        client = require(message.body, "client", str)[:100]
        session = self._sessions.setdefault(identity, Session(identity, client, time.monotonic()))
        session.last_message = time.monotonic()
        return session

    def knows(self, identity: bytes) -> bool:
        """Return whether a connection has a session."""
        return identity in self._sessions

    def find(self, identity: bytes) -> Session:
        """Return the session of a connection. Raise ProtocolError("hello-first")."""
        session = self._sessions.get(identity)
        if session is None:
            raise hello_first()
        session.last_message = time.monotonic()
        return session

    def drop(self, identity: bytes) -> None:
        """End a session; its client has to say hello again."""
        self._sessions.pop(identity, None)

    def drop_silent(self) -> None:
        """End the sessions of clients that have sent nothing for a while."""
        limit = time.monotonic() - SILENCE
        for session in [s for s in self._sessions.values() if s.last_message < limit]:
            self.drop(session.identity)

    def subscribers(self, job: str) -> list[tuple[Session, int]]:
        """Return the sessions subscribed to a job, and the id of each one's request."""
        return [(s, s.subscriptions[job]) for s in self._sessions.values() if job in s.subscriptions]
