# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker of a Ray cluster whose jobs take a given time and no processor, to see how jobs spread over many workers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from trackshade.server.ray_worker import RayWorker


class WaitingWorker(RayWorker):
    """Its result is when the job ran and on which process; the job's prompt is the number of seconds that it waits."""

    def write_result(self, manifest: Any, settings: Any, chunks: Path, folder: Path) -> dict[str, Any]:
        started = time.time()
        time.sleep(float(settings["prompt"]))
        self.check()
        (folder / "job.json").write_text("{}")
        return {"started": started, "ended": time.time(), "pid": self.describe()["pid"]}
