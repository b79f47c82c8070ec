# SPDX-License-Identifier: GPL-3.0-or-later
"""The client against real backends: streams of events, results, and backends that lie."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from tests.helpers.backends import Backend, grid_shot, until
from trackshade.client import Client, connect
from trackshade.client.client_socket import Address
from trackshade.client.connection import wait
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import JobError, OutputError, ProtocolError, UsageError
from trackshade.ipc import PROTOCOL, Manifest, Message, connection_files, decode, digest_of, encode
from trackshade.ipc.endpoints import create_keys, read_client_keys, read_server_keys
from trackshade.ipc.messages import BufferEntry
from trackshade.server.job_store import JobStore

SETTINGS = ShadeSettings(prompt="a test")
RESULT = {"job.json": b'{"seed": 0}', "frames/0001.png": b"one" * 700_000, "frames/0002.png": b"two", "empty": b""}


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """A backend that accepts jobs, and in whose store one is done, one failed, and one has many events."""
    folder = tmp_path_factory.mktemp("client") / "store"
    store = JobStore(folder)
    for job in ("done", "failed", "long"):
        store.add(job, Manifest({}, ()), SETTINGS.to_dict())
    for name, data in RESULT.items():
        path = store.result("done") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    store.record_event("done", {"state": "done", "summary": {"seed": 0}})
    error = JobError("out-of-memory", "There is not enough memory.", "Choose a smaller model.")
    store.record_event("failed", {"state": "failed", "error": error.to_dict()})
    for step in range(100):
        store.record_event(
            "long", {"state": "running", "step": step, "steps": 100}, b"image" if step % 3 == 0 else None
        )
    store.record_event("long", {"state": "done"})
    store.close()
    with Backend(folder, "--workers", "0") as started:
        yield started


@pytest.fixture
def client(backend: Backend) -> Iterator[Client]:
    with backend.client() as opened:
        yield opened


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# events


def test_events_come_in_order_with_their_previews(client: Client) -> None:
    events = list(client.events("long"))
    assert [e.seq for e in events] == list(range(1, 103))
    assert [e.step for e in events[1:-1]] == list(range(100))
    assert all((e.preview == b"image") == (e.step is not None and e.step % 3 == 0) for e in events)
    assert events[-1].final
    assert [e.seq for e in client.events("long", since=95)] == list(range(96, 103))


def test_polling_returns_at_once_and_gives_the_same(client: Client) -> None:
    found = client.poll("long")
    until(lambda: found.extend(client.poll("long")) or (found and found[-1].final))
    assert [e.seq for e in found] == list(range(1, 103))
    assert client.poll("long") == []


def test_pushed_events_reach_every_listener(backend: Backend, client: Client) -> None:
    job = client.submit(grid_shot(count=2, seed=1), SETTINGS)
    with backend.client() as other:
        streams = [client.events(job), other.events(job), client.events(job)]
        assert [next(stream).state for stream in streams] == ["queued"] * 3
        client.poll(job)
        other.cancel(job)
        assert [next(stream).state for stream in streams] == ["cancelled"] * 3
        until(lambda: any(event.final for event in client.poll(job)))


def test_a_job_that_ends_while_its_events_are_asked_for_is_seen_to_end(
    backend: Backend, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = client.submit(grid_shot(count=2, seed=5), SETTINGS)
    ask = client._connection.request

    def held_up(*arguments: Any) -> Any:
        asked = ask(*arguments)
        wait(asked)
        other.cancel(job)
        time.sleep(0.2)  # until what was pushed has arrived
        return asked

    with backend.client() as other:
        events = client.events(job, timeout=10)
        with monkeypatch.context() as patch:
            patch.setattr(client._connection, "request", held_up)
            first = next(events)
        assert [event.state for event in (first, *events)] == ["queued", "cancelled"]


def test_waiting_for_events_can_end(client: Client) -> None:
    job = client.submit(grid_shot(count=2, seed=2), SETTINGS)
    assert [e.state for e in client.events(job, timeout=2)] == ["queued"]
    client.cancel(job)


def test_an_unknown_job_is_an_error(client: Client) -> None:
    for call in (lambda: list(client.events("nobody")), lambda: client.cancel("nobody"), lambda: client.cancel("../x")):
        with pytest.raises(ProtocolError):
            call()

    def polled() -> bool:
        try:
            client.poll("nobody")
        except ProtocolError as error:
            return error.code == "unknown-job"
        return False

    until(polled)


def test_waiting_for_a_failed_job_raises_why(client: Client, tmp_path: Path) -> None:
    for call in (lambda: client.wait("failed"), lambda: client.fetch("failed", tmp_path / "out")):
        with pytest.raises(JobError) as caught:
            call()
        assert caught.value.code == "out-of-memory"
        assert caught.value.fix == "Choose a smaller model."
    assert client.wait("done").summary == {"seed": 0}


# results


def test_a_result_arrives_whole(client: Client, tmp_path: Path) -> None:
    out = client.fetch("done", tmp_path / "a" / "out")
    assert contents(out) == RESULT
    assert os.listdir(out.parent) == ["out"]


def test_existing_output_is_kept_unless_forced(client: Client, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("work")
    with pytest.raises(OutputError) as caught:
        client.fetch("done", out)
    assert caught.value.code == "output-exists"
    assert contents(out) == {"mine": b"work"}
    client.fetch("done", out, force=True)
    assert contents(out) == RESULT
    assert os.listdir(tmp_path) == ["out"]
    (tmp_path / "empty").mkdir()
    client.fetch("done", tmp_path / "empty")


@pytest.mark.parametrize("place", ["file/out", "file"])
def test_output_that_cannot_be_written(client: Client, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError):
        client.fetch("done", tmp_path / place)
    assert contents(tmp_path) == {"file": b"mine"}


def test_a_full_disk_leaves_no_output(backend: Backend, tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from trackshade.client import connect
from trackshade.core.errors import TrackshadeError
sys.dont_write_bytecode = True
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
with connect(sys.argv[1], sys.argv[2]) as client:
    try:
        client.fetch("done", Path(sys.argv[3]))
    except TrackshadeError as error:
        print(error.code)
"""
    command = [sys.executable, "-c", code, backend.info.endpoint, backend.info.token, str(tmp_path / "out")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "output-unwritable"
    assert os.listdir(tmp_path) == []


class Liar(threading.Thread):
    """A backend that greets everybody and answers what it likes."""

    def __init__(self, answers: dict[str, Message], busy: float = 0.0) -> None:
        super().__init__(daemon=True)
        self._busy = busy  # seconds until it begins to answer
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.bind("tcp://127.0.0.1:*")
        self.endpoint = self._socket.get_string(zmq.LAST_ENDPOINT)
        self._answers = answers
        self.start()

    def run(self) -> None:
        time.sleep(self._busy)
        while True:
            identity, *frames = self._socket.recv_multipart()
            asked = decode(frames)
            answer = self._answers.get(
                asked.type, Message("welcome" if asked.type == "hello" else "reply", 0, {"window": 8})
            )
            told = Message(answer.type, asked.id, answer.body, answer.entries, answer.buffers, answer.v)
            self._socket.send_multipart([identity, *encode(told)])


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "C:evil", "a\\evil", ""])
def test_no_name_from_a_backend_is_trusted(tmp_path: Path, name: str) -> None:
    files = {"files": [{"name": name, "size": 1}]}
    data = Message("reply", 0, {}, (BufferEntry.of_bytes(1, digest_of(b"x")),), (b"x",))
    liar = Liar({"result": Message("reply", 0, files), "read": data})
    with Client(lambda: Address(liar.endpoint, "any"), 10) as client, pytest.raises(ProtocolError) as caught:
        client.fetch("job", tmp_path / "deep" / "out")
    assert caught.value.code == "unsafe-name"
    assert contents(tmp_path) == {}


