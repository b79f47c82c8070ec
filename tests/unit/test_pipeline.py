# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportPrivateImportUsage=false, reportAttributeAccessIssue=false, reportArgumentType=false
"""The pipeline on a tiny random checkpoint of the published classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXImageToVideoPipeline, CogVideoXTransformer3DModel
from PIL import Image

from tests.helpers.tiny_checkpoint import FRAMES, HEIGHT, TRANSFORMER, WIDTH, write_checkpoint
from trackshade.core.errors import CancelledError, ModelError
from trackshade.models.das import TrackingTransformer3DModel
from trackshade.models.warp_guided import WarpGuidedTransformer3DModel
from trackshade.pipelines.diffusion_shader import DiffusionShaderPipeline, dynamic_guidance, explain_out_of_memory

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
TRACKING = RNG.integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> DiffusionShaderPipeline:
    pipeline = DiffusionShaderPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def shade(pipeline: DiffusionShaderPipeline, **changes):
    arguments = {
        "prompt": "a red box",
        "image": IMAGE,
        "tracking_video": TRACKING,
        "num_inference_steps": 3,
        "guidance_scale": 2.0,
        "generator": torch.Generator().manual_seed(1),
        "output_type": "uint8",
    }
    return pipeline(**(arguments | changes)).frames


def test_frames_have_the_tracking_videos_shape(pipeline):
    frames = shade(pipeline)
    assert frames.shape == (1, FRAMES, HEIGHT, WIDTH, 3)
    assert frames.dtype == np.uint8


def test_a_seed_means_the_same(pipeline):
    first, again = shade(pipeline, output_type="latent"), shade(pipeline, output_type="latent")
    other = shade(pipeline, output_type="latent", generator=torch.Generator().manual_seed(2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "green floor turning"},
        {"image": 255 - IMAGE},
        {"image": None},
        {"tracking_video": 255 - TRACKING},
        {"negative_prompt": "box"},
        {"guidance_scale": 4.0},
        {"use_dynamic_cfg": True},
        {"tracking_range": "demo"},
        {"control_scale": 0.5},
        {"control_start": 0.5},
    ],
)
def test_every_input_matters(pipeline, change):
    assert not torch.allclose(
        shade(pipeline, output_type="latent"), shade(pipeline, output_type="latent", **change), atol=1e-4
    )


def test_a_span_of_no_step_is_no_strength(pipeline):
    as_trained = shade(pipeline, output_type="latent")
    never = shade(pipeline, output_type="latent", control_end=0.1)  # the first step's middle is later
    assert torch.equal(never, shade(pipeline, output_type="latent", control_scale=0.0))
    assert torch.equal(as_trained, shade(pipeline, output_type="latent", control_start=0.1, control_end=0.9))


def test_forms_of_input_are_the_same(pipeline):
    expected = shade(pipeline, output_type="latent")
    as_tensors = shade(
        pipeline,
        output_type="latent",
        image=torch.tensor(IMAGE).movedim(-1, 0) / 255,
        tracking_video=torch.tensor(TRACKING).movedim(-1, 1) / 255,
    )
    as_pil = shade(
        pipeline,
        output_type="latent",
        image=Image.fromarray(IMAGE),
        tracking_video=[Image.fromarray(f) for f in TRACKING],
    )
    torch.testing.assert_close(as_tensors, expected)
    torch.testing.assert_close(as_pil, expected)


def test_output_types_agree(pipeline):
    data = shade(pipeline)
    assert np.abs(shade(pipeline, output_type="np") * 255 - data).max() <= 0.5 + 1e-3
    assert shade(pipeline, output_type="pt").shape == (1, FRAMES, 3, HEIGHT, WIDTH)
    assert np.array_equal(np.asarray(shade(pipeline, output_type="pil")[0][2]), data[0, 2])


def test_a_batch_is_its_parts(pipeline):
    noise = torch.randn(2, 3, 4, HEIGHT // 8, WIDTH // 8, generator=torch.Generator().manual_seed(5))
    modes = {"image": None, "output_type": "latent"}  # the autoencoder's own draws would differ
    pipeline.scheduler = CogVideoXDDIMScheduler.from_config(pipeline.scheduler.config)
    both = shade(pipeline, prompt=["a box", "a floor"], latents=noise, tracking_video=TRACKING, **modes)
    assert both.shape == noise.shape
    assert not torch.allclose(both[0], both[1])


def test_without_a_branch_it_is_diffusers_pipeline(folder: Path):
    """With the combine linears at zero, the result is that of diffusers' image-to-video pipeline, to float rounding."""
    torch.manual_seed(1)
    base = CogVideoXTransformer3DModel(**{k: v for k, v in TRANSFORMER.items() if k != "num_tracking_blocks"}).eval()
    ours = DiffusionShaderPipeline.from_pretrained(
        folder, transformer=TrackingTransformer3DModel.from_base(base, 2).eval()
    )
    ours.scheduler = CogVideoXDDIMScheduler.from_config(ours.scheduler.config)
    # type: ignore[arg-type]
    theirs = CogVideoXImageToVideoPipeline(ours.tokenizer, ours.text_encoder, ours.vae, base, ours.scheduler)
    for pipeline in (ours, theirs):
        pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 3, 4, HEIGHT // 8, WIDTH // 8, generator=torch.Generator().manual_seed(5))
    expected = theirs(
        Image.fromarray(IMAGE),
        "a red box",
        "box",
        HEIGHT,
        WIDTH,
        FRAMES,
        4,
        guidance_scale=3.0,
        use_dynamic_cfg=True,
        latents=noise,
        generator=torch.Generator().manual_seed(1),
        max_sequence_length=8,
        output_type="latent",
    ).frames
    made = shade(
        ours,
        negative_prompt="box",
        num_inference_steps=4,
        guidance_scale=3.0,
        use_dynamic_cfg=True,
        latents=noise,
        output_type="latent",
    )
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-4)


