# SPDX-License-Identifier: GPL-3.0-or-later
"""Generated clips: a motion, a driving figure that does it, and the figure and camera of the result."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from trackshade.models.puppet import NUM_BONES, STOPS, paint_puppets
from trackshade.motion.framing import DISTANCE

from .characters import CharacterLibrary, Role, recolor_role, sample_roles
from .figures import Figures, Split, recolor, sample_figures
from .motions import NUM_FRAMES, MotionLibrary, sample_motions
from .raster import jitter_colors, sample_backdrops
from .views import FRAME_SIZE, LANDMARK_POINTS, Bodies, View

# Target cameras of training are never in these sectors about the body, degrees; held-out ones are in them alone.
HELD_OUT_AZIMUTHS = ((100.0, 130.0), (-60.0, -40.0))


@dataclass(frozen=True)
class ClipOptions:
    """What clips are sampled.

    Attributes:
        split: figures, motions and target cameras of training, or those held out from it.
        held_out: which of "figures", "motions", "azimuths" are held-out ones where the split is "held-out".
        motion: the kind of all motions; kinds of the split by their shares if None.
        cross_view: fraction of clips driven from another azimuth than the target's.
        azimuth_difference: the angle between driving and target camera in degrees, to either side; sampled if None.
        other_figure: fraction of clips driven by another figure than the target's.
        stylized: fraction of those other figures that have the proportions of children, toys or robots.
        moving: fraction of clips whose target camera orbits.
        apart: fraction of clips whose target camera is elsewhere than the reference's.
        same_pose: fraction of clips whose reference is the first frame of the target motion; it is another pose
            otherwise.
        frames: number of frames of each clip that are made, sampled without order; all in order if None.
        targets: whether target frames and references are rendered.
        drivers: whether driving frames and hands are rendered.
        skeletons: whether driving frames are pictures of the exact 2D skeleton.
        library: motions from which some are taken.
        characters: characters that some of the figures are; of targets that are not rendered only those that drive.
        driving_samples: samples along each side of their pixels.
        hands: fraction of clips with crops of hands.
    """

    split: Split = "training"
    held_out: tuple[str, ...] = ("figures", "motions", "azimuths")
    motion: str | None = None
    cross_view: float = 0.9
    azimuth_difference: float | None = None
    other_figure: float = 0.7
    stylized: float = 0.0
    moving: float = 0.3
    apart: float = 0.4
    same_pose: float = 0.5
    frames: int | None = None
    targets: bool = True
    drivers: bool = True
    skeletons: bool = False
    library: MotionLibrary | None = None
    characters: CharacterLibrary | None = None
    driving_samples: int = 2
    hands: float = 0.8

    def split_of(self, name: str) -> Split:
        """Return the split of "figures", "motions" or "azimuths"."""
        return self.split if name in self.held_out else "training"


@dataclass(frozen=True)
class Clips:
    """N clips of F frames; pictures are sRGB 0..1, angles radians. Pictures that are not rendered are None."""

    hands_visible: np.ndarray  # [N] bool
    driving_azimuth: np.ndarray  # [N, F]
    driving_landmarks: np.ndarray  # [N, F, L, 2] pixels of the driving frames
    exact_landmarks: np.ndarray  # [N, F, L, 2] pixels; the same figure and azimuth in the framing of the target
    local: np.ndarray  # [N, F, J, 3, 3] joint rotations
    body_landmarks: np.ndarray  # [N, F, L, 3] metres, of the target's figure
    landmarks: np.ndarray  # [N, F, L, 2] pixels of the target frames
    driving_visible: np.ndarray  # [N, F, L] bool, landmarks in the driving frames and not behind the body
    visible: np.ndarray  # [N, F, L] bool, the same of the target frames
    azimuth: np.ndarray  # [N, F] of the target camera
    elevation: np.ndarray  # [N, F]
    reference_azimuth: np.ndarray  # [N]
    reference_landmarks: np.ndarray  # [N, L, 2] pixels of the reference
    times: np.ndarray  # [N, F] i64, index of each frame in the clip
    driving: np.ndarray | None = None  # [N, F, H, W, 3] float32
    hands: np.ndarray | None = None  # [N, F, 2, h, h, 3] float32, crops of the driving figure's hands, left and right
    target: np.ndarray | None = None  # [N, F, H, W, 3] float32
    coverage: np.ndarray | None = None  # [N, F, H, W] float32, of the target by the figure
    reference: np.ndarray | None = None  # [N, H, W, 3] float32
    background: np.ndarray | None = None  # [N, H, W, 3] float32, of target and reference, without figure


def sample_clips(rng: np.random.Generator, count: int, options: ClipOptions | None = None) -> Clips:
    """Sample N clips; the generator determines them."""
    options = options or ClipOptions()
    times = np.tile(np.arange(NUM_FRAMES), (count, 1))
    if options.frames is not None:
        times = rng.permuted(times, axis=1)[:, : options.frames]
    local = sample_motions(rng, count, options.split_of("motions"), options.motion, options.library)
    first = local[:, :1]
    same_pose = rng.random(count) < options.same_pose
    reference_pose = first
    if options.targets:  # sampling motions takes time
        reference_pose = np.where(same_pose[:, None, None, None, None], first, sample_motions(rng, count)[:, :1])
    local = local[np.arange(count)[:, None], times]

    bodies = Bodies(sample_figures(rng, count, options.split_of("figures")), _sample_roles(rng, count, options))
    drivers, bodies = _sample_drivers(rng, bodies, options)

    target, reference = _sample_target_cameras(rng, times, options)
    driving_azimuth = _sample_driving_azimuths(rng, target.azimuth, times, options)
    driving = drivers.see(local, _augmented(rng, driving_azimuth))
    seen = bodies.see(local, target)
    aligned = replace(target, azimuth=driving_azimuth)
    exact = aligned.to_pixels(aligned.place(driving.points[:, :, LANDMARK_POINTS])[0])
    still = bodies.see(reference_pose, reference)

    backdrops, driving_backdrops = sample_backdrops(rng, count), sample_backdrops(rng, count)
    pictures = hands = None
    if options.drivers:
        if options.skeletons:
            pictures = _draw_skeletons(driving.landmarks)
        else:
            pictures = _jitter_colors(rng, driving.render(driving_backdrops, options.driving_samples)[0])
        hands = driving.render_hands(rng, driving_backdrops)
    frames = coverage = reference_picture = background = None
    if options.targets:
        frames, coverage = seen.render(backdrops)
        reference_picture = still.render(backdrops)[0][:, 0]
        background = still.render_background(backdrops)[:, 0]
    return Clips(
        hands_visible=rng.random(count) < options.hands,
        driving_azimuth=driving_azimuth,
        driving_landmarks=driving.landmarks,
        exact_landmarks=exact,
        local=local,
        body_landmarks=seen.points[:, :, LANDMARK_POINTS],
        landmarks=seen.landmarks,
        driving_visible=driving.find_visible(),
        visible=seen.find_visible(),
        azimuth=target.azimuth,
        elevation=target.elevation,
        reference_azimuth=reference.azimuth[:, 0],
        reference_landmarks=still.landmarks[:, 0],
        times=times,
        driving=pictures,
        hands=hands,
        target=frames,
        coverage=coverage,
        reference=reference_picture,
        background=background,
    )


def _sample_roles(rng: np.random.Generator, count: int, options: ClipOptions) -> list[Role | None]:
    """Sample which clips show characters; without characters nothing is drawn from the generator."""
    return [None] * count if options.characters is None else sample_roles(rng, count, options.characters)


def _sample_drivers(rng: np.random.Generator, bodies: Bodies, options: ClipOptions) -> tuple[Bodies, Bodies]:
    """Sample the driving bodies: others, or the target's in slightly different colors. Return both.

    Where no target is rendered and another body drives, the target is a figure: a motion does not say the proportions
    of somebody else.
    """
    figures, roles = bodies.figures, bodies.roles
    count = len(roles)
    others = sample_figures(rng, count, options.split_of("figures"), options.stylized)
    same = recolor(rng, figures)
    is_other = rng.random(count) < options.other_figure
    other = is_other[:, None, None]
    driving = Figures(
        np.where(other, others.offsets, same.offsets),
        np.where(other, others.fixed, same.fixed),
        np.where(other, others.radii, same.radii),
        np.where(other, others.colors, same.colors),
    )
    if options.characters is None:
        return Bodies(driving, roles), bodies
    more = _sample_roles(rng, count, options)
    pairs = zip(roles, more, is_other, strict=True)
    driving_roles = [more if other else recolor_role(rng, own) for own, more, other in pairs]
    if not options.targets:
        roles = [None if other else role for role, other in zip(roles, is_other, strict=True)]
    return Bodies(driving, driving_roles), Bodies(figures, roles)


def _sample_azimuths(rng: np.random.Generator, count: int, split: Split) -> np.ndarray:
    """Sample azimuths [N] in radians outside of the held-out sectors, or inside (held-out)."""
    sectors = np.array(HELD_OUT_AZIMUTHS)
    if split == "held-out":
        low, high = sectors[rng.integers(len(sectors), size=count)].T
        return np.radians(rng.uniform(low, high))
    edges = sorted(sectors.tolist())
    starts = np.array([edges[-1][1] - 360.0, *(high for _, high in edges[:-1])])
    widths = np.array([low for low, _ in edges]) - starts
    sector = rng.choice(len(edges), size=count, p=widths / widths.sum())
    return np.radians(starts[sector] + rng.random(count) * widths[sector])


def _in_held_out_sector(azimuth: np.ndarray) -> np.ndarray:
    """Return whether azimuths in radians are in a held-out sector."""
    degrees = (np.degrees(azimuth) + 180) % 360 - 180
    return np.any([(degrees > low) & (degrees < high) for low, high in HELD_OUT_AZIMUTHS], axis=0)


def _sample_target_cameras(rng: np.random.Generator, times: np.ndarray, options: ClipOptions) -> tuple[View, View]:
    """Sample the target cameras [N, F] and the reference's [N, 1], which have the same framing."""
    count = len(times)
    split = options.split_of("azimuths")
    start = _sample_azimuths(rng, count, split)
    rate = rng.uniform(0.07, 0.3, count) * rng.choice([-1, 1], count)  # radians a frame: up to 120 degrees in a clip
    rate = np.where(rng.random(count) < options.moving, rate, 0.0)
    azimuth = start[:, None] + rate[:, None] * times
    if split == "training":  # an orbit that would enter a held-out sector stands still
        azimuth = np.where(_in_held_out_sector(azimuth).any(axis=1, keepdims=True), start[:, None], azimuth)
    apart = rng.random(count) < options.apart
    reference_azimuth = np.where(apart, _sample_azimuths(rng, count, "training"), start)
    elevation = rng.uniform(-0.05, 0.45, (count, 1)) + np.zeros(times.shape)
    zoom, offset = rng.uniform(0.95, 1.02, (count, 1)), rng.uniform(-1, 1, (count, 1, 2)) * (1.0, 0.7)
    shape = np.ones(times.shape)
    target = View(azimuth, elevation, zoom * shape, 0 * shape, offset * shape[..., None], DISTANCE * shape)
    reference = View(reference_azimuth[:, None], elevation[:, :1], zoom, 0 * zoom, offset, DISTANCE + 0 * zoom)
    return target, reference


