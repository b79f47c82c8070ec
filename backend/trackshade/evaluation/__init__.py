# SPDX-License-Identifier: GPL-3.0-or-later
"""How well a pipeline follows tracks, measured on held-out procedural clips."""

from .report import Report, evaluate

__all__ = ["Report", "evaluate"]
