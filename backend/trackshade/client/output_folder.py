# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders for results: checked before any work, and reserved so that no two jobs get the same one."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from trackshade.config.model_spec import ModelSpec
from trackshade.core.atomic_files import is_occupied, writing
from trackshade.core.errors import OutputError
from trackshade.core.text import format_size
from trackshade.ipc.leftovers import delete_partial_results


class OutputFolder:
    """The folder that a job puts its result in. A context manager that removes it again if it is new and empty."""

    def __init__(self, path: Path, force: bool = False, following: Iterator[Path] | None = None) -> None:
        """Use a folder without checking it. Where it was reserved, `following` reserves other ones."""
        self.path = path
        self.force = force  # whether an older result in it is replaced
        self._following = following

    @staticmethod
    def reserve(
        parent: Path, name: str, spec: ModelSpec, *, numbered: bool = False, fix: str = "Choose a writable folder."
    ) -> OutputFolder:
        """Create a new, empty folder, atomically: no other process gets the same one.

        Args:
            parent: Folder for results; created if it is missing.
            name: Name of the folder. If it is taken, "NAME-2", "NAME-3" and so on.
            spec: Model of the job, which says how much space a result needs.
            numbered: Use "NAME-001", "NAME-002" and so on instead.
            fix: What the user can do if nothing can be written to `parent`.

        Raises:
            OutputError: The folder cannot be created, or the disk has too little space.
        """
        following = _reserve_folders(parent, name, numbered, fix)
        out = OutputFolder(next(following), following=following)
        delete_partial_results(out.path)
        try:
            check_output(out.path, spec)
        except OutputError:
            out.release()
            raise
        return out

    @staticmethod
    def choose(named: str | None, parent: Path, name: str, spec: ModelSpec, force: bool) -> OutputFolder:
        """Return the folder that the option --out names, which need not exist, or without it a new one.

        Raises:
            OutputError: The folder is taken, cannot be written, or has too little space.
        """
        if named is None:
            return OutputFolder.reserve(parent.absolute(), name, spec)
        out = OutputFolder(Path(named).absolute(), force)
        check_output(out.path, spec, force)
        return out

    @staticmethod
    def reserved(path: Path) -> OutputFolder:
        """Return a folder that an earlier process has reserved. It may have been deleted since."""
        return OutputFolder(path, following=iter(()))

    def reserve_next(self) -> bool:
        """Move on to another new folder, because this one was taken by somebody else; False if there is no other."""
        path = None if self._following is None else next(self._following, None)
        self.path = path or self.path
        return path is not None

    def release(self) -> None:
        """Remove a reserved folder that no result was put in."""
        if self._following is not None:
            with contextlib.suppress(OSError):  # it has a result
                self.path.rmdir()

    def __enter__(self) -> OutputFolder:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


def check_output(out: Path, spec: ModelSpec, force: bool = False) -> None:
    """Check, before any work, that a result of a model can be put into a folder; changes nothing.

    Raises:
        OutputError: The folder is taken, holds something else than a result, cannot be written or has too little
            space.
    """
    with writing("The result", out, "Choose a folder that can be written."):
        is_taken = is_occupied(out)
        if is_taken and not force:
            raise OutputError("output-exists", f"{out} exists and was kept.", "Choose another --out, or use --force.")
        if is_taken and not (out / "job.json").is_file():
            raise OutputError(
                "output-not-ours",
                f"{out} holds something else than a result, and was kept in spite of --force.",
                "Choose another --out.",
            )
        existing = next(parent for parent in [out, *out.absolute().parents] if parent.exists())
        _check_names(out, existing)
        with tempfile.TemporaryFile(dir=existing.parent if existing == out else existing):
            free = shutil.disk_usage(existing).free
    width, height = max(spec.sizes, key=lambda size: size[0] * size[1])
    # Two exact image sequences; videos are far smaller.
    needed = 6 * max(spec.allowed_frame_counts) * width * height
    if free < needed:
        raise OutputError(
            "output-full",
            f"The disk of {out} has {format_size(free)} left; a result takes up to {format_size(needed)}.",
            "Free some space, or choose another folder.",
        )


def _check_names(out: Path, existing: Path) -> None:
    """Raise OSError if a name in the path of a result is too long, also the one that it has until it is complete.

    Args:
        out: Folder of the result.
        existing: The folder above it that exists.
    """
    parent = out.absolute().parent if existing == out else existing.absolute()
    partial = out.absolute().with_name(f".{out.name}.partial-01234567")
    for path in (
        partial / "frames" / ".0001.01234567.png",
        *(parent / name for name in partial.relative_to(parent).parts),
    ):
        with contextlib.suppress(FileNotFoundError):
            os.lstat(path)


def _reserve_folders(parent: Path, name: str, numbered: bool, fix: str) -> Iterator[Path]:
    """Create one folder after the other, skipping the names that are taken."""
    for number in itertools.count(1):
        suffix = f"-{number:03d}" if numbered else f"-{number}" if number > 1 else ""
        path = parent / f"{name}{suffix}"
        with writing("The result", parent, fix):
            parent.mkdir(parents=True, exist_ok=True)
            try:
                path.mkdir()
            except FileExistsError:
                continue
        yield path
