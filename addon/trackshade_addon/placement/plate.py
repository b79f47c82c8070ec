# SPDX-License-Identifier: GPL-3.0-or-later
"""Plates: planes that fill a camera's frame exactly and show a result, whatever the camera's settings do.

A plate is a child of its camera. Drivers scale and shift it by the camera's lens, sensor, shift, orthographic scale and
type, so that it keeps filling the frame when those are animated; they are simple expressions, which Blender runs
without permission to run scripts. A camera's scale does not count when Blender looks through it, but a child inherits
it, so the drivers divide it out.

In the plate's mesh one unit is one frame: its corners lie at (±0.5, ±0.5). A narrow border surrounds it, because a
render's pixel filter reaches a little over the edge of the frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np

from trackshade.core.fitting import SizeFit
from trackshade.core.geometry import camera_to_blender, intrinsics

from .collection import PLATE_KEY, tag
from .drivers import drive, drive_by_frame
from .materials import make_emissive_material
from .result_folder import ResultFolder
from .sequence import Sequence, play_in_shader

BORDER = 16  # pixels of the scene's frame, on each side
NEAREST = 1.02  # times the near clipping distance

# The scale of the frame at the plate's distance: what one unit of the side that the sensor spans is in meters.
_DISTANCE = "max(d, near * 1.01)"
_UNIT = f"(ortho if kind == 1 else sensor / lens * {_DISTANCE})"
_RAYS = ("visible_diffuse", "visible_glossy", "visible_transmission", "visible_volume_scatter", "visible_shadow")
_PROBES = ("hide_probe_volume", "hide_probe_sphere", "hide_probe_plane")


@dataclass(frozen=True)
class PlateArea:
    """What a plate covers of the frame and shows of the image, each as (left, bottom, right, top)."""

    frame: tuple[float, float, float, float]  # fractions of the scene's frame, from its lower left corner
    image: tuple[float, float, float, float]  # texture coordinates
    border: tuple[float, float]  # width and height of the border, fractions of the frame


def plate_area(fit: SizeFit) -> PlateArea:
    """Compute the area of the scene's frame that images of this fit cover."""
    (width, height), (sx, sy) = fit.size, fit.scale
    left, top, right, bottom = fit.frame_in_model()
    shown = max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))  # model pixels
    (fw, fh) = sx * fit.source[0], sy * fit.source[1]
    frame = (shown[0] - left) / fw, 1 - (shown[3] - top) / fh, (shown[2] - left) / fw, 1 - (shown[1] - top) / fh
    image = shown[0] / width, 1 - shown[3] / height, shown[2] / width, 1 - shown[1] / height
    return PlateArea(frame, image, (BORDER / fit.source[0], BORDER / fit.source[1]))


def make_mesh(name: str, area: PlateArea) -> bpy.types.Mesh:
    """Make a plate's mesh.

    Vertices 0 to 3 are the corners of the covered area, counter-clockwise from the lower left one as the camera sees
    it; 4 to 7 are those of the border, on the sides on which the plate reaches the edge of the frame.
    """
    left, bottom, right, top = area.frame
    u0, v0, u1, v1 = area.image
    edge, (border_x, border_y) = 1e-9, area.border
    out = (
        left - border_x * (left < edge),
        bottom - border_y * (bottom < edge),
        right + border_x * (right > 1 - edge),
        top + border_y * (top > 1 - edge),
    )
    inner = [(left, bottom), (right, bottom), (right, top), (left, top)]
    outer = [(out[0], out[1]), (out[2], out[1]), (out[2], out[3]), (out[0], out[3])]
    mesh = bpy.data.meshes.new(name)
    # On sides where the plate ends inside the frame the border's faces have no area; they show nothing.
    faces = [(0, 1, 2, 3), (4, 5, 1, 0), (5, 6, 2, 1), (6, 7, 3, 2), (7, 4, 0, 3)]
    mesh.from_pydata([(x - 0.5, y - 0.5, 0.0) for x, y in inner + outer], [], faces)
    layer = mesh.uv_layers.new(name="UVMap")
    for loop in mesh.loops:
        x, y = (inner + outer)[loop.vertex_index]
        u = u0 + (x - left) / (right - left) * (u1 - u0)
        v = v0 + (y - bottom) / (top - bottom) * (v1 - v0)
        layer.data[loop.index].uv = u, v
    return mesh


