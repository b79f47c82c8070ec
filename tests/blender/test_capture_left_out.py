# SPDX-License-Identifier: GPL-3.0-or-later
"""What a render makes after Blender's evaluation, or shows without a surface, is never left out silently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest

from tests.blender.test_capture_see_through import (
    CELL,
    WORKBENCH,
    Card,
    clear_material,
    drawn,
    needs_graphics,
    rendered,
    set_up,
)
from tests.helpers import stage
from tests.helpers.stage import EEVEE
from trackshade.core.errors import ShotError
from trackshade_addon.capture import capture
from trackshade_addon.capture.warnings import WarningKind, Warnings, list_names


@pytest.fixture
def stand(scene: bpy.types.Scene) -> bpy.types.Scene:
    """A scene for Cycles with one plain mesh in the first cell."""
    set_up(scene, "CYCLES", 1)
    stage.add(scene, "Plain", stage.grid("Plain")).location = 1, 0, -1
    return scene


def shoot(scene: bpy.types.Scene, count: int = 1, **options: Any) -> Any:
    return stage.shoot(scene, count, **options)


def displaced(scene: bpy.types.Scene, method: str = "DISPLACEMENT", scale: float = 1.0) -> Card:
    """A red square at the second cell whose material moves it by a cell to the right."""
    obj = stage.add(scene, "Moved", stage.grid("Moved", 8))
    obj.location, obj.scale = (3, 0, -1), (0.5, 0.5, 0.5)
    card = Card("Moves", obj)
    card.surface(card.red())
    made = card.node("VectorDisplacement", Midlevel=0.0, Scale=scale)
    made.space = "WORLD"
    vector = card.node("CombineXYZ", X=2.0)
    card.link(vector, made.inputs["Vector"])
    card.link(made, card.out.inputs["Displacement"])
    card.material.displacement_method = method
    return card


def place(picture: np.ndarray) -> float:
    """In which cell the middle of what is red is."""
    return float(np.nonzero((picture[..., 0] > 0.5).any(axis=0))[0].mean() / CELL)


@pytest.mark.parametrize("engine", ["CYCLES", pytest.param(EEVEE, marks=pytest.mark.long), WORKBENCH])
def test_a_displacement_is_said_where_the_engine_makes_one(stand, tmp_path, engine):
    if engine != "CYCLES":
        needs_graphics()
    stage.use_engine(stand, engine)
    stand.display.shading.light, stand.display.shading.color_type = "FLAT", "MATERIAL"
    plain = stand.objects["Plain"]
    plain.hide_render = True
    displaced(stand)
    moved = place(rendered(stand, tmp_path)) > 2
    assert moved == (engine != WORKBENCH)
    plain.hide_render = False
    told = ("The render displaces 'Moved (material Moves)': the tracks follow the surface without its material's "
            "displacement.",)  # fmt: skip
    assert shoot(stand).warnings == (told if moved else ())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, True),
        ({"method": "BOTH"}, True),
        ({"method": "BUMP"}, False),
        ({"scale": 0.0}, False),
    ],
)
def test_what_does_not_move_a_surface_is_no_displacement(stand, change, told):
    displaced(stand, **change)
    assert bool(shoot(stand).warnings) == told


@pytest.mark.parametrize("height", [0.5, 0.7])
def test_a_height_in_the_middle_does_not_move(stand, height):
    card = displaced(stand)
    made = card.node("Displacement", Height=height, Midlevel=0.5)
    card.link(made, card.out.inputs["Displacement"])
    assert bool(shoot(stand).warnings) == (height != 0.5)


@pytest.mark.parametrize("engine", ["CYCLES", EEVEE])
def test_what_cycles_dices_is_said(stand, engine):
    stand.render.engine = engine
    obj = stand.objects["Plain"]
    modifier = obj.modifiers.new("Subdivision", "SUBSURF")
    assert shoot(stand).warnings == ()
    if hasattr(modifier, "use_adaptive_subdivision"):
        modifier.use_adaptive_subdivision = True
    else:
        obj.cycles.use_adaptive_subdivision = True
        assert shoot(stand).warnings == ()  # not without the experimental features
        stand.cycles.feature_set = "EXPERIMENTAL"
    said = shoot(stand).warnings
    assert said == (
        ("Cycles subdivides 'Plain' while it renders: the tracks follow the modifier's own levels.",)
        if engine == "CYCLES"
        else ()
    )
    obj.modifiers.new("After", "TRIANGULATE")
    assert shoot(stand).warnings == ()


def particles(scene: bpy.types.Scene, name: str, kind: str, render_type: str) -> bpy.types.Object:
    obj = stage.add(scene, name, stage.grid(name))
    obj.location = 3, 0, -1
    obj.modifiers.new("Particles", "PARTICLE_SYSTEM")
    settings = obj.particle_systems[0].settings
    settings.type, settings.render_type, settings.count = kind, render_type, 300
    settings.particle_size = 0.2
    if kind == "EMITTER":
        settings.frame_start = settings.frame_end = 1
        settings.normal_factor, settings.effector_weights.gravity, settings.line_length_tail = 0, 0, 1
        settings.object_align_factor[0] = 1  # lines lie along the velocity
    else:
        settings.hair_length, settings.root_radius = 0.5, 5
    return obj


@pytest.mark.parametrize(
    ("kind", "render_type", "said"),
    [
        ("HAIR", "PATH", "The hair of 'Emitter' is not part of the shot."),
        ("EMITTER", "LINE", None),  # these two the viewport shows, and no engine renders
        ("EMITTER", "HALO", None),
        ("EMITTER", "NONE", None),
    ],
)
def test_particles_without_a_surface_are_said(stand, tmp_path, kind, render_type, said):
    obj = particles(stand, "Emitter", kind, render_type)
    obj.show_instancer_for_render = False
    card = Card("Red", obj)
    card.surface(card.red())
    seen = (rendered(stand, tmp_path, 2)[..., 0] > 0.1).any()
    assert seen == (said is not None)
    shot = shoot(stand)
    assert shot.warnings == (() if said is None else (said,))
    assert stage.names(shot) == ["Plain"]


def test_hidden_hair_is_nothing_to_speak_of(stand):
    obj = particles(stand, "Emitter", "HAIR", "PATH")
    obj.modifiers[0].show_render = False
    assert shoot(stand).warnings == ()
    obj.modifiers[0].show_render = True
    obj.hide_render = True
    assert shoot(stand).warnings == ()


def nodes(scene: bpy.types.Scene, name: str, kind: str) -> bpy.types.Object:
    """A mesh of which geometry nodes make something else."""
    obj = stage.add(scene, name, stage.grid(name))
    obj.location = 3, 0, -1
    with stage.node_group(name) as group:
        made = group.nodes.new(kind)
        group.links.new(group.nodes["in"].outputs[0], made.inputs[0])
        group.links.new(made.outputs[0], group.nodes["out"].inputs[0])
    obj.modifiers.new("Nodes", "NODES").node_group = group
    return obj


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("GeometryNodeMeshToCurve", "'Made' is hair curves and is not part of the shot."),
        ("GeometryNodeMeshToPoints", "'Made' is a point cloud and is not part of the shot."),
        ("GeometryNodeMeshToVolume", "'Made' is a volume and is not part of the shot."),
    ],
)
def test_what_nodes_make_without_a_surface_is_said(stand, kind, said):
    nodes(stand, "Made", kind)
    assert shoot(stand).warnings == (said,)


def test_curves_without_thickness_are_nothing_to_speak_of(stand, tmp_path):
    """No engine renders them."""
    bpy.ops.curve.primitive_bezier_circle_add(location=(3, 0, -1), rotation=(1.57, 0, 0))
    before = rendered(stand, tmp_path)
    bpy.context.object.hide_render = True
    np.testing.assert_array_equal(before, rendered(stand, tmp_path, 2))
    bpy.context.object.hide_render = False
    assert shoot(stand).warnings == ()


def test_many_objects_are_one_sentence(stand):
    for number in range(40):
        stage.add(stand, f"Fog {number:02}", bpy.data.volumes.new("Fog"))
    assert shoot(stand, 3).warnings == (
        "'Fog 00', 'Fog 01', 'Fog 02' and 37 more are volumes and are not part of the shot.",
    )


def test_where_nothing_else_is_visible_the_error_says_what_was_left_out(stand):
    stand.objects["Plain"].hide_render = True
    stage.add(stand, "Fog", bpy.data.volumes.new("Fog"))
    with pytest.raises(ShotError, match="'Fog' is a volume and is not part of the shot"):
        shoot(stand)


def test_names_are_listed_as_long_as_they_are_few():
    assert list_names(["A"]) == "A"
    assert list_names(["A", "B"]) == "A and B"
    assert list_names("ABCD") == "A, B, C and D"
    assert list_names("ABCDE") == "A, B, C and 2 more"
    warnings = Warnings()
    warnings.add_name(WarningKind("{names} is.", "{names} are."), "A")
    warnings.add_name(WarningKind("{names} is.", "{names} are."), "A")
    assert warnings.sentences() == ["'A' is."]


@pytest.mark.parametrize("kind", ["export", "control"])
def test_options_of_surfaces_reach_the_shot(tmp_path: Path, scene: bpy.types.Scene, kind: str):
    from trackshade.config import parsing

    words = ["scene.blend", "--glass", "through", "--hair", "strands"]
    values = vars(parsing.build_parser(kind, "x").parse_args(words))
    assert (values["glass"], values["hair"]) == ("through", "strands")
    plain = vars(parsing.build_parser(kind, "x").parse_args(["scene.blend"]))
    assert (plain["glass"], plain["hair"]) == ("opaque", "none")


def hair_curves(scene: bpy.types.Scene, radius: float = 0.03) -> bpy.types.Object:
    """Five red strands in the second cell, upright and bent to the right."""
    data = bpy.data.hair_curves.new("Hair")
    data.add_curves([5] * 5)
    x, z = np.meshgrid(np.linspace(-0.7, 0.5, 5), np.linspace(-0.8, 0.8, 5), indexing="ij")
    places = np.stack([x + 0.1 * z**2, 0 * x, z], -1).astype(np.float32)
    data.attributes["position"].data.foreach_set("vector", places.reshape(-1))
    data.attributes.new("radius", "FLOAT", "POINT").data.foreach_set("value", np.full(25, radius, np.float32))
    obj = stage.add(scene, "Hair", data)
    obj.location = 3, 0, -1
    return obj


def redden(obj: bpy.types.Object) -> None:
    card = Card("Red", obj)
    card.surface(card.red())


def overlap(scene: bpy.types.Scene, folder: Path, name: str) -> float:
    """How well what the tracks show of an object covers what is red in the picture: common pixels by all of both."""
    picture = rendered(scene, folder)[..., 0] > 0.73  # half of the light
    size = scene.render.resolution_x, scene.render.resolution_y
    shot = capture(scene, frame_map=stage.frames(1), size_fit=stage.fit(scene, size), hair="strands")
    assert shot.warnings == ()
    shown = drawn(shot, folder)[0] == [mesh.name for mesh in shot.meshes].index(name)
    assert picture.any()
    return float((shown & picture).sum() / (shown | picture).sum())


def large(scene: bpy.types.Scene) -> None:
    """More pixels for each cell, so that strands are several wide."""
    scene.render.resolution_percentage = 100
    scene.render.resolution_x, scene.render.resolution_y = 8 * 96, 96


def test_hair_curves_are_strands_where_that_is_chosen(stand, tmp_path):
    large(stand)
    redden(hair_curves(stand))
    assert shoot(stand).warnings == ("'Hair' is hair curves and is not part of the shot.",)
    assert overlap(stand, tmp_path, "Hair") > 0.6  # strands are three pixels wide: their edges count much


def test_strands_stand_on_moving_things_and_move_themselves(stand):
    obj = hair_curves(stand)
    stage.key(obj, "location", {1: (3, 0, -1), 3: (5, 0, -1)})
    shot = shoot(stand, 3, hair="strands")
    track = stage.track(shot, "Hair")
    geometry = shot.geometries[track.geometry]
    assert geometry.positions.shape == (1, 75, 3)
    assert len(geometry.triangles) == 5 * 4 * 6
    middle = [stage.world(shot, "Hair", t).mean(axis=0)[0] for t in range(3)]
    assert middle[2] - middle[0] == pytest.approx(2, abs=1e-5)
    shot.check_values()


def test_hair_of_particles_is_as_it_renders(stand, tmp_path):
    large(stand)
    obj = particles(stand, "Emitter", "HAIR", "PATH")
    settings = obj.particle_systems[0].settings
    settings.count, settings.hair_length, settings.root_radius, settings.tip_radius = 12, 1, 8, 8
    settings.use_rotations, settings.brownian_factor = False, 0.2
    settings.object_align_factor[2] = 1
    settings.child_type, settings.child_percent, settings.rendered_child_count = "SIMPLE", 1, 3
    settings.child_radius = 0.3
    obj.show_instancer_for_render = False
    obj.rotation_euler.y, obj.scale = 0.4, (0.6, 0.6, 0.6)
    redden(obj)
    assert overlap(stand, tmp_path, "Emitter") > 0.6
    shot = shoot(stand, hair="strands")
    track = stage.track(shot, "Emitter")
    assert shot.geometries[track.geometry].positions.shape[1] == 36 * (2**settings.render_step + 1) * 3


def test_more_hair_than_can_be_read_is_left_out_and_said(stand, monkeypatch):
    monkeypatch.setattr("trackshade_addon.capture.strands.MAX_POINTS", 100)
    particles(stand, "Emitter", "HAIR", "PATH")
    assert shoot(stand, hair="strands").warnings == ("The hair of 'Emitter' is not part of the shot.",)


def test_hair_of_nodes_and_of_instances(stand):
    made = nodes(stand, "Made", "GeometryNodeMeshToCurve")
    inner = hair_curves(stand)
    collection = bpy.data.collections.new("Wig")
    collection.objects.link(inner)
    empty = stage.add(stand, "Wigs", None)
    empty.instance_type, empty.instance_collection = "COLLECTION", collection
    shot = shoot(stand, 2, hair="strands")
    readable = hasattr(made, "evaluated_geometry")
    assert set(stage.names(shot)) == {"Plain", "Hair", "Wigs/Hair"} | ({"Made"} if readable else set())
    assert stage.track(shot, "Hair").geometry == stage.track(shot, "Wigs/Hair").geometry
    assert (shot.warnings == ()) == readable
    shot.check_values()


def test_transparent_hair_is_not_there(stand):
    obj = hair_curves(stand)
    obj.data.materials.append(clear_material())
    shot = shoot(stand, hair="strands")
    assert stage.names(shot) == ["Plain"]
    assert shot.warnings == ()
