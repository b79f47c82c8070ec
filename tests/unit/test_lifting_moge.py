# SPDX-License-Identifier: GPL-3.0-or-later
"""MoGe-2, which is used where its package is installed; without it, what is told."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest

from trackshade.cli.image_decoder import decode
from trackshade.core.errors import ModelError
from trackshade.core.images import write_png
from trackshade.lifting import lift_image
from trackshade.shot.lift_request import LiftRequest

torch = pytest.importorskip("torch")

CHANNELS = [32] * 5
FOV = 50.0  # degrees


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    write_png(tmp_path / "photo.png", np.random.default_rng(0).integers(0, 256, (96, 144, 3)).astype(np.uint8))
    return tmp_path / "photo.png"


def lift(photo: Path, weights: Path, fov: float | None = None) -> tuple[float, tuple[str, ...], bool]:
    """Return the field of view of a lifted photo in degrees, its warnings, and whether it is metric."""
    scene = lift_image(photo, LiftRequest(depth_model=str(weights), fov=fov), decode=decode)
    found = 2 * math.degrees(math.atan(scene.size[0] / 2 / scene.intrinsics[0, 0]))
    return found, tuple(scene.warnings), scene.notes["metric"]


def test_what_is_missing_is_told(photo: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There is no file") as caught:
        lift(photo, tmp_path / "gone.pt")
    assert caught.value.code == "missing-weights"
    if importlib.util.find_spec("moge") is None:
        torch.save({}, tmp_path / "model.pt")
        with pytest.raises(ModelError, match="needs the package moge") as caught:
            lift(photo, tmp_path / "model.pt")
        assert caught.value.code == "no-depth-package"


def test_depth_and_field_of_view(photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network's own classes with random weights; its points are put where a camera of 50 degrees sees a wall."""
    kind = pytest.importorskip("moge.model.v2").MoGeModel
    stack = {"dim_res_blocks": CHANNELS, "resamplers": ["bilinear"] * 4}
    config = {
        "encoder": {"backbone": "dinov2_vits14", "intermediate_layers": [5, 11], "dim_out": CHANNELS[0]},
        "neck": {**stack, "dim_in": [CHANNELS[0] + 2, 2, 2, 2, 2], "dim_out": [None] * 5},
        "points_head": {**stack, "dim_in": CHANNELS, "dim_out": [None] * 4 + [3]},
        "scale_head": {"dims": [384, 16, 1]},
        "num_tokens_range": [200, 400],
    }
    torch.manual_seed(0)
    state = {"model_config": config, "model": kind(**config).state_dict()}
    torch.save(state, tmp_path / "model.pt")

    def wall(self: object, points: torch.Tensor) -> torch.Tensor:
        height, width = points.shape[1:3]
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        x, y, z = (x - width / 2) / width, (y - height / 2) / width, 2 + 0.3 * (x > width / 2)
        across = 2 * math.tan(math.radians(FOV / 2))
        return torch.stack([x * across * z, y * across * z, z], dim=-1)[None]

    monkeypatch.setattr(kind, "_remap_points", wall)
    found, warnings, is_metric = lift(photo, tmp_path / "model.pt")
    assert found == pytest.approx(FOV, abs=0.1)
    assert any("50° was estimated by model.pt" in warning for warning in warnings)
    assert is_metric
    assert lift(photo, tmp_path / "model.pt", 60.0)[0] == pytest.approx(60.0)
    del state["model"]["encoder.backbone.cls_token"]
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(ModelError) as caught:
        lift(photo, tmp_path / "model.pt")
    assert caught.value.code == "damaged-weights"
