# SPDX-License-Identifier: GPL-3.0-or-later
"""A backend at an address: what the add-on's preferences hold of it, and what `trackshade serve` says to enter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import zmq

from tests.helpers.backends import Backend
from trackshade import __version__
from trackshade.cli.commands import entries_for_blender
from trackshade.core.errors import TrackshadeError, UsageError
from trackshade.ipc.connection_files import ConnectionInfo
from trackshade.ipc.endpoints import create_keys
from trackshade_addon.backend.backend_manager import check_address
from trackshade_addon.backend.environment import BackendPrefs
from trackshade_addon.ui import backend_panel


def entered(lines: list[str]) -> dict[str, str]:
    """The lines of `trackshade serve`, by the names of the preferences."""
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}


@pytest.mark.skipif(not zmq.has("curve"), reason="this libzmq has no CURVE")
def test_what_serve_says_reaches_the_backend(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    create_keys(keys, ("anna",))
    with Backend(
        tmp_path / "store", "--workers", "0", "--endpoint", "tcp://127.0.0.1:*", "--curve", str(keys)
    ) as backend:
        values = entered(entries_for_blender(backend.info, keys, None))
        prefs = BackendPrefs(
            address=values["Backend Address"],
            token=values["Token"],
            server_key=Path(values["Server Key"].removeprefix("a copy of ")),
            client_key=Path(values["Client Key"].removeprefix("a copy of ")),
        )
        assert check_address(prefs).startswith(f"{backend.info.endpoint} has Trackshade {__version__}")
        with pytest.raises(UsageError, match="Client Key is missing"):
            check_address(replace(prefs, client_key=None))
        with pytest.raises(UsageError, match="not a CURVE key"):
            check_address(replace(prefs, client_key=tmp_path / "none"))
        with pytest.raises(TrackshadeError) as caught:
            check_address(replace(prefs, token="wrong"))
        assert caught.value.code == "wrong-token"
        assert values["Token"] not in repr(prefs)


def test_a_token_is_not_written_to_a_log() -> None:
    info = ConnectionInfo("tcp://0.0.0.0:5570", "secret", 1, __version__, 1, True)
    lines = entries_for_blender(info, None, Path("/home/artist/backend.json"))
    assert "secret" not in "\n".join(lines)
    values = entered(lines)
    assert "backend.json" in values["Token"]
    assert values["Backend Address"].endswith(":5570")
    assert "0.0.0.0" not in values["Backend Address"]


def test_several_clients_have_keys_of_their_own(tmp_path: Path) -> None:
    create_keys(tmp_path, ("anna", "bert"))
    info = ConnectionInfo("tcp://10.0.0.5:5570", "secret", 1, __version__, 1, True)
    assert "for-NAME" in entered(entries_for_blender(info, tmp_path, None))["Client Key"]


def test_a_backend_elsewhere_is_connected_to_and_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def labels() -> list[str]:
        return [label for kind in ("stopped", "ready") for _, label, _ in backend_panel.buttons(kind)]

    assert {"Start", "Stop"} <= {*labels()}
    monkeypatch.setattr(backend_panel, "current_prefs", lambda: BackendPrefs(address="tcp://10.0.0.5:5570"))
    assert {"Connect", "Disconnect"} <= {*labels()}
    assert not {"Start", "Stop"} & {*labels()}
