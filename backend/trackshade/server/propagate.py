# SPDX-License-Identifier: GPL-3.0-or-later
"""The propagation step of a job: key pictures of a shot to all of its frames, written one by one.

What is made is kept in the job's folder until the result is complete, so that a job whose worker was killed continues
with the frame at which it ended.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trackshade.config.settings import ShadeSettings
from trackshade.core.atomic_files import atomic_file
from trackshade.core.colors import srgb_to_linear, to_uint8
from trackshade.core.resampling import crop_to_frame
from trackshade.propagation import KeyPicture, PropagatedFrame, Propagation
from trackshade.propagation.packing import is_lit, pack, unpack
from trackshade.results.frames import FrameWriter, frame_path, is_whole, unwritable
from trackshade.results.overview import Overview
from trackshade.results.record import Images
from trackshade.server.parts import Packed, PartDoer, Parts, Spread, do_in_order
from trackshade.shot import Shot
from trackshade.shot.cameras import through_camera, unroll_cameras
from trackshade.shot.fitting import ShotFit, sample_shot

DRAFT_FRAMES = 3  # shown at a quarter of the size before the first frame is made
DRAFT_FROM = 640  # pixels of the longer side from which a draft is worth its time


class KeptWork:
    """What a job has made so far, in its folder. What is damaged there counts as not made.

    .kept/job       digest of the job
    .kept/NAME.npy  images of a model
    .kept/frames    number and unseen share of each frame that was made, a line each
    """

    def __init__(self, folder: Path, digest: bytes) -> None:
        """Continue what an attempt at the same job left in the folder, or begin anew. Raise OutputError."""
        self._folder = folder / ".kept"
        self.unseen: dict[int, float] = {}
        job = self._folder / "job"
        with self._writing():
            if job.is_file() and job.read_bytes() == digest:
                self.unseen = self._read_frames()
                return
            shutil.rmtree(folder, ignore_errors=True)
            self._folder.mkdir(parents=True)
            job.write_bytes(digest)

    def add(self, t: int, unseen: float) -> None:
        """Note a frame, whose file may still be being written. Raise OutputError."""
        self.unseen[t] = unseen
        with self._writing(), open(self._folder / "frames", "a", encoding="ascii") as file:
            file.write(f"{t} {unseen!r}\n")

    def images(self, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Return the images of a model, made by `make` unless they were before. Raise OutputError."""
        path = self._folder / f"{name}.npy"
        with suppress(OSError, ValueError, EOFError):
            return np.load(path, allow_pickle=False)
        images, data = make(), io.BytesIO()  # since numpy's own writing does not tell why it failed
        np.save(data, images, allow_pickle=False)
        with self._writing(), atomic_file(path) as temporary:
            temporary.write_bytes(data.getbuffer())
        return images

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise unwritable(self._folder.parent, error) from error

    def finish(self) -> None:
        """Delete everything but the frames."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _read_frames(self) -> dict[int, float]:
        try:
            text = (self._folder / "frames").read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return {}
        found: dict[int, float] = {}
        for line in text[: text.rfind("\n") + 1].splitlines():  # the last line may be cut short
            with suppress(ValueError):
                t, unseen = line.split()
                found[int(t)] = float(unseen)
        return found


@dataclass(frozen=True, eq=False)
class KeyPictures:
    """Pictures of a shot, and where they come from.

    Attributes:
        shot: the shot, with additional samples where pictures of a model lie between two of its own; unrolled, if it
            has several cameras (`trackshade.shot.cameras`).
        own: sample in `shot` of each of the shot's own cells: its samples through its first camera, and so on.
        positions: own sample of each sample in `shot`; fractions lie between two.
        pictures: the pictures; samples are those of `shot`.
        record: plain values about them.
    """

    shot: Shot
    own: list[int]
    positions: np.ndarray
    pictures: list[KeyPicture]
    record: list[dict[str, Any]]


def collect_keys(
    shot: Shot,
    fit: ShotFit,
    first_frame: np.ndarray | None,  # [H, W, 3] uint8
    keys: Mapping[int, np.ndarray],  # [h, w, 3] uint8
    images: Mapping[int, np.ndarray],  # [N, h, w, 3] uint8
    is_filling: bool = True,
) -> KeyPictures:
    """Collect the pictures that are propagated.

    Args:
        shot: the shot of T samples and V cameras.
        fit: how the model saw the shot.
        first_frame: the given first frame, of the first camera.
        keys: further given pictures, by cell (sample * V + camera); one of the first cell replaces the first frame.
        images: by camera, the model's first images at its size. Without a given picture of a camera's first sample, the
            first of them replaces it.
        is_filling: whether the model's images show what no other picture does, see `KeyPicture`.
    """
    views = len(shot.cameras)
    given = {} if first_frame is None else {0: first_frame}
    given |= {cell: keys[cell] for cell in sorted(keys)}
    made: dict[tuple[float, int], np.ndarray] = {}
    for view, frames in images.items():
        for position, image in zip(fit.positions.tolist(), frames, strict=False):
            if position * views + view not in given:
                made.setdefault((position, view), _cut_to_frame(image, fit))
    positions = np.union1d(np.arange(len(shot.frame_numbers)), [position for position, _ in made])
    numbers = {position: index * views for index, position in enumerate(positions.tolist())}
    pictures = [KeyPicture(numbers[cell // views] + cell % views, image) for cell, image in given.items()]
    pictures += [KeyPicture(numbers[t] + view, image, t == 0, is_filling) for (t, view), image in made.items()]
    sampled = unroll_cameras(sample_shot(shot, positions))
    record = [
        {
            "frame": float(sampled.frame_numbers[picture.t]),
            "source": "model" if index >= len(given) else "first frame" if picture.t < views else "key picture",
            "size": [picture.image.shape[1], picture.image.shape[0]],
            "detail": picture.detail,
            **({"camera": shot.cameras[picture.t % views].name} if views > 1 else {}),
        }
        for index, picture in enumerate(pictures)
    ]
    own = [numbers[t] + view for view in range(views) for t in range(len(shot.frame_numbers))]
    return KeyPictures(sampled, own, positions, pictures, record)


def light_of(images: Images, positions: np.ndarray, is_linear: bool, views: int = 1) -> Callable[[int], np.ndarray]:
    """Return the light of samples at `positions`, from images of the shot's own samples.

    Args:
        images: [T * V, h, w, 3], scene-linear or uint8 sRGB, of the cells of a shot of T samples and V cameras.
        positions: own sample of each frame that is asked for; between two, their images are mixed.
        is_linear: whether the images are scene-linear.
        views: V.
    """

    def read(t: int) -> np.ndarray:
        image = images[t]
        return np.asarray(image, np.float32) if is_linear else srgb_to_linear(image / 255.0).astype(np.float32)

    def light(sample: int) -> np.ndarray:
        low, share = divmod(float(positions[sample // views]), 1.0)
        cell = int(low) * views + sample % views
        return read(cell) if not share else (1 - share) * read(cell) + share * read(cell + views)

    return light


class FrameParts(Parts):
    """The frames of a propagation, each of which is a part."""

    kind = "frames"

    def __init__(
        self,
        propagation: Propagation,  # prepared
        samples: Sequence[int],  # that are drawn
        light: Callable[[int], np.ndarray] | None,  # of a sample
        image_format: str,
        alpha: bool,
    ) -> None:
        self._propagation, self._samples, self._light = propagation, samples, light
        self._format, self._alpha = image_format, alpha
        self.per_node = propagation.device == "cpu"

    @property
    def count(self) -> int:
        """Number of frames."""
        return len(self._samples)

    def do(self, index: int) -> Packed:
        """Draw a frame; return its unseen share, its image and, if it is wanted, its alpha."""
        return _pack_frame(self._propagation.frame(self._samples[index]), self._format, self._alpha)

    def pack(self) -> Packed:
        """Return the propagation."""
        header, arrays = pack(self._propagation)
        return {**header, "format": self._format, "alpha": self._alpha}, arrays

    def pack_part(self, index: int) -> Packed:
        """Return a sample and its light."""
        t = self._samples[index]
        return {"t": t}, [self._light(t)] if self._light is not None and is_lit(self._propagation) else []


def make_frame_doer(shared: Packed) -> PartDoer:
    """Return what draws frames of a propagation that another worker has prepared."""
    header, arrays = shared
    light: dict[int, np.ndarray] = {}
    propagation = unpack(header, arrays, light.__getitem__)

    def do(part: Packed) -> Packed:
        values, images = part
        light.clear()
        light.update((values["t"], np.array(image)) for image in images)
        return _pack_frame(propagation.frame(values["t"]), header["format"], header["alpha"])

    return do


def _pack_frame(frame: PropagatedFrame, image_format: str, alpha: bool) -> Packed:
    image = to_uint8(frame.image) if image_format == "png" else frame.image
    return {"unseen": frame.unseen}, [image, frame.alpha] if alpha else [image]


def propagate(
    shot: Shot,
    keys: KeyPictures,
    light: Callable[[int], np.ndarray] | None,
    settings: ShadeSettings,
    folders: Sequence[Path],
    work: KeptWork,
    report: Callable[..., None],
    encode: Callable[[np.ndarray], bytes],
    device: str = "cpu",
    spread: Spread = do_in_order,
) -> tuple[list[Overview], dict[str, Any]]:
    """Write all frames of a shot into the folder of a result, or of each of its cameras.

    Args:
        shot: the shot.
        keys: the pictures.
        light: the light of a sample of `keys.shot`, by which they are relit; None to keep their colors.
        settings: the job's settings.
        folders: a folder for each camera.
        work: what an earlier attempt has made, and what this one makes.
        report: called with a message, a preview or None, and "progress", or "step" and "steps"; may raise to cancel.
        encode: encodes a frame [H, W, 3] uint8 as a preview.
        device: the worker's device; "auto" for the best one.
        spread: draws the frames.

    Returns:
        An overview of the frames of each camera, and plain values for the record.

    Raises:
        OutputError: the frames cannot be written.
        ShotError: the light cannot be used.
        UsageError: a picture has another aspect than the shot.
    """
    total, count = len(keys.own), len(shot.frame_numbers)
    overviews = []
    options = {"light": light, "seed": settings.seed, "device": device}
    if not work.unseen and max(shot.size) >= DRAFT_FROM:
        _show_draft(keys, options, report, encode)
    propagation = Propagation(keys.shot, keys.pictures, size=shot.size, **options)
    propagation.prepare(lambda fraction, stage: report(f"Preparing: {stage}", None, progress=fraction))
    kept = {
        number
        for number in work.unseen
        if number < total and is_whole(frame_path(folders[number // count], number % count, settings.image_format))
    }
    samples = [t for number, t in enumerate(keys.own) if number not in kept]
    parts = FrameParts(propagation, samples, light, settings.image_format, settings.alpha)
    with closing(spread(parts)) as frames:
        for view, folder in enumerate(folders):
            overview = Overview(through_camera(shot, view))
            overviews.append(overview)
            options = {"image_format": settings.image_format, "alpha": settings.alpha, "on_frame": overview.add}
            with FrameWriter(folder, shot.size, shot.fps, **options) as writer:
                for number in range(view * count, (view + 1) * count):
                    if number in kept:
                        shown = writer.keep()
                    else:
                        values, arrays = next(frames)
                        shown = writer.add(*arrays)
                        work.add(number, values["unseen"])
                    is_due = settings.preview_every and (number + 1) % settings.preview_every == 0
                    preview = encode(shown) if is_due else None
                    report(f"Propagating, frame {number + 1} of {total}", preview, step=number + 1, steps=total)
    match = propagation.light_match
    slope = None if match is None or not np.isfinite(match.slope) else round(match.slope, 3)
    return overviews, {
        "key_pictures": keys.record,
        "relit": light is not None and (match is None or match.agrees),
        "light_slope": slope,
        "unseen": [round(work.unseen[t], 4) for t in range(total)],
    }


def _show_draft(
    keys: KeyPictures,
    options: Mapping[str, Any],
    report: Callable[..., None],
    encode: Callable[[np.ndarray], bytes],
) -> None:
    """Show a few frames at a quarter of the size, which takes a small part of the time of the first full frame."""
    total = len(keys.own)
    size = (max(1, keys.shot.size[0] // 4), max(1, keys.shot.size[1] // 4))
    draft = Propagation(keys.shot, keys.pictures, size=size, samples=1, **options)
    draft.prepare(lambda fraction, stage: report(f"Preparing a draft: {stage}", None, progress=fraction))
    for t in np.unique(np.linspace(0, total - 1, min(total, DRAFT_FRAMES)).astype(int)).tolist():
        shown = to_uint8(draft.frame(keys.own[t]).image)
        report(f"Draft of frame {t + 1} of {total}", encode(shown))


def _cut_to_frame(
    image: np.ndarray,  # [h, w, 3] uint8
    fit: ShotFit,
) -> np.ndarray:
    """Return the part of a model's image that shows the shot's frame, uint8; edges are repeated beyond the image."""
    if fit.size_fit.is_identity:
        return image
    width, height = fit.size_fit.source
    scale = max(fit.size_fit.scale)  # with which no pixels of the image are lost
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    return to_uint8(crop_to_frame(image, fit.size_fit, size) / 255.0)
