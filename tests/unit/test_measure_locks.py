# SPDX-License-Identifier: GPL-3.0-or-later
"""The script that checks the locks for other systems: on wheels of its own, and on the locks where PyPI is reached."""

from __future__ import annotations

import http.server
import sys
import threading
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.version import Version

from trackshade.config import locks

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "addon" / "tools"))  # the script is in no package

import measure_locks

LOCKS = sorted(Path(locks.__file__).parent.glob("*.txt"))


def write_wheel(folder: Path, name: str, *requires: str, python: str = ">=3.11") -> Path:
    """A wheel with a module of 1000 bytes, which cannot be compressed away."""
    package, version = name.split("-")[:2]
    info = f"{package}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\nRequires-Python: {python}"]
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr(f"{package}/a/long/path/to/a/module/of/the/package.py", "#" * 1000)
        archive.writestr(f"{info}/METADATA", "\n".join([*metadata, *(f"Requires-Dist: {text}" for text in requires)]))
    return folder / name


class Ranges(http.server.SimpleHTTPRequestHandler):
    """Serves parts of files, as package indexes do."""

    def do_GET(self) -> None:
        first, last = (int(part) for part in self.headers["Range"].removeprefix("bytes=").split("-"))
        data = Path(self.translate_path(self.path)).read_bytes()[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ranges) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_wheel_is_measured_from_its_end(tmp_path: Path, served: str) -> None:
    path = write_wheel(tmp_path, "big-1.0-py3-none-any.whl", "small>=2")
    facts = measure_locks.measure(f"{served}/{path.name}")
    assert facts == measure_locks.measure(path.as_uri())
    assert facts.download == path.stat().st_size
    assert facts.unpacked > 2 * 1000  # the module, and what Python compiles it to
    assert facts.longest == "big/a/long/path/to/a/module/of/the/package.py"
    assert (facts.requires, facts.requires_python) == (("small>=2",), ">=3.11")


def test_the_best_wheel_of_a_platform_is_chosen() -> None:
    names = [
        "x-1.0-cp311-cp311-win_amd64.whl", "x-1.0-cp313-cp313-win_amd64.whl", "x-1.0-cp311-cp311-macosx_11_0_arm64.whl",
        "x-1.0-cp311-cp311-manylinux_2_28_x86_64.whl", "x-1.0-py3-none-any.whl", "x-1.1-cp311-cp311-win_amd64.whl",
    ]  # fmt: skip
    wheels = tuple(measure_locks.Wheel(name, name) for name in names)

    def chosen(platform: str, python: tuple[int, int], version: str = "1.0") -> str | None:
        found = measure_locks.choose(wheels, Version(version), measure_locks.platform_tags(platform, python))
        return None if found is None else found.name

    assert chosen("windows", (3, 11)) == names[0]
    assert chosen("windows", (3, 13)) == names[1]
    assert chosen("macos", (3, 11)) == names[2]
    assert chosen("linux", (3, 11)) == names[3]
    assert chosen("linux", (3, 12)) == names[4]
    assert chosen("linux", (3, 11), "1.1") is None


def test_requirements_that_a_lock_does_not_meet_are_named(tmp_path: Path) -> None:
    wheels = {
        "app": write_wheel(
            tmp_path, "app-1.0-py3-none-any.whl", "old>=2", 'gone; sys_platform == "win32"', "fast[more]"
        ),
        "old": write_wheel(tmp_path, "old-1.0-py3-none-any.whl"),
        "fast": write_wheel(tmp_path, "fast-1.0-py3-none-any.whl", 'extra-one; extra == "more"', 'other; extra == "x"'),
        "new": write_wheel(tmp_path, "new-1.0-py3-none-any.whl", python=">=3.14"),
    }
    facts = {name: measure_locks.measure(path.as_uri()) for name, path in wheels.items()}
    pins = dict.fromkeys(wheels, Version("1.0"))

    def problems(platform: str) -> list[str]:
        return list(measure_locks.problems_of(pins, facts, measure_locks.marker_values(platform, (3, 11))))

    common = ["app needs old>=2, the lock has 1.0", 'fast needs extra-one; extra == "more", the lock has None',
              "new needs Python >=3.14"]  # fmt: skip
    assert sorted(problems("linux")) == common
    assert sorted(problems("windows")) == sorted(
        [*common, 'app needs gone; sys_platform == "win32", the lock has None']
    )


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("lock", [lock for lock in LOCKS if not lock.stem.endswith("-cpu")], ids=lambda lock: lock.stem)
def test_every_lock_can_be_installed_on_its_system(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For Blender's newest Python. It reads descriptions of packages from PyPI, which takes some seconds.

    The locks without CUDA name the same packages.
    """
    try:
        urllib.request.urlopen(f"{measure_locks.PYPI}/pip/", timeout=10).close()
    except OSError:
        pytest.skip("PyPI cannot be reached")
    monkeypatch.setattr(measure_locks, "PYTHONS", [(3, 13)])
    entry, problems = measure_locks.check_lock(lock, None)
    assert problems == []
    sizes = locks.sizes(lock)
    assert sizes is not None
    measured = {name: size for name, size in entry["packages"].items() if not locks.pins(lock)[name].count("+")}
    assert all(size <= sizes.packages[name] for name, size in measured.items())
