# SPDX-License-Identifier: GPL-3.0-or-later
"""Job templates of Open Job Description (`jobtemplate-2023-09`), which Deadline Cloud and other managers run.

Each shot has three steps: its capture, a task for each part of its frames; its shading, a task for each seed; and its
placing. A step waits for the one before of the same shot only. Scenes are found below the parameter Project and results
go below Results; both are paths, which the farm maps to those of each machine.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trackshade.cli.batch.rows import Row
from trackshade.cli.farm.tasks import Placeholders, ShotTasks, names_of, tasks_of
from trackshade.core.errors import UsageError

VERSION = "jobtemplate-2023-09"
_MARKS = Placeholders(
    project="{{Param.Project}}",
    results="{{Param.Results}}",
    first="{{Task.Param.First}}",
    chunk="{{Param.ChunkSize}}",
    seed="{{Task.Param.Seed}}",
)
_NOTICE = 60  # seconds that a cancelled task has to restore the scene and to cancel its job
_NAME_LENGTH, _TITLE_LENGTH = 64, 128  # of a step, and of a job


def make_template(
    rows: Sequence[Row],
    *,
    folder: Path,
    title: str,
    project: Path,
    results: Path,
    chunk: int,
    seeds: str | None,
    gpus: int,
) -> dict[str, Any]:
    """Return the template of a job with all rows.

    Args:
        rows: The shots.
        folder: Folder of the template, to which the paths that it names are relative.
        title: Name of the job.
        project: Folder of all scenes and pictures, absolute.
        results: Folder of all results, absolute.
        chunk: Number of frames that a task captures; 0 to capture each shot by one task.
        seeds: Seeds that each shot is shaded with, such as "1-4". Default: that of its row.
        gpus: Number of GPUs that shading needs.

    Raises:
        UsageError: A row cannot be described: "farm-option", "farm-text", or as `values_of_chunk`.
    """
    shots = [
        tasks_of(row, name, project, _MARKS, chunk > 0, "openjd")
        for row, name in zip(rows, names_of(rows), strict=True)
    ]
    parameters = [
        _path("Project", "IN", project, folder, "Folder of all scenes and pictures."),
        _path("Results", "OUT", results, folder, "Folder of all results."),
        _text("Trackshade", "trackshade", "Program that runs the tasks."),
        _text("Blender", "", "Blender of the workers. Empty: the one on the path, or its Python module."),
    ]
    if any(shot.frames for shot in shots):
        what = "Number of frames that a task captures."
        parameters.append({"name": "ChunkSize", "type": "INT", "default": chunk, "minValue": 1, "description": what})
    steps = [step for row, shot in zip(rows, shots, strict=True) for step in _steps(row, shot, seeds, gpus)]
    template = {
        "specificationVersion": VERSION,
        "name": title,
        "parameterDefinitions": parameters,
        "steps": steps,
    }
    _check(template)
    return template


def _path(name: str, flow: str, default: Path, folder: Path, text: str) -> dict[str, Any]:
    kind = {"type": "PATH", "objectType": "DIRECTORY", "dataFlow": flow}
    relative = {}  # a default must be below the template; others are given with the job
    if default.is_relative_to(folder):
        relative = {"default": default.relative_to(folder).as_posix()}
    return {"name": name, **kind, **relative, "description": text}


def _text(name: str, default: str, text: str) -> dict[str, Any]:
    return {"name": name, "type": "STRING", "default": default, "description": text}


def _steps(row: Row, shot: ShotTasks, seeds: str | None, gpus: int) -> list[dict[str, Any]]:
    steps = []
    if shot.capture is not None:
        first = None
        if shot.frames is not None:
            first = {"name": "First", "type": "INT", "range": f"{shot.frames[0]}-{shot.frames[1]}:{_MARKS.chunk}"}
        steps.append(_step("Capture", shot, shot.capture, first))
    seed = {"name": "Seed", "type": "INT", "range": str(row.values["seed"]) if seeds is None else seeds}
    shade = _step("Shade", shot, shot.shade, seed)
    if gpus:
        shade["hostRequirements"] = {"amounts": [{"name": "amount.worker.gpu", "min": gpus}]}
    steps.append(shade)
    if shot.place is not None:
        steps.append(_step("Place", shot, shot.place, seed))
    for before, after in itertools.pairwise(steps):
        after["dependencies"] = [{"dependsOn": before["name"]}]
    return steps


def _step(kind: str, shot: ShotTasks, arguments: Sequence[str], parameter: dict[str, Any] | None) -> dict[str, Any]:
    words = [arguments[0], "--blender={{Param.Blender}}", *arguments[1:]]
    step: dict[str, Any] = {"name": f"{kind} {shot.name}"[:_NAME_LENGTH]}
    if parameter is not None:
        step["parameterSpace"] = {"taskParameterDefinitions": [parameter]}
    cancel = {"mode": "NOTIFY_THEN_TERMINATE", "notifyPeriodInSeconds": _NOTICE}
    step["script"] = {
        "actions": {"onRun": {"command": "{{Param.Trackshade}}", "args": words, "cancelation": cancel}},
    }
    return step


def _check(template: dict[str, Any]) -> None:
    """Raise UsageError for texts that a template cannot hold, and steps of one name."""
    title = template["name"]
    if len(title) > _TITLE_LENGTH or not title.isprintable() or "{{" in title:
        fix = f"Give a --title of at most {_TITLE_LENGTH} characters."
        raise UsageError("farm-text", f"A job cannot be called {title!r}.", fix)
    names = [step["name"] for step in template["steps"]]
    for name in names:
        if names.count(name) > 1:
            raise UsageError("farm-text", f"Two shots are called {name}.", "Give them shorter names in the list.")
    for step in template["steps"]:
        for word in step["script"]["actions"]["onRun"]["args"]:
            plain = word
            for mark in vars(_MARKS).values():
                plain = plain.replace(mark, "")
            plain = plain.replace("{{Param.Blender}}", "")
            if "{{" in plain or "}}" in plain or any(ord(letter) < 32 for letter in plain):
                raise UsageError(
                    "farm-text",
                    f"{step['name']}: a template cannot hold {plain!r}.",
                    "Leave out line breaks and double braces.",
                )


def format_yaml(value: Any, indent: str = "") -> str:
    """Return plain values as YAML with a key or an item on each line; texts are quoted as in JSON."""
    lines = []
    items = value.items() if isinstance(value, dict) else [("-", item) for item in value]
    for key, item in items:
        head = f"{indent}- " if key == "-" and not isinstance(value, dict) else f"{indent}{key}: "
        if isinstance(item, (dict, list)) and item:
            inner = format_yaml(item, indent + "  ")
            lines.append(f"{indent}- {inner.lstrip()}" if head.endswith("- ") else f"{head.rstrip()}\n{inner}")
        else:
            lines.append(head + json.dumps(item, ensure_ascii=False))
    return "\n".join(lines)
