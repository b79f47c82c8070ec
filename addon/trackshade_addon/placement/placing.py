# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings a result into a scene, as a plate before its camera and as the camera's background image."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy

from trackshade.client import later
from trackshade.core.errors import UsageError

from . import texture
from .background import add_background
from .cameras import active_camera, find_cameras, make_camera
from .collection import PLATE_KEY, make_home, shown_layer, tag
from .color import changed_share, inverse_space, take_sample
from .compositor import add_to_compositor
from .material import load_sequence, make_material
from .placed import Placed
from .plane import NEAREST, attach, cut, default_distance, make_mesh
from .record import Result, read_result
from .removing import SHOWN_KEY, remove_result
from .sequence import Sequence, choose_frames, write_sequence
from .strip import add_strip
from .timing import follow_frames

ON_PICTURE = ("compositor", "sequencer")
PLACEMENT_MODES = ("plate", "background", "both", *ON_PICTURE, *texture.PLACEMENT_MODES)
_WARNINGS_KEY = "trackshade_warnings"
_RAYS = ("visible_diffuse", "visible_glossy", "visible_transmission", "visible_volume_scatter", "visible_shadow")
_PROBES = ("hide_probe_volume", "hide_probe_sphere", "hide_probe_plane")


@dataclass(frozen=True)
class Ready:
    """A result whose files are written and whose colors are measured: `put` brings it into its scene at once.

    Attributes:
        sequence: the plate's images. space: by which they are read.
        warnings: sentences about colors.
    """

    result: Result
    sequence: Sequence
    space: str
    warnings: tuple[str, ...]
    as_: str
    view_layer: str | None
    distance: float | None
    interpolation: str | None

    def put(self, scene: bpy.types.Scene) -> Placed:
        """A matter of milliseconds. Raises as `place`."""
        result, sequence = self.result, self.sequence
        if self.as_ in ON_PICTURE:
            return self._put_on_picture(scene)
        layer, cameras = shown_layer(scene, self.view_layer, result), find_cameras(scene, result)
        warnings = list(self.warnings)
        remove_result(scene, result.folder)
        home = make_home(scene, result, layer)
        if not cameras:
            name = result.camera.name
            cameras[name] = make_camera(scene, result)
            home.objects.link(cameras[name])
            warnings.append(f"Scene '{scene.name}' has no camera '{name}': one was made from the result's record.")
        planes: list[str] = []
        if self.as_ != "background":
            warnings += _blurs(list(cameras.values()))
            image = tag(load_sequence(f"{result.name} plate", sequence, self.space), result)
            sharpness = self.interpolation or _sharpness(result)
            material = tag(make_material(f"{result.name} plate", image, sequence, scene, sharpness), result)
            for name, camera in cameras.items():
                plane = _add_plane(result, home, camera, material, self.distance)
                _show(plane, sequence.cameras.get(name, []), scene.frame_current)
                planes.append(plane.name)
        if self.as_ != "plate":
            warnings += _add_backgrounds(result, list(cameras.values()), sequence, scene)
        home[_WARNINGS_KEY] = "\n".join(warnings)
        return Placed(
            folder=result.folder,
            scene=scene.name,
            collection=home.name,
            planes=tuple(planes),
            cameras=tuple(camera.name for camera in cameras.values()),
            frames=(sequence.start, sequence.end),
            color_space=self.space,
            warnings=tuple(warnings),
        )

    def _put_on_picture(self, scene: bpy.types.Scene) -> Placed:
        """Lays the result over the picture that the scene renders."""
        result, sequence = self.result, self.sequence
        remove_result(scene, result.folder)
        if self.as_ == "sequencer":
            warnings = add_strip(scene, result, sequence, self.space)
        else:
            image = tag(load_sequence(result.name, sequence, self.space), result)
            warnings = add_to_compositor(scene, result, image, sequence)
        frames = sequence.start, sequence.end
        return Placed(result.folder, scene.name, "", (), (), frames, self.space, (*self.warnings, *warnings))


