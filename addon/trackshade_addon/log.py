# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's log: the last messages in memory for bug reports, and all of them in a rotating file.

Modules log through `logging.getLogger(__name__)`. While the add-on is registered, one handler on the package's logger
receives messages from INFO on. It prints nothing, and it removes tokens and passwords before it keeps a message.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from trackshade.core import folders
from trackshade.core.errors import TrackshadeError
from trackshade.ipc import connection_files

LINES = 500  # messages that stay in memory
FILE_BYTES = 1 << 20  # size at which the file is replaced; one earlier file is kept
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
_FORMAT = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
_logger = logging.getLogger(__package__)


class LogHandler(logging.handlers.RotatingFileHandler):
    """Keeps the last messages and appends each to the log file, which is created with the first message.

    Args:
        path: the log file; its folder need not exist. Where it cannot be written, messages stay in memory alone.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=FILE_BYTES, backupCount=1, encoding="utf-8", delay=True)
        self.messages: deque[str] = deque(maxlen=LINES)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message and write it."""
        try:
            text = redact(_FORMAT.format(record))
            self.messages.append(text)
            Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
        except (OSError, TypeError, ValueError):  # an unwritable folder, or arguments that do not fit the message
            return
        super().emit(logging.makeLogRecord({"msg": text}))

    def rotate(self, source: str, dest: str) -> None:
        """Rename a full file, unless another Blender has it open and the system forbids that."""
        with contextlib.suppress(OSError):
            super().rotate(source, dest)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - overrides a method of the library
        """Do nothing: the message stays in memory."""


def attach() -> None:
    """Add the handler to the package's logger, unless it is there."""
    if _handler() is None:
        _logger.addHandler(LogHandler(log_path()))
        _logger.setLevel(logging.INFO)
        _logger.propagate = False  # another add-on may have given the root logger a handler that prints


def detach() -> None:
    """Remove the handler and close its file."""
    handler = _handler()
    if handler is not None:
        _logger.removeHandler(handler)
        _logger.setLevel(logging.NOTSET)
        _logger.propagate = True
        handler.close()


def log_path() -> Path:
    """Return the log file, in Trackshade's own folder."""
    return folders.home() / "addon.log"


def last_messages(count: int) -> list[str]:
    """Return the last messages since the add-on was registered, the oldest first."""
    handler = _handler()
    return [] if handler is None else list(handler.messages)[-count:]


def redact(text: str) -> str:
    """Replace the tokens of backends, and the user names and passwords in addresses, by asterisks."""
    for secret in _secrets():
        text = text.replace(secret, "***")
    return _CREDENTIALS.sub("***@", text)


def _handler() -> LogHandler | None:
    return next((handler for handler in _logger.handlers if isinstance(handler, LogHandler)), None)


def _secrets() -> Iterator[str]:
    if token := os.environ.get("TRACKSHADE_TOKEN"):
        yield token
    for path in (folders.shared_dir() / "backend.json", folders.connection_file()):
        with contextlib.suppress(TrackshadeError):  # an unreadable file gives nobody a token
            info = connection_files.read(path)
            if info is not None and info.token:
                yield info.token
    for name, value in os.environ.items():
        if name.lower().endswith("_proxy") and (credentials := value.rpartition("@")[0].rpartition("//")[2]):
            yield credentials
