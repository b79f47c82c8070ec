# SPDX-License-Identifier: GPL-3.0-or-later
"""Which folders are on network file systems, whose locks SQLite cannot rely on (https://www.sqlite.org/faq.html#q5)."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

NETWORK = {
    *("nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "afpfs", "webdav", "afs", "ncpfs", "coda", "ocfs2", "ceph"),
    *("fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.glusterfs", "fuse.ceph", "glusterfs", "lustre", "beegfs", "9p"),
}
"""Types of file systems that several machines may write to."""
_DRIVE_REMOTE = 4


def network_file_system(path: Path) -> str | None:
    """Return the type of the network file system that a path is on; None for a local disk, or if it is not known.

    The path need not exist.
    """
    path = Path(os.path.realpath(path))
    if os.name == "nt":
        return "a network drive" if _is_network_drive(path.drive) else None
    found = type_of_mount(path, _mounts())
    return found if found in NETWORK else None


def type_of_mount(path: Path, mounts: Iterable[tuple[str, str]]) -> str | None:
    """Return the type of the file system that holds a path: of the deepest mount point above it, the last one there.

    Args:
        path: An absolute path without links.
        mounts: Mount point and type of each file system, in the order in which they were mounted.
    """
    best: tuple[int, str] | None = None
    for point, kind in mounts:
        if path.is_relative_to(point):
            depth = len(Path(point).parts)
            if best is None or depth >= best[0]:
                best = depth, kind
    return None if best is None else best[1]


def parse_mountinfo(text: str) -> list[tuple[str, str]]:
    """Return mount points and types of Linux's /proc/self/mountinfo (proc(5))."""
    found = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if len(fields) > 4 and kinds:
            point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4])
            found.append((point, kinds[0]))
    return found


def parse_mount_output(text: str) -> list[tuple[str, str]]:
    """Return mount points and types of what macOS's `mount` prints."""
    return re.findall(r"^.* on (.+) \((\w+)[,)]", text, re.MULTILINE)


def _is_network_drive(drive: str) -> bool:
    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined]
    return drive.startswith("\\\\") or kernel.GetDriveTypeW(f"{drive}\\") == _DRIVE_REMOTE


def _mounts() -> list[tuple[str, str]]:
    try:
        if sys.platform == "darwin":
            command = ["/sbin/mount"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
            return parse_mount_output(done.stdout)
        return parse_mountinfo(Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape"))
    except (OSError, subprocess.SubprocessError):
        return []
