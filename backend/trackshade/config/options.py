# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of `render`, `control`, `export`, `shade` and `place`: one table.

The command line and Blender's own build their parsers from it, so the same option means the same everywhere.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from trackshade.config.settings import CONTROLS, GLASS, HAIR, TRACKING_RANGES, ShadeSettings
from trackshade.core.errors import UsageError
from trackshade.core.fitting import FRAME_RULES, SIZE_MODES


@dataclass(frozen=True)
class Option:
    """One option of a command, or its positional argument where the name has no dashes.

    Attributes:
        name: as typed, such as "--frame-rule"; values are keyed by its words, such as "frame_rule".
        kind: str, int, float, or bool for a switch.
        help: what it does, in words.
        default: value where it is left out.
        choices: the allowed values, or empty.
        metavar: what stands for the value in the help.
        short: a one-letter form, such as "-o".
        required: a positional that must be there.
        dest: what its value is keyed by, where that is not the name's words.
    """

    name: str
    kind: type
    help: str
    default: Any = None
    choices: tuple[str, ...] = ()
    metavar: str = ""
    short: str = ""
    required: bool = False
    dest: str = ""

    @property
    def key(self) -> str:
        return self.dest or self.name.lstrip("-").replace("-", "_")

    @property
    def positional(self) -> bool:
        return not self.name.startswith("-")


SCENE = Option("scene", str, "Scene file: .blend, .glb, .gltf, .usd*, .abc, .fbx, .obj, .ply or .stl.",
               metavar="SCENE")  # fmt: skip
SHOT = Option("shot", str, "Shot file made by export, or the folder of tracks that a render has kept.", metavar="SHOT",
              required=True)  # fmt: skip
PICTURE = Option("picture", str, "Picture file: PNG, JPEG, TIFF, WebP, BMP, OpenEXR or Radiance HDR.",
                 metavar="PICTURE", required=True)  # fmt: skip
OF_SHOT = Option("--shot", str, "Shot file that the picture is for.", metavar="SHOT")
RESULT = Option("result", str, "Folder of a result.", metavar="RESULT", required=True)
OPENING = (
    Option("--scene", str, "Scene by name, where the file has several; the active one if left out.", metavar="NAME",
           dest="scene_name"),
    Option("--animation", str, "Animation (FBX: take) by name, where a .glb, .gltf or .fbx file has several; the first "
           "if left out.", metavar="NAME"),
    Option("--trust-scripts", bool, "Let a .blend run the Python scripts and drivers that it holds.", False),
)  # fmt: skip
STRICT = Option("--strict", bool, "Refuse a scene with missing files or blocked scripts, instead of warning.", False)
WHAT = (
    Option("--camera", str, "Camera by name; 'auto' makes one that frames the animated content.", metavar="NAME|auto"),
    Option("--frames", str, "First and last scene frame, and the step.", metavar="A-B[:STEP]"),
    Option("--frame-rule", str, "How the range is fitted to the model's frames.", "auto", FRAME_RULES),
    Option("--size", str, "How the picture is fitted to the model's: widened (pad) or cut (crop); and its size where "
           "the model has several.", "pad", metavar="pad|crop|WxH[:pad|crop]"),
    Option("--view-layer", str, "View layer to capture; the active one if left out.", metavar="NAME"),
    Option("--model", str, "Model by name; see 'trackshade models'.", "mini", metavar="NAME"),
    Option("--first-frame", str, "'render' renders it with the scene's own engine, 'none' goes without, or a picture "
           "file.", "render", metavar="render|none|PATH"),
)  # fmt: skip
SURFACES = (
    Option("--glass", str, "Surfaces that let more than half of the light through: part of the shot (opaque), or not "
           "(through).", "opaque", GLASS),
    Option("--hair", str, "Hair: not part of the shot (none), or as thin tubes, which can be large (strands).", "none",
           HAIR),
)  # fmt: skip
INPUT_RENDER = Option("--input-render", bool, "Render every frame too, to compare with the result.", False)
RENDERS = Option("--input-render", bool, "Render every frame too, into a folder of pictures beside the shot.", False)
SAMPLING_OPTIONS = (
    Option("--prompt", str, "What to show.", "", metavar="TEXT"),
    Option("--negative-prompt", str, "What to avoid; the model's own if left out.", metavar="TEXT"),
    Option("--steps", int, "Denoising steps; the model's own number if left out.", metavar="N"),
    Option("--guidance", float, "Classifier-free guidance; the model's own if left out.", metavar="X"),
    Option("--seed", int, "Seed of the noise.", 0, metavar="N"),
    Option("--control", str, "Color every surface point, or sampled points.", "mesh", CONTROLS),
    Option("--points", int, "How many points, with --control points.", 4900, metavar="N"),
    Option("--control-scale", float, "How strongly the tracks lead: 1 as trained, 0 not at all.", 1.0, metavar="X"),
    Option("--control-start", float, "Share of the steps after which the tracks begin to lead.", 0.0, metavar="X"),
    Option("--control-end", float, "Share of the steps after which the tracks no longer lead.", 1.0, metavar="X"),
    Option("--tracking-range", str, "Value range of the tracking video for the model.", "training", TRACKING_RANGES),
)
TRACKS = (SAMPLING_OPTIONS[5], SAMPLING_OPTIONS[6], SAMPLING_OPTIONS[4])  # of those, what the tracking video depends on
PLACEMENT_MODES = ("both", "plate", "background", "compositor", "sequencer", "projected", "baked", "heat")
WAY = Option("--way", str, "Plate and camera background (both) or one of them, over the rendered picture, or on the "
             "surfaces.", "both", PLACEMENT_MODES)  # fmt: skip
