# SPDX-License-Identifier: GPL-3.0-or-later
"""Canvases: images of surfaces in object space, which say once and for all frames what no key picture shows.

Some frames are surveyed at a low resolution: how many pixels of which part of which mesh no picture shows, and how
large a texel has to be. Parts that matter get a canvas: a plane for a large flat face that pictures show in part, an
atlas for everything else of a mesh. Its texels are read from the pictures as the pixels of a frame are; the rest is
filled (`fills`). A mesh that is small in all frames has one color, so that memory follows the picture, not the scene.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from trackshade.control.scene import ShotRaster
from trackshade.control.texels import draw_triangles
from trackshade.propagation.fallbacks import finely_meshed
from trackshade.propagation.fills import Method, SurfacePoints, fill_canvas
from trackshade.propagation.layout import Plane, face_normals, find_planes, unwrap
from trackshade.propagation.pictures import SurfacePicture
from trackshade.propagation.poses import NOWHERE, Pose, PoseTable, resize_shot
from trackshade.propagation.surface import Points, ShownPoints, find_points, pull, shown_points
from trackshade.shot import Geometry

SURVEYED = 24  # frames
SURVEY_WIDTH = 320  # pixels of the longer side
LEAST_PIXELS = 60.0  # of a frame that a part must leave unseen to get a canvas
LEAST_KNOWN = 0.08  # of a flat part that pictures must show for a plane
LEAST_SHARE = 0.02  # of a frame's pixels that a flat part must cover, all surveyed frames together, for a plane
LARGEST = {"plane": 1024, "atlas": 640}  # texels along a side
MOST_TEXELS = 12_000_000
MOST_CANVASES = 400
SMALLEST = 12  # texels along a side
OTHERS = 20_000  # points of a mesh beside an atlas that its fill takes into account
LIT_SHARE = 0.03  # of the pixels of all surveyed frames, from which on a plane shows outlines of shadows
KNOWN_SHARE = 0.3  # see `pictures.read`
_BAND = 64  # rows of a canvas at a time
_SAMPLES = 2

Picture = tuple[SurfacePicture, Pose]


@dataclass(frozen=True, eq=False)
class Canvas:
    """An image on a part of a mesh.

    Attributes:
        mesh: index into `Shot.meshes`.
        kind: "plane" or "atlas".
        faces: [N] int64, triangles of the mesh's geometry.
        uv: [N, 3, 2] float32, their corners, texels.
        size: (width, height), texels.
        color: [h, w, 3] float32 linear light.
        known: [h, w] bool, texels that a picture shows.
        doubtful: [h, w] bool, texels of a plane that are shown, but at rims of light; see `light.doubt_light_rims`.
        inside: [h, w] bool, texels that belong to the surface.
        light: [h, w, 3] float32, light that the colors were divided by, or None.
        is_lit: whether it is a plane so large that outlines of shadows would be seen on it; see
            `light.doubt_light_rims`.
    """

    mesh: int
    kind: Literal["plane", "atlas"]
    faces: np.ndarray
    uv: np.ndarray
    size: tuple[int, int]
    color: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 3), np.float32))
    known: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.bool_))
    doubtful: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.bool_))
    inside: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.bool_))
    light: np.ndarray | None = None
    is_lit: bool = False


@dataclass(frozen=True, eq=False)
class Survey:
    """The surface points that pixels of some frames show, [N] each.

    Attributes:
        t: sample of the frame.
        mesh: index into `Shot.meshes`.
        face: triangle of its geometry.
        weights: [N, 2] barycentric, of the second and third corner.
        density: pixels of a full frame per object unit, at the geometry's first positions.
        shown: whether a picture shows the point; [N, P] for each picture, where they are told apart.
        pixels: full pixels that each surveyed one stands for.
        frame: surveyed pixels of a frame.
    """

    t: np.ndarray
    mesh: np.ndarray
    face: np.ndarray
    weights: np.ndarray
    density: np.ndarray
    shown: np.ndarray
    pixels: float
    frame: int


def survey_times(count: int, most: int = SURVEYED, views: int = 1) -> list[int]:
    """Return samples that are spread evenly over a shot and its cameras, the first and the last frame included.

    Args:
        count: number of samples.
        most: number of samples to return, at most.
        views: see `Shot.views`.
    """
    frames = np.linspace(0, count // views - 1, min(count, most)).round().astype(int)
    return sorted(set((frames * views + np.arange(len(frames)) % views).tolist()))


def survey(
    table: PoseTable,
    pictures: Sequence[Picture],
    size: tuple[int, int],
    times: Iterable[int],
    progress: Callable[[float], None] = lambda fraction: None,
    apart: bool = False,
) -> Survey:
    """Look at some frames at a low resolution.

    Args:
        table: the shot's poses.
        pictures: the key pictures.
        size: (width, height) of the frames.
        times: the samples.
        progress: called with the fraction that is done.
        apart: whether to tell pictures apart, and leave out densities.
    """
    shot, times = table.shot, list(times)
    factor = min(1.0, SURVEY_WIDTH / max(size))
    small = max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
    raster = ShotRaster(resize_shot(shot, small))
    parts: list[list[np.ndarray]] = []
    for index, t in enumerate(times):
        progress(index / len(times))
        buffers, frame, starts = raster.draw(t), table.pose(t, small), table.face_starts(t)
        label, triangle = buffers.label.copy(), buffers.triangle.copy()
        points = find_points(label, triangle, buffers.depth, 0, 1, frame, table.still, table.triangles, starts)
        own = label >= 0
        mesh, face, weights = label[own], triangle[own], points.weights[own]
        shown = np.zeros((len(mesh), len(pictures)), np.bool_)
        for number, (picture, pose) in enumerate(pictures):
            if table.has_changes:
                pose = table.pose(pose.t, picture.size, faces_of=t)
            out = np.zeros((*label.shape, 5), np.float32)
            pull(points, 1, frame, picture, pose, table.still, table.triangles, starts, 1.0, out)
            shown[:, number] = out[own][:, 3] > 0
        density = np.zeros(len(mesh))
        if not apart:
            shown = shown.any(axis=1)
            density = _density(table, frame, starts, t, mesh, face, weights) * (size[0] / small[0])
        parts.append([np.full(len(mesh), t), mesh, face, weights, density, shown])
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return Survey(*columns, pixels=size[0] * size[1] / (small[0] * small[1]), frame=small[0] * small[1])


def _density(
    table: PoseTable,
    frame: Pose,
    starts: np.ndarray,
    t: int,
    mesh: np.ndarray,
    face: np.ndarray,
    weights: np.ndarray,
) -> np.ndarray:
    """Return pixels per object unit at surface points, [N]."""
    corners = table.triangles[starts[mesh] + face]
    where = frame.where[mesh]
    is_still = where >= 0
    local = np.empty((len(mesh), 3, 3))
    local[is_still] = table.still[where[is_still, None] + corners[is_still]]
    local[~is_still] = frame.moving[-1 - where[~is_still, None] + corners[~is_still]]
    matrix = frame.to_camera[mesh]
    there = np.einsum("nij,nkj->nki", matrix[:, :3, :3], local) + matrix[:, None, :3, 3]
    normal = np.cross(there[:, 1] - there[:, 0], there[:, 2] - there[:, 0])
    size = np.linalg.norm(normal, axis=1)
    point = there[:, 0] + weights[:, :1] * (there[:, 1] - there[:, 0]) + weights[:, 1:] * (there[:, 2] - there[:, 0])
    focal = frame.lens[0] * frame.lens[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        if frame.orthographic:
            pixel = size / (focal * np.abs(normal[:, 2]))
        else:
            pixel = point[:, 2] ** 3 * size / (focal * np.abs(np.einsum("nk,nk->n", normal, point)))
        first = _first_areas(table, t, mesh, face)
        density = 1 / np.sqrt(pixel * first / (size / 2))
    return np.where(np.isfinite(density), density, 0.0)


def _first_areas(table: PoseTable, t: int, mesh: np.ndarray, face: np.ndarray) -> np.ndarray:
    """Return the areas [N] of triangles at their geometry's first positions, object units."""
    areas = np.empty(len(mesh))
    geometries = table.geometries(t)[mesh]
    for index in np.unique(geometries).tolist():
        own = geometries == index
        geometry = table.shot.geometries[index]
        areas[own] = face_normals(geometry.first.astype(np.float64), geometry.triangles[face[own]])[1]
    return areas


