# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of `trackshade train`, made from the settings of both kinds of training."""

from __future__ import annotations

import argparse
import dataclasses
import typing
from collections.abc import Sequence
from typing import Any, NoReturn

from trackshade.core.errors import UsageError

from .config import RunConfig, TrainConfig, TuneConfig

PROGRAM = "trackshade train"
DESCRIPTION = """\
Train a model, or go on with a run that was interrupted.

  trackshade train --out RUN --data SHARDS --minutes 120     a small model from nothing, on procedural clips
  trackshade train --out RUN --data DATASET --base FOLDER    the tracking branch of a published base, on a dataset
  trackshade train export RUN [FOLDER]                       a run's newest checkpoint as a pipeline folder
  trackshade train data FOLDER                               procedural clips; see 'trackshade train data --help'

Several processes: accelerate launch -m trackshade_lab.training ... with the same options."""
_BOTH, _SCRATCH, _TUNE = "", " (from nothing)", " (with --base)"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError("usage", f"{PROGRAM}: {message}.", f"See: {PROGRAM} --help")


def parser() -> argparse.ArgumentParser:
    """Options under headings; those left out are missing from what it parses, so that a dataclass has the defaults."""
    made = _Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} --out RUN --data FOLDER [--base FOLDER] [options]",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    headings: dict[str, Any] = {}
    made.add_argument("--json", action="store_true", default=False, help="report JSON lines instead of sentences")
    fields = {entry.name: entry for cls in (TuneConfig, TrainConfig) for entry in dataclasses.fields(cls)}
    for name in (*_names(RunConfig), *(name for name in fields if name not in _names(RunConfig))):
        scratch, tune = name in _names(TrainConfig), name in _names(TuneConfig)
        only = _BOTH if scratch and tune else _SCRATCH if scratch else _TUNE
        entry = fields[name]
        heading = entry.metadata["group"] + only
        if heading not in headings:
            headings[heading] = made.add_argument_group(heading)
        headings[heading].add_argument("--" + name.replace("_", "-"), **_described(name))
    return made


def parse(arguments: Sequence[str]) -> tuple[RunConfig, bool]:
    """The configuration that the arguments describe, and whether JSON is wanted. Raises UsageError."""
    values = vars(parser().parse_args(arguments))
    as_json = values.pop("json")
    cls = TuneConfig if "base" in values else TrainConfig
    if foreign := sorted(set(values) - set(_names(cls))):
        flags = ", ".join("--" + name.replace("_", "-") for name in foreign)
        kind = "training from a base" if cls is TuneConfig else "training from nothing (without --base)"
        raise UsageError("usage", f"{flags} has no meaning in {kind}.", f"See: {PROGRAM} --help")
    missing = [f"--{name}" for name in ("out", "data") if name not in values]
    if missing:
        raise UsageError("usage", f"{PROGRAM}: {' and '.join(missing)} must be given.", f"See: {PROGRAM} --help")
    return cls(**values), as_json


def _names(cls: type) -> dict[str, None]:
    """An ordered set."""
    return dict.fromkeys(entry.name for entry in dataclasses.fields(cls))


def _described(name: str) -> dict[str, Any]:
    """What argparse is told about a setting, from the dataclasses that have it."""
    owners = [cls for cls in (TrainConfig, TuneConfig) if name in _names(cls)]
    hint = typing.get_type_hints(owners[0])[name]
    kind = next(kind for kind in (typing.get_args(hint) or (hint,)) if kind is not type(None))
    entries = [next(entry for entry in dataclasses.fields(cls) if entry.name == name) for cls in owners]
    texts = list(dict.fromkeys(entry.metadata["help"] for entry in entries))
    defaults = [entry.default for entry in entries if entry.default not in (dataclasses.MISSING, None)]
    shown = list(dict.fromkeys("on" if d is True else "off" if d is False else f"{d}" for d in defaults))
    text = "; with --base: ".join(texts) + (f" ({'; with --base '.join(shown)})" if shown else "")
    described: dict[str, Any] = {"help": text.replace("%", "%%"), "type": _switch if kind is bool else kind}
    if kind is bool:
        described |= {"nargs": "?", "const": True, "metavar": "true|false"}
    elif choices := entries[0].metadata["choices"]:
        described |= {"choices": choices}
    else:
        described["metavar"] = {int: "N", float: "X"}.get(kind, "PATH" if name != "device" else "NAME")
    return described


def _switch(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise argparse.ArgumentTypeError(f"'{text}' is neither true nor false")
