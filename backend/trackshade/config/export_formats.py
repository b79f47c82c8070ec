# SPDX-License-Identifier: GPL-3.0-or-later
"""Formats that `trackshade export` writes for other systems, and the frame counts and sizes that these accept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_WAN_480 = ((832, 480), (480, 832))
_WAN_720 = ((1280, 720), (720, 1280))


@dataclass(frozen=True)
class ExportFormat:
    """A format for another system.

    Attributes:
        description: what is written, in a few words.
        allowed_frame_counts: numbers of frames that the system accepts; empty for any.
        sizes: image sizes (width, height) that it accepts, pixels; empty for any.
        size_step: number that both sides of a size must be multiples of, if `sizes` is empty.
        largest: longer and shorter side of the largest size, if there is a `size_step`.
        points: default number of points that are tracked; 0 if the format has none.
        uses_picture: whether the first frame's picture is part of it.
        file_suffix: suffix of the file that is written; "" for a folder.
        images: whether images of all frames, and of all cameras, are part of it ("optional" or "needed"); "" if not.
    """

    description: str
    allowed_frame_counts: tuple[int, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()
    size_step: int = 1
    largest: tuple[int, int] = (65536, 65536)
    points: int = 0
    uses_picture: bool = False
    file_suffix: str = ""
    images: str = ""


EXPORT_FORMATS: Mapping[str, ExportFormat] = {
    "wan-move": ExportFormat(
        "Wan-Move: tracks and visibility (.npy).", (81,), _WAN_480, points=1024, uses_picture=True
    ),
    "ati": ExportFormat("ATI: trajectories (.pth).", (121,), _WAN_480, points=400, uses_picture=True),
    "vace": ExportFormat(
        "Wan VACE: depth, gray and mask clips.", tuple(range(5, 82, 4)), _WAN_480 + _WAN_720, uses_picture=True
    ),
    "ltx": ExportFormat(
        "LTX: layout, depth and motion track clips.",
        tuple(range(9, 402, 8)),
        size_step=32,
        largest=(1920, 1088),
        points=100,
        uses_picture=True,
    ),
    "exr": ExportFormat("Depth, normals, flow and object index as OpenEXR sequences."),
    "mp4": ExportFormat("Depth, normals, flow and object index as 8-bit videos."),
    "nerfstudio": ExportFormat(
        "nerfstudio: transforms.json, images and a point cloud.", points=20000, images="optional"
    ),
    "splats-usd": ExportFormat(
        "Gaussian splats on the meshes, all frames (.usdc).", points=200_000, file_suffix=".usdc", images="needed"
    ),
    "splats-ply": ExportFormat("Gaussian splats on the meshes, a PLY file per frame.", points=200_000, images="needed"),
    "usd": ExportFormat("Meshes with a texture for each frame (USD).", images="needed"),
    "gltf": ExportFormat("Meshes with one texture each (.glb).", file_suffix=".glb", images="needed"),
    "camera": ExportFormat("Camera path for camera-controlled models: c2w and intrinsics (.npz).", file_suffix=".npz"),
    "npz": ExportFormat("Tracks, camera and transforms as plain arrays (.npz).", points=4900, file_suffix=".npz"),
}
"""Formats by name, without the shot file itself."""

SHOT_FORMAT = "shot"
