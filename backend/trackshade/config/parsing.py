# SPDX-License-Identifier: GPL-3.0-or-later
"""Parsers of the commands that `options` declares, and of values that are written in a form of their own."""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from trackshade.config.image_models import DEFAULT_IMAGE_MODEL
from trackshade.config.options import COMMANDS, GENERATE, SAMPLING_OPTIONS, TRACKING_VIDEO, Option
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import UsageError
from trackshade.core.fitting import SIZE_MODES


class _Parser(argparse.ArgumentParser):
    """argparse's parser, but wrong usage raises UsageError, and a value may begin with one dash."""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Join a long option with a value that begins with one dash, such as --frames=-10--1."""
        arguments: list[str] = []
        for word in sys.argv[1:] if args is None else args:
            action = self._option_string_actions.get(arguments[-1]) if arguments and "--" not in arguments else None
            takes_value = action is not None and action.nargs is None and arguments[-1].startswith("--")
            is_negative = word.startswith("-") and not word.startswith("--")
            if takes_value and is_negative and word not in self._option_string_actions:
                arguments[-1] += f"={word}"
            else:
                arguments.append(word)
        return super().parse_known_args(arguments, namespace)

    def error(self, message: str) -> NoReturn:
        raise UsageError("usage", f"{self.prog}: {message}.", f"See: {self.prog} --help")


def build_parser(command: str, prog: str) -> argparse.ArgumentParser:
    """Build the parser of a command in `COMMANDS`; see `parser_of`."""
    description, options = COMMANDS[command]
    return parser_of(f"{prog} {command}", description, options)


def parser_of(prog: str, description: str, options: Sequence[Option]) -> argparse.ArgumentParser:
    """Build a parser whose `parse_args` raises UsageError, and SystemExit(0) for --help.

    Args:
        prog: The command as typed.
        description: What it does.
        options: Its options.
    """
    usage = f"{prog} [OPTIONS]"
    for option in options:
        if option.is_positional:
            name = option.metavar + ("..." if option.repeat else "")
            usage += f" {name}" if option.required else f" [{name}]"
    parser = _Parser(prog, usage, description, allow_abbrev=False, formatter_class=_formatter)
    for option in options:
        text = option.help.replace("%", "%%")
        if option.default not in (None, "") and option.kind is not bool:
            text += f" Default: {option.default}."
        if option.is_positional:
            count = "+" if option.repeat else None if option.required else "?"
            parser.add_argument(option.key, help=text, metavar=option.metavar, nargs=count)
        elif option.kind is bool:
            parser.add_argument(option.name, action="store_true", help=text, dest=option.key)
        else:
            parser.add_argument(
                *([option.short] if option.short else []),
                option.name,
                dest=option.key,
                action="append" if option.repeat else "store",
                type=option.kind,
                help=text,
                default=option.default,
                choices=option.choices or None,
                metavar=option.metavar or None,
            )
    return parser


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.HelpFormatter(prog, max_help_position=32)


def to_arguments(command: str, values: Mapping[str, Any]) -> list[str]:
    """Return the arguments with which a command in `COMMANDS` has these values, its name first.

    Args:
        command: The command.
        values: Values by key; those that are None or the default are left out.
    """
    arguments, positionals = [command], []
    for option in COMMANDS[command][1]:
        value = values.get(option.key)
        if value is None or value == option.default:
            continue
        if option.is_positional:
            positionals.append(str(value))
        elif option.kind is bool:
            arguments.append(option.name)
        else:  # one word, so that a value may begin with a dash
            arguments += [f"{option.name}={item}" for item in (value if option.repeat else [value])]
    return [*arguments, "--", *positionals] if positionals else arguments


def check_rate(fps: float) -> None:
    """Raise UsageError unless a number is a frame rate that something can be resampled to."""
    if not 0 < fps <= 1000:
        fix = "Give a number above 0 and up to 1000, such as 16 or 24."
        raise UsageError("bad-setting", f"The frame rate is {fps:g}.", fix)


def shade_settings(values: Mapping[str, Any]) -> ShadeSettings:
    """Make the settings of a job from the values of a command, such as "shade" or "key". Raise UsageError."""
    sampling = {option.key: values[option.key] for option in SAMPLING_OPTIONS}
    sampling["video_loras"] = tuple(values["video_loras"] or ())
    footage = Path(values["footage"])
    if values["footage"] and footage.is_file():  # else it is on the backend's machine
        sampling["footage"] = str(footage.absolute())
    if "key_frames" in values:
        if not values["key_frames"]:
            raise UsageError("no-key-frame", "No frame was given.", "Name it with --frame N.")
        sampling |= {"output": "key", "key_frames": tuple(values["key_frames"])}
    return ShadeSettings(model=values["model"], **_fitting(values), **_look(values), **sampling)


def control_settings(values: Mapping[str, Any]) -> ShadeSettings:
    """Make the settings of a job that ends with the tracking video. Raise UsageError."""
    tracking = {option.key: values[option.key] for option in TRACKING_VIDEO}
    size = values["output_size"]
    return ShadeSettings(model=values["model"], output="tracking", output_size=size, **_fitting(values), **tracking)


def _look(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the image model."""
    model, stills = values.get("image_model") or "", values.get("stills") or 0
    if not model and (values.get("first_frame") == GENERATE or stills):
        model = DEFAULT_IMAGE_MODEL
    look = {"image_model": model, "loras": tuple(values.get("lora") or ()), "strength": values.get("strength", 0.7)}
    return look | ({"output": "stills", "stills": stills} if stills else {})


