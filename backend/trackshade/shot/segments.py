# SPDX-License-Identifier: GPL-3.0-or-later
"""The geometries of one mesh as its samples come in: one segment for each run of samples with the same topology.

A capture and the joining of a track set both build their geometries here, so that they make the same of the same
samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from trackshade.shot.arrays import same_bytes
from trackshade.shot.carrying import Surface, carry
from trackshade.shot.parts import Geometry

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]
Faces = Callable[[], tuple[Int32, Float32 | None]]  # triangles and texture coordinates, read when they are needed
Allocate = Callable[[tuple[int, ...]], Float32]

_FEW = 4  # segments of a mesh that have room for all samples from the beginning; later ones grow


def _allocate(shape: tuple[int, ...]) -> Float32:
    return np.empty(shape, np.float32)


class Segment:
    """Samples of one topology: the first one alone until a later one differs, from then on a row for each.

    Attributes:
        start: sample that it begins with.
        triangles, uv, origins, births: as in `Geometry`.
    """

    def __init__(
        self,
        start: int,
        first: Float32,
        triangles: Int32,
        uv: Float32 | None,
        origins: Float32 | None,
        births: Int32 | None,
        room: int | None,
        allocate: Allocate,
    ) -> None:
        """`room`: samples that there will be at most; None for memory that grows."""
        self.start = start
        self.triangles, self.uv, self.origins, self.births = triangles, uv, origins, births
        self._first = first
        self._rows: Float32 | None = None
        self._room = room
        self._allocate = allocate
        self._geometry: Geometry | None = None
        self._born: Int32 | None = births

    @property
    def deforms(self) -> bool:
        return self._rows is not None

    @property
    def first(self) -> Float32:
        """[V, 3] positions of the first sample."""
        return self._first

    @property
    def place(self) -> Float32:
        """[V, 3] origins of the vertices, the same array at every call."""
        return self._first if self.origins is None else self.origins

    @property
    def born(self) -> Int32:
        """[V] births of the vertices, the same array at every call."""
        if self._born is None:
            self._born = np.full(len(self._first), self.start, np.int32)
        return self._born

    @property
    def streams(self) -> bool:
        """Whether `rows` is the memory that the geometry will have."""
        return self._rows is not None and self._room is not None

    @property
    def rows(self) -> Float32:
        """[n, V, 3]: the memory of all samples, written or not."""
        return self._first[None] if self._rows is None else self._rows

    def at(self, t: int) -> Float32:
        """[V, 3] positions of a sample that was written."""
        return self._first if self._rows is None else self._rows[t - self.start]

    def slot(self, t: int, written: int) -> Float32:
        """The memory for sample `t`, for a segment that deforms; samples since `written`, the latest, are filled."""
        assert self._rows is not None
        if t - self.start >= len(self._rows):
            grown = self._allocate((2 * (t - self.start + 1), *self._first.shape))
            grown[: written - self.start + 1] = self._rows[: written - self.start + 1]
            self._rows = grown
        self._rows[written - self.start + 1 : t - self.start] = self._rows[max(written - self.start, 0)]
        return self._rows[t - self.start]

    def put(self, t: int, written: int, sample: Float32) -> None:
        """Takes the positions [V, 3] of sample `t`; `written` is the latest before."""
        if self._rows is None:
            if same_bytes(sample, self._first):
                return
            room = self._room or 2 * (t - self.start + 1)
            self._rows = self._allocate((room, *self._first.shape))
            self._rows[: t - self.start] = self._first
        self.slot(t, max(written, self.start))[:] = sample

    def copy(self, t: int) -> Segment:
        """Another one with the same samples before `t`."""
        twin = Segment(
            self.start, self._first, self.triangles, self.uv, self.origins, self.births, self._room, self._allocate
        )
        if self._rows is not None:
            before = self._rows[: t - self.start]
            if any(not same_bytes(row, self._first) for row in before):
                twin._rows = self._allocate(self._rows.shape)
                twin._rows[: t - self.start] = before
        return twin

    def close(self, last: int) -> Geometry:
        """The geometry, once all samples up to `last` are written; later ones are not part of it."""
        if self._geometry is None:
            positions = self._first[None]
            if self._rows is not None:
                positions = self._rows[: last - self.start + 1]
                if self._room is None:
                    positions = self._rows = positions.copy()
            self._geometry = Geometry(
                positions, self.triangles, self.uv, origins=self.origins, births=self.births, start=self.start
            )
        return self._geometry

    @property
    def closed(self) -> bool:
        return self._geometry is not None

    @property
    def geometry(self) -> Geometry:
        """The geometry of a segment that is closed."""
        assert self._geometry is not None
        return self._geometry


class History:
    """The segments of one mesh over the samples seen so far.

    Attributes:
        segments: each once, in the order of time.
        changes: (sample, segment) from which on the mesh has another topology.
        carried: samples in which points were carried across by the nearest point of a surface that moved.
        written: latest sample that was put; -1 for none.
        finished: arrays that have got their final values and were not reported yet.
    """

    def __init__(
        self,
        total: int,
        topology: Hashable,
        first: Float32,
        triangles: Int32,
        uv: Float32 | None,
        allocate: Allocate = _allocate,
    ) -> None:
        """Begins with a mesh's first sample. `topology`: equal for meshes whose vertices and faces correspond."""
        self.segments = [Segment(0, first, triangles, uv, None, None, total, allocate)]
        self.changes: list[tuple[int, Segment]] = []
        self.carried: list[int] = []
        self.written = -1
        self.finished: list[NDArray] = [triangles] if uv is None else [triangles, uv]
        self._total = total
        self._allocate = allocate
        self._current = self.segments[0]
        self._own = True  # whether the current segment is no other history's
        self._open = True  # whether it goes up to the present
        self._known: dict[Hashable, Segment] = {topology: self._current}
        self._topology = topology

    @property
    def current(self) -> Segment:
        return self._current

    @property
    def topology(self) -> Hashable:
        """Of the latest sample."""
        return self._topology

    @property
    def changed(self) -> bool:
        """Whether there was more than one topology."""
        return bool(self.changes)

    def at(self, t: int) -> Float32:
        """[V, 3] positions of a sample that was put."""
        found = self.segments[0]
        for sample, segment in self.changes:
            if sample <= t:
                found = segment
        return found.at(t) if found.deforms else found.first

    def slot(self, t: int) -> Float32 | None:
        """Memory into which sample `t` may be read, where it has the latest topology; then `wrote(t)` is to follow."""
        if not self._current.deforms or not self._own or not self._open:
            return None
        return self._current.slot(t, self.written)

    def wrote(self, t: int) -> None:
        self.written = t

    def put(self, t: int, topology: Hashable, positions: Float32, faces: Faces) -> None:
        """Takes sample `t`.

        Args:
            positions: [V, 3], which are copied.
            faces: asked for triangles and texture coordinates where the topology is a new one.
        """
        if topology == self._topology:
            if same_bytes(positions, self._current.first) and not self._current.deforms:
                self.written = t
                return
            if not self._open:
                self._again(t, topology, positions)
            else:
                if not self._own:
                    self._replace(self._current, self._current.copy(t))
                self._current.put(t, self.written, positions)
        elif topology in self._known:
            self._close()
            self._again(t, topology, positions)
        else:
            self._close()
            self._change(t, topology, positions, faces)
        self.written = t

    def fork(self, t: int) -> History:
        """Another history with the same samples before `t`, for a mesh that parts from the others there."""
        twin = object.__new__(History)
        twin.__dict__.update(self.__dict__)
        twin.changes = [change for change in self.changes if change[0] < t]
        twin.carried = [sample for sample in self.carried if sample < t]
        twin.segments = [segment for segment in self.segments if segment.start < t or segment.start == 0]
        twin.finished = []
        twin.written = min(self.written, t - 1)
        twin._current = twin.changes[-1][1] if twin.changes else twin.segments[0]
        twin._own = False
        twin._open = not twin.changes or twin.changes[-1][0] == twin._current.start  # it did not come back
        twin._known = {}
        for key, latest in self._known.items():
            for segment in twin.segments:
                if segment.triangles is latest.triangles:
                    twin._known[key] = segment
            if latest.triangles is twin._current.triangles:
                twin._topology = key
        return twin

    def track(self, numbers: Mapping[int, int]) -> tuple[int, tuple[tuple[int, int], ...]]:
        """`MeshTrack.geometry` and `MeshTrack.changes`, given indices by identity of the segments."""
        return numbers[id(self.segments[0])], tuple((t, numbers[id(segment)]) for t, segment in self.changes)

    def complete(self) -> None:
        """Ends the history: what holds the latest sample holds it to the end."""
        if not self.changes and self._current.deforms and self.written < self._total - 1:
            self._current.slot(self._total - 1, self.written)[:] = self._current.at(self.written)
            self.written = self._total - 1
        self._close()

    def _surface(self) -> Surface:
        """The mesh as it was seen last."""
        segment = self._current
        return Surface(self.at(self.written), segment.triangles, segment.place, segment.born)

    def _close(self) -> None:
        if self._open and self._own:
            geometry = self._current.close(self.written)
            self.finished.append(geometry.positions)
        self._open = False

    def _change(self, t: int, topology: Hashable, positions: Float32, faces: Faces) -> None:
        triangles, uv = faces()
        found = carry(self._surface(), positions, triangles, t)
        if not found.exact:
            self.carried.append(t)
        self._begin(t, topology, positions, triangles, uv, found.origins, found.births)
        self.finished += [triangles, found.origins, found.births] if uv is None else [
            triangles, uv, found.origins, found.births
        ]  # fmt: skip

    def _again(self, t: int, topology: Hashable, positions: Float32) -> None:
        """Goes on with a topology that was there before: its vertices are the same points again."""
        earlier = self._known[topology]
        if not earlier.deforms and earlier.closed and same_bytes(positions, earlier.first):
            self.changes.append((t, earlier))
            self._current, self._topology, self._own, self._open = earlier, topology, True, False
            return
        self._begin(t, topology, positions, earlier.triangles, earlier.uv, earlier.place, earlier.born)
        self.finished += [earlier.place, earlier.born]

    def _begin(
        self,
        t: int,
        topology: Hashable,
        positions: Float32,
        triangles: Int32,
        uv: Float32 | None,
        origins: Float32,
        births: Int32,
    ) -> None:
        first = self._allocate(positions.shape)
        first[:] = positions
        room = self._total - t if len(self.segments) < _FEW else None
        segment = Segment(t, first, triangles, uv, origins, births, room, self._allocate)
        self.segments.append(segment)
        self.changes.append((t, segment))
        self._known[topology] = segment
        self._current, self._topology, self._own, self._open = segment, topology, True, True

    def _replace(self, old: Segment, new: Segment) -> None:
        """Takes a segment of its own in the place of one that others have, too."""
        self.segments = [new if segment is old else segment for segment in self.segments]
        self.changes = [(t, new if segment is old else segment) for t, segment in self.changes]
        self._known = {key: new if segment is old else segment for key, segment in self._known.items()}
        self._current, self._own = new, True


