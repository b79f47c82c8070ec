# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m trackshade_lab.scenes OUT --count 4000`: write shards of procedural clips, or a sheet of them; or
shards of synthetic scenes that Blender renders.
"""

from __future__ import annotations

import argparse
import time

from trackshade_lab.scenes import generate_clip, generate_shards, save_sheet
from trackshade_lab.scenes.rendered import render_shards


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m trackshade_lab.scenes", description=__doc__)
    parser.add_argument("out", help="folder for the shards, or with --sheet a picture file")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--split", choices=("train", "held-out"), default="train")
    parser.add_argument("--kind")
    parser.add_argument("--control", default="mesh", help="what stands for the tracking video: none, depth, tracks-N, "
                        "mesh")  # fmt: skip
    parser.add_argument("--size", type=int, nargs=2, default=(144, 96), metavar=("W", "H"))
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--shard", type=int, help="clips of a shard")
    parser.add_argument("--rendered", action="store_true", help="clips that Blender renders; one process, slow")
    parser.add_argument("--engine", choices=("workbench", "eevee", "cycles"), help="of rendered clips; any if left out")
    parser.add_argument("--blender", metavar="PATH", help="the Blender to run; see 'trackshade render --help'")
    parser.add_argument("--sheet", action="store_true", help="draw a contact sheet of the clips instead")
    a = parser.parse_args()
    size = (a.size[0], a.size[1])
    start = time.perf_counter()

    def progress(done: int, of: int) -> None:
        print(f"{done} of {of} clips", flush=True)

    if a.rendered:
        render_shards(
            a.out, a.count, a.first_seed, a.split, size=size, frames=a.frames, engine=a.engine, blender=a.blender,
            shard=a.shard or 20, progress=progress,
        )  # fmt: skip
    elif a.sheet:
        seeds = range(a.first_seed, a.first_seed + a.count)
        clips = [generate_clip(s, size, a.frames, a.kind, split=a.split, control=a.control) for s in seeds]
        save_sheet(clips, a.out, columns=2)
    else:
        generate_shards(
            a.out,
            a.count,
            a.first_seed,
            a.split,
            a.processes,
            size=size,
            frames=a.frames,
            kind=a.kind,
            control=a.control,
            shard=a.shard or 250,
            progress=progress,
        )
    seconds = time.perf_counter() - start
    each = 1e3 * seconds * a.processes / max(a.count, 1)
    print(f"{a.count} clips in {seconds:.1f} s, {each:.1f} ms a clip and process")


if __name__ == "__main__":
    main()
