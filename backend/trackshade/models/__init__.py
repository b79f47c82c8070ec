# SPDX-License-Identifier: GPL-3.0-or-later
"""Model classes, their loaders, and the embedded model `mini` (in the folder `mini`)."""

from .patch_autoencoder import PatchAutoencoder
from .track_lookup import track_coordinates
from .tracking_transformer import TrackingTransformer3DModel

__all__ = ["PatchAutoencoder", "TrackingTransformer3DModel", "track_coordinates"]
