# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures for tests on a real Blender: the bpy module of the environment that runs them."""

from __future__ import annotations

import bpy
import pytest


@pytest.fixture
def scene() -> bpy.types.Scene:
    """The empty scene of a Blender with factory settings."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    return bpy.context.scene
