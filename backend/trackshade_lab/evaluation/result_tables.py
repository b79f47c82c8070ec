# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of results on real scenes as markdown: one per scene, then the mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .measures import COLUMNS
from .report import way_rows
from .results import MEASURES
from .tables import joined, table


def results_markdown(report: Mapping[str, Any]) -> str:
    """Of `evaluate_results`."""
    records = report["clips"]
    parts = ["# Results against the true frames", *report["notes"]]
    for record in records:
        rows = way_rows([record], MEASURES)
        parts += [f"## {record['name']}", f"{record['model']}: “{record['caption']}”. The first frame shows "
                  f"{record['covered']:.0%} of the pixels' points.{_consistency(record)}",
                  table(rows, COLUMNS, "way", interval=False)]  # fmt: skip
    if len(records) > 1:
        parts += [f"## Mean of {len(records)}", table(way_rows(records, MEASURES), COLUMNS, "way")]
    return joined(parts)


def _consistency(record: Mapping[str, Any]) -> str:
    found = record.get("consistency")
    if not found or found.get("result") is None or found.get("input_render") is None:
        return ""
    return (
        f" The color of a visible surface point varies by {found['result']:.1f} of 255 levels, in the input render by "
        f"{found['input_render']:.1f}."
    )
