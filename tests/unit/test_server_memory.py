# SPDX-License-Identifier: GPL-3.0-or-later
"""Which memory a backend tells of: that of the card that its worker uses, else the main memory."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from trackshade.server.memory import Gpu, measure_memory, visible_gpus

GPUS = [Gpu(f"GPU-{number}{number}-5e", f"Card {number}", 1 << 30, 2 << 30) for number in range(3)]


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("2,0", [2, 0]),
        (" 1 , 2", [1, 2]),
        ("1,7,0", [1]),
        ("GPU-22,GPU-00-5e", [2, 0]),
        ("22", []),
    ],
)
def test_cuda_visible_devices_leaves_cards_in_its_order(wanted: str | None, left: list[int]) -> None:
    assert visible_gpus(GPUS, wanted) == [GPUS[number] for number in left]


def test_an_ambiguous_beginning_names_no_card() -> None:
    assert visible_gpus(GPUS, "GPU-") == []


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool like NVIDIA's, on a computer with two cards."""
    path = tmp_path / "nvidia-smi"
    path.write_text("#!/bin/sh\necho 'GPU-a1, NVIDIA One, Ltd, 100, 200'\necho 'GPU-b2, NVIDIA Two, 300, 400'\n")
    path.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("tool")
def test_the_card_is_the_one_that_the_worker_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measure_memory("auto") == {"name": "NVIDIA One, Ltd", "free": 100 << 20, "total": 200 << 20}
    assert measure_memory("cuda:1")["name"] == "NVIDIA Two"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert measure_memory("cuda:0")["name"] == "NVIDIA Two"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-b2,0")
    assert measure_memory("cuda:1")["name"] == "NVIDIA One, Ltd"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-c3")
    assert measure_memory("auto") == {}


@pytest.mark.usefixtures("tool")
def test_without_a_card_it_is_the_main_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    total = psutil.virtual_memory().total
    assert measure_memory("cpu")["total"] == total
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert measure_memory("auto")["total"] == total
