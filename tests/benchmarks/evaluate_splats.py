# SPDX-License-Identifier: GPL-3.0-or-later
"""Surfaces and splats from the cells of five cameras, seen from three others that were never shaded.

    python tests/benchmarks/evaluate_splats.py --blender .venv-5.3/bin/python --out build/splats demo [SCENE.blend ...]

Blender 5.3 renders the cells and the pictures of the other cameras (Cycles, 24 samples, denoised, 480 × 320, five
frames), and the splats through the other cameras (Cycles, 8 samples, denoised). What is in the folder already is not
rendered again. Noisy cells have another gain (6 %) and offset (6 levels) in each channel, blotches (8 levels), noise (4
levels) and a shift of up to half a pixel.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

STAGE = Path(__file__).parents[1] / "helpers" / "camera_stage.py"
SIZE = (480, 320)
COUNTS = (200_000, 50_000)
TIMES = (0, 2, 4)
HELD = ("H0", "H1", "H2")
SCORED = (0, 2, 4)  # cameras and frames of the cells that are scored
Row = tuple[str, str, str]


class Bench:
    """One scene.

    Args:
        scene: "demo" or a .blend file.
        folder: where pictures are kept.
        blender: Python of Blender 5.3.
    """

    def __init__(self, scene: str, folder: Path, blender: str) -> None:
        from trackshade.results.cells.images import CellImages
        from trackshade.shot import Shot
        from trackshade.shot.cameras import unroll_cameras

        self.name, self.folder, self.blender = Path(scene).stem, folder, blender
        if not (folder / "clay" / "T4" / "light.npy").is_file():
            self.run("shoot", scene, str(folder), "{}x{}".format(*SIZE), "24")
        shot = Shot.load(folder / "cells.shot")
        self.cells, self.held = CellImages.from_folder(shot, folder / "cells"), Shot.load(folder / "held.shot")
        lights = [np.load(folder / "clay" / camera.name / "light.npy") for camera in shot.cameras]
        light = np.stack(lights, axis=1).reshape(-1, *lights[0].shape[1:])
        self.clay = CellImages.from_light(shot, lambda t: light[t], light.shape[2:0:-1])
        self.truth = [self.read(folder / "held" / name / f"{t + 1:04d}.png") for t in range(5) for name in HELD]
        self.unrolled = unroll_cameras(self.held)
        self.seen = [image for frame in range(5) for image in self.cells.column(frame).images]
        rng = np.random.default_rng(1)
        self.noisy = CellImages(shot, [disturb(image, rng) for image in self.seen])

    def run(self, *arguments: str) -> None:
        paths = os.pathsep.join(str(STAGE.parents[2] / name) for name in ("backend", "addon"))
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        subprocess.run([self.blender, str(STAGE), *arguments], check=True, stdout=subprocess.DEVNULL, env=environment)

    def read(self, path: Path) -> np.ndarray:
        from PIL import Image

        return np.asarray(Image.open(path).convert("RGB")).astype(np.float32)

    def held_pictures(self, folder: Path) -> list[float]:
        """PSNR of the pictures of splats, all pixels."""
        from trackshade.core.images import psnr

        return [
            psnr(self.truth[t * 3 + n], self.read(folder / name / f"{t + 1:04d}.png"))
            for t in TIMES
            for n, name in enumerate(HELD)
        ]

    def splats(self) -> list[Row]:
        """Rows about splats rendered from held-out cameras."""
        from trackshade.splats.ply import write_splat_ply
        from trackshade.splats.sequence import build_splats
        from trackshade.splats.usd import write_splat_usd

        rows: list[Row] = []
        for count in COUNTS:
            built = build_splats(self.cells, count)
            path = self.folder / f"{count}.usdc"
            write_splat_usd(path, built.frames(), 24.0)
            found = self._render(path, f"usd-{count}")
            least = "31, none below 30" if count == COUNTS[0] else "27"
            rows.append((f"splats, {count:,}, USD, PSNR mean (lowest)", _pair(found), f">= {least} dB"))
        folder = self.folder / "ply"
        folder.mkdir(exist_ok=True)
        built = build_splats(self.cells, COUNTS[0])
        for t, frame in enumerate(built.frames()):
            write_splat_ply(folder / f"{t + 1:04d}.ply", frame)
        rows.append((f"splats, {COUNTS[0]:,}, PLY", _pair(self._render(folder, "ply")), ""))
        noisy = build_splats(self.noisy, COUNTS[0], clay=self.clay)
        write_splat_usd(self.folder / "noisy.usdc", noisy.frames(), 24.0)
        cells = [score for score, _ in self._cell_scores(None)]
        found = self._render(self.folder / "noisy.usdc", "noisy")
        rows.append((f"splats from noisy cells of {np.mean(cells):.1f} dB", _pair(found), "within 1.5 dB of the cells"))
        return rows

    def _render(self, source: Path, tag: str) -> list[float]:
        out = self.folder / "renders" / tag
        if not (out / HELD[-1] / f"{TIMES[-1] + 1:04d}.png").is_file():
            self.run("splats", str(self.folder), str(out), "8", ",".join(map(str, TIMES)), str(source))
        return self.held_pictures(out)

    def surfaces(self) -> list[Row]:
        """Rows about held-out cameras, read from the cells directly (a texture without texels)."""
        from trackshade.core.images import psnr
        from trackshade.results.cells.looking import look

        every, known, holes = [], [], []
        for t in TIMES:
            for n in range(3):
                found = look(self.cells, self.unrolled, t * 3 + n, frames=[t])
                truth = self.truth[t * 3 + n]
                every.append(psnr(truth, found.image, found.surface))
                known.append(psnr(truth, found.image, found.known & found.surface))
                holes.append(1 - (found.known & found.surface).sum() / found.surface.sum())
        value = f"{np.mean(known):.1f} / {np.mean(every):.1f} dB"
        return [(f"surfaces through unseen cameras, known / all ({np.mean(holes):.3f} holes)", value, "")]

    def textures(self) -> list[Row]:
        """Rows about baked textures, drawn through the held-out cameras."""
        from tests.helpers.textured import draw_textured
        from trackshade.core.images import psnr
        from trackshade.results.texture.animate import animate_texture

        rows: list[Row] = []
        for label, cameras in (("all five cells", (0, 1, 2, 3, 4)), ("three of five cells", (0, 2, 4))):
            cells = self.subset(cameras)
            every, known, holes = [], [], []
            begin = time.process_time()
            textures = {n: animate_texture(cells, n, frames=TIMES) for n in range(len(cells.shot.meshes))}
            seconds = (time.process_time() - begin) / len(TIMES)
            for number, t in enumerate(TIMES):
                for n in range(3):
                    image, covered, surface = draw_textured(self.unrolled, t * 3 + n, textures, number)
                    truth = self.truth[t * 3 + n]
                    every.append(psnr(truth, image, surface))
                    known.append(psnr(truth, image, surface & covered))
                    holes.append(1 - (surface & covered).sum() / surface.sum())
            value = f"{np.mean(known):.1f} / {np.mean(every):.1f} dB"
            target = ">= 34 / 30 dB" if len(cameras) == 5 else "within 1 dB on seen"
            rows.append(
                (
                    f"textures from {label}, known / all ({np.mean(holes):.3f} holes)",
                    f"{value}, {seconds:.1f} s",
                    target,
                )
            )
        return rows

    def subset(self, cameras: Sequence[int]):
        """The cells of some of the cameras."""
        from trackshade.results.cells.images import CellImages

        pictures = [image if n % 5 in cameras else None for n, image in enumerate(self.seen)]
        return CellImages(self.cells.shot, pictures)

    def gathering(self) -> list[Row]:
        """Rows about noisy cells."""
        from trackshade.results.cells.leveling import fit_levels

        plain = self._cell_scores(None)
        levels = fit_levels(self.noisy)
        rows: list[Row] = [("noisy cells, PSNR (change in time)", _score(plain), "")]
        column, steady = self._cell_scores(levels), self._cell_scores(levels, clay=self.clay)
        more = np.mean([a for a, _ in column]) - np.mean([a for a, _ in plain])
        rows.append(("gathered within each frame", f"{_score(column)}, {more:+.1f}", ">= +4.5 dB"))
        more = np.mean([a for a, _ in steady]) - np.mean([a for a, _ in plain])
        rows.append(("and steady in time by clay renders", f"{_score(steady)}, {more:+.1f}", ""))
        mismatch = [self._mismatch(cells) for cells in (self.cells, self.noisy, self._gathered(levels))]
        value = "{:.1f}, {:.1f}, {:.1f} levels".format(*mismatch)
        rows.append(("mismatch within a frame: true, noisy, gathered cells", value, "gathered <= 1.5"))
        exact = self._cell_scores(None, cells=self.cells), self._cell_scores(None, cells=self.cells, clay=self.clay)
        rows.append(("true cells gathered; and steady", f"{_score(exact[0])}; {_score(exact[1])}", ""))
        return rows

    def _gathered(self, levels):
        """The noisy cells of the frames that are scored, gathered within each frame."""
        from trackshade.results.cells.images import CellImages
        from trackshade.results.cells.looking import look

        pictures: list[np.ndarray | None] = [None] * 25
        for frame in SCORED:
            for view in range(5):
                t = frame * 5 + view
                found = look(self.noisy, self.noisy.shot, t, levels=levels, samples=1, frames=[frame])
                own = self.noisy.column(frame).images[view] * levels.gain[t] + levels.offset[t]
                pictures[t] = np.where(found.known[..., None], found.image, own).astype(np.float32)
        return CellImages(self.cells.shot, pictures)

    def _mismatch(self, cells) -> float:
        """Mean difference of the colors of surface points between the cells of a frame, levels."""
        from itertools import combinations

        from trackshade.results.cells.gather import read_samples
        from trackshade.results.cells.points import PointSet
        from trackshade.splats.sampling import choose_points

        points, found = PointSet(cells.shot, choose_points(self.cells, 6000).surface), []
        for frame in SCORED:
            views, images = cells.column(frame)
            for mesh, _, located in points.groups(frame * 5):
                values, weights = read_samples(views, images, mesh, located)
                for a, b in combinations(range(len(images)), 2):
                    both = (weights[:, a] > 0) & (weights[:, b] > 0)
                    found.append(np.abs(values[both, a] - values[both, b]).mean(axis=1))
        return float(np.concatenate(found).mean())

    def _cell_scores(self, levels, clay=None, cells=None) -> list[tuple[float, np.ndarray]]:
        """PSNR of cells on surfaces, and the error of each surface pixel's gray: of noisy ones if `levels` is None."""
        from trackshade.core.images import psnr
        from trackshade.results.cells.looking import look

        scores = []
        for frame in SCORED:
            for view in SCORED:
                t = frame * 5 + view
                truth = self.seen[t].astype(np.float32)
                window = range(5) if clay is not None else [frame]
                source = cells or self.noisy
                found = look(source, source.shot, t, levels=levels, clay=clay, samples=1, frames=window)
                own = source.column(frame).images[view].astype(np.float32)
                if levels is not None:
                    own = own * levels.gain[t] + levels.offset[t]
                image = own if levels is None and cells is None else np.where(found.known[..., None], found.image, own)
                image = np.clip(image, 0, 255)
                scores.append((psnr(truth, image, found.surface), (image - truth)[found.surface].mean()))
        return scores

    def speed(self) -> list[Row]:
        """Rows about the cost of a frame: reading, drawing and gathering, and following splats."""
        from trackshade.results.cells.images import CellImages
        from trackshade.results.cells.points import PointSet
        from trackshade.splats.motion import SplatMotion
        from trackshade.splats.sampling import choose_points

        begin = time.process_time()
        chosen = choose_points(self.cells, COUNTS[0])
        choosing = time.process_time() - begin
        points = PointSet(self.cells.shot, chosen.surface)
        points.gather(self.cells, 0)
        fresh = CellImages.from_folder(_captured(self.folder), self.folder / "cells")
        motion = SplatMotion(points, chosen.spacing, 5)
        motion.frame(0)
        begin = time.process_time()
        for frame in range(5):
            points.gather(fresh, frame)
            motion.frame(frame)
        each = (time.process_time() - begin) / 5
        value = f"{each:.2f} s, {2 / each:.1f} frames/s on two cores"
        return [
            (f"{COUNTS[0]:,} splats chosen, once, processor", f"{choosing:.1f} s", ""),
            ("pictures read, drawn, gathered, splats moved, a frame, processor", value, ">= 5 frames/s"),
        ]


