# SPDX-License-Identifier: GPL-3.0-or-later
"""The extension: its manifest and modules obey the platform's rules, and its zips can be built, validated, listed,
installed and updated by Blender's own tool."""

from __future__ import annotations

import contextlib
import functools
import http.server
import io
import json
import platform
import re
import sys
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.utils import parse_wheel_filename

import trackshade
from trackshade.cli.blender import MIN_VERSION

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "addon" / "tools"))  # the build's modules are no package

import build_extension  # noqa: E402
import extension_rules  # noqa: E402
import extension_wheels  # noqa: E402
import guide_pages  # noqa: E402
from extension_wheels import (  # noqa: E402
    PACKAGES,
    PLATFORMS,
    PYTHONS,
    MissingWheelError,
    names_python,
    wheel_rank,
)

ADDON = ROOT / "addon" / "trackshade_addon"
GUIDE = ROOT / "addon" / "guide"
MANIFEST = tomllib.loads((ROOT / "blender_manifest.toml").read_text(encoding="utf-8"))
OWN = f"trackshade-{trackshade.__version__}-py3-none-any.whl"
OWN_FILES = ("trackshade/__init__.py", "trackshade/models/mini/model_index.json")
SMALL = {
    "__init__.py": "from . import panel\n\n\ndef register() -> None:\n    panel.show()\n",
    "panel.py": "show = print\n",
}
HERE = {("Linux", "x86_64"): "linux-x64", ("Windows", "AMD64"): "windows-x64", ("Darwin", "arm64"): "macos-arm64"}


def wheel_file(path: Path, *modules: str) -> Path:
    """A small wheel that Blender can unpack."""
    package, version, _, tags = parse_wheel_filename(path.name)
    info = f"{package}-{version}.dist-info"
    contents = dict.fromkeys(modules, "") | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nTag: {min(map(str, tags))}\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in contents.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in (*contents, f"{info}/RECORD")))
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small add-on in place of the real one."""
    folder = tmp_path_factory.mktemp("addon") / "trackshade_addon"
    folder.mkdir()
    for name, text in {
        **SMALL,
        "bootstrap.py": "import sys\nsys.path.clear()\n",
        "README.md": "for developers",
    }.items():
        (folder / name).write_text(text)
    return folder


def wheels(folder: Path, chosen: str) -> list[Path]:
    """Small wheels with the names of those that an extension for a platform bundles."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {
        extension_wheels.choose_wheel(extension_wheels.read_list(), package, python, chosen)
        for package in PACKAGES
        for python in PYTHONS
    }
    return [wheel_file(folder / OWN, *OWN_FILES), *(wheel_file(folder / name, "module.py") for name in sorted(names))]


# The manifest


def test_the_manifest_obeys_the_platform() -> None:
    assert list(extension_rules.manifest_faults(MANIFEST)) == []
    assert MANIFEST["version"] == trackshade.__version__
    assert MANIFEST["blender_version_min"] == ".".join(map(str, (*MIN_VERSION, 0)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "Blender Trackshade"}, "The name contains Blender's, which is a trade mark."),
        ({"license": ["GPL-3.0-or-later"]}, "The manifest's license is not a list of SPDX identifiers."),
        ({"permissions": {"files": "Look"}}, "The permission network is not asked for."),
    ],
)
def test_a_faulty_manifest_is_told(change: dict[str, object], said: str) -> None:
    assert said in list(extension_rules.manifest_faults({**MANIFEST, **change}))


# The code


def test_every_module_of_the_add_on_obeys_the_platform() -> None:
    paths = [path for path in ADDON.rglob("*.py") if path.name not in build_extension.NOT_IN_BLENDER]
    assert len(paths) > 20
    faults = [
        fault
        for path in sorted(paths)
        for fault in extension_rules.code_faults(str(path.relative_to(ADDON)), path.read_text(encoding="utf-8"))
    ]
    assert faults == []
    for path in paths:
        source = path.read_text(encoding="utf-8")
        assert list(extension_rules.permission_faults(path.name, source, MANIFEST["permissions"])) == []


def test_what_is_used_without_asking_is_told() -> None:
    source = "context.window_manager.clipboard = 'x'"
    assert list(extension_rules.permission_faults("a.py", source, {"files": "Look"})) == [
        "a.py:1 uses the clipboard, and the manifest does not ask for it."
    ]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("bl_info = {'name': 'x'}", "a.py:1 has a bl_info, which the manifest has taken the place of."),
        ("\nimport trackshade_addon.jobs.composer", "a.py:2 imports the add-on by an absolute name."),
        ("from bl_ext.user_default.trackshade import job", "a.py:1 imports the add-on by an absolute name."),
        ("import sys\nsys.path.insert(0, '.')", "a.py:2 touches Python's search path."),
        ("import urllib.request", "a.py:1 imports urllib.request: the add-on's own code opens no connections."),
        ("from urllib import request", "a.py:1 imports urllib.request: the add-on's own code opens no connections."),
        ("import os\nopen(os.path.join(__file__, 'x'), 'w')", "a.py:2 writes beside its own file."),
        ("(Path(__file__).parent / 'log').write_text('')", "a.py:1 writes beside its own file."),
    ],
)
def test_a_faulty_module_is_told(source: str, said: str) -> None:
    assert said in list(extension_rules.code_faults("a.py", source))


