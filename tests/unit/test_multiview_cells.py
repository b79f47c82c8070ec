# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes with several cameras, references warped into their cells, and the small denoiser of such cells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import trackshade
from trackshade.config.memory_presets import GIB
from trackshade.core.errors import ModelError, UsageError
from trackshade.core.images import psnr
from trackshade.models.patch_autoencoder import PatchAutoencoder
from trackshade.models.reference_guided import CLIP_KINDS, ReferenceGuidedTransformer3DModel
from trackshade.pipelines.multiview import arms
from trackshade.pipelines.multiview.cells import MOST_CLIPS, batch_for_memory, match_relighting, sample_cells
from trackshade.pipelines.multiview.grid import columns, cross, rows
from trackshade.pipelines.multiview.matrix import MatrixDenoiser, MatrixModel, condition_tensors
from trackshade.pipelines.multiview.prompts import complete_references
from trackshade.pipelines.multiview.sampling import Experts, all_references, sample_grid
from trackshade.pipelines.multiview.sequential import sample_rows
from trackshade.pipelines.multiview.warping import ReferenceWarp, WarpedCells
from trackshade.shot.cameras import through_camera
from trackshade_lab.scenes.multiview import MultiviewScene, generate_multiview
from trackshade_lab.training.checkpoint import export_multiview

SIZE, V, F = (48, 32), 3, 4


@pytest.fixture(scope="module")
def scene() -> MultiviewScene:
    return generate_multiview(3, SIZE, V, F, (90.0, 100.0), split="held-out", kind="spin")


@pytest.fixture(scope="module")
def truth(scene: MultiviewScene) -> np.ndarray:
    return scene.render_all()


@pytest.fixture(scope="module")
def warp(scene: MultiviewScene) -> ReferenceWarp:
    return ReferenceWarp(scene.shot)


@pytest.fixture(scope="module")
def model(truth: np.ndarray) -> MatrixModel:
    torch.manual_seed(0)
    vae = PatchAutoencoder(patch_size=4, latent_channels=8, refiner_width=8, refiner_layers=1)
    vae.fit(torch.from_numpy(truth.reshape(-1, *truth.shape[2:])).permute(0, 3, 1, 2) / 127.5 - 1)
    transformer = ReferenceGuidedTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=8, out_channels=8, time_embed_dim=16,
        text_embed_dim=8, num_layers=2, sample_width=12, sample_height=8, sample_frames=F, patch_size=2,
        temporal_compression_ratio=1, max_text_seq_length=1, spatial_interpolation_scale=1.0, track_frequencies=2,
    ).eval()  # fmt: skip
    transformer.track_lookup.initialize_encoder(vae.analysis, vae.mean)
    torch.nn.init.zeros_(transformer.proj_out.weight)
    torch.nn.init.zeros_(transformer.proj_out.bias)
    torch.nn.init.normal_(transformer.kind_tokens)
    return MatrixModel(transformer, vae.eval())


def test_cameras_of_a_scene_stand_on_an_arc_and_see_its_main_body(scene: MultiviewScene) -> None:
    eyes = np.stack([-m[:3, :3].T @ m[:3, 3] for m in scene.cameras])
    assert np.ptp(eyes[:, 2]) < 1e-9
    forward = scene.cameras[:, 2, :3]
    turned = np.degrees(np.arctan2(forward[:, 1], forward[:, 0]))
    assert (turned[-1] - turned[0]) % 360 == pytest.approx(scene.span, abs=1e-6)
    np.testing.assert_array_equal(scene.shot.camera.world_to_camera[2 * V + 1], scene.cameras[1])
    assert 90 <= scene.span <= 100
    again = generate_multiview(3, SIZE, V, F, (90.0, 100.0), split="held-out", kind="spin")
    np.testing.assert_array_equal(again.render(2, 1), scene.render(2, 1))
    other = generate_multiview(3, SIZE, V, F, (90.0, 100.0), split="train", kind="spin")
    assert (other.render(2, 1) != scene.render(2, 1)).any()


