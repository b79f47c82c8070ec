# SPDX-License-Identifier: GPL-3.0-or-later
"""The demonstration scene, quick to render, for tests that do not run in Blender."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_WRITE = """
import os, sys
from pathlib import Path
import bpy
from trackshade_addon.demo_scene import build_demo_scene
build_demo_scene(Path(sys.argv[1]))
bpy.ops.wm.open_mainfile(filepath=sys.argv[1])
scene = bpy.context.scene
scene.cycles.samples, scene.render.resolution_x, scene.render.resolution_y = 1, 144, 96
bpy.ops.wm.save_mainfile()
os._exit(0)
"""


def write_small_demo(path: Path) -> Path:
    """Write the demonstration scene at 144 × 96 pixels and one sample for each, by Blender's module."""
    subprocess.run([sys.executable, "-c", _WRITE, str(path)], check=True, stdout=subprocess.DEVNULL)
    return path
