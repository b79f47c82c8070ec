# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways of making all frames of a shot from its first one that are compared: baselines, propagation, its parts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Literal

import cv2
import numpy as np

from trackshade.config.registry import spec
from trackshade.control.video import tracking_video
from trackshade.core.colors import to_uint8
from trackshade.core.errors import UsageError
from trackshade.propagation import KeyPicture, Propagation
from trackshade.propagation.fills import METHODS, Method
from trackshade.shot import Shot

from ..warp import fill_smoothly
from .dataset import EvalScene
from .surfaces import FirstFramePlaces, SampleViews


@dataclass(frozen=True)
class MiniVideo:
    """A video of the embedded model.

    Attributes:
        samples: Samples of the shot that its frames are of, ascending.
        frames: [n, h, w, 3] uint8.
        seconds: Processor time that it took.
    """

    samples: list[int]
    frames: np.ndarray
    seconds: float


class EvalCase:
    """A scene, and what several arms need of it.

    Attributes:
        scene: The scene.
        seed: Random seed of the arms.
        threads: CPU threads of propagation; 0 for its default.
        device: Device that propagation draws frames on; see `Propagation`.
    """

    def __init__(self, scene: EvalScene, seed: int = 0, threads: int = 0, device: str = "cpu") -> None:
        self.scene, self.seed, self.threads, self.device = scene, seed, threads, device

    @cached_property
    def views(self) -> SampleViews:
        """What the camera sees in the samples with a true frame."""
        return SampleViews(self.scene.shot, self.scene.truth)

    @cached_property
    def places(self) -> list[FirstFramePlaces]:
        """Where the first frame shows what those samples show."""
        return [self.views.first_frame_places(t) for t in self.scene.truth]

    @cached_property
    def mini_video(self) -> MiniVideo:
        """What the embedded model makes of the first frame and the tracks."""
        from ..generator import SamplingConfig, VideoGenerator

        scene, shot = self.scene, self.scene.shot
        generator = VideoGenerator(SamplingConfig.from_defaults("mini"), "cpu")
        sampling, start = generator.sampling, time.process_time()
        samples = np.unique(np.rint(np.linspace(0, len(shot.frame_numbers) - 1, sampling.frames)).astype(int))
        if len(samples) < sampling.frames:
            raise UsageError(
                "too-few-frames",
                f"{scene.name} has {len(shot.frame_numbers)} frames; the model 'mini' needs {sampling.frames}.",
                "Leave the scene out, or the arms that use the model.",
            )
        tracking = tracking_video(resize_shot(shot, sampling.size), threads=self.threads or None).frames[samples]
        image = cv2.resize(scene.frames[0], sampling.size, interpolation=cv2.INTER_AREA)
        videos, _ = generator.generate([""], [image], [tracking], [self.seed])
        return MiniVideo(samples.tolist(), videos[0], time.process_time() - start)


@dataclass(frozen=True)
class ArmResult:
    """Frames of an arm.

    Attributes:
        images: [N, H, W, 3] uint8, the samples with a true frame.
        seconds_prepare: Processor time before the first frame.
        seconds_frame: Processor time of a frame; NaN where frames are made together.
    """

    images: np.ndarray
    seconds_prepare: float = float("nan")
    seconds_frame: float = float("nan")


@dataclass(frozen=True)
class Arm:
    """A way of making frames.

    Attributes:
        title: What it is, for tables.
        make: Makes the frames; None for a scene that lacks what it needs.
    """

    title: str
    make: Callable[[EvalCase], ArmResult | None]


def parse_arms(text: str | None) -> tuple[str, ...]:
    """Parse names of arms that are separated by commas; all if None.

    Raises:
        UsageError: for an unknown name.
    """
    names = tuple(ARMS) if text is None else tuple(filter(None, text.split(",")))
    for name in names:
        if name not in ARMS:
            raise UsageError("unknown-arm", f"There is no arm '{name}'.", f"Arms: {', '.join(ARMS)}.")
    return names


def resize_shot(shot: Shot, size: tuple[int, int]) -> Shot:
    """Return a shot at another size; its pixels are not square if the aspect differs."""
    scale = np.diag([size[0] / shot.size[0], size[1] / shot.size[1], 1.0])
    return replace(shot, size=size, camera=replace(shot.camera, intrinsics=scale @ shot.camera.intrinsics))


def _repeat_first(case: EvalCase) -> ArmResult:
    frames = case.scene.frames
    return ArmResult(np.broadcast_to(frames[:1], frames.shape).copy())


