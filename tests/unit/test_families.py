# SPDX-License-Identifier: GPL-3.0-or-later
"""Families of video models on tiny random checkpoints of the published classes, loaded by the real loading code."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers.result_shots import at
from tests.helpers.result_shots import shot as moving_shot
from tests.helpers.tiny_families import PROMPT, write_family, write_lora
from trackshade.config import registry
from trackshade.config.memory_presets import GIB, choose_preset, next_preset
from trackshade.config.model_spec import CONTROL_CLIPS, INPUTS, ModelSpec
from trackshade.config.settings import ShadeSettings
from trackshade.control import tracking_video
from trackshade.core.errors import CancelledError, ModelError, ShotError, UsageError
from trackshade.results.video import write_video
from trackshade.server.job import JobRun
from trackshade.server.job_inputs import JobInputs
from trackshade.server.model_parts import CameraParts, make_camera_doer
from trackshade.server.models import Models
from trackshade.server.propagate import KeptWork
from trackshade.shot import Shot
from trackshade.shot.fitting import plan_fit

pytestmark = pytest.mark.slow

CASES = {  # family: its model, image size and number of frames of the tests
    "wan-vace": ("wan-vace-1.3b", (48, 32), 9),
    "wan-move": ("wan-move-14b", (48, 32), 9),
    "wan-animate": ("wan-animate-2-14b", (48, 32), 9),
    "cogvideox-fun": ("cogvideox-fun-5b-control", (48, 32), 9),
    "ltx": ("ltx-2.5-layout", (96, 64), 25),
}
# Tests are run family by family, so that each model is loaded once for several of them.
FAMILY_NAMES = tuple(CASES)
FAMILIES = pytest.mark.parametrize("family", FAMILY_NAMES, scope="module")
CASES |= {
    "wan2.2-vace": ("wan2.2-vace-fun-14b", (48, 32), 9),
    "distilled wan-animate": ("wan-animate-2-14b-distilled", (48, 32), 5),
}


@pytest.fixture(scope="module", autouse=True)
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKSHADE_MODELS", str(tmp_path_factory.mktemp("models")))
        yield


@pytest.fixture(scope="module")
def models() -> Models:
    """Models of one device, of which the last one is kept between tests."""
    return Models("cpu")


def tiny(family: str) -> ModelSpec:
    """The registry's entry with sizes and frames of the tests; LTX and Wan-Animate make them in two passes."""
    name, size, count = CASES[family]
    passes = {"ltx": {"pass_frames": 17, "held_frames": 9}, "wan-animate": {"pass_frames": 5}}.get(family, {})
    return dataclasses.replace(
        registry.spec(name), allowed_frame_counts=(count,), sizes=(size,), text_length=8, keeps_rate=False, **passes
    )


class Recorder:
    """Keeps what a job reports; raises once a number of steps are done, if asked for."""

    def __init__(self, cancel_at: int = 0) -> None:
        self.messages: list[str] = []
        self.steps: list[int] = []
        self.previews: list[bytes] = []
        self._cancel_at = cancel_at

    def report(self, state: str, message: str = "", preview: bytes | None = None, **details: Any) -> None:
        self.messages.append(message)
        if preview is not None:
            self.previews.append(preview)
        if "step" in details:
            self.steps.append(details["step"])
            if self._cancel_at and details["step"] >= self._cancel_at:
                raise CancelledError("cancelled", "Stop.")

    def check(self) -> None:
        pass


def squares(family: str, speed: float = 0.05) -> Shot:
    _, size, count = CASES[family]
    near = [at(0.5 - speed * t, 0.3, 1.5, scale=0.4) for t in range(count)]
    far = [at(speed * t, 0, 0, 2 * speed * t) for t in range(count)]
    return moving_shot([("Square", far), ("Small", near)], size=size)


