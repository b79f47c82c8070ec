# SPDX-License-Identifier: GPL-3.0-or-later
"""Bakes a result's textures, into the folder `texture` in it.

texture.json                 the textures, by mesh, and what was left out; written last
001-Body.png                 the texture, 8-bit sRGB, gaps filled
001-Body.coverage.png        white where some frame shows the texel
001-Body.variation.png       the heat map: how much the texel's color varies through time
001-Body.pc2, reach/0001.png for projecting, if that was requested; see `texture.projection`
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trackshade.core.atomic_files import atomic_folder
from trackshade.core.errors import CancelledError, OutputError, ShotError, TrackshadeError, UsageError
from trackshade.core.file_names import file_name
from trackshade.core.json_files import read_object
from trackshade.results.cells.views import Views, render_views
from trackshade.results.frames import read_frame
from trackshade.results.record import format_json, shot_digest
from trackshade.results.texture.bake import (
    LARGEST,
    SMALLEST,
    BakedTexture,
    bake_texture,
    check_coordinates,
    choose_size,
)
from trackshade.results.texture.heat import LEVELS, heat_map
from trackshade.results.texture.projection import write_reach, write_tracks
from trackshade.shot import Shot
from trackshade.shot.cameras import stored_camera_names, unroll_cameras

FORMAT = 1
FOLDER = "texture"
TRACKS = "tracks.shot"  # in the result
LARGEST_DEFAULT = 2048
_MAX_SHARED = 0.02  # fraction of texels that several points may share without a warning

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class BakeOptions:
    """What to bake."""

    size: int | None = None  # texels along a side; None for the resolution of the frames, at most 2048
    objects: tuple[str, ...] = ()  # names of the meshes; empty for all
    coordinates: Path | None = None  # shot file with the texture coordinates to use instead of the result's, by mesh
    shot: Path | None = None  # shot file for a result that does not hold its own
    projection: bool = False  # whether to write the files for projecting, too

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> BakeOptions:
        """Return the options of plain values; paths are strings."""
        paths = {key: Path(data[key]) for key in ("coordinates", "shot") if data.get(key) is not None}
        return BakeOptions(
            data.get("size"), tuple(data.get("objects", ())), projection=bool(data.get("projection")), **paths
        )


def bake_result(
    folder: Path,
    options: BakeOptions | None = None,
    progress: Progress = lambda message, fraction: None,
    cancel: Callable[[], bool] = lambda: False,
    threads: int | None = None,
) -> dict[str, Any]:
    """Bake a result's meshes into its folder `texture`, replacing an earlier one.

    A mesh that cannot be baked is left out, with a reason.

    Args:
        folder: the result.
        options: what to bake.
        progress: called with a message and the fraction of the whole that is done.
        cancel: called now and then; returns whether to stop.
        threads: number of threads; one for each core if None.

    Returns:
        The content of `texture.json`.

    Raises:
        OutputError: there is no result, it is damaged, or the folder cannot be written.
        ShotError: its tracks are missing or of another shot, or no mesh can be texture.
        UsageError: the size is out of range, or a name unknown.
        CancelledError: `cancel` returned True.
    """
    options = options or BakeOptions()
    threads = threads or os.cpu_count() or 1
    if options.size is not None and not SMALLEST <= options.size <= LARGEST:
        fix = f"Choose a size from {SMALLEST} to {LARGEST}."
        raise UsageError("bad-texture-size", f"A texture of {options.size} × {options.size} cannot be made.", fix)
    shot = _read_shot(folder, options.shot)
    if shot.more_cameras and options.projection:
        raise UsageError(
            "one-camera-projected",
            f"{folder} has the results of {len(shot.cameras)} cameras, and a projection has one.",
            "Name the folder of one of the cameras.",
        )
    files = _frame_files(folder, shot)
    shot = unroll_cameras(shot)
    meshes = _select_meshes(shot, options.objects)
    video = _read_frames(folder, files, shot.size)
    given = {} if options.coordinates is None else _read_coordinates(options.coordinates, shot)

    def report(message: str, fraction: float) -> None:
        if cancel():
            raise CancelledError
        progress(message, fraction)

    drawn = itertools.count()  # frames

    def report_frame() -> None:
        report("Looking at the frames", 0.2 * next(drawn) / len(shot.frame_numbers))

    report_frame()
    views = render_views(shot, threads, report_frame)
    try:
        with atomic_folder(folder / FOLDER, single_writer=True) as partial:
            record = _bake_meshes(partial, views, video, meshes, given, options, threads, report)
            (partial / "texture.json").write_text(format_json(record) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(
            "output-unwritable",
            f"The textures cannot be written to {folder}: {error.strerror or error}.",
            "Make the result's folder writable, or free some space there.",
        ) from error
    return record


def _read_shot(folder: Path, other: Path | None) -> Shot:
    """Return the shot that a result was made from: its own, or that of the file `other` if it is the same one."""
    try:
        record = read_object(folder / "job.json")
        digest = record["shot"]["digest"]
    except FileNotFoundError as error:
        fix = "Choose the folder of a finished job."
        raise OutputError("no-result", f"There is no result in {folder}: job.json is missing.", fix) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(
            "damaged-result", f"The result in {folder} is damaged: job.json cannot be read.", "Shade the shot again."
        ) from error
    path = other or folder / TRACKS
    if other is None and not path.is_file():
        raise ShotError(
            "tracks-missing",
            f"The result in {folder} does not hold its shot ({TRACKS}), so its surfaces are not known.",
            "Shade the shot again, or name the shot file that it was made from.",
        )
    shot = Shot.load(path)
    if shot_digest(shot) != digest:
        fix = "Name the right one."
        raise ShotError("another-shot", f"{path} is not the shot that the result in {folder} was made from.", fix)
    return shot


def _frame_files(folder: Path, shot: Shot) -> list[Path]:
    """Return the file of each sample of the unrolled shot in a result."""
    names = [""]
    if shot.more_cameras:
        names = stored_camera_names(shot.cameras, lambda name: (folder / name).is_dir())
    files = [folder / name / "frames" / f"{t + 1:04d}.exr" for t in range(len(shot.frame_numbers)) for name in names]
    return [path if path.is_file() else path.with_suffix(".png") for path in files]


def _read_frames(folder: Path, files: Sequence[Path], size: tuple[int, int]) -> np.ndarray:
    """Return the shaded frames of a result, [T, H, W, 3] uint8."""
    video = np.empty((len(files), size[1], size[0], 3), np.uint8)
    for t, path in enumerate(files):
        try:
            video[t] = read_frame(path)
        except (ShotError, ValueError) as error:
            raise OutputError(
                "damaged-result",
                f"The result in {folder} is damaged: frames/{path.name} cannot be read.",
                "Shade the shot again.",
            ) from error
    return video


def _select_meshes(shot: Shot, names: Sequence[str]) -> list[int]:
    """Return the indices of the meshes with these names, or of all that are drawn in color."""
    drawn = [n for n, track in enumerate(shot.meshes) if not track.holdout and track.visible.any()]
    if not names:
        return drawn
    selected = [n for n in drawn if shot.meshes[n].name in names]
    missing = sorted(set(names) - {shot.meshes[n].name for n in selected})
    if missing:
        known = ", ".join(dict.fromkeys(shot.meshes[n].name for n in drawn)) or "none"
        raise UsageError("unknown-mesh", f"The shot shows no mesh '{missing[0]}'.", f"It shows: {known}.")
    return selected


def _read_coordinates(path: Path, shot: Shot) -> dict[tuple[int, int], np.ndarray]:
    """Return coordinates [F, 3, 2] by mesh and geometry, from another shot's meshes with the same triangles."""
    other = Shot.load(path)
    other.check_values()
    by_name: dict[str, list[int]] = {}
    for n, track in enumerate(other.meshes):
        by_name.setdefault(track.name, []).append(n)
    found: dict[tuple[int, int], np.ndarray] = {}
    for n, track in enumerate(shot.meshes):
        namesakes = by_name.get(track.name, [])
        if not namesakes:
            continue
        sources = [other.geometries[index] for index in other.meshes[namesakes.pop(0)].geometries]
        for index in track.geometries:
            triangles = shot.geometries[index].triangles
            fits = (item.uv for item in sources if item.uv is not None and np.array_equal(item.triangles, triangles))
            uv = next(fits, None)
            if uv is not None:
                found[n, index] = uv
    return found


