# SPDX-License-Identifier: GPL-3.0-or-later
"""Sentences about what the shot does not show as the render does: one for each kind, with the names of the objects."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

_NAMED = 3  # names that a sentence lists


class Kind(NamedTuple):
    """A sentence about one object, and the same about several; `{names}` stands for them."""

    one: str
    many: str


def _not_part(one: str, many: str) -> Kind:
    rest = "not part of the shot."
    return Kind(f"{{names}} is {one} and is {rest}", f"{{names}} are {many} and are {rest}")


# What has extent but no surface of its own, by Blender's type of object, and "HAIR" for that of particle systems.
# Everything else that is seen evaluates to meshes.
WITHOUT_SURFACE = {
    "CURVES": _not_part("hair curves", "hair curves"),
    "POINTCLOUD": _not_part("a point cloud", "point clouds"),
    "VOLUME": _not_part("a volume", "volumes"),
    "GPENCIL": _not_part("grease pencil", "grease pencil"),
    "GREASEPENCIL": _not_part("grease pencil", "grease pencil"),
    "HAIR": Kind("The hair of {names} is not part of the shot.", "The hair of {names} is not part of the shot."),
}
UNKNOWN_ALPHA = Kind(
    "What shows through {names} cannot be told from its nodes: it is tracked as solid.",
    "What shows through {names} cannot be told from their nodes: they are tracked as solid.",
)
DISPLACED = Kind(
    "The render displaces {names}: the tracks follow the surface without its material's displacement.",
    "The render displaces {names}: the tracks follow the surfaces without their materials' displacement.",
)
DICED = Kind(
    "Cycles subdivides {names} while it renders: the tracks follow the modifier's own levels.",
    "Cycles subdivides {names} while it renders: the tracks follow the modifiers' own levels.",
)


@dataclass(eq=False)
class Warnings:
    """Sentences, each once, and names that share one."""

    sentences: dict[str, None] = field(default_factory=dict)
    names: dict[Kind, dict[str, None]] = field(default_factory=dict)

    def add(self, sentence: str) -> None:
        self.sentences.setdefault(sentence)

    def name(self, kind: Kind, name: str) -> None:
        """Adds a name to the sentence of a kind."""
        self.names.setdefault(kind, {}).setdefault(name)

    def all(self) -> list[str]:
        """The sentences as they are told."""
        told = (
            (kind.one if len(names) == 1 else kind.many).format(names=listed(names))
            for kind, names in self.names.items()
        )
        return list(dict.fromkeys([*self.sentences, *told]))


def listed(names: Iterable[str]) -> str:
    """The first few of some names, and how many more there are."""
    quoted = [f"'{name}'" for name in names]
    if len(quoted) > _NAMED + 1:
        return f"{', '.join(quoted[:_NAMED])} and {len(quoted) - _NAMED} more"
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]]) if len(quoted) > 1 else "".join(quoted)
