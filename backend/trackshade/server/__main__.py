# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m trackshade.server`: a backend as a process of its own, as `trackshade serve` and the client start it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from trackshade.core.errors import TrackshadeError
from trackshade.ipc.owners import hold_environment
from trackshade.server.options import ServeOptions
from trackshade.server.serve import log_to_stderr, serve


def parse(arguments: list[str]) -> ServeOptions:
    """The options given on a command line."""
    parser = argparse.ArgumentParser(prog="python -m trackshade.server", description=__doc__)
    parser.add_argument("--endpoint", help="ipc://PATH or tcp://HOST:PORT; a socket of the store's own if left out")
    parser.add_argument("--store", type=Path, help="folder of the job store")
    parser.add_argument("--device", action="append", help="auto, cpu, cuda:0, ...; once for each worker")
    parser.add_argument("--workers", type=int, help="how many workers; 0 to accept jobs only")
    parser.add_argument("--connection-file", type=Path, help="where to write address and token")
    parser.add_argument("--private", action="store_true", help="end when standard input closes")
    parser.add_argument("--owners", type=Path, help="end when nobody holds a lock in this folder any more")
    parser.add_argument("--idle-exit", type=float, help="end after this many seconds without clients and jobs")
    parser.add_argument("--worker-idle", type=float, default=ServeOptions.worker_idle, help="end idle workers after")
    parser.add_argument("--curve", type=Path, help="folder of CURVE keys, for an address that others reach")
    parser.add_argument("--chunk-days", type=float, default=ServeOptions.chunk_days, help="age of unused chunks")
    parser.add_argument("--keep", type=int, help="how many finished jobs to keep")
    parser.add_argument("--cancel-grace", type=float, default=ServeOptions.cancel_grace, help="seconds for a cancel")
    found = parser.parse_args(arguments)
    devices = found.device or ["auto"]
    if found.workers is not None:
        devices = [devices[number % len(devices)] for number in range(found.workers)]
    return ServeOptions(
        endpoint=found.endpoint,
        store=found.store,
        devices=tuple(devices),
        connection_file=found.connection_file,
        private=found.private,
        owners=found.owners,
        idle_exit=found.idle_exit,
        worker_idle=found.worker_idle,
        curve=found.curve,
        chunk_days=found.chunk_days,
        keep=found.keep,
        cancel_grace=found.cancel_grace,
    )


def main() -> int:
    log_to_stderr()
    hold = hold_environment()
    try:
        serve(parse(sys.argv[1:]))
    except TrackshadeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    finally:
        if hold is not None:
            hold.release()
    return 0


if __name__ == "__main__":
    sys.exit(main())