def _captured(folder: Path):
    from trackshade.shot import Shot

    return Shot.load(folder / "cells.shot")


def disturb(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a cell as a generator that is not consistent might make it, [H, W, 3] float32."""
    from scipy.ndimage import gaussian_filter, shift

    by = (*rng.uniform(-0.5, 0.5, 2), 0.0)
    moved = shift(image.astype(np.float32), by, order=3, mode="nearest")
    blotches = gaussian_filter(rng.normal(size=image.shape), (24, 24, 0))
    blotches *= 8 / blotches.std()
    noisy = moved * (1 + 0.06 * rng.normal(size=3)) + 6 * rng.normal(size=3) + blotches
    return np.clip(noisy + 4 * rng.normal(size=image.shape), 0, 255).astype(np.float32)


def _pair(values: Sequence[float]) -> str:
    return f"{np.mean(values):.1f} ({np.min(values):.1f}) dB"


def _score(scores: Sequence[tuple[float, np.ndarray]]) -> str:
    errors = np.array([error for _, error in scores]).reshape(3, 3)  # frame, camera
    return f"{np.mean([score for score, _ in scores]):.2f} dB ({errors.std(axis=0).mean():.1f} levels)"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("scenes", nargs="+")
    parser.add_argument("--blender", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", default="speed,gathering,surfaces,textures,splats")
    given = parser.parse_args()
    for scene in given.scenes:
        bench = Bench(scene, given.out / Path(scene).stem, given.blender)
        for part in given.parts.split(","):
            for name, value, target in getattr(bench, part)():
                print(f"{bench.name:16} {name:70} {value:>32}  {target}", flush=True)


if __name__ == "__main__":
    main()
