# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m trackshade_lab.training`, alone or as one process of `accelerate launch -m trackshade_lab.training`."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from trackshade.core.errors import CancelledError, TrackshadeError, UsageError

from ..silence import silence_library_logging
from .arguments import PROGRAM, parse


def main(arguments: list[str]) -> int:
    """Train, or export a run; the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what schedulers send: save, then end
    try:
        if arguments[:1] == ["export"]:
            if not 2 <= len(arguments) <= 3 or arguments[1].startswith("-"):
                raise UsageError("usage", f"{PROGRAM} export takes a run and perhaps a folder.", "export RUN [FOLDER]")
            silence_library_logging()
            from .run import export_run

            print(export_run(arguments[1], Path(arguments[2]) if len(arguments) == 3 else None))
            return 0
        config, as_json = parse(arguments)
        silence_library_logging()
        from .logging import sentence
        from .run import train

        def report(entry: dict[str, Any]) -> None:
            print(json.dumps(entry) if as_json else sentence(entry), flush=True)

        made = train(config, report)
        if os.environ.get("RANK", "0") == "0":  # one process of a launch speaks for all
            print(made)
    except KeyboardInterrupt:
        stopped = CancelledError(
            "cancelled", "Stopped; the newest checkpoint is kept.", "The same command goes on from it."
        )
        print(f"trackshade: {stopped}", file=sys.stderr)
        return stopped.exit_code
    except TrackshadeError as error:
        print(f"trackshade: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
