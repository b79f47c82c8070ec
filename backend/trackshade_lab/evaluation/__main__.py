# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of `trackshade evaluate`, also `python -m trackshade_lab.evaluation`."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trackshade.core.errors import UsageError

from ..command_line import CommandParser, run_command, silence_library_logging

PROGRAM = "trackshade evaluate"
_SAMPLING_OPTIONS = ("folder", "size", "frames", "steps", "guidance", "tracking_guidance", "seed")
DESCRIPTION = """\
Measure how well a model follows its tracks: JSON, tables and plots in a folder.

  trackshade evaluate --out REPORT                       the embedded model, on held-out clips
  trackshade evaluate --out REPORT --folder RUN          another pipeline: its folder, or a training run
  trackshade evaluate --out REPORT --controls            also compare control signals
  trackshade evaluate --out REPORT --results FOLDER ...  results of 'trackshade render --input-render'
  trackshade evaluate propagation --help                 propagation of pictures, against true renders
  trackshade evaluate multiview --help                   many cameras and many frames, against true renders
  trackshade evaluate motion --help                      motion tokens and the motion model's pictures
  trackshade evaluate lifting --help                     photos lifted to scenes, against true cameras and depth
  trackshade evaluate tracking --help                    tracked footage and motion transfer, against true renders

The same command resumes an evaluation that was stopped."""


