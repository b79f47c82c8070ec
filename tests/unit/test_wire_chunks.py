# SPDX-License-Identifier: GPL-3.0-or-later
"""Manifests are read strictly; names from messages cannot leave a folder; endpoints and files are kept private."""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackshade.core.errors import ProtocolError, UsageError
from trackshade.ipc import CHUNK_BYTES, ArrayEntry, Manifest, chunk_count, connection_files
from trackshade.ipc.chunks import SMALL_BYTES, raw_bytes
from trackshade.ipc.connection_files import ConnectionInfo
from trackshade.ipc.endpoints import check_bind
from trackshade.ipc.protocol import is_file_name, is_job_id

DIGEST = bytes(range(32))


def entry(dtype: str, *shape: int) -> ArrayEntry:
    nbytes = math.prod(shape) * int(dtype[2:])
    return ArrayEntry(dtype, shape, (DIGEST,) * chunk_count(nbytes))


def test_a_manifest_survives() -> None:
    manifest = Manifest(
        {"version": 1},
        (entry("<f4", 3, 400_000), ArrayEntry("<f8", (10,), ()), entry("<f4", 0, 3)),
        entry("|u1", 80),
        entry("|u1", 64, 96, 3),
        entry("|u1", 9, 64, 96, 3),
    )
    assert Manifest.from_dict(json_like(manifest.to_dict())) == manifest
    assert (
        sum(size for e in manifest.entries() for _, size in e.chunk_sizes()) == 3 * 400_000 * 4 + 80 + 10 * 64 * 96 * 3
    )


def test_pictures_and_light_travel_and_older_sides_do_not_see_their_names() -> None:
    plain = Manifest({"version": 1}, ())
    assert set(plain.to_dict()) == {"shot", "arrays", "packed", "first_frame", "input_render"}
    assert Manifest.from_dict(json_like(plain.to_dict())) == plain
    keys = {7: entry("|u1", 8, 12, 3), 2: entry("|u1", 64, 96, 3)}
    references = (entry("|u1", 20, 10, 3), entry("|u1", 5, 6, 3))
    full = Manifest({"version": 1}, (), light=entry("<f2", 9, 32, 48, 3), keys=keys, references=references)
    assert Manifest.from_dict(json_like(full.to_dict())) == full
    assert len(full.entries()) == 5


@pytest.mark.parametrize(
    "damaged",
    [
        {"light": entry("|u1", 9, 32, 48, 3).to_dict()}, {"light": entry("<f2", 9, 32, 48, 4).to_dict()},
        {"keys": {}}, {"keys": [[0]]}, {"keys": [[0, None]]}, {"keys": [[-1, entry("|u1", 8, 12, 3).to_dict()]]},
        {"keys": [["0", entry("|u1", 8, 12, 3).to_dict()]]}, {"keys": [[0, entry("|u1", 8, 12).to_dict()]]},
        {"keys": [[0, entry("|u1", 8, 12, 3).to_dict()]] * 2}, {"more": None},
        {"references": {}}, {"references": [None]}, {"references": [entry("|u1", 8, 12).to_dict()]},
    ],
)  # fmt: skip
def test_damaged_pictures_and_light_are_refused(damaged: dict) -> None:
    with pytest.raises(ProtocolError, match="manifest is damaged"):
        Manifest.from_dict(json_like({**Manifest({"version": 1}, ()).to_dict(), **damaged}))


def json_like(value: object) -> object:
    """Lists for tuples, as msgpack returns them."""
    if isinstance(value, dict):
        return {key: json_like(item) for key, item in value.items()}
    return [json_like(item) for item in value] if isinstance(value, list | tuple) else value


@given(st.integers(0, 3 * CHUNK_BYTES))
def test_chunks_cover_an_array_exactly(nbytes: int) -> None:
    sizes = [size for _, size in entry("|u1", nbytes).chunk_sizes()]
    assert sum(sizes) == nbytes
    assert all(size == CHUNK_BYTES for size in sizes[:-1])
    assert all(size > 0 for size in sizes)