class SlotVariants:
    """Numbers the material slots that meshes of the same topology have in turn.

    Where not all of a mesh is solid, other slots are a change like another topology.
    """

    def __init__(self) -> None:
        self._known: dict[Hashable, dict[bytes, int]] = {}

    def number(self, topology: Hashable, slots: Int32 | None, matter: bool = True) -> int:
        """0 for the slots that a topology had first, and where slots do not matter.

        Args:
            slots: [F], or None where all triangles have slot 0.
        """
        digest = b"" if slots is None else hashlib.blake2b(slots.data, digest_size=16).digest()
        known = self._known.setdefault(topology, {digest: 0})
        return known.setdefault(digest, len(known)) if matter else 0

    def copy(self) -> SlotVariants:
        twin = SlotVariants()
        twin._known = {topology: dict(known) for topology, known in self._known.items()}
        return twin


def geometries_of(
    histories: Iterable[History], finish: Callable[[Segment], Geometry] = lambda segment: segment.geometry
) -> tuple[tuple[Geometry, ...], dict[int, int]]:
    """The geometries of complete histories, those that several share once; and by identity of a segment its index.

    Args:
        finish: makes the geometry of a segment, with what is known of it elsewhere.
    """
    found: list[Geometry] = []
    numbers: dict[int, int] = {}
    for history in histories:
        for segment in history.segments:
            if id(segment) not in numbers:
                numbers[id(segment)] = len(found)
                found.append(finish(segment))
    return tuple(found), numbers


def carried_warning(name: str, frames: Sequence[float]) -> str:
    """A sentence about a mesh whose points were carried across changes of topology at `frames`, not exactly."""
    shown = ", ".join(f"{frame:g}" for frame in frames[:5])
    more = f" and {len(frames) - 5} more" if len(frames) > 5 else ""
    return (
        f"The topology of '{name}' changes at frame {shown}{more} while its surface moves; its shape is exact, and its "
        "points were carried across by the nearest surface point."
    )
