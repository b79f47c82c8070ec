# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of given key pictures, what they show of a shot, and pictures of frames for an artist to paint on."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from trackshade.control.scene import ShotRaster
from trackshade.core.colors import to_uint8
from trackshade.ipc import protocol as states
from trackshade.propagation import KeyPicture, Propagation
from trackshade.propagation.measures import alignment, coverage
from trackshade.propagation.propagation import MOST_SURVEYED
from trackshade.propagation.survey import survey_times
from trackshade.results.frames import unwritable, write_png
from trackshade.results.write import write_record
from trackshade.server.job import JobRun, encode_preview, timed
from trackshade.server.propagate import KeyPictures
from trackshade.server.stills import paint_still
from trackshade.shot import Shot
from trackshade.shot.cameras import find_cuts

if TYPE_CHECKING:
    from trackshade.pipelines.look_stills import LookPipeline

FOLDER = "keys"  # of a result
COMPARED = 640  # pixels of the longer side at which a picture is compared with the geometry
LEAST_SHIFT = 0.75  # pixels of the picture from which a shift is mended
MOST_SHIFT = 5.5  # pixels of the compared picture up to which a shift is found
MATCHES = 0.12  # correlation from which a shift is believed
LEAD = 0.04  # by which it must exceed that of shifts elsewhere to be believed
MATCHES_NOTHING = 0.08  # correlation below which a picture shows another scene
DOUBTFUL, NO_LEAD = 0.2, 0.02  # correlation and lead below which, both together, it does so too
LOOKED_AT = 12  # samples, at most, for the coverage
BEST = 5  # further key pictures that a record names
WORTH = 0.001  # share of all pixels that a further key picture has to show


def check_keys(run: JobRun, keys: KeyPictures) -> tuple[KeyPictures, list[str]]:
    """Compare the pictures that were not rendered with the geometry; see `align_keys`."""
    with timed(run.timings, "alignment"):
        is_rendered = 0 not in run.inputs.keys and "first_frame" not in run.shot.source
        checked = {"key picture"} if is_rendered else {"first frame", "key picture"}
        run.reporter.report(states.RUNNING, "Checking the key pictures")
        keys, warnings = align_keys(keys, [n for n, item in enumerate(keys.record) if item["source"] in checked])
        return keys, [*warnings, *unseen_cuts(run.shot, keys)]


def unseen_cuts(shot: Shot, keys: KeyPictures) -> list[str]:
    """Return a sentence about each camera that takes over at a cut and that no picture was made through."""
    cuts = find_cuts(shot)
    starts, numbers = [0, *cuts], [keys.positions[picture.t] for picture in keys.pictures] if cuts else []
    seen = {bisect_right(starts, number) - 1 for number in numbers}
    return [
        f"The camera is switched to '{shot.camera.sources[cut]}' at frame {shot.frame_numbers[cut]:g}, and no key "
        "picture shows what it sees: what other pictures do not show is guessed. Add a key picture of this frame."
        for index, cut in enumerate(cuts, 1)
        if index not in seen
    ]


def align_keys(keys: KeyPictures, checked: Sequence[int]) -> tuple[KeyPictures, list[str]]:
    """Compare pictures with the geometry, and move back those that are a little beside it.

    Args:
        keys: the pictures.
        checked: indices of the pictures that are compared.

    Returns:
        The pictures, with "alignment" in their records, and sentences about those that did not lie on the geometry.
    """
    pictures, record, warnings = list(keys.pictures), [dict(item) for item in keys.record], []
    for index in checked:
        picture, frame = pictures[index], record[index]["frame"]
        shift, correlation, lead = _find_shift(keys.shot, picture)
        x, y = (round(value) for value in shift)
        is_believed = correlation >= MATCHES and lead >= LEAD
        moved = is_believed and math.hypot(*shift) >= LEAST_SHIFT and (x, y) != (0, 0)
        if moved:
            pictures[index] = replace(picture, image=_move_back(picture.image, x, y))
            warnings.append(f"The picture of frame {frame:g} was shifted {_direction(x, y)}, and was moved back.")
        elif correlation < MATCHES_NOTHING or (correlation < DOUBTFUL and lead < NO_LEAD):
            warnings.append(
                f"The picture of frame {frame:g} does not match the scene's outlines. Does it show this frame?"
            )
        record[index]["alignment"] = (
            None
            if math.isnan(correlation)
            else {"shift": [round(v, 2) for v in shift], "correlation": round(correlation, 3), "moved": moved}
        )
    return replace(keys, pictures=pictures, record=record), warnings


