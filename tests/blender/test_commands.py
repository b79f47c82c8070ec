# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands in Blender: what they make, what they refuse, in which words and with which exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import bpy
import numpy as np
import pytest

from tests.helpers import stage
from tests.helpers.backend_python import backend_python
from trackshade import __version__
from trackshade.cli.blender import run_addon
from trackshade.client import PrivateBackend, connect, job_run
from trackshade.core.errors import JobError
from trackshade.core.images import write_png
from trackshade.ipc import json_lines
from trackshade.shot import Shot
from trackshade_addon import commands

NOBODY = "ipc:///tmp/trackshade-nobody-listens-here"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scenes")


@pytest.fixture(scope="module")
def demo(folder: Path) -> Path:
    """The demonstration scene, rendered quickly."""
    assert commands.main("trackshade", ["scene", f"--out={folder / 'demo.blend'}"]) == 0
    bpy.ops.wm.open_mainfile(filepath=str(folder / "demo.blend"))
    scene = bpy.context.scene
    scene.cycles.samples, scene.render.resolution_x, scene.render.resolution_y = 1, 144, 96
    bpy.ops.wm.save_mainfile()
    return folder / "demo.blend"


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token, so that only the address is wrong."""
    monkeypatch.setenv("TRACKSHADE_TOKEN", "0" * 32)
    monkeypatch.setattr(job_run, "FIRST_PATIENCE", 0.5)


def run(capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command in this process."""
    capfd.readouterr()
    code = commands.main("trackshade", [str(argument) for argument in arguments])
    out, err = capfd.readouterr()
    return code, out, err


def saved(path: Path) -> Path:
    bpy.ops.wm.save_as_mainfile(filepath=str(path), copy=True)
    return path


def test_export_makes_a_shot_and_its_first_frame(demo: Path, tmp_path: Path, capfd) -> None:
    code, out, _ = run(capfd, "export", demo, "--out", tmp_path / "a.shot", "--json")
    assert code == 0
    made = json.loads(out)
    shot = Shot.load(made["files"]["shot"])
    assert len(shot.frame_numbers) == 17
    assert shot.size == (144, 96)
    assert [mesh.name for mesh in shot.meshes] == ["Floor", "Ball", "Cube", "Torus"]
    assert Path(made["files"]["first_frame"]).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert made["fit"]["frame_map"].startswith("All 17")


def test_export_moves_cameras_and_objects_as_render_does(demo: Path, tmp_path: Path, capfd) -> None:
    plain = ("export", demo, "--first-frame", "none")
    assert run(capfd, *plain, "--out", tmp_path / "a.shot")[0] == 0
    motion = ("--camera-motion", "trans 0 0 -0.5", "--object-motion", "Cube: right 1")
    assert run(capfd, *plain, "--out", tmp_path / "b.shot", *motion)[0] == 0
    still, moved = Shot.load(tmp_path / "a.shot"), Shot.load(tmp_path / "b.shot")
    step = moved.camera.world_to_camera[-1] @ np.linalg.inv(still.camera.world_to_camera[0])
    np.testing.assert_allclose(step[:3, 3], (0, 0, -0.5), atol=1e-5)
    np.testing.assert_allclose(step[:3, :3], np.eye(3), atol=1e-5)
    by = (moved.meshes[2].matrix_world[-1] - still.meshes[2].matrix_world[0])[:3, 3]
    np.testing.assert_allclose(by, still.camera.world_to_camera[0, 0, :3], atol=1e-5)
    assert run(capfd, *plain, "--out", tmp_path / "c.shot", "--camera-motion", "fly 1")[0] == 2


def test_export_renders_every_frame_beside_the_shot(demo: Path, tmp_path: Path, capfd) -> None:
    arguments = ("export", demo, "--out", tmp_path / "a.shot", "--input-render", "--json")
    code, out, _ = run(capfd, *arguments)
    assert code == 0
    files = json.loads(out)["files"]
    frames = sorted(Path(files["input_render"]).iterdir())
    assert [frame.name for frame in frames] == [
        f"{n:04d}.png" for n in range(1, len(Shot.load(tmp_path / "a.shot").frame_numbers) + 1)
    ]
    assert frames[0].read_bytes() == Path(files["first_frame"]).read_bytes()
    assert frames[0].read_bytes() != frames[-1].read_bytes()
    (tmp_path / "a.shot").unlink()
    (tmp_path / "a.png").unlink()
    assert run(capfd, *arguments)[0] == 3  # the frames are kept, too


