# SPDX-License-Identifier: GPL-3.0-or-later
"""A real backend for the tests: a process of its own, in the environment that has torch."""

from __future__ import annotations

import importlib.util
import os
import sys

import pytest


def backend_python() -> str:
    """The Python of an environment with the backend: TRACKSHADE_PYTHON, else this one. Skips where there is none."""
    chosen = os.environ.get("TRACKSHADE_PYTHON")
    if chosen is None and importlib.util.find_spec("torch") is not None:
        chosen = sys.executable
    if chosen is None:
        pytest.skip("needs an environment with torch: set TRACKSHADE_PYTHON")
    return chosen
