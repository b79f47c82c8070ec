# SPDX-License-Identifier: GPL-3.0-or-later
"""All cells of five cameras and five frames, propagated from true pictures of some of them.

    python tests/benchmarks/evaluate_cameras.py FOLDER

FOLDER holds the cells and the clay renders that `evaluate_splats.py` has made of a scene. Scored are the cells off the
reference row and column. The mismatch of a pair of cells is the mean difference, where both show a surface point, of
their errors (cell minus true render): a color that is wrong in both by the same amount counts as consistent.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from trackshade.core.images import psnr
from trackshade.propagation import KeyPicture, Propagation
from trackshade.propagation.pictures import surface_picture
from trackshade.propagation.poses import PoseTable
from trackshade.propagation.surface import find_points, pull
from trackshade.results.cells.images import CellImages
from trackshade.shot import Shot

VIEW = 2  # of the reference row
LIT = {"clay": True, "no light": False}


def cells_of(views: int, frames: int) -> dict[str, list[int]]:
    """Return the samples of each set of references, that of the crossing first."""
    row, column = [t * views + VIEW for t in range(frames)], list(range(views))
    column.insert(0, column.pop(VIEW))
    return {"picture": [VIEW], "row": row, "column": column, "row and column": list(dict.fromkeys([*row, *column]))}


class Pairs:
    """Pairs of cells and what they show of the same surface points."""

    def __init__(self, shot: Shot) -> None:
        self.table = PoseTable(shot)
        self.blank = np.zeros((*shot.size[::-1], 3), np.float32)
        self.points = {}

    def mismatch(self, errors: dict[int, np.ndarray], pairs: Iterable[tuple[int, int]]) -> float:
        """Return the mean mismatch of pairs, levels; `errors` are images [H, W, 3] in levels by sample."""
        shot, found = self.table.shot, []
        for one, other in pairs:
            # Positive, as a prepared picture is linear light.
            picture = surface_picture(shot, one, errors[one] + 300)
            target = surface_picture(shot, other, self.blank)
            pose, starts = self.table.pose(other, shot.size), self.table.face_starts(other)
            depth = np.ones(target.label.shape, np.float32)
            points = find_points(
                target.label, target.triangle, depth, 0, 1, pose, self.table.still, self.table.triangles, starts
            )
            pulled = np.zeros((*target.label.shape, 5), np.float32)
            key_pose = self.table.pose(one, shot.size, faces_of=other)
            pull(points, 1, pose, picture, key_pose, self.table.still, self.table.triangles, starts, 1.0, pulled)
            both = (target.label >= 0) & (pulled[..., 4] > 0.9) & (target.trust == 255)
            if both.sum() > 100:
                colors = pulled[both][:, :3] / pulled[both][:, 3:4] - 300
                found.append(float(np.abs(colors - errors[other][both]).mean()))
        return float(np.mean(found)) if found else float("nan")


def evaluate(folder: Path, say: Callable[[str], None] = print) -> None:
    """Print the table of a scene."""
    images = CellImages.from_folder(Shot.load(folder / "cells.shot"), folder / "cells")
    shot, views, frames = images.shot, images.cameras, images.frames
    truth = {t * views + v: images.column(t).images[v] for t in range(frames) for v in range(views)}
    lights = [np.load(folder / "clay" / camera / "light.npy") for camera in shot.camera.sources[:views]]
    off = [t * views + v for t in range(1, frames) for v in range(views) if v != VIEW]
    columns = [(a, b) for a in off for b in off if a < b and a // views == b // views]
    rows = [(a, b) for a in off for b in off if a < b and a % views == b % views]
    crosses = [(a, b) for a in off for b in off if a < b and a // views != b // views and a % views != b % views][::4]
    pairs = Pairs(shot)
    measures = "PSNR all | seen | lowest | unseen | error mismatch: row | column | off cross | CPU s a cell"
    say(f"| references | light | {measures} |")
    say("|---|---|---|---|---|---|---|---|---|---|")
    for name, samples in cells_of(views, frames).items():
        for label, is_lit in LIT.items():
            light = (lambda t: np.asarray(lights[t % views][t // views], np.float32)) if is_lit else None
            keys = [KeyPicture(t, truth[t]) for t in samples]
            propagation = Propagation(shot, keys, light=light, threads=1)
            propagation.prepare()
            start = time.process_time()
            made = {t: propagation.frame(t) for t in off}
            seconds = (time.process_time() - start) / len(off)
            cells = {t: np.clip(np.rint(frame.image * 255), 0, 255) for t, frame in made.items()}
            all_pixels = [psnr(truth[t].astype(np.float32), cells[t]) for t in off]
            seen = [psnr(truth[t].astype(np.float32), cells[t], made[t].shown > 0.9) for t in off]
            errors = {t: (cells[t] - truth[t]).astype(np.float32) for t in off}
            unseen = np.mean([made[t].unseen for t in off])
            values = " | ".join(f"{pairs.mismatch(errors, chosen):.1f}" for chosen in (rows, columns, crosses))
            say(
                f"| {name} ({len(samples)}) | {label} | {np.mean(all_pixels):.1f} | {np.mean(seen):.1f} | "
                f"{min(all_pixels):.1f} | {unseen:.1%} | {values} | {seconds:.2f} |"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="+")
    for item in parser.parse_args().folder:
        print(f"\n{item.name}\n", flush=True)
        evaluate(item, lambda line: print(line, flush=True))
