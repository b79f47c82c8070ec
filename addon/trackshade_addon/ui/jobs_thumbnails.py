# SPDX-License-Identifier: GPL-3.0-or-later
"""Preview icons of jobs."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

from bpy.utils import previews

from ..jobs.job import Job
from ..placement.result_folder import camera_folder, shown_frames


class Thumbnails:
    """An icon for each job: its latest preview while it runs, then a frame of its result."""

    def __init__(self) -> None:
        self._icons: previews.ImagePreviewCollection | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._shown: dict[str, tuple[object, str]] = {}  # by job: source of its icon, and the icon's key
        self._stale: list[str] = []  # keys of icons that a region may still show
        self._numbers = itertools.count()

    def icon(self, job: Job) -> int:
        """Return the ID of the job's icon, 0 where there is none yet. Fast enough for drawing."""
        source: object = job.preview if job.result is None else self._find_frame(job)
        shown = self._shown.get(job.uid)
        if source is not None and (shown is None or (shown[0] is not source and shown[0] != source)):
            shown = self._load(job, source)
        return 0 if source is None or shown is None or self._icons is None else self._icons[shown[1]].icon_id

    def keep(self, uids: set[str]) -> None:
        """Remove the icons of all jobs but these."""
        self._stale += [self._shown.pop(uid)[1] for uid in self._shown.keys() - uids]

    def close(self) -> None:
        """Remove all icons and their files."""
        if self._icons is not None:
            previews.remove(self._icons)
            self._icons = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
        self._shown.clear()
        self._stale.clear()

    def _load(self, job: Job, source: object) -> tuple[object, str] | None:
        key = f"{job.uid}-{next(self._numbers)}"
        try:
            path = source if isinstance(source, Path) else self._write(key, source)
        except OSError:  # a full disk: no icon
            return None
        icons = self._icons = previews.new() if self._icons is None else self._icons
        self._remove_stale()
        before = self._shown.pop(job.uid, None)
        if before is not None:
            self._stale.append(before[1])
        icons.load(key, str(path), "IMAGE")
        self._shown[job.uid] = source, key
        return self._shown[job.uid]

    def _write(self, key: str, image: object) -> Path:
        assert isinstance(image, bytes)
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="trackshade-")
        path = Path(self._folder.name) / (key + (".png" if image.startswith(b"\x89PNG") else ".jpg"))
        path.write_bytes(image)
        return path

    def _remove_stale(self) -> None:
        """Remove the icons that were replaced before the last redraw."""
        for key in self._stale:
            if self._icons is not None and key in self._icons:
                del self._icons[key]
            if self._folder is not None:
                for path in Path(self._folder.name).glob(f"{key}.*"):
                    path.unlink(missing_ok=True)
        self._stale.clear()

    def _find_frame(self, job: Job) -> Path | None:
        assert job.result is not None
        count = len(job.result.record.get("shot", {}).get("frames", ())) or 1
        path = shown_frames(camera_folder(job.result.out, None)) / f"{count // 2 + 1:04d}.png"
        known = self._shown.get(job.uid)
        if known is not None and known[0] == path:
            return path
        return path if path.is_file() else None


thumbnails = Thumbnails()
