# SPDX-License-Identifier: GPL-3.0-or-later
"""What the drives share: the window's parts, pictures of it, and steps that leave Blender time to draw between them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Generator
from pathlib import Path
from typing import Any

import bpy

PAUSE = 1.5  # seconds that Blender gets to draw

Steps = Generator[float, None, None]


def arguments() -> list[str]:
    """What stands after "--"."""
    return sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []


def view(window: int = 0) -> dict[str, Any]:
    """The first 3D view of a window, in the words of `temp_override`."""
    found = bpy.context.window_manager.windows[window]
    area = next(area for area in found.screen.areas if area.type == "VIEW_3D")
    region = next(region for region in area.regions if region.type == "WINDOW")
    return {"window": found, "screen": found.screen, "area": area, "region": region}


def module(name: str) -> Any:
    """A module of the add-on, under whatever name it was installed."""
    return next(module for full, module in sys.modules.items() if full.endswith("." + name) and "trackshade" in full)


def picture(out: Path, name: str) -> Steps:
    """Takes a picture of the screen."""
    for _ in range(3):  # sizes settle in the redraw after a change
        for window in bpy.context.window_manager.windows:
            for area in window.screen.areas:
                area.tag_redraw()
        yield PAUSE / 3
    path = out / f"{name}.png"
    grab = shutil.which("import")  # ImageMagick's: Blender's own picture is black on a software display
    if grab is not None and os.environ.get("DISPLAY"):
        subprocess.run([grab, "-window", "root", str(path)], check=True)
        return
    with bpy.context.temp_override(**view()):
        bpy.ops.screen.screenshot(filepath=str(path))
    yield 0.1


def run(steps: Steps) -> None:
    """Goes through the steps and ends Blender, with 0 where all went well."""

    def turn() -> float | None:
        try:
            return next(steps)
        except StopIteration:
            code = 0
        except Exception:  # noqa: BLE001 - whatever it is ends this Blender with a report
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    bpy.app.timers.register(turn, first_interval=2.0, persistent=True)
