# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluation: how well a pipeline follows its tracks, on held-out clips and on results with a true render."""
