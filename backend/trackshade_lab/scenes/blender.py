# SPDX-License-Identifier: GPL-3.0-or-later
"""Clips that Blender renders: scene descriptions written to files, rendered by the add-on, and stored as shards.

The add-on's command `synthesise` reads the files (see `trackshade_addon.synthetic`). Captions and tracking videos are
made here. A file is an .npz archive without pickled objects. Its array "header" holds UTF-8 JSON:

    size, fps   of the frames
    parts       name, body, material (index), bevel (metres)
    materials   first, second (linear), pattern, scale (cells per metre), direction, shift, roughness, metallic, printed
    world       low, high (linear), blend, strength, and sky_direction (toward the sun of a sky texture, or null)
    lights      type (SUN or AREA), direction (toward the light), distance, and properties of Blender's light
    settings    properties of Blender's scene by their paths; the engine among them is "workbench", "eevee" or "cycles"

The other arrays are "world_to_camera" [T, 4, 4] (OpenCV axes), "intrinsics" [T, 3, 3] pixels, and for part n
"n.vertices" [V, 3], "n.triangles" [F, 3], "n.uv" [F, 3, 2], "n.matrices" [T or 1, 4, 4], and "n.deformed" [T, V, 3] if
it deforms. A printed material n has "n.image" [S, S, 3] uint8 sRGB.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trackshade.cli.blender import run_addon
from trackshade.config import parsing
from trackshade.control.video import tracking_video
from trackshade.core.colors import linear_to_srgb, to_uint8
from trackshade.shot import Shot
from trackshade_lab.scenes import shading
from trackshade_lab.scenes.build import build_scene
from trackshade_lab.scenes.clip import Split, clip_rng, sample_kind
from trackshade_lab.scenes.description import FPS, Part, Scene
from trackshade_lab.scenes.shards import ShardClip, plan_shards, write_shard

ENGINES = ("workbench", "eevee", "cycles")
_ENGINE_SHARES = (0.5, 0.03, 0.47)  # without a GPU, Cycles is faster than EEVEE
_VERSION = 2  # changes when seeds give other clips
_STREAM = 0x626C  # further random numbers of a seed: clips that Blender renders show other scenes
_PATTERNS = ("plain", "striped", "checked", "mottled", "two-tone", "spotted", "shaded", "tiled", "marbled", "lettered",
             "ringed", "zigzag")  # fmt: skip  # by texture number
_ONLY_PRINTED = ("lettered", "zigzag")  # patterns that the add-on has no shader nodes for
_IMAGE_SIDE, _STAGE_IMAGE_SIDE, _STAGE_TILE = 256, 768, 6.0  # pixels, pixels, metres from the center to the edge


def sample_description(
    seed: int, split: Split, size: tuple[int, int], num_frames: int, engine: str | None = None
) -> tuple[Scene, dict[str, Any]]:
    """Sample the scene of a seed and how Blender renders it, with `engine` or, if it is None, a random one.

    Returns:
        The scene, and its lights, world, and render settings as the file's header has them.
    """
    rng = clip_rng(seed, split, _STREAM)
    scene = build_scene(rng, sample_kind(rng, split, None), size, num_frames, detailed=True)
    random_engine = str(rng.choice(ENGINES, p=_ENGINE_SHARES))
    look = _sample_light(rng, scene) | {"settings": _sample_settings(rng, engine or random_engine)}
    look["printed"] = [bool(rng.random() < 0.25) for _ in scene.parts]
    look["bevels"] = [float(rng.uniform(0.01, 0.05) * (rng.random() < 0.5)) for _ in scene.parts]
    return scene, look


def _sample_light(rng: np.random.Generator, scene: Scene) -> dict[str, Any]:
    """Sample a world and lamps: a sun, one to three areas, both, or a sky."""
    kind = str(rng.choice(["sun", "areas", "sky", "both"], p=[0.4, 0.25, 0.15, 0.2]))
    warm = [1.0, float(rng.uniform(0.85, 1.0)), float(rng.uniform(0.7, 1.0))]
    lights: list[dict[str, Any]] = []
    if kind in ("sun", "both"):
        data = {"energy": rng.uniform(1.5, 4.5), "angle": rng.uniform(0, 0.2), "color": warm}
        lights.append({"type": "SUN", "direction": scene.sun.tolist(), "distance": 10.0, "data": data})
    for n in range({"areas": int(rng.integers(1, 4)), "both": 1}.get(kind, 0)):
        turn = 2.1 * n + rng.uniform(-0.3, 0.3)
        c, s = np.cos(turn), np.sin(turn)
        direction = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]) @ scene.sun
        color = warm if n == 0 else rng.uniform(0.5, 1.0, 3).tolist()
        data = {"size": rng.uniform(0.5, 3.0), "energy": rng.uniform(150, 600) / (1 + n), "color": color}
        distance = rng.uniform(3.5, 6.0)
        lights.append({"type": "AREA", "direction": direction.tolist(), "distance": distance, "data": data})
    world = {
        "low": scene.sky[0].tolist(),
        "high": scene.sky[1].tolist(),
        "blend": rng.uniform(0.2, 0.8),
        "strength": rng.uniform(0.12, 0.22) if kind == "sky" else rng.uniform(0.4, 1.1),
        "sky_direction": scene.sun.tolist() if kind == "sky" else None,
    }
    return {"lights": lights, "world": world}


def _sample_settings(rng: np.random.Generator, engine: str) -> dict[str, Any]:
    """Sample the quality and the look of an engine's frames."""
    transform = str(rng.choice(["Standard", "AgX", "Filmic"], p=[0.5, 0.35, 0.15]))
    settings: dict[str, Any] = {"render.engine": engine, "view_settings.view_transform": transform}
    if engine == "cycles":
        # Few samples without denoising: first frames of real scenes are noisy, too. The map of the sky's light, which
        # is computed again for each frame, would at its usual size take longer than the frame.
        settings |= {
            "cycles.device": "CPU", "cycles.use_denoising": False, "cycles.samples": int(rng.choice([8, 12, 16])),
            "cycles.use_adaptive_sampling": False, "cycles.max_bounces": 2,
            "cycles.use_animated_seed": bool(rng.random() < 0.5),
            "world.cycles.sampling_method": "MANUAL", "world.cycles.sample_map_resolution": 64,
        }  # fmt: skip
    elif engine == "eevee":
        settings["eevee.taa_render_samples"] = 8
    else:
        light = str(rng.choice(["STUDIO", "MATCAP", "FLAT"], p=[0.7, 0.2, 0.1]))
        settings |= {
            "view_settings.view_transform": "Standard", "display.render_aa": "8", "display.shading.light": light,
            "display.shading.color_type": "TEXTURE",
            "display.shading.show_shadows": bool(rng.random() < 0.6 and light != "FLAT"),
            "display.shading.shadow_intensity": rng.uniform(0.2, 0.6),
            "display.shading.show_cavity": bool(rng.random() < 0.3),
            "display.shading.show_object_outline": bool(rng.random() < 0.2),
            "display.shading.show_specular_highlight": bool(rng.random() < 0.7),
            "display.light_direction": rng.uniform((-1, -1, 0.3), (1, 1, 1)).tolist(),
        }  # fmt: skip
    return settings


