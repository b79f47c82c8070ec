# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of `trackshade evaluate lifting`, also `python -m trackshade_lab.evaluation.lifting`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from trackshade.core.errors import UsageError

from ...command_line import CommandParser, run_command
from ..__main__ import parse_size, print_message

PROGRAM = "trackshade evaluate lifting"
PARTS = ("crops", "depth", "walls", "tours", "control", "speed")
KINDS = ("orbit", "dolly", "instances", "leaves", "character")
DESCRIPTION = """\
Measure how well photos are lifted to scenes: JSON and tables.

  trackshade evaluate lifting --out REPORT                 all parts
  trackshade evaluate lifting --out REPORT --part crops    horizon and focal length, on crops of panoramas
  trackshade evaluate lifting --out REPORT --part depth    with true depth: rooms, and held-out Blender scenes
  trackshade evaluate lifting --out REPORT --part walls    depth of rooms, corridors and streets by the picture alone
  trackshade evaluate lifting --out REPORT --part tours    rooms without depth, by the right handles
  trackshade evaluate lifting --out REPORT --part control  the camera of shaded results, for eight motions
  trackshade evaluate lifting --out REPORT --part speed    CPU seconds

The panoramas are those that come with Blender. Errors of scenes are the worst of four motions of the camera."""


def build_parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    parser = CommandParser(PROGRAM, DESCRIPTION)
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="Folder of the report.")
    add("--part", action="append", default=[], choices=PARTS, metavar="NAME", help="Measure only this part: "
        f"{', '.join(PARTS)}. Can be repeated.")  # fmt: skip
    add("--data", type=Path, metavar="DIR", help="Folder of rendered scenes. [default: OUT/data]")
    add("--kind", action="append", default=[], choices=KINDS, metavar="NAME", help="Use only this kind of held-out "
        f"scene: {', '.join(KINDS)}. Can be repeated.")  # fmt: skip
    add("--scenes", type=int, default=1, metavar="N", help="Scenes of each kind, and rooms. [default: 1]")
    add("--crops", type=int, default=8, metavar="N", help="Crops of each panorama. [default: 8]")
    add("--seed", type=int, default=0, metavar="N", help="Random seed of crops and scenes. [default: 0]")
    add("--size", type=parse_size, default=(480, 320), metavar="WxH", help="Size of the photos of scenes, pixels. "
        "[default: 480x320]")  # fmt: skip
    add("--json", action="store_true", help="Print the figures as JSON.")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Evaluate, print the tables, and return the exit code."""
    return run_command(lambda: _run(arguments), "Stopped; rendered scenes are kept.")


def _run(arguments: Sequence[str]) -> None:
    values = build_parser().parse_args(arguments)
    for name in ("scenes", "crops"):
        if getattr(values, name) < 1:
            raise UsageError("bad-setting", f"--{name} is {getattr(values, name)}.", "Give 1 or more.")
    from ..store import to_json
    from .run import LiftingConfig, evaluate_lifting

    config = LiftingConfig(
        parts=tuple(values.part) or PARTS,
        data=values.data or values.out / "data",
        kinds=tuple(values.kind) or KINDS,
        scenes=values.scenes,
        crops=values.crops,
        seed=values.seed,
        size=values.size,
    )
    text, figures = evaluate_lifting(config, values.out, print_message)
    print(json.dumps(to_json(figures)) if values.json else text, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
