# SPDX-License-Identifier: GPL-3.0-or-later
"""Warnings about what a shot does not show as the render does: one sentence for each kind, naming the objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class WarningKind(NamedTuple):
    """A sentence about one object, and one about several; `{names}` is replaced by their names."""

    one: str
    many: str


def _left_out(one: str, many: str) -> WarningKind:
    rest = "not part of the shot."
    return WarningKind(f"{{names}} is {one} and is {rest}", f"{{names}} are {many} and are {rest}")


# What is visible but has no surface, by object type; "HAIR" is that of particle systems. Everything else that is
# visible evaluates to meshes.
WITHOUT_SURFACE = {
    "CURVES": _left_out("hair curves", "hair curves"),
    "POINTCLOUD": _left_out("a point cloud", "point clouds"),
    "VOLUME": _left_out("a volume", "volumes"),
    "GPENCIL": _left_out("grease pencil", "grease pencil"),
    "GREASEPENCIL": _left_out("grease pencil", "grease pencil"),
    "HAIR": WarningKind("The hair of {names} is not part of the shot.", "The hair of {names} is not part of the shot."),
}
UNKNOWN_ALPHA = WarningKind(
    "The transparency of {names} cannot be determined from its nodes: it is tracked as opaque.",
    "The transparency of {names} cannot be determined from their nodes: they are tracked as opaque.",
)
DISPLACED = WarningKind(
    "The render displaces {names}: the tracks follow the surface without its material's displacement.",
    "The render displaces {names}: the tracks follow the surfaces without their materials' displacement.",
)
DICED = WarningKind(
    "Cycles subdivides {names} while it renders: the tracks follow the modifier's own levels.",
    "Cycles subdivides {names} while it renders: the tracks follow the modifiers' own levels.",
)


@dataclass(eq=False)
class Warnings:
    """Collects warnings.

    Attributes:
        texts: complete sentences, each once.
        names: for each kind, the names of objects that it is about, each once.
    """

    texts: dict[str, None] = field(default_factory=dict)
    names: dict[WarningKind, dict[str, None]] = field(default_factory=dict)

    def add(self, sentence: str) -> None:
        """Adds a sentence."""
        self.texts.setdefault(sentence)

    def add_name(self, kind: WarningKind, name: str) -> None:
        """Adds a name to the sentence of a kind."""
        self.names.setdefault(kind, {}).setdefault(name)

    def sentences(self) -> list[str]:
        """All warnings."""
        about_objects = (
            (kind.one if len(names) == 1 else kind.many).format(names=list_names([f"'{name}'" for name in names]))
            for kind, names in self.names.items()
        )
        return list(dict.fromkeys([*self.texts, *about_objects]))


def list_names(names: Sequence[str], limit: int = 3) -> str:
    """Lists names in a sentence: "A, B and C", or "A, B, C and 4 more" if there are more than `limit` + 1."""
    if len(names) > limit + 1:
        return f"{', '.join(names[:limit])} and {len(names) - limit} more"
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)
