# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the environment: a virtual environment beside any earlier one, filled from a lock, tried, and only then named.

Whatever ends it early leaves nothing that counts as whole. Knows nothing of bpy; runs in a thread of its own.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trackshade
from trackshade.config import locks
from trackshade.core.errors import JobError, UsageError
from trackshade.core.processes import ProcessCommand, isolated_python
from trackshade.ipc.locks import IN_USE, FileLock

from ..messages.backend import PipProgress, explain, unwritable
from . import backend_task, environment, interpreter
from .environment import Environment, Source
from .interpreter import Interpreter
from .running import WATCHED, Ended, Task

Report = Callable[[float, str], None]  # share done, what is being done
PROBE_LIMIT = 300.0  # seconds: the first import of torch from a slow disk, with a virus scanner
REFUSED = (
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_USER",
    "PIP_ROOT",
    "PIP_REQUIRE_VIRTUALENV",
    "PIP_NO_BINARY",
    "PIP_REQUIREMENT",
)
MADE, FILLED, TRIED = 0.04, 0.93, 1.0  # of the whole, at the end of each step


@dataclass(frozen=True)
class Plan:
    """What to make.

    Attributes:
        home: folder of the environment (see `environment`).
        python: to make it with; "" to find one.
        kind: "cuda", "cpu", "mps", or "auto".
        wheels: a folder of wheels to use instead of the network.
        index: address of a vendor's package index to look in too, or "".
        online: whether the network may be used.
        lock, space: for tests: another lock, and the bytes that it needs.
    """

    home: Path
    source: Source
    python: str = ""
    kind: str = "auto"
    wheels: Path | None = None
    index: str = ""
    online: bool = True
    lock: Path | None = None
    space: int | None = None


def set_up(plan: Plan, report: Report, task: Task) -> Environment:
    """Makes the environment of this version of Trackshade. Where there is one of another version with the packages that
    the lock says, it is made on top of that, for which neither the network nor another Python is needed.

    Raises:
        OutputError: the folder cannot be written, or its disk is full. UsageError: no suitable Python, wheels missing.
        JobError: network, proxy, or whatever else went wrong. Cancelled.
    """
    report(0.0, "Checking")
    kind = interpreter.detect(task) if plan.kind == "auto" else plan.kind
    lock = plan.lock or locks.path(kind)
    if _to_renew(plan.home, kind, lock) is None:
        _check_way(plan)
    environment.check_folder(plan.home, 0)
    with _alone(plan.home):
        environment.sweep(plan.home)
        other = _to_renew(plan.home, kind, lock)
        if other is not None:
            try:
                return _renew(plan, other, lock, report, task)
            except (JobError, UsageError):
                report(0.0, "Making it anew")  # more than Trackshade is wrong with it
        _check_way(plan)
        python = interpreter.find(plan.python, task, _pip_wheel(plan) is not None)
        environment.check_folder(plan.home, locks.SPACE[kind] if plan.space is None else plan.space)
        return _make(plan, python, kind, lock, report, task)


def is_outdated(home: Path, kind: str) -> bool:
    """Whether `set_up` would make an environment for this version of Trackshade alone, on top of one in this folder."""
    made = environment.current(home, kind)
    kind = made.kind if made is not None and kind == "auto" else kind
    return made is not None and _to_renew(home, kind, locks.path(kind)) is not None


def probe(python: Path | str, task: Task) -> dict[str, Any]:
    """What an environment says of itself (see `trackshade.cli.backend_tasks`).

    Raises UsageError where there is none or it has another version of Trackshade, JobError where it does not work.
    """
    found = backend_task.send(task, python, "probe", limit=PROBE_LIMIT)
    check_version(str(found.get("version", "")))
    return found


def check_version(version: str, ours_to_make: bool = False) -> None:
    """Raises UsageError that says which side to update, where a backend is not of this add-on's version.

    Args:
        ours_to_make: it is an environment that Set Up makes, one for each version.
    """
    ours = trackshade.__version__
    if version != ours:
        older = ours_to_make or _numbers(version) < _numbers(ours)
        fix = "Set up the backend again to update it." if older else "Update the Trackshade extension in Blender."
        raise UsageError(
            "version-mismatch", f"The environment has Trackshade {version or '?'}, the add-on is {ours}.", fix
        )


