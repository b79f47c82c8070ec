# SPDX-License-Identifier: GPL-3.0-or-later
"""Small scenes, one for each kind of modifier, simulation and object, and a comparison of a capture with a render.

Each case builds a scene in which the kind makes a visible difference. `compare` captures the scene and renders the same
frames with the scene's own engine, one frame after the other from the start, as somebody would who plays or renders
the animation. What the tracks show and what the render shows are compared as silhouettes.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import bpy
import numpy as np

from tests.blender import test_importers
from tests.helpers import stage
from trackshade.control.scene import ShotRaster
from trackshade.core.errors import ShotError
from trackshade.core.fitting import FrameMap
from trackshade.shot import Shot
from trackshade_addon.capture.given_image import read_image_file
from trackshade_addon.importers import read_scene

SIZE = (60, 40)
FRAMES = stage.frames(4, start=1, step=4)  # 1, 5, 9 and 13: frames in between are skipped by the capture
# Without the frame in which an emitter starts: there Blender's viewport and its render differ from each other.
AFTER_START = stage.frames(4, start=2, step=4)
Build = Callable[[bpy.types.Scene], object]


class To(NamedTuple):
    """An animated value: what it is in the first frame and in the last one."""

    first: object
    last: object


@dataclass(frozen=True)
class Comparison:
    """What a capture gave beside the render.

    Attributes:
        refused: code of the error that the capture ended with, or "".
        warnings: sentences that the shot carries.
        overlap: intersection over union of the two silhouettes in the worst frame, 0..1.
        moves: whether the render's silhouette changes over the frames.
        seen: pixels of what is behind, in the tracks of `compare_through`.
    """

    refused: str
    warnings: tuple[str, ...]
    overlap: float
    moves: bool
    seen: int = 0


def compare(build: Build, frames: FrameMap = FRAMES) -> Comparison:
    """Builds a scene, and compares a capture of it with renders of the same frames.

    The scene's file is opened for each: a capture of a simulation fills its cache.
    """
    path = _built(build, frames)
    rendered = render_silhouettes(_open(path), frames)
    moves = any(not np.array_equal(image, rendered[0]) for image in rendered)
    scene = _open(path)
    try:
        shot = stage.capture(scene, frame_map=frames, size_fit=stage.fit(scene, SIZE))
    except ShotError as error:
        return Comparison(error.code, (), 0.0, moves)
    overlaps = [overlap(a, b) for a, b in zip(tracked_silhouettes(shot), rendered, strict=True)]
    return Comparison("", shot.warnings, min(overlaps), moves)


def _built(build: Build, frames: FrameMap) -> str:
    """The file of a new scene with a camera that looks along +y, saved at its first frame."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.resolution_x, scene.render.resolution_y = SIZE
    scene.frame_start, scene.frame_end = 1, int(frames.frame_numbers[-1])
    stage.add_camera(scene, (0, -8, 0))
    build(scene)
    scene.frame_set(scene.frame_start)
    path = str(Path(bpy.app.tempdir) / "support.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    return path


def _open(path: str) -> bpy.types.Scene:
    bpy.ops.wm.open_mainfile(filepath=path)
    return bpy.context.scene


def render_silhouettes(scene: bpy.types.Scene, frames: FrameMap) -> list[np.ndarray]:
    """[H, W] bool for each sample: where the render is not transparent. Every frame from the start is stepped."""
    render = scene.render
    render.engine, render.film_transparent = "BLENDER_WORKBENCH", True
    scene.display.render_aa = "OFF"
    render.image_settings.file_format, render.image_settings.color_mode = "PNG", "RGBA"
    wanted, made = {int(frame) for frame in frames.frame_numbers}, []
    with tempfile.TemporaryDirectory() as folder:
        for frame in range(scene.frame_start, scene.frame_end + 1):
            scene.frame_set(frame)
            if frame in wanted:
                render.filepath = str(Path(folder) / f"{frame}.png")
                bpy.ops.render.render(write_still=True)
                made.append(read_alpha(Path(render.filepath)) > 0.5)
    return made


def read_alpha(path: Path) -> np.ndarray:
    """[H, W] alpha of a picture file, 0..1."""
    image = bpy.data.images.load(str(path))
    pixels = np.empty((image.size[1], image.size[0], 4), np.float32)
    image.pixels.foreach_get(pixels.reshape(-1))
    bpy.data.images.remove(image)
    return pixels[::-1, :, 3]


def tracked_silhouettes(shot: Shot) -> list[np.ndarray]:
    """[H, W] bool for each sample: where a surface is seen."""
    raster = ShotRaster(shot)
    return [raster.draw(t).label >= 0 for t in range(len(shot.frame_numbers))]


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two masks; 1 where both are empty."""
    either = (a | b).sum()
    return float((a & b).sum() / either) if either else 1.0


# --- parts of scenes ------------------------------------------------------------------------------------------------


def ball(scene: bpy.types.Scene, name: str = "Thing", radius: float = 1.2, segments: int = 12) -> bpy.types.Object:
    """A sphere with texture coordinates and a vertex group "Group" that holds its upper half."""
    bpy.ops.mesh.primitive_uv_sphere_add(segments=segments, ring_count=segments // 2, radius=radius)
    obj = bpy.context.object
    obj.name = name
    group = obj.vertex_groups.new(name="Group")
    group.add([v.index for v in obj.data.vertices if v.co.z > 0.1], 1.0, "REPLACE")
    return obj


def sheet(scene: bpy.types.Scene, name: str = "Thing", size: float = 2.3, cells: int = 8) -> bpy.types.Object:
    """A flat grid that faces the camera, with texture coordinates."""
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=cells, y_subdivisions=cells, size=size, rotation=(math.pi / 2, 0, 0))
    bpy.ops.object.transform_apply()
    obj = bpy.context.object
    obj.name = name
    group = obj.vertex_groups.new(name="Group")
    group.add([v.index for v in obj.data.vertices if v.co.z > 0.1], 1.0, "REPLACE")
    return obj


def modifier(obj: bpy.types.Object, kind: str, **values: object) -> bpy.types.Modifier:
    """Adds a modifier. A value that is a `To` is animated from its first to its last over the frames."""
    made = obj.modifiers.new(kind.capitalize(), kind)
    for name, value in values.items():
        if isinstance(value, To):
            animate(made, name, *value)
        else:
            setattr(made, name, value)
    return made


def animate(holder: object, path: str, first: object, last: object) -> None:
    stage.key(holder, path, {FRAMES.frame_numbers[0]: first, FRAMES.frame_numbers[-1]: last})


def empty(scene: bpy.types.Scene, *places: tuple[float, float, float]) -> bpy.types.Object:
    """An empty that goes from the first place to the last one."""
    made = stage.add(scene, "Target", None)
    animate(made, "location", places[0], places[-1])
    return made


def select(*objects: bpy.types.Object) -> None:
    for other in bpy.context.view_layer.objects:
        other.select_set(other in objects)
    bpy.context.view_layer.objects.active = objects[0]


def cube(scene: bpy.types.Scene, name: str, size: float = 1.0) -> bpy.types.Object:
    bpy.ops.mesh.primitive_cube_add(size=size)
    bpy.context.object.name = name
    return bpy.context.object


# --- modifiers ------------------------------------------------------------------------------------------------------

MODIFIERS: dict[str, Build] = {}
# Modifiers that have no case: they change weights, texture coordinates or normals, which tracks do not hold; or they
# make volumes or strokes, which are not meshes; or they are simulations, which have a table of their own.
WITHOUT_CASE = {
    "DATA_TRANSFER", "NORMAL_EDIT", "WEIGHTED_NORMAL", "UV_PROJECT", "UV_WARP", "VERTEX_WEIGHT_EDIT",
    "VERTEX_WEIGHT_MIX", "VERTEX_WEIGHT_PROXIMITY", "SURFACE", "COLLISION", "MESH_TO_VOLUME", "VOLUME_DISPLACE",
    "LINEART", "CLOTH", "SOFT_BODY", "PARTICLE_SYSTEM", "DYNAMIC_PAINT", "FLUID",
}  # fmt: skip


def case(table: dict[str, Build], name: str) -> Callable[[Build], Build]:
    def add(build: Build) -> Build:
        table[name] = build
        return build

    return add


def simple(kind: str, base: Callable[[bpy.types.Scene], bpy.types.Object] = ball, **values: object) -> None:
    """A case whose modifier needs nothing but values."""
    MODIFIERS[kind] = lambda scene: modifier(base(scene), kind, **values)


def with_target(kind: str, *places: tuple[float, float, float], name: str = "object", **values: object) -> None:
    """A case whose modifier follows an empty that moves."""
    MODIFIERS[kind] = lambda scene: modifier(ball(scene), kind, **{name: empty(scene, *places)}, **values)


simple("ARRAY", use_relative_offset=False, use_constant_offset=True, constant_offset_displace=(0.5, 0, 0.3),
       count=To(1, 5))  # fmt: skip
simple("BEVEL", lambda scene: cube(scene, "Thing", 2.0), width=To(0.0, 0.6), segments=2)
simple("BUILD", frame_start=1, frame_duration=16)
simple("DECIMATE", ratio=To(1.0, 0.1))
simple("EDGE_SPLIT")
simple("MIRROR", lambda scene: cube(scene, "Thing", 1.2), use_axis=(True, False, True), mirror_offset_u=0.1)
simple("REMESH", mode="VOXEL", voxel_size=To(0.5, 0.2))
simple("SCREW", lambda scene: sheet(scene, size=1.2, cells=2), angle=To(0.1, 6.0), screw_offset=1.0, axis="Z")
simple("SOLIDIFY", thickness=To(0.0, 0.8), offset=1.0)
simple("SUBSURF", lambda scene: cube(scene, "Thing", 2.0), levels=1, render_levels=3)
simple("TRIANGULATE")
simple("WELD", lambda scene: sheet(scene), merge_threshold=To(0.0, 0.7))
simple("WIREFRAME", thickness=To(0.05, 0.4))
simple("CAST", factor=To(0.0, 1.0), cast_type="CUBOID")
simple("SIMPLE_DEFORM", deform_method="BEND", angle=To(0.0, 1.5), deform_axis="Y")
simple("SMOOTH", factor=To(0.0, 1.0), iterations=4)
simple("LAPLACIANSMOOTH", lambda_factor=To(0.0, 4.0))
simple("WAVE", sheet, height=0.6, width=0.8, narrowness=2.0)
simple("OCEAN", resolution=4, spatial_size=6, size=0.6, time=To(1.0, 3.0))
with_target("HOOK", (0, 0, 0), (0.8, 0, 0.8), vertex_group="Group")


@case(MODIFIERS, "MASK")
def _(scene: bpy.types.Scene) -> None:
    obj = ball(scene)
    weights = stage.add(scene, "Weights", None)
    modifier(obj, "VERTEX_WEIGHT_PROXIMITY", vertex_group="Group", target=weights, min_dist=0.0, max_dist=2.5)
    obj.modifiers[0].proximity_mode = "GEOMETRY"
    animate(weights, "location", (0, 0, 0), (0, 0, 2))
    modifier(obj, "MASK", vertex_group="Group", threshold=0.4)


@case(MODIFIERS, "MESH_CACHE")
def _(scene: bpy.types.Scene) -> None:
    obj = sheet(scene, cells=1)
    base = np.array([v.co for v in obj.data.vertices], np.float32)
    samples = np.stack([base * (1 + 0.05 * n) for n in range(20)])
    path = Path(bpy.app.tempdir) / "support.pc2"
    head = b"POINTCACHE2\0" + np.array([1, len(base)], "<i4").tobytes() + np.array([0, 1], "<f4").tobytes()
    path.write_bytes(head + np.array([len(samples)], "<i4").tobytes() + samples.astype("<f4").tobytes())
    modifier(obj, "MESH_CACHE", cache_format="PC2", filepath=str(path), forward_axis="POS_Y", up_axis="POS_Z")


@case(MODIFIERS, "MESH_SEQUENCE_CACHE")
def _(scene: bpy.types.Scene) -> None:
    obj = ball(scene)
    modifier(obj, "BUILD", frame_start=1, frame_duration=16)
    path = Path(bpy.app.tempdir) / "support.abc"
    select(obj)
    bpy.ops.wm.alembic_export(filepath=str(path), start=1, end=13, selected=True, evaluation_mode="RENDER")
    bpy.data.objects.remove(obj)
    bpy.ops.wm.alembic_import(filepath=str(path), as_background_job=False)


@case(MODIFIERS, "BOOLEAN")
def _(scene: bpy.types.Scene) -> None:
    cutter = cube(scene, "Cutter", 1.6)
    cutter.hide_render = True
    animate(cutter, "location", (-3, 0, 1), (3, 0, 1))
    modifier(ball(scene), "BOOLEAN", object=cutter)


@case(MODIFIERS, "NODES")
def _(scene: bpy.types.Scene) -> None:
    with stage.node_group("Move") as group:
        time, join = group.nodes.new("GeometryNodeInputSceneTime"), group.nodes.new("ShaderNodeCombineXYZ")
        moved = group.nodes.new("GeometryNodeTransform")
        link = group.links.new
        scale = group.nodes.new("ShaderNodeMath")
        scale.operation, scale.inputs[1].default_value = "MULTIPLY", 0.1
        link(time.outputs["Frame"], scale.inputs[0])
        link(scale.outputs[0], join.inputs["X"])
        link(group.nodes["in"].outputs[0], moved.inputs[0])
        link(join.outputs[0], moved.inputs["Translation"])
        link(moved.outputs[0], group.nodes["out"].inputs[0])
    modifier(ball(scene), "NODES", node_group=group)


@case(MODIFIERS, "SKIN")
def _(scene: bpy.types.Scene) -> None:
    data = bpy.data.meshes.new("Thing")
    data.from_pydata([(-1, 0, -1), (0, 0, 0.5), (1, 0, -1), (0, 0, 1.5)], [(0, 1), (1, 2), (1, 3)], [])
    obj = stage.add(scene, "Thing", data)
    modifier(obj, "SKIN")
    animate(obj, "scale", (0.7, 1, 1), (1.3, 1, 1))


@case(MODIFIERS, "MULTIRES")
def _(scene: bpy.types.Scene) -> None:
    obj = cube(scene, "Thing", 2.0)
    modifier(obj, "MULTIRES")
    select(obj)
    bpy.ops.object.multires_subdivide(modifier="Multires", mode="CATMULL_CLARK")
    animate(obj, "rotation_euler", (0, 0, 0), (0, 0.7, 0.7))


@case(MODIFIERS, "VOLUME_TO_MESH")
def _(scene: bpy.types.Scene) -> None:
    source = ball(scene, "Source")
    source.hide_render = True
    animate(source, "scale", (0.7, 0.7, 0.7), (1.2, 1.2, 1.2))
    volume = stage.add(scene, "Volume", bpy.data.volumes.new("Volume"))
    modifier(volume, "MESH_TO_VOLUME", object=source, voxel_amount=24)
    volume.hide_render = True
    modifier(sheet(scene), "VOLUME_TO_MESH", object=volume, adaptivity=0.1)


@case(MODIFIERS, "ARMATURE")
def _(scene: bpy.types.Scene) -> None:
    obj = ball(scene)
    rig = stage.add(scene, "Rig", bpy.data.armatures.new("Rig"))
    select(rig)
    bpy.ops.object.mode_set(mode="EDIT")
    rig.data.edit_bones.new("Group").tail = (0, 0, 1)
    bpy.ops.object.mode_set(mode="OBJECT")
    modifier(obj, "ARMATURE", object=rig)
    animate(rig.pose.bones["Group"], "location", (0, 0, 0), (0.8, 0.5, 0))


@case(MODIFIERS, "CURVE")
def _(scene: bpy.types.Scene) -> None:
    bpy.ops.curve.primitive_bezier_circle_add(radius=2)
    path = bpy.context.object
    path.rotation_euler = (1.2, 0, 0)
    obj = cube(scene, "Thing", 0.6)
    modifier(obj, "CURVE", object=path)
    animate(obj, "location", (0, 0, 0), (6, 0, 0))


@case(MODIFIERS, "DISPLACE")
def _(scene: bpy.types.Scene) -> None:
    texture = bpy.data.textures.new("Clouds", "CLOUDS")
    texture.noise_scale = 0.8
    modifier(ball(scene), "DISPLACE", texture=texture, strength=To(0.0, 1.5))


@case(MODIFIERS, "LAPLACIANDEFORM")
def _(scene: bpy.types.Scene) -> None:
    obj = ball(scene)
    target = empty(scene, (0, 0, 0), (0.8, 0, 0.8))
    tip = obj.vertex_groups.new(name="Anchors")
    tip.add([v.index for v in obj.data.vertices if abs(v.co.z) > 0.9], 1.0, "REPLACE")
    modifier(obj, "HOOK", object=target, vertex_group="Group")
    modifier(obj, "LAPLACIANDEFORM", vertex_group="Anchors")
    select(obj)
    bpy.ops.object.laplaciandeform_bind(modifier="Laplaciandeform")


@case(MODIFIERS, "LATTICE")
def _(scene: bpy.types.Scene) -> None:
    lattice = stage.add(scene, "Lattice", bpy.data.lattices.new("Lattice"))
    for point in lattice.data.points:
        point.co_deform.x *= 1.0 + point.co.z
    animate(lattice, "scale", (2, 2, 2), (6, 2, 2))
    modifier(ball(scene), "LATTICE", object=lattice)


@case(MODIFIERS, "MESH_DEFORM")
def _(scene: bpy.types.Scene) -> None:
    cage = cube(scene, "Cage", 3.2)
    cage.hide_render = True
    obj = ball(scene)
    modifier(obj, "MESH_DEFORM", object=cage, precision=3)
    select(obj)
    bpy.ops.object.meshdeform_bind(modifier="Mesh_deform")
    key_shape(cage, (0.5, 0, 0.5))


@case(MODIFIERS, "SURFACE_DEFORM")
def _(scene: bpy.types.Scene) -> None:
    cage = sheet(scene, "Cage", 3.0)
    cage.hide_render = True
    obj = ball(scene)
    modifier(obj, "SURFACE_DEFORM", target=cage)
    select(obj)
    bpy.ops.object.surfacedeform_bind(modifier="Surface_deform")
    key_shape(cage, (0.5, 0, 0.5))


def key_shape(obj: bpy.types.Object, move: tuple[float, float, float]) -> None:
    """A shape key that moves the upper vertices, off in the first frame and on in the last one."""
    obj.shape_key_add(name="Basis")
    moved = obj.shape_key_add(name="Moved")
    for point, vertex in zip(moved.data, obj.data.vertices, strict=True):
        if vertex.co.z > 0:
            point.co = [a + b for a, b in zip(vertex.co, move, strict=True)]
    animate(moved, "value", 0.0, 1.0)


@case(MODIFIERS, "SHRINKWRAP")
def _(scene: bpy.types.Scene) -> None:
    target = cube(scene, "Target", 2.0)
    target.hide_render = True
    animate(target, "scale", (0.5, 0.5, 0.5), (1.2, 1.2, 1.2))
    modifier(ball(scene), "SHRINKWRAP", target=target)


@case(MODIFIERS, "CORRECTIVE_SMOOTH")
def _(scene: bpy.types.Scene) -> None:
    obj = ball(scene)
    modifier(obj, "HOOK", object=empty(scene, (0, 0, 0), (0.8, 0, 0.8)), vertex_group="Group")
    modifier(obj, "CORRECTIVE_SMOOTH", iterations=8)


@case(MODIFIERS, "WARP")
def _(scene: bpy.types.Scene) -> None:
    start = stage.add(scene, "From", None)
    modifier(ball(scene), "WARP", object_from=start, object_to=empty(scene, (0, 0, 0), (1.5, 0, 0)), falloff_radius=2)


@case(MODIFIERS, "EXPLODE")
def _(scene: bpy.types.Scene) -> None:
    obj = ball(scene)
    add_particles(obj)
    modifier(obj, "EXPLODE")


@case(MODIFIERS, "PARTICLE_INSTANCE")
def _(scene: bpy.types.Scene) -> None:
    source = sheet(scene, "Source")
    # All at once: for particles to be, Blender's viewport and its render show instances in different places.
    add_particles(source, frame_end=1)
    source.show_instancer_for_render = False
    modifier(cube(scene, "Thing", 0.2), "PARTICLE_INSTANCE", object=source)


def add_particles(obj: bpy.types.Object, **values: object) -> bpy.types.ParticleSettings:
    """An emitter that sends all of its particles out in the first frames."""
    obj.modifiers.new("Particles", "PARTICLE_SYSTEM")
    settings = obj.particle_systems[0].settings
    settings.count, settings.frame_start, settings.frame_end, settings.lifetime = 40, 1, 4, 60
    settings.normal_factor = 3.0
    for name, value in values.items():
        setattr(settings, name, value)
    return settings


# --- simulations, all of them unbaked ---------------------------------------------------------------------------------

SIMULATIONS: dict[str, Build] = {}


@case(SIMULATIONS, "Rigid bodies")
def _(scene: bpy.types.Scene) -> None:
    obj = ball(scene, radius=0.6)
    obj.location.z = 1.5
    bpy.ops.rigidbody.world_add()
    select(obj)
    bpy.ops.rigidbody.object_add()


@case(SIMULATIONS, "Cloth")
def _(scene: bpy.types.Scene) -> None:
    modifier(sheet(scene), "CLOTH")


@case(SIMULATIONS, "Soft bodies")
def _(scene: bpy.types.Scene) -> None:
    obj = ball(scene)
    modifier(obj, "SOFT_BODY").settings.use_goal = False


@case(SIMULATIONS, "Simulation nodes")
def _(scene: bpy.types.Scene) -> None:
    with stage.node_group("Simulation") as group:
        begin, end = group.nodes.new("GeometryNodeSimulationInput"), group.nodes.new("GeometryNodeSimulationOutput")
        begin.pair_with_output(end)
        move = group.nodes.new("GeometryNodeTransform")
        move.inputs["Translation"].default_value = (0.12, 0, 0)
        link = group.links.new
        link(group.nodes["in"].outputs[0], begin.inputs["Geometry"])
        link(begin.outputs["Geometry"], move.inputs[0])
        link(move.outputs[0], end.inputs["Geometry"])
        link(end.outputs["Geometry"], group.nodes["out"].inputs[0])
    modifier(ball(scene, radius=0.8), "NODES", node_group=group)


@case(SIMULATIONS, "Particles that render as objects")
def _(scene: bpy.types.Scene) -> None:
    shape = cube(scene, "Shape", 0.3)
    shape.location.y = 50  # behind everything
    obj = sheet(scene, size=1.0)
    add_particles(obj, render_type="OBJECT", instance_object=shape, particle_size=1.0)


@case(SIMULATIONS, "Hair particles with dynamics")
def _(scene: bpy.types.Scene) -> None:
    obj = sheet(scene, size=1.0)
    animate(obj, "location", (-1, 0, 0), (1, 0, 0))
    obj.modifiers.new("Hair", "PARTICLE_SYSTEM")
    system = obj.particle_systems[0]
    system.settings.type = "HAIR"
    system.use_hair_dynamics = True


# --- objects that are not meshes ------------------------------------------------------------------------------------

OBJECTS: dict[str, Build] = {}


@case(OBJECTS, "Mesh")
def _(scene: bpy.types.Scene) -> None:
    animate(ball(scene), "location", (-1, 0, 0), (1, 0, 0))


@case(OBJECTS, "Curve with a bevel")
def _(scene: bpy.types.Scene) -> None:
    bpy.ops.curve.primitive_bezier_circle_add(radius=1.2, rotation=(1.2, 0, 0))
    animate(bpy.context.object.data, "bevel_depth", 0.05, 0.4)


@case(OBJECTS, "Text that changes")
def _(scene: bpy.types.Scene) -> None:
    bpy.ops.object.text_add(rotation=(math.pi / 2, 0, 0), location=(-2, 0, -0.5))
    text = bpy.context.object
    text.data.extrude = 0.1
    text.data.body = "Blender"
    animate(text.data, "size", 0.8, 1.6)


@case(OBJECTS, "NURBS surface")
def _(scene: bpy.types.Scene) -> None:
    bpy.ops.surface.primitive_nurbs_surface_sphere_add(radius=1.2)
    animate(bpy.context.object, "location", (-1, 0, 0), (1, 0, 0))


@case(OBJECTS, "Metaballs")
def _(scene: bpy.types.Scene) -> None:
    for side in (-1, 1):
        bpy.ops.object.metaball_add(type="BALL", radius=1.2)
        obj = bpy.context.object
        obj.data.resolution = obj.data.render_resolution = 0.25
        animate(obj, "location", (1.4 * side, 0, 0), (0.3 * side, 0, 0))


@case(OBJECTS, "Instances of a collection")
def _(scene: bpy.types.Scene) -> None:
    collection = bpy.data.collections.new("Things")
    obj = ball(scene, radius=0.5)
    collection.objects.link(obj)
    scene.collection.objects.unlink(obj)
    holder = stage.add(scene, "Holder", None)
    holder.instance_type, holder.instance_collection = "COLLECTION", collection
    animate(holder, "location", (-1, 0, 0), (1, 0, 0))


@case(OBJECTS, "Hair curves")
def _(scene: bpy.types.Scene) -> None:
    data = bpy.data.hair_curves.new("Hair")
    data.add_curves([3] * 30)
    roots = np.random.default_rng(0).uniform(-1, 1, (30, 1, 3))
    places = roots + np.linspace(0, 1, 3)[None, :, None]
    data.position_data.foreach_set("vector", places.astype(np.float32).reshape(-1))
    stage.add(scene, "Hair", data)
    ball(scene)


@case(OBJECTS, "Point cloud")
def _(scene: bpy.types.Scene) -> None:
    stage.add(scene, "Points", bpy.data.pointclouds.new("Points"))
    ball(scene)


@case(OBJECTS, "Volume")
def _(scene: bpy.types.Scene) -> None:
    stage.add(scene, "Smoke", bpy.data.volumes.new("Smoke"))
    ball(scene)


@case(OBJECTS, "Grease pencil")
def _(scene: bpy.types.Scene) -> None:
    bpy.ops.object.grease_pencil_add(type="STROKE")
    ball(scene)


# --- materials: what of a surface behind another one is seen ----------------------------------------------------------

MATERIALS: dict[str, Build] = {}
GLASS = ("Glass BSDF", "Principled BSDF, alpha 0.3")  # what the option for glass is about
IN_EEVEE = (
    "Volume without a surface", "Principled BSDF, alpha of an image", "Backface culling, seen from behind",
    "Backface culling, seen from the front",
)  # fmt: skip


def compare_through(build: Build, engine: str, glass: str = "opaque") -> Comparison:
    """Captures a green square behind a larger one that wears the case's material, and renders the same frame.

    `overlap` compares where the render shows green with where the tracks show the square behind; `moves` says whether
    the render shows any of it.
    """
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.resolution_x, scene.render.resolution_y = SIZE
    stage.use_engine(scene, engine)
    scene.view_settings.view_transform, scene.render.dither_intensity = "Standard", 0
    if engine == "CYCLES":
        scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.pixel_filter_type = 4, False, "BOX"
    stage.add_camera(scene, (0, -8, 0))
    back = sheet(scene, "Back", 2.3, 1)
    shader(back, "Emission", Color=(0, 1, 0, 1))
    front = sheet(scene, "Front", 3.5, 1)
    front.location.y = -2
    build(front)
    with tempfile.TemporaryDirectory() as folder:
        scene.render.filepath = str(Path(folder) / "frame.png")
        bpy.ops.render.render(write_still=True)
        image = bpy.data.images.load(scene.render.filepath)
        pixels = np.empty((image.size[1], image.size[0], image.channels), np.float32)
        image.pixels.foreach_get(pixels.reshape(-1))
    pixels = pixels[::-1]
    green = (pixels[..., 1] > 0.73) & (pixels[..., 0] < 0.7 * pixels[..., 1])  # at least half of the pixel
    shot = stage.capture(scene, frame_map=stage.frames(1), size_fit=stage.fit(scene, SIZE), glass=glass)
    names = [mesh.name for mesh in shot.meshes]
    seen = ShotRaster(shot).draw(0).label == names.index("Back")
    return Comparison("", shot.warnings, overlap(seen, green), bool(green.any()), int(seen.sum()))


def shader(obj: bpy.types.Object, kind: str, **values: object) -> bpy.types.ShaderNode:
    """Gives an object a material of one shader node, and returns the node."""
    material = bpy.data.materials.new(obj.name)
    material.use_nodes = True
    obj.data.materials.append(material)
    tree = material.node_tree
    tree.nodes.clear()
    node = tree.nodes.new(f"ShaderNode{kind}")
    for name, value in values.items():
        node.inputs[name.replace("_", " ")].default_value = value
    output = tree.nodes.new("ShaderNodeOutputMaterial")
    tree.links.new(node.outputs[0], output.inputs["Volume" if kind.startswith("Volume") else "Surface"])
    return node


def leaf(tree: bpy.types.NodeTree) -> bpy.types.ShaderNode:
    """An image node whose alpha is 1 in a disc and 0 outside."""
    image = bpy.data.images.new("Leaf", 64, 64, alpha=True)
    y, x = np.mgrid[:64, :64] / 31.5 - 1
    pixels = np.ones((64, 64, 4), np.float32) * 0.5
    pixels[..., 3] = x * x + y * y < 0.12
    image.pixels.foreach_set(pixels.reshape(-1))
    image.pack()
    node = tree.nodes.new("ShaderNodeTexImage")
    node.image = image
    return node


@case(MATERIALS, "No material")
def _(front: bpy.types.Object) -> None:
    pass


@case(MATERIALS, "Principled BSDF")
def _(front: bpy.types.Object) -> None:
    shader(front, "BsdfPrincipled")


@case(MATERIALS, "Volume without a surface")
def _(front: bpy.types.Object) -> None:
    front.modifiers.new("Box", "SOLIDIFY").thickness = 0.5
    shader(front, "VolumeScatter", Density=0.001)


@case(MATERIALS, "Transparent BSDF")
def _(front: bpy.types.Object) -> None:
    shader(front, "BsdfTransparent")


@case(MATERIALS, "Principled BSDF, alpha 0")
def _(front: bpy.types.Object) -> None:
    shader(front, "BsdfPrincipled", Alpha=0.0)


@case(MATERIALS, "Principled BSDF, alpha of an image")
def _(front: bpy.types.Object) -> None:
    node = shader(front, "BsdfPrincipled")
    tree = node.id_data
    tree.links.new(leaf(tree).outputs["Alpha"], node.inputs["Alpha"])


@case(MATERIALS, "Mix with Transparent BSDF by the alpha of an image")
def _(front: bpy.types.Object) -> None:
    mix = shader(front, "MixShader")
    tree = mix.id_data
    tree.links.new(leaf(tree).outputs["Alpha"], mix.inputs["Fac"] if "Fac" in mix.inputs else mix.inputs["Factor"])
    tree.links.new(tree.nodes.new("ShaderNodeBsdfTransparent").outputs[0], mix.inputs[1])
    tree.links.new(tree.nodes.new("ShaderNodeBsdfDiffuse").outputs[0], mix.inputs[2])


@case(MATERIALS, "Transparent to camera rays only")
def _(front: bpy.types.Object) -> None:
    mix = shader(front, "MixShader")
    tree = mix.id_data
    tree.links.new(tree.nodes.new("ShaderNodeLightPath").outputs["Is Camera Ray"], mix.inputs[0])
    tree.links.new(tree.nodes.new("ShaderNodeBsdfDiffuse").outputs[0], mix.inputs[1])
    tree.links.new(tree.nodes.new("ShaderNodeBsdfTransparent").outputs[0], mix.inputs[2])


@case(MATERIALS, "Backface culling, seen from behind")
def _(front: bpy.types.Object) -> None:
    shader(front, "BsdfDiffuse")
    front.data.materials[0].use_backface_culling = True
    front.data.flip_normals()


@case(MATERIALS, "Backface culling, seen from the front")
def _(front: bpy.types.Object) -> None:
    shader(front, "BsdfDiffuse")
    front.data.materials[0].use_backface_culling = True


@case(MATERIALS, "Hidden from camera rays")
def _(front: bpy.types.Object) -> None:
    shader(front, "BsdfDiffuse")
    front.visible_camera = False


@case(MATERIALS, "Glass BSDF")
def _(front: bpy.types.Object) -> None:
    shader(front, "BsdfGlass")


@case(MATERIALS, "Principled BSDF, alpha 0.3")
def _(front: bpy.types.Object) -> None:
    shader(front, "BsdfPrincipled", Alpha=0.3)


@case(MATERIALS, "Principled BSDF, alpha of a procedural texture")
def _(front: bpy.types.Object) -> None:
    node = shader(front, "BsdfPrincipled")
    tree = node.id_data
    tree.links.new(tree.nodes.new("ShaderNodeTexChecker").outputs["Fac"], node.inputs["Alpha"])


@case(MATERIALS, "Holdout")
def _(front: bpy.types.Object) -> None:
    shader(front, "Holdout")


@case(MATERIALS, "Displacement")
def _(front: bpy.types.Object) -> None:
    node = shader(front, "BsdfDiffuse")
    tree = node.id_data
    front.data.materials[0].displacement_method = "DISPLACEMENT"
    height = tree.nodes.new("ShaderNodeDisplacement")
    height.inputs["Height"].default_value = 1.0
    output = next(item for item in tree.nodes if item.type == "OUTPUT_MATERIAL")
    tree.links.new(height.outputs[0], output.inputs["Displacement"])


# --- scene files ------------------------------------------------------------------------------------------------------

SCENE_FILES: dict[str, Callable[[Path], Path]] = {}
HDF5 = "\x89HDF\r\n\x1a\n" + "0" * 500
EXPORTS = {
    ".blend": lambda path: bpy.ops.wm.save_as_mainfile(filepath=path),
    ".blend1": lambda path: bpy.ops.wm.save_as_mainfile(filepath=path, copy=True),
    ".glb": lambda path: _gltf(path, "GLB"),
    ".gltf": lambda path: _gltf(path, "GLTF_SEPARATE"),
    ".usda": lambda path: bpy.ops.wm.usd_export(filepath=path, export_animation=True),
    ".usdc": lambda path: bpy.ops.wm.usd_export(filepath=path, export_animation=True),
    ".usdz": lambda path: bpy.ops.wm.usd_export(filepath=path, export_animation=True),
    ".abc": lambda path: bpy.ops.wm.alembic_export(filepath=path, start=1, end=13),
    ".fbx": lambda path: _fbx(path),
    ".obj": lambda path: bpy.ops.wm.obj_export(filepath=path),
    ".ply": lambda path: bpy.ops.wm.ply_export(filepath=path),
    ".stl": lambda path: bpy.ops.wm.stl_export(filepath=path),
}


def _gltf(path: str, kind: str) -> None:
    import addon_utils

    addon_utils.enable("io_scene_gltf2")
    bpy.ops.export_scene.gltf(filepath=path, export_format=kind)


def _fbx(path: str) -> None:
    import addon_utils

    addon_utils.enable("io_scene_fbx")
    bpy.ops.export_scene.fbx(filepath=path)


def exported(suffix: str) -> Callable[[Path], Path]:
    """Writes a ball that moves by one of Blender's exporters."""

    def write(folder: Path) -> Path:
        bpy.ops.wm.read_factory_settings(use_empty=True)
        scene = bpy.context.scene
        scene.frame_end = 13
        animate(ball(scene), "location", (-1, 0, 0), (1, 0, 0))
        path = folder / f"scene{suffix}"
        EXPORTS[suffix](str(path))
        return path

    return write


for _suffix in EXPORTS:
    SCENE_FILES[_suffix] = exported(_suffix)
SCENE_FILES[".fbx, text"] = lambda folder: _written(folder / "text.fbx", test_importers.TEXT_FBX)
SCENE_FILES[".fbx, version 6.1"] = lambda folder: _written(folder / "old.fbx", test_importers.OLD_FBX)
SCENE_FILES[".usda without a time range"] = lambda folder: test_importers.usd(folder / "s.usda", test_importers.MOVES)
SCENE_FILES[".glb, cut short"] = lambda folder: _cut(exported(".glb")(folder))
SCENE_FILES[".abc, cut short"] = lambda folder: _cut(exported(".abc")(folder))
SCENE_FILES[".blend, cut short"] = lambda folder: _cut(exported(".blend")(folder))
SCENE_FILES[".abc of the old form (HDF5)"] = lambda folder: _written(
    folder / "old.abc", "\x89HDF\r\n\x1a\n" + "0" * 500
)
SCENE_FILES[".obj without content"] = lambda folder: _written(folder / "empty.obj", "# nothing\n")
SCENE_FILES["Other types (.max)"] = lambda folder: _written(folder / "scene.max", "scene")


def _written(path: Path, text: str) -> Path:
    path.write_bytes(text.encode("latin-1"))
    return path


def _cut(path: Path) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def opened(write: Callable[[Path], Path], folder: Path) -> str:
    """What opening a file gives, in a few words."""
    path = write(folder)
    try:
        found = read_scene(path)
    except ShotError as error:
        return f"refused (`{error.code}`)"
    scene = found.scene
    scene.frame_set(scene.frame_start)
    first = [obj.matrix_world.copy() for obj in scene.objects]
    scene.frame_set(scene.frame_end)
    moving = any(a != obj.matrix_world for a, obj in zip(first, scene.objects, strict=True))
    return " ".join(["opened, with its animation" if moving else "opened", *found.warnings])


# --- pictures for the first frame -------------------------------------------------------------------------------------

# By what it is: the file of `tests/helpers/picture_files.py`, or what the file begins with.
PICTURES: dict[str, str | bytes] = {
    "PNG, 8 bits": "color.png",
    "PNG, 16 bits": "deep.png",
    "PNG, palette": "palette.png",
    "PNG, gray": "grey.png",
    "PNG, alpha": "alpha.png",
    "PNG, Display P3 profile": "p3.png",
    "JPEG": "baseline.jpg",
    "JPEG, progressive": "progressive.jpg",
    "JPEG, turned by EXIF": "turned-6.jpg",
    "JPEG, CMYK": "cmyk.jpg",
    "JPEG, Adobe RGB profile": "adobe.jpg",
    "WebP": "lossy.webp",
    "WebP, alpha": "alpha.webp",
    "BMP": "plain.bmp",
    "TIFF, 8 bits, LZW": "color-lzw.tif",
    "TIFF, 16 bits, deflate": "deep-zip.tif",
    "TIFF, CMYK": "cmyk.tif",
    "TIFF, floating point": "light.tif",
    "OpenEXR": "light.exr",
    "OpenEXR, half float, alpha": "covered.exr",
    "Radiance HDR": "light.hdr",
    "GIF": b"GIF89a",
    "Photoshop": b"8BPS",
    "PDF": b"%PDF-1.7",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "a movie": b"\0\0\0\x18ftypmp42",
    "a PNG that is cut short": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
}


def taken(picture: str | bytes, folder: Path) -> str:
    """What choosing a picture gives, in a few words. `folder` holds the files of `picture_files`."""
    path = folder / (picture if isinstance(picture, str) else "other.png")
    if isinstance(picture, bytes):
        path.write_bytes(picture + bytes(64))
    try:
        header = read_image_file(path, None).header
    except ShotError as error:
        return f"refused (`{error.code}`)"
    light = "taken as light, through the scene's view transform" if header.scene_linear else "taken"
    return ". ".join([light, *(sentence.rstrip(".") for sentence in (*header.notes, *header.warnings))])