def picture(family: str, seed: int = 0) -> np.ndarray:
    """A first frame with areas of a few colors."""
    _, (width, height), _ = CASES[family]
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return np.ascontiguousarray(blocks.repeat(height // 4, 0).repeat(width // 4, 1))


Make = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def plain_frames() -> dict[str, np.ndarray]:
    """Frames of families as `make` made them without changes, for all tests."""
    return {}


@pytest.fixture
def make(models: Models, plain_frames: dict[str, np.ndarray], tmp_path: Path) -> Make:
    """Runs the model of a job and returns its frames; those of a job without changes are made once."""
    folders = itertools.count()

    def run(family: str, **changes: Any) -> np.ndarray:
        if not changes:
            if family not in plain_frames:
                plain_frames[family] = run(family, memory="full")
            return plain_frames[family]
        first = changes.pop("first", picture(family))
        job = a_job(family, changes.pop("folder", tmp_path / str(next(folders))), **changes)
        return models.make_images(job, first, still=False)[0]

    return run


def a_job(
    family: str,
    folder: Path,
    shot: Shot | None = None,
    reporter: Recorder | None = None,
    inputs: JobInputs | None = None,
    **settings: Any,
) -> JobRun:
    """A job up to where its model's frames are made."""
    spec, shot = tiny(family), shot or squares(family)
    if not registry.is_present(spec):
        write_family(registry.model_folder(spec), family)
    steps = None if spec.has_fixed_steps else 2
    wanted = ShadeSettings(**{"model": spec.name, "steps": steps, "prompt": PROMPT, "points": 60, **settings})
    fit = plan_fit(shot, spec)
    tracking = tracking_video(fit.apply(shot))
    inputs, work = inputs or JobInputs(None, None, None, {}), KeptWork(folder, b"test")
    return JobRun(shot, spec, wanted, inputs, fit, tracking, work, folder, reporter or Recorder(), {})


@FAMILIES
def test_frames_follow_the_layout_and_the_look_and_are_equal_on_repeat(family: str, make: Make) -> None:
    made = make(family)
    _, (width, height), count = CASES[family]
    assert made.shape == (count, height, width, 3)
    assert np.array_equal(made, make(family, seed=0))  # made again
    assert not np.array_equal(made, make(family, shot=squares(family, speed=0.1)))
    assert not np.array_equal(made, make(family, seed=1))
    is_painted = "first-frame" in tiny(family).inputs
    look = make(family, first=picture(family, 5)) if is_painted else make(family, prompt="green floor red")
    assert not np.array_equal(made, look)


@FAMILIES
def test_steps_are_reported_and_a_job_is_cancelled_between_them(family: str, make: Make, tmp_path: Path) -> None:
    recorder = Recorder()
    make(family, reporter=recorder, preview_every=1)
    total = recorder.steps[-1]
    assert recorder.steps == list(range(total + 1))
    assert len(recorder.previews) == total - 1  # the last step is followed by the frames themselves
    for preview in recorder.previews:
        image = np.array(Image.open(io.BytesIO(preview)))
        assert image.shape == (CASES[family][1][1], CASES[family][1][0], 3)
        assert image.std() > 1
    with pytest.raises(CancelledError):
        make(family, reporter=Recorder(cancel_at=total - 1))


@FAMILIES
def test_what_was_made_is_kept_for_another_attempt(family: str, make: Make, tmp_path: Path) -> None:
    made = make(family, folder=tmp_path / "job")
    recorder = Recorder()
    assert np.array_equal(make(family, folder=tmp_path / "job", reporter=recorder), made)
    assert recorder.steps == []


@pytest.mark.parametrize(("family", "steps"), [("ltx", 8), pytest.param("wan-animate", 2, marks=pytest.mark.long)])
def test_a_model_begins_another_attempt_with_the_pass_that_was_not_made(
    family: str, steps: int, make: Make, tmp_path: Path
) -> None:
    whole = make(family, folder=tmp_path / "whole")
    with pytest.raises(CancelledError):  # in the second of two passes
        make(family, folder=tmp_path / "job", reporter=Recorder(cancel_at=2 * steps - 1))
    recorder = Recorder()
    assert np.array_equal(make(family, folder=tmp_path / "job", reporter=recorder), whole)
    assert recorder.steps == [0, *range(steps + 1, 2 * steps + 1)]
    assert "Pass 2 of 2" in recorder.messages


@FAMILIES
def test_a_first_frame_is_asked_for_where_a_model_needs_one(family: str, make: Make) -> None:
    if "first-frame" in tiny(family).needs:
        with pytest.raises(ShotError, match="picture of the first frame"):
            make(family, first=None)
    else:
        assert len(make(family, first=None)) == CASES[family][2]


@pytest.mark.parametrize(
    ("family", "memory"),
    [
        ("cogvideox-fun", "8"),
        ("cogvideox-fun", "24"),
        *(pytest.param(family, "8", marks=pytest.mark.long) for family in FAMILY_NAMES if family != "cogvideox-fun"),
        *(
            pytest.param(family, memory, marks=pytest.mark.long)
            for family in FAMILY_NAMES
            for memory in ("24", "12")
            if family != "wan-animate" and (family, memory) != ("cogvideox-fun", "24")  # all are "8" for Wan-Animate
        ),
    ],
)
def test_memory_presets_make_the_same_or_nearly_the_same_frames(family: str, memory: str, make: Make) -> None:
    whole, less = make(family).astype(int), make(family, memory=memory).astype(int)
    assert np.abs(less - whole).mean() < (12 if memory == "8" else 6)  # tiles change the decoded frames slightly
    assert less.std() > 1


def test_a_clip_that_a_model_does_not_follow_and_other_steps_are_refused(make: Make) -> None:
    with pytest.raises(UsageError, match="it follows layout"):
        make("ltx", control_clip="depth")
    with pytest.raises(UsageError, match="8 steps"):
        make("ltx", steps=16)
    assert not np.array_equal(make("wan-vace", control_clip="layout"), make("wan-vace", control_clip="depth"))


@pytest.mark.parametrize("family", ["wan-vace", pytest.param("wan-animate", marks=pytest.mark.long)])
def test_references_change_what_is_made(family: str, make: Make) -> None:
    reference = np.full((20, 30, 3), (200, 30, 30), np.uint8)
    inputs = JobInputs(None, None, None, {}, (reference,))
    made = make(family, inputs=inputs, memory="full")
    assert not np.array_equal(make(family), made)
    if "first-frame" in tiny(family).needs:  # which the reference stands for
        assert np.array_equal(make(family, inputs=inputs, first=None, memory="full"), made)


def test_a_character_follows_renders_and_footage(make: Make, tmp_path: Path) -> None:
    _, (width, height), count = CASES["wan-animate"]
    rng = np.random.default_rng(3)
    renders = rng.integers(0, 256, (count, height, width, 3), np.uint8)
    drawn = make("wan-animate")
    with pytest.raises(ShotError, match="own render, and none"):
        make("wan-animate", control_clip="render")
    followed = make("wan-animate", control_clip="render", inputs=JobInputs(None, renders, None, {}))  # type: ignore[arg-type]
    assert not np.array_equal(followed, drawn)
    video = tmp_path / "dance.mp4"
    write_video(video, np.repeat(renders, 4, axis=0), 24.0)
    with pytest.raises(UsageError, match="cannot be carried"):
        make("wan-animate", footage=str(video))
    of_footage = make("wan-animate", footage=str(video), output_size="model")
    assert not np.array_equal(of_footage, followed)
    write_video(video, renders[:3], 24.0)
    with pytest.raises(ShotError, match=r"lasts 0\.1"):
        make("wan-animate", footage=str(video), output_size="model")
    with pytest.raises(ShotError, match="on the backend's machine"):
        make("wan-animate", footage="https://example.org/a.mp4", output_size="model")
    with pytest.raises(ShotError, match="no driving footage"):
        make("wan-animate", control_clip="footage", output_size="model")
    with pytest.raises(UsageError, match="does not follow 'footage'"):
        make("wan-vace", footage=str(video))


def test_the_record_says_what_a_model_was_given(models: Models, tmp_path: Path) -> None:
    frame = picture("wan-vace")
    clay = np.full((9, 16, 24, 3), 0.3, np.float16)
    run = a_job("wan-vace", tmp_path, inputs=JobInputs(frame, None, clay, {4: frame}), control_clip="layout")  # type: ignore[arg-type]
    models.make_images(run, frame, still=False)
    assert run.used == {"control": "layout", "source": "clay renders", "pictures": [0, 4], "references": 0}


@pytest.mark.parametrize("family", ["wan-vace", "wan-move"])
def test_another_worker_makes_the_same_frames(family: str, models: Models, tmp_path: Path) -> None:
    """With key pictures, references and tracks where a model takes them; arrays arrive read-only."""
    frame, reference = picture(family), np.full((20, 30, 3), (200, 30, 30), np.uint8)
    run = a_job(family, tmp_path, inputs=JobInputs(frame, None, None, {4: frame}, (reference,)))
    parts = CameraParts(models, [(run, frame)], still=False)
    expected, digests = parts.take(0, parts.do(0))
    header, arrays = parts.pack_part(0)
    for array in arrays:
        array.flags.writeable = False
    result = make_camera_doer(parts.pack(), models, Recorder())((header, arrays))
    np.testing.assert_array_equal(result[1][0], expected)
    assert result[0]["digests"] == digests


@pytest.mark.long
def test_two_devices_make_the_frames_of_one(models: Models, tmp_path: Path) -> None:
    """They skip the same steps, and have the same LoRAs."""
    family, seer = "wan-move", {"steps": 6, "cache_method": "taylorseer", "cache_interval": 3}
    both = Models("cpu+cpu")
    write_family(registry.model_folder(tiny(family)), family)
    transformer = models.load(tiny(family), Recorder().report).model.pipeline.transformer
    seer["video_loras"] = (str(write_lora(tmp_path / "style.safetensors", transformer)),)
    folders = itertools.count()

    def made(models: Models, strength: float = 1.0, **settings: Any) -> np.ndarray:
        job = a_job(family, tmp_path / str(next(folders)), **seer | settings)
        loaded = models.load(job.spec, job.reporter.report, settings=job.settings)
        loaded.model.pipeline.set_adapters(["lora0"], [strength])
        frames, _ = models.make_images(job, picture(family), still=False)
        assert job.memory.get("devices") == (["cpu", "cpu"] if models is both else None)
        return frames.astype(int)

    skipping = made(models)
    assert np.abs(made(both) - skipping).max() <= 1
    assert np.abs(made(both, cache_interval=1) - skipping).max() > 1
    plain = made(models, strength=0.0)
    assert np.abs(plain - skipping).max() > 1
    assert np.abs(made(both, strength=0.0) - plain).max() <= 1
    with pytest.raises(ModelError, match="would skip different steps by first-block"):
        made(both, cache_method="first-block", cache=0.1)
    with pytest.raises(ModelError, match="cannot be compiled"):
        made(both, compile=True)
    reporter = Recorder()
    both.make_images(a_job("wan-animate", tmp_path / "other", reporter=reporter), picture("wan-animate"), still=False)
    assert "wan-animate-2-14b cannot be split between devices and runs on cpu alone" in reporter.messages


def test_a_model_with_a_second_transformer_runs_and_caches_both(models: Models, tmp_path: Path) -> None:
    spec = tiny("wan2.2-vace")
    write_family(registry.model_folder(spec), "wan-vace", second=True)
    plain = a_job("wan2.2-vace", tmp_path / "plain", steps=16)
    pipeline = models.load(spec, plain.reporter.report, settings=plain.settings).model.pipeline
    ran: list[int] = []
    for number, transformer in enumerate((pipeline.transformer, pipeline.transformer_2)):
        transformer.blocks[1].norm1.register_forward_hook(lambda *_, number=number: ran.append(number))
    frames, _ = models.make_images(plain, picture("wan-vace"), still=False)
    whole = list(ran)
    assert frames.shape == (9, 32, 48, 3)
    assert whole == sorted(whole)
    assert set(whole) == {0, 1}
    ran.clear()
    seer = a_job("wan2.2-vace", tmp_path / "seer", steps=16, cache_method="taylorseer", cache_interval=4)
    models.make_images(seer, picture("wan-vace"), still=False)
    assert [ran.count(0) < whole.count(0), ran.count(1) < whole.count(1)] == [True, True]


def test_the_distilled_character_model_runs_without_guidance(make: Make, models: Models) -> None:
    spec = tiny("distilled wan-animate")
    write_family(registry.model_folder(spec), "wan-animate")
    transformer = models.load(spec, Recorder().report).model.pipeline.transformer
    modes: list[str] = []
    transformer.register_forward_pre_hook(lambda *call: modes.append(call[2]["kv_cache_mode"]), with_kwargs=True)
    made = make("distilled wan-animate", steps=3)
    assert made.shape == (5, 32, 48, 3)
    assert modes == ["extract", *["cached"] * 3]  # one prediction in each step
    assert not np.array_equal(made, make("distilled wan-animate", steps=3, first=picture("wan-animate", 5)))


def test_every_entry_of_the_registry_is_complete() -> None:
    for spec in registry.models():
        assert spec.controls
        assert set(spec.controls) <= set(CONTROL_CLIPS)
        assert set(spec.inputs) <= set(INPUTS)
        assert set(spec.needs) <= set(spec.inputs)
        assert spec.control_for("auto") == spec.controls[0]
        json.dumps(spec.to_dict())
        if spec.family.startswith("trackshade.pipelines.families.diffusion_shader"):
            continue
        assert spec.license_url.startswith("https://")
        assert spec.source.startswith("https://")
        assert spec.use.endswith(".")
        assert spec.download_bytes > GIB
        assert spec.key_pictures == "video"
        multiple = {"wan": 16, "ltx": 64, "cog": 16}[spec.name[:3]]
        assert all(side % multiple == 0 for size in spec.sizes for side in size)
        step = 8 if spec.name.startswith("ltx") else 4
        assert all(count % step == 1 for count in spec.allowed_frame_counts)


def test_a_frame_rule_is_described_and_the_rate_is_kept() -> None:
    assert registry.spec("mini").frame_rule == "17"
    vace = registry.spec("wan-vace-1.3b")
    assert vace.frame_rule == "4k+1, 5 to 81"
    assert vace.frame_counts_for(49, 24.0) == (33,)  # two seconds
    assert vace.frame_counts_for(500, 24.0) == (81,)
    assert vace.frame_counts_for(49, 24.0, "choose") == vace.allowed_frame_counts
    assert registry.spec("ltx-2.5-layout").frame_counts_for(1000, 24.0) == (1001,)
    assert registry.spec("das-cogvideox-5b").frame_counts_for(49, 24.0) == (49,)


def test_a_model_has_memory_presets_of_its_own() -> None:
    spec = registry.spec("wan-vace-14b")

    def chosen(memory: str, free: int | None = None) -> str:
        return choose_preset(memory, spec.memory_bytes, free, spec.preset_bytes).name

    assert chosen("auto", 80 * GIB) == "full"
    assert chosen("auto", 48 * GIB) == "24"
    assert chosen("24") == chosen("auto", 24 * GIB) == "16"  # the parts that take turns do not fit in 24 GB
    assert chosen("12") == "12"
    assert chosen("8") == "8"
    following = next_preset(
        choose_preset("24", spec.memory_bytes, None, spec.preset_bytes), 56 * GIB, spec.preset_bytes
    )
    assert following is not None
    assert following.name == "12"
