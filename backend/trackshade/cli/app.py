# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands of `trackshade`: their options, and the functions that run them."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from trackshade import __version__
from trackshade.cli import commands, doctor
from trackshade.cli.batch.command import batch_options, run_batch
from trackshade.cli.blender import OnMessage, run_addon
from trackshade.cli.export import export
from trackshade.cli.farm.command import FLAMENCO_OPTIONS, openjd_options, write_flamenco, write_openjd
from trackshade.cli.finished import SKIP_FINISHED, FinishedWork
from trackshade.cli.progress import ProgressDisplay, has_reader, interrupt_with_reader, print_error, print_result
from trackshade.cli.reenact import motion, reenact
from trackshade.cli.shade import shade
from trackshade.config import options, parsing
from trackshade.config.options import Option
from trackshade.core.errors import CancelledError, TrackshadeError, UsageError
from trackshade.core.farm_lines import FarmLines
from trackshade.core.processes import this_python

SUMMARY = "Give an animated scene a look: pictures of single frames are carried along its exact tracks to every frame."
_GROUPS = {"farm": "Write jobs and job types for render farms."}  # summaries of groups that are no commands themselves
_BLENDER = Option("--blender", "Blender to run. Default: the one on the path, or its Python module.", "PATH")
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Command:
    """A command of this program, which is run by one of two functions.

    `make` reports progress with "state" and details to its second argument, and returns a result that is printed.
    """

    description: str
    options: tuple[Option, ...]
    run: Callable[[Values], None] | None = None
    make: Callable[[Values, OnMessage], Values] | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, by default that of this process, and return the exit code.

    Raises:
        SystemExit: After help, and by commands that pass their arguments on.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if has_reader():
        interrupt_with_reader()
    try:
        _run(list(arguments))
    except TrackshadeError as error:
        return print_error(error, "--json" in arguments)
    except KeyboardInterrupt:
        return print_error(CancelledError(), "--json" in arguments)
    return 0


