# SPDX-License-Identifier: GPL-3.0-or-later
"""A scene without depth: a tour into the picture (Horry et al. 1997).

The scene is a ground with walls: a back wall that the camera looks at, side walls, indoors a ceiling, outdoors the sky.
Objects are cards that stand where they touch the ground. The surfaces continue beyond the picture, so that a camera
that moves sees ground and walls there too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from trackshade.lifting.camera import PhotoCamera
from trackshade.lifting.cuts import NOTHING, DepthLattice
from trackshade.lifting.depth_scene import ObjectMask, sky_inverse
from trackshade.lifting.scene import Surface, behind, bordered, build_meshes
from trackshade.shot.lift_request import Behind
from trackshade.shot.lifted import LiftedMesh

GROUND, BACK, LEFT, RIGHT, CEILING, SKY = range(6)  # labels
_SURFACES = {
    GROUND: Surface("Ground", "ground"),
    BACK: Surface("Back wall", "wall", one_sided=True),
    LEFT: Surface("Left wall", "wall", one_sided=True),
    RIGHT: Surface("Right wall", "wall", one_sided=True),
    CEILING: Surface("Ceiling", "ceiling", one_sided=True),
    SKY: Surface("Sky", "sky"),
}
BACKDROP = 0.06  # down / away of a backdrop's foot, where there is no back wall: at 27 m for a height of 1.6 m
_MARGIN = 1.0  # of the picture's size, on each side: how far surfaces continue beyond it
_WIDEST = math.tan(math.radians(75))  # from the camera's axis: no farther
_STEPS = 24  # lattice lines of the margin
_STRIDE = 16  # lattice steps between the vertices of a plane
_OVERLAP = 2  # lattice steps by which a plane continues behind another one
_LEAST_DOWN = 0.01  # down / away of a foot that touches the ground


@dataclass(frozen=True)
class Room:
    """Where the walls are.

    Attributes:
        edges: left, top, right and bottom edge of the back wall, as right / away and down / away in scene coordinates;
            None for a backdrop without side walls.
        indoors: whether there is a ceiling.
    """

    edges: tuple[float, float, float, float] | None
    indoors: bool

    def planes(self, height: float) -> dict[int, NDArray[np.float64]]:
        """Return for each surface the vector whose product with a scene ray is 1 / z, for a camera at `height`."""
        left, top, right, bottom = self.edges or (-math.inf, -math.inf, math.inf, BACKDROP)
        away = height / max(bottom, 1e-4)
        planes = {GROUND: np.array([0, 1 / height, 0]), BACK: np.array([0, 0, 1 / away])}
        if self.edges is not None:
            planes[LEFT] = np.array([1 / (min(left, -1e-4) * away), 0, 0])
            planes[RIGHT] = np.array([1 / (max(right, 1e-4) * away), 0, 0])
            if self.indoors:
                planes[CEILING] = np.array([0, 1 / (min(top, -1e-4) * away), 0])
        return planes


@dataclass(frozen=True, eq=False)
class Card:
    """An object that stands on the ground, or at a given depth.

    Attributes:
        mask: where it is seen.
        foot: row of the picture at which it touches the ground; None to find it.
        depth: along the camera's axis, metres; None to find it by the foot.
    """

    mask: ObjectMask
    foot: float | None = None
    depth: float | None = None


def room_depth(
    camera: PhotoCamera, room: Room, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Return the inverse depth and the surface of the room's planes at lattice points, both [h, w]."""
    rays = camera.scene_rays(x, y[:, None])
    planes = room.planes(camera.height)
    values = np.stack([rays @ plane for plane in planes.values()])
    nearest = values.argmax(axis=0)
    inverse = np.take_along_axis(values, nearest[None], axis=0)[0]
    return inverse, np.array(list(planes), np.int32)[nearest]


