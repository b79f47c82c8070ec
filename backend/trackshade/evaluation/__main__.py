# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m trackshade.evaluation`: print the table for the embedded model or for a folder in diffusers' layout."""

from __future__ import annotations

import argparse
import sys

from ..errors import TrackshadeError
from ..models.loading import load_pipeline
from ..pipelines import DiffusionShaderPipeline
from ..registry import spec
from .report import evaluate


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m trackshade.evaluation", description=__doc__)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--folder", help="a pipeline folder instead of a registered model")
    parser.add_argument("--clips", type=int, default=72)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", default=[])
    parser.add_argument("--no-prompts", action="store_true")
    parser.add_argument("--out", help="write the report as JSON")
    a = parser.parse_args()
    try:
        model = spec(a.model)
        pipeline = DiffusionShaderPipeline.from_pretrained(a.folder) if a.folder else load_pipeline(model)
        pipeline.set_progress_bar_config(disable=True)
        report = evaluate(
            pipeline,
            a.clips,
            a.steps or model.steps,
            model.guidance if a.guidance is None else a.guidance,
            a.seed,
            a.out,
            tuple(a.kind),
            model.sizes[0],
            model.frames[0],
            prompts=not a.no_prompts,
            progress=lambda done, of: print(f"\r{done} of {of} clips", end="", file=sys.stderr, flush=True),
        )
    except TrackshadeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print("", file=sys.stderr)
    print(report.table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