def make_material(
    name: str, image: bpy.types.Image, sequence: Sequence, scene: bpy.types.Scene, interpolation: str
) -> bpy.types.Material:
    """Make a material that emits an image sequence, and neither lights nor shades anything else."""
    material, color = make_emissive_material(name, scene)
    texture = color.id_data.nodes.new("ShaderNodeTexImage")
    texture.image = image
    texture.interpolation = interpolation
    texture.extension = "EXTEND"  # for the border
    texture.location = (-300, 0)
    play_in_shader(texture.image_user, sequence, scene)
    color.id_data.links.new(texture.outputs["Color"], color)
    return material


def add_plate(
    result: ResultFolder,
    collection: bpy.types.Collection,
    camera: bpy.types.Object,
    material: bpy.types.Material,
    distance: float | None,
) -> bpy.types.Object:
    """Add a plate in front of a camera, seen only by that camera, to a collection.

    Without a distance from the camera in meters, it has `default_distance` and lies before older plates of this camera.
    """
    mesh = tag(make_mesh(f"{result.name} plate", plate_area(result.fit)), result)
    mesh.materials.append(material)
    if distance is None:
        distance = default_distance(camera.data, result)
        for older in [item for item in camera.children if PLATE_KEY in item and "distance" in item]:
            older["distance"] *= NEAREST
            older.update_tag()
    plane = tag(bpy.data.objects.new(f"{result.name} plate {camera.name}", mesh), result)
    collection.objects.link(plane)
    _attach(plane, camera, result.fit, distance)
    plane.display_type = "WIRE"  # in a solid viewport it would be a gray board in front of everything
    plane.hide_select = True  # otherwise every click through the camera would pick it
    for name in _RAYS:
        setattr(plane, name, False)
    for name in _PROBES:
        setattr(plane, name, True)
    return plane


def show_in_ranges(plane: bpy.types.Object, ranges: list[tuple[int, int]], current: int) -> None:
    """Show a plate only in these ranges (first, last) of frames; `current` is the scene's current frame."""
    hidden: dict[int, bool] = {}  # by the frame from which it holds
    for first, last in ranges:
        hidden.setdefault(first - 1, True)
        hidden[first] = False
        hidden[last + 1] = True
    shown = any(first <= current <= last for first, last in ranges)
    for path in ("hide_render", "hide_viewport"):
        setattr(plane, path, not shown)
        if hidden:
            drive_by_frame(plane, path, hidden)


def show_through_camera(plane: bpy.types.Object, camera: bpy.types.Object, result: ResultFolder) -> None:
    """Show a plate only while the scene is seen through its camera, so that no other camera sees it from outside.

    Drivers cannot compare data-blocks, so a geometry node modifier compares where the two cameras are.
    """
    name = f"{result.name} {camera.name}"
    tree = tag(bpy.data.node_groups.new(name, "GeometryNodeTree"), result)
    for direction in ("INPUT", "OUTPUT"):
        tree.interface.new_socket("Geometry", in_out=direction, socket_type="NodeSocketGeometry")
    nodes, links = tree.nodes, tree.links
    given, out = nodes.new("NodeGroupInput"), nodes.new("NodeGroupOutput")
    active, switch = nodes.new("GeometryNodeInputActiveCamera"), nodes.new("GeometryNodeSwitch")
    switch.input_type = "GEOMETRY"
    conditions = []
    infos = [nodes.new("GeometryNodeObjectInfo") for _ in range(2)]
    links.new(active.outputs[0], infos[0].inputs["Object"])
    infos[1].inputs["Object"].default_value = camera
    for output, largest in (("Location", 1e-5), ("Rotation", 1e-4)):
        pair = [info.outputs[output] for info in infos]
        if output == "Rotation":  # as the direction in which the camera looks
            pair = [_rotated_axis(tree, socket) for socket in pair]
        distance, compare = nodes.new("ShaderNodeVectorMath"), nodes.new("FunctionNodeCompare")
        distance.operation, compare.operation = "DISTANCE", "LESS_THAN"
        compare.inputs["B"].default_value = largest
        for number, socket in enumerate(pair):
            links.new(socket, distance.inputs[number])
        links.new(distance.outputs["Value"], compare.inputs["A"])
        conditions.append(compare.outputs["Result"])
    both = nodes.new("FunctionNodeBooleanMath")
    for number, socket in enumerate(conditions):
        links.new(socket, both.inputs[number])
    links.new(both.outputs[0], switch.inputs["Switch"])
    links.new(given.outputs[0], switch.inputs["True"])
    links.new(switch.outputs[0], out.inputs[0])
    modifier = plane.modifiers.new("Only This Camera", "NODES")
    modifier.node_group = tree