def _sample_driving_azimuths(
    rng: np.random.Generator, azimuth: np.ndarray, times: np.ndarray, options: ClipOptions
) -> np.ndarray:
    """Return the azimuths of the driving camera, [N, F]."""
    count = len(azimuth)
    free = rng.uniform(-np.pi, np.pi, (count, 1))
    rate = np.where(rng.random((count, 1)) < 0.5 * options.moving, rng.uniform(-0.3, 0.3, (count, 1)), 0.0)
    side = rng.choice([-1, 1], (count, 1))
    cross = rng.random((count, 1)) < options.cross_view
    if options.azimuth_difference is not None:
        return azimuth + side * math.radians(options.azimuth_difference)
    return np.where(cross, free + rate * times, azimuth)


def _augmented(rng: np.random.Generator, azimuth: np.ndarray) -> View:
    """Return driving cameras: sampled roll, zoom, distance, place and elevation, the same in all frames of a clip."""
    count, ones = len(azimuth), np.ones(azimuth.shape)
    elevation, roll = rng.uniform(-0.1, 0.5, (count, 1)), rng.normal(0, 0.07, (count, 1))
    zoom = rng.uniform(0.85, 1.08, (count, 1))
    offset = rng.uniform(-1, 1, (count, 1, 2)) * (3.5, 3.0)
    distance = rng.uniform(3.0, 7.0, (count, 1))
    return View(azimuth, elevation * ones, zoom * ones, roll * ones, offset * ones[..., None], distance * ones)


