# SPDX-License-Identifier: GPL-3.0-or-later
"""`trackshade jobs`, `cancel` and `models`: tables of what there is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from trackshade.client import Client, connect, start_private
from trackshade.config import registry
from trackshade.core import folders
from trackshade.core.text import format_size
from trackshade.ipc import connection_files


def print_jobs(endpoint: str | None, curve: str | None, as_json: bool) -> None:
    """The backend's jobs, oldest first. Raises ProtocolError where it does not answer."""
    with _backend(endpoint, curve) as client:
        jobs = client.jobs()
    if as_json:
        print(json.dumps(jobs, ensure_ascii=False))
        return
    rows = [[job["id"], job["state"], _when(job["created"]), job["settings"].get("model", ""),
             job["settings"].get("prompt", "")] for job in jobs]  # fmt: skip
    _print("No jobs." if not rows else "", ["job", "state", "created", "model", "prompt"], rows)


def cancel(job: str, endpoint: str | None, curve: str | None) -> None:
    """Cancels a job and says what became of it. Raises ProtocolError: no backend, or no such job."""
    with _backend(endpoint, curve) as client:
        print(f"{job}: {client.cancel(job)}")


def print_models(as_json: bool) -> None:
    """The models, and whether their weights are here."""
    items = [
        {**item.to_dict(), "present": registry.is_present(item), "folder": str(registry.model_folder(item))}
        for item in registry.models()
    ]
    if as_json:
        print(json.dumps(items, ensure_ascii=False))
        return
    rows = [[item["name"], "here" if item["present"] else "not fetched", _sizes(item),
             format_size(item["memory_bytes"]), item["licence"]] for item in items]  # fmt: skip
    _print("", ["model", "weights", "takes", "memory", "licence"], rows)


@contextmanager
def _backend(endpoint: str | None, curve: str | None) -> Iterator[Client]:
    """The backend that is named or served; else one of our own that only looks after the job store."""
    keys = None if curve is None else Path(curve)
    served = connection_files.read(folders.connection_file())
    if endpoint is not None or (served is not None and served.alive()):
        with connect(endpoint, curve=keys) as client:
            yield client
        return
    with (
        start_private(options=["--workers", "0"]) as backend,
        connect(backend.info.endpoint, backend.info.token) as client,
    ):
        yield client


def _print(otherwise: str, columns: list[str], rows: list[list[Any]]) -> None:
    if otherwise:
        print(otherwise)
        return
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(str, row))
    Console(highlight=False, markup=False).print(table)


def _sizes(item: dict[str, Any]) -> str:
    frames = " or ".join(map(str, item["frames"]))
    return f"{frames} frames of " + " or ".join(f"{width}×{height}" for width, height in item["sizes"])


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
