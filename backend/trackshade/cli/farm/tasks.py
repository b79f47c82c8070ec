# SPDX-License-Identifier: GPL-3.0-or-later
"""The tasks of a shot on a farm: capture parts of its frames, shade them, place the result; each is one command.

RESULTS/NAME/tracks-101-149-10/101.shot …   parts of 10 frames of the range 101 to 149
RESULTS/NAME/tracks/all.shot                the whole range, where it is not captured in parts
RESULTS/NAME/seed-7/                        the result of a seed, with the scene that shows it
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trackshade.cli.batch.rows import Row
from trackshade.config import options, parsing
from trackshade.config.chunks import values_of_chunk
from trackshade.core.errors import UsageError

_OF_SHADING = {"model", "size", "frame_rule"}  # options of a capture that are left to the shading
_NOT_ON_A_FARM = {  # why, and what to do
    "input_render": "Leave it out: shot files do not carry renders of all frames.",
    "stills": "Leave it out: nobody chooses a still on a farm.",
}


@dataclass(frozen=True)
class ShotTasks:
    """The commands of a shot's tasks, without the program: their names and arguments.

    Attributes:
        name: Name of the shot, and of the folder of its results.
        capture: Arguments of a capture, or None for a shot file.
        frames: First and last frame and step of the range; None if the scene names them, so that there is one part.
        shade: Arguments that shade one seed.
        place: Arguments that place the result of a seed, or None.
    """

    name: str
    capture: list[str] | None
    frames: tuple[int, int, int] | None
    shade: list[str]
    place: list[str] | None


@dataclass(frozen=True)
class Placeholders:
    """What stands for values that the farm fills in.

    Attributes:
        project: Folder of all scenes and pictures.
        results: Folder of all results.
        first: First frame of a part.
        chunk: Number of frames of a part.
        seed: Seed of a task.
    """

    project: str
    results: str
    first: str
    chunk: str
    seed: str


def tasks_of(row: Row, name: str, root: Path, marks: Placeholders, chunked: bool, farm: str) -> ShotTasks:
    """Return the tasks of a row.

    Args:
        row: The shot and its options.
        name: Name of the shot.
        root: Folder that `marks.project` stands for.
        marks: What stands for values that the farm fills in.
        chunked: Whether the frames are captured in parts.
        farm: Whose progress lines the commands print.

    Raises:
        UsageError: "farm-option" for an option that cannot be carried from a capture to another machine.
    """
    values = row.values
    for key, fix in _NOT_ON_A_FARM.items():
        if values.get(key):
            raise UsageError("farm-option", f"{name}: the option {key} cannot be used on a farm.", fix)
    if row.command == "render" and values["light"] == "render":
        fix = "Choose clay or none."
        raise UsageError("farm-option", f"{name}: light cannot be 'render' on a farm.", fix)
    folder = f"{marks.results}/{name}"
    result = f"{folder}/seed-{marks.seed}"
    common = ["--skip-finished", f"--progress={farm}"]
    frames = _frames(row, name) if chunked and row.command == "render" else None
    capture = place = None
    if row.command == "render":
        source = _in_project(str(row.source.absolute()), root, marks)
        light = "clay" if values["light"] == "clay" else "none"
        first = "none" if values["first_frame"] == options.GENERATE else values["first_frame"]
        capture = _arguments("export", {**values, "light": light, "first_frame": first}, root, marks, _OF_SHADING)
        tracks = f"{folder}/tracks" if frames is None else f"{folder}/tracks-{frames[0]}-{frames[1]}-{marks.chunk}"
        part = "all" if frames is None else marks.first
        capture += [] if frames is None else [f"--chunk={marks.first}:{marks.chunk}"]
        capture += [*common, f"--out={tracks}/{part}.shot", "--", source]
        shot, first = tracks, values["first_frame"]
        kept = {"first_frame": first if first in (options.GENERATE, "none") else None}
        opened = {option.key: values[option.key] for option in options.OPEN_SCENE}
        place = _arguments("place", opened, root, marks)
        place += [*common, f"--out={result}/scene.blend", "--", result, source]
    else:
        shot, kept = _in_project(str(row.source.absolute()), root, marks), {}
    shade = _arguments("shade", {**values, **kept, "seed": None}, root, marks)
    shade += [f"--seed={marks.seed}", *common, f"--out={result}", "--", shot]
    return ShotTasks(name, capture, frames, shade, place)


def _frames(row: Row, name: str) -> tuple[int, int, int] | None:
    """Return the range of a row that is captured in parts; None if it has none."""
    start, end, step = parsing.parse_frame_range(row.values["frames"])
    if start is None or end is None:
        return None
    numbers = start, end, step or 1.0
    if any(number != int(number) for number in numbers):
        fix = "Leave out --chunk, or name whole frames."
        raise UsageError("farm-option", f"{name}: sub-frames cannot be captured in parts.", fix)
    values_of_chunk({**row.values, "model": None, "chunk": f"{int(start)}:1"})  # raises what parts cannot have
    return int(start), int(end), int(numbers[2])


def _arguments(
    command: str, values: Mapping[str, Any], root: Path, marks: Placeholders, without: Collection[str] = ()
) -> list[str]:
    """Return a command and its options, whose paths begin with the mark of the project."""
    own = {option.key for option in options.COMMANDS[command][1] if not option.is_positional}
    kept = {key: value for key, value in values.items() if key in own and key not in without}
    kept = {key: value for key, value in kept.items() if key not in ("out", "force", "json", "progress", "endpoint")}
    arguments = parsing.to_arguments(command, kept)
    return [arguments[0], *(_in_project(argument, root, marks) for argument in arguments[1:])]


def _in_project(text: str, root: Path, marks: Placeholders) -> str:
    """Return a text with the folder of the project replaced by its mark, and the separators of its system by `/`."""
    folder = str(root)
    before, found, after = text.partition(folder.rstrip("\\/"))
    if not found or after[:1] not in ("/", "\\"):
        return text
    return f"{before}{marks.project}{after.replace(chr(92), '/')}"


def names_of(rows: Sequence[Row]) -> list[str]:
    """Return a name for each row, no two of which are equal."""
    taken: set[str] = {row.name.lower() for row in rows if row.name}
    names = []
    for row in rows:
        name, number = row.name or row.stem, 1
        while not row.name and name.lower() in taken:
            number += 1
            name = f"{row.stem}-{number}"
        taken.add(name.lower())
        names.append(name)
    return names


def common_folder(rows: Sequence[Row], given: Path | None) -> Path:
    """Return the folder that holds all scenes. Raise UsageError("no-project") if they have none."""
    if given is None:
        folders = [row.source.absolute().parent for row in rows]
        root = folders[0]
        while not all(folder.is_relative_to(root) for folder in folders):
            root = root.parent
        if root == Path(root.anchor):
            raise UsageError("no-project", "The scenes have no folder in common.", "Name one with --project.")
        return root
    root = given.expanduser().absolute()
    for row in rows:
        if not row.source.absolute().is_relative_to(root):
            raise UsageError("no-project", f"{row.source} is not in {root}.", "Name a folder that holds all scenes.")
    return root
