# SPDX-License-Identifier: GPL-3.0-or-later
"""The job's record: everything that is needed to make a result again, as readable JSON."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any, Protocol

import numpy as np

import trackshade
from trackshade.config.model_spec import ModelSpec
from trackshade.config.settings import ShadeSettings
from trackshade.results.consistency import Consistency
from trackshade.shot import Shot

FORMAT = 1
_PACKAGES = ("torch", "diffusers", "transformers", "numpy", "numba", "av", "pillow", "openimageio")


class Images(Protocol):
    """Images of one size, [T, H, W, 3] uint8, that may be read one at a time; an array is such images."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape [T, H, W, 3]."""
        ...

    def __getitem__(self, t: int, /) -> np.ndarray:
        """Return image `t`."""
        ...


def job_record(
    shot: Shot,
    settings: ShadeSettings,
    spec: ModelSpec,
    *,
    first_frame: np.ndarray | None,  # [H, W, 3] uint8
    input_render: Images | None,  # [T, H, W, 3] uint8
    nearest: float | None,
    consistency: Consistency | None,
    files: Sequence[str],
    timings: Mapping[str, float],
    warnings: Sequence[str],
    model_digests: Mapping[str, str],
    model_fit: Mapping[str, Any] | None,
    propagation: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the content of `job.json`, plain values only; `nearest` is the least visible depth, metres."""
    return {
        "format": FORMAT,
        "trackshade": trackshade.__version__,
        "versions": _versions(shot),
        "model": {"name": spec.name, "digests": dict(model_digests), "spec": spec.to_dict()},
        "settings": settings.to_dict(),
        "seed": settings.seed,
        "used": {  # the settings, with the model's defaults instead of None
            "steps": spec.steps if settings.steps is None else settings.steps,
            "guidance": spec.guidance if settings.guidance is None else settings.guidance,
            "dynamic_guidance": spec.dynamic_guidance and settings.guidance is None,
            "negative_prompt": (spec.negative_prompt if settings.negative_prompt is None else settings.negative_prompt),
        },
        "shot": _describe_shot(shot) | {"nearest": nearest},
        "first_frame": None if first_frame is None else {"file": "first_frame.png", "digest": _digest(first_frame)},
        "input_render": None if input_render is None else {"digest": _digest(input_render)},
        "model_fit": None if model_fit is None else dict(model_fit),
        "propagation": None if propagation is None else dict(propagation),
        "consistency": None if consistency is None else consistency.to_dict(),
        "timings": {name: round(float(seconds), 3) for name, seconds in timings.items()},
        "warnings": list(warnings),
        "files": list(files),
    }


def _digest(array: Images) -> str:
    """Return the BLAKE2b of an array's type, shape and bytes, read row by row."""
    state = hashlib.blake2b(f"{np.dtype(np.uint8).str}{list(array.shape)}".encode(), digest_size=32)
    for row in range(array.shape[0]):
        state.update(_bytes(array[row]))
    return state.hexdigest()


def shot_digest(shot: Shot) -> str:
    """Return the BLAKE2b of everything in a shot except its source: equal shots have equal digests."""
    header, arrays = shot.encode()
    header = {key: value for key, value in header.items() if key != "source"}
    state = hashlib.blake2b(json.dumps(header, sort_keys=True).encode(), digest_size=32)
    for array in arrays:
        state.update(_bytes(array))
    return state.hexdigest()


def format_json(value: Any, indent: str = "") -> str:
    """Return JSON with one entry per line, but lists of plain values on one line: a matrix stays readable.

    Raises:
        ValueError: a number that JSON does not know (NaN, infinity).
    """
    deeper = indent + "  "
    if isinstance(value, dict) and value:
        lines = [
            f"{deeper}{json.dumps(str(key), ensure_ascii=False)}: {format_json(value[key], deeper)}" for key in value
        ]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, (list, tuple)) and any(isinstance(item, (dict, list, tuple)) for item in value):
        return "[\n" + ",\n".join(deeper + format_json(item, deeper) for item in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _bytes(array: np.ndarray) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _describe_shot(shot: Shot) -> dict[str, Any]:
    camera = shot.camera
    return {
        "digest": shot_digest(shot),
        "source": {key: value for key, value in shot.source.items() if key not in ("frame_map", "size_fit")},
        "frames": shot.frame_numbers.tolist(),
        "fps": float(shot.fps),
        "size": list(shot.size),
        "frame_map": shot.source.get("frame_map"),
        "size_fit": shot.source.get("size_fit"),
        "view_layer": shot.view_layer,
        "meshes": len(shot.meshes),
        "vertices": sum(shot.geometries[mesh.geometry].positions.shape[1] for mesh in shot.meshes),
        "camera": {
            "name": camera.name,
            "sources": list(camera.sources),
            "orthographic": camera.orthographic.tolist(),
            "clip": camera.clip.tolist(),
            "intrinsics": camera.intrinsics.reshape(-1, 9).tolist(),  # row by row, one frame on a line
            "world_to_camera": camera.world_to_camera.reshape(-1, 16).tolist(),
        },
    }


def _versions(shot: Shot) -> dict[str, Any]:
    found: dict[str, Any] = {"trackshade": trackshade.__version__, "blender": shot.source.get("blender")}
    found |= {"python": platform.python_version(), "system": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found
