# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders on network file systems: found, and never given a database."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from trackshade.core import file_systems, folders
from trackshade.core.errors import OutputError, UsageError
from trackshade.core.file_systems import network_file_system, parse_mount_output, parse_mountinfo, type_of_mount
from trackshade.server.job_store import JobStore

MOUNTINFO = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
31 22 0:28 / /home rw,relatime shared:7 - nfs4 server:/home rw,vers=4.2
32 31 0:29 / /home/ann/local rw - ext4 /dev/vdb rw
33 22 0:30 / /mnt/two\\040words rw,relatime - cifs //nas/share rw
34 22 0:31 / /data rw - ext4 /dev/vdc rw
35 34 0:32 / /data rw - nfs server:/data rw
"""
MOUNT = """\
/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)
//ann@nas._smb._tcp.local/share on /Volumes/my share (smbfs, nodev, nosuid, mounted by ann)
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/ann/.local", "nfs4"),
        ("/home/ann/local/jobs", "ext4"),
        ("/homes", "ext4"),
        ("/mnt/two words/a", "cifs"),
        ("/data/jobs", "nfs"),  # the mount that hides the one before
    ],
)
def test_the_deepest_and_latest_mount_counts(path: str, kind: str) -> None:
    assert type_of_mount(Path(path), parse_mountinfo(MOUNTINFO)) == kind


def test_mounts_of_macos() -> None:
    mounts = parse_mount_output(MOUNT)
    assert type_of_mount(Path("/Volumes/my share/a"), mounts) == "smbfs"
    assert type_of_mount(Path("/Users/ann"), mounts) == "apfs"


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Counts the file system of the test's own folder as one of a network: this machine cannot mount one."""
    if sys.platform != "linux":
        pytest.skip("the type of this folder is read from Linux")
    mounts = parse_mountinfo(Path("/proc/self/mountinfo").read_text())
    assert type_of_mount(Path("/proc/self"), mounts) == "proc"
    kind = type_of_mount(tmp_path.resolve(), mounts)
    assert kind is not None
    assert network_file_system(tmp_path) is None
    monkeypatch.setattr(file_systems, "NETWORK", {kind})
    return kind


def test_a_store_on_a_network_is_refused(network: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=rf"network file system \({network}\)") as caught:
        JobStore(tmp_path / "store")
    assert caught.value.code == "network-store"
    assert not (tmp_path / "store").exists()


def test_a_home_on_a_network_keeps_everything_but_the_jobs(
    network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKSHADE_HOME", str(tmp_path / "home"))
    places = (folders.jobs_dir(), folders.shared_dir(), folders.connection_file())
    assert all(place.is_relative_to("/var/tmp") for place in places)
    assert folders.local_home().stat().st_mode & 0o777 == 0o700
    assert folders.models_dir() == tmp_path / "home" / "models"
    monkeypatch.setattr(folders, "APPLICATION", f"trackshade-test-{tmp_path.name}")
    open_to_all = Path(f"/var/tmp/{folders.APPLICATION}-{os.getuid()}")
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    try:
        with pytest.raises(UsageError, match="others may write"):
            folders.jobs_dir()
    finally:
        open_to_all.rmdir()
