# SPDX-License-Identifier: GPL-3.0-or-later
"""A few trials of each campaign (tests/campaigns)."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.campaigns.databases import databases
from tests.campaigns.files import pictures, shots
from tests.campaigns.live import ATTACKS, floods, kills, messages
from tests.campaigns.mutants import damaged_bytes, damaged_value
from tests.campaigns.table import Row, format_table

CAMPAIGNS: dict[str, Callable[[Path], Row]] = {
    "shots": lambda folder: shots(folder, 600, 1),
    "pictures": lambda folder: pictures(folder, 300, 1),
    "messages": lambda folder: messages(folder, 600, 1),
    "databases": lambda folder: databases(folder, 21, 1),
    "kills": lambda folder: kills(folder, 2, 1),
    "floods": lambda folder: floods(folder, 0.3),
}


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_nothing_goes_wrong(tmp_path: Path, name: str) -> None:
    row = CAMPAIGNS[name](tmp_path)
    assert row.is_clean, "\n".join((format_table([row]), *row.examples))
    assert row.trials >= (len(ATTACKS) if name == "floods" else 2)


def test_trials_follow_from_the_seed() -> None:
    value = {"a": [1, {"b": b"x" * 50}], "c": "text"}
    for make in (lambda rng: damaged_bytes(bytes(100), rng), lambda rng: repr(damaged_value(value, rng))):
        first, again = ([make(rng) for _ in range(50)] for rng in (random.Random(3), random.Random(3)))
        assert first == again
        assert len(set(first)) > 10


def test_faults_are_counted(tmp_path: Path) -> None:
    row = Row("faults")
    row.attempt(lambda: 1 / 0, "a division")
    (tmp_path / "log").write_text("INFO fine\nTraceback (most recent call last):\nValueError\n")
    row.read_log(tmp_path / "log")
    assert (row.trials, row.tracebacks, row.is_clean) == (1, 2, False)
    assert "| faults | 1 | 2 | 0 | 0 |" in format_table([row])
