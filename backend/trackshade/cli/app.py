# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands of `trackshade`: what each takes, and which function does it."""

from __future__ import annotations

import functools
import inspect
import json
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from trackshade import __version__
from trackshade.cli import doctor as diagnosis
from trackshade.cli import listing
from trackshade.cli.blender import run_addon
from trackshade.cli.screen import Screen, print_error, print_result
from trackshade.config import options
from trackshade.config.options import Option
from trackshade.core.errors import CancelledError, TrackshadeError
from trackshade.core.processes import own_python

app = typer.Typer(
    help="Animated scenes, shaded by video diffusion that follows their own 3D tracks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
models_app = typer.Typer(help="The models: which there are, and fetching them.", invoke_without_command=True)
app.add_typer(models_app, name="models")

BLENDER = Option("--blender", str, "The Blender to run; the one on the path, or its Python module, if left out.",
                 metavar="PATH")  # fmt: skip
DEMO_FOLDER = Option("--out", str, "Folder to make it in.", "demo", metavar="DIR", short="-o")
BAKE = (
    options.RESULT,
    Option("--size", int, "Texels along a side; what the pictures show, at most 2048, if left out.", metavar="N"),
    Option("--object", str, "Only this mesh; all if left out.", metavar="NAME"),
    Option("--shot", str, "Shot file, for a result that does not hold its own.", metavar="SHOT"),
    Option("--projection", bool, "Write what projecting frame by frame needs, too.", False),
    options.JSON,
)
JOB = Option("job", str, "Id of the job.", metavar="JOB", required=True)
BACKEND = options.BACKEND[:2]  # what a command needs that only talks to a backend
_HELP = {option.key: option.help for option in (*options.WHAT, *options.SAMPLING_OPTIONS)}
_BY_NAME = inspect.Parameter.KEYWORD_ONLY
PASS_ON: Any = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def ends_with_a_sentence(call: Callable[..., None]) -> Callable[..., None]:
    """Every error of ours becomes one sentence on standard error and its exit code; Ctrl-C and SIGTERM become 130."""

    @functools.wraps(call)
    def guarded(*args: Any, **values: Any) -> None:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            call(*args, **values)
        except TrackshadeError as error:
            raise typer.Exit(print_error(error, bool(values.get("json")))) from None
        except KeyboardInterrupt:
            raise typer.Exit(print_error(CancelledError(), bool(values.get("json")))) from None

    return guarded


def from_table(name: str, *extra: Option, call: Callable[[Mapping[str, Any]], None]) -> None:
    """Adds the command `name` with the options that the table has for it, and some more."""
    description, own = options.COMMANDS.get(name, (call.__doc__ or "", ()))
    chosen = (*own, *extra)

    def command(**values: Any) -> None:
        call(values)

    parameters = [
        inspect.Parameter(option.key, _BY_NAME, annotation=_kind(option), default=_default(option))
        for option in sorted(chosen, key=lambda option: not option.required)
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app.command(name, help=description)(ends_with_a_sentence(command))


def _default(option: Option) -> Any:
    return inspect.Parameter.empty if option.required or option.key == "scene" else option.default


def _kind(option: Option) -> Any:
    kind: Any = Literal[option.choices] if option.choices else option.kind
    if option.positional:
        return Annotated[kind, typer.Argument(help=option.help, metavar=option.metavar)]
    names = [option.name] if not option.short else [option.short, option.name]
    metavar = None if option.choices or option.kind is bool else option.metavar or None
    return Annotated[kind if option.default is not None else kind | None,
                     typer.Option(*names, help=option.help, metavar=metavar)]  # fmt: skip


def _in_blender(command: str) -> Callable[[Mapping[str, Any]], None]:
    def call(values: Mapping[str, Any]) -> None:
        with Screen() as screen:
            result = run_addon(options.arguments(command, values), values["blender"], screen.show)
        print_result(result, values["json"])

    return call


def _shade(values: Mapping[str, Any]) -> None:
    from trackshade.cli.shade import shade

    with Screen() as screen:
        result = shade(values, screen.show)
    print_result(result, values["json"])


def _bake(values: Mapping[str, Any]) -> None:
    """Gather a result's frames into a texture for each of its meshes, and a heat map of what varies."""
    from trackshade.cli.bake import bake

    with Screen() as screen:
        result = bake(values, screen.show)
    print_result(result, values["json"])


def _demo(values: Mapping[str, Any]) -> None:
    """Build a small scene and shade it with the embedded model."""
    from trackshade.cli.demo import demo

    with Screen() as screen:
        result = demo(Path(values["out"]), values["blender"], screen.show)
    print_result(result, values["json"])


def _jobs(values: Mapping[str, Any]) -> None:
    """List the jobs of the backend on this machine."""
    listing.print_jobs(values["endpoint"], values["curve"], values["json"])


def _cancel(values: Mapping[str, Any]) -> None:
    """Cancel a job."""
    listing.cancel(values["job"], values["endpoint"], values["curve"])


def _doctor(values: Mapping[str, Any]) -> None:
    """Tell versions, devices, models, folders and what is missing, as text for a bug report."""
    facts = diagnosis.facts(values["blender"])
    typer.echo(json.dumps(facts, indent=1) if values["json"] else diagnosis.text(facts))


for _name in ("render", "control", "export", "place"):
    from_table(_name, BLENDER, call=_in_blender(_name))
from_table("shade", BLENDER, call=_shade)
from_table("bake", *BAKE, call=_bake)
from_table("demo", DEMO_FOLDER, options.JSON, BLENDER, call=_demo)
from_table("jobs", *BACKEND, options.JSON, call=_jobs)
from_table("cancel", JOB, *BACKEND, call=_cancel)
from_table("doctor", BLENDER, options.JSON, call=_doctor)


@app.command()
@ends_with_a_sentence
def serve(
    endpoint: Annotated[str | None, typer.Option(help="ipc://PATH or tcp://HOST:PORT.")] = None,
    store: Annotated[Path | None, typer.Option(help="Folder of the job store; the per-user one if left out.")] = None,
    device: Annotated[list[str] | None, typer.Option(help="auto, cpu, cuda:0, ...; once for each worker.")] = None,
    curve: Annotated[Path | None, typer.Option(help="Folder of CURVE keys; needed to be reached by others.")] = None,
    idle_exit: Annotated[float | None, typer.Option(help="End after this many seconds without work.")] = None,
) -> None:
    """Run a backend until it is interrupted; everything on this machine then uses it."""
    from trackshade.server.options import ServeOptions
    from trackshade.server.serve import log_to_stderr
    from trackshade.server.serve import serve as run

    log_to_stderr()
    devices = tuple(device or ["auto"])
    chosen = ServeOptions(endpoint=endpoint, store=store, devices=devices, curve=curve, idle_exit=idle_exit)
    run(chosen, lambda info: typer.echo(f"Serving at {info.endpoint} (pid {info.pid}); Ctrl-C ends it.", err=True))


@models_app.callback()
@ends_with_a_sentence
def models(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help=options.JSON.help)] = False,
) -> None:
    """List the models."""
    if context.invoked_subcommand is None:
        listing.print_models(json)