def test_first_frame_latents_are_scaled_and_padded(folder: Path, tmp_path: Path):
    plain = DiffusionShaderPipeline.from_pretrained(write_checkpoint(tmp_path, invert_scale_latents=False))
    inverted = DiffusionShaderPipeline.from_pretrained(folder)
    image = torch.tensor(IMAGE).movedim(-1, 0)[None] / 255
    first, second = (
        p.encode_first_frame(image, 3, torch.Generator().manual_seed(0)).detach() for p in (plain, inverted)
    )
    assert first.shape == (1, 3, 4, HEIGHT // 8, WIDTH // 8)
    assert not first[:, 1:].any()
    assert first[:, 0].any()
    torch.testing.assert_close(second, first / 0.7**2)


def test_the_demo_range_changes_the_video_but_not_the_tracking_image(pipeline):
    video = torch.tensor(TRACKING).movedim(-1, 1)[None] / 255
    with torch.no_grad():
        trained, demo = (pipeline.encode_tracking_video(video, way, None) for way in ("training", "demo"))
        first = pipeline.vae.encode(video[:, :1].transpose(1, 2) * 2 - 1).latent_dist.mode()
    assert trained.shape[2] == 8
    assert (trained[:, :, :4] - demo[:, :, :4]).abs().mean() > 0.05
    for latents in (trained, demo):  # draws differ by the posterior's deviation only
        deviation = pipeline.vae.encode(video[:, :1].transpose(1, 2) * 2 - 1).latent_dist.std.max()
        assert (latents[:, 0, 4:] * 0.7 - first[:, :, 0]).abs().max() < 6 * deviation


@pytest.mark.parametrize("timestep", [999, 979, 500, 19, 0])
def test_dynamic_guidance(timestep: int):
    share = np.float64(50 - timestep) / 50
    expected = float(1 + 6 * (1 - np.cos(np.pi * share**5)) / 2)
    assert dynamic_guidance(6.0, timestep, 50) == pytest.approx(expected, rel=1e-9)


def test_callback_sees_every_step_and_previews(pipeline):
    seen = []

    def callback(pipe, step, timestep, tensors):
        seen.append((step, timestep, pipe.preview_frame(tensors["denoised"])))
        return {}

    shade(pipeline, callback_on_step_end=callback, callback_on_step_end_tensor_inputs=("latents", "denoised"))
    assert [step for step, _, _ in seen] == [0, 1, 2]
    assert seen[0][1] == 999
    assert all(picture.shape == (HEIGHT, WIDTH, 3) and picture.dtype == np.uint8 for _, _, picture in seen)


def test_callback_can_replace_latents(pipeline):
    zeroed = shade(
        pipeline, output_type="latent", callback_on_step_end=lambda p, i, t, x: {"latents": x["latents"] * 0}
    )
    assert not zeroed.any()


def test_stop_ends_at_the_next_step(pipeline):
    steps = []

    def callback(pipe, step, timestep, tensors):
        steps.append(step)
        pipe.stop()

    with pytest.raises(CancelledError, match="step 2 of 3"):
        shade(pipeline, callback_on_step_end=callback)
    assert steps == [0]
    assert shade(pipeline).shape[1] == FRAMES  # and the next call is not stopped


def test_callback_may_raise(pipeline):
    def callback(*_):
        raise CancelledError()

    with pytest.raises(CancelledError):
        shade(pipeline, callback_on_step_end=callback)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"tracking_video": None}, "bad-input"),
        ({"tracking_video": TRACKING[:8]}, "bad-frames"),
        ({"tracking_video": TRACKING[:, :30], "image": IMAGE[:30]}, "bad-size"),
        ({"image": IMAGE[:16]}, "bad-size"),
        ({"tracking_video": TRACKING.astype(np.float32)}, "bad-input"),
        ({"image": "picture.png"}, "bad-input"),
        ({"tracking_range": "other"}, "bad-input"),
        ({"output_type": "gif"}, "bad-input"),
        ({"latents": torch.zeros(1, 2, 4, 4, 6)}, "bad-input"),
        ({"callback_on_step_end_tensor_inputs": ("weights",)}, "bad-input"),
    ],
)
def test_wrong_input_is_explained(pipeline, change, code):
    with pytest.raises(ModelError) as caught:
        shade(pipeline, **change)
    assert caught.value.code == code