@pytest.mark.parametrize("source", ["from . import job", "import urllib.parse", "print(__file__)", "x.write_text('')"])
def test_a_proper_module_is_not(source: str) -> None:
    assert list(extension_rules.code_faults("a.py", source)) == []


# The wheels


@pytest.mark.parametrize("chosen", PLATFORMS)
def test_the_listed_wheels_serve_every_python(chosen: str) -> None:
    names = extension_wheels.read_list()
    used = {extension_wheels.choose_wheel(names, package, python, chosen) for package in PACKAGES for python in PYTHONS}
    assert list(extension_rules.wheel_faults([*used, OWN], chosen)) == []
    fitting = {name for name in names if any(wheel_rank(name, python, chosen) is not None for python in PYTHONS)}
    assert used == fitting  # and there are no others
    assert all(len(digest) == 64 and int(digest, 16) for digest in names.values())


def test_a_wheel_that_is_not_there_is_told_by_name() -> None:
    names = {name: "" for name in extension_wheels.read_list() if "cp314" not in name}
    with pytest.raises(MissingWheelError, match=r"no wheel of msgpack for Python 3\.14 on macos-arm64"):
        extension_wheels.choose_wheel(names, "msgpack", "3.14", "macos-arm64")
    assert extension_wheels.choose_wheel(names, "pyzmq", "3.14", "macos-arm64").split("-")[3] == "abi3"


def test_a_wheel_that_was_changed_is_refused(tmp_path: Path) -> None:
    wheels(tmp_path, "linux-x64")
    with pytest.raises(MissingWheelError, match="its digest differs"):
        extension_wheels.collect_wheels("linux-x64", tmp_path)


@pytest.mark.parametrize(
    ("name", "python", "fits", "named"),
    [
        ("a-1-cp311-cp311-win_amd64.whl", "3.11", True, True),
        ("a-1-cp311-cp311-win_amd64.whl", "3.13", False, False),
        ("a-1-cp312-abi3-win_amd64.whl", "3.13", True, False),
        ("a-1-cp312-abi3-win_amd64.whl", "3.11", False, False),
        ("a-1-py3-none-any.whl", "3.14", True, False),
        ("a-1-cp314-cp314t-win_amd64.whl", "3.14", False, False),
    ],
)
def test_which_python_a_wheel_fits(name: str, python: str, fits: bool, named: bool) -> None:
    assert (wheel_rank(name, python, "windows-x64") is not None, names_python(name, python)) == (fits, named)


def test_numpy_and_foreign_wheels_are_told() -> None:
    names = [OWN, "numpy-2.0-cp311-cp311-win_amd64.whl", "pyzmq-1-cp311-cp311-win_amd64.whl"]
    faults = list(extension_rules.wheel_faults(names, "linux-x64"))
    assert "numpy-2.0-cp311-cp311-win_amd64.whl does not belong there: numpy is Blender's own." in faults
    assert "pyzmq-1-cp311-cp311-win_amd64.whl is not for linux-x64." in faults
    assert "No wheel of msgpack fits Python 3.11." in faults
    assert "No wheel names Python 3.14, so listings would not either." in faults


def test_the_package_is_built_with_what_it_needs_and_nothing_else(tmp_path: Path) -> None:
    source = build_extension.copy_source(tmp_path / "source")
    files = list(build_extension.package_files(source))
    assert "trackshade/models/mini/transformer/diffusion_pytorch_model.safetensors" in files
    assert "trackshade_addon/bootstrap.py" in files
    assert not [name for name in files if "/test" in name or "__pycache__" in name]
    built = build_extension.build_package_wheel(source, tmp_path)
    assert built.name == OWN
    assert list(extension_rules.package_faults(built.read_bytes(), files)) == []
    with zipfile.ZipFile(built) as archive:
        packages = {name.partition("/")[0] for name in archive.namelist() if ".dist-info" not in name}
        assert packages == {"trackshade", "trackshade_addon"}  # training and evaluation are not shipped
        assert {item.date_time for item in archive.infolist()} == {build_extension.DATE}


def test_a_package_with_other_files_is_told() -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("trackshade/__init__.py", "")
        archive.writestr("trackshade/__pycache__/a.pyc", "")
        archive.writestr("trackshade-1.dist-info/RECORD", "")
    assert list(extension_rules.package_faults(data.getvalue(), OWN_FILES)) == [
        "The package lacks trackshade/models/mini/model_index.json.",
        "The package holds trackshade/__pycache__/a.pyc, which does not belong there.",
    ]


# The zips


