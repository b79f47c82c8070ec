# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds what the render of a view layer lacks: missing files and data, blocked drivers and scripts.

Blender reports this on its console only, and continues without the library, with a pink texture, or with a rig that
does not move. This module only reads; it loads and changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import bpy

from trackshade.core.errors import ShotError

from .animation import animated_paths
from .missing_files import FileIndex, missing_cache_files, missing_caches, missing_images, missing_volume
from .render_guard import compositor_trees
from .scene_settings import WORKBENCH, first_frame_engine
from .simulations import speed
from .visibility import PLATE_KEY, is_plate
from .warnings import list_names

# By kind of gap: the sentence about one and about several. The panel's translations have these patterns as keys.
PATTERNS: dict[str, tuple[str, str]] = {
    "library": (
        "A linked library is missing, and with it what it holds: {names}.",
        "{count} linked libraries are missing, and with them what they hold: {names}.",
    ),
    "linked": (
        "Linked data is missing in its library: {names}.",
        "{count} linked data-blocks are missing in their libraries: {names}.",
    ),
    "reference": (
        "A file that the scene refers to is missing: {names}.",
        "{count} files that the scene refers to are missing: {names}.",
    ),
    "image": ("A texture is missing: {names}.", "{count} textures are missing: {names}."),
    "clip": ("A movie clip is missing: {names}.", "{count} movie clips are missing: {names}."),
    "font": ("A font is missing: {names}.", "{count} fonts are missing: {names}."),
    "volume": ("A volume file is missing: {names}.", "{count} volume files are missing: {names}."),
    "cache": ("A cache file is missing: {names}.", "{count} cache files are missing: {names}."),
    "simulation": (
        "A baked simulation is missing on the disk: {names}.",
        "{count} baked simulations are missing on the disk: {names}.",
    ),
    "node_file": ("A file of a node is missing: {names}.", "{count} files of nodes are missing: {names}."),
    "node": (
        "A node is of a type that this Blender does not have, an add-on's perhaps: {names}.",
        "{count} nodes are of types that this Blender does not have, an add-on's perhaps: {names}.",
    ),
    "engine": (
        "The render engine of the scene is not in this Blender, which uses its own instead: {names}.",
        "{count} render engines of the scene are not in this Blender, which uses its own instead: {names}.",
    ),
    "driver": (
        "A driver did not run, because Python scripts of this file are blocked: {names}.",
        "{count} drivers did not run, because Python scripts of this file are blocked: {names}.",
    ),
    "script": (
        "A script of this file did not run, because Python scripts of it are blocked: {names}.",
        "{count} scripts of this file did not run, because Python scripts of it are blocked: {names}.",
    ),
    "broken_driver": ("A driver fails: {names}.", "{count} drivers fail: {names}."),
}
BLOCKED = ("driver", "script")
FILES = ("library", "image", "clip", "font", "volume", "cache")  # kinds that Blender's Find Missing Files looks for
_TRUST = "Where you trust the file, allow them: --trust-scripts, or Auto Run Python Scripts in the preferences."
_MAX_NAMES = 3  # names that a warning lists
_MAX_ERROR_NAMES = 20  # names that an error lists

# Types of data that no render depends on, or in which nothing can be missing.
_IGNORED = {
    "all_ids", "annotations", "brushes", "libraries", "linestyles", "palettes", "paint_curves", "scenes", "screens",
    "sounds", "speakers", "texts", "window_managers", "workspaces",
}  # fmt: skip


@dataclass(frozen=True, order=True)
class Gap:
    """Something that is missing or blocked.

    Attributes:
        kind: a key of `PATTERNS`.
        name: a file, a data-block, or the property of a driver, for messages.
    """

    kind: str
    name: str


_noted: dict[int, tuple[Gap, ...]] = {}  # by session uid of the scene


def note_gaps(scene: bpy.types.Scene, gaps: Iterable[Gap]) -> None:
    """Remembers gaps of a scene that could be found only while its file was read."""
    _noted[scene.session_uid] = tuple(gaps)


