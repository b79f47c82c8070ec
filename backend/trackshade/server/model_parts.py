# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of a video model for the cameras of a job, each of which is a part that another worker can do."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trackshade.config import registry
from trackshade.config.model_spec import ModelSpec
from trackshade.config.settings import ShadeSettings
from trackshade.control.tracks import Tracks
from trackshade.server.job import JobRun, Reporter
from trackshade.server.model_inputs import collect_inputs
from trackshade.server.models import Models
from trackshade.server.parts import Packed, PartDoer, Parts

if TYPE_CHECKING:
    from trackshade.pipelines.families.family import ModelInputs


@dataclass(frozen=True)
class _HelpRun:
    """A run for another worker's job; see `trackshade.server.models.ModelRun`."""

    spec: ModelSpec
    settings: ShadeSettings
    reporter: Reporter
    timings: dict[str, float]
    memory: dict[str, Any]


class CameraParts(Parts):
    """The runs of a video model for several cameras; each is a part, whose result is `take`n.

    Args:
        models: The models of this worker.
        runs: For each camera the part of the job that is about it, and its first frame of the model's size, if known.
        still: Whether only the first frame is used.
    """

    kind = "cameras"

    def __init__(self, models: Models, runs: Sequence[tuple[JobRun, np.ndarray | None]], still: bool) -> None:
        self._models, self._runs, self._still = models, runs, still

    @property
    def count(self) -> int:
        """Number of cameras."""
        return len(self._runs)

    def do(self, index: int) -> Packed:
        """Make the frames of a camera; return the digests of the weights, and the frames."""
        images, digests = self._models.make_images(*self._runs[index], self._still)
        return {"digests": digests}, [images]

    def pack(self) -> Packed:
        """Return the model and the settings."""
        run, _ = self._runs[0]
        return {"model": run.spec.name, "settings": run.settings.to_dict(), "still": self._still}, []

    def pack_part(self, index: int) -> Packed:
        """Return what the model is given of a camera."""
        return pack_inputs(collect_inputs(*self._runs[index]))

    def take(self, index: int, result: Packed) -> tuple[np.ndarray, dict[str, str]]:
        """Return the frames of a camera and the digests, and note the memory that was used elsewhere."""
        values, (images,) = result
        self._runs[index][0].memory.update(values.get("memory", {}))
        return images, values["digests"]


def make_camera_doer(shared: Packed, models: Models, reporter: Reporter) -> PartDoer:
    """Return what makes the frames of a camera of another worker's job."""
    header, _ = shared
    spec, settings = registry.spec(header["model"]), ShadeSettings.from_dict(header["settings"])

    def do(part: Packed) -> Packed:
        run = _HelpRun(spec, settings, reporter, {}, {})
        images, digests = models.sample(
            run, lambda: unpack_inputs(part), header["still"], keep=lambda name, make: make()
        )
        return {"digests": digests, "memory": run.memory}, [images]

    return do


def pack_inputs(inputs: ModelInputs) -> Packed:
    """Return the inputs of a model as plain values and arrays."""
    pictures = inputs.pictures or {}
    tracks = (
        [] if inputs.tracks is None else [getattr(inputs.tracks, field.name) for field in dataclasses.fields(Tracks)]
    )
    header = {
        "size": list(inputs.size),
        "num_frames": inputs.num_frames,
        "fps": inputs.fps,
        "control": inputs.control,
        "pictures": list(pictures),
        "has_clip": inputs.clip is not None,
        "has_tracks": inputs.tracks is not None,
    }
    clip = [] if inputs.clip is None else [inputs.clip]
    return header, [*clip, *tracks, *pictures.values(), *inputs.references]


def unpack_inputs(packed: Packed) -> ModelInputs:
    """Return the inputs of a model that were packed."""
    from trackshade.pipelines.families.family import ModelInputs

    header, arrays = packed
    rest = iter([np.array(array) for array in arrays])  # torch wants arrays that can be written
    return ModelInputs(
        size=(header["size"][0], header["size"][1]),
        num_frames=header["num_frames"],
        fps=header["fps"],
        clip=next(rest) if header["has_clip"] else None,
        control=header["control"],
        tracks=Tracks(*(next(rest) for _ in dataclasses.fields(Tracks))) if header["has_tracks"] else None,
        pictures={frame: next(rest) for frame in header["pictures"]},
        references=tuple(rest),
    )
