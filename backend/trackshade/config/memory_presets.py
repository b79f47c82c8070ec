# SPDX-License-Identifier: GPL-3.0-or-later
"""How a model that does not fit on the device is run: presets by the memory of the graphics card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MEMORY_CHOICES = ("auto", "full", "24", "16", "12", "8")
GIB = 1 << 30


@dataclass(frozen=True)
class MemoryPreset:
    """A way to run a model in less memory.

    Attributes:
        name: "full", or the memory in GiB of the graphics cards that it is for.
        needs: Bytes of free memory from which it is chosen automatically; 0 for the model's own need or for the last.
        offload: "none"; "model" keeps only the component at work on the device, "group" only a few of its layers.
        blocks: Number of transformer blocks in a group; 0 for single layers.
        is_float8: Whether the transformer's weights are stored in 8 bits (float8 e4m3) and computed with as usual.
        is_tiled: Whether the autoencoder works in tiles if the image is larger than one.
        duration: Estimated duration of a job, as a multiple of that with "full".
        effect: What it does, for the user.
    """

    name: str
    needs: int
    offload: str
    blocks: int
    is_float8: bool
    is_tiled: bool
    duration: float
    effect: str


PRESETS = {
    preset.name: preset
    for preset in (
        MemoryPreset("full", 0, "none", 0, False, False, 1.0, "The whole model is on the device"),
        MemoryPreset("24", 22 * GIB, "model", 0, False, True, 1.1, "Parts of the model take turns on the device"),
        MemoryPreset("16", 29 * GIB // 2, "group", 8, False, True, 1.3, "Eight blocks at a time are on the device"),
        MemoryPreset("12", 21 * GIB // 2, "group", 1, False, True, 1.6, "One block at a time is on the device"),
        MemoryPreset("8", 0, "group", 0, True, True, 2.5, "One layer at a time, in 8 bits, is on the device"),
    )
}


def choose_preset(
    memory: str, model_bytes: int, free: int | None, preset_bytes: Sequence[tuple[str, int]] = ()
) -> MemoryPreset:
    """Choose a preset.

    Args:
        memory: One of `MEMORY_CHOICES`.
        model_bytes: Bytes that the model needs without offloading.
        free: Bytes of free memory of the device; None if it is unknown, or the device has no memory of its own.
        preset_bytes: Presets and the bytes of free memory from which they suffice for the model; empty for the usual.
    """
    if memory == "full" or (memory == "auto" and free is None):
        return PRESETS["full"]
    budget = int(memory) * GIB if memory != "auto" else free or 0
    if model_bytes <= budget:
        return PRESETS["full"]
    needs = dict(preset_bytes) or {preset.name: preset.needs for preset in PRESETS.values()}
    return next((PRESETS[name] for name in PRESETS if 0 < needs.get(name, 0) <= budget), PRESETS["8"])


def next_preset(
    preset: MemoryPreset, model_bytes: int, preset_bytes: Sequence[tuple[str, int]] = ()
) -> MemoryPreset | None:
    """Return the preset to try after one that ran out of memory; None if there is none, or the model is small."""
    names = list(PRESETS)
    place = names.index(preset.name)
    following = [choose_preset(name, model_bytes, None, preset_bytes) for name in names[place + 1 :]]
    return next((item for item in following if names.index(item.name) > place), None)


def memory_sentence(preset: MemoryPreset) -> str:
    """Describe a preset and what it costs, for the user."""
    if preset.name == "full":
        return f"{preset.effect}."
    return f"{preset.effect}: a job takes about {preset.duration:g} times as long, and pictures differ slightly."
