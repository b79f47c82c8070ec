# SPDX-License-Identifier: GPL-3.0-or-later
"""`trackshade models fetch`: shows the licence, asks, fetches."""

from __future__ import annotations

from pathlib import Path

import typer

from trackshade.cli.screen import Screen
from trackshade.config.registry import spec
from trackshade.core.errors import CancelledError, UsageError


def fetch(name: str, yes: bool, screen: Screen) -> Path:
    """Fetches a model once its licence was accepted; its folder.

    Raises:
        ModelError: unknown, or it cannot be fetched. Cancelled: the licence was not accepted.
    """
    from trackshade.models.download import fetch as fetch_weights
    from trackshade.models.download import licence_text

    model = spec(name)
    screen.say(licence_text(model))
    if not yes and not model.shipped:
        if not screen.interactive:
            raise UsageError("licence", "Nobody is there to accept the licence.", "Read it, then use --yes.")
        with screen.paused():
            if not typer.confirm("Fetch the weights under this licence?", err=True):
                raise CancelledError("cancelled", "Nothing was fetched.")
    return fetch_weights(model, lambda done, total: screen.show(
        {"state": "fetching", "message": name, "step": done >> 20, "steps": total >> 20}
    ))  # fmt: skip
