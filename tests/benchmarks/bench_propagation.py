# SPDX-License-Identifier: GPL-3.0-or-later
"""Propagation of one picture to a shot: a terrain of 130,000 triangles with forty bodies that move, under a camera that
moves, at 1280 × 720 without and with a clay render, and longer at 1920 × 1080. And frames of ten thousand instances.
Where torch has a CUDA device, frames are drawn on it as well.

Preparing is measured in full, and frames that are spread over the shot; the time of the whole shot is extrapolated.

`python tests/benchmarks/bench_propagation.py` prints the table; `rows()` gives it to a common runner.
"""

from __future__ import annotations

import os
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

SHORT, SIZE = 49, (1280, 720)
LONG, LARGE = 250, (1920, 1080)
DRAWN = 9  # frames
SIDE, BODIES, INSTANCES = 256, 40, 10_000
Row = tuple[str, str, str]


@dataclass(frozen=True)
class Cost:
    """Seconds of the clock and of the processor to prepare, and of a frame; and how much of the last one is unseen."""

    prepare: np.ndarray
    frame: np.ndarray
    unseen: float

    def total(self, frames: int) -> np.ndarray:
        """Return seconds of the clock and of the processor for a number of frames."""
        return self.prepare + frames * self.frame


def rows() -> list[Row]:
    """(name, value, target) of every figure."""
    from trackshade.control.scene import ShotRaster
    from trackshade.propagation import KeyPicture, Propagation, coverage

    clay = _clay(SIZE)
    shot = _scene(SHORT, SIZE)
    Propagation(shot, [KeyPicture(0, _picture(SIZE, clay))], light=lambda t: clay, size=(64, 36)).prepare()  # compiles
    plain = _measure(shot, DRAWN)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    lit = _measure(shot, DRAWN, clay)
    long = _measure(_scene(LONG, LARGE), 4)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    growth = long.frame[1] / (LARGE[0] * LARGE[1]) / (plain.frame[1] / (SIZE[0] * SIZE[1]))
    begin = time.perf_counter()
    coverage(shot, [0])
    measured = time.perf_counter() - begin
    crowd = _instances()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        raster = ShotRaster(crowd, pool.map)
        raster.draw(0)
        begin = _clocks()
        for t in range(4):
            raster.draw(t)
        drawn = (_clocks() - begin) / 4
    what = f"{SHORT} frames of {SIZE[0]} × {SIZE[1]}"
    much = f"{LONG} frames of {LARGE[0]} × {LARGE[1]}"
    name = f"propagation, {what}, extrapolated from {DRAWN}, {os.cpu_count()} cores"
    return [
        (name, f"{plain.total(SHORT)[0]:.0f} s", "<= 60 s"),
        ("the same, time of the processor", f"{plain.total(SHORT)[1]:.0f} s", "<= 120 s"),
        (f"of this preparing, {plain.unseen:.0%} of the last frame unseen", f"{plain.prepare[1]:.1f} s", ""),
        ("propagation, the same with a clay render of half the size", f"{lit.total(SHORT)[0]:.0f} s", "<= 150 s"),
        ("the same, time of the processor", f"{lit.total(SHORT)[1]:.0f} s", "<= 300 s"),
        ("memory of the process at most, without the clay render", f"{memory:.0f} MB", "<= 1500 MB"),
        (f"propagation, {much}, extrapolated from 4", f"{long.total(LONG)[0] / 60:.1f} min", ""),
        ("the same, time of the processor", f"{long.total(LONG)[1] / 60:.1f} min", ""),
        ("of this preparing, time of the processor", f"{long.prepare[1]:.1f} s", ""),
        ("memory of the process at most", f"{most:.0f} MB", ""),
        (f"processor a pixel, a frame of {LONG} against one of {SHORT}", f"{growth:.2f} x", "<= 1.2 x"),
        ("coverage of the short shot and the best next key frame", f"{measured:.1f} s", ""),
        (f"drawing a frame of {INSTANCES:,} instances", f"{1e3 * drawn[0]:.0f} ms", "<= 100 ms"),
        ("the same, time of the processor", f"{1e3 * drawn[1]:.0f} ms", ""),
        *_cuda_rows(shot, clay),
    ]


