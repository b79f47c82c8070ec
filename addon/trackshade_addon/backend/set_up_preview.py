# SPDX-License-Identifier: GPL-3.0-or-later
"""What a set-up would download and take, found in a thread before it is started. Main thread only."""

from __future__ import annotations

from dataclasses import dataclass

from trackshade.config import locks
from trackshade.core.errors import TrackshadeError

from . import installer
from .environment import BackendPrefs
from .graphics_cards import DetectedDevice
from .tasks import BackgroundTask


@dataclass(frozen=True)
class SetUpSizes:
    """The device that a set-up is for, and what it downloads and takes, bytes."""

    device: DetectedDevice
    download: int
    space: int  # at its peak
    unpacked: int  # when it has ended
    is_estimate: bool  # whether a size is an estimate


class SetUpPreview:
    """Finds the sizes of a set-up for the device that the preferences name or the machine has."""

    def __init__(self) -> None:
        self._task: BackgroundTask | None = None
        self._kind = ""

    def sizes(self, prefs: BackendPrefs) -> SetUpSizes | None:
        """Return the sizes; None while they are being found, or if there can be no set-up."""
        self._start(prefs)
        return None if self._task is None else self._task.result

    def error(self, prefs: BackendPrefs) -> TrackshadeError | None:
        """Return why there can be no set-up for the device, or None."""
        self._start(prefs)
        return None if self._task is None else self._task.error

    def is_busy(self) -> bool:
        """Return whether the device is being detected."""
        return self._task is not None and self._task.running

    def forget(self) -> None:
        """Find the sizes again when they are needed: a driver may have been installed."""
        if self._task is not None:
            self._task.cancel()
        self._task = None

    def _start(self, prefs: BackendPrefs) -> None:
        if self._task is None or self._kind != prefs.kind:
            self.forget()
            self._kind = prefs.kind
            self._task = BackgroundTask(lambda task: _find_sizes(prefs, task), "Detecting the device")


def _find_sizes(prefs: BackendPrefs, task: BackgroundTask) -> SetUpSizes:
    device = installer.detected(prefs, task)
    sizes = locks.sizes(installer.lock_path(device.kind))
    assert sizes is not None
    return SetUpSizes(device, sizes.download, sizes.space, sizes.unpacked, bool(sizes.estimated))
