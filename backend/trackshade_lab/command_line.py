# SPDX-License-Identifier: GPL-3.0-or-later
"""What the command lines of training and evaluation share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from trackshade.core.errors import CancelledError, TrackshadeError, UsageError


class CommandParser(argparse.ArgumentParser):
    """An argument parser that keeps the line breaks of its description, and raises UsageError."""

    def __init__(self, program: str, description: str, **options) -> None:
        super().__init__(
            prog=program,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **options,
        )

    def error(self, message: str) -> NoReturn:
        """Raise UsageError instead of ending the process."""
        raise UsageError("usage", f"{self.prog}: {message}.", f"See: {self.prog} --help")


def run_command(command: Callable[[], None], stopped: str) -> int:
    """Run a command, print its errors, and return the exit code; `stopped` says what Ctrl-C leaves behind."""
    try:
        command()
    except KeyboardInterrupt:
        error: TrackshadeError = CancelledError("cancelled", stopped, "Run the same command again to resume.")
    except TrackshadeError as caught:
        error = caught
    else:
        return 0
    print(f"trackshade: {error}", file=sys.stderr)
    return error.exit_code


def silence_library_logging() -> None:
    """Turn off warnings and progress bars of diffusers and transformers."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
