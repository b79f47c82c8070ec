# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows points through footage: optical flow, or networks that are used where the user has installed them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FLOW = "flow"
"""The tracker that needs no weights."""


@dataclass(frozen=True)
class TrackerSpec:
    """A point tracker that is a network.

    Attributes:
        title: its name.
        license: license of its code and weights.
        license_url: where the license can be read.
        commercial: whether the license allows commercial use.
        package: the Python package that it comes in.
        install: what installs the package in the backend's Python.
        weights: names of the published weights.
        weights_url: where these can be downloaded.
    """

    title: str
    license: str
    license_url: str
    commercial: bool
    package: str
    install: str
    weights: tuple[str, ...]
    weights_url: str

    @property
    def terms(self) -> str:
        """The license and what it forbids, in a few words."""
        return self.license if self.commercial else f"{self.license}, not for commercial use"


TRACKER_NETWORKS: Mapping[str, TrackerSpec] = {
    "tapnext": TrackerSpec(
        title="TAPNext++",
        license="Apache-2.0",
        license_url="https://www.apache.org/licenses/LICENSE-2.0",
        commercial=True,
        package="tapnet",
        install="pip install einops torchvision, and pip install --no-deps git+https://github.com/google-deepmind/tapnet",
        weights=("tapnextpp_ckpt.pt", "tapnextpp_512.ckpt"),
        weights_url="https://github.com/google-deepmind/tapnet/tree/main/tapnet/tapnextpp",
    ),
    "cotracker": TrackerSpec(
        title="CoTracker3",
        license="CC BY-NC 4.0",
        license_url="https://creativecommons.org/licenses/by-nc/4.0/",
        commercial=False,
        package="cotracker",
        install="pip install git+https://github.com/facebookresearch/co-tracker",
        weights=("scaled_offline.pth", "scaled_online.pth"),
        weights_url="https://huggingface.co/facebook/cotracker3",
    ),
}
"""The known networks by their names."""

TRACKERS = (FLOW, *TRACKER_NETWORKS)
"""All trackers; the first one is the default."""
