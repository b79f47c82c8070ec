# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluated frames, one after the other, become a shot. It only reads: who steps the frames is somebody else's matter.

`scene.Capture` steps the viewport's evaluation, a render engine that of its render, and a render of any engine shows
each frame to the render-layer hook.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import bpy
import numpy as np

from trackshade.core.errors import ShotError
from trackshade.core.fitting import FrameMap, SizeFit
from trackshade.shot import Geometry, MeshTrack, Shot
from trackshade.shot.segments import Segment, carried_warning, geometries_of

from .camera import CameraRecording, sees
from .completeness import find_gaps, sentences
from .cutouts import Cutouts
from .given_image import color_management
from .instances import Instances, Key, Seen
from .materials import Looks, Materials
from .objects import Matrices, Objects
from .recording import Library, Recording, Rows
from .strands import Strands, curves_of_nodes, curves_strands, particle_strands
from .surfaces import SurfaceTable
from .warnings import DICED, DISPLACED, UNKNOWN_ALPHA, WITHOUT_SURFACE, Warnings

_CORNERS = np.indices((2, 2, 2)).reshape(3, 8).T.astype(bool)  # [8, 3] high or low


@dataclass(eq=False)
class _Instance:
    """One thing in the scene, found again in each frame by its object, its persistent id and its instancer."""

    name: str
    place: tuple[int, ...]
    pass_index: int
    matrices: Matrices
    visible: np.ndarray  # [T] bool
    recording: Recording | None = None
    holdout: bool | None = None
    looks: dict[int, Looks] = field(default_factory=dict)  # by sample, where not all of it is solid


