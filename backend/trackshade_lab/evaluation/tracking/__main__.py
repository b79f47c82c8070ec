# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of `trackshade evaluate tracking`, also `python -m trackshade_lab.evaluation.tracking`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from trackshade.core.errors import UsageError

from ...command_line import CommandParser, run_command
from ..__main__ import parse_size, print_message

PROGRAM = "trackshade evaluate tracking"
PARTS = ("tracks", "transfer")
DESCRIPTION = """\
Track rendered footage, compare tracks and cameras with the truth, and shade another look by the tracks.

  trackshade evaluate tracking --out REPORT                   generated scenes of all kinds
  trackshade evaluate tracking --out REPORT --kind orbit      scenes of one kind
  trackshade evaluate tracking --out REPORT --scene a.blend   your own scenes, or folders of rendered ones
  trackshade evaluate tracking --out REPORT --part transfer   motion transfer only, of generated scenes
  trackshade evaluate tracking --out REPORT --part transfer --scene a.blend --other a-other-look.blend

Scenes are rendered with Cycles, once. Each is tracked with its true focal length and without it. For motion transfer,
they are rendered with other materials as well: the first of these frames is shaded by the tracks of the footage, and
the result compared with the others. CLIP's measures are printed if it is installed."""


def build_parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    parser = CommandParser(PROGRAM, DESCRIPTION)
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="Folder of the report.")
    add("--spacing", type=float, default=6.0, metavar="PX", help="Distance of the points. [default: 6]")
    add("--part", action="append", default=[], choices=PARTS, metavar="NAME", help="Measure only this part: "
        f"{', '.join(PARTS)}. Can be repeated.")  # fmt: skip
    add("--prompt", metavar="TEXT", help="What the other look shows, for CLIP's Text-Ali.")
    add("--clip", metavar="DIR", help="Folder of CLIP; default: the one in the hub's cache.")
    add("--json", action="store_true", help="Print the figures as JSON.")

    add = parser.add_argument_group("scenes").add_argument
    add("--data", type=Path, metavar="DIR", help="Folder of rendered scenes. [default: OUT/data]")
    add("--kind", action="append", default=[], metavar="NAME", help="Use only this kind of generated scene. Can be "
        "repeated.")  # fmt: skip
    add("--scene", action="append", default=[], type=Path, metavar="PATH", help="Use this scene file, or folder of a "
        "rendered scene, and no generated scenes but those of --kind. Can be repeated.")  # fmt: skip
    add("--other", action="append", default=[], type=Path, metavar="PATH", help="The same scene with other materials, "
        "for motion transfer: one for each --scene.")  # fmt: skip
    add("--scenes", type=int, default=1, metavar="N", help="Generated scenes of each kind. [default: 1]")
    add("--size", type=parse_size, default=(720, 480), metavar="WxH", help="Largest size of the frames, pixels. "
        "[default: 720x480]")  # fmt: skip
    add("--frames", type=int, default=49, metavar="N", help="Frames of each scene. [default: 49]")
    add("--samples", type=int, default=8, metavar="N", help="Cycles' samples per pixel. [default: 8]")
    add("--blender", metavar="PATH", help="Blender to render with; default: the one found, or the bpy module.")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Evaluate, print the table, and return the exit code."""
    return run_command(lambda: _run(arguments), "Stopped; what was rendered is kept.")


def _run(arguments: Sequence[str]) -> None:
    values = build_parser().parse_args(arguments)
    for name in ("scenes", "frames", "samples"):
        if getattr(values, name) < (2 if name == "frames" else 1):
            raise UsageError("bad-setting", f"--{name} is {getattr(values, name)}.", "Give a larger number.")
    if values.other and len(values.other) != len(values.scene):
        raise UsageError(
            "bad-setting",
            f"--scene is given {len(values.scene)} time(s), --other {len(values.other)} time(s).",
            "Give one --other for each --scene.",
        )
    from .run import KINDS, TrackingConfig, evaluate_tracking

    config = TrackingConfig(
        data=values.data or values.out / "data",
        kinds=tuple(values.kind) or (() if values.scene else KINDS),
        seeds=tuple(range(values.scenes)),
        scenes=tuple(values.scene),
        others=tuple(values.other),
        size=values.size,
        frames=values.frames,
        samples=values.samples,
        spacing=values.spacing,
        blender=values.blender,
        parts=tuple(values.part) or PARTS,
        prompt=values.prompt,
        clip=values.clip,
    )
    text, figures = evaluate_tracking(config, values.out, print_message)
    if values.json:
        from ..store import to_json

        text = json.dumps(to_json(figures))
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
