# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that need no Blender or only run it: jobs, cancel, fetch, models, demo, bake, serve."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from trackshade.cli.blender import OnMessage, run_addon
from trackshade.cli.progress import ProgressDisplay
from trackshade.client import Client, connect, find_served, start_private
from trackshade.client.job_result import JobResult
from trackshade.client.output_folder import OutputFolder
from trackshade.config import checkpoints, image_models, parsing, registry
from trackshade.core import folders
from trackshade.core.errors import CancelledError, UsageError
from trackshade.core.text import format_size, join_or
from trackshade.ipc.connection_files import ConnectionInfo
from trackshade.ipc.endpoints import CLIENT_KEY, SERVER_KEY

Values = Mapping[str, Any]


def print_jobs(values: Values) -> None:
    """Print the backend's jobs, oldest first. Raise ProtocolError if it does not answer."""
    with _backend(values) as client:
        jobs = client.jobs()
    if values["json"]:
        print(json.dumps(jobs, ensure_ascii=False))
    elif not jobs:
        print("No jobs.")
    else:
        rows = []
        for job in jobs:
            created = datetime.fromtimestamp(job["created"]).strftime("%Y-%m-%d %H:%M")
            settings = job["settings"]
            state = f"{job['state']}, waits" if job.get("waiting") else job["state"]
            rows.append([job["id"], state, created, settings.get("model", ""), settings.get("prompt", "")])
        _print_table(["job", "state", "created", "model", "prompt"], rows)
        for reason in sorted({job["waiting"] for job in jobs if job.get("waiting")}):
            print(f"Waits: {reason}")


def cancel_job(values: Values) -> None:
    """Cancel a job and print its state. Raise ProtocolError without a backend or such a job."""
    with _backend(values) as client:
        print(f"{values['job']}: {client.cancel(values['job'])}")


def fetch_result(values: Values, on_message: OnMessage) -> dict[str, Any]:
    """Download the result of a finished job, as after its command was killed; return the result to print.

    Raises:
        OutputError: The folder is taken or cannot be written.
        TrackshadeError: There is no such job, it has not ended, or it failed.
    """
    job = values["job"]
    with (
        OutputFolder.choose(values["out"], Path(), job, registry.spec("mini"), values["force"]) as out,
        _backend(values) as client,
    ):
        on_message({"state": "fetching", "message": str(out.path)})
        client.fetch(job, out.path, out.force)
        return JobResult.load(job, out.path, 0.0).to_dict()


def print_models(values: Values) -> None:
    """Print the models, and whether their weights are on this machine."""
    items = [
        {**item.to_dict(), "present": registry.is_present(item), "folder": str(registry.model_folder(item))}
        for item in registry.models()
    ]
    if values["json"]:
        print(json.dumps(items, ensure_ascii=False))
        return
    rows = []
    for item in items:
        weights = "present" if item["present"] else "not downloaded"
        spec = registry.spec(item["name"])
        sizes = join_or(f"{width}×{height}" for width, height in spec.sizes)
        accepts = f"{spec.frame_rule} frames of {sizes}"
        follows = ", ".join((*spec.controls, *spec.inputs))
        rows.append([spec.name, weights, accepts, follows, format_size(spec.memory_bytes), spec.license, spec.use])
    for motion in registry.motion_models():
        weights = "present" if registry.is_present(motion) else "not downloaded"
        width, height = motion.sizes[0]
        accepts = f"driving footage, pictures of {width}×{height}"
        memory = format_size(motion.memory_bytes)
        rows.append([motion.name, weights, accepts, "reference, footage", memory, motion.license, motion.use])
    for image in image_models.image_models():
        weights = "present" if image_models.is_image_model_present(image) else "not downloaded"
        accepts = f"a still of about {image.area / 1e6:.1f} megapixels"
        rows.append([image.name, weights, accepts, "depth, prompt", format_size(image.memory_bytes), image.license, ""])
    _print_table(["model", "weights", "accepts", "follows", "memory", "license", "use"], rows)


def fetch_model(values: Values) -> None:
    """Download a model once its license is accepted, and print its folder. Raise ModelError or CancelledError."""
    from trackshade.models.download import fetch, license_text

    name = values["name"]
    known = {item.name: item for item in image_models.image_models()}
    model = known[name] if name in known else registry.spec(name)
    with ProgressDisplay() as display:
        display.print(license_text(model))
        if not values["yes"] and model.repo:
            if not display.is_interactive:
                raise UsageError("licence", "Nobody is there to accept the license.", "Read it, then use --yes.")
            with display.paused():
                print("Download the weights under this license? [y/N] ", end="", file=sys.stderr, flush=True)
                if input().strip().lower() not in ("y", "yes"):
                    raise CancelledError("cancelled", "Nothing was fetched.")

        def show(done: int, total: int) -> None:
            display.show({"state": "fetching", "message": model.name, "step": done >> 20, "steps": total >> 20})

        folder = fetch(model, show)
    print(folder)


