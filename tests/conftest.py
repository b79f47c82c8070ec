# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tests share: markers by folder, skips of modules whose libraries are missing, and no job or process left."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.helpers.backends import Backend, cancel_jobs
from tests.helpers.reaper import start_reaper
from trackshade.client import PrivateBackend

FOLDERS = ("unit", "integration", "blender")

# An environment need not hold every extra of the package: a test module that imports a missing one of these is skipped.
OPTIONAL = {
    *("OpenImageIO", "PIL", "accelerate", "av", "bpy", "cv2", "diffusers", "matplotlib", "numba", "openjd", "peft"),
    *("ray", "rich", "safetensors", "scipy", "tensorboard", "torch", "transformers", "xatlas"),
}

# Examples may take any time: the machine may be busy.
settings.register_profile("trackshade", deadline=None, max_examples=50)
settings.load_profile("trackshade")

# Footage is read alike on every machine, whether mediapipe is installed there or not.
os.environ["TRACKSHADE_MEDIAPIPE"] = os.devnull

# A run that was started in the background ignores Ctrl-C, and its children would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Leave what the modules hold out of garbage collection: a collection takes a second where torch is imported."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the name of its folder."""
    tests = Path(__file__).parent
    for item in items:
        folder = item.path.relative_to(tests).parts[0] if item.path.is_relative_to(tests) else ""
        if folder in FOLDERS:
            item.add_marker(folder)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Skip a module that cannot be imported because an optional library is not installed."""
    report = yield
    call = getattr(report, "call", None)
    cause = call.excinfo.value.__cause__ if report.failed and call is not None and call.excinfo else None
    if isinstance(cause, ModuleNotFoundError) and (cause.name or "").partition(".")[0] in OPTIONAL:
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 0, f"Skipped: {cause.name} is not installed")
    return report


_REAPER = pytest.StashKey[subprocess.Popen[bytes]]()


def pytest_configure(config: pytest.Config) -> None:
    """Have a process end what this run leaves behind, even when it is killed."""
    config.stash[_REAPER] = start_reaper()
    config.pluginmanager.register(_backends)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let the reaper see the end of this run."""
    reaper = config.stash[_REAPER]
    assert reaper.stdin is not None
    reaper.stdin.close()


class _Backends:
    """The backends that fixtures hold. A plugin, since hooks of a conftest.py do not see fixtures of the session."""

    def __init__(self) -> None:
        self.running: dict[pytest.FixtureDef[Any], Backend | PrivateBackend] = {}

    def of(self, test: pytest.Item) -> list[Backend | PrivateBackend]:
        """Return those that a test uses."""
        names = getattr(test, "fixturenames", ())
        return [backend for fixture, backend in self.running.items() if fixture.argname in names]

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
        """Note a backend that a fixture starts."""
        value = yield
        if isinstance(value, (Backend, PrivateBackend)):
            self.running[fixturedef] = value
        return value

    def pytest_fixture_post_finalizer(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        """Forget a backend that its fixture has ended."""
        self.running.pop(fixturedef, None)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Show the end of the log of each backend that a failed test uses."""
        report = yield
        if report.failed:
            for backend in self.of(item):
                if isinstance(backend, Backend):
                    report.sections.append((f"Log of the backend {backend.store}", backend.log_tail()))
        return report


_backends = _Backends()


@pytest.fixture(autouse=True)
def no_jobs_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Cancel what a test leaves running in a backend that it shares, so that the next test does not wait for it."""
    yield
    for backend in _backends.of(request.node):
        cancel_jobs(backend)
