# SPDX-License-Identifier: GPL-3.0-or-later
"""Drawing the tracking colors of an evaluated view layer with the GPU.

The shader does for each pixel what `trackshade.control.raster` does: it interpolates where the surface point is in the
first frame, and colors that. It needs a GPU context, so nothing here may be called except while Blender draws.
"""

from __future__ import annotations

from typing import Any

import bpy
import gpu
import numpy as np
from mathutils import Matrix

from ..capture.geometry import Float32
from ..capture.instances import InstanceKey
from .reference import OverlayMesh, Reference
from .tracking import DrawItem, PointTracker

# Blender applies this gamma to what draw handlers draw, whatever the view transform is. Colors to this power arrive
# unchanged.
VIEWPORT_GAMMA = 2.2

_RULE = "struct Rule { vec4 frame; vec4 range; };"
_VERTEX = """
void main()
{
    vec4 origin = vec4(first, 1.0);
    camera_point = vec3(dot(row_x, origin), dot(row_y, origin), dot(row_z, origin));
    gl_Position = clip * vec4(pos, 1.0);
}
"""
_FRAGMENT = """
void main()
{
    float inverse_depth = rule.range.z > 0.5 ? 1.0 : 1.0 / camera_point.z;
    vec2 uv = rule.frame.xy * camera_point.xy * inverse_depth + rule.frame.zw;
    bool inside = camera_point.z > 0.0 && all(greaterThanEqual(uv, vec2(0.0))) && all(lessThanEqual(uv, vec2(1.0)));
    float blue = clamp((1.0 / length(camera_point) - rule.range.x) * rule.range.y, 0.0, 1.0);
    vec3 color = inside ? floor(vec3(uv, blue) * 255.0 + 0.5) / 255.0 : vec3(0.0);
    out_color = vec4(pow(color, vec3(rule.range.w)), opacity);
}
"""
_ROWS = ("row_x", "row_y", "row_z")

_shader: Any = None


def _compiled_shader() -> Any:
    global _shader
    if _shader is None:
        info = gpu.types.GPUShaderCreateInfo()
        info.typedef_source(_RULE)
        info.uniform_buf(0, "Rule", "rule")
        info.push_constant("MAT4", "clip")
        for name in _ROWS:
            info.push_constant("VEC4", name)
        info.push_constant("FLOAT", "opacity")  # 116 bytes in all; every GPU has room for 128
        info.vertex_in(0, "VEC3", "pos")
        info.vertex_in(1, "VEC3", "first")
        interface = gpu.types.GPUStageInterfaceInfo("trackshade_control")
        interface.smooth("VEC3", "camera_point")
        info.vertex_out(interface)
        info.fragment_out(0, "VEC4", "out_color")
        info.vertex_source(_VERTEX)
        info.fragment_source(_FRAGMENT)
        _shader = gpu.shader.create_from_info(info)
    return _shader


def free_shader() -> None:
    """Free the compiled shader."""
    global _shader
    _shader = None


def draw_overlay(
    depsgraph: bpy.types.Depsgraph,
    overlay: Overlay,
    projection: Matrix,
    *,
    gamma: float = 1.0,
    opacity: float = 1.0,
    background: bool = False,
    space: bpy.types.SpaceView3D | None = None,
    skip_slow: bool = False,
) -> None:
    """Draw every surface that renders show in the colors of the shot's tracking video, the nearest in front.

    The active framebuffer needs a depth buffer, which is cleared.

    Args:
        depsgraph: Evaluation to draw.
        overlay: What to draw.
        projection: World to clip space, such as `RegionView3D.perspective_matrix`.
        gamma: 1 for exact bytes in an offscreen buffer, `VIEWPORT_GAMMA` in a draw handler of the 3D viewport.
        opacity: Opacity of the surfaces, 0 to 1.
        background: Whether to draw everything else black, as in the tracking video.
        space: See `PointTracker.draw_items`.
        skip_slow: See `PointTracker.draw_items`.
    """
    items = list(overlay.tracker.draw_items(depsgraph, space, skip_slow))
    framebuffer = gpu.state.active_framebuffer_get()
    framebuffer.clear(depth=1.0, **({"color": (0.0, 0.0, 0.0, 1.0)} if background else {}))
    before = gpu.state.blend_get(), gpu.state.depth_test_get(), gpu.state.depth_mask_get()
    try:
        overlay.begin_redraw(gamma)
        gpu.state.depth_mask_set(True)
        gpu.state.blend_set("NONE")
        gpu.state.depth_test_set("LESS")
        if opacity < 1.0:  # first only the depth, then only the nearest surface
            gpu.state.color_mask_set(False, False, False, False)
            for item in items:
                overlay.draw(item, projection, opacity)
            gpu.state.color_mask_set(True, True, True, True)
            gpu.state.blend_set("ALPHA")
            gpu.state.depth_test_set("EQUAL")
        for item in items:
            overlay.draw(item, projection, opacity)
    finally:
        gpu.state.color_mask_set(True, True, True, True)
        gpu.state.blend_set(before[0])
        gpu.state.depth_test_set(before[1])
        gpu.state.depth_mask_set(before[2])


