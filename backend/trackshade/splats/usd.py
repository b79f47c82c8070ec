# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes splats of all frames as one USD file with time samples, which Blender 5.3 plays without a script.

Source: OpenUSD 26.03, schema `UsdVolParticleField3DGaussianSplat`. Needs `usd-core`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from trackshade.core.errors import UsageError
from trackshade.shot import Shot
from trackshade.splats.frame import SplatFrame
from trackshade.splats.ply import HARMONIC, check_finite

WIDTH = 0.4  # standard deviation in units of the distance between splats
OPACITY = 6.0  # above 1: small splats that cover like large ones, without their soft rims
PRIM = "/Splats"
_FLUSHED = 16  # frames after which what was set is written to disk


def write_splat_usd(
    path: Path,
    frames: Iterable[SplatFrame],
    fps: float,
    width: float = WIDTH,
    opacity: float = OPACITY,
    report: Callable[[int], None] = lambda done: None,
) -> None:
    """Write splats; values that do not change are written once.

    Args:
        path: a file with the suffix .usdc, .usda or .usd.
        frames: the frames, at least one, in their order.
        fps: rate at which scene frames play.
        width: see `write_splat_ply`.
        opacity: opacity at their centers; Blender's Cycles and EEVEE do not clamp it at 1.
        report: called with the number of frames that are done.

    Raises:
        UsageError: `usd-core` is not installed, or is too old.
        OutputError: a value is not finite.
    """
    usd, geom, vol, vt = usd_modules()
    path.unlink(missing_ok=True)
    stage = usd.Stage.CreateNew(str(path))
    geom.SetStageUpAxis(stage, geom.Tokens.z)
    geom.SetStageMetersPerUnit(stage, 1.0)
    stage.SetTimeCodesPerSecond(fps)
    stage.SetFramesPerSecond(fps)
    prim = vol.ParticleField3DGaussianSplat.Define(stage, PRIM)
    stage.SetDefaultPrim(prim.GetPrim())
    prim.CreateRadianceSphericalHarmonicsDegreeAttr().Set(0)
    attributes = {
        "positions": (prim.CreatePositionsAttr(), vt.Vec3fArray),
        "orientations": (prim.CreateOrientationsAttr(), vt.QuatfArray),
        "scales": (prim.CreateScalesAttr(), vt.Vec3fArray),
        "opacities": (prim.CreateOpacitiesAttr(), vt.FloatArray),
        "radiance": (prim.CreateRadianceSphericalHarmonicsCoefficientsAttr(), vt.Vec3fArray),
        "extent": (prim.CreateExtentAttr(), vt.Vec3fArray),
    }
    last: dict[str, np.ndarray] = {}  # the first value, as long as there is no sample
    number = 0.0  # of the frame before
    sampled: set[str] = set()
    for done, frame in enumerate(frames, 1):
        check_finite(frame)
        if done == 1:
            stage.SetStartTimeCode(frame.number)
        stage.SetEndTimeCode(frame.number)
        for name, values in _values(frame, width, opacity).items():
            attribute, kind = attributes[name]
            before = last.get(name)
            if before is None:
                attribute.Set(kind.FromNumpy(values))  # the default, which holds until a sample differs
                last[name] = values
            elif name in sampled or not np.allclose(before, values, rtol=1e-5, atol=0):
                if name not in sampled:
                    sampled.add(name)
                    for time in {stage.GetStartTimeCode(), number}:
                        attribute.Set(kind.FromNumpy(before), time)
                attribute.Set(kind.FromNumpy(values), frame.number)
        number = frame.number
        if done % _FLUSHED == 0:
            stage.Save()
        report(done)
    stage.Save()


def _values(frame: SplatFrame, width: float, opacity: float) -> dict[str, np.ndarray]:
    position = np.ascontiguousarray(frame.position, np.float32)
    shown = position[frame.exists] if frame.exists.any() else np.zeros((1, 3), np.float32)
    return {
        "positions": position,
        "orientations": np.ascontiguousarray(frame.rotation[:, [1, 2, 3, 0]], np.float32),  # (x, y, z, w) from numpy
        "scales": np.ascontiguousarray(width * frame.size, np.float32),
        "opacities": np.where(frame.exists, np.float32(opacity), np.float32(0)),
        "radiance": np.ascontiguousarray((frame.color - 0.5) / HARMONIC, np.float32),
        "extent": np.stack([shown.min(axis=0), shown.max(axis=0)]),
    }


def scene_rate(shot: Shot) -> float:
    """Return the rate at which the scene's frames play, of which samples of a shot may be several apart."""
    numbers = shot.frame_numbers[:: shot.views]
    step = (numbers[-1] - numbers[0]) / (len(numbers) - 1) if len(numbers) > 1 else 1.0
    return float(shot.fps * step)


def usd_modules():
    """Return the modules Usd, UsdGeom, UsdVol and Vt. Raise UsageError if they are missing or too old."""
    try:
        from pxr import Usd, UsdGeom, UsdVol, Vt
    except ImportError:
        found = "is not installed"
    else:
        if hasattr(UsdVol, "ParticleField3DGaussianSplat"):
            return Usd, UsdGeom, UsdVol, Vt
        found = "is too old: it has no Gaussian splats"
    raise UsageError(
        "no-usd", f"The Python package usd-core {found}.", "Install it with: pip install 'usd-core>=26.3'."
    )
