# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a batch: one static HTML page with relative paths, which needs no server, no network and no scripts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import trackshade
from trackshade.cli.batch.record import DONE, FAILED, BatchRecord, RowState
from trackshade.cli.batch.rows import Row
from trackshade.config import options
from trackshade.core.atomic_files import write_bytes, writing

_VIDEO, _SHEET, _FIRST, _RECORD = "video.mp4", "sheet.png", "first_frame.png", "job.json"
_OTHER_FILES = ("tracking.mp4", _FIRST, "consistency.png", "tracks.shot", "splats.usdc", _RECORD)
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --dim: #888; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1.5rem; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.1rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
p.dim, .dim { color: var(--dim); }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { text-align: left; vertical-align: top; padding: .2rem 1.2rem .2rem 0; overflow-wrap: anywhere;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; white-space: nowrap; }
article { border: 1px solid var(--line); border-radius: 8px; padding: 1rem 1.25rem; margin: 1.25rem 0; }
article.failed { border-color: #c33; }
.media { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
.media figure { margin: 0; flex: 1 1 22rem; max-width: 36rem; }
.media video, .media img { width: 100%; display: block; background: #000; border-radius: 4px; }
figcaption { font-size: .85rem; color: var(--dim); }
.state { font-weight: 600; }
.state.done { color: #2a8a3e; }
.state.failed, .state.cancelled { color: #c33; }
details { margin-top: .75rem; }
@media print { article { break-inside: avoid; } }
"""


def write_report(path: Path, rows: Sequence[Row], record: BatchRecord) -> Path:
    """Write the report of a batch beside its results; return its path. Raise OutputError."""
    with writing("The report", path):
        write_bytes(path, "\n".join(_page(rows, record)).encode())
    return path


def _page(rows: Sequence[Row], record: BatchRecord) -> Iterator[str]:
    states = [record.state(row) for row in rows]
    counts = {name: sum(state.state == name for state in states) for name in dict.fromkeys(s.state for s in states)}
    title = f"Batch {record.out.name}"
    yield '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
    yield f"<h1>{escape(title)}</h1>"
    time = datetime.now().strftime("%Y-%m-%d %H:%M")
    summary = ", ".join(f"{count} {name}" for name, count in counts.items())
    seconds = sum(state.seconds for state in states if state.state == DONE)
    count = f"{len(rows)} row{'' if len(rows) == 1 else 's'}"
    yield f'<p class="dim">{count}: {escape(summary)}. {_duration(seconds)} of work. {time}, '
    yield f"Trackshade {escape(trackshade.__version__)}.</p>"
    yield "<table><thead><tr><th>Line</th><th>Name</th><th>State</th><th>Time</th><th>Frames</th><th>Size</th>"
    yield "<th>Consistency</th><th>Seed</th><th>Model</th></tr></thead><tbody>"
    cards = []
    for row, state in zip(rows, states, strict=True):
        result = _read_record(record.out / state.folder) if state.state == DONE else {}
        yield _table_row(row, state, result)
        cards += list(_card(row, state, record.out, result))
    yield "</tbody></table>"
    yield from cards
    yield "</body></html>"


def _table_row(row: Row, state: RowState, result: Mapping[str, Any]) -> str:
    name = f'<a href="#{quote(state.folder)}">{escape(state.folder)}</a>'
    badge = f'<span class="state {escape(state.state)}">{escape(state.state)}</span>'
    shot, model = result.get("shot") or {}, result.get("model") or {}
    cells = [
        str(row.line),
        name,
        badge,
        _duration(state.seconds),
        str(len(shot.get("frames", ()))) if shot else "",
        escape("×".join(str(length) for length in shot.get("size", ()))),
        escape(_consistency(result)),
        escape(str(result.get("seed", ""))),
        escape(str(model.get("name", ""))),
    ]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _card(row: Row, state: RowState, out: Path, result: Mapping[str, Any]) -> Iterator[str]:
    yield f'<article id="{escape(state.folder)}" class="{escape(state.state)}">'
    yield f"<h2>{escape(state.folder)}</h2>"
    if state.state == FAILED and state.error:
        words = [str(state.error[key]) for key in ("message", "fix") if state.error.get(key)]
        yield f'<p class="state failed">{escape(" ".join(words))}</p>'
        yield f'<p class="dim">Code of the error: {escape(str(state.error.get("code")))}</p>'
    elif state.state == DONE:
        yield from _media(out, state.folder, result)
    for warning in result.get("warnings", ()):
        yield f"<p>Warning: {escape(str(warning))}</p>"
    yield "<table><tbody>"
    for name, value in _provenance(row, result):
        yield f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>"
    yield "</tbody></table>"
    folder = out / state.folder
    links = [name for name in _OTHER_FILES if (folder / name).exists()] if state.state == DONE else []
    if links:
        items = " · ".join(f'<a href="{_url(state.folder, name)}">{escape(name)}</a>' for name in links)
        yield f'<p class="dim">{items}</p>'
    yield "</article>"


def _media(out: Path, name: str, result: Mapping[str, Any]) -> Iterator[str]:
    """Yield the videos and contact sheets of a result, and those of its cameras."""
    folder = out / name
    cameras = sorted(path.parent.name for path in folder.glob(f"*/{_RECORD}"))
    yield '<div class="media">'
    for camera in ["", *cameras]:
        parts = [name, camera] if camera else [name]
        what = f" of camera {camera}" if camera else ""
        if (folder / camera / _VIDEO).is_file():
            poster = f' poster="{_url(*parts, _FIRST)}"' if (folder / camera / _FIRST).is_file() else ""
            yield f'<figure><video controls loop muted preload="metadata" src="{_url(*parts, _VIDEO)}"{poster}></video>'
            yield f"<figcaption>Result{escape(what)}</figcaption></figure>"
        if (folder / camera / _SHEET).is_file():
            yield f'<figure><img loading="lazy" alt="" src="{_url(*parts, _SHEET)}">'
            yield f"<figcaption>Contact sheet{escape(what)}</figcaption></figure>"
    yield "</div>"


def _provenance(row: Row, result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what was made of what, by name."""
    yield "Scene" if row.command == "render" else "Shot", str(row.source)
    defaults = {option.key: option.default for option in options.COMMANDS[row.command][1]}
    given = {key: value for key, value in row.values.items() if key in defaults and value != defaults[key]}
    for key in sorted(given.keys() - {"scene", "shot"}):
        value = given[key]
        yield key.replace("_", " "), ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    if not result:
        return
    propagation, shot = result.get("propagation") or {}, result.get("shot") or {}
    pictures = [f"{item.get('source')} (frame {item.get('frame'):g})" for item in propagation.get("key_pictures", ())]
    if pictures:
        yield "key pictures", ", ".join(pictures)
    coverage = (propagation.get("coverage") or {}).get("unseen") or []
    if coverage:
        yield "in no picture", f"at most {100 * max(coverage):.1f} % of a frame"
    versions = result.get("versions") or {}
    yield "versions", ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    digests = (result.get("model") or {}).get("digests") or {}
    for name, digest in digests.items():
        yield f"weights {name}", str(digest)
    yield "shot", str(shot.get("digest", ""))
    timings = result.get("timings") or {}
    yield "time in the backend", ", ".join(f"{name} {seconds:g} s" for name, seconds in timings.items())


def _consistency(result: Mapping[str, Any]) -> str:
    measured = (result.get("consistency") or {}).get("result")
    return "" if measured is None else f"{measured:.1f} of 255"


def _read_record(folder: Path) -> dict[str, Any]:
    """Return the record of a result; {} if it cannot be read."""
    try:
        data = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _duration(seconds: float) -> str:
    if not seconds:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _url(*parts: str) -> str:
    """Return the relative address of a file below the report."""
    return "./" + "/".join(quote(part.replace(os.sep, "/")) for part in parts)
