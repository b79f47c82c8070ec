# SPDX-License-Identifier: GPL-3.0-or-later
"""The pass over the frames: an evaluated view layer becomes a shot, one frame at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

import bpy
import numpy as np

from trackshade.errors import Cancelled, ShotError
from trackshade.fit import FrameMap, SizeFit
from trackshade.shot import MeshTrack, Shot

from .camera import CameraRecording, sees
from .instances import WITHOUT_SURFACE, Instances, Key, Seen
from .objects import Matrices, Objects
from .recording import Library, Recording, Rows
from .render_state import RenderState
from .restore import fix_camera, set_frame, undisturbed

Progress = Callable[[int, int], None]

_CORNERS = np.indices((2, 2, 2)).reshape(3, 8).T.astype(bool)  # [8, 3] high or low


@dataclass(eq=False)
class _Instance:
    """One thing in the scene, found again in each frame by its object, its persistent id and its instancer."""

    name: str
    pass_index: int
    matrices: Matrices
    visible: np.ndarray  # [T] bool
    recording: Recording | None = None
    holdout: bool | None = None


@dataclass(eq=False)
class _Warnings:
    """Sentences about what the shot does not show exactly; each once."""

    sentences: dict[str, None] = field(default_factory=dict)

    def add(self, sentence: str) -> None:
        self.sentences.setdefault(sentence)


class Capture:
    """Captures a view layer frame by frame; `capture` does all at once.

    The scene is changed from the first `step` on, and is as it was after `close`, which the last step, an error and
    the end of a `with` block bring about by themselves.

        with Capture(scene, view_layer, frame_map=frames, size_fit=size) as capture:
            while capture.done < capture.total:
                capture.step()
        shot = capture.shot()

    Args:
        scene, view_layer: what to capture; by default those of the context.
        frame_map: the scene frames that become the shot's samples.
        size_fit: how the model's image lies over the render's frame.
        camera: seen through in every frame; by default the scene's own, as its markers switch it.
        rows: called as rows(array, n) when the first n rows of an array of the shot have got their final values.
    """

    def __init__(
        self,
        scene: bpy.types.Scene | None = None,
        view_layer: bpy.types.ViewLayer | None = None,
        *,
        frame_map: FrameMap,
        size_fit: SizeFit,
        camera: bpy.types.Object | None = None,
        rows: Rows | None = None,
    ) -> None:
        self._scene = scene or bpy.context.scene
        if view_layer is None:
            own = self._scene == bpy.context.scene
            view_layer = bpy.context.view_layer if own else self._scene.view_layers[0]
        self._view_layer: bpy.types.ViewLayer = view_layer
        self._frames = frame_map
        self._fit = size_fit
        self._camera = camera
        self._rows = rows
        self._stack = contextlib.ExitStack()
        self._state: RenderState | None = None
        self._shot: Shot | None = None
        self.done = 0
        self.total = len(frame_map.frames)
        if self.total < 1:
            raise ShotError("empty-shot", "The shot has no frames.", "Choose a range of at least one frame.")
        self._library = Library(self.total, rows)
        self._cameras = CameraRecording(self.total, size_fit)
        self._things = Instances(view_layer)
        self._instances: dict[Key, _Instance] = {}
        self._drawn: dict[int, Matrices] = {}
        self._objects = Objects(view_layer, self.total)
        self._warnings = _Warnings()

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def step(self) -> int:
        """Captures the next frame and returns how many are done.

        Raises:
            ShotError: what the scene shows in this frame cannot be part of a shot; the scene is as it was.
        """
        if self.done >= self.total:
            return self.done
        try:
            if self._state is None:
                self._state = self._open()
            self._sample(self.done, self._frames.frames[self.done])
            self.done += 1
            if self.done == self.total:
                self._shot = self._finish()
                self.close()
        except BaseException:
            self.close()
            raise
        return self.done

    def shot(self) -> Shot:
        """The shot, once all frames are done.

        Raises:
            Cancelled: the capture was ended before.
        """
        if self._shot is None:
            raise Cancelled("cancelled", f"The capture ended after {self.done} of {self.total} frames.")
        return self._shot

    def close(self) -> None:
        """Leaves the scene as it was; again, or before any step: does nothing."""
        self._stack.close()

    cancel = close

    def _open(self) -> RenderState:
        changes = self._stack.enter_context(undisturbed(self._scene))
        if self._camera is not None:
            fix_camera(changes, self._scene, self._camera)
        return RenderState(changes, self._scene, self._view_layer, self._warnings.add)

    def _sample(self, t: int, frame: float) -> None:
        set_frame(self._scene, frame)
        depsgraph = self._view_layer.depsgraph
        assert self._state is not None
        self._state.follow(depsgraph)
        self._cameras.put(t, frame, self._scene.camera, depsgraph)
        self._library.begin()
        for seen in self._things.of(depsgraph):
            self._look_at(t, frame, seen)
        self._objects.put(t, depsgraph, self._drawn)
        self._library.end(t)

    def _look_at(self, t: int, frame: float, seen: Seen) -> None:
        kind = seen.obj.type
        if kind in WITHOUT_SURFACE:
            if seen.appearance.visible:
                self._warnings.add(f"'{seen.name}' is {WITHOUT_SURFACE[kind]} and is not part of the shot.")
            return
        instance = self._instances.get(seen.key)
        if instance is None:
            matrices, visible = Matrices(self.total), np.zeros(self.total, np.bool_)
            instance = self._instances[seen.key] = _Instance(seen.name, seen.pass_index, matrices, visible)
            if not seen.key[1]:  # the object itself
                self._drawn[seen.key[0]] = matrices
        instance.matrices.put(t, seen.item.matrix_world)
        if seen.appearance.visible:
            self._record(t, frame, seen, instance)

    def _record(self, t: int, frame: float, seen: Seen, instance: _Instance) -> None:
        mesh = seen.obj.data
        convert = mesh.is_editmode  # then the arrays are still those of before the editing
        if convert:
            mesh = seen.obj.to_mesh()
        try:
            if not mesh.polygons:
                return
            instance.visible[t] = True
            instance.recording = self._library.record(
                t, frame, mesh, instance.recording, seen.name, seen.by_counts and not convert
            )
        finally:
            if convert:
                seen.obj.to_mesh_clear()
        holdout = seen.appearance.holdout
        if instance.holdout is None:
            instance.holdout = holdout
        elif instance.holdout != holdout:
            self._warnings.add(f"'{instance.name}' starts or stops being a holdout; the shot keeps its first state.")

    def _finish(self) -> Shot:
        self._library.complete()
        instances = [item for item in self._instances.values() if item.recording is not None]
        if not instances:
            first, last = self._frames.frames[0], self._frames.frames[-1]
            raise ShotError(
                "nothing-visible",
                f"No surface is visible in view layer '{self._view_layer.name}' of scene '{self._scene.name}' "
                f"in frames {first:g} to {last:g}.",
                "Add a mesh, or make one visible in renders.",
            )
        index = {id(recording): i for i, recording in enumerate(self._library.recordings)}
        meshes = []
        for item in instances:
            matrices = item.matrices.complete()
            self._finite_or_raise(item.name, matrices)
            meshes.append(
                MeshTrack(
                    name=item.name,
                    geometry=index[id(item.recording)],
                    matrix_world=matrices,
                    visible=item.visible,
                    holdout=bool(item.holdout),
                    pass_index=item.pass_index,
                )
            )
        self._warn_of_topology()
        shot = Shot(
            frames=np.array(self._frames.frames, np.float64),
            fps=self._frames.fps,
            size=self._fit.size,
            camera=self._cameras.track(),
            geometries=tuple(recording.geometry() for recording in self._library.recordings),
            meshes=tuple(meshes),
            objects=self._objects.tracks(self._drawn),
            view_layer=self._view_layer.name,
            source={
                "file": bpy.data.filepath,
                "scene": self._scene.name,
                "blender": bpy.app.version_string,
                "frame_map": self._frames.to_dict(),
                "size_fit": self._fit.to_dict(),
                "warnings": list(self._warnings.sentences),
            },
        )
        self._seen_or_raise(shot)
        return shot

    def _finite_or_raise(self, name: str, matrices: np.ndarray) -> None:
        if np.isfinite(matrices).all():
            return
        bad = np.flatnonzero(~np.isfinite(matrices).all(axis=(1, 2)))
        raise ShotError(
            "not-finite",
            f"The transform of '{name}' is not finite at frame {self._frames.frames[bad[0]]:g}.",
            "Look for a constraint or driver that divides by zero there.",
        )

    def _seen_or_raise(self, shot: Shot) -> None:
        """Raises ShotError where no surface can be in the picture in any sample."""
        # A few of the vertices tell in most shots; then all of them, before anything is refused.
        if not (_any_seen(shot, 1000) or _any_seen(shot, None)):
            raise ShotError(
                "nothing-visible",
                f"Camera '{shot.camera.name}' sees no surface in frames {shot.frames[0]:g} to {shot.frames[-1]:g}.",
                "Point the camera at the scene, check its clip distances, or use --camera auto.",
            )

    def _warn_of_topology(self) -> None:
        for recording in self._library.recordings:
            if recording.changes:
                frames = [f"{self._frames.frames[t]:g}" for t in recording.changes]
                shown = ", ".join(frames[:5]) + (f" and {len(frames) - 5} more" if len(frames) > 5 else "")
                self._warnings.add(
                    f"The topology of '{recording.name}' changes at frame {shown}; "
                    "its points were carried across by the nearest surface point."
                )


def _any_seen(shot: Shot, most: int | None) -> bool:
    """Whether the box around some surface, or around `most` of its vertices, may be in the picture in some sample."""
    boxes: dict[tuple[int, int], np.ndarray] = {}
    for t in range(len(shot.frames)):
        for mesh in shot.meshes:
            if not mesh.visible[t]:
                continue
            geometry = shot.geometries[mesh.geometry]
            key = mesh.geometry, t if geometry.deforms else 0
            if key not in boxes:
                positions = geometry.at(t)
                positions = positions[:: 1 if most is None else -(-len(positions) // most)]
                low, high = positions.min(axis=0), positions.max(axis=0)
                boxes[key] = np.where(_CORNERS, high, low).astype(np.float64)
            matrix = mesh.matrix_world[t]
            if sees(shot.camera, shot.size, t, boxes[key] @ matrix[:3, :3].T + matrix[:3, 3]):
                return True
    return False


def capture(
    scene: bpy.types.Scene | None = None,
    view_layer: bpy.types.ViewLayer | None = None,
    *,
    frame_map: FrameMap,
    size_fit: SizeFit,
    camera: bpy.types.Object | None = None,
    rows: Rows | None = None,
    progress: Progress | None = None,
) -> Shot:
    """The evaluated view layer as a shot, in one pass over the frames; the scene is left as it was.

    Args:
        progress: called as progress(done, total) after each frame; what it raises ends the capture.
        others: see `Capture`.

    Raises:
        ShotError: no camera, a panoramic one, nothing visible, or vertices that are not finite.
    """
    with Capture(scene, view_layer, frame_map=frame_map, size_fit=size_fit, camera=camera, rows=rows) as running:
        while running.done < running.total:
            running.step()
            if progress is not None:
                progress(running.done, running.total)
    return running.shot()
