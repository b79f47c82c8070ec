# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs all campaigns and prints their table.

    python tests/campaigns/run.py [--scale N] [--seed N] [NAME ...]    only the campaigns with NAME in their name

Ends with 1 where something went wrong.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.campaigns.databases import databases  # pyright: ignore[reportMissingImports]
from tests.campaigns.files import pictures, shots  # pyright: ignore[reportMissingImports]
from tests.campaigns.live import floods, kills, messages  # pyright: ignore[reportMissingImports]
from tests.campaigns.results import results  # pyright: ignore[reportMissingImports]
from tests.campaigns.table import Row, format_table  # pyright: ignore[reportMissingImports]

CAMPAIGNS: dict[str, Callable[[Path, float, int], Row]] = {
    "shots": lambda folder, scale, seed: shots(folder, round(20_000 * scale), seed),
    "pictures": lambda folder, scale, seed: pictures(folder, round(5_000 * scale), seed),
    "messages": lambda folder, scale, seed: messages(folder, round(20_000 * scale), seed),
    "databases": lambda folder, scale, seed: databases(folder, round(1_000 * scale), seed),
    "kills": lambda folder, scale, seed: kills(folder, round(50 * scale), seed),
    "results": lambda folder, scale, seed: results(folder, round(20 * scale), seed),
    "floods": lambda folder, scale, _: floods(folder, 10 * scale),
}


def main() -> int:
    """Run the campaigns; return the exit code."""
    parser = argparse.ArgumentParser(description="Run the campaigns.")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the number of trials")
    parser.add_argument("--seed", type=int, default=1)
    values = parser.parse_args()
    rows = []
    for name, campaign in CAMPAIGNS.items():
        if not values.names or any(wanted in name for wanted in values.names):
            with tempfile.TemporaryDirectory() as folder:
                rows.append(campaign(Path(folder), values.scale, values.seed))
            for example in rows[-1].examples:
                print(f"{name}: {example}\n", file=sys.stderr)
    print(format_table(rows))
    return 0 if all(row.is_clean for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
