# SPDX-License-Identifier: GPL-3.0-or-later
"""How long Blender's main thread is held by the add-on in a real window, while jobs are sent, shaded and come back.

Needs a Blender with a window (the one that TRACKSHADE_BLENDER names, or `blender` on the path), a screen (DISPLAY), and
the extension in dist/ (`make extension`). That is installed into settings of its own, and `tests/gui/drive.py` presses
the buttons.

`python tests/benchmarks/bench_window.py` prints the table; `rows()` gives it to a common runner.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DRIVE = ROOT / "tests" / "gui" / "drive.py"
HELD = 16  # milliseconds
LIMIT = 1800  # seconds for all jobs
TOLD = re.compile(r"^(?P<what>[^:]+): (?P<count>\d+), 99 % within (?P<most>[\d.]+) ms, longest (?P<longest>[\d.]+) ms, "
                  r"(?P<over>\d+) over")  # fmt: skip
Row = tuple[str, str, str]


def rows() -> list[Row]:
    """(name, value, target) of every figure; what is missing for it where there can be none."""
    blender = os.environ.get("TRACKSHADE_BLENDER") or shutil.which("blender")
    zips = sorted((ROOT / "dist").glob("trackshade-*-linux_x64.zip"))
    if blender is None or not zips or not os.environ.get("DISPLAY"):
        return [("the main thread in a real window", "needs a screen, a Blender and make extension", "")]
    with tempfile.TemporaryDirectory() as scratch:
        said = _drive(blender, zips[-1], Path(scratch))
    found = [match for match in map(TOLD.match, said.splitlines()) if match]
    if not found:
        raise RuntimeError(f"The drive measured nothing:\n{said[-2000:]}")
    return [row for match in found for row in _told(match)]


def _drive(blender: str, extension: Path, scratch: Path) -> str:
    """What the drive says."""
    variables = {
        **os.environ,
        "BLENDER_USER_RESOURCES": str(scratch / "user"),
        "TRACKSHADE_HOME": str(scratch / "home"),
        "TRACKSHADE_PYTHON": os.environ.get("TRACKSHADE_PYTHON", sys.executable),
    }
    install = [blender, "--command", "extension", "install-file", "--repo", "user_default", "--enable", str(extension)]
    subprocess.run(install, env=variables, check=True, stdout=subprocess.DEVNULL)
    scene = scratch / "demo.blend"
    build = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT / "addon")!r})
from trackshade_addon.demo_scene import build_demo_scene
build_demo_scene(Path({str(scene)!r}))
os._exit(0)  # not by bpy's own exit handlers, in which bpy 4.5 can wait for itself
"""
    subprocess.run([sys.executable, "-c", build], check=True, stdout=subprocess.DEVNULL)
    quiet = "import bpy; bpy.context.preferences.view.show_splash = False"
    command = [blender, "--enable-event-simulate", str(scene), "--python-expr", quiet]
    command += ["--python", str(DRIVE), "--", str(scratch), "--shade"]
    done = subprocess.run(command, env=variables, text=True, timeout=LIMIT, stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"The drive ended with {done.returncode}:\n{done.stdout[-2000:]}")
    return done.stdout


def _told(match: re.Match[str]) -> list[Row]:
    what = f"in a window, {match['what']}"
    return [
        (f"{what}: 99th percentile of {match['count']}", f"{match['most']} ms", f"< {HELD} ms"),
        (f"{what}: longest; more than {HELD} ms", f"{match['longest']} ms; {match['over']}", ""),
    ]


if __name__ == "__main__":
    for row in rows():
        print("{:75} {:>14} {}".format(*row))
