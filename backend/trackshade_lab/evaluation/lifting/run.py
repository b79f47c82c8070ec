# SPDX-License-Identifier: GPL-3.0-or-later
"""Lifts crops of panoramas, scenes with true depth, and rooms by their handles, and measures the results.

OUT/pictures/    photo, result and truth from a camera that orbits, for each scene
OUT/control/     scene files of camera control, with their photos
OUT/report.json  all figures
OUT/report.md    tables
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackshade.cli.image_decoder import decode
from trackshade.core.images import write_png
from trackshade.lifting import lift_image
from trackshade.lifting.perspective import is_focal_trusted, is_sure
from trackshade.lifting.vanishing import find_frame, find_segments
from trackshade.shot.lift_request import LiftRequest, ObjectBox
from trackshade.shot.lifted import LiftedScene

from ..rendered import OnMessage
from ..store import to_json, write_bytes, write_json
from .control import control_table, measure_control
from .measures import DepthFigures, compare, lifted_view
from .panoramas import make_crops
from .stages import Stage, handles_of, mesh_depth, room_stage, shot_stage

PLACES = ("room", "corridor", "street")
"""Kinds of Blender scenes that are lifted without depth."""
DEPTH_RATIOS = (0.1, 0.25)
_FOCAL_GOAL = 0.1  # relative


@dataclass(frozen=True)
class LiftingConfig:
    """What to evaluate.

    Attributes:
        parts: "crops", "depth", "walls", "tours", "control" or "speed".
        data: folder that Blender scenes are rendered to.
        kinds: kinds of held-out Blender scenes whose depth is used.
        scenes: scenes of each kind, and rooms.
        crops: crops of each panorama.
        seed: of the crops and of the first scene.
        size: (width, height) of the pictures, pixels.
    """

    parts: tuple[str, ...]
    data: Path
    kinds: tuple[str, ...]
    scenes: int
    crops: int
    seed: int
    size: tuple[int, int]


def evaluate_lifting(config: LiftingConfig, out: Path, on_message: OnMessage) -> tuple[str, dict[str, Any]]:
    """Measure what is wanted. Return the report as Markdown, and its figures."""
    figures: dict[str, Any] = {}
    seeds = range(config.seed, config.seed + config.scenes)
    texts = []
    if "crops" in config.parts:
        figures["crops"] = measure_crops(config.crops, config.seed, on_message)
        texts.append(_crops_table(figures["crops"]))
    if "depth" in config.parts:
        rows = [measure_stage(stage, _by_depth, out, on_message) for stage in _all_stages(config, seeds, on_message)]
        figures["depth"] = rows
        texts.append(_stage_table("With true depth", rows))
    if "walls" in config.parts:
        figures["walls"] = measure_walls(config, seeds, on_message)
        texts.append(_walls_table(figures["walls"]))
    if "tours" in config.parts:
        rows = [measure_stage(room_stage(seed, config.size), _by_handles, out, on_message) for seed in seeds]
        figures["tours"] = rows
        texts.append(_stage_table("Without depth, by the right handles", rows))
    if "control" in config.parts:
        rows = []
        for stage in _all_stages(config, seeds, on_message):
            rows += measure_control(stage, "depth", out, on_message)
            rows += measure_control(stage, "handles", out, on_message) if stage.edges is not None else []
        figures["control"] = rows
        texts.append(control_table(rows))
    if "speed" in config.parts:
        figures["speed"] = measure_speed(on_message)
        lines = [_line(("lifting 1920×1280", "CPU seconds")), "|---|---|"]
        texts.append("\n".join(lines + [_line((name, f"{value:.1f}")) for name, value in figures["speed"].items()]))
    text = "\n\n".join(texts)
    settings = {**dataclasses.asdict(config), "data": str(config.data)}
    write_json(out / "report.json", to_json({"settings": settings, **figures}))
    write_bytes(out / "report.md", text.encode())
    return text, figures


def _all_stages(config: LiftingConfig, seeds: Sequence[int], on_message: OnMessage) -> Iterator[Stage]:
    """Yield rooms of our own, and held-out Blender scenes."""
    for seed in seeds:
        yield room_stage(seed, config.size)
    for kind in config.kinds:
        for seed in seeds:
            yield shot_stage(config.data, kind, seed, config.size, on_message)


def measure_speed(on_message: OnMessage) -> dict[str, float]:
    """Return the CPU seconds of lifting a picture of 1920×1280: without depth, with one object, and with depth."""
    size = (1920, 1280)
    crop = next(make_crops(1, 0, size))
    stage = room_stage(0, size)
    times = {}
    with tempfile.TemporaryDirectory(prefix="trackshade-") as folder:
        photo, depth = Path(folder) / "photo.png", Path(folder) / "depth.npy"
        write_png(photo, crop.colors)
        np.save(depth, stage.depth(stage.world_to_camera))
        requests = {
            "without depth": LiftRequest(),
            "without depth, one object": LiftRequest(boxes=(ObjectBox((600, 500, 1100, 1150)),)),
            "with depth": LiftRequest(depth=str(depth)),
        }
        for name, request in requests.items():
            start = time.process_time()
            lift_image(photo, request, decode=decode)
            times[name] = time.process_time() - start
            on_message(f"{name}: {times[name]:.1f} s")
    return times


def measure_crops(count: int, seed: int, on_message: OnMessage) -> list[dict[str, Any]]:
    """Find the horizon and the focal length of crops of panoramas."""
    rows = []
    for crop in make_crops(count, seed):
        side = max(crop.colors.shape[:2])
        segments = find_segments(crop.colors)
        frame, known = find_frame(segments), find_frame(segments, crop.focal / side)
        row: dict[str, Any] = {"name": crop.name, "sure": False, "trusted": False}
        if frame is not None and known is not None:
            row |= {
                "sure": is_sure(frame),
                "trusted": is_focal_trusted(frame),
                "horizon": _angle(frame.axes[:, 1], crop.down),
                "focal": math.log(frame.focal * side / crop.focal),
                "sure_by_focal": is_sure(known),
                "horizon_by_focal": _angle(known.axes[:, 1], crop.down),
            }
        on_message(f"{crop.name}: {row.get('horizon', math.nan):.2f}°")
        rows.append(row)
    return rows


def _angle(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return math.degrees(math.acos(max(-1.0, min(1.0, float(one @ other)))))


def measure_walls(config: LiftingConfig, seeds: Sequence[int], on_message: OnMessage) -> list[dict[str, Any]]:
    """Lift renders of rooms, corridors and streets without any help, and compare the depth.

    Returns:
        A record for each scene, without and with the true field of view: shares of pixels whose depth is within some
        ratios, once depth has been scaled so that its median is right.
    """
    rows = []
    for kind, seed in itertools.product(PLACES, seeds):
        stage = shot_stage(config.data, kind, seed, config.size, on_message)
        assert stage.render is not None
        truth = stage.depth(stage.world_to_camera)
        fov = 2 * math.degrees(math.atan(stage.size[0] / 2 / stage.intrinsics[0, 0]))
        for given in (None, fov):
            with tempfile.TemporaryDirectory(prefix="trackshade-") as folder:
                path = Path(folder) / "photo.png"
                write_png(path, stage.render)
                scene = lift_image(path, LiftRequest(fov=given), decode=decode)
            meshes = [(np.asarray(mesh.positions[0]), np.asarray(mesh.triangles))
                      for mesh in scene.meshes if mesh.kind != "sky"]  # fmt: skip
            found = mesh_depth(stage.size, scene.intrinsics, scene.world_to_camera[0], meshes).astype(np.float64)
            ratio = found[np.isfinite(truth)] / truth[np.isfinite(truth)]
            off = np.abs(np.log(ratio / np.median(ratio)))
            row: dict[str, Any] = {"name": stage.name, "kind": kind, "given": given is not None}
            row |= {f"within_{share:g}": float((off < math.log1p(share)).mean()) for share in DEPTH_RATIOS}
            on_message(f"{stage.name}: {row['within_0.25']:.0%} of the depth within 25 %")
            rows.append(row)
    return rows


def measure_stage(
    stage: Stage, lift: Callable[[Stage, Path], LiftedScene], out: Path, on_message: OnMessage
) -> dict[str, Any]:
    """Lift a scene's photo and compare the result from cameras that move."""
    photo = stage.picture(stage.world_to_camera)
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="trackshade-") as folder:
        path = Path(folder) / "photo.png"
        write_png(path, photo)
        scene = lift(stage, path)
    result: dict[str, Any] = {
        "name": stage.name,
        "triangles": sum(len(mesh.triangles) for mesh in scene.meshes),
        "moves": {},
    }
    for name, camera in stage.moves().items():
        result["moves"][name] = figures = dataclasses.asdict(compare(stage, scene, camera, photo))
        on_message(f"{stage.name}, {name}: {figures['error_99']:.3f} px")
        if name == "orbit":
            motion = camera @ np.linalg.inv(stage.world_to_camera)
            views = [photo, lifted_view(stage, scene, motion, photo), stage.picture(camera)]
            how = "depth" if lift is _by_depth else "tour"
            write_png(out / "pictures" / f"{stage.name}-{how}.png", np.concatenate(views, axis=1))
    return result


