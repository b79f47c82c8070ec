# SPDX-License-Identifier: GPL-3.0-or-later
"""Command-line tasks the add-on runs in the backend's environment without a running broker.

    python -m trackshade.cli.backend_tasks TASK ...

    probe               what this environment is and can do
    fetch MODEL         fetch a model; goes on where an earlier fetch ended
    verify MODEL        compare a fetched model with the digests that it was fetched with
    check FOLDER        whether a folder is a checkpoint that can be loaded, and which known model it is like
    bake FOLDER OPTIONS  bake textures; OPTIONS is a JSON object, see `trackshade.results.baking.BakeOptions`

Each tells by lines on standard output (`trackshade.ipc.json_lines`): {"event": "progress", "done", "total"}, and at
its end {"event": "result", ...} or {"event": "error", ...}. Standard input is held open by the caller: the task
ends when it closes, in good order where it can.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trackshade import __version__
from trackshade.config import registry
from trackshade.core.errors import CancelledError, ModelError, TrackshadeError, UsageError
from trackshade.ipc import PROTOCOL, json_lines
from trackshade.ipc.owners import hold_environment

NEEDED = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "huggingface_hub", "numba", "scipy", "av",
          "PIL", "sentencepiece", "zmq", "msgpack", "numpy")  # fmt: skip
EVERY = 0.1  # seconds between two reports
GRACE = 2.0  # seconds that an errand has to end in good order; who sent for it waits a little longer

_unwanted = threading.Event()


def probe() -> dict[str, Any]:
    """Versions, which packages are missing, and the devices that torch can use, the best first."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    facts: dict[str, Any] = {
        "version": __version__,
        "protocol": PROTOCOL,
        "python": platform.python_version(),
        "missing": missing,
        "devices": [],
    }
    if "torch" not in missing:
        try:
            facts |= _torch_facts()
        except (ImportError, OSError) as error:  # a library of the driver's or the system's that it needs
            facts["broken"] = f"torch cannot be loaded: {error}"
    return facts


def _torch_facts() -> dict[str, Any]:
    import torch

    devices = []
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        devices.append({"device": f"cuda:{index}", "name": found.name, "total": found.total_memory})
    if torch.backends.mps.is_available():
        devices.append({"device": "mps", "name": "Apple GPU", "total": None})
    devices.append({"device": "cpu", "name": f"the processor ({platform.machine()})", "total": None})
    return {"torch": torch.__version__, "devices": devices}


def fetch(name: str) -> dict[str, Any]:
    """Fetches a model. Raises ModelError, Cancelled."""
    from trackshade.models.download import fetch as fetch_weights

    folder = fetch_weights(registry.spec(name), _Progress(), _unwanted.is_set)
    return {"folder": str(folder)}


def verify(name: str) -> dict[str, Any]:
    """Compares every file of a fetched model with its digest. Raises ModelError."""
    from trackshade.models.download import verify as verify_files

    model = registry.spec(name)
    if not registry.is_present(model):
        raise ModelError("missing-weights", f"The model {name} is not on this machine.", "Fetch it first.")
    folder = registry.model_folder(model)
    if not model.shipped and not model.folder:
        verify_files(folder)
        return {"folder": str(folder)}
    return {**check(str(folder)), "folder": str(folder)}


def check(folder: str) -> dict[str, Any]:
    """Loads nothing but looks at every component: classes, tensors by name and shape, tokenizer, scheduler.

    Raises ModelError.
    """
    from trackshade.models.loading import check_checkpoint

    return check_checkpoint(Path(folder))


def bake(folder: str, wanted: str = "{}") -> dict[str, Any]:
    """Bakes a result's textures. Raises as `bake_result`."""
    from trackshade.results.baking import BakeOptions, bake_result

    tell = _Progress()
    done = bake_result(
        Path(folder), BakeOptions.from_dict(json.loads(wanted)), lambda _, share: tell(round(1000 * share), 1000),
        _unwanted.is_set,
    )  # fmt: skip
    return {"record": done}


class _Progress:
    """Tells of progress now and then."""

    def __init__(self) -> None:
        self._told = 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._told >= EVERY or done >= total:
            self._told = now
            _tell({"event": "progress", "done": done, "total": total})


ERRANDS: dict[str, Callable[..., dict[str, Any]]] = {
    "probe": probe,
    "fetch": fetch,
    "verify": verify,
    "check": check,
    "bake": bake,
}


def main(arguments: list[str]) -> int:
    """Runs an errand and tells its end; the exit code."""
    threading.Thread(target=_watch_input, name="input", daemon=True).start()
    hold = hold_environment()
    try:
        _tell({"event": "result", **_errand(arguments)()})
    except TrackshadeError as error:
        _tell({"event": "error", **error.to_dict()})
        return error.exit_code
    except KeyboardInterrupt:
        _tell({"event": "error", **CancelledError().to_dict()})
        return 130
    finally:
        if hold is not None:
            hold.release()
    return 0


def _errand(arguments: list[str]) -> Callable[[], dict[str, Any]]:
    """What the arguments ask for. Raises UsageError for what is no errand, or has not what it takes."""
    if not arguments or arguments[0] not in ERRANDS:
        raise UsageError("usage", f"Name an errand: {', '.join(ERRANDS)}.")
    name, *rest = arguments
    takes = list(inspect.signature(ERRANDS[name]).parameters)
    if len(rest) != len(takes):
        raise UsageError("usage", f"The errand {name} takes {' and '.join(takes) or 'nothing more'}.")
    return functools.partial(ERRANDS[name], *rest)


def _tell(message: dict[str, Any]) -> None:
    try:
        print(json_lines.line(message), flush=True)
    except OSError:  # nobody reads it any more
        os._exit(130)


def _watch_input() -> None:
    while os.read(0, 4096):
        continue
    _unwanted.set()
    time.sleep(GRACE)
    os._exit(130)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # everything is told; libraries' threads may take their time to end, or never do
