# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
"""Training of `mini-matrix`: a denoiser of rows and columns of generated scenes, at all noise levels.

Every step renders scenes of its own from the seed and the step number. A scene gives a row (a video at a fixed camera),
columns (sweeps of the cameras at a frozen time) and single pictures, each with references that are warped into it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from trackshade.core.images import psnr
from trackshade.models.patch_autoencoder import PatchAutoencoder
from trackshade.models.reference_guided import CLIP_KINDS, ReferenceGuidedTransformer3DModel
from trackshade.pipelines.multiview.grid import Cell, cross
from trackshade.pipelines.multiview.matrix import MatrixModel, condition_tensors
from trackshade.pipelines.multiview.warping import ReferenceWarp, WarpedCells

from ..scenes.multiview import MultiviewScene, generate_multiview
from .config import MultiviewConfig
from .diffusion import encode
from .loop import TrainingRun, linear_schedule
from .precision import mixed_precision

RESIDUAL = 0.3  # typical deviation of clean latents from the warped references, for the weights of the noise levels
_SIGMAS = (0.05, 10.0)  # limits of the noise levels, log-uniform
_TERMINAL = 80.0  # noise level of the clips that are trained on noise alone
_VALIDATION_SCENES = 4
# Probabilities of what a clip has as references.
_REFERENCES = {"own": 0.3, "cross": 0.35, "row": 0.13, "column": 0.1, "corner": 0.07, "none": 0.05}


@dataclass(frozen=True, eq=False)
class ClipBatch:
    """B clips of one kind and length L."""

    latents: torch.Tensor  # [B, L, C, h, w] clean
    noise: torch.Tensor  # [B, L, C, h, w]
    sigma: torch.Tensor  # [B]
    kind: torch.Tensor  # [B] i64
    coordinates: torch.Tensor  # [B, L, 4, H, W]
    colors: torch.Tensor  # [B, L, 3, H, W] in -1..1
    visibility: torch.Tensor  # [B, L, 1, H, W]


class DenoisingModel(nn.Module):
    """The transformer as the one module whose gradients processes exchange."""

    def __init__(self, transformer: ReferenceGuidedTransformer3DModel, *, bf16: bool) -> None:
        super().__init__()
        self.transformer, self.bf16 = transformer, bf16

    def forward(self, batch: ClipBatch) -> torch.Tensor:
        """Return the estimate of a batch's clean latents, [B, L, C, h, w] float32."""
        noisy = batch.latents + batch.sigma.view(-1, 1, 1, 1, 1) * batch.noise
        with mixed_precision(noisy.device, self.bf16):
            return self.transformer(
                noisy, batch.sigma, batch.kind, batch.coordinates, batch.colors, batch.visibility
            ).float()


class SceneClips:
    """Makes clips of one generated scene, and renders every cell once."""

    def __init__(self, scene: MultiviewScene) -> None:
        self.scene, self._warp = scene, ReferenceWarp(scene.shot)
        self._pictures: dict[Cell, np.ndarray] = {}

    def picture(self, cell: Cell) -> np.ndarray:
        """Return a cell, [H, W, 3] uint8."""
        if cell not in self._pictures:
            self._pictures[cell] = self.scene.render(*cell)
        return self._pictures[cell]

    def sample(self, cell: Cell) -> int:
        """Return the index of a cell among the samples of the scene's shot."""
        return cell[1] * self.scene.num_views + cell[0]

    def warp(self, references: dict[Cell, np.ndarray], cells: list[Cell]) -> WarpedCells:
        """Return references warped into cells."""
        given = {self.sample(cell): image for cell, image in references.items()}
        return self._warp.warp(given, [self.sample(cell) for cell in cells])


