# SPDX-License-Identifier: GPL-3.0-or-later
"""What a motion job sends: driving footage, read by a backend task, and where the camera stands around the figure."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Vector

from trackshade.client.job_run import CapturedShot
from trackshade.client.progress import Progress
from trackshade.config import registry
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import ShotError, UsageError
from trackshade.core.fitting import fit_size
from trackshade.core.geometry import world_to_camera
from trackshade.core.images import write_png
from trackshade.motion.camera_words import CameraAngles, angles_of_path, parse_camera_words, relative_to_first
from trackshade.motion.driving_shot import driving_shot, repeat_still
from trackshade.motion.hand_places import HandPlaces, write_hands
from trackshade.motion.request import DrivingRequest

from ..lifting.task import follow_task

READ = "drive"  # name of the backend task


@dataclass(frozen=True, eq=False)
class SceneAngles:
    """Where the scene's camera stands around a center in the frames of a range.

    Attributes:
        frames: [N] scene frames.
        angles: azimuth and elevation in each of them; azimuths count from the first frame.
    """

    frames: np.ndarray
    angles: CameraAngles

    def at(self, frames: np.ndarray) -> CameraAngles:
        """Return the angles in other frames; before and after the range the camera stands still."""
        azimuths = np.interp(frames, self.frames, self.angles.azimuths)
        return CameraAngles(azimuths, np.interp(frames, self.frames, self.angles.elevations))


@dataclass(frozen=True, eq=False)
class MotionOrder:
    """A motion job of a scene.

    Attributes:
        footage: the driving footage.
        request: what of it is used.
        model: name or folder of the motion model.
        camera: a camera move in words, or the scene's camera.
        reference: [H, W, 3] uint8 sRGB, the picture of the figure that moves; None for the request's.
        reference_box: box around the figure in it, pixels; None to find it.
        has_result: whether the figure is shown, else the motion alone is read.
        frames: number of frames of a novel view.
        hands: where the hands are in the footage; None for the request's way to find them.
        seed: random seed.
        steps: number of denoising steps; None for the model's default.
    """

    footage: Path
    request: DrivingRequest
    model: str = registry.MINI_MOTION
    camera: str | SceneAngles = "static"
    reference: np.ndarray | None = None
    reference_box: tuple[float, float, float, float] | None = None
    has_result: bool = True
    frames: int = 16
    hands: HandPlaces | None = None
    seed: int = 0
    steps: int | None = None

    def settings(self) -> ShadeSettings:
        """Return the settings of the job. Raise UsageError if the words name no camera move."""
        is_absolute = isinstance(self.camera, str) and parse_camera_words(self.camera, 2).is_absolute
        origin = "front" if is_absolute else "reference"
        return ShadeSettings(model=self.model, output="motion", seed=self.seed, steps=self.steps, azimuths_from=origin)


def capture_motion(
    order: MotionOrder, scene: bpy.types.Scene, python: str | None
) -> Generator[Progress, None, CapturedShot]:
    """Read the footage in the backend's environment; return what the job sends. Closing it cancels the task.

    Args:
        order: the job.
        scene: the scene, whose frames the result is for.
        python: interpreter of the backend's environment; None if there is none.

    Raises:
        UsageError: there is no environment.
        TrackshadeError: as raised by the task.
    """
    if python is None:
        raise UsageError("no-environment", "The backend's environment is not set up.", "Set it up in the preferences.")
    if not order.footage.exists():
        raise ShotError("missing-file", f"There is no file {order.footage}.", "Check the path.")
    spec = registry.motion_spec(order.model)
    about = _describe_scene(scene, spec.sizes[0])  # before anything waits, after which the scene may be gone
    camera = scene.camera.name if scene.camera is not None else "Camera"
    layer, first = scene.view_layers[0].name, float(scene.frame_start)
    rate = scene.render.fps / scene.render.fps_base
    with tempfile.TemporaryDirectory(prefix="trackshade-", ignore_cleanup_errors=True) as folder:
        request = order.request
        if order.reference is not None:
            write_png(Path(folder) / "reference.png", order.reference)
            request = replace(request, reference=str(Path(folder) / "reference.png"), reference_box=order.reference_box)
        if order.hands is not None:
            write_hands(Path(folder) / "hands.json", order.hands)
            request = replace(request, hands=str(Path(folder) / "hands.json"))
        wanted = json.dumps({**request.to_dict(), "model": order.model})
        out = Path(folder) / "clip.npz"
        notes = yield from follow_task(
            python, "reading", order.footage.name, READ, str(order.footage), wanted, str(out)
        )
        with np.load(out, allow_pickle=False) as stored:
            frames, reference, hands = stored["frames"], stored["reference"], stored.get("hands")
    count = order.frames if request.mode == "novel-view" else len(frames)
    frames = np.ascontiguousarray(repeat_still(frames, count))
    hands = None if hands is None else np.ascontiguousarray(repeat_still(hands, count))
    numbers = first + np.arange(count) * rate / spec.fps
    is_words = isinstance(order.camera, str)
    angles = parse_camera_words(order.camera, count) if isinstance(order.camera, str) else order.camera.at(numbers)
    driving = {
        **order.request.to_dict(),
        **{name: notes[name] for name in ("start", "box")},
        "hands": order.request.hands if order.hands is None else "armature",
        "footage": str(order.footage),
        "camera": order.camera if is_words else "scene",
    }
    source = {**about, "driving": driving, "warnings": list(notes["warnings"])}
    shot = driving_shot(angles, spec.sizes[0], spec.fps, frame_numbers=numbers, source=source, camera=camera)
    shot = replace(shot, view_layer=layer)
    return CapturedShot(shot, reference if order.has_result else None, frames, hands=hands)


def scene_angles(
    scene: bpy.types.Scene, center: bpy.types.Object | None
) -> Generator[tuple[int, int], None, SceneAngles]:
    """Step through the scene's frames to see where its camera stands around an object, or around the 3D cursor.

    The current frame is set again at the end, and when the generator is closed.

    Raises:
        UsageError: the scene has no camera.
        ShotError: the camera is in the center.
    """
    before, frames = scene.frame_current, range(scene.frame_start, scene.frame_end + 1)
    views, centers = [], []
    try:
        for frame in frames:
            scene.frame_set(frame)
            if scene.camera is None:
                raise UsageError("no-camera", f"Scene '{scene.name}' has no camera.", "Add one.")
            views.append(world_to_camera(np.array(scene.camera.matrix_world)))
            centers.append(tuple(scene.cursor.location if center is None else center.matrix_world.translation))
            yield len(views), len(frames)
    finally:
        scene.frame_set(before)
    angles = relative_to_first(angles_of_path(np.array(views), np.array(centers)))
    return SceneAngles(np.array(frames, np.float64), angles)


def box_in_render(
    scene: bpy.types.Scene, center: bpy.types.Object | None, size: tuple[int, int]
) -> tuple[float, float, float, float] | None:
    """Return the box around an object and what hangs on it in a render of the current frame, pixels; None if unseen.

    Args:
        scene: the scene, which has a camera.
        center: the object, such as an armature; None gives None.
        size: (width, height) of the render.
    """
    if center is None:
        return None
    places = []
    for item in (center, *center.children_recursive):
        if item.type == "MESH" and not item.hide_render:
            for corner in item.bound_box:
                seen = world_to_camera_view(scene, scene.camera, item.matrix_world @ Vector(corner))
                if seen.z > 0:
                    places.append((seen.x * size[0], (1 - seen.y) * size[1]))
    if not places:
        return None
    low, high = np.clip(np.min(places, axis=0), 0, size), np.clip(np.max(places, axis=0), 0, size)
    box = float(low[0]), float(low[1]), float(high[0]), float(high[1])
    return box if (high - low).min() > 2 else None


def _describe_scene(scene: bpy.types.Scene, size: tuple[int, int]) -> dict[str, Any]:
    """Return what the record says about the scene, and where the result's frames lie in the frame of its camera."""
    render = scene.render
    percentage = render.resolution_percentage / 100
    full = max(1, int(render.resolution_x * percentage)), max(1, int(render.resolution_y * percentage))
    fit = fit_size(full, (render.pixel_aspect_x, render.pixel_aspect_y), [size], "crop")
    return {
        "file": bpy.data.filepath,
        "scene": scene.name,
        "blender": bpy.app.version_string,
        "size_fit": fit.to_dict(),
    }
