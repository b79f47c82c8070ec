# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders a sample of a shot by the scene's own engine, at the model's size and through the shot's camera."""

from __future__ import annotations

import contextlib
import functools
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from trackshade import conventions
from trackshade.errors import ShotError
from trackshade.shot import Shot

from .capture.engines import OWN_ENGINE as OWN_ENGINE  # which others take from here
from .capture.engines import look_engine as look_engine
from .capture.restore import Changes, fix_camera, set_frame, undisturbed
from .capture.visibility import is_plate
from .discard import discard
from .place.compositor import compositor_trees, placed_nodes
from .render.rest import own_render

Picture = NDArray[np.uint8]

_GPU_ENGINES = {"BLENDER_WORKBENCH", "BLENDER_EEVEE", "BLENDER_EEVEE_NEXT"}
_PROBE = """
import bpy
render = bpy.context.scene.render
render.engine, render.resolution_x, render.resolution_y = "BLENDER_WORKBENCH", 8, 8
bpy.ops.render.render()
"""
_FIX = "Give a picture with --first-frame PATH, or choose another render engine."


def render_first_frame(
    shot: Shot, scene: bpy.types.Scene | None = None, view_layer: bpy.types.ViewLayer | None = None
) -> Picture:
    """The shot's first sample as the scene's own engine renders it; see `render_sample`."""
    return render_sample(shot, 0, scene, view_layer)


def render_sample(
    shot: Shot,
    t: int,
    scene: bpy.types.Scene | None = None,
    view_layer: bpy.types.ViewLayer | None = None,
) -> Picture:
    """Renders sample `t` of a shot that was captured from this scene; the scene is left as it was.

    Motion blur, burnt-in metadata, render regions and the sequencer are switched off: the picture must lie exactly
    over the shot's tracks. Plates that Trackshade placed are hidden. The compositor is part of the look and stays,
    except that it writes no files, and that it rests where it would miss other view layers.

    Returns:
        [H, W, 3] uint8, sRGB as the scene's view transform shows it; black where the film is transparent.

    Raises:
        ShotError: the engine cannot render here.
    """
    scene = scene or bpy.context.scene
    assert scene is not None  # Blender always has one
    view_layer = view_layer or scene.view_layers[shot.view_layer]
    engine = look_engine(scene)
    if engine in _GPU_ENGINES and bpy.app.background and not _has_graphics():
        raise ShotError(
            "render-failed",
            f"The scene's engine {_title(engine)} needs graphics, and this machine offers none to a Blender without "
            "a window.",
            "Install EGL and a driver (Debian: libegl1 libgl1-mesa-dri), set the scene's engine to Cycles, or give "
            "a picture with --first-frame PATH.",
        )
    images = set(bpy.data.images)
    try:
        with tempfile.TemporaryDirectory(prefix="trackshade-") as folder, undisturbed(scene) as changes:
            path = Path(folder) / "frame.png"
            set_frame(scene, float(shot.frames[t]))
            _prepare(changes, scene, view_layer, shot.size, path)
            with _camera(shot, t) as camera:
                fix_camera(changes, scene, camera)
                _render(scene, engine)
                if not path.is_file():
                    raise ShotError("render-failed", f"{_title(engine)} rendered the first frame to no file.", _FIX)
                picture = read_picture(path)
                changes.undo()  # before the camera goes
    finally:
        for image in set(bpy.data.images) - images:
            bpy.data.images.remove(image)
    width, height = shot.size
    if picture.shape != (height, width, 3):
        raise ShotError(
            "render-failed",
            f"{_title(engine)} rendered {picture.shape[1]}×{picture.shape[0]} pixels instead of {width}×{height}.",
            _FIX,
        )
    return picture


def read_picture(path: Path) -> Picture:
    """[H, W, 3] uint8 of a picture file as it is displayed (8-bit sRGB), through Blender's reader.

    Raises:
        ShotError: the file is missing or is no picture.
    """
    try:
        image = bpy.data.images.load(str(path), check_existing=False)
    except RuntimeError as error:
        raise ShotError("bad-picture", f"{path} cannot be read as a picture.", "Give a PNG or JPEG file.") from error
    try:
        width, height = image.size
        if not width or not height:
            raise ShotError("bad-picture", f"{path} cannot be read as a picture.", "Give a PNG or JPEG file.")
        pixels = np.empty((height, width, image.channels), np.float32)
        image.pixels.foreach_get(pixels.reshape(-1))  # byte images give their values as stored, bottom row first
        if image.channels < 3:
            pixels = np.repeat(pixels[..., :1], 3, axis=2)
        return np.ascontiguousarray(conventions.to_uint8(pixels[::-1, :, :3]))
    finally:
        discard(image)