def _bake_meshes(
    folder: Path,
    views: Views,
    video: np.ndarray,
    indices: Sequence[int],
    given: dict[tuple[int, int], np.ndarray],
    options: BakeOptions,
    threads: int,
    report: Progress,
) -> dict[str, Any]:
    shot = views.shot
    meshes, left_out = [], []
    for number, n in enumerate(indices):
        name = shot.meshes[n].name
        stem = f"{n:03d}-{file_name(name, 'mesh')}"
        start = 0.2 + 0.75 * number / len(indices)

        def report_mesh(fraction: float, start: float = start, name: str = name) -> None:
            report(f"Baking {name}", start + 0.75 * fraction / len(indices))

        report_mesh(0.0)
        try:
            uv = _coordinates_of(shot, n, given)
            largest = max(uv.values(), key=len)
            size = options.size or choose_size(views, n, largest, LARGEST_DEFAULT)
            texture = bake_texture(views, video, n, uv, size, threads, report_mesh)
        except ShotError as error:
            left_out.append({"name": name, **error.to_dict()})
            continue
        entry = {"name": name, "index": n, **_write_texture(folder, stem, texture), **_statistics(texture)}
        if options.projection:
            entry["tracks"] = f"{stem}.pc2"
            entry["vertices"] = write_tracks(folder / entry["tracks"], shot, n)
        meshes.append(entry)
    if not meshes:
        if left_out:
            raise TrackshadeError.from_dict(left_out[0])
        raise ShotError("no-tracks", "The shot shows no mesh to bake.", "Make meshes visible, and shade it again.")
    record: dict[str, Any] = {"format": FORMAT, "heat_levels": LEVELS, "meshes": meshes, "left_out": left_out}
    if options.projection:
        report("Writing depths", 0.96)
        record["projection"] = write_reach(folder, views)
    record["warnings"] = [
        f"{entry['shared']:.0%} of the texels of '{entry['name']}' show several places of it, as with mirrored or "
        "stacked UVs: their colors are mixed there."
        for entry in meshes
        if entry["shared"] > _MAX_SHARED
    ]
    record["warnings"] += [f"'{item['name']}' was left out. {item['message']}" for item in left_out]
    record["warnings"] += [text for entry in meshes for text in _change_warnings(shot, entry["index"], given, options)]
    return record


