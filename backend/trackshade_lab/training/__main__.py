# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of `trackshade train`, generated from the settings in `config.py`.

Run it as `python -m trackshade_lab.training`, or in several processes with
`accelerate launch -m trackshade_lab.training`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trackshade.core.errors import UsageError

from ..command_line import CommandParser, run_command, silence_library_logging
from .config import FineTuningConfig, FromScratchConfig, MotionConfig, MultiviewConfig, RunConfig

PROGRAM = "trackshade train"
MULTIVIEW_DESCRIPTION = """\
Train mini-matrix, a denoiser of videos and of camera sweeps of one scene, or resume its training.

  trackshade train multiview --out RUN --minutes 75

Every step renders its own scenes, so there is no data to prepare."""
MOTION_DESCRIPTION = """\
Train mini-motion, which lets the figure of a picture move as in a driving video, or resume its training.

  trackshade train motion --out RUN --minutes 35 --generator-minutes 40

Every step generates its own clips, so there is no data to prepare. First come the motion tokens, without the generator;
then the generator, with the encoder frozen."""
DESCRIPTION = """\
Train a model, or resume an interrupted run.

  trackshade train --out RUN --data SHARDS --minutes 120     a small model from scratch, on procedural clips
  trackshade train --out RUN --data DATASET --base FOLDER    the tracking branch of a published base, on a dataset
  trackshade train multiview --out RUN --minutes 75          mini-matrix; see 'trackshade train multiview --help'
  trackshade train motion --out RUN --minutes 35 --generator-minutes 40
                                                             mini-motion; see 'trackshade train motion --help'
  trackshade train export RUN [FOLDER]                       export a run's latest checkpoint as a pipeline folder
  trackshade train data FOLDER                               generate procedural clips; see 'trackshade train data --help'

Several processes: accelerate launch -m trackshade_lab.training ... with the same options."""  # noqa: E501


def build_parser() -> argparse.ArgumentParser:
    """Build the argument parser. Options that are not given are absent from the parsed namespace."""
    usage = f"{PROGRAM} --out RUN --data FOLDER [--base FOLDER] [options]"
    parser = CommandParser(PROGRAM, DESCRIPTION, usage=usage, argument_default=argparse.SUPPRESS)
    groups: dict[str, Any] = {}
    parser.add_argument("--json", action="store_true", default=False, help="Print JSON lines instead of sentences.")
    # By name: the field of each class that has such a setting.
    fields: dict[str, list[dataclasses.Field]] = {name: [] for name in _field_names(RunConfig)}
    for cls in (FromScratchConfig, FineTuningConfig):
        for entry in dataclasses.fields(cls):
            fields.setdefault(entry.name, []).append(entry)
    for name, entries in fields.items():
        group = entries[0].metadata["group"]
        if len(entries) == 1:
            group += " (from scratch)" if name in _field_names(FromScratchConfig) else " (with --base)"
        if group not in groups:
            groups[group] = parser.add_argument_group(group)
        old_names = [entry.metadata["old"] for entry in entries if entry.metadata["old"]]
        flags = [f"--{flag.replace('_', '-')}" for flag in dict.fromkeys([name, *old_names])]
        groups[group].add_argument(*flags, dest=name, **_argument_options(name, entries))
    return parser


def parse(arguments: Sequence[str]) -> tuple[RunConfig, bool]:
    """Parse a command line.

    Returns:
        The configuration, and whether JSON output was requested.

    Raises:
        UsageError: for options that are unknown, missing, invalid or of the other kind of training.
    """
    values = vars(build_parser().parse_args(arguments))
    as_json = values.pop("json")
    cls = FineTuningConfig if "base" in values else FromScratchConfig
    if foreign := sorted(set(values) - _field_names(cls).keys()):
        flags = ", ".join("--" + name.replace("_", "-") for name in foreign)
        kind = "fine-tuning (with --base)" if cls is FineTuningConfig else "training from scratch (without --base)"
        raise UsageError("usage", f"{flags} does not apply to {kind}.", f"See: {PROGRAM} --help")
    missing = [f"--{name}" for name in ("out", "data") if name not in values]
    if missing:
        raise UsageError("usage", f"{PROGRAM}: {' and '.join(missing)} must be given.", f"See: {PROGRAM} --help")
    return cls(**values), as_json


