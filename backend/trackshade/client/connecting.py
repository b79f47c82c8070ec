# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds a backend: the one that was named, else one that runs on this machine, else a new one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from trackshade.client.client import Client
from trackshade.client.client_socket import Address
from trackshade.client.launch import start_private
from trackshade.client.shared import join, share
from trackshade.core import folders
from trackshade.core.errors import ProtocolError, UsageError
from trackshade.ipc import connection_files
from trackshade.ipc.connection_files import ConnectionInfo
from trackshade.ipc.endpoints import ClientKeys, client_keys, is_loopback

PATIENCE = 30.0  # seconds that a backend may be away: long enough to be started again
SERVED_PATIENCE = 5.0  # seconds to see whether what the connection file names is really there


def connect(
    endpoint: str | None = None,
    token: str | None = None,
    *,
    curve: Path | None = None,
    python: str | os.PathLike[str] | None = None,
    store: Path | None = None,
    patience: float = PATIENCE,
    shared: bool = False,
    options: Sequence[str] = (),
) -> Client:
    """A client of the backend at `endpoint`; where that is None of the served one, else of the shared one if that
    runs, else of a new one: shared with others of this user where `shared`, else a private one.

    `token` is that of the backend (its connection file's, or TRACKSHADE_TOKEN, if None), `curve` a folder with this
    client's CURVE keys; `python`, `store` and `options` are for a new backend (see `start_private`). `patience` is how
    many seconds a backend may be away before calls fail. Waits for the first answer.

    Raises ProtocolError: "backend-unreachable", "wrong-token", "version-mismatch", "wrong-keys",
    "backend-not-started", "backend-gave-up"; UsageError for an endpoint that is none, a missing token or missing keys.
    """
    keys = client_keys(curve) if curve is not None else None
    if endpoint is not None:
        if not endpoint.startswith("ipc://"):
            is_loopback(endpoint)  # raises for what is not an endpoint
        address = Address(endpoint, token or _token_of(endpoint), keys)
        return _checked(Client(lambda: address, patience))
    if served() is not None:
        client = Client(lambda: _served_address(keys), SERVED_PATIENCE)
        try:
            return _checked(client, patience)
        except ProtocolError as error:
            if error.code != "backend-unreachable":
                raise
    if shared:
        backend = share(python, options=options)
        return _checked(Client(backend.address, patience, backend))
    running = None if store is not None else join()
    if running is not None:
        try:
            return _checked(Client(running.address, SERVED_PATIENCE, running), patience)
        except ProtocolError as error:
            if error.code not in ("backend-unreachable", "backend-ended", "version-mismatch"):
                raise
    backend = start_private(python, store, options=options)
    return _checked(Client(backend.address, patience, backend))


def _checked(client: Client, patience: float | None = None) -> Client:
    try:
        client.check()
    except BaseException:
        client.close()
        raise
    if patience is not None:
        client.set_patience(patience)
    return client


def served() -> ConnectionInfo | None:
    """Where the backend that is served on this machine listens; None where none is. Raises ProtocolError for a damaged
    connection file.
    """
    info = connection_files.read(folders.connection_file())
    return info if info is not None and info.alive() else None


def _served_address(keys: ClientKeys | None) -> Address:
    """Read again after every loss: a backend that was started again may listen elsewhere."""
    info = served()
    if info is None:
        raise ProtocolError(
            "backend-unreachable",
            "No backend is running on this machine.",
            "Start it with `trackshade serve`.",
        )
    if info.curve and keys is None:
        raise ProtocolError("wrong-keys", "The backend on this machine wants CURVE keys.", "Give a folder of keys.")
    return Address(info.endpoint, info.token, keys if info.curve else None)


def _token_of(endpoint: str) -> str:
    token = os.environ.get("TRACKSHADE_TOKEN")
    if token:
        return token
    info = connection_files.read(folders.connection_file())
    if info is not None and info.endpoint == endpoint:
        return info.token
    raise UsageError(
        "no-token",
        f"A token is needed for {endpoint}.",
        "Take it from the backend's connection file and set TRACKSHADE_TOKEN.",
    )
