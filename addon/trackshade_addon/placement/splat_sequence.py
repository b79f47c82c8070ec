# SPDX-License-Identifier: GPL-3.0-or-later
"""Sequences of PLY files with the splats of one frame each, which Blender plays by a Geometry Nodes modifier.

The node Import PLY reads the file of the evaluated frame, so that no script has to run and the .blend file stays small.
Blender 5.3 makes splats of a file; 4.5 to 5.2 make vertices with the file's properties, which become colored points.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy

from trackshade.core.errors import UsageError

from .splat_files import HARMONIC

PLAYED_SINCE = (4, 5, 0)  # Blender version that has the nodes
_NUMBERED = re.compile(r"(.*?)(\d+)\.ply", re.IGNORECASE)
_FRAME = re.compile(rb"^comment frame (-?[\d.]+)\s*$", re.MULTILINE)
_HEADER = 4096  # bytes that hold the comments of a header


@dataclass(frozen=True)
class SplatSequence:
    """Numbered PLY files without a gap.

    Attributes:
        files: the files, in the order of their numbers.
        digits: number of digits of a file's number.
        number: number of the first file.
        start: scene frame of the first file.
        step: scene frames from one file to the next.
    """

    files: tuple[Path, ...]
    digits: int
    number: int
    start: float
    step: float


def find_sequence(path: Path) -> SplatSequence | None:
    """Return the sequence that a PLY file belongs to; None if there is no other file of it.

    The scene frames are those that the files name in a comment ("frame 12"), else the numbers of the files.
    """
    found = _NUMBERED.fullmatch(path.name)
    if found is None or not path.is_file():
        return None
    prefix, digits = found[1], len(found[2])
    names = [_NUMBERED.fullmatch(item.name) for item in path.parent.iterdir()]
    numbers = {int(name[2]): name[0] for name in names if name and name[1] == prefix and len(name[2]) == digits}
    first = last = int(found[2])
    while first - 1 in numbers:
        first -= 1
    while last + 1 in numbers:
        last += 1
    if first == last:
        return None
    files = tuple(path.parent / numbers[number] for number in range(first, last + 1))
    start, end = _frame_of(files[0]), _frame_of(files[-1])
    if start is None or end is None or not end > start:
        return SplatSequence(files, digits, first, float(first), 1.0)
    return SplatSequence(files, digits, first, start, (end - start) / (len(files) - 1))


def can_play() -> bool:
    """Return whether this version of Blender plays sequences."""
    return bpy.app.version >= PLAYED_SINCE


def add_player(obj: bpy.types.Object, sequence: SplatSequence, material: bpy.types.Material | None) -> str:
    """Have an object show the splats of the frame that is nearest in time.

    Args:
        obj: an object with an empty mesh.
        sequence: the files.
        material: material of colored points; None where Blender draws splats.

    Returns:
        The name of the node group.

    Raises:
        UsageError: the path has braces, which the node that makes file names of it cannot take.
    """
    folder = str(sequence.files[0].parent)
    prefix = _NUMBERED.fullmatch(sequence.files[0].name)
    assert prefix is not None
    if re.search(r"[{}]", folder + prefix[1]):
        raise UsageError("no-splats", f"{folder} has braces in its name.", "Rename the folder and its files.")
    group = bpy.data.node_groups.new("Splat Sequence", "GeometryNodeTree")
    group.interface.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    nodes = _Nodes(group)
    time = nodes.math("SUBTRACT", nodes.new("GeometryNodeInputSceneTime").outputs["Frame"], sequence.start)
    index = nodes.math("ROUND", nodes.math("DIVIDE", time, sequence.step))
    index = nodes.math("MINIMUM", nodes.math("MAXIMUM", index, 0.0), len(sequence.files) - 1.0)
    number = nodes.math("ADD", index, float(sequence.number))
    integer = nodes.new("FunctionNodeFloatToInt")
    nodes.link(number, integer.inputs[0])
    name = nodes.new("FunctionNodeFormatString")
    name.format_items.new("INT", "Number")
    name.inputs[
        "Format"
    ].default_value = f"{folder}{os.sep}{prefix[1]}{{:0{sequence.digits}}}{sequence.files[0].suffix}"
    nodes.link(integer.outputs[0], name.inputs["Number"])
    reader = nodes.new("GeometryNodeImportPLY")
    nodes.link(name.outputs[0], reader.inputs["Path"])
    geometry = reader.outputs[0] if material is None else _add_points(nodes, reader.outputs[0], material)
    nodes.link(geometry, nodes.new("NodeGroupOutput").inputs[0])
    obj.modifiers.new("Splats", "NODES").node_group = group
    return group.name


def _add_points(nodes: _Nodes, vertices: Any, material: bpy.types.Material) -> Any:
    """Add nodes that make colored points of the vertices of a file; return their output."""
    hidden = nodes.new("FunctionNodeCompare")
    hidden.data_type, hidden.operation = "FLOAT", "LESS_THAN"
    nodes.link(nodes.attribute("opacity"), hidden.inputs["A"])  # logits
    remaining = nodes.new("GeometryNodeDeleteGeometry")
    nodes.link(vertices, remaining.inputs["Geometry"])
    nodes.link(hidden.outputs[0], remaining.inputs["Selection"])
    points = nodes.new("GeometryNodeMeshToPoints")
    nodes.link(remaining.outputs[0], points.inputs["Mesh"])
    wider = nodes.math("MAXIMUM", nodes.attribute("scale_0"), nodes.attribute("scale_1"))
    nodes.link(nodes.math("EXPONENT", wider), points.inputs["Radius"])
    color = nodes.new("FunctionNodeCombineColor")
    for channel in range(3):
        value = nodes.math("MULTIPLY_ADD", nodes.attribute(f"f_dc_{channel}"), HARMONIC, 0.5)
        nodes.link(_to_linear(nodes, value), color.inputs[channel])
    stored = nodes.new("GeometryNodeStoreNamedAttribute")
    stored.data_type, stored.domain = "FLOAT_COLOR", "POINT"
    stored.inputs["Name"].default_value = "Color"
    nodes.link(points.outputs[0], stored.inputs["Geometry"])
    nodes.link(color.outputs[0], next(item for item in stored.inputs if item.name == "Value" and item.enabled))
    set_material = nodes.new("GeometryNodeSetMaterial")
    set_material.inputs["Material"].default_value = material
    nodes.link(stored.outputs[0], set_material.inputs["Geometry"])
    return set_material.outputs[0]


def _to_linear(nodes: _Nodes, value: Any) -> Any:
    """Add nodes that decode sRGB, which is clipped to 0..1 (IEC 61966-2-1)."""
    value = nodes.math("MINIMUM", nodes.math("MAXIMUM", value, 0.0), 1.0)
    bright = nodes.math("POWER", nodes.math("MULTIPLY_ADD", value, 1 / 1.055, 0.055 / 1.055), 2.4)
    is_bright = nodes.math("GREATER_THAN", value, 0.04045)
    dark = nodes.math("DIVIDE", value, 12.92)
    return nodes.math("MULTIPLY_ADD", is_bright, nodes.math("SUBTRACT", bright, dark), dark)


class _Nodes:
    """Adds nodes to a group."""

    def __init__(self, group: bpy.types.GeometryNodeTree) -> None:
        self._group = group

    def new(self, kind: str) -> Any:
        return self._group.nodes.new(kind)

    def link(self, output: Any, socket: Any) -> None:
        self._group.links.new(output, socket)

    def math(self, operation: str, *values: Any) -> Any:
        """Add a math node of numbers and outputs; return its output."""
        node = self.new("ShaderNodeMath")
        node.operation = operation
        for value, socket in zip(values, node.inputs, strict=False):
            if isinstance(value, float):
                socket.default_value = value
            else:
                self.link(value, socket)
        return node.outputs[0]

    def attribute(self, name: str) -> Any:
        """Add a node that reads an attribute of numbers; return its output."""
        node = self.new("GeometryNodeInputNamedAttribute")
        node.data_type = "FLOAT"
        node.inputs["Name"].default_value = name
        return next(item for item in node.outputs if item.enabled)


def _frame_of(path: Path) -> float | None:
    """Return the scene frame that a file names, or None."""
    with path.open("rb") as file:
        head = file.read(_HEADER).partition(b"end_header")[0]
    found = _FRAME.search(head)
    try:
        return None if found is None else float(found[1])
    except ValueError:
        return None
