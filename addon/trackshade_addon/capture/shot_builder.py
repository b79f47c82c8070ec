# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds a shot from evaluated frames, one after another. It only reads; its callers step the frames.

`scene.Capture` steps the viewport's evaluation, Trackshade's render engine steps that of its render, and the
render-layer hook reads each frame of a render by any engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import bpy
import numpy as np

from trackshade.core.errors import ShotError
from trackshade.core.fitting import FrameMap, SizeFit
from trackshade.shot import Geometry, MeshTrack, Shot
from trackshade.shot.segments import Segment, carried_warning, geometries_of

from .camera import CameraBuilder, sees
from .completeness import find_gaps, gap_warnings
from .cutouts import Cutouts
from .geometry_builder import GeometryBuilder, GeometryStore, RowsCallback
from .given_image import color_management
from .instances import Instance, InstanceKey, InstanceReader
from .lights import LightReader
from .materials import MaterialEvaluator, SlotAppearances
from .strands import Strands, curves_strands, node_strands, particle_strands
from .surfaces import SurfaceTable
from .transforms import ObjectTransforms, TransformTrack
from .warnings import DICED, DISPLACED, UNKNOWN_ALPHA, WITHOUT_SURFACE, Warnings

_CORNERS = np.indices((2, 2, 2)).reshape(3, 8).T.astype(bool)  # [8, 3], whether a corner is at the maximum


@dataclass(eq=False)
class _InstanceTrack:
    """An instance over the samples.

    Attributes:
        name: its name.
        persistent_id: its persistent id in its instancer.
        pass_index: pass index of its object.
        transforms: its transforms.
        visible: [T] whether it is visible.
        geometry: its geometry; None until it is visible.
        holdout: whether it is a holdout; None until it is visible.
        appearances: by sample, the appearance of its slots, unless all of it is opaque.
    """

    name: str
    persistent_id: tuple[int, ...]
    pass_index: int
    transforms: TransformTrack
    visible: np.ndarray
    geometry: GeometryBuilder | None = None
    holdout: bool | None = None
    appearances: dict[int, SlotAppearances] = field(default_factory=dict)


