# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportArgumentType=false
"""Samples grids of held-out scenes with every arm, and measures them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trackshade.control.video import tracking_video
from trackshade.models.checkpoint import digest
from trackshade.pipelines.multiview.arms import ARMS, known_cells, sample_with_arm
from trackshade.pipelines.multiview.cells import match_relighting
from trackshade.pipelines.multiview.grid import Cell
from trackshade.pipelines.multiview.matrix import MatrixDenoiser, MatrixModel
from trackshade.pipelines.multiview.prompts import complete_references
from trackshade.pipelines.multiview.sampling import Experts, karras_sigmas
from trackshade.pipelines.multiview.warping import ReferenceWarp
from trackshade.propagation import KeyPicture, Propagation
from trackshade.shot.cameras import through_camera
from trackshade_lab.scenes.multiview import MultiviewScene, generate_multiview

from ...training.attention import PlainAttention
from ...training.precision import has_fast_bf16
from ..generator import SamplingConfig, VideoGenerator
from ..store import EvaluationStore, write_bytes, write_json
from .config import BASELINES, ArmVariant, MultiviewEvaluation
from .measures import measure, seen_points
from .report import format_report, summarize, write_grid_sheet

_LEAST_SIGMA = 0.05


def evaluate_multiview(
    config: MultiviewEvaluation, out: Path, on_message: Callable[[str], None], force: bool = False, sheets: int = 6
) -> tuple[str, dict[str, Any]]:
    """Sample and measure all scenes that are not measured yet; return the report as Markdown, and its tables.

    Raises:
        ModelError: the folder holds no multiview denoiser.
        UsageError: the folder of the report holds an evaluation with other settings.
        OutputError: the folder cannot be written.
    """
    model = MatrixModel.load(config.model)
    model.transformer.set_attn_processor(PlainAttention())
    # Neither the number of scenes nor that of seeds changes what was measured.
    settings = {k: v for k, v in asdict(config).items() if k not in ("scenes", "seeds", "arms", "model")}
    store = EvaluationStore(out, settings | {"weights": digest(config.model)}, force)
    records: list[dict[str, Any]] = []
    text, summary = "", {}
    for number in range(config.scenes):
        name = f"{number:03d}"
        record = store.read(name) if store.has(name) else {"name": name, "arms": {}}
        missing = {arm: _missing_seeds(record, arm, config.seeds) for arm in config.arms}
        if any(missing.values()):
            _evaluate_scene(config, model, number, record, missing, out if number < sheets else None, on_message)
            store.write(record)
        records.append(record)
        summary = summarize(records)
        text = format_report(records, summary, config)
        write_json(out / "report.json", {"scenes": records, "tables": summary})
        write_bytes(out / "report.md", text.encode())
    return text, summary


def _missing_seeds(record: Mapping[str, Any], arm: str, seeds: int) -> list[int]:
    have = {entry["seed"] for entry in record["arms"].get(arm, [])}
    return [seed for seed in range(1 if ArmVariant.parse(arm).name in BASELINES else seeds) if seed not in have]


class _SceneGrid:
    """A held-out scene with what all of its arms need."""

    def __init__(self, config: MultiviewEvaluation, model: MatrixModel, number: int) -> None:
        self.config, self.model = config, model
        self.scene: MultiviewScene = generate_multiview(
            number, config.size, config.views, config.frames, config.span, split="held-out"
        )
        self.truth = self.scene.render_all()
        self.given: list[Cell] = known_cells(config.prompt, config.views, config.frames)
        self.known = np.zeros((config.views, config.frames), np.bool_)
        for cell in self.given:
            self.known[cell] = True
        self.points = seen_points(self.scene, self.known)
        self.references = {cell: np.ascontiguousarray(self.truth[cell]) for cell in self.given}
        self._denoisers: dict[bool, MatrixDenoiser] = {}
        _, self.unseen = self._warp(light=False)
        self._completed: dict[tuple[int, bool], dict[Cell, np.ndarray]] = {}

    def _light(self, sample: int) -> np.ndarray:
        frame, view = divmod(sample, self.config.views)
        return self.scene.clay[view, frame]

    def denoiser(self, light: bool) -> MatrixDenoiser:
        """Return the denoiser of the scene, with references that are relit or not."""
        if light not in self._denoisers:
            config, relighting = self.config, None
            if light:
                relighting = match_relighting(self.scene.shot, self.references, self._light)
            bf16 = config.bf16 and has_fast_bf16(self.model.transformer.device)
            warp = ReferenceWarp(self.scene.shot, relighting)
            temperature = None if warp.is_relit else config.temperature
            self._denoisers[light] = MatrixDenoiser(self.model, warp, bf16, temperature)
        return self._denoisers[light]

    def _warp(self, light: bool) -> tuple[np.ndarray, np.ndarray]:
        shape, denoiser = (self.config.views, self.config.frames), self.denoiser(light)
        parts = [[denoiser.warp_cell((v, f), self.references) for f in range(shape[1])] for v in range(shape[0])]
        colors = np.stack([np.concatenate([cell.colors for cell in row]) for row in parts])
        shown = np.stack([np.concatenate([cell.visibility for cell in row]) for row in parts])
        return (colors * 255).round().astype(np.uint8), shown < 0.5

    def baseline(self, variant: ArmVariant) -> np.ndarray:
        """Return the cells of a baseline, [V, F, H, W, 3] uint8."""
        name = variant.name
        if name == "truth":
            return self.truth
        if name == "autoencoder":
            flat = self.truth.reshape(-1, *self.truth.shape[2:])
            return self.model.decode(self.model.encode(flat)).reshape(self.truth.shape)
        if name == "warp":
            return self._warp(variant.light)[0]
        return self._rows_of_mini() if name == "mini" else self._propagate(variant.light)

    def _rows_of_mini(self) -> np.ndarray:
        """Return rows of the embedded video model, from their first frame or what the references show of it."""
        sampling = SamplingConfig.from_defaults("mini", prompts=False, size=self.config.size)
        frames = max(self.config.frames, sampling.frames)
        generator = VideoGenerator(replace(sampling, frames=frames))
        tracks = [
            tracking_video(through_camera(self.scene.captured, view), threads=1, needs_surface=False).frames
            for view in range(self.config.views)
        ]
        padded = [np.concatenate([video, video[-1:].repeat(frames - len(video), axis=0)]) for video in tracks]
        warped, _ = self._warp(light=False)
        images = [self.references.get((view, 0), warped[view, 0]) for view in range(self.config.views)]
        rows = [
            generator.generate([""], [image], [video], [view])[0][0][: self.config.frames]
            for view, (image, video) in enumerate(zip(images, padded, strict=True))
        ]
        return np.stack(rows)

    def _propagate(self, light: bool) -> np.ndarray:
        views = self.config.views
        keys = [KeyPicture(f * views + v, image) for (v, f), image in self.references.items()]
        propagation = Propagation(self.scene.shot, keys, light=self._light if light else None, threads=1)
        propagation.prepare()
        cells = [[propagation.frame(f * views + v).image for f in range(self.config.frames)] for v in range(views)]
        return (np.clip(np.array(cells), 0, 1) * 255).round().astype(np.uint8)

    def sample(self, variant: ArmVariant, seed: int) -> np.ndarray:
        """Return the cells that an arm samples, [V, F, H, W, 3] uint8."""
        config, denoiser = self.config, self.denoiser(variant.light)
        experts = Experts(dict.fromkeys(("row", "column", "frame"), denoiser))
        generator = torch.Generator().manual_seed(seed)
        shape = (config.views, config.frames, *self.model.encode(self.truth[0, :1]).shape[1:])
        noise = torch.randn(shape, generator=generator)
        sigmas = karras_sigmas(config.steps, _LEAST_SIGMA, config.greatest_sigma)
        key = seed, variant.light
        if key not in self._completed:
            self._completed[key] = complete_references(experts, noise, sigmas, self.references, denoiser.picture)
        references = self._completed[key]
        cells = sample_with_arm(
            ARMS[variant.name], experts, noise, sigmas, references, denoiser.picture,
            azimuths=np.radians(np.linspace(0, self.scene.span, config.views)).tolist(), generator=generator,
        )  # fmt: skip
        shown = references if variant.detail else {}
        rows = [
            [denoiser.picture((v, f), cells[v, f], shown) for f in range(config.frames)] for v in range(config.views)
        ]
        return np.array(rows)


def _evaluate_scene(
    config: MultiviewEvaluation,
    model: MatrixModel,
    number: int,
    record: dict[str, Any],
    missing: Mapping[str, list[int]],
    sheet_folder: Path | None,
    on_message: Callable[[str], None],
) -> None:
    """Add the figures of the missing arms and seeds to the record of a scene."""
    grid = _SceneGrid(config, model, number)
    record |= {
        "caption": grid.scene.scene.caption,
        "kind": grid.scene.scene.kind,
        "span": grid.scene.span,
        "unseen": float(grid.unseen[~grid.known].mean()),
    }
    for arm, seeds in missing.items():
        variant = ArmVariant.parse(arm)
        for seed in seeds:
            start = time.process_time()
            cells = grid.baseline(variant) if variant.name in BASELINES else grid.sample(variant, seed)
            seconds = time.process_time() - start
            figures = measure(cells, grid.truth, grid.known, grid.unseen, grid.points)
            record["arms"].setdefault(arm, []).append({"seed": seed, "seconds": seconds, **figures})
            on_message(
                f"scene {number} {arm} seed {seed}: {figures['psnr_raster']:.2f} dB, errors' mismatch off the cross "
                f"{figures['error_off']:.2f}, {seconds:.1f} s"
            )
            if seed == 0 and sheet_folder is not None:
                write_grid_sheet(sheet_folder / "sheets" / f"{number:03d}-{arm}.png", cells)
