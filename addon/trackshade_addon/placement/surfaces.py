# SPDX-License-Identifier: GPL-3.0-or-later
"""Results on the surfaces that they show: as baked textures, as projected frames, or as a heat map.

Baked, each object shows one still texture: the median of all frames. Projected, it shows in each frame the pixels of
that frame, wherever the shot's camera saw its points in it, and the baked texture elsewhere. The heat map shows how
much each point's color varies over the frames.

The textures come from the result's folder `texture`, which the backend's environment makes (`trackshade bake`).
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from trackshade.client import later
from trackshade.core.errors import OutputError, ShotError, UsageError
from trackshade.core.json_files import read_object
from trackshade.shot import Geometry, Shot

from ..backend.prefs import current_prefs
from ..backend.tasks import CancellableTask, run_backend_task
from .collection import PlacedResult, choose_view_layer, make_result_collection, stored_path, tag
from .color import inverse_space
from .materials import make_texture_material, override_materials
from .projection import Projection, attach_tracks, detach_tracks
from .removal import remove_result, remove_textures, remove_unused
from .result_folder import ResultFolder, read_surfaces
from .sequence import choose_frames, load_sequence, write_sequence
from .uv_maps import capture_coordinates, choose_uv_maps, find_textured_objects, remove_uv_maps

TRACKS = "tracks.shot"
COORDINATES = "coordinates.shot"
FORMAT = 1
_KINDS = ("texture", "variation")
_MIN_SHARED_EDGES = 0.6  # two triangulations of the same quads differ in the diagonals: a third of the edges


class TextureBake(Future[None]):
    """A bake of a result's textures by the backend's environment, in another process, which starts at once.

    Args:
        folder: Folder of the result.
        options: Plain values for `trackshade.results.baking.BakeOptions`.

    Raises:
        UsageError: There is no environment of the backend on this computer.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        python = current_prefs().python()
        if python is None:
            raise UsageError(
                "not-set-up",
                "The backend is not set up yet, and it is needed to bake textures.",
                "Press Set Up in the Backend panel.",
            )
        super().__init__()
        self.progress = 0.0  # 0 to 1
        self._task = CancellableTask()
        arguments = (python, "bake", str(folder), json.dumps(options))
        threading.Thread(target=self._run, args=arguments, name="trackshade-bake", daemon=True).start()

    def stop(self) -> None:
        """Cancel the bake if it is still running, and keep an earlier one. Returns at once."""
        if not self.done():
            self._task.cancel()

    def _run(self, python: str, *arguments: str) -> None:
        try:
            run_backend_task(self._task, python, *arguments, progress=self._report)
        except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
            self.set_exception(error)
        else:
            self.set_result(None)

    def _report(self, done: int, total: int, _: str) -> None:
        self.progress = done / total


@dataclass(frozen=True)
class PreparedTextures:
    """What to bake for which objects; once it is baked, `place` puts the textures onto the objects."""

    folder: Path  # folder of the result
    mode: str  # one of TEXTURE_MODES
    uv_maps: dict[str, str]  # name of the UV map by object
    changed: frozenset[str]  # names of objects whose faces differ from those in the shot, so that its tracks do not fit
    warnings: tuple[str, ...]  # sentences about what is left out
    options: dict[str, Any]  # plain values for the backend task "bake"

    def discard(self) -> None:
        """Remove the UV maps that were added for it."""
        remove_uv_maps([obj for obj in bpy.data.objects if obj.name in self.uv_maps])

    def place(self, scene: bpy.types.Scene) -> PlacedResult:
        """Put the textures onto the scene's objects, within milliseconds.

        Raises:
            OutputError: The textures are missing or damaged.
            ShotError: The scene lacks the objects.
        """
        try:
            return _place_textures(self, scene)
        except BaseException:
            self.discard()
            raise


