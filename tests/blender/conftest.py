# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures for tests on a real Blender: the bpy module of the environment that runs them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import bpy
import pytest

import trackshade_addon
from tests.helpers import renders
from tests.helpers.backend_python import backend_python
from tests.helpers.warm_python import make_warm_python
from trackshade.client import PrivateBackend, connect, later, start_private
from trackshade_addon.jobs import session


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have one version of Blender run the tests that need a backend, but for a few: its worker costs minutes."""
    for item in items:
        if "backend" in getattr(item, "fixturenames", ()) and item.get_closest_marker("smoke") is None:
            item.add_marker("once")


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


@pytest.fixture
def registered() -> Iterator[None]:
    """The add-on, registered."""
    trackshade_addon.register()
    yield
    trackshade_addon.unregister()


@pytest.fixture(scope="session")
def tasks_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The backend's Python, whose tasks need not import their packages; see `warm_python`."""
    if sys.platform == "win32":
        yield backend_python()
        return
    program, server = make_warm_python(backend_python(), tmp_path_factory.mktemp("python"))
    yield program
    server.kill()
    server.wait()


@pytest.fixture
def baking(tasks_python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The add-on has an environment that bakes."""
    monkeypatch.setenv("TRACKSHADE_PYTHON", tasks_python)


@pytest.fixture(scope="session")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateBackend]:
    """A backend that all tests share, whose worker keeps the models that it has loaded."""
    with start_private(backend_python(), tmp_path_factory.mktemp("store")) as backend:
        yield backend


@pytest.fixture
def served(backend: PrivateBackend, monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateBackend]:
    """The backend, connected to the add-on."""
    monkeypatch.setenv("TRACKSHADE_TOKEN", backend.info.token)
    connection = later(connect, backend.info.endpoint)
    monkeypatch.setattr(session.current(), "connect", lambda model: connection)
    yield backend
    connection.result().close()


@pytest.fixture
def demo(registered: None, tmp_path: Path) -> bpy.types.Scene:
    """The demonstration scene, open, at a frame in its middle; see `renders.demo`."""
    scene = renders.demo(tmp_path, "CYCLES")
    scene.trackshade.first_frame = "render"
    scene.frame_set(7)
    return scene


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
