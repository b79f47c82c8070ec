# SPDX-License-Identifier: GPL-3.0-or-later
"""A shot as one plain header and a list of arrays: the form on the wire and in the file.

The header holds only maps, lists, strings and numbers; an array stands in it as its index in the list beside its
dtype and shape, so that a reader knows what to expect before it has a single byte of it.

Version 2 adds optional keys: "origins", "births" and "start" of a geometry, "changes" of a mesh. A header that needs
none of them is written as version 1, so that a shot without changes of topology has the bytes, and the digest, that it
always had.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trackshade.core.errors import ShotError
from trackshade.shot.model import CameraTrack, Cutout, Geometry, MeshTrack, ObjectTrack, Shot, Surfaces

VERSION = 2
DTYPES = {"<f4", "<f8", "<i4", "|b1", "|u1"}
_MAX_BYTES = 1 << 40
# Keys that version 2 has and version 1 has not.
_ADDED = {"origins", "births", "start", "changes", "materials", "more_uv", "surfaces"}


def encode(shot: Shot) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Header (msgpack- and JSON-able) and arrays of a shot, the inverse of `decode`."""
    arrays: list[np.ndarray] = []

    def put(array: np.ndarray | None) -> int | None:
        if array is None:
            return None
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        arrays.append(little)
        return len(arrays) - 1

    shared: dict[tuple[int, tuple[int, ...]], int] = {}  # by address and shape, of geometries after a change

    def put_once(array: np.ndarray | None) -> int | None:
        """For geometries that the same mesh has again and again: what they share is written once."""
        if array is None or not changing:
            return put(array)
        key = array.__array_interface__["data"][0], array.shape
        if key not in shared or not array.size:
            shared[key] = len(arrays)
            put(array)
        return shared[key]

    changing = any(mesh.changes for mesh in shot.meshes)
    camera = shot.camera
    header = {
        "version": 1,
        "fps": float(shot.fps),
        "size": list(shot.size),
        "view_layer": shot.view_layer,
        "source": dict(shot.source),
        "frames": put(shot.frame_numbers),
        "camera": {
            "name": camera.name,
            "sources": list(camera.sources),
            "intrinsics": put(camera.intrinsics),
            "world_to_camera": put(camera.world_to_camera),
            "orthographic": put(camera.orthographic),
            "clip": put(camera.clip),
        },
        "geometries": [
            {
                "positions": put(item.positions),
                "triangles": put_once(item.triangles),
                "uv": put_once(item.uv),
                **_optional("origins", put_once(item.origins)),
                **_optional("births", put_once(item.births)),
                **_optional("start", item.start or None),
                **_optional("materials", put(item.materials)),
                **_optional("more_uv", [put(layer) for layer in item.more_uv] or None),
            }
            for item in shot.geometries
        ],
        "meshes": [
            {
                "name": item.name,
                "geometry": item.geometry,
                "matrix_world": put(item.matrix_world),
                "visible": put(item.visible),
                "holdout": item.holdout,
                "pass_index": item.pass_index,
                **_optional("changes", [list(change) for change in item.changes] or None),
                **_optional("surfaces", item.surfaces),
            }
            for item in shot.meshes
        ],
        "objects": [
            {"name": item.name, "kind": item.kind, "matrix_world": put(item.matrix_world)} for item in shot.objects
        ],
    }
    if shot.surfaces:
        header["surfaces"] = [
            {
                "front": put(item.front),
                "back": put(item.back),
                "cutouts": put(item.cutouts),
                "uv_layers": put(item.uv_layers),
            }
            for item in shot.surfaces
        ]
    if shot.cutouts:
        header["cutouts"] = [
            {
                "alpha": put(item.alpha),
                "opaque": put(item.opaque),
                "transform": put(item.transform),
                "extension": item.extension,
                "smooth": item.smooth,
            }
            for item in shot.cutouts
        ]
    if any(_ADDED & item.keys() for item in (*header["geometries"], *header["meshes"])):
        header["version"] = VERSION
    header["arrays"] = [{"dtype": array.dtype.str, "shape": list(array.shape)} for array in arrays]
    return header, arrays


def _optional(key: str, value: Any) -> dict[str, Any]:
    """An entry of the header that is left out where there is nothing to say."""
    return {} if value is None else {key: value}


