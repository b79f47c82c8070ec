# SPDX-License-Identifier: GPL-3.0-or-later
"""What a render shows through is not in the way of the tracks either. The judge is a render of every engine.

Each case is a red card before a green one, in a cell of one picture: where the render is green, the tracks must show
the card behind, and elsewhere the card in front.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest

from tests.helpers import stage
from tests.helpers.backend_python import run_in_backend
from tests.helpers.stage import EEVEE
from trackshade.core.errors import ShotError
from trackshade.shot import Shot
from trackshade_addon.capture import capture, first_frame

CELL, COLUMNS = 24, 8
RED, GREEN, BLACK = (1, 0, 0, 1), (0, 1, 0, 1), (0, 0, 0, 1)
WORKBENCH = "BLENDER_WORKBENCH"
_DRAW = """
import sys, numpy as np
from trackshade.control.scene import ShotRaster
from trackshade.shot import Shot
shot = Shot.load(sys.argv[1])
shot.check_values()
raster = ShotRaster(shot)
np.save(sys.argv[2], np.stack([raster.draw(t).label.copy() for t in range(len(shot.frame_numbers))]))
"""

Case = Callable[["Card"], None]
CASES: dict[str, dict[str, Case]] = {"CYCLES": {}, EEVEE: {}, WORKBENCH: {}}


class Card:
    """The card in front, with an empty material of nodes and what is needed to fill it."""

    def __init__(self, name: str, obj: bpy.types.Object) -> None:
        self.name, self.obj = name, obj
        self.material = bpy.data.materials.new(name)
        self.material.use_nodes = True
        self.material.diffuse_color = RED
        self.tree = self.material.node_tree
        self.tree.nodes.clear()
        self.out = self.node("OutputMaterial")
        obj.data.materials.append(self.material)

    def node(self, kind: str, tree: Any = None, **inputs: Any) -> Any:
        made = (tree or self.tree).nodes.new(f"ShaderNode{kind}")
        for name, value in inputs.items():
            made.inputs[name.replace("_", " ")].default_value = value
        return made

    def link(self, source: Any, target: Any, tree: Any = None) -> Any:
        source = source.outputs[0] if hasattr(source, "outputs") else source
        return (tree or self.tree).links.new(source, target)

    def surface(self, shader: Any) -> None:
        self.link(shader, self.out.inputs["Surface"])

    def red(self) -> Any:
        return self.node("Emission", Color=RED)

    def clear(self) -> Any:
        return self.node("BsdfTransparent")

    def mix(self, factor: Any, first: Any, second: Any) -> Any:
        """A mix of two shaders by a number or an output."""
        made = self.node("MixShader")
        if isinstance(factor, (int, float)):
            made.inputs[0].default_value = factor
        else:
            self.link(factor, made.inputs[0])
        self.link(first, made.inputs[1])
        self.link(second, made.inputs[2])
        return made

    def alpha(self, factor: Any) -> Any:
        """Red where a factor is 1, and transparent where it is 0."""
        made = self.mix(factor, self.clear(), self.red())
        self.surface(made)
        return made

    def image(self, **settings: Any) -> Any:
        made = self.node("TexImage")
        made.image = leaf()
        for name, value in settings.items():
            setattr(made, name, value)
        return made

    def math(self, operation: str, *inputs: Any) -> Any:
        made = self.node("Math")
        made.operation = operation
        for index, value in enumerate(inputs):
            if isinstance(value, (int, float)):
                made.inputs[index].default_value = value
            else:
                self.link(value, made.inputs[index])
        return made

    def turn(self) -> None:
        """Shows its back to the camera."""
        self.obj.data.flip_normals()


def leaf() -> bpy.types.Image:
    """A disc of alpha below the middle, its color a ramp from left to right."""
    image = bpy.data.images.get("leaf")
    if image is None:
        image = bpy.data.images.new("leaf", 32, 32, alpha=True)
        y, x = np.mgrid[:32, :32]
        pixels = np.ones((32, 32, 4), np.float32)
        pixels[..., :3] = (x / 31)[..., None]
        pixels[..., 3] = np.hypot(x - 15.5, y - 11.5) < 9
        image.pixels.foreach_set(pixels.reshape(-1))
        image.pack()
    return image


def case(*engines: str) -> Callable[[Case], Case]:
    def add(function: Case) -> Case:
        for engine in engines:
            CASES[engine][function.__name__] = function
        return function

    return add


BOTH = "CYCLES", EEVEE
PARTLY = {"principled_of_alpha_03", "tinted", "transparent_plus_glow"}  # seen through, and to be seen themselves


@case(*BOTH, WORKBENCH)
def solid(card):
    card.surface(card.red())


@case("CYCLES")
def no_material(card):
    card.obj.data.materials.clear()


@case("CYCLES", WORKBENCH)
def empty_slot(card):
    card.obj.data.materials[0] = None


@case("CYCLES")
def without_any_shader(card):
    pass


@case("CYCLES")
def without_an_output(card):
    card.tree.nodes.clear()


@case("CYCLES")
def without_nodes(card):
    card.material.use_nodes = False


@case(*BOTH, WORKBENCH)
def fog(card):
    card.link(card.node("VolumeScatter", Density=0.0), card.out.inputs["Volume"])


@case("CYCLES")
def surface_and_fog(card):
    fog(card)
    card.surface(card.red())


@case("CYCLES", EEVEE, WORKBENCH)
def transparent(card):
    card.surface(card.clear())


@case("CYCLES")
def transparent_in_black(card):
    card.surface(card.node("BsdfTransparent", Color=BLACK))


@case("CYCLES")
def principled_of_alpha_0(card):
    card.surface(card.node("BsdfPrincipled", Alpha=0.0))


@case(*BOTH)
def principled_of_alpha_03(card):
    card.surface(card.node("BsdfPrincipled", Alpha=0.3, Emission_Color=RED, Emission_Strength=1.0))


@case("CYCLES")
def tinted(card):
    card.surface(card.node("BsdfTransparent", Color=(1, 0.2, 0.2, 1)))


@case(*BOTH)
def holdout(card):
    card.surface(card.node("Holdout"))


@case("CYCLES")
def black_emission(card):
    card.surface(card.node("Emission", Color=BLACK))


@case("CYCLES")
def transparent_plus_nothing(card):
    made = card.node("AddShader")
    card.link(card.clear(), made.inputs[0])
    card.link(card.node("Emission", Strength=0.0), made.inputs[1])
    card.surface(made)


@case("CYCLES")
def transparent_plus_glow(card):
    made = card.node("AddShader")
    card.link(card.clear(), made.inputs[0])
    card.link(card.red(), made.inputs[1])
    card.surface(made)


@case(*BOTH)
def hidden_from_camera_rays(card):
    card.surface(card.mix(card.node("LightPath").outputs["Is Camera Ray"], card.red(), card.clear()))


@case("CYCLES")
def hidden_from_shadow_rays(card):
    card.surface(card.mix(card.node("LightPath").outputs["Is Shadow Ray"], card.red(), card.clear()))


@case("CYCLES")
def mixed_fully(card):
    card.surface(card.mix(1, card.red(), card.clear()))


@case("CYCLES")
def mixed_not_at_all(card):
    card.surface(card.mix(0, card.red(), card.clear()))


@case("CYCLES")
def mixed_with_nothing(card):
    made = card.mix(1, card.red(), card.clear())
    card.tree.links.remove(made.inputs[2].links[0])
    card.surface(made)


@case("CYCLES")
def muted_mix(card):
    made = card.mix(1, card.red(), card.clear())
    card.surface(made)
    made.mute = True


@case("CYCLES")
def muted_transparency(card):
    made = card.clear()
    card.surface(made)
    made.mute = True


@case("CYCLES")
def muted_link(card):
    card.link(card.clear(), card.out.inputs["Surface"]).is_muted = True


@case("CYCLES")
def color_for_a_shader(card):
    made = card.node("RGB")
    made.outputs[0].default_value = RED
    card.surface(made)


@case(*BOTH)
def output_for_eevee_alone(card):
    card.surface(card.red())
    card.out.target = "CYCLES"
    other = card.node("OutputMaterial")
    other.target = "EEVEE"
    card.link(card.clear(), other.inputs["Surface"])


@case(*BOTH, WORKBENCH)
def back_of_a_culled_material(card):
    solid(card)
    card.material.use_backface_culling = True
    card.turn()


@case(EEVEE)
def front_of_a_culled_material(card):
    solid(card)
    card.material.use_backface_culling = True


@case("CYCLES")
def culled_and_mirrored(card):
    back_by_nodes(card)
    card.obj.scale.y = -1


@case("CYCLES")
def culled_and_mirrored_sideways(card):
    back_by_nodes(card)
    card.obj.data.transform(((-1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)))
    card.obj.scale.x = -1


@case("CYCLES")
def back_by_nodes(card):
    card.surface(card.mix(card.node("NewGeometry").outputs["Backfacing"], card.red(), card.clear()))
    card.turn()


@case("CYCLES")
def front_by_nodes(card):
    back_by_nodes(card)
    card.turn()


@case("CYCLES")
def only_the_back(card):
    card.surface(card.mix(card.node("NewGeometry").outputs["Backfacing"], card.clear(), card.red()))


@case("CYCLES")
def leaf_seen_from_its_front(card):
    behind = card.mix(card.image().outputs["Alpha"], card.clear(), card.red())
    card.surface(card.mix(card.node("NewGeometry").outputs["Backfacing"], behind, card.clear()))


@case("CYCLES", EEVEE, WORKBENCH)
def leaf_by_a_mix(card):
    card.alpha(card.image().outputs["Alpha"])


@case(EEVEE)
def leaf_blended(card):
    card.alpha(card.image().outputs["Alpha"])
    card.material.surface_render_method = "BLENDED"


@case("CYCLES", EEVEE)
def leaf_by_principled(card):
    made = card.node("BsdfPrincipled", Base_Color=BLACK, Emission_Color=RED, Emission_Strength=1.0)
    card.link(card.image().outputs["Alpha"], made.inputs["Alpha"])
    card.surface(made)


@case("CYCLES")
def leaf_with_its_color(card):
    image = card.image()
    made = card.node("BsdfPrincipled")
    card.link(image.outputs["Color"], made.inputs["Base Color"])
    card.link(image.outputs["Alpha"], made.inputs["Alpha"])
    card.surface(made)


@case("CYCLES")
def threshold(card):
    card.alpha(card.math("GREATER_THAN", card.image().outputs["Color"], 0.5))


@case("CYCLES")
def threshold_from_data(card):
    image = card.image()
    image.image = leaf().copy()
    image.image.colorspace_settings.name = "Non-Color"
    card.alpha(card.math("GREATER_THAN", image.outputs["Color"], 0.5))


@case("CYCLES")
def threshold_from_linear_light(card):
    image = card.image()
    image.image = leaf().copy()
    image.image.colorspace_settings.name = "Linear Rec.709"
    card.alpha(card.math("GREATER_THAN", image.outputs["Color"], 0.5))


@case("CYCLES")
def rounded_and_inverted(card):
    card.alpha(card.math("SUBTRACT", 1, card.math("ROUND", card.image().outputs["Alpha"])))


@case("CYCLES")
def by_a_channel(card):
    made = card.node("SeparateColor")
    card.link(card.image().outputs["Color"], made.inputs[0])
    card.alpha(card.math("LESS_THAN", made.outputs["Green"], 0.25))


@case("CYCLES")
def by_a_ramp(card):
    made = card.node("ValToRGB")
    made.color_ramp.interpolation = "CONSTANT"
    made.color_ramp.elements[1].position = 0.3
    last = made.color_ramp.elements.new(0.6)
    last.color = BLACK
    card.link(card.image().outputs["Color"], made.inputs[0])
    card.alpha(made.outputs["Color"])


@case("CYCLES")
def by_a_mapped_range(card):
    made = card.node("MapRange")
    for name, value in (("From Min", 0.2), ("From Max", 0.21)):
        made.inputs[name].default_value = value
    card.link(card.image().outputs["Color"], made.inputs[0])
    card.alpha(made)


@case("CYCLES")
def moved_and_turned(card):
    mapping = card.node("Mapping", Location=(0.2, 0.1, 0), Rotation=(0, 0, 0.7), Scale=(1.5, 1.2, 1))
    card.link(card.node("TexCoord").outputs["UV"], mapping.inputs[0])
    image = card.image()
    card.link(mapping, image.inputs[0])
    card.alpha(image.outputs["Alpha"])


@case("CYCLES")
def moved_as_a_texture(card):
    mapping = card.node("Mapping", Location=(0.1, 0.3, 0), Rotation=(0, 0, 0.5), Scale=(0.5, 0.8, 1))
    mapping.vector_type = "TEXTURE"
    card.link(card.node("TexCoord").outputs["UV"], mapping.inputs[0])
    image = card.image()
    card.link(mapping, image.inputs[0])
    card.alpha(image.outputs["Alpha"])


def _scaled(card: Card, extension: str, interpolation: str = "Linear") -> None:
    made = card.node("VectorMath")
    made.operation = "MULTIPLY"
    made.inputs[1].default_value = (2.2, 1.7, 1)
    card.link(card.node("TexCoord").outputs["UV"], made.inputs[0])
    image = card.image(extension=extension, interpolation=interpolation)
    card.link(made, image.inputs[0])
    card.alpha(image.outputs["Alpha"])


@case("CYCLES")
def repeated(card):
    _scaled(card, "REPEAT", "Closest")


@case("CYCLES")
def extended(card):
    _scaled(card, "EXTEND")


@case("CYCLES")
def clipped(card):
    _scaled(card, "CLIP")


@case("CYCLES")
def mirrored(card):
    _scaled(card, "MIRROR")


@case("CYCLES")
def by_another_uv_map(card):
    other = card.obj.data.uv_layers.new(name="Other")
    for corner in other.uv:
        corner.vector = 1.3 * corner.vector.x - 0.3, 1 - corner.vector.y
    made = card.node("UVMap")
    made.uv_map = "Other"
    image = card.image()
    card.link(made, image.inputs[0])
    card.alpha(image.outputs["Alpha"])


@case(*BOTH)
def in_nested_groups(card):
    """The threshold is given to the outer group, the image is in the inner one, and the result passes reroutes."""
    inner = bpy.data.node_groups.new("Inner", "ShaderNodeTree")
    inner.interface.new_socket("Least", in_out="INPUT", socket_type="NodeSocketFloat")
    inner.interface.new_socket("Shown", in_out="OUTPUT", socket_type="NodeSocketFloat")
    image = card.node("TexImage", inner)
    image.image = leaf()
    above = card.node("Math", inner)
    above.operation = "GREATER_THAN"
    card.link(image.outputs["Color"], above.inputs[0], inner)
    card.link(inner.nodes.new("NodeGroupInput"), above.inputs[1], inner)
    card.link(above, inner.nodes.new("NodeGroupOutput").inputs[0], inner)
    outer = bpy.data.node_groups.new("Outer", "ShaderNodeTree")
    outer.interface.new_socket("Least", in_out="INPUT", socket_type="NodeSocketFloat")
    outer.interface.new_socket("Shader", in_out="OUTPUT", socket_type="NodeSocketShader")
    group = card.node("Group", outer)
    group.node_tree = inner
    card.link(outer.nodes.new("NodeGroupInput"), group.inputs[0], outer)
    turn = outer.nodes.new("NodeReroute")
    card.link(group, turn.inputs[0], outer)
    mix = card.node("MixShader", outer)
    card.link(turn, mix.inputs[0], outer)
    card.link(card.node("BsdfTransparent", outer), mix.inputs[1], outer)
    card.link(card.node("Emission", outer, Color=RED), mix.inputs[2], outer)
    card.link(mix, outer.nodes.new("NodeGroupOutput").inputs[0], outer)
    used = card.node("Group")
    used.node_tree = outer
    used.inputs[0].default_value = 0.4
    card.surface(used)


@case("CYCLES")
def by_the_object(card):
    card.alpha(card.node("ObjectInfo").outputs["Alpha"])
    card.obj.color = (1, 1, 1, 0)


@case("CYCLES")
def by_a_property_of_the_object(card):
    made = card.node("Attribute")
    made.attribute_type, made.attribute_name = "OBJECT", "shown"
    card.obj["shown"] = 0.0
    card.alpha(made.outputs["Fac"])


@case("CYCLES")
def missing_image(card):
    image = card.image()
    image.image = bpy.data.images.new("gone", 4, 4)
    image.image.source, image.image.filepath = "FILE", "/nowhere/gone.png"
    card.alpha(image.outputs["Alpha"])


@case(*BOTH)
def no_image(card):
    card.alpha(card.image(image=None).outputs["Alpha"])


@case("CYCLES", WORKBENCH)
def not_seen_by_the_camera(card):
    solid(card)
    card.obj.visible_camera = False


@case("CYCLES", WORKBENCH)
def holdout_of_the_object(card):
    solid(card)
    card.obj.is_holdout = True


@case("CYCLES")
def shadow_catcher(card):
    solid(card)
    card.obj.is_shadow_catcher = True


@case("CYCLES", WORKBENCH)
def display_color_of_alpha_0(card):
    solid(card)
    card.material.diffuse_color = (1, 0, 0, 0)


@case("CYCLES")
def half_of_the_faces(card):
    """The lower right triangle is transparent."""
    solid(card)
    mesh = stage.mesh("halves", [v.co for v in card.obj.data.vertices], [(0, 1, 2), (0, 2, 3)])
    card.obj.data = mesh
    mesh.materials.append(card.material)
    mesh.materials.append(None)
    mesh.materials[1] = clear_material()
    mesh.polygons[0].material_index = 1


@case("CYCLES")
def beyond_the_last_slot(card):
    solid(card)
    card.obj.data.materials.append(clear_material())
    card.obj.data.polygons[0].material_index = 7


@case("CYCLES")
def unused_slot(card):
    solid(card)
    card.obj.data.materials.append(clear_material())


@case("CYCLES")
def slot_of_the_object(card):
    solid(card)
    card.obj.material_slots[0].link = "OBJECT"
    card.obj.material_slots[0].material = clear_material()


@case(*BOTH)
def empty_slot_of_the_object(card):
    transparent(card)
    card.obj.material_slots[0].link = "OBJECT"


@case("CYCLES")
def set_by_geometry_nodes(card):
    solid(card)
    with stage.node_group("Set") as group:
        made = group.nodes.new("GeometryNodeSetMaterial")
        made.inputs["Material"].default_value = clear_material()
        group.links.new(group.nodes["in"].outputs[0], made.inputs["Geometry"])
        group.links.new(made.outputs[0], group.nodes["out"].inputs[0])
    card.obj.modifiers.new("Set", "NODES").node_group = group


def clear_material() -> bpy.types.Material:
    made = bpy.data.materials.get("clear")
    if made is None:
        made = bpy.data.materials.new("clear")
        made.use_nodes = True
        made.node_tree.nodes.clear()
        nodes = made.node_tree.nodes
        made.node_tree.links.new(
            nodes.new("ShaderNodeBsdfTransparent").outputs[0], nodes.new("ShaderNodeOutputMaterial").inputs[0]
        )
    return made


def set_up(scene: bpy.types.Scene, engine: str, rows: int) -> None:
    stage.use_engine(scene, engine)
    scene.render.resolution_x, scene.render.resolution_y = COLUMNS * CELL, rows * CELL
    scene.view_settings.view_transform, scene.render.dither_intensity = "Standard", 0
    scene.cycles.samples, scene.cycles.device, scene.cycles.use_denoising = 16, "CPU", False
    scene.render.threads_mode, scene.render.threads = "FIXED", 1
    scene.cycles.pixel_filter_type, scene.render.filter_size = "BOX", 0
    scene.world = bpy.data.worlds.new("Black")
    scene.world.use_nodes = True
    background = next(node for node in scene.world.node_tree.nodes if node.type == "BACKGROUND")
    background.inputs[0].default_value = BLACK
    camera = stage.add_camera(scene, (COLUMNS, -10, -rows))
    camera.data.type, camera.data.ortho_scale = "ORTHO", 2 * max(COLUMNS, rows)


def cards(scene: bpy.types.Scene, cases: dict[str, Case]) -> None:
    behind = bpy.data.materials.new("behind")
    behind.use_nodes, behind.diffuse_color = True, GREEN
    behind.node_tree.nodes.clear()
    shine = behind.node_tree.nodes.new("ShaderNodeEmission")
    shine.inputs[0].default_value = GREEN
    out = behind.node_tree.nodes.new("ShaderNodeOutputMaterial")
    behind.node_tree.links.new(shine.outputs[0], out.inputs[0])
    for index, (name, fill) in enumerate(cases.items()):
        place = index % COLUMNS * 2 + 1, 0, -(index // COLUMNS) * 2 - 1
        for role, depth, half in (("behind", 2, 0.95), ("front", 0, 0.8)):
            corners = [(-half, 0, -half), (half, 0, -half), (half, 0, half), (-half, 0, half)]
            mesh = stage.mesh(f"{role} {name}", corners, [(0, 1, 2, 3)])
            layer = mesh.uv_layers.new(name="UVMap")
            for corner, at in zip(layer.uv, ((0, 0), (1, 0), (1, 1), (0, 1)), strict=True):
                corner.vector = at
            obj = stage.add(scene, f"{role} {name}", mesh)
            obj.location = place[0], depth, place[2]
            if role == "behind":
                mesh.materials.append(behind)
            else:
                fill(Card(name, obj))


def shoot(scene: bpy.types.Scene, count: int = 1, **options: Any) -> Shot:
    size = scene.render.resolution_x, scene.render.resolution_y
    return capture(scene, frame_map=stage.frames(count), size_fit=stage.fit(scene, size), **options)


def drawn(shot: Shot, folder: Path) -> np.ndarray:
    """[T, H, W] index of the mesh that the tracks show at each pixel."""
    shot.save(folder / "drawn.shot", force=True)
    run_in_backend(_DRAW, folder / "drawn.shot", folder / "drawn.npy")
    return np.load(folder / "drawn.npy")


def rendered(scene: bpy.types.Scene, folder: Path, frame: int = 1) -> np.ndarray:
    """[H, W, 3] the picture, 0 to 1."""
    scene.frame_set(frame)
    scene.render.filepath = str(folder / f"render{frame}.png")
    bpy.ops.render.render(write_still=True, scene=scene.name)
    image = bpy.data.images.load(scene.render.filepath)
    image.colorspace_settings.name = "Non-Color"
    width, height = image.size
    pixels = np.empty(width * height * 4, np.float32)
    image.pixels.foreach_get(pixels)
    bpy.data.images.remove(image)
    return pixels.reshape(height, width, 4)[::-1, :, :3]


def green(picture: np.ndarray) -> np.ndarray:
    """Where nothing but the card behind is to be seen."""
    return (picture[..., 1] > 0.8) & (picture[..., 0] < 0.25)


def mixed(picture: np.ndarray) -> np.ndarray:
    """Where both cards have a share of the pixel."""
    return (picture[..., 1] > 0.25) & (picture[..., 0] > 0.25)


def settled(mask: np.ndarray) -> np.ndarray:
    """Where all neighbors are alike: there, filters and the order of samples do not matter."""
    wide = np.pad(mask, 1, mode="edge")
    h, w = mask.shape
    around = [wide[i : i + h, j : j + w] for i in range(3) for j in range(3)]
    return np.all([item == mask for item in around], axis=0)


def differing(cases: dict[str, Case], picture: np.ndarray, shot: Shot, index: np.ndarray) -> dict[str, int]:
    """By case, in how many pixels the render shows one card and the tracks the other."""
    through, found = green(picture), {}
    blurred = mixed(picture)
    names = np.array([mesh.name for mesh in shot.meshes] + ["nothing"])[index]
    for number, name in enumerate(cases):
        top, left = number // COLUMNS * CELL + 4, number % COLUMNS * CELL + 4
        cell = np.s_[top : top + CELL - 8, left : left + CELL - 8]
        expected = np.where(through[cell], f"behind {name}", f"front {name}")
        told = settled(through[cell]) & (~blurred[cell] | (name in PARTLY))
        wrong = int(((names[cell] != expected) & told).sum())
        if wrong:
            found[name] = wrong
    return found


def compare(scene: bpy.types.Scene, engine: str, folder: Path, cases: dict[str, Case]) -> Shot:
    set_up(scene, engine, -(-len(cases) // COLUMNS))
    cards(scene, cases)
    shot = shoot(scene)
    assert differing(cases, rendered(scene, folder), shot, drawn(shot, folder)[0]) == {}
    return shot


def needs_graphics() -> None:
    if not first_frame._has_graphics():
        pytest.skip("this machine has no graphics driver")


def test_cycles_shows_what_the_tracks_show(scene, tmp_path):
    shot = compare(scene, "CYCLES", tmp_path, CASES["CYCLES"])
    assert stage.track(shot, "front holdout").holdout
    assert "front fog" not in stage.names(shot)
    assert "front transparent" not in stage.names(shot)
    assert stage.track(shot, "front solid").surfaces is None
    assert shot.warnings == ("A texture is missing: gone.png.",)


@pytest.mark.long
def test_eevee_shows_what_the_tracks_show(scene, tmp_path):
    needs_graphics()
    compare(scene, EEVEE, tmp_path, CASES[EEVEE])


@pytest.mark.parametrize("color", ["MATERIAL", "TEXTURE", "OBJECT"])
@pytest.mark.parametrize("cull", [False, True])
def test_workbench_shows_what_the_tracks_show(scene, tmp_path, color, cull):
    """It knows no nodes: fog is a wall to it."""
    needs_graphics()
    shading = scene.display.shading
    shading.light, shading.color_type, shading.show_backface_culling = "FLAT", color, cull
    scene.display.render_aa = "OFF"
    set_up(scene, WORKBENCH, -(-len(CASES[WORKBENCH]) // COLUMNS))
    cards(scene, CASES[WORKBENCH])
    for obj in scene.objects:
        obj.color = GREEN if obj.name.startswith("behind") else RED
    scene.objects["front empty_slot"].color = (1, 0, 0, 0)
    shot = shoot(scene)
    assert differing(CASES[WORKBENCH], rendered(scene, tmp_path), shot, drawn(shot, tmp_path)[0]) == {}


@pytest.mark.parametrize("engine", ["CYCLES", pytest.param(EEVEE, marks=pytest.mark.once), WORKBENCH])
def test_every_engine_has_its_own_rules_of_visibility(scene, tmp_path, engine):
    if engine != "CYCLES":
        needs_graphics()
    cases: dict[str, Case] = dict.fromkeys(["solid", "indirect", "hole", "unseen"], solid)
    scene.display.shading.light, scene.display.render_aa = "FLAT", "OFF"
    set_up(scene, engine, 1)
    cards(scene, cases)
    for name in ("indirect", "hole"):
        collection, obj = bpy.data.collections.new(name), scene.objects[f"front {name}"]
        scene.collection.children.link(collection)
        collection.objects.link(obj)
        scene.collection.objects.unlink(obj)
    layers = scene.view_layers[0].layer_collection.children
    layers["indirect"].indirect_only = layers["hole"].holdout = True
    scene.objects["front unseen"].visible_camera = False
    shot = shoot(scene)
    picture = rendered(scene, tmp_path)
    assert differing(cases, picture, shot, drawn(shot, tmp_path)[0]) == {}
    black = picture[CELL // 2, 2 * CELL + CELL // 2].max() < 0.1
    assert stage.track(shot, "front hole").holdout == black


def front(shot: Shot, index: np.ndarray, name: str = "front it") -> list[bool]:
    """For each sample, whether the tracks show the card in front at the middle of the first cell."""
    names = [mesh.name for mesh in shot.meshes]
    return [names[row[CELL // 2, CELL // 2]] == name for row in index]


def fading(card: Card) -> None:
    """Transparent in frame 1, then fading in."""
    made = card.mix(0, card.clear(), card.red())
    card.surface(made)
    stage.key(made.inputs[0], "default_value", {1: 0.0, 2: 0.3, 3: 1.0, 4: 0.0})


def test_a_material_that_fades_leaves_the_tracks_where_it_is_gone(scene, tmp_path):
    set_up(scene, "CYCLES", 1)
    cards(scene, {"it": fading, "other": solid})
    shot = shoot(scene, 4)
    assert stage.track(shot, "front it").visible.tolist() == [False, True, True, False]
    assert front(shot, drawn(shot, tmp_path)) == [False, True, True, False]
    shot = shoot(scene, 4, glass="through")
    assert front(shot, drawn(shot, tmp_path)) == [False, False, True, False]
    assert shot.warnings == ()


def test_the_part_of_a_mesh_that_fades_is_left_out_alone(scene, tmp_path):
    def parts(card: Card) -> None:
        fading(card)
        card.obj.data = stage.mesh("parts", [v.co for v in card.obj.data.vertices], [(0, 1, 2), (0, 2, 3)])
        card.obj.data.materials.append(card.material)
        card.obj.data.materials.append(None)
        card.obj.data.polygons[1].material_index = 1

    set_up(scene, "CYCLES", 1)
    cards(scene, {"it": parts})
    shot = shoot(scene, 4)
    track, index = stage.track(shot, "front it"), drawn(shot, tmp_path)
    assert track.visible.all()
    slots = shot.geometries[track.geometry].materials
    assert slots is not None
    assert slots.tolist() == [0, 1]
    at = [mesh.name for mesh in shot.meshes].index("front it")
    assert [bool(row[18, 15] == at) for row in index] == [False, True, True, False]  # below the diagonal
    assert all(row[6, 9] == at for row in index)


@pytest.mark.parametrize("engine", ["CYCLES", EEVEE])
def test_the_view_layers_material_is_on_everything(scene, tmp_path, engine):
    """EEVEE knows it since Blender 5."""
    set_up(scene, engine, 1)
    cards(scene, {"it": solid})
    scene.view_layers[0].material_override = clear_material()
    for name in ("Fog", "Other"):
        scene.view_layers.new(name)
    stage.add(scene, "Rock", stage.grid("Rock")).location = 4, 0, -1
    if engine != "CYCLES" and bpy.app.version < (5, 0, 0):
        assert len(shoot(scene).meshes) == 3
        return
    with pytest.raises(ShotError, match="No surface"):
        shoot(scene)
    assert len(shoot(scene, view_layer=scene.view_layers["Fog"]).meshes) == 3


def glasses() -> dict[str, Case]:
    def principled(card):
        card.surface(card.node("BsdfPrincipled", Transmission_Weight=1.0))

    def metal(card):
        card.surface(card.node("BsdfPrincipled", Transmission_Weight=1.0, Metallic=1.0))

    def frosted(card):
        card.surface(card.mix(0.3, card.node("BsdfRefraction"), card.node("BsdfDiffuse")))

    def coated(card):
        card.surface(card.mix(card.node("Fresnel"), card.clear(), card.node("BsdfGlossy")))

    def coated_paint(card):
        card.surface(card.mix(card.node("Fresnel"), card.node("BsdfDiffuse"), card.node("BsdfGlossy")))

    def smoke(card):
        card.alpha(card.math("MULTIPLY", card.image().outputs["Alpha"], 0.4))

    def glass(card):
        card.surface(card.node("BsdfGlass"))

    def thin(card):
        card.surface(card.mix(0.2, card.red(), card.clear()))

    return {
        "glass": glass, "principled": principled, "metal": metal, "frosted": frosted, "coated": coated,
        "coated_paint": coated_paint, "faint": principled_of_alpha_03, "thin": thin, "smoke": smoke,
    }  # fmt: skip


def test_glass_is_a_surface_unless_it_is_to_be_seen_through(scene, tmp_path):
    set_up(scene, "CYCLES", 2)
    cards(scene, glasses())
    solid_ones = {"metal", "thin", "coated_paint"}
    opaque, through = shoot(scene), shoot(scene, glass="through")
    fronts = {name.removeprefix("front ") for name in stage.names(opaque) if name.startswith("front")}
    assert fronts == set(glasses())
    kept = {name.removeprefix("front ") for name in stage.names(through) if name.startswith("front")}
    assert kept == solid_ones
    assert opaque.warnings == through.warnings == ()
    names = [mesh.name for mesh in opaque.meshes]
    cell = drawn(opaque, tmp_path)[0][CELL : 2 * CELL, :CELL]  # the smoke's
    assert names[cell[CELL * 5 // 8, CELL // 2]] == "front smoke"
    assert names[cell[5, 5]] == "behind smoke"


def unknowns() -> dict[str, Case]:
    def noise(card):
        card.alpha(card.node("TexNoise").outputs[0])

    def vertex_color(card):
        card.alpha(card.node("VertexColor").outputs["Alpha"])

    def sequence(card):
        image = card.image()
        image.image = leaf().copy()
        image.image.source = "SEQUENCE"
        card.alpha(image.outputs["Alpha"])

    def generated(card):
        image = card.image()
        card.link(card.node("TexCoord").outputs["Generated"], image.inputs[0])
        card.alpha(image.outputs["Alpha"])

    def script(card):
        card.surface(card.node("Script"))

    def another_map(card):
        made, image = card.node("UVMap"), card.image()
        made.uv_map = "gone"
        card.link(made, image.inputs[0])
        card.alpha(image.outputs["Alpha"])

    def two_images(card):
        other = card.image()
        other.image = leaf().copy()
        card.alpha(card.math("MULTIPLY", card.image().outputs["Alpha"], other.outputs["Alpha"]))

    return {
        "noise": noise, "vertex_color": vertex_color, "sequence": sequence, "generated": generated,
        "another_map": another_map, "two_images": two_images,
    }  # fmt: skip


def test_what_cannot_be_told_is_tracked_as_solid_and_said(scene, tmp_path):
    set_up(scene, "CYCLES", 1)
    cards(scene, unknowns())
    shot = shoot(scene)
    assert all(mesh.surfaces is None or mesh.name == "front another_map" for mesh in shot.meshes)
    assert len(shot.meshes) == 2 * len(unknowns())
    said = " ".join(shot.warnings)
    assert len(shot.warnings) == 2
    assert "'front another_map' is cut out by an image whose UV map it does not have" in said
    assert "The transparency of 'front noise (material noise: the node Noise Texture)'" in said
    assert "and 2 more cannot be determined from their nodes" in said


def test_an_image_in_a_color_space_that_is_not_followed_is_said(scene):
    def wide(card):
        image = card.image()
        image.image = leaf().copy()
        image.image.colorspace_settings.name = "ACEScg"
        card.alpha(card.math("GREATER_THAN", image.outputs["Color"], 0.5))

    set_up(scene, "CYCLES", 1)
    cards(scene, {"it": wide})
    assert "an image in the color space ACEScg" in " ".join(shoot(scene).warnings)


def test_opaque_whatever_the_factor_is(scene):
    def painted(card):
        card.surface(card.mix(card.node("TexNoise").outputs[0], card.node("BsdfDiffuse"), card.node("BsdfGlossy")))

    set_up(scene, "CYCLES", 1)
    cards(scene, {"it": painted})
    assert shoot(scene).warnings == ()


def test_instances_share_a_mesh_and_have_materials_of_their_own(scene, tmp_path):
    """Twice the same mesh with another material on the object, and a collection of both."""
    set_up(scene, "CYCLES", 2)
    cards(scene, dict.fromkeys(("first", "second", "third", "fourth"), solid))
    first, second = scene.objects["front first"], scene.objects["front second"]
    second.data = first.data
    image = Card("leaf", scene.objects["front fourth"])
    image.alpha(image.image().outputs["Alpha"])
    for obj, material in ((first, image.material), (second, clear_material())):
        obj.material_slots[0].link = "OBJECT"
        obj.material_slots[0].material = material
    bpy.data.objects.remove(scene.objects["front third"])
    bpy.data.objects.remove(scene.objects["front fourth"])
    collection = bpy.data.collections.new("Pair")
    for obj in (first, second):
        collection.objects.link(obj)
    empty = stage.add(scene, "Pairs", None)
    empty.instance_type, empty.instance_collection = "COLLECTION", collection
    empty.location.x = 4
    shot = shoot(scene)
    index = drawn(shot, tmp_path)[0]
    for name in ("first", "third"):
        stage.track(shot, f"behind {name}")
    names = np.array([mesh.name for mesh in shot.meshes] + ["nothing"])[index]
    picture = green(rendered(scene, tmp_path))
    told = settled(picture)
    assert (np.char.startswith(names, "behind") == picture)[told].all()
    assert {"front first", "Pairs/front first"} <= set(np.unique(names))
    assert "front second" not in stage.names(shot)
    assert stage.track(shot, "front first").geometry == stage.track(shot, "Pairs/front first").geometry
    assert stage.track(shot, "front first").surfaces == stage.track(shot, "Pairs/front first").surfaces
    assert len(shot.cutouts) == 1


def test_a_large_image_is_made_smaller(scene):
    def large(card):
        image = card.image()
        image.image = bpy.data.images.new("large", 4100, 10, alpha=True)
        pixels = np.zeros((10, 4100, 4), np.float32)
        pixels[:, 2050:, 3] = 1
        image.image.pixels.foreach_set(pixels.reshape(-1))
        card.alpha(image.outputs["Alpha"])

    set_up(scene, "CYCLES", 1)
    cards(scene, {"it": large})
    alpha = shoot(scene).cutouts[0].alpha
    assert alpha.shape == (3, 1366)
    assert alpha[:, :683].max() == 0
    assert alpha[:, 684:].min() == 255


def test_the_scene_keeps_everything(scene):
    """Reading images and nodes changes nothing."""
    set_up(scene, "CYCLES", 9)
    cards(scene, CASES["CYCLES"])
    before = {kind: len(getattr(bpy.data, kind)) for kind in ("images", "materials", "meshes", "node_groups")}
    dirty = {image.name: image.is_dirty for image in bpy.data.images}
    shoot(scene)
    assert before == {kind: len(getattr(bpy.data, kind)) for kind in before}
    assert dirty == {image.name: image.is_dirty for image in bpy.data.images}


def test_a_framing_camera_does_not_frame_fog(scene):
    from trackshade_addon.capture.auto_camera import add_auto_camera
    from trackshade_addon.capture.stepping import finish

    scene.render.engine = "CYCLES"
    stage.add(scene, "Small", stage.grid("Small"))
    alone = finish(add_auto_camera(scene, scene.view_layers[0], [1.0])).matrix_world.copy()
    box = stage.add(scene, "Box", stage.grid("Box"))
    box.scale = 50, 50, 50
    fog(Card("fog", box))
    assert finish(add_auto_camera(scene, scene.view_layers[0], [1.0])).matrix_world == alone


@pytest.mark.parametrize("moves", [False, True])
def test_texture_coordinates_of_a_cut_out_that_move_are_said(moves: bool, scene):
    set_up(scene, "CYCLES", 1)
    cards(scene, {"leaf": leaf_by_a_mix})
    obj = bpy.data.objects["front leaf"]
    warp = obj.modifiers.new("Warp", "UV_WARP")
    warp.uv_layer = obj.data.uv_layers[0].name
    stage.key(warp, "offset", {1: (0.0, 0.0), 3: (0.5 if moves else 0.0, 0.0)})
    said = "The image that cuts out 'front leaf', or its place, changes over time: the shot keeps the first."
    assert shoot(scene, 3).warnings == ((said,) if moves else ())