def _run(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("--help", "-h"):
        names = {name: text for name, (text, _) in PASSED_ON.items()} | {k: c.description for k, c in COMMANDS.items()}
        _print_commands("trackshade", SUMMARY, names)
        return
    if arguments[0] in PASSED_ON:
        PASSED_ON[arguments[0]][1](arguments[1:])
        return
    name, rest = arguments[0], arguments[1:]
    if rest and f"{name} {rest[0]}" in COMMANDS:
        name, rest = f"{name} {rest[0]}", rest[1:]
    if name not in COMMANDS:
        parts = [known for known in COMMANDS if known.startswith(f"{name} ")]
        if parts and rest[:1] in (["--help"], ["-h"]):
            descriptions = {known.removeprefix(f"{name} "): COMMANDS[known].description for known in parts}
            _print_commands(f"trackshade {name}", _GROUPS[name], descriptions)
            return
        fix = f"There is: {', '.join(parts)}." if parts else "See: trackshade --help"
        raise UsageError("usage", f"There is no command '{' '.join([name, *rest[:1]] if parts else [name])}'.", fix)
    command = COMMANDS[name]
    parser = parsing.parser_of(f"trackshade {name}", command.description, command.options)
    values = vars(parser.parse_intermixed_args(rest))
    if command.run is not None:
        command.run(values)
    if command.make is not None:
        _make(name, command, command.make, values)


def _print_commands(program: str, summary: str, descriptions: Mapping[str, str]) -> None:
    lines = [f"  {name:14}{descriptions[name]}" for name in sorted(descriptions)]
    print("\n".join([f"usage: {program} COMMAND [OPTIONS]", "", summary, "", "commands:", *lines]))
    print(f"\nSee '{program} COMMAND --help' for the options of a command.")


def _make(name: str, command: Command, make: Callable[[Values, OnMessage], Values], values: dict[str, Any]) -> None:
    """Run a command that reports progress, and print its result; do nothing if that is there already."""
    lines = FarmLines(values.get("progress", "none"))
    finished = None
    try:
        if values.get("skip_finished"):
            finished = FinishedWork(name, command.options, values)
            values["force"] = True
        result = None if finished is None else finished.result()
        if result is None:
            if finished is not None:
                finished.begin()
            with ProgressDisplay(lines) as display:
                result = make(values, display.show)
            if finished is not None:
                finished.note()
    except TrackshadeError as error:
        lines.failure(str(error))
        raise
    lines.result(result)
    print_result(result, values["json"])


def _in_blender(command: str, values: Values, on_message: OnMessage) -> Values:
    return run_addon(parsing.to_arguments(command, values), values["blender"], on_message)


def _lab_module(name: str) -> str:
    """Return the full name of a module of `trackshade_lab`, which the extension's installation does not have."""
    if importlib.util.find_spec("trackshade_lab") is None:
        raise UsageError(
            "no-lab",
            "Training, datasets and evaluation are not part of this installation.",
            "Install Trackshade from its source folder: pip install '.[backend,lab]'.",
        )
    return f"trackshade_lab.{name}"


def _dataset(values: Values, on_message: OnMessage) -> Values:
    lab = importlib.import_module(_lab_module("make_dataset"))
    return lab.dataset(
        Path(values["out"]),
        [Path(source) for source in values["sources"]],
        prompt=values["prompt"],
        control=lab.ControlOptions(values["control"], values["points"]),
        clips=values["clips"],
        scene_options={name: values[name] for name in ("model", *(option.key for option in options.CAPTURE))},
        blender=values["blender"],
        on_message=on_message,
    )


def _train(arguments: list[str]) -> None:
    if arguments[:1] == ["data"]:
        _run_module(_lab_module("scenes"), arguments[1:])
    _run_module(_lab_module("training"), arguments)


def _evaluate(arguments: list[str]) -> None:
    if arguments[:1] in (["propagation"], ["tracking"], ["lifting"], ["multiview"], ["motion"]):
        _run_module(_lab_module(f"evaluation.{arguments[0]}"), arguments[1:])
    _run_module(_lab_module("evaluation"), arguments)


def _run_module(module: str, arguments: list[str]) -> NoReturn:
    """Run a module that has a command line of its own, and exit with its exit code."""
    start = this_python("-m", module, *arguments)
    process = subprocess.Popen(start.command, env=start.variables)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())  # which it takes as a request to save and end
    while True:
        try:
            sys.exit(process.wait())
        except KeyboardInterrupt:  # the module got it, too, and ends in its own way
            continue


def _addon_command(
    name: str, make: Callable[[Values, OnMessage], Values] | None = None, more: tuple[Option, ...] = ()
) -> Command:
    """Make a command with the options that it has in Blender, and more; the scene file is required here."""
    description, own = options.COMMANDS[name]
    own = tuple(replace(option, required=True) if option == options.SCENE else option for option in own)
    if any(option == options.PROGRESS for option in own):
        more = (*more, SKIP_FINISHED)
    return Command(description, (*own, *more, _BLENDER), make=make or partial(_in_blender, name))


PASSED_ON: Mapping[str, tuple[str, Callable[[list[str]], None]]] = {
    "train": (
        "Train a model from scratch, or the tracking branch of a published one on a dataset; see 'train --help'.",
        _train,
    ),
    "evaluate": (
        "Measure models, propagation, tracking and lifting on held-out clips and scenes; see 'evaluate --help'.",
        _evaluate,
    ),
}
"""Commands whose arguments are passed on to a module: description and function."""

