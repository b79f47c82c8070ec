# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders samples of a shot with the scene's render engine, at the shot's size and with its camera."""

from __future__ import annotations

import contextlib
import functools
import logging
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import NamedTuple

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from trackshade.core import colors, geometry
from trackshade.core.errors import ShotError
from trackshade.core.processes import blender, this_python
from trackshade.shot import Shot

from .animation import curves
from .render_guard import disable_outputs, discard, keep_frames, own_render, placed_nodes, spare_slot
from .render_state import RenderState
from .restore import Changes, fix_camera, preserve_scene
from .scene_settings import first_frame_engine
from .simulations import simulations
from .stepping import Stepper, Steps, finish
from .visibility import is_plate

Picture = NDArray[np.uint8]

_log = logging.getLogger(__name__)

_GPU_ENGINES = {"BLENDER_WORKBENCH", "BLENDER_EEVEE", "BLENDER_EEVEE_NEXT"}
_PROBE = """
import bpy
render = bpy.context.scene.render
render.engine, render.resolution_x, render.resolution_y = "BLENDER_WORKBENCH", 8, 8
bpy.ops.render.render()
"""
_FIX = "Give a picture with --first-frame PATH, or choose another render engine."


def render_sample(
    shot: Shot,
    t: int,
    scene: bpy.types.Scene | None = None,
    view_layer: bpy.types.ViewLayer | None = None,
    keep_played: bool = True,
) -> Picture:
    """Renders sample `t` of a shot, [H, W, 3] uint8, and restores the scene. See `SampleRenderer`.

    Raises:
        ShotError: the engine cannot render here.
    """
    with SampleRenderer(shot, scene, view_layer, keep_played) as renderer:
        return finish(renderer.render(t))


class SampleRenderer:
    """Renders samples of a shot that was captured from a scene. The end of the `with` block restores the scene.

    Motion blur, burnt-in metadata, render regions and the sequencer are disabled, since the image must match the shot's
    tracks exactly. Plates that Trackshade placed are hidden. The compositor is applied, unless it would lack other view
    layers. No other files are written, no render handlers run, and the user's render slots are kept (`render_guard`).

    Simulations that are not baked are stepped from one sample to the next: a render does not simulate, but shows the
    frames that the viewport's evaluation simulated.

    Args:
        shot: the shot.
        scene: the scene; None for the context's.
        view_layer: the view layer; None for the shot's.
        keep_played: as for `Capture`, so that images match the shot.
    """

    def __init__(
        self,
        shot: Shot,
        scene: bpy.types.Scene | None = None,
        view_layer: bpy.types.ViewLayer | None = None,
        keep_played: bool = True,
    ) -> None:
        scene = scene or bpy.context.scene
        assert scene is not None  # Blender always has one
        self._shot, self._scene = shot, scene
        self._view_layer = view_layer or scene.view_layers[shot.view_layer]
        self._keep_played = keep_played
        self._stack = contextlib.ExitStack()
        self._stepper: Stepper | None = None

    def __enter__(self) -> SampleRenderer:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def render(self, t: int) -> Generator[Steps, None, Picture]:
        """Renders sample `t`.

        Yields:
            Progress of stepping simulations.

        Returns:
            [H, W, 3] uint8, sRGB after the scene's view transform; black where the film is transparent.

        Raises:
            ShotError: the engine cannot render here.
        """
        yield from self.approach(t)
        return self.picture(t)

    def approach(self, t: int) -> Iterator[Steps]:
        """Steps the scene to sample `t`, frame by frame if something is simulated."""
        if self._stepper is None:
            self._stepper = self._open()
        yield from self._stepper.to(float(self._shot.frame_numbers[t]))

    def picture(self, t: int) -> Picture:
        """Renders sample `t`, which the scene must be at; see `render`."""
        shot, engine = self._shot, first_frame_engine(self._scene)
        width, height = shot.size
        with tempfile.TemporaryDirectory(prefix="trackshade-") as folder, shot_camera(shot, t, shot.size) as camera:
            path = Path(folder) / "frame.png"
            self.render_to(path, shot.size, camera, engine)
            if not path.is_file():
                raise ShotError("render-failed", f"{_title(engine)} rendered the first frame to no file.", _FIX)
            picture = read_picture(path)
        if picture.shape != (height, width, 3):
            made = f"{picture.shape[1]}×{picture.shape[0]}"
            raise ShotError(
                "render-failed", f"{_title(engine)} rendered {made} pixels instead of {width}×{height}.", _FIX
            )
        return picture

    def render_to(
        self,
        path: Path,
        size: tuple[int, int],
        camera: ShotCamera,
        engine: str,
        set_up: Callable[[bpy.types.Scene], None] | None = None,
    ) -> None:
        """Renders what the scene is at to a file.

        Args:
            path: the file, an 8-bit PNG.
            size: width and height of the image.
            camera: the camera.
            engine: the engine.
            set_up: changes further settings of the scene, which are not restored; None for none.

        Raises:
            ShotError: the engine cannot render here.
        """
        scene, changes = self._scene, Changes()
        try:
            _prepare(changes, scene, self._view_layer, size, camera.pixel_aspect, path, engine)
            if set_up is not None:
                set_up(scene)
            fix_camera(changes, scene, camera.object)
            with keep_frames(scene), spare_slot(scene):
                _render(scene, engine)
        finally:
            changes.undo()  # before the camera is removed

    def _open(self) -> Stepper:
        _check_graphics(first_frame_engine(self._scene))
        self._stack.callback(_remove_images, set(bpy.data.images))
        changes = self._stack.enter_context(preserve_scene(self._scene))
        follow = None
        if simulations(self._scene, self._view_layer):  # they must run as in the capture
            state = RenderState(changes, self._scene, self._view_layer, lambda sentence: None, self._keep_played)
            follow = state.follow
        frames = [float(frame) for frame in self._shot.frame_numbers]
        return Stepper(self._scene, self._view_layer, frames, changes, follow)


