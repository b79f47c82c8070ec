# SPDX-License-Identifier: GPL-3.0-or-later
"""Color encodings of image files: from stored values to linear light with sRGB's primaries.

Matrix-based ICC profiles are applied as specified (ICC.1:2022, F.3): tone curves, the matrix to the profile connection
space (XYZ, D50), then the matrix to sRGB's primaries. Profiles based on lookup tables are not supported.
"""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackshade.core.colors import srgb_to_linear

Float64 = NDArray[np.float64]

# D65 white adapted to D50 by Bradford's method: columns are red, green and blue in XYZ.
_SRGB_D50 = np.array(
    [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
)
_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_D65 = (0.3127, 0.3290)
_PRIMARIES = {  # x and y of red, green, blue and white
    "sRGB": (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, *_D65),
    "Display P3": (0.68, 0.32, 0.265, 0.69, 0.15, 0.06, *_D65),
    "Rec.2020 with sRGB's curve": (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *_D65),
    "Adobe RGB": (0.64, 0.33, 0.21, 0.71, 0.15, 0.06, *_D65),
}
_ADOBE_GAMMA = 563 / 256
_MATRIX_TOLERANCE = 3e-3  # of matrix entries: sRGB profiles of different makers differ by rounding
_CURVE_TOLERANCE = 2e-3  # of linear light: half a level in the middle greys


@dataclass(frozen=True)
class Curve:
    """A tone curve from stored values 0..1 to linear light 0..1.

    Attributes:
        kind: "srgb", "gamma", "table" or "parameters".
        values: The exponent, the table's entries, or g, a, b, c, d, e, f of ICC's parametric curves.
    """

    kind: str = "srgb"
    values: tuple[float, ...] = ()

    def __call__(self, stored: Float64) -> Float64:
        """Convert stored values to linear light, elementwise."""
        if self.kind == "srgb":
            return srgb_to_linear(stored)
        if self.kind == "gamma":
            return stored ** self.values[0]
        if self.kind == "table":
            return np.interp(stored, np.linspace(0, 1, len(self.values)), self.values)
        g, a, b, c, d, e, f = self.values
        with np.errstate(invalid="ignore", over="ignore"):
            light = np.where(stored >= d, np.maximum(a * stored + b, 0) ** g + e, c * stored + f)
        return np.clip(np.nan_to_num(light, posinf=1.0, neginf=0.0), 0, 1)


@dataclass(frozen=True)
class Encoding:
    """The conversion from stored values to linear light with sRGB's primaries.

    Attributes:
        name: Name shown to the user.
        curves: Tone curves of red, green and blue.
        matrix: Rows of [3, 3] from linear light with the file's primaries; None if those are sRGB's.
    """

    name: str
    curves: tuple[Curve, Curve, Curve]
    matrix: tuple[tuple[float, float, float], ...] | None = None

    @property
    def is_srgb(self) -> bool:
        """Whether this is sRGB itself, so that nothing has to be converted."""
        return self == SRGB

    def table(self, bits: int) -> Float64:
        """Return [3, 2**bits]: the linear light of each stored value."""
        return _table(self.curves, bits)


SRGB = Encoding("sRGB", (Curve(), Curve(), Curve()))


@functools.lru_cache(maxsize=4)
def _table(curves: tuple[Curve, ...], bits: int) -> Float64:
    stored = np.linspace(0, 1, 1 << bits)
    return np.stack([curve(stored) for curve in curves])


def named_encoding(name: str) -> Encoding:
    """Return the encoding of a known color space, such as "Display P3"."""
    curve = Curve("gamma", (_ADOBE_GAMMA,)) if name == "Adobe RGB" else Curve()
    return _encoding(name, (curve, curve, curve), _matrix_of_primaries(_PRIMARIES[name]))


def encoding_of_chromaticities(primaries: tuple[float, ...] | None, exponent: float | None) -> Encoding:
    """Return the encoding of a PNG's cHRM and gAMA chunks.

    Args:
        primaries: x and y of red, green, blue and white; None for sRGB's.
        exponent: Exponent from stored values to light; None for sRGB's curve.
    """
    curve = Curve() if exponent is None else Curve("gamma", (exponent,))
    matrix = None if primaries is None else _matrix_of_primaries(primaries)
    return _encoding("the file's own gamma and primaries", (curve, curve, curve), matrix)


def encoding_of_icc(profile: bytes) -> Encoding | None:
    """Return the encoding of an ICC profile; None if it is damaged or not matrix-based."""
    try:
        return _parse_icc(profile)
    except (struct.error, IndexError, KeyError, ValueError, UnicodeDecodeError):
        return None


def _parse_icc(profile: bytes) -> Encoding | None:
    space, connection = profile[16:20], profile[20:24]
    (count,) = struct.unpack_from(">I", profile, 128)
    tags = {}
    for index in range(min(count, 200)):
        name, offset, length = struct.unpack_from(">4sII", profile, 132 + 12 * index)
        tags[name] = profile[offset : offset + length]
    name = _icc_text(tags.get(b"desc", b"")) or "its color profile"
    if space == b"GRAY":
        curve = _icc_curve(tags[b"kTRC"])
        return _encoding(name, (curve, curve, curve), None)
    if space != b"RGB " or connection != b"XYZ ":
        return None
    red, green, blue = (_icc_curve(tags[tag]) for tag in (b"rTRC", b"gTRC", b"bTRC"))
    columns = [np.array(struct.unpack_from(">3i", tags[tag], 8)) / 65536 for tag in (b"rXYZ", b"gXYZ", b"bXYZ")]
    return _encoding(name, (red, green, blue), np.linalg.inv(_SRGB_D50) @ np.stack(columns, axis=1))


def _icc_curve(data: bytes) -> Curve:
    kind = data[:4]
    if kind == b"curv":
        (count,) = struct.unpack_from(">I", data, 8)
        if count <= 1:
            return _gamma(struct.unpack_from(">H", data, 12)[0] / 256 if count else 1.0)
        if count > 65536:
            raise ValueError("the curve is too long")
        return Curve("table", tuple(value / 65535 for value in struct.unpack_from(f">{count}H", data, 12)))
    if kind != b"para":
        raise ValueError("no curve")
    (form,) = struct.unpack_from(">H", data, 8)
    g, *rest = (value / 65536 for value in struct.unpack_from(f">{(1, 3, 4, 5, 7)[form]}i", data, 12))
    if form == 0:
        return _gamma(g)
    a, b, *more = rest
    if a == 0:
        raise ValueError("the curve is flat")
    if form <= 2:  # constant below -b / a
        return Curve("parameters", (g, a, b, 0.0, -b / a, *(more or [0.0]) * 2))
    return Curve("parameters", (g, a, b, *(*more, 0.0, 0.0)[:4]))


def _gamma(exponent: float) -> Curve:
    if not 0.1 <= exponent <= 10:
        raise ValueError("no sensible gamma")
    return Curve("gamma", (exponent,))


def _icc_text(data: bytes) -> str:
    """Read the profile's name from a "desc" or "mluc" element."""
    if data[:4] == b"desc" and len(data) >= 12:
        (length,) = struct.unpack_from(">I", data, 8)
        text = data[12 : 12 + min(length, 100)].split(b"\0")[0].decode("ascii", "replace")
    elif data[:4] == b"mluc" and len(data) >= 28:
        length, offset = struct.unpack_from(">II", data, 20)
        text = data[offset : offset + min(length, 200) // 2 * 2].decode("utf-16-be", "replace")
    else:
        return ""
    return "".join(character for character in text if character.isprintable()).strip()


def _encoding(name: str, curves: tuple[Curve, Curve, Curve], matrix: Float64 | None) -> Encoding:
    """Make an encoding; `SRGB` if it is the same except for rounding."""
    if matrix is not None:
        if not np.isfinite(matrix).all():
            raise ValueError("no sensible primaries")
        if np.abs(matrix - np.eye(3)).max() < _MATRIX_TOLERANCE:
            matrix = None
    probe = np.linspace(0, 1, 256)
    if all(np.abs(curve(probe) - srgb_to_linear(probe)).max() < _CURVE_TOLERANCE for curve in set(curves)):
        curves = SRGB.curves
    if matrix is None and curves == SRGB.curves:
        return SRGB
    rows = None if matrix is None else tuple((float(r), float(g), float(b)) for r, g, b in matrix)
    return Encoding(name, curves, rows)


def _matrix_of_primaries(primaries: tuple[float, ...]) -> Float64 | None:
    """Compute the [3, 3] matrix from these primaries to sRGB's; None for degenerate primaries."""
    pairs = zip(primaries[::2], primaries[1::2], strict=True)
    try:
        *columns, white = np.array([(x / y, 1.0, (1 - x - y) / y) for x, y in pairs])
        to_xyz = np.transpose(columns)
        to_xyz = to_xyz * np.linalg.solve(to_xyz, white)
        gains = (_BRADFORD @ _D50) / (_BRADFORD @ white)
        to_d50 = np.linalg.inv(_BRADFORD) @ np.diag(gains) @ _BRADFORD @ to_xyz
        return np.linalg.inv(_SRGB_D50) @ to_d50
    except (np.linalg.LinAlgError, ZeroDivisionError):
        return None
