# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m trackshade_addon render SCENE ...`: the add-on's commands on Blender as a Python module."""

import sys


def _main() -> int:
    try:
        import bpy  # noqa: F401 - to say in a sentence that it is missing
    except ImportError as error:
        print(f"Blender's Python module cannot be loaded: {error}. Install it with: pip install bpy", file=sys.stderr)
        return 3
    from .commands import main

    return main("python -m trackshade_addon", sys.argv[1:])


sys.exit(_main())
