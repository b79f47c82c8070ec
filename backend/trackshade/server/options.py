# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of a backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trackshade.config.options import SERVE, Option
from trackshade.config.parsing import parser_of
from trackshade.core.errors import UsageError


@dataclass(frozen=True)
class ServeOptions:
    """Options of `serve`; see also `_OPTIONS` and `trackshade.config.options.SERVE`."""

    endpoint: str | None = None  # `ipc://PATH` or `tcp://HOST:PORT`; None for a socket of the store's own
    store: Path | None = None  # None for the per-user one (a private backend takes the first free one)
    devices: tuple[str, ...] = ("auto",)  # one worker process for each; empty to accept jobs only
    ray: str | None = None  # address of a Ray cluster whose nodes run the workers, or "local"; None for this machine
    workers: int | None = None  # number of workers on a Ray cluster at most; None for as many as it has room for
    connection_file: Path | None = None  # None for the per-user file
    private: bool = False  # exit when standard input closes, that is when the parent process ends
    owners: Path | None = None  # exit when this folder has no owner any more (see `trackshade.ipc.locks`)
    idle_exit: float | None = None  # seconds without clients and jobs after which to exit; None for never
    worker_idle: float = 900.0  # seconds without a job after which a worker is ended, which frees its memory
    curve: Path | None = None  # folder of CURVE keys, required for an address that others reach
    chunk_days: float = 7.0  # days after which unused chunks are deleted
    keep: int | None = None  # number of finished jobs to keep; None for all
    result_days: float = 30.0  # days after which finished jobs and their results are deleted
    result_gb: float = 50.0  # size of all results, 10⁹ bytes, above which the oldest ones are deleted
    cancel_grace: float = 5.0  # seconds that a worker has to answer a cancel before it is killed

    def __post_init__(self) -> None:
        """Check the numbers: a limit that is negative or not a number would delete results at once.

        Raises:
            UsageError: "bad-setting".
        """
        for name, value, least in (
            ("--result-days", self.result_days, 1e-3),
            ("--result-gb", self.result_gb, 0),
            ("--chunk-days", self.chunk_days, 0),
            ("--worker-idle", self.worker_idle, 0),
            ("--cancel-grace", self.cancel_grace, 0),
            ("--idle-exit", self.idle_exit, 0),
            ("--keep", self.keep, 0),
            ("--workers", self.workers, 1),  # on a Ray cluster
        ):
            if value is not None and not value >= least:
                raise UsageError("bad-setting", f"{name} cannot be {value:g}.", f"Give {least:g} or more.")

    @property
    def has_owner(self) -> bool:
        """Whether it exits with its users, and does not run jobs that earlier ones left."""
        return self.private or self.owners is not None

    @staticmethod
    def from_values(values: Mapping[str, Any]) -> ServeOptions:
        """Make the options from values of the command line, by their keys."""
        given = {key: value for key, value in values.items() if value is not None}
        devices, workers = given.pop("device", ["auto"]), given.pop("workers", None)
        if given.get("ray") is not None:
            given["workers"] = workers
        elif workers is not None:
            if workers < 0:
                raise UsageError("bad-setting", f"--workers cannot be {workers}.", "Give 0 or more.")
            devices = [devices[number % len(devices)] for number in range(workers)]
        for key in {"store", "connection_file", "owners", "curve"} & given.keys():
            given[key] = Path(given[key])
        return ServeOptions(**given, devices=tuple(devices))


_OPTIONS = (
    *SERVE,
    Option("--connection-file", "Where to write address and token. Default: one for this user.", "FILE"),
    Option("--private", "Exit when standard input closes.", default=False, kind=bool),
    Option("--owners", "Exit when this folder has no owner's lock any more.", "DIR"),
    Option("--worker-idle", "End a worker without jobs after this time.", "SECONDS", ServeOptions.worker_idle, float),
    Option("--chunk-days", "Delete unused chunks after this time.", "DAYS", ServeOptions.chunk_days, float),
    Option("--keep", "Number of finished jobs to keep. Default: all.", "N", kind=int),
    Option("--cancel-grace", "Time to answer a cancel.", "SECONDS", ServeOptions.cancel_grace, float),
)


def parse_options(arguments: Sequence[str]) -> ServeOptions:
    """Parse the command line of `python -m trackshade.server`. Raise UsageError."""
    parser = parser_of("python -m trackshade.server", "Run a backend.", _OPTIONS)
    return ServeOptions.from_values(vars(parser.parse_args(arguments)))
