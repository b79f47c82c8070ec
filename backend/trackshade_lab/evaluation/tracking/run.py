# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders scenes, tracks them as footage, and compares tracks and cameras with the truth.

DATA/SCENE/          shot and true frames, as `trackshade_addon reference` writes them
DATA/SCENE-look-1/   the same with other materials
OUT/SCENE-given.lifted, OUT/SCENE-solved.lifted   results, with the true focal length and without it
OUT/sheets/SCENE-given.png                        tracks over frames
OUT/transfer/SCENE/  scene of the tracked footage
OUT/sheets/SCENE-transfer.png                     footage, result and truth
OUT/report.json report.md                         figures
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from trackshade.results.video import write_video
from trackshade.shot import Shot
from trackshade.shot.lifted import LiftedScene
from trackshade.shot.track_request import TrackRequest
from trackshade.tracking import track_video

from ..clip import ClipMeasure, find_clip
from ..rendered import FrameSettings, OnMessage, read_frames, render_frames
from ..store import to_json, write_bytes, write_json
from .measures import measure_camera, measure_tracks, scene_tracks, true_tracks
from .transfer import measure_transfer, transfer_table

KINDS = ("orbit", "dolly", "character", "leaves")
_FPS = 24
_COLUMNS = {
    "median_error": "median px", "delta": "δ avg", "occlusion_accuracy": "OA", "jaccard": "AJ",
    "rotation": "rotation °", "rotation_max": "max °", "direction": "direction °", "focal_ratio": "focal / true",
    "focal_error": "± focal", "static_share": "static", "cpu_seconds": "CPU s",
}  # fmt: skip


@dataclass(frozen=True)
class TrackingConfig:
    """What to evaluate.

    Attributes:
        data: folder that scenes are rendered to.
        kinds: kinds of generated scenes.
        seeds: seeds of each kind.
        scenes: scene files, and folders of rendered scenes.
        others: the same scenes with other materials, for motion transfer; empty, or one for each of `scenes`.
        size: largest size of the frames, pixels.
        frames: number of frames.
        samples: Cycles' samples per pixel.
        spacing: distance of the tracked points, pixels.
        blender: path of the Blender to run; see `run_addon`.
        parts: "tracks", "transfer".
        prompt: what the other look shows, for CLIP.
        clip: folder of CLIP, or its name in the hub's cache; None for the default one, if it is there.
    """

    data: Path
    kinds: tuple[str, ...]
    seeds: tuple[int, ...]
    scenes: tuple[Path, ...]
    size: tuple[int, int] = (720, 480)
    frames: int = 49
    samples: int = 8
    spacing: float = 6.0
    blender: str | None = None
    parts: tuple[str, ...] = ("tracks", "transfer")
    prompt: str | None = None
    clip: str | None = None
    others: tuple[Path, ...] = ()

    @property
    def frame_settings(self) -> FrameSettings:
        """How the frames are rendered."""
        return FrameSettings(self.size, self.samples, self.blender)


def evaluate_tracking(config: TrackingConfig, out: Path, on_message: OnMessage) -> tuple[str, dict[str, Any]]:
    """Track all scenes, and shade another look by their tracks; return the report as Markdown, and the figures.

    Raises:
        ShotError: a scene cannot be rendered or read; see also `run_addon`.
        OutputError: the folder cannot be written.
    """
    (out / "sheets").mkdir(parents=True, exist_ok=True)
    scenes, transfers = list[dict[str, Any]](), list[dict[str, Any]]()
    clip, sentence = find_clip(config.clip) if "transfer" in config.parts else (None, "")
    for kind, seed in ((kind, seed) for kind in config.kinds for seed in config.seeds):
        values = {"kind": kind, "seed": seed, "length": config.frames}
        folder = render_frames(config.data / f"{kind}-{seed}", values, config.frame_settings, on_message)
        if "tracks" in config.parts:
            scenes += _evaluate(config, folder, out, on_message)
        if "transfer" in config.parts:
            other = config.data / f"{kind}-{seed}-look-1"
            render_frames(other, values | {"look": 1}, config.frame_settings, on_message)
            transfers += _transfer(config, folder, other, out, clip, on_message)
    for number, path in enumerate(config.scenes):
        folder = _rendered(config, path, on_message)
        if "tracks" in config.parts:
            scenes += _evaluate(config, folder, out, on_message)
        if "transfer" in config.parts and config.others:
            other = _rendered(config, config.others[number], on_message)
            transfers += _transfer(config, folder, other, out, clip, on_message)
    texts = [format_table(scenes)] if scenes else []
    texts += [f"{transfer_table(transfers)}\n\n{sentence}\n"] if transfers else []
    text = "\n".join(texts)
    figures = {"scenes": scenes, "transfer": transfers}
    write_json(out / "report.json", to_json(figures))
    write_bytes(out / "report.md", text.encode())
    return text, figures