@pytest.mark.parametrize("chosen", PLATFORMS)
def test_a_zip_is_valid_and_the_same_each_time(chosen: str, small: Path, tmp_path: Path) -> None:
    found = wheels(tmp_path / "wheels", chosen)
    first = build_extension.pack(small, chosen, found, tmp_path / "first")
    (small / "panel.py").touch()  # another date
    second = build_extension.pack(small, chosen, found[::-1], tmp_path / "second")
    assert first.read_bytes() == second.read_bytes()
    build_extension.check(first, OWN_FILES)
    with zipfile.ZipFile(first) as archive:
        names = [name for name in archive.namelist() if not name.startswith("guide/")]
        assert {"guide/panel.html", "guide/images/panel.png"} <= {*archive.namelist()}
        assert sorted(names) == sorted(
            ["__init__.py", "panel.py", "LICENSE", "blender_manifest.toml", *(f"wheels/{path.name}" for path in found)]
        )
        for path in found:
            assert archive.read(f"wheels/{path.name}") == path.read_bytes()
    assert first.name in build_extension.size_table([first])


def test_what_blender_s_tool_refuses_is_told(small: Path, tmp_path: Path) -> None:
    with pytest.raises(build_extension.BuildError, match="semantic-version"):
        build_extension.pack(small, "linux-x64", wheels(tmp_path, "linux-x64"), tmp_path / "made", "1.0")


def test_a_zip_that_breaks_a_rule_is_refused(small: Path, tmp_path: Path) -> None:
    made = build_extension.pack(small, "linux-x64", wheels(tmp_path, "linux-x64")[:-1], tmp_path / "made")
    with zipfile.ZipFile(made, "a") as archive:
        archive.writestr("tests/test_a.py", "bl_info = 1")
    with pytest.raises(build_extension.BuildError) as told:
        build_extension.check(made, OWN_FILES)
    assert "tests/test_a.py does not belong there." in str(told.value)
    assert "tests/test_a.py:1 has a bl_info" in str(told.value)
    assert "No wheel of pyzmq fits Python 3.13." in str(told.value)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """A static web server on loopback; its address."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/index.json"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def versions(small: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Zips of two versions, for all platforms."""
    folder = tmp_path_factory.mktemp("versions")
    bundled = {chosen: wheels(folder / chosen, chosen) for chosen in PLATFORMS}
    return {
        version: [build_extension.pack(small, chosen, bundled[chosen], folder, version) for chosen in PLATFORMS]
        for version in ("0.0.1", "0.0.2")
    }


def test_the_guides_pages_lead_to_each_other(tmp_path: Path) -> None:
    pages = guide_pages.write_pages(ROOT / "addon" / "guide", tmp_path / "guide")
    assert {page.stem for page in pages} == {*guide_pages.PAGES} == {page.stem for page in GUIDE.glob("*.md")}
    texts = {page.name: page.read_text(encoding="utf-8") for page in pages}
    count = 0
    for name, text in texts.items():
        for address in re.findall(r'(?:href|src)="([^"]*)"', text):
            if address.startswith("https:"):
                continue
            page, _, heading = address.partition("#")
            assert (tmp_path / "guide" / (page or name)).is_file(), (name, address)
            assert not heading or f'id="{heading}"' in texts[page or name], (name, address)
            count += 1
    assert count > 150
    assert "<table>" in texts["panel.html"]


def test_links_out_of_the_guide_are_text_and_repeated_headings_differ() -> None:
    body, pictures = guide_pages.convert(
        "# A *b*: c\n\n# A *b*: c\n\n[out](../../docs/models.md) ![p](../images/a.png)\n"
    )
    assert '<h1 id="a-b-c">' in body
    assert '<h1 id="a-b-c-1">' in body
    assert "<p>out <img" in body
    assert 'src="images/a.png"' in body
    assert pictures == ["../images/a.png"]


@pytest.mark.skipif((platform.system(), platform.machine()) not in HERE, reason="no extension for this machine")
@pytest.mark.parametrize("over_http", [True, False])
def test_an_installed_extension_is_updated_from_the_index(
    over_http: bool, versions: dict[str, list[Path]], tmp_path: Path
) -> None:
    repository, local = tmp_path / "repository", tmp_path / "local"
    local.mkdir()

    def update(url: str) -> str:
        build_extension.run_blender_tool("sync", "--local-dir", local, "--remote-url", url)
        build_extension.run_blender_tool("install", "trackshade", "--local-dir", local, "--remote-url", url)
        return tomllib.loads((local / "trackshade" / "blender_manifest.toml").read_text())["version"]

    with served(repository) if over_http else contextlib.nullcontext((repository / "index.json").as_uri()) as url:
        for version, made in versions.items():
            build_extension.publish(made, repository)
            assert update(url) == version
    listing = json.loads((repository / "index.json").read_text())["data"]
    assert [item["archive_url"] for item in listing] == sorted(f"./{path.name}" for path in versions["0.0.2"])
    assert all(set(PYTHONS) <= set(item["python_versions"]) for item in listing)
