# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m trackshade.server`: a backend as a process of its own, as the client starts it."""

from __future__ import annotations

import sys

from trackshade.core.errors import TrackshadeError
from trackshade.ipc.locks import locked_environment
from trackshade.server.options import parse_options
from trackshade.server.serve import log_to_stderr, serve


def main() -> int:
    """Serve as the command line says; return the exit code."""
    log_to_stderr()
    try:
        with locked_environment():
            serve(parse_options(sys.argv[1:]))
    except TrackshadeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
