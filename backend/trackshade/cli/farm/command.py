# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands `trackshade farm openjd` and `trackshade farm flamenco`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trackshade.cli.batch.rows import read_rows, row_options
from trackshade.cli.farm.openjd import format_yaml, make_template
from trackshade.cli.farm.tasks import common_folder
from trackshade.config.options import Option
from trackshade.core.atomic_files import write_bytes, writing
from trackshade.core.errors import OutputError, UsageError

FLAMENCO_SCRIPT = "trackshade.js"
_SEEDS = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")
_MOST_SEEDS = 10_000
_FORCE = Option("--force", "Replace an existing file.", default=False, kind=bool)
_OPENJD = (
    Option("sources", "Scenes, shot files, a folder of them, or a list as of 'trackshade batch'.", "SCENE",
           required=True, repeat=True),
    Option("--out", "Template to write, .yaml or .json; a file beside it has the paths on this machine.", "FILE",
           "template.yaml", short="-o"),
    Option("--results", "Folder of all results, which all machines reach. Default: 'results' beside the template.",
           "DIR"),
    Option("--project", "Folder of all scenes and pictures. Default: the one that the scenes have in common.", "DIR"),
    Option("--chunk", "Number of frames that a task captures; needs --frames. 0: one task for each shot.", "N", 0, int),
    Option("--seeds", "Seeds that each shot is shaded with, a task for each. Default: that of its row.", "A-B|A,B,C"),
    Option("--gpus", "Number of GPUs that shading needs.", "N", 0, int),
    Option("--title", "Name of the job. Default: that of the template's file.", "NAME"),
    _FORCE,
)  # fmt: skip
FLAMENCO_OPTIONS = (
    Option("--out", "Folder 'scripts' beside the Flamenco Manager.", "DIR", "scripts", short="-o"),
    _FORCE,
)


def openjd_options() -> tuple[Option, ...]:
    """Return the options of `farm openjd`: its own, and those that hold for all shots."""
    own = {option.key for option in _OPENJD}
    return *_OPENJD, *(option for option in row_options() if option.key not in own)


def write_openjd(values: Mapping[str, Any]) -> None:
    """Write a job template and the values of its paths on this machine, and print where they are.

    Raises:
        UsageError: As raised by `read_rows` and `make_template`, or for a wrong option.
        OutputError: The file exists or cannot be written.
    """
    out = Path(values["out"]).expanduser()
    if out.suffix.lower() not in (".yaml", ".yml", ".json"):
        raise UsageError("usage", f"A template is YAML or JSON, not {out.suffix or out.name}.", "Name it .yaml.")
    if values["chunk"] < 0 or values["gpus"] < 0:
        raise UsageError("usage", "--chunk and --gpus are not negative.", "See: trackshade farm openjd --help")
    if values["seeds"] is not None:
        _check_seeds(values["seeds"])
    own = {option.key for option in _OPENJD}
    shared = {option.key: values[option.key] for option in row_options() if option.key not in own}
    shared = {option.key: shared[option.key] for option in row_options() if shared.get(option.key) != option.default}
    rows = read_rows([Path(source).expanduser() for source in values["sources"]], shared)
    if values["chunk"] and not any(row.values.get("frames") for row in rows):
        fix = "Name them with --frames, or in the column 'frames' of the list."
        raise UsageError("usage", "--chunk needs the frames of the shots.", fix)
    folder = out.absolute().parent
    project = common_folder(rows, None if values["project"] is None else Path(values["project"]))
    results = Path(os.path.abspath(Path(values["results"] or folder / "results").expanduser()))
    template = make_template(
        rows,
        folder=folder,
        title=values["title"] or out.stem,
        project=project,
        results=results,
        chunk=values["chunk"],
        seeds=values["seeds"],
        gpus=values["gpus"],
    )
    is_json = out.suffix.lower() == ".json"
    text = json.dumps(template, indent=2, ensure_ascii=False) if is_json else format_yaml(template)
    parameters = {"Project": str(project), "Results": str(results)}
    _write(out, text + "\n", values["force"])
    _write(out.with_name(f"{out.stem}-parameters.json"), json.dumps(parameters, indent=2) + "\n", values["force"])


def write_flamenco(values: Mapping[str, Any]) -> None:
    """Write the job type of Flamenco, and print its path. Raise OutputError."""
    script = Path(__file__).with_name("flamenco.js")
    _write(Path(values["out"]).expanduser() / FLAMENCO_SCRIPT, script.read_text(encoding="utf-8"), values["force"])


def _check_seeds(text: str) -> None:
    """Raise UsageError unless a text names seeds, each once, such as "1-4" or "3,7,11"."""
    seeds: list[int] = []
    for part in text.split(","):
        found = _SEEDS.fullmatch(part)
        first, last, step = (found[1], found[2] or found[1], found[3] or "1") if found is not None else ("1", "0", "1")
        numbers = range(int(first), int(last) + 1, int(step)) if int(step) else range(0)
        if not numbers or len(seeds) + len(numbers) > _MOST_SEEDS:
            fix = f"Write at most {_MOST_SEEDS} of them, as 1-4 or 3,7,11."
            raise UsageError("usage", f"'{text}' are no seeds.", fix)
        seeds += numbers
    if len(set(seeds)) < len(seeds):
        raise UsageError("usage", f"'{text}' names a seed twice.", "Name each of them once.")


def _write(path: Path, text: str, force: bool) -> None:
    if path.exists() and not force:
        raise OutputError("output-exists", f"{path} exists and was kept.", "Use --force to replace it.")
    with writing("The file", path):
        write_bytes(path, text.encode())
    print(path.absolute(), flush=True)
