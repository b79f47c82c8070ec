# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the viewport's evaluation contain what a render contains, for the duration of a capture.

Python can step frames only of the viewport's evaluation, which follows the viewport's settings: eye and screen icons of
objects and collections, viewport switches and levels of modifiers, viewport resolutions of curves. A shot must match
the render. So wherever the two differ, the viewport's value is set to the render's through `Changes`, which
reverts everything. An object that renders leave out stays in the evaluation if it belongs to the view layer: its
transform is still captured, and hiding it would deselect it. `visibility` leaves it out.

If the render's value is animated, the viewport's value follows it in every frame, and its own animation is muted.

What cannot be matched is captured as in the viewport, with a warning: geometry nodes that test whether they are in the
viewport, emitters that display a percentage of their particles, and everything that a simulation with played frames
depends on. Blender discards these frames at any change, and reverting the change does not restore them
(`simulations.PlayedFrames`). Animated switches are not followed for what a simulation depends on: each change would
restart the simulation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import bpy

from .animation import animated_paths, curves
from .restore import Changes
from .simulations import PlayedFrames

_LEVELS = {
    "SUBSURF": ("levels", "render_levels"),
    "MULTIRES": ("levels", "render_levels"),
    "SCREW": ("steps", "render_steps"),
    "OCEAN": ("viewport_resolution", "resolution"),
}


@dataclass(frozen=True)
class _Pair:
    """A property of `holder`, a part of `owner`, with a value for the viewport and one for renders."""

    owner: bpy.types.ID
    holder: Any
    viewport: str
    render: str

    @property
    def title(self) -> str:
        """The holder's name, for messages."""
        if self.holder == self.owner:
            return f"'{self.owner.name}'"
        return f"Modifier '{self.holder.name}' of '{self.owner.name}'"

    def path(self, name: str) -> str:
        """The data path from the owner to a property of the holder."""
        if self.holder == self.owner:
            return name
        return f"{self.holder.path_from_id()}.{name}"


