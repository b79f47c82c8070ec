# SPDX-License-Identifier: GPL-3.0-or-later
"""What a campaign found, as a row of a table."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trackshade.core.errors import TrackshadeError

TRACEBACK = re.compile(r"^Traceback \(most recent call last\)", re.MULTILINE)


@dataclass
class Row:
    """Counts of one campaign. Only `trials` and `pings` may be above 0."""

    name: str
    trials: int = 0
    tracebacks: int = 0  # exceptions that are not a TrackshadeError, or tracebacks in a backend's log
    ends: int = 0  # backends that ended, or did not start again
    lost: int = 0  # accepted jobs or finished results that were not found again, or wrong bytes that were
    pings: list[float] = field(default_factory=list)  # seconds of an honest client's requests meanwhile
    examples: list[str] = field(default_factory=list)  # the first faults, for people

    @property
    def is_clean(self) -> bool:
        """Whether nothing went wrong."""
        return self.tracebacks == self.ends == self.lost == 0

    def attempt(self, call: Callable[[], object], what: str) -> None:
        """Do a trial, which may raise a TrackshadeError and nothing else."""
        self.trials += 1
        try:
            call()
        except TrackshadeError as error:
            if not error.message or not error.code:
                self.fault(f"{what}: an error without a sentence")
        except Exception:  # noqa: BLE001 - counting them is what the campaign is for
            self.fault(f"{what}: {traceback.format_exc(limit=-4)}")

    def fault(self, what: str) -> None:
        """Count a raw traceback."""
        self.tracebacks += 1
        self.note(what)

    def note(self, what: str) -> None:
        """Keep an example of a fault."""
        if len(self.examples) < 5:
            self.examples.append(what)

    def read_log(self, log: Path) -> None:
        """Count the tracebacks in a backend's log."""
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        for found in TRACEBACK.finditer(text):
            self.fault(text[found.start() : found.start() + 1500])


def format_table(rows: Sequence[Row]) -> str:
    """Return the rows as a table for a terminal or Markdown."""
    lines = ["| campaign | trials | raw tracebacks | backend ends | lost | ping, median | ping, 99 % |"]
    lines.append("|---|---|---|---|---|---|---|")
    for row in rows:
        pings = sorted(row.pings)
        times = [f"{1000 * pings[int(part * (len(pings) - 1))]:.1f} ms" if pings else "" for part in (0.5, 0.99)]
        cells = (row.name, row.trials, row.tracebacks, row.ends, row.lost, *times)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)
