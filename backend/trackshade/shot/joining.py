# SPDX-License-Identifier: GPL-3.0-or-later
"""Joins the samples of a track set to one shot, as a capture of the same frames would have made it.

A mesh is identified by its name and its position among the instances. As in a capture, geometry that does not deform is
stored once, points are carried across changes of topology by `trackshade.shot.segments`, and a mesh that is not visible
keeps its latest state.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trackshade.core.errors import ShotError
from trackshade.core.fitting import FrameMap
from trackshade.shot.model import Shot
from trackshade.shot.parts import CameraTrack, Cutout, Geometry, MeshTrack, ObjectTrack, Surfaces
from trackshade.shot.segments import History, Segment, SlotVariants, carried_warning, geometries_of
from trackshade.shot.track_set import TrackSet

MeshKey = tuple[str, tuple[int, ...], int]  # name, position among the instances, number of equal ones before it
MeshIndices = dict[int, int]  # by sample in which a mesh is visible: its index in that sample's shot
GeometryIndices = tuple[tuple[int, int], ...]  # (sample, index of the geometry in that sample's shot)


def join(tracks: TrackSet) -> Shot:
    """Return the shot of all exported frames.

    Raises:
        ShotError: tracks are missing or damaged, or of renders of another size.
    """
    frames = tracks.order.frames()
    tracks.check_complete()
    samples = [Shot.load(tracks.path(frame)) for frame in frames.frame_numbers]
    check_sizes(tracks.folder, samples)
    return join_samples(samples, frames)


def join_samples(samples: list[Shot], frames: FrameMap) -> Shot:
    """Return the shot of samples in the order of their frames.

    Args:
        samples: A shot with one sample for each frame. Its source has "keys", which says for each mesh where it is
            among the instances, and "topology", which is equal for geometries whose vertices and faces correspond.
        frames: The frames.

    Raises:
        ShotError: A sample does not have these lists.
    """
    meshes: dict[MeshKey, MeshIndices] = {}
    for t, sample in enumerate(samples):
        for mesh, key in enumerate(_mesh_keys(sample)):
            meshes.setdefault(key, {})[t] = mesh
    warnings = dict.fromkeys(text for sample in samples for text in sample.warnings)
    histories: dict[GeometryIndices, History] = {}
    parts = [tuple((t, samples[t].meshes[mesh].geometry) for t, mesh in indices.items()) for indices in meshes.values()]
    not_solid = {
        (t, mesh.geometry) for t, sample in enumerate(samples) for mesh in sample.meshes if mesh.surfaces is not None
    }
    for (name, _, _), part in zip(meshes, parts, strict=True):
        if part not in histories:
            history = histories[part] = _join_geometry(samples, part, not_solid)
            if history.carried:
                warnings[carried_warning(name, [frames.frame_numbers[t] for t in history.carried])] = None
    finished = {
        id(segment): geometry
        for part, history in histories.items()
        for segment, geometry in _with_materials(samples, part, history)
    }
    geometries, numbers = geometries_of(histories.values(), lambda segment: finished[id(segment)])
    surfaces = _SurfaceJoiner(samples)
    tracks_of_meshes = []
    for ((name, _, _), indices), part in zip(meshes.items(), parts, strict=True):
        track = _join_mesh(samples, indices, name, *histories[part].track(numbers))
        tracks_of_meshes.append(replace(track, surfaces=surfaces.join(indices)))
    first = samples[0].source
    return Shot(
        frame_numbers=np.array(frames.frame_numbers, np.float64),
        fps=frames.fps,
        size=samples[0].size,
        camera=_join_cameras([sample.camera for sample in samples]),
        more_cameras=tuple(map(_join_cameras, zip(*(sample.more_cameras for sample in samples), strict=True))),
        geometries=geometries,
        meshes=tuple(tracks_of_meshes),
        objects=_join_objects(samples),
        view_layer=samples[0].view_layer,
        source={
            "file": first.get("file", ""),
            "scene": first.get("scene", ""),
            "blender": first.get("blender", ""),
            "frame_map": frames.to_dict(),
            "size_fit": first.get("size_fit"),
            "color_management": first.get("color_management", {}),
            "light": _join_light([sample.source.get("light") for sample in samples]),
            "warnings": list(warnings),
        },
        surfaces=tuple(surfaces.surfaces),
        cutouts=tuple(surfaces.cutouts),
    )


def check_sizes(folder: Path, samples: Sequence[Shot]) -> None:
    """Raise ShotError("mixed-set") unless all shots of a folder have one size."""
    sizes = {sample.size for sample in samples}
    if len(sizes) > 1:
        text = " and ".join(sorted(f"{width}×{height}" for width, height in sizes))
        raise ShotError(
            "mixed-set",
            f"The tracks in {folder} are of renders of different sizes: {text}.",
            "Render all frames at one size.",
        )


def _join_light(samples: list[dict[str, Any] | None]) -> dict[str, Any] | None:
    """Return what lights the shot, from what lights each of its samples; see the add-on's `capture.lights`."""
    parts = [part for part in samples if part is not None]
    if len(parts) < len(samples):
        return None
    digests = [str(part["digest"]) for part in parts]
    return {
        "digest": hashlib.blake2b("".join(digests).encode(), digest_size=16).hexdigest(),
        "varies": len(set(digests)) > 1,
        "lit": any(part["lit"] for part in parts),
        "complete": all(part["complete"] for part in parts),
    }