COMMANDS: Mapping[str, Command] = {
    "render": _addon_command("render"),
    "control": _addon_command("control"),
    "export": _addon_command("export", export, options.EXPORT),
    "place": _addon_command("place"),
    "lift": _addon_command("lift"),
    "track": _addon_command("track"),
    "animate": _addon_command("animate"),
    "character": _addon_command("character"),
    "hands": _addon_command("hands"),
    "actions": _addon_command("actions"),
    "shade": _addon_command("shade", shade),
    "key": _addon_command("key", shade),
    "batch": Command(
        "Shade many shots of a list or a folder, and write a report. An interrupted batch is continued.",
        (*batch_options(), _BLENDER),
        run_batch,
    ),
    "reenact": Command(
        "Let the figure of a picture do the motion of footage, seen from a camera that is named in words.",
        options.REENACT,
        make=reenact,
    ),
    "motion": Command(
        "Write the motion of the figure in footage as joint rotations, for an armature.", options.MOTION, make=motion
    ),
    "farm openjd": Command(
        "Write a job template of Open Job Description, which Deadline Cloud and other managers run.",
        openjd_options(),
        write_openjd,
    ),
    "farm flamenco": Command(
        "Write a job type for Flamenco 3, which its Manager reads at its start.", FLAMENCO_OPTIONS, write_flamenco
    ),
    "bake": Command(
        "Bake the frames of a result into a texture for each mesh, with a heat map of what varies.",
        (
            options.RESULT,
            Option(
                "--size", "Texture size in pixels. Default: the resolution of the frames, at most 2048.", "N", kind=int
            ),
            Option("--object", "Bake this mesh only.", "NAME"),
            Option("--shot", "Shot file, for a result that does not contain it.", "SHOT"),
            Option("--projection", "Also write the files for projecting frame by frame.", default=False, kind=bool),
            options.JSON,
        ),
        make=commands.bake_textures,
    ),
    "demo": Command(
        "Build a small scene and shade it, from a render of its first frame. No model is needed.",
        (Option("--out", "Folder to write to.", "DIR", "demo", short="-o"), options.JSON, _BLENDER),
        make=commands.make_demo,
    ),
    "jobs": Command("List the jobs of the backend.", (*options.CONNECTION, options.JSON), commands.print_jobs),
    "fetch": Command(
        "Download the result of a finished job again, for example if its command was killed.",
        (
            Option("job", "Job id, as 'trackshade jobs' lists it.", "JOB", required=True),
            *(options.FOLDER, options.FORCE, *options.CONNECTION, options.JSON),
        ),
        make=commands.fetch_result,
    ),
    "cancel": Command(
        "Cancel a job.", (Option("job", "Job id.", "JOB", required=True), *options.CONNECTION), commands.cancel_job
    ),
    "doctor": Command(
        "Print versions, devices, models, folders and problems, for a bug report.",
        (_BLENDER, options.JSON),
        doctor.print_facts,
    ),
    "serve": Command(
        "Run a backend until it is interrupted. All programs of this user on this machine share it.",
        options.SERVE,
        commands.serve,
    ),
    "models": Command(
        "List the models. 'models fetch' downloads one; 'models add' and 'models remove' are for weights of your own.",
        (options.JSON,),
        commands.print_models,
    ),
    "models add": Command(
        "Use weights of your own: a folder in diffusers' layout, or a file that holds a transformer alone.",
        (
            Option("path", "Folder, .safetensors or .gguf file; it stays where it is.", "PATH", required=True),
            Option("--like", "Built-in model whose kind it is. Default: recognized from the folder.", "NAME", ""),
            Option("--title", "Name to show. Default: that of the folder or file.", "TEXT", ""),
        ),
        commands.add_model,
    ),
    "models remove": Command(
        "Remove weights of your own from the list. The files are kept.",
        (Option("name", "Name of the model.", "NAME", required=True),),
        commands.remove_model,
    ),
    "models fetch": Command(
        "Download the weights of a model. An interrupted download is continued.",
        (
            Option("name", "Name of the model.", "NAME", required=True),
            Option("--yes", "Accept the license without asking.", default=False, kind=bool),
        ),
        commands.fetch_model,
    ),
    "dataset": Command(
        "Make a training dataset in the published layout (prompt.txt, videos.txt, trackings.txt).",
        (
            Option("out", "Folder of the dataset; it is created or extended.", "OUT", required=True),
            Option(
                "sources",
                "Scenes (.blend, ...), shots, result folders, folders of shards.",
                "SOURCES",
                required=True,
                repeat=True,
            ),
            Option("--prompt", "Caption of all clips. Default: a text file beside the source, or its own.", "TEXT"),
            replace(
                options.MODEL,
                help="Model whose frame count and size scenes are rendered for.",
                default="das-cogvideox-5b",
            ),
            *(*options.CAPTURE, *options.CONTROL),
            Option("--clips", "Maximum number of clips from each folder of shards.", "N", kind=int),
            *(_BLENDER, options.JSON),
        ),
        make=_dataset,
    ),
    "version": Command("Print the version.", (), lambda _: print(__version__)),
}
