# SPDX-License-Identifier: GPL-3.0-or-later
# pyright: reportPrivateImportUsage=false, reportArgumentType=false, reportCallIssue=false
"""Transformers whose tokens are split between two processes compute what they compute in one."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    CogVideoXTransformer3DModel,
    LTX2VideoTransformer3DModel,
    WanTransformer3DModel,
    WanVACETransformer3DModel,
)

from trackshade.core.errors import UsageError
from trackshade.models.das import TrackingTransformer3DModel
from trackshade.models.warp_guided import WarpGuidedTransformer3DModel
from trackshade.pipelines.parallel.arguments import join_group, pack, unpack
from trackshade.pipelines.parallel.sequence import can_split, split_sequence
from trackshade.server.options import ServeOptions
from trackshade.server.serve import serve

WAN: dict[str, Any] = {
    "num_attention_heads": 3, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4, "text_dim": 8,
    "freq_dim": 16, "ffn_dim": 16, "num_layers": 3, "rope_max_seq_len": 32,
}  # fmt: skip
COGVIDEOX: dict[str, Any] = {
    "num_attention_heads": 3, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4, "time_embed_dim": 8,
    "text_embed_dim": 8, "num_layers": 3, "sample_width": 6, "sample_height": 10, "sample_frames": 9,
    "max_text_seq_length": 7, "use_rotary_positional_embeddings": True,
}  # fmt: skip
LTX: dict[str, Any] = {
    "in_channels": 4, "out_channels": 4, "num_attention_heads": 3, "attention_head_dim": 12, "cross_attention_dim": 36,
    "audio_in_channels": 4, "audio_out_channels": 4, "audio_num_attention_heads": 3, "audio_attention_head_dim": 4,
    "audio_cross_attention_dim": 12, "num_layers": 2, "caption_channels": 8, "rope_double_precision": False,
    "gated_attn": True, "audio_gated_attn": True,
}  # fmt: skip
TOKENS = 3 * 5 * 3  # of the video; neither these nor the 7 of a text nor the 3 heads can be halved


def video(channels: int = 4) -> torch.Tensor:
    return torch.randn(1, channels, 3, 10, 6)  # [B, C, T, h, w]


def wan() -> tuple[Any, dict[str, Any]]:
    return WanTransformer3DModel(**WAN), {"hidden_states": video(), "timestep": torch.full((1, TOKENS), 7)}


def vace() -> tuple[Any, dict[str, Any]]:
    model = WanVACETransformer3DModel(**WAN, vace_layers=[0, 2], vace_in_channels=6)
    blocks: Any = model.vace_blocks
    for block in blocks:
        torch.nn.init.normal_(block.proj_out.weight)
    return model, {"hidden_states": video(), "control_hidden_states": video(6), "timestep": torch.tensor([7])}


def cogvideox(model: Any) -> tuple[Any, dict[str, Any]]:
    rotary = torch.randn(2, TOKENS, COGVIDEOX["attention_head_dim"])
    frames = video().transpose(1, 2)
    return model, {"hidden_states": frames, "timestep": torch.tensor([7]), "image_rotary_emb": (rotary[0], rotary[1])}


def das() -> tuple[Any, dict[str, Any]]:
    model, inputs = cogvideox(TrackingTransformer3DModel(**COGVIDEOX, num_tracking_blocks=2))
    for linear in (model.initial_combine_linear, *model.combine_linears):
        torch.nn.init.normal_(linear.weight, std=0.3)
    return model, {**inputs, "tracking_maps": video().transpose(1, 2)}


def ltx(rope_type: str) -> tuple[Any, dict[str, Any]]:
    model = LTX2VideoTransformer3DModel(**LTX, rope_type=rope_type)
    model.scale_shift_table.data *= 0.3
    coords = torch.rand(1, 3, TOKENS, 2).mul(9).sort(-1).values
    return model, {
        "hidden_states": torch.randn(1, TOKENS, 4),
        "audio_hidden_states": torch.randn(1, 5, 4),
        "audio_encoder_hidden_states": torch.randn(1, 7, 8),
        "encoder_attention_mask": torch.tensor([[1] * 5 + [0] * 2]),
        "timestep": torch.randint(1, 1000, (1, TOKENS)),  # some tokens are of pictures, which are clean
        "audio_timestep": torch.tensor([700]),
        "sigma": torch.tensor([700]),
        "video_coords": coords,
        "audio_coords": torch.rand(1, 1, 5, 2).sort(-1).values,
    }


CASES: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {
    "Wan": wan,
    "VACE": vace,
    "CogVideoX": lambda: cogvideox(CogVideoXTransformer3DModel(**COGVIDEOX)),
    "Diffusion as Shader": das,
    "LTX": lambda: ltx("split"),
    "LTX, interleaved": lambda: ltx("interleaved"),
}


def run(case: str) -> tuple[Any, dict[str, Any]]:
    torch.manual_seed(0)
    model, inputs = CASES[case]()
    return model.eval(), {**inputs, "encoder_hidden_states": torch.randn(1, 7, 8), "return_dict": False}


def run_rank(rank: int, folder: Path) -> None:
    """Run every case as one of two ranks; write the output and the number of tokens of this rank."""
    torch.set_num_threads(1)
    join_group(torch.device("cpu"), rank, 2, str(folder / "group"))
    for case in CASES:
        model, inputs = run(case)
        split_sequence(model, torch.device("cpu"))
        seen: list[int] = []
        model.proj_out.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0].shape[1]))
        with torch.no_grad():
            outputs = model(**inputs)
        np.savez(folder / f"{case} {rank}.npz", *(output.numpy() for output in outputs), seen=seen)


@pytest.mark.skipif(sys.platform != "linux", reason="a process with torch is forked")
def test_two_processes_compute_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "GLOO_SOCKET_IFNAME", "lo")
    fork = multiprocessing.get_context("fork")
    ranks = [fork.Process(target=run_rank, args=(rank, tmp_path), daemon=True) for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(60)
        rank.kill()
    assert [rank.exitcode for rank in ranks] == [0, 0]
    for case in CASES:
        model, inputs = run(case)
        with torch.no_grad():
            wanted = [output.numpy() for output in model(**inputs)]
        found = [np.load(tmp_path / f"{case} {rank}.npz") for rank in range(2)]
        assert sum(part["seen"][0] for part in found) == TOKENS
        for number, output in enumerate(wanted):  # LTX has a second one, the sound
            assert output.std() > 0.05
            for part in found:
                np.testing.assert_allclose(part[f"arr_{number}"], output, atol=2e-5, err_msg=case)


def test_a_transformer_with_other_connections_is_not_split() -> None:
    assert not can_split(WarpGuidedTransformer3DModel(**COGVIDEOX, num_tracking_blocks=1))


def test_arguments_arrive_as_they_were_given() -> None:
    given = {"args": (torch.ones(2, 3), None), "kwargs": {"scale": 0.5, "parts": [torch.zeros(1, dtype=torch.bool)]}}
    sent: list[torch.Tensor] = []
    packed, made = pack(given, sent), []
    found = unpack(packed, made, torch.device("cpu"))
    assert [(tensor.shape, tensor.dtype) for tensor in made] == [(tensor.shape, tensor.dtype) for tensor in sent]
    assert isinstance(found["args"], tuple)
    assert found["args"][1] is None
    assert found["kwargs"] == {"scale": 0.5, "parts": [made[1]]}
    with pytest.raises(TypeError, match="ndarray"):
        pack({"image": np.zeros(3)}, sent)


@pytest.mark.parametrize("devices", ["cuda:0+cuda:0", "auto+cpu", "cuda+cuda:1", "mps+mps", "cuda:0+cpu"])
def test_devices_that_cannot_share_a_model_are_refused(devices: str) -> None:
    with pytest.raises(UsageError, match="cannot share a model"):
        serve(ServeOptions(devices=(devices,)))
    with pytest.raises(UsageError, match="There is no device 'gpu'"):
        serve(ServeOptions(devices=("cuda:0+gpu",)))
