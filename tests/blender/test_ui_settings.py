# SPDX-License-Identifier: GPL-3.0-or-later
"""What is set in the panel: as the job gets it, kept in the file, taken back from a job, kept as a look."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import bpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import trackshade
import trackshade_addon
from trackshade.client.output_folder import OutputFolder
from trackshade.client.progress import Progress, TimeLeft
from trackshade.config import checkpoints, registry
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import ModelError, ShotError, UsageError
from trackshade_addon import backend
from trackshade_addon.capture.request import ShotRequest
from trackshade_addon.jobs import session
from trackshade_addon.jobs.job import Job
from trackshade_addon.messages import texts
from trackshade_addon.properties.placement_options import PlacementOptions
from trackshade_addon.ui import jobs_list, preferences_panel

pytestmark = pytest.mark.usefixtures("registered")


def test_the_settings_are_the_jobs(scene: bpy.types.Scene) -> None:
    own = scene.trackshade
    own.prompt, own.seed, own.frame_rule = "a street at night", 5, "step"
    assert own.shade_settings() == ShadeSettings(prompt="a street at night", seed=5, frame_rule="step")
    assert own.shot_request("Layer") == ShotRequest(view_layer="Layer", light="clay")
    own.steps, own.guidance, own.negative_prompt = 3, 2.5, "blur"
    assert own.shade_settings() == ShadeSettings(
        prompt="a street at night", seed=5, frame_rule="step", steps=3, guidance=2.5, negative_prompt="blur"
    )
    own.first_frame, own.picture = "file", "/tmp/a.png"
    assert own.shot_request("Layer").first_frame == "/tmp/a.png"
    own.use_range, own.first, own.last, own.step, own.size_mode = True, 3, 9, 0.5, "crop"
    assert own.shot_request("Layer").frames == (3.0, 9.0, 0.5)
    own.light, own.key_pictures, own.output_size = "render", "video", "model"
    assert own.shot_request("Layer").light == "render"
    found = own.shade_settings()
    assert (found.size_mode, found.light, found.key_pictures, found.output_size) == ("crop", "render", "video", "model")
    own.view_layer = scene.view_layers[0].name
    assert own.shot_request("Layer").view_layer == scene.view_layers[0].name
    own.view_layer = "gone"
    assert own.shot_request("Layer").view_layer == "Layer"


def test_what_a_video_model_follows_and_uses_is_asked_for(scene: bpy.types.Scene) -> None:
    own = scene.trackshade
    own.light, own.control_clip, own.reference = "none", "layout", "/tmp/robot.png"
    assert own.shade_settings().control_clip == "auto"  # the embedded model does not follow it
    assert not own.shot_request("Layer").needs_clay
    assert own.shot_request("Layer").references == ()
    own.model = "wan-vace-1.3b"
    assert own.shade_settings().control_clip == "layout"
    request = own.shot_request("Layer")
    assert request.needs_clay
    assert request.references == ("/tmp/robot.png",)
    assert ShotRequest.from_dict(request.to_dict()).references == request.references
    own.control_clip, own.reference = "auto", ""
    assert not own.shot_request("Layer").needs_clay  # depth
    own.apply_job(request, ShadeSettings(model="wan-vace-1.3b", control_clip="layout"))
    assert (own.control_clip, own.reference) == ("layout", "/tmp/robot.png")
    own.video_lora, own.video_lora_strength = "/tmp/clay.safetensors", 0.7
    assert own.shade_settings().video_loras == ("/tmp/clay.safetensors:0.7",)
    own.apply_job(request, ShadeSettings(model="wan-vace-1.3b", video_loras=("C:\\a.safetensors:0.5", "b:1")))
    assert (own.video_lora, own.video_lora_strength) == ("C:\\a.safetensors", 0.5)
    own.model = "das-cogvideox-5b"
    assert own.shade_settings().video_loras == ()  # which it does not take
    text = texts.model_text(registry.spec("wan-vace-1.3b"))
    assert "Follows: depth, gray clay renders." in text
    assert "Any use, also commercial." in text
    own.model, own.footage, own.control_clip = "wan-animate-2-14b", "/tmp/dance.mp4", "render"
    assert own.shot_request("Layer").needs_renders
    assert own.shade_settings().footage == ""
    own.control_clip = "footage"
    settings = own.shade_settings()
    assert (settings.footage, settings.follows) == ("/tmp/dance.mp4", "footage")
    assert not own.shot_request("Layer").needs_renders
    own.footage = ""
    own.apply_job(request, settings)
    assert (own.control_clip, own.footage) == ("footage", "/tmp/dance.mp4")


def test_strengths_keep_their_order(scene: bpy.types.Scene) -> None:
    own = scene.trackshade
    own.control_scale, own.control_start, own.control_end = 0.7, 0.25, 0.5
    found = own.shade_settings()
    assert (found.control_scale, found.control_start, found.control_end) == (0.7, 0.25, 0.5)
    own.control_start = 0.75
    assert own.control_end == 0.75
    own.control_end = 0.5
    assert own.control_start == 0.5


def test_placing_is_as_chosen(scene: bpy.types.Scene) -> None:
    own = scene.trackshade
    assert own.placement_options() == PlacementOptions("both", None, None)
    own.place_as, own.distance, own.interpolation = "none", 2, "Closest"
    assert own.placement_options() == PlacementOptions(None, 2, "Closest")


def test_a_camera_that_has_left_the_scene_is_not_asked_for(scene: bpy.types.Scene) -> None:
    camera = bpy.data.objects.new("Other", bpy.data.cameras.new("Other"))
    scene.collection.objects.link(camera)
    scene.trackshade.camera = camera
    assert scene.trackshade.shot_request("Layer").camera == "Other"
    scene.collection.objects.unlink(camera)
    assert scene.trackshade.shot_request("Layer").camera is None


def test_a_jobs_settings_can_be_taken_back(scene: bpy.types.Scene) -> None:
    own = scene.trackshade
    what = ShotRequest(frames=(2.0, 18.0, 2.0), first_frame="none", light="render")
    sampling = ShadeSettings(prompt="clay", seed=9, steps=3, control_start=0.5, control_end=0.75)
    fitting = {"size_mode": "crop", "frame_rule": "step", "key_pictures": "first-frame", "output_size": "model"}
    fitting |= {"image_format": "exr", "alpha": True}
    settings = replace(sampling, **fitting, light="render", model_size=(144, 96))
    own.control_end = 0.25
    own.apply_job(what, settings)
    assert own.shade_settings() == settings
    assert own.shot_request("Layer") == replace(what, view_layer="Layer")
    own.randomize_seed()
    assert own.seed == 9  # which is locked
    own.seed_lock = False
    assert len({own.randomize_seed() or own.seed for _ in range(3)}) == 3


def test_settings_of_a_model_that_is_gone_are_refused_whole(scene: bpy.types.Scene) -> None:
    own = scene.trackshade
    own.prompt = "kept"
    with pytest.raises(ModelError, match="gone-model"):
        own.apply_job(ShotRequest(), ShadeSettings(model="gone-model", prompt="new"))
    with pytest.raises(UsageError, match="no size 8x8"):
        own.apply_job(ShotRequest(), ShadeSettings(prompt="new", model_size=(8, 8)))
    assert (own.prompt, own.model, own.size) == ("kept", "mini", "auto")
    out = OutputFolder(Path("/nowhere"))
    job = Job(scene, ShotRequest(), ShadeSettings(model="gone-model"), PlacementOptions(), out)
    job.holds_scene = False  # it is over
    session.current().jobs.append(job)
    jobs_list.update_list(select_newest=True)
    with pytest.raises(RuntimeError, match="no model named 'gone-model'"):  # how a script hears of a report
        bpy.ops.trackshade.use_settings()
    assert own.prompt == "kept"


def test_a_checkpoint_is_in_the_menu_from_when_it_is_registered(
    scene: bpy.types.Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKSHADE_HOME", str(tmp_path))
    monkeypatch.setattr(backend, "models", backend.ModelManager())
    own = scene.trackshade
    with pytest.raises(TypeError):
        own.model = "mine"
    checkpoints.register(tmp_path / "mine", "das-cogvideox-5b", ())
    backend.models._note_change()  # as at the end of what the panel does
    own.model, own.size = "mine", "720x480"
    assert own.shade_settings().model_size == (720, 480)
    backend.models.remove("mine")
    found = own.shade_settings()  # the menu has it no more, and Blender takes the first
    assert (found.model, found.model_size) == ("mini", None)
    checkpoints.register(tmp_path / "mine", "mini", ())  # of other sizes now
    backend.models._note_change()
    own.model = "mine"
    with pytest.raises(TypeError):
        own.size = "720x480"


def test_a_look_is_kept_for_other_files(scene: bpy.types.Scene) -> None:
    own = scene.trackshade
    own.prompt, own.steps, own.seed, own.control_end = 'oil "paint" Öl', 7, 5, 0.5
    assert bpy.ops.trackshade.look_add(name="Test Oil Paint") == {"FINISHED"}
    path = next(
        path
        for folder in bpy.utils.preset_paths("trackshade/looks")
        for path in Path(folder).glob("[Tt]est_[Oo]il*.py")
    )
    try:
        own.prompt, own.steps, own.seed, own.control_end = "", 0, 6, 1
        bpy.ops.script.execute_preset(filepath=str(path), menu_idname="TRACKSHADE_MT_looks")
        assert (own.prompt, own.steps, own.seed, own.control_end) == ('oil "paint" Öl', 7, 6, 0.5)
    finally:
        path.unlink()


def test_the_looks_that_come_along_are_listed_and_each_can_be_used(scene: bpy.types.Scene) -> None:
    own = scene.trackshade
    own.steps, own.seed = 3, 5
    folders = [Path(folder) for folder in bpy.utils.preset_paths("trackshade/looks")]
    paths = [path for folder in folders if trackshade_addon.__path__[0] in str(folder) for path in folder.glob("*.py")]
    assert len(paths) > 3
    prompts = set()
    for path in paths:
        own.control_end = 0.25
        bpy.ops.script.execute_preset(filepath=str(path), menu_idname="TRACKSHADE_MT_looks")
        prompts.add(own.prompt)
        found = own.shade_settings()
        assert (found.steps, found.seed, found.model) == (3, 5, "mini")
        assert found.control_end >= 0.5
        assert bool(own.prompt) == (own.first_frame == "none")
    assert len(prompts) > 3
    trackshade_addon.unregister()
    try:
        assert not {path.parent for path in paths} & {*map(Path, bpy.utils.preset_paths("trackshade/looks"))}
    finally:
        trackshade_addon.register()


def test_the_settings_are_saved_with_the_file(scene: bpy.types.Scene, tmp_path: Path) -> None:
    scene.trackshade.prompt, scene.trackshade.model = "snow", "das-cogvideox-5b"
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scène.blend"))
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    assert bpy.context.scene.trackshade.prompt == ""
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "scène.blend"))
    assert bpy.context.scene.trackshade.prompt == "snow"
    assert bpy.context.scene.trackshade.model == "das-cogvideox-5b"


@given(st.integers(2, 60), st.floats(0.01, 20), st.integers(1, 59))
def test_time_left_of_even_steps(steps: int, each: float, done: int) -> None:
    left = TimeLeft()
    done = min(done, steps)
    for step in range(done + 1):
        left.update(Progress("running", step=step, steps=steps), 100 + step * each)
    assert left.seconds(100 + done * each) == pytest.approx((steps - done) * each, abs=1e-6)
    assert left.seconds(1e9) == 0  # never below
    left.update(Progress("decoding"), 0)
    assert left.seconds(0) is None


def test_a_line_says_where_a_job_is() -> None:
    assert texts.progress_text(Progress("running", step=3, steps=6), 65) == "Shading, 3 of 6, 1 min left"
    assert (
        texts.progress_text(Progress("rendering", "the first frame")) == "Blender is waiting: rendering the first frame"
    )
    elsewhere = Progress("rendering", "the first frame, in a separate Blender process", waits=True)
    assert texts.progress_text(elsewhere) == "Rendering: the first frame, in a separate Blender process"
    assert texts.progress_text(Progress("loading", "Drawing the tracks")) == "Loading: Drawing the tracks"


def test_errors_speak_of_the_panel_not_of_options() -> None:
    """Whatever way out the capture's errors name, in Blender it is none of the command line."""
    error = ShotError("no-camera", "No camera.", "Add one, or let --camera auto make one.")
    assert texts.error_text(error) == "No camera. Press Add Framing Camera, or select a camera under Shot."
    assert texts.error_text(ShotError("x", "A.", "Do B.")) == "A. Do B."
    assert texts.error_text(ShotError("x", "A: refused", "Do B.")) == "A: refused. Do B."
    assert texts.error_text(ShotError("unheard-of", "A.", "Use --b.")) == "A."


def test_every_way_out_that_names_a_command_has_one_in_the_panel() -> None:
    sources = [Path(package.__file__ or "").parent for package in (trackshade, trackshade_addon)]
    found = set()
    for path in (path for source in sources for path in source.rglob("*.py")):
        commands = {"cli", "exports", "training", "evaluation", "synthetic"}
        if path.name in ("commands.py", "options.py", "parsing.py", "chunks.py") or commands & {*path.parts}:
            continue  # which only a command line runs
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id.endswith("Error"):
                said = [ast.unparse(part) for part in call.args[2:3]]
                if said and texts.mentions_commands(said[0]) and isinstance(call.args[0], ast.Constant):
                    found.add(call.args[0].value)
    assert len(found) > 3
    assert found - texts.FIXES.keys() == set()


def test_a_path_beside_the_file_is_none_that_blender_shows_in_red(scene: bpy.types.Scene) -> None:
    paths = (preferences_panel.TrackshadePreferences.bl_rna, "results"), (scene.trackshade.bl_rna, "picture")
    for owner, name in paths:
        found = owner.properties[name]
        assert found.subtype in ("DIR_PATH", "FILE_PATH")
        assert getattr(found, "is_path_supports_blend_relative", True)