def _remove_images(known: set[bpy.types.Image]) -> None:
    """Removes images that rendering created, such as the render result."""
    for image in set(bpy.data.images) - known:
        bpy.data.images.remove(image)


def _check_graphics(engine: str) -> None:
    if engine in _GPU_ENGINES and bpy.app.background and not _has_graphics():
        raise ShotError(
            "render-failed",
            f"The scene's engine {_title(engine)} needs graphics, and this machine offers none to a Blender without "
            "a window.",
            "Install EGL and a driver (Debian: libegl1 libgl1-mesa-dri), set the scene's engine to Cycles, or give "
            "a picture with --first-frame PATH.",
        )


def read_picture(path: Path) -> Picture:
    """Reads an image file with Blender.

    Args:
        path: the file.

    Returns:
        [H, W, 3] uint8 as displayed, sRGB.

    Raises:
        ShotError: the file is missing or not an image.
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
        image.pixels.foreach_get(pixels.reshape(-1))  # 8-bit values as stored, bottom row first
        if image.channels < 3:
            pixels = np.repeat(pixels[..., :1], 3, axis=2)
        return np.ascontiguousarray(colors.to_uint8(pixels[::-1, :, :3]))
    finally:
        discard(image)


def _prepare(
    changes: Changes,
    scene: bpy.types.Scene,
    view_layer: bpy.types.ViewLayer,
    size: tuple[int, int],
    pixel_aspect: tuple[float, float],
    path: Path,
    engine: str,
) -> None:
    """Changes settings to render an 8-bit image of one view layer to `path`."""
    render, output = scene.render, scene.render.image_settings
    is_single = sum(layer.use for layer in scene.view_layers) <= 1 or len(scene.view_layers) == 1
    for layer in scene.view_layers:
        changes.set(layer, "use", layer == view_layer)
    for name, value in {
        "resolution_x": size[0],
        "resolution_y": size[1],
        "resolution_percentage": 100,
        "pixel_aspect_x": pixel_aspect[0],
        "pixel_aspect_y": pixel_aspect[1],
        "use_border": False,
        "use_sequencer": False,
        "use_multiview": False,
        "use_motion_blur": False,
        "use_stamp": False,
        "dither_intensity": 0.0,
        "use_file_extension": True,
        "use_overwrite": True,
        "filepath": str(path),
        "engine": engine,
    }.items():
        changes.set(render, name, value)
    if not is_single:
        changes.set(render, "use_compositing", False)
    disable_outputs(changes)
    for node in placed_nodes(scene):
        changes.set(node, "mute", True)
    # Depth and color mode depend on the format, and the format on the media type.
    changes.keep(output, "media_type", "file_format", "color_mode", "color_depth", "color_management")
    if hasattr(output, "media_type"):  # Blender 5.0 and newer
        output.media_type = "IMAGE"
    output.file_format, output.color_mode, output.color_depth = "PNG", "RGB", "8"
    output.color_management = "FOLLOW_SCENE"
    if scene.display_settings.display_device != "sRGB":
        changes.keep(scene.view_settings, "view_transform", "look")
        changes.set(scene.display_settings, "display_device", "sRGB")
    if render.engine == "CYCLES" and not can_denoise():
        changes.set(scene.cycles, "use_denoising", False)
    for obj in scene.objects:
        if is_plate(obj):
            for curve in [*curves(obj), *(obj.animation_data.drivers if obj.animation_data else ())]:
                if curve.data_path == "hide_render":
                    changes.set(curve, "mute", True)
            changes.set(obj, "hide_render", True)


class ShotCamera(NamedTuple):
    """A temporary camera, and the pixel aspect (x, y) that images are rendered with."""

    object: bpy.types.Object
    pixel_aspect: tuple[float, float]


@contextlib.contextmanager
def shot_camera(shot: Shot, t: int, size: tuple[int, int]) -> Iterator[ShotCamera]:
    """Yields a temporary camera with the shot's intrinsics and the depth of field of the captured camera.

    Args:
        shot: the shot.
        t: index of the sample.
        size: width and height of the image to render, which shows what the shot's image does.
    """
    source = bpy.data.objects.get(shot.camera.sources[t])
    if source is not None and isinstance(source.data, bpy.types.Camera):
        data = source.data.copy()
        data.animation_data_clear()
    else:
        data = bpy.data.cameras.new("Trackshade first frame")
    k = np.diag([size[0] / shot.size[0], size[1] / shot.size[1], 1.0]) @ shot.camera.intrinsics[t]
    aspect = float(k[0, 0] / k[1, 1])  # height of a pixel in widths
    aspect = 1.0 if abs(aspect - 1) < 1e-9 else aspect
    square = np.diag([1.0, aspect, 1.0]) @ k
    orthographic = bool(shot.camera.orthographic[t])
    convert = geometry.orthographic_camera_settings if orthographic else geometry.perspective_camera_settings
    settings = convert(square, (size[0], size[1] * aspect))
    camera = bpy.data.objects.new("Trackshade first frame", data)
    try:
        for name, value in settings.items():
            setattr(data, name, value)
        data.clip_start, data.clip_end = (float(distance) for distance in shot.camera.clip[t])
        camera.matrix_world = Matrix(geometry.camera_to_blender(shot.camera.world_to_camera[t]).tolist())
        yield ShotCamera(camera, (max(1.0, 1 / aspect), max(1.0, aspect)))
    finally:
        bpy.data.objects.remove(camera)
        bpy.data.cameras.remove(data)


def _render(scene: bpy.types.Scene, engine: str) -> None:
    try:
        # The operator renders a scene at the current frame of the context's scene.
        with own_render(), bpy.context.temp_override(scene=scene):
            result = bpy.ops.render.render(write_still=True, use_viewport=False, scene=scene.name)
    except RuntimeError as error:  # all that Blender's operators raise
        lines = [line.strip().removeprefix("Error:").strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[-1].rstrip(".") if lines else "no reason was given"
        raise ShotError("render-failed", f"{_title(engine)} cannot render the first frame: {reason}.", _FIX) from error
    if "FINISHED" not in result:
        raise ShotError("render-failed", f"{_title(engine)} stopped before the first frame was rendered.", _FIX)


def can_denoise() -> bool:
    """Whether this Blender was built with the denoiser, without which Cycles would fail."""
    import _cycles

    return getattr(_cycles, "with_openimagedenoise", True)


@functools.cache
def _has_graphics() -> bool:
    """Whether a Blender without a window can use the graphics driver.

    This is tried in another process, since without a driver Blender's rasterizing engines end the whole process.
    """
    binary = bpy.app.binary_path  # empty where bpy is a Python module
    try:
        if binary:
            start = blender(binary, "-b", "--factory-startup", "--python-expr", _PROBE)
        else:
            start = this_python("-c", _PROBE)
        done = subprocess.run(start.command, env=start.variables, capture_output=True, timeout=300, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        _log.warning("The test for graphics failed: %s", error)
        return False
    if done.returncode:
        _log.warning("There are no graphics: %s", done.stderr.decode(errors="replace")[-2000:])
    return done.returncode == 0


def _title(engine: str) -> str:
    return engine.removeprefix("BLENDER_").removesuffix("_NEXT").capitalize()
