# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks that follow points of the first frame: TAPNext++ and CoTracker3, of packages that the user has installed.

Nothing is downloaded. Weights are files of the user's own and are read as plain tensors: a file that holds code is
refused, and so is one that lacks a weight or has others.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from trackshade.config.trackers import TRACKER_NETWORKS, TrackerSpec
from trackshade.core.errors import ModelError
from trackshade.lifting.networks import explain_failures, read_tensors

_TAPNEXT_SIDE = 256  # px: TAPNext counts in pixels of such a picture, also where it looks at a larger one
_TAPNEXT_LARGE = 512  # px: pictures of the weights whose name has this number
_TAPNEXT_POINTS = 1024  # at once
_COTRACKER_WINDOW = 16  # frames at once, with the weights for long footage
_COTRACKER_POINTS = 24_000  # at once, counted in all frames together: a hundred kilobytes each
_LEAST_POINTS = 32  # at once

Step = Callable[[float], None]


class PointTracker(Protocol):
    """Follows points of the first frame through a clip."""

    def follow(self, images: np.ndarray, points: np.ndarray, step: Step) -> tuple[np.ndarray, np.ndarray]:
        """Follow points.

        Args:
            images: [T, H, W, 3] uint8 sRGB.
            points: [N, 2] pixels of the first frame, (0.5, 0.5) in the middle of the upper left one.
            step: called with the fraction that is done; may raise to end the work.

        Returns:
            [T, N, 2] pixels, and [T, N] whether the points are seen there.

        Raises:
            ModelError: the network fails, or there is not enough memory.
        """
        ...


def load_tracker(name: str, weights: str) -> PointTracker:
    """Load a network.

    Args:
        name: one of `TRACKER_NETWORKS`.
        weights: file of its weights.

    Raises:
        ModelError: its package is not installed, or the weights cannot be used.
    """
    return {"tapnext": TapNext, "cotracker": CoTracker}[name](Path(weights).expanduser())


class TapNext:
    """TAPNext++ (and TAPNext: Zholus et al., Tracking Any Point as Next Token Prediction, 2025), frame by frame.

    Args:
        weights: file of its weights.

    Raises:
        ModelError: its package is not installed, or the weights cannot be used.
    """

    _spec = TRACKER_NETWORKS["tapnext"]

    def __init__(self, weights: Path) -> None:
        state = _read_weights(self._spec, weights)
        module = _import(self._spec, "tapnet.tapnext.tapnext_torch")
        state = {key.removeprefix("tapnext."): value for key, value in state.get("state_dict", state).items()}
        self._side = _TAPNEXT_LARGE if str(_TAPNEXT_LARGE) in weights.stem else _TAPNEXT_SIDE
        self._device = _device()
        with _explained(self._spec):
            model = module.TAPNext(image_size=(_TAPNEXT_SIDE, _TAPNEXT_SIDE))
            _fill(model, state, self._spec, weights)
            self._model = model.eval().to(self._device)

    def follow(self, images: np.ndarray, points: np.ndarray, step: Step) -> tuple[np.ndarray, np.ndarray]:
        """Follow points. See `PointTracker`."""
        import torch
        from torch.nn import functional

        scale = np.array([_TAPNEXT_SIDE / images.shape[2], _TAPNEXT_SIDE / images.shape[1]])
        is_cuda = self._device == "cuda"

        def run(chunk: np.ndarray, chunk_step: Step) -> tuple[np.ndarray, np.ndarray]:
            queries = np.c_[np.zeros(len(chunk)), (chunk * scale)[:, ::-1]].astype(np.float32)  # time, y, x
            given: Any = torch.from_numpy(queries).to(self._device)[None]
            state, places, seen = None, [], []
            for number, image in enumerate(images):
                frame = torch.from_numpy(image).to(self._device).permute(2, 0, 1)[None].float()
                frame = functional.interpolate(frame, (self._side, self._side), mode="bilinear", align_corners=False)
                frame = (frame / 127.5 - 1).permute(0, 2, 3, 1)[None]
                with torch.autocast("cuda", torch.float16, enabled=is_cuda):
                    tracks, _, logits, state = self._model(video=frame, query_points=given, state=state)
                given = None
                places.append(tracks[0, 0].float().cpu().numpy()[:, ::-1] / scale)  # y, x
                seen.append((logits[0, 0, :, 0] > 0).cpu().numpy())
                chunk_step((number + 1) / len(images))
            return np.stack(places), np.stack(seen)

        return _follow(self._spec, run, images, points, _TAPNEXT_POINTS, step)


