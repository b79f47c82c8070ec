# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line `trackshade`. It reaches Blender by running it, never by importing bpy.

Exit codes: 0 success, 2 usage, 3 bad input, 4 backend failed or unreachable, 130 cancelled.
"""

import sys


def main() -> None:
    """Run the command `trackshade`."""
    from trackshade.core.processes import protect_children

    protect_children()
    from trackshade.cli import app

    sys.exit(app.main())


__all__ = ["main"]
