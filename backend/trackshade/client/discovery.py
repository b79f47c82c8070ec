# SPDX-License-Identifier: GPL-3.0-or-later
"""Connects to a backend: a given one, one that runs on this machine, or a new one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from trackshade.client.backend_process import join_shared, start_private, start_shared
from trackshade.client.client import Client
from trackshade.client.client_socket import Address
from trackshade.core import folders
from trackshade.core.errors import ProtocolError, UsageError
from trackshade.ipc import connection_files
from trackshade.ipc.connection_files import ConnectionInfo
from trackshade.ipc.endpoints import ClientKeys, is_loopback, read_client_keys

PATIENCE = 30.0  # seconds that a backend may be away: long enough for a restart
FIND_TIME = 5.0  # seconds in which the backend of a connection file has to answer


def connect(
    endpoint: str | None = None,
    token: str | None = None,
    *,
    curve: Path | ClientKeys | None = None,
    python: str | os.PathLike[str] | None = None,
    store: Path | None = None,
    patience: float = PATIENCE,
    shared: bool = False,
    options: Sequence[str] = (),
) -> Client:
    """Connect to a backend and wait for its first answer.

    Without `endpoint`, it is the backend of `trackshade serve` on this machine, or the shared one if it runs, or a new
    private one. With `shared`, the shared one is started instead of a private one.

    Args:
        endpoint: Address of the backend.
        token: Its token. Default: TRACKSHADE_TOKEN, or that of its connection file.
        curve: The client's CURVE keys, or their folder.
        python: Interpreter of a new backend; see `start_private`.
        store: Folder of the job store of a new private backend.
        patience: Seconds that the backend may be away before calls fail.
        shared: Whether to share the backend with other programs of this user.
        options: Further options of a new backend.

    Raises:
        ProtocolError: "backend-unreachable", "wrong-token", "version-mismatch", "wrong-keys", "backend-not-started"
            or "backend-gave-up".
        UsageError: The endpoint is invalid, or the token or keys are missing.
    """
    keys = read_client_keys(curve) if isinstance(curve, Path) else curve
    if endpoint is not None:
        if not endpoint.startswith("ipc://"):
            is_loopback(endpoint)  # raises UsageError for an invalid endpoint
        address = Address(endpoint, token or _token_of(endpoint), keys)
        return _checked(Client(lambda: address, patience))
    if find_served() is not None:
        client = Client(lambda: _served_address(keys), FIND_TIME)
        try:
            return _checked(client, patience)
        except ProtocolError as error:
            if error.code != "backend-unreachable":
                raise
    if shared:
        backend = start_shared(python, options=options)
        return _checked(Client(backend.address, patience, backend))
    running = None if store is not None else join_shared()
    if running is not None:
        try:
            return _checked(Client(running.address, FIND_TIME, running), patience)
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


def find_served() -> ConnectionInfo | None:
    """Return the backend of `trackshade serve` if it runs. Raise ProtocolError for a damaged connection file."""
    return connection_files.find_running(folders.connection_file())


def _served_address(keys: ClientKeys | None) -> Address:
    """Return the address; called again after every loss, as that of a restarted backend may differ."""
    info = find_served()
    if info is None:
        fix = "Start it with `trackshade serve`."
        raise ProtocolError("backend-unreachable", "No backend is running on this machine.", fix)
    if info.curve and keys is None:
        raise ProtocolError("wrong-keys", "The backend on this machine wants CURVE keys.", "Give a folder of keys.")
    return Address(info.endpoint, info.token, keys if info.curve else None)


def _token_of(endpoint: str) -> str:
    if token := os.environ.get("TRACKSHADE_TOKEN"):
        return token
    info = connection_files.read(folders.connection_file())
    if info is not None and info.endpoint == endpoint:
        return info.token
    raise UsageError(
        "no-token",
        f"A token is needed for {endpoint}.",
        "Take it from the backend's connection file and set TRACKSHADE_TOKEN.",
    )