FOLDER = Option("--out", str, "Folder of the result; a new one here if left out.", metavar="DIR", short="-o")
FILE = Option("--out", str, "File to write.", metavar="FILE", short="-o")
FORCE = Option("--force", bool, "Replace what is there.", False)
JSON = Option("--json", bool, "End with one JSON object on standard output.", False)
BACKEND = (
    Option("--endpoint", str, "Address of a running backend; the served one, or one of its own, if left out.",
           metavar="ADDRESS"),
    Option("--curve", str, "Folder of this side's CURVE keys, for a backend on another machine.", metavar="DIR"),
    Option("--backend-python", str, "Python of the environment that has the backend.", metavar="PATH"),
)  # fmt: skip
DESCRIPTIONS = Option("descriptions", str, "Folder of scene descriptions, or one file (.npz).", metavar="FOLDER",
                      required=True)  # fmt: skip
SHADE_FIRST = Option("--first-frame", str, "A picture file, or 'none'; the one beside the shot if left out.",
                     metavar="none|PATH")  # fmt: skip

COMMANDS: Mapping[str, tuple[str, tuple[Option, ...]]] = {
    "render": ("Shade a scene, and place the result in a copy of it.",
               (SCENE, *OPENING, STRICT, *WHAT, *SURFACES, INPUT_RENDER, *SAMPLING_OPTIONS, FOLDER, FORCE, JSON,
                *BACKEND)),
    "control": ("Make a scene's tracking video, as a model would be sent it; needs none.",
                (SCENE, *OPENING, STRICT, *WHAT[:6], *SURFACES, *TRACKS, FOLDER, FORCE, JSON, *BACKEND)),
    "export": ("Capture a scene to a shot file, with the first frame beside it.",
               (SCENE, *OPENING, STRICT, *WHAT, *SURFACES, RENDERS, FILE, FORCE, JSON)),
    "shade": ("Shade a shot file, or the tracks kept beside an export.",
              (SHOT, Option("--model", str, WHAT[5].help, "mini", metavar="NAME"), SHADE_FIRST, *SAMPLING_OPTIONS,
               FOLDER, FORCE, JSON, *BACKEND)),
    "picture": ("Fit a picture to a shot, as its first frame.", (PICTURE, OF_SHOT, FILE, FORCE, JSON)),
    "place": ("Place a result in a copy of the scene.", (RESULT, SCENE, *OPENING, WAY, FILE, FORCE, JSON)),
    "scene": ("Build the demonstration scene.", (FILE, FORCE, JSON)),
    "synthesise": ("Render generated scenes for training clips; 'trackshade train data --rendered' runs it.",
                   (DESCRIPTIONS, FOLDER, JSON)),
}  # fmt: skip
"""What each command is for, and its options."""


