# SPDX-License-Identifier: GPL-3.0-or-later
"""Environments made for real, from a folder of wheels; and what is said when that cannot be."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import psutil
import pytest

from tests.helpers.backend_folders import build_wheel, download_wheels, write_lock
from tests.helpers.hostile import Hostile
from trackshade import __version__
from trackshade.core.errors import CancelledError, JobError, OutputError, TrackshadeError, UsageError
from trackshade.core.processes import environment_python
from trackshade_addon.backend import environment, installer
from trackshade_addon.backend.environment import BackendPrefs, Environment
from trackshade_addon.backend.installer import check_version, probe
from trackshade_addon.backend.interpreter import check_interpreter, find_interpreter
from trackshade_addon.backend.tasks import CancellableTask
from trackshade_addon.messages.backend import INSTALL_FROM, PipProgress, pip_error, proxy

pytestmark = pytest.mark.once

IN_LIMITS = """
import resource, sys
from pathlib import Path
from trackshade.core.errors import TrackshadeError
from trackshade_addon.backend.environment import BackendPrefs
from trackshade_addon.backend.tasks import CancellableTask
from trackshade_addon.backend.installer import set_up
home, wheel, wheels, lock, base = map(Path, sys.argv[1:])
sys.dont_write_bytecode = True
resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20))
try:
    prefs = BackendPrefs(home=home, wheels=wheels, kind="cpu", base=str(base))
    set_up(prefs, wheel, lambda *_: None, CancellableTask(), lock, 0)
except TrackshadeError as error:
    print(error.code, error)
"""


MARKER = f"environment-{__version__}-cpu.json"


def silent(share: float, words: str) -> None:
    """Listens to nobody."""


@dataclass(frozen=True)
class Plan(BackendPrefs):
    """What `set_up` is given."""

    source: Path = Path()
    lock: Path | None = None
    space: int = 0


def set_up(plan: Plan, report: installer.Report, task: CancellableTask) -> Environment:
    return installer.set_up(plan, plan.source, report, task, plan.lock, plan.space)


@pytest.fixture(scope="module", autouse=True)
def quick_pip() -> Iterator[None]:
    """pip leaves it to the first import to compile a module, which takes most of its time otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_NO_COMPILE", "0")  # which pip reads as the value of its option "compile"
        yield


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """How to make an environment; its folder is to be replaced."""
    folder = tmp_path_factory.mktemp("offline")
    lock = write_lock(folder / "lock.txt")
    wheels = download_wheels(folder / "wheels", lock)
    python = copying_python(folder)
    return Plan(
        home=folder, source=build_wheel(folder), kind="cpu", base=python, wheels=wheels, online=False, lock=lock
    )


