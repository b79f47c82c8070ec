# SPDX-License-Identifier: GPL-3.0-or-later
"""Camera control: photos are lifted, captured by Blender from a camera that moves, and shaded.

The camera is measured in the frames of the result: features of the photo are found in them, and their true depth gives
the camera (perspective-n-point). Eight motions, each small and large, are written in the published motion grammar.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trackshade.cli.blender import run_addon
from trackshade.config import parsing
from trackshade.core.camera_motion import parse_camera_motion
from trackshade.core.colors import to_uint8
from trackshade.core.images import psnr, write_png
from trackshade.propagation import KeyPicture, Propagation
from trackshade.shot import Shot

from ..rendered import OnMessage
from .measures import camera_error
from .stages import Array, Stage, handles_of

Geometry = Literal["depth", "handles"]
FRAMES = 9
AMOUNTS: Mapping[str, tuple[float, float]] = {"small": (0.06, 5.0), "large": (0.25, 20.0)}
"""Share of the median depth that the camera moves by, and degrees of an orbit."""
PAPER: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "MotionCtrl": {"small": (8.92, 44.23), "large": (39.86, 67.05)},
    "CameraCtrl": {"small": (7.82, 42.31), "large": (29.70, 66.76)},
    "Diffusion as Shader": {"small": (5.97, 27.85), "large": (10.40, 37.17)},
}
"""Published errors of rotation and direction, degrees: Gu et al. 2025 (arXiv 2501.03847), table 1."""
_LEAST = 0.01  # of the median depth: a shorter way has no direction
_SHOWN = ("orbit", "right")  # motions in the pictures


def motions(distance: float, size: str) -> dict[str, str]:
    """Return eight motions of a camera whose subject is `distance` metres away, in the published grammar.

    `trans` moves the scene in front of the camera, so that the camera moves the other way.
    """
    share, degrees = AMOUNTS[size]
    step = share * distance
    around = f"trans 0 0 {distance:.4f}", f"trans 0 0 {-distance:.4f}"
    return {
        "forward": f"trans 0 0 {-step:.4f}",
        "backward": f"trans 0 0 {step:.4f}",
        "left": f"trans {step:.4f} 0 0",
        "right": f"trans {-step:.4f} 0 0",
        "up": f"trans 0 {step:.4f} 0",
        "orbit": f"{around[0]} 0 0; rot y {degrees:g}; {around[1]} 0 0",
        "rise and tilt": f"rot x {degrees / 2:g}; trans 0 {step / 2:.4f} {step / 2:.4f}",
        "spiral": f"spiral {5 * step:.4f}",
    }


def measure_control(stage: Stage, geometry: Geometry, out: Path, on_message: OnMessage) -> list[dict[str, Any]]:
    """Measure the camera of results of all motions.

    Args:
        stage: the true scene.
        geometry: whether the photo is lifted with its true depth, or by its true horizon, back wall and focal length.
        out: folder of the report.
        on_message: called with what is measured.

    Returns:
        A record for each motion and each of its frames that is measured.

    Raises:
        TrackshadeError: as raised by lifting, the capture and propagation.
    """
    folder = out / "control" / f"{stage.name}-{geometry}"
    folder.mkdir(parents=True, exist_ok=True)
    photo = stage.picture(stage.world_to_camera) if stage.render is None else stage.render
    scene = _lift(stage, geometry, folder, photo)
    depth = stage.depth(stage.world_to_camera)
    distance = float(np.median(depth[np.isfinite(depth)]))
    records = []
    for size in AMOUNTS:
        for name, text in motions(distance, size).items():
            matrices = parse_camera_motion(text, FRAMES)
            samples = [t for t in (FRAMES // 2, FRAMES - 1) if _length(matrices[t]) > _LEAST * distance]
            shot = _capture(scene, text, folder / "motion.shot")
            frames = _shade(shot, photo, samples)
            for t, frame in zip(samples, frames, strict=True):
                found = camera_error(stage, photo, depth, frame, matrices[t])
                record = {"scene": stage.name, "geometry": geometry, "size": size, "motion": name, "frame": t}
                record |= {"rotation": found[0], "direction": found[1]}
                records.append(record | _compare_with_truth(stage, photo, depth, frame, matrices[t]))
            shown = ", ".join(f"{value:.2f}°" for value in (records[-1]["rotation"], records[-1]["direction"]))
            on_message(f"{stage.name}, {geometry}, {size}, {name}: {shown}")
            if name in _SHOWN:
                _write_sheet(
                    out / "pictures" / f"{folder.name}-{name}-{size}.png", stage, photo, frames[-1], matrices[-1]
                )
    return records


def _lift(stage: Stage, geometry: Geometry, folder: Path, photo: NDArray[np.uint8]) -> Path:
    """Lift a photo to a scene file, as `trackshade lift` does."""
    picture, scene = folder / "photo.png", folder / "scene.blend"
    write_png(picture, photo)
    values: dict[str, Any] = {"image": str(picture), "out": str(scene), "force": True, "length": FRAMES}
    if geometry == "depth":
        np.save(folder / "depth.npy", stage.depth(stage.world_to_camera))
        fov = 2 * math.degrees(math.atan(stage.size[0] / 2 / stage.intrinsics[0, 0]))
        values |= {"depth": str(folder / "depth.npy"), "fov": fov}
    else:
        handles, height = handles_of(stage)
        (folder / "handles.json").write_text(json.dumps(handles.to_dict()), encoding="utf-8")
        values |= {"handles": str(folder / "handles.json"), "camera_height": height}
        values["box"] = [",".join(f"{value:.2f}" for value in box) for box in stage.objects]
    run_addon(parsing.to_arguments("lift", values), None, lambda message: None)
    return scene


def _capture(scene: Path, motion: str, path: Path) -> Shot:
    """Capture a scene whose camera moves."""
    values = {"scene": str(scene), "camera_motion": motion, "first_frame": "none", "out": str(path), "force": True}
    run_addon(parsing.to_arguments("export", values), None, lambda message: None)
    return Shot.load(path)


def _shade(shot: Shot, photo: NDArray[np.uint8], samples: Sequence[int]) -> list[NDArray[np.uint8]]:
    """Carry the photo to some frames."""
    propagation = Propagation(shot, [KeyPicture(0, photo)], threads=1)
    propagation.prepare()
    return [to_uint8(propagation.frame(t).image) for t in samples]


def _compare_with_truth(
    stage: Stage, photo: NDArray[np.uint8], depth: Array, frame: NDArray[np.uint8], motion: Array
) -> dict[str, float]:
    """Return the errors that the same measurement has on the true picture, and PSNR; nothing of rendered photos."""
    if stage.render is not None:
        return {}
    truth = stage.picture(motion @ stage.world_to_camera)
    rotation, direction = camera_error(stage, photo, depth, truth, motion)
    return {"floor_rotation": rotation, "floor_direction": direction, "psnr": psnr(frame, truth)}


def _length(motion: Array) -> float:
    """Return how far a motion takes the camera."""
    return float(np.linalg.norm(motion[:3, :3].T @ motion[:3, 3]))


def _write_sheet(path: Path, stage: Stage, photo: NDArray[np.uint8], frame: NDArray[np.uint8], motion: Array) -> None:
    """Write the photo, the result, and what the moved camera truly sees."""
    path.parent.mkdir(parents=True, exist_ok=True)
    views = [photo, frame, stage.picture(motion @ stage.world_to_camera)]
    write_png(path, np.concatenate(views, axis=1))


def control_table(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the errors by scene and size of the motions, beside the published ones, as Markdown."""
    lines = [
        "| camera control | rotation °, small | worst | direction °, small | worst "
        "| rotation °, large | worst | direction °, large | worst |",
        "|---" * 9 + "|",
    ]
    groups = dict.fromkeys((record["scene"], record["geometry"]) for record in records)
    for scene, geometry in groups:
        cells = []
        for size in AMOUNTS:
            chosen = [row for row in records if (row["scene"], row["geometry"], row["size"]) == (scene, geometry, size)]
            for key in ("rotation", "direction"):
                values = np.array([row[key] for row in chosen], np.float64)
                cells += [f"{np.nanmean(values):.2f}", f"{np.nanmax(values):.2f}"]
                if lost := int(np.isnan(values).sum()):
                    cells[-1] += f" ({lost} not found)"
        lines.append(f"| {scene}, {geometry} | {' | '.join(cells)} |")
    floors = [row for row in records if "floor_rotation" in row and row["geometry"] == "depth"]
    if floors:
        cells = []
        for size in AMOUNTS:
            for key in ("floor_rotation", "floor_direction"):
                values = np.array([row[key] for row in floors if row["size"] == size], np.float64)
                cells += [f"{np.nanmean(values):.2f}", f"{np.nanmax(values):.2f}"]
        lines.append(f"| true pictures of the rooms | {' | '.join(cells)} |")
    for name, published in PAPER.items():
        cells = [f"{value:.2f} | " for size in AMOUNTS for value in published[size]]
        lines.append(f"| {name}, published | {' | '.join(cells)} |")
    return "\n".join(lines)
