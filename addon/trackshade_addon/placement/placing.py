# SPDX-License-Identifier: GPL-3.0-or-later
"""Placing a result in a scene: the modes, and doing the slow part of it in steps."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Generator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy

from trackshade.client import later
from trackshade.core.errors import OutputError, UsageError

from ..properties.placement_options import TEXTURE_MODES
from .background import add_backgrounds, write_frame_images
from .cameras import active_camera, find_cameras, make_camera
from .collection import PlacedResult, choose_view_layer, make_result_collection, tag
from .color import changed_fraction, inverse_space, take_sample
from .compositor import add_to_compositor
from .latest_image import find_latest_image, show_in_latest_image
from .motion import PreparedMotion, read_motion
from .plate import (
    add_plate,
    default_interpolation,
    depth_of_field_warnings,
    make_material,
    show_in_ranges,
    show_through_camera,
)
from .removal import remove_result
from .result_folder import ResultFolder, camera_folder, camera_folders, read_result
from .sequence import Sequence, choose_frames, load_sequence, write_sequence
from .sequencer import add_strip
from .splats import place_splats
from .surfaces import PreparedTextures, prepare_textures

OVER_RENDER = ("compositor", "sequencer")  # modes that lay the result over the rendered image
BY_CAMERA = ("plate", "background", "both")  # modes that show each camera's result in front of or behind that camera
SPLATS = "splats.usdc"  # in the folder of a result
PLACEMENT_MODES = (*BY_CAMERA, "image", "splats", "armature", *OVER_RENDER, *TEXTURE_MODES)
INTERPOLATIONS = ("Linear", "Closest", "Cubic", "Smart")
_WARNINGS_KEY = "trackshade_warnings"


@dataclass(frozen=True)
class PreparedResult:
    """A result whose files are written and whose colors are checked."""

    result: ResultFolder
    sequence: Sequence  # its images by scene frame
    frame_images: Sequence  # images of the scene's whole frame, which are those of the result where it has its pixels
    space: str  # color space of the images
    warnings: tuple[str, ...]  # sentences about colors
    mode: str  # placement mode
    view_layer: str | None  # see `prepare`
    distance: float | None  # see `prepare`
    interpolation: str | None  # see `prepare`

    def place(self, scene: bpy.types.Scene) -> PlacedResult:
        """Bring the result into its scene, within milliseconds. Raises the errors of the function `place`."""
        result, sequence = self.result, self.sequence
        collection_name, planes, cameras, warnings = "", [], {}, list(self.warnings)
        if self.mode in (*OVER_RENDER, "image"):
            remove_result(scene, result.folder)
            if self.mode == "sequencer":
                warnings += add_strip(scene, result, sequence, self.space)
            elif self.mode == "compositor":
                image = tag(load_sequence(result.name, sequence, self.space), result)
                warnings += add_to_compositor(scene, result, image, sequence)
        else:
            layer, cameras = choose_view_layer(scene, self.view_layer, result), find_cameras(scene, result)
            remove_result(scene, result.folder)
            collection = make_result_collection(scene, result, layer)
            if not cameras:
                name = result.camera.name
                cameras[name] = make_camera(scene, result)
                collection.objects.link(cameras[name])
                warnings.append(f"Scene '{scene.name}' has no camera '{name}': one was made from the result's record.")
            if self.mode != "background":
                warnings += depth_of_field_warnings(list(cameras.values()))
                planes = self._add_plates(scene, collection, cameras)
            if self.mode != "plate":
                warnings += add_backgrounds(result, list(cameras.values()), self.frame_images, scene)
            collection[_WARNINGS_KEY] = "\n".join(warnings)
            collection_name = collection.name
        if self.mode == "image" or find_latest_image() is not None:
            show_in_latest_image(result, sequence, self.space)
        return PlacedResult(
            *(result.folder, scene.name, (sequence.start, sequence.end), self.space, tuple(warnings)),
            *(collection_name, tuple(planes), tuple(camera.name for camera in cameras.values())),
        )

    def _add_plates(
        self, scene: bpy.types.Scene, collection: bpy.types.Collection, cameras: dict[str, bpy.types.Object]
    ) -> list[str]:
        """Add a plate for each camera, and return the names of the plates."""
        result, sequence, name = self.result, self.sequence, f"{self.result.name} plate"
        image = tag(load_sequence(name, sequence, self.space), result)
        interpolation = self.interpolation or default_interpolation(result)
        material = tag(make_material(name, image, sequence, scene, interpolation), result)
        planes = []
        for source, camera in cameras.items():
            plane = add_plate(result, collection, camera, material, self.distance)
            show_in_ranges(plane, sequence.cameras.get(source, []), scene.frame_current)
            planes.append(plane.name)
        return planes


@dataclass(frozen=True)
class PreparedSplats:
    """The splats of a result, which were found."""

    folder: Path  # folder of the result
    samples: tuple[float, ...]  # scene frames that they have

    def place(self, scene: bpy.types.Scene) -> PlacedResult:
        """Bring the splats into the scene; see `place_splats`."""
        placed = place_splats(self.folder / SPLATS, scene)
        frames = math.ceil(self.samples[0]), math.floor(self.samples[-1])
        return PlacedResult(self.folder, scene.name, frames, "sRGB", placed.warnings)


@dataclass(frozen=True)
class PreparedCameras:
    """The results of several cameras, whose files are written and whose colors are checked."""

    folder: Path  # folder of the whole result
    parts: tuple[PreparedResult, ...]  # one for each camera

    def place(self, scene: bpy.types.Scene) -> PlacedResult:
        """Bring all of them into the scene; see `PreparedResult.place`."""
        placed = [part.place(scene) for part in self.parts]
        for part in placed:
            for name in part.planes:
                plane = bpy.data.objects[name]
                show_through_camera(plane, plane.parent, self.parts[0].result)
        return PlacedResult(
            self.folder,
            scene.name,
            (min(part.frames[0] for part in placed), max(part.frames[1] for part in placed)),
            placed[0].color_space,
            tuple(dict.fromkeys(text for part in placed for text in part.warnings)),
            placed[0].collection,
            tuple(name for part in placed for name in part.planes),
            tuple(name for part in placed for name in part.cameras),
        )


Prepared = PreparedResult | PreparedCameras | PreparedTextures | PreparedSplats | PreparedMotion
"""A result whose slow part of the placement is done, by its mode."""


def place(result_folder: Path, scene: bpy.types.Scene, **options: Any) -> PlacedResult:
    """Place a result in the scene that it was made from. Placing it again replaces what was there of it.

    Everything new is in the scene's collection "Trackshade", in one collection per result.

    Args:
        result_folder: Folder of the result.
        scene: The scene.
        **options: As for `prepare`.

    Raises:
        OutputError: The folder has no result or a damaged one, or cannot be written.
        ShotError: Markers switch between the result's cameras, and the scene does not have all of them. A single
            camera is made again from the record where the scene lacks it, with a warning.
        UsageError: Unknown mode, view layer, distance or interpolation.
    """
    steps = prepare(result_folder, lambda: scene, **options)
    while True:
        try:
            waiting_for = next(steps)
        except StopIteration as stop:
            return stop.value.place(scene)
        if waiting_for is not None:
            wait([waiting_for])


def prepare(
    result_folder: Path,
    find_scene: Callable[[], bpy.types.Scene],
    *,
    mode: str = "plate",
    view_layer: str | None = None,
    distance: float | None = None,
    interpolation: str | None = None,
    texture_size: int | None = None,
) -> Generator[Future[Any] | None, None, Prepared]:
    """Do all of `place` that takes time, in steps. A step yields the future of a thread that it waits for, or None.

    The scene may change between two steps, so each asks `find_scene` for it. Only the `place` method of what is
    returned changes the scene. The errors are those of `place`.

    A result with several cameras is placed for each of them as plate or background, and its baked textures have the
    colors of all of them. The other modes show one of them: that of the scene's camera, else the first one.

    Args:
        result_folder: Folder of the result.
        find_scene: Returns the scene.
        mode: "plate": a plane in front of the camera that only the camera sees; "background": the camera's background
            image, in the viewport; "both"; "compositor": nodes that lay it over the composited image; "sequencer": a
            strip; "image": only the image data-block that shows the newest result; "splats": the splats that were
            made with it; "armature": the motion of driving footage, on an armature; "baked", "projected", "heat": on
            the surfaces that it shows (see `surfaces`).
        view_layer: Name of the view layer that shows the plate; by default the captured one, or all where the scene
            has lost it.
        distance: Distance of the plate from the camera, meters; by default as near as possible, in front of everything
            and of older plates of the same camera (see `plate.default_distance`).
        interpolation: Interpolation of the plate's image, as in Blender's image texture; by default "Closest" where
            the result has the pixels of the scene's frame, else "Linear".
        texture_size: Texels along a side of a baked texture; by default what the images show, at most 2048.
    """
    if mode not in PLACEMENT_MODES:
        raise UsageError(
            "bad-placement", f"A result cannot be placed as '{mode}'.", f"Use one of {', '.join(PLACEMENT_MODES)}."
        )
    if distance is not None and not 0 < distance < float("inf"):
        raise UsageError(
            "bad-distance", f"A plate cannot lie {distance} m in front of the camera.", "Give a distance above 0."
        )
    if interpolation not in (None, *INTERPOLATIONS):
        raise UsageError("bad-interpolation", f"Unknown interpolation '{interpolation}'.", "Use Linear or Closest.")
    if mode == "splats":
        return PreparedSplats(Path(result_folder).resolve(), _find_splats(Path(result_folder).resolve()))
    if mode == "armature":
        reading_motion = later(read_motion, Path(result_folder).resolve())
        yield reading_motion
        return reading_motion.result()
    if mode not in (*BY_CAMERA, "baked", "heat"):
        camera = find_scene().camera
        result_folder = camera_folder(Path(result_folder).resolve(), None if camera is None else camera.name)
    if mode in TEXTURE_MODES:
        return (yield from prepare_textures(Path(result_folder), find_scene, mode, texture_size))
    folders = camera_folders(Path(result_folder).resolve())
    if folders and mode in BY_CAMERA:
        parts = []
        for folder in folders:
            options = {"view_layer": view_layer, "distance": distance, "interpolation": interpolation}
            part = yield from prepare(folder, find_scene, mode=mode, **options)
            assert isinstance(part, PreparedResult)
            parts.append(part)
        return PreparedCameras(Path(result_folder).resolve(), tuple(parts))
    reading = later(read_result, Path(result_folder))
    yield reading
    result = reading.result()
    scene = find_scene()
    choose_view_layer(scene, view_layer, result)
    if mode not in (*OVER_RENDER, "image"):
        find_cameras(scene, result)
    camera_of_frame = active_camera(scene)
    choices = choose_frames(result, camera_of_frame)
    writing = later(write_sequence, result, choices)
    yield writing
    frame_images = sequence = writing.result()
    if mode in ("background", "both") and not result.fit.is_identity:
        frame_images = yield from write_frame_images(result, choices)
    space, warnings = inverse_space(find_scene())
    if mode == "background":
        warnings = []
    elif not warnings:
        with tempfile.TemporaryDirectory(prefix="trackshade-") as folder:
            yield None
            sample = take_sample(result.images[0], Path(folder))
            yield None
            warnings = _color_warnings(find_scene(), sample, space)
    yield None
    return PreparedResult(
        result, sequence, frame_images, space, tuple(warnings), mode, view_layer, distance, interpolation
    )


def _find_splats(folder: Path) -> tuple[float, ...]:
    """Return the scene frames of a result. Raise OutputError if it has no splats."""
    parts = camera_folders(folder)
    samples = read_result(parts[0] if parts else folder).samples
    if not (folder / SPLATS).is_file():
        raise OutputError(
            "no-splats",
            f"The result in {folder} has no splats.",
            "Shade the shot again with Splats above 0, or with --splats 200000.",
        )
    return samples


def remove(placed: PlacedResult) -> None:
    """Remove everything that `place` added; do nothing where it is gone already."""
    scene = bpy.data.scenes.get(placed.scene)
    if scene is not None:
        remove_result(scene, placed.folder)


def _color_warnings(scene: bpy.types.Scene, sample: Path, space: str) -> list[str]:
    """Return a warning if the view transform changes the plate's colors."""
    fraction, most = changed_fraction(sample, scene, space)
    if fraction <= 0.001:
        return []
    return [
        f"The view transform '{scene.view_settings.view_transform}' cannot show all of the plate's colors: "
        f"about {fraction:.1%} of the first image's pixels will change, by up to {most} of 255 levels. "
        "The view transform Standard shows them all."
    ]