def find_gaps(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, frames: Sequence[float] = ()) -> tuple[Gap, ...]:
    """Finds what the render of a view layer lacks.

    Args:
        scene: the original scene, evaluated at least once, since only then Blender knows of drivers that fail.
        view_layer: the original view layer.
        frames: scene frames of the shot, for sequences of files; the present one if empty.

    Returns:
        Gaps in data that the render of the view layer depends on, in the order of `PATTERNS`, then by name.
    """
    frames = frames or (float(scene.frame_current),)
    files = FileIndex()
    candidates: dict[bpy.types.ID, list[Gap]] = defaultdict(list)
    for owner, kind, name in _candidates(scene, frames, files):
        candidates[owner].append(Gap(kind, name))
    found = {Gap("clip", name) for name in _missing_clips(scene, files)}
    found.update(Gap("image", name) for name in _missing_in_compositor(scene, frames, files))
    found.update(_blocked_scripts())
    found.update(_noted.get(scene.session_uid, ()))
    if candidates:
        needed = _dependencies(scene, view_layer)
        found.update(gap for owner, gaps in candidates.items() if owner in needed for gap in gaps)
    order = list(PATTERNS)
    return tuple(sorted(found, key=lambda gap: (order.index(gap.kind), gap.name)))


def gap_warnings(gaps: Iterable[Gap]) -> list[str]:
    """Makes a warning for each kind of gap, with the first names and, for what is blocked, how to allow it."""
    warnings = []
    for kind, pattern, names in group_gaps(gaps):
        sentence = pattern.format(count=len(names), names=list_names(names, _MAX_NAMES))
        warnings.append(f"{sentence} {_TRUST}" if kind in BLOCKED else sentence)
    return warnings


def group_gaps(gaps: Iterable[Gap]) -> Iterator[tuple[str, str, list[str]]]:
    """Yields each kind of gap with its pattern, for one or several, and the names."""
    names: dict[str, list[str]] = defaultdict(list)
    for gap in gaps:
        names[gap.kind].append(gap.name)
    for kind, found in names.items():
        one, several = PATTERNS[kind]
        yield kind, one if len(found) == 1 else several, found


def require_complete(gaps: Sequence[Gap]) -> None:
    """Raises a ShotError that lists the gaps, if there are any."""
    if not gaps:
        return
    blocked = any(gap.kind in BLOCKED for gap in gaps)
    sentences = [
        pattern.format(count=len(names), names=list_names(names, _MAX_ERROR_NAMES))
        for _, pattern, names in group_gaps(gaps)
    ]
    raise ShotError(
        "incomplete-scene",
        " ".join(["The scene is incomplete.", *sentences]),
        "Restore what is missing" + (", or allow scripts with --trust-scripts" if blocked else "")
        + "; without --strict, it is left out and named in a warning.",
    )  # fmt: skip


def scripts_allowed(scene: bpy.types.Scene) -> bool:
    """Whether Python scripts of the open file may run. False if that cannot be known.

    Blender only reports that it has blocked something. If it has not, there was nothing to block, or it ran.
    """
    if bpy.app.autoexec_fail:
        return False
    if bpy.context.preferences.filepaths.use_scripts_auto_execute or any(text.use_module for text in bpy.data.texts):
        return True
    evaluated = (item for obj in scene.objects if obj.visible_get() for item in (obj, obj.data))
    return any(
        curve.driver.type == "SCRIPTED" and not curve.driver.is_simple_expression
        for item in evaluated
        if item is not None and item.animation_data is not None
        for curve in item.animation_data.drivers
    )


def _candidates(
    scene: bpy.types.Scene, frames: Sequence[float], files: FileIndex
) -> Iterator[tuple[bpy.types.ID, str, str]]:
    """Yields owner, kind and name of each gap in the file, whether the render depends on the owner or not."""
    blocked = bpy.app.autoexec_fail
    times = [frame * speed(scene) for frame in frames]  # the frames of caches
    idle: set[bpy.types.Image] = set()
    users: dict[bpy.types.Image, list[Any]] = defaultdict(list)
    linked = bool(bpy.data.libraries)
    for block in (*_blocks(), scene):
        if linked and block.is_missing:
            yield (block, *_missing_link(block))
            continue
        yield from ((block, *gap) for gap in _drivers(block, blocked))
        tree = block if isinstance(block, bpy.types.NodeTree) else getattr(block, "node_tree", None)
        if tree is not None:
            if tree is not block:
                yield from ((block, *gap) for gap in _drivers(tree, blocked))
            yield from ((block, *gap) for gap in _nodes(block, tree, users, idle, files))
        if isinstance(block, bpy.types.Object):
            yield from ((block, *gap) for gap in missing_caches(block, times, files))
        elif isinstance(block, bpy.types.ImageTexture) and block.image is not None:
            users[block.image].append(block.image_user)
    workbench = first_frame_engine(scene) == WORKBENCH  # shows the image of the active node, linked or not
    for image, name in missing_images(users, frames, files):
        if workbench or image not in idle or image in users:
            yield image, "image", name
    for font in bpy.data.fonts:
        if font.filepath != "<builtin>" and font.packed_file is None and not files.has(font, font.filepath):
            yield font, "font", files.name(font.filepath)
    for volume in bpy.data.volumes:
        if volume.packed_file is None and (name := missing_volume(volume, frames, files)):
            yield volume, "volume", name
    for cache in bpy.data.cache_files:
        yield from ((cache, "cache", name) for name in missing_cache_files(cache, frames, files))