def test_learned_positions_admit_one_size(tmp_path: Path):
    pipeline = DiffusionShaderPipeline.from_pretrained(write_checkpoint(tmp_path, learned_positions=True))
    pipeline.set_progress_bar_config(disable=True)
    assert shade(pipeline).shape[1] == FRAMES
    with pytest.raises(ModelError, match="takes 48x32"):
        shade(pipeline, tracking_video=TRACKING[:, :, :32], image=IMAGE[:, :32])
    with pytest.raises(ModelError, match="takes 9 frames"):
        shade(pipeline, tracking_video=TRACKING[:5])


def test_out_of_memory_is_explained():
    with pytest.raises(ModelError) as caught, explain_out_of_memory():
        torch.empty(1 << 60, dtype=torch.uint8)
    assert caught.value.code == "out-of-memory"


def test_slicing_and_tiling_are_options(folder: Path):
    pipeline = DiffusionShaderPipeline.from_pretrained(folder)
    assert not pipeline.vae.use_tiling
    pipeline.enable_vae_tiling()
    assert pipeline.vae.use_tiling
    assert pipeline.vae.use_slicing


def test_bfloat16(folder: Path):
    pipeline = DiffusionShaderPipeline.from_pretrained(folder, torch_dtype=torch.bfloat16)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.transformer.dtype == torch.bfloat16
    assert shade(pipeline).shape[1] == FRAMES


def test_saved_and_loaded_again(pipeline, tmp_path: Path):
    pipeline.save_pretrained(tmp_path)
    again = DiffusionShaderPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert torch.equal(shade(again, output_type="latent"), shade(pipeline, output_type="latent"))


@pytest.mark.parametrize("damage", ["class", "component", "index", "text", "vae"])
def test_damaged_checkpoints_are_named(tmp_path: Path, damage: str):
    write_checkpoint(tmp_path)
    path = tmp_path / "model_index.json"
    if damage == "class":
        index = json.loads(path.read_text())
        index["transformer"] = ["evil_module", "RunsCode"]
        path.write_text(json.dumps(index))
        named = "RunsCode"
    elif damage == "component":
        (tmp_path / "scheduler").rename(tmp_path / "elsewhere")
        named = "scheduler"
    elif damage == "index":
        path.write_text("{")
        named = "model_index.json"
    else:
        folder = tmp_path / ("text_encoder" if damage == "text" else "vae")
        weights = next(folder.glob("*.safetensors"))
        weights.write_bytes(weights.read_bytes()[:100])
        named = weights.name
    with pytest.raises(ModelError, match=named):
        DiffusionShaderPipeline.from_pretrained(tmp_path)


def test_pickled_weights_are_not_read(tmp_path: Path):
    write_checkpoint(tmp_path)
    weights = next((tmp_path / "text_encoder").glob("*.safetensors"))
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(ModelError, match="safetensors"):
        DiffusionShaderPipeline.from_pretrained(tmp_path)


@pytest.fixture
def stills(folder: Path) -> DiffusionShaderPipeline:
    """A pipeline whose model makes a first frame from prompt and tracks."""
    pipeline = DiffusionShaderPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.transformer.register_to_config(still_guidance=2.0)
    return pipeline


