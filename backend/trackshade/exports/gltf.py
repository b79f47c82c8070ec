# SPDX-License-Identifier: GPL-3.0-or-later
"""Meshes with baked textures as one binary glTF file (.glb), with their motion.

Objects move by animated nodes, deforming meshes by a morph target for each frame. Materials are unlit, since the light
is in the textures. A mesh whose topology changes has the geometry of the first frame.

Source: Khronos, "glTF 2.0 Specification"; extension KHR_materials_unlit.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trackshade.exports.normals import SmoothNormals
from trackshade.results.texture.animate import AnimatedTexture
from trackshade.shot import Shot

_FLOAT, _UINT = 5126, 5125
_TARGETS = {34962: "ARRAY_BUFFER", 34963: "ELEMENT_ARRAY_BUFFER"}
_TO_Y_UP = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float64)
_STILL = 1e-6


class _Buffer:
    """Collects arrays and files in the binary chunk."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def bytes(self, data: bytes, target: int | None = None) -> int:
        self.data.extend(bytes(-len(self.data) % 4))
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data)}
        self.views.append(view if target is None else {**view, "target": target})
        self.data.extend(data)
        return len(self.views) - 1

    def array(self, values: np.ndarray, target: int | None = None) -> int:
        is_index = values.dtype == np.uint32
        values = np.ascontiguousarray(values, "<u4" if is_index else "<f4")
        kind = {1: "SCALAR"}.get(values.ndim, f"VEC{values.shape[-1]}")
        accessor: dict[str, Any] = {
            "bufferView": self.bytes(values.tobytes(), target),
            "componentType": _UINT if is_index else _FLOAT,
            "count": len(values),
            "type": kind,
        }
        if not is_index:
            flat = values.reshape(len(values), -1)
            accessor["min"], accessor["max"] = flat.min(axis=0).tolist(), flat.max(axis=0).tolist()
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def write_gltf(path: Path, shot: Shot, textures: Sequence[AnimatedTexture]) -> None:
    """Write meshes with one texture each, the mean of those of all frames.

    Args:
        path: the .glb file.
        shot: the unrolled shot.
        textures: the textures of the meshes that are written.
    """
    buffer = _Buffer()
    scene: dict[str, list[Any]] = {
        key: [] for key in ("nodes", "meshes", "materials", "textures", "images", "channels", "samplers")
    }
    samples = range(0, len(shot.frame_numbers), shot.views)
    seconds = np.arange(len(samples)) / shot.fps
    times = buffer.array(seconds.astype(np.float32))
    for texture in textures:
        _add_mesh(buffer, scene, shot, texture, list(samples), times)
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "Trackshade"},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": list(range(len(scene["nodes"])))}],
        "samplers": [{"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}],
        "bufferViews": buffer.views,
        "accessors": buffer.accessors,
        "buffers": [{"byteLength": len(buffer.data)}],
        **{key: scene[key] for key in ("nodes", "meshes", "materials", "textures", "images")},
    }
    if scene["channels"]:
        document["animations"] = [{"channels": scene["channels"], "samplers": scene["samplers"]}]
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    data = bytes(buffer.data) + bytes(-len(buffer.data) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(data), 0x004E4942) + data
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)


