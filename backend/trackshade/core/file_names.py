# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of files that are valid on every system, in letters of any script."""

from __future__ import annotations

import re
import unicodedata

_RESERVED = re.compile(r"(con|prn|aux|nul|(com|lpt)[\d¹²³])(\..*)?", re.IGNORECASE)  # names of devices on Windows
_MAX_CHARACTERS = 60
_MAX_BYTES = 120  # of UTF-8; some encrypted file systems allow 143 with the suffix
_MAX_PART = 100  # characters of a part of a path that is accepted


def file_name(text: str, fallback: str, gap: str = "_") -> str:
    """Return a text as the name of a file: its letters, digits, `-`, `_` and `.`, and a gap for other characters.

    Args:
        text: Any text, such as the name of an object.
        fallback: The name if nothing is left of the text, and the beginning of a name that Windows reserves.
        gap: What stands for any number of other characters: `_`, of which there is never more than one then, or `-`.

    Returns:
        Normalized text (Unicode's form C) of up to 60 characters and 120 bytes of UTF-8.
    """
    kept: list[str] = []
    for character in unicodedata.normalize("NFC", text):
        kind = unicodedata.category(character)
        has_base = bool(kept) and kept[-1] not in "_.-"
        is_kept = character in ".-" or character == "_" != gap
        if kind[0] in "LN" or is_kept or (kind[0] == "M" and has_base):
            kept.append(character)
        elif kind[0] != "M" and kind != "Cf" and kept[-1:] != [gap]:  # marks without a letter and joiners are left out
            kept.append(gap)
    name = unicodedata.normalize("NFC", "".join(kept)).strip("._-")[:_MAX_CHARACTERS]
    name = name.encode()[:_MAX_BYTES].decode(errors="ignore").strip("._-") or fallback
    return f"{fallback}_{name}" if is_reserved(name) else name


def is_reserved(name: str) -> bool:
    """Return whether Windows takes a name for a device, such as "CON" or "nul.png"."""
    return _RESERVED.fullmatch(name) is not None


def is_path_part(name: str) -> bool:
    """Return whether a text is the name of a file or folder on every system, and no way to another folder."""
    if not 0 < len(name) <= _MAX_PART or name.endswith(".") or is_reserved(name):
        return False
    kinds = "".join(unicodedata.category(character)[0] for character in name)
    others = {character for character, kind in zip(name, kinds, strict=True) if kind not in "LMN"}
    return (kinds[0] in "LN" or name[0] == "_") and others <= set("._-")
