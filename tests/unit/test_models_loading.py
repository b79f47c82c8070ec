# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportAttributeAccessIssue=false
"""From registry entry to pipeline: the embedded model, a checkpoint of the published classes, and what can be wrong."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.tiny_checkpoint import FRAMES, HEIGHT, WIDTH, write_checkpoint
from trackshade.config.registry import is_present, model_folder, models, spec
from trackshade.core.errors import ModelError
from trackshade.models.checkpoint import digest
from trackshade.models.das import TrackingTransformer3DModel
from trackshade.models.loading import COMPONENTS, check_checkpoint, component_class
from trackshade.models.warp_guided import WarpGuidedTransformer3DModel
from trackshade.pipelines.diffusion_shader import DiffusionShaderPipeline
from trackshade.pipelines.loading import load_pipeline
from trackshade_lab.scenes import generate_clip

pytestmark = pytest.mark.slow

MINI = spec("mini")


@pytest.fixture(scope="module")
def mini() -> DiffusionShaderPipeline:
    return load_pipeline(MINI, "cpu")


def test_every_fetched_model_has_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("TRACKSHADE_MODELS", str(tmp_path))
    folders = [model_folder(item) for item in models()]
    assert len(set(folders)) == len(folders)
    assert model_folder(spec("das-cogvideox-5b")).parent == tmp_path


def test_missing_weights_name_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("TRACKSHADE_MODELS", str(tmp_path))
    with pytest.raises(ModelError, match="trackshade models fetch das-cogvideox-5b") as caught:
        load_pipeline(spec("das-cogvideox-5b"), "cpu")
    assert caught.value.code == "missing-weights"
    write_checkpoint(tmp_path / "das-cogvideox-5b")
    shutil.rmtree(tmp_path / "das-cogvideox-5b" / "vae")
    with pytest.raises(ModelError, match=r"vae is missing. .*`trackshade models fetch das-cogvideox-5b`"):
        load_pipeline(spec("das-cogvideox-5b"), "cpu")


def test_a_checkpoint_of_the_published_classes_loads_by_its_spec(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("TRACKSHADE_MODELS", str(tmp_path))
    published = spec("das-cogvideox-5b")
    write_checkpoint(tmp_path / published.name)
    seen: list[tuple[float, str]] = []
    pipeline = load_pipeline(published, "cpu", progress=lambda share, what: seen.append((share, what)))
    assert is_present(published)
    assert [share for share, _ in seen] == sorted(share for share, _ in seen)
    assert seen[-1][0] == 1.0
    tracking = np.random.default_rng(0).integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    frames = pipeline("a box", tracking[0], tracking, num_inference_steps=2, output_type="uint8").frames
    assert frames.shape == (1, FRAMES, HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("change", [{"device": "gpu9000"}, {"memory": "cloud"}])
def test_unknown_options_are_explained(change: dict):
    with pytest.raises(ModelError):
        load_pipeline(MINI, **change)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_no_cuda_is_explained():
    with pytest.raises(ModelError, match="CUDA"):
        load_pipeline(MINI, "cuda")


def test_the_digest_is_of_names_and_bytes(tmp_path: Path):
    write_checkpoint(tmp_path)
    first = digest(tmp_path)
    assert digest(tmp_path) == first
    path = tmp_path / "scheduler" / "scheduler_config.json"
    path.write_text(path.read_text() + " ")
    second = digest(tmp_path)
    (tmp_path / "notes.txt").write_text("not part of the model")
    assert second not in (first, None)
    assert digest(tmp_path) == second


def test_mini_is_small_enough_to_ship_and_states_itself():
    folder = model_folder(MINI)
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 64 * 2**20
    assert (folder / "README.md").is_file()
    assert not [path for path in folder.rglob("*") if path.suffix in (".bin", ".pt", ".pkl", ".py")]


def test_mini_fits_its_spec(mini: DiffusionShaderPipeline):
    pipeline, config = mini, mini.transformer.config
    assert config.max_text_seq_length == MINI.text_length
    assert config.sample_frames in MINI.allowed_frame_counts
    assert (
        config.sample_width * pipeline.vae_scale_factor_spatial,
        config.sample_height * pipeline.vae_scale_factor_spatial,
    ) in MINI.sizes


@pytest.mark.parametrize("seeds", [(1, 2), pytest.param((2, 1), marks=pytest.mark.long)])
def test_mini_follows_tracks_on_a_scene_it_never_saw(seeds: tuple[int, int], mini: DiffusionShaderPipeline):
    """Its own tracks explain a held-out video better than another scene's and better than the first frame repeated."""
    clip, other = (generate_clip(seed, split="held-out", kind="vehicle") for seed in seeds)

    def error(tracking: np.ndarray) -> float:
        frames = mini(
            clip.caption,
            clip.video[0],
            tracking,
            num_inference_steps=2,
            guidance_scale=1.0,
            generator=torch.Generator().manual_seed(0),
            output_type="uint8",
        ).frames[0]
        return float(np.mean((frames[1:].astype(float) - clip.video[1:]) ** 2))

    still = float(np.mean((clip.video[:1].astype(float) - clip.video[1:]) ** 2))
    right = error(clip.tracking)
    assert right < 0.4 * error(other.tracking)
    assert right < 0.4 * still


