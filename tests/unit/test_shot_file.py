# SPDX-License-Identifier: GPL-3.0-or-later
"""The shot's file: round trip, and every kind of damage."""

from __future__ import annotations

import os
import pickle
import signal
import struct
import sys
from pathlib import Path

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers.shots import same, shots, small_shot
from trackshade.core.errors import OutputError, ShotError
from trackshade.shot import Shot
from trackshade.shot.file import MAGIC

same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@same_folder
@given(shots())
def test_round_trip(tmp_path: Path, shot: Shot) -> None:
    assert same(Shot.load(shot.save(tmp_path / "a.shot", force=True)), shot)


def test_a_loaded_shot_outlives_its_file(tmp_path: Path) -> None:
    """Another program writes over the file in place, which would end a process that had it mapped."""
    shot = small_shot()
    path = shot.save(tmp_path / "a.shot")
    loaded = Shot.load(path)
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
        file.truncate(10)
    assert same(loaded, shot)
    assert not loaded.geometries[1].positions.flags.writeable


def test_arrays_are_aligned(tmp_path: Path) -> None:
    path = small_shot().save(tmp_path / "a.shot")
    assert all(item["offset"] % 64 == 0 for item in header_of(path)["arrays"])


def header_of(path: Path) -> dict:
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[8:16])
    return msgpack.unpackb(data[16 : 16 + length])


def rewrite(path: Path, header: dict) -> None:
    """Puts another header of any length in front of the old buffers, offsets as they were."""
    data = path.read_bytes()
    packed = bytes(msgpack.packb(header) or b"")
    start = min(item["offset"] for item in header_of(path)["arrays"])
    assert 16 + len(packed) <= start
    path.write_bytes((MAGIC + struct.pack("<Q", len(packed)) + packed).ljust(start, b"\0") + data[start:])


def test_every_cut_is_found(tmp_path: Path) -> None:
    whole = small_shot(2).save(tmp_path / "a.shot").read_bytes()
    path = tmp_path / "cut.shot"
    for length in [*range(256), *range(256, len(whole), 7), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ShotError) as caught:
            Shot.load(path)
        assert caught.value.code in ("not-a-shot", "damaged-shot"), length
        assert str(path) in str(caught.value)


@same_folder
@given(position=st.integers(0, 10_000), value=st.integers(1, 255))
def test_a_changed_byte_gives_a_shot_or_a_sentence(tmp_path: Path, position: int, value: int) -> None:
    data = bytearray(small_shot(2).save(tmp_path / "a.shot", force=True).read_bytes())
    data[position % len(data)] ^= value
    path = tmp_path / "changed.shot"
    path.write_bytes(data)
    try:
        Shot.load(path).check_values()
    except ShotError as error:
        assert error.message.endswith(".")  # noqa: PT017 - a refusal is one of two right answers


def test_a_newer_file_says_what_to_update(tmp_path: Path) -> None:
    path = small_shot().save(tmp_path / "a.shot")
    data = bytearray(path.read_bytes())
    data[7] = 2
    path.write_bytes(data)
    with pytest.raises(ShotError, match="Update Trackshade") as caught:
        Shot.load(path)
    assert caught.value.code == "shot-too-new"


def test_a_newer_header_says_what_to_update(tmp_path: Path) -> None:
    path = small_shot().save(tmp_path / "a.shot")
    rewrite(path, header_of(path) | {"version": 7})
    with pytest.raises(ShotError) as caught:
        Shot.load(path)
    assert caught.value.code == "shot-too-new"


@pytest.mark.parametrize("offset", [-64, 8, 1 << 40, "0", None])
def test_an_array_elsewhere_is_refused(tmp_path: Path, offset: object) -> None:
    path = small_shot().save(tmp_path / "a.shot")
    header = header_of(path)
    last = header["arrays"][-1]
    last["offset"] = offset
    packed = bytes(msgpack.packb(header) or b"")
    path.write_bytes(MAGIC + struct.pack("<Q", len(packed)) + packed + bytes(4096))
    with pytest.raises(ShotError) as caught:
        Shot.load(path)
    assert caught.value.code == "damaged-shot"


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def test_a_pickle_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    payload = pickle.dumps(Bomb())
    path = tmp_path / "bomb.shot"
    for data in (payload, MAGIC + struct.pack("<Q", len(payload)) + payload):
        path.write_bytes(data)
        with pytest.raises(ShotError):
            Shot.load(path)
    assert not (tmp_path / "unpickled").exists()


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ShotError, match=r"no file .*nowhere\.shot") as caught:
        Shot.load(tmp_path / "nowhere.shot")
    assert caught.value.code == "missing-file"


def test_a_folder_is_not_a_shot(tmp_path: Path) -> None:
    with pytest.raises(ShotError, match="cannot be read"):
        Shot.load(tmp_path)


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "a.shot"
    path.write_bytes(b"precious")
    with pytest.raises(OutputError) as caught:
        small_shot().save(path)
    assert caught.value.code == "output-exists"
    assert path.read_bytes() == b"precious"
    small_shot().save(path, force=True)
    Shot.load(path)


def test_an_unwritable_folder_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputError) as caught:
        small_shot().save(tmp_path / "file" / "a.shot")
    assert caught.value.code == "output-unwritable"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["file"]


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # of modules whose files would end in the middle
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write then fails with an error, as on a full disk
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
        with pytest.raises(OutputError) as caught:
            small_shot(9).save(tmp_path / "a.shot")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert caught.value.code == "output-unwritable"
    assert list(tmp_path.iterdir()) == []
