# SPDX-License-Identifier: GPL-3.0-or-later
"""What motion tokens say, without the generator: joints in the target view, retrieval, azimuth, rotations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from trackshade.models.motion_encoder import rotation_matrices
from trackshade.motion.framing import LANDMARKS, LIMBS
from trackshade.motion.pose_fit import fit_rotations
from trackshade.motion.skeleton import JOINTS, positions

from ...motion.batches import MotionBatch
from ...motion.characters import CharacterLibrary
from ...motion.clips import ClipOptions, sample_clips
from ...motion.generator_task import GeneratorModel
from ..summary import estimate_difference, estimate_mean
from .sources import TITLES, said_landmarks, source_names

DIFFERENCES = (0, 30, 60, 90, 180)
_TIPS = tuple(LANDMARKS.index(f"fingertip_{side}") for side in "lr")
_LIMB_JOINTS = [JOINTS.index(LANDMARKS[landmark]) for landmark in LIMBS]
COPIED = "copied"
_PART = 32  # clips that are made together
_RIDGE = 10.0


def sample(seed: int, count: int, **options: Any) -> list[MotionBatch]:
    """Sample unseen clips, in parts; another figure drives, and the camera stands still, by default."""
    values: dict[str, Any] = {"other_figure": 1.0, "moving": 0.0} | options
    return [
        MotionBatch.from_clips(
            sample_clips(np.random.default_rng([seed, part]), min(_PART, count - part), ClipOptions(**values))
        )
        for part in range(0, count, _PART)
    ]


@torch.no_grad()
def joint_distances(
    model: GeneratorModel, source: str, batches: list[MotionBatch], landmarks: tuple[int, ...] = LIMBS
) -> np.ndarray:
    """Return how far off the landmarks that a source says are in the target view, [N, F, landmarks] pixels."""
    distances = []
    for batch in batches:
        points = said_landmarks(model, model.source_tokens(batch, source), source)
        places, _ = model.networks(source).adapter.project(points, batch.azimuth, batch.elevation)
        distance = (places - batch.landmarks).norm(dim=-1)[:, list(landmarks)]
        distances.append(distance.unflatten(0, (-1, batch.num_frames)))
    return torch.cat(distances).numpy()


def joint_errors(
    model: GeneratorModel, source: str, batches: list[MotionBatch], landmarks: tuple[int, ...] = LIMBS
) -> np.ndarray:
    """Return the mean of these distances by clip, [N] pixels."""
    return joint_distances(model, source, batches, landmarks).mean(axis=(1, 2))


def copied_errors(batches: list[MotionBatch]) -> np.ndarray:
    """Return that error of the driving figure's exact joints, left where the driving view has them, [N] pixels."""
    errors = []
    for batch in batches:
        distance = (batch.exact_landmarks - batch.landmarks).norm(dim=-1)[:, list(LIMBS)]
        errors.append(distance.unflatten(0, (-1, batch.num_frames)).mean(dim=(1, 2)))
    return torch.cat(errors).numpy()


def measure_joints(model: GeneratorModel, count: int, characters: CharacterLibrary | None = None) -> dict[str, Any]:
    """Measure the first table: each source by azimuth difference, and on what training never had.

    Args:
        model: the model.
        count: number of clips for each figure.
        characters: characters that are measured as drivers as well.

    Returns:
        "rows" (a row for each source, an estimate for each difference), "ratios" and "held_out".
    """
    errors: dict[str, dict[int, np.ndarray]] = {name: {} for name in (*source_names(model), COPIED)}
    for difference in DIFFERENCES:
        batches = sample(9200 + difference, count, azimuth_difference=difference, targets=False)
        for name, values in errors.items():
            values[difference] = joint_errors(model, name, batches) if name != COPIED else copied_errors(batches)
    titles = TITLES | {COPIED: "exact 2D joints, copied from the driving view"}
    rows = [
        {"id": name, "title": titles[name]} | {f"d{key}": estimate_mean(value) for key, value in values.items()}
        for name, values in errors.items()
    ]
    return {"rows": rows, "ratios": _ratios(errors), "held_out": _held_out(model, count, characters)}