def test_references_are_warped_to_where_their_points_are(
    scene: MultiviewScene, truth: np.ndarray, warp: ReferenceWarp
) -> None:
    """What all other cells show of a cell is nearly its picture; one far away shows less of it, but that rightly."""
    target = 1 * V + 1
    cells = {f * V + v: truth[v, f] for v in range(V) for f in range(F)}
    others = {t: picture for t, picture in cells.items() if t != target}
    full, far = warp.warp(others, [target]), warp.warp({3 * V + 2: cells[3 * V + 2]}, [target])
    true = truth[1, 1]

    def error(warped_colors: np.ndarray, where: np.ndarray) -> float:
        return psnr(true[where], (warped_colors[0] * 255).round().astype(np.uint8)[where])

    assert full.visibility.mean() > far.visibility.mean() > 0.1
    repeated = warp.warp({}, [target]).colors + truth[1, 0] / np.float32(255)
    assert error(full.colors, full.visibility[0] > 0.9) > error(repeated, full.visibility[0] > 0.9) + 3
    shown = far.visibility[0] > 0.9
    assert error(far.colors, shown) > error(warp.warp({0: cells[0][:, ::-1].copy()}, [target]).colors, shown) + 3


def test_a_cell_as_its_own_reference_keeps_its_picture(truth: np.ndarray, warp: ReferenceWarp) -> None:
    own = warp.warp({V + 2: truth[2, 1]}, [V + 2])
    assert own.visibility.mean() > 0.9
    assert psnr(truth[2, 1], (own.colors[0] * 255).round().astype(np.uint8)) > 27  # rims are cleaned


