# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures for tests on a real Blender: the bpy module of the environment that runs them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import bpy
import pytest


@pytest.fixture(scope="session", autouse=True)
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Results of scenes that were never saved do not go to the documents of who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKSHADE_RESULTS", str(tmp_path_factory.mktemp("results")))
        yield


@pytest.fixture
def scene() -> bpy.types.Scene:
    """The empty scene of a Blender with factory settings."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    return bpy.context.scene


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Ends the process without the bpy module's own exit handlers, in which bpy 4.5 can wait for itself for ever."""
    code = getattr(config, "trackshade_exit_status", None)
    if code is not None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.trackshade_exit_status = int(exitstatus)  # type: ignore[attr-defined]