def _add_mesh(
    buffer: _Buffer, scene: dict[str, list[Any]], shot: Shot, texture: AnimatedTexture, samples: list[int], times: int
) -> None:
    track = shot.meshes[texture.mesh]
    geometry, uv = shot.geometries[track.geometry], texture.uv[track.geometry]
    smooth = SmoothNormals(geometry.at(samples[0]), geometry.triangles)
    corners = np.concatenate(
        [geometry.triangles.reshape(-1, 1), smooth.groups[:, None], uv.reshape(-1, 2)], axis=1, dtype=np.float64
    )
    unique, index = np.unique(corners, axis=0, return_inverse=True)
    vertices, groups = unique[:, 0].astype(np.int64), unique[:, 1].astype(np.int64)
    coordinates = unique[:, 2:] * [1, -1] + [0, 1]  # from the top left corner
    to_y_up = _TO_Y_UP.T.astype(np.float32)

    def shape(t: int) -> dict[str, np.ndarray]:
        points = geometry.at(t)
        return {"POSITION": points[vertices] @ to_y_up, "NORMAL": smooth.at(points)[groups] @ to_y_up}

    first = shape(samples[0])
    primitive: dict[str, Any] = {
        "attributes": {
            **{name: buffer.array(values, 34962) for name, values in first.items()},
            "TEXCOORD_0": buffer.array(coordinates, 34962),
        },
        "indices": buffer.array(index.ravel().astype(np.uint32), 34963),
        "material": len(scene["materials"]),
    }
    mesh: dict[str, Any] = {"name": track.name, "primitives": [primitive]}
    node = len(scene["nodes"])
    channels, samplers = scene["channels"], scene["samplers"]
    if geometry.deforms and len(samples) > 1:
        targets = primitive["targets"] = []
        for t in samples[1:]:
            now = shape(t)
            targets.append({name: buffer.array(now[name] - first[name], 34962) for name in first})
        mesh["weights"] = [0.0] * len(targets)
        weights = np.concatenate([np.zeros((1, len(targets))), np.eye(len(targets))]).ravel()
        channels.append({"sampler": len(samplers), "target": {"node": node, "path": "weights"}})
        samplers.append({"input": times, "output": buffer.array(weights)})
    parts = decompose(track.matrix_world[samples])
    scene["nodes"].append(
        {"name": track.name, "mesh": len(scene["meshes"]), **{name: part[0].tolist() for name, part in parts.items()}}
    )
    scene["meshes"].append(mesh)
    for name, part in parts.items():
        if np.abs(part - part[0]).max() > _STILL:
            channels.append({"sampler": len(samplers), "target": {"node": node, "path": name}})
            samplers.append({"input": times, "output": buffer.array(part)})
    stream = io.BytesIO()
    Image.fromarray(texture.still()).save(stream, "PNG")
    scene["images"].append({"name": track.name, "mimeType": "image/png", "bufferView": buffer.bytes(stream.getvalue())})
    scene["textures"].append({"sampler": 0, "source": len(scene["images"]) - 1})
    scene["materials"].append(
        {
            "name": track.name,
            "pbrMetallicRoughness": {
                "baseColorTexture": {"index": len(scene["textures"]) - 1},
                "metallicFactor": 0.0,
            },
            "extensions": {"KHR_materials_unlit": {}},
            "doubleSided": True,
        }
    )


def decompose(
    matrices: np.ndarray,  # [T, 4, 4] Z up
) -> dict[str, np.ndarray]:
    """Return translation [T, 3], rotation [T, 4] (x, y, z, w) and scale [T, 3] of matrices, Y up; shear is lost."""
    linear = _TO_Y_UP @ matrices[:, :3, :3] @ _TO_Y_UP.T
    scale = np.linalg.norm(linear, axis=1)
    scale[:, 0] *= np.where(np.linalg.det(linear) < 0, -1.0, 1.0)
    u, _, v = np.linalg.svd(linear / np.where(np.abs(scale) > 1e-12, scale, 1.0)[:, None, :])
    turn = u @ v
    rotation = np.stack([_quaternion(matrix) for matrix in turn])
    for n in range(1, len(rotation)):
        if rotation[n] @ rotation[n - 1] < 0:
            rotation[n] = -rotation[n]
    return {"translation": matrices[:, :3, 3] @ _TO_Y_UP.T, "rotation": rotation, "scale": scale}


def _quaternion(m: np.ndarray) -> np.ndarray:
    """Return the quaternion (x, y, z, w) of a rotation, as the eigenvector of Bar-Itzhack's matrix (2000)."""
    k = np.array(
        [
            [m[0, 0] - m[1, 1] - m[2, 2], m[1, 0] + m[0, 1], m[2, 0] + m[0, 2], m[2, 1] - m[1, 2]],
            [m[1, 0] + m[0, 1], m[1, 1] - m[0, 0] - m[2, 2], m[2, 1] + m[1, 2], m[0, 2] - m[2, 0]],
            [m[2, 0] + m[0, 2], m[2, 1] + m[1, 2], m[2, 2] - m[0, 0] - m[1, 1], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], m[0, 0] + m[1, 1] + m[2, 2]],
        ]
    )
    return np.linalg.eigh(k)[1][:, -1]