def _warp(case: EvalCase, fill: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]) -> ArmResult:
    """Warp the first frame exactly, and fill each frame by itself; `fill` gets image, known and mesh."""
    first, start = case.scene.frames[0], time.process_time()
    images = []
    for places in case.places:
        x, y = np.moveaxis(places.position - np.float32(0.5), -1, 0)
        warped = cv2.remap(first, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        images.append(fill(np.where(places.known[..., None], warped, 0).astype(np.uint8), places.known, places.mesh))
    return ArmResult(np.stack(images), 0.0, (time.process_time() - start) / len(images))


def _warp_flat(case: EvalCase) -> ArmResult:
    """Fill with the mean color that the first frame shows of the mesh."""
    first, label = case.scene.frames[0].reshape(-1, 3), case.places[0].mesh.ravel()
    colors = {mesh: first[label == mesh].mean(axis=0) for mesh in np.unique(label).tolist()}
    rest = first.mean(axis=0)

    def fill(image: np.ndarray, known: np.ndarray, mesh: np.ndarray) -> np.ndarray:
        for index in np.unique(mesh[~known]).tolist():
            image[~known & (mesh == index)] = np.rint(colors.get(index, rest)).astype(np.uint8)
        return image

    return _warp(case, fill)


def _enlarge_mini(case: EvalCase) -> ArmResult:
    """Enlarge the embedded model's video, with in-betweens by optical flow."""
    video, start = case.mini_video, time.process_time()
    images = interpolate(video.frames, video.samples, case.scene.truth, case.scene.shot.size)
    return ArmResult(images, video.seconds + time.process_time() - start)


def _interpolate_video(case: EvalCase) -> ArmResult | None:
    """Enlarge the ideal video, with in-betweens by optical flow."""
    scene = case.scene
    if not scene.video:
        return None
    video = np.stack([scene.video_frame(t) for t in scene.video])
    start = time.process_time()
    images = interpolate(video, scene.video, scene.truth, scene.shot.size)
    return ArmResult(images, 0.0, (time.process_time() - start) / len(images))


def interpolate(
    video: np.ndarray,  # [n, h, w, 3] uint8
    samples: Sequence[int],
    wanted: Sequence[int],
    size: tuple[int, int],
) -> np.ndarray:
    """Make frames of other samples by optical flow, and enlarge them (Lanczos).

    Flow between neighboring frames is DIS (Kroeger et al. 2016); that of an in-between follows from both directions as
    in Super SloMo (Jiang et al. 2018, equation 4), without its network.

    Args:
        video: Frames.
        samples: [n] samples of the frames, ascending.
        wanted: Samples to make.
        size: Width and height of the result, pixels.

    Returns:
        [N, H, W, 3] uint8.
    """
    images = []
    for t in wanted:
        after = min(max(int(np.searchsorted(samples, t)), 1), len(samples) - 1)
        low, high = samples[after - 1], samples[after]
        share = float(np.clip((t - low) / (high - low), 0.0, 1.0))
        image = _in_between(video[after - 1], video[after], share)
        images.append(cv2.resize(image, size, interpolation=cv2.INTER_LANCZOS4))
    return np.stack(images)


def _in_between(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    if share in (0.0, 1.0):
        return second if share else first
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (first, second)]
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    there, back = (dis.calc(a, b, np.zeros((*a.shape, 2), np.float32)) for a, b in (grey, grey[::-1]))
    to_first = -(1 - share) * share * there + share**2 * back
    to_second = (1 - share) ** 2 * there - share * (1 - share) * back
    rows, columns = np.mgrid[: first.shape[0], : first.shape[1]].astype(np.float32)

    def sample(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
        place = columns + flow[..., 0].astype(np.float32), rows + flow[..., 1].astype(np.float32)
        return cv2.remap(image, *place, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)

    blended = (1 - share) * sample(first, to_first) + share * sample(second, to_second)
    return np.rint(blended).clip(0, 255).astype(np.uint8)


Video = Literal["none", "ideal", "mini"]


def _propagate(case: EvalCase, *, light: bool = True, video: Video = "none", fill: Method = "auto") -> ArmResult | None:
    """Run propagation.

    Args:
        case: The scene.
        light: Whether it gets the clay renders.
        video: Whose frames are further key pictures, as in a job with a video model.
        fill: How what no picture shows is filled.
    """
    scene, made = case.scene, 0.0
    keys = [KeyPicture(0, scene.frames[0])]
    if video == "ideal":
        if not scene.video:
            return None
        keys += [KeyPicture(t, scene.video_frame(t), detail=False) for t in scene.video if t]
    elif video == "mini":
        if not {*case.mini_video.samples} <= scene.lit:
            return None
        frames, made = zip(case.mini_video.samples, case.mini_video.frames, strict=True), case.mini_video.seconds
        keys += [KeyPicture(t, frame, False, spec("mini").shows_surfaces) for t, frame in frames if t]
    start = time.process_time()
    clay = scene.light if light else None
    options = {"threads": case.threads, "seed": case.seed, "device": case.device}
    propagation = Propagation(scene.shot, keys, light=clay, fill=fill, **options)
    propagation.prepare()
    prepared = time.process_time()
    images = np.stack([to_uint8(propagation.frame(t).image) for t in scene.truth])
    return ArmResult(images, made + prepared - start, (time.process_time() - prepared) / len(images))


ARMS: Mapping[str, Arm] = {
    "still": Arm("first frame repeated", _repeat_first),
    "mini": Arm("embedded model, enlarged", _enlarge_mini),
    "mini-keys": Arm(
        "propagation of the embedded model's video and the first frame", partial(_propagate, video="mini")
    ),
    "push-pull": Arm("exact warp, filled smoothly frame by frame", partial(_warp, fill=fill_smoothly)),
    "flat": Arm("exact warp, one color per mesh", _warp_flat),
    "unlit": Arm("propagation without light", partial(_propagate, light=False)),
    "full": Arm("propagation with light", _propagate),
    **{
        f"fill-{fill}": Arm(f"propagation, fill: {fill}", partial(_propagate, fill=fill))
        for fill in METHODS
        if fill != "auto"
    },
    "video": Arm("propagation of the ideal video and the first frame", partial(_propagate, video="ideal")),
    "video-flow": Arm("ideal video, enlarged, in-betweens by flow", _interpolate_video),
}
"""By name, in the order of tables."""
