# SPDX-License-Identifier: GPL-3.0-or-later
"""The texture coordinates that a result is baked by: each mesh's own, or, where those cannot hold a texture, a UV map
of their own that is unwrapped beside them.

A mesh's own UV map (the one that renders use) is taken where every texel belongs to one place: it lies in one square
(no UDIM tiles, no repeats), and nothing overlaps (no mirrored or stacked islands). Else the mesh gets one more map,
unwrapped by Blender's Smart UV Project; its own maps, and which of them is active, stay as they are.

Coordinates are read off the evaluated meshes, as a shot of few frames: modifiers carry them along.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import bpy
import numpy as np

from trackshade.core.errors import ShotError
from trackshade.core.fitting import FrameMap
from trackshade.shot import MeshTrack, Shot

from ..capture import capture
from .cameras import find_cameras
from .collection import shown_layer
from .materials import KEY
from .record import Result

MAP = "Trackshade"  # the UV map that is added
_ISLAND_MARGIN = 0.003  # of the texture's side: three texels of 1024
_ANGLE = 1.15  # radians, as Blender's own default for Smart UV Project
_PROBES = 1500  # places that are looked at for overlaps
_PAIRS = 20_000_000  # of a triangle and a probe, at most
_EDGE = 1e-3  # barycentric: nearer to an edge than this does not count as inside
_OVERLAPPING = 0.01  # share of the area that may belong to several places
_TOPOLOGIES = 8  # of a mesh that changes, whose coordinates are read; each is a frame to evaluate
_MOST_MAPS = 8  # of a mesh, in any Blender


def textured_objects(scene: bpy.types.Scene, shot: Shot) -> tuple[dict[str, bpy.types.Object], dict[str, str]]:
    """The scene's objects that can carry a texture of this shot, and why others cannot ("is no mesh"), by name."""
    found: dict[str, bpy.types.Object] = {}
    left: dict[str, str] = {}
    for track in shot.meshes:
        if track.holdout or not track.visible.any():
            continue
        obj = scene.objects.get(track.name)
        if obj is None:
            left[track.name] = "is an instance, or not in the scene any more"
        elif not isinstance(obj.data, bpy.types.Mesh):
            left[track.name] = "is no mesh"
        elif obj.library is not None:
            left[track.name] = "is linked from another file"
        elif obj.data.is_editmode:
            left[track.name] = "is in Edit Mode"
        else:
            found[track.name] = obj
    return found, left


def choose_maps(objects: dict[str, bpy.types.Object]) -> tuple[dict[str, str], dict[str, str]]:
    """Name of the UV map to bake each object by, unwrapped anew where a mesh's own will not do; and why an object can
    have none."""
    chosen: dict[str, str] = {}
    left: dict[str, str] = {}
    by_mesh: dict[bpy.types.Mesh, str | None] = {}
    for name, obj in objects.items():
        mesh = obj.data
        assert isinstance(mesh, bpy.types.Mesh)
        if mesh not in by_mesh:
            by_mesh[mesh] = _choose(mesh)
        uv_map = by_mesh[mesh]
        if uv_map is not None:
            chosen[name] = uv_map
        elif mesh.library is not None:
            left[name] = "has a mesh from another file, without a UV map"
        else:
            left[name] = "has as many UV maps as Blender takes, none of which can hold a texture"
    return chosen, left


def remove_maps(objects: list[bpy.types.Object]) -> None:
    """Takes away the UV maps that were added to these objects' meshes, but for those that an object still wears a
    result by."""
    worn = {obj.data for obj in bpy.data.objects if KEY in obj}
    for mesh in {obj.data for obj in objects if isinstance(obj.data, bpy.types.Mesh)} - worn:
        layer = mesh.uv_layers.get(MAP) if MAP in mesh.get(_ADDED, "") else None
        if layer is not None:
            with _same_active(mesh):
                mesh.uv_layers.remove(layer)
        if _ADDED in mesh:
            del mesh[_ADDED]


_ADDED = "trackshade_uv_map"


