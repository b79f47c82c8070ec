# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trackshade.core import atomic_files
from trackshade.core.atomic_files import atomic_file, atomic_folder, delete_temporaries, write_bytes, write_json
from trackshade.core.errors import OutputError


def test_a_file_appears_when_the_block_ends_and_keeps_its_suffix(tmp_path: Path) -> None:
    path = tmp_path / "new" / "clip.mp4"
    with atomic_file(path, sync=True) as temporary:
        temporary.write_bytes(b"pixels")
        assert temporary.suffix == ".mp4"
        assert not path.exists()
    assert path.read_bytes() == b"pixels"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def write() -> None:
        with atomic_file(path) as temporary:
            temporary.write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_killed_processes_have_begun_is_deleted(tmp_path: Path) -> None:
    kept = {"frames/0001.png", ".kept/job", ".0a.png", ".hidden"}
    begun = {"frames/.0002.0123abcd.png", ".kept/.x.89abcdef.npy", ".a.partial-01234567/b", "c/.d.old-01234567/e"}
    for name in kept | begun:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    code = (
        "import os, sys; from pathlib import Path; from trackshade.core.atomic_files import atomic_file\n"
        "with atomic_file(Path(sys.argv[1])) as path: path.touch(); os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "frames" / "0003.png")], check=False)
    assert len(list((tmp_path / "frames").iterdir())) == 3
    delete_temporaries(tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} == kept


def fill(folder: Path, word: str) -> None:
    (folder / "a").mkdir()
    (folder / "a" / "b.txt").write_text(word)


def word(folder: Path) -> str:
    return (folder / "a" / "b.txt").read_text()


def test_a_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "result"
    for text in ("first", "second"):
        with atomic_folder(path) as temporary:
            fill(temporary, text)
        assert word(path) == text
        assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_not_replaced_by_a_folder_and_an_empty_folder_is(tmp_path: Path) -> None:
    path = tmp_path / "result"
    path.write_text("a file")
    with pytest.raises(OSError, match=r"."), atomic_folder(path) as temporary:
        fill(temporary, "a folder")
    assert path.read_text() == "a file"
    (tmp_path / "empty").mkdir()
    with atomic_folder(tmp_path / "empty", replace=False) as temporary:
        fill(temporary, "filled")
    assert word(tmp_path / "empty") == "filled"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_that_may_not_be_replaced_stays(tmp_path: Path) -> None:
    path = tmp_path / "result"
    path.mkdir()
    fill(path, "old")
    with pytest.raises(OSError, match=r"."), atomic_folder(path, replace=False) as temporary:
        fill(temporary, "new")
    assert word(path) == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "result"
    path.mkdir()
    fill(path, "old")

    def write() -> None:
        with atomic_folder(path) as temporary:
            fill(temporary, "new")
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        write()
    assert word(path) == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_killed_writers_left_is_deleted_by_a_single_writer(tmp_path: Path) -> None:
    left, other = tmp_path / ".result.partial-0", tmp_path / ".another.partial-0"
    left.mkdir()
    other.mkdir()
    with atomic_folder(tmp_path / "result"):
        assert left.exists()
    with atomic_folder(tmp_path / "result", single_writer=True):
        assert not left.exists()
    assert sorted(tmp_path.iterdir()) == [other, tmp_path / "result"]


def test_the_old_folder_comes_back_where_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, previous = tmp_path / "result", tmp_path / "result.old"
    path.mkdir()
    fill(path, "old")
    rename = os.rename

    def failing(source: Path, target: Path) -> None:
        if target == path and source != previous:
            raise OSError(5, "the disk is broken")
        rename(source, target)

    monkeypatch.setattr(atomic_files.os, "rename", failing)
    with pytest.raises(OSError, match="broken"), atomic_folder(path, previous=previous) as temporary:
        fill(temporary, "new")
    assert word(path) == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_modes_follow_the_umask_unless_a_file_is_private(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "plain", b"1")
        write_bytes(tmp_path / "secret", b"2", private=True)
    finally:
        os.umask(before)
    assert (tmp_path / "plain").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_json_that_cannot_be_written_is_an_error_for_the_user(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"ä": [1]})
    assert (tmp_path / "a.json").read_text() == '{\n "\\u00e4": [\n  1\n ]\n}'
    with pytest.raises(OutputError) as caught:
        write_json(tmp_path / "a.json" / "b.json", {})
    assert caught.value.code == "unwritable"
