# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of `trackshade evaluate propagation`, also `python -m trackshade_lab.evaluation.propagation`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from trackshade.core.errors import UsageError

from ...command_line import CommandParser, run_command, silence_library_logging
from ..__main__ import parse_size, print_message
from .dataset import KINDS

PROGRAM = "trackshade evaluate propagation"
DESCRIPTION = """\
Measure how well one picture is carried to all frames of a shot, against true renders: JSON, tables and pictures.

  trackshade evaluate propagation --out REPORT                     generated scenes of all kinds
  trackshade evaluate propagation --out REPORT --kind orbit        scenes of one kind
  trackshade evaluate propagation --out REPORT --scene shot.blend  your own scenes
  trackshade evaluate propagation --out REPORT --arms full,flat    only some ways of making the frames

The same command resumes an evaluation that was stopped. Scenes are rendered with Cycles, once."""


def build_parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    parser = CommandParser(PROGRAM, DESCRIPTION)
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="Folder of the report.")
    add("--force", action="store_true", help="Discard the figures that the folder holds.")
    add("--arms", metavar="A,B,...", help="Measure only these arms; default: all.")
    add("--seed", type=int, default=0, metavar="N", help="Random seed of the arms. [default: 0]")
    add("--threads", type=int, default=0, metavar="N", help="Number of CPU threads; 0 uses numba's. [default: 0]")
    add("--device", default="cpu", metavar="NAME", help="Device that propagation draws frames on: auto, cpu, cuda or "
        "cuda:N. [default: cpu]")  # fmt: skip
    add("--json", action="store_true", help="Print the tables as JSON.")

    add = parser.add_argument_group("scenes").add_argument
    add("--data", type=Path, metavar="DIR", help="Folder of rendered scenes. [default: OUT/data]")
    add("--kind", action="append", default=[], choices=KINDS, metavar="NAME", help="Use only this kind of generated "
        f"scene: {', '.join(KINDS)}. Can be repeated.")  # fmt: skip
    add("--scene", action="append", default=[], type=Path, metavar="PATH", help="Use this scene file, or folder of a "
        "rendered scene, and no generated scenes but those of --kind. Can be repeated.")  # fmt: skip
    add("--scenes", type=int, default=1, metavar="N", help="Generated scenes of each kind. [default: 1]")
    add("--size", type=parse_size, default=(480, 320), metavar="WxH", help="Largest size of the frames, pixels. "
        "[default: 480x320]")  # fmt: skip
    add("--every", type=int, default=8, metavar="N", help="Distance of the true frames, of scenes with 33 frames; "
        "longer ones have as many. [default: 8]")  # fmt: skip
    add("--samples", type=int, default=24, metavar="N", help="Cycles' samples per pixel. [default: 24]")
    add("--blender", metavar="PATH", help="Blender to render with; default: the one found, or the bpy module.")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Evaluate, print the tables, and return the exit code."""
    return run_command(lambda: _run(arguments), "Stopped; what was rendered and measured is kept.")


def _run(arguments: Sequence[str]) -> None:
    values = build_parser().parse_args(arguments)
    for name in ("scenes", "every", "samples"):
        if getattr(values, name) < 1:
            raise UsageError("bad-setting", f"--{name} is {getattr(values, name)}.", "Give 1 or more.")
    from .arms import parse_arms
    from .dataset import RenderSettings
    from .run import PropagationConfig, evaluate_propagation

    silence_library_logging()
    config = PropagationConfig(
        data=values.data or values.out / "data",
        kinds=tuple(values.kind) or (() if values.scene else KINDS),
        seeds=tuple(range(values.scenes)),
        scenes=tuple(values.scene),
        arms=parse_arms(values.arms),
        render=RenderSettings(values.size, values.every, values.samples, values.blender),
        seed=values.seed,
        threads=values.threads,
        device=values.device,
    )
    text, summary = evaluate_propagation(config, values.out, print_message, values.force)
    if values.json:
        from ..store import to_json

        text = json.dumps(to_json(summary))
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
