# SPDX-License-Identifier: GPL-3.0-or-later
"""What a process that does not know the token can cost a backend, and what one can that knows it."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from tests.helpers.backends import Backend, Raw, header, until
from tests.helpers.zmtp import EMPTY_PARTS, Bytes, hello, message
from trackshade.client import Client, connect
from trackshade.ipc import PROTOCOL, Message, encode
from trackshade.ipc.protocol import MAX_LOOKUPS, MAX_VALUES
from trackshade.server.gate import MAX_STRANGERS
from trackshade.server.zmtp_limits import EARLY_BYTES, MAX_FRAMES

SMALL = 100e6  # bytes of memory that a backend takes at most
FLOOD = 256 << 20  # bytes, of which the kernel's own buffers take some
TAKEN = 4 << 20  # bytes that may be sent before the end of a connection is noticed


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """A backend that only accepts jobs."""
    with Backend(tmp_path_factory.mktemp("strangers") / "store", "--workers", "0") as started:
        yield started


@pytest.fixture
def client(backend: Backend) -> Iterator[Client]:
    """An honest client, connected all the time."""
    with backend.client() as opened:
        yield opened
        opened.check()
    assert backend.peak_memory() < SMALL


def lists(count: int) -> bytes:
    """A header with empty lists, of which each takes 56 bytes once it is decoded, and one on the wire."""
    start = header(v=PROTOCOL, type="have", id=4, body={"x": None})[:-1]
    return start + b"\xdd" + count.to_bytes(4, "big") + b"\x90" * count


@pytest.mark.parametrize(
    "data",
    [EMPTY_PARTS, message(lists(8000)), message(lists(10_000_000)), message(*[b""] * 4000), b"\x02" + b"\x7f" * 8],
    ids=["unfinished message", "many headers", "huge header", "empty frames", "announced size"],
)
def test_a_stranger_is_disconnected_before_it_costs_anything(backend: Backend, client: Client, data: bytes) -> None:
    with Bytes(backend.info.endpoint) as stranger:
        assert stranger.flood(data, FLOOD) < max(TAKEN, len(data))
        assert stranger.is_closed()


def test_a_stranger_that_guesses_tokens_is_disconnected(backend: Backend, client: Client) -> None:
    with Bytes(backend.info.endpoint) as stranger:
        assert stranger.flood(hello("x"), FLOOD) < TAKEN
        assert stranger.is_closed()


def test_a_routing_id_that_a_client_chose_is_refused(backend: Backend, client: Client) -> None:
    with Bytes(backend.info.endpoint, identity=b"\0abcd") as stranger, contextlib.suppress(OSError):
        stranger.socket.sendall(hello(backend.info.token))
        assert stranger.is_closed()


def test_silent_connections_leave_room_for_clients(tmp_path: Path) -> None:
    with Backend(tmp_path / "store", "--workers", "0") as backend, backend.client() as client:
        before = len(os.listdir(f"/proc/{backend.pid}/fd"))
        silent = [Bytes(backend.info.endpoint) for _ in range(3 * MAX_STRANGERS)]
        until(lambda: silent[0].is_closed())
        client.check()
        with backend.client() as later:
            later.check()
        assert len(os.listdir(f"/proc/{backend.pid}/fd")) <= before + 3 * (MAX_STRANGERS + 2)
        for connection in silent:
            connection.socket.close()


def test_with_few_file_descriptors_the_backend_still_serves(tmp_path: Path) -> None:
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))\n"
        "from trackshade.server.__main__ import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", code, "--workers", "0", "--store", str(tmp_path / "store")]
    command += ["--connection-file", str(tmp_path / "file.json")]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        until(lambda: (tmp_path / "file.json").exists() or process.poll() is not None)
        backend = Backend.__new__(Backend)
        backend.store, backend.file, backend.process = tmp_path / "store", tmp_path / "file.json", process
        silent = []
        for _ in range(200):
            silent.append(Bytes(backend.info.endpoint))
        with backend.client() as client:
            client.check()
        assert process.poll() is None
        for connection in silent:
            connection.socket.close()
    finally:
        process.terminate()
        assert process.wait(60) == 0


def test_more_files_than_this_process_may_open_are_asked_for(backend: Backend) -> None:
    soft, hard = resource.prlimit(backend.pid, resource.RLIMIT_NOFILE)
    assert soft == hard or soft >= 1024


# with the token


def test_a_message_of_too_many_frames_ends_its_connection_only(backend: Backend, client: Client) -> None:
    with Bytes(backend.info.endpoint) as known:
        known.say_hello(backend.info.token)
        assert known.flood(EMPTY_PARTS, FLOOD) < TAKEN
        assert known.is_closed()
    with Bytes(backend.info.endpoint) as known:
        known.say_hello(backend.info.token)
        known.socket.sendall(message(*[b"x"] * MAX_FRAMES))
        known.socket.settimeout(1)
        assert not known.is_closed()


def test_a_header_of_too_many_values_is_refused_before_it_is_decoded(backend: Backend, client: Client) -> None:
    with Raw(backend.info.endpoint) as raw:
        raw.hello(backend.info.token)
        raw.send(lists(MAX_VALUES))
        answer = raw.receive()
        assert (answer.id, answer.body["code"]) == (4, "oversized-message")
        assert raw.ask(Message("ping", 3)).type == "reply"


def test_a_long_list_of_digests_is_looked_up_in_part(backend: Backend, client: Client) -> None:
    digests = [number.to_bytes(32, "big") for number in range(100_000)]
    with Raw(backend.info.endpoint) as raw:
        raw.hello(backend.info.token)
        assert raw.ask(Message("have", 2, {"digests": digests})).body["missing"] == digests
    assert len(digests) > MAX_LOOKUPS


def test_a_repeated_hello_keeps_the_session(backend: Backend, client: Client) -> None:
    with Raw(backend.info.endpoint) as raw:
        raw.hello(backend.info.token)
        sessions = client.status()["clients"]
        for _ in range(50):
            raw.send(*encode(Message("hello", 1, hello_body(backend.info.token))))
        assert {raw.receive().type for _ in range(50)} == {"welcome"}
        assert client.status()["clients"] == sessions


def hello_body(token: str) -> dict[str, object]:
    return {"protocol": PROTOCOL, "package": "0.0.test", "token": token, "client": "test"}


def test_a_client_that_does_not_read_costs_little(backend: Backend, client: Client) -> None:
    with Bytes(backend.info.endpoint, timeout=1.0) as known:
        known.say_hello(backend.info.token)
        ask = message(*(bytes(part) for part in encode(Message("models", 2))))
        with contextlib.suppress(TimeoutError, ConnectionError):
            for _ in range(20_000):
                known.socket.sendall(ask)
        client.check()


# addresses


@pytest.mark.parametrize("endpoint", ["ipc://@trackshade", "ipc://*"])
def test_a_socket_without_a_path_is_refused(tmp_path: Path, endpoint: str) -> None:
    command = [sys.executable, "-m", "trackshade.server", "--workers", "0", "--store", str(tmp_path / "s")]
    ended = subprocess.run([*command, "--endpoint", endpoint], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "every user of this machine" in ended.stderr


def test_ipv6_loopback(tmp_path: Path) -> None:
    with Backend(tmp_path / "store", "--workers", "0", "--endpoint", "tcp://[::1]:*") as backend:
        assert backend.info.endpoint.startswith("tcp://[::1]:")
        with connect(backend.info.endpoint, backend.info.token, patience=20) as client:
            assert client.status()["pid"] == backend.pid


def test_a_tcp_port_has_the_same_limits(tmp_path: Path) -> None:
    with Backend(tmp_path / "store", "--workers", "0", "--endpoint", "tcp://127.0.0.1:*") as backend:
        with Bytes(backend.info.endpoint) as stranger:
            assert stranger.flood(EMPTY_PARTS, FLOOD) < FLOOD
            assert stranger.is_closed()
        with backend.client() as client:
            client.check()
        assert backend.peak_memory() < SMALL


@pytest.mark.skipif(not zmq.has("curve"), reason="this libzmq has no CURVE")
def test_strangers_are_limited_where_keys_are_needed(tmp_path: Path) -> None:
    from trackshade.ipc.endpoints import create_keys

    create_keys(tmp_path / "keys", ("anna",))
    options = ("--workers", "0", "--endpoint", "tcp://127.0.0.1:*", "--curve", str(tmp_path / "keys"))
    with Backend(tmp_path / "store", *options) as backend:
        with Bytes(backend.info.endpoint) as stranger:
            assert stranger.flood(EMPTY_PARTS, FLOOD) < FLOOD
            assert stranger.is_closed()
        keys = tmp_path / "keys" / "for-anna"
        with connect(backend.info.endpoint, backend.info.token, curve=keys, patience=20) as client:
            client.check()
    assert EARLY_BYTES < TAKEN
