# SPDX-License-Identifier: GPL-3.0-or-later
"""Uploads, and backends that are started, found, lost and found again."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.backends import Backend, Relay, children, gone, grid_shot, until
from trackshade import __version__
from trackshade.client import Client, connect, later, start_private
from trackshade.client.client_socket import Address
from trackshade.client.connection import Connection
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import ProtocolError, ShotError, TrackshadeError, UsageError
from trackshade.ipc import CHUNK_BYTES, PROTOCOL, connection_files
from trackshade.ipc.connection_files import ConnectionInfo
from trackshade.server.job_store import JobStore
from trackshade.shot import Geometry, MeshTrack, Shot

SETTINGS = ShadeSettings(prompt="a test")


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """A backend that only accepts jobs."""
    with Backend(tmp_path_factory.mktemp("client") / "store", "--workers", "0") as started:
        yield started


@pytest.fixture
def client(backend: Backend) -> Iterator[Client]:
    with backend.client() as opened:
        yield opened


# uploads


def test_arrays_flow_while_they_are_filled(backend: Backend) -> None:
    count, vertices = 12, 90_000
    values = np.random.default_rng(7).random((count, vertices, 3), np.float32)
    filled = np.empty_like(values)
    with (
        Relay(backend.info.endpoint) as relay,
        Client(lambda: Address(relay.endpoint, backend.info.token), 20) as client,
    ):
        uploader = client.uploader()
        for frame in range(count):
            filled[frame] = values[frame]
            uploader.rows(filled, frame + 1)
        uploader.finish()
        before = relay.bytes
        assert before > filled.nbytes
        still = grid_shot(count=count)
        shot = Shot(
            still.frame_numbers,
            8.0,
            still.size,
            still.camera,
            (Geometry(filled, np.array([[0, 1, 2]], np.int32)),),
            still.meshes,
        )
        client.submit(shot, SETTINGS)
        assert relay.bytes - before < CHUNK_BYTES / 8


def test_half_an_upload_is_completed_by_the_submit(client: Client) -> None:
    shot = grid_shot(side=300, count=6, seed=9)
    client.uploader().rows(shot.geometries[0].positions, 3)
    job = client.submit(shot, SETTINGS)
    assert [e.state for e in client.events(job, timeout=0.05)] == ["queued"]


def test_what_arrives_is_what_was_sent(tmp_path: Path) -> None:
    shot = grid_shot(side=200, count=7, seed=4)
    rng = np.random.default_rng(0)
    first, render = rng.integers(0, 256, (64, 96, 3), np.uint8), rng.integers(0, 256, (7, 64, 96, 3), np.uint8)
    with Backend(tmp_path / "store", "--workers", "0") as backend, backend.client() as client:
        job = client.submit(shot, SETTINGS, first, render[:, :, ::-1])
        until(lambda: not list((tmp_path / "store" / "chunks").glob("??/*.*")))
    store = JobStore(tmp_path / "store")
    manifest, settings = store.request(job)
    found = Shot.decode(manifest.shot, store.chunks.arrays(manifest))
    assert settings == SETTINGS.to_dict()
    for array, wanted in zip(found.encode()[1], shot.encode()[1], strict=True):
        np.testing.assert_array_equal(array, wanted)
    assert manifest.first_frame is not None
    assert manifest.input_render is not None
    np.testing.assert_array_equal(store.chunks.array(manifest.first_frame), first)
    np.testing.assert_array_equal(store.chunks.array(manifest.input_render), render[:, :, ::-1])


def test_a_thousand_instances_are_not_a_thousand_chunks(tmp_path: Path) -> None:
    base = grid_shot(side=10, count=9)
    rng = np.random.default_rng(2)
    tracks = tuple(MeshTrack(f"Leaf.{n}", 0, rng.random((9, 4, 4)), np.ones(9, bool)) for n in range(1000))
    shot = Shot(base.frame_numbers, 8.0, base.size, base.camera, base.geometries, tracks)
    with Backend(tmp_path / "store", "--workers", "0") as backend, backend.client() as client:
        client.submit(shot, SETTINGS)
        assert len(list((tmp_path / "store" / "chunks").glob("??/*"))) < 10


@pytest.mark.parametrize("image", [np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_images_have_to_be_rgb(client: Client, image: np.ndarray) -> None:
    with pytest.raises(ShotError):
        client.submit(grid_shot(count=2), SETTINGS, image)


# backends that go away


def test_events_go_on_over_a_restart(tmp_path: Path) -> None:
    with Backend(tmp_path / "store", "--workers", "0") as backend, backend.client() as client:
        job = client.submit(grid_shot(count=2), SETTINGS)
        stream = client.events(job)
        assert next(stream).state == "queued"
        until(lambda: client.poll(job))
        backend.kill()
        backend.start("--endpoint", "tcp://127.0.0.1:*")  # elsewhere, and the connection file says so
        with backend.client() as other:
            other.cancel(job)
        assert [event.state for event in stream] == ["cancelled"]
        until(lambda: [event.state for event in client.poll(job)] == ["cancelled"])


def test_an_upload_goes_on_over_a_restart(tmp_path: Path) -> None:
    with Backend(tmp_path / "store", "--workers", "0") as backend, backend.client() as client:
        shot = grid_shot(side=300, count=40)
        submitted = later(client.submit, shot, SETTINGS)
        until(lambda: len(list((tmp_path / "store" / "chunks").glob("??/*"))) > 3)
        backend.kill()
        backend.start()
        assert submitted.result(60) in {job["id"] for job in client.jobs()}


def test_a_backend_that_stays_away_is_unreachable(tmp_path: Path) -> None:
    with Backend(tmp_path / "store", "--workers", "0") as backend:
        client = backend.client(patience=0.5)
        stream = client.events(client.submit(grid_shot(count=2), SETTINGS))
        next(stream)
        backend.kill()
        for call in (client.jobs, lambda: next(stream)):
            with pytest.raises(ProtocolError) as caught:
                call()
            assert caught.value.code == "backend-unreachable"
            assert caught.value.exit_code == 4
        backend.start()
        client.set_patience(60)
        assert len(client.jobs()) == 1  # and when it is back, so is the client
        client.close()


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:9", "ipc:///nowhere/at/all"])
def test_nobody_there(endpoint: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        connect(endpoint, "any", patience=0.3)
    assert caught.value.code == "backend-unreachable"
    assert endpoint in caught.value.message


def test_an_endpoint_needs_a_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRACKSHADE_HOME", str(tmp_path))
    monkeypatch.delenv("TRACKSHADE_TOKEN", raising=False)
    with pytest.raises(UsageError) as caught:
        connect("tcp://127.0.0.1:9")
    assert caught.value.code == "no-token"
    with pytest.raises(UsageError):
        connect("nonsense", "token")


def test_the_served_backend_is_found(backend: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRACKSHADE_HOME", str(tmp_path))
    connection_files.write(tmp_path / "backend.json", backend.info)
    with connect() as client:
        assert client.process is None
        assert client.status()["pid"] == backend.pid
    with connect(backend.info.endpoint) as client:
        assert client.status()["pid"] == backend.pid


def test_the_time_in_which_nobody_could_listen_is_not_the_backends(backend: Backend) -> None:
    """Python's lock is held for longer than the patience, as by a Blender that renders; then the backend answers."""
    address = Address(backend.info.endpoint, backend.info.token)
    os.kill(backend.pid, signal.SIGSTOP)  # before it can say hello
    client = Client(lambda: address, 5.0)
    try:
        answer = later(client.check)
        time.sleep(0.5)
        for _ in range(6):
            ctypes.PyDLL(None).usleep(1_000_000)  # gives the lock to nobody, but for a moment between two
        time.sleep(0.3)
        assert not answer.done()
    finally:
        os.kill(backend.pid, signal.SIGCONT)
    with client:
        assert answer.result(60) is None


