# SPDX-License-Identifier: GPL-3.0-or-later
"""`trackshade dataset`: writes scenes, shots, results and shards to a dataset folder in the published layout."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trackshade.cli.blender import OnMessage, run_addon
from trackshade.config import parsing
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
    """Add the clips of all sources to a dataset, except those that it has already.

    Args:
        out: Folder of the dataset. It is created if necessary.
        sources: Scene files, shot files, result folders, and folders of shards.
        prompt: Caption of all clips. By default a text file beside the source, or the source's own caption.
        control: How tracking videos are drawn.
        clips: Maximum number of clips from each folder of shards.
        scene_options: Options of the command `export` for scenes, such as camera and frames.
        blender: Path of the Blender to run.
        on_message: Receives progress messages.

    Returns:
        The result to print: "out", "clips", "added", "warnings" and "files".

    Raises:
        UsageError, ShotError: if a source cannot be used.
        OutputError: if `out` cannot be written.
    """
    if not sources:
        raise UsageError("usage", "No source was given.", "Name scenes, shots, result folders or folders of shards.")
    kinds: list[SourceKind] = [
        find_source_kind(source) for source in sources
    ]  # so that errors are reported before Blender renders for hours
    writer, added, known = DatasetWriter(out), 0, 0
    for number, (source, kind) in enumerate(zip(sources, kinds, strict=True), start=1):
        found: Iterator[SourceClip]
        if kind == "scene":
            found = iter([_render_scene(source, control, scene_options, blender, on_message)])
        else:
            found = read_source(source, kind, control, clips)
        for clip in found:
            chosen = replace(clip, prompt=prompt or _read_text_beside(source) or clip.prompt)
            if writer.add(chosen.name, chosen.prompt, chosen.video, chosen.tracking, chosen.fps):
                added += 1
            else:
                known += 1
            on_message({"state": "writing", "message": str(source), "step": number, "steps": len(sources)})
    warnings = [f"{known} clips were in the dataset already."] if known else []
    return {
        "out": str(out),
        "clips": len(writer.rows),
        "added": added,
        "warnings": warnings,
        "files": {"dataset": str(out.absolute())},
    }


def _render_scene(
    scene: Path, control: ControlOptions, scene_options: Mapping[str, Any], blender: str | None, on_message: OnMessage
) -> SourceClip:
    """Export a scene with its renders, and read them as a clip."""
    with tempfile.TemporaryDirectory(prefix="trackshade-dataset-") as folder:
        shot = Path(folder) / "scene.shot"
        values = {**scene_options, "scene": str(scene.absolute()), "out": str(shot), "input_render": True}
        run_addon(parsing.to_arguments("export", values), blender, on_message)
        return read_shot_clip(shot, control, scene.stem)


def _read_text_beside(source: Path) -> str:
    """Return the text of the .txt file with the name of a source, or an empty string."""
    path = source.with_suffix(".txt")
    return " ".join(path.read_text(encoding="utf-8").split()) if path.is_file() and path != source else ""
