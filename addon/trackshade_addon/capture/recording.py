# SPDX-License-Identifier: GPL-3.0-or-later
"""Geometries as they grow over the pass: what deforms is found by comparing, and equal surfaces are stored once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import NDArray

from trackshade.errors import ShotError
from trackshade.shot import Geometry

from .geometry import MeshReader, Readable, Topology, empty
from .materials import Looks
from .topology import Attachment, attach

Float32 = NDArray[np.float32]
Rows = Callable[[np.ndarray, int], None]


class Recording:
    """One geometry over the samples seen so far.

    It holds its first sample alone until a later one differs; from then on it holds a row for each of the shot's
    samples, into which meshes are read directly.
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
        self.changes: list[int] = []  # samples at which the topology changed
        self.written = -1  # latest sample that was put
        self._total = total
        self._reader = reader
        self._first = reader.positions(mesh, empty(np.float32, len(mesh.vertices), 3))
        self._rows: Float32 | None = None  # [T, V, 3] once it deforms
        self._topology = reader.topology(mesh, by_counts)
        self._now: Topology | None = None  # of the latest sample where it is another one
        self._attachment: Attachment | None = None
        self.triangles, self.uv = reader.triangles(mesh)
        self.uv_name = next((layer.name for layer in mesh.uv_layers if layer.active_render), None)
        self.slots = reader.slots(mesh)
        self.layers: dict[str, Float32] = {}  # texture coordinates that cut-outs use, by name
        self.take_layers(mesh, layers)

    @property
    def deforms(self) -> bool:
        return self._rows is not None

    @property
    def attached(self) -> bool:
        """Whether the latest sample had another topology than the first."""
        return self._now is not None

    @property
    def positions(self) -> Float32:
        """[T or 1, V, 3] object space, metres."""
        return self._first[None] if self._rows is None else self._rows

    def at(self, t: int) -> Float32:
        return self._first if self._rows is None else self._rows[t]

    def put(self, t: int, frame: float, mesh: Readable) -> None:
        """Takes sample `t`, which is not before any that it has.

        Raises:
            ShotError: a vertex has no finite position.
        """
        if self._rows is not None and self._keeps(mesh):
            self._hold(t)
            self._reader.positions(mesh, self._rows[t])
        else:
            sample = self._sample(t, frame, mesh)
            if self._rows is None:
                if same_bytes(sample, self._first):
                    self.written = t
                    return
                self._rows = empty(np.float32, self._total, *self._first.shape)
                self._rows[:t] = self._first
            self._hold(t)
            self._rows[t] = sample
        finite_or_raise(self._rows[t], self.name, frame)
        self.written = t

    def take_layers(self, mesh: Readable, names: Collection[str]) -> None:
        """Takes texture coordinates that cut-outs need, where `mesh` has them and is of this topology."""
        for name in names:
            if name not in self.layers and name != self.uv_name:
                found = self._reader.layer(mesh, name)
                if found is not None and len(found) == len(self.triangles):
                    self.layers[name] = found

    def _hold(self, t: int) -> None:
        """Fills the samples between the latest one and `t`, in which nothing was seen."""
        if self._rows is not None and self.written >= 0:
            self._rows[self.written + 1 : t] = self._rows[self.written]

    def complete(self) -> None:
        """Holds the latest sample up to the end."""
        if self._rows is not None:
            self._rows[self.written + 1 :] = self._rows[self.written]

    def agrees(self, t: int, mesh: Readable) -> bool:
        """Whether `mesh` gives sample `t` as it was put."""
        if self._reader.has_topology(mesh, self._topology):
            sample = self._reader.positions(mesh)
        elif self._attachment and self._now and self._reader.has_topology(mesh, self._now):
            sample = self._attachment.positions(self._reader.positions(mesh))
        else:
            return False
        return same_bytes(sample, self.at(t))

    def fork(self, t: int) -> Recording:
        """A recording with the same history before sample `t`, for a user that parts from the others there."""
        twin = object.__new__(Recording)
        twin.__dict__.update(self.__dict__)
        twin.changes = [change for change in self.changes if change < t]
        twin.written = min(self.written, t - 1)
        if len(twin.changes) < len(self.changes):
            twin._now = twin._attachment = None
        if self._rows is not None:
            twin._rows = None
            if any(not same_bytes(row, self._first) for row in self._rows[:t]):
                twin._rows = empty(np.float32, *self._rows.shape)
                twin._rows[:t] = self._rows[:t]
        return twin

    def key(self) -> tuple[int, int, int]:
        """Equal for recordings whose first samples are equal; seldom for others."""
        some = self._first[:: max(1, len(self._first) // 256)]
        return len(self._first), len(self.triangles), hash(some.tobytes())

    def same_start(self, other: Recording) -> bool:
        return (
            same_bytes(self._first, other._first)
            and np.array_equal(self.triangles, other.triangles)
            and (self.uv is None) == (other.uv is None)
            and (self.uv is None or other.uv is None or same_bytes(self.uv, other.uv))
            and _same_slots(self.slots, other.slots)
            and self.layers.keys() == other.layers.keys()
            and all(same_bytes(layer, other.layers[name]) for name, layer in self.layers.items())
        )

    def topology_digest(self) -> str:
        """Equal for geometries whose vertices and faces correspond, as far as their own faces were read."""
        counts, corners = self._topology.counts, self._topology.corners
        state = hashlib.blake2b(repr(counts).encode(), digest_size=16)
        state.update(b"" if corners is None else corners.tobytes())
        return state.hexdigest()

    def geometry(self, with_slots: bool = False) -> Geometry:
        """What was recorded; `with_slots` what surfaces need, too."""
        if not with_slots:
            return Geometry(self.positions, self.triangles, self.uv)
        return Geometry(self.positions, self.triangles, self.uv, self.slots, tuple(self.layers.values()))

    def _keeps(self, mesh: Readable) -> bool:
        if not self._reader.has_topology(mesh, self._topology):
            return False
        self._now = self._attachment = None
        return True

    def _sample(self, t: int, frame: float, mesh: Readable) -> Float32:
        """[V, 3] this geometry's points on `mesh`."""
        surface = self._reader.positions(mesh)
        if self._keeps(mesh):
            return surface
        finite_or_raise(surface, self.name, frame)
        if self._attachment is None or self._now is None or not self._reader.has_topology(mesh, self._now):
            triangles, _ = self._reader.triangles(mesh)
            previous = self._first if self._rows is None else self._rows[self.written]
            self._attachment = attach(previous, surface, triangles)
            self._now = self._reader.topology(mesh, by_counts=False)
            self.changes.append(t)
        return self._attachment.positions(surface)


class Library:
    """The recordings of a pass, and which of them each evaluated mesh of the present sample belongs to."""

    def __init__(self, total: int, rows: Rows | None) -> None:
        self.recordings: list[Recording] = []
        self._total = total
        self._rows = rows
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
    ) -> Recording:
        """Takes the mesh that a user of recording `current` (None for a new user) shows in sample `t`.

        `layers` names the texture coordinates that its cut-outs need beside those that renders use.

        Returns:
            the user's recording from now on: another one where it has parted from those that it shared with.
        """
        address = mesh.as_pointer()
        if current is None:
            current = self._readings.get(address)
            if current is None or current.attached:
                current = self._new(t, frame, mesh, name, by_counts, layers)
            elif layers:
                current.take_layers(mesh, layers)
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
        if self._rows is not None:
            for recording in self.recordings:
                if recording.deforms and recording.written == t:
                    self._rows(recording.positions, t + 1)

    def complete(self) -> None:
        for recording in self.recordings:
            recording.complete()
            if self._rows is not None and (not recording.deforms or recording.written < self._total - 1):
                positions = recording.positions
                self._rows(positions, len(positions))

    def _new(
        self, t: int, frame: float, mesh: Readable, name: str, by_counts: bool, layers: Collection[str]
    ) -> Recording:
        made = Recording(name, self._total, self._reader, mesh, by_counts, layers)
        made.written = t
        finite_or_raise(made.at(t), name, frame)
        alike = self._by_start.setdefault(made.key(), [])
        for recording in alike:
            if not recording.deforms and not recording.changes and recording.same_start(made):
                recording.written = t
                return recording
        alike.append(made)
        self.recordings.append(made)
        if self._rows is not None:
            self._rows(made.triangles, len(made.triangles))
            if made.uv is not None:
                self._rows(made.uv, len(made.uv))
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


def same_bytes(a: Float32, b: Float32) -> bool:
    """Bitwise equality of C-contiguous float32 arrays: NaN equals itself."""
    return np.array_equal(a.view(np.int32), b.view(np.int32))
