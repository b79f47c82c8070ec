# SPDX-License-Identifier: GPL-3.0-or-later
"""Relighting by clay renders: the scene in matte white under its own lights, rendered for every frame.

A key picture divided by the clay render of its frame is the color of the surfaces without light and shadow; times the
clay render of another frame it is lit as that frame. Both happen in linear light. Each surface point reads the clay
render at its own surface, so that silhouettes do not mix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trackshade.control.compiling import inlined, kernel
from trackshade.core.errors import ShotError
from trackshade.propagation.pictures import SurfacePicture, read, read_near, surface_picture
from trackshade.propagation.rims import Rims
from trackshade.shot import Shot

Light = Callable[[int], np.ndarray]
"""Returns the clay render of a sample: [h, w, 3] float32 linear radiance, of any size of the camera's aspect."""

DARKEST = 0.02  # of the usual light: what is darker counts as this much
BRIGHTEST = 50.0  # of the usual light
LEAST_SLOPE = 0.5  # of `LightMatch`, below which a picture is not relit
EXPONENTS = (0.75, 1.35)  # to which the slope is clipped where it is used
LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
_REACH = 3  # pixels between those that are compared
_LEAST_CHANGE = 0.04  # of the clay render's logarithm
_BLACK = -5.0  # logarithm of values that are too dark to compare
_LEAST_PIXELS = 300
RIM_CHANGE = 0.2  # of the light's logarithm across a rim, from which the color of a picture is in doubt
RIM_WIDTH = 1.5  # pixels of the clay render on either side
DOUBTFUL = 40  # trust of such pixels; see `composing`


def clay_picture(
    shot: Shot,
    t: int,
    light: Light,
    exposure: float,
    exponents: Sequence[float] = (1.0, 1.0, 1.0),
) -> SurfacePicture:
    """Return the light of a sample as a picture; the background has the light 1.

    Args:
        shot: the shot.
        t: the sample.
        light: the clay renders.
        exposure: factor that makes the usual light 1.
        exponents: powers to which red, green and blue light are raised, see `LightMatch.slopes`. White surfaces light
            each other more than those of the scene do, so that the shadows of a clay render are often too bright; a
            view transform with less contrast needs less.

    Raises:
        ShotError: the render has another shape than a picture's, or values that are not finite.
        UsageError: it does not have the camera's aspect.
    """
    image = np.asarray(light(t), np.float32)
    if image.ndim != 3 or image.shape[2] != 3 or not np.isfinite(image).all():
        raise ShotError(
            "bad-light",
            f"The clay render of frame {shot.frame_numbers[t]:g} is not a picture of finite numbers.",
            "Render the clay pass of the shot again.",
        )
    clay = surface_picture(shot, t, image * np.float32(exposure), rims=Rims.MIXED)
    np.clip(clay.image, DARKEST, BRIGHTEST, out=clay.image)
    for channel, exponent in enumerate(exponents):
        if exponent != 1.0:
            clay.image[..., channel] **= np.float32(exponent)
    clay.image[clay.label < 0] = 1.0
    return clay


def usual_light(shot: Shot, t: int, light: Light) -> float:
    """Return the median radiance of the surfaces in a clay render; 1 if it shows none."""
    clay = clay_picture(shot, t, light, 1.0)
    shown = clay.image[clay.label >= 0]
    return float(np.median(shown)) if len(shown) else 1.0


@dataclass(frozen=True)
class LightMatch:
    """How far the light of a picture is that of the scene.

    Attributes:
        slope: change of the picture's logarithm for a change of the clay render's by one, over the smooth parts of
            surfaces. About 1 where shadows fall where the scene's lights put them, about 0 where they do not. NaN if
            the clay render has hardly any shadows to compare.
        slopes: the same of red, green and blue. They differ where colored surfaces light the shadows: around a warm
            floor, shadows are redder than those of a clay render.
        pixels: number of pixels that were compared.
    """

    slope: float
    slopes: tuple[float, float, float]
    pixels: int

    @property
    def agrees(self) -> bool:
        """Whether relighting improves the picture: the slope is high enough, or there are no shadows."""
        return not self.slope < LEAST_SLOPE

    @property
    def exponents(self) -> tuple[float, float, float]:
        """The powers of the light by which colors are relit."""
        if not math.isfinite(self.slope):
            return 1.0, 1.0, 1.0
        red, green, blue = (
            float(np.clip(slope if math.isfinite(slope) else self.slope, *EXPONENTS)) for slope in self.slopes
        )
        return red, green, blue


