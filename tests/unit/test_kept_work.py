# SPDX-License-Identifier: GPL-3.0-or-later
"""What an interrupted job has left is used again, and made again where it is damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trackshade.core.images import write_png
from trackshade.results.frames import frame_path, is_whole
from trackshade.server.propagate import KeptWork

IMAGES = np.arange(2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 4, 6, 3)


@pytest.mark.parametrize("left", [None, b"", b"\x93NUMPY", b"no array at all", "half"])
def test_images_that_are_damaged_are_made_again(left: bytes | str | None, tmp_path: Path) -> None:
    KeptWork(tmp_path / "job", b"digest").images("model", lambda: IMAGES)
    path = tmp_path / "job" / ".kept" / "model.npy"
    if left is not None:
        path.write_bytes(path.read_bytes()[:160] if isinstance(left, str) else left)
    calls: list[int] = []

    def make() -> np.ndarray:
        calls.append(1)
        return IMAGES

    for _ in range(2):
        np.testing.assert_array_equal(KeptWork(tmp_path / "job", b"digest").images("model", make), IMAGES)
    assert len(calls) == (0 if left is None else 1)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"0 0.5\n1 0.25\n", {0: 0.5, 1: 0.25}),
        (b"0 0.5\n1 0.2", {0: 0.5}),
        (b"\xff\x00\n0 0.5\n1 x\n2 1 3\n", {0: 0.5}),
    ],
)
def test_lines_that_are_damaged_are_left_out(text: bytes, found: dict[int, float], tmp_path: Path) -> None:
    KeptWork(tmp_path / "job", b"digest")
    (tmp_path / "job" / ".kept" / "frames").write_bytes(text)
    assert KeptWork(tmp_path / "job", b"digest").unseen == found


def test_a_frame_that_cannot_be_decoded_is_not_whole(tmp_path: Path) -> None:
    path = frame_path(tmp_path, 0, "png")
    path.parent.mkdir()
    assert not is_whole(path)
    write_png(path, IMAGES[0])
    assert is_whole(path)
    path.write_bytes(path.read_bytes()[:60])
    assert not is_whole(path)
