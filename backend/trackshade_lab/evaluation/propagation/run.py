# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures all arms on all scenes; figures are written scene by scene, so that an evaluation that was stopped resumes.

OUT/settings.json          what is evaluated
OUT/clips/SCENE.json       figures of one scene, by arm
OUT/sheets/SCENE.png       truth and arms, frame by frame
OUT/strips/SCENE/ARM.png   truth, arm, and difference of the frame that shows the most of what is unseen
OUT/report.json report.md  figures of all scenes; tables with intervals
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trackshade.core.errors import UsageError

from ..store import EvaluationStore, write_bytes, write_json
from .arms import ARMS, EvalCase
from .dataset import EvalScene, RenderSettings, open_scene, render_file, render_kind
from .measures import Reference, measure
from .report import format_report, summarize, write_scene_sheet, write_strip

_POINTS = 6000  # surface points whose flicker is measured

OnMessage = Callable[[str], None]


@dataclass(frozen=True)
class PropagationConfig:
    """What to evaluate.

    Attributes:
        data: Folder that scenes are rendered to.
        kinds: Kinds of generated scenes.
        seeds: Seeds of each kind.
        scenes: Scene files, and folders with scenes that are rendered already.
        arms: Names of arms.
        render: How scenes are rendered.
        seed: Random seed of the arms.
        threads: CPU threads of propagation; 0 for its default.
        device: Device that propagation draws frames on; see `Propagation`.
    """

    data: Path
    kinds: tuple[str, ...]
    seeds: tuple[int, ...]
    scenes: tuple[Path, ...]
    arms: tuple[str, ...]
    render: RenderSettings
    seed: int = 0
    threads: int = 0
    device: str = "cpu"

    def settings(self) -> dict[str, Any]:
        """Return what the figures of a scene depend on, as stored in settings.json."""
        render = self.render
        return {
            "size": "×".join(map(str, render.size)),
            "every": render.every,
            "samples": render.samples,
            "seed": self.seed,
        }


def evaluate_propagation(
    config: PropagationConfig, out: Path, on_message: OnMessage, force: bool = False
) -> tuple[str, dict[str, Any]]:
    """Render the scenes, and measure every arm that is not measured yet.

    Args:
        config: What to evaluate.
        out: Folder of the report.
        on_message: Called with lines about the progress.
        force: Whether to discard figures that the folder holds.

    Returns:
        The report as Markdown, and its tables.

    Raises:
        UsageError: for no scenes or arms, or another evaluation in `out`.
        ShotError: for a scene that cannot be opened or rendered; see also `run_addon`.
        OutputError: if `out` cannot be written.
    """
    plan = [("kind", kind, seed) for kind in config.kinds for seed in config.seeds]
    plan += [("path", path, 0) for path in config.scenes]
    if not plan or not config.arms:
        raise UsageError("bad-setting", "There is nothing to evaluate.", "Give scenes and arms.")
    store = EvaluationStore(out, config.settings(), force)
    records = []
    for number, item in enumerate(plan, 1):
        scene = _open(config, item, on_message)
        record = store.read(scene.name) if store.has(scene.name) else {}
        missing = [arm for arm in config.arms if arm not in record.get("tried", [])]
        if missing:
            on_message(f"scene {number} of {len(plan)}, {scene.name}: {', '.join(missing)}")
            record = _measure_scene(config, scene, record, missing, store)
        records.append(record | {"arms": {arm: record["arms"][arm] for arm in config.arms if arm in record["arms"]}})
    summary = summarize(records)
    text = format_report(records, summary, config.settings())
    write_json(out / "report.json", {"settings": config.settings(), "scenes": records, "tables": summary})
    write_bytes(out / "report.md", text.encode())
    return text, summary


def _open(config: PropagationConfig, item: tuple[str, Any, int], on_message: OnMessage) -> EvalScene:
    how, what, seed = item
    if how == "kind":
        return render_kind(config.data, what, seed, config.render, on_message)
    if what.is_dir():
        return open_scene(what)
    return render_file(config.data, what, config.render, on_message)


def _measure_scene(
    config: PropagationConfig, scene: EvalScene, record: dict[str, Any], arms: Sequence[str], store: EvaluationStore
) -> dict[str, Any]:
    """Return the record of a scene with the figures of further arms, stored arm by arm, and draw its pictures."""
    case = EvalCase(scene, config.seed, config.threads, config.device)
    known = np.stack([places.known for places in case.places])
    reference = Reference(scene.frames, known, case.views.follow(_POINTS))
    worst = 1 + int(np.argmin(known[1:].mean(axis=(1, 2))))
    rows = [("truth", scene.frames)]
    record = {
        "name": scene.name,
        "frames": len(scene.truth),
        "shot_frames": len(scene.shot.frame_numbers),
        "unseen": float(1 - known[1:].mean()),
        "arms": dict(record.get("arms", {})),
        "tried": list(record.get("tried", [])),
    }
    for arm in arms:
        result = ARMS[arm].make(case)
        if result is not None:  # the scene has what the arm needs
            figures = measure(reference, result.images)
            seconds = {"seconds_prepare": result.seconds_prepare, "seconds_frame": result.seconds_frame}
            record["arms"][arm] = figures | seconds
            rows.append((arm, result.images))
            title = f"{arm}: {figures['psnr']:.1f} dB, unseen {figures['psnr_unseen']:.1f} dB"
            strip = store.folder / "strips" / scene.name / f"{arm}.png"
            write_strip(strip, scene.frames[worst], result.images[worst], known[worst], title)
        record["tried"].append(arm)
        store.write(record)
    numbers = [float(scene.shot.frame_numbers[t]) for t in scene.truth]
    write_scene_sheet(store.folder / "sheets" / f"{scene.name}.png", numbers, rows)
    return record
