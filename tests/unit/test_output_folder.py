# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders for results: nobody gets the same one, and what stays empty is removed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from trackshade.client.output_folder import OutputFolder
from trackshade.config import registry
from trackshade.core.errors import OutputError

SPEC = registry.spec("mini")


def test_names_go_on_where_they_are_taken(tmp_path: Path) -> None:
    plain = [OutputFolder.reserve(tmp_path / "new", "a", SPEC).path.name for _ in range(3)]
    assert plain == ["a", "a-2", "a-3"]
    numbered = [OutputFolder.reserve(tmp_path, "b", SPEC, numbered=True).path.name for _ in range(2)]
    assert numbered == ["b-001", "b-002"]


def test_nobody_gets_the_same_folder(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: OutputFolder.reserve(tmp_path, "a", SPEC, numbered=True).path, range(64)))
    assert len(set(found)) == 64
    assert all(path.is_dir() for path in found)


def test_an_empty_reserved_folder_is_removed_and_a_result_stays(tmp_path: Path) -> None:
    with OutputFolder.reserve(tmp_path, "a", SPEC) as out:
        assert out.path.is_dir()
    assert not out.path.exists()
    with OutputFolder.reserve(tmp_path, "a", SPEC) as out:
        (out.path / "job.json").touch()
    assert (out.path / "job.json").is_file()


def test_another_folder_is_reserved_where_somebody_took_it(tmp_path: Path) -> None:
    with OutputFolder.reserve(tmp_path, "a", SPEC) as out:
        (out.path / "theirs").touch()
        assert out.reserve_next()
        assert out.path.name == "a-2"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    named = OutputFolder.choose(str(tmp_path / "b"), tmp_path, "c", SPEC, force=False)
    assert not named.reserve_next()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_place_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for parent in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="cannot be written") as caught:
            OutputFolder.reserve(parent, "a", SPEC, fix="Choose another one.")
        assert (caught.value.code, caught.value.fix) == ("output-unwritable", "Choose another one.")


def test_a_path_that_is_too_long_is_told_before_any_work(tmp_path: Path) -> None:
    # The name of a folder has some letters more until the result is complete.
    for path in (tmp_path / ("x" * 240), tmp_path / "new" / ("x" * 256), Path(f"{tmp_path}{'/sub' * 1020}")):
        with pytest.raises(OutputError, match="too long") as caught:
            OutputFolder.choose(str(path), tmp_path, "a", SPEC, force=False)
        assert caught.value.code == "output-unwritable"
    assert list(tmp_path.iterdir()) == []


def test_a_reserved_folder_on_a_full_disk_is_removed(tmp_path: Path) -> None:
    huge = replace(SPEC, sizes=((1 << 24, 1 << 24),))
    with pytest.raises(OutputError) as caught:
        OutputFolder.reserve(tmp_path, "a", huge)
    assert caught.value.code == "output-full"
    assert list(tmp_path.iterdir()) == []
