# SPDX-License-Identifier: GPL-3.0-or-later
"""A result's textures: the folder `texture` in it, with what each mesh was given and what is missing.

texture.json                 what there is, by mesh; written last
001-Body.png                 the texture, 8-bit sRGB, gaps filled
001-Body.coverage.png        white where some frame shows the texel
001-Body.variation.png       the heat map: how much the texel's color varies through time
001-Body.pc2, reach/0001.png for projecting, where that was asked for; see `projection`
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from trackshade.core.atomic_files import atomic_folder
from trackshade.core.errors import CancelledError, OutputError, ShotError, TrackshadeError, UsageError
from trackshade.results.record import pretty, shot_digest
from trackshade.results.texture.bake import LARGEST, SMALLEST, Baked, bake, check_coordinates, fitting_size
from trackshade.results.texture.heat import LEVELS, heat
from trackshade.results.texture.projection import write_reach, write_tracks
from trackshade.results.texture.views import Views, look
from trackshade.shot import Shot

FORMAT = 1
FOLDER = "texture"
TRACKS = "tracks.shot"  # in the result
LARGEST_BY_ITSELF = 2048
_MIXED = 0.02  # share of texels that several places may share before it is said

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Wanted:
    """What to bake.

    Attributes:
        size: texels along a side; None for what the pictures show, at most 2048.
        objects: names of the meshes; none for all.
        coordinates: shot file with the texture coordinates to take instead of the result's own, by mesh.
        shot: shot file for a result that does not keep its own.
        projection: writes what projecting needs, too.
    """

    size: int | None = None
    objects: tuple[str, ...] = ()
    coordinates: Path | None = None
    shot: Path | None = None
    projection: bool = False

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Wanted:
        """From plain values, paths as text."""
        paths = {key: Path(data[key]) for key in ("coordinates", "shot") if data.get(key) is not None}
        return Wanted(
            data.get("size"), tuple(data.get("objects", ())), projection=bool(data.get("projection")), **paths
        )


def bake_result(
    folder: Path,
    wanted: Wanted | None = None,
    progress: Progress = lambda what, share: None,
    cancel: Callable[[], bool] = lambda: False,
    threads: int | None = None,
) -> dict[str, Any]:
    """Bakes a result's meshes into its folder `texture`, in the place of an earlier one; the content of texture.json.

    A mesh that cannot be baked is left out with a reason; all of them cannot be is an error.

    Args:
        progress: called with what is being done and the share of the whole that is done.
        cancel: asked now and then whether to end.

    Raises:
        OutputError: no result, a damaged one, or the folder cannot be written. ShotError: its tracks are missing or
            of another shot, or no mesh can be baked. UsageError: a size or a name that cannot be. Cancelled.
    """
    wanted = wanted or Wanted()
    threads = threads or os.cpu_count() or 1
    if wanted.size is not None and not SMALLEST <= wanted.size <= LARGEST:
        raise UsageError(
            "bad-texture-size", f"A texture of {wanted.size} × {wanted.size} cannot be made.",
            f"Choose a size from {SMALLEST} to {LARGEST}.",
        )  # fmt: skip
    shot = read_shot(folder, wanted.shot)
    chosen = _chosen(shot, wanted.objects)
    video = read_frames(folder, len(shot.frame_numbers), shot.size)
    given = {} if wanted.coordinates is None else _coordinates(wanted.coordinates, shot)

    def tell(what: str, share: float) -> None:
        if cancel():
            raise CancelledError
        progress(what, share)

    seen = 0

    def looked() -> None:
        nonlocal seen
        seen += 1
        tell("Looking at the frames", 0.2 * seen / len(shot.frame_numbers))

    tell("Looking at the frames", 0.0)
    views = look(shot, threads, looked)
    try:
        with atomic_folder(folder / FOLDER, single_writer=True) as partial:
            record = _bake_all(partial, views, video, chosen, given, wanted, threads, tell)
            (partial / "texture.json").write_text(pretty(record) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(
            "output-unwritable",
            f"The textures cannot be written to {folder}: {error.strerror or error}.",
            "Make the result's folder writable, or free some space there.",
        ) from error
    return record


def read_shot(folder: Path, other: Path | None = None) -> Shot:
    """The shot that a result was made from: its own, or that of the file `other` if it is the same one.

    Raises:
        OutputError: there is no result. ShotError: its shot is missing, damaged or another one.
    """
    try:
        record = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        digest = record["shot"]["digest"]
    except FileNotFoundError as error:
        raise OutputError(
            "no-result", f"There is no result in {folder}: job.json is missing.", "Choose the folder of a finished job."
        ) from error
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
        raise ShotError(
            "another-shot", f"{path} is not the shot that the result in {folder} was made from.", "Name the right one."
        )
    return shot


def read_frames(folder: Path, count: int, size: tuple[int, int]) -> np.ndarray:
    """[T, H, W, 3] uint8, the shaded frames of a result. Raises OutputError where one is missing or another size."""
    video = np.empty((count, size[1], size[0], 3), np.uint8)
    for t in range(count):
        path = folder / "frames" / f"{t + 1:04d}.png"
        try:
            with Image.open(path) as image:
                video[t] = np.asarray(image.convert("RGB"))
        except (OSError, ValueError, UnidentifiedImageError) as error:
            raise OutputError(
                "damaged-result", f"The result in {folder} is damaged: frames/{path.name} cannot be read.",
                "Shade the shot again.",
            ) from error  # fmt: skip
    return video


def _chosen(shot: Shot, names: Sequence[str]) -> list[int]:
    """The meshes to bake: those of these names, or all that are drawn in color."""
    drawn = [n for n, track in enumerate(shot.meshes) if not track.holdout and track.visible.any()]
    if not names:
        return drawn
    chosen = [n for n in drawn if shot.meshes[n].name in names]
    missing = sorted(set(names) - {shot.meshes[n].name for n in chosen})
    if missing:
        known = ", ".join(dict.fromkeys(shot.meshes[n].name for n in drawn)) or "none"
        raise UsageError("unknown-mesh", f"The shot shows no mesh '{missing[0]}'.", f"It shows: {known}.")
    return chosen


def _coordinates(path: Path, shot: Shot) -> dict[tuple[int, int], np.ndarray]:
    """Coordinates [F, 3, 2] by mesh and geometry, of those meshes of another shot file that have the same triangles."""
    other = Shot.load(path)
    other.check_values()
    by_name: dict[str, list[int]] = {}
    for n, track in enumerate(other.meshes):
        by_name.setdefault(track.name, []).append(n)
    found: dict[tuple[int, int], np.ndarray] = {}
    for n, track in enumerate(shot.meshes):
        same = by_name.get(track.name, [])
        if not same:
            continue
        there = [other.geometries[index] for index in other.meshes[same.pop(0)].geometries]
        for index in track.geometries:
            triangles = shot.geometries[index].triangles
            fits = (item.uv for item in there if item.uv is not None and np.array_equal(item.triangles, triangles))
            uv = next(fits, None)
            if uv is not None:
                found[n, index] = uv
    return found


def _bake_all(
    folder: Path,
    views: Views,
    video: np.ndarray,
    chosen: Sequence[int],
    given: dict[tuple[int, int], np.ndarray],
    wanted: Wanted,
    threads: int,
    tell: Progress,
) -> dict[str, Any]:
    shot = views.shot
    meshes, left_out = [], []
    for place, n in enumerate(chosen):
        name = shot.meshes[n].name
        stem = f"{n:03d}-{re.sub(r'[^A-Za-z0-9_.-]+', '_', name)[:60]}"
        begun = 0.2 + 0.75 * place / len(chosen)

        def one(share: float, begun: float = begun, name: str = name) -> None:
            tell(f"Baking {name}", begun + 0.75 * share / len(chosen))

        one(0.0)
        try:
            uv = _uv(shot, n, given)
            largest = max(uv.values(), key=len)
            size = wanted.size or fitting_size(views, n, largest, LARGEST_BY_ITSELF)
            baked = bake(views, video, n, uv, size, threads, one)
        except ShotError as error:
            left_out.append({"name": name, **error.to_dict()})
            continue
        entry = {"name": name, "index": n, **_write(folder, stem, baked), **_figures(baked)}
        if wanted.projection:
            entry["tracks"] = f"{stem}.pc2"
            entry["vertices"] = write_tracks(folder / entry["tracks"], shot, n)
        meshes.append(entry)
    if not meshes:
        if left_out:
            raise TrackshadeError.from_dict(left_out[0])
        raise ShotError("no-tracks", "The shot shows no mesh to bake.", "Make meshes visible, and shade it again.")
    record: dict[str, Any] = {"format": FORMAT, "heat_levels": LEVELS, "meshes": meshes, "left_out": left_out}
    if wanted.projection:
        tell("Writing depths", 0.96)
        record["projection"] = write_reach(folder, views)
    record["warnings"] = [
        f"{entry['shared']:.0%} of the texels of '{entry['name']}' show several places of it, as with mirrored or "
        "stacked UVs: their colors are mixed there."
        for entry in meshes
        if entry["shared"] > _MIXED
    ]
    record["warnings"] += [f"'{item['name']}' was left out. {item['message']}" for item in left_out]
    record["warnings"] += [text for entry in meshes for text in _of_changes(shot, entry["index"], given, wanted)]
    return record


def _uv(shot: Shot, n: int, given: dict[tuple[int, int], np.ndarray]) -> dict[int, np.ndarray]:
    """Coordinates [F, 3, 2] of a mesh, by geometry; one of those with the same points. Where any are given, only these
    count: the shot's own may be of another map."""
    track = shot.meshes[n]
    own = {index: uv for (mesh, index), uv in given.items() if mesh == n}
    found: dict[int, np.ndarray] = {}
    for index in track.geometries:
        uv = own.get(index) if own else shot.geometries[index].uv
        if uv is not None and not any(shot.geometries[index].same_points(shot.geometries[k]) for k in found):
            found[index] = uv
    if not found:
        raise ShotError(
            "no-coordinates",
            f"'{track.name}' has no texture coordinates.",
            "Bake it from Blender, which unwraps such meshes on a UV map of their own.",
        )
    for uv in found.values():
        check_coordinates(track.name, uv)
    return found


