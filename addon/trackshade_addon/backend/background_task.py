# SPDX-License-Identifier: GPL-3.0-or-later
"""A task in a thread of its own, looked at by who draws it: how far, in which words, and how it ended."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from trackshade.core.errors import CancelledError, JobError, TrackshadeError

from .running import Task

LINES = 300


class BackgroundTask(Task):
    """Runs `call(work)`; whatever goes wrong is in `error` at the end.

    Attributes:
        share: of the whole that is done, 0 to 1; None where it cannot be told.
        words: what is being done.
        lines: what the programs said, for the log.
    """

    def __init__(self, call: Callable[[BackgroundTask], Any], words: str = "") -> None:
        super().__init__()
        self.share: float | None = None
        self.words = words
        self.error: TrackshadeError | None = None
        self.result: Any = None
        self.lines: deque[str] = deque(maxlen=LINES)
        self._call = call
        self._thread = threading.Thread(target=self._run, name="trackshade-work", daemon=True)
        self._thread.start()

    def report(self, share: float | None, words: str) -> None:
        self.share, self.words = share, words
        if not self.lines or self.lines[-1] != words:
            self.lines.append(words)

    def cancel(self) -> None:
        super().cancel()
        if self.running:
            self.words = "Stopping"

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def wait(self, seconds: float | None = None) -> bool:
        """Waits for the end, for tests and for the end of Blender; whether it came."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self.result = self._call(self)
        except TrackshadeError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - a defect of ours, which has to be seen rather than lost in a thread
            self.error = JobError("defect", f"Trackshade has failed ({type(error).__name__}: {error}).", "Report it.")
        if self.error is not None and not isinstance(self.error, CancelledError):
            self.lines.append(str(self.error))
