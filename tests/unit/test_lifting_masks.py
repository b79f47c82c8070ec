# SPDX-License-Identifier: GPL-3.0-or-later
"""Mask networks: tiny random checkpoints of SAM 2 in their published layout, and of EdgeTAM."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trackshade.cli.image_decoder import decode
from trackshade.core.errors import ModelError, UsageError
from trackshade.lifting import lift_image
from trackshade.lifting.mask_models import segment
from trackshade.shot.lift_request import LiftRequest, ObjectBox
from trackshade.shot.track_request import TrackRequest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIDE = 128  # px of the network's picture
BOXES = ((5.0, 6.0, 40.0, 50.0), (50.0, 10.0, 90.0, 60.0))


def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)


@pytest.fixture(scope="module", params=["sam2", "sam2_video"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    backbone = transformers.Sam2HieraDetConfig(
        hidden_size=8, image_size=[SIDE, SIDE], blocks_per_stage=[1, 1, 2, 1], embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2], global_attention_blocks=[3], window_size_per_stage=[4, 4, 4, 4],
    )  # fmt: skip
    vision = transformers.Sam2VisionConfig(
        backbone_config=backbone, backbone_channel_list=[64, 32, 16, 8], fpn_hidden_size=32,
        backbone_feature_sizes=[[SIDE // 4] * 2, [SIDE // 8] * 2, [SIDE // 16] * 2],
    )  # fmt: skip
    prompts = {"image_size": SIDE, "hidden_size": 32, "mask_input_channels": 4}
    decoder = {"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    parts = {"vision_config": vision, "prompt_encoder_config": prompts, "mask_decoder_config": decoder}
    torch.manual_seed(0)
    if request.param == "sam2":
        config = transformers.Sam2Config(**parts)
        model = transformers.Sam2Model(config)
    else:
        config = transformers.Sam2VideoConfig(**parts, image_size=SIDE)
        model = transformers.Sam2VideoModel(config)
    out = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(out)
    return out


def check_masks(folder: Path, kind: Any) -> None:
    """Compare with masks as transformers' own processor prepares and enlarges them, which needs torchvision."""
    picture = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    masks = segment(picture, BOXES, str(folder))
    mean, spread = (torch.tensor(values) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    pixels = ((torch.from_numpy(picture) / 255 - mean) / spread).permute(2, 0, 1)[None]
    model = kind.from_pretrained(folder).eval()
    with torch.inference_mode():
        found = model(pixel_values=pixels, input_boxes=torch.tensor([BOXES]), multimask_output=False).pred_masks[0]
    wanted = torch.nn.functional.interpolate(found, (SIDE, SIDE), mode="bilinear", align_corners=False)[:, 0] > 0
    assert 0 < wanted.float().mean() < 1
    for mask, other in zip(masks, wanted.numpy(), strict=True):
        shown = np.zeros_like(other) if mask is None else mask
        assert (shown == other).mean() > 0.99


def test_boxes_are_cut_out_by_a_network(folder: Path, tmp_path: Path) -> None:
    check_masks(folder, transformers.Sam2Model)
    path = tmp_path / "photo.png"
    Image.fromarray(photo()).save(path)
    request = LiftRequest(boxes=tuple(ObjectBox(box) for box in BOXES), mask_model=str(folder), fov=60)
    scene = lift_image(path, LiftRequest.from_dict(json.loads(json.dumps(request.to_dict()))), decode=decode)
    seen = [mask is not None for mask in segment(photo(), BOXES, str(folder))]
    assert sum("nothing in its box" in sentence for sentence in scene.warnings) == seen.count(False)


def test_mask_models_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as raised:
        segment(photo(), BOXES, "nobody/no-such-mask-model")
    assert (raised.value.code, "mask model" in raised.value.message) == ("missing-weights", True)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError) as raised:
        segment(photo(), BOXES, str(tmp_path))
    assert raised.value.code == "wrong-model"


@pytest.mark.parametrize("request_class", [LiftRequest, TrackRequest])
def test_a_network_without_boxes_is_refused(request_class: type) -> None:
    with pytest.raises(UsageError, match="no box for it"):
        request_class(mask_model="somewhere")


class TinyBackboneConfig(transformers.PretrainedConfig):
    """The configuration of a network that stands for timm's, which the project does not install."""

    model_type = "trackshade_tiny_backbone"


class TinyBackbone(transformers.PreTrainedModel):
    """A picture at four sizes, from a quarter of its own on, as EdgeTAM's own backbone returns it."""

    config_class = TinyBackboneConfig

    def __init__(self, config: TinyBackboneConfig) -> None:
        super().__init__(config)
        self.steps = torch.nn.ModuleList(
            [torch.nn.Conv2d(3, 8, 4, 4), *(torch.nn.Conv2d(8, 8, 2, 2) for _ in range(3))]
        )
        self.post_init()

    def forward(self, pixel_values, **kwargs):
        out = []
        for step in self.steps:
            pixel_values = step(pixel_values)
            out.append(pixel_values)
        return transformers.modeling_outputs.BaseModelOutput(last_hidden_state=out)


@pytest.fixture(scope="module", params=["edgetam", "edgetam_video"])
def edge_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformers.AutoConfig.register(TinyBackboneConfig.model_type, TinyBackboneConfig, exist_ok=True)
    transformers.AutoModel.register(TinyBackboneConfig, TinyBackbone, exist_ok=True)
    vision = {
        "backbone_config": TinyBackboneConfig(), "backbone_channel_list": [8] * 4, "fpn_hidden_size": 32,
        "backbone_feature_sizes": [[SIDE // 4] * 2, [SIDE // 8] * 2, [SIDE // 16] * 2],
    }  # fmt: skip
    parts = {
        "vision_config": transformers.EdgeTamVisionConfig(**vision),
        "prompt_encoder_config": {"image_size": SIDE, "hidden_size": 32, "mask_input_channels": 4},
        "mask_decoder_config": {"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16},
    }
    torch.manual_seed(0)
    out = tmp_path_factory.mktemp(request.param)
    transformers.EdgeTamModel(transformers.EdgeTamConfig(**parts)).save_pretrained(out)
    if request.param == "edgetam_video":  # the published layout: the same weights, and those of the memory besides
        config = transformers.EdgeTamVideoConfig(**parts, image_size=SIDE).to_dict()
        (out / "config.json").write_text(json.dumps(config, default=str))
    return out


def test_edgetam_cuts_boxes_out(edge_folder: Path) -> None:
    check_masks(edge_folder, transformers.EdgeTamModel)


def test_edgetam_with_its_published_backbone_needs_timm(tmp_path: Path) -> None:
    if importlib.util.find_spec("timm"):
        pytest.skip("timm is installed")
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    (tmp_path / "config.json").write_text('{"model_type": "edgetam_video"}')
    with pytest.raises(ModelError) as raised:
        segment(photo(), BOXES, str(tmp_path))
    assert (raised.value.code, "timm" in (raised.value.fix or "")) == ("no-timm", True)