def test_damaged_bytes_are_noticed(tmp_path: Path) -> None:
    data = Message("reply", 0, {}, (BufferEntry.of_bytes(1, digest_of(b"y")),), (b"x",))
    liar = Liar({"result": Message("reply", 0, {"files": [{"name": "a", "size": 1}]}), "read": data})
    with Client(lambda: Address(liar.endpoint, "any"), 10) as client, pytest.raises(ProtocolError) as caught:
        client.fetch("job", tmp_path / "out")
    assert caught.value.code == "damaged-result"
    assert contents(tmp_path) == {}


def test_a_backend_of_another_version_says_so() -> None:
    body = ProtocolError("version-mismatch", "The client is old.", "Update the add-on.").to_dict()
    liar = Liar({"hello": Message("error", 0, body, v=PROTOCOL + 1)})
    with pytest.raises(ProtocolError, match="Update the add-on"):
        connect(liar.endpoint, "any", patience=10)


# patience


def test_a_backend_that_is_too_busy_to_answer_is_waited_for() -> None:
    liar = Liar({}, busy=3.0)
    with Client(lambda: Address(liar.endpoint, "any"), patience=0.5) as client:
        client.check()


def test_an_address_without_a_backend_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        with Client(lambda: Address(endpoint, "any"), patience=0.5) as client, pytest.raises(ProtocolError) as caught:
            client.check()
    assert caught.value.code == "backend-unreachable"


@pytest.mark.parametrize("token", ["ä" * 40, "\udce4"])
def test_a_token_that_cannot_be_sent_is_named(token: str) -> None:
    with pytest.raises(UsageError) as caught:
        connect("tcp://127.0.0.1:9", token, patience=1)
    assert caught.value.code == "bad-token"


def test_an_endpoint_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    address = {"endpoint": "no://endpoint", "token": "x" * 40, "pid": os.getpid(), "version": "0", "protocol": 1}
    (tmp_path / "file").write_text(json.dumps({**address, "curve": False}))
    info = connection_files.read(tmp_path / "file")
    assert info is not None
    with Client(lambda: Address(info.endpoint, info.token), 1) as client, pytest.raises(UsageError) as caught:
        client.check()
    assert caught.value.code == "bad-endpoint"


@pytest.mark.parametrize(
    "text", ["", "[" * 100_000, "{}", '{"pid": -1}', json.dumps({"endpoint": "a", "token": "b", "pid": 1e30})]
)
def test_a_damaged_connection_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(ProtocolError) as caught:
        connection_files.read(tmp_path / "file")
    assert caught.value.code == "bad-connection-file"


@pytest.mark.parametrize("damage", [b"", b"x" * 40, b"\xff\xfe" * 30, b'metadata\ncurve\n    public-key = "short"\n'])
def test_damaged_curve_keys_are_named(tmp_path: Path, damage: bytes) -> None:
    create_keys(tmp_path / "keys", ("anna",))
    for path, read in (
        (tmp_path / "keys" / "clients" / "anna.key", read_server_keys),
        (tmp_path / "keys" / "server.key_secret", read_server_keys),
        (tmp_path / "keys" / "for-anna" / "server.key", read_client_keys),
    ):
        before = path.read_bytes()
        path.write_bytes(damage)
        with pytest.raises(UsageError) as caught:
            read(tmp_path / "keys" if read is read_server_keys else path.parent)
        assert caught.value.code == "no-keys"
        assert path.name in caught.value.message
        path.write_bytes(before)
