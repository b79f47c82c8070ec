# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of options: there and back through arguments, and its small languages."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackshade.config import options, parsing
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import UsageError
from trackshade.ipc import json_lines
from trackshade.server.options import ServeOptions, parse_options

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12).filter(
    lambda text: text != "--"  # argparse keeps that word to itself, wherever it stands
)
KINDS = {str: WORDS, int: st.integers(), float: st.floats(allow_nan=False), bool: st.booleans()}


@st.composite
def values(draw: st.DrawFn, command: str) -> dict:
    found = {}
    for option in options.COMMANDS[command][1]:
        kind = st.sampled_from(option.choices) if option.choices else KINDS[option.kind]
        kind = st.lists(kind, min_size=1, max_size=3) if option.repeat else kind
        found[option.key] = draw(kind if option.required else kind | st.just(option.default))
    return found


@pytest.mark.parametrize("command", options.COMMANDS)
@given(data=st.data())
def test_any_values_go_through_a_command_line(command: str, data: st.DataObject) -> None:
    given_values = data.draw(values(command))
    name, *rest = parsing.to_arguments(command, given_values)
    assert name == command
    assert vars(parsing.build_parser(command, "test").parse_args(rest)) == given_values


@pytest.mark.parametrize("command", options.COMMANDS)
def test_no_key_is_used_twice(command: str) -> None:
    keys = [option.key for option in options.COMMANDS[command][1]]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("wrong", [["--color", "red"], ["--seed", "one"], ["--frame-rule", "some"], ["a", "b"]])
def test_wrong_usage_is_an_error_of_ours(wrong: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        parsing.build_parser("render", "trackshade").parse_args(wrong)
    assert caught.value.exit_code == 2
    assert "trackshade render" in str(caught.value)


def test_pictures_of_frames_are_read() -> None:
    assert parsing.parse_keys(["25=a=b.png", "-3.5=c d.jpg"]) == [(None, 25.0, "a=b.png"), (None, -3.5, "c d.jpg")]
    assert parsing.parse_keys(["Side @2@25=a@3=b.png"]) == [("Side @2", 25.0, "a@3=b.png")]
    assert parsing.parse_keys(None) == []
    for wrong in ("picture.png", "=picture.png", "5=", "five=picture.png"):
        with pytest.raises(UsageError, match="not the picture of a frame"):
            parsing.parse_keys([wrong])


def test_cameras_and_orbits() -> None:
    assert parsing.parse_cameras(None) == []
    assert parsing.parse_cameras(" A, Side 2 ,") == ["A", "Side 2"]
    assert parsing.parse_cameras('"Left, near",Right,"The ""best"""') == ["Left, near", "Right", 'The "best"']
    with pytest.raises(UsageError, match="cannot be read"):
        parsing.parse_cameras('"Left, near,Right')
    with pytest.raises(UsageError, match="--camera"):
        parsing.parse_cameras("A")
    assert parsing.parse_orbit("8") == (8, None, 360.0)
    assert parsing.parse_orbit("5:20") == (5, 20.0, 360.0)
    assert parsing.parse_orbit("5::120") == (5, None, 120.0)
    with pytest.raises(UsageError, match="5:20:120"):
        parsing.parse_orbit("five")


def test_fitting_options_are_settings() -> None:
    given = ["shot", "--frame-rule", "step", "--size", "144x96:crop", "--key-pictures", "video", "--light", "none"]
    found = parsing.shade_settings(vars(parsing.build_parser("shade", "test").parse_args(given)))
    assert (found.frame_rule, found.size_mode, found.model_size) == ("step", "crop", (144, 96))
    assert (found.key_pictures, found.light) == ("video", "none")


def test_what_a_video_model_follows_and_its_loras_are_settings() -> None:
    given = ["a.shot", "--model", "wan-vace-1.3b", "--control-clip", "layout", "--cache", "0.1", "--reference", "a.png"]
    values = vars(parsing.build_parser("shade", "test").parse_args([*given, "--video-lora", "b.safetensors:0.5"]))
    found = parsing.shade_settings(values)
    assert (found.control_clip, found.cache, found.video_loras) == ("layout", 0.1, ("b.safetensors:0.5",))
    assert found.follows == "layout"
    assert values["reference"] == ["a.png"]
    assert ShadeSettings.from_dict(found.to_dict()) == found


def test_footage_caches_and_quantization_are_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dance.mp4").touch()
    given = ["a.shot", "--model", "wan-animate-2-14b", "--footage", "dance.mp4", "--quantize", "nf4", "--compile"]
    cache = ["--cache-method", "taylorseer", "--cache-interval", "4", "--cache-order", "2"]
    found = parsing.shade_settings(vars(parsing.build_parser("shade", "test").parse_args([*given, *cache])))
    assert found.footage == str(tmp_path / "dance.mp4")  # the backend may run in another folder
    assert (found.follows, found.quantize, found.compile) == ("footage", "nf4", True)
    assert (found.cache_method, found.cache_interval, found.cache_order) == ("taylorseer", 4, 2)
    assert ShadeSettings.from_dict(found.to_dict()) == found
    assert ShadeSettings(model="wan-animate-2-14b", control_clip="render").follows == "render"
    assert ShadeSettings(model="wan-vace-1.3b", footage="a.mp4").follows == ""


def test_defaults_are_the_settings_own() -> None:
    found = vars(parsing.build_parser("render", "test").parse_args([]))
    assert parsing.shade_settings(found) == ShadeSettings()
    found = vars(parsing.build_parser("control", "test").parse_args([]))
    assert parsing.control_settings(found) == ShadeSettings(output="tracking", output_size="model")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, (None, None, None)),
        ("1-49", (1, 49, None)),
        ("1-49:2", (1, 49, 2)),
        ("-10--1", (-10, -1, None)),
        ("-10-20:0.5", (-10, 20, 0.5)),
        ("9-1", (9, 1, None)),
        ("1-9:0", (1, 9, 0)),
    ],
)
def test_frame_ranges(text, expected) -> None:
    assert parsing.parse_frame_range(text) == expected


