# SPDX-License-Identifier: GPL-3.0-or-later
"""Geometries as they grow over the pass: what deforms is found by comparing, and equal surfaces are stored once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import bpy
import numpy as np
from numpy.typing import NDArray

from trackshade.errors import ShotError
from trackshade.shot.segments import History, same_bytes

from .geometry import MeshReader, Topology, empty

Float32 = NDArray[np.float32]
Rows = Callable[[np.ndarray, int], None]


class Recording:
    """One mesh over the samples seen so far: a geometry for each topology that it has.

    Meshes are read directly into the memory of the geometry, where one deforms.
    """

    def __init__(self, name: str, total: int, reader: MeshReader, mesh: bpy.types.Mesh, by_counts: bool) -> None:
        self.name = name
        self._reader = reader
        first = reader.positions(mesh, empty(np.float32, len(mesh.vertices), 3))
        self._first = self._now = reader.topology(mesh, by_counts)
        triangles, uv = reader.triangles(mesh)
        self.history = History(total, _FIRST, first, triangles, uv, lambda shape: empty(np.float32, *shape))

    @property
    def written(self) -> int:
        """The latest sample that was put."""
        return self.history.written

    @property
    def deforms(self) -> bool:
        return self.history.current.deforms

    @property
    def changed(self) -> bool:
        """Whether it has had more than one topology."""
        return self.history.changed

    def put(self, t: int, frame: float, mesh: bpy.types.Mesh) -> None:
        """Takes sample `t`, which is not before any that it has.

        Raises:
            ShotError: a vertex has no finite position.
        """
        same = self._reader.has_topology(mesh, self._now)
        slot = self.history.slot(t) if same else None
        if slot is not None:
            finite_or_raise(self._reader.positions(mesh, slot), self.name, frame)
            self.history.wrote(t)
            return
        key = self.history.topology
        if not same:
            self._now = self._topology(mesh)
            key = _FIRST if self._now is self._first else _digest(self._now)
        sample = self._reader.positions(mesh)
        if not (same and same_bytes(sample, self.history.current.first)):
            finite_or_raise(sample, self.name, frame)
        self.history.put(t, key, sample, lambda: self._reader.triangles(mesh))

    def agrees(self, t: int, mesh: bpy.types.Mesh) -> bool:
        """Whether `mesh` gives sample `t` as it was put."""
        if not self._reader.has_topology(mesh, self._now):
            return False
        return same_bytes(self._reader.positions(mesh), self.history.at(t))

    def fork(self, t: int) -> Recording:
        """A recording with the same history before sample `t`, for a user that parts from the others there."""
        twin = object.__new__(Recording)
        twin.__dict__.update(self.__dict__)
        twin.history = self.history.fork(t)
        if twin.history.topology != self.history.topology:
            # The face corners of a topology in between are not kept; a mesh that has it is known by its digest.
            twin._now = self._first if twin.history.topology == _FIRST else _UNKNOWN
        return twin

    def key(self) -> tuple[int, int, int]:
        """Equal for recordings whose first samples are equal; seldom for others."""
        first = self.history.segments[0].first
        some = first[:: max(1, len(first) // 256)]
        return len(first), len(self.history.segments[0].triangles), hash(some.tobytes())

    def same_start(self, other: Recording) -> bool:
        one, two = self.history.segments[0], other.history.segments[0]
        return (
            same_bytes(one.first, two.first)
            and np.array_equal(one.triangles, two.triangles)
            and (one.uv is None) == (two.uv is None)
            and (one.uv is None or two.uv is None or same_bytes(one.uv, two.uv))
        )

    def topology_digest(self) -> str:
        """Equal for geometries whose vertices and faces correspond, as far as their own faces were read."""
        return _digest(self._first)

    def _topology(self, mesh: bpy.types.Mesh) -> Topology:
        """The topology of a mesh that has not the latest one: the first one, where that came back."""
        if self._reader.has_topology(mesh, self._first):
            return self._first
        return self._reader.topology(mesh, by_counts=False)


_FIRST = "first"  # what stands for the first topology, so that a mesh that keeps it is never hashed
_UNKNOWN = Topology((-1, -1, -1, -1), None)


def _digest(topology: Topology) -> str:
    state = hashlib.blake2b(repr(topology.counts).encode(), digest_size=16)
    state.update(b"" if topology.corners is None else topology.corners.data)
    return state.hexdigest()


class Library:
    """The recordings of a pass, and which of them each evaluated mesh of the present sample belongs to."""

    def __init__(self, total: int, rows: Rows | None) -> None:
        self.recordings: list[Recording] = []
        self._total = total
        self._rows = rows
        self._told: dict[tuple[int, int], int] = {}  # rows of each array that were reported
        self._reader = MeshReader()
        self._by_start: dict[tuple[int, int, int], list[Recording]] = {}
        self._readings: dict[int, Recording] = {}  # evaluated mesh -> recording that took it in this sample
        self._placed: dict[tuple[int, int], Recording] = {}  # (recording, mesh) -> where its users go

    def begin(self) -> None:
        """Starts a sample: addresses of evaluated meshes mean nothing beyond it."""
        self._readings.clear()
        self._placed.clear()

    def record(
        self, t: int, frame: float, mesh: bpy.types.Mesh, current: Recording | None, name: str, by_counts: bool
    ) -> Recording:
        """Takes the mesh that a user of recording `current` (None for a new user) shows in sample `t`.

        Returns:
            the user's recording from now on: another one where it has parted from those that it shared with.
        """
        address = mesh.as_pointer()
        if current is None:
            current = self._readings.get(address)
            if current is None or current.changed:  # what it shows now is not what a new user begins with
                current = self._new(t, frame, mesh, name, by_counts)
            self._readings[address] = current
            self._placed[id(current), address] = current
            return current
        placed = self._placed.get((id(current), address))
        if placed is None:
            placed = self._place(t, frame, mesh, current, name)
            self._placed[id(current), address] = placed
            self._placed[id(placed), address] = placed
            self._readings[address] = placed
        return placed

    def end(self, t: int) -> None:
        """Reports the rows of sample `t` to the observer."""
        for recording in self.recordings:
            segment = recording.history.current
            if segment.streams and recording.written == t:
                self._tell(segment.rows, t + 1 - segment.start)
            self._report(recording)

    def complete(self) -> None:
        for recording in self.recordings:
            recording.history.complete()
            self._report(recording)

    def _report(self, recording: Recording) -> None:
        finished, recording.history.finished = recording.history.finished, []
        for array in finished:
            self._tell(array, len(array))

    def _tell(self, array: np.ndarray, count: int) -> None:
        """Reports rows to the observer, unless all of the array were reported before."""
        key = array.__array_interface__["data"][0], array.nbytes
        if self._rows is not None and self._told.get(key) != count:
            self._told[key] = count
            self._rows(array, count)

    def _new(self, t: int, frame: float, mesh: bpy.types.Mesh, name: str, by_counts: bool) -> Recording:
        made = Recording(name, self._total, self._reader, mesh, by_counts)
        made.history.written = t
        finite_or_raise(made.history.at(t), name, frame)
        alike = self._by_start.setdefault(made.key(), [])
        for recording in alike:
            if not recording.deforms and not recording.changed and recording.same_start(made):
                recording.history.written = t
                return recording
        alike.append(made)
        self.recordings.append(made)
        return made

    def _place(self, t: int, frame: float, mesh: bpy.types.Mesh, current: Recording, name: str) -> Recording:
        if current.written < t:
            current.put(t, frame, mesh)
            return current
        if current.agrees(t, mesh):
            return current
        twin = current.fork(t)
        twin.name = name
        twin.put(t, frame, mesh)
        self.recordings.append(twin)
        return twin


def finite_or_raise(sample: Float32, name: str, frame: float) -> None:
    """Raises ShotError that names the object and the frame where a position of [V, 3] is not finite."""
    finite = np.isfinite(sample)
    if not finite.all():
        vertex = int(np.argmin(finite.all(axis=1)))
        raise ShotError(
            "not-finite",
            f"Vertex {vertex} of '{name}' has no finite position at frame {frame:g}.",
            "Look for a modifier or driver that divides by zero there.",
        )
