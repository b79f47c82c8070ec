# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulations: which state depends on the previous frame, and which changes would discard frames that were played.

Rigid bodies, cloth, soft bodies, particles, dynamic paint, fluids in replay mode, simulation zones of geometry nodes
and the simulation mode of the iTaSC solver compute a frame from the previous one. Unless they are baked, a frame is
correct only if every whole frame since their start was evaluated. Scripts on frame changes may keep such state, too.

Behavior of Blender 4.2 to 5.3, found by experiment:

- All evaluations of a scene share point caches, but only the viewport's simulates rigid bodies, soft bodies and
  simulation zones; that of a render reads the frames that the viewport simulated.
- A jump past the last frame of a point cache computes one large step. The result stays in the cache, whose `info` then
  states the frame since which it is not exact. Tagging the object while the scene is at its start empties the cache.
- Continuing from the last frame of a point cache is exact. After its start was shown again, Blender takes new frames
  for inexact, and discards all that follow an earlier one when that is shown. Showing the start again keeps them.
- A change of any property of an object, except hiding it with its eye icon, marks its point cache as outdated. So does
  a change of a colliding object, of a force field, and of any member of a rigid body world. The played frames are then
  lost, even if the value is set back. Baked caches are not affected.
- Point caches, fluids and simulation zones count frames of the time after Time Stretching.
- After such a change, of its object or one that its nodes refer to, a simulation zone keeps its frames until its start
  is shown the next time; then they are computed anew. Python has no access to which frames it has.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy

from .animation import has_frame_scripts

Zones = dict[int, bool]  # by session uid of a node group, whether it has a simulation zone
FIRST = 1  # first frame that point caches store; frames before it are simulated, but not stored
_PARENTHESES = re.compile(r"[(\uff08][^)\uff09]*[)\uff09]")


@dataclass(frozen=True, eq=False)
class Simulation:
    """A simulation that is not baked.

    Attributes:
        name: its name, for messages.
        start: first whole frame of the scene.
        end: last whole frame of the scene in which anything changes; None if it never ends.
        owner: original object, or one of the bodies of a rigid body world; None for scripts.
        cache: its point cache, or None.
        keeps_frames: whether a frame that was simulated can be shown again.
        speed: frames of its cache per frame of the scene.
    """

    name: str
    start: int
    end: int | None
    owner: bpy.types.Object | None = None
    cache: Any = None
    keeps_frames: bool = True
    speed: float = 1.0

    def reach(self) -> int:
        """The last whole frame of the scene up to which all are simulated and valid; before the start if none is."""
        if self.cache is None or self.cache.is_outdated or self.cache.frame_step != 1:
            return self.start - 1
        first = self.cache.frame_start
        if first < FIRST:
            return self.start - 1
        count, inexact = cached_frames(self.cache)
        last = first + count - 1 if inexact is None else inexact
        if last > first:
            return math.floor(last / self.speed)
        return self.start if count and inexact is None else self.start - 1

    def reaches(self, frame: int) -> bool:
        """Whether the scene can jump to a frame: it is before the start, or all that it depends on is simulated."""
        return frame < self.start or self.reach() >= (frame if self.end is None else min(frame, self.end))

    def holds_frames(self) -> bool:
        """Whether its point cache holds more than the start frame, valid or not."""
        return self.cache is not None and cached_frames(self.cache)[0] > 1


def cached_frames(cache: Any) -> tuple[int, int | None]:
    """The number of frames in a point cache, and the frame since which they are not exact; None if all are.

    They are read from the cache's `info`, a sentence in the language of the interface, such as "8 frames in memory
    (4 KiB), not exact since frame 5".
    """
    numbers = [int(number) for number in re.findall(r"-?\d+", _PARENTHESES.sub("", cache.info))]
    return (numbers[0] if numbers else 0), (numbers[1] if len(numbers) > 1 else None)