def build_parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    parser = CommandParser(PROGRAM, DESCRIPTION)
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="Folder of the report.")
    add("--force", action="store_true", help="Discard what the folder holds, and measure again.")
    add("--results", nargs="+", type=Path, metavar="DIR", help="Measure these results instead of held-out clips.")
    add("--json", action="store_true", help="Print the tables as JSON.")

    add = parser.add_argument_group("model").add_argument
    add("--model", default="mini", metavar="NAME", help="Registered model. [default: mini]")
    add("--folder", metavar="DIR", help="Pipeline folder or training run to use instead of the model's weights.")
    add("--size", type=parse_size, metavar="WxH", help="Size of the clips in pixels; default: the model's.")
    add("--frames", type=int, metavar="N", help="Frames of a clip; default: the model's.")
    add("--steps", type=int, metavar="N", help="Denoising steps; default: the model's.")
    add("--guidance", type=float, metavar="X", help="Guidance scale; default: the model's.")
    add("--tracking-guidance", type=float, metavar="X", help="Guidance scale of the tracks; default: the model's.")
    add("--seed", type=int, default=0, metavar="N", help="Random seed of the noise. [default: 0]")
    add("--no-prompts", action="store_true", help="Use empty prompts.")
    add("--device", metavar="NAME", help="Device: cpu, cuda, cuda:N or mps; default: the best one available.")
    add("--batch", type=int, default=4, metavar="N", help="Clips generated at a time. [default: 4]")

    add = parser.add_argument_group("clips").add_argument
    add("--clips", type=int, default=108, metavar="N", help="Held-out clips, spread over the kinds. [default: 108]")
    add("--spin", type=int, default=24, metavar="N", help="Extra clips of the spin set. [default: 24]")
    add("--kind", action="append", default=[], metavar="NAME", help="Use only this kind of scene. Can be repeated.")
    add("--variants", "--ways", metavar="A,B,...", help="Measure only these variants: truth, ceiling, right, warp, "
        "inpainted, still, other, none, destroyed.")  # fmt: skip
    add("--no-text", action="store_true", help="Do not measure the color that the text names.")
    add("--sheets", type=int, default=12, metavar="N", help="Contact sheets to draw. [default: 12]")

    add = parser.add_argument_group("control signals").add_argument
    add("--controls", nargs="?", const="", metavar="A,B,...", help="Compare control signals: all, or some of none, "
        "depth, tracks-N, mesh.")  # fmt: skip
    add("--control-model", action="append", default=[], type=_parse_control_model, metavar="SIGNAL=DIR",
        help="Model that was trained with a signal. Can be repeated.")  # fmt: skip
    add("--point-rule", choices=("mesh", "points"), default="mesh", help="Colors of tracks-N: the positions in the "
        "first frame (mesh), or those of the published training data (points). [default: mesh]")  # fmt: skip
    return parser


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse a command line. Raises UsageError."""
    values = build_parser().parse_args(arguments)
    for name, minimum in (("clips", 0), ("spin", 0), ("batch", 1), ("sheets", 0), ("frames", 2), ("steps", 1)):
        value = getattr(values, name)
        if value is not None and value < minimum:
            raise UsageError("bad-setting", f"--{name} is {value}.", f"Give {minimum} or more.")
    return values


def parse_size(text: str) -> tuple[int, int]:
    """Parse "WxH" for argparse."""
    match = re.fullmatch(r"(\d+)[x×](\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size such as 144x96")
    return int(match[1]), int(match[2])


def _parse_control_model(text: str) -> tuple[str, str]:
    name, _, folder = text.partition("=")
    if not (name and folder):
        raise argparse.ArgumentTypeError(f"'{text}' is not SIGNAL=FOLDER")
    return name, folder


def main(arguments: Sequence[str]) -> int:
    """Evaluate, print the tables, and return the exit code."""
    return run_command(lambda: _run(arguments), "Stopped; what was measured is kept.")


def _run(arguments: Sequence[str]) -> None:
    values = parse(arguments)
    silence_library_logging()
    text, tables = _evaluate_results(values) if values.results else _evaluate_clips(values)
    print(json.dumps(tables) if values.json else text, flush=True)


def print_message(line: str) -> None:
    """Print a line about the progress to standard error."""
    print(line, file=sys.stderr, flush=True)


def _evaluate_clips(values: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Return the report as text and as JSON."""
    from trackshade.control.signals import SIGNALS

    from .generator import SamplingConfig
    from .plots import write_plots
    from .run import EvaluationConfig, evaluate
    from .store import to_json, write_bytes, write_json
    from .summary import summarize
    from .tables import format_report
    from .variants import parse_variants

    controls = () if values.controls is None else tuple(filter(None, values.controls.split(","))) or SIGNALS
    control_models = dict(values.control_model)

    def given(*names: str) -> dict[str, Any]:
        return {name: getattr(values, name) for name in names}

    if unused := [name for name in control_models if name not in controls]:
        raise UsageError("usage", f"--control-model {unused[0]} is unused: the signal is not compared.",
                         "Add it to --controls.")  # fmt: skip
    config = EvaluationConfig(
        sampling=SamplingConfig.from_defaults(values.model, prompts=not values.no_prompts, **given(*_SAMPLING_OPTIONS)),
        kinds=tuple(values.kind),
        variants=parse_variants(values.variants),
        text=not values.no_text,
        controls=controls,
        control_models=control_models,
        **given("clips", "spin", "point_rule", "sheets", "batch", "device"),
    )
    result = evaluate(config, values.out, print_message, values.force)
    summary = summarize(result)
    text = format_report(result, summary)
    write_json(values.out / "report.json", result | {"tables": summary})
    write_bytes(values.out / "report.md", text.encode())
    plots = write_plots(values.out / "plots", result, summary)
    print_message(f"{values.out / 'report.md'}, {len(plots)} plots and the contact sheets are written.")
    return text, to_json(summary)


def _evaluate_results(values: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Return the report as text and as JSON."""
    from .results import evaluate_results
    from .store import to_json, write_bytes
    from .summary import RESULT_MEASURES, variant_rows
    from .tables import format_results_report

    report = evaluate_results(values.results, values.out, print_message)
    text = format_results_report(report)
    write_bytes(values.out / "report.md", text.encode())
    print_message(f"{values.out / 'report.md'} and the contact sheets are written.")
    return text, to_json({"all": variant_rows(report["clips"], RESULT_MEASURES)})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