def test_export_keeps_what_is_there_unless_forced(demo: Path, tmp_path: Path, capfd) -> None:
    (tmp_path / "a.png").write_bytes(b"mine")
    code, _, err = run(capfd, "export", demo, "--out", tmp_path / "a.shot")
    assert code == 3
    assert "a.png exists and was kept. Use --force" in err
    assert [item.name for item in tmp_path.iterdir()] == ["a.png"]
    code, _, err = run(capfd, "export", demo, "--out", tmp_path / "a.png", "--force")  # where the first frame goes
    assert (code, "does not end in .shot" in err) == (2, True)
    assert run(capfd, "export", demo, "--out", tmp_path / "a.shot", "--force", "--first-frame", "none")[0] == 0


def test_the_open_scene_is_taken_where_none_is_named(demo: Path, tmp_path: Path, capfd) -> None:
    bpy.ops.wm.open_mainfile(filepath=str(demo))
    code, _, _ = run(capfd, "export", "--first-frame", "none", "--frames", "1-17", "--out", tmp_path / "a.shot")
    assert code == 0
    assert Shot.load(tmp_path / "a.shot").frame_numbers.tolist() == list(range(1, 18, 3))


@pytest.mark.usefixtures("away")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, ""),
        (("paint",), 2, "no command 'paint'"),
        (("render", "--seed", "x", "SCENE"), 2, "--seed"),
        (("render", "SCENE", "--frames", "1..9"), 2, "not a frame range"),
        (("render", "SCENE", "--size", "huge"), 2, "not a size"),
        (("render", "SCENE", "--steps", "0"), 2, "steps"),
        (("render", "SCENE", "--view-layer", "Nope"), 2, "no view layer 'Nope'"),
        (("render", "SCENE", "--model", "nope"), 3, "no model named 'nope'"),
        (("render", "SCENE", "--frames", "9-1"), 3, "empty or reversed"),
        (("render", "SCENE", "--frames", "5-9:0"), 3, "must both be above 0"),
        (("render", "SCENE", "--camera", "Nope"), 3, "no camera named 'Nope'"),
        (("render", "SCENE", "--first-frame", "nowhere.png"), 3, "nowhere.png"),
        (("render", "SCENE", "--out", "/proc/nowhere/out"), 3, "cannot be written"),
        (("render", "nowhere.blend"), 3, "nowhere.blend"),
        (("render", "README.md"), 3, "type"),
        (("place", "nowhere", "SCENE"), 3, "no result"),
    ],
)
def test_bad_input_is_a_sentence_and_a_code(
    arguments, code: int, words: str, demo: Path, tmp_path: Path, capfd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("README.md").write_text("no scene")
    given = [str(demo) if word == "SCENE" else word for word in arguments]
    if arguments and arguments[0] == "render":
        given += ["--endpoint", NOBODY]
        given += [] if "--first-frame" in given else ["--first-frame", "none"]
    found, out, err = run(capfd, *given)
    assert found == code
    assert words in err
    assert "Traceback" not in err + out
    assert [item.name for item in tmp_path.iterdir()] == ["README.md"]


@pytest.mark.once
@pytest.mark.usefixtures("away")
def test_an_unreachable_backend_is_told_and_leaves_nothing(demo: Path, tmp_path: Path, capfd) -> None:
    code, out, err = run(capfd, "render", demo, "--endpoint", NOBODY, "--first-frame", "none", "--out", tmp_path / "r",
                         "--json")  # fmt: skip
    assert code == 4
    assert "does not answer" in err
    assert json.loads(out)["error"]["code"] == "backend-unreachable"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("away")
def test_scenes_that_cannot_be_shot(scene: bpy.types.Scene, tmp_path: Path, capfd) -> None:
    options = ("--endpoint", NOBODY, "--first-frame", "none")
    empty = saved(tmp_path / "empty.blend")
    code, _, err = run(capfd, "render", empty, *options)
    assert (code, "no camera" in err) == (3, True)
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    scene = bpy.context.scene
    scene.collection.objects.link(camera)
    scene.camera = camera
    nothing = saved(tmp_path / "nothing.blend")
    code, _, err = run(capfd, "render", nothing, *options)
    assert (code, "No surface is visible" in err) == (3, True)
    bpy.context.scene.camera.data.type = "PANO"
    panorama = saved(tmp_path / "panorama.blend")
    code, _, err = run(capfd, "render", panorama, *options)
    assert (code, "anoram" in err) == (3, True)


@pytest.mark.usefixtures("away")
def test_a_result_is_kept_and_what_is_no_result_even_with_force(demo: Path, tmp_path: Path, capfd) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for extra, words in (((), "exists and was kept"), (("--force",), "something else than a result")):
        code, _, err = run(capfd, "render", demo, "--endpoint", NOBODY, "--out", tmp_path, *extra)
        assert code == 3
        assert words in err
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.smoke
def test_a_scene_is_shaded_and_placed(
    demo: Path, backend: PrivateBackend, tmp_path: Path, capfd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKSHADE_TOKEN", backend.info.token)
    before = demo.read_bytes()
    out = tmp_path / "shaded"
    code, printed, err = run(capfd, "render", demo, "--prompt", "toys", "--steps", "1", "--seed",
                             "7", "--light", "none", "--out", out, "--endpoint",
                             backend.info.endpoint, "--json")  # fmt: skip
    assert code == 0, err
    made = json.loads(printed)
    assert demo.read_bytes() == before
    for name in ("frames", "tracking", "video", "tracking_video", "sheet", "record", "first_frame", "scene"):
        assert Path(made["files"][name]).exists(), name
    record = json.loads((out / "job.json").read_text())
    assert record["settings"]["seed"] == made["seed"] == 7
    assert record["shot"]["camera"]["sources"] == ["Camera"] * 17
    assert made["consistency"]["result"] > 0
    assert "trackshade: capturing, 17 of 17" in err
    assert "trackshade: running, 1 of 1" in err
    bpy.ops.wm.open_mainfile(filepath=made["files"]["scene"])
    assert any("plate" in item.name for item in bpy.context.scene.camera.children)
    assert bpy.context.scene.camera.data.background_images


def test_control_is_the_tracking_video_placed_like_a_result(
    demo: Path, backend: PrivateBackend, tmp_path: Path, capfd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKSHADE_TOKEN", backend.info.token)
    arguments = ("--out", tmp_path / "control", "--endpoint", backend.info.endpoint, "--json")
    code, printed, err = run(capfd, "control", demo, *arguments)
    assert code == 0, err
    made = json.loads(printed)
    pictures = [sorted((tmp_path / "control" / name).iterdir()) for name in ("frames", "tracking")]
    assert len(pictures[0]) == 17
    assert [path.read_bytes() for path in pictures[0]] == [path.read_bytes() for path in pictures[1]]
    record = json.loads((tmp_path / "control" / "job.json").read_text())
    assert record["settings"]["output"] == "tracking"
    assert "running" not in err  # no model
    bpy.ops.wm.open_mainfile(filepath=made["files"]["scene"])
    assert any("plate" in item.name for item in bpy.context.scene.camera.children)


@pytest.mark.long
def test_a_fetched_result_can_be_placed_again(
    demo: Path, backend: PrivateBackend, tmp_path: Path, capfd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKSHADE_TOKEN", backend.info.token)
    out = tmp_path / "shaded"
    options = ("--first-frame", "none", "--light", "none", "--steps", "1", "--endpoint", backend.info.endpoint)
    assert run(capfd, "render", demo, "--frames", "1-7:3", "--out", out, *options)[0] == 0
    assert run(capfd, "place", out, demo)[0] == 3  # scene.blend is there already
    assert run(capfd, "place", out, demo, "--out", tmp_path / "again.blend")[0] == 0
    assert (tmp_path / "again.blend").stat().st_size > 0


@pytest.fixture
def incomplete(scene: bpy.types.Scene, tmp_path: Path) -> Path:
    """A scene without its texture, with a driver that needs scripts: a square that rises 0.1 m a frame."""
    stage.add_camera(scene)
    square = stage.add(scene, "Square", stage.grid())
    square.driver_add("location", 2).driver.expression = "[height for height in [frame / 10]][0]"
    displace = square.modifiers.new("Displace", "DISPLACE")
    displace.texture = bpy.data.textures.new("Bumps", "IMAGE")
    displace.texture.image = bpy.data.images.new("bumps", 4, 4)
    displace.texture.image.source = "FILE"
    displace.texture.image.filepath = "//bumps.png"
    scene.frame_end = 17
    bpy.data.scenes.new("Empty")
    return saved(tmp_path / "incomplete.blend")


TEXTURE = "A texture is missing: bumps.png."
DRIVER = "A driver did not run, because Python scripts of this file are blocked: location[2] of 'Square'."


def test_what_a_scene_lacks_is_a_warning_and_refused_by_strict(incomplete: Path, tmp_path: Path, capfd) -> None:
    options = ("export", incomplete, "--first-frame", "none", "--out", tmp_path / "a.shot", "--force")
    code, _, err = run(capfd, *options)
    assert code == 0
    assert f"warning: {TEXTURE}" in err
    assert f"warning: {DRIVER}" in err
    warnings = list(Shot.load(tmp_path / "a.shot").warnings)
    assert [warning.partition(" Where you")[0] for warning in warnings] == [TEXTURE, DRIVER]
    still = Shot.load(tmp_path / "a.shot")
    assert still.meshes[0].matrix_world[:, 2, 3].tolist() == [0.0] * 17
    assert run(capfd, *options, "--trust-scripts")[0] == 0
    assert list(Shot.load(tmp_path / "a.shot").warnings) == [TEXTURE]
    assert Shot.load(tmp_path / "a.shot").meshes[0].matrix_world[-1, 2, 3] == pytest.approx(1.7)
    (tmp_path / "a.shot").unlink()
    code, _, err = run(capfd, *options, "--strict")
    assert code == 3
    assert f"The scene is incomplete. {TEXTURE} {DRIVER} Restore what is missing, or allow" in err
    assert "allow scripts with --trust-scripts" in err
    assert not (tmp_path / "a.shot").exists()
    write_png(tmp_path / "bumps.png", np.zeros((4, 4, 3), np.uint8))
    assert run(capfd, *options, "--strict", "--trust-scripts")[0] == 0


def test_what_a_scene_lacks_is_among_the_warnings_of_a_result(
    incomplete: Path, backend: PrivateBackend, tmp_path: Path, capfd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKSHADE_TOKEN", backend.info.token)
    arguments = ("control", incomplete, "--out", tmp_path / "control", "--endpoint", backend.info.endpoint)
    code, out, err = run(capfd, *arguments, "--json")
    assert code == 0, err
    assert TEXTURE in json.loads(out)["warnings"]
    assert run(capfd, *arguments, "--force", "--strict")[0] == 3


def test_a_scene_of_the_file_is_chosen(incomplete: Path, tmp_path: Path, capfd) -> None:
    options = ("export", "--first-frame", "none", "--out", tmp_path / "a.shot")
    code, _, err = run(capfd, *options, "--scene", "Garden", incomplete)
    assert code == 2
    assert "no scene 'Garden'" in err
    assert "'Empty', 'Scene'" in err
    code, _, err = run(capfd, *options, "--scene", "Empty", incomplete)
    assert (code, "Scene 'Empty' has no camera" in err) == (3, True)
    bpy.ops.wm.open_mainfile(filepath=str(incomplete))  # as in: blender -b FILE --command trackshade
    assert run(capfd, *options, "--scene", "Empty")[0] == 3
    assert run(capfd, *options, "--scene", "Scene")[0] == 0
    for late, words in (("--trust-scripts", "--enable-autoexec"), ("--animation=Walk", "--animation")):
        code, _, err = run(capfd, *options, "--force", late)
        assert (code, words in err) == (2, True), err


def test_a_crash_while_a_file_is_opened_names_the_file(demo: Path, tmp_path: Path) -> None:
    """By a .blend whose script ends the process, as a defect in a reader does."""
    bpy.ops.wm.open_mainfile(filepath=str(demo))
    text = bpy.data.texts.new("crash.py")
    text.write("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    text.use_module = True
    path = saved(tmp_path / "crash.blend")
    with pytest.raises(JobError, match=r"ended while it opened .*crash\.blend \(crash, SIGSEGV\)") as caught:
        run_addon(["export", str(path), "--trust-scripts", "--out", str(tmp_path / "a.shot")], None, lambda _: None)
    assert (caught.value.code, caught.value.exit_code) == ("blender-ended", 3)


def lines_until(process: subprocess.Popen[str], state: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        message = json_lines.parse_line(line)
        if message is not None and message.get("state") == state:
            return
    pytest.fail(f"it ended before it was {state}")


@pytest.mark.parametrize(
    ("state", "how"),
    [
        ("capturing", "signal"),
        pytest.param("capturing", "input", marks=pytest.mark.long),
        pytest.param("queued", "signal", marks=pytest.mark.once),
        ("running", "input"),
    ],
)
def test_an_interrupt_at_any_time_ends_with_130(
    state: str, how: str, demo: Path, backend: PrivateBackend, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "trackshade_addon", "render", str(demo), "--first-frame", "none", "--steps", "200",
               "--light", "none", "--out", str(tmp_path / "out"), "--endpoint", backend.info.endpoint]  # fmt: skip
    environment = {**os.environ, json_lines.VARIABLE: "1", "TRACKSHADE_TOKEN": backend.info.token}
    with connect(backend.info.endpoint, backend.info.token) as client:
        before = len(client.jobs())
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    lines_until(process, state)
    if how == "signal":
        process.send_signal(signal.SIGINT)
    assert process.stdin is not None
    if how == "input":
        process.stdin.close()
    rest = process.stdout.read() if process.stdout is not None else ""
    assert process.wait(60) == 130, rest
    final = [message for line in rest.splitlines() if (message := json_lines.parse_line(line)) is not None][-1]
    assert final["error"]["code"] == "cancelled"
    assert list(tmp_path.iterdir()) == []
    with connect(backend.info.endpoint, backend.info.token) as client:
        jobs = client.jobs()
        assert len(jobs) == before + (state != "capturing")
        assert state == "capturing" or list(client.events(jobs[-1]["id"]))[-1].state == "cancelled"


@pytest.mark.long
def test_a_backend_of_its_own_ends_with_the_command(demo: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "TRACKSHADE_HOME": str(tmp_path / "home"), "TRACKSHADE_PYTHON": backend_python(),
                   "TMPDIR": str(tmp_path)}  # fmt: skip
    command = [sys.executable, "-m", "trackshade_addon", "render", str(demo), "--first-frame", "none", "--steps", "1",
               "--light", "none", "--out", str(tmp_path / "out")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()][-1] == "scene"
    assert not list(tmp_path.glob("trackshade-*"))  # the private backend's folder went with it
    assert not list((tmp_path / "home").rglob("*.ipc"))


@pytest.mark.long
@pytest.mark.once
@pytest.mark.skipif(sys.platform == "win32", reason="the environment's interpreter is a shell script")
def test_the_environment_of_set_up_is_found_without_preferences(demo: Path, tmp_path: Path) -> None:
    """On a node where the add-on's Set Up has run, or its folder was copied to, and nobody has opened a window."""
    home = tmp_path / "home" / "backend"
    python = home / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path / "used"}"\nexec "{backend_python()}" "$@"\n')
    python.chmod(0o755)
    marker = {"environment": "env", "kind": "cpu", "version": __version__, "lock": "", "probe": {}}
    (home / "environment.json").write_text(json.dumps(marker))
    environment = {**os.environ, "TRACKSHADE_HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path)}
    environment.pop("TRACKSHADE_PYTHON", None)
    words = ("control", demo, "--frames", "1-3:1", "--progress", "opencue", "--out", tmp_path / "out")
    command = [sys.executable, "-m", "trackshade_addon", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "trackshade.server" in (tmp_path / "used").read_text()
    assert "alf_progress 100%" in done.stdout.splitlines()
    assert not list(tmp_path.glob("trackshade-*"))  # the private backend's folder went with it
