# SPDX-License-Identifier: GPL-3.0-or-later
"""`trackshade export --chunk`: a part of a frame range, so that several machines capture one shot."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from trackshade.config import parsing
from trackshade.core.errors import UsageError

_TOLERANCE = 1e-6  # frames


def values_of_chunk(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of an export with the frames of its chunk, if it has one.

    Only the chunk with the first frame of the range renders or takes the first frame's picture.

    Raises:
        UsageError: "bad-chunk", or "chunk-refused" for options whose meaning depends on the whole range.
    """
    text = values.get("chunk")
    if text is None:
        return dict(values)
    found = re.fullmatch(r"([+-]?\d+):(\d+)", text)
    if found is None or int(found[2]) < 1:
        raise UsageError("bad-chunk", f"'{text}' is not a part of a frame range.", "Write it as FIRST:COUNT, 11:10.")
    start, end, step = parsing.parse_frame_range(values["frames"])
    if start is None or end is None:
        raise UsageError("bad-chunk", "--chunk needs the whole range of frames.", "Name it with --frames A-B.")
    step = step or 1.0
    first, last = float(found[1]), min(float(found[1]) + int(found[2]) - 1, end)
    offset = (first - start) / step
    if not start <= first <= end or abs(offset - round(offset)) > _TOLERANCE:
        raise UsageError(
            "bad-chunk",
            f"No part of the frames {values['frames']} begins at frame {found[1]}.",
            "With a step, let the parts be a multiple of it long.",
        )
    refused = {"--camera auto": values["camera"] == "auto", "--orbit": values["orbit"], "--model": values["model"]}
    for name, is_given in refused.items():
        if is_given:
            raise UsageError(
                "chunk-refused", f"{name} goes by the whole range of frames, not by a part of it.", "Leave one out."
            )
    picture = values["first_frame"] if first == start else "none"
    return {**values, "frames": f"{first:g}-{last:g}:{step:g}", "first_frame": picture}