@dataclass(frozen=True, eq=False)
class _Part:
    """A part of a mesh that gets a canvas."""

    mesh: int
    plane: Plane | None
    faces: np.ndarray
    points: np.ndarray  # [N] indices into the survey
    unseen: float  # pixels of the frame in which most is unseen


class CanvasMaker:
    """Chooses and makes the canvases of a shot.

    Args:
        table: the shot's poses.
        pictures: the key pictures.
        found: the survey.
        seed: seed of the fills.
        method: how unknown texels are filled.
        shades: the light that the key pictures were divided by, as pictures.
        soft: pictures without detail, for what the others do not show.
        soft_shades: the light that those were divided by.

    Attributes:
        unmapped: meshes that are filled by the colors of their vertices where they have no canvas: their topology
            changes, it is too fine to be unwrapped, or their triangles are so small that vertices tell colors well.
    """

    def __init__(
        self,
        table: PoseTable,
        pictures: Sequence[Picture],
        found: Survey,
        seed: int,
        method: Method = "auto",
        shades: Sequence[Picture] = (),
        soft: Sequence[Picture] = (),
        soft_shades: Sequence[Picture] = (),
    ) -> None:
        self._method: Method = method
        self._shades, self._soft, self._soft_shades = shades, soft, soft_shades
        self._table, self._shot, self._pictures, self._found, self._seed = table, table.shot, pictures, found, seed
        self._planes: dict[int, list[Plane]] = {}
        self._unwrapped: dict[tuple[int, bytes], np.ndarray | None] = {}
        self._shown: dict[int, ShownPoints] = {}
        self._surroundings: SurfacePoints | None = None  # what pictures show of all meshes, world space
        self.unmapped: set[int] = {mesh for mesh, track in enumerate(self._shot.meshes) if track.changes}
        self.unmapped |= finely_meshed(found.mesh, found.face, found.pixels / max(1, len(np.unique(found.t))))

    def plan(self) -> list[Canvas]:
        """Return the canvases that are needed, still empty."""
        parts = sorted(self._parts(), key=lambda part: -part.unseen)[:MOST_CANVASES]
        canvases = [canvas for part in parts if (canvas := self._place(part, 1.0)) is not None]
        total = sum(canvas.size[0] * canvas.size[1] for canvas in canvases)
        if total > MOST_TEXELS:
            scale = float(np.sqrt(MOST_TEXELS / total))
            canvases = [canvas for part in parts if (canvas := self._place(part, scale)) is not None]
        atlases = {canvas.mesh for canvas in canvases if canvas.kind == "atlas"}
        self._shown = shown_points(self._table, [(picture, pose.t) for picture, pose in self._pictures], atlases)
        if atlases - self._shown.keys():
            self._surroundings = self._find_surroundings()
        return canvases

    def _find_surroundings(self) -> SurfacePoints | None:
        """Return what pictures show of all meshes, in world space at the first picture's sample; None if nothing."""
        picture, t, parts = self._pictures[0][0], self._pictures[0][1].t, []
        for mesh, shown in shown_points(self._table, [(picture, t)], range(len(self._shot.meshes))).items():
            chosen = slice(None, None, max(1, len(shown.faces) // OTHERS))
            geometry, matrix = self._shot.geometry_of(mesh, t), self._shot.meshes[mesh].matrix_world[t]
            normals, _ = face_normals(geometry.first.astype(np.float64), geometry.triangles)
            parts.append(
                (
                    _moved(shown.positions[chosen], matrix),
                    _turned(normals[shown.faces[chosen]], matrix),
                    shown.colors[chosen],
                )
            )
        return SurfacePoints(*map(np.concatenate, zip(*parts, strict=True))) if parts else None

    def _parts(self) -> list[_Part]:
        found, parts = self._found, []
        order = np.argsort(found.mesh, kind="stable")
        meshes, first = np.unique(found.mesh[order], return_index=True)
        for mesh, points in zip(meshes.tolist(), np.split(order, first[1:]), strict=True):
            track = self._shot.meshes[mesh]
            if track.holdout or track.changes or self._most_unseen(points) < LEAST_PIXELS:
                continue
            geometry = self._shot.geometries[track.geometry]
            if track.geometry not in self._planes:
                self._planes[track.geometry] = find_planes(geometry)
            part_of_face = np.full(len(geometry.triangles), -1)
            for index, plane in enumerate(self._planes[track.geometry]):
                part_of_face[plane.faces] = index
            part = part_of_face[found.face[points]]
            for index, plane in enumerate(self._planes[track.geometry]):
                own = points[part == index]
                unseen = self._most_unseen(own)
                large = unseen >= LEAST_PIXELS and len(own) >= LEAST_SHARE * found.frame
                if large and found.shown[own].mean() >= LEAST_KNOWN:
                    parts.append(_Part(mesh, plane, plane.faces, own, unseen))
                else:
                    part_of_face[plane.faces] = -1
            rest = np.flatnonzero(part_of_face < 0)
            own = points[part_of_face[found.face[points]] < 0]
            unseen = self._most_unseen(own)
            if unseen >= LEAST_PIXELS:
                parts.append(_Part(mesh, None, rest, own, unseen))
        return parts

    def _most_unseen(self, points: np.ndarray) -> float:
        """Return the number of pixels in the frame in which most of these points are unseen."""
        hidden = points[~self._found.shown[points]]
        return float(np.bincount(self._found.t[hidden]).max(initial=0)) * self._found.pixels

    def _place(self, part: _Part, scale: float) -> Canvas | None:
        """Return the empty canvas of a part, its resolution times `scale`."""
        found = self._found
        track = self._shot.meshes[part.mesh]
        geometry = self._shot.geometries[track.geometry]
        first = geometry.first.astype(np.float64)
        hidden = part.points[~found.shown[part.points]]
        density = float(np.percentile(found.density[hidden], 75 if part.plane else 95)) * scale
        if not density > 0:
            return None
        if part.plane is not None:
            corners = first[geometry.triangles[found.face[part.points]]]
            b, c = found.weights[part.points].T
            seen = part.plane.project(np.einsum("nk,nkx->nx", np.stack([1 - b - c, b, c], axis=1), corners))
            uv = part.plane.project(first[geometry.triangles[part.faces]])
            low, high = np.percentile(seen, 0.2, axis=0), np.percentile(seen, 99.8, axis=0)
            margin = 0.03 * (high - low)
            low = np.maximum(low - margin, uv.reshape(-1, 2).min(axis=0))
            high = np.minimum(high + margin, uv.reshape(-1, 2).max(axis=0))
            extent = high - low
            uv = uv - low
        else:
            key = track.geometry, part.faces.tobytes()
            if key not in self._unwrapped:
                self._unwrapped[key] = unwrap(geometry, part.faces)
            unit = self._unwrapped[key]
            if unit is None:
                self.unmapped.add(part.mesh)
                return None
            _, areas = face_normals(first, geometry.triangles[part.faces])
            a, b = unit[:, 1] - unit[:, 0], unit[:, 2] - unit[:, 0]
            covered = float(np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / 2)
            side = float(np.sqrt(areas.sum() / max(covered, 1e-6)))
            uv, extent = unit * side, unit.reshape(-1, 2).max(axis=0) * side
        kind: Literal["plane", "atlas"] = "atlas" if part.plane is None else "plane"
        if not extent.max() > 0:
            return None
        density = min(density, scale * LARGEST[kind] / extent.max())
        width, height = (max(SMALLEST, int(np.ceil(side * density))) for side in extent)
        is_lit = kind == "plane" and len(part.points) >= LIT_SHARE * found.frame * len(np.unique(found.t))
        return Canvas(part.mesh, kind, part.faces, (uv * density).astype(np.float32), (width, height), is_lit=is_lit)

    def gather(self, canvas: Canvas) -> Canvas:
        """Return the canvas with the colors that the pictures show, and a plane with their light."""
        color, share, inside = self._read(canvas, self._pictures)
        known = inside & (share >= KNOWN_SHARE if canvas.is_lit else share > 0)
        has_light = bool(self._shades) and canvas.kind == "plane"
        light = self._read(canvas, self._shades)[0] if has_light else None
        if self._soft:
            more, sure, _ = self._read(canvas, self._soft)
            added = inside & ~known & (sure >= KNOWN_SHARE)
            color[added], known = more[added], known | added
            if light is not None:
                light[added] = self._read(canvas, self._soft_shades)[0][added]
        doubtful = inside & ~known & (share > 0)
        return replace(canvas, color=color, known=known, doubtful=doubtful, inside=inside, light=light)

    def _read(self, canvas: Canvas, pictures: Sequence[Picture]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the colors [h, w, 3] that pictures show on a canvas, how far they show them, and what it covers."""
        width, height = canvas.size
        color, share = np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.float32)
        inside = np.zeros((height, width), np.bool_)
        starts = self._table.face_starts(0)
        for row in range(0, height, _BAND):
            rows = slice(row, min(row + _BAND, height))
            owner, weights = _owners(canvas, rows)
            label = np.where(owner >= 0, canvas.mesh, -2).astype(np.int32)
            out = np.zeros((*label.shape, 5), np.float32)
            whole = _blocks(label >= 0).all(axis=(1, 3))
            for picture, pose in pictures:
                if pose.where[canvas.mesh] == NOWHERE:
                    continue
                turned = np.linalg.det(pose.to_camera[canvas.mesh, :3, :3]) < 0
                side = np.full(label.shape, 1 if turned else -1, np.int8)
                points = Points(label, owner, np.ones(label.shape, np.float32), weights, side, whole, 0)
                pull(points, _SAMPLES, pose, picture, pose, self._table.still, self._table.triangles, starts, 1.0, out)
            color[rows], share[rows] = _reduce(out, whole)
            inside[rows] = _blocks(label >= 0).any(axis=(1, 3))
        return color, share, inside

    def fill(self, canvas: Canvas, progress: Callable[[float], None]) -> tuple[np.ndarray, np.ndarray]:
        """Return the filled colors [h, w, 3] of a canvas, and the known texels [h, w] that are replaced."""
        method, positions, normals, others = self._method, None, None, None
        if canvas.kind == "atlas":
            positions, normals = self._places(canvas)
            others = self.others(canvas)
            if canvas.mesh not in self._shown:
                method = "push-pull"  # the surroundings' colors, but not their texture
            elif method == "auto":  # patches of one part of a body, such as a sign, are wrong on another
                method = "symmetry"
        filled = fill_canvas(
            canvas.color, canvas.known, canvas.inside, kind=canvas.kind, seed=self._seed, progress=progress,
            method=method, light=canvas.light, doubtful=canvas.doubtful, positions=positions, normals=normals,
            others=others,
        )  # fmt: skip
        return filled.color, filled.healed

    def others(self, canvas: Canvas) -> SurfacePoints | None:
        """Return what the pictures show of a canvas's mesh beside the canvas; of a mesh that none shows, around it."""
        shown = self._shown.get(canvas.mesh)
        if shown is None:
            around = self._surroundings
            matrices = self._shot.meshes[canvas.mesh].matrix_world  # some may have a scale of 0
            usable = next((matrix for matrix in matrices if np.linalg.cond(matrix[:3, :3]) < 1e6), None)
            if around is None or usable is None:
                return None
            to_object = np.linalg.inv(usable)
            places = _moved(around.positions, to_object)
            first = self._shot.geometries[self._shot.meshes[canvas.mesh].geometry].first
            low, high = first.min(axis=0), first.max(axis=0)
            reach = float(np.linalg.norm(high - low))  # what is far away, as the sky, tells nothing
            near = ((places > low - reach) & (places < high + reach)).all(axis=1)
            near = near if near.any() else np.ones_like(near)
            return SurfacePoints(places[near], _turned(around.normals[near], to_object), around.colors[near])
        geometry = self._shot.geometries[self._shot.meshes[canvas.mesh].geometry]
        normals, _ = face_normals(geometry.first.astype(np.float64), geometry.triangles)
        on_canvas = np.zeros(len(normals), np.bool_)
        on_canvas[canvas.faces] = True
        beside = np.flatnonzero(~on_canvas[shown.faces])
        beside = beside[:: max(1, len(beside) // OTHERS)]
        return SurfacePoints(
            shown.positions[beside].astype(np.float32),
            normals[shown.faces[beside]].astype(np.float32),
            shown.colors[beside],
        )

    def _places(self, canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
        """Return the object-space positions and normals of the texels of an atlas, [h, w, 3] float32."""
        geometry: Geometry = self._shot.geometries[self._shot.meshes[canvas.mesh].geometry]
        first = geometry.first.astype(np.float64)
        width, height = canvas.size
        positions, normals = (np.zeros((height, width, 3), np.float32) for _ in range(2))
        flat, _ = face_normals(first, geometry.triangles)
        owner, weights = _owners(canvas, slice(0, height))
        # Of the samples of a texel, any that a triangle covers.
        for index in range(_SAMPLES**2):
            face = owner[index // _SAMPLES :: _SAMPLES, index % _SAMPLES :: _SAMPLES]
            part = weights[index // _SAMPLES :: _SAMPLES, index % _SAMPLES :: _SAMPLES]
            has = face >= 0
            b, c = part[has].T
            corners = first[geometry.triangles[face[has]]]
            positions[has] = np.einsum("nk,nkx->nx", np.stack([1 - b - c, b, c], axis=1), corners)
            normals[has] = flat[face[has]]
        return positions, normals


def _moved(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return points [N, 3] moved by a matrix [4, 4]; float32."""
    return (points @ matrix[:3, :3].T + matrix[:3, 3]).astype(np.float32)


def _turned(normals: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return unit normals [N, 3] of surfaces that a matrix [4, 4] moves; float32."""
    x, y, z = matrix[:3, :3].T
    cofactors = np.stack([np.cross(y, z), np.cross(z, x), np.cross(x, y)])  # exists for flattened objects, too
    turned = normals @ cofactors * (-1 if np.linalg.det(matrix[:3, :3]) < 0 else 1)
    return (turned / np.maximum(np.linalg.norm(turned, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def _owners(canvas: Canvas, rows: slice) -> tuple[np.ndarray, np.ndarray]:
    """Return the triangle [h·S, w·S] of each sample of some rows of a canvas, -1 for none, and its weights [..., 2]."""
    corners = (canvas.uv.astype(np.float64) - [0, rows.start]) * _SAMPLES
    size = canvas.size[0] * _SAMPLES, (rows.stop - rows.start) * _SAMPLES
    return draw_triangles(corners, canvas.faces.astype(np.int32), size)


def _blocks(values: np.ndarray) -> np.ndarray:
    """Return values [h·S, w·S] by texel: [h, S, w, S]."""
    rows, columns = values.shape
    return values.reshape(rows // _SAMPLES, _SAMPLES, columns // _SAMPLES, _SAMPLES)


def _reduce(out: np.ndarray, whole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return colors [h, w, 3], and how far pictures show them [h, w], from what `pull` has added up."""
    s = _SAMPLES
    blocks = out.reshape(out.shape[0] // s, s, out.shape[1] // s, s, 5)
    first = blocks[:, 0, :, 0]
    share = blocks[..., 4].max(axis=(1, 3))
    has = (blocks[..., 4] > 0) & (blocks[..., 4] >= np.minimum(share, KNOWN_SHARE)[:, None, :, None])
    with np.errstate(divide="ignore", invalid="ignore"):
        one = first[..., :3] / first[..., 3:4]
        each = np.where(has[..., None], blocks[..., :3] / blocks[..., 3:4], 0).sum(axis=(1, 3))
        mean = each / has.sum(axis=(1, 3))[..., None]
    share = np.where(whole, first[..., 4], share)
    color = np.where(whole[..., None], one, mean)
    return np.where((share > 0)[..., None], color, 0).astype(np.float32), share
