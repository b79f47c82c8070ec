# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras of a shot for other systems: nerfstudio's transforms.json, and arrays for camera-controlled models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from trackshade.control.scene import ShotRaster
from trackshade.core.errors import ShotError
from trackshade.core.geometry import camera_to_blender
from trackshade.results.frames import write_png
from trackshade.shot import Shot
from trackshade.shot.cameras import camera_file_names, unroll_cameras

_CLOUD_FRAMES = 9  # frames that the point cloud is taken from
POINT_CLOUD = "sparse_pc.ply"


def write_nerfstudio(
    shot: Shot,
    folder: Path,
    images: Sequence[Path | None],
    points: int,
    read_image: Callable[[Path], np.ndarray],
    report: Callable[[int], None] = lambda done: None,
) -> None:
    """Write `transforms.json`, `sparse_pc.ply` and, where images are given, `images/`.

    Cameras are camera-to-world matrices with x right, y up and z backwards; the world has Z up, as in Blender. Images
    of several cameras are in `images/CAMERA/`, and each has the `time` of its frame, from 0 to 1; cells without an
    image are left out.

    Args:
        shot: the shot, as it was captured.
        folder: an empty folder.
        images: an image for each sample of the unrolled shot, which is copied, or converted to PNG if it is OpenEXR;
            or none.
        points: number of points of the point cloud, which is taken from up to nine frames.
        read_image: reads an image, [H, W, 3] uint8.
        report: called with the number of frames that are done.

    Raises:
        ShotError: a camera is orthographic, or there is another number of images than of frames.

    Source: docs.nerf.studio, "Data conventions".
    """
    names, shot = camera_file_names(shot.cameras), unroll_cameras(shot)
    _refuse_orthographic(shot, "nerfstudio")
    count, views = len(shot.frame_numbers), shot.views
    if images and len(images) != count:
        raise ShotError(
            "image-count",
            f"There are {len(images)} images for {count} frames.",
            "Give a folder with one image for each frame of the shot.",
        )
    for name in names if views > 1 else [""]:
        (folder / "images" / name).mkdir(parents=True)
    last = max(1, count // views - 1)
    frames = []
    for t, matrix in enumerate(camera_to_blender(shot.camera.world_to_camera)):
        report(t // views + 1)
        source = images[t] if images else None
        if images and source is None:
            continue
        file = f"images/{names[t % views] + '/' if views > 1 else ''}{t // views + 1:04d}"
        is_linear = source is not None and source.suffix.lower() == ".exr"  # which nerfstudio does not read
        file += source.suffix.lower() if source and not is_linear else ".png"
        if source is not None and is_linear:
            write_png(folder / file, read_image(source))
        elif source is not None:
            shutil.copyfile(source, folder / file)
        k = shot.camera.intrinsics[t]
        lens = {"fl_x": k[0, 0], "fl_y": k[1, 1], "cx": k[0, 2], "cy": k[1, 2]}
        frame = {"file_path": file, "transform_matrix": matrix.tolist(), **{n: float(v) for n, v in lens.items()}}
        frames.append(frame if views == 1 else {**frame, "time": t // views / last})
    places, colors = _point_cloud(shot, points, images, read_image)
    _write_ply(folder / POINT_CLOUD, places, colors)
    data = {
        "camera_model": "OPENCV",
        "w": shot.size[0],
        "h": shot.size[1],
        **dict.fromkeys(("k1", "k2", "p1", "p2"), 0.0),
        "ply_file_path": POINT_CLOUD,
        "frames": frames,
    }
    (folder / "transforms.json").write_text(json.dumps(data, indent=1), encoding="utf-8")


def camera_arrays(shot: Shot) -> dict[str, np.ndarray]:
    """Return the camera path as `c2w` [F, 4, 4] float32 and `intrinsics` [F, 3, 3] float32.

    Poses are camera to world relative to the first frame, whose pose is the identity, with x right, y down and z
    forward; lengths are metres. Intrinsics are in pixels of the shot's image.

    Raises:
        ShotError: the camera is orthographic.

    Source: `SanaWMPipeline` of diffusers; GEN3C and others take the same matrices.
    """
    _refuse_orthographic(shot, "camera-controlled models")
    poses = shot.camera.world_to_camera[0] @ np.linalg.inv(shot.camera.world_to_camera)
    return {"c2w": poses.astype(np.float32), "intrinsics": shot.camera.intrinsics.astype(np.float32)}


def _refuse_orthographic(shot: Shot, what: str) -> None:
    if shot.camera.orthographic.any():
        raise ShotError(
            "orthographic-camera",
            f"Camera '{shot.camera.name}' is orthographic, which {what} cannot express.",
            "Use a perspective camera.",
        )


def _point_cloud(
    shot: Shot, count: int, images: Sequence[Path | None], read_image: Callable[[Path], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return world positions [N, 3] and colors [N, 3] uint8 of points on visible surfaces; gray without images."""
    raster, rng = ShotRaster(shot), np.random.default_rng(0)
    frames = len(shot.frame_numbers) // shot.views
    step = max(1, -(-frames // _CLOUD_FRAMES)) * shot.views
    samples = [t + view for t in range(0, len(shot.frame_numbers), step) for view in range(shot.views)]
    samples = [t for t in samples if not images or images[t] is not None]
    places, colors = [np.zeros((0, 3))], [np.zeros((0, 3), np.uint8)]
    for t in samples:
        depth = raster.draw(t).depth
        rows, columns = np.nonzero(np.isfinite(depth))
        chosen = rng.permutation(len(rows))[: -(-count // len(samples))]
        rows, columns = rows[chosen], columns[chosen]
        rays = np.column_stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
        local = rays @ np.linalg.inv(shot.camera.intrinsics[t]).T * depth[rows, columns, None]
        matrix = np.linalg.inv(shot.camera.world_to_camera[t])
        places.append(local @ matrix[:3, :3].T + matrix[:3, 3])
        source = images[t] if images else None
        image = np.full((*depth.shape, 3), 128, np.uint8) if source is None else read_image(source)
        if image.shape[:2] != depth.shape:
            raise ShotError(
                "image-size",
                f"{source} has another size than the shot, {shot.size[0]}×{shot.size[1]} pixels.",
                "Give images of the shot's size.",
            )
        colors.append(image[rows, columns, :3])
    return np.concatenate(places)[:count], np.concatenate(colors)[:count]


def _write_ply(path: Path, places: np.ndarray, colors: np.ndarray) -> None:
    """Write a binary PLY file of colored points."""
    names = ["x", "y", "z", "red", "green", "blue"]
    rows = np.zeros(len(places), list(zip(names, ["<f4"] * 3 + ["u1"] * 3, strict=True)))
    for name, values in zip(names, [*places.T, *colors.T], strict=True):
        rows[name] = values
    kinds = ["float"] * 3 + ["uchar"] * 3
    properties = [f"property {kind} {name}" for kind, name in zip(kinds, names, strict=True)]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}", *properties, "end_header", ""]
    path.write_bytes("\n".join(header).encode() + rows.tobytes())
