# SPDX-License-Identifier: GPL-3.0-or-later
"""Model classes, reading and fetching of checkpoints, and the embedded model `mini` (in the folder `mini`).

Classes are imported on first use, because they import torch and most callers of this package do not need it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .das import TrackingTransformer3DModel
    from .patch_autoencoder import PatchAutoencoder
    from .track_warp import track_coordinates
    from .warp_guided import WarpGuidedTransformer3DModel

__all__ = ["PatchAutoencoder", "TrackingTransformer3DModel", "WarpGuidedTransformer3DModel", "track_coordinates"]

_MODULES = {
    "PatchAutoencoder": "patch_autoencoder",
    "TrackingTransformer3DModel": "das",
    "WarpGuidedTransformer3DModel": "warp_guided",
    "track_coordinates": "track_warp",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