def _find_shift(shot: Shot, picture: KeyPicture) -> tuple[tuple[float, float], float, float]:
    """Return by how many pixels a picture is beside the geometry, the correlation there and its lead; NaN if unknown.

    A shift beyond what was searched is returned as (0, 0).
    """
    height, width = picture.image.shape[:2]
    factor = max(1.0, max(width, height) / COMPARED)
    image = picture.image
    if factor > 1:
        size = (max(1, round(width / factor)), max(1, round(height / factor)))
        image = np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize(size, Image.Resampling.BOX))
    if np.all(image == image[0, 0]):  # of one color: nothing can be compared
        return (0.0, 0.0), 0.0, 0.0
    found = alignment(shot, picture.t, image)
    if math.isnan(found.correlation):
        return (0.0, 0.0), math.nan, math.nan
    if max(map(abs, found.shift)) > MOST_SHIFT:
        return (0.0, 0.0), found.correlation, found.lead
    return (found.shift[0] * factor, found.shift[1] * factor), found.correlation, found.lead


def _move_back(image: np.ndarray, x: int, y: int) -> np.ndarray:
    """Return an image moved by -x to the right and -y down, whole pixels; its edges are repeated."""
    height, width = image.shape[:2]
    rows, columns = np.clip(np.arange(height) + y, 0, height - 1), np.clip(np.arange(width) + x, 0, width - 1)
    return np.ascontiguousarray(image[rows][:, columns])


def _direction(x: int, y: int) -> str:
    """Return a shift in words, such as "3 pixels right and 1 pixel up"."""
    parts = [
        f"{abs(value)} pixel{'s' if abs(value) > 1 else ''} {words[value > 0]}"
        for value, words in ((x, ("left", "right")), (y, ("up", "down")))
        if value
    ]
    return " and ".join(parts)


def measure_coverage(
    keys: KeyPictures, progress: Callable[[float], None], unseen: Sequence[float] | None = None
) -> dict[str, Any]:
    """Return what the pictures show of a shot, and which further ones would help, as plain values for the record.

    Args:
        keys: the pictures.
        progress: called with the fraction that is done; may raise to cancel.
        unseen: share of the pixels of each of the shot's frames that no picture shows, where all have been drawn.
    """
    own, views = np.array(keys.own), keys.shot.views
    if views == 1:
        times = own[survey_times(len(own), LOOKED_AT)].tolist()
    else:
        by_sample = np.sort(own)  # the cameras of a sample follow each other
        times = by_sample[survey_times(len(own), LOOKED_AT * min(views, MOST_SURVEYED), views)].tolist()
    found = coverage(keys.shot, [key.t for key in keys.pictures if key.detail], times=times, progress=progress)
    numbers = keys.shot.frame_numbers
    frames, shares = (found.times, found.unseen) if unseen is None else (own, unseen)

    def place(t: int) -> dict[str, Any]:
        sources = keys.shot.camera.sources
        return {"frame": float(numbers[t]), **({"camera": sources[t]} if views > 1 else {})}

    return {
        "frames": numbers[frames].tolist(),
        "unseen": [round(float(share), 4) for share in shares],
        "next": [
            {**place(item.t), "reveals": round(item.reveals, 5)}
            for item in found.candidates[:BEST]
            if item.reveals >= WORTH
        ],
    }


