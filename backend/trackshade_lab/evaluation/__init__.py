# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluation: how well a pipeline follows its tracks, on held-out clips and on results with a true render."""

from .generator import SamplingConfig, VideoGenerator
from .results import evaluate_results
from .run import EvaluationConfig, evaluate
from .summary import summarize
from .tables import format_report

__all__ = [
    "EvaluationConfig",
    "SamplingConfig",
    "VideoGenerator",
    "evaluate",
    "evaluate_results",
    "format_report",
    "summarize",
]
