# SPDX-License-Identifier: GPL-3.0-or-later
"""Mixed precision, where the processor computes in it.

Processors without instructions for bfloat16 emulate it, and are then many times slower than in float32.
"""

from __future__ import annotations

import torch

# Names by which torch knows such instructions: of x86, and of ARM.
_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")


def has_fast_bf16(device: torch.device | str) -> bool:
    """Return whether a device multiplies matrices in bfloat16 faster than in float32. All but CPUs are taken to."""
    if torch.device(device).type != "cpu":
        return True
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in _INSTRUCTIONS)


def mixed_precision(device: torch.device | str, bf16: bool) -> torch.autocast:
    """Return a context in which products are computed in bfloat16, if that is wanted and fast on the device."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16 and has_fast_bf16(device))
