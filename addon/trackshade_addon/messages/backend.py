# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress and errors of the set-up, read from pip's output."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from urllib.parse import urlsplit

from trackshade.core.errors import JobError, OutputError, TrackshadeError, UsageError
from trackshade.core.text import format_size

INSTALL_FROM = 0.75  # progress at which all packages are downloaded

_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_WHEEL = re.compile(r"(Downloading|Using cached|Processing) \S*?([A-Za-z0-9._]+)-\d[^\s/\\\\]*\.whl(?: |$)")
_RAW = re.compile(r"Progress (\d+) of (\d+)")
_PROXIES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "http_proxy", "HTTP_PROXY")


class PipProgress:
    """Follows pip while it downloads and installs packages.

    Args:
        sizes: Bytes of each package.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.fraction = 0.0  # progress, 0 to 1
        self.message = "Looking for packages"  # what pip is doing
        self._sizes = dict(sizes)
        self._done = 0  # bytes of the packages that are complete
        self._package = ""  # the one that is downloaded
        self._received = 0  # bytes of it

    def read_line(self, line: str) -> None:
        """Read a line of pip's output."""
        text = line.strip()
        if text.startswith("Installing collected packages"):
            self.fraction, self.message = max(self.fraction, INSTALL_FROM), "Installing the packages"
        elif text.startswith("Successfully installed"):
            self.fraction, self.message = 1.0, "Installed"
        elif found := _WHEEL.match(text):
            self._complete()
            self._package = found[2].lower().replace("_", "-")
            self._show(self._package)
        elif (found := _RAW.match(text)) and self._package:
            self._received = int(found[1])
            self._sizes[self._package] = max(int(found[2]), self._received)
            self._show(self._package)
        elif text.startswith(("Collecting ", "Downloading ")):  # without a wheel: what describes the package
            self._complete()

    def installed(self, fraction: float) -> None:
        """Set how much of the packages' files has been written, 0 to 1."""
        self.fraction = max(self.fraction, INSTALL_FROM + (0.99 - INSTALL_FROM) * min(1.0, fraction))

    def _complete(self) -> None:
        self._done += self._sizes.get(self._package, 0)
        self._package, self._received = "", 0

    def _show(self, package: str) -> None:
        total, done = max(1, sum(self._sizes.values())), self._done + self._received
        self.fraction = max(self.fraction, INSTALL_FROM * min(1.0, done / total))
        self.message = f"Downloading {package}, {format_size(done)} of {format_size(total)}"


def pip_error(tail: Iterable[str], folder: Path, wheels: Path | None, lock: Path, python: str) -> TrackshadeError:
    """Return an error that says why pip failed, by the last lines of its output.

    It names the folder of the environment, the folder of wheels that was used instead of the network, if any, the lock
    file, and the Python that was used.
    """
    text = "\n".join(tail)
    if re.search(r"Long Path support|WinError 206|Errno 36\b|[Ff]ile ?name (or extension is )?too long", text):
        return path_too_long(folder)
    if re.search(r"No space left|Errno 28\b|Disk quota|Errno 122\b|File too large|Errno 27\b|not enough space", text):
        return disk_full(folder)
    if re.search(r"Read-only file system|Errno 30\b|Permission denied|Errno 13\b|Access is denied", text):
        return unwritable(folder, None)
    if re.search(r"requires a different Python|Requires-Python", text) and "No matching distribution" not in text:
        return UsageError("wrong-python", f"A package does not run on {python}.", "Choose Python 3.11 to 3.13.")
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
            "Choose another Python, 3.11 to 3.13, and check that no firewall blocks download.pytorch.org.",
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


def path_too_long(folder: Path | PurePath, count: int | None = None) -> UsageError:
    """Return an error about a folder of environments in which paths exceed Windows' limit, by `count` characters."""
    by = "" if count is None else f" by {count} characters"
    return UsageError(
        "path-too-long",
        f"Paths of the environment's files in {folder} would exceed the limit of Windows{by}.",
        "Choose a short Environment Folder, such as C:\\Trackshade, or enable long paths in Windows.",
    )


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
