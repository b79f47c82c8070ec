# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses of a backend: an ipc socket or a loopback port; any other address requires CURVE keys.

A backend's folder of CURVE keys holds `server.key`, `server.key_secret` and a folder `clients` with the public key of
each client that may connect. A client's folder holds `server.key` and `client.key_secret`.
"""

from __future__ import annotations

import ipaddress
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path

import zmq
import zmq.auth
from zmq.utils import z85

from trackshade.core.errors import UsageError

SERVER_KEY, CLIENT_KEY = "server.key", "client.key_secret"  # the files in a client's folder
IPC_PATH_LIMIT = 100  # a Unix socket's path is limited to about 107 bytes
_TCP = re.compile(r"tcp://(\[[0-9a-fA-F:.]+\]|[^:\s/]+):(\*|\d{1,5})")


@dataclass(frozen=True)
class ServerKeys:
    """The keys with which a backend accepts CURVE clients."""

    secret: bytes
    public: bytes
    clients: Path


@dataclass(frozen=True)
class ClientKeys:
    """The keys with which a client reaches a backend."""

    server: bytes
    secret: bytes
    public: bytes


def check_bind(endpoint: str, curve: bool) -> None:
    """Raise UsageError unless a backend may listen at an address: with CURVE keys, at any that begins with `tcp://`."""
    if endpoint.startswith("ipc://"):
        if endpoint[6:7] in ("@", "*", "\0") or "\0" in endpoint:
            raise UsageError(
                "bad-endpoint",
                f"{endpoint} is no path, and every user of this machine can reach such a socket.",
                "Write ipc://PATH with a path in a folder of your own.",
            )
        if not 0 < len(os.fsencode(endpoint[6:])) <= IPC_PATH_LIMIT:
            raise UsageError("bad-endpoint", f"The path in {endpoint} is empty or too long for a socket.")
        return
    if not is_loopback(endpoint) and not curve:
        raise UsageError(
            "open-endpoint",
            f"{endpoint} can be reached from other machines, and there are no CURVE keys.",
            "Listen on tcp://127.0.0.1:* or give a folder of CURVE keys.",
        )


def is_loopback(endpoint: str) -> bool:
    """Return whether only this machine reaches the endpoint. Raise UsageError if it is not `tcp://HOST:PORT`."""
    host, _ = split_tcp(endpoint)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name, even "localhost", may resolve to any address


def split_tcp(endpoint: str) -> tuple[str, int]:
    """Return host and port, 0 for any, of `tcp://HOST:PORT`. Raise UsageError("bad-endpoint") for another endpoint."""
    match = _TCP.fullmatch(endpoint)
    if match is None or (match[2] != "*" and int(match[2]) > 65535):
        raise UsageError("bad-endpoint", f"{endpoint} is not an endpoint.", "Write tcp://HOST:PORT or ipc://PATH.")
    return match[1].strip("[]"), 0 if match[2] == "*" else int(match[2])


def create_keys(folder: Path, clients: tuple[str, ...] = ("client",)) -> None:
    """Create a backend's CURVE keys in `folder`, and for each client a folder `folder/for-NAME` to copy to it."""
    (folder / "clients").mkdir(parents=True, exist_ok=True, mode=0o700)
    zmq.auth.create_certificates(folder, "server")
    server = (folder / "server.key").read_text()
    for name in clients:
        target = folder / f"for-{name}"
        target.mkdir(mode=0o700)
        public, secret = zmq.auth.create_certificates(target, "client")
        os.chmod(secret, 0o600)
        os.replace(public, folder / "clients" / f"{name}.key")
        (target / "server.key").write_text(server)
    os.chmod(folder / "server.key_secret", 0o600)


def read_server_keys(folder: Path) -> ServerKeys:
    """Read a backend's keys. Raise UsageError("no-keys")."""
    public, secret = _certificate(folder / "server.key_secret")
    clients = sorted((folder / "clients").glob("*.key"))
    if not clients:
        raise UsageError("no-keys", f"{folder / 'clients'} has no client's public key (NAME.key).")
    for client in clients:
        _certificate(client, secret=False)
    return ServerKeys(secret, public, folder / "clients")


def read_client_keys(folder: Path) -> ClientKeys:
    """Read a client's keys from its folder. Raise UsageError("no-keys")."""
    return read_key_files(folder / SERVER_KEY, folder / CLIENT_KEY)


def read_key_files(server_key: Path, client_key: Path) -> ClientKeys:
    """Read a backend's public key and a client's secret one. Raise UsageError("no-keys")."""
    server, _ = _certificate(server_key, secret=False)
    public, secret = _certificate(client_key)
    return ClientKeys(server, secret, public)


def _certificate(path: Path, secret: bool = True) -> tuple[bytes, bytes]:
    """Return the public and the secret key of a file. Raise UsageError("no-keys")."""
    try:
        public, private = zmq.auth.load_certificate(path)
        for key in (public, private) if secret else (public,):
            if key is not None and (len(key) != 40 or len(z85.decode(key)) != 32):
                raise ValueError("a key is not 40 characters of Z85")
    except (OSError, ValueError, KeyError, struct.error, IndexError) as error:
        raise UsageError("no-keys", f"{path} is not a CURVE key: {error}") from error
    if secret and private is None:
        raise UsageError("no-keys", f"{path} has no secret key.")
    return public, private or b""