def _ratios(errors: dict[str, dict[int, np.ndarray]]) -> dict[str, dict[int, float]]:
    """Return by difference: tokens / 2D single view, tokens / 2D across views, and how much of the gap tokens close."""
    if "none" not in errors:
        return {}
    means = {name: {key: float(value.mean()) for key, value in values.items()} for name, values in errors.items()}
    tokens, none = means["tokens"], means["none"]
    return {
        "tokens / 2D single view": {d: tokens[d] / means["joints_single"][d] for d in DIFFERENCES},
        "tokens / 2D across views": {d: tokens[d] / means["joints"][d] for d in DIFFERENCES},
        "(none - tokens) / (none - rotations)": {
            d: (none[d] - tokens[d]) / (none[d] - means["rotations"][d]) for d in DIFFERENCES
        },
    }


def _held_out(model: GeneratorModel, count: int, characters: CharacterLibrary | None = None) -> list[dict[str, Any]]:
    """Return errors of the tokens at 90 degrees on held-out kinds of data, of hidden limbs, and of fingertips."""
    options = {"azimuth_difference": 90, "targets": False}
    cases: dict[str, dict[str, Any]] = {
        "as in training": {},
        "held-out figures": {"split": "held-out", "held_out": ("figures",)},
        "held-out motions": {"split": "held-out", "held_out": ("motions",)},
        "held-out target azimuths": {"split": "held-out", "held_out": ("azimuths",)},
        "all held-out": {"split": "held-out"},
        "children, toys and robots as drivers, as in training": {"stylized": 1.0},
    }
    if characters is not None:
        cases["rigged characters as drivers"] = {"characters": replace(characters, fraction=1.0)}
    rows = []
    for title, more in cases.items():
        batches = sample(9290, count, **options, **more)
        rows.append({"id": title, "title": title, "limbs": estimate_mean(joint_errors(model, "tokens", batches))})
    rows += _by_visibility(model, sample(9290, count, **options))
    tips = {}
    for title, share in (("hands seen", 1.0), ("hands not seen", 0.0)):
        batches = sample(9290, count, **options, hands=share)
        tips[title] = joint_errors(model, "tokens", batches, _TIPS)
        limbs = estimate_mean(joint_errors(model, "tokens", batches))
        rows.append({"id": title, "title": title, "limbs": limbs, "tips": estimate_mean(tips[title])})
    gain = estimate_difference(tips["hands not seen"], tips["hands seen"])
    return [*rows, {"id": "gain", "title": "not seen − seen", "tips": gain}]


def _by_visibility(model: GeneratorModel, batches: list[MotionBatch]) -> list[dict[str, Any]]:
    """Return errors of the tokens on limbs that the driving frames show, and on those that are behind the body."""
    distances = joint_distances(model, "tokens", batches)
    visible = torch.cat([batch.driving_visible[:, list(LIMBS)] for batch in batches]).numpy().reshape(distances.shape)
    rows = []
    for title, chosen in (("joints that the driving frame shows", visible), ("joints that it does not show", ~visible)):
        number = chosen.sum(axis=(1, 2))
        errors = (distances * chosen).sum(axis=(1, 2))[number > 0] / number[number > 0]
        rows.append({"id": title, "title": title, "limbs": estimate_mean(errors)})
    return rows


@torch.no_grad()
def measure_retrieval(model: GeneratorModel, count: int = 64, sets: int = 4) -> dict[str, dict[str, Any]]:
    """Find a motion again that another figure does before a camera 90 degrees away, among `count` motions.

    Returns:
        By what is compared: an estimate over queries of how often the first found is the right one. Joints are those
        said at two fixed azimuths; raw tokens are compared by their cosines.
    """
    hits: dict[str, list[float]] = {"joints": [], "raw tokens": [], "standardized tokens": []}
    for number in range(sets):
        sides: list[list[torch.Tensor]] = [[], []]
        for batch in sample(9300 + number, count, azimuth_difference=90, apart=0.0):
            for side, frames in zip(sides, (batch.driving, batch.target), strict=True):
                side.append(model.encoder(frames)[0].unflatten(0, (-1, batch.num_frames)))
        query, gallery = (torch.cat(side) for side in sides)  # [count, T, K, dim]
        joints = [said_landmarks(model, x.flatten(0, 1), "tokens").reshape(count, -1) for x in (query, gallery)]
        hits["joints"] += _hits(-torch.cdist(joints[0], joints[1]))
        flat = [x.flatten(1) for x in (query, gallery)]
        hits["raw tokens"] += _hits(_cosines(flat[0], flat[1]))
        both = torch.cat(flat)
        scaled = [(x - both.mean(0)) / (both.std(0) + 1e-6) for x in flat]
        hits["standardized tokens"] += _hits(_cosines(scaled[0], scaled[1]))
    return {name: estimate_mean(values) for name, values in hits.items()}


