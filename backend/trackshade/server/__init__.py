# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend: a broker with its job store, and a worker process for each device. README.md describes it.

Importing this package does not import torch; only a worker with a job does.
"""

from trackshade.server.options import ServeOptions
from trackshade.server.serve import serve

__all__ = ["ServeOptions", "serve"]