def capture_coordinates(scene: bpy.types.Scene, result: Result, shot: Shot, maps: dict[str, str], path: Path) -> Shot:
    """The coordinates that the scene's evaluated meshes have by these maps, as a shot of as few frames as show all of
    them; it is written to `path`, too.

    Raises:
        ShotError: the scene cannot be captured. OutputError: the file cannot be written.
    """
    layer = scene.view_layers[shown_layer(scene, None, result) or 0]
    shown = [rows for track in shot.meshes if track.name in maps for rows in _shown(track)]
    samples = tuple(result.samples[t] for t in _covering(np.array(shown)))
    cameras = find_cameras(scene, result)
    camera = next(iter(cameras.values()), scene.camera)
    if camera is None:
        raise ShotError("no-camera", f"Scene '{scene.name}' has no camera.", "Add one; which one does not matter.")
    objects = [(scene.objects[name].data, uv_map) for name, uv_map in maps.items()]
    with _rendered(objects):
        frames = FrameMap(samples[0], samples[-1], 1.0, "exact", samples, shot.fps, "")
        made = capture(scene, layer, frame_map=frames, size_fit=result.fit, camera=camera)
    made.save(path, force=True)
    return made


def _shown(track: MeshTrack) -> list[np.ndarray]:
    """[T] bool each: where a mesh is visible with its first geometry, and with a few others, the last one included."""
    own = np.array([track.geometry_at(t) for t in range(len(track.visible))])
    seen = [index for index in track.geometries if np.any(track.visible & (own == index))]
    some = np.unique(np.linspace(0, len(seen) - 1, min(len(seen), _TOPOLOGIES)).round().astype(int))
    return [track.visible & (own == seen[k]) for k in some]


def _covering(shown: np.ndarray) -> list[int]:
    """Few samples in one of which each mesh is visible; `shown` [M, T] bool says where each is, somewhere at least."""
    chosen: set[int] = set()
    while len(shown):
        best = int(np.argmax(shown.sum(axis=0)))
        chosen.add(best)
        shown = shown[~shown[:, best]]
    return sorted(chosen)


def _choose(mesh: bpy.types.Mesh) -> str | None:
    """None where its own will not do, and it cannot be given one."""
    if mesh.get(_ADDED) and MAP in mesh.uv_layers:
        return MAP
    own = next((layer for layer in mesh.uv_layers if layer.active_render), None)
    if own is not None and (mesh.library is not None or holds_a_texture(mesh, own)):
        return own.name
    if mesh.library is not None:
        return None
    with _same_active(mesh):
        name = _unwrap(mesh)
    if name is not None:
        mesh[_ADDED] = name
    return name


def holds_a_texture(mesh: bpy.types.Mesh, layer: bpy.types.MeshUVLoopLayer) -> bool:
    """Whether a map lies in the unit square, and hardly any two faces of it at the same place."""
    if not len(mesh.loops):
        return True
    uv = np.empty((len(mesh.loops), 2), np.float32)
    layer.uv.foreach_get("vector", uv.reshape(-1))
    if not np.isfinite(uv).all() or (uv < -1e-4).any() or (uv > 1 + 1e-4).any():
        return False
    mesh.calc_loop_triangles()
    corners = np.empty((len(mesh.loop_triangles), 3), np.int32)
    mesh.loop_triangles.foreach_get("loops", corners.reshape(-1))
    return _overlapping(uv[corners].astype(np.float64)) <= _OVERLAPPING


