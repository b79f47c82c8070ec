# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures of single clips to tables of means with 95 % intervals: plain values, for JSON, markdown and plots alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from .color_words import CHANCE
from .held_out import SPIN
from .intervals import Estimate, estimate, paired
from .variants import WAYS

Record = Mapping[str, Any]
Row = dict[str, Any]
MAIN = (
    "psnr", "ssim", "lpips", "psnr_covered", "psnr_uncovered", "psnr_new", "end_px", "end_share", "held", "object_px",
    "spread", "gradient", "variance",
)  # fmt: skip
CONTROL = ("psnr", "ssim", "lpips", "psnr_covered", "psnr_uncovered", "end_px", "gradient")
_ENOUGH = 0.5  # of a clip's frames must give a camera in the true video, or the clip says nothing about cameras
_MOVEMENTS = {"small": True, "large": False}
DIFFERENCES = (  # what is compared: title, set, measure, way, other way
    ("right tracks − another scene's, PSNR dB", "all", "psnr", "right", "other"),
    ("right tracks − no tracks, PSNR dB", "all", "psnr", "right", "none"),
    ("right tracks − identity destroyed, PSNR dB", "all", "psnr", "right", "destroyed"),
    ("spin set: right tracks − first frame repeated, PSNR dB", "spin", "psnr", "right", "still"),
    ("spin set: right tracks − identity destroyed, PSNR dB", "spin", "psnr", "right", "destroyed"),
    ("model − warp, PSNR dB", "all", "psnr", "right", "warp"),
    ("model − warp on covered pixels, PSNR dB", "all", "psnr_covered", "right", "warp"),
    ("model − warp on uncovered pixels, PSNR dB", "all", "psnr_uncovered", "right", "warp"),
    ("model − inpainted warp on uncovered pixels, PSNR dB", "all", "psnr_uncovered", "right", "inpainted"),
    ("model − warp on newly seen surfaces, PSNR dB", "all", "psnr_new", "right", "warp"),
)


def summarise(result: Mapping[str, Any]) -> dict[str, Any]:
    """Tables of an evaluation: each row has an "id", a "title" and estimates by measure."""
    records: Sequence[Record] = result["clips"]
    total = [record for record in records if not record["extra"]]
    spin = [record for record in records if record["kind"] == SPIN]
    kinds = list(dict.fromkeys(record["kind"] for record in total))
    sets = {"all": total or spin, "spin": spin}
    return {
        "all": way_rows(sets["all"], MAIN),
        "spin": way_rows(spin, MAIN),
        "kinds": [_kind_row(kind, [r for r in total if r["kind"] == kind]) for kind in kinds] if total else [],
        "differences": _difference_rows(sets),
        "camera": _camera_rows(records),
        "camera_clips": {name: len(chosen) for name, chosen in _camera_groups(records).items()},
        "text": _text_rows(records),
        "controls": _control_rows(sets["all"], CONTROL),
        "controls_spin": _control_rows(spin, ("psnr", "ssim", "psnr_covered", "gradient")),
        "trusted": asdict(estimate(r["ways"].get("truth", {}).get("trusted") for r in sets["all"])),
        "seconds": asdict(estimate(record.get("seconds") for record in records)),
    }


def way_rows(records: Sequence[Record], measures: Iterable[str]) -> list[Row]:
    """One row per way that these clips were made in."""
    return [
        _row(way, WAYS[way], [record["ways"][way] for record in records], measures)
        for way in WAYS
        if records and way in records[0]["ways"]
    ]


def _row(id_: str, title: str, figures: Sequence[Mapping[str, Any]], measures: Iterable[str]) -> Row:
    found = {name: estimate(f.get(name) for f in figures) for name in measures if any(name in f for f in figures)}
    return {"id": id_, "title": title, "clips": len(figures)} | {name: asdict(e) for name, e in found.items()}


def _kind_row(kind: str, records: Sequence[Record]) -> Row:
    """PSNR by way for one kind of scenes, and how many pixels the warp knows."""
    row: Row = {"id": kind, "title": kind, "clips": len(records)}
    for way in WAYS:
        if way in records[0]["ways"] and way != "truth":
            row[way] = asdict(estimate(record["ways"][way]["psnr"] for record in records))
    return row | {"covered": asdict(estimate(record["covered"] for record in records))}


def _difference_rows(sets: Mapping[str, Sequence[Record]]) -> list[Row]:
    rows = []
    for title, which, name, way, other in DIFFERENCES:
        records = [r for r in sets[which] if way in r["ways"] and other in r["ways"]]
        if records:
            found = paired((r["ways"][way][name] for r in records), (r["ways"][other][name] for r in records))
            rows.append({"id": f"{which}:{name}:{way}-{other}", "title": title, "difference": asdict(found)})
    return rows


def _camera_groups(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Clips of which the true video itself gives the camera, those with small and those with large movements."""
    known = [r for r in records if (r["ways"].get("truth", {}).get("camera_counted") or 0) >= _ENOUGH]
    return {name: [r for r in known if r["movement"]["small"] == small] for name, small in _MOVEMENTS.items()}


def _camera_rows(records: Sequence[Record]) -> list[Row]:
    """Errors by way, small and large movements apart."""
    groups = _camera_groups(records)
    known = [record for chosen in groups.values() for record in chosen]
    if not known:
        return []
    rows: list[Row] = []
    for way in (way for way in WAYS if way in known[0]["ways"]):
        row: Row = {"id": way, "title": WAYS[way]}
        for name, chosen in groups.items():
            for measure in ("rotation", "translation", "solved"):
                row[f"{measure}_{name}"] = asdict(estimate(r["ways"][way].get(measure) for r in chosen))
        rows.append(row)
    return rows


def _text_rows(records: Sequence[Record]) -> list[Row]:
    told = [r["text"] for r in records if r.get("text") and r["text"]["truth"] is not None]
    if not told:
        return []

    def accuracy(id_: str, title: str, right: Callable[[Mapping[str, Any]], bool]) -> Row:
        found = estimate(float(right(text)) for text in told)
        return {"id": id_, "title": title, "clips": len(told), "accuracy": asdict(found)}

    named = [text["named"] for text in told]
    common = max(set(named), key=named.count)
    chance = Estimate(CHANCE, float("nan"), float("nan"), len(told))
    return [
        accuracy("made", "model, text and tracks only", lambda text: text["made"] == text["named"]),
        accuracy("truth", "ground truth (ceiling)", lambda text: text["truth"] == text["named"]),
        accuracy("common", f"always {common}", lambda text: text["named"] == common),
        {"id": "chance", "title": "chance, one of eight", "clips": len(told), "accuracy": asdict(chance)},
    ]


def _control_rows(records: Sequence[Record], measures: Iterable[str]) -> list[Row]:
    names = list(dict.fromkeys(name for record in records for name in record["controls"]))
    return [
        _row(name, name, [r["controls"][name] for r in records if name in r["controls"]], measures) for name in names
    ]