def _blocks() -> Iterator[bpy.types.ID]:
    for prop in bpy.data.bl_rna.properties:
        if prop.type == "COLLECTION" and prop.identifier not in _IGNORED:
            yield from getattr(bpy.data, prop.identifier)


def _missing_link(block: bpy.types.ID) -> tuple[str, str]:
    """The kind and name of the gap for a placeholder of linked data."""
    override = block.override_library
    linked = block if override is None or override.reference is None else override.reference
    library = getattr(linked, "library", None)
    if library is not None and library.is_missing:
        return "library", FileIndex.name(library.filepath)
    place = "" if library is None else f" of {FileIndex.name(library.filepath)}"
    return "linked", f"{block.bl_rna.name.lower()} '{block.name}'{place}"


def _drivers(owner: Any, blocked: bool) -> Iterator[tuple[str, str]]:
    """Yields kind and name of drivers that did not run, or failed, in the latest evaluation."""
    animation = getattr(owner, "animation_data", None)
    if animation is None:
        return
    for curve in animation.drivers:
        driver = curve.driver
        if curve.mute or (curve.is_valid and driver.is_valid):
            continue
        name = f"{_driven_path(owner, curve)} of '{_owner_name(owner)}'"
        if blocked and driver.type == "SCRIPTED" and not driver.is_simple_expression and _compiles(driver.expression):
            yield "driver", name
        else:
            yield "broken_driver", name


def _driven_path(owner: Any, curve: bpy.types.FCurve) -> str:
    """The data path of a driver, with the index of an array's component."""
    try:
        value = owner.path_resolve(curve.data_path)
    except ValueError:  # it no longer exists
        return curve.data_path
    is_vector = hasattr(value, "__len__") and not isinstance(value, str)
    return f"{curve.data_path}[{curve.array_index}]" if is_vector else curve.data_path


def _owner_name(owner: Any) -> str:
    if isinstance(owner, bpy.types.Key) and owner.user is not None:
        return owner.user.name
    if isinstance(owner, bpy.types.NodeTree) and owner.is_embedded_data:
        holders = (*_blocks(), *bpy.data.scenes)
        return next((item.name for item in holders if getattr(item, "node_tree", None) == owner), owner.name)
    return owner.name


def _compiles(expression: str) -> bool:
    try:
        compile(expression.strip(), "<driver>", "eval")
    except (SyntaxError, ValueError):
        return False
    return True


def _nodes(
    owner: bpy.types.ID,
    tree: bpy.types.NodeTree,
    users: dict[bpy.types.Image, list[Any]],
    idle: set[bpy.types.Image],
    files: FileIndex,
) -> Iterator[tuple[str, str]]:
    """Yields kind and name of nodes whose type or file is missing.

    Adds the users of images to `users`, and images of nodes whose outputs are not linked to `idle`.
    """
    for node in tree.nodes:
        kind = node.bl_idname
        image = getattr(node, "image", None)
        if isinstance(image, bpy.types.Image) and hasattr(node, "image_user"):
            if any(output.is_linked for output in node.outputs):
                users[image].append(node.image_user)
            else:
                idle.add(image)
        elif kind == "NodeUndefined":
            yield "node", f"'{node.name}' in '{owner.name}'"
        elif kind in ("ShaderNodeScript", "ShaderNodeTexIES"):
            external = node.mode == "EXTERNAL"
            if external and node.filepath and not files.has(tree, node.filepath):
                yield "node_file", files.name(node.filepath)
        elif kind.startswith("GeometryNodeImport"):
            path = next((item for item in node.inputs if item.type == "STRING" and item.name == "Path"), None)
            file = path.default_value if path is not None and not path.is_linked else ""
            if file and not files.has(tree, file):
                yield "node_file", files.name(file)


