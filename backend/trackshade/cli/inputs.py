# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that the options of a command name: made absolute, listed, and as part of a digest of the whole task."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trackshade.config import options
from trackshade.config.options import Option

KEYWORDS = ("render", options.GENERATE, "none")  # values of `first_frame` that are no paths
OF_A_RUN = {"out", "force", "json", "progress", "endpoint", "curve", "backend_python", "blender", "skip_finished"}
"""Options that say how a command is run, not what it makes."""


def with_absolute_paths(values: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """Return the values of a command with paths, which are relative to `base`, made absolute."""
    found = dict(values)
    for key, value in values.items():
        if value is None or key not in _PATHS:
            continue
        change = _PATHS[key]
        found[key] = [change(item, base)[0] for item in value] if isinstance(value, list) else change(value, base)[0]
    return found


def input_paths(values: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """Yield the key and the path of each file that the values of a command, made absolute, name."""
    for key in _PATHS.keys() & values.keys():
        value = values[key]
        for item in value if isinstance(value, (list, tuple)) else [value]:
            path = None if item is None else _PATHS[key](item, Path())[1]
            if path is not None:
                yield key, path


def digest_inputs(
    command: str, taken: Sequence[Option], sources: Sequence[Path], values: Mapping[str, Any], base: Path
) -> str:
    """Return a digest of a command, its options, and size and time of the files that they name.

    Args:
        command: Name of the command.
        taken: The options that it takes.
        sources: Its scene, shot and result; pictures and light that were exported beside a shot count, too.
        values: Values of its options by key, with absolute paths; those with their default value do not count.
        base: Folder that may be moved as a whole without changing the digest.
    """
    given = [option for option in taken if option.key not in OF_A_RUN]
    texts = {
        option.key: str(values[option.key]).replace(str(base.absolute()) + os.sep, "")
        for option in given
        if not option.is_positional and values.get(option.key, option.default) != option.default
    }
    beside = [path for source in sources for path in _written_beside(source)]
    files = sorted([*(("", path) for path in (*sources, *beside)), *input_paths(values)], key=str)
    stats = [[key, _relative(path, base), *_stat(path)] for key, path in files]
    text = json.dumps([command, texts, stats], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _written_beside(source: Path) -> list[Path]:
    """Return the pictures and renders beside a shot file, which are used with it."""
    if source.suffix.lower() != ".shot":
        return []
    return [path for path in source.parent.glob(f"{glob.escape(source.stem)}.*") if path.suffix in (".png", ".npy")]


def _relative(path: Path, base: Path) -> str:
    try:
        return Path(os.path.relpath(path, base)).as_posix()
    except ValueError:  # another drive of Windows
        return str(path)


def _stat(path: Path) -> list[int]:
    """Return size and time of a file, or of what is in a folder."""
    try:
        items = sorted(path.iterdir()) if path.is_dir() else [path]
        return [number for item in items for number in (item.stat().st_size, item.stat().st_mtime_ns)]
    except OSError:
        return []


Change = Callable[[str, Path], tuple[str, Path | None]]  # text and base to absolute text, and the path in it if any


def _plain(text: str, base: Path) -> tuple[str, Path | None]:
    path = base / Path(text).expanduser()
    return str(path), path


def _first_frame(text: str, base: Path) -> tuple[str, Path | None]:
    return (text, None) if text in KEYWORDS or text.startswith("image:") else _plain(text, base)


def _key(text: str, base: Path) -> tuple[str, Path | None]:
    frame, equals, picture = text.partition("=")
    if not equals:
        return text, None  # the parser of key pictures says what is wrong with it
    path = base / Path(picture).expanduser()
    return f"{frame}={path}", path


def _lora(text: str, base: Path) -> tuple[str, Path | None]:
    """Of a file and a strength; the file may be on the backend's machine only."""
    found = re.fullmatch(r"(.+?)(:[0-9.]+)?", text)
    path = base / Path(found[1]).expanduser() if found is not None else base
    return (f"{path}{found[2] or ''}", path) if found is not None and path.is_file() else (text, None)


def _footage(text: str, base: Path) -> tuple[str, Path | None]:
    """Of a video, which may be on the backend's machine only."""
    path = base / Path(text).expanduser()
    return (str(path), path) if text and path.is_file() else (text, None)


def _model(text: str, base: Path) -> tuple[str, Path | None]:
    """Of a name or a folder."""
    path = base / Path(text).expanduser()
    return (str(path), path) if text and path.is_dir() else (text, None)


_PATHS: Mapping[str, Change] = {
    "first_frame": _first_frame,
    "key": _key,
    "lora": _lora,
    "video_loras": _lora,
    "reference": _plain,
    "footage": _footage,
    "camera_path": _plain,
    "multiview_model": _model,
}
