# SPDX-License-Identifier: GPL-3.0-or-later
"""A real broker process met by sockets that send anything at all."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers.backends import Backend, Raw, Relay, gone, grid_shot, header, limited_file_size, until
from trackshade.client import Client, connect, start_private
from trackshade.client.client_socket import Address
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import CancelledError, OutputError, ProtocolError, TrackshadeError
from trackshade.ipc import CHUNK_BYTES, PROTOCOL, ArrayEntry, Manifest, Message, decode, digest_of, encode
from trackshade.ipc.endpoints import create_keys
from trackshade.ipc.messages import BufferEntry
from trackshade.ipc.protocol import MAX_BUFFER_BYTES, MAX_BUFFERS
from trackshade.server.job_store import JobStore

SETTINGS = ShadeSettings(prompt="a test")


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """A backend that only accepts jobs."""
    with Backend(tmp_path_factory.mktemp("broker") / "store", "--workers", "0") as started:
        yield started


@pytest.fixture
def raw(backend: Backend) -> Iterator[Raw]:
    with Raw(backend.info.endpoint) as opened:
        yield opened


@pytest.fixture
def known(backend: Backend, raw: Raw) -> Raw:
    """A socket that has said hello."""
    assert raw.hello(backend.info.token).type == "welcome"
    return raw


@pytest.fixture
def client(backend: Backend) -> Iterator[Client]:
    with backend.client() as opened:
        yield opened


def chunk(data: bytes, digest: bytes | None = None, number: int = 7) -> Message:
    return Message("chunk", number, {}, (BufferEntry.of_bytes(len(data), digest or digest_of(data)),), (data,))


# who may come in


def test_hello_is_answered(backend: Backend, raw: Raw) -> None:
    answer = raw.hello(backend.info.token)
    assert (answer.type, answer.id) == ("welcome", 1)
    assert answer.body["protocol"] == PROTOCOL
    assert answer.body["pid"] == backend.pid


@pytest.mark.parametrize("token", ["", "x", "ä" * 40])
def test_a_wrong_token_is_refused(raw: Raw, token: str) -> None:
    answer = raw.hello(token)
    assert (answer.type, answer.body["code"]) == ("error", "wrong-token")
    assert raw.ask(Message("jobs", 2)).body["code"] == "hello-first"


@pytest.mark.parametrize(("version", "side"), [(PROTOCOL + 1, "the backend"), (PROTOCOL - 1, "add-on or command")])
def test_another_protocol_version_is_told_what_to_update(backend: Backend, raw: Raw, version: int, side: str) -> None:
    answer = raw.hello(backend.info.token, version, v=version)
    assert answer.body["code"] == "version-mismatch"
    assert side in answer.body["fix"]
    assert raw.ask(Message("jobs", 2)).body["code"] == "hello-first"


@pytest.mark.parametrize("kind", ["ping", "chunk", "submit", "read", "free", "what"])
def test_nothing_before_hello(raw: Raw, kind: str) -> None:
    answer = raw.ask(Message(kind, 5))
    assert (answer.type, answer.id, answer.body["code"]) == ("error", 5, "hello-first")


def test_clients_learn_why_they_are_refused(backend: Backend) -> None:
    client = Client(lambda: Address(backend.info.endpoint, "wrong"), 5)
    with pytest.raises(ProtocolError) as caught:
        client.jobs()
    assert caught.value.code == "wrong-token"
    assert caught.value.exit_code == 4
    client.close()


# whatever comes


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=100), min_size=1, max_size=5))
def test_random_frames_get_an_error_reply(known: Raw, frames: list[bytes]) -> None:
    known.send(*frames)
    answer = known.receive()
    assert answer.type == "error"
    assert answer.body["message"]
    assert known.ask(Message("ping", 3)).type == "reply"


VALUES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8) | st.binary(max_size=40)
BODIES = st.dictionaries(
    st.sampled_from(["job", "since", "name", "offset", "digests", "settings", "manifest", "token", "protocol"])
    | st.text(max_size=4),
    st.recursive(
        VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_size=5,
)
TYPES = ["hello", "ping", "have", "chunk", "submit", "events", "jobs", "cancel", "result", "read", "models", "status"]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(TYPES) | st.text(max_size=8), BODIES, st.lists(st.binary(max_size=20), max_size=2))
def test_every_message_gets_one_answer(known: Raw, kind: str, body: dict, buffers: list[bytes]) -> None:
    entries = tuple(BufferEntry.of_bytes(len(b), digest_of(b)) for b in buffers)
    answer = known.ask(Message(kind, 9, body, entries, tuple(buffers)))
    assert answer.type in ("reply", "error")
    assert answer.id == 9
    if answer.type == "error":
        assert answer.body["code"] != "internal-error", answer.body
    if kind not in TYPES:
        assert answer.body["code"] == "unknown-message"


@pytest.mark.parametrize(
    "frames",
    [
        [header(v=PROTOCOL, type="ping", id=4, body={}), *[b""] * (MAX_BUFFERS + 5)],
        [header(v=PROTOCOL, type="ping", id=4, body={}), b"x" * (MAX_BUFFER_BYTES + 1)],
        [header(v=PROTOCOL, type="ping", id=4, body={}), *[b"x" * MAX_BUFFER_BYTES] * 9],
        [header(v=PROTOCOL, type="ping", id=4, body={"x": b"x" * (17 << 20)})],
    ],
)
def test_oversized_messages_get_an_error_reply(known: Raw, frames: list[bytes]) -> None:
    known.send(*frames)
    answer = known.receive()
    assert (answer.type, answer.id, answer.body["code"]) == ("error", 4, "oversized-message")
    assert known.ask(Message("ping", 3)).type == "reply"


def test_a_hundred_connections_that_say_nothing_do_no_harm(backend: Backend, known: Raw) -> None:
    context = zmq.Context()
    for _ in range(100):
        silent = context.socket(zmq.DEALER)
        silent.connect(backend.info.endpoint)
        silent.send(b"?")
    assert known.ask(Message("ping", 3)).type == "reply"
    context.destroy(0)


# chunks and jobs


def test_a_chunk_under_a_wrong_digest_is_never_used(known: Raw) -> None:
    data = b"wrong bytes" * 9000
    entry = ArrayEntry("|u1", (len(data),), (digest_of(b"right"),))
    manifest = Manifest({"version": 1}, (entry,)).to_dict()
    body = {"job": "damaged", "settings": SETTINGS.to_dict(), "manifest": manifest}
    assert known.ask(chunk(data, entry.chunks[0])).type == "reply"
    answer = known.ask(Message("submit", 8, body))
    if answer.body["accepted"]:  # it was stored and not looked at yet
        until(lambda: known.ask(Message("result", 9, {"job": "damaged"})).body["code"] == "damaged-chunk")
    else:
        assert answer.body["missing"] == [entry.chunks[0]]
    assert known.ask(Message("have", 10, {"digests": list(entry.chunks)})).body["missing"] == list(entry.chunks)


def test_a_chunk_of_another_size_than_the_manifest_says(known: Raw) -> None:
    data = b"small" * 100
    known.ask(chunk(data))
    entry = ArrayEntry("|u1", (100_000,), (digest_of(data),))
    manifest = Manifest({"version": 1}, (entry,)).to_dict()
    answer = known.ask(Message("submit", 8, {"job": "j", "settings": SETTINGS.to_dict(), "manifest": manifest}))
    assert answer.body["code"] == "malformed-manifest"


def test_chunks_without_credit_do_not_fill_the_memory(tmp_path: Path) -> None:
    with Backend(tmp_path / "store", "--workers", "0") as backend, Raw(backend.info.endpoint) as raw:
        raw.hello(backend.info.token)
        for index in range(200):
            raw.send(*encode(chunk(index.to_bytes(2, "big") * (CHUNK_BYTES // 2), number=index)))
        assert {raw.receive().type for _ in range(200)} == {"reply"}
        assert backend.peak_memory() < 100e6


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"model": "none"}, "unknown-model"),
        ({"steps": 0}, "bad-setting"),
        ({"color": "red"}, "unknown-setting"),
        ({"model": None}, "bad-setting"),
        ({"seed": "1"}, "bad-setting"),
    ],
)
def test_bad_settings_are_refused_at_once(known: Raw, change: dict, code: str) -> None:
    body = {"job": "j", "settings": SETTINGS.to_dict() | change, "manifest": Manifest({}, ()).to_dict()}
    assert known.ask(Message("submit", 8, body)).body["code"] == code


def test_a_repeated_submit_is_the_same_job(client: Client) -> None:
    shot = grid_shot(count=2)
    job = client.submit(shot, SETTINGS, job_id="twice")
    assert client.submit(shot, SETTINGS, job_id="twice") == job == "twice"
    assert [j["id"] for j in client.jobs()].count("twice") == 1
    with pytest.raises(ProtocolError) as caught:
        client.submit(shot, ShadeSettings(prompt="another"), job_id="twice")
    assert caught.value.code == "job-exists"


def test_a_second_job_on_the_same_scene_sends_no_geometry(backend: Backend) -> None:
    shot = grid_shot(side=300, count=9, seed=5)
    with (
        Relay(backend.info.endpoint) as relay,
        Client(lambda: Address(relay.endpoint, backend.info.token), 20) as client,
    ):
        client.submit(shot, ShadeSettings(prompt="day"))
        first = relay.bytes
        assert first > shot.nbytes
        client.submit(shot, ShadeSettings(prompt="night"))
        assert relay.bytes - first < 64 * 1024


def test_the_broker_stays_small(tmp_path: Path) -> None:
    with Backend(tmp_path / "store", "--workers", "0") as backend, backend.client() as client:
        shot = grid_shot(side=300, count=49)
        assert shot.nbytes > 52_000_000
        client.submit(shot, SETTINGS)
        assert backend.peak_memory() < 100e6
        assert "torch" not in Path(f"/proc/{backend.pid}/maps").read_text()


def test_a_queued_job_is_cancelled(client: Client) -> None:
    job = client.submit(grid_shot(count=2, seed=3), SETTINGS)
    assert client.cancel(job) == "cancelled"
    assert client.cancel(job) == "cancelled"
    assert [event.state for event in client.events(job)] == ["queued", "cancelled"]
    for call in (lambda: client.fetch(job, Path("/nowhere")), lambda: client.wait(job)):
        with pytest.raises(CancelledError) as caught:
            call()
        assert caught.value.exit_code == 130


def test_models_and_status(backend: Backend, client: Client) -> None:
    assert client.models()[0]["name"] == "mini"
    assert client.status()["pid"] == backend.pid
    assert client.free() == 0


# a disk that is full


def test_a_full_disk_is_told_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with Backend(tmp_path / "store", "--workers", "0") as backend, backend.client() as client:
        shot = grid_shot(side=300, count=3)
        with limited_file_size(backend.pid, CHUNK_BYTES // 2):
            with pytest.raises(OutputError) as caught:
                client.submit(shot, SETTINGS, job_id="full")
            assert caught.value.code == "store-unwritable"
            assert str(backend.store) in caught.value.message
        chunks = backend.store / "chunks"  # those that were on their way may follow, but whole
        until(lambda: not list(chunks.glob("??/*.tmp")), "something half-written was left behind")
        for path in chunks.glob("??/*"):
            if path.suffix != ".tmp":  # one that follows just now
                assert digest_of(path.read_bytes()).hex() == path.stem
        assert client.jobs() == []
        assert client.submit(shot, SETTINGS, job_id="full") == "full"


def test_a_job_list_that_cannot_grow_is_told(tmp_path: Path) -> None:
    with Backend(tmp_path / "store", "--workers", "0") as backend, backend.client() as client:
        shot = grid_shot(count=2)
        client.submit(shot, SETTINGS)
        with limited_file_size(backend.pid, 1000), pytest.raises(OutputError) as caught:
            client.submit(shot, SETTINGS, job_id="full")
        assert caught.value.code == "store-unwritable"
        assert len(client.jobs()) == 1
        assert client.submit(shot, SETTINGS, job_id="full") == "full"


# life and death


def test_killed_and_started_again_it_has_every_job(tmp_path: Path) -> None:
    with Backend(tmp_path / "store", "--workers", "0") as backend, backend.client() as client:
        job = client.submit(grid_shot(count=2), SETTINGS)
        events = client.events(job)
        assert next(events).state == "queued"
        backend.kill()
        backend.start()
        assert client.cancel(job) == "cancelled"
        assert [event.state for event in events] == ["cancelled"]


def test_told_to_end_it_ends_cleanly(tmp_path: Path) -> None:
    backend = Backend(tmp_path / "store", "--workers", "0")
    assert backend.terminate() == 0
    assert not backend.file.exists()
    assert not list(backend.store.glob("*.ipc"))


def test_it_ends_when_nobody_needs_it(tmp_path: Path) -> None:
    backend = Backend(tmp_path / "store", "--workers", "0", "--idle-exit", "0.3")
    assert backend.process is not None
    assert backend.process.wait(30) == 0


def serve(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trackshade.server", "--workers", "0", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_store_in_use_is_refused(backend: Backend, tmp_path: Path) -> None:
    ended = serve("--store", str(backend.store), "--connection-file", str(tmp_path / "c"))
    assert ended.returncode == 3
    assert str(backend.store) in ended.stderr
    assert not (tmp_path / "c").exists()


def test_an_open_address_needs_keys(tmp_path: Path) -> None:
    ended = serve("--endpoint", "tcp://0.0.0.0:*", "--store", str(tmp_path / "s"))
    assert ended.returncode == 2
    assert "CURVE" in ended.stderr
    assert not (tmp_path / "s").exists()


def test_a_file_in_the_place_of_a_socket_is_kept(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    ended = serve("--workers", "0", "--store", str(tmp_path / "s"), "--endpoint", f"ipc://{tmp_path / 'notes.txt'}")
    assert ended.returncode == 2
    assert "there is a file of that name" in ended.stderr
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_unknown_device_is_refused(tmp_path: Path) -> None:
    ended = serve("--device", "abacus", "--workers", "1", "--store", str(tmp_path / "s"))
    assert ended.returncode == 2
    assert "abacus" in ended.stderr


@pytest.mark.skipif(not zmq.has("curve"), reason="this libzmq has no CURVE")
def test_curve_lets_in_who_has_the_keys(tmp_path: Path) -> None:
    create_keys(tmp_path / "keys", ("anna", "bert"))
    (tmp_path / "keys" / "clients" / "bert.key").unlink()  # not let in any more
    options = ("--workers", "0", "--endpoint", "tcp://127.0.0.1:*", "--curve", str(tmp_path / "keys"))
    with Backend(tmp_path / "store", *options) as backend:
        endpoint, token = backend.info.endpoint, backend.info.token
        with connect(endpoint, token, curve=tmp_path / "keys" / "for-anna") as client:
            assert client.status()["pid"] == backend.pid
            client.submit(grid_shot(count=2), SETTINGS)
        for keys in (tmp_path / "keys" / "for-bert", None):
            with pytest.raises(TrackshadeError) as caught:
                connect(endpoint, token, curve=keys, patience=2)
            assert caught.value.code in ("wrong-keys", "backend-unreachable")


OWNER = """
import sys
from pathlib import Path
from trackshade.client import start_private
backend = start_private(store=Path(sys.argv[1]), options=["--workers", "0"])
print(backend.pid, flush=True)
sys.stdin.read()
"""


def test_a_private_backend_dies_with_its_owner(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path / "s")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    assert not gone(pid)
    owner.kill()
    owner.communicate()
    until(lambda: gone(pid))


def test_a_private_backend_leaves_an_earlier_owners_jobs_until_asked(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "s")
    store.add("old", Manifest({}, ()), SETTINGS.to_dict())
    store.close()
    with (
        start_private(store=tmp_path / "s", options=["--device", "cpu"]) as private,
        Client(private.address, 20) as client,
    ):
        client.submit(grid_shot(count=2), ShadeSettings(prompt="new", light="render"), job_id="new")
        until(lambda: client.jobs()[1]["state"] == "failed")  # as no render was sent
        assert client.jobs()[0]["state"] == "queued"
        assert list(client.events("old"))[-1].state == "failed"


def test_importing_the_broker_and_the_client_loads_nothing_heavy() -> None:
    code = (
        "import sys, trackshade.server.broker, trackshade.server.worker, trackshade.client\n"
        "heavy = {'torch', 'diffusers', 'scipy', 'numba', 'bpy', 'PIL', 'av'}\n"
        "print({name.split('.')[0] for name in sys.modules} & heavy)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert ended.stdout.strip() == "set()"


def test_answers_are_messages(known: Raw) -> None:
    known.send(*encode(Message("models", 3)))
    frames = known.socket.recv_multipart()
    assert msgpack.unpackb(frames[0])["v"] == PROTOCOL
    assert decode(frames).type == "reply"
