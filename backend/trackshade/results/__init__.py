# SPDX-License-Identifier: GPL-3.0-or-later
"""Result: what a job leaves behind: frames, videos, a contact sheet, a measured figure and the record."""

from trackshade.results.write import write_result

__all__ = ["write_result"]
