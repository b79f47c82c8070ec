# SPDX-License-Identifier: GPL-3.0-or-later
"""The camera of each sample: Blender's settings, converted by `trackshade.core.geometry` to a track."""

from __future__ import annotations

from collections.abc import Sequence

import bpy
import numpy as np

from trackshade.core import geometry
from trackshade.core.errors import ShotError, UsageError
from trackshade.core.fitting import SizeFit
from trackshade.shot import CameraTrack

from .transforms import TransformTrack


def camera_intrinsics(camera: bpy.types.Camera, name: str, fit: SizeFit) -> np.ndarray:
    """Intrinsics of a camera.

    Args:
        camera: the camera's data.
        name: the camera's name, for the error.
        fit: fits the render's frame to the image of the shot.

    Returns:
        [3, 3] in pixels of the shot's image; in pixels per metre for an orthographic camera.

    Raises:
        ShotError: the camera is panoramic or of another type without an image plane.
    """
    frame = {
        "sensor_fit": camera.sensor_fit,
        "shift_x": camera.shift_x,
        "shift_y": camera.shift_y,
        "size": fit.source,
        "pixel_aspect": fit.pixel_aspect,
    }
    if camera.type == "ORTHO":
        return fit.apply(geometry.orthographic_intrinsics(ortho_scale=camera.ortho_scale, **frame))
    if camera.type == "PERSP":
        sensor = {"sensor_width": camera.sensor_width, "sensor_height": camera.sensor_height}
        return fit.apply(geometry.intrinsics(lens=camera.lens, **sensor, **frame))
    kind = "panoramic" if camera.type == "PANO" else f"of type {camera.type.lower()}"
    raise ShotError(
        "panoramic-camera",
        f"Camera '{name}' is {kind}; tracks need a perspective or an orthographic one.",
        "Set the camera's lens type to Perspective or Orthographic, or choose another camera.",
    )


def no_camera_error(scene: bpy.types.Scene) -> ShotError:
    """Return the error for a scene without a camera."""
    fix = "Add one, name one with --camera, or let --camera auto make one."
    return ShotError("no-camera", f"Scene '{scene.name}' has no camera.", fix)


class CameraBuilder:
    """Builds the camera's track, sample by sample.

    Args:
        total: number of samples.
        fit: fits the render's frame to the image of the shot.
    """

    def __init__(self, total: int, fit: SizeFit) -> None:
        self._fit = fit
        self._frames: list[float] = []
        self._sources: list[str] = []
        self._matrices = TransformTrack(total)  # camera to world, Blender's axes
        self._intrinsics = np.empty((total, 3, 3), np.float64)
        self._orthographic = np.empty(total, np.bool_)
        self._clip = np.empty((total, 2), np.float64)
        self._known: dict[tuple[object, ...], np.ndarray] = {}  # by settings, which rarely change

    def add_sample(self, t: int, frame: float, camera: bpy.types.Object | None, depsgraph: bpy.types.Depsgraph) -> None:
        """Reads sample `t`, in which the original object `camera` is the scene's camera.

        Raises:
            ShotError: there is no camera, or it has no image plane.
        """
        if camera is None:
            raise no_camera_error(depsgraph.scene)
        evaluated = camera.evaluated_get(depsgraph)
        data = evaluated.data
        if not isinstance(data, bpy.types.Camera):
            raise ShotError(
                "no-camera",
                f"The scene is seen through '{camera.name}' at frame {frame:g}, which is no camera.",
                "Make a camera object the scene's camera.",
            )
        settings = (
            *(data.type, data.sensor_fit, data.sensor_width, data.sensor_height, data.lens, data.ortho_scale),
            *(data.shift_x, data.shift_y),
        )
        k = self._known.get(settings)
        if k is None:
            k = self._known[settings] = camera_intrinsics(data, camera.name, self._fit)
        self._frames.append(frame)
        self._sources.append(camera.name)
        self._matrices.set(t, evaluated.matrix_world)
        self._intrinsics[t] = k
        self._orthographic[t] = data.type == "ORTHO"
        self._clip[t] = data.clip_start, data.clip_end

    def track(self) -> CameraTrack:
        """The track of all samples.

        Raises:
            ShotError: in some frame the camera is scaled to zero or its transform is not finite.
        """
        matrices = self._matrices.finish()
        valid = np.isfinite(matrices).all(axis=(1, 2)) & matrices[:, :3, :3].any(axis=1).all(axis=1)
        if not valid.all():
            t = int(np.argmin(valid))
            raise ShotError(
                "bad-camera",
                f"Camera '{self._sources[t]}' is scaled to nothing or has no finite transform at frame "
                f"{self._frames[t]:g}.",
                "Give the camera and its parents a scale above zero.",
            )
        is_static = np.array_equal(matrices, np.broadcast_to(matrices[:1], matrices.shape))
        inverse = geometry.world_to_camera(matrices[:1] if is_static else matrices)
        return CameraTrack(
            name=self._sources[0],
            sources=tuple(self._sources),
            intrinsics=self._intrinsics,
            world_to_camera=np.broadcast_to(inverse, matrices.shape).copy(),
            orthographic=self._orthographic,
            clip=self._clip,
        )


