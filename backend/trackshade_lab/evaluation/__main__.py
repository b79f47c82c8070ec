# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m trackshade_lab.evaluation`, which is `trackshade evaluate`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from trackshade.core.errors import CancelledError, TrackshadeError, UsageError

from ..silence import silence_library_logging
from .arguments import parse


def main(arguments: Sequence[str]) -> int:
    """Evaluate, and print the tables; the exit code."""
    try:
        values = parse(arguments)
        silence_library_logging()
        text, tables = _results(values) if values.results else _clips(values)
        print(json.dumps(tables) if values.json else text, flush=True)
    except KeyboardInterrupt:
        stopped = CancelledError(
            "cancelled", "Stopped; what was measured is kept.", "The same command goes on from it."
        )
        print(f"trackshade: {stopped}", file=sys.stderr)
        return stopped.exit_code
    except TrackshadeError as error:
        print(f"trackshade: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _clips(values: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    from trackshade.control.signals import SIGNALS

    from .generator import Sampling
    from .plots import write_plots
    from .report import summarise
    from .run import Evaluation, evaluate
    from .store import plain, write_bytes, write_json
    from .tables import markdown
    from .variants import chosen

    controls = () if values.controls is None else tuple(filter(None, values.controls.split(","))) or SIGNALS
    models = dict(values.control_model)
    if unused := [name for name in models if name not in controls]:
        raise UsageError("usage", f"--control-model {unused[0]} has no use: the signal is not compared.",
                         "Add it to --controls.")  # fmt: skip
    sampling = Sampling.of(
        values.model,
        values.folder,
        values.size,
        values.frames,
        values.steps,
        values.guidance,
        values.tracking_guidance,
        values.seed,
        not values.no_prompts,
    )
    evaluation = Evaluation(
        sampling=sampling,
        clips=values.clips,
        spin=values.spin,
        kinds=tuple(values.kind),
        ways=chosen(values.ways),
        text=not values.no_text,
        controls=controls,
        control_models=models,
        point_rule=values.point_rule,
        sheets=values.sheets,
        batch=values.batch,
        device=values.device,
    )
    result = evaluate(evaluation, values.out, say, values.force)
    summary = summarise(result)
    text = markdown(result, summary)
    write_json(values.out / "report.json", result | {"tables": summary})
    write_bytes(values.out / "report.md", text.encode())
    plots = write_plots(values.out / "plots", result, summary)
    say(f"{values.out / 'report.md'}, {len(plots)} plots and the sheets are written.")
    return text, plain(summary)


def _results(values: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    from .report import way_rows
    from .result_tables import results_markdown
    from .results import MEASURES, evaluate_results
    from .store import plain, write_bytes

    report = evaluate_results(values.results, values.out, say)
    text = results_markdown(report)
    write_bytes(values.out / "report.md", text.encode())
    say(f"{values.out / 'report.md'} and the sheets are written.")
    return text, plain({"all": way_rows(report["clips"], MEASURES)})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
