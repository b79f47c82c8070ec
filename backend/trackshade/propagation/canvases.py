# SPDX-License-Identifier: GPL-3.0-or-later
"""Canvases: images of surfaces in object space, which say once and for all frames what no key picture shows.

Some frames are surveyed at a low resolution: how many pixels of which part of which mesh no picture shows, and how
large a texel has to be. Parts that matter get a canvas: a plane for a large flat face that pictures show in part, an
atlas for everything else of a mesh. Its texels are read from the pictures as the pixels of a frame are; the rest is
filled (`fills`). A mesh that is small in all frames has one color, so that memory follows the picture, not the scene.

A surface that is seen from near by and far away, such as a ground that reaches the horizon, has several canvases: one
of all that is seen, and finer ones, *insets*, of the rectangles in which its texels are too large. Insets are filled
first, and coarser canvases continue them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trackshade.propagation.canvas_texels import KNOWN_SHARE, Canvas, find_places, read_pictures, reduce_inset
from trackshade.propagation.fallbacks import finely_meshed
from trackshade.propagation.fills import Method, SurfacePoints, fill_canvas
from trackshade.propagation.layout import Plane, face_normals, find_planes, unwrap
from trackshade.propagation.poses import PoseTable
from trackshade.propagation.surface import ShownPoints, shown_points
from trackshade.propagation.survey import Picture, Survey
from trackshade.propagation.views import viewed_texels

LEAST_PIXELS = 60.0  # of a frame that a part must leave unseen to get a canvas
LEAST_KNOWN = 0.08  # of a flat part that pictures must show for a plane
LEAST_SHARE = 0.02  # of a frame's pixels that a flat part must cover, all surveyed frames together, for a plane
LARGEST = {"plane": 1024, "atlas": 640}  # texels along a side, if it is a square; a longer one has as many texels
LONGEST = 4096  # texels along a side
COARSE = 1.5  # pixels of a frame along the side of a texel, from which on an inset is made
MOST_INSETS = 4  # of a canvas, one in the other
LEAST_INSET = 0.04  # share of a canvas's unseen pixels that need an inset
LEAST_SHRINKING = 0.6  # share of a canvas's area that its inset may have
MOST_TEXELS = 12_000_000
MOST_CANVASES = 400
SMALLEST = 12  # texels along a side
OTHERS = 20_000  # points of a mesh beside an atlas that its fill takes into account
LIT_SHARE = 0.03  # of the pixels of all surveyed frames, from which on a plane shows outlines of shadows


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

    def plan(self) -> list[list[Canvas]]:
        """Return the canvases that are needed, still empty: for each part one of all of it, and ever finer insets."""
        parts = sorted(self._parts(), key=lambda part: -part.unseen)[:MOST_CANVASES]
        surfaces = [canvases for part in parts if (canvases := self._place(part, 1.0))]
        total = sum(canvas.size[0] * canvas.size[1] for canvases in surfaces for canvas in canvases)
        if total > MOST_TEXELS:
            scale = float(np.sqrt(MOST_TEXELS / total))
            surfaces = [canvases for part in parts if (canvases := self._place(part, scale))]
        atlases = {canvases[0].mesh for canvases in surfaces if canvases[0].kind == "atlas"}
        self._shown = shown_points(self._table, [(picture, pose.t) for picture, pose in self._pictures], atlases)
        if atlases - self._shown.keys():
            self._surroundings = self._find_surroundings()
        return surfaces

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

    def _place(self, part: _Part, scale: float) -> list[Canvas]:
        """Return the empty canvases of a part, the coarsest first, their resolution times `scale`."""
        found, kind = self._found, "atlas" if part.plane is None else "plane"
        layout = self._lay_out(part)
        if layout is None:
            return []
        corners, points = layout
        hidden, density = ~found.shown[part.points], found.density[part.points]
        is_lit = kind == "plane" and len(points) >= LIT_SHARE * found.frame * len(np.unique(found.t))
        lowest, highest = corners.reshape(-1, 2).min(axis=0), corners.reshape(-1, 2).max(axis=0)
        chosen = np.ones(len(points), np.bool_)
        canvases: list[Canvas] = []
        while len(canvases) <= MOST_INSETS:
            wanted = float(np.percentile(density[hidden & chosen], 75 if part.plane else 95)) * scale
            low, high = lowest, highest
            if part.plane or canvases:
                low, high = _rectangle(points[chosen], lowest, highest)
            extent = high - low
            area = float(extent.prod())
            if canvases and area > LEAST_SHRINKING * float(np.prod(canvases[-1].size)) / canvases[-1].density ** 2:
                break
            if not (wanted > 0 and extent.max() > 0):
                break
            most = LARGEST[kind] / np.sqrt(area) if area > 0 else np.inf
            used = min(wanted, scale * float(min(most, LONGEST / extent.max())))
            width, height = (max(SMALLEST, int(np.ceil(side * used))) for side in extent)
            uv = (corners - low) * used
            canvases.append(Canvas(part.mesh, kind, part.faces, uv, (width, height), used, low, is_lit=is_lit))
            least = max(LEAST_PIXELS / found.pixels, LEAST_INSET * (hidden & chosen).sum())
            if (hidden & chosen & (density * scale > COARSE * used)).sum() < least:
                break
            # Of what is near the camera pictures may show nothing. Then there is more around it in the inset.
            for threshold in (COARSE, COARSE / 1.5, COARSE / 2.25):
                finer = chosen & (density * scale > threshold * used)
                low, high = _rectangle(points[finer], lowest, highest)
                within = ((points >= low) & (points <= high)).all(axis=1)
                if 1 - hidden[within].mean() >= LEAST_KNOWN:
                    chosen = finer
                    break
            else:
                break
        return canvases

    def _lay_out(self, part: _Part) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the corners [N, 3, 2] of a part's triangles on its surface, and the surveyed points [P, 2] there.

        Return None if the part cannot be unwrapped.
        """
        found = self._found
        track = self._shot.meshes[part.mesh]
        geometry = self._shot.geometries[track.geometry]
        first = geometry.first.astype(np.float64)
        if part.plane is not None:
            corners = part.plane.project(first[geometry.triangles[part.faces]])
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
            corners = unit.astype(np.float64) * np.sqrt(areas.sum() / max(covered, 1e-6))
        order = np.argsort(part.faces)
        own = order[np.searchsorted(part.faces, found.face[part.points], sorter=order)]
        b, c = found.weights[part.points].T
        return corners, np.einsum("nk,nkx->nx", np.stack([1 - b - c, b, c], axis=1), corners[own])

    def gather(self, canvas: Canvas, inset: Canvas | None = None) -> Canvas:
        """Return the canvas with the colors that the pictures show, and a plane with their light.

        Args:
            canvas: the canvas, empty.
            inset: its inset, filled, whose colors are known here as well.
        """
        color, share, inside = read_pictures(self._table, canvas, self._pictures)
        known = inside & (share >= KNOWN_SHARE if canvas.is_lit else share > 0)
        has_light = bool(self._shades) and canvas.kind == "plane"
        light = read_pictures(self._table, canvas, self._shades)[0] if has_light else None
        if self._soft:
            more, sure, _ = read_pictures(self._table, canvas, self._soft)
            added = inside & ~known & (sure >= KNOWN_SHARE)
            color[added], known = more[added], known | added
            if light is not None:
                light[added] = read_pictures(self._table, canvas, self._soft_shades)[0][added]
        if inset is not None:
            rows, columns, reduced, filled = reduce_inset(inset, canvas)
            color[rows, columns], known[rows, columns] = reduced, inside[rows, columns] & filled
            if light is not None:  # what the inset invents is taken to be in ordinary light
                dark = known & ~(light.max(axis=2) > 0)
                light[dark] = np.median(light[known & ~dark], axis=0) if (known & ~dark).any() else 1.0
        doubtful, viewed = inside & ~known & (share > 0), inside
        if canvas.kind == "plane":
            viewed = inside & viewed_texels(self._shot, canvas.mesh, canvas.faces, canvas.uv, canvas.size)
        return replace(canvas, color=color, known=known, doubtful=doubtful, inside=inside, viewed=viewed, light=light)

    def fill(self, canvas: Canvas, progress: Callable[[float], None]) -> tuple[np.ndarray, np.ndarray]:
        """Return the filled colors [h, w, 3] of a canvas, and the known texels [h, w] that are replaced."""
        method, positions, normals, others = self._method, None, None, None
        if canvas.kind == "atlas":
            geometry = self._shot.geometries[self._shot.meshes[canvas.mesh].geometry]
            positions, normals = find_places(geometry, canvas)
            others = self.others(canvas)
            if canvas.mesh not in self._shown:
                method = "push-pull"  # the surroundings' colors, but not their texture
            elif method == "auto":  # patches of one part of a body, such as a sign, are wrong on another
                method = "symmetry"
        filled = fill_canvas(
            canvas.color, canvas.known, canvas.inside, kind=canvas.kind, seed=self._seed, progress=progress,
            method=method, light=canvas.light, doubtful=canvas.doubtful, viewed=canvas.viewed, positions=positions,
            normals=normals, others=others,
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


def _rectangle(points: np.ndarray, lowest: np.ndarray, highest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of a rectangle around almost all points [N, 2], within another one."""
    low, high = np.percentile(points, 0.2, axis=0), np.percentile(points, 99.8, axis=0)
    margin = 0.03 * (high - low)
    return np.maximum(low - margin, lowest), np.minimum(high + margin, highest)


def _moved(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return points [N, 3] moved by a matrix [4, 4]; float32."""
    return (points @ matrix[:3, :3].T + matrix[:3, 3]).astype(np.float32)


def _turned(normals: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return unit normals [N, 3] of surfaces that a matrix [4, 4] moves; float32."""
    x, y, z = matrix[:3, :3].T
    cofactors = np.stack([np.cross(y, z), np.cross(z, x), np.cross(x, y)])  # exists for flattened objects, too
    turned = normals @ cofactors * (-1 if np.linalg.det(matrix[:3, :3]) < 0 else 1)
    return (turned / np.maximum(np.linalg.norm(turned, axis=1, keepdims=True), 1e-12)).astype(np.float32)