@pytest.mark.parametrize("text", ["", "1", "1-", "a-b", "1-2-3", "1..9", "1-9:", "1-9:x", "nan-9"])
def test_what_is_no_frame_range(text: str) -> None:
    with pytest.raises(UsageError, match="1-49"):
        parsing.parse_frame_range(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pad", ("pad", None)),
        ("crop", ("crop", None)),
        ("720x480", ("pad", (720, 480))),
        ("720×480:crop", ("crop", (720, 480))),
    ],
)
def test_sizes(text, expected) -> None:
    assert parsing.parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "stretch", "720", "720x", "x480", "720x480crop", ":crop", "720x480:"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError):
        parsing.parse_size(text)


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none()))
def test_relay_lines_go_there_and_back(message: dict) -> None:
    text = json_lines.format_line(message)
    assert "\n" not in text
    assert json_lines.parse_line(text) == message


@given(st.text())
def test_other_lines_are_no_messages(text: str) -> None:
    assert json_lines.parse_line(text) is None
    assert json_lines.parse_line(json_lines.PREFIX + text + "{") is None


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (["--frames", "-10--1"], "frames", "-10--1"),
        (["--frames=-10--1"], "frames", "-10--1"),
        (["--prompt", "- a dash"], "prompt", "- a dash"),
        (["--seed", "-1"], "seed", -1),
    ],
)
def test_a_value_may_begin_with_a_dash(words: list[str], key: str, value: object) -> None:
    found = vars(parsing.build_parser("render", "test").parse_args(["a.blend", *words, "--force"]))
    assert (found[key], found["scene"], found["force"]) == (value, "a.blend", True)


def test_a_mistyped_option_is_no_value() -> None:
    with pytest.raises(UsageError, match="--camera"):
        parsing.build_parser("render", "test").parse_args(["--camera", "--colr", "red"])


def test_every_option_has_a_help_text_with_its_default() -> None:
    for command, (description, found) in options.COMMANDS.items():
        assert description.endswith(".")
        assert all(option.help.endswith(".") for option in found), command
    text = " ".join(parsing.build_parser("render", "test").format_help().split())
    assert "Default: mini." in text
    assert "Random seed. Default: 0." in text


def test_an_option_can_be_repeated() -> None:
    parser = parsing.parser_of("test", "It is a test.", options.SERVE)
    assert vars(parser.parse_args(["--device", "cpu", "--device", "cuda:1"]))["device"] == ["cpu", "cuda:1"]
    assert vars(parser.parse_args([]))["device"] is None


def test_the_options_of_a_backend_have_the_defaults_of_its_settings() -> None:
    assert parse_options([]) == ServeOptions()
    found = parse_options(["--workers", "3", "--device", "cpu", "--device", "cuda:0", "--store", "s", "--private"])
    assert found.devices == ("cpu", "cuda:0", "cpu")
    assert found.store == Path("s")
    assert found.has_owner
    assert parse_options(["--workers", "0"]).devices == ()
    for wrong in (["--keep", "all"], ["--result-days", "-1"], ["--result-days", "0"], ["--result-gb", "nan"],
                  ["--workers", "-1"], ["--ray", "local", "--workers", "0"]):  # fmt: skip
        with pytest.raises(UsageError):
            parse_options(wrong)
