# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend's settings in the add-on's preferences, read on Blender's main thread and passed to other threads."""

from __future__ import annotations

import os
from pathlib import Path

import bpy

from trackshade.core import folders

from ..properties.preferences import extension_data_folder, get_preferences
from .environment import BackendPrefs
from .extension_data import ENVIRONMENTS


def current_prefs() -> BackendPrefs:
    """Return the settings as they are now. Main thread only."""
    online = bool(getattr(bpy.app, "online_access", True))
    prefs = get_preferences()
    if prefs is None:  # registered without being enabled
        python = os.environ.get("TRACKSHADE_PYTHON", "")
        return BackendPrefs(python, home=folders.environments_dir(), earlier=_earlier_home(), online=online)
    folder, wheels = _path(prefs.environment_folder), _path(prefs.wheels_folder)
    return BackendPrefs(
        existing=_path(prefs.python) or os.environ.get("TRACKSHADE_PYTHON", ""),
        address=prefs.endpoint.strip(),
        token=prefs.token.strip(),
        server_key=Path(_path(prefs.server_key)) if prefs.server_key else None,
        client_key=Path(_path(prefs.client_key)) if prefs.client_key else None,
        home=Path(folder) if folder else folders.environments_dir(),
        earlier=None if folder else _earlier_home(),
        base=_path(prefs.base_python),
        kind=prefs.device,
        wheels=Path(wheels) if wheels else None,
        index=prefs.package_index.strip(),
        online=online,
    )


def _earlier_home() -> Path | None:
    """Return the folder in the extension's data where earlier versions kept environments; None if it does not exist."""
    data = extension_data_folder()
    return data / ENVIRONMENTS if data is not None and os.path.isdir(data / ENVIRONMENTS) else None


def _path(text: str) -> str:
    return bpy.path.abspath(text) if text else ""