def test_a_first_frame_is_a_stage_that_calls_back(stills):
    seen = []

    def callback(pipe, step, timestep, tensors):
        seen.append((pipe.stage, step, timestep, pipe.num_timesteps, tensors["latents"].shape[1]))

    shade(stills, image=None, guidance_scale=1.0, callback_on_step_end=callback)
    assert [(stage, step) for stage, step, *_ in seen] == [
        *(("first frame", step) for step in range(3)), *(("video", step) for step in range(3, 6)),
    ]  # fmt: skip
    assert [timestep for _, _, timestep, _, _ in seen[:3]] == [timestep for _, _, timestep, _, _ in seen[3:]]
    assert {count for *_, count, _ in seen} == {6}
    assert [length for *_, length in seen] == [1] * 3 + [3] * 3
    seen.clear()
    shade(stills, callback_on_step_end=callback)
    assert [(stage, step, count) for stage, step, _, count, _ in seen] == [("video", step, 3) for step in range(3)]


def test_the_first_frame_stage_is_a_call_for_one_frame(stills):
    """Making the first frame in a call of its own, with the same generator, comes to the same video bit for bit."""
    generator = torch.Generator().manual_seed(1)
    still = shade(stills, image=None, tracking_video=TRACKING[:1], generator=generator, output_type="pt")
    video = shade(stills, image=still[:, 0], generator=generator, output_type="latent")
    assert torch.equal(video, shade(stills, image=None, output_type="latent"))


@pytest.mark.parametrize(("after", "left"), [(0, "step 2 of 6"), (2, "decoding"), (3, "step 5 of 6")])
def test_a_stop_is_obeyed_in_every_stage(stills, after: int, left: str):
    steps = []

    def callback(pipe, step, timestep, tensors):
        steps.append(step)
        if step == after:
            pipe.stop()

    with pytest.raises(CancelledError, match=left):
        shade(stills, image=None, callback_on_step_end=callback)
    assert steps == list(range(after + 1))
    assert stills.interrupt


@pytest.mark.parametrize("method", ["encode_prompt", "prepare_conditioning", "decode_latents"])
def test_a_stop_between_the_steps_is_not_lost(stills, monkeypatch: pytest.MonkeyPatch, method: str):
    called, original = [], getattr(stills, method)

    def stopping(*arguments, **options):
        called.append(method)
        stills.stop()
        return original(*arguments, **options)

    monkeypatch.setattr(stills, method, stopping)
    with pytest.raises(CancelledError):
        shade(stills, image=None)
    assert called == [method]


def test_a_first_frame_of_its_own_obeys_the_same_strength(tmp_path: Path):
    """Where the tracks do not lead the video, they do not lead the first frame that is made before it."""
    pipeline = DiffusionShaderPipeline.from_pretrained(write_checkpoint(tmp_path))
    pipeline.set_progress_bar_config(disable=True)
    pipeline.transformer.register_to_config(still_guidance=1.0)
    others = TRACKING[:, :, ::-1].copy()
    without = [shade(pipeline, image=None, tracking_video=t, control_scale=0.0) for t in (TRACKING, others)]
    np.testing.assert_array_equal(*without)
    led = [shade(pipeline, image=None, tracking_video=t) for t in (TRACKING, others)]
    assert (led[0] != led[1]).any()


def test_a_first_frame_of_its_own_is_guided_as_the_model_asks(tmp_path: Path):
    """The video is not: with a first frame the model's own guidance changes nothing."""
    pipeline = DiffusionShaderPipeline.from_pretrained(write_checkpoint(tmp_path))
    pipeline.set_progress_bar_config(disable=True)
    made: dict[tuple[float, bool], np.ndarray] = {}
    for guidance in (1.0, 4.0):
        pipeline.transformer.register_to_config(still_guidance=guidance)
        for image in (None, IMAGE):
            made[guidance, image is None] = shade(pipeline, image=image, guidance_scale=1.0)
    assert (made[1.0, True] != made[4.0, True]).any()
    np.testing.assert_array_equal(made[1.0, False], made[4.0, False])


def test_a_scheduler_of_another_noise_schedule_is_refused(pipeline):
    """The lookup's own estimate of the clean latents is right for one schedule only."""
    settings: dict[str, Any] = TRANSFORMER | {"track_frequencies": 2, "track_scale": 8, "track_snr_shift": 3.0}
    others = (pipeline.tokenizer, pipeline.text_encoder, pipeline.vae, WarpGuidedTransformer3DModel(**settings))
    DiffusionShaderPipeline(*others, CogVideoXDDIMScheduler(snr_shift_scale=3.0, rescale_betas_zero_snr=True))
    for shift, zero in ((1.0, True), (3.0, False)):
        wrong = CogVideoXDDIMScheduler(snr_shift_scale=shift, rescale_betas_zero_snr=zero)
        with pytest.raises(ModelError, match="noise schedule of SNR shift 3"):
            DiffusionShaderPipeline(*others, wrong)