def build_tour(
    camera: PhotoCamera, room: Room, sky: NDArray[np.bool_], cards: list[Card], fill: Behind
) -> tuple[list[LiftedMesh], list[str]]:
    """Build the meshes of a tour.

    Args:
        camera: the camera.
        room: the walls.
        sky: [h, w] where the sky is seen, at the analyzed size.
        cards: the objects, the nearest first where they overlap.
        fill: what is behind objects.

    Returns:
        The meshes, and warnings.
    """
    height, width = sky.shape
    across, down = camera.size[0] / width, camera.size[1] / height
    photo_x, photo_y = (np.arange(width) + 0.5) * across, (np.arange(height) + 0.5) * down
    (x, more_left, more_right), (y, more_top, more_bottom) = (
        _with_margin(axis, side, camera.focal) for axis, side in zip((photo_x, photo_y), camera.size, strict=True)
    )
    inverse, labels = room_depth(camera, room, x, y)
    wide_sky = np.pad(sky, ((more_top, more_bottom), (more_left, more_right)), mode="edge")
    above = camera.rows_above_horizon(x, y[:, None]) > 0
    labels[wide_sky & above & (labels != GROUND)] = SKY
    labels[inverse <= 0] = SKY
    lattice = DepthLattice(x, y, inverse, labels)
    surfaces = {label: surface for label, surface in _SURFACES.items() if label != SKY}
    if room.edges is None:
        surfaces[BACK] = Surface("Backdrop", "background")
    solid = labels != SKY
    farthest = float(inverse[solid].min()) if solid.any() else 1.0
    far = sky_inverse(camera, lattice, farthest)
    inverse = np.where(solid, inverse, far)

    inner = bordered(DepthLattice(photo_x, photo_y, np.ones((height, width)), np.zeros((height, width), np.int32)),
                     camera.size)  # fmt: skip
    behind_cards = room_depth(camera, room, inner.x, inner.y)[0]
    front, owners = np.zeros_like(behind_cards), np.full(behind_cards.shape, NOTHING, np.int32)
    warnings: list[str] = []
    named: dict[int, Surface] = {}
    for index, card in enumerate(cards):
        seen = card.mask.at(inner.x, inner.y, camera.size) & (owners == NOTHING)
        if not seen.any():
            warnings.append(f"{card.mask.name} is covered by other objects and was left out.")
            continue
        values, warning = _card_depth(camera, card, seen, inner, behind_cards)
        warnings += warning
        front[seen], owners[seen], named[index] = values[seen], index, Surface(card.mask.name, "object")
    if fill == "none" and named:
        rows, columns = slice(more_top, more_top + height), slice(more_left, more_left + width)
        labels[rows, columns][owners[1:-1, 1:-1] != NOTHING] = NOTHING
    meshes = _build_room(camera, DepthLattice(x, y, inverse, labels), surfaces, room.planes(camera.height))
    if (labels == SKY).any():  # behind everything, since a camera that moves sees past the walls
        everywhere = np.where(above | (labels == SKY), SKY, NOTHING).astype(np.int32)
        meshes += build_meshes(camera, DepthLattice(x, y, far, everywhere), {SKY: _SURFACES[SKY]}, None, _STRIDE)
    if named:
        used = np.ix_(*(_span((owners != NOTHING).any(axis=axis)) for axis in (1, 0)))
        rows, columns = used[0].ravel(), used[1].ravel()
        depth = behind(behind_cards[used], front[used])
        cut = DepthLattice(inner.x[columns], inner.y[rows], depth, owners[used])
        meshes += build_meshes(camera, cut, named, None, _STRIDE // 4)
    return meshes, warnings


def _build_room(
    camera: PhotoCamera, lattice: DepthLattice, surfaces: dict[int, Surface], planes: dict[int, NDArray[np.float64]]
) -> list[LiftedMesh]:
    """Mesh the planes of a room, each a little beyond the edges at which it meets the others.

    Edges lie between the lattice's points, where the planes are a little apart. A camera that has moved would see
    through the gap; the part of a plane that is added is behind the other plane from everywhere in the room.
    """
    meshes, is_plane = [], np.isin(lattice.labels, [*planes])
    rays = camera.scene_rays(lattice.x, lattice.y[:, None])
    for label, plane in planes.items():
        seen = lattice.labels == label
        near = cv2.dilate(seen.astype(np.uint8), np.ones((2 * _OVERLAP + 1, 2 * _OVERLAP + 1), np.uint8)) > 0
        depth = rays @ plane
        more = near & is_plane & ~seen & (depth > 0)
        part = DepthLattice(
            lattice.x, lattice.y, np.where(more, depth, lattice.inverse), np.where(seen | more, label, NOTHING)
        )
        meshes += build_meshes(camera, part, {label: surfaces[label]}, None, _STRIDE, planes=planes)
    return meshes


def _span(used: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the indices from the first that is used to the last, and one more on each side where there is one."""
    found = np.flatnonzero(used)
    return np.arange(max(0, found[0] - 1), min(len(used), found[-1] + 2))


def _card_depth(
    camera: PhotoCamera, card: Card, seen: NDArray[np.bool_], lattice: DepthLattice, background: NDArray[np.float64]
) -> tuple[NDArray[np.float64], list[str]]:
    """Return the inverse depth [h, w] of the upright plane that a card lies on, which faces the camera."""
    rows, columns = np.nonzero(seen)
    lowest = int(np.quantile(rows, 0.995))
    column = int(np.median(columns[rows >= lowest - 2]))
    foot = (
        lattice.x[column],
        lattice.y[lowest] + (lattice.y[2] - lattice.y[1]) / 2 if card.foot is None else card.foot,
    )
    ray = camera.scene_rays(*foot)
    warnings = []
    if card.depth is not None:
        point = ray * card.depth
    elif ray[1] > _LEAST_DOWN * max(ray[2], 1e-6):
        point = ray * (camera.height / ray[1])
    else:
        point = ray / background[lowest, column]
        warnings.append(f"{card.mask.name} does not touch the ground: it was put onto what is behind it.")
    facing = np.array([point[0], 0.0, point[2]])
    facing /= max(float(np.linalg.norm(facing)), 1e-9)
    rays = camera.scene_rays(lattice.x, lattice.y[:, None])
    return np.maximum(rays @ facing / max(float(point @ facing), 1e-6), 1e-9), warnings


def _with_margin(axis: NDArray[np.float64], side: float, focal: float) -> tuple[NDArray[np.float64], int, int]:
    """Return lattice coordinates that continue beyond the picture, and how many were added before and after."""
    reach = min(_MARGIN * side, max(0.0, _WIDEST * focal - side / 2))
    step = axis[1] - axis[0]
    more = np.unique(np.append(0.5 * step, np.geomspace(2 * step, max(reach, 3 * step), _STEPS)))
    return np.concatenate([-more[::-1], axis, side + more]), len(more), len(more)
