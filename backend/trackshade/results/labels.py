# SPDX-License-Identifier: GPL-3.0-or-later
"""Labels of pictures in letters of any script, where the system has a font for them."""

from __future__ import annotations

import unicodedata
from functools import cache

from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont

# Files of fonts that cover many scripts, by the names under which Pillow finds them: Linux, Windows, macOS.
_FONTS = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "NotoSansDevanagari-Regular.ttf"),
    *("NotoSansThai-Regular.ttf", "arial.ttf", "msyh.ttc", "malgun.ttf", "Nirmala.ttf", "LeelawUI.ttf"),
    *("Arial Unicode.ttf", "PingFang.ttc"),
)
_UNASSIGNED = "\U0010ffff"  # which every font shows as a missing character


def label_of(text: str, number: int, size: int) -> tuple[str, Font]:
    """Return a label and a font that has its characters.

    Args:
        text: What the label says.
        number: Says it instead if no font of the system has the text's characters, and nothing of it can be written
            in ASCII.
        size: Height of the font, pixels.
    """
    default = ImageFont.load_default(size)
    if text.isascii():
        return text, default
    for name in _FONTS:
        font = _find(name, size)
        if font is not None and _has_characters(font, text):
            return text, font
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return plain.strip("_-. ") or str(number), default


@cache
def _find(name: str, size: int) -> Font | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


def _has_characters(font: Font, text: str) -> bool:
    missing = _draw(_UNASSIGNED, font)
    return all(_draw(character, font) != missing for character in set(text) if not character.isspace())


def _draw(character: str, font: Font) -> bytes:
    image = Image.new("L", (64, 64))
    ImageDraw.Draw(image).text((8, 8), character, 255, font)
    return image.tobytes()
