# SPDX-License-Identifier: GPL-3.0-or-later
"""The further ranks of a worker, seen from the worker: started, given work, watched and ended."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ...core.processes import end_process, this_python
from ..families.caches import StepCache
from ..memory import transformers_of
from .arguments import broadcast, join_group, pack
from .sequence import split_sequence

_END_TIME = 5.0  # seconds that a process may take to end
_NOTICE_TIME = 0.2  # seconds in which it is noticed that a process begins to end


class Ranks:
    """A process for each further device, which runs the transformers of one model together with this one.

    If one of them ends by itself, this process ends too, with a sentence in its log: it may be waiting for the other
    in a library, for ever. The broker starts the job again with another worker, once.
    """

    def __init__(self, devices: Sequence[str]) -> None:
        """Start the processes and join their group.

        Args:
            devices: Devices of all ranks; the first one is this process's.
        """
        self._device = torch.device(devices[0])
        self._is_closing = False
        # Whether one of the processes begins to end: it says why, or closes its pipe.
        self._is_ending = threading.Event()
        self._contexts: dict[str, str] = {}  # what the caches of each transformer call the present call
        if sys.platform == "linux":  # all ranks are on this machine
            for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
                os.environ.setdefault(name, "lo")
        self._folder = tempfile.TemporaryDirectory(prefix="trackshade-ranks-")
        start = {"parent": os.getpid(), "size": len(devices), "file": str(Path(self._folder.name) / "group")}
        self._processes = [self._start(device) for device in devices[1:]]
        for rank, (process, device) in enumerate(zip(self._processes, devices[1:], strict=True), 1):
            _write(process, start | {"rank": rank, "device": device})
        join_group(self._device, 0, len(devices), start["file"])

    def share(
        self,
        pipeline: Any,
        model: str,
        loras: Sequence[tuple[Path, float]] = (),
        quantize: str = "none",
    ) -> None:
        """Have all ranks run the transformers of a pipeline together, whenever it calls them.

        Args:
            pipeline: A pipeline that was loaded in this process, whose transformers can be split.
            model: Name of its registry entry.
            loras: LoRA files and their strengths, with which it was loaded.
            quantize: How the weights of its transformers are stored.
        """
        transformers = transformers_of(pipeline)
        dtype = str(transformers["transformer"].dtype).removeprefix("torch.")
        order = {"model": model, "preset": pipeline.memory_preset.name, "dtype": dtype, "quantize": quantize}
        order["loras"] = [[str(path), strength] for path, strength in loras]
        self._send(order)
        for name, transformer in transformers.items():
            split_sequence(transformer, self._device)
            transformer.forward = self._shared(name, transformer.forward)
            transformer.set_adapters = self._shared_adapters(name, transformer.set_adapters)
            transformer.cache_context = self._shared_context(name, transformer.cache_context)

    def set_cache(self, cache: StepCache) -> None:
        """Have the other ranks skip the steps that this one skips.

        Args:
            cache: One that decides by the number of the step alone, as each rank sees a part of the tokens.
        """
        self._send({"cache": asdict(cache)})

    def close(self) -> None:
        """End the processes and leave the group. The pipeline cannot be called any more."""
        self._is_closing = True
        for process in self._processes:
            end_process(process, _END_TIME)
        dist.destroy_process_group()
        self._folder.cleanup()

    def _shared(self, name: str, forward: Any) -> Any:
        """Return a forward function that has the other ranks run the same one."""

        @functools.wraps(forward)
        def shared_forward(*args: Any, **kwargs: Any) -> Any:
            tensors: list[torch.Tensor] = []
            packed = pack({"args": args, "kwargs": kwargs}, tensors)
            self._send({"run": name, "context": self._contexts.get(name, ""), "arguments": packed})
            try:
                broadcast(tensors, self._device)
                return forward(*args, **kwargs)
            except Exception:
                self._wait_for_watchers()
                raise

        return shared_forward

    def _shared_adapters(self, name: str, set_adapters: Any) -> Any:
        """Return a function that sets the strengths of LoRAs in all ranks."""

        @functools.wraps(set_adapters)
        def shared_set_adapters(adapters: list[str] | str, weights: Any = None) -> None:
            self._send({"adapt": name, "adapters": adapters, "weights": weights})
            set_adapters(adapters, weights)

        return shared_set_adapters

    def _shared_context(self, name: str, cache_context: Any) -> Any:
        """Return a context manager of diffusers that tells the other ranks its name with each call."""

        @contextmanager
        def shared_cache_context(context: str, **options: Any) -> Iterator[None]:
            self._contexts[name] = context
            with cache_context(context, **options):
                yield

        return shared_cache_context

    def _start(self, device: str) -> subprocess.Popen[bytes]:
        start = this_python("-m", "trackshade.pipelines.parallel.rank")
        process = subprocess.Popen(start.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=start.variables)
        threading.Thread(target=self._watch, args=(process, device), name=f"rank on {device}", daemon=True).start()
        return process

    def _watch(self, process: subprocess.Popen[bytes], device: str) -> None:
        """End this process if another rank ends by itself."""
        assert process.stdout is not None
        first = process.stdout.read(1)
        self._is_ending.set()
        said = (first + process.stdout.read()).decode(errors="replace").strip()
        code = process.wait()
        if self._is_closing:
            return
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        print(f"The process for {device}, which shares the model, {how}. {said}".strip(), file=sys.stderr, flush=True)
        os._exit(1)

    def _wait_for_watchers(self) -> None:
        """If something failed because another process is ending, wait for its watcher to end this one.

        A process closes its pipe, or has said why it ends, before it closes its connections to the others.
        """
        if not self._is_ending.wait(_NOTICE_TIME):
            return
        patience = time.monotonic() + _END_TIME
        while time.monotonic() < patience:
            if any(process.poll() is not None for process in self._processes):
                threading.Event().wait()
            time.sleep(0.05)

    def _send(self, order: Mapping[str, Any]) -> None:
        """Send an order to all processes."""
        try:
            for process in self._processes:
                _write(process, order)
        except OSError:
            self._wait_for_watchers()
            raise


def _write(process: subprocess.Popen[bytes], order: Mapping[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(order).encode() + b"\n")
    process.stdin.flush()