def _mesh_keys(sample: Shot) -> list[MeshKey]:
    counts: dict[tuple[str, tuple[int, ...]], int] = {}
    keys = []
    for mesh, position in zip(sample.meshes, _listed(sample, "keys", len(sample.meshes)), strict=True):
        key = mesh.name, tuple(position)
        keys.append((*key, counts.get(key, 0)))
        counts[key] = counts.get(key, 0) + 1
    return keys


def _join_geometry(samples: list[Shot], part: GeometryIndices, not_solid: set[tuple[int, int]]) -> History:
    """Return a mesh's geometries over all samples, from those in which it is visible.

    `not_solid` are the geometries of meshes with surfaces, whose material slots matter.
    """
    history: History | None = None
    variants, slots_matter = SlotVariants(), False
    latest: tuple[str, int] | None = None
    for t, index in part:
        topologies = _listed(samples[t], "topology", len(samples[t].geometries))
        geometry, topology = samples[t].geometries[index], str(topologies[index])
        slots_matter |= (t, index) in not_solid
        number = variants.number(topology, geometry.materials, slots_matter)
        key = latest if latest is not None and latest[0] == topology and not slots_matter else (topology, number)
        if history is None:
            history = History(len(samples), key, geometry.positions[0], geometry.triangles, geometry.uv)
        history.put(t, key, geometry.positions[0], lambda item=geometry: (item.triangles, item.uv))
        latest = key
    assert history is not None  # every mesh is visible in some sample
    history.complete()
    return history


def _with_materials(samples: list[Shot], part: GeometryIndices, history: History) -> Iterator[tuple[Segment, Geometry]]:
    """Yield the geometries of a history, with the slots and further texture coordinates of their samples."""
    sources = [samples[t].geometries[index] for t, index in part]
    by_triangles = {id(item.triangles): item for item in reversed(sources)}
    count = max(len(item.more_uv) for item in sources)
    for segment in history.segments:
        item = by_triangles[id(segment.triangles)]
        blank = np.zeros((len(item.triangles), 3, 2), np.float32)
        more = (*item.more_uv, *[blank] * (count - len(item.more_uv)))
        yield segment, replace(segment.geometry, materials=item.materials, more_uv=more)


def _listed(sample: Shot, key: str, count: int) -> list[Any]:
    """Return a list of a sample's source that has an item for each mesh or geometry."""
    items = sample.source.get(key)
    if not isinstance(items, list) or len(items) != count:
        raise ShotError("damaged-shot", "The tracks of a frame do not name their meshes.", "Render the export again.")
    return items


