# SPDX-License-Identifier: GPL-3.0-or-later
"""A mesh of 133,000 vertices with another topology in each of 17 frames: captured, and joined from a track set.

`python tests/benchmarks/bench_topology.py` prints the table; `rows()` gives it to a common runner. The mesh is a grid
that is resampled in each frame, lying still or under a wave that moves it. Figures are time of the processor, of one
thread, the least of several rounds.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FRAMES, ROUNDS = 17, 3
Row = tuple[str, str, str]


def rows() -> list[Row]:
    """(name, value, target) of every figure."""
    found: list[Row] = []
    for kind in ("still", "moving"):
        figures = _in_blender(kind)
        what = f"{figures['vertices'] // 1000},000 {kind} vertices, another topology in each of {FRAMES} frames"
        found += [
            (f"{what}: stepping the frames", f"{figures['step']:.2f} s", ""),
            (f"{what}: capture", f"{figures['capture']:.1f} s, {figures['bytes'] / 1e6:.0f} MB", "<= 5 s"),
            (f"{what}: joining its track set", f"{figures['join']:.1f} s", "<= 5 s"),
        ]
    return found


def _in_blender(kind: str) -> dict[str, Any]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, __file__, kind]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def _measure(kind: str) -> dict[str, float]:
    import bpy

    from trackshade.core.fitting import fit_frames, fit_size
    from trackshade.shot.joining import join
    from trackshade.shot.track_set import read_set
    from trackshade_addon.capture import capture

    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end = 1, FRAMES
    _resampled(scene, kind == "moving")
    frame_map = fit_frames(1, FRAMES, 1, 24.0, (FRAMES,))
    size_fit = fit_size((1920, 1080), (1.0, 1.0), ((720, 480),))
    least = dict.fromkeys(("step", "capture", "join"), math.inf)
    with tempfile.TemporaryDirectory() as folder:
        _keep(scene, Path(folder))
        for _ in range(ROUNDS):
            start = time.process_time()
            for frame in range(1, FRAMES + 1):
                scene.frame_set(frame)
            least["step"] = min(least["step"], time.process_time() - start)
            start = time.process_time()
            capture(scene, frame_map=frame_map, size_fit=size_fit)
            least["capture"] = min(least["capture"], time.process_time() - start)
            start = time.process_time()
            join(read_set(Path(folder)))
            least["join"] = min(least["join"], time.process_time() - start)
    shot = capture(scene, frame_map=frame_map, size_fit=size_fit)
    return {**least, "bytes": shot.nbytes, "vertices": len(shot.world_positions(0, FRAMES // 2))}


def _resampled(scene: Any, moving: bool) -> None:
    import bpy

    group = bpy.data.node_groups.new("Resampled", "GeometryNodeTree")
    group.interface.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    grid, out = group.nodes.new("GeometryNodeMeshGrid"), group.nodes.new("NodeGroupOutput")
    grid.inputs["Size X"].default_value = grid.inputs["Size Y"].default_value = 2.0
    for frame in range(1, FRAMES + 1):
        for side, count in (("Vertices X", 357 + frame), ("Vertices Y", 373 - frame)):
            grid.inputs[side].default_value = count
            grid.inputs[side].keyframe_insert("default_value", frame=frame)
    group.links.new(grid.outputs["Mesh"], out.inputs[0])
    thing = bpy.data.objects.new("Resampled", bpy.data.meshes.new("Resampled"))
    thing.modifiers.new("Resampled", "NODES").node_group = group
    if moving:
        wave = thing.modifiers.new("Wave", "WAVE")
        wave.height, wave.width, wave.speed = 0.3, 0.4, 0.01
    scene.collection.objects.link(thing)
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    camera.location.z = 6
    scene.collection.objects.link(camera)
    scene.camera = camera


def _keep(scene: Any, folder: Path) -> None:
    """Writes the track set that a render of the frames keeps."""
    import bpy

    from trackshade.config.settings import ShadeSettings
    from trackshade.core.fitting import FrameMap, fit_size
    from trackshade.shot import Shot
    from trackshade.shot.track_set import Order, frame_name, write_set
    from trackshade_addon.capture.shot_builder import ShotBuilder

    order = Order(1, FRAMES, 1, 24.0, ShadeSettings(), False, "shaded")
    write_set(folder, order)
    size = fit_size((1920, 1080), (1.0, 1.0), ((1920, 1080),))
    for frame in range(1, FRAMES + 1):
        scene.frame_set(frame)
        single = FrameMap(frame, frame, 1, "exact", (float(frame),), 24.0, "")
        gathering = ShotBuilder(bpy.context.view_layer, single, size, is_partial=True)
        gathering.add_sample(bpy.context.evaluated_depsgraph_get(), scene.camera)
        shot = gathering.shot(scene)
        marked = Shot(**{**shot.__dict__, "source": {**shot.source, **gathering.identities()}})
        marked.save(folder / f"{frame_name(frame)}.shot")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(_measure(sys.argv[1])))
    else:
        for row in rows():
            print("{:<90} {:>16}   {}".format(*row))
