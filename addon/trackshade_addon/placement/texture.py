# SPDX-License-Identifier: GPL-3.0-or-later
"""A result on the surfaces that it shows: baked into textures, or projected frame by frame; or where it swims.

Baked, each object wears one still texture: the median of all frames. Projected, it wears in each frame the pixels of
that frame, wherever the shot's camera saw its points in it; what that did not see shows the baked texture. As a heat
map it wears how much each point's color varies over the frames.

The textures come from the result's folder `texture`, which the backend's environment makes (`trackshade bake`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from trackshade.client import later
from trackshade.core.errors import OutputError, ShotError
from trackshade.shot import Geometry, Shot

from .baking import bake
from .collection import make_home, shown_layer, stored_path, tag
from .color import inverse_space
from .coordinates import capture_coordinates, choose_maps, remove_maps, textured_objects
from .material import load_sequence
from .materials import dress
from .placed import Placed
from .projected import Projection, carry_tracks, drop_tracks
from .record import Result, read_result
from .removing import remove_result, remove_textures, tidy
from .sequence import choose_frames, write_sequence
from .shader import texture_material

PLACEMENT_MODES = ("baked", "projected", "heat")
TRACKS = "tracks.shot"
COORDINATES = "coordinates.shot"
FORMAT = 1
_KINDS = ("texture", "variation")
_SAME_EDGES = 0.6  # two thirds of a quad mesh's edges are no diagonals


@dataclass(frozen=True)
class Plan:
    """What is to be baked, and onto what.

    Attributes:
        folder: of the result.
        maps: name of the UV map, by object.
        changed: names of objects whose faces are other ones than in the shot, so that its tracks do not fit.
        warnings: about what is left out.
        wanted: for the backend task "bake", plain values.
    """

    folder: Path
    maps: dict[str, str]
    changed: frozenset[str]
    warnings: tuple[str, ...]
    wanted: dict[str, Any]

    def drop(self) -> None:
        """Takes away the UV maps that were added, where nothing comes of it."""
        remove_maps([obj for obj in bpy.data.objects if obj.name in self.maps])


def steps(
    folder: Path, find_scene: Callable[[], bpy.types.Scene], way: str, size: int | None = None
) -> Generator[Future[Any] | None, None, ReadyTexture]:
    """All that takes its time, a little at each `next`: a future is what a thread or a process has to finish first.

    The scene may change between two steps, so each asks `find_scene` for it. One of them steps through a frame of it.

    Raises:
        OutputError: no result, or it cannot be written to. ShotError: it does not hold its shot, or nothing of it is
            in the scene. UsageError: no environment to bake in. And what the bake raises.
    """
    reading = later(_read, folder)
    yield reading
    result, shot = reading.result()
    plan = prepare(result, shot, find_scene(), size)
    try:
        baking = bake(plan.folder, plan.wanted)
        try:
            yield baking
            baking.result()
        finally:
            baking.end()
    except BaseException:
        plan.drop()
        raise
    return ReadyTexture(plan, way)


def prepare(result: Result, shot: Shot, scene: bpy.types.Scene, size: int | None = None) -> Plan:
    """Looks at the scene for what a result can be put onto: gives meshes UV maps where they need one, and writes the
    coordinates beside the result. Textures of this result that the scene shows are taken off first.

    Raises:
        OutputError: it cannot be written to. ShotError: nothing of it is in the scene.
    """
    remove_textures(scene, str(result.folder))
    objects, left = textured_objects(scene, shot)
    maps, more = choose_maps(objects)
    left |= more
    if not maps:
        raise _no_surface(scene, _left_out(left))
    path = result.folder / COORDINATES
    try:
        now = capture_coordinates(scene, result, shot, maps, path)
        hidden = maps.keys() - {track.name for track in now.meshes}
        left |= dict.fromkeys(hidden, "is not shown in renders any more")
        remove_maps([objects[name] for name in hidden])
        maps = {name: uv_map for name, uv_map in maps.items() if name not in hidden}
        if not maps:
            raise _no_surface(scene, _left_out(left))
        changed = _changed(shot, now, maps)
    except BaseException:
        remove_maps(list(objects.values()))
        raise
    warnings = _left_out(left)
    warnings += [
        f"'{name}' has other faces than when it was captured: its texture is laid on as it was then, and its tracks "
        "are not used. Shade it again."
        for name in sorted(changed)
    ]
    # The projection is always written, so that scenes which show it go on doing so.
    wanted = {"objects": sorted(maps), "coordinates": str(path), "size": size, "projection": True}
    return Plan(result.folder, maps, changed, tuple(warnings), wanted)


@dataclass(frozen=True)
class ReadyTexture:
    """A result that is baked: `put` brings it into its scene at once."""

    plan: Plan
    way: str

    def put(self, scene: bpy.types.Scene) -> Placed:
        """A matter of milliseconds. Raises as `place_texture`."""
        try:
            return place_texture(self.plan, scene, self.way)
        except BaseException:
            self.plan.drop()
            raise


def place_texture(plan: Plan, scene: bpy.types.Scene, way: str) -> Placed:
    """Puts the baked textures onto the scene's objects.

    Raises:
        OutputError: the textures are missing or damaged. ShotError: the scene lacks what was to be textured.
    """
    result = read_result(plan.folder)
    record = _record(result)
    remove_result(scene, result.folder, maps=False)
    space, warnings = inverse_space(scene, "the texture")
    warnings = [*plan.warnings, *warnings, *record["warnings"]]
    projection = _projection(result, record, scene, space) if way == "projected" else None
    home = make_home(scene, result, shown_layer(scene, None, result))
    shows = "variation" if way == "heat" else "texture"
    worn = 0
    for entry in record["meshes"]:
        name = entry["name"]
        obj = scene.objects.get(name)
        if obj is None or name not in plan.maps:
            continue
        image = _image(result, entry[shows], f"{result.name} {name}", space)
        material = texture_material(f"{result.name} {name}", image, plan.maps[name], scene, projection)
        drop_tracks(obj)
        dress(obj, tag(material, result), str(result.folder))
        if projection is not None and name not in plan.changed:
            path = result.folder / "texture" / entry["tracks"]
            warnings += carry_tracks(obj, home, result, path, int(entry["vertices"]), projection)
        worn += 1
    home_name = home.name if home.objects else ""
    tidy(scene)
    if not worn:
        raise _no_surface(scene)
    return Placed(
        folder=result.folder,
        scene=scene.name,
        collection=home_name,
        planes=(),
        cameras=(),
        frames=(math.ceil(result.samples[0]), math.floor(result.samples[-1])),
        color_space=space,
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _left_out(reasons: Mapping[str, str]) -> list[str]:
    return [f"'{name}' {why}, and was given no texture." for name, why in sorted(reasons.items())]


def _no_surface(scene: bpy.types.Scene, reasons: Sequence[str] = ()) -> ShotError:
    return ShotError(
        "no-surface",
        f"Scene '{scene.name}' has none of the meshes that the result shows, or none that can wear it."
        + "".join(f" {reason}" for reason in reasons[:3]),
        "Open the file that it was made from, and leave Edit Mode.",
    )


def _read(folder: Path) -> tuple[Result, Shot]:
    """A result and its shot. Raises OutputError, ShotError."""
    result = read_result(folder)
    path = result.folder / TRACKS
    if not path.is_file():
        raise ShotError(
            "tracks-missing",
            f"The result in {result.folder} does not hold its shot ({TRACKS}), so its surfaces are not known.",
            "Shade the shot again.",
        )
    return result, Shot.load(path)


def _changed(shot: Shot, now: Shot, maps: dict[str, str]) -> frozenset[str]:
    """The names of the meshes whose vertices are other ones now."""
    there = {track.name: [now.geometries[index] for index in track.geometries] for track in now.meshes}
    return frozenset(
        track.name
        for track in shot.meshes
        if track.name in maps
        and track.name in there
        and not any(_same_vertices(shot.geometries[track.geometry], item) for item in there[track.name])
    )


def _same_vertices(one: Geometry, other: Geometry) -> bool:
    """Whether two meshes have the same vertices in the same order, by the edges between them. Diagonals of four-sided
    faces do not count: they are a matter of rounding."""
    if one.positions.shape[1] != other.positions.shape[1]:
        return False
    if np.array_equal(one.triangles, other.triangles):
        return True
    if not one.deforms and not np.allclose(one.at(0), other.at(0), rtol=0, atol=1e-4 * float(np.ptp(one.at(0)))):
        return False
    edges = _edges(one)
    return bool(np.isin(edges, _edges(other)).mean() > _SAME_EDGES) if len(edges) else True


def _edges(geometry: Geometry) -> np.ndarray:
    """One number for each edge of the triangles."""
    pairs = np.concatenate(
        [geometry.triangles[:, [0, 1]], geometry.triangles[:, [1, 2]], geometry.triangles[:, [2, 0]]]
    )
    low, high = pairs.min(axis=1).astype(np.int64), pairs.max(axis=1).astype(np.int64)
    return np.unique(low * geometry.positions.shape[1] + high)


def _record(result: Result) -> dict[str, Any]:
    path = result.folder / "texture" / "texture.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        whole = record["format"] <= FORMAT and isinstance(record["warnings"], list)
        files = [result.folder / "texture" / entry[kind] for entry in record["meshes"] for kind in _KINDS]
        if not whole or not all(isinstance(entry["name"], str) for entry in record["meshes"]):
            raise ValueError("it says something else")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(
            "damaged-textures", f"The textures of {result.folder} cannot be read ({error}).", "Bake them again."
        ) from error
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise OutputError("damaged-textures", f"The textures of {result.folder} lack {missing[0]}.", "Bake them again.")
    return record


def _projection(result: Result, record: dict[str, Any], scene: bpy.types.Scene, space: str) -> Projection:
    """The frames and the depths as sequences by scene frame, and which sample each scene frame shows."""
    choices = choose_frames(result, lambda frame: None)
    decode = record["projection"]
    depths = [result.folder / "texture" / decode["reach"] / picture.name for picture in result.pictures]
    frames = write_sequence(result, choices)
    reach = write_sequence(result, choices, depths, "reach")
    return Projection(
        choices=choices,
        frames=frames,
        picture=tag(load_sequence(f"{result.name} projection", frames, space), result),
        reach_frames=reach,
        reach=tag(load_sequence(f"{result.name} reach", reach, "Non-Color"), result),
        low=float(decode["low"]),
        high=float(decode["high"]),
        orthographic=bool(decode["orthographic"]),
    )


def _image(result: Result, name: str, title: str, space: str) -> bpy.types.Image:
    image = tag(bpy.data.images.load(str(result.folder / "texture" / name), check_existing=False), result)
    image.name, image.filepath = title, stored_path(result.folder / "texture" / name)
    image.colorspace_settings.name = space
    return image
