# SPDX-License-Identifier: GPL-3.0-or-later
"""A backend for the tests of jobs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.backends import Backend
from trackshade.client import Client


@pytest.fixture(scope="session")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """A backend whose worker runs on the CPU and keeps its model between the tests."""
    with Backend(tmp_path_factory.mktemp("backend") / "store", "--device", "cpu") as started:
        yield started


@pytest.fixture
def client(backend: Backend) -> Iterator[Client]:
    with backend.client() as opened:
        yield opened