def place(
    result_folder: Path,
    scene: bpy.types.Scene,
    *,
    as_: str = "plate",
    view_layer: str | None = None,
    distance: float | None = None,
    interpolation: str | None = None,
    texture_size: int | None = None,
) -> Placed:
    """Places a result in the scene that it was made from. Placing it again replaces what was there of it.

    Everything new is in the scene's collection "Trackshade", in one collection per result.

    Args:
        as_: "plate": a plane before the camera that only the camera sees; "background": the camera's
            background image, in the viewport; "both"; "compositor": nodes that lay it over the composited picture;
            "sequencer": a strip; "baked", "projected", "heat": on the surfaces that it shows (see `texture`).
        view_layer: the one that shows the plate; by default the captured one, or all where the scene has lost
            it.
        distance: of the plate from the camera, metres; by default as near as can be, before everything and before
            older plates of the same camera (see `plane.default_distance`).
        interpolation: of the plate's image, as in Blender's image texture; by default "Closest" where the
            result has the scene's own pixels, else "Linear".
        texture_size: texels along a side, for the ways that bake; by default what the pictures show, at most 2048.

    Raises:
        OutputError: the folder holds no result, a damaged one, or cannot be written.
        ShotError: markers switch between the result's cameras, and the scene has not all of them. A single camera is
            made again from the record where the scene lacks it, with a warning.
        UsageError: unknown way, view layer, distance or interpolation.
    """
    steps = prepare(
        result_folder,
        lambda: scene,
        as_=as_,
        view_layer=view_layer,
        distance=distance,
        interpolation=interpolation,
        texture_size=texture_size,
    )
    while True:
        try:
            waits = next(steps)
        except StopIteration as done:
            return done.value.put(scene)
        if waits is not None:
            wait([waits])


def prepare(
    result_folder: Path,
    find_scene: Callable[[], bpy.types.Scene],
    *,
    as_: str = "plate",
    view_layer: str | None = None,
    distance: float | None = None,
    interpolation: str | None = None,
    texture_size: int | None = None,
) -> Generator[Future[Any] | None, None, Ready | texture.ReadyTexture]:
    """All of `place` that takes its time, a little at each `next`: a future is what a thread has to finish first.

    The scene may change between two steps, so each asks `find_scene` for it; `Ready.put` is the only one to change it.
    Raises as `place`.
    """
    if as_ not in PLACEMENT_MODES:
        raise UsageError(
            "bad-placement", f"A result cannot be placed as '{as_}'.", f"Use one of {', '.join(PLACEMENT_MODES)}."
        )
    if distance is not None and not 0 < distance < float("inf"):
        raise UsageError(
            "bad-distance", f"A plate cannot lie {distance} m before the camera.", "Give a distance above 0."
        )
    if interpolation not in (None, "Linear", "Closest", "Cubic", "Smart"):
        raise UsageError("bad-interpolation", f"Unknown interpolation '{interpolation}'.", "Use Linear or Closest.")
    if as_ in texture.PLACEMENT_MODES:
        return (yield from texture.steps(Path(result_folder), find_scene, as_, texture_size))
    reading = later(read_result, Path(result_folder))
    yield reading
    result = reading.result()
    scene = find_scene()
    shown_layer(scene, view_layer, result)
    if as_ not in ON_PICTURE:
        find_cameras(scene, result)
    writing = later(_write, result, active_camera(scene))
    yield writing
    sequence = writing.result()
    space, warnings = inverse_space(find_scene())
    if as_ == "background":
        warnings = []
    elif not warnings:
        with tempfile.TemporaryDirectory(prefix="trackshade-") as folder:
            yield None
            sample = take_sample(result.pictures[0], Path(folder))
            yield None
            warnings = _colors(find_scene(), sample, space)
    yield None
    return Ready(result, sequence, space, tuple(warnings), as_, view_layer, distance, interpolation)