def array_specs(header: Mapping[str, Any]) -> list[tuple[np.dtype, tuple[int, ...]]]:
    """dtype and shape of each array that a header announces.

    Raises:
        ShotError: the header is too new, or announces something that no shot holds.
    """
    version = header.get("version")
    if not isinstance(version, int) or version < 1:
        raise ShotError("damaged-shot", "The shot's header has no valid version.")
    if version > VERSION:
        raise ShotError(
            "shot-too-new",
            f"The shot was written in format {version}; this Trackshade reads up to {VERSION}.",
            "Update Trackshade on this side.",
        )
    specs = []
    for item in _list(header, "arrays"):
        dtype, shape = item.get("dtype"), item.get("shape")
        if not isinstance(dtype, str) or dtype not in DTYPES or not isinstance(shape, list) or not 1 <= len(shape) <= 4:
            raise ShotError("damaged-shot", f"The shot's header announces an array of type {dtype!r}.")
        if any(not isinstance(n, int) or n < 0 for n in shape) or math.prod(shape) * 8 > _MAX_BYTES:
            raise ShotError("damaged-shot", f"The shot's header announces an array of shape {shape}.")
        specs.append((np.dtype(dtype), tuple(shape)))
    return specs


def decode(header: Mapping[str, Any], arrays: Sequence[np.ndarray]) -> Shot:
    """The shot of a header and its arrays.

    Raises:
        ShotError: anything missing, of a wrong type or out of range.
    """
    specs = array_specs(header)
    if len(specs) != len(arrays) or any(
        array.dtype != dtype or array.shape != shape for array, (dtype, shape) in zip(arrays, specs, strict=True)
    ):
        raise ShotError("damaged-shot", "The shot's arrays are not those that its header announces.")

    def get(index: Any) -> np.ndarray:
        if not isinstance(index, int) or not 0 <= index < len(arrays):
            raise ShotError("damaged-shot", f"The shot's header names array {index!r} of {len(arrays)}.")
        return arrays[index]

    try:
        camera = header["camera"]
        return Shot(
            frame_numbers=get(header["frames"]),
            fps=_typed(header["fps"], (int, float)),
            size=(int(header["size"][0]), int(header["size"][1])),
            camera=CameraTrack(
                name=_typed(camera["name"], str),
                sources=tuple(_typed(name, str) for name in camera["sources"]),
                intrinsics=get(camera["intrinsics"]),
                world_to_camera=get(camera["world_to_camera"]),
                orthographic=get(camera["orthographic"]),
                clip=get(camera["clip"]),
            ),
            geometries=tuple(
                Geometry(
                    get(item["positions"]),
                    get(item["triangles"]),
                    None if item["uv"] is None else get(item["uv"]),
                    None if item.get("materials") is None else get(item["materials"]),
                    tuple(get(layer) for layer in item.get("more_uv", ())),
                    origins=None if item.get("origins") is None else get(item["origins"]),
                    births=None if item.get("births") is None else get(item["births"]),
                    start=_whole(item.get("start", 0)),
                )
                for item in _list(header, "geometries")
            ),
            meshes=tuple(
                MeshTrack(
                    name=_typed(item["name"], str),
                    geometry=_typed(item["geometry"], int),
                    matrix_world=get(item["matrix_world"]),
                    visible=get(item["visible"]),
                    holdout=_typed(item["holdout"], bool),
                    pass_index=_typed(item["pass_index"], int),
                    surfaces=_typed(item.get("surfaces"), (int, type(None))),
                    changes=tuple((_whole(t), _whole(geometry)) for t, geometry in item.get("changes", ())),
                )
                for item in _list(header, "meshes")
            ),
            objects=tuple(
                ObjectTrack(_typed(item["name"], str), _typed(item["kind"], str), get(item["matrix_world"]))
                for item in _list(header, "objects")
            ),
            view_layer=_typed(header["view_layer"], str),
            source=_typed(header["source"], dict),
            surfaces=tuple(
                Surfaces(get(item["front"]), get(item["back"]), get(item["cutouts"]), get(item["uv_layers"]))
                for item in _optional_list(header, "surfaces")
            ),
            cutouts=tuple(
                Cutout(
                    alpha=get(item["alpha"]),
                    opaque=get(item["opaque"]),
                    transform=get(item["transform"]),
                    extension=_typed(item["extension"], str),
                    smooth=_typed(item["smooth"], bool),
                )
                for item in _optional_list(header, "cutouts")
            ),
        )
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise ShotError("damaged-shot", f"The shot's header is damaged: {error!r}.") from error


def _list(header: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    value = header.get(key)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ShotError("damaged-shot", f"The shot's header has no list of {key}.")
    return value


def _optional_list(header: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """The list of a key that a header of format 1 does not have."""
    return _list(header, key) if key in header else []


def _typed(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is not of the expected type")
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r} is not a whole number")
    return value