class Gathering:
    """The tracks of the samples that were put so far.

    Args:
        view_layer: the original one whose evaluation is read.
        frame_map: the scene frames that become the shot's samples.
        size_fit: how the model's image lies over the render's frame.
        rows: called as rows(array, n) when the first n rows of an array of the shot have got their final values.
        alone: the samples will be joined with others that are gathered elsewhere, so that nothing is taken for granted
            about what keeps its topology.
        glass: "opaque" or "through": whether what lets more than half of the light through is part of the shot.
        hair: "none" or "strands": whether hair is part of the shot, as thin tubes.
    """

    def __init__(
        self,
        view_layer: bpy.types.ViewLayer,
        frame_map: FrameMap,
        size_fit: SizeFit,
        rows: Rows | None = None,
        alone: bool = False,
        glass: str = "opaque",
        hair: str = "none",
    ) -> None:
        self.done = 0
        self.total = len(frame_map.frame_numbers)
        if self.total < 1:
            raise ShotError("empty-shot", "The shot has no frames.", "Choose a range of at least one frame.")
        self.frames = frame_map
        self.warnings = Warnings()
        self._layer = view_layer
        self._alone = alone
        self._colors: dict[str, Any] = {}  # how the scene shows light in the first sample
        self._fit = size_fit
        self._library = Library(self.total, rows)
        self._cameras = CameraRecording(self.total, size_fit)
        self._things = Instances(view_layer)
        self._instances: dict[Key, _Instance] = {}
        self._drawn: dict[int, Matrices] = {}
        self._objects = Objects(view_layer, self.total)
        self._hair = hair
        self._depsgraph: bpy.types.Depsgraph | None = None
        self._looks: dict[tuple[int, int, int], tuple[Looks, Looks]] = {}  # of this sample
        self._strands: dict[tuple[int, int, str], Strands | None] = {}  # of this sample
        self._cutouts = Cutouts()
        self._materials = Materials(view_layer, glass, self._cutouts)

    def put(self, depsgraph: bpy.types.Depsgraph, camera: bpy.types.Object | None) -> None:
        """Takes the next sample: `depsgraph` holds its frame, which is seen through the original object `camera`.

        Raises:
            ShotError: what this frame shows cannot be part of a shot.
        """
        t, frame = self.done, self.frames.frame_numbers[self.done]
        if t == 0:
            self._colors = color_management(depsgraph.scene)
        self._cameras.put(t, frame, camera, depsgraph)
        self._library.begin()
        self._materials.begin(depsgraph)
        self._depsgraph = depsgraph
        self._strands.clear()
        self._looks.clear()
        for seen in self._things.of(depsgraph):
            self._look_at(t, frame, seen)
        self._objects.put(t, depsgraph, self._drawn)
        self._library.end(t)
        self.done += 1

    def _look_at(self, t: int, frame: float, seen: Seen) -> None:
        strands = None
        if seen.kind in WITHOUT_SURFACE:
            if not seen.appearance.visible:
                return
            strands = self._strands_of(seen)
            if strands is None:
                self.warnings.name(WITHOUT_SURFACE[seen.kind], seen.name)
                return
        instance = self._instances.get(seen.key)
        if instance is None:
            matrices, visible = Matrices(self.total), np.zeros(self.total, np.bool_)
            instance = _Instance(seen.name, seen.key[2], seen.pass_index, matrices, visible)
            self._instances[seen.key] = instance
            if not seen.key[1] and not seen.system:  # the object itself
                self._drawn[seen.key[0]] = matrices
        instance.matrices.put(t, seen.item.matrix_world)
        if strands is not None:
            self._record_strands(t, frame, seen, instance, strands)
        elif seen.appearance.visible:
            self._record(t, frame, seen, instance)

    def _strands_of(self, seen: Seen) -> Strands | None:
        """The strands of hair; None where they are not asked for, or cannot be read."""
        if self._hair != "strands" or seen.kind not in ("CURVES", "HAIR"):
            return None
        assert self._depsgraph is not None
        key = seen.key[0], seen.obj.data.as_pointer(), seen.system
        if key not in self._strands:
            if seen.kind == "HAIR":
                system = seen.obj.particle_systems.get(seen.system)
                made = None if system is None else particle_strands(seen.obj, system, self._depsgraph)
            elif seen.obj.type == "CURVES":
                made = curves_strands(seen.obj.data)
            else:
                made = curves_of_nodes(seen.obj, self._depsgraph)
            self._strands[key] = made
        return self._strands[key]

    def _record_strands(self, t: int, frame: float, seen: Seen, instance: _Instance, strands: Strands) -> None:
        looks = self._materials.of(seen.obj, seen.obj.data, seen.name)
        slot = seen.obj.particle_systems[seen.system].settings.material - 1 if seen.system else 0
        if looks and not looks[min(slot, len(looks) - 1)].shown:
            return
        instance.visible[t] = True
        instance.recording = self._library.record(t, frame, strands, instance.recording, seen.name, False)
        instance.holdout = bool(instance.holdout) or seen.appearance.holdout

    def _record(self, t: int, frame: float, seen: Seen, instance: _Instance) -> None:
        mesh = seen.obj.data
        convert = mesh.is_editmode  # then the arrays are still those of before the editing
        if convert:
            mesh = seen.obj.to_mesh()
        try:
            if not mesh.polygons:
                return
            looks, used = self._looks_of(seen, mesh)
            if used and not any(look.shown for look in used):
                return  # the render shows nothing of it
            instance.visible[t] = True
            layers = {look.uv for look in used if look.uv is not None}
            instance.recording = self._library.record(
                t,
                frame,
                mesh,
                instance.recording,
                seen.name,
                seen.by_counts and not (convert or self._alone),
                layers,
                bool(looks),
            )
            if cut := {look.uv for look in used if look.cutout is not None}:
                instance.recording.compare_coordinates(t, mesh, cut)
        finally:
            if convert:
                seen.obj.to_mesh_clear()
        if looks:
            instance.looks[t] = looks
        holdout = seen.appearance.holdout or (bool(used) and all(look.holdout for look in used))
        if instance.holdout is None:
            instance.holdout = holdout
        elif instance.holdout != holdout:
            self.warnings.add(f"'{instance.name}' starts or stops being a holdout; the shot keeps its first state.")

    def _looks_of(self, seen: Seen, mesh: bpy.types.Mesh) -> tuple[Looks, Looks]:
        """How a mesh's slots are shown, by slot, and those of them that faces have; the same for all its instances."""
        key = seen.key[0], seen.key[1], mesh.as_pointer()
        found = self._looks.get(key)
        if found is None:
            looks = self._materials.of(seen.obj, mesh, seen.name)
            found = looks, self._library.used(mesh, looks)
            if not seen.obj.data.is_editmode:  # then the mesh is a copy, and its address soon another's
                self._looks[key] = found
        return found

    def identities(self) -> dict[str, list[Any]]:
        """By which another render of the same file knows the shot's parts again: "keys", for each mesh its place in
        what instances it, and "topology", for each geometry a digest of its faces.
        """
        return {
            "keys": [list(item.place) for item in self._recorded()],
            "topology": [recording.topology_digest() for recording in self._library.recordings],
        }

    def _recorded(self) -> list[_Instance]:
        return [item for item in self._instances.values() if item.recording is not None]

    def shot(self, scene: bpy.types.Scene) -> Shot:
        """The shot, once all samples were put.

        Raises:
            ShotError: a transform is not finite, or the camera is not one.
        """
        self._library.complete()
        instances = self._recorded()
        table = SurfaceTable(self.total, self._cutouts, self.warnings)
        surfaces = [table.of(item.name, item.looks, item.visible, item.recording) for item in instances]
        with_slots = {
            id(segment): item.recording
            for item, looks in zip(instances, surfaces, strict=True)
            if looks is not None and item.recording is not None
            for segment in item.recording.history.segments
        }

        def finished(segment: Segment) -> Geometry:
            recording = with_slots.get(id(segment))
            return segment.geometry if recording is None else recording.geometry(segment)

        histories = (recording.history for recording in self._library.recordings)
        geometries, numbers = geometries_of(histories, finished)
        meshes = []
        for item, looks in zip(instances, surfaces, strict=True):
            matrices = item.matrices.complete()
            self._finite_or_raise(item.name, matrices)
            assert item.recording is not None
            geometry, changes = item.recording.history.track(numbers)
            meshes.append(
                MeshTrack(
                    name=item.name,
                    geometry=geometry,
                    matrix_world=matrices,
                    visible=item.visible,
                    holdout=bool(item.holdout),
                    pass_index=item.pass_index,
                    surfaces=looks,
                    changes=changes,
                )
            )
        self._warn_of_topology()
        for sentence in sentences(find_gaps(scene, self._layer, self.frames.frame_numbers)):
            self.warnings.add(sentence)
        self._warn_of_materials()
        return Shot(
            frame_numbers=np.array(self.frames.frame_numbers, np.float64),
            fps=self.frames.fps,
            size=self._fit.size,
            camera=self._cameras.track(),
            geometries=geometries,
            meshes=tuple(meshes),
            objects=self._objects.tracks(self._drawn),
            view_layer=self._layer.name,
            source={
                "file": bpy.data.filepath,
                "scene": scene.name,
                "blender": bpy.app.version_string,
                "frame_map": self.frames.to_dict(),
                "size_fit": self._fit.to_dict(),
                "color_management": self._colors,
                "warnings": self.warnings.all(),
            },
            surfaces=tuple(table.surfaces),
            cutouts=tuple(self._cutouts.found),
        )

    def _finite_or_raise(self, name: str, matrices: np.ndarray) -> None:
        if np.isfinite(matrices).all():
            return
        bad = np.flatnonzero(~np.isfinite(matrices).all(axis=(1, 2)))
        raise ShotError(
            "not-finite",
            f"The transform of '{name}' is not finite at frame {self.frames.frame_numbers[bad[0]]:g}.",
            "Look for a constraint or driver that divides by zero there.",
        )

    def _warn_of_topology(self) -> None:
        for recording in self._library.recordings:
            if recording.history.carried:
                frames = [self.frames.frame_numbers[t] for t in recording.history.carried]
                self.warnings.add(carried_warning(recording.name, frames))

    def _warn_of_materials(self) -> None:
        for (name, material), why in self._materials.findings.unknown.items():
            self.warnings.name(UNKNOWN_ALPHA, f"{name} (material {material}: {why})")
        for name, material in self._materials.findings.displaced:
            self.warnings.name(DISPLACED, f"{name} (material {material})")
        for name in self._materials.findings.diced:
            self.warnings.name(DICED, name)


