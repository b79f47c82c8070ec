# SPDX-License-Identifier: GPL-3.0-or-later
"""Geometries as they grow over the pass: what deforms is found by comparing, and equal surfaces are stored once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from trackshade.core.errors import ShotError
from trackshade.shot import Geometry
from trackshade.shot.arrays import same_bytes
from trackshade.shot.segments import History, Segment, SlotVariants

from .geometry import MeshReader, Readable, Topology, empty
from .materials import Looks

Float32 = NDArray[np.float32]
Rows = Callable[[np.ndarray, int], None]


class Recording:
    """One mesh over the samples seen so far: a geometry for each topology that it has.

    Meshes are read directly into the memory of the geometry, where one deforms.

    Attributes:
        slots_matter: not all of the mesh is solid, for some user of it: then other material slots are as much a change
            as another topology.
        coordinates_change: texture coordinates of a cut-out are other ones on the same faces, in some sample.
    """

    def __init__(
        self,
        name: str,
        total: int,
        reader: MeshReader,
        mesh: Readable,
        by_counts: bool,
        layers: Collection[str] = (),
    ) -> None:
        self.name = name
        self._reader = reader
        first = reader.positions(mesh, empty(np.float32, len(mesh.vertices), 3))
        self._first = self._now = reader.topology(mesh, by_counts)
        triangles, uv = reader.triangles(mesh)
        self.history = History(total, (_FIRST, 0), first, triangles, uv, lambda shape: empty(np.float32, *shape))
        self.uv_name = next((layer.name for layer in mesh.uv_layers if layer.active_render), None)
        # By identity of a segment's triangles: material slots, and by name the texture coordinates that cut-outs use.
        self._slots: dict[int, NDArray[np.int32] | None] = {}
        self._layers: dict[str, dict[int, Float32]] = {}
        self._variants = SlotVariants()
        self.slots_matter = False
        self.coordinates_change = False
        self._compared = -1  # sample in which texture coordinates were compared last
        self._take_slots(mesh)
        self._variants.number(_FIRST, self._slots[id(triangles)])
        self.take_layers(mesh, layers)

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

    def put(self, t: int, frame: float, mesh: Readable) -> None:
        """Takes sample `t`, which is not before any that it has.

        Raises:
            ShotError: a vertex has no finite position.
        """
        same = self._is_latest(mesh)
        slot = self.history.slot(t) if same else None
        if slot is not None:
            finite_or_raise(self._reader.positions(mesh, slot), self.name, frame)
            self.history.wrote(t)
            return
        key = self.history.topology
        if not same:
            self._now = self._topology(mesh)
            topology = _FIRST if self._now is self._first else _digest(self._now)
            key = topology, self._variants.number(topology, self._reader.slots(mesh), self.slots_matter)
        sample = self._reader.positions(mesh)
        if not (same and same_bytes(sample, self.history.current.first)):
            finite_or_raise(sample, self.name, frame)
        self.history.put(t, key, sample, lambda: self._reader.triangles(mesh))
        self._take_slots(mesh)

    def _is_latest(self, mesh: Readable) -> bool:
        """Whether a mesh has the latest topology, and its material slots where they matter."""
        if not self._reader.has_topology(mesh, self._now):
            return False
        if not self.slots_matter or self._now.corners is None:  # then nothing changes slots either
            return True
        return _same_slots(self._reader.slots(mesh), self._slots[id(self.history.current.triangles)])

    def take_layers(self, mesh: Readable, names: Collection[str]) -> None:
        """Takes texture coordinates that cut-outs need; `mesh` is the one that was put last, or is equal to it."""
        for name in names:
            if name != self.uv_name:
                self._take_layer(mesh, name)

    def compare_coordinates(self, t: int, mesh: Readable, names: Collection[str | None]) -> None:
        """Looks whether the texture coordinates that cut-outs use (None: those that renders use) are still those that
        the recording has; `mesh` is the one that was put last, or is equal to it.
        """
        if self.coordinates_change or self._compared == t:
            return
        self._compared = t
        segment = self.history.current
        for name in {name or self.uv_name for name in names}:
            had = segment.uv if name == self.uv_name else self._layers.get(name or "", {}).get(id(segment.triangles))
            found = self._reader.layer(mesh, name) if name and had is not None else None
            if had is not None and found is not None and found.shape == had.shape and not same_bytes(found, had):
                self.coordinates_change = True

    def _take_slots(self, mesh: Readable) -> None:
        """Takes the material slots, and the texture coordinates that are known to be needed, of a new topology."""
        key = id(self.history.current.triangles)
        if key not in self._slots:
            self._slots[key] = self._reader.slots(mesh)
            for name in self._layers:
                self._take_layer(mesh, name)

    def _take_layer(self, mesh: Readable, name: str) -> None:
        triangles = self.history.current.triangles
        if id(triangles) not in self._layers.get(name, {}):
            found = self._reader.layer(mesh, name)
            if found is not None and len(found) == len(triangles):
                self._layers.setdefault(name, {})[id(triangles)] = found

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the texture coordinates that `geometry` gives beside `uv`, in their order."""
        return tuple(self._layers)

    @property
    def has_uv(self) -> bool:
        return any(segment.uv is not None for segment in self.history.segments)

    def geometry(self, segment: Segment) -> Geometry:
        """The geometry of a segment with all that surfaces need: slots, and texture coordinates, zeros where it lacks
        some that other segments have."""
        key = id(segment.triangles)
        blank = np.zeros((len(segment.triangles), 3, 2), np.float32)
        more = tuple(found.get(key, blank) for found in self._layers.values())
        uv = blank if segment.uv is None and self.has_uv else segment.uv
        return replace(segment.geometry, uv=uv, materials=self._slots[key], more_uv=more)

    def agrees(self, t: int, mesh: Readable) -> bool:
        """Whether `mesh` gives sample `t` as it was put."""
        if not self._is_latest(mesh):
            return False
        return same_bytes(self._reader.positions(mesh), self.history.at(t))

    def fork(self, t: int) -> Recording:
        """A recording with the same history before sample `t`, for a user that parts from the others there."""
        twin = object.__new__(Recording)
        twin.__dict__.update(self.__dict__)
        twin.history = self.history.fork(t)
        twin._slots = dict(self._slots)
        twin._variants = self._variants.copy()
        twin._layers = {name: dict(found) for name, found in self._layers.items()}
        if twin.history.topology != self.history.topology:
            # The face corners of a topology in between are not kept; a mesh that has it is known by its digest.
            twin._now = self._first if twin.history.topology == (_FIRST, 0) else _UNKNOWN
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
            and _same_slots(self._slots[id(one.triangles)], other._slots[id(two.triangles)])
            and self._layers.keys() == other._layers.keys()
            and all(
                same_bytes(found[id(one.triangles)], other._layers[name][id(two.triangles)])
                for name, found in self._layers.items()
            )
        )

    def topology_digest(self) -> str:
        """Equal for geometries whose vertices and faces correspond, as far as their own faces were read."""
        return _digest(self._first)

    def _topology(self, mesh: Readable) -> Topology:
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
        self,
        t: int,
        frame: float,
        mesh: Readable,
        current: Recording | None,
        name: str,
        by_counts: bool,
        layers: Collection[str] = (),
        slots_matter: bool = False,
    ) -> Recording:
        """Takes the mesh that a user of recording `current` (None for a new user) shows in sample `t`.

        `layers` names the texture coordinates that its cut-outs need beside those that renders use. `slots_matter`:
        not all of it is solid.

        Returns:
            the user's recording from now on: another one where it has parted from those that it shared with.
        """
        address = mesh.as_pointer()
        if current is None:
            current = self._readings.get(address)
            if current is None or current.changed:  # what it shows now is not what a new user begins with
                current = self._new(t, frame, mesh, name, by_counts, layers)
            else:
                current.take_layers(mesh, layers)
            current.slots_matter |= slots_matter
            self._readings[address] = current
            self._placed[id(current), address] = current
            return current
        current.slots_matter |= slots_matter
        placed = self._placed.get((id(current), address))
        if placed is None:
            placed = self._place(t, frame, mesh, current, name)
            placed.take_layers(mesh, layers)
            self._placed[id(current), address] = placed
            self._placed[id(placed), address] = placed
            self._readings[address] = placed
        return placed

    def used(self, mesh: Readable, looks: Looks) -> Looks:
        """Those of a mesh's `looks`, by slot, whose slot some face has."""
        if len(looks) < 2:
            return looks
        slots = self._reader.slots(mesh)
        if slots is None:
            return looks[:1]
        return tuple(looks[slot] for slot in np.unique(np.minimum(slots, len(looks) - 1)))

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

    def _new(
        self, t: int, frame: float, mesh: Readable, name: str, by_counts: bool, layers: Collection[str]
    ) -> Recording:
        made = Recording(name, self._total, self._reader, mesh, by_counts, layers)
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

    def _place(self, t: int, frame: float, mesh: Readable, current: Recording, name: str) -> Recording:
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


def _same_slots(a: NDArray[np.int32] | None, b: NDArray[np.int32] | None) -> bool:
    return (a is None and b is None) or (a is not None and b is not None and np.array_equal(a, b))
