# SPDX-License-Identifier: GPL-3.0-or-later
"""Render passes of a shot as OpenEXR sequences."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from trackshade.control.passes import frame_passes
from trackshade.shot import Shot

PASSES = ("depth", "normal", "flow", "index")
_NO_DEPTH = 1e10  # metres


def write_exr_passes(shot: Shot, folder: Path, report: Callable[[int], None] = lambda done: None) -> None:
    """Write `depth/0001.exr`, `normal/`, `flow/` and `index/` in 32-bit floats; see `FramePasses`.

    Depth and index have the channel Y, as Blender reads a single channel of no other name. Depth is 1e10 where nothing
    is, as in Blender's own pass.
    """
    for name in PASSES:
        (folder / name).mkdir()
    for t, passes in enumerate(frame_passes(shot)):
        file = f"{t + 1:04d}.exr"
        _write_exr(folder / "depth" / file, np.minimum(passes.depth, _NO_DEPTH)[..., None], ("Y",))
        _write_exr(folder / "normal" / file, passes.normal, ("R", "G", "B"))
        _write_exr(folder / "flow" / file, passes.flow, ("R", "G", "B"))
        _write_exr(folder / "index" / file, passes.index[..., None].astype(np.float32), ("Y",))
        report(t + 1)


def _write_exr(path: Path, pixels: np.ndarray, channels: tuple[str, ...]) -> None:
    import OpenImageIO as oiio

    height, width, _ = pixels.shape
    spec = oiio.ImageSpec(width, height, len(channels), "float")
    spec.channelnames = channels
    spec.attribute("compression", "zip")
    output = oiio.ImageOutput.create(str(path))
    if output is None or not output.open(str(path), spec):
        raise OSError(oiio.geterror() if output is None else output.geterror())
    written = output.write_image(np.ascontiguousarray(pixels, np.float32))
    if not output.close() or not written:
        raise OSError(output.geterror())
