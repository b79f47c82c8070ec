# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads driving footage and reference pictures as crops around a figure, at the size and rate of the motion model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from trackshade.control.picture_files import read_rgb
from trackshade.core.errors import CancelledError, ShotError
from trackshade.driving.crops import CropPath, crop, crop_hands, crop_mask, crop_path
from trackshade.driving.cutting import CUT_SIZE, cut_figure
from trackshade.driving.figures import Figure, find_figures
from trackshade.driving.person_detector import Person, PersonDetector, find_detector
from trackshade.motion.driving_shot import hands_seen
from trackshade.motion.hand_places import HandPlaces, read_hands
from trackshade.motion.request import HANDS, MAX_SECONDS, DrivingRequest
from trackshade.tracking.footage import VideoScan, find_cuts, scan_video, take_frames

_SEARCHED = 25  # frames in which the figure is looked for, at most
_LOST = 0.5  # seconds without the figure that are told of
_SEARCH_SIZE, _CROP_SIZE = (640, 640), (1920, 1920)  # largest (width, height) of frames for finding and for cropping
_DETECTED = (384, 384)  # (width, height) of the crops in which a person's hands and silhouette are looked for
_WIDER = 1.2  # times the crop around what was found without a detector, where a person is looked for
_MOSTLY = 0.5  # share of the frames in which a person has to be found for crops to follow its silhouette
_HAND_SIDE = 24  # px, of the crops of hands
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_CHOOSE = "Give a box around the figure, or choose another part with a start and an end."
Report = Callable[[str, float], None]


@dataclass(frozen=True, eq=False)
class DrivingClip:
    """Driving footage as the motion model takes it.

    Attributes:
        frames: [T, h, w, 3] uint8 sRGB, crops around the figure.
        reference: [h, w, 3] uint8 sRGB, the crop around the figure that is to move.
        fps: frames per second.
        start: time of the first frame in the footage, seconds.
        box: left, top, right and bottom of the figure's usual box, pixels of the footage.
        hands: [T, 2, h, h, 3] uint8 sRGB, crops around its left and its right hand, black where one is not seen; None
            if nothing says where they are.
        warnings: sentences about what was left out or changed.
    """

    frames: np.ndarray
    reference: np.ndarray
    fps: float
    start: float
    box: tuple[float, float, float, float]
    hands: np.ndarray | None = None
    warnings: tuple[str, ...] = ()


