# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors that are shown to the user: a code, a sentence and, if there is one, a remedy.

The same text appears in the panel, on the command line and in the log, so a message says what is wrong and where,
and `fix` says what to do about it. Exit codes: 0 success, 2 usage, 3 bad input, 4 backend failed or unreachable,
130 cancelled.
"""

from __future__ import annotations

from typing import Any


class TrackshadeError(Exception):
    """Base of every error that Trackshade raises on purpose.

    Args:
        code: Short stable identifier, such as "no-camera"; tests and translations key on it.
        message: One sentence that says what is wrong, and where.
        fix: One sentence that says what to do, or None.
        exit_code: Exit code of a command that ends with this error; that of the class by default.
    """

    default_exit_code = 4

    def __init__(self, code: str, message: str, fix: str | None = None, *, exit_code: int | None = None) -> None:
        super().__init__(code, message, fix)
        self.code = code
        self.message = message
        self.fix = fix
        self.exit_code = self.default_exit_code if exit_code is None else exit_code

    def __str__(self) -> str:
        return with_fix(self.message, self.fix)

    def to_dict(self) -> dict[str, Any]:
        """Return a form for msgpack and JSON, the inverse of `from_dict`."""
        names = ("code", "message", "fix", "exit_code")
        return {"kind": type(self).__name__, **{name: getattr(self, name) for name in names}}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> TrackshadeError:
        """Rebuild an error from another process or the job store; an unknown kind becomes a `JobError`."""
        cls = _KINDS.get(str(data.get("kind")), JobError)
        fix, exit_code = data.get("fix"), data.get("exit_code")
        return cls(
            str(data.get("code", "unknown")),
            str(data.get("message", "The backend reported an error without a message.")),
            None if fix is None else str(fix),
            exit_code=exit_code if isinstance(exit_code, int) else None,
        )


def with_fix(message: str, fix: str | None) -> str:
    """Return a message and what to do about it; a message that ends with what a library said gets its full stop."""
    if fix is None:
        return message
    return f"{message}{'' if message.endswith(('.', '!', '?', ':', '…')) else '.'} {fix}"


class UsageError(TrackshadeError):
    """A command or function was used wrongly."""

    default_exit_code = 2


class ShotError(TrackshadeError):
    """The scene, the shot or its file cannot be used as it is."""

    default_exit_code = 3


class ModelError(TrackshadeError):
    """A model is unknown, missing, damaged or does not accept its input."""

    default_exit_code = 3


class OutputError(TrackshadeError):
    """A file or folder cannot be written."""

    default_exit_code = 3


class ProtocolError(TrackshadeError):
    """The client cannot reach the backend, or one of them does not understand the other."""


class JobError(TrackshadeError):
    """A job failed in the backend."""


class CancelledError(TrackshadeError):
    """The user cancelled the operation."""

    default_exit_code = 130

    def __init__(self, code: str = "cancelled", message: str = "Canceled.", *more: Any, **named: Any) -> None:
        super().__init__(code, message, *more, **named)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out: Python's, that of a device, or that of torch on a processor."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()  # torch's allocator for processors, and some drivers, raise a plain RuntimeError
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


_KINDS: dict[str, type[TrackshadeError]] = {
    cls.__name__: cls
    for cls in (UsageError, ShotError, ModelError, OutputError, ProtocolError, JobError, CancelledError)
}
_KINDS["Cancelled"] = CancelledError  # its name in job stores and backends of earlier versions
