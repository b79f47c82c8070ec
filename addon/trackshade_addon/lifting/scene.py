# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds a lifted scene: camera, meshes that show the photo, render settings, and the settings of the next job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

from trackshade.core.errors import ShotError
from trackshade.core.geometry import camera_to_blender, perspective_camera_settings
from trackshade.shot.lift_request import LiftRequest
from trackshade.shot.lifted import LiftedMesh, LiftedScene
from trackshade.shot.track_request import TrackRequest

from ..capture.given_image import color_management, read_image_file
from ..placement.cameras import animate_camera
from ..placement.collection import stored_path
from ..placement.drivers import drive_by_frame
from .material import load_picture, make_projection_material, pack_picture
from .meshes import make_object
from .triangles import triangulate

POSE = "trackshade_pose"  # on a camera: its matrix_world when it took the picture, row by row
PHOTO_FRAMES = 49  # frames of the scene of a photo: what the published model takes
_NEAR, _FAR = 0.02, 4.0  # clip distances of the camera, times the nearest and the farthest vertex


def build_scene(
    lifted: LiftedScene,
    scene: bpy.types.Scene,
    frames: int = PHOTO_FRAMES,
    request: LiftRequest | TrackRequest | None = None,
) -> tuple[str, ...]:
    """Build a lifted scene in a scene of Blender, whose render settings are replaced.

    Renders of the first frame have the photo's size and its very pixels.

    Args:
        lifted: the lifted scene. That of a video names in its notes, as "picture", an image of the picture's frame.
        scene: the scene, usually an empty one.
        frames: number of frames of a photo's scene; a video has its own.
        request: how it was lifted, which the scene remembers.

    Returns:
        Warnings of the lifted scene and of building it.

    Raises:
        ShotError: the picture cannot be read.
    """
    is_video = lifted.fps > 0
    image = _load_footage(lifted) if is_video else load_photo(lifted, scene)
    set_up_renders(lifted, scene, frames)
    camera = make_camera(lifted, scene)
    collection = bpy.data.collections.new(scene.name)
    scene.collection.children.link(collection)
    materials = make_materials(lifted, image, scene)
    for mesh in lifted.meshes:
        obj = make_object(with_surface(mesh, lifted), scene.frame_start, lifted.picture_frame)
        obj.data.materials.append(materials[mesh.one_sided])
        collection.objects.link(obj)
    warnings = (*lifted.warnings, *(_show_footage(camera.data, lifted, scene) if is_video else ()))
    _set_up_job(image, scene)
    if hasattr(scene, "trackshade_lift"):
        scene.trackshade_lift.remember(lifted, request, warnings)
        scene.trackshade_lift.photo = image
    scene.frame_set(scene.frame_start)
    return warnings


def load_photo(lifted: LiftedScene, scene: bpy.types.Scene) -> bpy.types.Image:
    """Load the photo of a lifted scene, with the pixels that a first frame of this file has.

    Raises:
        ShotError: it cannot be read, or has another size.
    """
    _use_standard_view(scene)  # by which scene-linear photos are shown
    picture = read_image_file(Path(lifted.picture), color_management(scene))
    if picture.size != tuple(lifted.size):
        raise _other_size(lifted, picture.size)
    return load_picture(lifted.picture, picture)


def set_up_renders(lifted: LiftedScene, scene: bpy.types.Scene, frames: int) -> None:
    """Set the size, the frames and the render settings with which a picture's pixels are reproduced exactly."""
    render = scene.render
    render.resolution_x, render.resolution_y = lifted.size
    render.resolution_percentage = 100
    aspect = float(lifted.intrinsics[0, 0] / lifted.intrinsics[1, 1])
    render.pixel_aspect_x, render.pixel_aspect_y = max(1.0, 1 / aspect), max(1.0, aspect)
    render.use_border = render.use_motion_blur = render.film_transparent = False
    render.dither_intensity = 0.0
    render.filter_size = 0.01  # pixels: the color at the pixel's center
    render.engine = "CYCLES"  # renders without graphics hardware
    cycles: Any = scene.cycles
    cycles.device, cycles.samples, cycles.use_denoising, cycles.use_adaptive_sampling = "CPU", 1, False, False
    cycles.pixel_filter_type, cycles.filter_width = "BOX", 0.01
    scene.eevee.taa_render_samples = 1
    _use_standard_view(scene)
    if lifted.fps > 0:
        render.fps = max(1, round(lifted.fps))
        render.fps_base = render.fps / lifted.fps
        frames = len(lifted.world_to_camera)
    scene.frame_start, scene.frame_end, scene.frame_step = 1, frames, 1
    if scene.world is None:
        scene.world = bpy.data.worlds.new(scene.name)
        scene.world.color = (0.0, 0.0, 0.0)
        for node in scene.world.node_tree.nodes if scene.world.node_tree is not None else ():  # Blender 5
            if node.type == "BACKGROUND":
                node.inputs["Color"].default_value = (0.0, 0.0, 0.0, 1.0)


def make_camera(lifted: LiftedScene, scene: bpy.types.Scene) -> bpy.types.Object:
    """Make the camera that took the picture the scene's camera; it moves as in the footage."""
    data = bpy.data.cameras.new("Camera")
    camera = bpy.data.objects.new("Camera", data)
    scene.collection.objects.link(camera)
    scene.camera = camera
    set_lens(data, lifted)
    views = lifted.world_to_camera
    pose = camera_to_blender(views[lifted.picture_frame])
    camera[POSE] = pose.ravel().tolist()
    if len(views) == 1:
        camera.matrix_world = Matrix(pose.tolist())
    else:
        animate_camera(camera, views, [float(scene.frame_start + t) for t in range(len(views))])
    return camera