def _by_depth(stage: Stage, photo: Path) -> LiftedScene:
    """Lift with the true depth and field of view."""
    depth = photo.with_suffix(".npy")
    np.save(depth, stage.depth(stage.world_to_camera))
    fov = 2 * math.degrees(math.atan(stage.size[0] / 2 / stage.intrinsics[0, 0]))
    return lift_image(photo, LiftRequest(depth=str(depth), fov=fov), decode=decode)


def _by_handles(stage: Stage, photo: Path) -> LiftedScene:
    """Lift without depth, with the true back wall, horizon and field of view, and boxes around the objects."""
    handles, height = handles_of(stage)
    boxes = tuple(ObjectBox(box) for box in stage.objects)
    request = LiftRequest(perspective=handles, boxes=boxes, camera_height=height)
    return lift_image(photo, request, decode=decode)


def _crops_table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| crops of panoramas | number | horizon, median ° | ≤ 1° | ≤ 2° | focal within 10 % |",
        "|---|---|---|---|---|---|",
    ]
    solved = [row for row in rows if "horizon" in row]
    groups = (
        ("all", solved, "horizon"),
        ("sure", [row for row in solved if row["sure"]], "horizon"),
        ("trusted focal length", [row for row in solved if row["trusted"]], "horizon"),
        ("sure, focal length given", [row for row in solved if row["sure_by_focal"]], "horizon_by_focal"),
    )
    for title, chosen, key in groups:
        if not chosen:
            lines.append(f"| {title} | 0 of {len(rows)} | – | – | – | – |")
            continue
        errors, focals = np.array([row[key] for row in chosen]), np.array([row["focal"] for row in chosen])
        within = "–" if key != "horizon" else f"{(np.abs(focals) <= math.log1p(_FOCAL_GOAL)).mean():.0%}"
        shares = f"{(errors <= 1).mean():.0%} | {(errors <= 2).mean():.0%}"
        lines.append(f"| {title} | {len(chosen)} of {len(rows)} | {np.median(errors):.2f} | {shares} | {within} |")
    return "\n".join(lines)