@pytest.mark.parametrize(
    "change",
    [
        {"arrays": None},
        {"arrays": [{}]},
        {"arrays": [entry("<f4", 3).to_dict() | {"chunks": [DIGEST, DIGEST]}]},
        {"arrays": [entry("<f4", SMALL_BYTES).to_dict() | {"chunks": []}]},
        {"arrays": [ArrayEntry("<f4", (3,), ()).to_dict()]},  # nothing is packed
        {"arrays": [entry("<f4", 3).to_dict() | {"chunks": ["text"]}]},
        {"arrays": [entry("<f4", 3).to_dict() | {"shape": [-3]}]},
        {"arrays": [entry("<f4", 3).to_dict() | {"dtype": "|O8"}]},
        {"packed": entry("|u1", 10).to_dict()},  # of no array
        {"first_frame": entry("<f4", 2, 2, 3).to_dict()},
        {"first_frame": entry("|u1", 2, 2, 4).to_dict()},
        {"input_render": entry("|u1", 2, 2, 3).to_dict()},
        {"shot": []},
        {"extra": 1},
    ],
)
def test_a_damaged_manifest_is_refused(change: dict) -> None:
    good = Manifest({}, ()).to_dict()
    Manifest.from_dict(good)
    with pytest.raises(ProtocolError) as caught:
        Manifest.from_dict(good | change)
    assert caught.value.code == "malformed-manifest"


def test_raw_bytes_are_the_arrays_own() -> None:
    array = np.arange(12, dtype="<f4").reshape(3, 4)
    assert np.shares_memory(np.frombuffer(raw_bytes(array), np.uint8), array)
    assert len(raw_bytes(np.empty((0, 3), "<f4"))) == 0
    with pytest.raises(ValueError, match="C-contiguous"):
        raw_bytes(array[:, ::2])
    with pytest.raises(ValueError, match="little-endian"):
        raw_bytes(array.astype(">f4"))


@given(st.text(max_size=40) | st.text("./\\ab:~\0 ", max_size=20))
def test_a_file_name_stays_in_its_folder(name: str) -> None:
    if is_file_name(name):
        assert ".." not in PurePosixPath(name).parts
        assert not PurePosixPath(name).is_absolute()
        assert not PureWindowsPath(name).drive
        assert not PureWindowsPath(name).root
        assert os.path.normpath(os.path.join("/r", name)) == f"/r/{name}"


@pytest.mark.parametrize("name", ["frames/0001.png", "job.json", "video.mp4", "a/b/c/d", "Каме́ра/frames/0001.png"])
def test_file_names_that_are_fine(name: str) -> None:
    assert is_file_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a//b",
        "a\\b",
        "c:x",
        "con",
        "NUL.png",
        "com\u00b9",
        ".ssh",
        "a.",
        "a\n",
        "a/b/c/d/e",
        "\u0301",
        "a\u202eb",
        "a\ud800",
    ],
)
def test_file_names_that_are_not(name: str) -> None:
    assert not is_file_name(name)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".x", "a b", "x" * 65, "con", "a\n"])
def test_job_ids_that_are_not(name: str) -> None:
    assert not is_job_id(name)
    assert is_job_id("3f2a-B_7")


@pytest.mark.parametrize("endpoint", ["ipc:///tmp/x", "tcp://127.0.0.1:*", "tcp://127.0.0.1:7000", "tcp://[::1]:7000"])
def test_local_endpoints_are_fine(endpoint: str) -> None:
    check_bind(endpoint, curve=False)


@pytest.mark.parametrize("endpoint", ["tcp://0.0.0.0:7000", "tcp://*:7000", "tcp://10.0.0.1:7000", "tcp://host:7000"])
def test_open_endpoints_need_keys(endpoint: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_bind(endpoint, curve=False)
    assert caught.value.code == "open-endpoint"
    check_bind(endpoint, curve=True)


@pytest.mark.parametrize(
    "endpoint", ["", "ipc://", "ipc://" + "x" * 200, "udp://1.2.3.4:5", "tcp://1.2.3.4", "tcp://1.2.3.4:99999"]
)
def test_endpoints_that_are_none(endpoint: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_bind(endpoint, curve=True)
    assert caught.value.code == "bad-endpoint"


def test_the_connection_file_is_its_owners_only(tmp_path: Path) -> None:
    path, info = tmp_path / "sub" / "backend.json", ConnectionInfo("ipc:///x", "secret", os.getpid(), "0.1", 1)
    assert connection_files.read(path) is None
    connection_files.write(path, info)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert connection_files.read(path) == info
    assert info.is_alive()
    connection_files.remove(path, os.getpid() + 1)
    assert path.exists()
    connection_files.remove(path, os.getpid())
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"endpoint": "x"}), "\0"])
def test_a_damaged_connection_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "f").write_text(content)
    with pytest.raises(ProtocolError) as caught:
        connection_files.read(tmp_path / "f")
    assert str(tmp_path / "f") in caught.value.message