def _prepare(
    changes: Changes,
    scene: bpy.types.Scene,
    view_layer: bpy.types.ViewLayer,
    size: tuple[int, int],
    path: Path,
) -> None:
    """Sets the scene up for one plain 8-bit picture of one view layer."""
    render, output = scene.render, scene.render.image_settings
    single = sum(layer.use for layer in scene.view_layers) <= 1 or len(scene.view_layers) == 1
    for layer in scene.view_layers:
        changes.set(layer, "use", layer == view_layer)
    for name, value in {
        "resolution_x": size[0],
        "resolution_y": size[1],
        "resolution_percentage": 100,
        "pixel_aspect_x": 1.0,
        "pixel_aspect_y": 1.0,
        "use_border": False,
        "use_sequencer": False,
        "use_multiview": False,
        "use_motion_blur": False,
        "use_stamp": False,
        "dither_intensity": 0.0,
        "use_file_extension": True,
        "use_overwrite": True,
        "filepath": str(path),
        "engine": look_engine(scene),
    }.items():
        changes.set(render, name, value)
    if not single:
        changes.set(render, "use_compositing", False)
    for node in (node for tree in compositor_trees(scene) for node in tree.nodes):
        if node.type == "OUTPUT_FILE":
            changes.set(node, "mute", True)
    for node in placed_nodes(scene):
        changes.set(node, "mute", True)
    # Depth and colour mode depend on the format, and the format on the medium.
    changes.keep(output, "media_type", "file_format", "color_mode", "color_depth", "color_management")
    if hasattr(output, "media_type"):  # Blender 5.0 and newer
        output.media_type = "IMAGE"
    output.file_format, output.color_mode, output.color_depth = "PNG", "RGB", "8"
    output.color_management = "FOLLOW_SCENE"
    if scene.display_settings.display_device != "sRGB":
        changes.keep(scene.view_settings, "view_transform", "look")
        changes.set(scene.display_settings, "display_device", "sRGB")
    if render.engine == "CYCLES" and not _can_denoise():
        changes.set(scene.cycles, "use_denoising", False)
    for obj in scene.objects:
        if is_plate(obj):
            changes.set(obj, "hide_render", True)


@contextlib.contextmanager
def _camera(shot: Shot, t: int) -> Iterator[bpy.types.Object]:
    """A camera with the shot's intrinsics, for a while; depth of field is that of the camera it was captured from."""
    source = bpy.data.objects.get(shot.camera.sources[t])
    if source is not None and isinstance(source.data, bpy.types.Camera):
        data = source.data.copy()
        data.animation_data_clear()
    else:
        data = bpy.data.cameras.new("Trackshade first frame")
    k = shot.camera.intrinsics[t]
    orthographic = bool(shot.camera.orthographic[t])
    settings = (conventions.ortho_from_intrinsics if orthographic else conventions.lens_from_intrinsics)(k, shot.size)
    camera = bpy.data.objects.new("Trackshade first frame", data)
    try:
        for name, value in settings.items():
            setattr(data, name, value)
        data.clip_start, data.clip_end = (float(distance) for distance in shot.camera.clip[t])
        camera.matrix_world = Matrix(conventions.camera_to_blender(shot.camera.world_to_camera[t]).tolist())
        yield camera
    finally:
        bpy.data.objects.remove(camera)
        bpy.data.cameras.remove(data)


def _render(scene: bpy.types.Scene, engine: str) -> None:
    try:
        with own_render():
            result = bpy.ops.render.render(write_still=True, use_viewport=False, scene=scene.name)
    except RuntimeError as error:  # what Blender's operators raise, whatever went wrong inside
        lines = [line.strip().removeprefix("Error:").strip() for line in str(error).splitlines() if line.strip()]
        said = lines[-1].rstrip(".") if lines else "no reason was given"
        raise ShotError("render-failed", f"{_title(engine)} cannot render the first frame: {said}.", _FIX) from error
    if "FINISHED" not in result:
        raise ShotError("render-failed", f"{_title(engine)} stopped before the first frame was rendered.", _FIX)


def _can_denoise() -> bool:
    """Whether this Blender was built with the denoiser; without, Cycles fails instead of doing without."""
    import _cycles

    return getattr(_cycles, "with_openimagedenoise", True)


@functools.cache
def _has_graphics() -> bool:
    """Whether a Blender without a window can use the graphics driver.

    Where there is none, Blender's rasterising engines end their whole process, so another process tries it.
    """
    binary = bpy.app.binary_path  # empty where bpy is a Python module
    command = [binary, "-b", "--factory-startup", "--python-expr"] if binary else [sys.executable, "-c"]
    try:
        done = subprocess.run([*command, _PROBE], capture_output=True, timeout=300, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _title(engine: str) -> str:
    return engine.removeprefix("BLENDER_").removesuffix("_NEXT").capitalize()
