# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that a task runs, and how they end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from trackshade.core.errors import CancelledError
from trackshade_addon.backend.tasks import CancellableTask


@pytest.mark.parametrize(("patience", "tidied"), [(60.0, True), (0.0, False)])
def test_a_cancelled_program_has_as_long_to_end_as_it_is_given(tmp_path: Path, patience: float, tidied: bool) -> None:
    done = tmp_path / "tidied"
    program = f"import sys, time; print('here', flush=True); sys.stdin.read(); time.sleep(1); open({str(done)!r}, 'w')"
    task = CancellableTask(patience)
    with pytest.raises(CancelledError):
        task.run([sys.executable, "-c", program], on_line=lambda line: task.cancel())
    assert done.exists() == tidied