def _make(plan: Plan, python: Interpreter, kind: str, lock: Path, report: Report, task: Task) -> Environment:
    folder = plan.home / f"env-{secrets.token_hex(3)}"
    try:
        report(0.01, "Making the environment")
        how = [] if python.ensurepip else ["--without-pip"]
        start = isolated_python(python.path, "-c", WATCHED, "venv", *how, str(folder))
        ended = task.run(start.command, variables=_variables(start))
        if ended.code == 0 and not python.ensurepip:
            ended = _install_pip(plan, folder, task)
        if ended.code != 0:
            raise explain(ended.tail, plan.home, None, lock, str(python))
        _install(plan, folder, ["-r", str(lock)], lock, str(python), report, task)
        _install_trackshade(plan, folder, lock, str(python), report, task)
        made = _tried_out(plan, folder, kind, lock, report, task)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise explain([str(error)], plan.home, None, lock, str(python)) from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(plan.home / environment.DOWNLOADS, ignore_errors=True)
    environment.sweep(plan.home)
    report(TRIED, "Ready")
    return made


def _to_renew(home: Path, kind: str, lock: Path) -> Environment | None:
    """An environment of another version of Trackshade with the packages of this lock, where this version has none."""
    found = [made for made in environment.every(home) if made.kind == kind]
    if any(made.version == trackshade.__version__ for made in found):
        return None
    return next((made for made in found if made.lock == environment.digest(lock)), None)


def _renew(plan: Plan, other: Environment, lock: Path, report: Report, task: Task) -> Environment:
    """An environment with Trackshade alone, a matter of seconds, that takes its packages from that of another version,
    which stays as it is."""
    base = other.packages
    folder = plan.home / f"env-{secrets.token_hex(3)}"
    try:
        start = isolated_python(environment.python_of(base), "-c", WATCHED, "venv", "--without-pip", str(folder))
        ended = task.run(start.command, variables=_variables(start))
        if ended.code != 0:
            raise explain(ended.tail, plan.home, None, lock, str(other.python))
        environment.note_base(folder, base.name)
        inside = environment.site_packages(base).relative_to(plan.home).parts
        # Relative to this environment, so that the folder of both can be moved. `site` runs lines that begin so.
        line = f"import os, site, sys; site.addsitedir(os.path.join(os.path.dirname(sys.prefix), *{inside!r}))"
        (environment.site_packages(folder) / "trackshade-base.pth").write_text(f"{line}\n", encoding="utf-8")
        _install_trackshade(plan, folder, lock, str(other.python), report, task)
        made = _tried_out(plan, folder, other.kind, lock, report, task, base.name)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise explain([str(error)], plan.home, None, lock, str(other.python)) from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    report(TRIED, "Ready")
    return made


def _tried_out(
    plan: Plan, folder: Path, kind: str, lock: Path, report: Report, task: Task, base: str = ""
) -> Environment:
    """Makes it the environment of this version if it works."""
    report(FILLED, "Trying it out")
    (folder / IN_USE).mkdir(exist_ok=True)
    facts = _tried(folder, lock, task)
    made = Environment(plan.home, folder, kind, facts["version"], environment.digest(lock), facts, base)
    task.check()
    environment.mark(made)
    return made


def _pip_wheel(plan: Plan) -> Path | None:
    """Pip itself, where the folder of wheels has it."""
    found = sorted(plan.wheels.glob("pip-*.whl")) if plan.wheels is not None else []
    return found[-1] if found else None


def _install_pip(plan: Plan, folder: Path, task: Task) -> Ended:
    """Has pip install itself: a wheel is an archive that Python can run from."""
    wheel = str(_pip_wheel(plan))
    code = f"import sys; sys.path.insert(0, {wheel!r})\n{WATCHED}"
    start = isolated_python(environment.python_of(folder), "-c", code, "pip", "install", "--no-index", wheel)
    return task.run(start.command, variables=_variables(start, offline=True))


