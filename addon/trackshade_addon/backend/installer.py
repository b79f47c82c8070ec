# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the backend's environment: a virtual environment, filled from a lock file, tested, and only then marked.

However a set-up ends early, nothing that it leaves counts as an environment. Does not import bpy; runs in a thread.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import trackshade
from trackshade.config import locks
from trackshade.core.errors import JobError, TrackshadeError, UsageError
from trackshade.core.processes import ProcessCommand, isolated_python
from trackshade.ipc.locks import IN_USE, FileLock

from ..messages.backend import PipProgress, pip_error, unwritable
from . import environment
from .environment import BackendPrefs, Environment
from .graphics_cards import DetectedDevice, detect_device
from .interpreter import Interpreter, find_interpreter
from .tasks import WATCHED, CancellableTask, run_backend_task

Report = Callable[[float, str], None]  # fraction done, what is being done
PROBE_LIMIT = 300.0  # seconds: the first import of torch from a slow disk, with a virus scanner
# pip's settings that would make it install into another place, or other packages than the lock's.
REFUSED = {
    f"PIP_{name}" for name in ["TARGET", "PREFIX", "USER", "ROOT", "REQUIRE_VIRTUALENV", "NO_BINARY", "REQUIREMENT"]
}
MADE, FILLED, TESTED = 0.04, 0.93, 1.0  # fraction of the whole at the end of each step

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _SetUp:
    """A set-up in progress: its settings, the lock file, and the Python, which names itself in error messages."""

    prefs: BackendPrefs
    source: Path
    kind: str
    lock: Path
    python: str
    report: Report
    task: CancellableTask
    note: str  # a sentence about a graphics card that cannot be used, or ""

    def error(self, tail: Sequence[str], wheels: Path | None = None) -> TrackshadeError:
        return pip_error(tail, self.prefs.home, wheels, self.lock, self.python)


def set_up(
    prefs: BackendPrefs,
    source: Path,
    report: Report,
    task: CancellableTask,
    lock: Path | None = None,
    space: int | None = None,
) -> Environment:
    """Make the environment of this version of Trackshade, as the preferences say.

    If there is one of another version with the same locked packages, the new one is based on it. That needs neither
    the network nor another Python. `source` is the wheel of Trackshade or, in development, the folder of the source.
    Tests use other values than those of the kind of device for the lock file and the space that is needed, in bytes.

    Raises:
        OutputError: the folder cannot be written, or its disk is full.
        UsageError: there is no suitable Python, or wheels are missing.
        JobError: the network, a proxy or something else failed.
        CancelledError: the task was canceled.
    """
    home = prefs.home
    report(0.0, "Checking")
    device = detected(prefs, task)
    kind, note = device.kind, device.note
    lock = lock or lock_path(kind)
    if _find_base(home, kind, lock) is None:
        _check_package_source(prefs)
    environment.check_folder(home, 0)
    with _lock_folder(home):
        environment.remove_unused(home)
        other = _find_base(home, kind, lock)
        if other is not None:
            try:
                return _derive(_SetUp(prefs, source, kind, lock, str(other.python), report, task, note), other)
            except (JobError, UsageError) as error:
                _log.warning("The environment %s cannot be built upon: %s", other.folder, error)
                report(0.0, "Making a new environment")
        _check_package_source(prefs)
        python = find_interpreter(prefs.base, task, _pip_wheel(prefs) is not None)
        _log.info("Setting up for %s with %s (%s)", kind, python.path, python)
        sizes = locks.sizes(lock)
        if sizes is not None:
            environment.check_path_length(home, sizes.longest)
            space = sizes.space if space is None else space
        environment.check_folder(home, space or 0)
        return _make(_SetUp(prefs, source, kind, lock, str(python), report, task, note), python)


def detected(prefs: BackendPrefs, task: CancellableTask) -> DetectedDevice:
    """Return the device to set up for: that of the preferences, or the detected one. Raise as `detect_device`."""
    return detect_device(task) if prefs.kind == "auto" else DetectedDevice(prefs.kind)


def lock_path(kind: str) -> Path:
    """Return the lock file for a kind of device on this machine.

    Raises:
        UsageError: There is no such device on this system.
    """
    try:
        return locks.path(kind)
    except KeyError as error:
        raise UsageError(
            "wrong-device",
            f"There is no PyTorch for this system and the device {kind}.",
            "Choose the device Automatic in the preferences.",
        ) from error


def is_outdated(home: Path, kind: str) -> bool:
    """Return whether `set_up` would only add this version of Trackshade to an existing environment's packages."""
    found = environment.find_environment(home, kind)
    kind = found.kind if found is not None and kind == "auto" else kind
    try:
        return found is not None and _find_base(home, kind, locks.path(kind)) is not None
    except KeyError:  # the preferences ask for a device that this system does not have
        return False


