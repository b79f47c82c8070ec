# SPDX-License-Identifier: GPL-3.0-or-later
"""A shot as one plain header and a list of arrays: its form on the wire and in the file.

The header holds only maps, lists, strings and numbers; an array stands in it as its index in the list, beside its dtype
and shape, so that a reader knows what to expect before it has a single byte of it.

Version 2 adds optional keys (`_ADDED`), version 3 several cameras. A header is written in the oldest version that has
all of its keys, so that a shot without changes of topology keeps the bytes and the digest that it had before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from trackshade.core.errors import ShotError
from trackshade.shot.parts import CameraTrack, Cutout, Geometry, MeshTrack, ObjectTrack, Surfaces

VERSION = 3
DTYPES = {"<f4", "<f8", "<i4", "|b1", "|u1"}
_MAX_BYTES = 1 << 40
# Keys that version 2 has and version 1 has not; they are left out where they have their default values.
_ADDED = {"origins", "births", "start", "changes", "materials", "more_uv", "surfaces", "views"}

ShotType = TypeVar("ShotType")
GetArray = Callable[[Any], np.ndarray]
Reader = Callable[[Any, GetArray], Any]


def _array(value: Any, get_array: GetArray) -> np.ndarray:
    return get_array(value)


def _plain(*kinds: type) -> Reader:
    """Return a reader of values of these types; True and False are no integers here."""

    def read(value: Any, get_array: GetArray) -> Any:
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise TypeError(f"{value!r} is not of the expected type")
        return value

    return read


def _optional(reader: Reader) -> Reader:
    return lambda value, get_array: None if value is None else reader(value, get_array)


def _tuple(*readers: Reader) -> Reader:
    """Return a reader of lists: of any length with one reader, else with a reader for each item."""

    def read(value: Any, get_array: GetArray) -> tuple[Any, ...]:
        each = readers * len(value) if len(readers) == 1 else readers
        return tuple(reader(item, get_array) for reader, item in zip(each, value, strict=True))

    return read


_TEXT, _INTEGER, _FLAG = _plain(str), _plain(int), _plain(bool)
# The keys of each part, in the order of the header, and what reads their values.
_PARTS: dict[type, dict[str, Reader]] = {
    CameraTrack: {
        "name": _TEXT, "sources": _tuple(_TEXT), "intrinsics": _array, "world_to_camera": _array,
        "orthographic": _array, "clip": _array,
    },
    Geometry: {
        "positions": _array, "triangles": _array, "uv": _optional(_array), "origins": _array, "births": _array,
        "start": _INTEGER, "materials": _array, "more_uv": _tuple(_array), "views": _INTEGER,
    },
    MeshTrack: {
        "name": _TEXT, "geometry": _INTEGER, "matrix_world": _array, "visible": _array, "holdout": _FLAG,
        "pass_index": _INTEGER, "changes": _tuple(_tuple(_INTEGER, _INTEGER)), "surfaces": _INTEGER,
    },
    ObjectTrack: {"name": _TEXT, "kind": _TEXT, "matrix_world": _array},
    Surfaces: {"front": _array, "back": _array, "cutouts": _array, "uv_layers": _array},
    Cutout: {"alpha": _array, "opaque": _array, "transform": _array, "extension": _TEXT, "smooth": _FLAG},
}  # fmt: skip
_SHARED = {"triangles", "uv", "origins", "births"}  # geometries that a mesh has again and again share these
_ALWAYS = {"geometries", "meshes", "objects"}  # lists that stand in every header
_LISTS = {
    "geometries": Geometry, "meshes": MeshTrack, "objects": ObjectTrack, "surfaces": Surfaces, "cutouts": Cutout,
    "more_cameras": CameraTrack,
}  # fmt: skip


def encode_shot(shot: Any) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Return the header of a `Shot`, for msgpack or JSON, and its arrays; the inverse of `decode_shot`."""
    arrays: list[np.ndarray] = []
    indices: dict[tuple[int, tuple[int, ...]], int] = {}  # by address and shape, of arrays that geometries may share
    has_changes = any(mesh.changes for mesh in shot.meshes)

    def put(value: Any) -> Any:
        if isinstance(value, tuple):
            return [put(item) for item in value]
        if not isinstance(value, np.ndarray):
            return value
        arrays.append(value.astype(value.dtype.newbyteorder("<"), copy=False))
        return len(arrays) - 1

    def put_shared(value: np.ndarray) -> int:
        key = value.__array_interface__["data"][0], value.shape
        if key not in indices or not value.size:
            indices[key] = put(value)
        return indices[key]

    def put_part(item: Any) -> dict[str, Any]:
        entries = {}
        for key in _PARTS[type(item)]:
            value = getattr(item, key)
            is_array = isinstance(value, np.ndarray)
            if key in _ADDED and not is_array and value == getattr(type(item), key):  # the default
                continue
            entries[key] = put_shared(value) if is_array and has_changes and key in _SHARED else put(value)
        return entries

    header: dict[str, Any] = {
        "version": 1,
        "fps": float(shot.fps),
        "size": list(shot.size),
        "view_layer": shot.view_layer,
        "source": dict(shot.source),
        "frames": put(shot.frame_numbers),
        "camera": put_part(shot.camera),
    }
    for key in _LISTS:
        items = getattr(shot, key)
        if items or key in _ALWAYS:
            header[key] = [put_part(item) for item in items]
    if any(_ADDED & item.keys() for item in (*header["geometries"], *header["meshes"])):
        header["version"] = 2
    if shot.views > 1:
        header["views"] = shot.views
    if shot.views > 1 or shot.more_cameras:
        header["version"] = VERSION
    header["arrays"] = [{"dtype": array.dtype.str, "shape": list(array.shape)} for array in arrays]
    return header, arrays


