# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of `trackshade evaluate motion`, also `python -m trackshade_lab.evaluation.motion`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trackshade.core.errors import UsageError

from ...command_line import CommandParser, run_command, silence_library_logging
from ..__main__ import print_message

if TYPE_CHECKING:
    from .detector import JointDetector

PROGRAM = "trackshade evaluate motion"
DESCRIPTION = """\
Measure what motion tokens say about a motion from any camera, and the pictures that a generator makes of it.

  trackshade evaluate motion --out REPORT                     the embedded mini-motion
  trackshade evaluate motion --out REPORT --run RUN           with the baselines of a run of 'trackshade train motion'
  trackshade evaluate motion --out REPORT --folder RUN/export --without-pictures
  trackshade evaluate motion --out REPORT --characters robot.npz    also with rigged characters as drivers
  trackshade evaluate motion --out REPORT --ablations 600     ablations: 600 steps of the tokens, 200 of the generator

A detector of joints is trained first, for some minutes, and kept in the folder of the report."""


def build_parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    parser = CommandParser(PROGRAM, DESCRIPTION)
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="Folder of the report.")
    add("--json", action="store_true", help="Print the tables as JSON.")
    add("--folder", type=Path, metavar="DIR", help="Folder of the motion model; default: the embedded mini-motion.")
    add("--run", type=Path, metavar="DIR", help="Run that trained it with --baselines, which are then measured, too.")
    add("--clips", type=int, default=128, metavar="N", help="Clips for each figure of the first table. [default: 128]")
    add("--picture-clips", type=int, default=32, metavar="N", help="Clips for each figure of the generator's pictures. "
        "[default: 32]")  # fmt: skip
    add("--without-pictures", action="store_true", help="Measure only what tokens say.")
    add("--steps", type=int, default=2, metavar="N", help="Denoising steps. [default: 2]")
    add("--detector-steps", type=int, default=300, metavar="N", help="Training steps of the detector of joints. "
        "[default: 300]")  # fmt: skip
    add("--characters", type=Path, nargs="+", metavar="PATH", help="Files of 'trackshade character', or folders of "
        "them: also measure these characters as drivers. Leave out those of the training.")  # fmt: skip
    add("--ablations", type=int, metavar="STEPS", help="Instead of a model, measure ablations: the tokens of each "
        "variant are trained for so many steps, its generator for a third of them, in the folder of the report. With "
        "--without-pictures, tokens alone.")  # fmt: skip
    return parser


def main(arguments: Sequence[str]) -> int:
    """Evaluate, print the tables, and return the exit code."""
    return run_command(lambda: _run(arguments), "Stopped; the detector is kept as far as it is trained.")


def _run(arguments: Sequence[str]) -> None:
    values = build_parser().parse_args(arguments)
    for name in ("clips", "picture_clips", "steps", "detector_steps"):
        if getattr(values, name) < 1:
            flag = name.replace("_", "-")
            raise UsageError("bad-setting", f"--{flag} is {getattr(values, name)}.", "Give 1 or more.")
    silence_library_logging()
    from ..store import to_json, write_bytes, write_json

    if values.ablations is not None:
        from .ablations import format_ablations, measure_ablations

        detector = None if values.without_pictures else _detector(values)
        rows = measure_ablations(
            values.out / "ablations", values.ablations, values.clips, print_message,
            detector, values.picture_clips, values.steps,
        )  # fmt: skip
        text = format_ablations(rows, values.ablations) + "\n"
        write_json(values.out / "ablations.json", rows)
        write_bytes(values.out / "ablations.md", text.encode())
        print(json.dumps(to_json(rows)) if values.json else text, flush=True)
        return
    from ...motion.characters import load_characters
    from .detector import detector_errors
    from .pictures import measure_pictures
    from .report import format_report, write_sheet
    from .said import measure_joints, measure_reading, measure_retrieval
    from .sources import load_model

    characters = load_characters(values.characters) if values.characters else None
    model = load_model(values.folder, values.run)
    print_message("joints that are said")
    summary = {"joints": measure_joints(model, values.clips, characters)}
    print_message("retrieval and reading")
    summary["retrieval"] = measure_retrieval(model, sets=max(1, values.clips // 32))
    summary["reading"] = measure_reading(model, max(16, values.clips * 3 // 4))
    if not values.without_pictures:
        detector = _detector(values)
        pictures = measure_pictures(model, detector, values.picture_clips, values.steps, print_message)
        write_sheet(values.out / "sheet-90.png", *pictures.pop("sheet"))
        summary |= {"pictures": pictures, "detector": detector_errors(detector)}
    text = format_report(summary)
    write_json(values.out / "summary.json", summary)
    write_bytes(values.out / "report.md", text.encode())
    print(json.dumps(to_json(summary)) if values.json else text, flush=True)


def _detector(values: argparse.Namespace) -> JointDetector:
    """Load the detector of the report's folder, or train it."""
    from .detector import prepare_detector

    values.out.mkdir(parents=True, exist_ok=True)
    return prepare_detector(values.out / "detector.safetensors", print_message, values.detector_steps)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
