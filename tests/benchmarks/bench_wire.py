# SPDX-License-Identifier: GPL-3.0-or-later
"""Submitting a shot beside a bare ZeroMQ send of the same bytes over the same transport.

    python tests/benchmarks/bench_wire.py

The shot is a 300 × 300 grid over 49 frames, 53 MB. The bare send is what pyzmq does with the same array between two
processes: one `send(copy=False)`, received whole and acknowledged. Beside it stands the same in messages of 1 MiB, the
least that any protocol could take. Submitting hashes, asks, sends, stores and accepts; bare sends and submits take
turns, so that both meet the same machine, and the fastest of each are compared, since whatever else the machine does
only adds. The chunks of the round before are deleted first, or else what is measured is how fast the machine finds
fresh memory for its file cache. It needs two cores with nothing else to do: a bare send is one core's work, and the
hashing alone takes longer than that.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import zmq

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.helpers.backends import Relay, until  # pyright: ignore[reportMissingImports]
from trackshade.client import Client, start_private
from trackshade.client.client_socket import Address
from trackshade.config.settings import ShadeSettings
from trackshade.shot import CameraTrack, Geometry, MeshTrack, Shot

FRAMES, VERTICES = 49, 300 * 300
ROUNDS = 15
MIB = 1 << 20


def grid_shot(seed: int) -> Shot:
    """A grid whose vertices all move, so that nothing repeats."""
    positions = np.random.default_rng(seed).random((FRAMES, VERTICES, 3), np.float32)
    still = np.tile(np.eye(4), (FRAMES, 1, 1))
    corner = (np.arange(299)[:, None] * 300 + np.arange(299)).ravel()
    squares = np.stack([corner, corner + 1, corner + 301, corner + 300], 1)
    triangles = np.concatenate([squares[:, [0, 1, 2]], squares[:, [0, 2, 3]]]).astype(np.int32)
    camera = CameraTrack(
        "Camera",
        ("Camera",) * FRAMES,
        np.tile(np.diag([900.0, 900.0, 1.0]), (FRAMES, 1, 1)),
        still,
        np.zeros(FRAMES, bool),
        np.tile([0.1, 100.0], (FRAMES, 1)),
    )
    return Shot(
        np.arange(1.0, FRAMES + 1),
        8.0,
        (720, 480),
        camera,
        (Geometry(positions, triangles),),
        (MeshTrack("Grid", 0, still, np.ones(FRAMES, bool)),),
    )


def receive(endpoint: str, total: int) -> None:
    """The other end of a bare send: takes `total` bytes, however they are cut, and says so."""
    router = zmq.Context().socket(zmq.ROUTER)
    router.bind(endpoint)
    while True:
        got, identity = 0, None
        while got < total or identity is None:
            identity, data = router.recv_multipart(copy=False)
            if len(data) == 0:
                return
            got += len(data)
        router.send_multipart([identity.bytes, b"ok"])


@contextmanager
def bare(endpoint: str, shot: Shot) -> Iterator[Callable[[int], float]]:
    """A function that sends the shot's positions in messages of that size and returns the seconds it took."""
    data = shot.geometries[0].positions.data.cast("B")
    process = multiprocessing.get_context("spawn").Process(target=receive, args=(endpoint, len(data)))
    process.start()
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.connect(endpoint)

    def send(size: int) -> float:
        begun = time.perf_counter()
        for start in range(0, len(data), size):
            dealer.send(data[start : start + size], copy=False)
        dealer.recv()
        return time.perf_counter() - begun

    try:
        send(len(data))  # until both are there and warm
        yield send
    finally:
        dealer.send(b"")
        process.join()
        context.destroy()


@contextmanager
def backend(endpoint: str | None) -> Iterator[Client]:
    """A client of a backend that only accepts jobs."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--workers", "0", *(["--endpoint", endpoint] if endpoint else [])]
        private = start_private(store=Path(folder) / "store", options=options)
        with private, Client(private.address, 30) as client:
            client.check()
            yield client


def clear(client: Client) -> None:
    """Wait until the backend has verified what it stored, and delete it."""
    chunks = Path(client.status()["store"]) / "chunks"
    until(lambda: not list(chunks.glob("??/*.new")))
    for path in chunks.glob("??/*"):
        path.unlink()


def compare(transport: str, bare_endpoint: str, endpoint: str | None) -> list[tuple[str, str, str]]:
    whole, cut, submits = [], [], []
    with backend(endpoint) as client, bare(bare_endpoint, grid_shot(0)) as send:
        client.submit(grid_shot(1000), ShadeSettings())  # warm
        for number in range(ROUNDS):
            shot = grid_shot(number)
            clear(client)
            whole.append(send(sys.maxsize))
            cut.append(send(MIB))
            begun = time.perf_counter()
            client.submit(shot, ShadeSettings())
            submits.append(time.perf_counter() - begun)
    one, pieces, submit = map(min, (whole, cut, submits))
    return [
        (
            f"submit of 53 MB over {transport}, beside a bare send ({submit * 1e3:.0f} ms)",
            f"{submit / one:.2f} times",
            "at most 2",
        ),
        (
            "the same beside a bare send in 1 MiB messages, without digests or storing",
            f"{submit / pieces:.2f} times",
            "",
        ),
    ]


def second_job() -> list[tuple[str, str, str]]:
    with backend(None) as client:
        shot = grid_shot(0)
        store = Path(client.status()["store"])
        token = (store / "token").read_text().strip()
        relay = Relay(f"ipc://{store / 'broker.ipc'}")
        with relay, Client(lambda: Address(relay.endpoint, token), 30) as relayed:
            relayed.submit(shot, ShadeSettings(prompt="day"))
            before = relay.bytes
            relayed.submit(shot, ShadeSettings(prompt="night"))
            return [("what a second job on the same scene sends", f"{relay.bytes - before} bytes", "under 65536")]


def memory() -> list[tuple[str, str, str]]:
    with backend(None) as client:
        client.submit(grid_shot(0), ShadeSettings())
        status = Path(f"/proc/{client.status()['pid']}/status").read_text()
        peak = int(status.split("VmHWM:")[1].split()[0]) / 1000
        return [("memory that the broker needs at most for a shot of 53 MB", f"{peak:.0f} MB", "under 100")]


def first_event() -> list[tuple[str, str, str]]:
    """How soon a job is heard of whose worker process has to be started and to import torch first."""
    with tempfile.TemporaryDirectory() as folder:
        private = start_private(store=Path(folder) / "store", options=["--device", "cpu"])
        with private, Client(private.address, 30) as client:
            client.check()
            shot = grid_shot(0)
            job = client.submit(shot, ShadeSettings())
            begun = time.perf_counter()
            seconds = {event.state: time.perf_counter() - begun for event in client.events(job, timeout=1.0)}
    figure = f"{seconds['queued'] * 1e3:.0f} ms"
    return [("first event of a job whose worker must still load torch", figure, "under 1000 ms")]


def rows() -> list[tuple[str, str, str]]:
    """Name, value and target of each figure."""
    with tempfile.TemporaryDirectory() as folder:
        ipc = compare("ipc", f"ipc://{folder}/bare", None)
    tcp = compare("tcp", "tcp://127.0.0.1:48917", "tcp://127.0.0.1:*")
    return [*ipc, *tcp, *second_job(), *memory(), *first_event()]


if __name__ == "__main__":
    for name, value, target in rows():
        print(f"{name:90} {value:>12} {target}")