def test_mini_starts_from_text_and_tracks_alone(mini: DiffusionShaderPipeline):
    clip = generate_clip(3, split="held-out")
    frames = mini(
        clip.caption, None, clip.tracking, num_inference_steps=2, guidance_scale=1.0, output_type="uint8"
    ).frames[0]
    assert frames.std() > 5  # a picture, not a grey field


def test_another_loader_can_be_named():
    with pytest.raises(ModuleNotFoundError):
        load_pipeline(dataclasses.replace(MINI, loader="trackshade.pipelines.nowhere:load"))


@pytest.mark.parametrize(("name", "class_name"), [(n, c) for n, known in COMPONENTS.items() for c in known])
def test_every_class_that_a_checkpoint_may_name_can_be_imported(name: str, class_name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert hasattr(component_class(name, class_name, tmp_path), "from_pretrained")


def rename_transformer(folder: Path, class_name: str, **config: Any) -> None:
    """Change a checkpoint's files to what another version wrote."""
    index_path, config_path = folder / "model_index.json", folder / "transformer" / "config.json"
    index = json.loads(index_path.read_text())
    index_path.write_text(json.dumps(index | {"transformer": ["trackshade", class_name]}))
    values = json.loads(config_path.read_text())
    config_path.write_text(json.dumps(values | config | {"_class_name": class_name}))


def test_a_checkpoint_from_before_the_two_classes_loads_as_the_warp_guided_one(
    mini: DiffusionShaderPipeline, tmp_path: Path
) -> None:
    """mini's files as earlier versions wrote them make the same video bit for bit."""
    folder = Path(shutil.copytree(model_folder(MINI), tmp_path / "mini"))
    rename_transformer(folder, "TrackingTransformer3DModel")
    old, new = DiffusionShaderPipeline.from_pretrained(folder), mini
    old.set_progress_bar_config(disable=True)
    assert type(old.transformer) is type(new.transformer) is WarpGuidedTransformer3DModel
    clip = generate_clip(3, size=(72, 48), num_frames=9, split="held-out")
    ours, theirs = (
        pipeline(
            clip.caption,
            tracking_video=clip.tracking,
            num_inference_steps=1,
            guidance_scale=1.0,
            generator=torch.Generator().manual_seed(0),
            output_type="latent",
        ).frames
        for pipeline in (old, new)
    )
    assert torch.equal(ours, theirs)
    assert check_checkpoint(folder)["like"] == "mini"


def test_a_published_checkpoint_from_before_the_two_classes_loads_as_the_published_one(tmp_path: Path) -> None:
    switched_off = {"track_frequencies": 0, "track_scale": 8, "still_guidance": 0.0, "pooled_text": False}
    rename_transformer(write_checkpoint(tmp_path), "TrackingTransformer3DModel", **switched_off)
    transformer = DiffusionShaderPipeline.from_pretrained(tmp_path).transformer
    assert type(transformer) is TrackingTransformer3DModel
    assert check_checkpoint(tmp_path)["like"] == "das-cogvideox-5b"


def test_a_folder_that_is_no_checkpoint_is_refused_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from trackshade.cli.backend_tasks import check\n"
        "try: check(sys.argv[1])\n"
        "except Exception as error: print(error.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["not-a-checkpoint", "False"]