def _jitter_colors(rng: np.random.Generator, pictures: np.ndarray) -> np.ndarray:
    """Change sharpness, brightness, contrast, tint and noise of clips [N, F, H, W, 3], in 0..1."""
    count = len(pictures)
    blur = rng.uniform(-0.5, 1, count).clip(0) * rng.choice([1, 2], count, p=[0.85, 0.15])
    gain = rng.uniform(0.8, 1.15, (count, 1)) * rng.normal(1, 0.04, (count, 3))
    levels = np.linspace(0, 1, 1025) ** rng.uniform(0.8, 1.25, (count, 1))
    noise, deviation = rng.standard_normal(1 << 16, np.float32), rng.uniform(0, 0.03, count)
    offsets = rng.integers(len(noise), size=pictures.shape[:2])
    result = np.empty_like(pictures)
    jitter_colors(pictures, blur, gain, levels, noise, deviation, offsets, result)
    return result


def _draw_skeletons(
    places: np.ndarray,  # [N, F, L, 2] pixels
) -> np.ndarray:
    """Draw thin bones between landmarks before black, each in a color of its own, [N, F, H, W, 3]."""
    flat = places.reshape(-1, *places.shape[2:])
    hues = 2 * np.pi * (np.arange(NUM_BONES)[:, None] / NUM_BONES + np.arange(3) / 3)
    colors = np.broadcast_to((0.55 + 0.45 * np.cos(hues))[None, :, None], (len(flat), NUM_BONES, STOPS, 3))
    thin = np.full(len(flat), 0.3)
    painted = paint_puppets(flat, np.zeros(flat.shape[:2]), colors, FRAME_SIZE, thin)
    return painted[..., :3].reshape(*places.shape[:2], *painted.shape[1:3], 3)
