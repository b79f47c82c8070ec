# SPDX-License-Identifier: GPL-3.0-or-later
"""What the user should know before starting a job: rules on the facts about a scene."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from trackshade.config.memory_presets import choose_preset
from trackshade.core.text import format_count, format_size

from ..capture.completeness import BLOCKED, FILES, group_gaps
from ..messages import texts
from .census import CAMERA_TYPES
from .facts import Facts

ERROR, WARNING, NOTE = "error", "warning", "note"
_LISTED_NAMES = 3
MEMORY_FRACTION = 0.7  # of the free memory that a shot may take: Blender, client and backend each hold parts of it


class Button(NamedTuple):
    """A button that fixes a problem: operator, label, and properties of the operator."""

    operator: str
    label: str
    arguments: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Finding:
    """A sentence, and the button that fixes the problem."""

    code: str  # identifier of the rule
    level: str  # ERROR: the job would fail. WARNING: the result may not be as intended. NOTE: good to know.
    text: str  # a pattern that `values` fill
    values: Mapping[str, Any] = field(default_factory=dict)  # values by name
    button: Button | None = None  # None where no button helps


_ADD_CAMERA = Button("trackshade.add_camera", "Add Framing Camera")
_SET_RANGE = Button("trackshade.fit_range", "Set Frame Range")
_RENDER_FIRST_FRAME = Button("trackshade.use_render", "Render First Frame")
_SIMPLIFY = Button("trackshade.simplify", "Simplify Subdivision")
_STANDARD_COLORS = Button("trackshade.use_standard_colours", "Use Standard Colors")

# By the fact that names the objects; each gets a button that selects them.
_SURFACES = {
    "left_out": Finding(
        "left-out",
        WARNING,
        "Renders show hair, volumes, points or strokes that are not part of the shot: {names}.",
    ),
    "displaced": Finding(
        "displaced",
        WARNING,
        "Materials displace these objects in renders, but the tracks follow the surface without displacement: {names}.",
    ),
    "diced": Finding(
        "diced",
        NOTE,
        "Cycles subdivides these objects while rendering, but the tracks follow the levels of the modifier: {names}.",
    ),
    "unclear": Finding(
        "unclear",
        WARNING,
        "The transparency of these objects cannot be determined, so they are tracked as opaque: {names}.",
    ),
}
_IMAGE_FITS = {
    "model": "The image ({size}) has the aspect ratio of the shot and is scaled to {model}.",
    "scaled": "The image ({size}) shows the scene's frame and is scaled to {model}.",
    "padded": "The image ({size}) shows the scene's frame and is padded to {model}.",
    "cut": "The image ({size}) shows the scene's frame and is cropped to {model}.",
    "covering": "The image ({size}) has another aspect ratio than the scene's frame ({frame}). It is scaled and "
    "cropped to fill the frame and may not match the moving objects.",
}


def findings(facts: Facts) -> tuple[Finding, ...]:
    """Return all findings, those that would make the job fail first."""
    rules = (_camera, _frames, _visible, _surfaces, _complete, _memory, _files, _color)
    found = [finding for rule in rules for finding in rule(facts)]
    return tuple(sorted(found, key=lambda item: (ERROR, WARNING, NOTE).index(item.level)))


def _camera(facts: Facts) -> Iterator[Finding]:
    if facts.camera is None:
        yield Finding("no-camera", ERROR, "The scene has no camera.", {}, _ADD_CAMERA)
    elif facts.camera_kind not in CAMERA_TYPES:
        text = "Camera '{name}' is neither perspective nor orthographic, so points cannot be tracked through it."
        button = Button("trackshade.use_perspective", "Make Perspective")
        yield Finding("camera-kind", ERROR, text, {"name": facts.camera}, button)


def _frames(facts: Facts) -> Iterator[Finding]:
    if facts.plan_error:
        yield Finding("range", ERROR, "{sentence}", {"sentence": facts.plan_error}, _SET_RANGE)
    elif facts.rule != "exact":
        level = NOTE if facts.rule == "resample" else WARNING
        yield Finding("range", level, "{sentence}", {"sentence": facts.model_frames}, _SET_RANGE)


def _visible(facts: Facts) -> Iterator[Finding]:
    if not facts.frames or not (facts.objects or facts.whole):
        return
    if not facts.objects and facts.unrendered:
        text = "Nothing is visible in renders. These objects are visible only in the viewport: {names}."
        button = Button("trackshade.show_in_renders", "Show in Renders")
        yield Finding("nothing-visible", ERROR, text, _names(facts.unrendered), button)
    elif not facts.objects:
        button = Button("mesh.primitive_monkey_add", "Add Monkey")
        yield Finding("nothing-visible", ERROR, "The view layer has no visible surface.", {}, button)
    elif facts.camera is not None and facts.camera_kind in CAMERA_TYPES and facts.whole:
        yield from _in_view(facts)
    if facts.objects and facts.changing:
        text = (
            "The vertices of these objects change from frame to frame. Their shape is followed exactly, but on moving "
            "parts colors are transferred to the nearest points and may slide: {names}."
        )
        yield _about("topology", WARNING, text, facts.changing)


def _in_view(facts: Facts) -> Iterator[Finding]:
    frames = ", ".join(f"{frame:g}" for frame in facts.frames)
    one = len(facts.frames) == 1  # there may be something in another frame
    if not facts.seen:
        text = (
            "Camera '{name}' sees nothing in frame {frames}."
            if one
            else "Camera '{name}' sees nothing in frames {frames}."
        )
        level, values = WARNING if one else ERROR, {"name": facts.camera, "frames": frames}
        yield Finding("off-screen", level, text, values, _ADD_CAMERA)
    elif facts.first and not facts.seen_first:
        text = (
            "The camera sees nothing in the first frame. Objects that come into view later cannot take over its look."
        )
        yield Finding("no-tracks", WARNING, text, {}, _ADD_CAMERA)
    elif facts.unseen:
        text = "Out of view in frame {frames}: {names}." if one else "Out of view in frames {frames}: {names}."
        yield _about("off-screen", NOTE, text, facts.unseen, frames=frames)


def _surfaces(facts: Facts) -> Iterator[Finding]:
    """Find where the tracks differ from what a render shows."""
    for fact, finding in _SURFACES.items():
        names = getattr(facts, fact)
        if names:
            yield replace(finding, values=_names(names), button=_select(names))
    if facts.glass:
        text = "More than half of the light passes through these objects, but their surface is tracked: {names}."
        if facts.through:
            text = (
                "More than half of the light passes through these objects, so what is behind them is tracked: {names}."
            )
        button = Button("trackshade.toggle_glass", "Track Glass" if facts.through else "Track What Is Behind")
        yield Finding("glass", NOTE, text, _names(facts.glass), button)


def _complete(facts: Facts) -> Iterator[Finding]:
    for kind, pattern, names in group_gaps(facts.gaps):
        button = None
        if kind in BLOCKED:
            button = Button("wm.revert_mainfile", "Reload and Run Scripts", {"use_scripts": True})
        elif kind in FILES:
            button = Button("file.find_missing_files", "Find Missing Files")
        yield Finding("incomplete", WARNING, pattern, {"count": len(names), "names": _list_names(names)}, button)


def _memory(facts: Facts) -> Iterator[Finding]:
    if facts.memory_free is not None and facts.sent > MEMORY_FRACTION * facts.memory_free:
        level = ERROR if facts.sent > facts.memory_free else WARNING
        text = "The shot needs about {sent} of memory for {vertices} vertices, and {free} is free."
        sent, free = format_size(facts.sent), format_size(facts.memory_free)
        values = {"vertices": format_count(facts.vertices), "sent": sent, "free": free}
        yield Finding("memory", level, text, values, _SIMPLIFY)
    if not facts.model_here:
        button = Button("trackshade.show_preferences", "Models")
        yield Finding("model-absent", ERROR, "{model} has not been downloaded yet.", {"model": facts.model}, button)
    elif facts.device_free is not None and facts.model_memory > facts.device_free:
        text = "{model} needs about {need} of memory on the device, and {free} is free."
        need, free = format_size(facts.model_memory), format_size(facts.device_free)
        values, button = (
            {"model": facts.model, "need": need, "free": free},
            Button("trackshade.free_memory", "Free VRAM"),
        )
        preset = choose_preset(facts.memory, facts.model_memory, facts.device_free, facts.preset_memory)
        if facts.device_is_gpu and preset.name != "full":
            text = "{model} needs about {need} of memory on the device, and {free} is free. {how}"
            values["how"] = texts.memory_text(preset)
        yield Finding("device-memory", WARNING, text, values, button)


def _files(facts: Facts) -> Iterator[Finding]:
    if facts.relative and not facts.saved:
        button = Button("wm.save_as_mainfile", "Save As")
        text = "The file has not been saved, so results are stored in {folder}."
        yield Finding("unsaved", NOTE, text, {"folder": facts.unsaved_results}, button)
    if facts.picture == "":
        yield Finding("picture", ERROR, "No image is selected for the first frame.", {}, _RENDER_FIRST_FRAME)
    elif facts.picture and facts.picture_error:
        yield Finding("picture", ERROR, "{sentence}", {"sentence": facts.picture_error}, _RENDER_FIRST_FRAME)
    elif facts.picture and facts.picture_kind in _IMAGE_FITS:
        level = WARNING if facts.picture_kind == "covering" else NOTE
        yield Finding("picture-fit", level, _IMAGE_FITS[facts.picture_kind], facts.picture_values)
    for sentence in facts.picture_warnings:
        yield Finding("picture-color", WARNING, "{sentence}", {"sentence": sentence})


def _color(facts: Facts) -> Iterator[Finding]:
    for sentence in facts.color:
        yield Finding("color", WARNING, "{sentence}", {"sentence": sentence}, _STANDARD_COLORS)


def _about(code: str, level: str, text: str, names: tuple[str, ...], **values: Any) -> Finding:
    """Return a finding about objects, with a button that selects them."""
    return Finding(code, level, text, {**_names(names), **values}, _select(names))


def _select(names: tuple[str, ...]) -> Button:
    return Button("trackshade.select", "Select", {"names": "\n".join(names)})


def _names(names: tuple[str, ...]) -> dict[str, str]:
    return {"names": _list_names([f"'{name}'" for name in names])}


def _list_names(names: Sequence[str]) -> str:
    more = len(names) - _LISTED_NAMES
    return ", ".join(names[:_LISTED_NAMES]) + (f" (+{more})" if more > 0 else "")
