# SPDX-License-Identifier: GPL-3.0-or-later
"""From figures of single clips to means with 95 % intervals, as plain values for JSON, Markdown and plots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from .clips import SPIN
from .image_measures import COLOR_NAMES
from .variants import VARIANTS

Record = Mapping[str, Any]
Row = dict[str, Any]
Estimate = dict[str, Any]
_NAN = float("nan")
_MIN_COUNTED = 0.5  # fraction of a clip's frames whose camera the true video gives, below which it is left out

MAIN_MEASURES = (
    "psnr", "ssim", "lpips", "psnr_covered", "psnr_uncovered", "psnr_new", "end_px", "end_share", "held", "object_px",
    "spread", "gradient", "variance",
)  # fmt: skip
RESULT_MEASURES = tuple(name for name in MAIN_MEASURES if name not in ("object_px", "spread"))
_CONTROL_MEASURES = ("psnr", "ssim", "lpips", "psnr_covered", "psnr_uncovered", "end_px", "gradient")
_DIFFERENCES = (  # title, set, measure, variant, other variant
    ("right tracks − another scene's, PSNR dB", "all", "psnr", "right", "other"),
    ("right tracks − no tracks, PSNR dB", "all", "psnr", "right", "none"),
    ("right tracks − identity destroyed, PSNR dB", "all", "psnr", "right", "destroyed"),
    ("spin set: right tracks − first frame repeated, PSNR dB", "spin", "psnr", "right", "still"),
    ("spin set: right tracks − identity destroyed, PSNR dB", "spin", "psnr", "right", "destroyed"),
    ("model − warp, PSNR dB", "all", "psnr", "right", "warp"),
    ("model − warp on covered pixels, PSNR dB", "all", "psnr_covered", "right", "warp"),
    ("model − warp on uncovered pixels, PSNR dB", "all", "psnr_uncovered", "right", "warp"),
    ("model − inpainted warp on uncovered pixels, PSNR dB", "all", "psnr_uncovered", "right", "inpainted"),
    ("model − warp on newly visible surfaces, PSNR dB", "all", "psnr_new", "right", "warp"),
)


def estimate_mean(values: Iterable[float | None]) -> Estimate:
    """Estimate the mean of the values that are numbers.

    Returns:
        `mean`, NaN without values; `low` and `high`, the 95 % interval, NaN with fewer than two values; `clips`, the
        number of values.
    """
    array = np.array([_NAN if value is None else value for value in values], np.float64)
    array = array[np.isfinite(array)]
    if not len(array):
        return {"mean": _NAN, "low": _NAN, "high": _NAN, "clips": 0}
    low, high = bootstrap_interval(array)
    return {"mean": float(array.mean()), "low": low, "high": high, "clips": len(array)}


def estimate_difference(values: Iterable[float | None], others: Iterable[float | None]) -> Estimate:
    """Estimate the mean difference of paired values, over clips that have both."""
    pairs = [(a, b) for a, b in zip(values, others, strict=True) if a is not None and b is not None]
    return estimate_mean(a - b for a, b in pairs)


def bootstrap_interval(
    values: np.ndarray,  # [N]
    resamples: int = 2000,
) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean; NaN with fewer than two values."""
    if len(values) < 2:
        return _NAN, _NAN
    rng = np.random.default_rng(0)
    result = stats.bootstrap((values,), np.mean, n_resamples=resamples, method="percentile", rng=rng)
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def summarize(result: Mapping[str, Any]) -> dict[str, Any]:
    """Compute the tables of an evaluation: rows with an "id", a "title" and estimates by measure."""
    records: Sequence[Record] = result["clips"]
    total = [record for record in records if not record["extra"]]
    spin = [record for record in records if record["kind"] == SPIN]
    kinds = list(dict.fromkeys(record["kind"] for record in total))
    sets = {"all": total or spin, "spin": spin}
    return {
        "all": variant_rows(sets["all"], MAIN_MEASURES),
        "spin": variant_rows(spin, MAIN_MEASURES),
        "kinds": [_kind_row(kind, [r for r in total if r["kind"] == kind]) for kind in kinds],
        "differences": _difference_rows(sets),
        "camera": _camera_rows(records),
        "camera_clips": {name: len(group) for name, group in _camera_groups(records).items()},
        "text": _text_rows(records),
        "controls": _control_rows(sets["all"], _CONTROL_MEASURES),
        "controls_spin": _control_rows(spin, ("psnr", "ssim", "psnr_covered", "gradient")),
        "trusted": estimate_mean(r["ways"].get("truth", {}).get("trusted") for r in sets["all"]),
        "seconds": estimate_mean(record.get("seconds") for record in records),
    }