def prepare_textures(
    folder: Path, find_scene: Callable[[], bpy.types.Scene], mode: str, size: int | None = None
) -> Generator[Future[Any] | None, None, PreparedTextures]:
    """Bake the textures of a result in steps, each of which yields the future of a thread or process that it waits for.

    The scene may change between two steps, so each asks `find_scene` for it. One of them steps through a frame of it.
    `size` is the number of texels along a side of a texture; None for what the images show.

    Raises:
        OutputError: There is no result, or it cannot be written to.
        ShotError: It does not contain its shot, or nothing of it is in the scene.
        UsageError: There is no environment to bake in.
        TrackshadeError: What the bake raises.
    """
    reading = later(_read_result_and_shot, folder)
    yield reading
    result, shot = reading.result()
    plan = _plan_textures(result, shot, find_scene(), mode, size)
    try:
        baking = TextureBake(plan.folder, plan.options)
        try:
            yield baking
            baking.result()
        finally:
            baking.stop()
    except BaseException:
        plan.discard()
        raise
    return plan


def _plan_textures(
    result: ResultFolder, shot: Shot, scene: bpy.types.Scene, mode: str, size: int | None
) -> PreparedTextures:
    """Find the objects to texture, give meshes UV maps where they need one, and write the texture coordinates.

    Textures of this result that the scene shows are removed first. Raises the errors of `prepare_textures`.
    """
    remove_textures(scene, str(result.folder))
    objects, excluded = find_textured_objects(scene, shot)
    uv_maps, without_map = choose_uv_maps(objects)
    excluded |= without_map
    if not uv_maps:
        raise _no_surface(scene, _exclusion_warnings(excluded))
    path = result.folder / COORDINATES
    try:
        current = capture_coordinates(scene, result, shot, uv_maps, path)
        hidden = uv_maps.keys() - {track.name for track in current.meshes}
        excluded |= dict.fromkeys(hidden, "is not shown in renders any more")
        remove_uv_maps([objects[name] for name in hidden])
        uv_maps = {name: uv_map for name, uv_map in uv_maps.items() if name not in hidden}
        if not uv_maps:
            raise _no_surface(scene, _exclusion_warnings(excluded))
        changed = _changed_meshes(shot, current, uv_maps)
    except BaseException:
        remove_uv_maps(list(objects.values()))
        raise
    warnings = _exclusion_warnings(excluded)
    warnings += [
        f"'{name}' has other faces than when it was captured: its texture is laid on as it was then, and its tracks "
        "are not used. Shade it again."
        for name in sorted(changed)
    ]
    # The projection is always written, so that scenes which show it go on doing so.
    options = {"objects": sorted(uv_maps), "coordinates": str(path), "size": size}
    options["projection"] = not shot.more_cameras
    return PreparedTextures(result.folder, mode, uv_maps, changed, tuple(warnings), options)


def _place_textures(plan: PreparedTextures, scene: bpy.types.Scene) -> PlacedResult:
    result = read_surfaces(plan.folder)
    record = _read_texture_record(result)
    remove_result(scene, result.folder, uv_maps=False)
    space, warnings = inverse_space(scene, "the texture")
    warnings = [*plan.warnings, *warnings, *record["warnings"]]
    projection = _load_projection(result, record, space) if plan.mode == "projected" else None
    collection = make_result_collection(scene, result, choose_view_layer(scene, None, result))
    kind = "variation" if plan.mode == "heat" else "texture"
    count = 0
    for entry in record["meshes"]:
        name = entry["name"]
        obj = scene.objects.get(name)
        if obj is None or name not in plan.uv_maps:
            continue
        image = _load_texture(result, entry[kind], f"{result.name} {name}", space)
        material = make_texture_material(f"{result.name} {name}", image, plan.uv_maps[name], scene, projection)
        detach_tracks(obj)
        override_materials(obj, tag(material, result), str(result.folder))
        if projection is not None and name not in plan.changed:
            path = result.folder / "texture" / entry["tracks"]
            vertices = int(entry["vertices"])
            warnings += attach_tracks(obj, collection, result, path, vertices, projection.choices)
        count += 1
    collection_name = collection.name if collection.objects else ""
    remove_unused(scene)
    if not count:
        raise _no_surface(scene)
    frames = math.ceil(result.samples[0]), math.floor(result.samples[-1])
    return PlacedResult(result.folder, scene.name, frames, space, tuple(dict.fromkeys(warnings)), collection_name)


def _exclusion_warnings(reasons: Mapping[str, str]) -> list[str]:
    return [f"'{name}' {reason}, and was given no texture." for name, reason in sorted(reasons.items())]


