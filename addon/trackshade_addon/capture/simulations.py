# SPDX-License-Identifier: GPL-3.0-or-later
"""Which state of a scene comes from the frame before, and what would discard frames of it that were played.

Rigid bodies, cloth, soft bodies, particles, dynamic paint, fluids that are replayed, simulation zones of geometry nodes
and the iTaSC solver's simulation derive a frame from the one before. Where they are not baked, a frame is right only if
every whole frame from their start was evaluated. Scripts that run on frame changes may keep such a state, too.

What holds of Blender 4.2 to 5.3, by experiment:

- Point caches are shared by all evaluations of a scene, but only the viewport's simulates rigid bodies, soft bodies and
  simulation zones; that of a render reads the frames that the viewport has simulated.
- A jump past the last frame of a point cache makes one large step, and its result stays in the cache, whose `info` then
  says since which frame it is not exact. Tagging the object while the scene is at the cache's start empties the cache.
- To go on from the last frame of a point cache is exact. Once its start was passed again, Blender takes further frames
  for inexact, and discards all that follow an earlier one as soon as that is shown. Showing the start again keeps them.
- A change of any property of an object but its eye marks its point cache as outdated, and so does a change of a
  colliding object or a force field, and of any member of a rigid body world; the played frames are then gone. Values
  that are set back do not bring them back. A baked cache is not affected.
- Point caches, fluids and simulation zones count frames of the time that Time Stretching makes of the scene's frames.
- A simulation zone keeps its frames after such a change, of its own object or one that its nodes refer to, until the
  start is passed the next time; then they are computed anew. Python cannot ask which frames it has.
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

Zones = dict[int, bool]  # by session number of a node group, whether it has a simulation zone
FIRST = 1  # first frame that point caches hold: those before it are simulated, but not kept
_PARENTHESES = re.compile(r"[(\uff08][^)\uff09]*[)\uff09]")


@dataclass(frozen=True, eq=False)
class Simulation:
    """State that comes from the frame before and is not baked.

    Attributes:
        name: of what has it, for messages.
        start: whole frame of the scene in which it begins.
        end: whole frame of the scene after which nothing changes any more; None if it never ends.
        owner: original object that has it, or one of the bodies of a rigid body world; None for scripts.
        cache: its point cache, if it has one.
        keeps_frames: whether a frame that was passed can be shown again.
        speed: frames of its cache in a frame of the scene.
    """

    name: str
    start: int
    end: int | None
    owner: bpy.types.Object | None = None
    cache: Any = None
    keeps_frames: bool = True
    speed: float = 1.0

    def reach(self) -> int:
        """The last whole frame of the scene up to which all are known to be simulated and valid; before the start if
        none is.
        """
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
        """Whether a jump to a frame is right: what it depends on is simulated, or nothing is before the start."""
        return frame < self.start or self.reach() >= (frame if self.end is None else min(frame, self.end))

    def holds_frames(self) -> bool:
        """Whether its point cache holds more than the start, valid or not."""
        return self.cache is not None and cached_frames(self.cache)[0] > 1


def cached_frames(cache: Any) -> tuple[int, int | None]:
    """How many frames a point cache holds, and the frame after which they are not exact (None: all are).

    Only the cache's `info`, a sentence in the interface's language, tells: "8 frames in memory (4 KiB), not exact
    since frame 5".
    """
    numbers = [int(number) for number in re.findall(r"-?\d+", _PARENTHESES.sub("", cache.info))]
    return (numbers[0] if numbers else 0), (numbers[1] if len(numbers) > 1 else None)


def kept_on_disk(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> list[str]:
    """Names of the simulations that are not baked and write each new frame beside the file."""
    if not bpy.data.filepath:
        return []
    found = (item for item in simulations(scene, view_layer) if item.cache is not None and item.cache.use_disk_cache)
    return sorted({item.name for item in found})


def speed(scene: bpy.types.Scene) -> float:
    """Frames that animation and simulations go on by in one frame of the scene: 1 without Time Stretching."""
    return scene.render.frame_map_old / scene.render.frame_map_new


def scene_frames(scene: bpy.types.Scene, first: int, last: int) -> tuple[int, int]:
    """The whole frames of a scene in which the frames `first` to `last` of its stretched time are passed.

    Where the time runs faster, the first one may be passed by: then it is the frame after that, from which on Blender
    plays. Where it runs slower, `last` is shown until the frame after it.
    """
    rate = speed(scene)
    start = first / rate
    end = max(math.ceil(last / rate), math.ceil((last + 1) / rate) - 1)
    return (math.ceil(start) if rate > 1 else math.floor(start)), end


def was_played(cache: Any) -> bool:
    """Whether a point cache holds frames that are worth keeping."""
    count, inexact = cached_frames(cache)
    return (
        not _is_settled(cache)
        and not cache.is_outdated
        and count > 1
        and (inexact is None or inexact > cache.frame_start)
    )


def simulations(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> list[Simulation]:
    """What the evaluation of a view layer derives from the frame before, as far as it is not baked.

    Modifiers that are switched off in the viewport do not count, nor do objects that are not evaluated; objects that
    are evaluated and not rendered do, since others may collide with them.
    """
    found = list(_rigid_bodies(scene))
    zones: Zones = {}
    of_objects = [item for obj in bpy.data.objects if obj.users for item in _of_object(scene, obj, zones)]
    if of_objects:
        view_layer.update()  # what was shown or hidden since is not in the evaluation yet
        evaluated = {item.original.session_uid for item in view_layer.depsgraph.ids}
        found += [item for item in of_objects if item.owner is not None and item.owner.session_uid in evaluated]
    if has_frame_scripts():
        found.append(Simulation("scripts on frame changes", scene.frame_start, None, keeps_frames=False))
    return found


def _rigid_bodies(scene: bpy.types.Scene) -> Iterator[Simulation]:
    world = scene.rigidbody_world
    if world is None or not world.enabled or world.collection is None or _is_settled(world.point_cache):
        return
    objects = world.collection.all_objects
    bodies = [obj for obj in objects if obj.rigid_body is not None and obj.rigid_body.type == "ACTIVE"]
    if bodies:
        cache = world.point_cache
        name, times = f"the rigid bodies of '{scene.name}'", scene_frames(scene, cache.frame_start, cache.frame_end)
        yield Simulation(name, *times, bodies[0], cache, cache.frame_start >= FIRST, speed(scene))


def _of_object(scene: bpy.types.Scene, obj: bpy.types.Object, zones: Zones) -> Iterator[Simulation]:
    for name, cache in point_caches(obj):
        if not _is_settled(cache):
            # Dynamic paint caches on the disk only, and nothing where the file was never saved.
            painted = any(cache == surface.point_cache for surface in _painted(obj))
            keeps = cache.frame_start >= FIRST and not painted
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
    """Names for messages and point caches of what an object simulates in the viewport."""
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
    for surface in _painted(obj):
        yield f"the dynamic paint '{surface.name}' of '{obj.name}'", surface.point_cache


def _painted(obj: bpy.types.Object) -> Iterator[Any]:
    """The surfaces of dynamic paint that an object has, as far as they are simulated."""
    for modifier in obj.modifiers:
        if modifier.type == "DYNAMIC_PAINT" and modifier.show_viewport and modifier.canvas_settings is not None:
            for surface in modifier.canvas_settings.canvas_surfaces:
                if surface.is_active and surface.surface_format == "VERTEX":
                    yield surface


def _is_settled(cache: Any) -> bool:
    """Whether a point cache is only read: then a jump to any frame is right."""
    return cache.is_baked or cache.use_external


def _is_replayed_fluid(modifier: Any) -> bool:
    """Whether a modifier is a fluid that is simulated as the scene is played; others show nothing until baked."""
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
    """Whether a geometry nodes modifier has a simulation zone that is not baked to the disk.

    Nothing tells of a bake that is packed into the file. To step through one is as right as to jump.
    """
    group = modifier.node_group
    return group is not None and has_simulation_zone(group, zones) and not _baked_on_disk(obj, modifier)


def has_simulation_zone(group: bpy.types.NodeTree, zones: Zones) -> bool:
    """Whether a node group has a simulation zone, in nested groups as well. `zones` remembers the answers."""
    known = zones.get(group.session_uid)
    if known is None:
        zones[group.session_uid] = False  # for a group that is nested in itself
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
    """Simulated frames in memory, and the data blocks whose change would discard them or disturb a simulation.

    Args:
        keep: whether frames that were played are kept. A process that has only just opened its file has played none.
    """

    def __init__(self, keep: bool = True) -> None:
        self._keep = keep
        self._played: dict[int, str] = {}  # by session number of a data block: whose frames its change discards
        self._hidden: dict[int, str] = {}  # the same where an object's screen icon alone does
        self._stepped: dict[int, str] = {}  # what is simulated now, played or not
        self._read()

    @property
    def any(self) -> str | None:
        """The name of some simulation with frames to be kept, or None."""
        return next(iter(self._played.values()), None)

    def discarded_by(self, block: bpy.types.ID, hiding: bool = False) -> str | None:
        """Whose played frames a change of a data block discards; None: nobody's.

        Args:
            hiding: the change is that of an object's screen icon.
        """
        return (self._hidden if hiding else self._played).get(block.session_uid)

    def disturbed_by(self, block: bpy.types.ID, hiding: bool = False) -> str | None:
        """What a change of a data block between two frames would start anew; None: nothing."""
        return self.discarded_by(block, hiding) or self._stepped.get(block.session_uid)

    def _read(self) -> None:
        objects = [obj for obj in bpy.data.objects if obj.users]
        colliding = [obj for obj in objects if _acts_on_others(obj)]
        zones: Zones = {}
        for obj in objects:
            for name, cache in point_caches(obj):
                if not _is_settled(cache):
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
        """Notes objects on which a simulation depends; `restarts`: a change between two frames starts it anew."""
        for obj in objects:
            blocks = [obj, *([obj.data] if obj.data is not None else [])]
            for block in [*blocks, *(system.settings for system in obj.particle_systems)]:
                if restarts:
                    self._stepped.setdefault(block.session_uid, name)
                if played:
                    self._played.setdefault(block.session_uid, name)


def _acts_on_others(obj: bpy.types.Object) -> bool:
    return _is_field(obj) or any(item.type in ("COLLISION", "DYNAMIC_PAINT", "FLUID") for item in obj.modifiers)


def _is_field(obj: bpy.types.Object) -> bool:
    return obj.field is not None and obj.field.type != "NONE"


def _referred_to(obj: bpy.types.Object) -> list[bpy.types.Object]:
    """An object and all objects that it refers to in some way, directly or through other data blocks."""
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
