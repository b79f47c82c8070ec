# SPDX-License-Identifier: GPL-3.0-or-later
"""`blender -b --python bootstrap.py -- COMMAND ...`: the add-on's commands in a Blender without the extension.

If the extension is not installed, its packages are imported from the Python that started this process: Trackshade's
own, and pyzmq and msgpack if they are built for Blender's version of Python. Nothing else of that Python is importable.
"""

import importlib.machinery
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from types import ModuleType

# Environment variable that the command line sets: {"package": its folder, ...}
BORROW = "TRACKSHADE_BORROW"


class BorrowedPackages:
    """Finds the given packages, and nothing else, in the given folders."""

    def __init__(self, folders: dict[str, str]) -> None:
        self.folders = folders

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find a package, as a finder of `sys.meta_path`."""
        if path is None and name in self.folders:
            return importlib.machinery.PathFinder.find_spec(name, [self.folders[name]])
        return None


def _main() -> int:
    sys.meta_path.append(
        BorrowedPackages(json.loads(os.environ.get(BORROW, "{}")))
    )  # last, so that what is installed comes first
    arguments = sys.argv[sys.argv.index("--") + 1 :]
    try:
        from trackshade import client  # the client brings pyzmq and msgpack in  # noqa: F401
        from trackshade.ipc import json_lines
    except ImportError as error:
        print(error, file=sys.stderr)
        version = ".".join(map(str, sys.version_info[:2]))
        reason = (
            f"it lacks the Trackshade extension, and its Python {version} cannot use the pyzmq installed here."
        )
        print("\n@trackshade " + json.dumps({"event": "unusable", "reason": reason}), flush=True)
        return 3
    print("\n" + json_lines.format_line({"event": "progress", "state": "starting", "message": "Blender"}), flush=True)
    commands = importlib.import_module("trackshade_addon.commands")
    return commands.main("trackshade", arguments)


if __name__ == "__main__":
    code = _main()
    sys.stdout.flush()
    sys.exit(code)
