# SPDX-License-Identifier: GPL-3.0-or-later
"""Exports: a shot as the input files of other systems."""

from trackshade.exports.export import ExportSource, export_shot, fit_to_format

__all__ = ["ExportSource", "export_shot", "fit_to_format"]
