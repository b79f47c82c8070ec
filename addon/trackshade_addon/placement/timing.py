# SPDX-License-Identifier: GPL-3.0-or-later
"""Which picture a rendered frame shows, also where the scene's time is stretched.

Blender evaluates frame f at the time f * Old / New of Output Properties > Frame Range > Time Stretching. That time
drives F-curves, the `frame` of driver expressions, the markers that switch cameras, and the image sequences of the
viewport, EEVEE and Workbench. Cycles, the compositor and the sequencer choose pictures by the frame number f itself.
The samples of a shot are frame numbers, so everything that shows a result is tied to the frame number here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import bpy

from ..capture.animation import is_stretched, whole_time
from .sequence import Sequence

_EARLIEST = -1_000_000  # a start frame before every time that a scene can have


def follow_frames(holder: Any, path: str, values: Mapping[int, float]) -> None:
    """Drives a property by the number of the frame that is evaluated, in whichever scene that is.

    Args:
        holder: the structure that has the property.
        path: name of the property.
        values: by frame number, the value from that frame until the next one given. The first value also holds before
            its frame, the last one after it.
    """
    curve = holder.driver_add(path)
    for modifier in list(curve.modifiers):  # a new driver has one up to Blender 4.5, which would hide the keys
        curve.modifiers.remove(modifier)
    curve.keyframe_points.clear()
    curve.extrapolation = "CONSTANT"
    driver = curve.driver
    variable = driver.variables.new()
    variable.name, variable.type = "number", "CONTEXT_PROP"
    variable.targets[0].context_property = "ACTIVE_SCENE"
    variable.targets[0].data_path = "frame_current"
    driver.expression = "number"
    keys: list[tuple[int, float]] = []
    for frame, value in sorted(values.items()):
        if not keys or value != keys[-1][1]:
            keys.append((frame, value))
    curve.keyframe_points.add(len(keys))
    curve.keyframe_points.foreach_set("co", [float(number) for key in keys for number in key])
    for point in curve.keyframe_points:
        point.interpolation = "CONSTANT"
    curve.update()


def forget_drivers(block: Any) -> None:
    """Takes what is left of removed drivers from a data block that is not animated otherwise."""
    data = block.animation_data
    if data is not None and data.action is None and not data.drivers and not data.nla_tracks:
        block.animation_data_clear()


def play(user: Any, sequence: Sequence) -> None:
    """Has an image user show the sequence by frame numbers, for users that Blender plays by them.

    Args:
        user: an image user, or an image node of the compositor.
    """
    user.frame_start = sequence.start
    user.frame_duration = sequence.duration
    user.frame_offset = sequence.offset
    user.use_cyclic = False
    user.use_auto_refresh = True


def play_anywhere(user: bpy.types.ImageUser, sequence: Sequence, scene: bpy.types.Scene) -> None:
    """The same for an image user that some engines play by frame numbers and others by the stretched time.

    Where the scene's time is stretched, the image user holds one picture, which a driver chooses by the frame number.
    """
    play(user, sequence)
    if is_stretched(scene):
        user.frame_start, user.frame_duration = _EARLIEST, 1
        offsets = {sequence.start + at: sequence.offset + at for at in range(sequence.duration)}
        follow_frames(user, "frame_offset", offsets)


def play_by_time(user: bpy.types.ImageUser, sequence: Sequence, scene: bpy.types.Scene) -> None:
    """The same for the image user of a background image, which the viewport plays by the whole part of the time, and
    shows in the image user's own range only.
    """
    play(user, sequence)
    if is_stretched(scene):
        frames = range(sequence.start, sequence.end + 1)
        times = [whole_time(scene, frame) for frame in frames]
        user.frame_start, user.frame_duration = times[0], times[-1] - times[0] + 1
        behind = {frame: (frame - frames[0]) - (time - times[0]) for frame, time in zip(frames, times, strict=True)}
        follow_frames(user, "frame_offset", {frame: sequence.offset + by for frame, by in behind.items()})
