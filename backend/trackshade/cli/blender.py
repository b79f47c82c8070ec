# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the add-on's commands in a Blender process that reports progress and ends with this process."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trackshade.cli.system import advice, missing_libraries
from trackshade.core.errors import JobError, ShotError, TrackshadeError, UsageError
from trackshade.core.processes import ProcessCommand, end_process, find_program, this_python
from trackshade.core.processes import blender as start_blender
from trackshade.ipc import json_lines

MIN_VERSION = (4, 2)
GRACE = 20.0  # seconds that Blender has to restore everything after Ctrl-C
OnMessage = Callable[[Mapping[str, Any]], None]


class UnusableBlenderError(Exception):
    """A Blender cannot run the add-on; the message says why."""


@dataclass(frozen=True)
class Host:
    """A Blender that may run the add-on."""

    start: ProcessCommand  # how to start it; the add-on's arguments follow
    name: str  # what it is, for messages


def run_addon(arguments: Sequence[str], blender: str | None, on_message: OnMessage) -> dict[str, Any]:
    """Run a command of the add-on, and return its result.

    Args:
        arguments: The command's name and arguments; see `to_arguments`.
        blender: The Blender to run. Default: the first one on the path, or the bpy module; those that cannot run the
            add-on are skipped.
        on_message: Receives progress.

    Raises:
        UsageError: `blender` is not a Blender that can be used.
        ShotError: No Blender was found.
        JobError: Blender ended without a result.
        TrackshadeError: The command's error.
    """
    reasons = []
    for host in _hosts(blender or None):  # a farm's parameter may be empty
        try:
            return _run(host, arguments, on_message)
        except UnusableBlenderError as reason:
            reasons.append(f"{host.name}: {reason}")
    raise ShotError(
        "no-blender",
        " ".join(["No Blender that can be used was found.", *reasons]),
        "Install Blender 4.2 or later and give --blender PATH, or install its Python module: pip install bpy.",
    )


def blender_version(path: str) -> tuple[int, int] | None:
    """Return (major, minor) of a Blender binary; None for other programs."""
    try:
        start = start_blender(path, "--version")
        done = subprocess.run(start.command, env=start.variables, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"^Blender (\d+)\.(\d+)", done.stdout, re.MULTILINE)
    return (int(found[1]), int(found[2])) if found else None


def _hosts(blender: str | None) -> Iterator[Host]:
    script = importlib.util.find_spec("trackshade_addon")
    if script is None or script.origin is None:
        raise ShotError("no-add-on", "The package trackshade_addon is missing here.", "Install Trackshade again.")
    bootstrap = str(Path(script.origin).with_name("bootstrap.py"))
    path = blender or find_program("blender")
    if path is not None:
        version = blender_version(path)
        if version is None and blender is not None:
            raise UsageError("not-blender", f"{path} is not a Blender that can be run.", "Correct --blender.")
        if version is not None and version < MIN_VERSION and blender is not None:
            raise UsageError("old-blender", f"{path} is Blender {version[0]}.{version[1]}.", "Version 4.2 is needed.")
        if version is not None and version >= MIN_VERSION:
            start = start_blender(path, "--background", "--python-exit-code", "1", "--python", bootstrap, "--")
            yield Host(start, path)
    if blender is None and importlib.util.find_spec("bpy") is not None:
        if missing := missing_libraries():
            raise ShotError("missing-libraries", advice(missing))
        yield Host(this_python("-m", "trackshade_addon"), "the bpy module")


def _run(host: Host, arguments: Sequence[str], on_message: OnMessage) -> dict[str, Any]:
    handle, log = tempfile.mkstemp(prefix="trackshade-blender-", suffix=".log")
    with os.fdopen(handle, "w", 1, encoding="utf-8", errors="replace") as output:  # line by line
        process = subprocess.Popen(
            [*host.start.command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            encoding="utf-8",
            errors="replace",
            env={**host.start.variables, **_variables()},
            start_new_session=True,  # Ctrl-C reaches this process only, which passes it on
        )
        try:
            final, stage = _listen(process, output, on_message)
            process.wait()
        except BaseException:
            try:
                end_process(process, GRACE)  # which interrupts it
            finally:
                Path(log).unlink(missing_ok=True)
            raise
    try:
        return _take_result(final, stage, process.returncode, log)
    finally:
        if final is not None:
            Path(log).unlink(missing_ok=True)


def _take_result(final: dict[str, Any] | None, stage: Mapping[str, Any], code: int, log: str) -> dict[str, Any]:
    """Return the result in the last message of a process that ended with an exit code; `stage` is the progress before.

    Raises:
        JobError: There is no last message.
        UnusableBlenderError: The message says so.
        TrackshadeError: The message is an error.
    """
    if final is None:
        lines = [line for line in Path(log).read_text(errors="replace").splitlines() if line.strip()]
        last_line = f": {lines[-1].strip()[:200]}" if lines else ""
        signals = {number.value: number.name for number in signal.Signals}
        how = f"crash, {signals.get(-code, f'signal {-code}')}" if code < 0 else f"code {code}"
        if stage.get("state") == "opening":
            raise JobError(
                "blender-ended",
                f"Blender ended while it opened {stage.get('message')} ({how}){last_line}",
                f"The file may be damaged, or need another version of Blender. See {log}.",
                exit_code=3,
            )
        raise JobError("blender-ended", f"Blender ended before it was done ({how}){last_line}", f"See {log}.")
    if final["event"] == "unusable":
        raise UnusableBlenderError(final["reason"])
    if final["event"] == "error":
        raise TrackshadeError.from_dict(final["error"])
    return final["result"]


def _listen(
    process: subprocess.Popen[str], log: Any, on_message: OnMessage
) -> tuple[dict[str, Any] | None, Mapping[str, Any]]:
    """Pass progress on until the process closes its output; return the last other message, and the last progress."""
    assert process.stdout is not None
    final = None
    stage: Mapping[str, Any] = {}
    for line in process.stdout:
        message = json_lines.parse_line(line)
        if message is None:
            log.write(line)
        elif message.get("event") == "progress":
            stage = message
            on_message(message)
        else:
            final = message
    return final, stage


def _variables() -> dict[str, str]:
    """Return environment variables for the add-on's commands."""
    specs = {name: importlib.util.find_spec(name) for name in ("trackshade", "trackshade_addon", "zmq", "msgpack")}
    folders = {name: str(Path(spec.origin).parents[1]) for name, spec in specs.items() if spec and spec.origin}
    return {
        json_lines.VARIABLE: "1",
        "TRACKSHADE_BORROW": json.dumps(folders),
        "TRACKSHADE_PYTHON": os.environ.get("TRACKSHADE_PYTHON") or sys.executable,
        "PYTHONUNBUFFERED": "1",
    }
