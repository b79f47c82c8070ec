# SPDX-License-Identifier: GPL-3.0-or-later
"""Geometries built sample by sample: deformation is found by comparing, and equal geometries are stored once."""

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
from .materials import SlotAppearances

Float32 = NDArray[np.float32]
RowsCallback = Callable[[np.ndarray, int], None]


class GeometryBuilder:
    """Builds the geometry of one mesh, with a segment for each topology that it has.

    A mesh that deforms is read directly into the memory of the geometry.

    Args:
        name: name of the object.
        total: number of samples.
        reader: reads meshes.
        mesh: the first sample.
        by_counts: whether equal counts mean equal topology.
        uv_maps: names of UV maps that cutouts need.

    Attributes:
        slots_matter: whether some instance of it is not all opaque; a change of material slots then counts as a change
            of topology.
        uv_changes: whether UVs of a cutout change on the same faces in some sample.
    """

    def __init__(
        self,
        name: str,
        total: int,
        reader: MeshReader,
        mesh: Readable,
        by_counts: bool,
        uv_maps: Collection[str] = (),
    ) -> None:
        self.name = name
        self._reader = reader
        first = reader.positions(mesh, empty(np.float32, len(mesh.vertices), 3))
        self._first = self._current = reader.topology(mesh, by_counts)
        triangles, uv = reader.triangles(mesh)
        self.history = History(total, (_FIRST, 0), first, triangles, uv, lambda shape: empty(np.float32, *shape))
        self.uv_name = next((layer.name for layer in mesh.uv_layers if layer.active_render), None)
        # By identity of a segment's triangles: material slots, and by name the UV maps that cutouts use.
        self._slots: dict[int, NDArray[np.int32] | None] = {}
        self._uv_maps: dict[str, dict[int, Float32]] = {}
        self._variants = SlotVariants()
        self.slots_matter = False
        self.uv_changes = False
        self._compared = -1  # sample in which UVs were compared last
        self._read_slots(mesh)
        self._variants.number(_FIRST, self._slots[id(triangles)])
        self.read_uv_maps(mesh, uv_maps)

    @property
    def written(self) -> int:
        """Index of the latest sample."""
        return self.history.written

    @property
    def deforms(self) -> bool:
        """Whether vertices moved in the present segment."""
        return self.history.current.deforms

    @property
    def has_changed(self) -> bool:
        """Whether there was more than one topology."""
        return self.history.changed

    def add_sample(self, t: int, frame: float, mesh: Readable) -> None:
        """Reads sample `t`, which must be the latest.

        Raises:
            ShotError: a vertex has no finite position.
        """
        same = self._is_current(mesh)
        slot = self.history.slot(t) if same else None
        if slot is not None:
            check_finite(self._reader.positions(mesh, slot), self.name, frame)
            self.history.wrote(t)
            return
        key = self.history.topology
        if not same:
            self._current = self._topology(mesh)
            topology = _FIRST if self._current is self._first else _digest(self._current)
            key = topology, self._variants.number(topology, self._reader.slots(mesh), self.slots_matter)
        sample = self._reader.positions(mesh)
        if not (same and same_bytes(sample, self.history.current.first)):
            check_finite(sample, self.name, frame)
        self.history.put(t, key, sample, lambda: self._reader.triangles(mesh))
        self._read_slots(mesh)

    def _is_current(self, mesh: Readable) -> bool:
        """Whether a mesh has the present topology and, if they matter, material slots."""
        if not self._reader.has_topology(mesh, self._current):
            return False
        if not self.slots_matter or self._current.corners is None:  # then the slots do not change either
            return True
        return _same_slots(self._reader.slots(mesh), self._slots[id(self.history.current.triangles)])

    def read_uv_maps(self, mesh: Readable, names: Collection[str]) -> None:
        """Reads UV maps that cutouts need from the mesh of the latest sample."""
        for name in names:
            if name != self.uv_name:
                self._read_uv_map(mesh, name)

    def compare_uvs(self, t: int, mesh: Readable, names: Collection[str | None]) -> None:
        """Compares UV maps of cutouts (None: the one that renders use) in the latest sample with earlier samples."""
        if self.uv_changes or self._compared == t:
            return
        self._compared = t
        segment = self.history.current
        for name in {name or self.uv_name for name in names}:
            had = segment.uv if name == self.uv_name else self._uv_maps.get(name or "", {}).get(id(segment.triangles))
            found = self._reader.uv_map(mesh, name) if name and had is not None else None
            if had is not None and found is not None and found.shape == had.shape and not same_bytes(found, had):
                self.uv_changes = True

    def _read_slots(self, mesh: Readable) -> None:
        """Reads the material slots and needed UV maps of a new topology."""
        key = id(self.history.current.triangles)
        if key not in self._slots:
            self._slots[key] = self._reader.slots(mesh)
            for name in self._uv_maps:
                self._read_uv_map(mesh, name)

    def _read_uv_map(self, mesh: Readable, name: str) -> None:
        triangles = self.history.current.triangles
        if id(triangles) not in self._uv_maps.get(name, {}):
            found = self._reader.uv_map(mesh, name)
            if found is not None and len(found) == len(triangles):
                self._uv_maps.setdefault(name, {})[id(triangles)] = found

    @property
    def uv_maps(self) -> tuple[str, ...]:
        """Names of the UV maps that `geometry` stores beside `uv`, in order."""
        return tuple(self._uv_maps)

    @property
    def has_uv(self) -> bool:
        """Whether some segment has the UV map that renders use."""
        return any(segment.uv is not None for segment in self.history.segments)

    def geometry(self, segment: Segment) -> Geometry:
        """The geometry of a segment with everything that surfaces need.

        This includes material slots and UV maps; UVs are zero in maps that only other segments have.
        """
        key = id(segment.triangles)
        blank = np.zeros((len(segment.triangles), 3, 2), np.float32)
        more_uv = tuple(found.get(key, blank) for found in self._uv_maps.values())
        uv = blank if segment.uv is None and self.has_uv else segment.uv
        return replace(segment.geometry, uv=uv, materials=self._slots[key], more_uv=more_uv)

    def matches(self, t: int, mesh: Readable) -> bool:
        """Whether `mesh` is equal to sample `t`."""
        if not self._is_current(mesh):
            return False
        return same_bytes(self._reader.positions(mesh), self.history.at(t))

    def fork(self, t: int) -> GeometryBuilder:
        """A builder with the same samples before `t`, for an instance that differs from the others from there on."""
        twin = object.__new__(GeometryBuilder)
        twin.__dict__.update(self.__dict__)
        twin.history = self.history.fork(t)
        twin._slots = dict(self._slots)
        twin._variants = self._variants.copy()
        twin._uv_maps = {name: dict(found) for name, found in self._uv_maps.items()}
        if twin.history.topology != self.history.topology:
            # The face corners of a topology in between are not kept; it is recognized by its digest.
            twin._current = self._first if twin.history.topology == (_FIRST, 0) else _UNKNOWN
        return twin

    def start_key(self) -> tuple[int, int, int]:
        """A hash of the first sample."""
        first = self.history.segments[0].first
        some = first[:: max(1, len(first) // 256)]
        return len(first), len(self.history.segments[0].triangles), hash(some.tobytes())

    def has_same_start(self, other: GeometryBuilder) -> bool:
        """Whether another geometry has the same first sample."""
        one, two = self.history.segments[0], other.history.segments[0]
        return (
            same_bytes(one.first, two.first)
            and np.array_equal(one.triangles, two.triangles)
            and (one.uv is None) == (two.uv is None)
            and (one.uv is None or two.uv is None or same_bytes(one.uv, two.uv))
            and _same_slots(self._slots[id(one.triangles)], other._slots[id(two.triangles)])
            and self._uv_maps.keys() == other._uv_maps.keys()
            and all(
                same_bytes(found[id(one.triangles)], other._uv_maps[name][id(two.triangles)])
                for name, found in self._uv_maps.items()
            )
        )

    def topology_digest(self) -> str:
        """Digest of the first topology, equal for meshes whose vertices and faces correspond."""
        return _digest(self._first)

    def _topology(self, mesh: Readable) -> Topology:
        """The topology of a mesh that differs from the present one: the first one if that has returned."""
        if self._reader.has_topology(mesh, self._first):
            return self._first
        return self._reader.topology(mesh, by_counts=False)


_FIRST = "first"  # in place of the first topology's digest, so that a mesh that keeps it is never hashed
_UNKNOWN = Topology((-1, -1, -1, -1), None)


def _digest(topology: Topology) -> str:
    state = hashlib.blake2b(repr(topology.counts).encode(), digest_size=16)
    state.update(b"" if topology.corners is None else topology.corners.data)
    return state.hexdigest()


class GeometryStore:
    """The geometries of a capture, and which of them each evaluated mesh of the present sample belongs to.

    Args:
        total: number of samples.
        on_rows: called as on_rows(array, n) when the first n rows of an array are final; or None.

    Attributes:
        geometries: all geometries.
    """

    def __init__(self, total: int, on_rows: RowsCallback | None) -> None:
        self.geometries: list[GeometryBuilder] = []
        self._total = total
        self._on_rows = on_rows
        self._reported: dict[tuple[int, int], int] = {}  # number of rows of each array that were reported
        self._reader = MeshReader()
        self._by_start: dict[tuple[int, int, int], list[GeometryBuilder]] = {}
        self._latest: dict[int, GeometryBuilder] = {}  # by evaluated mesh, the geometry that read it in this sample
        self._assigned: dict[tuple[int, int], GeometryBuilder] = {}  # by geometry and mesh, where its instances go

    def begin_sample(self) -> None:
        """Starts a sample; addresses of evaluated meshes are only valid within one."""
        self._latest.clear()
        self._assigned.clear()

    def add_sample(
        self,
        t: int,
        frame: float,
        mesh: Readable,
        current: GeometryBuilder | None,
        name: str,
        by_counts: bool,
        uv_maps: Collection[str] = (),
        slots_matter: bool = False,
    ) -> GeometryBuilder:
        """Reads the mesh of an instance in sample `t`.

        Args:
            t: index of the sample.
            frame: its scene frame, for errors.
            mesh: the evaluated mesh.
            current: the instance's geometry so far; None for a new instance.
            name: name of the object.
            by_counts: whether equal counts mean equal topology.
            uv_maps: names of UV maps that its cutouts need, beside the one that renders use.
            slots_matter: whether not all of it is opaque.

        Returns:
            The instance's geometry from now on: another one if the instance differs from those that it shared it with.
        """
        address = mesh.as_pointer()
        if current is None:
            current = self._latest.get(address)
            if current is None or current.has_changed:  # a new instance does not have its earlier samples
                current = self._new(t, frame, mesh, name, by_counts, uv_maps)
            else:
                current.read_uv_maps(mesh, uv_maps)
            current.slots_matter |= slots_matter
            self._latest[address] = current
            self._assigned[id(current), address] = current
            return current
        current.slots_matter |= slots_matter
        assigned = self._assigned.get((id(current), address))
        if assigned is None:
            assigned = self._assign(t, frame, mesh, current, name)
            assigned.read_uv_maps(mesh, uv_maps)
            self._assigned[id(current), address] = assigned
            self._assigned[id(assigned), address] = assigned
            self._latest[address] = assigned
        return assigned

    def used_slots(self, mesh: Readable, slots: SlotAppearances) -> SlotAppearances:
        """The appearances of those slots that faces of the mesh have."""
        if len(slots) < 2:
            return slots
        by_triangle = self._reader.slots(mesh)
        if by_triangle is None:
            return slots[:1]
        return tuple(slots[slot] for slot in np.unique(np.minimum(by_triangle, len(slots) - 1)))

    def end_sample(self, t: int) -> None:
        """Reports the rows that are final after sample `t`."""
        for geometry in self.geometries:
            segment = geometry.history.current
            if segment.streams and geometry.written == t:
                self._report(segment.rows, t + 1 - segment.start)
            self._report_finished(geometry)

    def finish(self) -> None:
        """Completes all geometries after the last sample."""
        for geometry in self.geometries:
            geometry.history.complete()
            self._report_finished(geometry)

    def _report_finished(self, geometry: GeometryBuilder) -> None:
        finished, geometry.history.finished = geometry.history.finished, []
        for array in finished:
            self._report(array, len(array))

    def _report(self, array: np.ndarray, count: int) -> None:
        key = array.__array_interface__["data"][0], array.nbytes
        if self._on_rows is not None and self._reported.get(key) != count:
            self._reported[key] = count
            self._on_rows(array, count)

    def _new(
        self, t: int, frame: float, mesh: Readable, name: str, by_counts: bool, uv_maps: Collection[str]
    ) -> GeometryBuilder:
        new = GeometryBuilder(name, self._total, self._reader, mesh, by_counts, uv_maps)
        new.history.written = t
        check_finite(new.history.at(t), name, frame)
        candidates = self._by_start.setdefault(new.start_key(), [])
        for geometry in candidates:
            if not geometry.deforms and not geometry.has_changed and geometry.has_same_start(new):
                geometry.history.written = t
                return geometry
        candidates.append(new)
        self.geometries.append(new)
        return new

    def _assign(self, t: int, frame: float, mesh: Readable, current: GeometryBuilder, name: str) -> GeometryBuilder:
        if current.written < t:
            current.add_sample(t, frame, mesh)
            return current
        if current.matches(t, mesh):
            return current
        twin = current.fork(t)
        twin.name = name
        twin.add_sample(t, frame, mesh)
        self.geometries.append(twin)
        return twin


def check_finite(sample: Float32, name: str, frame: float) -> None:  # sample [V, 3]
    """Checks that positions are finite.

    Raises:
        ShotError: one is not; the error names the object and the frame.
    """
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