def array_specs(header: Mapping[str, Any]) -> list[tuple[np.dtype, tuple[int, ...]]]:
    """Return dtype and shape of each array that a header announces. Raise ShotError."""
    version = header.get("version")
    if type(version) is not int or version < 1:
        raise ShotError("damaged-shot", "The shot's header has no valid version.")
    if version > VERSION:
        raise ShotError(
            "shot-too-new",
            f"The shot was written in format {version}; this Trackshade reads up to {VERSION}.",
            "Update Trackshade on this side.",
        )
    specs = []
    for item in _dicts(header, "arrays"):
        dtype, shape = item.get("dtype"), item.get("shape")
        if not isinstance(dtype, str) or dtype not in DTYPES or not isinstance(shape, list) or not 1 <= len(shape) <= 4:
            raise ShotError("damaged-shot", f"The shot's header announces an array of type {dtype!r}.")
        if any(type(n) is not int or n < 0 for n in shape) or math.prod(shape) * 8 > _MAX_BYTES:
            raise ShotError("damaged-shot", f"The shot's header announces an array of shape {shape}.")
        specs.append((np.dtype(dtype), tuple(shape)))
    return specs


def decode_shot(kind: Callable[..., ShotType], header: Mapping[str, Any], arrays: Sequence[np.ndarray]) -> ShotType:
    """Return the shot of a header and its arrays, in which nothing is trusted; the inverse of `encode_shot`.

    `kind` is the class `Shot`, which imports this module.

    Raises:
        ShotError: something is missing, of a wrong type or out of range.
    """
    specs = array_specs(header)
    if [(array.dtype, array.shape) for array in arrays] != specs:
        raise ShotError("damaged-shot", "The shot's arrays are not those that its header announces.")

    def get_array(index: Any) -> np.ndarray:
        if type(index) is not int or not 0 <= index < len(arrays):
            raise ShotError("damaged-shot", f"The shot's header names array {index!r} of {len(arrays)}.")
        return arrays[index]

    def get_part(part: type, item: Mapping[str, Any]) -> Any:
        keys = _PARTS[part].items()
        return part(**{
            key: reader(item[key], get_array)
            for key, reader in keys
            if key not in _ADDED or not hasattr(part, key) or item.get(key) is not None  # else the default
        })  # fmt: skip

    try:
        return kind(
            frame_numbers=get_array(header["frames"]),
            fps=_plain(int, float)(header["fps"], get_array),
            size=(int(header["size"][0]), int(header["size"][1])),
            view_layer=_TEXT(header["view_layer"], get_array),
            source=_plain(dict)(header["source"], get_array),
            camera=get_part(CameraTrack, header["camera"]),
            views=_INTEGER(header.get("views", 1), get_array),
            **{
                key: tuple(get_part(part, item) for item in _dicts(header, key))
                for key, part in _LISTS.items()
                if key in header or key in _ALWAYS
            },
        )
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise ShotError("damaged-shot", f"The shot's header is damaged: {error!r}.") from error


def _dicts(header: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    value = header.get(key)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ShotError("damaged-shot", f"The shot's header has no list of {key}.")
    return value
