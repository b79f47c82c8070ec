# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of a batch: shots with their options, read from a CSV list, a folder or single files, and checked.

The columns of a list are the options of `trackshade render`, without dashes; `scene` is the only one that is needed.
Paths are relative to the folder of the list. All mistakes are found before anything starts.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trackshade.cli.inputs import digest_inputs, input_paths, with_absolute_paths
from trackshade.config import options, parsing, registry
from trackshade.config.options import Option
from trackshade.core.camera_motion import parse_camera_moves
from trackshade.core.errors import ShotError, TrackshadeError, UsageError
from trackshade.core.file_names import file_name

SCENE_SUFFIXES = re.compile(r"\.(blend|glb|gltf|usd[acz]?|abc|fbx|obj|ply|stl)")
SHOT_SUFFIX = ".shot"
SEPARATOR = "|"  # between the values of an option that may be given several times
NOT_IN_ROWS = {"scene", "shot", "out", "force", "json", "progress", "endpoint", "curve", "backend_python"}
_YES, _NO = ("1", "yes", "true", "on", "x"), ("0", "no", "false", "off")
_MOST_TOLD = 20  # mistakes that a message names


class _RowError(Exception):
    """What is wrong with a row; the text continues its line's number."""


@dataclass(frozen=True, eq=False)
class Row:
    """One shot of a batch.

    Attributes:
        line: Line of the list in which it begins, from 1; its number among the files if there is no list.
        name: Name that the list gives it, or "".
        stem: Name that is made of its file.
        source: Scene file, shot file or folder of tracks.
        command: Command that shades it: "render" or "shade".
        values: Values of the command's options by key, with absolute paths.
        digest: Identifies the options and the files that they name, as they are now.
    """

    line: int
    name: str
    stem: str
    source: Path
    command: str
    values: Mapping[str, Any]
    digest: str


def row_options() -> tuple[Option, ...]:
    """Return the options that a row may have: those of `render` and `shade`."""
    found: dict[str, Option] = {}
    for command in ("render", "shade"):
        for option in options.COMMANDS[command][1]:
            if option.key not in NOT_IN_ROWS:
                found.setdefault(option.key, option)
    return tuple(found.values())


def read_rows(sources: Sequence[Path], shared: Mapping[str, Any]) -> list[Row]:
    """Return the rows of a list, of a folder of scenes, or of single files.

    Args:
        sources: One CSV list or one folder; or scene files, shot files and folders of tracks.
        shared: Options of all rows that do not say otherwise, by key; those with their default value do not count.

    Raises:
        UsageError: "no-rows", "unknown-column", or "bad-rows", which names each mistake with its line.
        ShotError: "bad-list": the list cannot be read.
    """
    shared = with_absolute_paths(shared, Path.cwd())
    if len(sources) == 1 and sources[0].suffix.lower() in (".csv", ".tsv", ".txt"):
        base = sources[0].absolute().parent
        cells = list(_read_list(sources[0]))
        where = f"{sources[0].name}, line"
    else:
        base = Path.cwd()
        files = _files_of(sources[0]) if len(sources) == 1 and _is_plain_folder(sources[0]) else list(sources)
        cells = [(number, {"scene": str(path)}) for number, path in enumerate(files, start=1)]
        where = "file"
    if not cells:
        raise UsageError("no-rows", f"There is nothing to shade in {sources[0]}.", "Name scenes, or a list of them.")
    rows, mistakes, lines = [], [], {}
    for line, values in cells:
        try:
            row = _row(line, values, base, shared)
            for key, what in (
                (row.name.lower(), f"the name {row.name} is"),
                (row.digest, "the same shot with the same options is"),
            ):
                if key and lines.setdefault(key, line) != line:
                    raise _RowError(f"{what} in line {lines[key]}, too")
            rows.append(row)
        except (TrackshadeError, _RowError) as error:
            text = error.message if isinstance(error, TrackshadeError) else str(error)
            mistakes.append(f"{where} {line}: {text.rstrip('.')}.")
    if mistakes:
        more = [f"And {len(mistakes) - _MOST_TOLD} more."] if len(mistakes) > _MOST_TOLD else []
        raise UsageError("bad-rows", "\n  ".join(["Nothing was started:", *mistakes[:_MOST_TOLD], *more]), exit_code=3)
    return rows


def _is_plain_folder(path: Path) -> bool:
    """Return whether a path is a folder of scenes, not of tracks."""
    return path.is_dir() and not (path / "set.json").exists()


def _files_of(folder: Path) -> list[Path]:
    """Return the scenes and shots in a folder, by name."""
    return [path for path in sorted(folder.iterdir()) if path.is_file() and _is_known(path) and path.name[0] != "."]


def _is_known(path: Path) -> bool:
    return path.suffix.lower() == SHOT_SUFFIX or SCENE_SUFFIXES.fullmatch(path.suffix.lower()) is not None


