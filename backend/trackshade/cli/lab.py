# SPDX-License-Identifier: GPL-3.0-or-later
"""The only place where `trackshade` refers to `trackshade_lab`: training, evaluation and generated scenes."""

from __future__ import annotations

import importlib.util

from trackshade.core.errors import UsageError


def lab_module(name: str) -> str:
    """Return the full name of a module of `trackshade_lab`, to run or import.

    Raises:
        UsageError: if this installation has no `trackshade_lab`, such as the one that the extension sets up.
    """
    if importlib.util.find_spec("trackshade_lab") is None:
        raise UsageError(
            "no-lab",
            "Training, datasets and evaluation are not part of this installation.",
            "Install Trackshade from its source folder: pip install '.[backend,lab]'.",
        )
    return f"trackshade_lab.{name}"
