# SPDX-License-Identifier: GPL-3.0-or-later
"""The output of pip as texts for the user: how far it is, and why it failed."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from trackshade.core.errors import JobError, OutputError, TrackshadeError, UsageError

WEIGHTS = {"torch": 40.0, "triton": 5.0, "llvmlite": 2.0, "scipy": 2.0, "transformers": 1.0}  # approximate durations
CUDA_WEIGHT = 4.0  # of each of the CUDA libraries that PyTorch needs
INSTALL_FROM = 0.85  # progress at which all packages are downloaded

_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_COLLECTING = re.compile(r"Collecting ([A-Za-z0-9._-]+)")
_DOWNLOADING = re.compile(r"Downloading (\S+?)-\d\S* \(([^)]+)\)")
_RAW = re.compile(r"Progress (\d+) of (\d+)")
_PROXIES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "http_proxy", "HTTP_PROXY")


class PipProgress:
    """Follows the output of pip.

    Args:
        names: Names of the packages that are installed.

    Attributes:
        fraction: Progress, 0 to 1.
        message: What pip is doing.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._weights = {name: WEIGHTS.get(name, 1.0) for name in names}
        self._begun: set[str] = set()
        self._now = ""
        self._part = 1.0  # of the present package, 0 to 1
        self.fraction = 0.0
        self.message = "Looking for packages"

    def feed(self, line: str) -> None:
        """Read a line of the output."""
        text = line.strip()
        if found := _COLLECTING.match(text):
            self._now = found[1].lower().replace("_", "-")
            self._begun.add(self._now)
            self._weights.setdefault(self._now, CUDA_WEIGHT if self._now.startswith("nvidia") else 1.0)
            self._part = 0.0
            self.message = f"Looking for {self._now}"
        elif found := _DOWNLOADING.match(text):
            self.message = f"Downloading {found[1].replace('_', '-')} ({found[2]})"
        elif found := _RAW.match(text):
            self._part = int(found[1]) / max(1, int(found[2]))
        elif text.startswith("Installing collected packages"):
            self.fraction, self.message = max(self.fraction, INSTALL_FROM), "Installing the packages"
            return
        elif text.startswith("Successfully installed"):
            self.fraction, self.message = 1.0, "Installed"
            return
        else:
            return
        done = sum(self._weights[name] for name in self._begun) - (1 - self._part) * self._weights.get(self._now, 0)
        fraction = done / max(1.0, sum(self._weights.values()))
        self.fraction = max(self.fraction, INSTALL_FROM * min(1.0, fraction))


def explain(tail: Iterable[str], folder: Path, wheels: Path | None, lock: Path, python: str) -> TrackshadeError:
    """Return an error that says why pip failed.

    Args:
        tail: The last lines of its output.
        folder: Folder of the environment.
        wheels: Folder of wheels that was used instead of the network, or None.
        lock: File with the packages to install.
        python: Name of the Python that was used.
    """
    text = "\n".join(tail)
    return (
        _disk(text, folder)
        or _python(text, python)
        or (_not_in_folder(text, wheels, lock, python) if wheels is not None else _network(text))
        or _no_wheel(text, python)
        or JobError("set-up-failed", _last_line(text), "See the log, then try again. Downloaded packages are kept.")
    )


def proxy(variables: Mapping[str, str] = os.environ) -> str | None:
    """Return the proxy that environment variables set, without user name and password; None where there is none."""
    for name in _PROXIES:
        if variables.get(name):
            parts = urlsplit(variables[name])
            return f"{parts.hostname or variables[name].rpartition('@')[2]}{f':{parts.port}' if parts.port else ''}"
    return None


def disk_full(folder: Path) -> OutputError:
    """Return an error about a full disk."""
    return OutputError("disk-full", f"The disk of {folder} is full.", "Make room, or choose a folder on another disk.")


def unwritable(folder: Path, reason: str | None) -> OutputError:
    """Return an error about a folder that cannot be written to."""
    return OutputError(
        "unwritable", f"{folder} cannot be written{f': {reason}' if reason else ''}.", "Choose another folder."
    )


def cannot_write(folder: Path, error: OSError) -> OutputError:
    """Return an error that says why a folder could not be written to."""
    return disk_full(folder) if error.errno in _FULL else unwritable(folder, error.strerror)


def _disk(text: str, folder: Path) -> TrackshadeError | None:
    if re.search(r"No space left|Errno 28\b|Disk quota|Errno 122\b|File too large|Errno 27\b|not enough space", text):
        return disk_full(folder)
    if re.search(r"Read-only file system|Errno 30\b|Permission denied|Errno 13\b|Access is denied", text):
        return unwritable(folder, None)
    return None


def _python(text: str, python: str) -> TrackshadeError | None:
    if re.search(r"requires a different Python|Requires-Python", text) and "No matching distribution" not in text:
        return UsageError("wrong-python", f"A package does not run on {python}.", "Choose Python 3.11 to 3.14.")
    return None


def _network(text: str) -> TrackshadeError | None:
    via = proxy()
    if re.search(r"ProxyError|Tunnel connection failed|Cannot connect to proxy|Proxy Authentication|\b407\b", text):
        return JobError(
            "proxy",
            f"The proxy {via or 'of this computer'} does not let pip through.",
            "Check HTTPS_PROXY (with user name and password if required), or use a folder of wheels.",
        )
    if re.search(r"CERTIFICATE_VERIFY_FAILED|SSLError|SSLCertVerificationError", text):
        return JobError(
            "certificate",
            "The package index has a certificate that this computer does not trust.",
            "Check the clock. Behind a company's proxy, set PIP_CERT to its certificate.",
        )
    if re.search(
        r"NewConnectionError|Failed to establish|Name or service not known|getaddrinfo|name resolution"
        r"|Connection refused|Connection reset|ConnectTimeout|ReadTimeout|timed out|NameResolutionError"
        r"|Network is unreachable",
        text,
    ):
        return JobError(
            "no-network",
            f"The package index cannot be reached{f' through the proxy {via}' if via else ''}.",
            "Check the connection and try again, or use a folder of wheels.",
        )
    return None


def _not_in_folder(text: str, wheels: Path, lock: Path, python: str) -> TrackshadeError | None:
    name = _missing(text)
    if name is None:
        return None
    return UsageError(
        "wheel-missing",
        f"The folder {wheels} has no {name} for {python}.",
        f"Fill it on a computer of the same kind: pip download -r {lock} -d FOLDER",
    )


def _no_wheel(text: str, python: str) -> TrackshadeError | None:
    name = _missing(text)
    if name is None:
        return None
    return UsageError(
        "no-wheel", f"There is no {name} for {python} on this kind of computer.", "Choose another Python, 3.11 to 3.14."
    )


def _missing(text: str) -> str | None:
    found = re.search(r"(?:No matching distribution found for|satisfies the requirement) ([^\s;(]+)", text)
    return found[1] if found else None


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    last = (errors or lines or ["there was no output"])[-1]
    return f"The set-up failed: {last[:300]}"
