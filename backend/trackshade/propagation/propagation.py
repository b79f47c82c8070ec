# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries key pictures to every frame of a shot. The package's README explains how."""

from __future__ import annotations

import bisect
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from trackshade.control.scene import ShotRaster
from trackshade.core.colors import srgb_to_linear
from trackshade.core.errors import UsageError
from trackshade.propagation.canvases import Canvas, CanvasMaker
from trackshade.propagation.composing import Fills
from trackshade.propagation.devices import find_device, make_drawer
from trackshade.propagation.drawing import FrameSources, Source
from trackshade.propagation.fallbacks import VertexColors, plain_colors
from trackshade.propagation.fills import Method
from trackshade.propagation.light import (
    LUMINANCE,
    Light,
    LightMatch,
    Relighting,
)
from trackshade.propagation.pictures import SurfacePicture, surface_picture
from trackshade.propagation.poses import Pose, PoseTable, resize_shot
from trackshade.propagation.rims import Rims
from trackshade.propagation.sky import make_panorama
from trackshade.propagation.survey import SURVEYED, survey, survey_times
from trackshade.shot import Shot

NEAREST = 6  # pictures that a frame reads, at most
SMOOTH = 0.02  # of the longer side: spread of the low frequencies that are used of pictures without detail
ROUGH = 0.08  # the same, of pictures that are too rough to show surfaces: what is nearer to a body may be the body's
LEAST_SIZE = 1 / 3  # of a frame's, that pictures without detail must have to show what the others do not
STRONGEST = 4.0  # factor by which those change colors
_DARK = 0.01  # linear light, added to both
_HIDDEN = 1e-3  # weight of pixels that no picture with detail shows, of pictures that are too rough to show them
FADE = 1.0  # seconds between a picture and a frame after which its weight is halved
FADE_ANGLE = 0.5  # radians between their cameras that count as much, in a shot with several cameras
MOST_SOFT = 8  # pictures without detail that fills read, at most
MOST_SURVEYED = 3  # cameras for each of which as many frames are surveyed as for a shot with one


@dataclass(frozen=True, eq=False)
class KeyPicture:
    """A picture of one sample of a shot.

    Attributes:
        t: the sample that it shows.
        image: [h, w, 3] uint8 sRGB, or float32 sRGB-coded 0..1 (may exceed 1); any size of the camera's aspect.
        detail: False if it is soft, as the frames of a video model are. Its light and colors at low frequencies are
            used, and, unless it is much smaller than the frames, all of it where no other picture shows the surface or
            does so doubtfully.
        is_filling: False for a picture without detail that is too rough to show what no other one does, nor its light.
    """

    t: int
    image: np.ndarray
    detail: bool = True
    is_filling: bool = True


@dataclass(frozen=True, eq=False)
class PropagatedFrame:
    """A frame of a shot.

    Attributes:
        image: [H, W, 3] float32, sRGB-coded; may exceed 1.
        alpha: [H, W] float32, share of each pixel that meshes cover.
        shown: [H, W] float32, share of each pixel that a key picture shows.
    """

    image: np.ndarray
    alpha: np.ndarray
    shown: np.ndarray

    @property
    def unseen(self) -> float:
        """Share of the frame's pixels that no key picture shows."""
        return float(1.0 - self.shown.mean(dtype=np.float64))


@dataclass(frozen=True, eq=False)
class _Key:
    picture: SurfacePicture
    pose: Pose
    shade: SurfacePicture | None = None  # the light that the picture was divided by