def set_lens(camera: bpy.types.Camera, lifted: LiftedScene) -> None:
    """Give a camera the lens, the shift and the clip distances of a lifted scene."""
    k, (width, height) = lifted.intrinsics, lifted.size
    aspect = k[0, 0] / k[1, 1]
    square = np.diag([1.0, aspect, 1.0]) @ k  # as if pixels were square
    settings: Mapping[str, Any] = perspective_camera_settings(square, (width, height * aspect))
    for name, value in settings.items():
        setattr(camera, name, value)
    depths = [_depths(mesh, lifted) for mesh in lifted.meshes if mesh.positions.size]
    ahead = np.concatenate([depth[depth > 0] for depth in depths]) if depths else np.zeros(0)
    if ahead.size:
        camera.clip_start = max(1e-4, _NEAR * float(ahead.min()))
        camera.clip_end = _FAR * float(ahead.max())
    camera.display_size = 0.1 * float(np.median(ahead)) if ahead.size else 1.0


def make_materials(
    lifted: LiftedScene, image: bpy.types.Image, scene: bpy.types.Scene
) -> dict[bool, bpy.types.Material]:
    """Make the materials that project the picture, by whether they are one-sided."""
    matrix = lifted.intrinsics @ lifted.world_to_camera[lifted.picture_frame, :3]
    return {
        one_sided: make_projection_material(
            material_name(scene, one_sided), image, matrix, lifted.size, scene, one_sided
        )
        for one_sided in sorted({False, *(mesh.one_sided for mesh in lifted.meshes)})
    }


def material_name(scene: bpy.types.Scene, one_sided: bool) -> str:
    """Return the name of a scene's material that projects the picture."""
    return f"{scene.name} wall" if one_sided else scene.name


def with_surface(mesh: LiftedMesh, lifted: LiftedScene) -> LiftedMesh:
    """Return a mesh with triangles: points are joined to a surface, which has tracks and can be shaded."""
    if mesh.kind != "points" or mesh.triangles.size:
        return mesh
    return replace(mesh, triangles=triangulate(mesh, lifted))


def _load_footage(lifted: LiftedScene) -> bpy.types.Image:
    """Return what the footage shows in the picture's frame, as an image that is stored in the file. Raise ShotError."""
    picture = read_image_file(Path(lifted.notes["picture"]), None)
    return pack_picture(f"{Path(lifted.picture).stem} first frame", picture.pixels[..., :3])


def _show_footage(camera: bpy.types.Camera, lifted: LiftedScene, scene: bpy.types.Scene) -> Iterator[str]:
    """Show the footage behind the points in the camera view, in each frame the picture that was tracked.

    Yields:
        A warning where Blender cannot show it as it was tracked.
    """
    path = Path(lifted.picture)
    try:
        clip, movie = bpy.data.movieclips.load(lifted.picture), bpy.data.images.load(lifted.picture)
    except RuntimeError:
        yield f"Blender cannot read {path.name}, so the footage is not shown behind the points."
        return
    rate, size = clip.fps, tuple(clip.size)
    bpy.data.movieclips.remove(clip)
    if size != tuple(lifted.size):
        bpy.data.images.remove(movie)
        yield f"Blender shows {path.name} turned or stretched, so the footage is not shown behind the points."
        return
    movie.source, movie.filepath = "MOVIE", stored_path(path)
    background = camera.background_images.new()
    background.image = movie
    background.display_depth, background.alpha, background.frame_method = "BACK", 1.0, "FIT"
    user = background.image_user
    count = len(lifted.world_to_camera)
    user.frame_start, user.frame_duration, user.use_auto_refresh = scene.frame_start, count, True
    numbers = [1 + round(time * rate) for time in lifted.notes.get("times", ())]  # of the video's frames
    if numbers and numbers != [*range(1, count + 1)]:
        offsets = {scene.frame_start + t: number - 1 - t for t, number in enumerate(numbers)}
        drive_by_frame(user, "frame_offset", offsets)
    camera.show_background_images = True


def _set_up_job(image: bpy.types.Image, scene: bpy.types.Scene) -> None:
    """Use the photo, or the first frame of the footage, as the first frame of the next job."""
    settings: Any = getattr(scene, "trackshade", None)
    if settings is None:  # the add-on is not registered: commands take the first frame as an option
        return
    settings.first_frame, settings.image = "image", image  # stored in the file, which can be moved
    settings.light = "none"  # the photo's light does not move
    settings.use_range = False


def _use_standard_view(scene: bpy.types.Scene) -> None:
    """Show colors as they are."""
    scene.display_settings.display_device = "sRGB"
    view: Any = scene.view_settings
    view.view_transform, view.look = "Standard", "None"
    view.exposure, view.gamma, view.use_curve_mapping = 0.0, 1.0, False
    if hasattr(view, "use_white_balance"):  # Blender 4.3 and newer
        view.use_white_balance = False


def _depths(mesh: LiftedMesh, lifted: LiftedScene) -> np.ndarray:
    row = lifted.world_to_camera[lifted.picture_frame, 2]
    positions = mesh.positions[0 if len(mesh.positions) == 1 else lifted.picture_frame]
    return positions @ row[:3] + row[3]


def _other_size(lifted: LiftedScene, size: tuple[int, int]) -> ShotError:
    (width, height), (wanted, tall) = size, lifted.size
    return ShotError(
        "other-size",
        f"{lifted.picture} has {width}×{height} pixels, and had {wanted}×{tall} when it was lifted.",
        "Lift it again.",
    )