class Overlay:
    """A reference on the screen: what is followed of it, and the GPU buffers of what does not change."""

    def __init__(self, reference: Reference) -> None:
        self.tracker = PointTracker(reference)
        self._rule = reference.rule
        self._uniforms: dict[float, Any] = {}  # the rule, by gamma
        self._static: dict[int, _MeshBuffers] = {}  # by identity of the mesh: with its vertices at their origins
        self._moving: dict[InstanceKey, _MeshBuffers] = {}  # with the vertices at their present positions
        self._drawn: set[int] = set()  # meshes of the latest redraw, by identity

    def begin_redraw(self, gamma: float) -> None:
        """Bind the shader for another redraw, which writes colors to the power of `gamma`."""
        if len(self._static) > 2 * len(self._drawn):
            # Topologies that meshes had in other frames would fill the GPU's memory.
            self._static = {key: item for key, item in self._static.items() if key in self._drawn}
            self._moving = {key: item for key, item in self._moving.items() if id(item.mesh) in self._static}
        self._drawn.clear()
        shader = _compiled_shader()
        shader.bind()
        if gamma not in self._uniforms:
            numbers = self._rule.packed_parameters(np.eye(4))
            values = [*numbers[12:16], *numbers[16:18], float(self._rule.orthographic), gamma]
            self._uniforms[gamma] = gpu.types.GPUUniformBuf(np.array(values, np.float32))
        shader.uniform_block("rule", self._uniforms[gamma])

    def draw(self, item: DrawItem, projection: Matrix, opacity: float) -> None:
        """Draw a mesh; `projection` is world to clip space."""
        shader = _compiled_shader()
        shader.uniform_float("clip", projection @ item.matrix_world)
        for name, row in zip(_ROWS, item.start.rows, strict=True):
            shader.uniform_float(name, row)
        shader.uniform_float("opacity", opacity)
        buffers = self._find_buffers(item)
        if buffers.two_sided is not None:
            buffers.two_sided.draw(shader)
        if buffers.one_sided is not None:
            gpu.state.face_culling_set("FRONT" if item.matrix_world.determinant() < 0 else "BACK")
            buffers.one_sided.draw(shader)
            gpu.state.face_culling_set("NONE")

    def _find_buffers(self, item: DrawItem) -> _MeshBuffers:
        mesh, static = item.mesh, self._static.get(id(item.mesh))
        if static is None:
            static = self._static[id(mesh)] = _MeshBuffers(mesh, mesh.origins)
        self._drawn.add(id(mesh))
        if item.positions is None:
            self._moving.pop(item.key, None)
            return static
        moving = self._moving.get(item.key)
        if moving is None or moving.mesh is not mesh or not np.array_equal(moving.positions, item.positions):
            moving = self._moving[item.key] = _MeshBuffers(mesh, item.positions, static)
        return moving


class _MeshBuffers:
    """A mesh with its vertices at certain positions; shares what does not depend on them with `static`."""

    def __init__(self, mesh: OverlayMesh, positions: Float32, static: _MeshBuffers | None = None) -> None:
        self.mesh = mesh  # kept, so that no other mesh gets its identity
        self.positions = positions
        if static is None:
            sides = (mesh.two_sided, mesh.one_sided)
            self._origins = _vertex_buffer("first", mesh.origins)
            self._indices = [gpu.types.GPUIndexBuf(type="TRIS", seq=side) if len(side) else None for side in sides]
        else:
            self._origins, self._indices = static._origins, static._indices
        buffer = _vertex_buffer("pos", positions)
        self.two_sided, self.one_sided = (self._batch(buffer, indices) for indices in self._indices)

    def _batch(self, positions: Any, indices: Any) -> Any:
        if indices is None:
            return None
        batch = gpu.types.GPUBatch(type="TRIS", buf=positions, elem=indices)
        batch.vertbuf_add(self._origins)
        return batch


def _vertex_buffer(name: str, values: Float32) -> Any:
    layout = gpu.types.GPUVertFormat()
    layout.attr_add(id=name, comp_type="F32", len=3, fetch_mode="FLOAT")
    buffer = gpu.types.GPUVertBuf(layout, len(values))
    buffer.attr_fill(name, values)
    return buffer