def light_match(
    picture: SurfacePicture,
    light: np.ndarray,  # [h, w, 3] float32, see `light_of_picture`
) -> LightMatch:
    """Compare the light of a picture, in linear light, with a clay render of the same sample.

    Texture changes the picture's logarithm as often up as down where the light changes, so that it does not bias the
    slope of a regression of one on the other; large changes count less (Huber 1964, "Robust estimation of a location
    parameter").
    """
    is_clean = (picture.trust == 255) & (picture.label >= 0)
    pairs = [
        (one, other, is_clean[one] & is_clean[other] & (picture.label[one] == picture.label[other]))
        for one, other in ((np.s_[_REACH:], np.s_[:-_REACH]), (np.s_[:, _REACH:], np.s_[:, :-_REACH]))
    ]

    def compare(of_picture: np.ndarray, of_clay: np.ndarray) -> tuple[float, int]:
        """Return the slope of the logarithm of one value by that of the other, and the number of pixels."""
        value, clay = (np.log(np.maximum(image, 1e-3)) for image in (of_picture, of_clay))
        changes = []
        for one, other, is_pair in pairs:
            change = clay[one] - clay[other]
            use = is_pair & (np.abs(change) > _LEAST_CHANGE) & (value[one] > _BLACK) & (value[other] > _BLACK)
            changes.append(np.stack([(value[one] - value[other])[use], change[use]]))
        y, x = np.concatenate(changes, axis=1).astype(np.float64)
        if len(x) < _LEAST_PIXELS:
            return float("nan"), len(x)
        slope = 1.0
        for _ in range(10):
            weight = 1 / np.maximum(np.abs(y - slope * x), 0.05)
            slope = float((weight * x * y).sum() / (weight * x * x).sum())
        return slope, len(x)

    slope, count = compare(picture.image @ LUMINANCE, light @ LUMINANCE)
    red, green, blue = (compare(picture.image[..., n], light[..., n])[0] for n in range(3))
    return LightMatch(slope, (red, green, blue), count)


@dataclass(frozen=True, eq=False)
class Relighting:
    """Takes the light of clay renders off pictures of a shot, so that they can be lit as any other frame.

    Attributes:
        shot: the shot.
        light: its clay renders.
        exposure: factor that makes the usual light 1.
        exponents: see `clay_picture`.
    """

    shot: Shot
    light: Light
    exposure: float
    exponents: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @classmethod
    def match(cls, shot: Shot, t: int, picture: SurfacePicture, light: Light) -> tuple[LightMatch, Relighting | None]:
        """Compare the light of a picture of sample `t` with its clay render: is it the scene's?

        Returns:
            How far it is; and the relighting by that light, None if it is not the picture's.

        Raises:
            ShotError: the clay render is not a picture.
            UsageError: it does not have the camera's aspect.
        """
        plain = cls(shot, light, 1.0 / max(usual_light(shot, t, light), 1e-6))
        match = light_match(picture, light_of_picture(picture, plain.clay(t)))
        return match, replace(plain, exponents=match.exponents) if match.agrees else None

    def clay(self, t: int) -> SurfacePicture:
        """Return the light of a sample; see `clay_picture`."""
        return clay_picture(self.shot, t, self.light, self.exposure, self.exponents)

    def unlit(self, t: int, picture: SurfacePicture, doubt_rims: bool) -> tuple[SurfacePicture, SurfacePicture]:
        """Return a picture of a sample without its light, and the light; see `doubt_light_rims`."""
        clay = self.clay(t)
        light = light_of_picture(picture, clay)
        shade, picture = picture._replace(image=light), picture._replace(image=picture.image / light)
        return doubt_light_rims(picture, light, clay.size[0]) if doubt_rims else picture, shade


