# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the geometries of a mesh from its samples: one segment for each run of samples with the same topology.

A capture and the joining of a track set both use it, so that equal samples make equal geometries.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from trackshade.shot.arrays import same_bytes
from trackshade.shot.carrying import Surface, carry
from trackshade.shot.parts import Geometry

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]
Faces = Callable[[], tuple[Int32, Float32 | None]]  # triangles and texture coordinates, read only if they are needed
Allocate = Callable[[tuple[int, ...]], Float32]

_PREALLOCATED = 4  # segments of a mesh that have room for all samples from the beginning; later ones grow
_ALLOCATE: Allocate = functools.partial(np.empty, dtype=np.float32)


@dataclass(eq=False)
class Segment:
    """Samples of one topology: the first one alone until a later one differs, from then on a row for each."""

    start: int  # sample that it begins with
    first: Float32  # [V, 3] positions of that sample, object space, metres
    triangles: Int32  # as in `Geometry`, like `uv`, `origins` and `births`
    uv: Float32 | None
    origins: Float32 | None
    births: Int32 | None
    room: int | None  # number of samples that there will be at most; None for memory that grows
    allocate: Allocate  # allocates memory for samples
    _rows: Float32 | None = field(default=None, init=False)
    _geometry: Geometry | None = field(default=None, init=False)

    @property
    def deforms(self) -> bool:
        """Whether a sample differs from the first one."""
        return self._rows is not None

    @property
    def point_origins(self) -> Float32:
        """[V, 3] origins of the vertices, the same array at every call."""
        return self.first if self.origins is None else self.origins

    @functools.cached_property
    def point_births(self) -> Int32:
        """[V] births of the vertices, the same array at every call."""
        return np.full(len(self.first), self.start, np.int32) if self.births is None else self.births

    @property
    def streams(self) -> bool:
        """Whether `rows` is the memory that the geometry will have."""
        return self._rows is not None and self.room is not None

    @property
    def rows(self) -> Float32:
        """[n, V, 3] memory of all samples, written or not."""
        return self.first[None] if self._rows is None else self._rows

    def at(self, t: int) -> Float32:
        """Return the positions [V, 3] of a sample that was written."""
        return self.first if self._rows is None else self._rows[t - self.start]

    def slot(self, t: int, written: int) -> Float32:
        """Return the memory for sample `t` of a segment that deforms; fill samples after `written`, the latest one."""
        assert self._rows is not None
        if t - self.start >= len(self._rows):
            grown = self.allocate((2 * (t - self.start + 1), *self.first.shape))
            grown[: written - self.start + 1] = self._rows[: written - self.start + 1]
            self._rows = grown
        self._rows[written - self.start + 1 : t - self.start] = self._rows[max(written - self.start, 0)]
        return self._rows[t - self.start]

    def put(self, t: int, written: int, sample: Float32) -> None:
        """Copy the positions [V, 3] of sample `t`; `written` is the latest sample before."""
        if self._rows is None:
            if same_bytes(sample, self.first):
                return
            self._rows = self.allocate((self.room or 2 * (t - self.start + 1), *self.first.shape))
            self._rows[: t - self.start] = self.first
        self.slot(t, max(written, self.start))[:] = sample

    def copy(self, t: int) -> Segment:
        """Return another segment with the same samples before `t`."""
        twin = replace(self)
        if self._rows is not None:
            before = self._rows[: t - self.start]
            if any(not same_bytes(row, self.first) for row in before):
                twin._rows = self.allocate(self._rows.shape)
                twin._rows[: t - self.start] = before
        return twin

    def close(self, last: int) -> Geometry:
        """Return the geometry, once all samples up to `last` are written; later ones are not part of it."""
        if self._geometry is None:
            positions = self.rows[: last - self.start + 1]
            if self._rows is not None and self.room is None:
                positions = self._rows = positions.copy()
            self._geometry = Geometry(
                positions, self.triangles, self.uv, origins=self.origins, births=self.births, start=self.start
            )
        return self._geometry

    @property
    def geometry(self) -> Geometry:
        """The geometry of a segment that is closed."""
        assert self._geometry is not None
        return self._geometry


