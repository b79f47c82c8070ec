# SPDX-License-Identifier: GPL-3.0-or-later
"""Imports USD with its frame rate and range.

Blender's importer does not set the scene's rate, nor its range if the file does not state one. Both are read with USD's
Python package `pxr`, which comes with Blender. In a build without it, they are read from the text form alone.
"""

from __future__ import annotations

import glob
import importlib.machinery
import importlib.util
import math
import re
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy

from .exchange import Imported, damaged_error, import_error, run, set_rate, unsupported_error

_RATE = 24.0  # frames per second of a stage that does not state its rate
_REASON = re.compile(r" : '(.*?)\s*'(?=\s*(?:Error in|$))", re.DOTALL)
_SAMPLES = re.compile(r"\btimeSamples\s*=\s*\{([^}]*)\}")
_TIME = re.compile(r"(?:^|,)\s*([-+.\deE]+)\s*:")
_HEADER = re.compile(r"^\s*(timeCodesPerSecond|framesPerSecond)\s*=\s*([-+.\deE]+)", re.MULTILINE)


@dataclass(frozen=True)
class _Stage:
    """What was read from a USD stage."""

    rate: float = _RATE  # time codes per second; Blender takes a time code for a frame
    range: tuple[float, float] | None = None  # first and last time code, stated or else animated; None if nothing moves
    missing: tuple[str, ...] = ()  # names of missing layers, payloads and textures
    source: Any = None  # the stage; as long as it exists, Blender's importer does not read the layers again


def import_usd(file: Path, animation: str | None) -> Imported:
    """Import a USD file of any form, with its range and rate.

    Raises:
        ShotError: the file cannot be read.
    """
    if file.suffix.lower() == ".usdz":
        _check_archive(file)
    pxr = _pxr()
    stage = _read_text(file) if pxr is None else _read(pxr, file)
    warnings: tuple[str, ...] = ()
    if stage is None:
        warnings = (f"The rate of {file.name} could not be read; {_RATE:g} frames per second are assumed.",)
        stage = _Stage()
    run(file, bpy.ops.wm, "usd_import", set_frame_range=True)
    scene = bpy.context.scene
    set_rate(scene, stage.rate)
    found = stage.range
    if (found is None or pxr is None) and scene.frame_end > scene.frame_start:  # which Blender has read from the file
        found = scene.frame_start, scene.frame_end
    whole = None if found is None else (math.floor(found[0]), math.ceil(found[1]))
    return Imported(whole, warnings, stage.missing)


def _pxr() -> Any:
    """Import the modules Tf, Usd and UsdUtils of USD; None if there are none.

    Blender as a Python module has them in a folder that is not on the path.
    """
    if "pxr" not in sys.modules and importlib.util.find_spec("pxr") is None:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        folder = Path(bpy.utils.resource_path("LOCAL"), "python", "lib", version, "site-packages")
        spec = importlib.machinery.PathFinder.find_spec("pxr", [str(folder)])
        if spec is None or spec.loader is None:
            return None
        module = importlib.util.module_from_spec(spec)
        sys.modules["pxr"] = module
        spec.loader.exec_module(module)
    try:
        from pxr import Tf, Usd, UsdUtils  # pyright: ignore[reportMissingImports]
    except ImportError:  # built for another Python, say
        return None
    return Tf, Usd, UsdUtils


def _read(pxr: Any, file: Path) -> _Stage:
    tf, usd, utils = pxr
    try:
        stage = usd.Stage.Open(str(file))
    except tf.ErrorException as error:
        raise import_error(file, _reason(error)) from error
    rate = stage.GetTimeCodesPerSecond()
    start, end = stage.GetStartTimeCode(), stage.GetEndTimeCode()
    found = (start, end) if stage.HasAuthoredTimeCodeRange() and end > start else _sampled_range(usd, stage)
    missing = [path for path in utils.ComputeAllDependencies(str(file))[2] if not _has_tiles(path)]
    composed = _composed_files(stage)
    names = sorted({name for path in missing if (name := _file_name(path)) in composed})
    return _Stage(rate if rate > 0 else _RATE, found, tuple(names), stage)


def _file_name(path: str) -> str:
    return re.split(r"[\\/]", path)[-1]


def _composed_files(stage: Any) -> set[str]:
    """Return the names of the files that the composed stage uses, without inactive prims and variants not selected."""
    found = set()
    for error in stage.GetCompositionErrors():
        site = stage.GetPrimAtPath(str(error.rootSite).rpartition("<")[2].rstrip(">"))
        if not site or site.IsActive():
            found.update(map(_file_name, re.findall("@([^@]+)@", str(error))))
    for prim in stage.Traverse():
        for attribute in prim.GetAuthoredAttributes():
            values = [attribute.Get(), *(attribute.Get(time) for time in attribute.GetTimeSamples()[:1000])]
            for value in values if str(attribute.GetTypeName()).startswith("asset") else ():
                paths = [value] if hasattr(value, "path") else value or ()
                found.update(_file_name(item.path) for item in paths)
    return found


def _has_tiles(path: str) -> bool:
    """Return whether a path stands for the tiles of a texture, some of which exist."""
    return "<UDIM>" in path and bool(glob.glob(glob.escape(path).replace("<UDIM>", "[0-9][0-9][0-9][0-9]")))


def _sampled_range(usd: Any, stage: Any) -> tuple[float, float] | None:
    """Return the first and last time code at which an attribute has a sample; None if nothing moves."""
    low, high = math.inf, -math.inf
    for prim in stage.Traverse(usd.TraverseInstanceProxies()):
        for attribute in prim.GetAuthoredAttributes():
            if attribute.ValueMightBeTimeVarying():
                samples = attribute.GetTimeSamples()
                if samples:
                    low, high = min(low, samples[0]), max(high, samples[-1])
    return (low, high) if high > low else None


def _reason(error: Exception) -> str:
    """Return the first reason in a USD error, without the places in USD's source."""
    reasons = [text for text in _REASON.findall(str(error)) if not text.startswith("Failed to open layer")]
    return reasons[0] if reasons else "it is not a USD file, or was cut short"


def _check_archive(file: Path) -> None:
    """Raise ShotError for a .usdz that USD cannot read, since USD does not say why."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except zipfile.BadZipFile as error:
        raise damaged_error(file, "it is not a complete archive") from error
    if any(entry.flag_bits & 1 for entry in entries):
        raise unsupported_error(file, "it is encrypted", "Export it without a password.")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise unsupported_error(file, "its archive is compressed", "Pack it again without compression.")


def _read_text(file: Path) -> _Stage | None:
    """Read the text form without USD's package; return None for the binary forms."""
    with file.open("rb") as stream:
        if stream.read(5) != b"#usda":
            return None
        text = stream.read().decode("utf-8", "replace")
    found = dict(_HEADER.findall(text[: 1 << 16]))
    rate = float(found.get("timeCodesPerSecond") or found.get("framesPerSecond") or _RATE)
    samples = [float(time) for block in _SAMPLES.findall(text) for time in _TIME.findall(block)]
    moves = bool(samples) and max(samples) > min(samples)
    return _Stage(rate if rate > 0 else _RATE, (min(samples), max(samples)) if moves else None)
