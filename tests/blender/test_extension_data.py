# SPDX-License-Identifier: GPL-3.0-or-later
"""What earlier versions kept in the extension's folder is moved out of it, once and whole, and scenes find it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import bpy
import numpy as np
import pytest

from tests.helpers.place_results import make_result, new_scene, numbered
from trackshade import __version__
from trackshade.core import folders
from trackshade.core.errors import CancelledError
from trackshade.ipc import PROTOCOL, connection_files
from trackshade.ipc.connection_files import ConnectionInfo
from trackshade_addon import relocation
from trackshade_addon.backend import environment, extension_data, moving
from trackshade_addon.backend.environment import BackendPrefs, Environment
from trackshade_addon.backend.extension_data import Moved
from trackshade_addon.backend.tasks import CancellableTask
from trackshade_addon.placement import place, remove_result
from trackshade_addon.placement.collection import PLATE_KEY
from trackshade_addon.placement.moved_results import update_paths

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[2]
SHM = Path("/dev/shm")
needs_another_disk = pytest.mark.skipif(
    not SHM.is_dir() or shutil.disk_usage(SHM).free < 1 << 26, reason="needs a second file system"
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folders inside the test's own."""
    monkeypatch.setenv("TRACKSHADE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TRACKSHADE_RESULTS", str(tmp_path / "documents"))
    monkeypatch.delenv("TRACKSHADE_MODELS", raising=False)
    return tmp_path


