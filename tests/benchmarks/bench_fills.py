# SPDX-License-Identifier: GPL-3.0-or-later
"""Fills of procedural canvases with 30 % holes, by method and texture, against the truth, and how long 1024² takes.

`python tests/benchmarks/bench_fills.py [--size N] [--pictures FOLDER] [TEXTURE ...]` prints the whole table; `rows()`
gives summary figures to a common runner. Errors are those of filled texels in 8-bit sRGB: PSNR; the sliced Wasserstein
distance of 5 × 5 patches without their means (levels, lower is better); gradient energy relative to the truth. A flat
color and bare push-pull are there to lose: they may have a high PSNR, but they have no grain.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_dilation

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "backend")]

Row = tuple[str, str, str]
SIZE, TIMED = 256, 1024
LATTICES, TEXTURES = ("checker", "checker_turned", "tiles", "bricks"), ("wood", "voronoi", "marble", "gravel")


def rows() -> list[Row]:
    """(name, value, target) of every figure."""
    from trackshade.propagation.fills import fill_canvas

    table = [*measure(LATTICES, ("auto", "patch-match", "push-pull", "flat"), SIZE)]
    table += measure(TEXTURES, ("auto", "push-pull", "flat"), SIZE)

    def mean(names: tuple[str, ...], method: str, figure: int) -> float:
        return float(np.mean([row[2][figure] for row in table if row[0] in names and row[1] == method]))

    out: list[Row] = [
        ("fills of repeating textures: PSNR", f"{mean(LATTICES, 'auto', 0):.1f} dB", ">= 30 dB"),
        ("the same by PatchMatch", f"{mean(LATTICES, 'patch-match', 0):.1f} dB", ""),
        ("the same by push-pull", f"{mean(LATTICES, 'push-pull', 0):.1f} dB", ""),
    ]
    for method in ("push-pull", "flat"):
        ratio = mean(TEXTURES, "auto", 1) / mean(TEXTURES, method, 1)
        out.append((f"fills of other textures: patch distance against {method}", f"{ratio:.2f} x", "<= 0.6 x"))
    out.append(("fills of other textures: gradient energy", f"{mean(TEXTURES, 'auto', 2):.2f} x", ">= 0.8 x"))
    for name, limit in (("checker", 3), ("bricks", 3), ("wood", 8), ("voronoi", 8)):
        _, color, known, inside = canvas(name, TIMED)
        began = time.process_time()
        fill_canvas(color, known, inside, kind="plane")
        out.append((f"fill of {name}, {TIMED}²", f"{time.process_time() - began:.1f} s", f"<= {limit} s"))
    return out


def canvas(name: str, size: int, light: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Truth, colors, known and inside of a test canvas; with the rim of a shadow and a slow error of light or not."""
    from tests.helpers import canvases

    truth = canvases.render(name, size)
    known = ~canvases.holes(size)
    color = truth
    if light:
        rim = 1 - 0.3 * canvases.ring(size, (0.45 * size, 0.6 * size), 0.25 * size, 0.008 * size)
        color = (truth * (rim * canvases.gain(size, 0.02))[..., None]).astype(np.float32)
    return truth, color, known, np.ones_like(known)


def measure(
    names: tuple[str, ...], methods: tuple[str, ...], size: int, light: bool = False, pictures: Path | None = None
) -> list[tuple[str, str, tuple[float, float, float, float]]]:
    """Texture, method, and (PSNR, patch distance, gradient energy, seconds) of every combination."""
    from trackshade.propagation.fills import fill_canvas

    out = []
    for name in names:
        truth, color, known, inside = canvas(name, size, light)
        strip = [levels(np.where(known[..., None], color, 0))]
        for method in methods:
            began = time.process_time()
            filled = fill_canvas(color, known, inside, kind="plane", method=method)  # pyright: ignore
            seconds = time.process_time() - began
            # Where light was left, the healed texels count as well.
            judged = ~known | (np.abs(color / truth - 1).max(axis=-1) > 0.08)
            out.append((name + (" lit" if light else ""), method, (*errors(filled.color, truth, judged), seconds)))
            strip.append(levels(filled.color))
        if pictures is not None:
            from PIL import Image

            strip.append(levels(truth))
            Image.fromarray(np.hstack(strip).astype(np.uint8)).save(pictures / f"{name}{'_lit' * light}.png")
    return out


def levels(color: np.ndarray) -> np.ndarray:
    """Linear light as 8-bit sRGB values, not rounded."""
    value = np.clip(color, 0, 1).astype(np.float64)
    return 255 * np.where(value <= 0.0031308, 12.92 * value, 1.055 * np.maximum(value, 1e-9) ** (1 / 2.4) - 0.055)


def errors(color: np.ndarray, truth: np.ndarray, at: np.ndarray) -> tuple[float, float, float]:
    """PSNR, sliced Wasserstein distance of patches and gradient energy of the texels `at`."""
    a, b = levels(color), levels(truth)
    psnr = 10 * np.log10(255**2 / max(float(np.square(a[at] - b[at]).mean()), 1e-6))
    rng = np.random.default_rng(0)
    inner = np.zeros_like(at)
    inner[2:-2, 2:-2] = at[2:-2, 2:-2]
    rows_, columns = np.nonzero(inner)
    pick = rng.permutation(len(rows_))[:8000]
    offsets = np.arange(-2, 3)
    y = rows_[pick, None, None] + offsets[None, :, None]
    x = columns[pick, None, None] + offsets[None, None, :]
    directions = rng.standard_normal((75, 64))
    directions /= np.linalg.norm(directions, axis=0)

    def projected(image: np.ndarray) -> np.ndarray:
        patches = image[y, x]
        patches = patches - patches.mean(axis=(1, 2), keepdims=True)
        return np.sort(patches.reshape(len(pick), -1) @ directions, axis=0)

    distance = float(np.abs(projected(a) - projected(b)).mean())
    near: np.ndarray = binary_dilation(at, iterations=2)  # pyright: ignore[reportAssignmentType]

    def energy(image: np.ndarray) -> float:
        down, right = np.diff(image, axis=0)[near[1:]], np.diff(image, axis=1)[near[:, 1:]]
        return float((down**2).sum() + (right**2).sum())

    return float(psnr), distance, energy(a) / max(energy(b), 1e-9)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--methods", nargs="*", default=["auto", "patch-match", "push-pull", "flat"])
    given = parser.parse_args()
    names = tuple(given.names) or (*LATTICES, *TEXTURES)
    measure(("wood", "checker"), ("auto",), 128)  # compiles
    print("| texture | method | PSNR | patch distance | gradient energy | CPU s |\n|---|---|---|---|---|---|")
    for light in (False, True):
        these = names if not light else tuple(name for name in names if name in LATTICES)
        for name, method, figures in measure(these, tuple(given.methods), given.size, light, given.pictures):
            print(f"| {name} | {method} | {' | '.join(f'{figure:.2f}' for figure in figures)} |", flush=True)


if __name__ == "__main__":
    main()
