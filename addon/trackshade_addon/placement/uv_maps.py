# SPDX-License-Identifier: GPL-3.0-or-later
"""The UV maps that results are baked for.

A mesh's UV map (the one that renders use) is taken where every texel belongs to one place: it lies in one square (no
UDIM tiles, no repeats), and nothing overlaps (no mirrored or stacked islands). Otherwise the mesh gets one more map,
unwrapped by Blender's Smart UV Project; its other maps, and which of them is active, stay as they are.

Coordinates are read off the evaluated meshes, as a shot of few frames, since modifiers carry them along.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import bpy
import numpy as np

from trackshade.core.fitting import FrameMap
from trackshade.shot import MeshTrack, Shot

from ..capture import capture
from ..capture.camera import no_camera_error
from .cameras import find_cameras
from .collection import choose_view_layer
from .materials import KEY
from .result_folder import ResultFolder

UV_MAP = "Trackshade"  # name of the UV map that is added
_ADDED_KEY = "trackshade_uv_map"  # on a mesh: name of the UV map that was added
_ISLAND_MARGIN = 0.003  # of the texture's side: three texels of 1024
_ANGLE = 1.15  # radians, as Blender's default for Smart UV Project
_PROBES = 1500  # points that are tested for overlaps
_PAIRS = 20_000_000  # of a triangle and a probe, at most
_EDGE = 1e-3  # barycentric: nearer to an edge than this does not count as inside
_OVERLAPPING = 0.01  # fraction of the area that may belong to several places
_TOPOLOGIES = 8  # of a mesh that changes, whose coordinates are read; each is a frame to evaluate
_MOST_MAPS = 8  # of a mesh, in any Blender


def find_textured_objects(scene: bpy.types.Scene, shot: Shot) -> tuple[dict[str, bpy.types.Object], dict[str, str]]:
    """Return by name the scene's objects that can have a texture of this shot, and why others cannot ("is no mesh")."""
    found: dict[str, bpy.types.Object] = {}
    excluded: dict[str, str] = {}
    for track in shot.meshes:
        if track.holdout or not track.visible.any():
            continue
        obj = scene.objects.get(track.name)
        if obj is None:
            excluded[track.name] = "is an instance, or not in the scene any more"
        elif not isinstance(obj.data, bpy.types.Mesh):
            excluded[track.name] = "is no mesh"
        elif obj.library is not None:
            excluded[track.name] = "is linked from another file"
        elif obj.data.is_editmode:
            excluded[track.name] = "is in Edit Mode"
        else:
            found[track.name] = obj
    return found, excluded


def choose_uv_maps(objects: dict[str, bpy.types.Object]) -> tuple[dict[str, str], dict[str, str]]:
    """Return by object the name of the UV map to bake it for, and why it can have none.

    A mesh is unwrapped anew where it has none that will do.
    """
    chosen: dict[str, str] = {}
    excluded: dict[str, str] = {}
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
            excluded[name] = "has a mesh from another file, without a UV map"
        else:
            excluded[name] = "has as many UV maps as Blender takes, none of which can hold a texture"
    return chosen, excluded


def remove_uv_maps(objects: list[bpy.types.Object]) -> None:
    """Remove the UV maps that were added to these objects' meshes, unless an object still shows a result with it."""
    used = {obj.data for obj in bpy.data.objects if KEY in obj}
    for mesh in {obj.data for obj in objects if isinstance(obj.data, bpy.types.Mesh)} - used:
        layer = mesh.uv_layers.get(UV_MAP) if UV_MAP in mesh.get(_ADDED_KEY, "") else None
        if layer is not None:
            with _keep_active(mesh):
                mesh.uv_layers.remove(layer)
        if _ADDED_KEY in mesh:
            del mesh[_ADDED_KEY]


def capture_coordinates(
    scene: bpy.types.Scene, result: ResultFolder, shot: Shot, uv_maps: dict[str, str], path: Path
) -> Shot:
    """Capture the coordinates of UV maps (by object) of the scene's evaluated meshes, as a shot of few frames.

    Raises:
        ShotError: The scene cannot be captured.
        OutputError: The file cannot be written.
    """
    layer = scene.view_layers[choose_view_layer(scene, None, result) or 0]
    visible = [row for track in shot.meshes if track.name in uv_maps for row in _visibility(track)]
    samples = tuple(result.samples[t] for t in _cover(np.array(visible)))
    cameras = find_cameras(scene, result)
    camera = next(iter(cameras.values()), scene.camera)
    if camera is None:
        raise no_camera_error(scene)
    with contextlib.ExitStack() as stack:
        for mesh, uv_map in {scene.objects[name].data: uv_map for name, uv_map in uv_maps.items()}.items():
            stack.enter_context(_keep_active(mesh))
            mesh.uv_layers[uv_map].active_render = True  # the UV map that is captured
        frames = FrameMap(samples[0], samples[-1], 1.0, "exact", samples, shot.fps, "")
        captured = capture(scene, layer, frame_map=frames, size_fit=result.fit, camera=camera)
    captured.save(path, force=True)
    return captured


def _visibility(track: MeshTrack) -> list[np.ndarray]:
    """Return [T] bool arrays: when a mesh is visible with its first geometry, and with a few others."""
    used = np.array([track.geometry_at(t) for t in range(len(track.visible))])
    seen = [index for index in track.geometries if np.any(track.visible & (used == index))]
    some = np.unique(np.linspace(0, len(seen) - 1, min(len(seen), _TOPOLOGIES)).round().astype(int))
    return [track.visible & (used == seen[k]) for k in some]