def probe(python: Path | str, task: CancellableTask) -> dict[str, Any]:
    """Ask an environment for its version, devices and missing packages; see `trackshade.cli.backend_tasks`.

    Raises:
        UsageError: the Python cannot be run, or has another version of Trackshade.
        JobError: the environment does not work.
    """
    found = run_backend_task(task, python, "probe", limit=PROBE_LIMIT)
    check_version(str(found.get("version", "")))
    return found


def check_version(version: str, is_own: bool = False) -> None:
    """Check that a backend has this add-on's version.

    Raises:
        UsageError: it has another one; the error says which side to update. An environment of Set Up (`is_own`) is
            made again, since there is one for each version.
    """
    ours = trackshade.__version__
    if version != ours:
        older = is_own or _version_numbers(version) < _version_numbers(ours)
        fix = "Set up the backend again to update it." if older else "Update the Trackshade extension in Blender."
        raise UsageError(
            "version-mismatch", f"The environment has Trackshade {version or '?'}, the add-on is {ours}.", fix
        )


def _make(job: _SetUp, python: Interpreter) -> Environment:
    """Make an environment with all packages."""
    home = job.prefs.home
    with _new_folder(job) as folder:
        job.report(0.01, "Making the environment")
        pip = [] if python.ensurepip else ["--without-pip"]
        _run_module(job, python.path, WATCHED, "venv", *pip, str(folder))
        if not python.ensurepip:  # pip installs itself from its wheel, which Python can import from like from a folder
            wheel = str(_pip_wheel(job.prefs))
            code = f"import sys; sys.path.insert(0, {wheel!r})\n{WATCHED}"
            _run_module(job, environment.python_of(folder), code, "pip", "install", "--no-index", wheel, offline=True)
        _install(job, folder, ["-r", str(job.lock)])
        _install_trackshade(job, folder)
        made = _test(job, folder)
    shutil.rmtree(home / environment.DOWNLOADS, ignore_errors=True)
    environment.remove_unused(home)
    job.report(TESTED, "Ready")
    return made


def _find_base(home: Path, kind: str, lock: Path) -> Environment | None:
    """Find an environment of another version with the packages of this lock; None if this version has one itself."""
    found = [item for item in environment.list_environments(home) if item.kind == kind]
    if any(item.version == trackshade.__version__ for item in found):
        return None
    return next((item for item in found if item.lock == environment.lock_digest(lock)), None)


def _derive(job: _SetUp, other: Environment) -> Environment:
    """Make an environment with Trackshade alone, in seconds, that takes its packages from another one."""
    base = other.packages
    with _new_folder(job) as folder:
        _run_module(job, environment.python_of(base), WATCHED, "venv", "--without-pip", str(folder))
        (folder / environment.BASE).write_text(base.name, encoding="utf-8")
        inside = environment.site_packages(base).relative_to(job.prefs.home).parts
        # Relative to this environment, so that the folder of both can be moved. `site` runs lines that begin so.
        line = f"import os, site, sys; site.addsitedir(os.path.join(os.path.dirname(sys.prefix), *{inside!r}))"
        (environment.site_packages(folder) / "trackshade-base.pth").write_text(f"{line}\n", encoding="utf-8")
        _install_trackshade(job, folder)
        made = _test(job, folder, base.name)
    job.report(TESTED, "Ready")
    return made


@contextlib.contextmanager
def _new_folder(job: _SetUp) -> Iterator[Path]:
    """Yield the folder of a new environment, and remove it if the block fails."""
    folder = environment.new_folder(job.prefs.home)
    try:
        yield folder
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise job.error([str(error)]) from error
        raise


def _test(job: _SetUp, folder: Path, base: str = "") -> Environment:
    """Make a folder the environment of this version; raise JobError if a package is missing or cannot be loaded."""
    job.report(FILLED, "Testing the environment")
    (folder / IN_USE).mkdir(exist_ok=True)
    facts = probe(environment.python_of(folder), job.task) | {"note": job.note}
    wanted = {{"pillow": "PIL", "pyzmq": "zmq"}.get(name, name.replace("-", "_")) for name in locks.pins(job.lock)}
    missing = sorted(wanted & set(facts["missing"]))
    if missing or "broken" in facts:
        reason = facts.get("broken") or f"{', '.join(missing)} cannot be found"
        raise JobError("set-up-failed", f"The new environment does not work: {reason}.", "Try again, or see the log.")
    digest = environment.lock_digest(job.lock)
    made = Environment(job.prefs.home, folder, job.kind, facts["version"], digest, facts, base)
    job.task.check()
    environment.write_marker(made)
    _log.info("Made the environment %s: %s", folder, facts)
    return made


def _pip_wheel(prefs: BackendPrefs) -> Path | None:
    """Return the wheel of pip in the folder of wheels, if any."""
    found = sorted(prefs.wheels.glob("pip-*.whl")) if prefs.wheels is not None else []
    return found[-1] if found else None


