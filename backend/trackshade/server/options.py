# SPDX-License-Identifier: GPL-3.0-or-later
"""What a backend can be told when it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ServeOptions:
    """Options of `serve`.

    Attributes:
        endpoint: `ipc://PATH` or `tcp://HOST:PORT`; None for a socket of this store's own.
        store: folder of the job store; None for the per-user one (a private backend takes the first free one).
        devices: one worker process for each: "auto", "cpu", "cuda:0", ...; empty to accept jobs only.
        connection_file: where to write address and token; None for the per-user place.
        private: end when standard input closes, that is when the owner ends or dies.
        owners: end when nobody holds a lock in this folder any more (see `trackshade.ipc.owners`).
        idle_exit: end after this many seconds without clients and jobs; None for never.
        worker_idle: end a worker that had nothing to do for this many seconds, which gives its memory back.
        curve: folder of CURVE keys (see `trackshade.ipc.endpoints`), needed for an address that others reach.
        chunk_days: delete chunks that nothing asked for in that time.
        keep: how many finished jobs are kept; None for all.
        cancel_grace: seconds that a worker has to answer a cancel before it is ended.
    """

    endpoint: str | None = None
    store: Path | None = None
    devices: tuple[str, ...] = ("auto",)
    connection_file: Path | None = None
    private: bool = False
    owners: Path | None = None
    idle_exit: float | None = None
    worker_idle: float = 900.0
    curve: Path | None = None
    chunk_days: float = 7.0
    keep: int | None = None
    cancel_grace: float = 5.0

    @property
    def owned(self) -> bool:
        """Whether it ends with those who use it, and does not run what earlier ones left."""
        return self.private or self.owners is not None