def light_of_picture(picture: SurfacePicture, clay: SurfacePicture) -> np.ndarray:
    """Return the light [h, w, 3] float32 at the pixels of a picture of the same sample, which may have another size."""
    return light_of_points(picture.label, picture.level, clay)


def light_of_points(
    label: np.ndarray,  # [h, w] int32, index into `Shot.meshes`, negative for no surface
    level: np.ndarray,  # [h, w] float32, see `pictures`
    clay: SurfacePicture,
) -> np.ndarray:
    """Return the light [h, w, 3] float32 of surface points on a grid of any size over the same sample; else 1."""
    out = np.ones((*label.shape, 3), np.float32)
    _light_of_points(label, level, clay.image, clay.label, clay.level, clay.tolerance, clay.trust, clay.inner, out)
    return out


def doubt_light_rims(
    picture: SurfacePicture,
    light: np.ndarray,  # [h, w, 3] float32, see `light_of_picture`
    width: int,  # of the clay render, pixels
) -> SurfacePicture:
    """Return a picture that is not trusted at the rims of shadows and beside the bodies that cast them.

    A clay render is smaller than a picture and smoothed, so that picture / light has outlines where the light changes
    within a few pixels. They do not show as long as the light of a point stays, and are filled where it has changed.
    """
    reach = max(1, math.ceil(RIM_WIDTH * picture.size[0] / width))
    doubted = np.zeros(picture.label.shape, np.bool_)
    level = np.log(np.maximum(light @ LUMINANCE, DARKEST)).astype(np.float32)
    _find_light_rims(picture.label, level, reach, doubted)
    return picture._replace(trust=np.where(doubted, np.minimum(picture.trust, DOUBTFUL), picture.trust))


@kernel
def _find_light_rims(label, light, reach, out):
    """Find pixels of surfaces near which the light of the same mesh changes, or another mesh begins."""
    height, width = label.shape
    for i in range(height):
        for j in range(width):
            if label[i, j] < 0:
                continue
            low = high = light[i, j]
            is_beside = False
            for a in range(max(0, i - reach), min(height, i + reach + 1)):
                for b in range(max(0, j - reach), min(width, j + reach + 1)):
                    if label[a, b] == label[i, j]:
                        low, high = min(low, light[a, b]), max(high, light[a, b])
                    elif label[a, b] >= 0:
                        is_beside = True
            out[i, j] = is_beside or high - low > RIM_CHANGE


@kernel
def _light_of_points(label, level, image, labels, levels, tolerance, trust, inner, out):
    height, width = label.shape
    sx, sy = labels.shape[1] / width, labels.shape[0] / height
    for i in range(height):
        for j in range(width):
            if label[i, j] >= 0:
                r, g, b = light_at(
                    image, labels, levels, tolerance, trust, inner, (j + 0.5) * sx, (i + 0.5) * sy, label[i, j],
                    np.float64(level[i, j]),
                )  # fmt: skip
                out[i, j, 0], out[i, j, 1], out[i, j, 2] = r, g, b


@inlined
def light_at(image, label, level, tolerance, trust, inner, u, v, mesh, value):
    """Return the light (r, g, b) of a surface point, at a position of the clay render; see `pictures.read`."""
    r, g, b, share = read(image, label, level, tolerance, trust, inner, u, v, mesh, value)
    if share <= 0.0:
        r, g, b, found = read_near(image, label, level, u, v, mesh, value)
        if not found:
            i, j = min(int(v), label.shape[0] - 1), min(int(u), label.shape[1] - 1)
            return np.float64(image[i, j, 0]), np.float64(image[i, j, 1]), np.float64(image[i, j, 2])
    return max(r, DARKEST), max(g, DARKEST), max(b, DARKEST)
