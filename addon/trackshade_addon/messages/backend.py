# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress and errors of the set-up, read from pip's output."""

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
    """Follows pip while it installs packages of these names."""

    def __init__(self, names: Iterable[str]) -> None:
        self.fraction = 0.0  # progress, 0 to 1
        self.message = "Looking for packages"  # what pip is doing
        self._weights = {name: WEIGHTS.get(name, 1.0) for name in names}
        self._started: set[str] = set()  # names of packages
        self._package = ""  # the one that is downloaded
        self._downloaded = 1.0  # fraction of that package

    def read_line(self, line: str) -> None:
        """Read a line of pip's output."""
        text = line.strip()
        if text.startswith("Installing collected packages"):
            self.fraction, self.message = max(self.fraction, INSTALL_FROM), "Installing the packages"
        elif text.startswith("Successfully installed"):
            self.fraction, self.message = 1.0, "Installed"
        elif found := _COLLECTING.match(text):
            self._package = found[1].lower().replace("_", "-")
            self._started.add(self._package)
            self._weights.setdefault(self._package, CUDA_WEIGHT if self._package.startswith("nvidia") else 1.0)
            self._downloaded = 0.0
            self.message = f"Looking for {self._package}"
        elif found := _DOWNLOADING.match(text):
            self.message = f"Downloading {found[1].replace('_', '-')} ({found[2]})"
        elif found := _RAW.match(text):
            self._downloaded = int(found[1]) / max(1, int(found[2]))
        done = sum(self._weights[name] for name in self._started)
        done -= (1 - self._downloaded) * self._weights.get(self._package, 0)
        self.fraction = max(self.fraction, INSTALL_FROM * min(1.0, done / max(1.0, sum(self._weights.values()))))


def pip_error(tail: Iterable[str], folder: Path, wheels: Path | None, lock: Path, python: str) -> TrackshadeError:
    """Return an error that says why pip failed, by the last lines of its output.

    It names the folder of the environment, the folder of wheels that was used instead of the network, if any, the lock
    file, and the Python that was used.
    """
    text = "\n".join(tail)
    if re.search(r"No space left|Errno 28\b|Disk quota|Errno 122\b|File too large|Errno 27\b|not enough space", text):
        return disk_full(folder)
    if re.search(r"Read-only file system|Errno 30\b|Permission denied|Errno 13\b|Access is denied", text):
        return unwritable(folder, None)
    if re.search(r"requires a different Python|Requires-Python", text) and "No matching distribution" not in text:
        return UsageError("wrong-python", f"A package does not run on {python}.", "Choose Python 3.11 to 3.14.")
    missing = re.search(r"(?:No matching distribution found for|satisfies the requirement) ([^\s;(]+)", text)
    if missing and wheels is not None:
        return UsageError(
            "wheel-missing",
            f"The folder {wheels} has no {missing[1]} for {python}.",
            f"Fill it on a computer of the same kind: pip download -r {lock} -d FOLDER",
        )
    if wheels is None and (error := _network_error(text)) is not None:
        return error
    if missing:
        return UsageError(
            "no-wheel",
            f"There is no {missing[1]} for {python} on this kind of computer.",
            "Choose another Python, 3.11 to 3.14.",
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    last = (errors or lines or ["there was no output"])[-1]
    fix = "See the log, then try again. Downloaded packages are kept."
    return JobError("set-up-failed", f"The set-up failed: {last[:300]}", fix)


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


def _network_error(text: str) -> TrackshadeError | None:
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