def _join_mesh(
    samples: list[Shot], indices: MeshIndices, name: str, geometry: int, changes: tuple[tuple[int, int], ...]
) -> MeshTrack:
    visible = np.zeros(len(samples), np.bool_)
    visible[list(indices)] = True
    first = next(iter(indices))
    track = samples[first].meshes[indices[first]]
    matrices = {t: samples[t].meshes[mesh].matrix_world[0] for t, mesh in indices.items()}
    held = _hold_matrices(matrices, len(samples))
    return MeshTrack(name, geometry, held, visible, track.holdout, track.pass_index, changes=changes)


class _SurfaceJoiner:
    """Joins the surfaces of meshes over all samples; meshes with equal ones share them."""

    def __init__(self, samples: list[Shot]) -> None:
        self.surfaces: list[Surfaces] = []
        self.cutouts: list[Cutout] = []
        self._samples = samples
        self._known: dict[bytes, int] = {}
        self._images: dict[tuple[object, ...], int] = {}

    def join(self, indices: MeshIndices) -> int | None:
        """Return the index of a mesh's surfaces. As in a capture, the cut-outs of its first sample are used."""
        found: dict[int, Surfaces] = {}
        for t, mesh in indices.items():
            index = self._samples[t].meshes[mesh].surfaces
            if index is not None:
                found[t] = self._samples[t].surfaces[index]
        if not found:
            return None
        slots = max(len(item.cutouts) for item in found.values())
        sides = np.ones((2, len(self._samples), slots), np.bool_)
        cutouts, layers = np.full(slots, -1, np.int32), np.zeros(slots, np.int32)
        for t in range(len(self._samples)):
            if t in found:
                item = found[t]
                have = np.minimum(np.arange(slots), len(item.cutouts) - 1)  # the last stands for those beyond
                sides[:, t] = item.front[0][have], item.back[0][have]
                for slot in np.flatnonzero((cutouts < 0) & (item.cutouts[have] >= 0)):
                    cutouts[slot] = self._cutout(self._samples[t].cutouts[item.cutouts[have[slot]]])
                    layers[slot] = item.uv_layers[have[slot]]
            elif t not in indices and t:
                sides[:, t] = sides[:, t - 1]
        key = repr(slots).encode() + b"".join(part.tobytes() for part in (sides, cutouts, layers))
        if key not in self._known:
            self._known[key] = len(self.surfaces)
            constant = (sides == sides[:, :1]).all()
            front, back = sides[:, :1] if constant else sides
            self.surfaces.append(Surfaces(front.copy(), back.copy(), cutouts, layers))
        return self._known[key]

    def _cutout(self, item: Cutout) -> int:
        parts = item.alpha.tobytes(), item.opaque.tobytes(), item.transform.tobytes()
        key = item.alpha.shape, *parts, item.extension, item.smooth
        if key not in self._images:
            self._images[key] = len(self.cutouts)
            self.cutouts.append(item)
        return self._images[key]


def _hold_matrices(matrices: dict[int, np.ndarray], count: int) -> np.ndarray:
    """Return matrices [T, 4, 4] with those that are missing replaced by the latest, at the beginning by the first."""
    latest = next(iter(matrices.values()))
    held = np.empty((count, 4, 4), np.float64)
    for t in range(count):
        held[t] = latest = matrices.get(t, latest)
    return held


def _join_objects(samples: list[Shot]) -> tuple[ObjectTrack, ...]:
    found: dict[str, tuple[str, dict[int, np.ndarray]]] = {}
    for t, sample in enumerate(samples):
        for item in sample.objects:
            if t == 0 or item.name in found:
                found.setdefault(item.name, (item.kind, {}))[1][t] = item.matrix_world[0]
    return tuple(ObjectTrack(name, kind, _hold_matrices(rows, len(samples))) for name, (kind, rows) in found.items())


def _join_cameras(cameras: Sequence[CameraTrack]) -> CameraTrack:
    return CameraTrack(
        name=cameras[0].name,
        sources=tuple(camera.sources[0] for camera in cameras),
        intrinsics=np.concatenate([camera.intrinsics for camera in cameras]),
        world_to_camera=np.concatenate([camera.world_to_camera for camera in cameras]),
        orthographic=np.concatenate([camera.orthographic for camera in cameras]),
        clip=np.concatenate([camera.clip for camera in cameras]),
    )
