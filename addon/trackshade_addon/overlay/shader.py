# SPDX-License-Identifier: GPL-3.0-or-later
"""The rule of the colors as a shader, and a reference's buffers on the graphics card.

The shader does for each pixel what `control/ink.py` does: it interpolates where the surface point is in the first
frame, and colors that. Needs a context of the graphics card, so nothing here is to be called but while drawing.
"""

from __future__ import annotations

from typing import Any

import gpu
import numpy as np
from mathutils import Matrix

from trackshade.shot.track_colors import MeshRule

from ..capture.geometry import Float32, Int32
from ..capture.instances import InstanceKey
from .following import Thing
from .reference import Surface

_RULE = "struct Rule { vec4 frame; vec4 range; };"
_VERTEX = """
void main()
{
    vec4 at = vec4(first, 1.0);
    place = vec3(dot(row_x, at), dot(row_y, at), dot(row_z, at));
    gl_Position = clip * vec4(pos, 1.0);
}
"""
_FRAGMENT = """
void main()
{
    float apart = rule.range.z > 0.5 ? 1.0 : 1.0 / place.z;
    vec2 at = rule.frame.xy * place.xy * apart + rule.frame.zw;
    bool inside = place.z > 0.0 && all(greaterThanEqual(at, vec2(0.0))) && all(lessThanEqual(at, vec2(1.0)));
    float blue = clamp((1.0 / length(place) - rule.range.x) * rule.range.y, 0.0, 1.0);
    vec3 color = inside ? floor(vec3(at, blue) * 255.0 + 0.5) / 255.0 : vec3(0.0);
    painted = vec4(pow(color, vec3(rule.range.w)), opacity);
}
"""
_ROWS = ("row_x", "row_y", "row_z")

Batches = tuple[Any, Any]

_shader: Any = None


def shader() -> Any:
    """The compiled shader."""
    global _shader
    if _shader is None:
        info = gpu.types.GPUShaderCreateInfo()
        info.typedef_source(_RULE)
        info.uniform_buf(0, "Rule", "rule")
        info.push_constant("MAT4", "clip")
        for name in _ROWS:
            info.push_constant("VEC4", name)
        info.push_constant("FLOAT", "opacity")  # 116 bytes in all; every card has room for 128
        info.vertex_in(0, "VEC3", "pos")
        info.vertex_in(1, "VEC3", "first")
        between = gpu.types.GPUStageInterfaceInfo("trackshade_control")
        between.smooth("VEC3", "place")
        info.vertex_out(between)
        info.fragment_out(0, "VEC4", "painted")
        info.vertex_source(_VERTEX)
        info.fragment_source(_FRAGMENT)
        _shader = gpu.shader.create_from_info(info)
    return _shader


def forget() -> None:
    """Lets go of the shader."""
    global _shader
    _shader = None


class Brush:
    """Draws the things of one reference; keeps what does not change on the graphics card."""

    def __init__(self, rule: MeshRule) -> None:
        self._rule = rule
        self._blocks: dict[float, Any] = {}  # the rule, by gamma
        self._still: dict[int, _Still] = {}  # by identity of the surface
        self._moving: dict[InstanceKey, _Moving] = {}
        self._shown: set[int] = set()  # surfaces of the latest redraw, by identity

    def begin(self, gamma: float) -> None:
        """Makes the shader ready for another redraw: colors are written to the power of `gamma`."""
        if len(self._still) > 2 * len(self._shown):
            # Topologies that meshes had in other frames would fill the card.
            self._still = {key: still for key, still in self._still.items() if key in self._shown}
            self._moving = {key: item for key, item in self._moving.items() if id(item.still.surface) in self._still}
        self._shown.clear()
        program = shader()
        program.bind()
        if gamma not in self._blocks:
            numbers = self._rule.packed_parameters(np.eye(4))
            values = [*numbers[12:16], *numbers[16:18], float(self._rule.orthographic), gamma]
            self._blocks[gamma] = gpu.types.GPUUniformBuf(np.array(values, np.float32))
        program.uniform_block("rule", self._blocks[gamma])

    def paint(self, thing: Thing, projection: Matrix, opacity: float) -> None:
        """Draws a mesh. `projection` takes the world to the screen."""
        program = shader()
        program.uniform_float("clip", projection @ thing.matrix_world)
        for name, row in zip(_ROWS, thing.start.rows, strict=True):
            program.uniform_float(name, row)
        program.uniform_float("opacity", opacity)
        whole, one_sided = self._batches(thing)
        if whole is not None:
            whole.draw(program)
        if one_sided is not None:
            gpu.state.face_culling_set("FRONT" if thing.matrix_world.determinant() < 0 else "BACK")
            one_sided.draw(program)
            gpu.state.face_culling_set("NONE")

    def _batches(self, thing: Thing) -> Batches:
        """What is drawn from both sides, and from one; None where there is nothing."""
        surface = thing.surface
        still = self._still.get(id(surface))
        if still is None:
            still = self._still[id(surface)] = _Still(surface)
        self._shown.add(id(surface))
        if thing.positions is None:
            self._moving.pop(thing.key, None)
            return still.batches
        moving = self._moving.get(thing.key)
        if moving is None or moving.still is not still or not np.array_equal(moving.positions, thing.positions):
            moving = self._moving[thing.key] = _Moving(still, thing.positions)
        return moving.batches


class _Still:
    """A surface where its vertices first were."""

    def __init__(self, surface: Surface) -> None:
        self.surface = surface  # kept, so that its identity is no other one's
        self.first = _vertices("first", surface.first)
        self.triangles = [_indices(item) if len(item) else None for item in (surface.triangles, surface.one_sided)]
        self.batches = self.with_positions(surface.first)

    def with_positions(self, positions: Float32) -> Batches:
        places = _vertices("pos", positions)
        both, one = (self._batch(places, triangles) for triangles in self.triangles)
        return both, one

    def _batch(self, places: Any, triangles: Any) -> Any:
        if triangles is None:
            return None
        batch = gpu.types.GPUBatch(type="TRIS", buf=places, elem=triangles)
        batch.vertbuf_add(self.first)
        return batch


class _Moving:
    """A surface where it is now."""

    def __init__(self, still: _Still, positions: Float32) -> None:
        self.still, self.positions = still, positions
        self.batches = still.with_positions(positions)


def _vertices(name: str, values: Float32) -> Any:
    layout = gpu.types.GPUVertFormat()
    layout.attr_add(id=name, comp_type="F32", len=3, fetch_mode="FLOAT")
    buffer = gpu.types.GPUVertBuf(layout, len(values))
    buffer.attr_fill(name, values)
    return buffer


def _indices(triangles: Int32) -> Any:
    return gpu.types.GPUIndexBuf(type="TRIS", seq=triangles)
