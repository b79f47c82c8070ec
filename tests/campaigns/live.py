# SPDX-License-Identifier: GPL-3.0-or-later
"""Campaigns against a running backend: damaged messages, floods before hello, and kill -9."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack

from tests.campaigns.mutants import damaged_bytes, damaged_value
from tests.campaigns.table import Row
from tests.helpers.backends import Backend, Raw, grid_shot
from trackshade.client import Client
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import TrackshadeError
from trackshade.ipc import PROTOCOL, Manifest, digest_of, encode
from trackshade.ipc.messages import with_buffers

PING_EVERY = 0.02  # seconds
SETTINGS = ShadeSettings(prompt="a test")
DATA = b"chunk" * 1000
ENTRY = {"dtype": "|u1", "shape": [len(DATA)], "chunks": [digest_of(DATA)]}
MANIFEST = {**Manifest({}, ()).to_dict(), "arrays": [ENTRY]}
REQUESTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("hello", {"protocol": PROTOCOL, "package": "0", "token": "x", "client": "campaign"}),
    ("ping", {}),
    ("have", {"digests": [digest_of(DATA), bytes(32)]}),
    ("chunk", {}),
    ("submit", {"job": "j", "settings": SETTINGS.to_dict(), "manifest": MANIFEST}),
    ("events", {"job": "j", "since": 0}),
    ("jobs", {"after": 0}),
    ("models", {}),
    ("status", {}),
    ("cancel", {"job": "j"}),
    ("result", {"job": "j"}),
    ("read", {"job": "j", "name": "frames/0001.png", "offset": 0}),
    ("free", {}),
)  # fmt: skip
# Each is run in a process of its own until it is killed; `Bytes` is connected to the backend.
ATTACKS = {
    "unfinished message": "with Bytes(endpoint) as b: b.flood(EMPTY_PARTS, 1 << 30)",
    "headers": "with Bytes(endpoint) as b: b.flood(message(b'\\xdd\\x00\\x00\\xff\\xff' + b'\\x90' * 65535), 1 << 30)",
    "empty frames": "with Bytes(endpoint) as b: b.flood(message(*[b''] * 100000), 1 << 30)",
    "guessed tokens": "with Bytes(endpoint) as b: b.flood(hello('x') * 20, 1 << 30)",
    "silent connections": "kept.append(Bytes(endpoint)); del kept[:-500]",
}
ATTACKER = """
import sys
from tests.helpers.zmtp import EMPTY_PARTS, Bytes, hello, message
endpoint, kept = sys.argv[1], []
while True:
    try:
        {}
    except OSError:
        pass
"""


@contextlib.contextmanager
def honest_client(backend: Backend, row: Row) -> Iterator[None]:
    """Ping the backend all the while, from a client that said hello before."""
    is_done = threading.Event()

    def ping(client: Client) -> None:
        while not is_done.wait(PING_EVERY):
            begun = time.perf_counter()
            try:
                client.check()
            except TrackshadeError as error:
                row.lost += 1
                row.note(f"the honest client: {error}")
            row.pings.append(time.perf_counter() - begun)

    with backend.client() as client:
        thread = threading.Thread(target=ping, args=(client,))
        thread.start()
        try:
            yield
        finally:
            is_done.set()
            thread.join()


def messages(folder: Path, count: int, seed: int) -> Row:
    """Send damaged messages after a hello; each has to get one answer."""
    row, rng = Row("messages"), random.Random(seed)
    with Backend(folder / "messages", "--workers", "0") as backend:
        with honest_client(backend, row), Raw(backend.info.endpoint) as raw:
            raw.hello(backend.info.token)
            for _ in range(count):
                raw.send(*_damaged_message(rng))
                row.trials += 1
                answer = raw.receive()
                if answer.body.get("code") == "internal-error":
                    row.fault("an internal error")
        _check_end(backend, row)
    return row


def floods(folder: Path, seconds: float, kinds: tuple[str, ...] = tuple(ATTACKS)) -> Row:
    """Attack the backend without its token, one way after the other, for some seconds each."""
    row = Row("floods before hello")
    with Backend(folder / "floods", "--workers", "0") as backend:
        for kind in kinds:
            code = ATTACKER.format(ATTACKS[kind])
            attacker = subprocess.Popen([sys.executable, "-c", code, backend.info.endpoint])
            try:
                with honest_client(backend, row):
                    time.sleep(seconds)
            finally:
                attacker.kill()
                attacker.wait()
            row.trials += 1
            if backend.peak_memory() > 150e6:
                row.lost += 1
                row.note(f"{kind}: the backend took {backend.peak_memory() / 1e6:.0f} MB")
        _check_end(backend, row)
    return row


def kills(folder: Path, count: int, seed: int) -> Row:
    """Kill the backend at random moments while jobs are submitted; every accepted job is there afterwards."""
    row, rng = Row("kill -9"), random.Random(seed)
    accepted: set[str] = set()
    with Backend(folder / "kills", "--workers", "0") as backend:
        for number in range(count):
            is_killed = threading.Event()

            def submit(number: int = number, is_killed: threading.Event = is_killed) -> None:
                with contextlib.suppress(TrackshadeError), Client(backend.address, 1.0) as client:
                    for job in range(1000):
                        if is_killed.is_set():
                            return
                        shot = grid_shot(side=150, count=2, seed=1000 * number + job)
                        accepted.add(client.submit(shot, SETTINGS, job_id=f"job-{number}-{job}"))

            thread = threading.Thread(target=submit)
            thread.start()
            time.sleep(rng.uniform(0.0, 0.5))
            backend.kill()
            is_killed.set()
            row.trials += 1
            try:
                backend.start()
            except AssertionError as error:
                row.ends += 1
                row.note(str(error))
                thread.join()
                return row
            thread.join()
            with backend.client() as client:
                missing = accepted - {str(job["id"]) for job in client.jobs()}
            row.lost += len(missing)
            for path in (backend.store / "chunks").glob("??/*"):
                if not path.suffix and digest_of(path.read_bytes()).hex() != path.name:
                    row.lost += 1
                    row.note(f"{path.name} has other bytes")
        _check_end(backend, row)
    return row


def _damaged_message(rng: random.Random) -> list[bytes]:
    kind, body = rng.choice(REQUESTS)
    buffers = (DATA,) if kind == "chunk" else ()
    frames = [bytes(part) for part in encode(with_buffers(kind, rng.randrange(1, 100), body, *buffers))]
    how = rng.randrange(4)
    if how == 0:
        frames[rng.randrange(len(frames))] = damaged_bytes(rng.choice(frames), rng)
    elif how == 1:
        frames += [rng.randbytes(rng.randrange(50))] * rng.randrange(1, 70)
    else:
        changed = damaged_value(msgpack.unpackb(frames[0]), rng)
        with contextlib.suppress(ValueError, OverflowError, TypeError):
            frames[0] = bytes(msgpack.packb(changed) or b"")
    return frames


def _check_end(backend: Backend, row: Row) -> None:
    """Look whether the backend runs, and what its log has."""
    if backend.process is None or backend.process.poll() is not None:
        row.ends += 1
    row.read_log(backend.store.with_name(f"{backend.store.name}.log"))
