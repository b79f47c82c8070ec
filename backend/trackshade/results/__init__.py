# SPDX-License-Identifier: GPL-3.0-or-later
"""Results: frames, videos, overview images, measured consistency, textures and the record of a job."""

from trackshade.results.write import write_result

__all__ = ["write_result"]
