# SPDX-License-Identifier: GPL-3.0-or-later
"""Bodies of generated figures: builds, capsules about the skeleton's bones, and colors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from trackshade.motion.skeleton import JOINTS, NUM_JOINTS, REST_OFFSETS, orientations, positions

Split = Literal["training", "held-out"]

# Points that are fixed to a joint: name, joint, offset in metres in the rest pose (mirrored for the right side).
_FIXED = (
    ("head_low", "head", (0.0, -0.01, 0.05)),
    ("head_top", "head", (0.0, 0.0, 0.19)),
    ("nose", "head", (0.0, -0.13, 0.08)),
    ("hair", "head", (0.0, 0.05, 0.13)),
    ("pack_top", "chest", (0.0, 0.17, 0.17)),
    ("pack_bottom", "chest", (0.0, 0.17, -0.03)),
    ("belly", "chest", (0.0, -0.02, -0.10)),
    ("breast", "chest", (0.0, -0.01, 0.14)),
    ("fingertip_l", "fingers_l", (0.0, 0.0, -0.09)),
    ("fingertip_r", "fingers_r", (0.0, 0.0, -0.09)),
    ("thumb_l", "hand_l", (-0.01, -0.06, -0.08)),
    ("thumb_r", "hand_r", (0.01, -0.06, -0.08)),
    ("toe_l", "foot_l", (0.0, -0.17, -0.05)),
    ("toe_r", "foot_r", (0.0, -0.17, -0.05)),
)
POINTS = (*JOINTS, *(name for name, _, _ in _FIXED))
_FIXED_JOINTS = [JOINTS.index(joint) for _, joint, _ in _FIXED]

# Capsules: from point, to point, radii at both ends in metres, material.
_CAPSULES = (
    ("thigh_l", "thigh_r", 0.10, 0.10, "trousers"),
    ("pelvis", "belly", 0.12, 0.125, "shirt"),
    ("belly", "breast", 0.125, 0.135, "shirt"),
    ("upper_arm_l", "upper_arm_r", 0.08, 0.08, "shirt"),
    ("breast", "neck", 0.10, 0.06, "shirt"),
    ("neck", "head_low", 0.05, 0.05, "skin"),
    ("head_low", "head_top", 0.095, 0.10, "skin"),
    ("hair", "head_top", 0.09, 0.085, "hair"),
    ("nose", "nose", 0.03, 0.03, "skin"),
    ("pack_top", "pack_bottom", 0.085, 0.095, "pack"),
    ("upper_arm_l", "forearm_l", 0.065, 0.05, "sleeve"),
    ("forearm_l", "hand_l", 0.05, 0.038, "forearm"),
    ("hand_l", "fingers_l", 0.042, 0.045, "skin"),
    ("fingers_l", "fingertip_l", 0.036, 0.026, "skin"),
    ("hand_l", "thumb_l", 0.024, 0.02, "skin"),
    ("upper_arm_r", "forearm_r", 0.065, 0.05, "sleeve"),
    ("forearm_r", "hand_r", 0.05, 0.038, "forearm"),
    ("hand_r", "fingers_r", 0.042, 0.045, "skin"),
    ("fingers_r", "fingertip_r", 0.036, 0.026, "skin"),
    ("hand_r", "thumb_r", 0.024, 0.02, "skin"),
    ("thigh_l", "shin_l", 0.092, 0.07, "trousers"),
    ("shin_l", "foot_l", 0.066, 0.046, "shin"),
    ("foot_l", "toe_l", 0.05, 0.045, "shoe"),
    ("thigh_r", "shin_r", 0.092, 0.07, "trousers"),
    ("shin_r", "foot_r", 0.066, 0.046, "shin"),
    ("foot_r", "toe_r", 0.05, 0.045, "shoe"),
)
CAPSULE_ENDS = np.array([[POINTS.index(a), POINTS.index(b)] for a, b, *_ in _CAPSULES])
_RADII = np.array([[a, b] for _, _, a, b, _ in _CAPSULES])
_MATERIALS = ("shirt", "trousers", "sleeve", "forearm", "skin", "hair", "pack", "shin", "shoe")
_CAPSULE_MATERIALS = np.array([_MATERIALS.index(material) for *_, material in _CAPSULES])
_LIMBS = np.array([a.endswith("_l") and not b.endswith("_r") for a, b, *_ in _CAPSULES])  # those of the left side
_HEAD = np.array(["head" in a or a in ("hair", "nose") for a, *_ in _CAPSULES])
# Ranges of the factors of stylized figures: legs, arms, torso, width, girth, head.
_STYLIZED = ((0.55, 0.95), (0.7, 1.15), (0.9, 1.25), (0.9, 1.35), (0.75, 1.7), (1.25, 2.2))
_FLOOR = 0.05  # height of the lowest joint of the feet, metres


@dataclass(frozen=True)
class Figures:
    """The bodies of N figures."""

    offsets: np.ndarray  # [N, J, 3] metres, positions of joints relative to their parents in the rest pose
    fixed: np.ndarray  # [N, F, 3] metres, points that are fixed to a joint
    radii: np.ndarray  # [N, Q, 2] metres, of the capsules
    colors: np.ndarray  # [N, Q, 3] sRGB 0..1, of the capsules

    def pose(
        self,
        local: np.ndarray,  # [N, T, J, 3, 3]
    ) -> np.ndarray:
        """Return the positions of `POINTS` on the floor, [N, T, P, 3] metres; the pelvis has x = y = 0."""
        joints = positions(local, self.offsets[:, None])
        turned = orientations(local)[:, :, _FIXED_JOINTS]
        fixed = joints[:, :, _FIXED_JOINTS] + (turned @ self.fixed[:, None, :, :, None])[..., 0]
        points = np.concatenate([joints, fixed], axis=2)
        feet = points[:, :, [POINTS.index(name) for name in ("foot_l", "foot_r", "toe_l", "toe_r", "shin_l", "shin_r")]]
        points[..., 2] += _FLOOR - feet[..., 2].min(axis=2)[:, :, None]
        return points


def average_figure() -> Figures:
    """Return one figure of average build, in gray."""
    fixed = np.array([offset for _, _, offset in _FIXED])
    return Figures(REST_OFFSETS[None].copy(), fixed[None], _RADII[None], np.full((1, len(_CAPSULES), 3), 0.5))


def sample_figures(rng: np.random.Generator, count: int, split: Split = "training", stylized: float = 0.0) -> Figures:
    """Sample bodies and colors.

    Args:
        rng: generator that determines them.
        count: number N of figures.
        split: held-out figures have builds beyond the range of training: slighter or heavier, with longer or shorter
            legs.
        stylized: fraction of figures with large heads, short legs and thick or thin limbs, as children, toys and robots
            have them.
    """
    legs, arms, torso, width = (
        _sample_range(rng, count, *limits, split) for limits in ((0.9, 1.1), (0.88, 1.12), (0.92, 1.08), (0.85, 1.15))
    )
    thick = _sample_range(rng, count, 0.8, 1.25, split)
    size = rng.uniform(0.95, 1.05, count)
    head = rng.uniform(0.9, 1.15, count)
    if stylized:
        is_stylized = rng.random(count) < stylized
        limits = np.array(_STYLIZED)
        drawn = rng.uniform(limits[:, :1], limits[:, 1:], (len(_STYLIZED), count))
        legs, arms, torso, width, thick, head = np.where(is_stylized, drawn, [legs, arms, torso, width, thick, head])
        size = np.where(is_stylized, size * 1.72 / (0.92 * legs + 0.51 * torso + 0.29 * head), size)  # crops fit
    scale = np.ones((count, NUM_JOINTS, 3))
    for joint, name in enumerate(JOINTS):
        if name.startswith(("shin", "foot")):
            scale[:, joint] *= legs[:, None]
        elif name.startswith(("forearm", "hand")):
            scale[:, joint] *= arms[:, None]
        elif name.startswith(("upper_arm", "thigh")):
            scale[:, joint, 0] *= width
            scale[:, joint, 2] *= torso
        elif name in ("spine", "chest", "neck"):
            scale[:, joint] *= torso[:, None]
    offsets = REST_OFFSETS * scale * size[:, None, None]
    fixed = np.array([offset for _, _, offset in _FIXED]) * np.ones((count, 1, 1))
    heads = [index for index, joint in enumerate(_FIXED_JOINTS) if JOINTS[joint] == "head"]
    fixed[:, heads] *= head[:, None, None]
    fixed *= size[:, None, None]
    girth = np.where(_HEAD, head[:, None], thick[:, None]) * size[:, None]
    return Figures(offsets, fixed, _RADII * girth[..., None], _sample_colors(rng, count))


def recolor(rng: np.random.Generator, figures: Figures) -> Figures:
    """Return the same bodies in colors that are a little different."""
    factors = rng.uniform(0.7, 1.3, (len(figures.colors), 1, 3))
    return Figures(figures.offsets, figures.fixed, figures.radii, np.clip(figures.colors * factors, 0, 1))


def _sample_range(rng: np.random.Generator, count: int, low: float, high: float, split: Split) -> np.ndarray:
    """Sample numbers in a range (training), or within a quarter of it beyond either end (held-out)."""
    inside = rng.uniform(low, high, count)
    beyond = (high - low) * rng.uniform(0.0, 0.25, count)
    outside = np.where(rng.random(count) < 0.5, low - beyond, high + beyond)
    return inside if split == "training" else outside


def _sample_colors(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return the colors of the capsules, [N, Q, 3] sRGB."""
    vivid = 0.1 + 0.85 * rng.random((count, len(_MATERIALS), 3))
    gray = 0.08 + 0.84 * rng.random((count, len(_MATERIALS), 1))
    colors = np.where(rng.random((count, len(_MATERIALS), 1)) < 0.6, vivid, gray * (0.75 + 0.25 * vivid))
    index = {name: _MATERIALS.index(name) for name in _MATERIALS}
    tone = rng.uniform(0.25, 0.95, count)
    skin = np.stack([tone, tone * rng.uniform(0.65, 0.88, count), tone * rng.uniform(0.45, 0.78, count)], axis=1)
    colors[:, index["skin"]] = skin
    colors[:, index["hair"]] *= rng.uniform(0.2, 0.9, (count, 1))
    shirt, trousers = colors[:, index["shirt"]].copy(), colors[:, index["trousers"]].copy()
    choice = rng.random((count, 1))
    sleeve = np.where(choice < 0.55, shirt, np.where(choice < 0.7, skin, colors[:, index["sleeve"]]))
    colors[:, index["sleeve"]] = sleeve
    colors[:, index["forearm"]] = np.where(rng.random((count, 1)) < 0.5, sleeve, skin)
    colors[:, index["shin"]] = np.where(rng.random((count, 1)) < 0.75, trousers, skin)
    # Without a backpack the capsule has the shirt's color.
    colors[:, index["pack"]] = np.where(rng.random((count, 1)) < 0.5, colors[:, index["pack"]], shirt)
    result = colors[:, _CAPSULE_MATERIALS]
    # In most figures the left limbs are darker, which tells the sides apart at this size.
    shade = np.where(rng.random(count) < 0.75, rng.uniform(0.55, 0.85, count), 1.0)
    result[:, _LIMBS] *= shade[:, None, None]
    return result