class ShotBuilder:
    """Builds a shot, sample by sample.

    Args:
        view_layer: the original view layer whose evaluation is read.
        frame_map: the scene frames that become the shot's samples.
        size_fit: fits the render's frame to the image of the shot.
        on_rows: called as on_rows(array, n) when the first n rows of an array of the shot are final; or None.
        is_partial: whether the samples will be joined with those of other builders, so that topology must always be
            compared.
        glass: "opaque" or "through": whether what transmits more than half of the light is part of the shot.
        hair: "none" or "strands": whether hair is part of the shot, as thin tubes.

    Attributes:
        done: number of samples so far.
        total: number of samples of the shot.
        frames: the scene frames.
        warnings: warnings so far.
    """

    def __init__(
        self,
        view_layer: bpy.types.ViewLayer,
        frame_map: FrameMap,
        size_fit: SizeFit,
        on_rows: RowsCallback | None = None,
        is_partial: bool = False,
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
        self._is_partial = is_partial
        self._colors: dict[str, Any] = {}  # color management of the first sample
        self._light = LightReader()
        self._fit = size_fit
        self._geometries = GeometryStore(self.total, on_rows)
        self._camera = CameraBuilder(self.total, size_fit)
        self._more_cameras: list[CameraBuilder] = []
        self._reader = InstanceReader(view_layer)
        self._instances: dict[InstanceKey, _InstanceTrack] = {}
        self._surface_transforms: dict[int, TransformTrack] = {}  # by object
        self._objects = ObjectTransforms(view_layer, self.total)
        self._hair = hair
        self._depsgraph: bpy.types.Depsgraph | None = None
        self._slots: dict[tuple[int, int, int], tuple[SlotAppearances, SlotAppearances]] = {}  # of this sample
        self._strands: dict[tuple[int, int, str], Strands | None] = {}  # of this sample
        self._cutouts = Cutouts()
        self._materials = MaterialEvaluator(view_layer, glass, self._cutouts)

    def add_sample(
        self,
        depsgraph: bpy.types.Depsgraph,
        camera: bpy.types.Object | None,
        more_cameras: Sequence[bpy.types.Object] = (),
    ) -> None:
        """Reads the next sample, at whose frame the view layer is evaluated.

        Args:
            depsgraph: the evaluated view layer.
            camera: the camera, an original object.
            more_cameras: further cameras, the same ones for all samples.

        Raises:
            ShotError: this frame cannot be part of a shot.
        """
        t, frame = self.done, self.frames.frame_numbers[self.done]
        if t == 0:
            self._colors = color_management(depsgraph.scene)
        self._camera.add_sample(t, frame, camera, depsgraph)
        if t == 0:
            self._more_cameras = [CameraBuilder(self.total, self._fit) for _ in more_cameras]
        for builder, other in zip(self._more_cameras, more_cameras, strict=True):
            builder.add_sample(t, frame, other, depsgraph)
        self._light.add_sample(depsgraph)
        self._geometries.begin_sample()
        self._materials.begin_sample(depsgraph)
        self._depsgraph = depsgraph
        self._strands.clear()
        self._slots.clear()
        for instance in self._reader.read(depsgraph):
            self._add_instance(t, frame, instance)
        self._objects.add_sample(t, depsgraph, self._surface_transforms)
        self._geometries.end_sample(t)
        self.done += 1

    def _add_instance(self, t: int, frame: float, instance: Instance) -> None:
        strands = None
        if instance.kind in WITHOUT_SURFACE:
            if not instance.visibility.visible:
                return
            strands = self._read_strands(instance)
            if strands is None:
                self.warnings.add_name(WITHOUT_SURFACE[instance.kind], instance.name)
                return
        track = self._instances.get(instance.key)
        if track is None:
            transforms, visible = TransformTrack(self.total), np.zeros(self.total, np.bool_)
            track = _InstanceTrack(instance.name, instance.key[2], instance.pass_index, transforms, visible)
            self._instances[instance.key] = track
            if not instance.key[1] and not instance.system:  # the object itself
                self._surface_transforms[instance.key[0]] = transforms
        track.transforms.set(t, instance.item.matrix_world)
        if strands is not None:
            self._add_strands(t, frame, instance, track, strands)
        elif instance.visibility.visible:
            self._add_mesh(t, frame, instance, track)

    def _read_strands(self, instance: Instance) -> Strands | None:
        """The strands of hair; None if hair is not part of the shot, or cannot be read."""
        if self._hair != "strands" or instance.kind not in ("CURVES", "HAIR"):
            return None
        assert self._depsgraph is not None
        obj = instance.obj
        key = instance.key[0], obj.data.as_pointer(), instance.system
        if key not in self._strands:
            if instance.kind == "HAIR":
                system = obj.particle_systems.get(instance.system)
                strands = None if system is None else particle_strands(obj, system, self._depsgraph)
            elif obj.type == "CURVES":
                strands = curves_strands(obj.data)
            else:
                strands = node_strands(obj, self._depsgraph)
            self._strands[key] = strands
        return self._strands[key]

    def _add_strands(self, t: int, frame: float, instance: Instance, track: _InstanceTrack, strands: Strands) -> None:
        obj = instance.obj
        slots = self._materials.evaluate(obj, obj.data, instance.name)
        slot = obj.particle_systems[instance.system].settings.material - 1 if instance.system else 0
        if slots and not slots[min(slot, len(slots) - 1)].is_shown:
            return
        track.visible[t] = True
        track.geometry = self._geometries.add_sample(t, frame, strands, track.geometry, instance.name, False)
        track.holdout = bool(track.holdout) or instance.visibility.holdout

    def _add_mesh(self, t: int, frame: float, instance: Instance, track: _InstanceTrack) -> None:
        mesh = instance.obj.data
        in_edit_mode = mesh.is_editmode  # then its arrays are outdated
        if in_edit_mode:
            mesh = instance.obj.to_mesh()
        try:
            if not mesh.polygons:
                return
            slots, used = self._evaluate_slots(instance, mesh)
            if used and not any(slot.is_shown for slot in used):
                return
            track.visible[t] = True
            track.geometry = self._geometries.add_sample(
                t,
                frame,
                mesh,
                track.geometry,
                instance.name,
                instance.by_counts and not (in_edit_mode or self._is_partial),
                {slot.uv for slot in used if slot.uv is not None},
                bool(slots),
            )
            if cut_out := {slot.uv for slot in used if slot.cutout is not None}:
                track.geometry.compare_uvs(t, mesh, cut_out)
        finally:
            if in_edit_mode:
                instance.obj.to_mesh_clear()
        if slots:
            track.appearances[t] = slots
        holdout = instance.visibility.holdout or (bool(used) and all(slot.holdout for slot in used))
        if track.holdout is None:
            track.holdout = holdout
        elif track.holdout != holdout:
            self.warnings.add(f"'{track.name}' starts or stops being a holdout; the shot keeps its first state.")

    def _evaluate_slots(self, instance: Instance, mesh: bpy.types.Mesh) -> tuple[SlotAppearances, SlotAppearances]:
        """The appearance of each slot of a mesh, and of those that faces have; the same for all its instances."""
        key = instance.key[0], instance.key[1], mesh.as_pointer()
        found = self._slots.get(key)
        if found is None:
            slots = self._materials.evaluate(instance.obj, mesh, instance.name)
            found = slots, self._geometries.used_slots(mesh, slots)
            if not instance.obj.data.is_editmode:  # else the mesh is temporary, and its address will be reused
                self._slots[key] = found
        return found

    def identities(self) -> dict[str, list[Any]]:
        """Identifies the shot's parts for joining it with other renders of the same file.

        Returns:
            "keys": for each mesh its persistent id. "topology": for each geometry a digest of its faces.
        """
        return {
            "keys": [list(track.persistent_id) for track in self._visible_tracks()],
            "topology": [geometry.topology_digest() for geometry in self._geometries.geometries],
        }

    def _visible_tracks(self) -> list[_InstanceTrack]:
        return [track for track in self._instances.values() if track.geometry is not None]

    def shot(self, scene: bpy.types.Scene) -> Shot:
        """The shot, after all samples were added.

        Raises:
            ShotError: a transform or the camera is not finite.
        """
        self._geometries.finish()
        tracks = self._visible_tracks()
        table = SurfaceTable(self.total, self.warnings)
        surfaces = [table.add(track.name, track.appearances, track.visible, track.geometry) for track in tracks]
        with_slots = {
            id(segment): track.geometry
            for track, index in zip(tracks, surfaces, strict=True)
            if index is not None and track.geometry is not None
            for segment in track.geometry.history.segments
        }

        def finish(segment: Segment) -> Geometry:
            geometry = with_slots.get(id(segment))
            return segment.geometry if geometry is None else geometry.geometry(segment)

        histories = (geometry.history for geometry in self._geometries.geometries)
        geometries, numbers = geometries_of(histories, finish)
        meshes = []
        for track, index in zip(tracks, surfaces, strict=True):
            matrices = track.transforms.finish()
            self._check_finite(track.name, matrices)
            assert track.geometry is not None
            geometry, changes = track.geometry.history.track(numbers)
            meshes.append(
                MeshTrack(
                    name=track.name,
                    geometry=geometry,
                    matrix_world=matrices,
                    visible=track.visible,
                    holdout=bool(track.holdout),
                    pass_index=track.pass_index,
                    surfaces=index,
                    changes=changes,
                )
            )
        self._add_warnings(scene)
        return Shot(
            frame_numbers=np.array(self.frames.frame_numbers, np.float64),
            fps=self.frames.fps,
            size=self._fit.size,
            camera=self._camera.track(),
            geometries=geometries,
            meshes=tuple(meshes),
            objects=self._objects.tracks(self._surface_transforms),
            view_layer=self._layer.name,
            source={
                "file": bpy.data.filepath,
                "scene": scene.name,
                "blender": bpy.app.version_string,
                "frame_map": self.frames.to_dict(),
                "size_fit": self._fit.to_dict(),
                "color_management": self._colors,
                "light": self._light.to_dict(),
                "warnings": self.warnings.sentences(),
            },
            surfaces=tuple(table.surfaces),
            cutouts=tuple(self._cutouts.found),
            more_cameras=tuple(builder.track() for builder in self._more_cameras),
        )

    def _check_finite(self, name: str, matrices: np.ndarray) -> None:  # matrices [T, 4, 4]
        if np.isfinite(matrices).all():
            return
        bad = np.flatnonzero(~np.isfinite(matrices).all(axis=(1, 2)))
        raise ShotError(
            "not-finite",
            f"The transform of '{name}' is not finite at frame {self.frames.frame_numbers[bad[0]]:g}.",
            "Look for a constraint or driver that divides by zero there.",
        )

    def _add_warnings(self, scene: bpy.types.Scene) -> None:
        """Adds the warnings about topology, missing data and materials."""
        for geometry in self._geometries.geometries:
            if geometry.history.carried:
                frames = [self.frames.frame_numbers[t] for t in geometry.history.carried]
                self.warnings.add(carried_warning(geometry.name, frames))
        for sentence in gap_warnings(find_gaps(scene, self._layer, self.frames.frame_numbers)):
            self.warnings.add(sentence)
        notes = self._materials.notes
        for (name, material), reason in notes.unknown.items():
            self.warnings.add_name(UNKNOWN_ALPHA, f"{name} (material {material}: {reason})")
        for name, material in notes.displaced:
            self.warnings.add_name(DISPLACED, f"{name} (material {material})")
        for name in notes.diced:
            self.warnings.add_name(DICED, name)


def require_visible(shot: Shot) -> Shot:
    """Returns the shot if it shows anything.

    Raises:
        ShotError: no surface is visible in any sample.
    """
    first, last = shot.frame_numbers[0], shot.frame_numbers[-1]
    if not shot.meshes:
        raise ShotError(
            "nothing-visible",
            f"No surface is visible in view layer '{shot.view_layer}' of scene '{shot.source.get('scene')}' "
            f"in frames {first:g} to {last:g}. {' '.join(shot.warnings)}".rstrip(),
            "Add a mesh, or make one visible in renders.",
        )
    # A few of the vertices suffice in most shots.
    if not (_is_any_visible(shot, 1000) or _is_any_visible(shot, None)):
        raise ShotError(
            "nothing-visible",
            f"Camera '{shot.camera.name}' sees no surface in frames {first:g} to {last:g}.",
            "Point the camera at the scene, check its clip distances, or use --camera auto.",
        )
    return shot


def _is_any_visible(shot: Shot, limit: int | None) -> bool:
    """Whether the bounding box of a surface may be visible in some sample; of at most `limit` vertices, unless None."""
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
                positions = positions[:: 1 if limit is None else -(-len(positions) // limit)]
                low, high = positions.min(axis=0), positions.max(axis=0)
                boxes[key] = np.where(_CORNERS, high, low).astype(np.float64)
            matrix = mesh.matrix_world[t]
            if sees(shot.camera, shot.size, t, boxes[key] @ matrix[:3, :3].T + matrix[:3, 3]):
                return True
    return False