def test_held_up_between_two_turns(tmp_path: Path) -> None:
    """Wherever in a turn Python's lock is lost, that is not counted as the backend's silence."""
    hold, released = threading.Event(), threading.Event()

    class HeldUp(Connection):
        def _run_once(self) -> None:
            if hold.is_set():
                hold.clear()
                time.sleep(4.0)
                released.set()
            super()._run_once()

    nobody = Address(f"ipc://{tmp_path}/nobody", "token")
    connection = HeldUp(lambda: nobody, "a test", 2.5)
    try:
        answer = connection.request("status", {})
        hold.set()
        assert released.wait(30)
        time.sleep(0.5)
        assert not answer.done()
        assert isinstance(answer.exception(30), ProtocolError)  # as it listens again, the backend is late
    finally:
        connection.close()


def test_a_stale_connection_file_does_no_harm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRACKSHADE_HOME", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    info = ConnectionInfo("ipc:///nowhere", "token", ended.pid, __version__, PROTOCOL)
    connection_files.write(tmp_path / "backend.json", info)
    with connect() as client:
        assert client.process is not None
        pid = client.process.pid  # pyright: ignore[reportAttributeAccessIssue]
        assert client.status()["store"] == str(tmp_path / "jobs")
        with start_private() as second, Client(second.address, 10) as other:  # the store is taken: one of its own
            assert other.status()["store"] == str(tmp_path / "jobs-2")
    assert gone(pid)
    assert gone(second.pid)


def test_a_private_backend_that_ended_is_named(tmp_path: Path) -> None:
    with start_private(store=tmp_path / "s", options=["--workers", "0"]) as private:
        client = Client(private.address, 60)
        client.check()
        os.kill(private.pid, 9)
        with pytest.raises(ProtocolError) as caught:
            until(lambda: client.jobs() and False)
        assert caught.value.code == "backend-ended"
        client.close()


def test_a_backend_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ProtocolError) as caught:
        start_private(store=tmp_path / "file")
    assert caught.value.code == "backend-not-started"
    assert str(tmp_path / "file") in caught.value.message
    with pytest.raises(ProtocolError):
        start_private(python=tmp_path / "no-python")


def test_closing_leaves_no_thread_and_no_process(tmp_path: Path) -> None:
    before, processes = threading.active_count(), children(os.getpid())
    with start_private(store=tmp_path / "s", options=["--workers", "0"]) as private:
        client = Client(private.address, 10)
        waiting = later(lambda: list(client.events(client.submit(grid_shot(count=2), SETTINGS))))
        until(lambda: client.jobs())
        client.close()
        with pytest.raises(TrackshadeError) as caught:
            waiting.result(10)
        assert caught.value.code == "closed"
        with pytest.raises(TrackshadeError):
            client.jobs()
    until(lambda: threading.active_count() <= before)
    assert children(os.getpid()) == processes
