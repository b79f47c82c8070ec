# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job has besides its shot: the first frame, the input render, the light, the key pictures and the hands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import ShotError
from trackshade.ipc import Manifest
from trackshade.results.frames import check_exr
from trackshade.server.chunk_store import ChunkStore, StoredFrames
from trackshade.shot import Shot
from trackshade.shot.input_image import black_picture


@dataclass(frozen=True, eq=False)
class JobInputs:
    """What a job has besides its shot; see `trackshade.ipc.Manifest`. Videos are read frame by frame."""

    first_frame: np.ndarray | None
    input_render: StoredFrames | None
    light: StoredFrames | None
    keys: dict[int, np.ndarray]
    references: tuple[np.ndarray, ...] = ()
    hands: np.ndarray | None = None  # [T, 2h, h, 3]


def read_inputs(store: ChunkStore, manifest: Manifest) -> JobInputs:
    """Return the images of a job. Raise JobError("missing-chunk")."""
    render, light = manifest.input_render, manifest.light
    return JobInputs(
        None if manifest.first_frame is None else store.array(manifest.first_frame),
        None if render is None else StoredFrames(store, render),
        None if light is None else StoredFrames(store, light),
        {sample: store.array(entry) for sample, entry in manifest.keys.items()},
        tuple(store.array(entry) for entry in manifest.references),
        None if manifest.hands is None else store.array(manifest.hands),
    )


def check_inputs(shot: Shot, inputs: JobInputs, settings: ShadeSettings) -> None:
    """Raise ShotError unless the images are those of the shot, and OutputError unless the frames can be written."""
    (width, height), views = shot.size, len(shot.cameras)
    count = len(shot.frame_numbers) * views
    for name, image, shape in (
        ("first frame", inputs.first_frame, (height, width, 3)),
        ("input render", inputs.input_render, (count, height, width, 3)),
    ):
        if image is not None and image.shape != shape:
            raise ShotError("bad-image", f"The {name} is {list(image.shape)}, and the shot needs {list(shape)}.")
    if inputs.light is not None and len(inputs.light) != count:
        raise ShotError(
            "bad-light", f"There are clay renders of {len(inputs.light)} frames, and the shot has {count} frames."
        )
    for sample in inputs.keys:
        if not 0 <= sample < count:
            raise ShotError(
                "bad-key-picture",
                f"A key picture shows sample {sample}, and the shot has {count} samples.",
                "Give pictures of its frames.",
            )
    numbers = shot.frame_numbers.repeat(views)
    shapes = {f"key picture of frame {numbers[t]:g}": image.shape for t, image in inputs.keys.items()}
    if inputs.light is not None:
        shapes["clay render"] = inputs.light.shape[1:]
    for name, shape in shapes.items():
        if abs(shape[1] * height - shape[0] * width) > max(width, height):  # a pixel of rounding
            raise ShotError(
                "other-aspect",
                f"The {name} has {shape[1]} × {shape[0]} pixels, another shape than the shot's {width} × {height}.",
                "Render or crop it with the aspect of the camera.",
            )
    for t, image in inputs.keys.items():
        if (t or inputs.first_frame is None) and not image.any():
            raise black_picture(numbers[t])
    if settings.light == "render" and inputs.input_render is None and settings.output != "tracking":
        raise ShotError(
            "no-input-render",
            "The light is to be that of the input render, and none was sent.",
            "Render the input, too, or choose clay or none as the light.",
        )
    if settings.image_format == "exr":
        check_exr()