def add_model(values: Values) -> None:
    """Add a checkpoint of the user to the models, once it is checked, and print its name. Raise ModelError."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # read when it is imported; it tells of unused packages
    from trackshade.pipelines.families.recognize import check_checkpoint

    path = Path(values["path"]).expanduser().absolute()
    found = check_checkpoint(path, values["like"])
    taken = tuple(item.name for item in registry.models())
    print(checkpoints.register(path, str(found["like"]), taken, values["title"]).name)


def remove_model(values: Values) -> None:
    """Remove a checkpoint of the user from the models; its files stay. Raise UsageError."""
    checkpoints.unregister(values["name"])


def make_demo(values: Values, on_message: OnMessage) -> dict[str, Any]:
    """Build `demo.blend` and render it to `shaded`, replacing earlier files; return the result to print."""
    folder, blender = Path(values["out"]), values["blender"]
    scene = folder / "demo.blend"
    on_message({"state": "building", "message": "the demonstration scene"})
    run_addon(parsing.to_arguments("scene", {"out": str(scene), "force": True}), blender, on_message)
    render = {"scene": str(scene), "frames": "1-49:1", "out": str(folder / "shaded")}
    result = run_addon(parsing.to_arguments("render", {**render, "force": True}), blender, on_message)
    return {**result, "files": {"demo": str(scene.absolute()), **result["files"]}}


def bake_textures(values: Values, on_message: OnMessage) -> dict[str, Any]:
    """Bake a result into textures; return the result to print. Raise as `bake_result`."""
    from trackshade.results.baking import FOLDER, BakeOptions, bake_result

    wanted = BakeOptions(
        size=values["size"],
        objects=() if values["object"] is None else (values["object"],),
        shot=None if values["shot"] is None else Path(values["shot"]),
        projection=values["projection"],
    )

    def progress(what: str, fraction: float) -> None:
        on_message({"state": "baking", "message": what, "step": round(100 * fraction), "steps": 100})

    folder = Path(values["result"]).absolute()
    record = bake_result(folder, wanted, progress)
    target = folder / FOLDER
    textures = {entry["name"]: str(target / entry["texture"]) for entry in record["meshes"]}
    return {
        "out": str(target),
        "files": {"record": str(target / "texture.json"), **textures},
        "meshes": record["meshes"],
        "warnings": record["warnings"],
    }


def serve(values: Values) -> None:
    """Run a backend until it is interrupted."""
    from trackshade.server import ServeOptions
    from trackshade.server.serve import log_to_stderr
    from trackshade.server.serve import serve as run

    given = ServeOptions.from_values(values)

    def announce(info: ConnectionInfo) -> None:
        lines = [f"Serving at {info.endpoint} (pid {info.pid}); Ctrl-C ends it."]
        if info.endpoint.startswith("tcp://"):
            # A log is kept and read by others: the token is in the connection file, too.
            file = None if sys.stderr.isatty() else given.connection_file or folders.connection_file()
            lines += entries_for_blender(info, given.curve, file)
        print("\n".join(lines), file=sys.stderr, flush=True)

    log_to_stderr()
    run(given, announce)


def entries_for_blender(info: ConnectionInfo, curve: Path | None, token_file: Path | None) -> list[str]:
    """Return lines that say what to enter in the add-on's preferences to use a backend.

    Args:
        info: Where the backend listens.
        curve: Its folder of CURVE keys, if any.
        token_file: File that the line of the token names instead of the token itself, or None.
    """
    host, _, port = info.endpoint.removeprefix("tcp://").rpartition(":")
    if host in ("0.0.0.0", "*", "[::]"):
        host = socket.gethostname()
    entries = {"Backend Address": f"tcp://{host}:{port}"}
    entries["Token"] = info.token if token_file is None else f'"token" in {token_file}'
    lines = ["In Blender, Preferences > Add-ons > Trackshade > Backend:"]
    if curve is not None:
        folders_of_clients = sorted(path.parent.absolute() for path in curve.glob(f"for-*/{CLIENT_KEY}"))
        folder = folders_of_clients[0] if len(folders_of_clients) == 1 else curve.absolute() / "for-NAME"
        entries |= {"Server Key": f"a copy of {folder / SERVER_KEY}", "Client Key": f"a copy of {folder / CLIENT_KEY}"}
    return lines + [f"  {name + ':':<17}{value}" for name, value in entries.items()]


@contextmanager
def _backend(values: Values) -> Iterator[Client]:
    """Connect to the given or served backend, or to a new one without workers that reads the job store."""
    with ExitStack() as stack:
        if values["endpoint"] is not None or find_served() is not None:
            curve = None if values["curve"] is None else Path(values["curve"])
            client = connect(values["endpoint"], curve=curve)
        else:
            backend = stack.enter_context(start_private(options=["--workers", "0"]))
            client = connect(backend.info.endpoint, backend.info.token)
        yield stack.enter_context(client)


def _print_table(columns: list[str], rows: list[list[str]]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, markup=False).print(table)
