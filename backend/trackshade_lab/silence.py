# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands that report for themselves keep the libraries silent."""

from __future__ import annotations


def silence_library_logging() -> None:
    """No notes and bars of diffusers and transformers between ours."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
