# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures of grids of cameras and frames, and a whole evaluation with a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from trackshade.core.errors import UsageError
from trackshade.models.patch_autoencoder import PatchAutoencoder
from trackshade.models.reference_guided import ReferenceGuidedTransformer3DModel
from trackshade_lab.evaluation.multiview.__main__ import main
from trackshade_lab.evaluation.multiview.config import MultiviewEvaluation
from trackshade_lab.evaluation.multiview.measures import measure, seen_points
from trackshade_lab.evaluation.multiview.run import evaluate_multiview
from trackshade_lab.scenes.multiview import MultiviewScene, generate_multiview
from trackshade_lab.training.checkpoint import export_multiview

SIZE, V, F = (48, 32), 3, 4
KNOWN = np.zeros((V, F), np.bool_)
KNOWN[0] = KNOWN[:, 0] = True


@pytest.fixture(scope="module")
def scene() -> MultiviewScene:
    return generate_multiview(1, SIZE, V, F, split="held-out")


@pytest.fixture(scope="module")
def truth(scene: MultiviewScene) -> np.ndarray:
    return np.clip(scene.render_all(), 40, 200)  # so that offsets are not clipped


def _measure(scene: MultiviewScene, cells: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    unseen = np.zeros(truth.shape[:-1], np.bool_)
    unseen[..., :16, :] = True
    return measure(cells, truth, KNOWN, unseen, seen_points(scene, KNOWN))


def test_points_are_where_cells_show_them(scene: MultiviewScene, truth: np.ndarray) -> None:
    """A surface point has nearly one color in all cells of a frame, unlike points that are exchanged."""
    figures = _measure(scene, truth, truth)
    assert figures["error_row"] == figures["error_column"] == figures["error_off"] == 0.0
    assert figures["gradient"] == figures["change"] == 1.0
    points = seen_points(scene, KNOWN)
    assert points.visible.any(axis=(0, 1)).all()
    assert not KNOWN.reshape(-1)[points.pairs[:, 1:]].any()
    turned = _measure(scene, truth[..., ::-1, :].copy(), truth)
    assert turned["mismatch_column"] > 2 * figures["mismatch_column"]


def test_differences_between_rows_and_columns_are_told_apart(scene: MultiviewScene, truth: np.ndarray) -> None:
    offsets = np.array([0, 10, 16])
    by_view = _measure(scene, (truth + offsets[:, None, None, None, None]).astype(np.uint8), truth)
    assert by_view["error_row"] == pytest.approx(0.0, abs=1e-4)
    assert by_view["error_column"] == pytest.approx(6.0, abs=1e-4)  # of views 1 and 2, as view 0 is given
    assert by_view["error_off"] == pytest.approx(6.0, abs=1e-4)
    by_frame = _measure(scene, (truth + np.array([0, 0, 8, 0])[:, None, None, None]).astype(np.uint8), truth)
    assert by_frame["error_column"] == pytest.approx(0.0, abs=1e-4)
    assert by_frame["error_row"] > 3
    assert by_frame["change"] > 1.2


def test_sequences_are_those_of_the_cells_that_are_not_given(scene: MultiviewScene, truth: np.ndarray) -> None:
    wrong_where_given = np.where(KNOWN[..., None, None, None], 255 - truth, truth)
    figures = _measure(scene, wrong_where_given, truth)
    assert figures["psnr_raster"] > 100
    one_row = truth.copy()
    one_row[2, 1:] += 10
    figures = _measure(scene, one_row, truth)
    error = 20 * np.log10(255 / 10)
    assert figures["psnr_raster"] == pytest.approx(error + 10 * np.log10(2), abs=1e-3)  # half of the cells
    assert figures["psnr_columns"] == pytest.approx(error + 10 * np.log10(2), abs=1e-3)
    assert figures["psnr_unseen"] == pytest.approx(error + 10 * np.log10(2), abs=1e-3)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    vae = PatchAutoencoder(patch_size=4, latent_channels=8, refiner_width=8, refiner_layers=1)
    vae.fit(torch.rand(4, 3, 32, 48) * 2 - 1)
    transformer = ReferenceGuidedTransformer3DModel(
        num_attention_heads=1, attention_head_dim=16, in_channels=8, out_channels=8, time_embed_dim=16,
        text_embed_dim=8, num_layers=1, sample_width=12, sample_height=8, sample_frames=F, patch_size=2,
        temporal_compression_ratio=1, max_text_seq_length=1, spatial_interpolation_scale=1.0, track_frequencies=2,
    )  # fmt: skip
    return export_multiview(tmp_path_factory.mktemp("model") / "tiny", vae, transformer)


def test_an_evaluation_resumes_and_adds_seeds_and_arms(model_folder: Path, tmp_path: Path) -> None:
    def run(seeds: int, arms: tuple[str, ...], steps: int = 2) -> list[str]:
        messages: list[str] = []
        config = MultiviewEvaluation(
            model=model_folder, prompt="image", scenes=1, seeds=seeds, views=V, frames=F, size=SIZE, steps=steps,
            arms=arms, bf16=False,
        )  # fmt: skip
        evaluate_multiview(config, tmp_path, messages.append, sheets=1)
        return messages

    assert len(run(1, ("truth", "warp", "rows"))) == 3
    assert run(1, ("truth", "warp", "rows")) == []
    assert [line.split(" seed ")[0] for line in run(2, ("rows", "anchors"))] == [
        "scene 0 rows",
        "scene 0 anchors",
        "scene 0 anchors",
    ]
    report = json.loads((tmp_path / "report.json").read_text())
    assert {row["id"] for row in report["tables"]["arms"]} == {"truth", "warp", "rows", "anchors"}
    added = [line.split(" seed ")[0] for line in run(2, ("warp+light", "rows+light+detail"))]
    assert added == ["scene 0 warp+light", *["scene 0 rows+light+detail"] * 2]
    entries = json.loads((tmp_path / "report.json").read_text())["scenes"][0]["arms"]
    assert entries["warp+light"][0]["error_row"] < entries["warp"][0]["error_row"]
    assert "| anchors |" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "sheets" / "000-rows.png").is_file()
    with pytest.raises(UsageError, match="other settings"):
        run(1, ("rows",), steps=3)


@pytest.mark.parametrize("arm", ["diagonals", "rows+shade", "rows+light+light", "warp+detail", "mini+light"])
def test_an_unknown_arm_is_an_error(arm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path), "--arms", f"rows,{arm}"]) == 2
    assert f"no arm '{arm}'" in capsys.readouterr().err