def kept_on_disk(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> list[str]:
    """Names of the simulations that are not baked and write every frame to the disk."""
    if not bpy.data.filepath:
        return []
    found = (item for item in simulations(scene, view_layer) if item.cache is not None and item.cache.use_disk_cache)
    return sorted({item.name for item in found})


def speed(scene: bpy.types.Scene) -> float:
    """Frames of animation and simulations per frame of the scene; 1 without Time Stretching."""
    return scene.render.frame_map_old / scene.render.frame_map_new


def scene_frames(scene: bpy.types.Scene, first: int, last: int) -> tuple[int, int]:
    """Converts frames of the stretched time to the whole frames of the scene that contain them.

    If the time runs faster, `first` may lie between two frames of the scene; Blender plays from the second one on. If
    it runs slower, `last` is shown in several frames of the scene.
    """
    rate = speed(scene)
    start = first / rate
    end = max(math.ceil(last / rate), math.ceil((last + 1) / rate) - 1)
    return (math.ceil(start) if rate > 1 else math.floor(start)), end


def was_played(cache: Any) -> bool:
    """Whether a point cache that is not baked holds valid frames after its start."""
    count, inexact = cached_frames(cache)
    return (
        not _is_read_only(cache)
        and not cache.is_outdated
        and count > 1
        and (inexact is None or inexact > cache.frame_start)
    )


def simulations(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> list[Simulation]:
    """The simulations of a view layer that are not baked.

    Modifiers disabled in the viewport and objects that are not evaluated do not count. Objects that are evaluated but
    not rendered do, since others may collide with them.
    """
    found = list(_rigid_bodies(scene))
    zones: Zones = {}
    of_objects = [item for obj in bpy.data.objects if obj.users for item in _of_object(scene, obj, zones)]
    if of_objects:
        view_layer.update()  # after objects were shown or hidden
        evaluated = {item.original.session_uid for item in view_layer.depsgraph.ids}
        found += [item for item in of_objects if item.owner is not None and item.owner.session_uid in evaluated]
    if has_frame_scripts():
        found.append(Simulation("scripts on frame changes", scene.frame_start, None, keeps_frames=False))
    return found


def _rigid_bodies(scene: bpy.types.Scene) -> Iterator[Simulation]:
    world = scene.rigidbody_world
    if world is None or not world.enabled or world.collection is None or _is_read_only(world.point_cache):
        return
    objects = world.collection.all_objects
    bodies = [obj for obj in objects if obj.rigid_body is not None and obj.rigid_body.type == "ACTIVE"]
    if bodies:
        cache = world.point_cache
        name, times = f"the rigid bodies of '{scene.name}'", scene_frames(scene, cache.frame_start, cache.frame_end)
        yield Simulation(name, *times, bodies[0], cache, cache.frame_start >= FIRST, speed(scene))


def _of_object(scene: bpy.types.Scene, obj: bpy.types.Object, zones: Zones) -> Iterator[Simulation]:
    for name, cache in point_caches(obj):
        if not _is_read_only(cache):
            # Dynamic paint caches only on disk, and not at all if the file was never saved.
            is_paint = any(cache == surface.point_cache for surface in _paint_surfaces(obj))
            keeps = cache.frame_start >= FIRST and not is_paint
            times = scene_frames(scene, cache.frame_start, cache.frame_end)
            yield Simulation(name, *times, obj, cache, keeps, speed(scene))
    for modifier in obj.modifiers:
        if not modifier.show_viewport:
            continue
        if _is_replayed_fluid(modifier):
            domain = modifier.domain_settings
            times = scene_frames(scene, domain.cache_frame_start, domain.cache_frame_end)
            yield Simulation(f"the fluid of '{obj.name}'", *times, obj)
        elif modifier.type == "NODES" and _simulates(obj, modifier, zones):
            first, last = scene.frame_start, scene.frame_end
            if scene.use_custom_simulation_range:
                first, last = scene.simulation_frame_start, scene.simulation_frame_end
            name = f"the simulation '{modifier.name}' of '{obj.name}'"
            yield Simulation(name, *scene_frames(scene, first, last), obj, None, obj.use_simulation_cache)
    if _has_simulating_ik(obj):
        yield Simulation(f"the iTaSC solver of '{obj.name}'", scene.frame_start, None, obj, None, False)


def point_caches(obj: bpy.types.Object) -> Iterator[tuple[str, Any]]:
    """The names, for messages, and point caches of what an object simulates in the viewport."""
    for modifier in obj.modifiers:
        if not modifier.show_viewport:
            continue
        if modifier.type == "CLOTH":
            yield f"the cloth '{obj.name}'", modifier.point_cache
        elif modifier.type == "SOFT_BODY":
            yield f"the soft body '{obj.name}'", modifier.point_cache
        elif modifier.type == "PARTICLE_SYSTEM":
            system = modifier.particle_system
            if system.settings.type == "EMITTER" or system.use_hair_dynamics:
                yield f"the particles '{system.name}' of '{obj.name}'", system.point_cache
    for surface in _paint_surfaces(obj):
        yield f"the dynamic paint '{surface.name}' of '{obj.name}'", surface.point_cache


def _paint_surfaces(obj: bpy.types.Object) -> Iterator[Any]:
    """The dynamic paint surfaces of an object that are simulated."""
    for modifier in obj.modifiers:
        if modifier.type == "DYNAMIC_PAINT" and modifier.show_viewport and modifier.canvas_settings is not None:
            for surface in modifier.canvas_settings.canvas_surfaces:
                if surface.is_active and surface.surface_format == "VERTEX":
                    yield surface


def _is_read_only(cache: Any) -> bool:
    """Whether a point cache is baked or external, so that any frame can be shown."""
    return cache.is_baked or cache.use_external


def _is_replayed_fluid(modifier: Any) -> bool:
    """Whether a modifier is a fluid in replay mode; other fluids show nothing until they are baked."""
    return (
        modifier.type == "FLUID" and modifier.fluid_type == "DOMAIN" and modifier.domain_settings.cache_type == "REPLAY"
    )


def _has_simulating_ik(obj: bpy.types.Object) -> bool:
    pose = obj.pose
    return (
        pose is not None
        and pose.ik_solver == "ITASC"
        and pose.ik_param is not None
        and pose.ik_param.mode == "SIMULATION"
        and any(item.type == "IK" for bone in pose.bones for item in bone.constraints)
    )


def _simulates(obj: bpy.types.Object, modifier: Any, zones: Zones) -> bool:
    """Whether a geometry nodes modifier has a simulation zone that is not baked to disk.

    A bake packed into the file cannot be detected; stepping through it gives the same result as jumping.
    """
    group = modifier.node_group
    return group is not None and has_simulation_zone(group, zones) and not _baked_on_disk(obj, modifier)


def has_simulation_zone(group: bpy.types.NodeTree, zones: Zones) -> bool:
    """Whether a node group or a group nested in it has a simulation zone; `zones` caches the results."""
    known = zones.get(group.session_uid)
    if known is None:
        zones[group.session_uid] = False  # in case the group contains itself
        known = zones[group.session_uid] = any(
            node.bl_idname == "GeometryNodeSimulationOutput"
            or (getattr(node, "node_tree", None) is not None and has_simulation_zone(node.node_tree, zones))
            for node in group.nodes
            if not node.mute
        )
    return known


def _baked_on_disk(obj: bpy.types.Object, modifier: Any) -> bool:
    zones = [bake for bake in modifier.bakes if getattr(bake.node, "bl_idname", "") == "GeometryNodeSimulationOutput"]
    return bool(zones) and all(_has_baked_files(obj, modifier, bake) for bake in zones)


def _has_baked_files(obj: bpy.types.Object, modifier: Any, bake: Any) -> bool:
    folder = bake.directory if bake.use_custom_path else modifier.bake_directory
    if not folder:
        return False
    path = Path(bpy.path.abspath(folder, library=obj.library))
    return any((path if bake.use_custom_path else path / str(bake.bake_id)).glob("meta/*.json"))


class PlayedFrames:
    """Frames of simulations that were played, and the data-blocks whose change would discard them.

    Args:
        keep: whether frames that were played are to be kept. A process that has just opened its file has played none.
    """

    def __init__(self, keep: bool = True) -> None:
        self._keep = keep
        self._played: dict[int, str] = {}  # by session uid of a data-block: whose frames its change discards
        self._hidden: dict[int, str] = {}  # the same for changes of an object's screen icon alone
        self._stepped: dict[int, str] = {}  # by session uid: what its change between frames restarts, played or not
        self._read()

    @property
    def any(self) -> str | None:
        """The name of any simulation with frames to keep, or None."""
        return next(iter(self._played.values()), None)

    def discarded_by(self, block: bpy.types.ID, hiding: bool = False) -> str | None:
        """The name of the simulation whose played frames a change of a data-block would discard, or None.

        `hiding`: only the screen icon (Disable in Viewports) of an object changes.
        """
        return (self._hidden if hiding else self._played).get(block.session_uid)

    def disturbed_by(self, block: bpy.types.ID, hiding: bool = False) -> str | None:
        """The name of the simulation that a change of a data-block between two frames would restart, or None."""
        return self.discarded_by(block, hiding) or self._stepped.get(block.session_uid)

    def _read(self) -> None:
        objects = [obj for obj in bpy.data.objects if obj.users]
        colliding = [obj for obj in objects if _affects_others(obj)]
        zones: Zones = {}
        for obj in objects:
            for name, cache in point_caches(obj):
                if not _is_read_only(cache):
                    played = was_played(cache) and (self._keep or cache.use_disk_cache)
                    self._add([obj, *colliding], name, played)
                    if played and obj.particle_systems:
                        self._hidden[obj.session_uid] = name
            for modifier in obj.modifiers:
                if not modifier.show_viewport:
                    continue
                if modifier.type == "NODES" and _simulates(obj, modifier, zones):
                    name = f"the simulation '{modifier.name}' of '{obj.name}'"
                    self._add(_referred_to(obj), name, self._keep, restarts=False)
                elif _is_replayed_fluid(modifier):
                    self._add([obj, *colliding], f"the fluid of '{obj.name}'", self._keep)
        for scene in bpy.data.scenes:
            self._read_rigid_bodies(scene)

    def _read_rigid_bodies(self, scene: bpy.types.Scene) -> None:
        for simulation in _rigid_bodies(scene):
            world = scene.rigidbody_world
            members = [*world.collection.all_objects, *(world.constraints.all_objects if world.constraints else ())]
            fields = [obj for obj in scene.objects if _is_field(obj)]
            played = was_played(simulation.cache) and (self._keep or simulation.cache.use_disk_cache)
            self._add([*members, *fields], simulation.name, played)
            if played:
                self._hidden.update((obj.session_uid, simulation.name) for obj in members)

    def _add(self, objects: Iterable[bpy.types.Object], name: str, played: bool, restarts: bool = True) -> None:
        """Records objects that a simulation depends on, and whether their change between two frames restarts it."""
        for obj in objects:
            blocks = [obj, *([obj.data] if obj.data is not None else [])]
            for block in [*blocks, *(system.settings for system in obj.particle_systems)]:
                if restarts:
                    self._stepped.setdefault(block.session_uid, name)
                if played:
                    self._played.setdefault(block.session_uid, name)


def _affects_others(obj: bpy.types.Object) -> bool:
    return _is_field(obj) or any(item.type in ("COLLISION", "DYNAMIC_PAINT", "FLUID") for item in obj.modifiers)


def _is_field(obj: bpy.types.Object) -> bool:
    return obj.field is not None and obj.field.type != "NONE"


def _referred_to(obj: bpy.types.Object) -> list[bpy.types.Object]:
    """An object and all objects that it refers to, directly or through other data-blocks."""
    uses: dict[bpy.types.ID, set[bpy.types.ID]] = {}
    for block, users in bpy.data.user_map().items():
        for user in users:
            if not isinstance(user, bpy.types.Scene):
                uses.setdefault(user, set()).add(block)
    found, waiting = {obj}, [obj]
    while waiting:
        for block in uses.get(waiting.pop(), ()):
            if block not in found:
                found.add(block)
                waiting.append(block)
    return [block for block in found if isinstance(block, bpy.types.Object)]
