# SPDX-License-Identifier: GPL-3.0-or-later
"""A prepared propagation as plain values and arrays, from which another process draws the same frames.

It belongs to `Propagation`, whose private attributes it reads and writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from trackshade.propagation.composing import Fills
from trackshade.propagation.fallbacks import VertexColors
from trackshade.propagation.light import Light, Relighting
from trackshade.propagation.pictures import SurfacePicture
from trackshade.propagation.propagation import KeyPicture, Propagation, _Key
from trackshade.shot import Shot

_PICTURES = ("_keys", "_soft", "_low")


def is_lit(propagation: Propagation) -> bool:
    """Return whether frames are relit; known after `prepare`."""
    return propagation._relighting is not None


def pack(propagation: Propagation) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Return a propagation after `prepare` as plain values and arrays.

    Its light is left out: it is read frame by frame, and `unpack` is given it anew.
    """
    assert propagation._fills is not None
    shot, arrays = propagation.shot.encode()
    given = [key for key in propagation._given if key.detail]
    colors, lit = propagation._vertex_colors, propagation._relighting
    header = {
        "shot": [shot, len(arrays)],
        "size": list(propagation.size),
        "samples": propagation._samples,
        "light": None if lit is None else [lit.exposure, list(lit.exponents)],
        "device": "cpu" if propagation.device == "cpu" else "auto",  # another process may have none
        "colored": [] if colors is None else list(colors.points),
        "given": [key.t for key in given],
        **{name: [key.pose.t for key in getattr(propagation, name)] for name in _PICTURES},
    }
    pictures = [key.picture for name in _PICTURES for key in getattr(propagation, name)]
    arrays = [*arrays, *(key.image for key in given), *(array for picture in pictures for array in picture)]
    arrays += [array for points in (colors.points.values() if colors is not None else ()) for array in points]
    return header, [*arrays, *propagation._fills]


def unpack(header: Mapping[str, Any], arrays: Sequence[np.ndarray], light: Light | None = None) -> Propagation:
    """Return a propagation whose frames are those of the one that was packed.

    Args:
        header: What `pack` has returned.
        arrays: The arrays with it, which may be read-only; those of the shot are not copied.
        light: Clay renders of the frames that will be drawn, if it was lit.
    """
    shot, count = header["shot"]
    rest = iter(arrays[count:])
    propagation = Propagation(
        Shot.decode(shot, arrays[:count]),
        [KeyPicture(t, next(rest)) for t in header["given"]],
        size=tuple(header["size"]),
        samples=header["samples"],
        device=header["device"],
    )
    if header["light"] is not None:
        assert light is not None
        exposure, (red, green, blue) = header["light"]
        propagation._relighting = Relighting(propagation.shot, light, exposure, (red, green, blue))
    for name in _PICTURES:
        setattr(propagation, name, [_read_key(propagation, t, rest) for t in header[name]])
    points = {mesh: (np.array(next(rest)), np.array(next(rest))) for mesh in header["colored"]}
    propagation._vertex_colors = VertexColors(propagation._table, points)
    propagation._fills = Fills(*(np.array(array) for array in rest))
    return propagation


def _read_key(propagation: Propagation, t: int, arrays: Iterator[np.ndarray]) -> _Key:
    """Return the next picture, copied: kernels are compiled for arrays that can be written."""
    picture = SurfacePicture(*(np.array(next(arrays)) for _ in SurfacePicture._fields))
    return _Key(picture, propagation._table.pose(t, picture.size))