def variant_rows(records: Sequence[Record], measures: Iterable[str]) -> list[Row]:
    """Return one row for each variant that was measured."""
    variants = [variant for variant in VARIANTS if records and variant in records[0]["ways"]]
    return [_row(v, VARIANTS[v], [record["ways"][v] for record in records], measures) for v in variants]


def _row(id_: str, title: str, figures: Sequence[Mapping[str, Any]], measures: Iterable[str]) -> Row:
    row: Row = {"id": id_, "title": title, "clips": len(figures)}
    for name in measures:
        if any(name in entry for entry in figures):
            row[name] = estimate_mean(entry.get(name) for entry in figures)
    return row


def _kind_row(kind: str, records: Sequence[Record]) -> Row:
    """Return PSNR by variant for one kind of scenes, and the fraction of covered pixels."""
    row: Row = {"id": kind, "title": kind, "clips": len(records)}
    for variant in VARIANTS:
        if variant in records[0]["ways"] and variant != "truth":
            row[variant] = estimate_mean(record["ways"][variant]["psnr"] for record in records)
    return row | {"covered": estimate_mean(record["covered"] for record in records)}


def _difference_rows(sets: Mapping[str, Sequence[Record]]) -> list[Row]:
    rows = []
    for title, set_, name, variant, other in _DIFFERENCES:
        ways = [record["ways"] for record in sets[set_] if variant in record["ways"] and other in record["ways"]]
        if ways:
            difference = estimate_difference((way[variant][name] for way in ways), (way[other][name] for way in ways))
            rows.append({"id": f"{set_}:{name}:{variant}-{other}", "title": title, "difference": difference})
    return rows


def _camera_groups(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Return the clips whose true video gives the camera, by small and large motion."""
    known = [r for r in records if (r["ways"].get("truth", {}).get("camera_counted") or 0) >= _MIN_COUNTED]
    return {
        "small": [record for record in known if record["movement"]["small"]],
        "large": [record for record in known if not record["movement"]["small"]],
    }


def _camera_rows(records: Sequence[Record]) -> list[Row]:
    """Return camera errors by variant, small and large motions apart."""
    groups = _camera_groups(records)
    known = [*groups["small"], *groups["large"]]
    rows: list[Row] = []
    for variant in (variant for variant in VARIANTS if known and variant in known[0]["ways"]):
        row: Row = {"id": variant, "title": VARIANTS[variant]}
        for name, group in groups.items():
            for measure in ("rotation", "translation", "solved"):
                row[f"{measure}_{name}"] = estimate_mean(r["ways"][variant].get(measure) for r in group)
        rows.append(row)
    return rows


def _text_rows(records: Sequence[Record]) -> list[Row]:
    """Return the accuracy of the color that the text names, and of what it is compared with."""
    texts = [r["text"] for r in records if r.get("text") and r["text"]["truth"] is not None]
    if not texts:
        return []
    named = [text["named"] for text in texts]
    common = max(set(named), key=named.count)
    count = len(texts)
    estimates = {
        ("made", "model, text and tracks only"): estimate_mean(float(t["made"] == t["named"]) for t in texts),
        ("truth", "ground truth (ceiling)"): estimate_mean(float(t["truth"] == t["named"]) for t in texts),
        ("common", f"always {common}"): estimate_mean(float(t["named"] == common) for t in texts),
        ("chance", "chance, one of eight"): {"mean": 1 / len(COLOR_NAMES), "low": _NAN, "high": _NAN, "clips": count},
    }
    return [{"id": i, "title": t, "clips": count, "accuracy": e} for (i, t), e in estimates.items()]


def _control_rows(records: Sequence[Record], measures: Iterable[str]) -> list[Row]:
    names = list(dict.fromkeys(name for record in records for name in record["controls"]))
    return [
        _row(name, name, [r["controls"][name] for r in records if name in r["controls"]], measures) for name in names
    ]
