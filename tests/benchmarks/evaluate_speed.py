# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportAttributeAccessIssue=false, reportPrivateImportUsage=false, reportArgumentType=false
# pyright: reportCallIssue=false
"""Speed and memory of Diffusion as Shader's transformer: attention, caches of steps, compiled blocks, 8-bit weights.

    python tests/benchmarks/evaluate_speed.py                  a small transformer, on a GPU if there is one
    python tests/benchmarks/evaluate_speed.py --full --compile the published size (8.2 billion parameters), on a GPU

Weights are random and made on the device, so nothing is downloaded. Each row denoises the same noise; the error is the
mean difference from the first row's latents, relative to their mean size. What is not installed is left out with the
reason. A step's time is that of the device, or the processor's time on a CPU. Random weights show what a cache skips,
not how its pictures look.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from diffusers import CogVideoXDPMScheduler
from diffusers.models.embeddings import get_3d_rotary_pos_embed

from trackshade.models.block_cache import BlockCache
from trackshade.models.das import TrackingTransformer3DModel
from trackshade.pipelines.families.caches import StepCache, set_hooks

FULL = {"num_layers": 42, "num_attention_heads": 48, "num_tracking_blocks": 18, "text_embed_dim": 4096}
SMALL = {"num_layers": 6, "num_attention_heads": 2, "num_tracking_blocks": 3, "text_embed_dim": 32}
BACKENDS = ("native", "flash", "_flash_3", "sage", "xformers")
THRESHOLDS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)
SERIES = ((1, 1), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2), (5, 1))  # interval and order of TaylorSeer


def build(is_full: bool, device: torch.device, dtype: torch.dtype) -> TrackingTransformer3DModel:
    """Return a random transformer on a device, with a branch that matters."""
    config = FULL if is_full else SMALL
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    with torch.device(device):
        model = TrackingTransformer3DModel(
            **config,
            attention_head_dim=64,
            in_channels=32,
            out_channels=16,
            max_text_seq_length=226 if is_full else 16,
            sample_width=90 if is_full else 12,
            sample_height=60 if is_full else 8,
            use_rotary_positional_embeddings=True,
            use_learned_positional_embeddings=False,
        )
    torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        for linear in (model.initial_combine_linear, *model.combine_linears):
            linear.weight.normal_(std=0.02)
    return model.eval()


def denoise(model: TrackingTransformer3DModel, is_full: bool, steps: int) -> tuple[torch.Tensor, float]:
    """Denoise fixed noise; return the latents and the seconds of a step, without the first one."""
    device, dtype = model.device, model.dtype
    frames, height, width, length = (13, 60, 90, 226) if is_full else (3, 8, 12, 16)
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype)

    latents, image = random(1, frames, 16, height, width), random(1, frames, 16, height, width)
    tracks, text = random(1, frames, 32, height, width), random(1, length, model.config.text_embed_dim)
    crop, grid = ((0, 0), (height // 2, width // 2)), (height // 2, width // 2)
    rotary = get_3d_rotary_pos_embed(64, crop, grid, frames, device=device)
    scheduler = CogVideoXDPMScheduler(
        prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing", snr_shift_scale=1.0
    )
    scheduler.set_timesteps(steps, device=device)
    previous, old, seconds = None, None, []
    for t in scheduler.timesteps:
        began = now(device)
        with model.cache_context("step"):
            velocity = model(
                hidden_states=torch.cat([latents, image], dim=2),
                encoder_hidden_states=text,
                timestep=t.expand(1),
                tracking_maps=tracks,
                image_rotary_emb=rotary,
                return_dict=False,
            )[0].float()
        seconds.append(now(device) - began)
        latents, old = scheduler.step(
            velocity, old, t, previous, latents, generator=torch.Generator().manual_seed(1), return_dict=False
        )
        latents, previous = latents.to(dtype), t
    return latents.float(), sum(seconds[1:]) / max(1, len(seconds) - 1)


def now(device: torch.device) -> float:
    """Return the seconds of the device's clock: after all its work on a GPU, of the processor on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


@torch.no_grad()
def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the published size")
    parser.add_argument("--compile", action="store_true", help="also compile the repeated blocks")
    parser.add_argument("--steps", type=int, default=20, help="denoising steps (default: 20)")
    options = parser.parse_args()
    if options.full and not torch.cuda.is_available():
        parser.error(
            "--full needs a CUDA device, and PyTorch finds none here. Without it, a small one runs on the CPU."
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model: Any = build(options.full, device, torch.bfloat16 if device.type == "cuda" else torch.float32)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{parameters / 1e9:.3f} billion parameters, {options.steps} steps, {device}, torch {torch.__version__}\n")
    print("| | s a step | peak memory, GB | blocks skipped | relative error |\n|---|---|---|---|---|")
    reference: list[torch.Tensor] = []
    runs = [0]  # steps in which the last block was run

    def count(*_: Any) -> None:
        runs[0] += 1

    counter = model.transformer_blocks[-1].norm2.register_forward_hook(count)

    def row(name: str, prepare: Callable[[], Any] = lambda: None, is_counted: bool = True) -> None:
        try:
            prepare()
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            runs[0] = 0
            latents, seconds = denoise(model, options.full, options.steps)
        except (ImportError, RuntimeError, ValueError) as error:
            print(f"| {name} | left out: {str(error).splitlines()[0][:80]} | | | |")
            return
        reference.append(latents)
        memory = f"{torch.cuda.max_memory_allocated(device) / 2**30:.1f}" if device.type == "cuda" else ""
        skipped = f"{options.steps - runs[0]} of {options.steps}" if is_counted and runs[0] < options.steps else ""
        error = float((latents - reference[0]).abs().mean() / reference[0].abs().mean())
        print(f"| {name} | {seconds:.4f} | {memory} | {skipped} | {error:.2g} |", flush=True)

    for backend in BACKENDS:
        row(f"attention: {backend}", lambda backend=backend: model.set_attention_backend(backend))
    model.set_attention_backend("native")
    for threshold in THRESHOLDS:
        model.block_cache = BlockCache(threshold)
        row(f"cache: threshold {threshold:g}")
    model.block_cache = None
    for interval, order in SERIES:
        set_hooks([model], StepCache("taylorseer", interval=interval, order=order))
        row(f"TaylorSeer: every {interval} steps, order {order}")
    set_hooks([model], StepCache())
    counter.remove()
    if options.compile:
        row("compiled blocks", lambda: model.compile_repeated_blocks(fullgraph=True), is_counted=False)
    dtype = model.dtype
    del model
    model = build(options.full, device, dtype)
    row(
        "weights in 8 bits, layer by layer",
        lambda: model.enable_layerwise_casting(torch.float8_e4m3fn, dtype),
        is_counted=False,
    )


if __name__ == "__main__":
    main()
