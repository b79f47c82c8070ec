# SPDX-License-Identifier: GPL-3.0-or-later
"""What an artist should know before paying for a job: rules on facts that `checks_facts` finds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trackshade.core.geometry import number_in_words, size_in_words

from ..capture.completeness import BLOCKED, FILES, Gap, group_gaps

ERROR, WARNING, NOTE = "error", "warning", "note"
_RENDERABLE = ("PERSP", "ORTHO")
_ADD_CAMERA = "trackshade.add_camera", "Add Framing Camera"
_NAMES = 3  # that a sentence lists
_PICTURE_FITS = {
    "model": "The image ({size}) has the shape of the model's and is scaled to {model}.",
    "scaled": "The image ({size}) shows the scene's frame and is scaled to {model}.",
    "padded": "The image ({size}) shows the scene's frame and is padded to {model}.",
    "cut": "The image ({size}) shows the scene's frame and is cut to {model}.",
    "covering": "The image ({size}) has another shape than the scene's frame ({frame}): it is scaled to cover the "
    "frame and cut, and may not lie over what moves.",
}
SHARE = 0.7  # of the free main memory that a shot may take: Blender, the client and the backend each hold parts of it


@dataclass(frozen=True)
class Facts:
    """What was found; None for what could not be known.

    Attributes:
        frames: scene frames that were looked at.
        first: whether the shot's first frame is among them (then `seen_first` is certain).
        camera: name, or None; `camera_kind` as Blender's, "" where it is no camera.
        plan: how the frames are fitted, in words; `plan_error` the sentence why they cannot be.
        rule: by which they are chosen: "exact", "choose", "step", "resample".
        objects, vertices, sent: what goes to the backend, `sent` in bytes; with `whole` False there is more.
        seen: how many objects may be in the picture in some frame that was looked at, `seen_first` in the first.
        unseen: names of objects that are in none of them.
        changing: names of objects whose vertices are other ones in other frames.
        unrendered: names of visible objects that renders leave out.
        left_out: names of what renders show and the shot does not: hair, volumes, points, strokes.
        displaced: names of objects that the engine displaces by their materials.
        diced: names of objects that Cycles subdivides while it renders.
        unclear: names of objects of which it cannot be told what shows through.
        glass: names of objects that let more than half of the light through; `through` whether they are left out.
        memory_free: of the main memory, bytes.
        device_free, model_memory: of the device, and what the model needs there, bytes.
        model: title; `model_here` whether its weights are on this computer.
        saved: the file has a name. relative: results are to go beside it; `unsaved_results` where there is none.
        picture: path of the first frame's image where one is to be taken; `picture_error` the sentence why it cannot be
            read, `picture_kind` how it will be fitted (see `given_picture.Placement`), `picture_values` the sizes in
            that sentence, `picture_warnings` what of it cannot be read as it is meant.
        color: sentences about what changes colors on the way.
        gaps: what the picture lacks: missing files and data, blocked drivers and scripts.
    """

    frames: tuple[float, ...] = ()
    first: bool = False
    camera: str | None = None
    camera_kind: str = ""
    plan: str = ""
    plan_error: str = ""
    rule: str = "exact"
    objects: int = 0
    vertices: int = 0
    sent: int = 0
    whole: bool = True
    seen: int = 0
    seen_first: int = 0
    unseen: tuple[str, ...] = ()
    changing: tuple[str, ...] = ()
    unrendered: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    displaced: tuple[str, ...] = ()
    diced: tuple[str, ...] = ()
    unclear: tuple[str, ...] = ()
    glass: tuple[str, ...] = ()
    through: bool = False
    memory_free: int | None = None
    device_free: int | None = None
    model_memory: int = 0
    model: str = ""
    model_here: bool = True
    saved: bool = True
    relative: bool = False
    unsaved_results: str = ""
    picture: str | None = None
    picture_error: str = ""
    picture_kind: str = ""
    picture_values: Mapping[str, str] = field(default_factory=dict)
    picture_warnings: tuple[str, ...] = ()
    color: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()


@dataclass(frozen=True)
class Finding:
    """A sentence, and the button that mends it.

    Attributes:
        level: ERROR: the job would fail. WARNING: the result may not be what is wanted. NOTE: good to know.
        text: a pattern whose gaps `values` fill.
        operator: of the button, "" for none; `arguments` are its properties.
        label: on the button.
    """

    code: str
    level: str
    text: str
    values: Mapping[str, Any] = field(default_factory=dict)
    operator: str = ""
    label: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)


def findings(facts: Facts) -> tuple[Finding, ...]:
    """All that is to be said, what would make the job fail first."""
    rules = (_camera, _frames, _visible, _surfaces, _complete, _memory, _files, _color)
    found = [finding for rule in rules for finding in rule(facts)]
    order = (ERROR, WARNING, NOTE)
    return tuple(sorted(found, key=lambda item: order.index(item.level)))


def _camera(facts: Facts) -> Iterator[Finding]:
    if facts.camera is None:
        yield Finding("no-camera", ERROR, "The scene has no camera.", {}, *_ADD_CAMERA)
    elif facts.camera_kind not in _RENDERABLE:
        yield Finding(
            "camera-kind", ERROR, "Camera '{name}' is neither perspective nor orthographic: it has no image plane to "
            "track points on.", {"name": facts.camera}, "trackshade.use_perspective", "Make It Perspective",
        )  # fmt: skip


def _frames(facts: Facts) -> Iterator[Finding]:
    fit = "trackshade.fit_range", "Set the Range"
    if facts.plan_error:
        yield Finding("range", ERROR, "{why}", {"why": facts.plan_error}, *fit)
    elif facts.rule != "exact":
        yield Finding("range", NOTE if facts.rule == "resample" else WARNING, "{how}", {"how": facts.plan}, *fit)


def _visible(facts: Facts) -> Iterator[Finding]:
    if not facts.frames:
        return
    if not facts.objects:
        if not facts.whole:
            return
        if facts.unrendered:
            yield Finding(
                "nothing-visible", ERROR, "Nothing is visible in renders; {names} would be.", _names(facts.unrendered),
                "trackshade.show_in_renders", "Show in Renders",
            )  # fmt: skip
        else:
            yield Finding("nothing-visible", ERROR, "The view layer shows no surface.", {}, "mesh.primitive_monkey_add",
                          "Add a Monkey")  # fmt: skip
        return
    if facts.camera is not None and facts.camera_kind in _RENDERABLE and facts.whole:
        yield from _in_picture(facts)
    if facts.changing:
        yield Finding(
            "topology", WARNING, "The vertices of {names} are made anew in each frame: the shape is followed exactly, "
            "but where it moves, colors are carried over to the nearest points, which may slide.",
            _names(facts.changing), "trackshade.select", "Select",
            {"names": "\n".join(facts.changing)},
        )  # fmt: skip


def _surfaces(facts: Facts) -> Iterator[Finding]:
    """Where the tracks differ from what a render shows."""
    if facts.left_out:
        yield Finding(
            "left-out", WARNING, "Not part of the shot, though renders show it: hair, volumes, points or strokes of "
            "{names}.", _names(facts.left_out), *_select(facts.left_out),
        )  # fmt: skip
    if facts.displaced:
        yield Finding(
            "displaced", WARNING, "The render displaces {names} by materials: the tracks follow the surface without "
            "that.", _names(facts.displaced), *_select(facts.displaced),
        )  # fmt: skip
    if facts.diced:
        yield Finding(
            "diced", NOTE, "Cycles subdivides {names} while it renders: the tracks follow the modifier's own levels.",
            _names(facts.diced), *_select(facts.diced),
        )  # fmt: skip
    if facts.unclear:
        yield Finding(
            "unclear", WARNING, "What shows through {names} cannot be told from the materials: it is tracked as "
            "solid.", _names(facts.unclear), *_select(facts.unclear),
        )  # fmt: skip
    if facts.glass and facts.through:
        yield Finding(
            "glass", NOTE, "More than half of the light passes {names}: the tracks are those of what is behind.",
            _names(facts.glass), "trackshade.toggle_glass", "Track the Glass",
        )  # fmt: skip
    elif facts.glass:
        yield Finding(
            "glass", NOTE, "More than half of the light passes {names}: the tracks are those of the glass.",
            _names(facts.glass), "trackshade.toggle_glass", "Track What Is Behind",
        )  # fmt: skip


def _select(names: tuple[str, ...]) -> tuple[str, str, dict[str, str]]:
    """The button that selects what a finding is about."""
    return "trackshade.select", "Select", {"names": "\n".join(names)}


def _in_picture(facts: Facts) -> Iterator[Finding]:
    frames = ", ".join(f"{frame:g}" for frame in facts.frames)
    if not facts.seen:
        level = ERROR if len(facts.frames) > 1 else WARNING  # there may be something in another frame
        yield Finding("off-screen", level, "Camera '{name}' sees nothing in frame {frames}.",
                      {"name": facts.camera, "frames": frames}, *_ADD_CAMERA)  # fmt: skip
    elif facts.first and not facts.seen_first:
        yield Finding("no-tracks", WARNING, "Nothing is in the picture in the first frame: what comes in later has no "
                      "look to take over.", {}, *_ADD_CAMERA)  # fmt: skip
    elif facts.unseen:
        yield Finding("off-screen", NOTE, "Not in the picture in frame {frames}: {names}.",
                      {"frames": frames, **_names(facts.unseen)}, "trackshade.select", "Select",
                      {"names": "\n".join(facts.unseen)})  # fmt: skip


def _complete(facts: Facts) -> Iterator[Finding]:
    for kind, pattern, names in group_gaps(facts.gaps):
        button: tuple[str, str, Mapping[str, Any]] = ("", "", {})
        if kind in BLOCKED:
            button = "wm.revert_mainfile", "Reload and Run Scripts", {"use_scripts": True}
        elif kind in FILES:
            button = "file.find_missing_files", "Find Missing Files", {}
        values = {"count": len(names), "names": _listed(names)}
        yield Finding("incomplete", WARNING, pattern, values, *button)


def _memory(facts: Facts) -> Iterator[Finding]:
    if facts.memory_free is not None and facts.sent > SHARE * facts.memory_free:
        yield Finding(
            "memory", ERROR if facts.sent > facts.memory_free else WARNING,
            "The shot's {vertices} vertices take about {sent}, and {free} of memory are free.",
            {"vertices": number_in_words(facts.vertices), "sent": size_in_words(facts.sent),
             "free": size_in_words(facts.memory_free)},
            "trackshade.simplify", "Simplify Subdivision",
        )  # fmt: skip
    if not facts.model_here:
        yield Finding("model-absent", ERROR, "{model} is not on this computer yet.", {"model": facts.model},
                      "trackshade.show_preferences", "Models")  # fmt: skip
    elif facts.device_free is not None and facts.model_memory > facts.device_free:
        yield Finding(
            "device-memory", WARNING, "{model} needs about {need} on the device, and {free} are free.",
            {"model": facts.model, "need": size_in_words(facts.model_memory), "free": size_in_words(facts.device_free)},
            "trackshade.free_memory", "Free VRAM",
        )  # fmt: skip


def _files(facts: Facts) -> Iterator[Finding]:
    if facts.relative and not facts.saved:
        yield Finding("unsaved", NOTE, "The file was never saved, so results go to {folder}.",
                      {"folder": facts.unsaved_results}, "wm.save_as_mainfile", "Save As")  # fmt: skip
    if facts.picture is not None:
        yield from _picture(facts)


def _picture(facts: Facts) -> Iterator[Finding]:
    instead = "trackshade.use_render", "Render It Instead"
    if not facts.picture:
        yield Finding("picture", ERROR, "No image is chosen for the first frame.", {}, *instead)
    elif facts.picture_error:
        yield Finding("picture", ERROR, "{why}", {"why": facts.picture_error}, *instead)
    elif facts.picture_kind in _PICTURE_FITS:
        level = WARNING if facts.picture_kind == "covering" else NOTE
        yield Finding("picture-fit", level, _PICTURE_FITS[facts.picture_kind], facts.picture_values)
    for sentence in facts.picture_warnings:
        yield Finding("picture-color", WARNING, "{sentence}", {"sentence": sentence})


def _color(facts: Facts) -> Iterator[Finding]:
    for sentence in facts.color:
        yield Finding("color", WARNING, "{sentence}", {"sentence": sentence}, "trackshade.use_standard_colours",
                      "Use Standard Colors")  # fmt: skip


def _names(names: tuple[str, ...]) -> dict[str, str]:
    return {"names": _listed([f"'{name}'" for name in names])}


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMES
    return ", ".join(names[:_NAMES]) + (f" (+{more})" if more > 0 else "")
