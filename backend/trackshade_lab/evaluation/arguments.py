# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of `trackshade evaluate`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from trackshade.core.errors import UsageError

PROGRAM = "trackshade evaluate"
DESCRIPTION = """\
Measure how well a model follows its tracks: a JSON, tables and plots in a folder.

  trackshade evaluate --out REPORT                       the embedded model, on held-out clips
  trackshade evaluate --out REPORT --folder RUN          another pipeline: its folder, or a training run
  trackshade evaluate --out REPORT --controls            besides, what each kind of control signal is worth
  trackshade evaluate --out REPORT --results FOLDER ...  results of 'trackshade render --input-render'

A run that was stopped goes on with the same command."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError("usage", f"{PROGRAM}: {message}.", f"See: {PROGRAM} --help")


def parser() -> argparse.ArgumentParser:
    made = _Parser(
        prog=PROGRAM, description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the report")
    made.add_argument("--force", action="store_true", help="measure again what the folder holds")
    made.add_argument("--results", nargs="+", type=Path, metavar="DIR", help="measure these results instead of clips")
    made.add_argument("--json", action="store_true", help="print the tables as JSON")

    model = made.add_argument_group("model")
    model.add_argument("--model", default="mini", metavar="NAME", help="registered model; mini if left out")
    model.add_argument("--folder", metavar="DIR", help="pipeline folder or training run, instead of its weights")
    model.add_argument("--size", type=_size, metavar="WxH", help="of the clips, pixels; the model's if left out")
    model.add_argument("--frames", type=int, metavar="N", help="of the clips; the model's if left out")
    model.add_argument("--steps", type=int, metavar="N", help="denoising steps; the model's if left out")
    model.add_argument("--guidance", type=float, metavar="X", help="the model's if left out")
    model.add_argument("--tracking-guidance", type=float, metavar="X", help="the model's if left out")
    model.add_argument("--seed", type=int, default=0, metavar="N", help="of the noise")
    model.add_argument("--no-prompts", action="store_true", help="leave every prompt empty")
    model.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:N or mps; the best one here if left out")
    model.add_argument("--batch", type=int, default=4, metavar="N", help="clips that are made at a time")

    clips = made.add_argument_group("clips")
    clips.add_argument("--clips", type=int, default=108, metavar="N", help="held-out clips, spread over the kinds")
    clips.add_argument("--spin", type=int, default=24, metavar="N", help="further clips of the spin set")
    clips.add_argument("--kind", action="append", default=[], metavar="NAME", help="only this kind; may be repeated")
    clips.add_argument("--ways", metavar="A,B,...", help="only these rows: truth, ceiling, right, warp, inpainted, "
                       "still, other, none, destroyed")  # fmt: skip
    clips.add_argument("--no-text", action="store_true", help="leave the color of the text out")
    clips.add_argument("--sheets", type=int, default=12, metavar="N", help="contact sheets to draw")

    controls = made.add_argument_group("control signals")
    controls.add_argument("--controls", nargs="?", const="", metavar="A,B,...", help="compare control signals; all, or "
                          "some of none, depth, tracks-N, mesh")  # fmt: skip
    controls.add_argument("--control-model", action="append", default=[], type=_named, metavar="SIGNAL=DIR",
                          help="the model that was trained with a signal; may be repeated")  # fmt: skip
    controls.add_argument("--point-rule", choices=("mesh", "points"), default="mesh", help="colors of tracks-N: the "
                          "places in the frame, or the published training data's")  # fmt: skip
    return made


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Raises UsageError."""
    values = parser().parse_args(arguments)
    for name, least in (("clips", 0), ("spin", 0), ("batch", 1), ("sheets", 0), ("frames", 2), ("steps", 1)):
        value = getattr(values, name)
        if value is not None and value < least:
            raise UsageError("bad-setting", f"--{name} is {value}.", f"Give {least} or more.")
    return values


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)[x×](\d+)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size such as 144x96")
    return int(found[1]), int(found[2])


def _named(text: str) -> tuple[str, str]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise argparse.ArgumentTypeError(f"'{text}' is not SIGNAL=FOLDER")
    return name, folder
