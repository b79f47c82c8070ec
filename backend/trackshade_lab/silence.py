# SPDX-License-Identifier: GPL-3.0-or-later
"""Output of libraries in commands that print their own progress."""

from __future__ import annotations


def silence_library_logging() -> None:
    """Turn off warnings and progress bars of diffusers and transformers."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
