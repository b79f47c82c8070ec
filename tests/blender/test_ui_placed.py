# SPDX-License-Identifier: GPL-3.0-or-later
"""Placing on surfaces from the panel: it goes on beside Blender, can be cancelled, and comes off with one click."""

from __future__ import annotations

import time
from pathlib import Path

import bpy
import pytest

from tests.helpers.texture_stage import set_stage, shade, state
from trackshade.core.errors import CancelledError
from trackshade_addon.jobs import session
from trackshade_addon.jobs.job import Job
from trackshade_addon.placement.materials import overridden_objects
from trackshade_addon.properties.placement_options import PlacementOptions

pytestmark = pytest.mark.usefixtures("baking", "registered")


def follow(job: Job, until: str = "") -> list[str]:
    """Advances a job to its end, or to a state; the states that it went through."""
    states = []
    while job.runs and job.state != until:
        job.advance(time.monotonic() + 0.01)
        states += [job.state] if job.state not in states else []
        time.sleep(0.01)
    return states


def test_a_result_is_baked_and_worn_while_blender_goes_on(scene: bpy.types.Scene, tmp_path: Path) -> None:
    folder = shade(set_stage(scene), tmp_path)
    before = state(scene)
    scene.trackshade.place_as, scene.trackshade.texture_size = "projected", "512"
    placing = scene.trackshade.placement_options()
    assert placing == PlacementOptions("projected", texture_size=512)
    job = session.current().place(scene, folder, placing)
    assert "baking" in follow(job)
    assert job.error is None
    assert job.result is not None
    assert [obj.name for obj in overridden_objects(scene)] == ["Board"]
    assert scene.objects["Board"].material_slots[0].material.node_tree.nodes["Image Texture"].image.size[0] == 512
    assert bpy.ops.trackshade.restore_materials() == {"FINISHED"}
    assert state(scene) == before
    assert not bpy.ops.trackshade.restore_materials.poll()
    job = session.current().place(scene, folder, PlacementOptions("compositor"), job)
    follow(job)
    assert bpy.ops.trackshade.take_out(job=job.uid) == {"FINISHED"}
    assert state(scene) == before


def test_a_cancelled_bake_leaves_the_scene_and_the_earlier_textures(scene: bpy.types.Scene, tmp_path: Path) -> None:
    folder = shade(set_stage(scene), tmp_path)
    before = state(scene)
    job = session.current().place(scene, folder, PlacementOptions("baked"))
    follow(job, until="baking")
    job.cancel()
    assert isinstance(job.error, CancelledError)
    assert state(scene) == before
    assert not (folder / "texture").exists()
    follow(session.current().place(scene, folder, PlacementOptions("baked"), job))
    assert [obj.name for obj in overridden_objects(scene)] == ["Board"]