@pytest.fixture
def other_disk() -> Iterator[Path]:
    folder = SHM / f"trackshade-{os.getpid()}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def fill(data: Path, results: bool = True, environments: bool = True) -> dict[str, bytes]:
    """What an earlier version kept: two results, and a small environment with its marker. The results' contents."""
    if results:
        for name in ("scene-001", "scène 2"):
            make_result(data / "shaded" / name, numbered(2), [1, 2])
    if environments:
        venv.create(data / "backend" / "env-a1b2c3", with_pip=False)
        value = {"environment": "env-a1b2c3", "kind": "cpu", "version": __version__, "lock": "x", "probe": {}}
        (data / "backend" / "environment.json").write_text(json.dumps(value))
        (data / "backend" / "setup.lock").touch()
    return contents(data / "shaded")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def runs(made: Environment | None) -> bool:
    """Whether the Python of an environment runs, and from where it is."""
    if made is None:
        return False
    done = subprocess.run([made.python, "-I", "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True)
    return Path(done.stdout.strip()) == made.folder


def current() -> Environment | None:
    return environment.find_environment(folders.environments_dir())


def copy_over(data: Path, task: CancellableTask | None = None, report: Callable[..., None] = lambda *_: None) -> Moved:
    return extension_data.move(data, folders.unsaved_results_dir(), report, task or CancellableTask())


def rename_over(data: Path) -> Moved:
    return extension_data.move(data, folders.unsaved_results_dir())


def test_results_and_environment_are_moved_out_once(here: Path) -> None:
    data = here / "extension"
    files = fill(data)
    (here / "documents" / "scene-001").mkdir(parents=True)  # there is one of that name already
    assert extension_data.has_data(data)
    moved = rename_over(data)
    assert (moved.results, moved.environments, moved.error, moved.to_copy) == (
        here / "documents", here / "home" / "backend", None, False)  # fmt: skip
    assert not data.exists()
    assert contents(here / "documents") == {name.replace("001/", "001-2/"): data for name, data in files.items()}
    assert runs(current())
    assert extension_data.moved_results() == {
        data / "shaded" / "scene-001": here / "documents" / "scene-001-2",
        data / "shaded" / "scène 2": here / "documents" / "scène 2",
    }
    assert rename_over(data) == Moved()


def test_a_second_blender_s_environment_is_not_needed_any_more(here: Path) -> None:
    fill(here / "4.5", results=False)
    fill(here / "5.3", results=False)
    rename_over(here / "4.5")
    first = current()
    moved = rename_over(here / "5.3")
    assert moved.environments is None
    assert moved.to_copy  # deleting it takes its time
    assert runs(environment.find_environment(here / "5.3" / "backend"))
    copy_over(here / "5.3")
    assert not (here / "5.3").exists()
    assert current() == first
    assert runs(first)


@needs_another_disk
def test_to_another_disk_it_is_copied(here: Path, other_disk: Path) -> None:
    data = other_disk / "extension"
    files = fill(data)
    moved = rename_over(data)
    assert moved.to_copy
    assert (moved.results, moved.environments) == (None, None)
    assert contents(data / "shaded") == files
    prefs = BackendPrefs(home=folders.environments_dir(), earlier=data / "backend", kind="cpu")
    assert prefs.python() == str(data / "backend" / "env-a1b2c3" / "bin" / "python")  # used from where it is
    shares: list[float] = []
    moved = copy_over(data, report=lambda share, words: shares.append(share))
    assert (moved.results, moved.environments) == (here / "documents", here / "home" / "backend")
    assert shares
    assert contents(here / "documents") == files
    assert not data.exists()
    assert runs(prefs.environment())
    assert prefs.python() == str(here / "home" / "backend" / "env-a1b2c3" / "bin" / "python")


@needs_another_disk
@pytest.mark.parametrize("after", [1, 3, 7, 12])
def test_cancelled_it_stays_where_it_was(here: Path, other_disk: Path, after: int) -> None:
    data, task, told = other_disk / "extension", CancellableTask(), []
    files = fill(data)

    def report(share: float, words: str) -> None:
        told.append(share)
        if len(told) == after:
            task.cancel()

    with pytest.raises(CancelledError):
        copy_over(data, task, report)
    whole = {**contents(here / "documents"), **contents(data / "shaded")}
    assert whole == files
    assert not list(here.rglob(f"{moving.PART}*"))
    assert runs(BackendPrefs(home=folders.environments_dir(), earlier=data / "backend").environment())
    copy_over(data)
    assert contents(here / "documents") == files
    assert not data.exists()


@needs_another_disk
@pytest.mark.parametrize("elsewhere", [False, pytest.param(True, marks=pytest.mark.long)])
def test_ended_at_any_point_it_is_whole_and_goes_on_the_next_time(
    here: Path, other_disk: Path, elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies before the n-th change to the disk, for every n."""
    template = here / "template"
    fill(template)
    files = contents(template / "shaded")
    base = other_disk if elsewhere else here
    for number in range(1, 400):
        for folder in (here / "home", here / "documents", base / "extension"):
            shutil.rmtree(folder, ignore_errors=True)
        data = Path(shutil.copytree(template, base / "extension", symlinks=True))
        child = os.fork()
        if child == 0:
            _die_at(number)
            try:
                rename_over(data)
                copy_over(data)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        died = os.waitstatus_to_exitcode(status) == 9
        results = [path.name for path in (data / "shaded").glob("*/job.json")]
        assert len(results) <= 2
        kept = contents(here / "documents") if (here / "documents").is_dir() else {}
        old = contents(data / "shaded") if (data / "shaded").is_dir() else {}
        kept = {name: value for name, value in kept.items() if not name.startswith(".")}
        assert all(kept.get(name, old.get(name)) == value for name, value in files.items())
        assert BackendPrefs(home=folders.environments_dir(), earlier=data / "backend").environment() is not None
        rename_over(data)
        copy_over(data)
        assert set(contents(here / "documents")) == set(files), number
        assert not data.exists()
        assert current() is not None
        if not died:
            return
    raise AssertionError("it never came to its end")


def _die_at(number: int) -> None:
    """Ends this process, as by a signal, before the n-th rename, deletion or finished copy."""
    left = [number]

    def dying(call: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object, **values: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                os._exit(9)
            return call(*arguments, **values)

        return counted

    for owner, name in ((os, "rename"), (os, "replace"), (os, "rmdir"), (shutil, "copystat"), (Path, "unlink"),
                        (shutil, "rmtree")):  # fmt: skip
        setattr(owner, name, dying(getattr(owner, name)))


def test_what_cannot_be_moved_is_said_and_used_where_it_is(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKSHADE_RESULTS", "/proc/trackshade")
    data = here / "extension"
    files = fill(data)
    moved = rename_over(data)
    assert moved.error is not None
    assert moved.error.code == "not-moved"
    assert str(data) in str(moved.error)
    assert contents(data / "shaded") == files
    assert runs(current())  # which could be
    assert extension_data.moved_results() == {}
    monkeypatch.setenv("TRACKSHADE_RESULTS", str(here / "documents"))
    assert rename_over(data).error is None
    assert contents(here / "documents") == files


@pytest.mark.parametrize("chosen", ["", "results"])
@pytest.mark.parametrize("linked", [False, True])
def test_where_the_old_folder_was_chosen_for_results_they_keep_their_names(
    here: Path, monkeypatch: pytest.MonkeyPatch, linked: bool, chosen: str
) -> None:
    data = here / "extension"
    files = fill(data, environments=False)
    if linked:  # the other way round: what was kept there lies in the chosen folder
        os.rename(data / "shaded", here / "documents")
        (data / "shaded").symlink_to(here / "documents", target_is_directory=True)
    monkeypatch.setenv("TRACKSHADE_RESULTS", str((here / "documents" if linked else data / "shaded") / chosen))
    for _ in range(2):
        assert rename_over(data).error is None
        copy_over(data)
        assert contents(data / "shaded") == files
    assert extension_data.moved_results() == {}


@pytest.mark.parametrize("home", ["extension", "extension/backend"])
def test_where_the_old_folder_was_chosen_for_everything_it_stays(
    here: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    data = here / "extension"
    fill(data, results=False)
    monkeypatch.setenv("TRACKSHADE_HOME", str(here / home))
    for _ in range(2):
        assert rename_over(data).error is None
        copy_over(data)
        assert runs(BackendPrefs(home=folders.environments_dir(), earlier=data / "backend").environment())


def test_what_others_have_put_beside_an_environment_stays(here: Path) -> None:
    data = here / "extension"
    fill(data, results=False)
    (data / "backend" / "models").mkdir()
    (data / "backend" / "models" / "weights").write_bytes(b"weights")
    rename_over(data)
    copy_over(data)
    assert runs(current())
    assert contents(data) == {"backend/models/weights": b"weights"}


def test_a_backend_that_runs_keeps_its_environment(here: Path) -> None:
    data = here / "extension"
    files = fill(data)
    info = ConnectionInfo("ipc://nowhere", "token", os.getpid(), __version__, PROTOCOL)
    connection_files.write(folders.shared_dir() / "backend.json", info)
    moved = rename_over(data)
    assert (moved.environments, moved.error) == (None, None)
    assert contents(here / "documents") == files
    assert runs(environment.find_environment(data / "backend"))
    connection_files.remove(folders.shared_dir() / "backend.json", os.getpid())
    assert rename_over(data).environments is not None
    assert runs(current())


def test_of_two_blenders_one_moves(here: Path) -> None:
    data = here / "extension"
    files = fill(data)
    with extension_data.lock(folders.home() / "moving.lock") as locked:
        assert locked
        assert rename_over(data) == Moved()
        assert contents(data / "shaded") == files
    assert rename_over(data).results is not None


def test_another_version_s_environment_is_moved_as_such(here: Path) -> None:
    data = here / "extension"
    fill(data, results=False)
    old = environment.find_environment(data / "backend")
    assert old is not None
    (data / "backend" / "environment.json").unlink()
    environment.write_marker(replace(old, version="0.0.1"))
    rename_over(data)
    made = current()
    assert made is not None
    assert made.version == "0.0.1"
    assert runs(made)


# the scenes


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("mode", ["both", "compositor", "sequencer"])
def test_a_saved_scene_finds_a_result_that_was_moved(here: Path, mode: str, relative: bool) -> None:
    data = here / "extension"
    fill(data, environments=False)
    scene = new_scene()
    bpy.context.preferences.filepaths.use_relative_paths = relative
    (here / "project").mkdir()
    bpy.ops.wm.save_as_mainfile(filepath=str(here / "project" / "shot.blend"))
    place(data / "shaded" / "scene-001", scene, mode=mode)
    own = bpy.data.images.load(str(data / "shaded" / "scène 2" / "frames" / "0001.png"))
    own.name, own.use_fake_user = "own", True
    bpy.ops.wm.save_mainfile()
    rename_over(data)
    relocation.attach()
    try:
        bpy.ops.wm.open_mainfile(filepath=str(here / "project" / "shot.blend"))
    finally:
        relocation.detach()
    scene = bpy.context.scene
    new = (here / "documents" / "scene-001").resolve()
    paths = [bpy.path.abspath(image.filepath) for image in bpy.data.images if image.filepath]
    if mode == "sequencer":
        editor = scene.sequence_editor
        strips = editor.strips if hasattr(editor, "strips") else editor.sequences
        paths += [bpy.path.abspath(strips[0].directory) + strips[0].elements[0].filename]
        assert strips[0][PLATE_KEY] == str(new)
    assert len(paths) >= 2
    assert all(Path(path).is_file() for path in paths)
    assert all((here / "documents") in Path(os.path.normpath(path)).parents for path in paths)
    for image in bpy.data.images:
        if image.filepath:
            assert image.filepath.startswith("//") == (relative and PLATE_KEY in image)
        if PLATE_KEY in image:
            assert image[PLATE_KEY] == str(new)
    assert np.array(bpy.data.images["own"].pixels).any()
    assert not (here / "extension").exists()
    remove_result(scene, new)
    left = [*bpy.data.objects, *bpy.data.images, *bpy.data.materials, *bpy.data.collections]
    assert not [block for block in left if PLATE_KEY in block]


def test_a_path_that_still_leads_somewhere_is_left_alone(here: Path) -> None:
    data = here / "extension"
    fill(data, environments=False)
    scene = new_scene()
    place(data / "shaded" / "scene-001", scene)
    before = {image.name: image.filepath for image in bpy.data.images}
    kept = Path(shutil.copytree(data, here / "kept"))
    rename_over(data)
    kept.rename(data)  # put back by hand
    assert update_paths(extension_data.moved_results()) == 0
    assert {image.name: image.filepath for image in bpy.data.images} == before


# a real extension

REAL = """
import json, os, sys
from pathlib import Path
import bpy, addon_utils
import trackshade_addon  # the same packages as the tests
step, package, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
if "bl_pkg" not in bpy.context.preferences.addons:
    addon_utils.enable("bl_pkg")
NAME = "bl_ext.user_default.trackshade"
data = Path(bpy.utils.extension_path_user(NAME))
said = {"data": str(data)}
if step == "install":
    bpy.ops.extensions.package_install_files(filepath=package, repo="user_default", enable_on_install=True)
    module = sys.modules[NAME]
    from importlib import import_module
    chosen = import_module(NAME + ".properties.preferences")
    prefs = import_module(NAME + ".backend.prefs").current_prefs()
    said |= {"results": str(chosen.results_folder()), "home": str(prefs.home), "python": prefs.python()}
    said["extension"] = str(Path(module.__file__).parent)
    (chosen.results_folder() / "scene-009").mkdir(parents=True)
    chosen.get_preferences().unsaved_results = str(folder / "chosen")
    said["chosen"] = str(chosen.results_folder())
    chosen.get_preferences().results = str(folder / "always")
    said["always"] = str(chosen.results_folder())
    index = [repo.module for repo in bpy.context.preferences.extensions.repos].index("user_default")
    bpy.ops.extensions.package_uninstall(repo_index=index, pkg_id="trackshade")
    said["enabled"] = NAME in bpy.context.preferences.addons
print(json.dumps(said), flush=True)
os._exit(0)
"""


def test_removing_the_extension_leaves_results_and_environment(tmp_path: Path) -> None:
    sys.path.insert(0, str(ROOT / "addon" / "tools"))  # the build's modules are no package
    import build_extension

    package = build_extension.pack(ROOT / "addon" / "trackshade_addon", "linux-x64", [], tmp_path / "made")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("TRACKSHADE_", "XDG_"))}
    variables |= {"BLENDER_USER_RESOURCES": str(tmp_path / "blender"), "HOME": str(tmp_path / "user")}
    variables["PYTHONPATH"] = os.pathsep.join(str(ROOT / name) for name in ("addon", "backend"))

    def blender(step: str) -> dict[str, str]:
        command = [sys.executable, "-c", REAL, step, str(package), str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    data = Path(blender("ask")["data"])
    assert data.is_relative_to(tmp_path / "blender")
    files = fill(data)
    said = blender("install")
    results, home = tmp_path / "user" / "Documents" / "Trackshade", tmp_path / "user" / ".local/share/trackshade"
    assert (said["results"], said["home"]) == (str(results), str(home / "backend"))
    assert said["python"] == str(home / "backend" / "env-a1b2c3" / "bin" / "python")
    assert (said["chosen"], said["always"]) == (str(tmp_path / "chosen"), str(tmp_path / "always"))
    assert said["enabled"] is False
    assert not Path(said["extension"]).exists()
    assert not data.exists()
    assert contents(results) == files
    assert (results / "scene-009").is_dir()
    assert runs(environment.find_environment(home / "backend"))