def _no_surface(scene: bpy.types.Scene, reasons: Sequence[str] = ()) -> ShotError:
    return ShotError(
        "no-surface",
        f"Scene '{scene.name}' has none of the meshes that the result shows, or none that can be given a texture."
        + "".join(f" {reason}" for reason in reasons[:3]),
        "Open the file that it was made from, and leave Edit Mode.",
    )


def _read_result_and_shot(folder: Path) -> tuple[ResultFolder, Shot]:
    result = read_surfaces(folder)
    path = result.folder / TRACKS
    if not path.is_file():
        raise ShotError(
            "tracks-missing",
            f"The result in {result.folder} does not hold its shot ({TRACKS}), so its surfaces are not known.",
            "Shade the shot again.",
        )
    return result, Shot.load(path)


def _changed_meshes(shot: Shot, current: Shot, uv_maps: dict[str, str]) -> frozenset[str]:
    """Return the names of the meshes whose vertices have changed since the shot."""
    geometries = {track.name: [current.geometries[index] for index in track.geometries] for track in current.meshes}
    return frozenset(
        track.name
        for track in shot.meshes
        if track.name in uv_maps
        and track.name in geometries
        and not any(_same_vertices(shot.geometries[track.geometry], item) for item in geometries[track.name])
    )


def _same_vertices(one: Geometry, other: Geometry) -> bool:
    """Return whether two meshes have the same vertices in the same order, by the edges between them.

    Diagonals of four-sided faces do not count: they are a matter of rounding.
    """
    if one.positions.shape[1] != other.positions.shape[1]:
        return False
    if np.array_equal(one.triangles, other.triangles):
        return True
    if not one.deforms and not np.allclose(one.at(0), other.at(0), rtol=0, atol=1e-4 * float(np.ptp(one.at(0)))):
        return False
    edges = _edges(one)
    return bool(np.isin(edges, _edges(other)).mean() > _MIN_SHARED_EDGES) if len(edges) else True


def _edges(geometry: Geometry) -> np.ndarray:
    """Return one number for each edge of the triangles."""
    pairs = np.sort(geometry.triangles[:, [[0, 1], [1, 2], [2, 0]]].astype(np.int64), axis=2)  # [F, 3, 2]
    return np.unique(pairs[..., 0] * geometry.positions.shape[1] + pairs[..., 1])


def _read_texture_record(result: ResultFolder) -> dict[str, Any]:
    path = result.folder / "texture" / "texture.json"
    try:
        record = read_object(path)
        known = record["format"] <= FORMAT and isinstance(record["warnings"], list)
        files = [result.folder / "texture" / entry[kind] for entry in record["meshes"] for kind in _KINDS]
        if not known or not all(isinstance(entry["name"], str) for entry in record["meshes"]):
            raise ValueError("its format is not known")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(
            "damaged-textures", f"The textures of {result.folder} cannot be read ({error}).", "Bake them again."
        ) from error
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise OutputError("damaged-textures", f"The textures of {result.folder} lack {missing[0]}.", "Bake them again.")
    return record


def _load_projection(result: ResultFolder, record: dict[str, Any], space: str) -> Projection:
    choices = choose_frames(result, lambda frame: None)
    keys = record["projection"]
    depths = [result.folder / "texture" / keys["reach"] / image.name for image in result.images]
    frames = write_sequence(result, choices)
    depth_frames = write_sequence(result, choices, depths, "reach")
    image = tag(load_sequence(f"{result.name} projection", frames, space), result)
    depth_image = tag(load_sequence(f"{result.name} reach", depth_frames, "Non-Color"), result)
    low, high, orthographic = float(keys["low"]), float(keys["high"]), bool(keys["orthographic"])
    return Projection(choices, frames, image, depth_frames, depth_image, low, high, orthographic)


def _load_texture(result: ResultFolder, file: str, name: str, space: str) -> bpy.types.Image:
    image = tag(bpy.data.images.load(str(result.folder / "texture" / file), check_existing=False), result)
    image.name, image.filepath = name, stored_path(result.folder / "texture" / file)
    image.colorspace_settings.name = space
    return image