def _cuda_rows(shot, clay: np.ndarray) -> list[Row]:
    """Rows about frames that a CUDA device draws; none where torch has none."""
    try:
        import torch
    except ImportError:
        return []
    if not torch.cuda.is_available():
        return []
    from trackshade.propagation import KeyPicture, Propagation

    seconds, frames, times = [], [], range(1, SHORT, SHORT // DRAWN)
    for device in ("cpu", "cuda"):
        key = KeyPicture(0, _picture(shot.size, clay))
        propagation = Propagation(shot, [key], light=lambda t: clay, device=device)
        propagation.prepare()
        propagation.frame(0)  # the pictures go to the device
        begin = time.perf_counter()
        frames.append(np.stack([propagation.frame(t).image for t in times]))
        seconds.append((time.perf_counter() - begin) / len(times))
    away = np.abs(frames[1] - frames[0])
    name = f"a frame of {SIZE[0]} × {SIZE[1]} with a clay render"
    return [
        (f"{name}, {os.cpu_count()} cores", f"{1e3 * seconds[0]:.0f} ms", ""),
        (f"{name}, {torch.cuda.get_device_name()}", f"{1e3 * seconds[1]:.0f} ms", ""),
        ("values of both that differ by more than a level of 8 bits", f"{(away > 1 / 255).mean():.2%}", "<= 0.1 %"),
        ("the largest difference, levels", f"{255 * away.max():.2g}", ""),
    ]


def _measure(shot, drawn: int, clay: np.ndarray | None = None) -> Cost:
    """Prepare a shot with a picture of its first frame, and draw some of its frames."""
    from trackshade.propagation import KeyPicture, Propagation

    light = None if clay is None else lambda t: clay
    propagation = Propagation(shot, [KeyPicture(0, _picture(shot.size, clay))], light=light)
    begin = _clocks()
    propagation.prepare()
    prepared = _clocks()
    unseen = 0.0
    for t in np.linspace(1, len(shot.frame_numbers) - 1, drawn).round().astype(int).tolist():
        unseen = propagation.frame(t).unseen
    return Cost(prepared - begin, (_clocks() - prepared) / drawn, unseen)


def _clocks() -> np.ndarray:
    return np.array([time.perf_counter(), time.process_time()])


def _scene(frames: int, size: tuple[int, int]):
    """A terrain, and bodies above it."""
    from trackshade.shot import CameraTrack, Geometry, MeshTrack, Shot

    line = np.linspace(-12, 12, SIDE, dtype=np.float32)
    x, y = np.meshgrid(line, line)
    points = np.stack([x, y, 0.3 * np.sin(x) * np.cos(1.3 * y)], -1).reshape(1, -1, 3)
    n = np.arange(SIDE * SIDE, dtype=np.int32).reshape(SIDE, SIDE)
    a, b, c, d = (part.ravel() for part in (n[:-1, :-1], n[:-1, 1:], n[1:, 1:], n[1:, :-1]))
    terrain = Geometry(points, np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]))
    rng = np.random.default_rng(0)
    still = np.tile(np.eye(4), (frames, 1, 1))
    tracks = [MeshTrack("Terrain", 0, still, np.ones(frames, bool))]
    for index in range(BODIES):
        matrices = still.copy()
        matrices[:, :3, 3] = rng.uniform((-5, -5, 0.8), (5, 5, 2.0)) + np.linspace(0, 1, frames)[:, None] * rng.normal(
            size=3
        )
        tracks.append(MeshTrack(f"Body {index}", 1, matrices, np.ones(frames, bool)))
    angles = np.linspace(0.0, 0.6, frames)
    views = np.stack([_look_at(np.array([9 * np.sin(a), -9 * np.cos(a), 5.0])) for a in angles])
    focal = 0.86 * size[0]
    k = np.tile(np.array([[focal, 0, size[0] / 2], [0, focal, size[1] / 2], [0, 0, 1]]), (frames, 1, 1))
    camera = CameraTrack(
        "Camera", ("Camera",) * frames, k, views, np.zeros(frames, bool), np.tile([0.1, 100.0], (frames, 1))
    )
    return Shot(np.arange(1.0, frames + 1), 24.0, size, camera, (terrain, _ball(24)), tuple(tracks))