@models_app.command("fetch")
@ends_with_a_sentence
def fetch_model(
    name: str,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask about the licence.")] = False,
) -> None:
    """Fetch a model's weights; an interrupted fetch goes on where it ended."""
    from trackshade.cli.fetching import fetch

    with Screen() as screen:
        folder = fetch(name, yes, screen)
    typer.echo(folder)


@app.command()
@ends_with_a_sentence
def dataset(
    out: Annotated[Path, typer.Argument(help="Folder of the dataset; made, or added to.", metavar="OUT")],
    sources: Annotated[
        list[Path],
        typer.Argument(help="Scenes (.blend, ...), shots, result folders, folders of shards.", metavar="SOURCES"),
    ],
    prompt: Annotated[
        str | None, typer.Option(help="Caption of all clips; a text file beside the source, or its own, if left out.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="Model whose frames and size scenes are rendered for.", metavar="NAME")
    ] = "das-cogvideox-5b",
    camera: Annotated[str | None, typer.Option(help=_HELP["camera"], metavar="NAME|auto")] = None,
    frames: Annotated[str | None, typer.Option(help=_HELP["frames"], metavar="A-B[:STEP]")] = None,
    frame_rule: Annotated[Literal[options.FRAME_RULES], typer.Option(help=_HELP["frame_rule"])] = "auto",  # type: ignore[valid-type]
    size: Annotated[str, typer.Option(help=_HELP["size"], metavar="pad|crop|WxH[:pad|crop]")] = "pad",
    view_layer: Annotated[str | None, typer.Option(help=_HELP["view_layer"], metavar="NAME")] = None,
    control: Annotated[Literal["mesh", "points"], typer.Option(help=_HELP["control"])] = "mesh",
    points: Annotated[int, typer.Option(help=_HELP["points"], metavar="N")] = 4900,
    clips: Annotated[int | None, typer.Option(help="At most so many clips of each folder of shards.")] = None,
    blender: Annotated[str | None, typer.Option(help=BLENDER.help, metavar="PATH")] = None,
    json: Annotated[bool, typer.Option("--json", help=options.JSON.help)] = False,
) -> None:
    """Make a training dataset in the published layout (prompt.txt, videos.txt, trackings.txt)."""
    from trackshade.cli.dataset import dataset as make
    from trackshade_lab.clip_sources import ControlOptions

    scene_options = {
        "model": model, "camera": camera, "frames": frames, "frame_rule": frame_rule, "size": size,
        "view_layer": view_layer,
    }  # fmt: skip
    with Screen() as screen:
        result = make(out, sources, prompt=prompt, control=ControlOptions(control, points), clips=clips,
                      scene_options=scene_options, blender=blender, on_message=screen.show)  # fmt: skip
    print_result(result, json)


@app.command(context_settings=PASS_ON)
@ends_with_a_sentence
def train(context: typer.Context) -> None:
    """Train a model from nothing, or a published one's tracking branch on a dataset; see 'train --help'."""
    if context.args[:1] == ["data"]:
        _pass_on("trackshade_lab.scenes", context.args[1:])
    _pass_on("trackshade_lab.training", context.args)


@app.command(context_settings=PASS_ON)
@ends_with_a_sentence
def evaluate(context: typer.Context) -> None:
    """Measure how well a model follows its tracks on held-out clips."""
    _pass_on("trackshade_lab.evaluation", context.args)


def _pass_on(module: str, arguments: list[str]) -> None:
    """Runs a module that has a command line of its own."""
    start = own_python("-m", module, *arguments)
    process = subprocess.Popen(start.command, env=start.variables)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())  # which it takes as a wish to save and end
    while True:
        try:
            raise typer.Exit(process.wait())
        except KeyboardInterrupt:  # it got the key, too, and ends in its own way
            continue


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)
