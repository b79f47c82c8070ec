# SPDX-License-Identifier: GPL-3.0-or-later
"""A rigged character without Blender: a box about each bone of the motion model's skeleton."""

from __future__ import annotations

import numpy as np

from trackshade.motion.characters import Character, make_character
from trackshade.motion.retargeting import RestBones
from trackshade.motion.skeleton import JOINTS, NUM_JOINTS, PARENTS, REST_TAILS, positions

_FACES = ((0, 1, 2), (0, 2, 3), (4, 6, 5), (4, 7, 6), (0, 4, 1), (1, 4, 5), (1, 5, 2), (2, 5, 6), (2, 6, 3), (3, 6, 7),
          (3, 7, 0), (0, 7, 4))  # fmt: skip


def box_rig() -> RestBones:
    """Return a rig in the skeleton's rest pose, with its names."""
    places = positions(np.tile(np.eye(3), (NUM_JOINTS, 1, 1)))
    return RestBones(JOINTS, PARENTS, places, places + REST_TAILS, np.tile(np.eye(3), (NUM_JOINTS, 1, 1)))


def box_character(radius: float = 0.06, table: dict[str, str] | None = None) -> Character:
    """Return a character of boxes; the left half of the body is red, the right half green, and the middle white."""
    rest = box_rig()
    vertices, weights, triangles, materials = [], [], [], []
    for bone, name in enumerate(JOINTS):
        along = rest.tails[bone] - rest.heads[bone]
        along = along / np.linalg.norm(along)
        side = np.cross(along, np.eye(3)[int(np.abs(along).argmin())])
        side /= np.linalg.norm(side)
        other = np.cross(along, side)
        for end in (rest.heads[bone], rest.tails[bone]):
            vertices += [end + radius * (a * side + b * other) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        weights += [np.eye(NUM_JOINTS)[bone]] * 8
        triangles += [[8 * bone + corner for corner in face] for face in _FACES]
        materials += [{"_l": 0, "_r": 1}.get(name[-2:], 2)] * len(_FACES)
    palette = np.array([(220, 30, 30), (30, 200, 30), (240, 240, 240)])
    return make_character(
        "Boxes", rest, table or {name: name for name in JOINTS}, np.array(vertices), np.array(weights),
        np.array(triangles), palette[materials], np.array(materials),
    )  # fmt: skip
