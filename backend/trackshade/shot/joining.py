# SPDX-License-Identifier: GPL-3.0-or-later
"""Joins the samples of a track set to one shot, as a capture of the same frames would have made it.

A mesh is known again by its name and its place in what instances it. What is told of recordings in a capture holds
here, too: what does not deform is stored once, points are carried across changes of topology by the same
`trackshade.shot.segments`, and where a thing is not seen its latest state holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from trackshade.config.registry import ModelSpec
from trackshade.core.errors import ShotError
from trackshade.core.fitting import SizeFit, fit_size
from trackshade.shot.model import Shot
from trackshade.shot.parts import CameraTrack, Cutout, Geometry, MeshTrack, ObjectTrack, Surfaces
from trackshade.shot.segments import History, Segment, SlotVariants, carried_warning, geometries_of
from trackshade.shot.track_set import TrackSet

Key = tuple[str, tuple[int, ...], int]  # name, place, how many such came before it in the frame
Part = tuple[int, int]  # sample, geometry in its shot


@dataclass
class _Thing:
    """A mesh over the samples: in which it was seen, as which mesh of that sample's shot."""

    seen: dict[int, int] = field(default_factory=dict)


def join(tracks: TrackSet, spec: ModelSpec) -> Shot:
    """The shot of the frames that the model gets.

    Raises:
        ShotError: tracks are missing or damaged, or of renders of another size.
    """
    order = tracks.order
    frames = order.frames(spec)
    tracks.complete_or_raise(spec)
    samples = [Shot.load(tracks.path(frame)) for frame in frames.frame_numbers]
    fit = _fit(tracks, samples, spec)
    things: dict[Key, _Thing] = {}
    for t, sample in enumerate(samples):
        for mesh, key in enumerate(_keys(sample)):
            things.setdefault(key, _Thing()).seen[t] = mesh
    warnings = dict.fromkeys(text for sample in samples for text in sample.warnings)
    histories: dict[tuple[Part, ...], History] = {}  # by the geometry in each sample
    parts = [
        tuple((t, samples[t].meshes[mesh].geometry) for t, mesh in thing.seen.items()) for thing in things.values()
    ]
    not_solid = {
        (t, mesh.geometry) for t, sample in enumerate(samples) for mesh in sample.meshes if mesh.surfaces is not None
    }
    for (name, _, _), own in zip(things, parts, strict=True):
        if own not in histories:
            history = histories[own] = _history(samples, own, not_solid)
            if history.carried:
                warnings[carried_warning(name, [frames.frame_numbers[t] for t in history.carried])] = None
    finished = {
        id(segment): geometry
        for own, history in histories.items()
        for segment, geometry in _with_materials(samples, own, history)
    }
    geometries, numbers = geometries_of(histories.values(), lambda segment: finished[id(segment)])
    looks = _Looks(samples)
    meshes = []
    for ((name, _, _), thing), own in zip(things.items(), parts, strict=True):
        track = _mesh(samples, thing, name, *histories[own].track(numbers))
        meshes.append(replace(track, surfaces=looks.of(thing)))
    first = samples[0].source
    return Shot(
        frame_numbers=np.array(frames.frame_numbers, np.float64),
        fps=frames.fps,
        size=fit.size,
        camera=_camera([sample.camera for sample in samples], fit),
        geometries=geometries,
        meshes=tuple(meshes),
        objects=_objects(samples),
        view_layer=samples[0].view_layer,
        source={
            "file": first.get("file", ""),
            "scene": first.get("scene", ""),
            "blender": first.get("blender", ""),
            "frame_map": frames.to_dict(),
            "size_fit": fit.to_dict(),
            "color_management": first.get("color_management", {}),
            "warnings": list(warnings),
        },
        surfaces=tuple(looks.surfaces),
        cutouts=tuple(looks.cutouts),
    )


def _fit(tracks: TrackSet, samples: list[Shot], spec: ModelSpec) -> SizeFit:
    sizes = {sample.size for sample in samples}
    if len(sizes) > 1:
        said = " and ".join(sorted(f"{width}×{height}" for width, height in sizes))
        raise ShotError(
            "mixed-set",
            f"The tracks in {tracks.folder} are of renders of different sizes: {said}.",
            "Render all frames at one size.",
        )
    order = tracks.order
    aspect = SizeFit.from_dict(samples[0].source["size_fit"]).pixel_aspect
    return fit_size(samples[0].size, aspect, (order.size,) if order.size else spec.sizes, order.size_mode)


def _keys(sample: Shot) -> list[Key]:
    counts: dict[tuple[str, tuple[int, ...]], int] = {}
    keys = []
    places = sample.source.get("keys")
    if not isinstance(places, list) or len(places) != len(sample.meshes):
        raise _unnamed()
    for mesh, place in zip(sample.meshes, places, strict=True):
        key = mesh.name, tuple(place)
        keys.append((*key, counts.get(key, 0)))
        counts[key] = counts.get(key, 0) + 1
    return keys