def _overlapping(corners: np.ndarray) -> float:
    """About which share of the area of triangles [F, 3, 2] other ones cover, too, by probing places; 1 of no area."""
    a, second, third = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = second[:, 0] * third[:, 1] - second[:, 1] * third[:, 0]  # twice, signed
    if not np.abs(area).sum() > 1e-9:
        return 1.0
    random = np.random.default_rng(0)
    probed = random.choice(len(area), min(_PROBES, 4 * len(area)), p=np.abs(area) / np.abs(area).sum())
    places = np.einsum("nc,ncx->nx", random.dirichlet((2.0, 2.0, 2.0), len(probed)), corners[probed])
    order = np.argsort(places[:, 0])
    probed, places = probed[order], places[order]
    # Each triangle against the probes between its left and its right end.
    first = np.searchsorted(places[:, 0], corners[..., 0].min(axis=1))
    count = np.searchsorted(places[:, 0], corners[..., 0].max(axis=1)) - first
    step = max(1, int(count.sum() / _PAIRS))  # fewer triangles would be missed; fewer probes are not
    if step > 1:
        return _overlapping(corners[::step])
    triangle = np.repeat(np.arange(len(count)), count)
    probe = np.arange(len(triangle)) - np.repeat(np.cumsum(count) - count, count) + first[triangle]
    other = (probed[probe] != triangle) & (np.abs(area[triangle]) > 1e-14)
    triangle, probe = triangle[other], probe[other]
    offset = places[probe] - a[triangle]
    b = (offset[:, 0] * third[triangle, 1] - offset[:, 1] * third[triangle, 0]) / area[triangle]
    c = (second[triangle, 0] * offset[:, 1] - second[triangle, 1] * offset[:, 0]) / area[triangle]
    inside = (b > _EDGE) & (c > _EDGE) & (b + c < 1 - _EDGE)
    return len(np.unique(probe[inside])) / len(places)


def _unwrap(mesh: bpy.types.Mesh) -> str | None:
    """Unwraps a mesh on a new map by Smart UV Project, in a scene of its own; the map's name, None where it has as
    many as it can have."""
    layer = mesh.uv_layers.new(name=MAP, do_init=False) if len(mesh.uv_layers) < _MOST_MAPS else None
    if layer is None:
        return None
    name = layer.name
    copy = mesh.copy()
    workshop = bpy.data.scenes.new("Trackshade unwrapping")
    obj = bpy.data.objects.new("Trackshade unwrapping", copy)
    try:
        workshop.collection.objects.link(obj)
        copy.uv_layers.active = copy.uv_layers[name]
        view_layer = workshop.view_layers[0]
        view_layer.objects.active = obj
        obj.select_set(True, view_layer=view_layer)
        around = {
            "scene": workshop, "view_layer": view_layer, "active_object": obj, "object": obj, "selected_objects": [obj]
        }  # fmt: skip
        with bpy.context.temp_override(**around):
            bpy.ops.object.mode_set(mode="EDIT")
        with bpy.context.temp_override(**around, edit_object=obj):
            bpy.ops.mesh.select_all(action="SELECT")
            bpy.ops.uv.smart_project(angle_limit=_ANGLE, island_margin=_ISLAND_MARGIN, scale_to_bounds=False)
            bpy.ops.object.mode_set(mode="OBJECT")
        uv = np.empty(2 * len(mesh.loops), np.float32)
        copy.uv_layers[name].uv.foreach_get("vector", uv)
        mesh.uv_layers[name].uv.foreach_set("vector", uv)
    finally:
        bpy.data.batch_remove([workshop, obj, copy])
    return name


@contextlib.contextmanager
def _same_active(mesh: bpy.types.Mesh) -> Iterator[None]:
    """Which maps are active stays the same, whatever is added and taken away."""
    active = "" if mesh.uv_layers.active is None else mesh.uv_layers.active.name
    rendered = next((layer.name for layer in mesh.uv_layers if layer.active_render), "")
    try:
        yield
    finally:
        if active in mesh.uv_layers:
            mesh.uv_layers.active = mesh.uv_layers[active]
        if rendered in mesh.uv_layers:
            mesh.uv_layers[rendered].active_render = True


@contextlib.contextmanager
def _rendered(maps: list[tuple[bpy.types.Mesh, str]]) -> Iterator[None]:
    """Renders use these maps for a while."""
    with contextlib.ExitStack() as stack:
        for mesh, name in dict(maps).items():
            stack.enter_context(_same_active(mesh))
            mesh.uv_layers[name].active_render = True
        yield
