# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder full of modules that have no business being imported: each leaves a file when it is."""

from __future__ import annotations

from pathlib import Path

PLANTED = (
    "accelerate", "bpy", "diffusers", "ensurepip", "json", "logging", "msgpack", "multiprocessing", "numba", "numpy",
    "pip", "runpy", "safetensors", "scipy", "sitecustomize", "subprocess", "torch", "trackshade", "trackshade_addon",
    "transformers", "typing", "usercustomize", "venv", "zmq",
)  # fmt: skip


class Hostile:
    """The folder, and what of it has been imported."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "hostile"
        self._marks = folder / "imported"
        self.folder.mkdir()
        self._marks.mkdir()
        for name in PLANTED:
            (self.folder / f"{name}.py").write_text(f"open({str(self._marks / name)!r}, 'w').close()\n")

    def imported(self) -> list[str]:
        return sorted(path.name for path in self._marks.iterdir())
