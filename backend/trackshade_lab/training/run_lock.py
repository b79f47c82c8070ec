# SPDX-License-Identifier: GPL-3.0-or-later
# accelerate's names are not marked as exported.
# pyright: reportPrivateImportUsage=false
"""A run's folder belongs to one configuration."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from trackshade.core.errors import UsageError

from .config import FREE, RunConfig, TrainConfig, TuneConfig


def claim(out: Path, config: RunConfig, accelerator: Accelerator) -> None:
    """Store the configuration in the run's folder. Raises UsageError where another run is there."""
    path = out / "config.json"
    if path.exists():
        theirs = stored(out)
        different = [
            entry.name
            for entry in dataclasses.fields(config)
            if entry.name not in FREE and getattr(theirs, entry.name, None) != getattr(config, entry.name)
        ]
        if type(theirs) is not type(config) or different:
            said = ", ".join(different) if type(theirs) is type(config) else "another kind of training"
            raise UsageError(
                "other-run", f"{out} holds a run with other settings ({said}).", "Choose another folder with --out."
            )
    accelerator.wait_for_everyone()  # nobody compares with what is about to be written
    if accelerator.is_main_process:
        try:
            out.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            part.write_text(json.dumps(config.to_dict(), indent=1), encoding="utf-8")
            part.replace(path)
        except OSError as error:
            raise UsageError(
                "output-unwritable",
                f"The run cannot be written to {out}: {error.strerror or error}.",
                "Choose a folder that can be written with --out.",
            ) from error


def stored(out: Path) -> RunConfig:
    """The configuration of the run in a folder. Raises UsageError."""
    try:
        values: dict[str, Any] = json.loads((out / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError("no-run", f"There is no run in {out}.", "Name the folder that was given as --out.") from error
    except (OSError, ValueError) as error:
        raise UsageError("damaged-run", f"{out / 'config.json'} cannot be read: {error}.") from error
    return (TuneConfig if "base" in values else TrainConfig).from_dict(values)
