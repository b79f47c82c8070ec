# SPDX-License-Identifier: GPL-3.0-or-later
# It runs in an interpreter of its own, which has mediapipe and neither Trackshade nor its other packages.
# pyright: reportMissingImports=false
"""Finds a person's hands and silhouette in pictures by mediapipe's pose network, as a program of its own.

The arguments are the width and the height of the pictures. Standard input has one picture after the other, uint8 RGB;
standard output gets a line of JSON for each: {"left": [x, y], "right": null, "mask": "..."}. Places of hands are in
pixels, null for one that is not seen; the mask has a bit for each pixel, packed row by row and in base64, null if there
is nobody. The first line is {"ready": true}.
"""

import base64
import json
import os
import sys
from typing import Any

_WRISTS, _KNUCKLES = (15, 16), ((17, 19), (18, 20))  # landmarks: wrists, little and index fingers, left and right
_SEEN = 0.5  # least visibility of what is used


def main() -> None:
    """Answer pictures until standard input ends."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    import mediapipe
    import numpy as np

    width, height = int(sys.argv[1]), int(sys.argv[2])
    # Frames are an eighth of a second apart: landmarks are not smoothed over them.
    options = {"model_complexity": 1, "smooth_landmarks": False, "enable_segmentation": True,
               "smooth_segmentation": False}  # fmt: skip
    with mediapipe.solutions.pose.Pose(**options) as pose:
        _write(out, {"ready": True})
        while len(data := sys.stdin.buffer.read(3 * width * height)) == 3 * width * height:
            found = pose.process(np.frombuffer(data, np.uint8).reshape(height, width, 3))
            mask = found.segmentation_mask
            bits = None if mask is None else base64.b64encode(np.packbits(mask > 0.5).tobytes()).decode()
            left, right = (_middle(found.pose_landmarks, side, width, height) for side in range(2))
            _write(out, {"left": left, "right": right, "mask": bits})


def _middle(found: Any, side: int, width: int, height: int) -> "list[float] | None":
    """Return the middle of a hand, between the wrist and the knuckles."""
    if found is None:
        return None
    wrist, *knuckles = [found.landmark[index] for index in (_WRISTS[side], *_KNUCKLES[side])]
    if min(point.visibility for point in (wrist, *knuckles)) < _SEEN:
        return None
    x = 0.5 * wrist.x + 0.25 * (knuckles[0].x + knuckles[1].x)
    y = 0.5 * wrist.y + 0.25 * (knuckles[0].y + knuckles[1].y)
    return [round(x * width, 2), round(y * height, 2)]


def _write(out: Any, value: Any) -> None:
    out.write(json.dumps(value) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