def _read_list(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line and cells by option of each row, cells without a value left out."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ShotError("bad-list", f"{path} is not a text in UTF-8.", "Save it as CSV with UTF-8.") from error
    except OSError as error:
        raise ShotError("bad-list", f"{path} cannot be read: {error.strerror}.", "Name an existing list.") from error
    heading = text.lstrip("\r\n").partition("\n")[0]
    delimiter = max(",;\t", key=heading.count)  # spreadsheets write what the language of the system has
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    columns: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            begins, line = line, reader.line_num + 1
            cells = [cell.strip() for cell in cells]
            if not any(cells) or cells[0].startswith("#"):
                continue
            if columns is None:
                columns = _columns(path, cells)
                continue
            if any(cells[len(columns) :]):
                fix = "Put values that contain it into quotes."
                raise ShotError("bad-list", f"Line {begins} of {path} has more than {len(columns)} cells.", fix)
            yield begins, {column: cell for column, cell in zip(columns, cells, strict=False) if column and cell}
    except csv.Error as error:
        fix = "Close the quotes, and write quotes in a value twice."
        raise ShotError("bad-list", f"Line {line} of {path} cannot be read: {error}.", fix) from error


def _columns(path: Path, cells: Sequence[str]) -> list[str]:
    """Return the options that the columns of a list stand for. Raise UsageError("unknown-column")."""
    known = {"scene", "name", *(option.key for option in row_options())}
    columns = [cell.lower().lstrip("-").replace("-", "_").replace(" ", "_") for cell in cells]
    columns = ["scene" if column == "shot" else column for column in columns]
    for column, cell in zip(columns, cells, strict=True):
        if column and (column not in known or columns.count(column) > 1):
            close = difflib.get_close_matches(column, known, n=1)
            fix = f"Did you mean {close[0]}?" if close else "Columns are options of 'trackshade render'."
            what = "stands twice" if column in known else "is no option of a shot"
            raise UsageError("unknown-column", f"The column '{cell}' of {path} {what}.", fix, exit_code=3)
    if "scene" not in columns:
        fix = "Name a column 'scene' in the first line."
        raise UsageError("unknown-column", f"{path} has no column with scenes.", fix, exit_code=3)
    return columns


def _row(line: int, cells: Mapping[str, str], base: Path, shared: Mapping[str, Any]) -> Row:
    """Return a row, checked. Raise TrackshadeError or _RowError."""
    if not cells.get("scene"):
        raise _RowError("there is no scene")
    source = base / Path(cells["scene"]).expanduser()
    if not source.exists():
        raise _RowError(f"there is no file {source}")
    is_shot = source.is_dir() or source.suffix.lower() == SHOT_SUFFIX
    if not is_shot and not _is_known(source):
        raise _RowError(f"{source.name} is of no type that can be opened")
    command = "shade" if is_shot else "render"
    given = {key: value for key, value in cells.items() if key not in ("scene", "name")}
    by_key = {option.key: option for option in options.COMMANDS[command][1]}
    for key in given:
        if key not in by_key:
            raise _RowError(f"{key} is an option of scenes, and {source.name} is a shot")
    arguments = [word for key, text in given.items() for word in _arguments(by_key[key], text)]
    inherited = {key: value for key, value in shared.items() if key in by_key and key not in given}
    parser = parsing.build_parser(command, "batch")
    words = [*parsing.to_arguments(command, inherited)[1:], *arguments, "--", str(source)]
    try:
        values = vars(parser.parse_args(words))
    except UsageError as error:
        raise _RowError(error.message.removeprefix(f"{parser.prog}: ")) from error
    values = with_absolute_paths(values, base)
    _check(values)
    return Row(
        line=line,
        name=file_name(cells.get("name", ""), "", "-"),
        stem=file_name(source.stem, "shot", "-"),
        source=source,
        command=command,
        values=values,
        digest=digest_inputs(command, options.COMMANDS[command][1], [source], values, base),
    )


def _arguments(option: Option, text: str) -> list[str]:
    """Return the arguments of an option that a cell has a text for."""
    if option.kind is bool:
        if text.lower() not in (*_YES, *_NO):
            raise _RowError(f"{option.key} is yes or no, not '{text}'")
        return [option.name] if text.lower() in _YES else []
    texts = [part.strip() for part in text.split(SEPARATOR)] if option.repeat else [text]
    return [f"{option.name}={part}" for part in texts if part]


def _check(values: Mapping[str, Any]) -> None:
    """Check what can be checked without opening the scene. Raise TrackshadeError or _RowError."""
    registry.spec(values["model"])
    parsing.shade_settings(values)
    parsing.parse_frame_range(values.get("frames"))
    parsing.parse_cameras(values.get("cameras"))
    if values.get("orbit"):
        parsing.parse_orbit(values["orbit"])
    parse_camera_moves(values.get("camera_motion") or "")
    for key, path in input_paths(values):
        if not path.exists():
            raise _RowError(f"there is no file {path} ({key})")