class _Parser(argparse.ArgumentParser):
    """argparse, but wrong usage is a UsageError instead of the end of the process."""

    def error(self, message: str) -> NoReturn:
        raise UsageError("usage", f"{self.prog}: {message}.", f"See: {self.prog} --help")


def parser(command: str, prog: str) -> argparse.ArgumentParser:
    """argparse's parser of a command. Its `parse_args` raises UsageError, and SystemExit(0) for --help."""
    description, options = COMMANDS[command]
    made = _Parser(prog=f"{prog} {command}", description=description, allow_abbrev=False)
    for option in options:
        text = option.help.replace("%", "%%")
        if option.positional:
            made.add_argument(option.key, help=text, metavar=option.metavar, nargs=None if option.required else "?")
        elif option.kind is bool:
            made.add_argument(option.name, action="store_true", help=text)
        else:
            names = [option.short, option.name] if option.short else [option.name]
            made.add_argument(*names, dest=option.key, type=option.kind, help=text, default=option.default,
                              choices=option.choices or None, metavar=option.metavar or None)  # fmt: skip
    return made


def arguments(command: str, values: Mapping[str, Any]) -> list[str]:
    """The command's name and the arguments that give these values, those left at their defaults not among them."""
    found, positionals = [command], []
    for option in COMMANDS[command][1]:
        value = values.get(option.key)
        if value is None or value == option.default:
            continue
        if option.positional:
            positionals.append(str(value))
        elif option.kind is bool:
            found.append(option.name)
        else:
            found.append(f"{option.name}={value}")  # one word, so that a value may begin with a dash
    return [*found, "--", *positionals] if positionals else found


def shade_settings(values: Mapping[str, Any]) -> ShadeSettings:
    """The settings among a command's values. Raises UsageError."""
    return ShadeSettings(model=values["model"], **{option.key: values[option.key] for option in SAMPLING_OPTIONS})


def control_settings(values: Mapping[str, Any]) -> ShadeSettings:
    """The same for a tracking video alone. Raises UsageError."""
    chosen = {option.key: values[option.key] for option in TRACKS}
    return ShadeSettings(model=values["model"], output="tracking", **chosen)


def frame_range(text: str | None) -> tuple[float | None, float | None, float | None]:
    """(first, last, step) of "A-B" or "A-B:STEP"; each None where it is not given.

    Raises:
        UsageError: written another way. Whether the range makes sense is `fit_frames`'s to say.
    """
    if text is None:
        return None, None, None
    number = r"[+-]?\d+(?:\.\d+)?"
    found = re.fullmatch(rf"\s*({number})\s*-\s*({number})\s*(?::\s*({number})\s*)?", text)
    if found is None:
        raise UsageError("bad-frames", f"'{text}' is not a frame range.", "Write it as 1-49 or 1-49:2.")
    first, last, step = found.groups()
    return float(first), float(last), None if step is None else float(step)


def size_rule(text: str) -> tuple[str, tuple[int, int] | None]:
    """("pad" or "crop", the model's (width, height) or None) of "pad", "crop", "WxH" or "WxH:crop".

    Raises:
        UsageError: written another way.
    """
    mode = "|".join(SIZE_MODES)
    found = re.fullmatch(rf"({mode})|(\d+)[x×](\d+)(?::({mode}))?", text)
    if found is None:
        raise UsageError("bad-size", f"'{text}' is not a size.", "Write pad, crop, 720x480 or 720x480:crop.")
    alone, width, height, after = found.groups()
    return alone or after or "pad", None if width is None else (int(width), int(height))
