# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m trackshade_addon render SCENE ...`: the add-on's commands on Blender as a Python module."""

import atexit
import os
import sys
import traceback


def _main() -> int:
    try:
        import bpy  # noqa: F401 - to report in a sentence that it is missing
    except ImportError as error:
        print(f"Blender's Python module cannot be loaded: {error}. Install it with: pip install bpy", file=sys.stderr)
        return 3
    from .commands import main

    return main("python -m trackshade_addon", sys.argv[1:])


try:
    code = _main()
except BaseException:  # noqa: BLE001 - whatever happens, the process has to end by the lines below
    traceback.print_exc()
    code = 1
atexit._run_exitfuncs()  # Python's, which remove temporary files and end a backend that was started
sys.stdout.flush()
sys.stderr.flush()
os._exit(code)  # without the exit handlers of bpy, in which bpy 4.5 can hang
