# SPDX-License-Identifier: GPL-3.0-or-later
"""The optimizer of matrices between hidden features."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from .precision import has_fast_bf16


class Muon(torch.optim.Muon):
    """Torch's Muon with updates of the size of AdamW's, which computes in float32 where bfloat16 is slow.

    Torch's own always orthogonalizes in bfloat16. What it stores is the same, so that either resumes the other's runs.

    Args:
        matrices: the trained matrices, by name.
        lr: peak learning rate.
    """

    def __init__(self, matrices: Iterable[tuple[str, nn.Parameter]], lr: float) -> None:
        super().__init__(matrices, lr=lr, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update the matrices that have a gradient. A closure, if given, computes them first, and the loss."""
        if all(has_fast_bf16(matrix.device) for group in self.param_groups for matrix in group["params"]):
            return super().step(closure)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    self._update(matrix, group)
        return loss

    def _update(self, matrix: nn.Parameter, group: dict) -> None:
        assert matrix.grad is not None
        state, momentum, rate = self.state[matrix], group["momentum"], float(group["lr"])
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix.grad)
        buffer = state["momentum_buffer"].lerp_(matrix.grad, 1 - momentum)
        update = matrix.grad.lerp(buffer, momentum) if group["nesterov"] else buffer
        update = orthogonalize(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
        matrix.mul_(1 - rate * group["weight_decay"])
        matrix.add_(update, alpha=-rate * 0.2 * max(matrix.shape) ** 0.5)


def orthogonalize(
    matrix: torch.Tensor,  # [A, B]
    coefficients: tuple[float, float, float],
    steps: int,
    eps: float,
) -> torch.Tensor:
    """Return a matrix with the same singular vectors and singular values near 1, in the precision of the matrix.

    It is the quintic Newton-Schulz iteration of Muon.

    Args:
        matrix: the matrix.
        coefficients: of the polynomial, those of x, x**3 and x**5.
        steps: iterations.
        eps: smallest norm by which the matrix is divided.
    """
    linear, cubic, quintic = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    result = matrix.mT if tall else matrix
    result = result / result.norm().clamp(min=eps)
    for _ in range(steps):
        gram = result @ result.mT
        result = torch.addmm(result, torch.addmm(gram, gram, gram, beta=cubic, alpha=quintic), result, beta=linear)
    return result.mT if tall else result