def _rendered(config: TrackingConfig, path: Path, on_message: OnMessage) -> Path:
    """Return the folder of a rendered scene, which is rendered if `path` is a scene file."""
    if path.is_dir():
        return path
    return render_frames(config.data / path.stem, {"scene": str(path)}, config.frame_settings, on_message)


def _transfer(
    config: TrackingConfig, folder: Path, other: Path, out: Path, clip: ClipMeasure | None, on_message: OnMessage
) -> list[dict[str, Any]]:
    return measure_transfer(
        folder, other, out, frames=config.frames, spacing=config.spacing, text=config.prompt, clip=clip,
        blender=config.blender, on_message=on_message,
    )  # fmt: skip


def _evaluate(config: TrackingConfig, folder: Path, out: Path, on_message: OnMessage) -> list[dict[str, Any]]:
    """Track the frames of a folder; returns the figures with the true focal length and without it."""
    shot, images = read_frames(folder, config.frames)
    video = out / f"{folder.name}.mp4"
    write_video(video, images, _FPS, lossless=True)
    records = []
    for how, focal in (("given", float(shot.camera.intrinsics[0, 0, 0])), ("solved", None)):
        on_message(f"{folder.name}, focal length {how}")
        request = TrackRequest(focal=focal, spacing=config.spacing, max_frames=len(images), size=config.size)
        start, processor = time.perf_counter(), time.process_time()
        scene = track_video(video, request)
        seconds = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - processor}
        scene.save(out / f"{folder.name}-{how}.lifted", force=True)
        record = measure_scene(scene, shot) | seconds
        records.append({"scene": folder.name, "focal": how, "warnings": list(scene.warnings), **record})
        write_sheet(out / "sheets" / f"{folder.name}-{how}.png", scene, images)
        shown = ", ".join(f"{key} {record[key]:.3g}" for key in ("median_error", "delta", "rotation", "direction"))
        on_message(f"  {shown}")
    return records


def measure_scene(scene: LiftedScene, shot: Shot) -> dict[str, float]:
    """Return the figures of a tracked scene whose frames are the first ones of a shot, at its size."""
    pixels, seen = scene_tracks(scene)
    count = pixels.shape[1]
    truth, visible = true_tracks(shot, pixels[:, 0])
    return {
        **measure_tracks(pixels, seen, truth[:, :count], visible[:, :count]),
        **measure_camera(scene.world_to_camera, shot.camera.world_to_camera[:count]),
        "focal_ratio": float(scene.intrinsics[0, 0] / shot.camera.intrinsics[0, 0, 0]),
        **{key: float(scene.notes[key] or 0) for key in ("focal_error", "static_share", "reprojection_error")},
    }


def format_table(records: Sequence[dict[str, Any]]) -> str:
    """Return the figures as a Markdown table, and the warnings below it."""
    lines = ["| scene | focal | " + " | ".join(_COLUMNS.values()) + " |", "|---" * (2 + len(_COLUMNS)) + "|"]
    for record in records:
        cells = [f"{record[key]:.2f}" if key != "focal_error" else f"{record[key]:.3f}" for key in _COLUMNS]
        lines.append(f"| {record['scene']} | {record['focal']} | " + " | ".join(cells) + " |")
    for record in records:
        lines += [f"\n{record['scene']}, {record['focal']}: {warning}" for warning in record["warnings"]]
    return "\n".join(lines) + "\n"


def write_sheet(path: Path, scene: LiftedScene, images: np.ndarray, columns: int = 4) -> None:
    """Draw the points that are seen over some frames, each in the color of its place in the first frame."""
    pixels, seen = scene_tracks(scene)
    height, width = images.shape[1:3]
    hue = np.clip(pixels[:, 0, 0] / width * 179, 0, 179)
    value = 120 + 135 * np.clip(pixels[:, 0, 1] / height, 0, 1)
    hsv = np.stack([hue, np.full_like(hue, 230), value], axis=1).astype(np.uint8)[None]
    colors = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0]
    frames = []
    for t in np.linspace(0, len(images) - 1, columns).astype(int):
        picture = images[t].copy()
        for n in np.flatnonzero(seen[:, t])[::2]:
            x, y = np.round(pixels[n, t]).astype(int)
            cv2.circle(picture, (int(x), int(y)), 1, colors[n].tolist(), -1)
        frames.append(picture)
    Image.fromarray(np.concatenate(frames, axis=1)).save(path)