class History:
    """The segments of one mesh over the samples so far.

    Attributes:
        segments: each once, in the order of time.
        changes: (sample, segment) from which on the mesh has another topology.
        current: the segment of the latest sample.
        topology: the key of the latest sample's topology.
        carried: samples in which points were carried across by the nearest point of a surface that moved.
        written: latest sample that was put; -1 for none.
        finished: arrays that have their final values and were not reported yet.
    """

    def __init__(
        self,
        total: int,
        topology: Hashable,
        first: Float32,
        triangles: Int32,
        uv: Float32 | None,
        allocate: Allocate = _ALLOCATE,
    ) -> None:
        """Begin with a mesh's first sample.

        Args:
            total: number of samples that there will be.
            topology: a key, equal for meshes whose vertices and faces correspond.
            first: [V, 3] positions of the first sample.
            triangles: [F, 3] vertex indices.
            uv: [F, 3, 2] texture coordinates, or None.
            allocate: allocates memory for samples.
        """
        self.segments = [Segment(0, first, triangles, uv, None, None, total, allocate)]
        self.changes: list[tuple[int, Segment]] = []
        self.carried: list[int] = []
        self.written = -1
        self.finished: list[NDArray] = [triangles] if uv is None else [triangles, uv]
        self._total = total
        self._allocate = allocate
        self.current = self.segments[0]
        self._is_owner = True  # whether no other history has the current segment
        self._is_open = True  # whether it includes the latest sample
        self._known: dict[Hashable, Segment] = {topology: self.current}
        self.topology = topology

    @property
    def changed(self) -> bool:
        """Whether there was more than one topology."""
        return bool(self.changes)

    def at(self, t: int) -> Float32:
        """Return the positions [V, 3] of a sample that was put."""
        segments = [segment for sample, segment in self.changes if sample <= t]
        return (segments[-1] if segments else self.segments[0]).at(t)

    def slot(self, t: int) -> Float32 | None:
        """Return memory into which sample `t` may be read if it has the latest topology; then call `wrote(t)`."""
        if not self.current.deforms or not self._is_owner or not self._is_open:
            return None
        return self.current.slot(t, self.written)

    def wrote(self, t: int) -> None:
        """Note that sample `t` was read into the memory that `slot` returned."""
        self.written = t

    def put(self, t: int, topology: Hashable, positions: Float32, faces: Faces) -> None:
        """Add sample `t`.

        Args:
            t: the sample.
            topology: key of its topology.
            positions: [V, 3], which are copied.
            faces: called for triangles and texture coordinates if the topology is new.
        """
        if topology != self.topology:
            self._close()
            if topology in self._known:
                self._return(t, topology, positions)
            else:
                self._change(t, topology, positions, faces)
        elif self.current.deforms or not same_bytes(positions, self.current.first):
            if self._is_open:
                if not self._is_owner:
                    self._replace(self.current, self.current.copy(t))
                self.current.put(t, self.written, positions)
            else:
                self._return(t, topology, positions)
        self.written = t

    def fork(self, t: int) -> History:
        """Return another history with the same samples before `t`, for a mesh that differs from the others there."""
        twin = object.__new__(History)
        twin.__dict__.update(self.__dict__)
        twin.changes = [change for change in self.changes if change[0] < t]
        twin.carried = [sample for sample in self.carried if sample < t]
        twin.segments = [segment for segment in self.segments if segment.start < t or segment.start == 0]
        twin.finished = []
        twin.written = min(self.written, t - 1)
        twin.current = twin.changes[-1][1] if twin.changes else twin.segments[0]
        twin._is_owner = False
        twin._is_open = not twin.changes or twin.changes[-1][0] == twin.current.start  # it did not come back
        twin._known = {}
        for key, latest in self._known.items():
            for segment in twin.segments:
                if segment.triangles is latest.triangles:
                    twin._known[key] = segment
            if latest.triangles is twin.current.triangles:
                twin.topology = key
        return twin

    def track(self, numbers: Mapping[int, int]) -> tuple[int, tuple[tuple[int, int], ...]]:
        """Return `MeshTrack.geometry` and `MeshTrack.changes`, from indices by identity of the segments."""
        return numbers[id(self.segments[0])], tuple((t, numbers[id(segment)]) for t, segment in self.changes)

    def complete(self) -> None:
        """End the history: the latest sample holds to the end."""
        if not self.changes and self.current.deforms and self.written < self._total - 1:
            self.current.slot(self._total - 1, self.written)[:] = self.current.at(self.written)
            self.written = self._total - 1
        self._close()

    def _close(self) -> None:
        if self._is_open and self._is_owner:
            geometry = self.current.close(self.written)
            self.finished.append(geometry.positions)
        self._is_open = False

    def _change(self, t: int, topology: Hashable, positions: Float32, faces: Faces) -> None:
        triangles, uv = faces()
        current = self.current
        before = Surface(self.at(self.written), current.triangles, current.point_origins, current.point_births)
        found = carry(before, positions, triangles, t)
        if not found.is_exact:
            self.carried.append(t)
        self._begin(t, topology, positions, triangles, uv, found.origins, found.births)
        self.finished += [triangles, *([] if uv is None else [uv]), found.origins, found.births]

    def _return(self, t: int, topology: Hashable, positions: Float32) -> None:
        """Continue with a topology that was there before: its vertices are the same points again."""
        earlier = self._known[topology]
        if not earlier.deforms and earlier._geometry is not None and same_bytes(positions, earlier.first):
            self.changes.append((t, earlier))
            self.current, self.topology, self._is_owner, self._is_open = earlier, topology, True, False
            return
        self._begin(t, topology, positions, earlier.triangles, earlier.uv, earlier.point_origins, earlier.point_births)
        self.finished += [earlier.point_origins, earlier.point_births]

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
        room = self._total - t if len(self.segments) < _PREALLOCATED else None
        segment = Segment(t, first, triangles, uv, origins, births, room, self._allocate)
        self.segments.append(segment)
        self.changes.append((t, segment))
        self._known[topology] = segment
        self.current, self.topology, self._is_owner, self._is_open = segment, topology, True, True

    def _replace(self, old: Segment, new: Segment) -> None:
        """Replace a segment that other histories have, too."""
        self.segments = [new if segment is old else segment for segment in self.segments]
        self.changes = [(t, new if segment is old else segment) for t, segment in self.changes]
        self._known = {key: new if segment is old else segment for key, segment in self._known.items()}
        self.current, self._is_owner = new, True


