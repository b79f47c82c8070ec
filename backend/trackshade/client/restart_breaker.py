# SPDX-License-Identifier: GPL-3.0-or-later
"""Ends attempts to start what keeps failing, so that nobody waits for a backend that can never come."""

from __future__ import annotations

import time

from trackshade.core.errors import ProtocolError

LIMIT = 3  # failures in a row
STEADY = 60.0  # seconds that a backend has to have lived for its end not to count as a failure after a failure


class Breaker:
    """Counts failures in a row; `check` raises once there were `LIMIT`."""

    def __init__(self) -> None:
        self.failures = 0
        self._reason = ""
        self._started = 0.0

    def check(self) -> None:
        """Raises ProtocolError("backend-gave-up") with the latest reason."""
        if self.failures >= LIMIT:
            raise ProtocolError(
                "backend-gave-up",
                f"The backend failed {self.failures} times in a row. {self._reason}".strip(),
                "See its log, and try again when the reason is gone.",
            )

    def started(self) -> None:
        self._started = time.monotonic()

    def failed(self, reason: str) -> None:
        """It did not start."""
        self.failures += 1
        self._reason = reason

    def ended(self, reason: str) -> None:
        """It had started, and ended by itself."""
        if time.monotonic() - self._started > STEADY:
            self.failures = 0
        self.failed(reason)
