# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds hands and silhouettes of people by mediapipe, where that is installed in an environment of its own.

mediapipe (Apache-2.0) has its networks in its package and needs other versions of NumPy and protobuf than Trackshade.
It is looked for in the virtual environment that TRACKSHADE_MEDIAPIPE names, else in the folder `mediapipe` of
`trackshade.core.folders.home`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from trackshade.core import folders
from trackshade.core.errors import CancelledError
from trackshade.core.processes import isolated_python, last_log_line
from trackshade.motion.hand_places import SIDES

_START, _ANSWER = 120.0, 30.0  # seconds to wait until the program is ready, and for an answer
_SCRIPT = Path(__file__).with_name("mediapipe_person.py")


def find_detector() -> Path | None:
    """Return the interpreter of the environment that has mediapipe; None if there is no such environment."""
    given = os.environ.get("TRACKSHADE_MEDIAPIPE")
    folder = Path(given).expanduser() if given else folders.home() / "mediapipe"
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    return python.absolute() if python.is_file() else None


@dataclass(frozen=True, eq=False)
class Person:
    """What was found in a picture.

    Attributes:
        hands: [2, 2] (x, y) of the middles of the left and the right hand, pixels; NaN for one that is not seen.
        mask: [h, w] bool, where the person is seen; None if there is nobody.
    """

    hands: np.ndarray
    mask: np.ndarray | None


class PersonDetector:
    """A running detector. It answers pictures in their order, one later than they are given.

    A detector that fails finds nobody any more; `failure` then says why. Used as a context manager, which ends it.

    Args:
        python: interpreter that has mediapipe.
        size: (width, height) of the pictures.
        cancelled: whether to end.
    """

    def __init__(self, python: Path, size: tuple[int, int], cancelled: Callable[[], bool]) -> None:
        self.failure = ""
        self._cancelled = cancelled
        self._folder = tempfile.TemporaryDirectory(prefix="trackshade-", ignore_cleanup_errors=True)
        self._log = Path(self._folder.name) / "log.txt"
        self._pictures: queue.SimpleQueue[np.ndarray | None] = queue.SimpleQueue()
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._found: list[Person] = []
        self._size = size
        self._given = 0
        self._process: subprocess.Popen[bytes] | None = None
        start = isolated_python(python, str(_SCRIPT), *map(str, size))
        try:
            with open(self._log, "wb") as log:
                self._process = subprocess.Popen(
                    start.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=start.variables
                )
        except OSError as error:
            self.failure = str(error)
            return
        for work in (self._write_pictures, self._read_lines):
            threading.Thread(target=work, args=(self._process,), name="person detector", daemon=True).start()

    def __enter__(self) -> PersonDetector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pictures.put(None)
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def add(self, picture: np.ndarray) -> None:
        """Give a picture [h, w, 3] uint8 RGB. Raise CancelledError."""
        if self._given == 0 and not self.failure:
            self._answer(_START)  # that it is ready
        self._given += 1
        if not self.failure:
            self._pictures.put(np.ascontiguousarray(picture))
        if self._given > 1:
            self._take()

    def found(self) -> list[Person]:
        """Return what was found in all pictures.

        Raises:
            CancelledError: `cancelled` returned True.
        """
        while len(self._found) < self._given:
            self._take()
        return self._found

    def _take(self) -> None:
        """Keep the answer to a picture."""
        answer = {} if self.failure else self._answer(_ANSWER) or {}
        places = [(np.nan, np.nan) if answer.get(side) is None else answer[side] for side in SIDES]
        mask = None
        if answer.get("mask") is not None:
            bits = np.unpackbits(np.frombuffer(base64.b64decode(answer["mask"]), np.uint8))
            mask = bits[: self._size[0] * self._size[1]].reshape(self._size[1], self._size[0]).astype(bool)
        self._found.append(Person(np.array(places, np.float64), mask))

    def _answer(self, seconds: float) -> Any:
        """Return the next line; None if it does not come, or is not what it should be."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self._cancelled():
                raise CancelledError
            with contextlib.suppress(queue.Empty):
                line = self._lines.get(timeout=0.1)
                try:
                    return json.loads(line)
                except ValueError:
                    break  # it has ended
        self._fail()
        return None

    def _fail(self) -> None:
        self.failure = self.failure or last_log_line(self._log) or "it does not answer"

    def _write_pictures(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        with contextlib.suppress(OSError), process.stdin as stream:  # an error: it has ended, which its answers tell
            while (picture := self._pictures.get()) is not None:
                stream.write(picture.data)
                stream.flush()

    def _read_lines(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._lines.put(line.decode(errors="replace"))
        process.wait()
        self._lines.put("")