def _walls_table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| depth by the picture alone | scenes | within 25 %, mean | least | 60 % and more | within 10 %, mean |",
        "|---|---|---|---|---|---|",
    ]
    for kind, given in itertools.product(PLACES, (False, True)):
        chosen = [row for row in rows if (row["kind"], row["given"]) == (kind, given)]
        wide = np.array([row["within_0.25"] for row in chosen])
        title = f"{kind}, field of view given" if given else kind
        near = np.mean([row["within_0.1"] for row in chosen])
        cells = title, len(chosen), f"{wide.mean():.0%}", f"{wide.min():.0%}", int((wide >= 0.6).sum()), f"{near:.0%}"
        lines.append(_line(tuple(map(str, cells))))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _stage_table(title: str, rows: Sequence[dict[str, Any]]) -> str:
    """Return the worst figures of each scene's moves."""
    titles = (title, "triangles", "error, median px", "99 % px", "> .5 px", "wrong depth", "holes", "rotation °",
              "direction °")  # fmt: skip
    lines = [_line(titles), "|---" * len(titles) + "|"]
    for row in rows:
        worst = {
            key: float(np.nanmax([move[key] for move in row["moves"].values()] or [math.nan]))
            for key in DepthFigures.__dataclass_fields__
        }
        lines.append(
            f"| {row['name']} | {row['triangles']:,} | {worst['error']:.3f} | {worst['error_99']:.2f} "
            f"| {worst['beyond']:.2%} | {worst['wrong']:.2%} | {worst['holes']:.2%} "
            f"| {worst['rotation']:.2f} | {worst['direction']:.2f} |"
        )
    return "\n".join(lines)