def _of_changes(shot: Shot, n: int, given: dict[tuple[int, int], np.ndarray], wanted: Wanted) -> list[str]:
    """What is said of a mesh whose topology changes."""
    track = shot.meshes[n]
    if not track.changes:
        return []
    frame = f"{shot.frame_numbers[track.changes[0][0]]:g}"
    baked = [shot.geometries[index] for index in _uv(shot, n, given)]
    used = sum(any(shot.geometry_of(n, t).same_points(item) for item in baked) for t in range(len(shot.frame_numbers)))
    said = []
    if used < len(shot.frame_numbers):
        said.append(
            f"The topology of '{track.name}' changes from frame {frame} on: its texture is made from the {used} of "
            f"{len(shot.frame_numbers)} frames whose texture coordinates are known."
        )
    if wanted.projection:
        said.append(
            f"The topology of '{track.name}' changes from frame {frame} on: the projection shows it in the frames that "
            "have the vertices of the first one, and the baked texture in the others."
        )
    return said


def _write(folder: Path, stem: str, baked: Baked) -> dict[str, Any]:
    files = {"texture": f"{stem}.png", "coverage": f"{stem}.coverage.png", "variation": f"{stem}.variation.png"}
    Image.fromarray(baked.color).save(folder / files["texture"], compress_level=1)
    Image.fromarray(baked.covered.astype(np.uint8) * 255).save(folder / files["coverage"], compress_level=1)
    Image.fromarray(heat(baked.variation, baked.island)).save(folder / files["variation"], compress_level=1)
    return files


def _figures(baked: Baked) -> dict[str, Any]:
    known = baked.variation[np.isfinite(baked.variation)]
    return {
        "size": baked.color.shape[0],
        "covered": round(baked.coverage, 4),
        "uncovered_texels": int((baked.island & ~baked.covered).sum()),
        "shared": round(baked.shared, 4),
        "variation_mean": round(float(known.mean()), 3) if len(known) else None,
        "variation_high": round(float(np.percentile(known, 95)), 3) if len(known) else None,
    }