def _ball(steps: int):
    from trackshade.shot import Geometry

    u, v = np.meshgrid(np.linspace(0, 2 * np.pi, steps + 1), np.linspace(0, np.pi, steps + 1))
    points = 0.5 * np.stack([np.sin(v) * np.cos(u), np.sin(v) * np.sin(u), np.cos(v)], -1).reshape(1, -1, 3)
    n = np.arange((steps + 1) ** 2, dtype=np.int32).reshape(steps + 1, steps + 1)
    a, b, c, d = (part.ravel() for part in (n[:-1, :-1], n[:-1, 1:], n[1:, 1:], n[1:, :-1]))
    return Geometry(points.astype(np.float32), np.concatenate([np.stack([a, d, c], 1), np.stack([a, c, b], 1)]))


def _look_at(eye: np.ndarray) -> np.ndarray:
    forward = -eye / np.linalg.norm(eye)
    right = np.cross(forward, (0, 0, 1.0))
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([right, np.cross(forward, right), forward])
    matrix[:3, 3] = -matrix[:3, :3] @ eye
    return matrix


def _picture(size: tuple[int, int], clay: np.ndarray | None = None) -> np.ndarray:
    """Colored cells with grain, in the light of a clay render of half the size."""
    from trackshade.core.colors import linear_to_srgb, srgb_to_linear, to_uint8

    rng = np.random.default_rng(2)
    cells = rng.integers(40, 220, (size[1] // 20, size[0] // 20, 3))
    grain = rng.integers(-10, 10, (size[1], size[0], 1))
    image = np.clip(cells.repeat(20, 0).repeat(20, 1) + grain, 0, 255).astype(np.uint8)
    if clay is None:
        return image
    return to_uint8(linear_to_srgb(srgb_to_linear(image / 255) * clay.repeat(2, 0).repeat(2, 1)))


def _clay(size: tuple[int, int]) -> np.ndarray:
    """A clay render of half a size, [h, w, 3]: smooth light."""
    x, y = np.meshgrid(np.linspace(0, 12, size[0] // 2), np.linspace(0, 7, size[1] // 2))
    return (0.7 + 0.3 * np.sin(x) * np.sin(y))[..., None].repeat(3, axis=2).astype(np.float32)


def _instances():
    """Ten thousand small bodies of two kinds."""
    from trackshade.shot import CameraTrack, MeshTrack, Shot

    rng = np.random.default_rng(3)
    tracks = []
    for index in range(INSTANCES):
        matrices = np.tile(np.eye(4), (4, 1, 1))
        matrices[:, :3, 3] = rng.uniform((-20, -12, 20), (20, 12, 60)) + rng.normal(size=(4, 3)) * 0.1
        tracks.append(MeshTrack(f"Body {index}", index % 2, matrices, np.ones(4, bool)))
    k = np.tile(np.array([[1100.0, 0, SIZE[0] / 2], [0, 1100, SIZE[1] / 2], [0, 0, 1]]), (4, 1, 1))
    camera = CameraTrack(
        "Camera", ("Camera",) * 4, k, np.tile(np.eye(4), (4, 1, 1)), np.zeros(4, bool), np.tile([0.1, 100.0], (4, 1))
    )
    return Shot(np.arange(1.0, 5), 24.0, SIZE, camera, (_ball(4), _ball(6)), tuple(tracks))


if __name__ == "__main__":
    for name, value, target in rows():
        print(f"{name:70} {value:>14}  {target}")