def _history(samples: list[Shot], own: tuple[Part, ...], not_solid: set[Part]) -> History:
    """The geometries over all samples, from those in which it is seen.

    Args:
        not_solid: the geometries of meshes with surfaces, whose material slots matter.
    """
    history: History | None = None
    variants, slots_matter = SlotVariants(), False
    latest: tuple[str, int] | None = None
    for t, index in own:
        geometry, topology = samples[t].geometries[index], _topology(samples, t, index)
        slots_matter |= (t, index) in not_solid
        number = variants.number(topology, geometry.materials, slots_matter)
        key = latest if latest is not None and latest[0] == topology and not slots_matter else (topology, number)
        if history is None:
            history = History(len(samples), key, geometry.positions[0], geometry.triangles, geometry.uv)
        history.put(t, key, geometry.positions[0], lambda item=geometry: (item.triangles, item.uv))
        latest = key
    assert history is not None  # every thing is seen in some sample
    history.complete()
    return history


def _with_materials(samples: list[Shot], own: tuple[Part, ...], history: History) -> Iterator[tuple[Segment, Geometry]]:
    """The geometries of a history, with slots and further texture coordinates from the samples that they are of."""
    sources = [samples[t].geometries[index] for t, index in own]
    by_triangles = {id(item.triangles): item for item in reversed(sources)}
    count = max(len(item.more_uv) for item in sources)
    for segment in history.segments:
        item = by_triangles[id(segment.triangles)]
        blank = np.zeros((len(item.triangles), 3, 2), np.float32)
        more = (*item.more_uv, *[blank] * (count - len(item.more_uv)))
        yield segment, replace(segment.geometry, materials=item.materials, more_uv=more)


def _topology(samples: list[Shot], t: int, index: int) -> str:
    digests = samples[t].source.get("topology")
    if not isinstance(digests, list) or len(digests) != len(samples[t].geometries):
        raise _unnamed()
    return str(digests[index])


def _unnamed() -> ShotError:
    return ShotError("damaged-shot", "The tracks of a frame do not name their meshes.", "Render the export again.")


def _mesh(
    samples: list[Shot], thing: _Thing, name: str, geometry: int, changes: tuple[tuple[int, int], ...]
) -> MeshTrack:
    visible = np.zeros(len(samples), np.bool_)
    visible[list(thing.seen)] = True
    first = next(iter(thing.seen))
    track = samples[first].meshes[thing.seen[first]]
    matrices = {t: samples[t].meshes[mesh].matrix_world[0] for t, mesh in thing.seen.items()}
    held = _held(matrices, len(samples))
    return MeshTrack(name, geometry, held, visible, track.holdout, track.pass_index, changes=changes)


class _Looks:
    """Surfaces over all samples; things that look alike in every sample share one."""

    def __init__(self, samples: list[Shot]) -> None:
        self.surfaces: list[Surfaces] = []
        self.cutouts: list[Cutout] = []
        self._samples = samples
        self._known: dict[bytes, int] = {}
        self._images: dict[tuple[object, ...], int] = {}

    def of(self, thing: _Thing) -> int | None:
        """Index of the thing's surfaces, as a capture has them: the first sample's cut-outs count."""
        found: dict[int, Surfaces] = {}
        for t, mesh in thing.seen.items():
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
            elif t not in thing.seen and t:
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


def _held(matrices: dict[int, np.ndarray], count: int) -> np.ndarray:
    """[T, 4, 4]: between samples a thing stays where it was, before the first where it appears."""
    latest = next(iter(matrices.values()))
    made = np.empty((count, 4, 4), np.float64)
    for t in range(count):
        made[t] = latest = matrices.get(t, latest)
    return made


def _objects(samples: list[Shot]) -> tuple[ObjectTrack, ...]:
    found: dict[str, tuple[str, dict[int, np.ndarray]]] = {}
    for t, sample in enumerate(samples):
        for item in sample.objects:
            if t == 0 or item.name in found:
                found.setdefault(item.name, (item.kind, {}))[1][t] = item.matrix_world[0]
    return tuple(ObjectTrack(name, kind, _held(rows, len(samples))) for name, (kind, rows) in found.items())


def _camera(cameras: list[CameraTrack], fit: SizeFit) -> CameraTrack:
    return CameraTrack(
        name=cameras[0].name,
        sources=tuple(camera.sources[0] for camera in cameras),
        intrinsics=fit.apply(np.concatenate([camera.intrinsics for camera in cameras])),
        world_to_camera=np.concatenate([camera.world_to_camera for camera in cameras]),
        orthographic=np.concatenate([camera.orthographic for camera in cameras]),
        clip=np.concatenate([camera.clip for camera in cameras]),
    )