def test_references_are_relit_by_clay_renders(scene: MultiviewScene, truth: np.ndarray, warp: ReferenceWarp) -> None:
    """The sides of a body that turns become brighter and darker, and so does what is warped onto them."""
    frame, known = F - 1, {0: truth[0, 0]}
    sample = frame * V
    relighting = match_relighting(scene.shot, {(0, 0): truth[0, 0]}, lambda t: scene.clay[t % V, t // V])
    kept = warp.warp(known, [sample])
    relit = ReferenceWarp(scene.shot, relighting).warp(known, [sample])
    np.testing.assert_array_equal(relit.visibility, kept.visibility)
    shown = kept.visibility[0] > 0.9

    def error(warped: WarpedCells) -> float:
        return psnr(truth[0, frame][shown], (warped.colors[0] * 255).round().astype(np.uint8)[shown])

    assert error(relit) > error(kept) + 2


def test_detail_of_references_is_not_lost_by_the_autoencoder(
    model: MatrixModel, truth: np.ndarray, warp: ReferenceWarp
) -> None:
    denoiser, cell = MatrixDenoiser(model, warp), (1, 1)
    latents = model.encode(truth[cell][None])[0]
    decoded = denoiser.picture(cell, latents)
    np.testing.assert_array_equal(decoded, model.decode(latents[None])[0])
    others = {other: truth[other] for other in [(0, 1), (2, 1), (1, 0), (1, 2)]}
    assert psnr(truth[cell], denoiser.picture(cell, latents, others)) > psnr(truth[cell], decoded) + 1


def test_without_references_nothing_is_visible_and_points_keep_one_color(
    scene: MultiviewScene, warp: ReferenceWarp
) -> None:
    samples = list(range(V * F))
    blank = warp.warp({}, samples)
    assert not blank.visibility.any()
    assert not blank.has_references
    coordinates, colors, visibility = condition_tensors(blank)
    assert coordinates.shape == (V * F, 4, SIZE[1], SIZE[0])
    assert not colors.any()
    assert not visibility.any()
    # Red and green of the first cell are the places of its own pixels.
    y, x = np.nonzero(blank.tracking[0].any(axis=-1))
    place = np.stack([(x + 0.5) / SIZE[0], (y + 0.5) / SIZE[1]], axis=1) * 255
    assert np.abs(blank.tracking[0][y, x, :2] - place).max() <= 1.0


@pytest.mark.parametrize("sigma", [0.05, 1.0, 50.0])
def test_an_untrained_denoiser_trusts_the_references_as_far_as_the_noise(
    model: MatrixModel, truth: np.ndarray, warp: ReferenceWarp, sigma: float
) -> None:
    """The correction is 0: the estimate is mean + s^2 / (s^2 + sigma^2) (noisy - mean), s half of the start value."""
    denoiser, clips = MatrixDenoiser(model, warp, temperature=0.5), rows([1], range(F))
    known = {(0, 0): truth[0, 0]}
    condition = denoiser.condition(clips, [known])
    noisy = sigma * torch.randn(1, F, 8, 8, 12, generator=torch.Generator().manual_seed(1))
    found = denoiser.denoise(noisy, sigma, condition)
    with torch.no_grad():
        mean = torch.stack([model.transformer.track_lookup.encoder(cell) for cell in condition.colors[0]])[None]
    shown = torch.nn.functional.avg_pool2d(condition.visibility[0], 4)[None]
    variance = 0.25 * torch.exp(2 * (np.log(0.1) + np.log(6.0) * (1 - shown))).clamp(0.0025, 4.0)
    torch.testing.assert_close(found, mean + variance / (variance + sigma**2) * (noisy - mean), rtol=1e-4, atol=1e-4)


def test_rows_and_columns_are_told_apart(model: MatrixModel, truth: np.ndarray, warp: ReferenceWarp) -> None:
    torch.manual_seed(3)
    torch.nn.init.normal_(model.transformer.proj_out.weight)
    denoiser, noisy = MatrixDenoiser(model, warp), torch.randn(1, F, 8, 8, 12)
    condition = denoiser.condition(rows([0], range(F)), [{}])
    as_row = denoiser.denoise(noisy, 1.0, condition)
    condition.kind[:] = CLIP_KINDS.index("column")
    assert (denoiser.denoise(noisy, 1.0, condition) - as_row).abs().max() > 1e-4
    torch.nn.init.zeros_(model.transformer.proj_out.weight)


def test_a_grid_from_a_row_and_a_column(model: MatrixModel, truth: np.ndarray, warp: ReferenceWarp) -> None:
    """With all references, cells are near the truth before anything is learned, and nearer than with their own one."""
    known = {cell: truth[cell] for cell in cross(0, 0, range(V), range(F))}
    denoiser = MatrixDenoiser(model, warp)
    experts = Experts({"row": denoiser, "column": denoiser, "frame": denoiser})
    noise = torch.randn(V, F, 8, 8, 12, generator=torch.Generator().manual_seed(2))

    def quality(name: str) -> float:
        cells = arms.sample_with_arm(arms.ARMS[name], experts, noise, [5.0, 0.5, 0.05, 0.0], known, denoiser.picture)
        pictures = model.decode(cells[1:, 1:].flatten(0, 1)).reshape(truth[1:, 1:].shape)
        return psnr(truth[1:, 1:], pictures)

    assert quality("all-alternating") > quality("columns")
    from_one = complete_references(experts, noise, [5.0, 0.05, 0.0], {(0, 0): truth[0, 0]}, denoiser.picture)
    assert {picture.shape for picture in from_one.values()} == {(SIZE[1], SIZE[0], 3)}


def test_an_exported_model_is_loaded_strictly(model: MatrixModel, tmp_path: Path) -> None:
    folder = export_multiview(tmp_path / "model", model.vae, model.transformer)
    loaded = MatrixModel.load(folder)
    for name, value in model.transformer.state_dict().items():
        torch.testing.assert_close(loaded.transformer.state_dict()[name], value.bfloat16().float())
    pictures = np.random.default_rng(0).integers(0, 256, (2, SIZE[1], SIZE[0], 3), np.uint8)
    np.testing.assert_array_equal(loaded.decode(loaded.encode(pictures)), model.decode(model.encode(pictures)))
    (folder / "model_index.json").write_text('{"_class_name": "DiffusionShaderPipeline"}', encoding="utf-8")
    with pytest.raises(ModelError, match="not a denoiser of several cameras"):
        MatrixModel.load(folder)


def test_models_that_mix_frames_get_references_first(scene: MultiviewScene, truth: np.ndarray) -> None:
    """Each row begins with its view's reference; what a reference shows comes from it, not from the blurred row."""
    starts: list[np.ndarray] = []
    blurred = gaussian_filter(truth, (0, 0, 2, 2, 0))

    def make_row(one: object, picture: np.ndarray) -> np.ndarray:
        starts.append(picture)
        return blurred[len(starts) - 1]

    known = {(v, 0): truth[v, 0] for v in range(V)} | {(0, f): truth[0, f] for f in range(F)}
    cells = sample_rows(scene.captured, known, make_row, threads=1)
    assert cells.shape == truth.shape
    for view, picture in enumerate(starts):
        np.testing.assert_array_equal(picture, truth[view, 0])
    np.testing.assert_array_equal(cells[1, 0], truth[1, 0])
    assert psnr(truth[1:, 1:], cells[1:, 1:]) > psnr(truth[1:, 1:], blurred[1:, 1:]) + 1.5


def test_a_shot_with_several_cameras_is_sampled_from_one_picture_of_any_size(
    model: MatrixModel, scene: MultiviewScene, truth: np.ndarray
) -> None:
    large = truth[0, 0].repeat(2, axis=0).repeat(2, axis=1)
    calls: list[tuple[int, int]] = []
    cells, again = (
        sample_cells(model, scene.captured, {(0, 0): large}, steps=2, size=SIZE, arm="all-rows", clips_per_batch=n,
                     progress=lambda done, total: calls.append((done, total)))
        for n in (1, 16)
    )  # fmt: skip
    assert cells.shape == truth.shape
    assert calls == [(1, 2), (2, 2)] * 2
    assert np.abs(cells.astype(int) - again).max() <= 1
    assert psnr(truth[0, 0], cells[0, 0]) > 20
    lit = sample_cells(model, scene.captured, {(0, 0): large}, steps=2, size=SIZE, arm="all-rows",
                       light=lambda t: scene.clay[t % V, t // V])  # fmt: skip
    assert psnr(truth[:, 1:], lit[:, 1:]) > psnr(truth[:, 1:], cells[:, 1:])


def test_the_memory_limits_how_many_clips_are_denoised_together() -> None:
    small, large, free = (144, 96), (720, 480), 4 * GIB
    assert batch_for_memory("full", large, free) == batch_for_memory("auto", large, None) == MOST_CLIPS
    assert batch_for_memory("8", small, free) == MOST_CLIPS
    batches = [batch_for_memory(memory, large, free) for memory in ("8", "12", "16", "24")]
    assert batches == sorted(batches)
    assert 1 <= batches[0] < batches[-1] < MOST_CLIPS
    assert batch_for_memory("auto", large, free) < batches[0]
    assert batch_for_memory("auto", large, 0) == 1


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ({}, {}, "No picture of any cell"),
        ({(0, F): "picture"}, {}, f"frame {F} of camera 0; the shot has {F} and {V}"),
        ({(0, 0): "picture"}, {"arm": "diagonals"}, "no arm 'diagonals'"),
        ({(0, 0): "picture"}, {"size": (48, 48)}, "does not have the aspect"),
    ],
)
def test_input_that_cannot_be_sampled_is_refused(
    model: MatrixModel, scene: MultiviewScene, truth: np.ndarray, given: dict, options: dict, message: str
) -> None:
    pictures = dict.fromkeys(given, truth[0, 0])
    with pytest.raises(UsageError, match=message):
        sample_cells(model, scene.captured, pictures, **{"size": SIZE, **options})


def test_one_camera_is_no_grid(model: MatrixModel, scene: MultiviewScene, truth: np.ndarray) -> None:
    with pytest.raises(UsageError, match="one camera"):
        sample_cells(model, through_camera(scene.captured, 0), {(0, 0): truth[0, 0]})


def test_long_clips_are_seen_in_windows(model: MatrixModel, truth: np.ndarray, warp: ReferenceWarp) -> None:
    lengths: list[int] = []

    class Recording(MatrixDenoiser):
        def denoise(self, cells, sigma, condition):  # type: ignore[no-untyped-def]
            lengths.append(cells.shape[1])
            return super().denoise(cells, sigma, condition)

    experts = Experts({"row": Recording(model, warp)}, longest_clip=3)
    noise = torch.randn(V, F, 8, 8, 12)
    sample_grid(experts, noise, arms.rows_only, [1.0, 0.0], {(0, 0): truth[0, 0]}, choose=all_references)
    assert set(lengths) == {3}


def test_the_embedded_model_estimates_rows_better_than_the_warped_reference_alone() -> None:
    """From noise, in one step, on held-out scenes; its own picture of the row's first frame is not given."""
    embedded = MatrixModel.load(Path(trackshade.__file__).parent / "models" / "mini-matrix")
    gains = []
    for seed in (20, 21):
        scene = generate_multiview(seed, split="held-out")
        denoiser, clips = MatrixDenoiser(embedded, ReferenceWarp(scene.shot)), rows([3], range(9))
        known = {(0, 0): scene.render(0, 0)}
        noise = 80.0 * torch.randn(1, 9, 16, 24, 36, generator=torch.Generator().manual_seed(seed))
        estimate = embedded.decode(denoiser.denoise(noise, 80.0, denoiser.condition(clips, [known]))[0])
        warped = np.concatenate([denoiser.warp_cell(cell, known).colors for cell in clips[0].cells])
        true = np.stack([scene.render(3, frame) for frame in range(9)])
        gains.append(psnr(true, estimate) - psnr(true, (warped * 255).round().astype(np.uint8)))
    assert np.mean(gains) > 0.1


def test_columns_of_windows_have_their_views_in_order() -> None:
    assert [clip.cells for clip in columns([0, 2], [5])] == [((0, 5), (2, 5))]