class Propagation:
    """Carries key pictures to every frame of a shot.

    Args:
        shot: the shot, every frame of it.
        keys: the pictures, at least one with detail.
        light: clay renders of all samples, by which colors are relit; colors keep the light of their picture if None.
        size: (width, height) of the frames, of the camera's aspect; the shot's size if None.
        samples: visibility samples along each side of a pixel.
        threads: number of threads; 0 for one on each core.
        seed: seed of the fills.
        fill: how what no picture shows is filled; see `fill_canvas`.
        device: what draws the frames, see `devices.find_device`; preparing them is done by the processor.

    Attributes:
        device: the same as given.
        light_match: how far the light of the first key picture with detail is that of the clay render, after `prepare`.
            Where it does not agree, colors are not relit.

    Raises:
        UsageError: there is no picture, its sample is not in the shot, or it or `size` has another aspect; or torch has
            no such device.
        ShotError: what `Shot.check_values` finds.
    """

    def __init__(
        self,
        shot: Shot,
        keys: Sequence[KeyPicture],
        *,
        light: Light | None = None,
        size: tuple[int, int] | None = None,
        samples: int = 2,
        threads: int = 0,
        seed: int = 0,
        fill: Method = "auto",
        device: str = "cpu",
    ) -> None:
        shot.check_values()  # the kernels trust indices
        _check_keys(shot, keys)
        if samples < 1:
            raise UsageError("bad-samples", f"{samples} samples for each pixel were asked for.", "Use 1 or more.")
        self.shot = shot
        self.size = (int(size[0]), int(size[1])) if size else shot.size
        resize_shot(shot, self.size)  # checks the aspect
        self._given, self._light, self._samples, self._seed = tuple(keys), light, samples, seed
        self._method: Method = fill
        self._threads = threads or os.cpu_count() or 1
        self._sampled = resize_shot(shot, (self.size[0] * samples, self.size[1] * samples))
        self._table = PoseTable(shot)
        self._rasters: list[ShotRaster] = []
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(self._threads)
        self.device = device
        self._each = partial(_each, self._pool)  # no method: a cycle would keep pictures and canvases in memory
        self._drawer = make_drawer(self._table, samples, self._each, find_device(device))
        self._relighting: Relighting | None = None
        self.light_match: LightMatch | None = None
        self._keys: list[_Key] = []
        self._low: list[_Key] = []
        self._soft: list[_Key] = []
        self._fills: Fills | None = None
        self._vertex_colors: VertexColors | None = None

    def prepare(self, progress: Callable[[float, str], None] = lambda fraction, stage: None) -> None:
        """Prepare the key pictures, and fill once what none of them shows.

        Args:
            progress: called with the fraction that is done and what is being done; may raise to cancel.
        """
        if self._light is not None:
            first = next(key for key in self._given if key.detail)
            picture = surface_picture(self.shot, first.t, to_linear(first.image))
            self.light_match, self._relighting = Relighting.match(self.shot, first.t, picture, self._light)
        detailed = [key for key in self._given if key.detail]
        coarse = sorted((key for key in self._given if not key.detail), key=lambda key: key.t)
        keys = []
        for index, key in enumerate(detailed):
            progress(0.15 * index / len(detailed), "key pictures")
            keys.append(self._prepare_key(key))
        least = LEAST_SIZE * max(self.size)
        filling = [key for key in coarse if key.is_filling and max(key.image.shape[:2]) >= least]
        soft = [self._prepare_key(key) for key in filling]
        self._fills = self._fill(keys, soft, lambda part, stage: progress(0.15 + 0.7 * part, stage))
        self._keys, self._soft = ([replace(key, shade=None) for key in part] for part in (keys, soft))
        low = []
        for index, key in enumerate(coarse):
            progress(0.85 + 0.15 * index / len(coarse), "light of the video")
            low.append(self._compare(key))
        self._low = low
        progress(1.0, "prepared")

    def _compare(self, key: KeyPicture) -> _Key:
        """Return a picture without detail as the factor between its low frequencies and those of the frame so far."""
        height, width = key.image.shape[:2]
        frame = self._draw(key.t, (width, height), None)
        spread = (SMOOTH if key.is_filling else ROUGH) * max(width, height)
        weight = np.float32(1.0) if key.is_filling else np.maximum(frame.shown, _HIDDEN)[..., None]
        given, own = (
            gaussian_filter((to_linear(image) + _DARK) * weight, (spread, spread, 0))
            for image in (key.image, frame.image)
        )
        factor = np.clip(given / own, 1 / STRONGEST, STRONGEST)
        return _Key(surface_picture(self.shot, key.t, factor, rims=Rims.HARD), self._table.pose(key.t, (width, height)))

    def _prepare_key(self, key: KeyPicture) -> _Key:
        picture, shade = surface_picture(self.shot, key.t, to_linear(key.image)), None
        if self._relighting is not None:
            picture, shade = self._relighting.unlit(key.t, picture, doubt_rims=True)
        return _Key(picture, self._table.pose(key.t, picture.size), shade)

    def _fill(self, keys: list[_Key], soft: list[_Key], progress: Callable[[float, str], None]) -> Fills:
        pictures = [(key.picture, key.pose) for key in keys]
        views = self.shot.views
        times = survey_times(len(self.shot.frame_numbers), SURVEYED * min(views, MOST_SURVEYED), views)
        found = survey(self._table, pictures, self.size, times, lambda part: progress(0.4 * part, "surfaces"))
        soft = soft[:: -(-len(soft) // MOST_SOFT) or 1]
        maker = CanvasMaker(
            self._table, pictures, found, self._seed, self._method, shades=_shades(keys),
            soft=[(key.picture, key.pose) for key in soft], soft_shades=_shades(soft),
        )  # fmt: skip
        surfaces = maker.plan()
        samples = [(picture, pose.t) for picture, pose in pictures]
        self._vertex_colors = VertexColors.from_pictures(self._table, samples, maker.unmapped)

        def work(index: int) -> list[np.ndarray]:
            if index == len(surfaces):
                return [make_panorama(pictures, self.shot, times, self._seed)]
            done, inset = [], None
            for empty in reversed(surfaces[index]):
                canvas = maker.gather(empty, inset)
                color, healed = maker.fill(canvas, lambda part: None)
                inset = replace(canvas, color=color)
                light = np.full(healed.shape, -1, np.float32)
                if canvas.is_lit and canvas.light is not None:
                    light = canvas.light @ LUMINANCE
                channels = [color, healed[..., None], light[..., None]]
                done.append(np.concatenate(channels, axis=2, dtype=np.float32).reshape(-1, 5))
            return done[::-1]

        filled: list[list[np.ndarray]] = []
        for part in self._each(work, range(len(surfaces) + 1)):
            filled.append(part)
            progress(0.4 + 0.6 * len(filled) / (len(surfaces) + 1), "unseen surfaces")
        (panorama,), texels = filled.pop(), [canvas for part in filled for canvas in part]
        plain = plain_colors(self.shot, [key.picture for key in keys])
        return _pack_fills(self.shot, surfaces, texels, plain, panorama)

    def frame(self, t: int) -> PropagatedFrame:
        """Return the frame of sample `t`.

        Raises:
            UsageError: `prepare` has not been called, or the shot has no such sample.
        """
        if self._fills is None:
            raise UsageError("not-prepared", "Frames were asked for before the propagation was prepared.")
        if not 0 <= t < len(self.shot.frame_numbers):
            raise UsageError("no-sample", f"The shot has no sample {t}: it has {len(self.shot.frame_numbers)}.")
        return self._draw(t, self.size, self._low)

    def _draw(self, t: int, size: tuple[int, int], low: Sequence[_Key] | None) -> PropagatedFrame:
        """Draw a frame of any size; with the factors of `low`, unless it is None."""
        width, height = size
        assert self._fills is not None
        fills = self._fills
        if self._vertex_colors is not None and self._vertex_colors.points:
            vertex_start, vertices = self._vertex_colors.at(t)
            fills = fills._replace(vertex_start=vertex_start, vertices=vertices)
        light = None if self._relighting is None else self._relighting.clay(t)

        def sources(keys: list[tuple[_Key, float]]) -> list[Source]:
            return [Source(key.picture, self._key_pose(key, t), weight) for key, weight in keys]

        with self._raster(size) as raster:
            image, alpha, shown = self._drawer.draw(
                FrameSources(
                    raster.draw(t),
                    self._table.pose(t, size),
                    self._table.face_starts(t),
                    sources(self._choose(t)),
                    sources(self._around(t, self._soft)),
                    sources(self._around(t, low or ())),
                    fills,
                    light,
                )
            )
        given = next((key for key in self._given if key.t == t and key.detail), None)
        if given is not None and given.image.shape[:2] == (height, width):  # mixed rims included
            image = given.image.astype(np.float32) / np.float32(255 if given.image.dtype == np.uint8 else 1)
        return PropagatedFrame(image, alpha, shown)

    def _key_pose(self, key: _Key, t: int) -> Pose:
        if not self._table.has_changes:
            return key.pose
        return self._table.pose(key.pose.t, key.picture.size, faces_of=t)

    def _choose(self, t: int) -> list[tuple[_Key, float]]:
        """Return the pictures that the frame reads and their weights.

        Weights fall with the time between, and with the angle between the cameras of a shot that has several.
        """
        shot = self.shot
        numbers = shot.frame_numbers
        away = np.array([(numbers[key.pose.t] - numbers[t]) / (FADE * shot.fps) for key in self._keys]) ** 2
        if shot.views > 1:
            away += np.array([self._angle_between(key.pose.t, t) / FADE_ANGLE for key in self._keys]) ** 2
        order = np.argsort(away, kind="stable")[:NEAREST]
        return [(self._keys[index], float(1.0 / (0.01 + away[index]))) for index in order.tolist()]

    def _angle_between(self, one: int, other: int) -> float:
        """Return the angle between the axes of the cameras of two samples, radians."""
        axes = self.shot.camera.world_to_camera[[one, other], 2, :3]
        axes = axes / np.linalg.norm(axes, axis=1, keepdims=True)
        return float(np.arccos(np.clip(axes[0] @ axes[1], -1, 1)))

    def _around(self, t: int, low: Sequence[_Key]) -> list[tuple[_Key, float]]:
        """Return the pictures before and after a frame and their weights, by the time between."""
        if not low:
            return []
        numbers = self.shot.frame_numbers
        after = bisect.bisect_left(low, t, key=lambda key: key.pose.t)
        if after == len(low) or after == 0 or low[after].pose.t == t:
            return [(low[min(after, len(low) - 1)], 1.0)]
        one, other = low[after - 1], low[after]
        share = (numbers[t] - numbers[one.pose.t]) / (numbers[other.pose.t] - numbers[one.pose.t])
        return [(one, 1.0 - share), (other, share)]

    @contextmanager
    def _raster(self, size: tuple[int, int]) -> Iterator[ShotRaster]:
        if size != self.size:
            yield ShotRaster(resize_shot(self.shot, (size[0] * self._samples, size[1] * self._samples)), self._each)
            return
        with self._lock:
            raster = self._rasters.pop() if self._rasters else None
        raster = raster or ShotRaster(self._sampled, self._each)
        try:
            yield raster
        finally:
            with self._lock:
                self._rasters.append(raster)


def _each(pool: ThreadPoolExecutor, work: Callable[[int], Any], items: range) -> Iterator[Any]:
    """Yield the results of work on all items, done on all threads; ending early stops those that have not begun."""
    futures = [pool.submit(work, item) for item in items]
    try:
        for future in futures:
            yield future.result()
    finally:
        for future in futures:
            future.cancel()
        wait(futures)


def _shades(keys: Sequence[_Key]) -> list[tuple[SurfacePicture, Pose]]:
    return [(key.shade, key.pose) for key in keys if key.shade is not None]


def match_light(shot: Shot, key: KeyPicture, light: Light) -> LightMatch:
    """Compare the light of a key picture with the clay render of its sample: is it the scene's?

    Raises:
        ShotError: the clay render is not a picture.
        UsageError: the picture or the render does not have the camera's aspect.
    """
    picture = surface_picture(shot, key.t, to_linear(key.image))
    return Relighting.match(shot, key.t, picture, light)[0]


def _pack_fills(
    shot: Shot, surfaces: list[list[Canvas]], texels: list[np.ndarray], plain: np.ndarray, panorama: np.ndarray
) -> Fills:
    """Return canvases in flat arrays; `texels` are those of each canvas, [N, 5]."""
    start, total = np.full(len(shot.meshes), -1, np.int64), 0
    for mesh in sorted({canvases[0].mesh for canvases in surfaces}):
        start[mesh] = total
        total += len(shot.geometries[shot.meshes[mesh].geometry].triangles)
    number, uv = np.full(total, -1, np.int32), np.zeros((total, 3, 2), np.float32)
    table, insets, first = np.zeros((len(texels), 3), np.int64), np.zeros((len(texels), 4)), 0
    index = 0
    for canvases in surfaces:
        at = start[canvases[0].mesh] + canvases[0].faces
        number[at], uv[at] = index, canvases[0].uv
        for canvas, inset in zip(canvases, [*canvases[1:], None], strict=True):
            table[index] = first, canvas.size[1], canvas.size[0]
            insets[index] = (-1, 0, 0, 0) if inset is None else _inset(index + 1, inset, canvas)
            first += len(texels[index])
            index += 1
    return Fills(
        start,
        number,
        uv,
        table,
        insets,
        np.concatenate([np.zeros((0, 5), np.float32), *texels]),
        np.full(len(shot.meshes), -1, np.int64),
        np.zeros((0, 3), np.float32),
        plain,
        panorama,
    )


def _inset(index: int, inset: Canvas, canvas: Canvas) -> tuple[float, float, float, float]:
    factor, offset = inset.from_coarser(canvas)
    return index, factor, offset[0], offset[1]


def to_linear(
    image: np.ndarray,  # [h, w, 3] uint8 sRGB, or float32 sRGB-coded
) -> np.ndarray:
    """Return a picture in linear light, [h, w, 3] float32."""
    if image.dtype == np.uint8:
        table = srgb_to_linear(np.arange(256) / 255.0).astype(np.float32)
        return table[image]
    return srgb_to_linear(np.maximum(image, 0.0)).astype(np.float32)


def _check_keys(shot: Shot, keys: Sequence[KeyPicture]) -> None:
    if not any(key.detail for key in keys):
        raise UsageError("no-key-picture", "There is no key picture to propagate.", "Give or render a first frame.")
    for key in keys:
        if not 0 <= key.t < len(shot.frame_numbers):
            raise UsageError(
                "no-sample", f"A key picture shows sample {key.t}; the shot has {len(shot.frame_numbers)} samples."
            )
        image = key.image
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.float32) or not image.size:
            raise UsageError(
                "bad-key-picture",
                f"The key picture of frame {shot.frame_numbers[key.t]:g} is an array of {image.dtype} of the shape "
                f"{list(image.shape)}.",
                "Give uint8 or float32 [height, width, 3].",
            )
        resize_shot(shot, (image.shape[1], image.shape[0]))
