# SPDX-License-Identifier: GPL-3.0-or-later
"""What families of video models pass on, against its definition; and what they refuse to load."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.ltx2.utils import DISTILLED_SIGMA_VALUES
from diffusers.schedulers.scheduling_ddim_cogvideox import CogVideoXDDIMScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from safetensors.torch import load_file, save_file

from tests.helpers.propagation_reference import box_over_floor
from tests.helpers.tiny_families import write_family, write_lora
from tests.helpers.tiny_image_models import corrupt
from trackshade.cli.app import main
from trackshade.config import checkpoints, registry
from trackshade.control.tracks import Tracks, sample_tracks
from trackshade.core.errors import ModelError
from trackshade.pipelines.families.calls import denoised_estimate
from trackshade.pipelines.families.family import ModelInputs
from trackshade.pipelines.families.loading import load_model
from trackshade.pipelines.families.ltx import pass_conditions, plan_passes
from trackshade.pipelines.families.recognize import check_checkpoint
from trackshade.pipelines.families.wan_animate import mirrored_frames, plan_segments
from trackshade.pipelines.families.wan_move import copy_along_tracks, track_cells
from trackshade.pipelines.families.wan_vace import control_arrays
from trackshade.pipelines.parallel.arguments import pack
from trackshade.shot.fitting import resize_shot

pytestmark = pytest.mark.slow

SIZE = (48, 32)


def numbered(count: int) -> np.ndarray:
    """[T, H, W, 3] frames of which each has its own value."""
    return np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, SIZE[1], SIZE[0], 3), np.uint8)


def test_vace_keeps_given_pictures_at_their_frames() -> None:
    pictures = {0: np.full((SIZE[1], SIZE[0], 3), 200, np.uint8), 4: np.full((SIZE[1], SIZE[0], 3), 100, np.uint8)}
    clip = numbered(9)
    video, mask = control_arrays(ModelInputs(SIZE, 9, 16.0, clip, "depth", pictures=pictures))
    assert [int(frame.max()) for frame in video] == [200, 1, 2, 3, 100, 5, 6, 7, 8]
    assert [int(frame.max()) for frame in mask] == [0, 255, 255, 255, 0, 255, 255, 255, 255]
    assert mask.shape == (9, SIZE[1], SIZE[0])
    assert np.array_equal(clip, numbered(9))  # left as it was


def test_latents_are_copied_along_tracks_as_the_published_reader_does() -> None:
    """Every 4th frame, cells of 8 pixels; what is hidden or outside is left out; of two in a cell the nearer wins."""
    shot = resize_shot(box_over_floor(9, travel=0.2), SIZE)
    tracks = sample_tracks(shot, 200)
    latents = torch.randn(1, 3, 3, SIZE[1] // 8, SIZE[0] // 8, generator=torch.Generator().manual_seed(0))
    copied = copy_along_tracks(latents, torch.from_numpy(track_cells(tracks, SIZE)))
    expected = latents.clone()
    order = np.argsort(-tracks.depth[::4].mean(axis=0), kind="stable")
    for point in order:
        x0, y0 = tracks.pixels[0, point]
        for frame in (4, 8):
            x, y = tracks.pixels[frame, point]
            if tracks.visible[frame, point] and 0 <= x < SIZE[0] and 0 <= y < SIZE[1]:
                source = latents[:, :, 0, int(y0 // 8), int(x0 // 8)]
                expected[:, :, frame // 4, int(y // 8), int(x // 8)] = source
    assert torch.equal(copied, expected)
    assert torch.equal(copied[:, :, 0], latents[:, :, 0])
    assert (copied[:, :, 1:] != latents[:, :, 1:]).any()


def test_the_nearest_of_several_points_in_a_cell_is_copied() -> None:
    pixels = np.array([[[4.0, 4.0], [20.0, 4.0]], [[12.0, 4.0], [12.0, 4.0]]])
    tracks = Tracks(pixels, np.array([[5.0, 2.0]] * 2), np.zeros((2, 2, 3)), np.ones((2, 2), bool), np.zeros(2, int))
    cells = torch.from_numpy(track_cells(tracks, SIZE, stride=1))
    latents = torch.arange(12.0).reshape(1, 1, 2, 1, 6)
    assert copy_along_tracks(latents, cells)[0, 0, 1, 0].tolist() == [6, 2, 8, 9, 10, 11]  # from the second point


@pytest.mark.parametrize(
    ("frames", "passes"),
    [(401, [(0, 401)]), (409, [(0, 401), (376, 409)]), (1153, [(0, 401), (376, 777), (752, 1153)])],
)
def test_passes_hold_the_last_frames_of_the_one_before(frames: int, passes: list[tuple[int, int]]) -> None:
    assert plan_passes(frames, 401, 25) == passes
    assert all((end - start) % 8 == 1 for start, end in passes)
    assert plan_passes(frames, 0, 0) == [(0, frames)]


def test_a_pass_begins_with_held_frames_and_keeps_pictures_at_latent_frames() -> None:
    pictures = {frame: np.full((2, 2, 3), frame, np.uint8) for frame in (0, 9, 10, 25)}
    inputs = ModelInputs((2, 2), 33, 24.0, pictures=pictures)

    def held(start: int, end: int, count: int) -> list[tuple[int, list[int]]]:
        made = np.arange(start, start + count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
        found = pass_conditions(inputs, start, end, made)
        return [(index, [int(frame.max()) for frame in frames]) for index, frames in found]

    assert held(0, 33, 0) == [(0, [0]), (2, [9]), (4, [25])]  # frame 10 begins no latent frame
    assert held(8, 25, 9) == [(0, list(range(8, 17)))]  # frame 9 was made already
    assert held(16, 33, 9) == [(0, list(range(16, 25))), (2, [25])]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRACKSHADE_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("TRACKSHADE_HOME", str(tmp_path / "home"))
    return tmp_path / "models"


def test_ltx_denoises_by_the_distilled_schedule_as_it_is(folder: Path) -> None:
    write_family(folder / "ltx-2.5-layout", "ltx", upsampler=True)
    spec = registry.spec("ltx-2.5-layout")
    spec = dataclasses.replace(spec, sizes=((192, 128),), allowed_frame_counts=(9,), text_length=8)
    model: Any = load_model(spec, "cpu")
    scheduler = model.pipeline.scheduler
    scheduler.set_timesteps(sigmas=DISTILLED_SIGMA_VALUES)
    expected = [1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875, 0.0]
    np.testing.assert_allclose(scheduler.sigmas.numpy(), expected, atol=1e-6)
    from trackshade.config.settings import ShadeSettings
    from trackshade.pipelines.families.family import SamplingOptions

    clip = np.random.default_rng(0).integers(0, 255, (9, 128, 192, 3), np.uint8)
    steps: list[int] = []
    given: list[dict[str, Any]] = []
    model.pipeline.transformer.register_forward_pre_hook(lambda *call: given.append(call[2]), with_kwargs=True)
    frames = model.sample(
        ModelInputs((192, 128), 9, 24.0, clip, "layout", pictures={0: clip[0]}),
        SamplingOptions.of(spec, ShadeSettings(model=spec.name, prompt="a red box")),
        lambda done, total, message="", preview=None: steps.append(done),
        lambda name, make: make(),
    )
    assert frames.shape == clip.shape
    assert steps == list(range(12))  # eight steps at half the size, three to refine
    assert model.pipeline.get_active_adapters() == ["in-context"]
    assert len(given) == 11
    for arguments in given:  # what several devices would split: all is given, of all tokens, and can be sent
        pack(arguments, [])
        count = arguments["hidden_states"].shape[1]
        assert arguments["timestep"].shape == (1, count)
        assert arguments["video_coords"].shape == (1, 3, count, 2)
        assert arguments["audio_timestep"].shape == (1,)
        assert arguments["video_self_attention_mask"] is None


def test_previews_show_what_the_output_of_a_model_means() -> None:
    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(1, 4, 3, 2, 2, generator=generator) for _ in range(2))
    for scheduler in (
        UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
        FlowMatchEulerDiscreteScheduler(),
        CogVideoXDDIMScheduler(prediction_type="v_prediction"),
        CogVideoXDDIMScheduler(prediction_type="epsilon"),
    ):
        scheduler.set_timesteps(10)
        assert scheduler.timesteps is not None
        t: Any = scheduler.timesteps[4]
        if hasattr(scheduler, "alphas_cumprod") and "flow" not in scheduler.config.get("prediction_type", ""):
            level: Any = scheduler.alphas_cumprod[int(t)]
            sample = level.sqrt() * clean + (1 - level).sqrt() * noise
            velocity = level.sqrt() * noise - (1 - level).sqrt() * clean
            output = velocity if scheduler.config["prediction_type"] == "v_prediction" else noise
        else:
            sample, output = (1 - t / 1000) * clean + t / 1000 * noise, noise - clean
        torch.testing.assert_close(denoised_estimate(scheduler, output, t, sample), clean, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("frames", "segments", "driving"), [(81, 1, 81), (82, 2, 161), (161, 2, 161), (162, 3, 241)])
def test_a_driving_video_fills_whole_segments(frames: int, segments: int, driving: int) -> None:
    assert plan_segments(frames, 81, 1) == segments
    chosen = mirrored_frames(frames, driving)
    assert np.array_equal(chosen[:frames], np.arange(frames))
    assert np.abs(np.diff(chosen)).max() == 1
    assert chosen.max() == frames - 1


def test_the_prediction_without_the_prompt_sees_no_tracks(folder: Path) -> None:
    """Wan-Move guides away from what the model makes without prompt and tracks."""
    write_family(folder / "wan-move-14b", "wan-move")
    model: Any = load_model(registry.spec("wan-move-14b"), "cpu")
    seen: list[torch.Tensor] = []
    hook = lambda module, args, kwargs: seen.append(kwargs["hidden_states"][:, 20:].clone())  # noqa: E731
    model.pipeline.transformer.register_forward_pre_hook(hook, with_kwargs=True)
    from PIL import Image

    from trackshade.pipelines.families.wan import text_arguments

    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 48, 3), np.uint8))
    cells = torch.tensor([[[1, 1], [2, 3], [3, 5]]])
    text = text_arguments(model.pipeline, "a red box", "", 5.0, 8)
    model.pipeline(image, cells, num_frames=9, num_inference_steps=1, output_type="latent", **text)
    conditional, unconditional = (tensor[:, -16:] for tensor in seen)
    assert torch.equal(conditional, copy_along_tracks(unconditional, cells))
    assert not torch.equal(conditional, unconditional)


def test_a_checkpoint_is_checked_and_recognized(folder: Path) -> None:
    one = write_family(folder / "wan-vace-1.3b", "wan-vace")
    assert check_checkpoint(one)["like"] == "wan-vace-1.3b"
    two = write_family(folder / "two", "wan-vace", second=True)
    assert check_checkpoint(two)["like"] == "wan2.2-vace-fun-14b"
    assert check_checkpoint(two, "wan-vace-14b")["like"] == "wan-vace-14b"
    character = write_family(folder / "character", "wan-animate")
    assert check_checkpoint(character)["like"] == "wan-animate-2-14b"
    (character / "modular_model_index.json").write_text('{"_class_name": "WanAnimate2DistilledModularPipeline"}')
    assert check_checkpoint(character)["like"] == "wan-animate-2-14b-distilled"
    (two / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelError, match="no safetensors"):
        check_checkpoint(two)
    corrupt(one, "", "text_encoder", '["transformers", "BertModel"]')
    with pytest.raises(ModelError, match=r"text_encoder .* is BertModel"):
        check_checkpoint(one)
    corrupt(one, "", "transformer", "null")
    with pytest.raises(ModelError, match="names no transformer") as caught:
        check_checkpoint(one)
    assert "Diffusion as Shader" not in str(caught.value)
    with pytest.raises(ModelError, match="There is no folder"):
        check_checkpoint(folder / "nowhere")


def test_a_checkpoint_is_added_and_removed_by_commands(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = write_family(folder / "Mine", "wan-move")
    assert main(["models", "add", str(checkpoint), "--title", "My Wan-Move"]) == 0
    assert capsys.readouterr().out.split() == ["mine"]
    assert registry.spec("mine").title == "My Wan-Move"
    assert registry.spec("mine").needs == ("first-frame",)
    assert main(["models", "remove", "mine"]) == 0
    assert "mine" not in [item.name for item in registry.models()]
    assert main(["models", "add", str(folder)]) == 3
    assert main(["models", "fetch", "wan-move-14b", "--yes"]) == 3
    shown = capsys.readouterr().err
    assert "Any use, also commercial. About 82.0 GB." in " ".join(shown.split())


def test_an_encoder_with_missing_weights_is_refused(folder: Path) -> None:
    checkpoint = write_family(folder / "wan-vace-1.3b", "wan-vace")
    file = checkpoint / "text_encoder" / "model.safetensors"
    state = load_file(file)
    state.pop(next(key for key in state if "SelfAttention.q" in key))
    save_file(state, file, {"format": "pt"})
    with pytest.raises(ModelError, match=r"SelfAttention\.q\.weight is missing"):
        load_model(registry.spec("wan-vace-1.3b"), "cpu")


def test_ltx_needs_its_lora(folder: Path) -> None:
    checkpoint = write_family(folder / "ltx-2.5-layout", "ltx")
    shutil.rmtree(checkpoint / "ic-lora")
    with pytest.raises(ModelError, match="needs one LoRA file"):
        check_checkpoint(checkpoint)


def test_a_file_is_the_transformer_of_the_model_that_it_is_based_on(folder: Path, tmp_path: Path) -> None:
    base = write_family(folder / "wan-vace-1.3b", "wan-vace")
    file = tmp_path / "painterly.safetensors"
    shutil.copy(base / "transformer" / "diffusion_pytorch_model.safetensors", file)
    with pytest.raises(ModelError, match="does not tell its model"):
        check_checkpoint(file)
    with pytest.raises(ModelError, match="other parts of wan-vace-14b"):
        check_checkpoint(file, "wan-vace-14b")
    assert check_checkpoint(file, "wan-vace-1.3b")["like"] == "wan-vace-1.3b"
    for name, damaged in (("cut.safetensors", file.read_bytes()[:5000]), ("x.gguf", b"GGML"), ("z.safetensors", b"")):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(ModelError, match=name) as caught:
            check_checkpoint(tmp_path / name, "wan-vace-1.3b")
        assert caught.value.code == "damaged-weights"
    made = checkpoints.register(file, "wan-vace-1.3b", [item.name for item in registry.models()])
    spec = registry.spec(made.name)
    assert (made.name, registry.is_present(spec), registry.model_folder(spec)) == ("painterly", True, base)
    loaded: Any = load_model(spec, "cpu")
    expected: Any = load_model(registry.spec("wan-vace-1.3b"), "cpu")
    state = expected.pipeline.transformer.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded.pipeline.transformer.state_dict().items())
    weights = load_file(file)
    save_file({key: weights[key] for key in list(weights)[::2]}, tmp_path / "half.safetensors")
    half = checkpoints.register(tmp_path / "half.safetensors", "wan-vace-1.3b", [])
    with pytest.raises(ModelError, match="half") as caught:
        load_model(registry.spec(half.name), "cpu")
    assert caught.value.code == "wrong-weights"
    of_gguf = dataclasses.replace(spec, folder=str(file.rename(file.with_suffix(".gguf"))))
    write_gguf(file.with_suffix(".gguf"), state)
    for memory in ("full", "8"):
        read: Any = load_model(of_gguf, "cpu", memory=memory)
        whole, quantized = predict(expected.pipeline.transformer), predict(read.pipeline.transformer)
        assert 0 < (quantized - whole).abs().mean() < 0.02 * whole.abs().mean()


def write_gguf(path: Path, state: dict[str, torch.Tensor]) -> None:
    """Write weights in 8 bits where their rows have whole groups, as they are elsewhere."""
    gguf: Any = importlib.import_module("gguf")
    writer = gguf.GGUFWriter(str(path), "wan")
    kind = gguf.GGMLQuantizationType.Q8_0
    for key, value in state.items():
        array = value.numpy()
        if array.ndim == 2 and array.shape[1] % 32 == 0:
            writer.add_tensor(key, gguf.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(key, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@torch.no_grad()
def predict(transformer: Any) -> torch.Tensor:
    """What a tiny VACE transformer makes of fixed noise."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(transformer.dtype)

    return transformer(
        hidden_states=noise(1, 16, 3, 4, 6),
        timestep=torch.tensor([500]),
        encoder_hidden_states=noise(1, 8, 16),
        control_hidden_states=noise(1, 96, 3, 4, 6),
        return_dict=False,
    )[0].float()