class RenderState:
    """Matches the viewport's evaluation to the render.

    Args:
        changes: reverts everything.
        scene: the scene.
        view_layer: the view layer that is captured.
        warn: called with a sentence for everything that cannot be matched.
        keep_played: whether played frames of simulations that are not baked are kept.
        strands: whether hair is captured, and therefore needs the number of points that it renders with.
    """

    def __init__(
        self,
        changes: Changes,
        scene: bpy.types.Scene,
        view_layer: bpy.types.ViewLayer,
        warn: Callable[[str], None],
        keep_played: bool = True,
        strands: bool = False,
    ) -> None:
        self._strands = strands
        self._changes = changes
        self._warn = warn
        self._frames = PlayedFrames(keep_played)
        self._followed: list[_Pair] = []
        objects = [obj for obj in bpy.data.objects if obj.users]
        members = {obj.session_uid for obj in view_layer.objects}
        paths = {obj.session_uid: animated_paths(obj) for obj in objects if obj.animation_data is not None}
        self._show_collections(view_layer)
        for obj in objects:
            animated = paths.get(obj.session_uid, frozenset())
            self._show_object(obj, view_layer if obj.session_uid in members else None, animated)
            for pair in _pairs(obj):
                self._match(pair, animated)
            self._match_particles(obj)
        self._match_resolutions()
        self._match_simplify(scene)
        _warn_about_viewport_nodes(warn)

    def follow(self, depsgraph: bpy.types.Depsgraph) -> None:
        """Sets the viewport's values to those that the render's properties have in this frame by animation."""
        changed = False
        for pair in self._followed:
            value = pair.owner.evaluated_get(depsgraph).path_resolve(pair.path(pair.render))
            changed |= self._changes.set(pair.holder, pair.viewport, value)
        if changed:
            depsgraph.update()

    def _show_collections(self, view_layer: bpy.types.ViewLayer) -> None:
        """Shows the view layer's collections; shows or hides others, which may be instanced, as in the render."""
        inside: set[int] = set()

        def walk(layer: bpy.types.LayerCollection) -> None:
            inside.add(layer.collection.session_uid)
            if not layer.exclude:
                self._changes.set(layer, "hide_viewport", False)
            for child in layer.children:
                walk(child)

        walk(view_layer.layer_collection)
        for collection in bpy.data.collections:
            if not collection.hide_render or collection.session_uid not in inside:
                self._changes.set(collection, "hide_viewport", collection.hide_render)

    def _show_object(
        self, obj: bpy.types.Object, view_layer: bpy.types.ViewLayer | None, animated: frozenset[str]
    ) -> None:
        """Shows an object that renders in some frame; hides one that never does, unless it is in the view layer."""
        never = obj.hide_render and "hide_render" not in animated
        simulation = self._frames.discarded_by(obj, hiding="hide_viewport" not in animated)
        if simulation is None:
            self._mute(obj, "hide_viewport", animated)
            if not never or view_layer is None:
                self._changes.set(obj, "hide_viewport", never)
        elif obj.hide_viewport and not never:
            self._warn_kept(f"'{obj.name}' is hidden in the viewport and is not captured", simulation)
        if not never and view_layer is not None:
            self._changes.hide(obj, view_layer, False)

    def _match(self, pair: _Pair, animated: frozenset[str]) -> None:
        wanted = getattr(pair.holder, pair.render)
        follows = pair.path(pair.render) in animated
        is_animated = pair.path(pair.viewport) in animated
        simulation = self._frames.discarded_by(pair.owner)
        if simulation is not None:
            if follows or is_animated or getattr(pair.holder, pair.viewport) != wanted:
                self._warn_kept(
                    f"{pair.title} is captured as the viewport has it, which is not as it renders", simulation
                )
            return
        simulated = self._frames.disturbed_by(pair.owner)
        if follows and simulated is not None:
            self._warn(
                f"{pair.title} is switched in renders while {simulated} is simulated: it is captured as it renders in "
                "the frame that the scene is in."
            )
            animated = animated - {pair.path(pair.render)}
        if animated:
            self._mute(pair.owner, pair.path(pair.viewport), animated)
            if pair.path(pair.render) in animated:
                self._followed.append(pair)
        self._changes.set(pair.holder, pair.viewport, wanted)

    def _warn_kept(self, problem: str, simulation: str) -> None:
        """Warns of what does not match the render because the frames of a simulation are kept."""
        self._warn(
            f"{problem}: a change would discard the frames of {simulation} that were played. Make the two alike, "
            "or bake the simulation."
        )

    def _set(self, owner: bpy.types.ID, holder: Any, name: str, value: Any) -> None:
        """Sets a property of a part of `owner`, unless that would discard played frames."""
        if getattr(holder, name) == value:
            return
        simulation = self._frames.discarded_by(owner)
        if simulation is None:
            self._changes.set(holder, name, value)
        else:
            label = holder.bl_rna.properties[name].name
            problem = f"'{owner.name}' is captured with the viewport's {label}, which is not that of renders"
            self._warn_kept(problem, simulation)

    def _match_particles(self, obj: bpy.types.Object) -> None:
        for system in obj.particle_systems:
            settings = system.settings
            if settings.type == "HAIR":
                self._set(settings, settings, "display_percentage", 100)
                if settings.child_type != "NONE":
                    self._set(settings, settings, "child_percent", settings.rendered_child_count)
                if self._strands:
                    self._set(settings, settings, "display_step", settings.render_step)
            elif settings.display_percentage != 100 and settings.render_type in ("OBJECT", "COLLECTION"):
                self._warn(
                    f"The particles '{system.name}' of '{obj.name}' are captured as the viewport shows them: "
                    f"{settings.display_percentage} % of those that render."
                )

    def _match_resolutions(self) -> None:
        for curve in bpy.data.curves:
            for direction in ("u", "v"):
                resolution = getattr(curve, f"render_resolution_{direction}")
                if resolution:  # 0 means that of the viewport
                    for holder in curve.splines or [curve]:  # a text has no splines
                        self._set(curve, holder, f"resolution_{direction}", resolution)
        for ball in bpy.data.metaballs:
            self._set(ball, ball, "resolution", ball.render_resolution)

    def _match_simplify(self, scene: bpy.types.Scene) -> None:
        render = scene.render
        if not render.use_simplify:
            return
        for name in ("simplify_subdivision", "simplify_child_particles"):
            wanted = getattr(render, f"{name}_render")
            if self._frames.any is None:
                self._changes.set(render, name, wanted)
            elif getattr(render, name) != wanted:  # it counts as a change of every object
                label = render.bl_rna.properties[name].name
                self._warn_kept(f"The scene is captured with the viewport's Simplify ({label})", self._frames.any)

    def _mute(self, owner: bpy.types.ID, path: str, animated: frozenset[str]) -> None:
        """Mutes the animation of a property."""
        if path in animated:
            for curve in [*curves(owner), *owner.animation_data.drivers]:
                if curve.data_path == path:
                    self._changes.set(curve, "mute", True)


def _pairs(obj: bpy.types.Object) -> Iterator[_Pair]:
    yield _Pair(obj, obj, "show_instancer_for_viewport", "show_instancer_for_render")
    for modifier in obj.modifiers:
        yield _Pair(obj, modifier, "show_viewport", "show_render")
        if modifier.type in _LEVELS:
            yield _Pair(obj, modifier, *_LEVELS[modifier.type])


def _warn_about_viewport_nodes(warn: Callable[[str], None]) -> None:
    for group in bpy.data.node_groups:
        if group.bl_idname == "GeometryNodeTree" and any(
            node.bl_idname == "GeometryNodeIsViewport" for node in group.nodes
        ):
            warn(f"The geometry nodes '{group.name}' ask whether they are in the viewport; the capture answers yes.")
