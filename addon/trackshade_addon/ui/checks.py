# SPDX-License-Identifier: GPL-3.0-or-later
"""What an artist should know before paying for a job: rules on facts that `checks_facts` finds. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from trackshade.conventions import number_in_words, size_in_words

ERROR, WARNING, NOTE = "error", "warning", "note"
_RENDERABLE = ("PERSP", "ORTHO")
_ADD_CAMERA = "trackshade.add_camera", "Add Framing Camera"
_NAMES = 3  # that a sentence lists
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
        memory_free: of the main memory, bytes.
        device_free, model_memory: of the device, and what the model needs there, bytes.
        model: title; `model_here` whether its weights are on this computer.
        saved: the file has a name. relative: results are to go beside it.
        picture: path of the first frame's image where one is to be taken; `picture_there` whether it is a file.
        colour: sentences about what changes colours on the way.
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
    memory_free: int | None = None
    device_free: int | None = None
    model_memory: int = 0
    model: str = ""
    model_here: bool = True
    saved: bool = True
    relative: bool = False
    picture: str | None = None
    picture_there: bool = True
    colour: tuple[str, ...] = ()


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
    found = [*_camera(facts), *_frames(facts), *_visible(facts), *_memory(facts), *_files(facts), *_colour(facts)]
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
            "but where it moves, colours are carried over to the nearest points, which may slide.",
            _names(facts.changing), "trackshade.select", "Select",
            {"names": "\n".join(facts.changing)},
        )  # fmt: skip


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
        yield Finding("unsaved", NOTE, "The file was never saved, so results go to the add-on's own folder.", {},
                      "wm.save_as_mainfile", "Save As")  # fmt: skip
    if facts.picture is not None and not facts.picture_there:
        text = "{path} is no file." if facts.picture else "No image is chosen for the first frame."
        yield Finding("picture", ERROR, text, {"path": facts.picture}, "trackshade.use_render", "Render It Instead")


def _colour(facts: Facts) -> Iterator[Finding]:
    for sentence in facts.colour:
        yield Finding("colour", WARNING, "{sentence}", {"sentence": sentence}, "trackshade.use_standard_colours",
                      "Use Standard Colours")  # fmt: skip


def _names(names: tuple[str, ...]) -> dict[str, str]:
    shown = ", ".join(f"'{name}'" for name in names[:_NAMES])
    more = len(names) - _NAMES
    return {"names": f"{shown} (+{more})" if more > 0 else shown}