def test_weights_in_4_bits_say_what_they_need(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_family(folder / "wan-move-14b", "wan-move")
    spec, find = registry.spec("wan-move-14b"), importlib.util.find_spec
    answers: dict[str, Any] = {"bitsandbytes": None}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: answers[name] if name in answers else find(name, *more)
    )
    for found, message in ((None, "need the package bitsandbytes"), (object(), "need a graphics card")):
        answers["bitsandbytes"] = found
        with pytest.raises(ModelError, match=message):
            load_model(spec, "cpu", quantize="nf4")
    monkeypatch.undo()
    monkeypatch.setenv("TRACKSHADE_MODELS", str(folder))
    model: Any = load_model(spec, "cpu", compiles=True)
    assert all(block._compiled_call_impl is not None for block in model.pipeline.transformer.blocks)


def test_loras_change_the_weights_and_others_are_refused(folder: Path, tmp_path: Path) -> None:
    write_family(folder / "wan-vace-1.3b", "wan-vace")
    spec = registry.spec("wan-vace-1.3b")
    plain: Any = load_model(spec, "cpu")
    lora = write_lora(tmp_path / "style.safetensors", plain.pipeline.transformer)
    model: Any = load_model(spec, "cpu", loras=[(lora, 0.5)])
    assert model.pipeline.get_active_adapters() == ["lora0"]
    assert model.pipeline.adapter_strengths == {"lora0": 0.5}
    with pytest.raises(ModelError, match=r"not a .safetensors file"):
        load_model(spec, "cpu", loras=[(tmp_path / "style.bin", 1.0)])
    with pytest.raises(ModelError, match="takes no LoRA files"):
        load_model(registry.spec("mini"), "cpu", loras=[(lora, 1.0)])