def copying_python(folder: Path) -> str:
    """This Python, but for virtual environments: it copies one that it has made, as installing pip takes long."""
    subprocess.run([sys.executable, "-I", "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    packages, pip = environment.site_packages(folder / "venv"), metadata.distribution("pip")
    for name in {Path(str(path)).parts[0] for path in pip.files or () if ".." not in str(path)}:
        shutil.copytree(str(pip.locate_file(name)), packages / name)
    python = folder / "python"
    copy = f'mkdir -p "$5" && cp -a "{folder}/venv/." "$5"'
    python.write_text(f'#!/bin/sh\nif [ "$4" = venv ]; then {copy}; else exec "{sys.executable}" "$@"; fi\n')
    python.chmod(0o700)
    return str(python)


@pytest.fixture(scope="module")
def told() -> list[tuple[float, str]]:
    """What the set-up of `whole` has reported."""
    return []


@pytest.fixture(scope="module")
def whole(told: list[tuple[float, str]], plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment, to be copied. What lies in the folder that Blender stands in, and where a PYTHONPATH leads that
    was set for Blender, has no part in it."""
    folder = tmp_path_factory.mktemp("whole")
    hostile = Hostile(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(hostile.folder)
        for name in ("PYTHONPATH", "PYTHONUSERBASE"):
            patch.setenv(name, str(hostile.folder))
        made = set_up(
            replace(plan, home=folder / "home", base=""), lambda *report: told.append(report), CancellableTask()
        )
    assert hostile.imported() == []
    return made


def link_package(source: str, target: str) -> None:
    if "site-packages" in source:
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def copied(whole: Environment, home: Path) -> Environment:
    """The same environment in another folder, where it works as well. Its packages are links."""
    shutil.copytree(whole.home, home, symlinks=True, copy_function=link_package)
    made = environment.find_environment(home)
    assert made is not None
    return made


def leftovers(home: Path) -> list[str]:
    return sorted(path.name for path in home.iterdir() if path.name.startswith(("env-", "environment", "downloads")))


def test_an_environment_is_made(whole: Environment, told: list[tuple[float, str]]) -> None:
    assert environment.find_environment(whole.home) == whole
    assert (whole.version, whole.kind) == (__version__, "cpu")
    assert probe(whole.python, CancellableTask())["version"] == __version__
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    assert told[-1] == (1.0, "Ready")
    assert any("Installing" in words for _, words in told)
    assert leftovers(whole.home) == sorted([whole.folder.name, MARKER])


@pytest.mark.long
def test_an_environment_is_replaced(plan: Plan, whole: Environment, tmp_path: Path) -> None:
    plan = replace(plan, home=tmp_path / "ein Ordner, größer")
    made = copied(whole, plan.home)
    again = set_up(plan, silent, CancellableTask())  # asked for once more, so something may be wrong with it
    assert environment.find_environment(plan.home) == again
    assert again.folder != made.folder
    assert probe(again.python, CancellableTask())["version"] == __version__
    assert leftovers(plan.home) == sorted([again.folder.name, MARKER])


def of_version(made: Environment, version: str) -> Environment:
    """Makes an environment one that another version of the extension has made."""
    made.marker.unlink()
    made = replace(made, version=version)
    environment.write_marker(made)
    module = environment.site_packages(made.folder) / "trackshade" / "__init__.py"
    text = module.read_text().replace(__version__, version)
    module.unlink()  # a link
    module.write_text(text)
    os.utime(module, (1, 1))  # a compiled file beside it is of a source of the same size, and may be of the same second
    return made


def version_in(made: Environment) -> str:
    """The version of Trackshade that an environment finds."""
    code = "import trackshade, msgpack; print(trackshade.__version__)"
    command = [str(made.python), "-I", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_versions_share_packages_and_do_not_change_each_other(plan: Plan, whole: Environment, tmp_path: Path) -> None:
    plan = replace(plan, home=tmp_path / "ein Ordner, größer")
    older = of_version(copied(whole, plan.home), "0.0.1")
    beside = replace(plan, wheels=None, base=str(tmp_path / "no python"))  # needs neither, nor the network
    ours = set_up(beside, silent, CancellableTask())
    assert (ours.version, ours.base) == (__version__, older.folder.name)
    assert (version_in(ours), version_in(older)) == (__version__, "0.0.1")
    assert environment.find_environment(plan.home) == ours
    assert sum(path.stat().st_size for path in ours.folder.rglob("*") if path.is_file()) < 8 << 20
    plan.home.rename(tmp_path / "elsewhere")  # neither is bound to its place
    moved = environment.list_environments(tmp_path / "elsewhere")
    assert {made.version: version_in(made) for made in moved} == {"0.0.1": "0.0.1", __version__: __version__}
    # The third takes its packages from where they are, not from the second.
    environment.write_marker(
        replace(next(made for made in moved if made.version == "0.0.1"), version="0.0.0", lock="another")
    )
    (tmp_path / "elsewhere" / older.marker.name).unlink()
    of_version(next(made for made in moved if made.version == __version__), "9.0.0")
    third = set_up(replace(beside, home=tmp_path / "elsewhere"), silent, CancellableTask())
    assert third.base == older.folder.name
    assert version_in(third) == __version__


def test_kinds_of_device_do_not_replace_each_other(whole: Environment, tmp_path: Path) -> None:
    for_cpu = copied(whole, tmp_path / "home")
    for_cuda = replace(for_cpu, kind="cuda")
    environment.write_marker(for_cuda)
    assert environment.find_environment(for_cpu.home, "cpu") == for_cpu
    assert environment.find_environment(for_cpu.home, "cuda") == for_cuda
    os.utime(for_cpu.marker, (1e9, 1e9))
    assert environment.find_environment(for_cpu.home) == for_cuda  # the one that was used last
    environment.note_use(for_cpu)
    os.utime(for_cuda.marker, (1e9, 1e9))
    assert environment.find_environment(for_cpu.home) == for_cpu


def test_an_environment_in_use_outlives_being_replaced(whole: Environment, tmp_path: Path) -> None:
    made = copied(whole, tmp_path / "home")
    start = environment_python(made.python, "-m", "trackshade.server", "--private", "--workers", "0", "--store",
                               str(tmp_path / "jobs"), "--connection-file", str(tmp_path / "file"))  # fmt: skip
    process = subprocess.Popen(start.command, stdin=subprocess.PIPE, env=start.variables)
    try:
        limit = time.monotonic() + 60
        while not (tmp_path / "file").exists():
            assert process.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.05)
        again = replace(made, folder=made.folder.with_name("env-aaaaaa"))
        shutil.copytree(made.folder, again.folder, symlinks=True)
        environment.write_marker(again)
        environment.remove_unused(made.home)
        assert version_in(made) == __version__  # it is there as a whole
    finally:
        process.communicate()
    environment.remove_unused(made.home)
    assert not made.folder.exists()
    assert version_in(again) == __version__


def test_environments_of_other_versions_go_when_nobody_has_started_them_for_long(
    whole: Environment, tmp_path: Path
) -> None:
    older = of_version(copied(whole, tmp_path / "home"), "0.0.1")
    ours = replace(older, folder=older.folder.with_name("env-aaaaaa"), version=__version__, base=older.folder.name)
    shutil.copytree(older.folder, ours.folder, symlinks=True)
    environment.write_marker(ours)
    long_ago = time.time() - environment.UNUSED - 60
    os.utime(older.marker, (long_ago, long_ago))
    os.utime(ours.marker, (long_ago, long_ago))
    environment.remove_unused(older.home)
    assert environment.list_environments(older.home) == [ours]
    assert older.folder.is_dir()  # whose packages are used
    environment.write_marker(replace(ours, base=""))
    environment.remove_unused(older.home)
    assert not older.folder.exists()


def test_an_environment_that_cannot_be_built_upon_is_made_anew(plan: Plan, whole: Environment, tmp_path: Path) -> None:
    plan = replace(plan, home=tmp_path / "home")
    made = of_version(copied(whole, plan.home), "0.0.1")
    shutil.rmtree(next(made.folder.rglob("msgpack")))  # damaged meanwhile
    task, told = CancellableTask(), []

    def report(share: float, words: str) -> None:
        told.append(words)
        if words == "Making the environment":  # as where there is none
            task.cancel()

    with pytest.raises(CancelledError):
        set_up(plan, report, task)
    assert told[-2:] == ["Making a new environment", "Making the environment"]
    assert leftovers(plan.home) == sorted([made.folder.name, made.marker.name])


def test_what_an_earlier_version_made_counts(whole: Environment, tmp_path: Path) -> None:
    made = copied(whole, tmp_path / "home")
    made.marker.rename(made.home / "environment.json")
    assert environment.find_environment(made.home) == made
    environment.write_marker(made)
    assert leftovers(made.home) == sorted([made.folder.name, MARKER])


def test_a_dead_proxy_is_named_whatever_pip_is_told(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "no_proxy", "NO_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # where nobody listens
    with pytest.raises(JobError, match=r"proxy 127\.0\.0\.1:9") as caught:
        set_up(replace(plan, home=tmp_path / "home", wheels=None, online=True), silent, CancellableTask())
    assert caught.value.code == "proxy"


@pytest.mark.parametrize(
    "words",
    [
        "Making the environment",
        pytest.param("Installing the packages", marks=pytest.mark.long),
        "Testing the environment",
    ],
)
def test_a_cancelled_set_up_leaves_nothing(plan: Plan, whole: Environment, tmp_path: Path, words: str) -> None:
    task, seen = CancellableTask(), threading.Event()
    if words == "Testing the environment":  # sooner there where there are packages to build upon
        of_version(copied(whole, tmp_path / "home"), "0.0.1")
    before = leftovers(tmp_path / "home") if (tmp_path / "home").exists() else []

    def report(share: float, said: str) -> None:
        if said == words:
            seen.set()
            task.cancel()

    with pytest.raises(CancelledError):
        set_up(replace(plan, home=tmp_path / "home"), report, task)
    assert seen.is_set()
    assert not [made for made in environment.list_environments(tmp_path / "home") if made.version == __version__]
    assert [name for name in leftovers(tmp_path / "home") if name != "downloads"] == before


@pytest.mark.long
def test_a_full_disk_is_said_and_leaves_nothing(plan: Plan, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert plan.wheels is not None
    command = [sys.executable, "-c", IN_LIMITS, home, plan.source, plan.wheels, plan.lock, plan.base]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert f"disk-full The disk of {home} is full." in done.stdout, done.stdout + done.stderr
    assert [name for name in leftovers(home) if name != "downloads"] == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 4 << 20  # this process was none of it


def test_too_little_room_is_said_beforehand(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"needs about 1048576\.0 GB") as caught:
        set_up(replace(plan, home=tmp_path / "home", space=1 << 50), silent, CancellableTask())
    assert caught.value.code == "disk-full"


def test_a_folder_that_cannot_be_written_is_said(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        set_up(replace(plan, home=tmp_path / "file" / "home"), silent, CancellableTask())
    with pytest.raises(OutputError, match="cannot be written"):
        set_up(replace(plan, home=Path("/proc/trackshade")), silent, CancellableTask())


def test_a_folder_with_other_things_in_it_is_left_alone(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_text("")
    with pytest.raises(UsageError, match=r"holiday\.jpg"):
        set_up(replace(plan, home=tmp_path), silent, CancellableTask())


def test_a_missing_wheel_is_named_with_the_way_to_get_it(plan: Plan, tmp_path: Path) -> None:
    lock = tmp_path / "more.txt"
    lock.write_text("msgpack==0.0.1\n")
    with pytest.raises(UsageError, match=r"has no msgpack==0\.0\.1 .*pip download") as caught:
        set_up(replace(plan, home=tmp_path / "home", lock=lock), silent, CancellableTask())
    assert caught.value.code == "wheel-missing"


def test_without_the_network_nothing_is_tried(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Allow Online Access"):
        set_up(replace(plan, home=tmp_path / "home", wheels=None), silent, CancellableTask())
    assert not (tmp_path / "home").exists()


def test_two_set_ups_do_not_meet(plan: Plan, tmp_path: Path) -> None:
    home = tmp_path / "home"

    def report(share: float, said: str) -> None:
        if said == "Making the environment":
            with pytest.raises(UsageError, match="Another Blender"):
                set_up(replace(plan, home=home), silent, CancellableTask())
            raise CancelledError

    with pytest.raises(CancelledError):
        set_up(replace(plan, home=home), report, CancellableTask())


def test_unsuitable_pythons_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be run"):
        check_interpreter(str(tmp_path / "none"), CancellableTask())
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\necho hello\n")
    other.chmod(0o700)
    with pytest.raises(UsageError, match="does not respond"):
        check_interpreter(str(other), CancellableTask())
    other.write_text('#!/bin/sh\necho \'{"version": [3, 9, 2], "bits": 64, "venv": true, "ensurepip": true}\'\n')
    with pytest.raises(UsageError, match=r"is Python 3\.9\.2"):
        check_interpreter(str(other), CancellableTask())
    other.write_text('#!/bin/sh\necho \'{"version": [3, 12, 2], "bits": 64, "venv": true, "ensurepip": false}\'\n')
    with pytest.raises(UsageError, match=r"python3\.12-venv"):
        check_interpreter(str(other), CancellableTask())
    assert find_interpreter("", CancellableTask()).version[:2] == sys.version_info[:2]


@pytest.mark.long
def test_a_python_without_ensurepip_takes_pip_from_the_folder(plan: Plan, tmp_path: Path) -> None:
    assert plan.wheels is not None
    wheels = tmp_path / "wheels"
    shutil.copytree(plan.wheels, wheels)
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(wheels), "pip"]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no pip to be had")
    python = tmp_path / "python"  # this one, except for what it says of itself
    said = f'{{"version": {list(sys.version_info[:3])}, "bits": 64, "venv": true, "ensurepip": false}}'
    script = f'#!/bin/sh\ncase "$*" in *find_spec*) echo \'{said}\';; *) exec {sys.executable} "$@";; esac\n'
    python.write_text(script)
    python.chmod(0o700)
    with pytest.raises(UsageError, match="a wheel of pip"):
        set_up(replace(plan, home=tmp_path / "home", base=str(python)), silent, CancellableTask())
    made = set_up(replace(plan, home=tmp_path / "home", base=str(python), wheels=wheels), silent, CancellableTask())
    assert environment.find_environment(tmp_path / "home") == made


def test_a_set_up_ends_with_blender_and_its_leftovers_go(plan: Plan, tmp_path: Path) -> None:
    home = tmp_path / "home"
    script = IN_LIMITS.replace("lambda *_: None", "lambda share, words: print(words, flush=True)")
    script = "\n".join(line for line in script.splitlines() if "RLIMIT" not in line)
    command = [sys.executable, "-c", script, home, plan.source, plan.wheels, plan.lock, plan.base]
    blender = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)
    assert blender.stdout is not None
    assert any("Looking for packages" in line for line in blender.stdout)
    blender.kill()
    blender.communicate()
    left = [name for name in leftovers(home) if name.startswith("env-")]
    assert len(left) == 1
    assert environment.find_environment(home) is None
    limit = time.monotonic() + 60
    while any(left[0] in " ".join(item.info["cmdline"] or ()) for item in psutil.process_iter(["cmdline"])):
        assert time.monotonic() < limit
        time.sleep(0.1)
    environment.remove_unused(home)
    assert not [name for name in leftovers(home) if name.startswith("env-")]


def test_a_program_that_hangs_is_ended() -> None:
    ended = CancellableTask().run(
        [sys.executable, "-c", "import time; print('on', flush=True); time.sleep(600)"], limit=0.5
    )
    assert ended.timed_out
    assert ended.tail in ((), ("on",))


def test_versions_say_which_side_to_update() -> None:
    check_version(__version__)
    with pytest.raises(UsageError, match="Set up the backend again"):
        check_version("0.0.9")
    with pytest.raises(UsageError, match="Update the Trackshade extension"):
        check_version("99.0")


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("WARNING: Retrying: NewConnectionError('Failed to establish a new connection: [Errno -2]')\n"
         "ERROR: No matching distribution found for torch==2.13.0", "no-network"),
        ("ProxyError('Cannot connect to proxy.', OSError('Tunnel connection failed: 407'))", "proxy"),
        ("SSLError(SSLCertVerificationError(1, 'CERTIFICATE_VERIFY_FAILED'))", "certificate"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk-full"),
        ("OSError: [Errno 30] Read-only file system: '/x'", "unwritable"),
        ("ERROR: Could not find a version that satisfies the requirement numba==0.1 (from versions: none)", "no-wheel"),
        ("ERROR: Package 'x' requires a different Python: 3.11.7 not in '>=3.12'", "wrong-python"),
        ("ERROR: Could not install packages due to an OSError: [Errno 2] No such file or directory: 'C:\\\\x'\n"
         "HINT: This error might have occurred since this system does not have Windows Long Path support enabled.",
         "path-too-long"),
        ("OSError: [WinError 206] The filename or extension is too long: 'C:\\\\x'", "path-too-long"),
        ("ERROR: something new", "set-up-failed"),
        ("", "set-up-failed"),
    ],
)  # fmt: skip
def test_what_pip_says_is_put_into_words(said: str, code: str, tmp_path: Path) -> None:
    error = pip_error(said.splitlines(), tmp_path, None, tmp_path / "lock", "Python 3.11")
    assert isinstance(error, TrackshadeError)
    assert error.code == code
    assert "Traceback" not in str(error)
    assert error.fix


def test_a_password_of_the_proxy_is_not_told() -> None:
    assert proxy({"HTTPS_PROXY": "http://me:secret@proxy.example:3128"}) == "proxy.example:3128"
    assert proxy({"HTTPS_PROXY": "me:secret@proxy.example:3128"}) == "proxy.example:3128"
    assert proxy({}) is None


def test_progress_follows_bytes_and_only_grows() -> None:
    progress = PipProgress({"torch": 800, "numpy": 18, "nvidia-nccl": 200})
    lines = [
        "Collecting numpy==1",
        "  Downloading numpy-1-cp311-cp311-win_amd64.whl.metadata (5 kB)",
        "Collecting torch==2",
        "  Downloading torch-2-cp311-cp311-win_amd64.whl.metadata (41 kB)",
        "Progress 41 of 41",
        "Using cached numpy-1-cp311-cp311-win_amd64.whl (18 kB)",
        "Downloading https://index.example/whl/torch-2%2Bcu130-cp311-cp311-win_amd64.whl (800.1 MB)",
        "Progress 400 of 800",
        "Progress 800 of 800",
        "Processing /wheels/nvidia_nccl-2-py3-none-any.whl",
        "noise",
        "Installing collected packages: numpy, torch",
        "Successfully installed",
    ]
    shares = []
    for line in lines:
        progress.read_line(line)
        shares.append(progress.fraction)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert shares[4] == 0.0  # descriptions of packages are no progress
    assert shares[7] == pytest.approx(INSTALL_FROM * (18 + 400) / (18 + 800 + 200))
    assert shares[9] == pytest.approx(INSTALL_FROM * (18 + 800) / (18 + 800 + 200))
    assert progress.message == "Installed"


def test_a_backend_task_that_cannot_be_run_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="does not work"):
        probe(Path("/bin/false"), CancellableTask())
    with pytest.raises(UsageError, match="cannot be run"):
        probe(tmp_path / "python", CancellableTask())