class MultiviewTask:
    """Training of the transformer on rows and columns of generated scenes."""

    def __init__(self, vae: PatchAutoencoder, config: MultiviewConfig) -> None:
        self.vae, self.config = vae, config
        self._last: tuple[tuple[int, int, int], list[ClipBatch]] | None = None
        effects = vae.synthesis.square().sum(0).sqrt()  # of a latent's error on the image
        self.channel_weights = (effects / effects.mean())[None, None, :, None, None]

    def get_batch(self, step: int, part: int = 0, num_parts: int = 1) -> list[ClipBatch]:
        """Make the clips of the scenes of a step; see `TrainingTask`.

        Rendering and warping cost as much as the transformer, so `repeats` steps in a row have the same clips, with
        other noise at other levels.
        """
        config = self.config
        key = (step // config.repeats, part, num_parts)
        if self._last is None or self._last[0] != key:
            self._last = key, self._make_clips(*key)
        clips = self._last[1]
        rng = np.random.default_rng([config.seed, 12, step, part])
        count = sum(len(group.latents) for group in clips)
        levels = (rng.random() + np.arange(count) / count) % 1.0
        rng.shuffle(levels)
        sigma = torch.tensor([_sigma(float(level), config.terminal_fraction) for level in levels])
        generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
        return [
            replace(
                group,
                noise=torch.randn(group.latents.shape, generator=generator).to(group.latents.device),
                sigma=levels_of_group.to(group.latents.device),
            )
            for group, levels_of_group in zip(clips, sigma.split([len(g.latents) for g in clips]), strict=True)
        ]

    def _make_clips(self, number: int, part: int, num_parts: int) -> list[ClipBatch]:
        """Render scenes and warp references into their clips; the noise is zero."""
        config = self.config
        clips: dict[str, list[tuple[np.ndarray, WarpedCells]]] = {kind: [] for kind in CLIP_KINDS}
        for index in range(part, config.batch_size, num_parts):
            rng = np.random.default_rng([config.seed, 11, number, index])
            seed = config.first_seed + number * config.batch_size + index
            span, size = (config.least_span, config.greatest_span), (config.width, config.height)
            scene = SceneClips(generate_multiview(seed, size, config.num_views, config.num_frames, span))
            counts = {"row": config.rows, "column": config.columns, "frame": config.single_frames}
            for kind in (kind for kind, n in counts.items() for _ in range(n)):
                cells = _clip_cells(rng, kind, config.num_views, config.num_frames)
                references = _sample_references(rng, scene, cells)
                clips[kind].append((np.stack([scene.picture(cell) for cell in cells]), scene.warp(references, cells)))
        return [self._collate(kind, entries) for kind, entries in clips.items() if entries]

    def _collate(self, kind: str, clips: list[tuple[np.ndarray, WarpedCells]]) -> ClipBatch:
        latents = encode(self.vae, np.stack([clip[0] for clip in clips]))
        device = latents.device
        conditions = [condition_tensors(clip[1]) for clip in clips]
        coordinates, colors, visibility = (torch.stack(parts).to(device) for parts in zip(*conditions, strict=True))
        kinds = torch.full((len(clips),), CLIP_KINDS.index(kind), device=device)
        return ClipBatch(
            latents, torch.zeros_like(latents), torch.zeros(len(clips)), kinds, coordinates, colors, visibility
        )

    def compute_loss(self, model: nn.Module, batch: list[ClipBatch]) -> torch.Tensor:
        """Compute the mean squared error of the clean latents.

        Noise levels are weighted so that each has about the same loss; channels by their effect on the image.
        """
        total, cells = torch.zeros(()), 0
        for clips in batch:
            variance = clips.sigma.square()
            weights = (variance + RESIDUAL**2) / (variance * RESIDUAL**2)
            error = (model(clips) - clips.latents).square() * self.channel_weights
            length = clips.latents.shape[1]
            total = total.to(error.device) + (error.mean(dim=(1, 2, 3, 4)) * weights).sum() * length
            cells += len(clips.sigma) * length
        return total / cells

    def learning_rate_factor(self, step: int, progress: float) -> float:
        """See `TrainingTask`."""
        return linear_schedule(step, progress, self.config.warmup_steps)

    def validate(self, run: TrainingRun) -> dict[str, Any]:
        """Estimate rows of held-out scenes from noise and one reference, or a row and a column, and measure PSNR."""
        config, transformer = self.config, run.modules["transformer"]
        figures: dict[str, list[float]] = {}
        sheets = []
        for seed in range(_VALIDATION_SCENES):
            scene = SceneClips(
                generate_multiview(seed, (config.width, config.height), config.num_views, config.num_frames,
                                   split="held-out")
            )  # fmt: skip
            cells: list[Cell] = [(config.num_views - 1, frame) for frame in range(config.num_frames)]
            truth = np.stack([scene.picture(cell) for cell in cells])
            sets = {"own": [(0, 0)], "cross": cross(0, 0, range(config.num_views), range(config.num_frames))}
            videos = [truth]
            for name, references in sets.items():
                warped = scene.warp({cell: scene.picture(cell) for cell in references}, cells)
                coordinates, colors, visibility = (x[None] for x in condition_tensors(warped))
                shape = (1, len(cells), self.vae.config.latent_channels, *(n // 4 for n in truth.shape[1:3]))
                noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
                with mixed_precision("cpu", config.bf16):
                    estimate = transformer(
                        noise * _TERMINAL, torch.tensor([_TERMINAL]), torch.zeros(1, dtype=torch.int64),
                        coordinates, colors, visibility,
                    )  # fmt: skip
                video = MatrixModel(transformer, self.vae).decode(estimate[0])
                hidden = warped.visibility < 0.5
                blank = (warped.colors * 255).round().astype(np.uint8)
                for key, image in (("", video), ("_warp", blank)):
                    figures.setdefault(f"psnr_{name}{key}", []).append(psnr(truth, image))
                    if hidden.any():
                        figures.setdefault(f"psnr_{name}{key}_unseen", []).append(psnr(truth[hidden], image[hidden]))
                videos += [blank, video]
            sheets.append(videos)
        run.log.write_samples(sheets, run.progress.step)
        return {name: float(np.mean(values)) for name, values in figures.items()}


def _clip_cells(rng: np.random.Generator, kind: str, num_views: int, num_frames: int) -> list[Cell]:
    view, frame = int(rng.integers(num_views)), int(rng.integers(num_frames))
    if kind == "row":
        return [(view, f) for f in range(num_frames)]
    if kind == "column":
        return [(v, frame) for v in range(num_views)]
    return [(view, frame)]


def _sample_references(rng: np.random.Generator, scene: SceneClips, cells: list[Cell]) -> dict[Cell, np.ndarray]:
    """Sample which cells are the references of a clip, and return their pictures, some of them not quite right."""
    num_views, num_frames = scene.scene.num_views, scene.scene.num_frames
    choice = str(rng.choice(list(_REFERENCES), p=list(_REFERENCES.values())))
    view, frame = int(rng.integers(num_views)), int(rng.choice([0, 0, num_frames - 1, rng.integers(num_frames)]))
    found: list[Cell] = {
        "own": [cells[int(rng.choice([0, 0, len(cells) - 1, rng.integers(len(cells))]))]],
        "cross": cross(view, frame, range(num_views), range(num_frames)),
        "row": [(view, f) for f in range(num_frames)],
        "column": [(v, frame) for v in range(num_views)],
        "corner": [(view, frame)],
        "none": [],
    }[choice]
    if choice == "own" and len(cells) == 1:  # a single picture would be known
        found = [(view, cells[0][1]) if rng.random() < 0.5 else (cells[0][0], frame)]
    pictures = {cell: scene.picture(cell) for cell in found}
    if rng.random() < 0.4:  # as generated references are
        pictures = {cell: _disturb(rng, image) for cell, image in pictures.items()}
    return pictures


def _disturb(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Return a picture with other brightness and tint, and a little blurred; float32, sRGB-coded."""
    blurred = gaussian_filter(image.astype(np.float32) / 255, (*[rng.uniform(0, 0.9)] * 2, 0))
    changed = blurred * (1 + 0.05 * rng.normal(size=3)) + 0.03 * rng.normal(size=3)
    return np.clip(changed, 0, 1).astype(np.float32)


def _sigma(share: float, terminal_fraction: float) -> float:
    """Return the noise level at a place in 0..1 of their distribution."""
    if share < terminal_fraction:
        return _TERMINAL
    low, high = np.log(_SIGMAS)
    return float(np.exp(low + (high - low) * (share - terminal_fraction) / (1 - terminal_fraction)))


def initial_transformer(
    config: MultiviewConfig, vae: PatchAutoencoder, source: dict[str, Any], weights: dict[str, torch.Tensor]
) -> ReferenceGuidedTransformer3DModel:
    """Build the transformer with the weights of a warp-guided one or an earlier run, whose configuration is `source`.

    The tracking branch and text of a warp-guided one are left out, and of its patch embedding the channels of the first
    frame.
    """
    names = ("num_attention_heads", "attention_head_dim", "time_embed_dim", "text_embed_dim", "num_layers",
             "patch_size", "spatial_interpolation_scale", "attention_bias", "track_frequencies", "track_scale",
             "track_correction")  # fmt: skip
    channels = vae.config.latent_channels
    torch.manual_seed(config.seed)
    transformer = ReferenceGuidedTransformer3DModel(
        **{name: source[name] for name in names},
        in_channels=channels,
        out_channels=channels,
        sample_width=config.width // vae.config.patch_size,
        sample_height=config.height // vae.config.patch_size,
        sample_frames=config.num_frames,
        temporal_compression_ratio=1,
        max_text_seq_length=1,
    )
    target = dict(transformer.named_parameters())
    nn.init.normal_(transformer.kind_tokens, std=0.02)
    with torch.no_grad():
        for name, parameter in target.items():
            if name == "patch_embed.proj.weight":
                parameter.copy_(weights[name][:, :channels])
            elif name in weights:
                parameter.copy_(weights[name])
    return transformer
