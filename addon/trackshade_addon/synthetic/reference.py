# SPDX-License-Identifier: GPL-3.0-or-later
"""Captures a scene and renders some of its frames and its light, to evaluate propagation and tracking.

    scene.shot        every frame of the scene's range, at the size of the true frames
    truth/0000.png    true frames, named by sample: the first and the last one, and some between them
    video/0000.png    every third sample at half the size, as from a perfect video model; not of long scenes
    clay/0000.npy     [h, w, 3] float16, scene-linear, half the size: clay renders (`capture.clay`) of these samples,
                      and of those that the embedded model makes, spread evenly
    settings.json     what the files were rendered with

`trackshade evaluate propagation` reads the folder, and `trackshade evaluate tracking` its shot and true frames.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from trackshade.config.registry import spec
from trackshade.core.atomic_files import atomic_file
from trackshade.core.errors import OutputError, UsageError
from trackshade.core.fitting import fit_frames, fit_size
from trackshade.core.images import write_png
from trackshade.shot import Shot

from ..capture import capture, frame_rate
from ..capture.clay import override_materials, render_clay_sample
from ..capture.first_frame import SampleRenderer
from ..capture.request import ShotRequest

VIDEO_STEP, MAX_VIDEO = 3, 49  # samples from one frame of video/ to the next; most samples of a scene with them
_FRAMES = 33  # samples that `every` is meant for; of longer scenes, as many are rendered


def render_reference(
    folder: Path,
    description: Mapping[str, Any],
    *,
    size: tuple[int, int],
    every: int,
    samples: int,
    report: Callable[[str, int, int], None],
    all_frames: bool = False,
    force: bool = False,
) -> dict[str, Any]:
    """Capture the scene that is open, and render what is missing in a folder. The scene's materials are gray then.

    Args:
        folder: Folder for the files.
        description: What scene it is, as plain JSON values.
        size: Largest width and height of the true frames, pixels; the scene's aspect is kept.
        every: Distance of the true frames, of a scene of 33 frames. Longer ones have as many true frames.
        samples: Cycles' samples per pixel of frames; they are denoised.
        report: Called with the name of a file, the number of files written, and their total.
        all_frames: Whether to render all true frames, without light and ideal video; `every` is ignored.
        force: Whether to replace files of other settings.

    Returns:
        The command's result: the folder, the samples with a true frame, the number of files rendered, and warnings.

    Raises:
        OutputError: if the folder holds another scene or other settings, or cannot be written.
        ShotError: if the scene cannot be captured or rendered.
    """
    if every < 1 or samples < 1:
        raise UsageError("bad-setting", "The distance of frames and the samples must be 1 or more.")
    scene = bpy.context.scene
    full = _set_render(scene, size, samples)
    # Noise that stands still on the screen would look like points that do not move.
    scene.cycles.use_animated_seed = all_frames
    settings = {**description, "size": list(full), "samples": samples}
    first, last = scene.frame_start, scene.frame_end
    count = last - first + 1
    try:
        _claim(folder, settings, force)
        frame_map = fit_frames(first, last, 1, frame_rate(scene), (count,))
        shot = capture(scene, frame_map=frame_map, size_fit=fit_size(full, (1.0, 1.0), (full,)))
        shot.save(folder / "scene.shot", force=True)
        truth = list(range(count)) if all_frames else true_samples(count, every)
        video = range(0, count, VIDEO_STEP) if count <= MAX_VIDEO else ()
        pictures = [("truth", t) for t in truth]
        if not all_frames:
            made = (
                np.rint(np.linspace(0, count - 1, min(count, *spec("mini").allowed_frame_counts))).astype(int).tolist()
            )
            pictures += [("video", t) for t in video] + [("clay", t) for t in {*truth, *video, *made}]
        missing = sorted({item for item in pictures if not _path(folder, *item).exists()}, key=lambda item: item[1])
        _render_missing(scene, shot, folder, missing, report)
    except OSError as error:
        raise OutputError("output-unwritable", f"{folder} cannot be written: {error.strerror or error}.") from error
    return {
        "out": str(folder),
        "files": {"scene": str(folder)},
        "samples": truth,
        "rendered": len(missing),
        "warnings": list(shot.warnings),
    }


def true_samples(count: int, every: int) -> list[int]:
    """Return the samples with a true frame, of a scene with `count` samples; see `render_reference`."""
    step = max(1, round(every * (count - 1) / (_FRAMES - 1))) if count > _FRAMES else every
    return sorted({*range(0, count, step), count - 1})


def _path(folder: Path, kind: str, t: int) -> Path:
    return folder / kind / f"{t:04d}.{'npy' if kind == 'clay' else 'png'}"


def _claim(folder: Path, settings: Mapping[str, Any], force: bool) -> None:
    """Write the settings of a folder, or compare them."""
    path = folder / "settings.json"
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != settings:
        if not force:
            raise OutputError(
                "other-scene",
                f"{folder} holds another scene, or other settings of this one.",
                "Choose another folder, or --force to replace it.",
            )
        for kind in ("truth", "clay", "video"):
            for old in (folder / kind).glob("[0-9]*.*"):
                old.unlink()
    for kind in ("truth", "clay", "video"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as part:
        part.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def _set_render(scene: bpy.types.Scene, size: tuple[int, int], samples: int) -> tuple[int, int]:
    """Set Cycles and the size; returns the latter: even numbers of square pixels, in the scene's aspect."""
    render = scene.render
    width, height = render.resolution_x * render.pixel_aspect_x, render.resolution_y * render.pixel_aspect_y
    scale = min(size[0] / width, size[1] / height)
    full = max(2, 2 * round(width * scale / 2)), max(2, 2 * round(height * scale / 2))
    render.resolution_x, render.resolution_y = full
    render.resolution_percentage, render.pixel_aspect_x, render.pixel_aspect_y = 100, 1.0, 1.0
    render.engine, render.use_border, render.use_motion_blur = "CYCLES", False, False
    render.use_compositing = render.use_sequencer = render.film_transparent = False
    cycles = scene.cycles
    cycles.device, cycles.samples, cycles.use_adaptive_sampling = "CPU", samples, False
    cycles.use_denoising, cycles.denoiser, cycles.max_bounces = True, "OPENIMAGEDENOISE", 6
    return full


