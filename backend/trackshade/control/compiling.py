# SPDX-License-Identifier: GPL-3.0-or-later
"""How kernels are compiled: by numba, without the GIL, and cached on disk if a folder can be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function at its first call. Division by zero gives inf or NaN, as in numpy."""
    return _compile(function)


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a function that kernels call once per pixel; like `kernel`, but LLVM inlines it.

    An array is passed as seven values or more, so that a call with ten of them costs more than a short function. That
    LLVM inlines it, and not numba, makes compiling much faster.
    """
    return _compile(function, forceinline=True)


def _compile(function: Callable[..., Any], forceinline: bool = False) -> Any:
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "forceinline": forceinline}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # numba can write neither beside the file nor in the user's home folder
        return njit(**options)(function)