class CoTracker:
    """CoTracker3 (Karaev et al., Simpler and Better Point Tracking by Pseudo-Labelling Real Videos, 2024).

    The weights say whether it takes all frames at once, or windows of 16 frames one after the other.

    Args:
        weights: file of its weights.

    Raises:
        ModelError: its package is not installed, or the weights cannot be used.
    """

    _spec = TRACKER_NETWORKS["cotracker"]

    def __init__(self, weights: Path) -> None:
        state = _read_weights(self._spec, weights)
        module = _import(self._spec, "cotracker.predictor")
        state = state.get("model", state)
        self._device = _device()
        times = state.get("time_emb")
        window = _COTRACKER_WINDOW if times is None else times.shape[1]
        self._in_windows = window == _COTRACKER_WINDOW
        kind = module.CoTrackerOnlinePredictor if self._in_windows else module.CoTrackerPredictor
        with _explained(self._spec):
            predictor = kind(checkpoint=None, window_len=window)
            _fill(predictor.model, state, self._spec, weights)
            self._predictor = predictor.eval().to(self._device)

    def follow(self, images: np.ndarray, points: np.ndarray, step: Step) -> tuple[np.ndarray, np.ndarray]:
        """Follow points. See `PointTracker`."""
        import torch

        video = torch.from_numpy(images).permute(0, 3, 1, 2)[None]

        def run(chunk: np.ndarray, chunk_step: Step) -> tuple[np.ndarray, np.ndarray]:
            queries = np.c_[np.zeros(len(chunk)), chunk - 0.5].astype(np.float32)  # pixels' middles at whole numbers
            given = torch.from_numpy(queries).to(self._device)[None]
            tracks, seen = (self._by_windows if self._in_windows else self._at_once)(video, given, chunk_step)
            return tracks[0].float().cpu().numpy() + 0.5, seen[0].cpu().numpy()

        length = min(len(images), _COTRACKER_WINDOW) if self._in_windows else len(images)
        return _follow(self._spec, run, images, points, _COTRACKER_POINTS // length, step)

    def _at_once(self, video: Any, queries: Any, step: Step) -> tuple[Any, Any]:
        found = self._predictor(video.to(self._device).float(), queries=queries)
        step(1.0)
        return found

    def _by_windows(self, video: Any, queries: Any, step: Step) -> tuple[Any, Any]:
        count, stride = video.shape[1], self._predictor.step
        self._predictor(video[:, :1].to(self._device).float(), is_first_step=True, queries=queries)
        found = None
        for start in range(0, max(1, count - stride), stride):
            window = video[:, start : start + 2 * stride].to(self._device).float()
            found = self._predictor(window)
            step(min(1.0, (start + 2 * stride) / count))
        assert found is not None
        return found


def _follow(
    spec: TrackerSpec,
    run: Callable[[np.ndarray, Step], tuple[np.ndarray, np.ndarray]],
    images: np.ndarray,
    points: np.ndarray,
    most: int,
    step: Step,
) -> tuple[np.ndarray, np.ndarray]:
    """Follow points, so many at once, spread over the picture as all are: a network sees them together."""
    import torch

    height, width = images.shape[1:3]
    pixels = np.repeat(points[None].astype(np.float64), len(images), axis=0)
    seen = np.zeros(pixels.shape[:2], bool)
    groups = -(-len(points) // max(_LEAST_POINTS, most))
    for number in range(groups):
        chosen = slice(number, None, groups)
        with _explained(spec), torch.inference_mode():
            found, known = run(points[chosen], lambda part, done=number: step((done + part) / groups))
        if found.shape != pixels[:, chosen].shape or known.shape != found.shape[:2]:
            raise ModelError("network-failed", f"{spec.title} returned tracks of the shape {found.shape}.", _UPDATE)
        if not np.isfinite(found).any():
            raise ModelError("network-failed", f"{spec.title} returned no positions.", _UPDATE)
        known = known & np.isfinite(found).all(axis=2) & ((found >= 0) & (found < (width, height))).all(axis=2)
        pixels[:, chosen] = np.where(np.isfinite(found), found, pixels[:, chosen])
        seen[:, chosen] = known
    pixels[0], seen[0] = points, True
    return pixels, seen


_UPDATE = "Install its package again, or track by flow."
_FREE = "Track fewer frames or points (a larger spacing), end other programs that use the device, or track by flow."


def _explained(spec: TrackerSpec) -> AbstractContextManager[None]:
    """Turn what a network fails by into a ModelError."""
    return explain_failures(spec.title, _UPDATE, _FREE)


def _import(spec: TrackerSpec, name: str) -> Any:
    """Import a module of a network's package. Raise ModelError."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ModelError(
            "no-tracker-package",
            f"{spec.title} needs the package {spec.package}, which cannot be imported: {error}.",
            f"Install it in the backend's Python: {spec.install}",
        ) from error


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _read_weights(spec: TrackerSpec, path: Path) -> dict[str, Any]:
    """Read the tensors of a file. Raise ModelError."""
    return read_tensors(path, f"Give one of {', '.join(spec.weights)} from {spec.weights_url}.")


def _fill(model: Any, state: dict[str, Any], spec: TrackerSpec, path: Path) -> None:
    """Give a network its weights, each of them and no others. Raise ModelError."""
    try:
        model.load_state_dict(state, strict=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise ModelError(
            "wrong-weights",
            f"{path} does not hold the weights of {spec.title}: {lines[min(1, len(lines) - 1)][:200]}",
            f"Give one of {', '.join(spec.weights)} from {spec.weights_url}.",
        ) from error
