# SPDX-License-Identifier: GPL-3.0-or-later
"""A small environment to make for real: a lock of three packages, their wheels, and Trackshade's own from the tree."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import trackshade
from trackshade import __version__

PACKAGES = ("msgpack", "numpy", "pyzmq")


def write_lock(path: Path) -> Path:
    path.write_text("".join(f"{name}=={metadata.version(name)}\n" for name in PACKAGES))
    return path


def download_wheels(folder: Path, lock: Path) -> Path:
    """The wheels of the lock for this Python. Skips where they cannot be had."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--only-binary=:all:",
        "-d",
        folder,
        "-r",
        lock,
    ]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no wheels to be had: {done.stderr[-300:]}")
    return folder


def build_wheel(folder: Path, version: str = __version__) -> Path:
    """A wheel of the source tree, without the embedded model's weights; `version` replaces its version."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"trackshade-{version}-py3-none-any.whl"
    info = f"trackshade-{version}.dist-info"
    source = Path(trackshade.__file__).parent
    files = {
        f"trackshade/{item.relative_to(source).as_posix()}": item.read_bytes()
        for item in sorted(source.rglob("*"))
        if item.suffix in (".py", ".txt", ".json")
    }
    files["trackshade/__init__.py"] = files["trackshade/__init__.py"].replace(__version__.encode(), version.encode())
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: trackshade\nVersion: {version}\n".encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = [f"{name},sha256={_digest(data)},{len(data)}" for name, data in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
