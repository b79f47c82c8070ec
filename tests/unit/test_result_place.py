# SPDX-License-Identifier: GPL-3.0-or-later
"""What the backend writes is what the add-on reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.unit.test_result import T, arguments
from trackshade.results import write_result

pytest.importorskip("bpy")

from trackshade_addon.placement.result_folder import read_result


def test_the_add_on_reads_a_written_result(tmp_path: Path) -> None:
    values = arguments()
    write_result(tmp_path / "job", **values)
    result = read_result(tmp_path / "job")
    shot = values["shot"]
    assert result.samples == tuple(shot.frame_numbers)
    assert result.sources == ("Camera",)
    assert result.view_layer == shot.view_layer
    assert result.fit.to_dict() == shot.source["size_fit"]
    assert len(result.images) == T
    assert np.array_equal(result.camera.world_to_camera, shot.camera.world_to_camera)
    assert np.allclose(result.frame_intrinsics, shot.camera.intrinsics)
    assert result.nearest == pytest.approx(values["tracking"].depth.min())
