# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line `trackshade`. It reaches Blender by running it, never by importing bpy.

Exit codes: 0 done, 2 usage, 3 bad input, 4 backend failed or unreachable, 130 cancelled.
"""


def main() -> None:
    """What the command `trackshade` runs."""
    from trackshade.core.processes import protect_children

    protect_children()
    from trackshade.cli.app import app

    app()


__all__ = ["main"]