def sees(camera: CameraTrack, size: tuple[int, int], t: int, corners: np.ndarray) -> bool:  # corners [8, 3]
    """Whether a box may be visible in the image of sample `t`.

    False is certain: all corners are beyond one side of the camera's frustum. True may be wrong for a box beside an
    edge of the image.

    Args:
        camera: the camera's track.
        size: width and height of the image in pixels.
        t: index of the sample.
        corners: corners of the box, in the world.
    """
    matrix, k = camera.world_to_camera[t], camera.intrinsics[t]
    x, y, z = (corners @ matrix[:3, :3].T + matrix[:3, 3]).T
    near, far = camera.clip[t]
    if np.all(z < near) or np.all(z > far):
        return False
    depth = 1.0 if camera.orthographic[t] else z
    u = k[0, 0] * x + k[0, 2] * depth  # pixels times depth, which avoids dividing by a depth near zero
    v = k[1, 1] * y + k[1, 2] * depth
    beyond = (u < 0, v < 0, u > size[0] * depth, v > size[1] * depth)
    return not any(np.all(side) for side in beyond)


def find_view_layer(scene: bpy.types.Scene, name: str | None) -> bpy.types.ViewLayer:
    """Returns a view layer by its name, or the active one. Raises UsageError if there is none of this name."""
    if name is None:
        return bpy.context.view_layer if scene == bpy.context.scene else scene.view_layers[0]
    if name not in scene.view_layers:
        known = ", ".join(layer.name for layer in scene.view_layers)
        raise UsageError("unknown-view-layer", f"The scene has no view layer '{name}'.", f"It has: {known}.")
    return scene.view_layers[name]


def find_more_cameras(
    scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, first: str | None, more: Sequence[str]
) -> list[bpy.types.Object]:
    """Returns the further cameras of a shot.

    Args:
        scene: the scene.
        view_layer: the view layer, which must have them.
        first: name of the shot's own camera, if it has one.
        more: names of the further ones.

    Raises:
        ShotError: there is no such camera, or not in the view layer.
        UsageError: one is named twice.
    """
    if more:
        view_layer.update()  # so that Blender knows which objects it contains
    names = [first, *more]
    for name in more:
        if names.count(name) > 1:
            raise UsageError("same-camera", f"Camera '{name}' is named twice.", "Name each camera once.")
        if name not in view_layer.objects:
            find_camera(scene, name)
            raise ShotError(
                "camera-not-in-layer",
                f"Camera '{name}' is not in view layer '{view_layer.name}', so it is not animated there.",
                "Move it to a collection that the view layer uses.",
            )
    return [find_camera(scene, name) for name in more]


def find_camera(scene: bpy.types.Scene, name: str) -> bpy.types.Object:
    """Returns a camera of a scene by its name. Raises ShotError if there is none."""
    camera = scene.objects.get(name)
    if camera is None or not isinstance(camera.data, bpy.types.Camera):
        known = ", ".join(sorted(item.name for item in scene.objects if item.type == "CAMERA")) or "none"
        raise ShotError("no-camera", f"The scene has no camera named '{name}'.", f"It has: {known}.")
    return camera