def seen_or_raise(shot: Shot) -> Shot:
    """The shot itself. Raises ShotError where no surface can be in the picture in any sample."""
    first, last = shot.frame_numbers[0], shot.frame_numbers[-1]
    if not shot.meshes:
        raise ShotError(
            "nothing-visible",
            f"No surface is visible in view layer '{shot.view_layer}' of scene '{shot.source.get('scene')}' "
            f"in frames {first:g} to {last:g}. {' '.join(shot.warnings)}".rstrip(),
            "Add a mesh, or make one visible in renders.",
        )
    # A few of the vertices tell in most shots; then all of them, before anything is refused.
    if not (_any_seen(shot, 1000) or _any_seen(shot, None)):
        raise ShotError(
            "nothing-visible",
            f"Camera '{shot.camera.name}' sees no surface in frames {first:g} to {last:g}.",
            "Point the camera at the scene, check its clip distances, or use --camera auto.",
        )
    return shot


def _any_seen(shot: Shot, most: int | None) -> bool:
    """Whether the box around some surface, or around `most` of its vertices, may be in the picture in some sample."""
    boxes: dict[tuple[int, int], np.ndarray] = {}
    for t in range(len(shot.frame_numbers)):
        for mesh in shot.meshes:
            if not mesh.visible[t]:
                continue
            index = mesh.geometry_at(t)
            geometry = shot.geometries[index]
            key = index, geometry.row(t)
            if key not in boxes:
                positions = geometry.at(t)
                positions = positions[:: 1 if most is None else -(-len(positions) // most)]
                low, high = positions.min(axis=0), positions.max(axis=0)
                boxes[key] = np.where(_CORNERS, high, low).astype(np.float64)
            matrix = mesh.matrix_world[t]
            if sees(shot.camera, shot.size, t, boxes[key] @ matrix[:3, :3].T + matrix[:3, 3]):
                return True
    return False
