# SPDX-License-Identifier: GPL-3.0-or-later
"""Known texels that carry light of the key picture, told from marks of the surface itself, on repeating textures.

Where the light of a key picture is not quite that of its clay render, rims of shadows and bounce light stay in the
reflectance. On a repeating texture they show as a ratio to what the lattice predicts. A connected region of such texels
is taken for light, and replaced, if the texture shows through it unchanged but for one factor, and if it

- is narrow, as the rim of a shadow is, or
- touches what is unknown, as shadows do at the foot of the body that casts them, or
- is weak and has soft borders, as bounce light has, or
- lies for the most part in shadows of the light that the picture was divided by, where a small error of the light and
  the noise of the picture become large.

Otherwise it is a mark of the surface, such as a decal or a stain: it hides the texture or has one of its own, it
changes the hue, or it is a strong, compact spot by itself.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation, distance_transform_edt, find_objects, gaussian_filter

from trackshade.propagation.fills.lattice import Lattice
from trackshade.propagation.fills.push_pull import EIGHT, connected_parts

MIN_EXPLAINED = 0.9  # fraction of the variance that the lattice explains, below which nothing is healed
MIN_TRANSLATES = 3
MIN_RATIO = 0.07  # natural logarithm of the ratio from which a texel disagrees
NOISES = 4.0  # multiples of the ordinary deviation from which a texel disagrees
HUE = 0.4  # difference between channels relative to the common factor, above which it is no shadow
WEAK = 0.3  # natural logarithm of the ratio up to which colored light is believed
SOFT = 4.0  # texels over which the border of bounce light fades, at least
RIM = 1.2  # natural logarithm of the ratio up to which a narrow region may be the rim of a shadow, not a painted line
NARROW = 0.02  # half width of a rim, of the longer side of the canvas
EDGE = 0.06  # change of the logarithm of the texture from texel to texel, from which a texel tells little of light
SHADOW = 0.75  # light of a shadow, relative to the usual light of the canvas
_SMOOTH = 1.5  # texels
_DARK = 0.02  # added to colors before the logarithm, relative to their mean


def find_light(
    color: np.ndarray,  # [h, w, 3] float32, linear, of mean about 1
    known: np.ndarray,  # [h, w] bool
    inside: np.ndarray,  # [h, w] bool
    lattice: Lattice,
    median: np.ndarray,  # [h, w, 3] float32, the lattice's prediction in the space of `color`
    light: np.ndarray | None = None,  # [h, w, 3] float32, light that the color was divided by
) -> tuple[np.ndarray, np.ndarray]:
    """Find the known texels that do not repeat.

    Returns:
        Those that are light, to be replaced by what their lattice predicts, and all of them, marks of the surface
        included, which are not to be copied elsewhere; each [h, w] bool.
    """
    none = np.zeros_like(known)
    tested = known & (lattice.count >= MIN_TRANSLATES)
    if lattice.explained < MIN_EXPLAINED or tested.sum() < 100:
        return none, none
    texture = np.log(np.maximum(median, 0) + _DARK)
    ratio = np.log(np.maximum(color, 0) + _DARK) - texture
    # At edges of the texture the ratio tells of fractions of a texel, not of light.
    down, right = np.gradient(texture, axis=(0, 1))
    slope = np.sqrt((np.square(down) + np.square(right)).mean(axis=-1))
    weight = (tested / (1 + np.square(slope / EDGE))).astype(np.float32)
    smooth = _blurred(ratio, weight, _SMOOTH)
    strength = np.abs(smooth).max(axis=-1)
    ordinary = float(np.median(strength[tested])) / 0.67
    limit = max(MIN_RATIO, NOISES * ordinary)
    regions = connected_parts(tested & (strength > limit))[0]
    unknown = binary_dilation(inside & ~known, EIGHT, iterations=3)
    shadow = _shadows(light, tested)
    found = none.copy()
    for number, box in enumerate(find_objects(regions), 1):
        wide = tuple(
            slice(max(0, part.start - 4), min(side, part.stop + 4)) for part, side in zip(box, known.shape, strict=True)
        )
        region = regions[wide] == number
        if region.sum() < 12:
            continue
        is_shaded = float(shadow[wide][region].mean()) > 0.5
        if is_shaded or _is_light(
            region, ratio[wide], smooth[wide], texture[wide], weight[wide], unknown[wide],
            max(3.0, NARROW * max(known.shape)),
        ):  # fmt: skip
            found[wide] |= region
    # What too few translates tell of is not to be copied either if it is next to what deviates.
    deviating = regions > 0
    deviating |= binary_dilation(deviating, EIGHT, iterations=8) & known & ~tested
    if not found.any():
        return none, deviating
    # The border of a region fades below the limit: heal a little beyond, where anything deviates at all.
    near = binary_dilation(found, EIGHT, iterations=4)
    weak = strength > max(0.3 * limit, 1.5 * ordinary)
    found |= (near & tested & weak) | (binary_dilation(found, EIGHT) & tested)
    return found, deviating | found


def _shadows(light: np.ndarray | None, tested: np.ndarray) -> np.ndarray:
    """Return the texels in shadows and at their rims, [h, w] bool."""
    if light is None:
        return np.zeros_like(tested)
    level = light.mean(axis=-1)
    shadow = tested & (level < SHADOW * float(np.median(level[tested])))
    return binary_dilation(shadow, EIGHT, iterations=max(2, round(NARROW * max(tested.shape)))) & tested


def _is_light(
    region: np.ndarray,  # [h, w] bool
    ratio: np.ndarray,  # [h, w, 3] natural logarithms
    smooth: np.ndarray,  # [h, w, 3], the same without noise
    texture: np.ndarray,  # [h, w, 3], logarithm of the prediction
    weight: np.ndarray,  # [h, w], less at edges of the texture
    unknown: np.ndarray,  # [h, w] bool
    narrow: float,  # texels
) -> bool:
    """Decide whether a connected region that deviates from the lattice is light; see the top of this file."""
    values = smooth[region]
    common = values.mean(axis=1)
    strength = float(np.sqrt(np.square(common).mean()))
    hue = float(np.sqrt(np.square(values - common[:, None]).mean()))
    # Light multiplies the texture, so that the ratio does not depend on it. What hides the texture undoes its contrast.
    share = weight[region] / max(float(weight[region].sum()), 1e-6)
    bright, deviation = texture[region].mean(axis=1), ratio[region].mean(axis=1)
    bright, deviation = bright - share @ bright, deviation - share @ deviation
    contrast = float(share @ np.square(bright))
    if contrast > 1e-3 and float(share @ (bright * deviation)) / contrast < -0.4:
        return False
    width = float(np.asarray(distance_transform_edt(np.pad(region, 1))).max())
    slope = np.hypot(*np.gradient(smooth.mean(axis=-1)))
    border = region & (np.asarray(distance_transform_edt(region)) <= 3)
    ramp = float(np.abs(common).max()) / max(float(np.percentile(slope[border], 75)), 1e-6)
    if float(np.abs(values).max()) <= WEAK and ramp >= SOFT and width > narrow:
        return True  # bounce light, of any hue
    if hue > HUE * strength:
        return False
    grain = float(np.sqrt(share @ np.square(ratio[region] - smooth[region]).mean(axis=1)))
    if grain > 0.5 * strength:
        return False
    touching = float((region & unknown).sum()) > 0.5 * np.sqrt(region.sum())
    return touching or (width <= narrow and strength <= RIM)


def _blurred(values: np.ndarray, weight: np.ndarray, sigma: float) -> np.ndarray:
    """Blur weighted values, [h, w, C]; about 0 where the weights are."""
    parts = [gaussian_filter(weight * values[..., c], sigma) for c in range(values.shape[2])]
    return np.stack(parts, axis=-1) / np.maximum(gaussian_filter(weight, sigma), 2e-3)[..., None]