def _install_trackshade(plan: Plan, folder: Path, lock: Path, python: str, report: Report, task: Task) -> None:
    if plan.source.is_wheel:
        what = ["--no-deps", "--force-reinstall", "--no-index", str(plan.source.path)]
        _install(plan, folder, what, lock, python, report, task)
        return
    (environment.site_packages(folder) / "trackshade-source.pth").write_text(f"{plan.source.path}\n", encoding="utf-8")


def _install(plan: Plan, folder: Path, what: list[str], lock: Path, python: str, report: Report, task: Task) -> None:
    progress = PipProgress(locks.pins(lock) if "-r" in what else ["trackshade"])

    def on_line(line: str) -> None:
        progress.feed(line)
        if "-r" in what:
            report(MADE + (FILLED - MADE) * progress.share, progress.words)

    # pip says why it cannot connect only where it tries again.
    options = ["--only-binary=:all:", "--no-input", "--no-color", "--disable-pip-version-check", "--retries=4",
               f"--cache-dir={plan.home / environment.DOWNLOADS}"]  # fmt: skip
    if _tells_progress(folder):
        options.append("--progress-bar=raw")
    if plan.wheels is not None:
        options += ["--no-index", f"--find-links={plan.wheels}"]
    elif plan.index:
        options.append(f"--extra-index-url={plan.index}")
    start = isolated_python(environment.python_of(folder), "-c", WATCHED, "pip", "install", *options, *what)
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    try:
        variables = _variables(start, plan.wheels is not None)
        variables |= {name: str(temporary) for name in ("TMPDIR", "TEMP", "TMP")}
        ended: Ended = task.run(start.command, on_line, variables=variables)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    if ended.code != 0:
        raise explain(ended.tail, plan.home, plan.wheels, lock, python)


def _tried(folder: Path, lock: Path, task: Task) -> dict[str, Any]:
    """What it says of itself. Raises JobError where something of the lock is missing from it or cannot be loaded."""
    facts = probe(environment.python_of(folder), task)
    wanted = {{"pillow": "PIL", "pyzmq": "zmq"}.get(name, name.replace("-", "_")) for name in locks.pins(lock)}
    missing = sorted(wanted & set(facts["missing"]))
    if missing or "broken" in facts:
        said = facts.get("broken") or f"{', '.join(missing)} cannot be found"
        raise JobError("set-up-failed", f"The new environment does not work: {said}.", "Try again, or see the log.")
    return facts


def _check_way(plan: Plan) -> None:
    if plan.wheels is not None:
        if not plan.wheels.is_dir():
            raise UsageError(
                "wheel-missing", f"There is no folder {plan.wheels}.", "Choose the folder of wheels again."
            )
    elif not plan.online:
        raise UsageError(
            "offline",
            "Blender may not use the network, and the set-up has to download packages.",
            "Turn on 'Allow Online Access' (Preferences > System > Network), or choose a folder of wheels.",
        )


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Two Blenders never make the same environment."""
    try:
        lock = FileLock(home / environment.LOCK)
    except BlockingIOError as error:
        raise UsageError("set-up-runs", f"Another Blender is setting up {home}.", "Wait for it.") from error
    except OSError as error:
        raise unwritable(home, error.strerror) from error
    try:
        yield
    finally:
        lock.release()


def _tells_progress(folder: Path) -> bool:
    """Whether this pip can tell its progress in numbers (24.1 and later)."""
    found = next(iter(folder.rglob("pip-*.dist-info")), None)
    return found is not None and _numbers(found.name.removeprefix("pip-").removesuffix(".dist-info")) >= (24, 1)


def _variables(start: ProcessCommand, offline: bool = False) -> dict[str, str]:
    """A start's variables, proxies and pip's own settings among them, without what would lead pip elsewhere."""
    variables = {name: value for name, value in start.variables.items() if name not in REFUSED}
    if offline:
        variables["PIP_CONFIG_FILE"] = os.devnull
        for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
            variables.pop(name, None)
    return variables


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split("+")[0].split(".")
    return tuple(int(part) if part.isdecimal() else 0 for part in parts)
