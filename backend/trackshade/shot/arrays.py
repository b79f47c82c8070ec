# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks and comparisons of arrays that the parts of a shot hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackshade.core.errors import ShotError


def freeze(owner: Any, name: str, dtype: type[np.generic], shape: tuple[int | None, ...]) -> None:
    """Check an array attribute of a frozen dataclass, and make it read-only; a tuple of arrays, one by one.

    It is called in `__post_init__`. None is left as it is. In `shape`, None stands for any length.

    Raises:
        ShotError: the array has another type or shape.
    """
    value, where = getattr(owner, name), f"{type(owner).__name__}.{name}"
    if isinstance(value, tuple):
        object.__setattr__(owner, name, tuple(_frozen(array, where, dtype, shape) for array in value))
    elif value is not None:
        object.__setattr__(owner, name, _frozen(value, where, dtype, shape))


def _frozen(array: Any, where: str, dtype: type[np.generic], shape: tuple[int | None, ...]) -> np.ndarray:
    if not isinstance(array, np.ndarray) or array.dtype != np.dtype(dtype):
        actual = getattr(array, "dtype", type(array).__name__)
        raise ShotError("bad-type", f"{where} must be an array of {np.dtype(dtype)}, not {actual}.")
    if array.ndim != len(shape) or any(n not in (None, have) for n, have in zip(shape, array.shape, strict=True)):
        text = ", ".join("any" if n is None else str(n) for n in shape)
        raise ShotError("bad-shape", f"{where} must have the shape [{text}], not {list(array.shape)}.")
    if not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
    if array.flags.writeable:
        array = array.view()  # the caller may still be writing through its own reference
        array.flags.writeable = False
    return array


def same_array(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Return whether two arrays hold the same values, without comparing them if they are the same memory."""
    same_memory = a.shape == b.shape and a.__array_interface__["data"][0] == b.__array_interface__["data"][0]
    return same_memory or np.array_equal(a, b)


def same_bytes(
    a: NDArray[np.float32],  # any shape, C-contiguous
    b: NDArray[np.float32],  # any shape, C-contiguous
) -> bool:
    """Return whether two arrays are equal bit by bit: NaN equals itself."""
    return np.array_equal(a.view(np.int32), b.view(np.int32))


def first_bad_sample(
    positions: NDArray[np.float32],  # [T, V, 3]
) -> int | None:
    """Return the index of the first sample that holds a value that is not finite, or None."""
    for t, sample in enumerate(positions):
        # NaN and infinity survive min and max, and no array of flags is made for the common case.
        if sample.size and not (np.isfinite(sample.min()) and np.isfinite(sample.max())):
            return t
    return None
