# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads picture files that users give, in processes of the backend: damaged ones end with a sentence."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from trackshade.core.errors import ShotError


def read_rgb(path: Path, what: str = "picture") -> NDArray[np.uint8]:
    """Read a picture file of any type that Pillow knows, upright as its EXIF says.

    Args:
        path: the file.
        what: what it is, for the error.

    Returns:
        [H, W, 3] uint8 sRGB.

    Raises:
        ShotError: "missing-file", or "bad-image": it cannot be decoded.
    """
    try:
        with Image.open(path) as image:
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except FileNotFoundError as error:
        raise ShotError("missing-file", f"There is no file {path}.", "Check the path.") from error
    except Image.DecompressionBombError as error:
        fix = "Save it at a smaller size."
        raise ShotError("bad-image", f"The {what} {path} has too many pixels to be decoded.", fix) from error
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, MemoryError) as error:  # as Pillow raises them
        reason = str(error).replace(f" '{path}'", "").rstrip(".") or type(error).__name__
        fix = "Save it as PNG or JPEG again."
        raise ShotError("bad-image", f"The {what} {path} cannot be read: {reason}.", fix) from error