def parse_generated(
    name: str, cls: type[MultiviewConfig] | type[MotionConfig], description: str, arguments: Sequence[str]
) -> tuple[RunConfig, bool]:
    """Parse the command line of a training that generates its data, `trackshade train NAME`, as `parse` does."""
    parser = CommandParser(f"{PROGRAM} {name}", description, argument_default=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", default=False, help="Print JSON lines instead of sentences.")
    groups: dict[str, Any] = {}
    for entry in dataclasses.fields(cls):
        if entry.name == "data":  # there is none
            continue
        group = entry.metadata["group"]
        if group not in groups:
            groups[group] = parser.add_argument_group(group)
        flag = f"--{entry.name.replace('_', '-')}"
        groups[group].add_argument(flag, dest=entry.name, **_argument_options(entry.name, [entry], cls))
    values = vars(parser.parse_args(arguments))
    as_json = values.pop("json")
    if "out" not in values:
        raise UsageError("usage", f"{PROGRAM} {name}: --out must be given.", f"See: {PROGRAM} {name} --help")
    return cls(**values), as_json


def _field_names(cls: type) -> dict[str, None]:
    """Return the names of a dataclass's fields, as an ordered set."""
    return dict.fromkeys(entry.name for entry in dataclasses.fields(cls))


def _argument_options(name: str, entries: list[dataclasses.Field], owner: type | None = None) -> dict[str, Any]:
    """Return keyword arguments of `add_argument` for a setting, from the fields of the classes that have it.

    `owner` is a class that has it; one of those of `parse` if None.
    """
    owner = owner or (FromScratchConfig if name in _field_names(FromScratchConfig) else FineTuningConfig)
    hint = typing.get_type_hints(owner)[name]
    kind = next(kind for kind in (typing.get_args(hint) or (hint,)) if kind is not type(None))
    texts = dict.fromkeys(entry.metadata["help"] for entry in entries)
    defaults = [entry.default for entry in entries if entry.default not in (dataclasses.MISSING, None)]
    shown = dict.fromkeys("on" if d is True else "off" if d is False else f"{d}" for d in defaults)
    text = " With --base: ".join(texts) + (f" [default: {'; with --base: '.join(shown)}]" if shown else "")
    options: dict[str, Any] = {"help": text.replace("%", "%%"), "type": _parse_switch if kind is bool else kind}
    if kind is bool:
        options |= {"nargs": "?", "const": True, "metavar": "true|false"}
    elif typing.get_origin(kind) is tuple:
        options |= {"type": str, "nargs": "+", "metavar": "PATH"}
    elif choices := entries[0].metadata["choices"]:
        options |= {"choices": choices}
    else:
        options["metavar"] = {int: "N", float: "X"}.get(kind, "PATH" if name != "device" else "NAME")
    return options


def _parse_switch(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise argparse.ArgumentTypeError(f"'{text}' is neither true nor false")


def main(arguments: list[str]) -> int:
    """Train or resume a run, or export one, and return the exit code."""
    # Schedulers send SIGTERM: save a checkpoint and end, as for Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return run_command(lambda: _run(arguments), "Stopped; the latest checkpoint is kept.")


def _run(arguments: list[str]) -> None:
    if arguments[:1] == ["export"]:
        if not 2 <= len(arguments) <= 3 or arguments[1].startswith("-"):
            raise UsageError("usage", f"{PROGRAM} export takes a run and an optional folder.", "export RUN [FOLDER]")
        silence_library_logging()
        from .run import export_run

        folder = export_run(arguments[1], Path(arguments[2]) if len(arguments) == 3 else None)
    else:
        if arguments[:1] == ["multiview"]:
            config, as_json = parse_generated("multiview", MultiviewConfig, MULTIVIEW_DESCRIPTION, arguments[1:])
        elif arguments[:1] == ["motion"]:
            config, as_json = parse_generated("motion", MotionConfig, MOTION_DESCRIPTION, arguments[1:])
        else:
            config, as_json = parse(arguments)
        silence_library_logging()
        from .logging import format_entry
        from .run import train

        folder = train(config, lambda entry: print(json.dumps(entry) if as_json else format_entry(entry), flush=True))
    if os.environ.get("RANK", "0") == "0":  # the main process of a launch
        print(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