def write_key_job(
    run: JobRun,
    samples: Sequence[int],
    keys: KeyPictures,
    warnings: Sequence[str],
    digests: Mapping[str, str],
    look: LookPipeline | None = None,
) -> dict[str, Any]:
    """Write what is shown of the frames that a job asks for, at the size of the shot, and the record.

        keys/25.png         the frame, as the key pictures show it so far
        keys/25-depth.png   16 bits: 65535 · nearest depth / depth, 0 where nothing is
        keys/25-unseen.png  8 bits: 255 where no key picture shows the frame

    Args:
        run: the job.
        samples: the shot's own samples that are drawn.
        keys: the pictures that are propagated.
        warnings: sentences about them.
        digests: digests of the model's weights.
        look: image model that paints what no key picture shows, around what they show; None for the fills of the
            propagation.

    Returns:
        The record.

    Raises:
        OutputError: the files cannot be written.
        ShotError: the light cannot be used.
        UsageError: a picture has another aspect than the shot.
    """
    settings, shot = run.settings, run.shot
    with timed(run.timings, "propagate"):
        light, _ = run.light(keys)
        paint = None if look is None else partial(_paint_unseen, look, run, keys.shot)
        frames, propagation = _write_keys(run, keys, samples, light, paint)
    with timed(run.timings, "coverage"):
        propagation |= {"key_pictures": keys.record, "coverage": measure_coverage(keys, run.report_coverage)}
    return write_record(
        run.folder,
        [FOLDER],
        {"keys": frames},
        shot=shot,
        settings=settings,
        spec=run.spec,
        timings=run.timings,
        warnings=[*shot.warnings, *warnings],
        model_digests=digests,
        propagation=propagation,
    )


def _write_keys(
    run: JobRun,
    keys: KeyPictures,
    samples: Sequence[int],
    light: Callable[[int], np.ndarray] | None,
    paint: Callable[[int, np.ndarray, np.ndarray], np.ndarray] | None,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Write the frames of `write_key_job`; return plain values about each frame, and about the propagation."""
    folder, report, seed = run.folder, run.report, run.settings.seed
    propagation = Propagation(keys.shot, keys.pictures, size=keys.shot.size, light=light, seed=seed, device=run.device)
    propagation.prepare(lambda fraction, stage: report(f"Preparing: {stage}", None, progress=fraction))
    raster, entries, total = ShotRaster(keys.shot), [], len(samples)
    for number, sample in enumerate(samples, start=1):
        t = keys.own[sample]
        frame = propagation.frame(t)
        depth, nearest = _inverse_depth(raster.draw(t).depth)
        name = f"{FOLDER}/{keys.shot.frame_numbers[t]:g}"
        shown = to_uint8(frame.image)
        if paint is not None:
            shown = paint(t, shown, frame.shown < 0.5)
        files = {
            "picture": (f"{name}.png", shown),
            "depth": (f"{name}-depth.png", depth),
            "unseen": (f"{name}-unseen.png", to_uint8(1 - frame.shown)),
        }
        try:
            (folder / FOLDER).mkdir(parents=True, exist_ok=True)
            for path, image in files.values():
                write_png(folder / path, image)
        except OSError as error:
            raise unwritable(folder, error) from error
        entries.append(
            {
                "frame": float(keys.shot.frame_numbers[t]),
                **{kind: path for kind, (path, _) in files.items()},
                "unseen_share": round(frame.unseen, 4),
                "nearest": nearest,
            }
        )
        report(f"Drawing frame {number} of {total}", encode_preview(shown), step=number, steps=total)
    match = propagation.light_match
    return entries, {"relit": light is not None and (match is None or match.agrees)}


def _paint_unseen(
    look: LookPipeline,
    run: JobRun,
    shot: Shot,
    t: int,
    image: np.ndarray,  # [H, W, 3] uint8 sRGB
    unseen: np.ndarray,  # [H, W] bool
) -> np.ndarray:
    """Return the image of sample `t` of a shot, painted where no key picture shows it."""
    if not unseen.any():
        return image
    return paint_still(look, shot, t, run.settings, run.reporter.report, image, unseen)


def _inverse_depth(depth: np.ndarray) -> tuple[np.ndarray, float | None]:
    """Return inverse depth [H, W] uint16, 65535 at the nearest pixel and 0 at infinity, and the nearest depth."""
    nearest = float(depth.min())
    if not np.isfinite(nearest):
        return np.zeros(depth.shape, np.uint16), None
    return np.rint(65535.0 * nearest / depth.astype(np.float64)).astype(np.uint16), nearest