def _run_module(job: _SetUp, python: Path | str, code: str, *arguments: str, offline: bool = False) -> None:
    """Run a Python module by `code`, which is or ends with WATCHED. Raise an error that says why it failed."""
    start = isolated_python(python, "-c", code, *arguments)
    result = job.task.run(start.command, variables=_variables(start, offline))
    if result.code != 0:
        raise job.error(result.tail)


def _install_trackshade(job: _SetUp, folder: Path) -> None:
    if job.source.suffix == ".whl":
        _install(job, folder, ["--no-deps", "--force-reinstall", "--no-index", str(job.source)])
        return
    (environment.site_packages(folder) / "trackshade-source.pth").write_text(f"{job.source}\n", encoding="utf-8")


def _install(job: _SetUp, folder: Path, what: list[str]) -> None:
    """Run `pip install` with the arguments `what`."""
    prefs, is_lock = job.prefs, "-r" in what
    sizes = locks.sizes(job.lock)
    known = sizes.packages if sizes is not None else dict.fromkeys(locks.pins(job.lock), 1 << 20)
    progress = PipProgress(known if is_lock else {"trackshade": 1 << 20})

    def report() -> None:
        job.report(MADE + (FILLED - MADE) * progress.fraction, progress.message)

    def on_line(line: str) -> None:
        progress.read_line(line)
        if is_lock:
            report()
        if is_lock and sizes is not None and line.startswith("Installing collected packages"):
            written = partial(_watch_disk, prefs.home, sizes.unpacked, progress, report, ended)
            threading.Thread(target=written, name="trackshade-disk", daemon=True).start()

    ended = threading.Event()

    # pip says why it cannot connect only when it tries again.
    arguments = ["--only-binary=:all:", "--no-input", "--no-color", "--disable-pip-version-check", "--retries=4",
                 f"--cache-dir={prefs.home / environment.DOWNLOADS}"]  # fmt: skip
    if _reports_progress(folder):
        arguments.append("--progress-bar=raw")
    if prefs.wheels is not None:
        arguments += ["--no-index", f"--find-links={prefs.wheels}"]
    elif prefs.index:
        arguments.append(f"--extra-index-url={prefs.index}")
    start = isolated_python(environment.python_of(folder), "-c", WATCHED, "pip", "install", *arguments, *what)
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    try:
        variables = _variables(start, prefs.wheels is not None)
        variables |= {name: str(temporary) for name in ("TMPDIR", "TEMP", "TMP")}
        result = job.task.run(start.command, on_line, variables=variables)
    finally:
        ended.set()
        shutil.rmtree(temporary, ignore_errors=True)
    if result.code != 0:
        _log.warning("pip ended with code %d:\n%s", result.code, "\n".join(result.tail))
        raise job.error(result.tail, prefs.wheels)


def _watch_disk(
    home: Path, size: int, progress: PipProgress, report: Callable[[], None], ended: threading.Event
) -> None:
    """Report how much of `size` bytes pip, which says nothing meanwhile, has written, by the disk's free space."""
    free = shutil.disk_usage(home).free
    while not ended.wait(1.0):
        progress.installed((free - shutil.disk_usage(home).free) / size)
        report()


def _check_package_source(prefs: BackendPrefs) -> None:
    """Raise UsageError if there is no folder of wheels, and the network may not be used."""
    if prefs.wheels is not None and not prefs.wheels.is_dir():
        raise UsageError("wheel-missing", f"There is no folder {prefs.wheels}.", "Choose the folder of wheels again.")
    if prefs.wheels is None and not prefs.online:
        raise UsageError(
            "offline",
            "Blender may not use the network, and the set-up has to download packages.",
            "Turn on 'Allow Online Access' (Preferences > System > Network), or choose a folder of wheels.",
        )


@contextlib.contextmanager
def _lock_folder(home: Path) -> Iterator[None]:
    """Prevent two Blenders from setting up in the same folder at once."""
    try:
        lock = FileLock(home / environment.LOCK)
    except BlockingIOError as error:
        raise UsageError(
            "set-up-runs", f"Another Blender is setting up {home}.", "Wait until it has finished."
        ) from error
    except OSError as error:
        raise unwritable(home, error.strerror) from error
    try:
        yield
    finally:
        lock.release()


def _reports_progress(folder: Path) -> bool:
    """Return whether the environment's pip can print its progress as numbers (24.1 and later)."""
    found = next(iter(folder.rglob("pip-*.dist-info")), None)
    return found is not None and _version_numbers(found.name.removeprefix("pip-").removesuffix(".dist-info")) >= (24, 1)


def _variables(start: ProcessCommand, offline: bool = False) -> dict[str, str]:
    """Return a program's environment variables, including proxies and pip's settings, but for `REFUSED`."""
    variables = {name: value for name, value in start.variables.items() if name not in REFUSED}
    if offline:
        variables["PIP_CONFIG_FILE"] = os.devnull
        for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
            variables.pop(name, None)
    return variables


def _version_numbers(version: str) -> tuple[int, ...]:
    parts = version.split("+")[0].split(".")
    return tuple(int(part) if part.isdecimal() else 0 for part in parts)