def _coordinates_of(shot: Shot, n: int, given: dict[tuple[int, int], np.ndarray]) -> dict[int, np.ndarray]:
    """Return texture coordinates [F, 3, 2] of a mesh by geometry, once for geometries with the same points.

    If any are given for the mesh, only these count: the shot's own may be of another map.
    """
    track = shot.meshes[n]
    given_here = {index: uv for (mesh, index), uv in given.items() if mesh == n}
    found: dict[int, np.ndarray] = {}
    for index in track.geometries:
        uv = given_here.get(index) if given_here else shot.geometries[index].uv
        if uv is not None and not any(shot.geometries[index].same_points(shot.geometries[k]) for k in found):
            found[index] = uv
    if not found:
        fix = "Bake it from Blender, which unwraps such meshes on a UV map of their own."
        raise ShotError("no-coordinates", f"'{track.name}' has no texture coordinates.", fix)
    for uv in found.values():
        check_coordinates(track.name, uv)
    return found


def _change_warnings(shot: Shot, n: int, given: dict[tuple[int, int], np.ndarray], options: BakeOptions) -> list[str]:
    """Return warnings about a mesh whose topology changes."""
    track = shot.meshes[n]
    if not track.changes:
        return []
    frame = f"{shot.frame_numbers[track.changes[0][0]]:g}"
    baked = [shot.geometries[index] for index in _coordinates_of(shot, n, given)]
    used = sum(any(shot.geometry_of(n, t).same_points(item) for item in baked) for t in range(len(shot.frame_numbers)))
    warnings = []
    if used < len(shot.frame_numbers):
        warnings.append(
            f"The topology of '{track.name}' changes from frame {frame} on: its texture is made from the {used} of "
            f"{len(shot.frame_numbers)} frames whose texture coordinates are known."
        )
    if options.projection:
        warnings.append(
            f"The topology of '{track.name}' changes from frame {frame} on: the projection shows it in the frames that "
            "have the vertices of the first one, and the baked texture in the others."
        )
    return warnings


def _write_texture(folder: Path, stem: str, texture: BakedTexture) -> dict[str, Any]:
    files = {"texture": f"{stem}.png", "coverage": f"{stem}.coverage.png", "variation": f"{stem}.variation.png"}
    Image.fromarray(texture.color).save(folder / files["texture"], compress_level=1)
    Image.fromarray(texture.covered.astype(np.uint8) * 255).save(folder / files["coverage"], compress_level=1)
    Image.fromarray(heat_map(texture.variation, texture.island)).save(folder / files["variation"], compress_level=1)
    return files


def _statistics(texture: BakedTexture) -> dict[str, Any]:
    known = texture.variation[np.isfinite(texture.variation)]
    return {
        "size": texture.color.shape[0],
        "covered": round(texture.coverage, 4),
        "uncovered_texels": int((texture.island & ~texture.covered).sum()),
        "shared": round(texture.shared, 4),
        "variation_mean": round(float(known.mean()), 3) if len(known) else None,
        "variation_high": round(float(np.percentile(known, 95)), 3) if len(known) else None,
    }