def _rotated_axis(tree: bpy.types.NodeTree, rotation: bpy.types.NodeSocket) -> bpy.types.NodeSocket:
    """Return the Z axis of a rotation, in a tree of geometry nodes."""
    node = tree.nodes.new("FunctionNodeRotateVector")
    node.inputs["Vector"].default_value = (0, 0, 1)
    tree.links.new(rotation, node.inputs["Rotation"])
    return node.outputs[0]


def default_distance(camera: bpy.types.Camera, result: ResultFolder) -> float:
    """Compute how far from its camera a plate lies by default, meters.

    That is just behind the near clipping distance, so that nothing comes before it and no fog lies between. But
    Blender's locations are float32, and far from the world's origin they would make so near a plate jitter: there it
    lies as far away as a twentieth of a pixel needs, but well in front of all that the camera saw.
    """
    near = camera.clip_start * NEAREST
    # Pixels by which a corner moves when the plate is misplaced by its distance: the focal length, and how far the
    # corner lies from the optical axis.
    k = result.frame_intrinsics[~result.camera.orthographic]
    beside = np.maximum(np.abs(k[:, :2, 2]), np.abs(k[:, :2, 2] - result.fit.source)).max(axis=1)
    reach = (k[:, 0, 0] + beside).max(initial=0.0)
    farthest = np.abs(camera_to_blender(result.camera.world_to_camera)[:, :3, 3]).max()
    steady = float(np.spacing(np.float32(farthest)) * reach / 0.05)
    return max(near, min(steady, result.nearest / 2))


def default_interpolation(result: ResultFolder) -> str:
    """Return "Closest" where the result has the pixels of the scene's frame, else "Linear"."""
    same = result.fit.scale == (1.0, 1.0) and all(float(offset).is_integer() for offset in result.fit.offset)
    return "Closest" if same else "Linear"


def depth_of_field_warnings(cameras: list[bpy.types.Object]) -> list[str]:
    """Return a warning for each camera whose depth of field will blur its plate."""
    fix = "Switch it off where the plate is rendered, or set the plate's distance to the focus distance."
    blurred = [camera.name for camera in cameras if camera.data.dof.use_dof]
    return [f"Camera '{name}' has depth of field, which will blur the plate. {fix}" for name in blurred]


def _attach(plane: bpy.types.Object, camera: bpy.types.Object, fit: SizeFit, distance: float) -> None:
    """Parent a plate to a camera, `distance` meters along its axis, and drive it to fill the frame.

    The distance stays editable as the plate's custom property "distance"; the plate never comes nearer than the near
    clipping distance.
    """
    plane.parent = camera
    plane.matrix_parent_inverse.identity()
    plane["distance"] = float(distance)
    plane.id_properties_ui("distance").update(min=0.0, description="Meters from the camera", subtype="DISTANCE")
    for axis, extent in enumerate(_frame_extent(camera.data.sensor_fit, fit)):
        _drive(plane, "scale", axis, f"{_UNIT} * {extent!r} / size", camera)
        _drive(plane, "location", axis, f"{_UNIT} * shift / size", camera)
    _drive(plane, "scale", 2, "1 / size", camera)
    _drive(plane, "location", 2, f"-{_DISTANCE} / size", camera)


def _frame_extent(sensor_fit: str, fit: SizeFit) -> tuple[float, float]:
    """Return the frame's width and height in units of the side that the camera's sensor spans."""
    sensor = {"lens": 1, "sensor_width": 1, "sensor_height": 1, "sensor_fit": sensor_fit, "shift_x": 0, "shift_y": 0}
    k = intrinsics(**sensor, size=fit.source, pixel_aspect=fit.pixel_aspect)
    return float(fit.source[0] / k[0, 0]), float(fit.source[1] / k[1, 1])


def _drive(plane: bpy.types.Object, path: str, axis: int, expression: str, camera: bpy.types.Object) -> None:
    data = camera.data
    # With sensor fit AUTO the sensor's width spans whichever side is longer.
    sensor = "sensor_height" if data.sensor_fit == "VERTICAL" else "sensor_width"
    paths = {"near": "clip_start", "lens": "lens", "sensor": sensor, "ortho": "ortho_scale", "kind": "type",
             "shift": f"shift_{'xyz'[axis]}"}  # fmt: skip
    variables = {name: ("CAMERA", data, target) for name, target in paths.items()}
    driver = drive(plane, path, expression, {"d": ("OBJECT", plane, '["distance"]'), **variables}, axis)
    size = driver.variables.new()
    size.name, size.type = "size", "TRANSFORMS"
    size.targets[0].id = camera
    size.targets[0].transform_type = f"SCALE_{'XYZ'[axis]}"
    size.targets[0].transform_space = "WORLD_SPACE"
    driver.expression = expression  # again, now that all of its variables exist
