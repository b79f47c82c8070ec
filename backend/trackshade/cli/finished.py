# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands that need not run again: a file beside the output says what it was made of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trackshade.cli.inputs import digest_inputs, with_absolute_paths
from trackshade.config.options import Option
from trackshade.core.atomic_files import write_json, writing
from trackshade.core.errors import UsageError

SKIP_FINISHED = Option(
    "--skip-finished",
    "Do nothing if the same command has made --out from the same files. Otherwise it is replaced.",
    default=False,
    kind=bool,
)
_SOURCES = ("scene", "shot", "result")


class FinishedWork:
    """Whether the output of a command is what it would make now.

    Args:
        command: Name of the command.
        taken: The options that it takes.
        values: Values of its options by key.

    Raises:
        UsageError: "no-out": the output is not named.
    """

    def __init__(self, command: str, taken: Sequence[Option], values: Mapping[str, Any]) -> None:
        if values["out"] is None:
            raise UsageError("no-out", "--skip-finished needs the name of the output.", "Name it with --out.")
        self._out = Path(values["out"]).absolute()
        self._file = self._out.with_name(f"{self._out.name}.done")
        sources = [Path(values[key]).absolute() for key in _SOURCES if values.get(key) is not None]
        # What is placed is that result; the folder also gets the scene that is written.
        sources = [path / "job.json" if (path / "job.json").exists() else path for path in sources]
        values = with_absolute_paths(values, Path.cwd())
        self._digest = digest_inputs(command, taken, sources, values, self._out.parent)

    def result(self) -> dict[str, Any] | None:
        """Return what the command would print, if its output is there; else None."""
        try:
            noted = json.loads(self._file.read_text(encoding="utf-8"))
            is_there = bool(noted["files"]) and all((self._out.parent / name).is_file() for name in noted["files"])
            if noted["digest"] != self._digest or not is_there:
                return None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return {"out": str(self._out), "files": {"finished before": str(self._out)}, "warnings": []}

    def begin(self) -> None:
        """Note that the output is being made. Raise OutputError."""
        with writing("The output", self._out):
            self._file.unlink(missing_ok=True)

    def note(self) -> None:
        """Note that the output is made, and its files. Raise OutputError."""
        files = sorted(path for path in self._out.rglob("*") if path.is_file()) if self._out.is_dir() else [self._out]
        names = [path.relative_to(self._out.parent).as_posix() for path in files]
        write_json(self._file, {"digest": self._digest, "files": names})
