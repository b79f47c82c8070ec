# SPDX-License-Identifier: GPL-3.0-or-later
"""Has a result's textures baked by the backend's environment, in a process of its own that nobody waits for."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from trackshade.core.errors import UsageError

from ..backend import current_prefs
from ..backend.tasks import CancellableTask, run_backend_task


class Baking(Future[None]):
    """A bake that goes on.

    Attributes:
        share: of it that is done, 0 to 1.
    """

    def __init__(self, python: str, folder: Path, wanted: Mapping[str, Any]) -> None:
        super().__init__()
        self.share = 0.0
        self._task = CancellableTask()
        arguments = ("bake", str(folder), json.dumps(wanted))
        threading.Thread(target=self._run, args=(python, arguments), name="trackshade-bake", daemon=True).start()

    def end(self) -> None:
        """Ends it where it still goes on, and leaves an earlier bake as it was. Returns at once."""
        if not self.done():
            self._task.cancel()

    def _run(self, python: str, arguments: tuple[str, ...]) -> None:
        try:
            run_backend_task(self._task, python, *arguments, progress=self._note)
        except BaseException as error:  # noqa: BLE001 - it goes to who asks for the result
            self.set_exception(error)
        else:
            self.set_result(None)

    def _note(self, done: int, total: int) -> None:
        self.share = done / total


def bake(folder: Path, wanted: Mapping[str, Any]) -> Baking:
    """Begins to bake a result; `wanted` as `trackshade.results.baking.BakeOptions` has it, as plain values.

    Raises:
        UsageError: there is no environment of the backend on this machine.
    """
    python = current_prefs().python()
    if python is None:
        raise UsageError(
            "not-set-up", "The backend is not set up yet, and it is what bakes.", "Press Set Up in the Backend panel."
        )
    return Baking(python, folder, wanted)
