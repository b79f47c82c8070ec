# SPDX-License-Identifier: GPL-3.0-or-later
"""What a set-up installs for the graphics cards of a machine, by what its programs and files tell; and path lengths."""

from __future__ import annotations

import sys
import time
from pathlib import Path, PureWindowsPath

import pytest

from trackshade.config import locks
from trackshade.core.errors import UsageError
from trackshade_addon.backend import environment, graphics_cards
from trackshade_addon.backend.environment import BackendPrefs
from trackshade_addon.backend.graphics_cards import choose_device, list_adapters, parse_card, query_cards
from trackshade_addon.backend.set_up_preview import SetUpPreview
from trackshade_addon.backend.tasks import CancellableTask

pytestmark = pytest.mark.once

NEW = "NVIDIA GeForce RTX 4090, 581.29, 8.9"
OLD_DRIVER = "NVIDIA GeForce RTX 3060, 551.23, 8.6"
OLD_CARD = "NVIDIA GeForce GTX 1080, 581.29, 6.1"


def cards(*lines: str) -> list[graphics_cards.NvidiaCard]:
    return [card for line in lines if (card := parse_card(line)) is not None]


def test_a_card_with_a_recent_driver_gets_cuda() -> None:
    assert choose_device(cards(OLD_CARD, NEW), []).name == "NVIDIA GeForce RTX 4090"
    assert choose_device(cards(NEW), ["Intel(R) UHD Graphics 770"]).kind == "cuda"


def test_an_old_driver_is_named_instead_of_a_pytorch_that_cannot_run() -> None:
    with pytest.raises(UsageError, match=r"RTX 3060 is 551\.23; PyTorch needs 580") as caught:
        choose_device(cards(OLD_DRIVER), [])
    assert caught.value.code == "old-driver"
    with pytest.raises(UsageError, match=r"is 391\.35"):  # too old to tell the capability
        choose_device(cards("GeForce GT 710, 391.35"), [])


def test_an_old_card_is_named_and_the_cpu_is_used() -> None:
    found = choose_device(cards(OLD_CARD), ["NVIDIA GeForce GTX 1080"])
    assert found.kind == "cpu"
    assert "GTX 1080 is too old for PyTorch (compute capability 6.1, 7.5 is needed)" in found.note


def test_a_card_of_nvidia_without_a_driver_is_named() -> None:
    with pytest.raises(UsageError, match="driver does not respond") as caught:
        choose_device(None, ["NVIDIA graphics card"])
    assert caught.value.code == "no-driver"


@pytest.mark.parametrize("name", ["AMD Radeon RX 7900 XTX", "Intel(R) Arc(TM) A770 Graphics", "Radeon RX 580 Series"])
def test_cards_of_others_are_named_and_the_cpu_is_used(name: str) -> None:
    found = choose_device(None, [name])
    assert found.kind == "cpu"
    assert name in found.note
    assert choose_device(None, []).note == ""


def test_nvidia_smi_is_asked_for_less_if_it_is_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))
    known = 'case "$1" in *compute_cap*) echo "Field \\"compute_cap\\" is not valid"; exit 2;; esac'
    tool.write_text(f"#!/bin/sh\n{known}\necho 'GeForce GT 710, 391.35'\n")
    tool.chmod(0o755)
    assert query_cards(CancellableTask()) == [graphics_cards.NvidiaCard("GeForce GT 710", "391.35", ())]
    tool.write_text("#!/bin/sh\necho 'NVIDIA-SMI could not communicate with the driver'\nexit 9\n")
    assert query_cards(CancellableTask()) is None
    tool.unlink()
    assert query_cards(CancellableTask()) is None


def test_cards_are_listed_by_their_vendors(tmp_path: Path) -> None:
    for number, vendor in enumerate(("0x1002", "0x10de", "0x1af4")):
        device = tmp_path / f"card{number}" / "device"
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")
    assert list_adapters(tmp_path) == ["AMD graphics card", "NVIDIA graphics card"]
    assert list_adapters(tmp_path / "none") == []


WINDOWS_LOCKS = [locks.path(kind, "win32") for kind in ("cuda", "cpu")]


@pytest.mark.parametrize("lock", WINDOWS_LOCKS, ids=lambda lock: lock.stem)
def test_the_longest_path_on_windows_is_valid_in_the_default_folder(lock: Path) -> None:
    """With a user name of 20 characters, the most that Windows allows for a local account."""
    sizes = locks.sizes(lock)
    assert sizes is not None
    home = PureWindowsPath(r"C:\Users") / ("u" * 20) / r"AppData\Local\trackshade\b"
    whole = home / "env-0000" / "Lib" / "site-packages" / PureWindowsPath(sizes.longest)
    assert environment.longest_path(home, sizes.longest) == len(str(whole)) <= environment.PATH_LIMIT
    environment.check_path_length(home, sizes.longest, has_long_paths=False)
    blenders = PureWindowsPath(r"C:\Users\artist\AppData\Roaming\Blender Foundation\Blender\4.5\extensions\.user")
    blenders = blenders / r"user_default\trackshade\backend"
    with pytest.raises(UsageError, match=r"by \d+ characters") as caught:
        environment.check_path_length(blenders, sizes.longest, has_long_paths=False)
    assert caught.value.code == "path-too-long"
    environment.check_path_length(blenders, sizes.longest, has_long_paths=True)


def test_new_environments_have_the_length_that_paths_are_computed_with(tmp_path: Path) -> None:
    assert len(environment.new_folder(tmp_path).name) == len("env-0000")


def test_the_sizes_of_a_set_up_are_known_before_it() -> None:
    preview, prefs = SetUpPreview(), BackendPrefs(kind="cpu")
    limit = time.monotonic() + 60
    while (found := preview.sizes(prefs)) is None:
        assert time.monotonic() < limit
        time.sleep(0.01)
    sizes = locks.sizes(locks.path("cpu"))
    assert sizes is not None
    assert (found.download, found.space, found.unpacked) == (sizes.download, sizes.space, sizes.unpacked)
    assert preview.error(prefs) is None


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has this device")
def test_a_device_that_this_system_lacks_is_named_before_the_set_up() -> None:
    preview, prefs = SetUpPreview(), BackendPrefs(kind="mps")
    limit = time.monotonic() + 60
    while (error := preview.error(prefs)) is None:
        assert time.monotonic() < limit
        time.sleep(0.01)
    assert error.code == "wrong-device"
    assert preview.sizes(prefs) is None
