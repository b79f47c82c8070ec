# SPDX-License-Identifier: GPL-3.0-or-later
"""Training on CPUs with and without instructions for bfloat16."""

from __future__ import annotations

import copy
from types import MappingProxyType

import pytest
import torch
from torch import nn

from trackshade_lab.training.muon import Muon, orthogonalize
from trackshade_lab.training.precision import has_fast_bf16, mixed_precision


def cpu_with(monkeypatch: pytest.MonkeyPatch, **capabilities: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: MappingProxyType(capabilities))


@pytest.mark.parametrize(
    ("capabilities", "fast"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx2": True, "avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"neon": True, "bf16": True}, True),
        ({"neon": True}, False),
    ],
)
def test_bfloat16_is_used_where_the_cpu_has_instructions_for_it(
    capabilities: dict[str, bool], fast: bool, monkeypatch: pytest.MonkeyPatch
):
    cpu_with(monkeypatch, **capabilities)
    assert has_fast_bf16("cpu") == fast
    assert has_fast_bf16("cuda:1")
    layer, values = nn.Linear(8, 8), torch.ones(2, 8)
    with mixed_precision("cpu", bf16=True):
        assert layer(values).dtype == (torch.bfloat16 if fast else torch.float32)
    with mixed_precision("cpu", bf16=False):
        assert layer(values).dtype == torch.float32


def test_muon_in_float32_makes_the_steps_of_torchs(monkeypatch: pytest.MonkeyPatch):
    """Torch's orthogonalizes in bfloat16, so that steps differ by its rounding."""
    cpu_with(monkeypatch, avx2=True)
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(24, 40), nn.Linear(40, 16))
    theirs = copy.deepcopy(ours)
    names = ("0.weight", "1.weight")
    muon = Muon([(name, ours.get_parameter(name)) for name in names], 0.02)
    settings = {"weight_decay": 0.01, "momentum": 0.95, "adjust_lr_fn": "match_rms_adamw"}
    torchs = torch.optim.Muon([(name, theirs.get_parameter(name)) for name in names], 0.02, **settings)
    for _ in range(3):
        values = torch.randn(32, 24)
        for model, optimizer in ((ours, muon), (theirs, torchs)):
            optimizer.zero_grad()
            model(values).square().mean().backward()
            optimizer.step()
    for name in names:
        mine, other = ours.get_parameter(name), theirs.get_parameter(name)
        assert (mine - other).norm() < 0.01 * other.norm()
    assert muon.state_dict()["state"].keys() == torchs.state_dict()["state"].keys()
    torchs.load_state_dict(muon.state_dict())  # a run goes on where the CPU is another


def test_muon_is_torchs_where_bfloat16_is_fast(monkeypatch: pytest.MonkeyPatch):
    cpu_with(monkeypatch, avx512_bf16=True)
    torch.manual_seed(0)
    ours = nn.Linear(24, 16, bias=False)
    theirs = copy.deepcopy(ours)
    torchs = torch.optim.Muon(theirs.parameters(), 0.02, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    for model, optimizer in ((ours, Muon(ours.named_parameters(), 0.02)), (theirs, torchs)):
        model(torch.ones(2, 24)).square().sum().backward()
        optimizer.step()
    assert torch.equal(ours.weight, theirs.weight)


@pytest.mark.parametrize("shape", [(16, 40), (40, 16)])
def test_orthogonalized_matrices_have_singular_values_near_1(shape: tuple[int, int]):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    result = orthogonalize(matrix, (3.4445, -4.775, 2.0315), 5, 1e-7)
    assert result.shape == shape
    assert result.dtype == torch.float32
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.6
    assert values.max() < 1.3