def _blocked_scripts() -> Iterator[Gap]:
    """Yields text blocks that should run when the file is opened, but were not allowed to."""
    if bpy.app.autoexec_fail:
        for text in bpy.data.texts:
            if text.use_module:
                yield Gap("script", text.name)


def _missing_clips(scene: bpy.types.Scene, files: FileIndex) -> Iterator[str]:
    """Yields missing clips of the compositor. Constraints only need a clip's tracks, which are in the .blend."""
    for node in _compositor_nodes(scene):
        clip: Any = getattr(node, "clip", None)
        if clip is not None and not files.has(clip, clip.filepath):
            yield files.name(clip.filepath)


def _missing_in_compositor(scene: bpy.types.Scene, frames: Sequence[float], files: FileIndex) -> Iterator[str]:
    users: dict[bpy.types.Image, list[Any]] = defaultdict(list)
    for node in _compositor_nodes(scene):
        image = getattr(node, "image", None)
        if isinstance(image, bpy.types.Image):
            users[image].append(node)  # the node has the properties of an image user
    for image, name in missing_images(users, frames, files):
        if image in users:
            yield name


def _compositor_nodes(scene: bpy.types.Scene) -> Iterator[Any]:
    """Yields the nodes that composite the render, also in groups, except results that Trackshade placed."""
    trees, seen = _active_compositor_trees(scene), set()
    while trees:
        tree = trees.pop()
        if tree in seen:
            continue
        seen.add(tree)
        for node in tree.nodes:
            if node.mute or PLATE_KEY in node:
                continue
            yield node
            if isinstance(getattr(node, "node_tree", None), bpy.types.NodeTree):
                trees.append(node.node_tree)


def _active_compositor_trees(scene: Any) -> list[Any]:
    """The node trees that composite the scene's renders."""
    if not scene.render.use_compositing or (bpy.app.version < (5, 0) and not scene.use_nodes):
        return []
    if hasattr(scene, "compositor_effects"):  # Blender 5.3 and newer
        groups = [effect.node_group for effect in scene.compositor_effects if effect.enable_for_render]
        return [group for group in groups if group is not None]
    return compositor_trees(scene)


def _dependencies(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> set[bpy.types.ID]:
    """All data-blocks that the render of the view layer depends on."""
    uses: dict[bpy.types.ID, list[bpy.types.ID]] = defaultdict(list)
    for used, owners in bpy.data.user_map().items():
        for owner in owners:
            uses[owner].append(used)
    waiting = list(_roots(scene, view_layer))
    needed: set[bpy.types.ID] = {scene, *_active_compositor_trees(scene)}
    while waiting:
        block = waiting.pop()
        if block in needed:
            continue
        needed.add(block)
        for used in uses.get(block, ()):
            if used not in needed and _depends(block, used):
                waiting.append(used)
    return needed


def _depends(owner: bpy.types.ID, used: bpy.types.ID) -> bool:
    """Whether the render of `owner` depends on what it uses, unlike on a background image."""
    if isinstance(used, bpy.types.Scene | bpy.types.Library | bpy.types.WorkSpace | bpy.types.Screen):
        return False
    if isinstance(used, bpy.types.Image):  # reference images of cameras and empties are not rendered
        return not isinstance(owner, bpy.types.Camera) and getattr(owner, "data", None) != used
    if isinstance(owner, bpy.types.Collection):
        if isinstance(used, bpy.types.Collection):
            return not used.hide_render
        if isinstance(used, bpy.types.Object):
            return _may_render(used)
    return True


def _roots(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> Iterator[bpy.types.ID]:
    """Yields the data-blocks that the render directly depends on."""
    yield from (item for item in (scene.world, view_layer.material_override, scene.camera) if item is not None)
    override = getattr(view_layer, "world_override", None)
    if override is not None:
        yield override
    yield from (marker.camera for marker in scene.timeline_markers if marker.camera is not None)
    layers = [view_layer.layer_collection]
    while layers:
        layer = layers.pop()
        layers.extend(layer.children)
        if layer.exclude or layer.collection.hide_render:
            continue
        if layer.collection.is_missing:
            yield layer.collection
        yield from (obj for obj in layer.collection.objects if not is_plate(obj) and _may_render(obj))


def _may_render(obj: bpy.types.Object) -> bool:
    """Whether renders show an object in this frame, or may in another."""
    return not obj.hide_render or "hide_render" in animated_paths(obj)
