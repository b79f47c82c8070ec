# SPDX-License-Identifier: GPL-3.0-or-later
"""`trackshade dataset`: scenes, shots, results and shards to a dataset folder in the published layout."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trackshade.cli.blender import OnMessage, run_addon
from trackshade.config import options
from trackshade.core.errors import UsageError
from trackshade_lab.clip_sources import (
    ControlOptions,
    SourceClip,
    SourceKind,
    find_source_kind,
    read_shot_clip,
    read_source,
)
from trackshade_lab.video_dataset import DatasetWriter


def dataset(
    out: Path,
    sources: Sequence[Path],
    *,
    prompt: str | None,
    control: ControlOptions,
    clips: int | None,
    scene_options: Mapping[str, Any],
    blender: str | None,
    on_message: OnMessage,
) -> dict[str, Any]:
    """Adds the clips of every source to the dataset `out`, which is made if need be; what was made.

    `scene_options`: those of `export` (camera, frames, size, …), for scenes. A clip that is there already is left out.

    Raises:
        UsageError, ShotError: a source cannot be used. OutputError: `out` cannot be written.
    """
    if not sources:
        raise UsageError("usage", "No source was given.", "Name scenes, shots, result folders or folders of shards.")
    kinds: list[SourceKind] = [
        find_source_kind(source) for source in sources
    ]  # what is wrong is said before Blender renders for hours
    made, added, known = DatasetWriter(out), 0, 0
    for number, (source, kind) in enumerate(zip(sources, kinds, strict=True), start=1):
        found: Iterator[SourceClip]
        if kind == "scene":
            found = iter([_rendered(source, control, scene_options, blender, on_message)])
        else:
            found = read_source(source, kind, control, clips)
        for clip in found:
            chosen = replace(clip, prompt=prompt or _beside(source) or clip.prompt)
            if made.add(chosen.name, chosen.prompt, chosen.video, chosen.tracking, chosen.fps):
                added += 1
            else:
                known += 1
            on_message({"state": "writing", "message": str(source), "step": number, "steps": len(sources)})
    warnings = [f"{known} clips were in the dataset already."] if known else []
    return {
        "out": str(out),
        "clips": len(made.rows),
        "added": added,
        "warnings": warnings,
        "files": {"dataset": str(out.absolute())},
    }


def _rendered(
    scene: Path, control: ControlOptions, scene_options: Mapping[str, Any], blender: str | None, on_message: OnMessage
) -> SourceClip:
    """A scene as `export --input-render` gives it."""
    with tempfile.TemporaryDirectory(prefix="trackshade-dataset-") as folder:
        shot = Path(folder) / "scene.shot"
        values = {**scene_options, "scene": str(scene.absolute()), "out": str(shot), "input_render": True}
        run_addon(options.arguments("export", values), blender, on_message)
        return read_shot_clip(shot, control, scene.stem)


def _beside(source: Path) -> str:
    """The words in a text file beside a source, of its name; "" where there is none."""
    path = source.with_suffix(".txt")
    return " ".join(path.read_text(encoding="utf-8").split()) if path.is_file() and path != source else ""
