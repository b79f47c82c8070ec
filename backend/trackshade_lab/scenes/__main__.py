# SPDX-License-Identifier: GPL-3.0-or-later
"""`trackshade train data` (or `python -m trackshade_lab.scenes`): generate training clips."""

from __future__ import annotations

import argparse
import time

from trackshade_lab.scenes import contact_sheet, generate_clip, generate_shards
from trackshade_lab.scenes.blender import ENGINES, render_shards


def main() -> None:
    """Write shards of clips, or a contact sheet of them."""
    parser = argparse.ArgumentParser(prog="trackshade train data", description="Generate training clips from seeds.")
    add = parser.add_argument
    add("out", help="Folder for the shards. With --sheet, an image file.")
    add("--count", type=int, default=1000, help="Number of clips.")
    add("--first-seed", type=int, default=0, help="Seed of the first clip. The others follow.")
    add("--split", choices=("train", "held-out"), default="train", help="Which random numbers the seeds stand for.")
    add("--kind", help="Kind of all scenes. By default it is random for each clip.")
    add("--control", default="mesh", help="Control signal in the tracking videos: none, depth, tracks-N or mesh.")
    add("--size", type=int, nargs=2, default=(144, 96), metavar=("W", "H"), help="Width and height in pixels.")
    add("--frames", type=int, default=17, help="Number of frames of a clip.")
    add("--processes", type=int, default=1, help="Number of processes.")
    add("--shard", type=int, help="Number of clips in a shard.")
    add("--rendered", action="store_true", help="Let Blender render the clips. Slow, and in one process.")
    add("--engine", choices=ENGINES, help="Engine for rendered clips. By default it is random for each clip.")
    add("--blender", metavar="PATH", help="Blender to run, as for 'trackshade render'.")
    add("--sheet", action="store_true", help="Save a contact sheet of the clips instead of shards.")
    args = parser.parse_args()
    size = (args.size[0], args.size[1])
    common = {"size": size, "num_frames": args.frames}
    start = time.perf_counter()

    def report(done: int, total: int) -> None:
        print(f"{done} of {total} clips", flush=True)

    if args.rendered:
        render_shards(
            args.out, args.count, args.first_seed, args.split, engine=args.engine, blender=args.blender,
            shard=args.shard or 20, progress=report, **common,
        )  # fmt: skip
    elif args.sheet:
        seeds = range(args.first_seed, args.first_seed + args.count)
        options = {"kind": args.kind, "split": args.split, "control": args.control}
        contact_sheet([generate_clip(seed, **common, **options) for seed in seeds], columns=2).save(args.out)
    else:
        generate_shards(
            args.out, args.count, args.first_seed, args.split, args.processes, kind=args.kind, control=args.control,
            shard=args.shard or 250, progress=report, **common,
        )  # fmt: skip
    seconds = time.perf_counter() - start
    milliseconds = 1e3 * seconds * args.processes / max(args.count, 1)
    print(f"{args.count} clips in {seconds:.1f} s, {milliseconds:.1f} ms per clip and process")


if __name__ == "__main__":
    main()