def _render_missing(
    scene: bpy.types.Scene,
    shot: Shot,
    folder: Path,
    missing: list[tuple[str, int]],
    report: Callable[[str, int, int], None],
) -> None:
    """Render files, (folder, sample) in the order of time."""
    half = (shot.size[0] // 2, shot.size[1] // 2)
    small_fit = fit_size(shot.size, (1.0, 1.0), (half,))
    small_camera = replace(shot.camera, intrinsics=small_fit.apply(shot.camera.intrinsics))
    small = SampleRenderer(replace(shot, size=half, camera=small_camera), scene)
    steps = iter(range(len(missing)))

    def begin(renderer: SampleRenderer, kind: str, t: int) -> Path:
        path = _path(folder, kind, t)
        report(f"{kind}/{path.name}", next(steps), len(missing))
        for _ in renderer.approach(t):
            pass
        return path

    with SampleRenderer(shot, scene) as renderer:
        for kind, t in missing:
            if kind != "clay":
                with atomic_file(begin(renderer, kind, t)) as part:
                    write_png(part, (renderer if kind == "truth" else small).picture(t))
    layer = scene.view_layers[shot.view_layer]
    override_materials(layer, ShotRequest().glass)
    with SampleRenderer(shot, scene, layer) as renderer, tempfile.TemporaryDirectory(prefix="trackshade-") as temporary:
        for kind, t in missing:
            if kind == "clay":
                with atomic_file(begin(renderer, kind, t)) as part:
                    np.save(part, render_clay_sample(renderer, shot, t, half, Path(temporary, "clay.exr")))
