# SPDX-License-Identifier: GPL-3.0-or-later
"""Sentences in the panel, broken into lines."""

from __future__ import annotations

import blf
import pytest

from trackshade_addon.ui import drawing

SENTENCE = "Camera 'Kamera für Aufnahme 12' sees nothing in frame 1, 25, 49."


@pytest.mark.parametrize("room", [40.0, 90.0, 200.0, 1000.0])
def test_lines_fit_in_blenders_own_letters_and_nothing_is_lost(room: float) -> None:
    lines = drawing._lines(SENTENCE, room, 11.0)
    blf.size(0, 11.0)
    assert max(blf.dimensions(0, line)[0] for line in lines) <= room
    assert "".join(lines).replace(" ", "") == SENTENCE.replace(" ", "")
    assert (len(lines) == 1) == (room == 1000.0)


def test_a_line_takes_as_many_words_as_fit() -> None:
    assert drawing.wrap("one two three four", 9, len) == ["one two", "three", "four"]
    assert drawing.wrap("", 9, len) == [""]


def test_a_word_that_is_too_long_is_cut() -> None:
    assert drawing.wrap("see /a/long/folder ok", 5, len) == ["see", "/a/lo", "ng/fo", "lder", "ok"]
    assert drawing.wrap("ab", 0, len) == ["a", "b"]  # a sidebar that is drawn together