def _fitting(values: Mapping[str, Any]) -> dict[str, Any]:
    size_mode, model_size = parse_size(values["size"])
    return {"frame_rule": values["frame_rule"], "size_mode": size_mode, "model_size": model_size}


def parse_frame_range(text: str | None) -> tuple[float | None, float | None, float | None]:
    """Parse "A-B" or "A-B:STEP".

    Returns:
        First frame, last frame and step; None for those not given. `fit_frames` checks whether the range makes sense.

    Raises:
        UsageError: The text has another form.
    """
    if text is None:
        return None, None, None
    number = r"[+-]?\d+(?:\.\d+)?"
    found = re.fullmatch(rf"\s*({number})\s*-\s*({number})\s*(?::\s*({number})\s*)?", text)
    if found is None:
        raise UsageError("bad-frames", f"'{text}' is not a frame range.", "Write it as 1-49 or 1-49:2.")
    first, last, step = found.groups()
    return float(first), float(last), None if step is None else float(step)


def parse_keys(texts: Sequence[str] | None) -> list[tuple[str | None, float, str]]:
    """Parse "[CAMERA@]FRAME=PICTURE" of each key picture.

    Returns:
        Name of the camera or None, scene frame, and path of each.

    Raises:
        UsageError: A text has another form.
    """
    found = []
    for text in texts or ():
        parts = re.fullmatch(r"(?:([^=]+)@)?([+-]?\d+(?:\.\d+)?)=(.+)", text)
        if parts is None:
            raise UsageError("bad-key", f"'{text}' is not the picture of a frame.", "Write it as 25=PICTURE.png.")
        found.append((parts[1], float(parts[2]), parts[3]))
    return found


def parse_cameras(text: str | None) -> list[str]:
    """Parse names of several cameras, separated by commas and quoted as in CSV; none if the text is None.

    Raises:
        UsageError: There is one name, or a quote is not closed.
    """
    if text is None:
        return []
    try:
        (row,) = csv.reader([text], skipinitialspace=True, strict=True)
    except (csv.Error, ValueError) as error:
        fix = "Write names with commas in quotes, as in --cameras '\"Left, near\",Right'."
        raise UsageError("bad-cameras", f"The names of cameras {text} cannot be read.", fix) from error
    names = [name.strip() for name in row if name.strip()]
    if len(names) < 2:
        raise UsageError("one-camera", f"'{text}' does not name several cameras.", "Name a single one with --camera.")
    return names


def parse_orbit(text: str) -> tuple[int, float | None, float]:
    """Parse "N[:ELEVATION[:ARC]]". Raise UsageError if the text has another form."""
    count, _, rest = text.partition(":")
    elevation, _, arc = rest.partition(":")
    try:
        return int(count), float(elevation) if elevation else None, float(arc) if arc else 360.0
    except ValueError as error:
        raise UsageError(
            "bad-orbit", f"'{text}' is not an orbit.", "Write the number of cameras, elevation and arc: 5:20:120."
        ) from error


def parse_box(text: str) -> tuple[float, float, float, float]:
    """Parse "LEFT,TOP,RIGHT,BOTTOM". Raise UsageError if the text has another form."""
    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            "bad-box", f"'{text}' is not a box.", "Write left, top, right and bottom: 120,80,260,400."
        ) from error
    return left, top, right, bottom


def parse_size(text: str) -> tuple[str, tuple[int, int] | None]:
    """Parse "pad", "crop", "WxH", "WxH:pad" or "WxH:crop".

    Returns:
        "pad" or "crop", and the model's (width, height) or None.

    Raises:
        UsageError: The text has another form.
    """
    mode = "|".join(SIZE_MODES)
    found = re.fullmatch(rf"({mode})|(\d+)[x×](\d+)(?::({mode}))?", text)
    if found is None:
        raise UsageError("bad-size", f"'{text}' is not a size.", "Write pad, crop, 720x480 or 720x480:crop.")
    alone, width, height, after = found.groups()
    return alone or after or "pad", None if width is None else (int(width), int(height))