def read_driving(
    path: Path,
    request: DrivingRequest,
    size: tuple[int, int],
    fps: float,
    report: Report = lambda what, fraction: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> DrivingClip:
    """Read driving footage, find its figure, crop every frame around it and cut it out of a cluttered background.

    Args:
        path: video, folder of pictures, or one picture for the mode "novel-view".
        request: what of it is used.
        size: (width, height) of the crops, pixels.
        fps: rate of the result; footage of any other rate is resampled.
        report: called with what is done and the fraction that is.
        cancelled: whether to end.

    Raises:
        ShotError: there is no such file, no figure, several figures, a cut, or a single frame where a motion is needed.
        CancelledError: `cancelled` returned True.
    """
    reference, warnings = None, []
    if request.reference:
        picture = Path(request.reference)
        reference, is_cut = read_picture_crop(picture, request.reference_box, size)
        warnings = _cut_warning(picture, is_cut)
    known = None if request.hands in HANDS else read_hands(Path(request.hands))
    order = _Order(path, request, size, fps, reference, known, warnings, report, cancelled)
    if path.suffix.lower() in _PICTURES and path.is_file():
        return _read_picture(order)
    duration = (MAX_SECONDS if request.end is None else min(MAX_SECONDS, request.end - request.start)) + 1e-6
    if request.mode == "novel-view":
        duration = 1e-6 if request.end is None else duration
    scan = scan_video(
        path, request.start, duration, lambda done: report("Reading", 0.6 * done), cancelled, request.rate
    )
    warnings[:0] = [*scan.warnings, *_trim_warning(path, request, scan)]
    if request.mode == "novel-view":
        return _read_first_frame(order, scan)
    _require_motion(path, scan)
    figure, searched = _find_in_video(path, request, scan, cancelled)
    report("Finding the figure", 0.5)
    count = int(np.floor((scan.times[-1] - scan.times[0]) * fps + 1e-6)) + 1
    times = scan.times[0] + np.arange(max(2, count)) / fps
    shown = scan.times[np.abs(scan.times[None] - times[:, None]).argmin(axis=1)]

    def frames() -> Iterator[np.ndarray]:
        return take_frames(path, shown, _CROP_SIZE, cancelled, request.rate)

    return _crop_frames(order, frames, shown, scan.size, figure, searched)


@dataclass(frozen=True, eq=False)
class _Order:
    """What `read_driving` is asked for.

    Attributes:
        path: the footage.
        request: what of it is used.
        size: (width, height) of the crops, pixels.
        fps: frames per second of the result.
        reference: the crop of the reference; None for the first frame.
        known: where the hands are, if a file says so.
        warnings: sentences, which are added to.
        report: called with what is done and the fraction that is.
        cancelled: whether to end.
    """

    path: Path
    request: DrivingRequest
    size: tuple[int, int]
    fps: float
    reference: np.ndarray | None
    known: HandPlaces | None
    warnings: list[str]
    report: Report
    cancelled: Callable[[], bool]


def _crop_frames(
    order: _Order,
    images: Callable[[], Iterable[np.ndarray]],
    times: np.ndarray,
    footage_size: tuple[int, int],
    figure: Figure,
    searched: np.ndarray,
) -> DrivingClip:
    """Crop frames around the figure and its hands, and cut it out of a cluttered background.

    Args:
        order: what is asked for.
        images: gives the frames, of the footage's size or smaller; called once or twice.
        times: [T] their times, seconds.
        footage_size: (width, height) of the footage.
        figure: the figure.
        searched: [N] times of its boxes.

    Raises:
        CancelledError: `cancelled` returned True.
    """
    warnings, reference = list(order.warnings), order.reference
    aspect = order.size[0] / order.size[1]
    crops = crop_path(times, figure.boxes, searched, aspect)
    python = find_detector() if order.request.hands == "auto" else None
    people: list[Person] = []
    coarse = CropPath(crops.centers, _WIDER * crops.heights)
    if python is not None:
        people, failure = _detect(order, images(), python, footage_size, coarse)
        if failure:
            warnings.append(f"The hands were not read: the detector of {python} has failed ({failure}).")
    seen = np.array([person.mask is not None for person in people], bool)
    masks = None
    hands = None if order.known is None else order.known.at(times) * footage_size
    if seen.any():
        middle = np.array(_DETECTED) / 2
        scale = coarse.heights / _DETECTED[1]
        boxes = np.array([_mask_box(person.mask) for person in people]) - np.tile(middle, 2)
        boxes = np.tile(coarse.centers, 2) + boxes * scale[:, None]
        hands = (
            coarse.centers[:, None] + (np.stack([person.hands for person in people]) - middle) * scale[:, None, None]
        )
        if seen.mean() > _MOSTLY and order.request.box is None and not order.request.mask:
            figure, searched = Figure(boxes, True), times
            crops = crop_path(times, boxes, times, aspect)
        centers, heights = middle + (crops.centers - coarse.centers) / scale[:, None], crops.heights / scale
        masks = [
            None if person.mask is None else crop_mask(person.mask, center, height, CUT_SIZE)
            for person, center, height in zip(people, centers, heights, strict=True)
        ]
    warnings += _lost_warning(order.path, figure, searched)
    frames, larger = [], []
    for t, image in enumerate(images()):
        ratio = image.shape[1] / footage_size[0]
        center, height = crops.centers[t] * ratio, float(crops.heights[t] * ratio)
        frames.append(crop(image, center, height, order.size))
        larger.append(crop(image, center, height, CUT_SIZE))
        order.report("Cropping", 0.6 + 0.1 * (t + 1) / len(times))

    def step(fraction: float) -> None:
        if order.cancelled():
            raise CancelledError
        order.report("Cutting out the figure", 0.7 + 0.3 * fraction)

    taken, shown = np.stack(frames), np.stack(larger)
    clip, shown = cut_figure(shown, [taken, shown], step, masks)
    order.report("Cropping", 1.0)
    if reference is None:
        warnings += _cut_warning(order.path, bool((clip[0] != taken[0]).any()))
        reference = clip[0]
    pairs = None
    if hands is not None:
        places = (hands - crops.centers[:, None]) * (CUT_SIZE[1] / crops.heights)[:, None, None]
        pairs = crop_hands(shown, places + np.array(CUT_SIZE) / 2, _HAND_SIDE)
        if not hands_seen(pairs).any():
            warnings.append("No hand of the figure was found: the motion is read from the body alone.")
            pairs = None
    return DrivingClip(clip, reference, order.fps, float(times[0]), figure.corners, pairs, tuple(warnings))


def _detect(
    order: _Order, images: Iterable[np.ndarray], python: Path, footage_size: tuple[int, int], crops: CropPath
) -> tuple[list[Person], str]:
    """Look for a person in the crops of frames; return what was found, and why it failed, or "".

    Raises:
        CancelledError: `cancelled` returned True.
    """
    with PersonDetector(python, _DETECTED, order.cancelled) as detector:
        for t, image in enumerate(images):
            ratio = image.shape[1] / footage_size[0]
            detector.add(crop(image, crops.centers[t] * ratio, float(crops.heights[t] * ratio), _DETECTED))
            order.report("Finding the figure", 0.5 + 0.1 * (t + 1) / len(crops.heights))
        return ([], detector.failure) if detector.failure else (detector.found(), detector.failure)


def _mask_box(mask: np.ndarray | None) -> np.ndarray:
    """Return left, top, right and bottom of a silhouette, pixels; NaN if there is none."""
    if mask is None or not mask.any():
        return np.full(4, np.nan)
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    left, top, width, height, _ = stats[1 + stats[1:, cv2.CC_STAT_AREA].argmax()]
    return np.array([left, top, left + width, top + height], np.float64)


def read_picture_crop(
    path: Path, box: tuple[float, float, float, float] | None, size: tuple[int, int]
) -> tuple[np.ndarray, bool]:
    """Return the crop around the figure of a picture, [h, w, 3] uint8 sRGB, and whether the figure was cut out.

    Args:
        path: the picture.
        box: box around the figure, pixels; None to find it.
        size: (width, height) of the crop, pixels.

    Raises:
        ShotError: it cannot be read, or no figure is found in it.
    """
    image = read_rgb(path, "reference picture")
    if box is None:
        found = find_figures(image[None])
        if not found:
            raise ShotError(
                "no-reference-figure",
                f"No figure was found in the reference picture {path.name}.",
                "Give a box around it, or a picture of one figure before a plain background.",
            )
        box = tuple(max(found, key=lambda figure: figure.box[3] - figure.box[1]).box)
    return _crop_around(image, np.array(box), size)


def _read_picture(order: _Order) -> DrivingClip:
    """Return the clip of a single picture."""
    if order.request.mode != "novel-view":
        raise ShotError(
            "one-frame",
            f"{order.path.name} is a single picture: there is no motion in it.",
            "Give a video, or use the mode novel-view, which moves the camera only.",
        )
    return _read_still(order, read_rgb(order.path), 0.0)


def _read_first_frame(order: _Order, scan: VideoScan) -> DrivingClip:
    """Return the clip of a video's first frame."""
    image = next(take_frames(order.path, scan.times[:1], (1 << 16, 1 << 16), lambda: False, order.request.rate))
    return _read_still(order, image, float(scan.times[0]))


def _read_still(order: _Order, image: np.ndarray, start: float) -> DrivingClip:
    """Return a clip of one frame."""
    size, time = (image.shape[1], image.shape[0]), np.array([start])
    figure = _choose(order.path, order.request, image[None], time, size)
    return _crop_frames(order, lambda: [image], time, size, Figure(figure.box[None], figure.is_person), time)


def _crop_around(image: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, bool]:
    """Return the crop around a box, [h, w, 3], and whether the figure in it was cut out."""
    crops = crop_path(np.zeros(1), box[None], np.zeros(1), size[0] / size[1])
    center, height = crops.centers[0], float(crops.heights[0])
    taken = crop(image, center, height, size)
    (result,) = cut_figure(crop(image, center, height, CUT_SIZE)[None], [taken[None]])
    return result[0], bool((result != taken).any())


def _cut_warning(path: Path, is_cut: bool) -> list[str]:
    """Return a sentence about a figure that the result shows before another background."""
    return [f"The background of {path.name} is cluttered, so the figure was put before plain gray."] if is_cut else []


def _trim_warning(path: Path, request: DrivingRequest, scan: VideoScan) -> list[str]:
    """Return a sentence about a long video of which only the first part is used."""
    end = scan.seconds if request.end is None else request.end
    if request.mode == "novel-view" or end is None or end - request.start <= MAX_SECONDS + 0.05:
        return []
    return [
        f"{path.name} was used from {request.start:g} s to {request.start + MAX_SECONDS:g} s of {end:.0f} s: "
        f"{MAX_SECONDS:g} s are the most. Choose another part with a start and an end."
    ]


def _lost_warning(path: Path, figure: Figure, times: np.ndarray) -> list[str]:
    """Return a sentence about the longest time between searched frames in which the figure was not found."""
    if len(times) < 2:
        return []
    known = np.unique([times[0], *times[figure.found], times[-1]])
    gaps = np.diff(known)
    if gaps.max() <= max(_LOST, 2.5 * float(np.diff(times).max())):
        return []
    longest = int(gaps.argmax())
    return [
        f"The figure was not found in {path.name} between {known[longest]:.1f} s and {known[longest + 1]:.1f} s: its "
        "place there is a guess. Choose another part, or give a box around all that it does."
    ]


def _require_motion(path: Path, scan: VideoScan) -> None:
    """Raise ShotError if a part of a video is a single frame, or goes over a cut."""
    if len(scan.times) < 2:
        raise ShotError(
            "one-frame",
            " ".join(
                [f"{path.name} has one frame in the part that is used: there is no motion in it.", *scan.warnings]
            ),
            "Choose a longer part, or use the mode novel-view, which moves the camera only.",
        )
    cuts = find_cuts(scan.thumbnails)
    if len(cuts):
        times = ", ".join(f"{scan.times[cut]:.2f} s" for cut in cuts[:6])
        raise ShotError(
            "cut-in-footage",
            f"{path.name} has a cut at {times} in the part that is used.",
            "Choose a part between two cuts with a start and an end.",
        )


def _find_in_video(
    path: Path, request: DrivingRequest, scan: VideoScan, cancelled: Callable[[], bool]
) -> tuple[Figure, np.ndarray]:
    """Return the figure of a video, boxes in pixels of the video, and the times of the frames that were searched."""
    picked = np.unique(np.linspace(0, len(scan.times) - 1, _SEARCHED).round().astype(int))
    times = scan.times[picked]
    if request.box is not None or request.mask:
        return _choose(path, request, np.zeros((len(times), 1, 1, 3), np.uint8), times, scan.size), times
    frames = np.stack([*take_frames(path, times, _SEARCH_SIZE, cancelled, request.rate)])
    return _choose(path, request, frames, times, scan.size), times


def _choose(
    path: Path, request: DrivingRequest, frames: np.ndarray, times: np.ndarray, size: tuple[int, int]
) -> Figure:
    """Return the figure that a request names, or the only one; boxes in pixels of footage of a (width, height)."""
    given = request.box
    if request.mask:
        given = _box_of_mask(Path(request.mask), size)
    if given is not None:
        if given[0] >= size[0] or given[1] >= size[1] or given[2] <= 0 or given[3] <= 0:
            raise ShotError(
                "bad-box", f"The box around the figure is outside of {path.name}, {size[0]} × {size[1]} pixels.",
                "Give left, top, right and bottom in pixels of the footage.",
            )  # fmt: skip
        return Figure(np.tile(np.array(given, np.float64), (len(times), 1)), False)
    scale = size[0] / frames.shape[2]
    found = [Figure(figure.boxes * scale, figure.is_person) for figure in find_figures(frames)]
    if not found:
        raise ShotError("no-figure", f"No figure was found in {path.name}.", _CHOOSE)
    if request.person is not None:
        if request.person > len(found):
            raise ShotError(
                "no-such-person",
                f"{path.name} shows {len(found)} figure(s), not {request.person}: {_listed(found)}.",
                "Choose another number, or give a box around the figure.",
            )
        return found[request.person - 1]
    if len(found) > 1:
        raise ShotError(
            "several-figures",
            f"{path.name} shows {len(found)} figures: {_listed(found)}.",
            "Choose one by its number (person), or by a box around it.",
        )
    return found[0]


def _listed(figures: list[Figure]) -> str:
    """Return the boxes of figures as they are given to an option."""
    return "; ".join(f"{n}. at {','.join(f'{x:.0f}' for x in figure.box)}" for n, figure in enumerate(figures, 1))


def _box_of_mask(path: Path, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the box around what a mask shows, pixels of footage of a (width, height)."""
    white = read_rgb(path, "mask").max(axis=-1) > 127
    if not white.any():
        raise ShotError("empty-mask", f"The mask {path} is black everywhere.", "Paint the figure white.")
    rows, columns = np.flatnonzero(white.any(axis=1)), np.flatnonzero(white.any(axis=0))
    x, y = size[0] / white.shape[1], size[1] / white.shape[0]
    return columns[0] * x, rows[0] * y, (columns[-1] + 1) * x, (rows[-1] + 1) * y
