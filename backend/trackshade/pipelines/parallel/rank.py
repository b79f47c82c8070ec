# SPDX-License-Identifier: GPL-3.0-or-later
"""A further rank of a worker: `python -m trackshade.pipelines.parallel.rank`, started by `ranks.py`.

It loads the transformers of a model onto its device, and runs them whenever the worker does. Its orders are lines of
JSON on standard input; when that closes, the worker is gone or needs it no longer, and it ends. The sentence of an
error is written to standard output.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from trackshade.core.errors import TrackshadeError
from trackshade.core.processes import die_with_parent


def main() -> int:
    """Follow the worker until it closes standard input."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the broker
    orders: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_read_orders, args=(orders,), name="standard input", daemon=True).start()
    start = orders.get()
    die_with_parent(start["parent"])
    try:
        _follow(start, orders)
    except Exception as error:
        logging.getLogger("trackshade.worker").exception("the rank ends")
        named = error if isinstance(error, TrackshadeError) else f"{type(error).__name__}: {error}"
        print(str(named).splitlines()[0], flush=True)
    return 1


def _read_orders(orders: queue.Queue[dict[str, Any]]) -> None:
    """Queue the orders; end the process with its standard input, even if it waits for another rank."""
    for line in sys.stdin.buffer:
        orders.put(json.loads(line))
    os._exit(0)


def _follow(start: dict[str, Any], orders: queue.Queue[dict[str, Any]]) -> None:
    """Join the process group, load the model, and run its transformers in step with the worker."""
    import torch

    from trackshade.config import registry
    from trackshade.config.memory_presets import PRESETS
    from trackshade.pipelines.families.caches import StepCache, set_hooks
    from trackshade.pipelines.families.loading import load_transformers
    from trackshade.pipelines.memory import prepare_transformers
    from trackshade.pipelines.parallel.arguments import broadcast, join_group, unpack
    from trackshade.pipelines.parallel.sequence import split_sequence

    device = torch.device(start["device"])
    join_group(device, start["rank"], start["size"], start["file"])
    model = orders.get()
    loras = [(Path(path), strength) for path, strength in model["loras"]]
    dtype = getattr(torch, model["dtype"])
    transformers = load_transformers(registry.spec(model["model"]), device, dtype, loras, model["quantize"])
    if prepare_transformers(list(transformers.values()), PRESETS[model["preset"]], device) != "group":
        for transformer in transformers.values():
            transformer.to(device)
    for transformer in transformers.values():
        split_sequence(transformer, device)
    while True:
        order = orders.get()
        if "cache" in order:
            set_hooks(transformers.values(), StepCache(**order["cache"]))
        elif "adapt" in order:
            transformers[order["adapt"]].set_adapters(order["adapters"], order["weights"])
        else:
            tensors: list[torch.Tensor] = []
            arguments = unpack(order["arguments"], tensors, device)
            broadcast(tensors, device)
            transformer = transformers[order["run"]]
            with torch.no_grad(), transformer.cache_context(order["context"]):
                transformer(*arguments["args"], **arguments["kwargs"])


if __name__ == "__main__":
    sys.exit(main())
