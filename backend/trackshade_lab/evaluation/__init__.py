# SPDX-License-Identifier: GPL-3.0-or-later
"""How well a pipeline follows its tracks, measured on held-out clips and on results with a true answer."""

from .generator import Generator, Sampling
from .report import summarise
from .results import evaluate_results
from .run import Evaluation, evaluate
from .tables import markdown

__all__ = ["Evaluation", "Generator", "Sampling", "evaluate", "evaluate_results", "markdown", "summarise"]