def _write(result: Result, active: Callable[[int], str | None]) -> Sequence:
    return write_sequence(result, choose_frames(result, active))


def remove(placed: Placed) -> None:
    """Takes out everything that `place` brought in; does nothing where it is gone already."""
    scene = bpy.data.scenes.get(placed.scene)
    if scene is not None:
        remove_result(scene, placed.folder)


def _add_plane(
    result: Result,
    home: bpy.types.Collection,
    camera: bpy.types.Object,
    material: bpy.types.Material,
    distance: float | None,
) -> bpy.types.Object:
    mesh = tag(make_mesh(f"{result.name} plate", cut(result.fit)), result)
    mesh.materials.append(material)
    if distance is None:
        distance = default_distance(camera.data, result)
        for older in [item for item in camera.children if PLATE_KEY in item and "distance" in item]:
            older["distance"] *= NEAREST
            older.update_tag()
    plane = tag(bpy.data.objects.new(f"{result.name} plate {camera.name}", mesh), result)
    home.objects.link(plane)
    attach(plane, camera, result.fit, distance)
    plane.display_type = "WIRE"  # in a solid viewport it would be a grey board before everything; renders show it
    plane.hide_select = True  # else every click through the camera would pick it
    for name in _RAYS:
        setattr(plane, name, False)
    for name in _PROBES:
        setattr(plane, name, True)
    return plane


def _show(plane: bpy.types.Object, ranges: list[tuple[int, int]], now: int) -> None:
    """Has the plane seen in the frames from first to last of each range, and nowhere else; it is frame `now`."""
    hidden: dict[int, bool] = {}  # frame: hidden from here on
    for first, last in ranges:
        hidden.setdefault(first - 1, True)
        hidden[first] = False
        hidden[last + 1] = True
    shown = any(first <= now <= last for first, last in ranges)
    for path in ("hide_render", "hide_viewport"):
        setattr(plane, path, not shown)
        if hidden:
            follow_frames(plane, path, hidden)


def _add_backgrounds(
    result: Result, cameras: list[bpy.types.Object], sequence: Sequence, scene: bpy.types.Scene
) -> list[str]:
    warnings = []
    image = None
    for data in dict.fromkeys(camera.data for camera in cameras):
        if data.library is not None:
            warnings.append(f"Camera data '{data.name}' is linked from a library and was given no background image.")
            continue
        if image is None:
            # The viewport lays background images over the finished picture: no view transform is to be undone.
            image = tag(load_sequence(f"{result.name} background", sequence, "sRGB"), result)
        if not data.show_background_images:
            data[SHOWN_KEY] = True
        add_background(data, image, sequence, result.fit, scene)
    return warnings


def _colors(scene: bpy.types.Scene, sample: Path, space: str) -> list[str]:
    """What the view transform will do to the plate's colors."""
    share, most = changed_share(sample, scene, space)
    if share <= 0.001:
        return []
    return [
        f"The view transform '{scene.view_settings.view_transform}' cannot show all of the plate's colors: "
        f"about {share:.1%} of the first picture's pixels will change, by up to {most} of 255 levels. "
        "The view transform Standard shows them all."
    ]


def _blurs(cameras: list[bpy.types.Object]) -> list[str]:
    return [
        f"Camera '{camera.name}' has depth of field, which will blur the plate. "
        "Switch it off where the plate is rendered, or set the plate's distance to the focus distance."
        for camera in cameras
        if camera.data.dof.use_dof
    ]


def _sharpness(result: Result) -> str:
    """The image texture's interpolation: pixel by pixel where the result has the pixels of the scene's own
    frame.
    """
    same = result.fit.scale == (1.0, 1.0) and all(float(offset).is_integer() for offset in result.fit.offset)
    return "Closest" if same else "Linear"
