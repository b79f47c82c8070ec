# SPDX-License-Identifier: GPL-3.0-or-later
"""The errors that an artist can meet: a code, a sentence and, where there is one, a way out.

The same text appears in the panel, on the command line and in the log, so a message says what is wrong and where,
and `fix` says what to do about it. Exit codes: 0 done, 2 usage, 3 bad input, 4 backend failed or unreachable,
130 cancelled.
"""

from __future__ import annotations

from typing import Any


class TrackshadeError(Exception):
    """Base of every error that Trackshade raises on purpose.

    Args:
        code: short stable identifier, such as "no-camera"; tests and translations key on it.
        message: one sentence: what is wrong, and where.
        fix: one sentence: what to do, or None.
        exit_code: process exit code where it differs from the class's own.
    """

    default_exit_code = 4

    def __init__(self, code: str, message: str, fix: str | None = None, *, exit_code: int | None = None) -> None:
        super().__init__(code, message, fix)
        self.code = code
        self.message = message
        self.fix = fix
        self.exit_code = self.default_exit_code if exit_code is None else exit_code

    def __str__(self) -> str:
        return self.message if self.fix is None else f"{self.message} {self.fix}"

    def to_dict(self) -> dict[str, Any]:
        """A msgpack- and JSON-able form, the inverse of `from_dict`."""
        return {
            "kind": type(self).__name__,
            "code": self.code,
            "message": self.message,
            "fix": self.fix,
            "exit_code": self.exit_code,
        }

    @staticmethod
    def from_dict(data: dict[str, Any]) -> TrackshadeError:
        """Rebuilds an error that crossed a process border; an unknown kind becomes a `JobError`."""
        cls = _KINDS.get(str(data.get("kind")), JobError)
        fix = data.get("fix")
        exit_code = data.get("exit_code")
        return cls(
            str(data.get("code", "unknown")),
            str(data.get("message", "The backend reported an error without a message.")),
            None if fix is None else str(fix),
            exit_code=exit_code if isinstance(exit_code, int) else None,
        )


class UsageError(TrackshadeError):
    """The command was called wrongly."""

    default_exit_code = 2


class ShotError(TrackshadeError):
    """The scene, the shot or its file cannot be used as it is."""

    default_exit_code = 3


class ModelError(TrackshadeError):
    """A model is unknown, missing, damaged or does not take what it was given."""

    default_exit_code = 3


class OutputError(TrackshadeError):
    """Results cannot be written where they should go."""

    default_exit_code = 3


class ProtocolError(TrackshadeError):
    """The two sides of a connection do not understand each other."""


class JobError(TrackshadeError):
    """A job failed in the backend."""


class CancelledError(TrackshadeError):
    """Somebody asked for the work to end."""

    default_exit_code = 130

    def __init__(
        self,
        code: str = "cancelled",
        message: str = "Cancelled.",
        fix: str | None = None,
        *,
        exit_code: int | None = None,
    ) -> None:
        super().__init__(code, message, fix, exit_code=exit_code)


_KINDS: dict[str, type[TrackshadeError]] = {
    cls.__name__: cls
    for cls in (UsageError, ShotError, ModelError, OutputError, ProtocolError, JobError, CancelledError)
} | {"Cancelled": CancelledError}  # the name that earlier versions stored