def _cover(
    visible: np.ndarray,  # [M, T] bool, each row with at least one True
) -> list[int]:
    """Return a few samples so that each row is True in one of them."""
    chosen: set[int] = set()
    while len(visible):
        best = int(np.argmax(visible.sum(axis=0)))
        chosen.add(best)
        visible = visible[~visible[:, best]]
    return sorted(chosen)


def _choose(mesh: bpy.types.Mesh) -> str | None:
    """Return a UV map's name; None where no map of the mesh will do, and it cannot be given one."""
    if mesh.get(_ADDED_KEY) and UV_MAP in mesh.uv_layers:
        return UV_MAP
    rendered = next((layer for layer in mesh.uv_layers if layer.active_render), None)
    if rendered is not None and (mesh.library is not None or can_hold_texture(mesh, rendered)):
        return rendered.name
    if mesh.library is not None:
        return None
    with _keep_active(mesh):
        name = _unwrap(mesh)
    if name is not None:
        mesh[_ADDED_KEY] = name
    return name


def can_hold_texture(mesh: bpy.types.Mesh, layer: bpy.types.MeshUVLoopLayer) -> bool:
    """Return whether a UV map lies in the unit square with hardly any overlaps."""
    if not len(mesh.loops):
        return True
    uv = np.empty((len(mesh.loops), 2), np.float32)
    layer.uv.foreach_get("vector", uv.reshape(-1))
    if not np.isfinite(uv).all() or (uv < -1e-4).any() or (uv > 1 + 1e-4).any():
        return False
    mesh.calc_loop_triangles()
    corners = np.empty((len(mesh.loop_triangles), 3), np.int32)
    mesh.loop_triangles.foreach_get("loops", corners.reshape(-1))
    return _overlap(uv[corners].astype(np.float64)) <= _OVERLAPPING


def _overlap(
    corners: np.ndarray,  # [F, 3, 2] texture coordinates
) -> float:
    """Estimate which fraction of the area of triangles is covered several times, by probing; 1 where there is none."""
    a, second, third = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = second[:, 0] * third[:, 1] - second[:, 1] * third[:, 0]  # twice, signed
    if not np.abs(area).sum() > 1e-9:
        return 1.0
    random = np.random.default_rng(0)
    probed = random.choice(len(area), min(_PROBES, 4 * len(area)), p=np.abs(area) / np.abs(area).sum())
    points = np.einsum("nc,ncx->nx", random.dirichlet((2.0, 2.0, 2.0), len(probed)), corners[probed])
    order = np.argsort(points[:, 0])
    probed, points = probed[order], points[order]
    # Each triangle is tested against the probes between its left and its right end.
    first = np.searchsorted(points[:, 0], corners[..., 0].min(axis=1))
    count = np.searchsorted(points[:, 0], corners[..., 0].max(axis=1)) - first
    step = max(1, int(count.sum() / _PAIRS))
    if step > 1:
        return _overlap(corners[::step])
    triangle = np.repeat(np.arange(len(count)), count)
    probe = np.arange(len(triangle)) - np.repeat(np.cumsum(count) - count, count) + first[triangle]
    other = (probed[probe] != triangle) & (np.abs(area[triangle]) > 1e-14)
    triangle, probe = triangle[other], probe[other]
    offset = points[probe] - a[triangle]
    b = (offset[:, 0] * third[triangle, 1] - offset[:, 1] * third[triangle, 0]) / area[triangle]
    c = (second[triangle, 0] * offset[:, 1] - second[triangle, 1] * offset[:, 0]) / area[triangle]
    inside = (b > _EDGE) & (c > _EDGE) & (b + c < 1 - _EDGE)
    return len(np.unique(probe[inside])) / len(points)


def _unwrap(mesh: bpy.types.Mesh) -> str | None:
    """Unwrap a mesh by Smart UV Project; return the name of the new UV map, or None where it can have no more."""
    layer = mesh.uv_layers.new(name=UV_MAP, do_init=False) if len(mesh.uv_layers) < _MOST_MAPS else None
    if layer is None:
        return None
    name = layer.name
    copy = mesh.copy()
    scene = bpy.data.scenes.new("Trackshade unwrapping")
    obj = bpy.data.objects.new("Trackshade unwrapping", copy)
    try:
        scene.collection.objects.link(obj)
        copy.uv_layers.active = copy.uv_layers[name]
        view_layer = scene.view_layers[0]
        view_layer.objects.active = obj
        obj.select_set(True, view_layer=view_layer)
        override = {
            "scene": scene,
            "view_layer": view_layer,
            "object": obj,
            "active_object": obj,
            "selected_objects": [obj],
        }
        with bpy.context.temp_override(**override):
            bpy.ops.object.mode_set(mode="EDIT")
        with bpy.context.temp_override(**override, edit_object=obj):
            bpy.ops.mesh.select_all(action="SELECT")
            bpy.ops.uv.smart_project(angle_limit=_ANGLE, island_margin=_ISLAND_MARGIN, scale_to_bounds=False)
            bpy.ops.object.mode_set(mode="OBJECT")
        uv = np.empty(2 * len(mesh.loops), np.float32)
        copy.uv_layers[name].uv.foreach_get("vector", uv)
        mesh.uv_layers[name].uv.foreach_set("vector", uv)
    finally:
        bpy.data.batch_remove([scene, obj, copy])
    return name


@contextlib.contextmanager
def _keep_active(mesh: bpy.types.Mesh) -> Iterator[None]:
    """Keep the active UV maps the same while maps are added and removed."""
    active = "" if mesh.uv_layers.active is None else mesh.uv_layers.active.name
    rendered = next((layer.name for layer in mesh.uv_layers if layer.active_render), "")
    try:
        yield
    finally:
        if active in mesh.uv_layers:
            mesh.uv_layers.active = mesh.uv_layers[active]
        if rendered in mesh.uv_layers:
            mesh.uv_layers[rendered].active_render = True