def _cosines(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(a, dim=1) @ torch.nn.functional.normalize(b, dim=1).T


def _hits(similarity: torch.Tensor) -> list[float]:
    return (similarity.argmax(1) == torch.arange(len(similarity))).float().tolist()


@torch.no_grad()
def measure_reading(model: GeneratorModel, count: int = 96) -> dict[str, dict[str, Any]]:
    """Measure what else can be read off tokens.

    Returns:
        Estimates over clips, in degrees: "azimuth", the error of a ridge regression of the driving camera's azimuth
        from a frame's tokens (90 by chance); "rotations", the geometric head's error per joint; "fitted", that of its
        rotations after they are fitted to the landmarks; "mean pose", that of the mean rotations. And, with ", limbs"
        after these three, how far elbows, wrists, knees and ankles of a body of average build are off, centimetres.
    """
    tokens, angles, local = [], [], []
    for batch in sample(9400, 2 * count, targets=False):
        tokens.append(model.source_tokens(batch, "tokens"))
        angles.append(batch.driving_azimuth)
        local.append(batch.local)
    features, azimuth, truth = torch.cat(tokens), torch.cat(angles), torch.cat(local)[:, 1:]
    half = len(features) // 2
    inputs = features.flatten(1)
    inputs = torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1)
    goals = torch.stack([azimuth.sin(), azimuth.cos()], dim=1)
    fit, test = inputs[:half], inputs[half:]
    weights = torch.linalg.solve(fit.T @ fit + _RIDGE * torch.eye(fit.shape[1]), fit.T @ goals[:half])
    found = torch.atan2(*(test @ weights).unbind(1))
    difference = torch.rad2deg(torch.atan2((found - azimuth[half:]).sin(), (found - azimuth[half:]).cos())).abs()
    truth = _with_root(truth)
    poses = {"rotations": _with_root(rotation_matrices(model.encoder.rotations(features[half:])))}
    landmarks = said_landmarks(model, features[half:], "tokens").numpy()
    poses["fitted"] = torch.from_numpy(fit_rotations(poses["rotations"].numpy(), landmarks)).float()
    poses["mean pose"] = _nearest_rotation(truth[:half].mean(0)).repeat(len(truth) - half, 1, 1, 1)
    result = {"azimuth": estimate_mean(_by_clip(difference))}
    places = positions(truth[half:].numpy())[:, _LIMB_JOINTS]
    for name, pose in poses.items():
        result[name] = estimate_mean(_by_clip(_angles(pose, truth[half:])[:, 1:].mean(1)))
        away = np.linalg.norm(positions(pose.numpy())[:, _LIMB_JOINTS] - places, axis=-1).mean(1)
        result[f"{name}, limbs"] = estimate_mean(_by_clip(100 * torch.from_numpy(away)))
    return result


def _with_root(rotations: torch.Tensor) -> torch.Tensor:
    """Return local rotations [N, J-1, 3, 3] with the identity for the root before them."""
    return torch.cat([torch.eye(3).expand(len(rotations), 1, 3, 3), rotations], dim=1)


def _by_clip(values: torch.Tensor) -> np.ndarray:
    return values.unflatten(0, (-1, 8)).mean(1).numpy()


def _nearest_rotation(matrices: torch.Tensor) -> torch.Tensor:
    left, _, right = torch.linalg.svd(matrices)
    sign = torch.linalg.det(left @ right)
    left = torch.cat([left[..., :2], left[..., 2:] * sign[..., None, None]], dim=-1)
    return left @ right


def _angles(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the angles between rotations, [...] degrees."""
    trace = (a.mT @ b).diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.rad2deg(((trace - 1) / 2).clamp(-1, 1).acos())
