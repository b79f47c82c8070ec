# SPDX-License-Identifier: GPL-3.0-or-later
"""Model classes, their loaders, and the embedded model `mini` (in the folder `mini`).

The classes are imported when they are asked for, since they bring torch: looking where a model lies needs none of it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .patch_autoencoder import PatchAutoencoder
    from .track_lookup import track_coordinates
    from .tracking_transformer import TrackingTransformer3DModel

__all__ = ["PatchAutoencoder", "TrackingTransformer3DModel", "track_coordinates"]

_HOMES = {
    "PatchAutoencoder": "patch_autoencoder",
    "TrackingTransformer3DModel": "tracking_transformer",
    "track_coordinates": "track_lookup",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
