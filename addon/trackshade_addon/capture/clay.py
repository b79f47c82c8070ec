# SPDX-License-Identifier: GPL-3.0-or-later
"""Clay renders: the scene in matte gray under its own lights, which tell how the light on each point changes.

They run in a Blender of their own, on a copy of the file that is thrown away, so nothing here restores anything.

What surfaces are made of becomes matte gray (`ALBEDO`, no highlights). What decides where light comes from and gets to
is kept: emission, alpha, volumes, displacement. Glass is gray to the camera and clear to all other rays, or clear to
all if the shot shows what is behind it. Cycles renders all scenes, as EEVEE cannot run without graphics hardware and
Workbench knows no lights.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from trackshade.core.errors import ShotError
from trackshade.shot import Shot

from .exr import read_channels
from .first_frame import SampleRenderer, can_denoise, shot_camera
from .lights import PICTURE, node_emits, trees_of

VERSION = 2  # of how they are rendered; kept ones of other versions are not used
ALBEDO = 0.4  # near that of most scenes, so that as much light is bounced between surfaces
SCALE = 2  # shot pixels per clay pixel
SAMPLES, SAMPLES_WITHOUT_DENOISER = 16, 128
_BOUNCES = 4
IMAGES, NOTES = "light.npy", "notes.json"

_KEPT_INPUTS = {"Alpha", "Emission Color", "Emission Strength"}
_PRINCIPLED = {"Base Color": (ALBEDO, ALBEDO, ALBEDO, 1.0), "Roughness": 1.0}
_CLEAR = {"BSDF_GLASS", "BSDF_REFRACTION"}
_KEPT_SHADERS = {"BSDF_TRANSPARENT", "EMISSION", "HOLDOUT", "MIX_SHADER", "ADD_SHADER", "GROUP", "REROUTE"}


def clay_size(size: tuple[int, int]) -> tuple[int, int]:
    """Returns the (width, height) of a shot's clay renders, pixels."""
    return -(-size[0] // SCALE), -(-size[1] // SCALE)


def render_clay(shot: Shot, scene: bpy.types.Scene, glass: str, folder: Path) -> Iterator[int]:
    """Renders every sample of a shot in clay to `folder`/light.npy: [T, h, w, 3] float16, scene-linear.

    The scene is changed for good. Sentences about what clay renders show otherwise go to `folder`/notes.json.

    Args:
        shot: the shot; its surfaces are not needed.
        scene: the scene that it was captured from.
        glass: see `ShotRequest`.
        folder: an existing folder.

    Yields:
        The number of samples that are done.

    Raises:
        ShotError: Cycles cannot render here.
    """
    layer = scene.view_layers[shot.view_layer]
    scene.render.engine = "CYCLES"
    notes = override_materials(layer, glass)
    (folder / NOTES).write_text(json.dumps(notes), encoding="utf-8")
    width, height = clay_size(shot.size)
    count = len(shot.frame_numbers)
    images = np.lib.format.open_memmap(folder / IMAGES, "w+", np.float16, (count, height, width, 3))
    path = folder / "frame.exr"
    with SampleRenderer(shot, scene, layer, keep_played=False) as renderer:
        for t in range(count):
            for _ in renderer.approach(t):
                pass
            images[t] = render_clay_sample(renderer, shot, t, (width, height), path)
            yield t + 1
    images.flush()
    path.unlink(missing_ok=True)


def override_materials(layer: bpy.types.ViewLayer, glass: str) -> list[str]:
    """Makes all materials matte gray.

    Returns:
        Sentences about materials of the view layer that clay renders show otherwise than as gray surfaces.
    """
    materials = [material for material in bpy.data.materials if not material.is_grease_pencil]
    gray = bpy.data.materials.new("Trackshade clay")
    for material in (*materials, gray):
        if not getattr(material, "use_nodes", True):
            material.use_nodes = True
    notes = _notes(layer)
    trees = {tree.as_pointer(): tree for material in (*materials, gray) for tree in trees_of(material)}
    photos = {tree.as_pointer() for material in materials if PICTURE in material for tree in trees_of(material)}
    for address, tree in trees.items():
        for node in list(tree.nodes):
            _override_node(tree, node, glass, address in photos)
    for data in (*bpy.data.meshes, *bpy.data.curves, *bpy.data.metaballs):
        with contextlib.suppress(RuntimeError):  # data of a library that cannot be changed
            if not data.materials:
                data.materials.append(gray)
            for index, item in enumerate(data.materials):
                if item is None:
                    data.materials[index] = gray
    return notes


def _notes(layer: bpy.types.ViewLayer) -> list[str]:
    """Returns sentences about what clay renders of a view layer show otherwise than as gray surfaces."""
    slots = (slot.material for obj in layer.objects for slot in obj.material_slots)
    used = {material for material in slots if material is not None and PICTURE not in material}
    names = {
        text: [item.name for item in used if any(holds(node) for tree in trees_of(item) for node in tree.nodes)]
        for text, holds in _DESCRIBED.items()
    }
    names[_VOLUMES] += [obj.name for obj in layer.objects if obj.type == "VOLUME"]
    names["Clay renders show hair in gray, and its shadows: {}."] = [
        obj.name for obj in layer.objects if obj.type == "CURVES" or _has_hair(obj)
    ]
    return [text.format(_list(sorted(found))) for text, found in names.items() if found]


def _override_node(tree: Any, node: Any, glass: str, is_photo: bool = False) -> None:
    """Makes a node of a material's tree gray, unless it is no shader of a surface.

    The emission of a material that shows a photo stands for the surface's color, and becomes gray, too.
    """
    if node.type == "BSDF_PRINCIPLED" and not _is_clear(node):
        for link in [link for socket in node.inputs for link in socket.links if socket.name not in _KEPT_INPUTS]:
            tree.links.remove(link)
        for socket in node.inputs:
            if socket.name in _PRINCIPLED:
                socket.default_value = _PRINCIPLED[socket.name]
            elif socket.name.endswith("Weight") or socket.name in ("Metallic", "Specular IOR Level"):
                socket.default_value = 0.0
        return
    outputs = [output for output in node.outputs if output.type == "SHADER" and output.is_linked]
    is_kept = node.type in _KEPT_SHADERS and not (is_photo and node.type == "EMISSION")
    if not outputs or is_kept or "VOLUME" in node.type or node.type.startswith("GROUP"):
        return
    shader = _clear_shader(tree, glass) if _is_clear(node) else _diffuse(tree)
    for output in outputs:
        for link in list(output.links):
            tree.links.new(shader, link.to_socket)


def _diffuse(tree: Any) -> Any:
    node = tree.nodes.new("ShaderNodeBsdfDiffuse")
    node.inputs["Color"].default_value = (ALBEDO, ALBEDO, ALBEDO, 1.0)
    return node.outputs[0]


def _clear_shader(tree: Any, glass: str) -> Any:
    """A shader for glass: clear, but gray to the camera if the shot shows its surface."""
    clear = tree.nodes.new("ShaderNodeBsdfTransparent").outputs[0]
    if glass == "through":
        return clear
    rays, mix = tree.nodes.new("ShaderNodeLightPath"), tree.nodes.new("ShaderNodeMixShader")
    tree.links.new(rays.outputs["Is Camera Ray"], mix.inputs[0])
    tree.links.new(clear, mix.inputs[1])
    tree.links.new(_diffuse(tree), mix.inputs[2])
    return mix.outputs[0]


def _is_clear(node: Any) -> bool:
    """Whether a node is a shader that lets most of the light through and bends it."""
    if node.type in _CLEAR:
        return any(output.is_linked for output in node.outputs)
    if node.type != "BSDF_PRINCIPLED":
        return False
    weight = node.inputs["Transmission Weight"]
    return not weight.is_linked and weight.default_value > 0.5


def _has_volume(node: Any) -> bool:
    return node.type == "OUTPUT_MATERIAL" and node.inputs["Volume"].is_linked


def _has_hair(obj: bpy.types.Object) -> bool:
    return any(system.settings.type == "HAIR" for system in obj.particle_systems)


_VOLUMES = "Clay renders show the light through volumes: {}."
_DESCRIBED: dict[str, Callable[[Any], bool]] = {
    "Clay renders keep the glow of materials that emit light: {}.": node_emits,
    "Clay renders let light through glass: {}.": _is_clear,
    _VOLUMES: _has_volume,
    "Clay renders are made with Cycles, which cannot convert shaders to colors: {}.": lambda node: (
        node.type == "SHADERTORGB"
    ),
}


def render_clay_sample(
    renderer: SampleRenderer, shot: Shot, t: int, size: tuple[int, int], path: Path
) -> NDArray[np.float16]:
    """Renders a sample of a scene whose materials are gray; see `override_materials`.

    Args:
        renderer: renders the shot; the scene must be at the sample.
        shot: the shot; its surfaces are not needed.
        t: the sample.
        size: (width, height) of the image, pixels.
        path: where Blender writes it.

    Returns:
        [height, width, 3], scene-linear.

    Raises:
        ShotError: Cycles cannot render here.
    """
    with shot_camera(shot, t, size) as camera:
        camera.object.data.dof.use_dof = False  # the light of what is in focus
        path.unlink(missing_ok=True)
        renderer.render_to(path, size, camera, "CYCLES", _set_up_cycles)
    if not path.is_file():
        raise ShotError("render-failed", "Cycles rendered a clay picture to no file.", "Set Light to None.")
    channels = read_channels(path)
    light = np.stack([channels[name] for name in "RGB"], axis=-1)
    if light.shape[:2] != size[::-1]:
        raise ShotError("render-failed", f"Cycles rendered {light.shape[1]}×{light.shape[0]} pixels.", "Report it.")
    most = float(np.finfo(np.float16).max)
    return np.clip(np.nan_to_num(light, nan=0.0, posinf=most), 0, most).astype(np.float16)


def _set_up_cycles(scene: bpy.types.Scene) -> None:
    """Changes the settings of a scene for clay renders by Cycles to a scene-linear file."""
    cycles, render, output = scene.cycles, scene.render, scene.render.image_settings
    denoise = can_denoise()
    render.use_persistent_data = True
    render.use_compositing = render.use_freestyle = False
    if hasattr(output, "media_type"):  # Blender 5.0 and newer
        output.media_type = "IMAGE"
    output.file_format, output.color_mode, output.color_depth = "OPEN_EXR", "RGB", "16"
    output.exr_codec = "NONE"
    for name, value in {
        "samples": SAMPLES if denoise else SAMPLES_WITHOUT_DENOISER,
        "use_adaptive_sampling": True,
        "adaptive_threshold": 0.02,
        "use_denoising": denoise,
        "denoiser": "OPENIMAGEDENOISE",
        "denoising_input_passes": "RGB_ALBEDO_NORMAL",
        "use_animated_seed": False,  # what noise is left stands still
        "seed": 0,
        "time_limit": 0.0,
        "max_bounces": _BOUNCES,
        "diffuse_bounces": _BOUNCES,
        "caustics_reflective": False,
        "caustics_refractive": False,
    }.items():
        if hasattr(cycles, name):
            try:
                setattr(cycles, name, value)
            except TypeError:  # a build without this denoiser
                continue
    for layer in scene.view_layers:
        layer.samples = 0


def _list(names: list[str]) -> str:
    shown = [f"'{name}'" for name in names]
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")