def write_description(path: Path, scene: Scene, look: dict[str, Any], size: tuple[int, int]) -> None:
    """Write the file of a scene, whose look is as sampled by `sample_description`; see the module for its form."""
    arrays = {"world_to_camera": scene.world_to_camera, "intrinsics": scene.intrinsics}
    parts, materials = [], []
    is_workbench = look["settings"]["render.engine"] == "workbench"  # which shows images, but no nodes
    for n, (part, body) in enumerate(zip(scene.parts, scene.body, strict=True)):
        half = _STAGE_TILE if body == 0 else float(np.abs(part.rest).max())
        welded = _weld(part)
        arrays |= {f"{n}.{name}": array for name, array in welded.items()}
        arrays[f"{n}.uv"] = _project_on_box(part.rest, part.triangles, half)[welded["kept"]]
        del arrays[f"{n}.kept"]
        pattern = _PATTERNS[int(part.material[shading.TEXTURE])]
        printed = pattern in _ONLY_PRINTED or (pattern != "plain" and (is_workbench or look["printed"][n]))
        if printed:
            arrays[f"{n}.image"] = _print_pattern(part.material, half, _STAGE_IMAGE_SIDE if body == 0 else _IMAGE_SIDE)
        materials.append(_describe_material(part.material, pattern) | {"printed": printed})
        bevel = look["bevels"][n] if body > 0 and part.deformed is None else 0.0
        name = f"Stage {n}" if body == 0 else f"Body {body} part {n}"
        parts.append({"name": name, "body": int(body), "material": n, "bevel": bevel})
    header = {"size": list(size), "fps": FPS, "parts": parts, "materials": materials}
    header |= {key: look[key] for key in ("lights", "world", "settings")}
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with open(path, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _describe_material(row: np.ndarray, pattern: str) -> dict[str, Any]:
    return {
        "first": row[shading.BASE : shading.BASE + 3].tolist(),
        "second": row[shading.SECOND : shading.SECOND + 3].tolist(),
        "pattern": pattern,
        "scale": float(row[shading.SCALE]),
        "direction": row[shading.DIRECTION : shading.DIRECTION + 3].tolist(),
        "shift": float(row[shading.SHIFT]),
        "roughness": 0.9 if row[shading.GLOSS] == 0 else 0.45 if row[shading.GLOSS] < 0.5 else 0.2,
        "metallic": float(row[shading.METAL] > 0),
    }


def _weld(part: Part) -> dict[str, np.ndarray]:
    """Merge the vertices that shapes double along sharp edges, so that edges can be beveled.

    Returns:
        The arrays of a part by their names in a file, and "kept" [F]: which triangles are left.
    """
    _, first, number = np.unique(np.round(part.rest, 4), axis=0, return_index=True, return_inverse=True)
    triangles = number.ravel()[part.triangles].astype(np.int32)
    kept = (triangles != np.roll(triangles, 1, axis=1)).all(axis=1)
    is_static = np.array_equal(part.matrices, np.broadcast_to(part.matrices[:1], part.matrices.shape))
    welded = {
        "vertices": part.rest[first],
        "triangles": triangles[kept],
        "matrices": part.matrices[:1] if is_static else part.matrices,
        "kept": kept,
    }
    if part.deformed is not None:
        welded["deformed"] = part.deformed[:, first]
    return welded


def _project_on_box(rest: np.ndarray, triangles: np.ndarray, half: float) -> np.ndarray:
    """Return image coordinates [F, 3, 2] of corners, seen along the axis that each triangle faces most.

    The image covers `half` metres from the origin to each side.
    """
    corners = rest[triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    axes = np.array([(1, 2), (0, 2), (0, 1)])[np.abs(normals).argmax(axis=1)]
    return (np.take_along_axis(corners, axes[:, None], axis=2) / (2 * half) + 0.5).astype(np.float32)


def _print_pattern(row: np.ndarray, half: float, side: int) -> np.ndarray:
    """Draw a material's pattern on a plane, [side, side, 3] uint8 sRGB; `half` as in `_project_on_box`."""
    row = row.copy()
    flat = row[shading.DIRECTION : shading.DIRECTION + 2]
    flat[:] = flat / np.linalg.norm(flat) if np.linalg.norm(flat) > 0.1 else (1.0, 0.0)
    row[shading.DIRECTION + 2] = 0.0
    across = (np.arange(side) + 0.5) / side * 2 * half - half
    v, u = np.meshgrid(across, across, indexing="ij")
    # At this height the plane passes through the middle of a layer of cells.
    height = (0.5 - row[shading.SHIFT] % 1.0) / max(float(row[shading.SCALE]), 1e-6)
    share = np.empty(side * side)
    shading.texture_shares(np.stack([u.ravel(), v.ravel(), np.full(u.size, height)], axis=1), row, share)
    colors = row[shading.BASE : shading.BASE + 3] + share[:, None] * (
        row[shading.SECOND : shading.SECOND + 3] - row[shading.BASE : shading.BASE + 3]
    )
    return to_uint8(linear_to_srgb(colors)).reshape(side, side, 3)


def render_shards(
    out_dir: Path | str,
    count: int,
    first_seed: int = 0,
    split: Split = "train",
    *,
    size: tuple[int, int] = (144, 96),
    num_frames: int = 17,
    engine: str | None = None,
    blender: str | None = None,
    shard: int = 20,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Render clips with Blender and write them as shards, as `generate_shards` does with the numpy renderer.

    `engine` is one of `ENGINES`, random for each clip if None, and `blender` the path of the Blender to run; see
    `run_addon`, which states what else is raised. `progress` is called after each clip.
    """
    settings = {"rendered": _VERSION, "split": split, "size": list(size), "frames": num_frames, "engine": engine}
    folders, missing = plan_shards(out_dir, "shard-rendered-{seed:06d}", count, first_seed, shard, settings)
    done = count - sum(plan["count"] for plan in missing.values())
    for folder, plan in missing.items():

        def report(more: int, done: int = done) -> None:
            if progress:
                progress(done + more, count)

        with tempfile.TemporaryDirectory(prefix="trackshade-rendered-") as place:
            scenes = []
            for seed in range(plan["first_seed"], plan["first_seed"] + plan["count"]):
                scene, look = sample_description(seed, split, size, num_frames, engine)
                write_description(Path(place) / f"{seed:06d}.npz", scene, look, size)
                scenes.append(scene)
            arguments = parsing.to_arguments("synthesise", {"descriptions": place, "out": place})
            run_addon(arguments, blender, lambda message, report=report: report(int(message.get("step") or 0)))
            write_shard(folder, plan, _read_clips(Path(place), scenes))
        report(plan["count"])
        done += plan["count"]
    return folders


def _read_clips(folder: Path, scenes: Sequence[Scene]) -> Iterator[ShardClip]:
    """Read what the add-on rendered, in the order of the scenes."""
    for path, scene in zip(sorted(folder.glob("*.shot")), scenes, strict=True):
        images = sorted(path.with_suffix(".render").glob("*.png"))
        video = np.stack([np.asarray(Image.open(image).convert("RGB")) for image in images])
        tracking = tracking_video(Shot.load(path), threads=1).frames
        yield video, tracking, scene.caption, f"rendered {scene.kind}", scene.color
