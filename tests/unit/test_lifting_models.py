# SPDX-License-Identifier: GPL-3.0-or-later
"""Depth networks: tiny random checkpoints of the published classes, in their published layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trackshade.cli.image_decoder import decode
from trackshade.core.errors import ModelError
from trackshade.lifting import lift_image
from trackshade.shot.lift_request import LiftRequest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


def make_model(kind: str):
    """Return a tiny model of a kind with random weights."""
    small = {"hidden_size": 12, "num_attention_heads": 2, "num_hidden_layers": 4}
    head = {"neck_hidden_sizes": [8] * 4, "fusion_hidden_size": 8}
    torch.manual_seed(0)
    if kind == "dpt":
        config = transformers.DPTConfig(
            **small, **head, intermediate_size=16, image_size=32, patch_size=16, backbone_out_indices=[0, 1, 2, 3]
        )
        return transformers.DPTForDepthEstimation(config)
    stages = [f"stage{index}" for index in range(1, 5)]
    if kind == "zoedepth":
        backbone = transformers.BeitConfig(
            **small,
            intermediate_size=16,
            image_size=32,
            patch_size=16,
            out_features=stages,
            reshape_hidden_states=False,
        )
        config = transformers.ZoeDepthConfig(
            backbone_config=backbone, backbone_hidden_size=12, **head, bottleneck_features=8, num_relative_features=8,
            bin_embedding_dim=8, num_attractors=[4, 2, 2, 1],
        )  # fmt: skip
        return transformers.ZoeDepthForDepthEstimation(config)
    backbone = transformers.Dinov2Config(
        **small, image_size=56, patch_size=14, out_features=stages, reshape_hidden_states=False, apply_layernorm=True
    )
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone, patch_size=14, reassemble_hidden_size=12, **head, head_hidden_size=8,
        depth_estimation_type="metric" if kind == "depth_anything_metric" else "relative", max_depth=20,
    )  # fmt: skip
    return transformers.DepthAnythingForDepthEstimation(config)


@pytest.fixture(name="photo")
def fixture_photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)).save(path)
    return path


@pytest.mark.parametrize("kind", ["depth_anything", "depth_anything_metric", "dpt", "zoedepth"])
def test_a_network_gives_the_depth(tmp_path: Path, photo: Path, kind: str) -> None:
    folder = tmp_path / kind
    make_model(kind).save_pretrained(folder)
    size = {"size": {"width": 98, "height": 98}, "ensure_multiple_of": 32 if kind in ("dpt", "zoedepth") else 14}
    (folder / "preprocessor_config.json").write_text(json.dumps(size))
    scene = lift_image(photo, LiftRequest(depth_model=str(folder), fov=60), decode=decode)
    assert scene.notes["source"] == f"model {folder}"
    assert scene.notes["metric"] == (kind in ("depth_anything_metric", "zoedepth"))
    assert any(mesh.kind in ("background", "sky") for mesh in scene.meshes)


def test_models_that_cannot_be_used_are_refused(tmp_path: Path, photo: Path) -> None:
    def code_of(name: str) -> str:
        with pytest.raises(ModelError) as raised:
            lift_image(photo, LiftRequest(depth_model=name), decode=decode)
        assert raised.value.fix
        return raised.value.code

    assert code_of("nobody/no-such-depth-model") == "missing-weights"
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    assert code_of(str(folder)) == "missing-weights"
    (folder / "model.safetensors").write_bytes(b"nothing")
    assert code_of(str(folder)) == "wrong-model"
    (folder / "config.json").write_text('{"model_type": "dpt"}')
    assert code_of(str(folder)) == "damaged-model"
    (folder / "config.json").write_text("[")
    assert code_of(str(folder)) == "damaged-model"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "out-of-memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out-of-memory"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "network-failed"),
    ],
)
def test_a_network_that_fails_says_why(
    tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    folder = tmp_path / "model"
    make_model("depth_anything").save_pretrained(folder)
    monkeypatch.setattr(transformers.DepthAnythingForDepthEstimation, "forward", fail)
    with pytest.raises(ModelError, match=f"depth model {folder}") as raised:
        lift_image(photo, LiftRequest(depth_model=str(folder), fov=60), decode=decode)
    assert (raised.value.code, bool(raised.value.fix)) == (code, True)
