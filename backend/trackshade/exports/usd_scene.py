# SPDX-License-Identifier: GPL-3.0-or-later
"""Meshes with a texture for each frame as USD: `scene.usdc`, and `textures/MESH.0001.png` and so on.

`textures/MESH.disagreement.png` is a heat map of how much the pictures of a frame differ on the surface.

The texture of a frame is a time sample of the texture's file. Programs that do not read these show the first one. A
mesh whose topology changes has its faces as time samples, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trackshade.exports.normals import SmoothNormals
from trackshade.results.texture.animate import AnimatedTexture
from trackshade.results.texture.heat import heat_map
from trackshade.shot import Shot
from trackshade.splats.usd import scene_rate, usd_modules

SCENE = "scene.usdc"
TEXTURES = "textures"


def write_usd_scene(
    folder: Path,
    shot: Shot,
    textures: Iterable[AnimatedTexture],
    report: Callable[[int], None] = lambda done: None,
) -> None:
    """Write meshes and their textures.

    Args:
        folder: an empty folder.
        shot: the unrolled shot.
        textures: the textures of the meshes that are written, with all frames.
        report: called with the number of meshes that are done.

    Raises:
        UsageError: `usd-core` is not installed, or is too old.
    """
    usd, geom, _, vt = usd_modules()
    from pxr import Gf, Sdf, UsdShade

    (folder / TEXTURES).mkdir()
    stage = usd.Stage.CreateNew(str(folder / SCENE))
    geom.SetStageUpAxis(stage, geom.Tokens.z)
    geom.SetStageMetersPerUnit(stage, 1.0)
    numbers = shot.frame_numbers[:: shot.views].tolist()
    stage.SetStartTimeCode(numbers[0])
    stage.SetEndTimeCode(numbers[-1])
    stage.SetTimeCodesPerSecond(scene_rate(shot))
    stage.SetFramesPerSecond(scene_rate(shot))
    root = geom.Xform.Define(stage, "/Shot")
    stage.SetDefaultPrim(root.GetPrim())
    for done, texture in enumerate(textures, 1):
        track = shot.meshes[texture.mesh]
        name = f"m{texture.mesh:03d}_" + re.sub(r"\W+", "_", track.name, flags=re.ASCII)
        mesh = geom.Mesh.Define(stage, f"/Shot/{name}")
        mesh.GetPrim().SetDisplayName(track.name)  # names of prims have ASCII letters only in older programs
        mesh.CreateSubdivisionSchemeAttr().Set("none")
        mesh.CreateDoubleSidedAttr().Set(True)
        _write_shape(shot, texture, mesh, numbers, (geom, vt, Sdf, Gf))
        files = []
        for n, image in enumerate(texture.color):
            files.append(f"{TEXTURES}/{name}.{n + 1:04d}.png")
            Image.fromarray(image).save(folder / files[-1], compress_level=1)
        figure = heat_map(texture.disagreement, texture.known)
        Image.fromarray(figure).save(folder / TEXTURES / f"{name}.disagreement.png", compress_level=1)
        material = _material(stage, name, files, numbers, Sdf, UsdShade)
        UsdShade.MaterialBindingAPI.Apply(mesh.GetPrim()).Bind(material)  # pyright: ignore[reportAttributeAccessIssue]
        report(done)
    stage.Save()


def _write_shape(
    shot: Shot, texture: AnimatedTexture, mesh: Any, numbers: list[float], modules: tuple[Any, Any, Any, Any]
) -> None:
    """Write faces, points, normals, texture coordinates, transform and visibility; what changes is sampled in time."""
    geom, vt, sdf, gf = modules
    track = shot.meshes[texture.mesh]
    matrix = mesh.AddTransformOp()
    coordinates = geom.PrimvarsAPI(mesh).CreatePrimvar(
        "st", sdf.ValueTypeNames.TexCoord2fArray, geom.Tokens.faceVarying
    )
    counts, indices = mesh.CreateFaceVertexCountsAttr(), mesh.CreateFaceVertexIndicesAttr()
    points, normals, visibility = mesh.CreatePointsAttr(), mesh.CreateNormalsAttr(), mesh.CreateVisibilityAttr()
    mesh.SetNormalsInterpolation(geom.Tokens.faceVarying)
    smooth: SmoothNormals | None = None
    changes = bool(track.changes)
    moves = bool(np.abs(track.matrix_world - track.matrix_world[0]).max() > 0)
    before = -1
    for n, number in enumerate(numbers):
        t = n * shot.views
        index = track.geometry_at(t)
        geometry = shot.geometries[index]
        time = (number,) if changes else ()
        if index != before:
            counts.Set(vt.IntArray(len(geometry.triangles), 3), *time)
            indices.Set(vt.IntArray.FromNumpy(geometry.triangles.ravel()), *time)
            uv = np.ascontiguousarray(texture.uv[index].reshape(-1, 2), np.float32)
            coordinates.Set(vt.Vec2fArray.FromNumpy(uv), *time)
        if index != before or smooth is None:
            smooth = SmoothNormals(geometry.at(t), geometry.triangles)
        if index != before or geometry.deforms:
            time = (number,) if changes or geometry.deforms else ()
            points.Set(vt.Vec3fArray.FromNumpy(np.ascontiguousarray(geometry.at(t), np.float32)), *time)
            normals.Set(vt.Vec3fArray.FromNumpy(smooth.at(geometry.at(t))[smooth.groups]), *time)
        before = index
        if n == 0 or moves:
            value = gf.Matrix4d(track.matrix_world[t].T.tolist())  # for row vectors
            matrix.Set(value, *((number,) if moves else ()))
        visibility.Set("inherited" if track.visible[t] else "invisible", number)


def _material(stage: Any, name: str, files: list[str], numbers: list[float], sdf: Any, shade: Any) -> Any:
    """Return a material that shines with the texture of each frame."""
    material = shade.Material.Define(stage, f"/Shot/Materials/{name}")
    base = material.GetPath()
    surface = shade.Shader.Define(stage, base.AppendChild("Surface"))
    surface.CreateIdAttr("UsdPreviewSurface")
    image = shade.Shader.Define(stage, base.AppendChild("Texture"))
    image.CreateIdAttr("UsdUVTexture")
    place = shade.Shader.Define(stage, base.AppendChild("Coordinates"))
    place.CreateIdAttr("UsdPrimvarReader_float2")
    place.CreateInput("varname", sdf.ValueTypeNames.String).Set("st")
    file = image.CreateInput("file", sdf.ValueTypeNames.Asset)
    file.Set(sdf.AssetPath(f"./{files[0]}"))
    if len(set(files)) > 1:
        for number, path in zip(numbers, files, strict=True):
            file.Set(sdf.AssetPath(f"./{path}"), number)
    image.CreateInput("sourceColorSpace", sdf.ValueTypeNames.Token).Set("sRGB")
    image.CreateInput("st", sdf.ValueTypeNames.Float2).ConnectToSource(
        place.CreateOutput("result", sdf.ValueTypeNames.Float2)
    )
    color = image.CreateOutput("rgb", sdf.ValueTypeNames.Float3)
    surface.CreateInput("diffuseColor", sdf.ValueTypeNames.Color3f).Set((0.0, 0.0, 0.0))
    surface.CreateInput("roughness", sdf.ValueTypeNames.Float).Set(1.0)
    surface.CreateInput("specularColor", sdf.ValueTypeNames.Color3f).Set((0.0, 0.0, 0.0))
    surface.CreateInput("useSpecularWorkflow", sdf.ValueTypeNames.Int).Set(1)
    surface.CreateInput("emissiveColor", sdf.ValueTypeNames.Color3f).ConnectToSource(color)
    material.CreateSurfaceOutput().ConnectToSource(surface.CreateOutput("surface", sdf.ValueTypeNames.Token))
    return material