class SlotVariants:
    """Numbers the material slots that meshes of the same topology have in turn.

    If parts of a mesh are not solid, other slots are a change like another topology.
    """

    def __init__(self) -> None:
        self._known: dict[Hashable, dict[bytes, int]] = {}

    def number(self, topology: Hashable, slots: Int32 | None, matter: bool = True) -> int:
        """Return 0 for the slots that a topology had first, and if slots do not matter; else a number.

        Args:
            topology: key of the topology.
            slots: [F] material slots, or None if all triangles have slot 0.
            matter: whether slots matter.
        """
        digest = b"" if slots is None else hashlib.blake2b(slots.data, digest_size=16).digest()
        known = self._known.setdefault(topology, {digest: 0})
        return known.setdefault(digest, len(known)) if matter else 0

    def copy(self) -> SlotVariants:
        """Return a copy that numbers independently."""
        twin = SlotVariants()
        twin._known = {topology: dict(known) for topology, known in self._known.items()}
        return twin


def geometries_of(
    histories: Iterable[History], finish: Callable[[Segment], Geometry] = lambda segment: segment.geometry
) -> tuple[tuple[Geometry, ...], dict[int, int]]:
    """Return the geometries of complete histories, shared ones once, and their indices by identity of the segment.

    Args:
        histories: the histories.
        finish: returns the geometry of a segment, with what the caller adds to it.
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
    """Return the warning about a mesh whose points were not carried exactly across changes at `frames`."""
    shown = ", ".join(f"{frame:g}" for frame in frames[:5])
    more = f" and {len(frames) - 5} more" if len(frames) > 5 else ""
    return (
        f"The topology of '{name}' changes at frame {shown}{more} while its surface moves; its shape is exact, and its "
        "points were carried across by the nearest surface point."
    )
