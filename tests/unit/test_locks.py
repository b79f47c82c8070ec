# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock files of the backend's environment, for every system; their sizes, and whether these are up to date."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from trackshade.config import locks

LOCKS = {
    ("linux", "cuda"): "linux-cuda",
    ("linux", "cpu"): "linux-cpu",
    ("win32", "cuda"): "windows-cuda",
    ("win32", "cpu"): "windows-cpu",
    ("darwin", "mps"): "macos",
    ("darwin", "cpu"): "macos",
}
every_lock = pytest.mark.parametrize("name", sorted(set(LOCKS.values())))


def lock_of(name: str) -> Path:
    return Path(locks.__file__).with_name(f"{name}.txt")


def test_each_system_has_the_locks_of_its_devices() -> None:
    assert {key: locks.path(key[1], key[0]).stem for key in LOCKS} == LOCKS
    for platform, kind in (("linux", "mps"), ("win32", "mps"), ("darwin", "cuda"), ("freebsd14", "cpu")):
        with pytest.raises(KeyError):
            locks.path(kind, platform)


@every_lock
def test_each_lock_has_all_packages_and_the_right_pytorch(name: str) -> None:
    text, pins = lock_of(name).read_text(encoding="utf-8"), locks.pins(lock_of(name))
    assert {"torch", "diffusers", "transformers", "msgpack", "numpy", "pyzmq"} <= set(pins)
    build = {"linux-cpu": "cpu", "windows-cuda": "cu130"}.get(name, "")  # where PyPI has another one
    assert pins["torch"].partition("+")[2] == build
    indexes = re.findall(r"^--extra-index-url (\S+)$", text, re.MULTILINE)
    assert indexes == ([f"https://download.pytorch.org/whl/{build}"] if build else [])
    assert any(package.startswith("nvidia") for package in pins) == (name == "linux-cuda")
    assert ("colorama" in pins) == name.startswith("windows")
    assert "sys_platform" not in text  # each system has its own


@every_lock
def test_sizes_were_measured_when_the_lock_was_changed(name: str) -> None:
    sizes = locks.sizes(lock_of(name))
    assert sizes is not None
    assert set(sizes.packages) == set(locks.pins(lock_of(name)))
    assert all(size > 0 for size in sizes.packages.values())
    assert sizes.download == sum(sizes.packages.values())
    assert sizes.space == 2 * sizes.download + sizes.unpacked
    assert sizes.longest.count("/") > 3


def test_a_machine_without_a_gpu_downloads_no_cuda() -> None:
    sizes = {name: locks.sizes(lock_of(name)) for name in set(LOCKS.values())}
    for name in ("linux-cpu", "windows-cpu", "macos"):
        found = sizes[name]
        assert found is not None
        assert found.download < 600 << 20


def test_a_file_that_was_not_measured_has_no_sizes(tmp_path: Path) -> None:
    assert locks.sizes(tmp_path / "linux-cpu.txt") is None
