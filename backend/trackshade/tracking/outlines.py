# SPDX-License-Identifier: GPL-3.0-or-later
"""Meshes over pixels of a frame, with the outline of these pixels, and how outlines follow silhouettes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial import Delaunay, QhullError

from trackshade.tracking.flow import read_field

_STEP = 4  # px between the points of a mesh inside, and along its outline
_BLUR = 1.0  # px: of the mask whose outline is taken
_REACH = 4.0  # px that an outline moves to a silhouette
_DRAWN_IN = 8.0  # px outside of a silhouette from which a vertex is left there
_FACING = 0.4  # least cosine between the outline's normal and the silhouette's
_SPREAD = 5.0  # px inside of the outline that move with it


@dataclass(frozen=True, eq=False)
class Outline:
    """A flat mesh over pixels.

    Attributes:
        pixels: [V, 2] places.
        triangles: [F, 3] counter-clockwise seen by the camera; y points downwards.
        rim: [B] vertices of its outline that border on what stands still.
        normals: [B, 2] unit vectors outwards there.
        weights: [V, B] how much each vertex moves with those.
        inner: [V] which vertices show pixels of its own, away from its outline.
    """

    pixels: np.ndarray
    triangles: np.ndarray
    rim: np.ndarray
    normals: np.ndarray
    weights: np.ndarray
    inner: np.ndarray


@dataclass(frozen=True, eq=False)
class Silhouette:
    """Where the outline of a mask is.

    Attributes:
        distances: [h, w] from it, less than 0 inside, pixels.
        directions: [h, w, 2] unit vectors outwards.
    """

    distances: np.ndarray
    directions: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray) -> Silhouette:
        """Return the silhouette of a mask [h, w]."""
        distances = signed_distances(mask)
        smooth = cv2.GaussianBlur(distances, (0, 0), _BLUR)
        field = np.stack([cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)], axis=-1)
        return cls(distances, field / np.maximum(np.linalg.norm(field, axis=2, keepdims=True), 1e-6))


def signed_distances(mask: np.ndarray) -> np.ndarray:
    """Return the distances from the outline of a mask [h, w], less than 0 inside, pixels, float32."""
    outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    return np.where(mask, 0.5 - inside, outside - 0.5).astype(np.float32)


def outline_mesh(region: np.ndarray, beneath: np.ndarray, whole: np.ndarray) -> Outline:
    """Return a mesh over some pixels.

    Args:
        region: [h, w] bool, the pixels, at least one.
        beneath: [h, w] pixels around them that the mesh covers too.
        whole: [h, w] all pixels that show what moves: outlines inside of it are no silhouettes.
    """
    mask = region | beneath
    scale = 4  # contours are found in a larger picture, between the pixels
    padded = cv2.copyMakeBorder(mask.astype(np.float32), 2, 2, 2, 2, cv2.BORDER_CONSTANT)
    large = cv2.resize(padded, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    contours, _ = cv2.findContours((large > 0.5).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    rings = []
    for contour in contours:
        line = (contour[:, 0] + 0.5) / scale - 2
        count = max(3, round(len(line) / (scale * _STEP)))
        if len(line) >= 3 * scale:
            rings.append(line[np.linspace(0, len(line), count, endpoint=False).astype(int)])
    depth = signed_distances(mask)
    y, x = np.mgrid[_STEP // 2 : mask.shape[0] : _STEP, _STEP // 2 : mask.shape[1] : _STEP].reshape(2, -1)
    inside = depth[y, x] < -0.6 * _STEP
    inner = np.stack([x[inside], y[inside]], axis=1) + 0.5
    rim = np.concatenate(rings) if rings else np.zeros((0, 2))
    pixels = np.concatenate([rim, inner])
    triangles = _triangulate(pixels, mask)
    silhouette = Silhouette.of(whole)
    edge = np.abs(read_field(silhouette.distances[..., None], rim)[:, 0]) < 1.5
    border = ((rim > 2) & (rim < np.array(mask.shape[::-1]) - 2)).all(axis=1)  # not of the picture
    kept = np.flatnonzero(edge & border)
    apart = np.square(pixels[:, None] - rim[kept]).sum(axis=2)
    near = np.exp(-apart / (2 * _SPREAD**2))
    weights = near / (near.sum(axis=1, keepdims=True) + 0.05)
    own = read_field(beneath[..., None].astype(np.float32), pixels)[:, 0] < 0.5
    own[: len(rim)] = False
    return Outline(pixels, triangles, kept, read_field(silhouette.directions, rim[kept]), weights, own)


def _triangulate(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Join points to triangles over a mask, [F, 3]."""
    try:
        faces = Delaunay(pixels).simplices if len(pixels) >= 3 else np.zeros((0, 3), np.int32)
    except QhullError:
        faces = np.zeros((0, 3), np.int32)
    corners = pixels[faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    faces = np.where((cross > 0)[:, None], faces[:, ::-1], faces)
    samples = [corners.mean(axis=1), *(0.5 * (corners[:, k] + corners[:, k - 1]) for k in range(3))]
    height, width = mask.shape
    kept = np.abs(cross) > 1e-3
    thick = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    for number, place in enumerate(samples):
        x, y = np.clip(place.astype(int), 0, (width - 1, height - 1)).T
        kept &= (mask if number == 0 else thick)[y, x]
    return faces[kept].astype(np.int32)


def snap_outline(
    outline: Outline, pixels: np.ndarray, motion: np.ndarray, silhouette: Silhouette
) -> tuple[np.ndarray, np.ndarray]:
    """Move the vertices of a mesh so that its outline lies on a frame's silhouette, where that is near.

    Args:
        outline: the mesh.
        pixels: [V, 2] where its vertices are in the frame.
        motion: [3, 2] affine map from its own frame to this one.
        silhouette: that of the frame.

    Returns:
        [V, 2] places, and [V] signed distances of these from the silhouette.
    """
    distances = silhouette.distances[..., None]
    if len(outline.rim):
        place = pixels[outline.rim]
        away = read_field(distances, place)
        outwards = read_field(silhouette.directions, place)
        normal = outline.normals @ np.linalg.pinv(motion[:2]).T
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
        near = ((normal * outwards).sum(axis=1, keepdims=True) > _FACING) & (np.abs(away) < _REACH)
        pixels = pixels + outline.weights @ np.where(near, -away * outwards, 0.0)
    # What is still a little outside is drawn in.
    away = read_field(distances, pixels)
    pull = np.where((away > 0) & (away < _DRAWN_IN), away, 0.0)
    pixels = pixels - pull * read_field(silhouette.directions, pixels)
    return pixels, read_field(distances, pixels)[:, 0]
