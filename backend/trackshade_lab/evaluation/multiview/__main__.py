# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of `trackshade evaluate multiview`, also `python -m trackshade_lab.evaluation.multiview`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from trackshade.core.errors import UsageError

from ...command_line import CommandParser, run_command, silence_library_logging
from ..__main__ import parse_size, print_message

PROGRAM = "trackshade evaluate multiview"
DESCRIPTION = """\
Sample grids of many cameras and many frames with every arm, and measure them against true renders.

  trackshade evaluate multiview --out REPORT                   60 generated scenes, 3 seeds, all arms
  trackshade evaluate multiview --out REPORT --prompt image    from one picture instead of a row and a column
  trackshade evaluate multiview --out REPORT --folder RUN/export --arms rows,columns,logistic

The same command resumes an evaluation that was stopped; more scenes, seeds or arms are added to it."""


def build_parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    parser = CommandParser(PROGRAM, DESCRIPTION)
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="Folder of the report.")
    add("--force", action="store_true", help="Discard what the folder holds, and measure again.")
    add("--json", action="store_true", help="Print the tables as JSON.")
    add("--folder", type=Path, metavar="DIR", help="Folder of the denoiser; default: the embedded mini-matrix.")
    add("--arms", metavar="A,B,...", help="Measure only these arms and baselines. With +light, references "
        "are relit by clay renders; with +detail, detail that the autoencoder loses is added.")  # fmt: skip
    add("--prompt", choices=("image", "video", "static", "cross"), default="cross", help="What is given: one cell, "
        "the first camera's row, the first frame's column, or both. [default: cross]")  # fmt: skip
    add("--steps", type=int, default=6, metavar="N", help="Denoising steps. [default: 6]")
    add("--temperature", type=float, default=0.25, metavar="X", help="How far samples deviate from the mean, 0 to 1; "
        "arms with +light always use 0. [default: 0.25]")  # fmt: skip
    add("--no-bf16", action="store_true", help="Compute products in float32.")

    add = parser.add_argument_group("scenes").add_argument
    add("--scenes", type=int, default=60, metavar="N", help="Held-out scenes. [default: 60]")
    add("--seeds", type=int, default=3, metavar="N", help="Seeds of the noise for each scene. [default: 3]")
    add("--views", type=int, default=5, metavar="N", help="Cameras. [default: 5]")
    add("--frames", type=int, default=9, metavar="N", help="Frames. [default: 9]")
    add("--size", type=parse_size, default=(144, 96), metavar="WxH", help="Size of the cells. [default: 144x96]")
    add("--span", type=float, nargs=2, default=(90.0, 120.0), metavar=("FROM", "TO"), help="Limits of the angle "
        "between the first camera and the last, degrees. [default: 90 120]")  # fmt: skip
    add("--sheets", type=int, default=6, metavar="N", help="Scenes to draw contact sheets of. [default: 6]")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Evaluate, print the table, and return the exit code."""
    return run_command(lambda: _run(arguments), "Stopped; what was measured is kept.")


def _run(arguments: Sequence[str]) -> None:
    values = build_parser().parse_args(arguments)
    for name, least in (("scenes", 1), ("seeds", 1), ("views", 2), ("frames", 2), ("steps", 1)):
        if getattr(values, name) < least:
            raise UsageError("bad-setting", f"--{name} is {getattr(values, name)}.", f"Give {least} or more.")
    import trackshade

    from .config import ArmVariant, MultiviewEvaluation
    from .run import evaluate_multiview

    silence_library_logging()
    arms = tuple(values.arms.split(",")) if values.arms else MultiviewEvaluation.arms
    for arm in arms:
        ArmVariant.parse(arm)
    config = MultiviewEvaluation(
        model=values.folder or Path(trackshade.__file__).parent / "models" / "mini-matrix",
        prompt=values.prompt,
        scenes=values.scenes,
        seeds=values.seeds,
        views=values.views,
        frames=values.frames,
        size=values.size,
        span=tuple(values.span),
        steps=values.steps,
        arms=arms,
        temperature=values.temperature,
        bf16=not values.no_bf16,
    )
    text, summary = evaluate_multiview(config, values.out, print_message, values.force, values.sheets)
    if values.json:
        from ..store import to_json

        text = json.dumps(to_json(summary))
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
