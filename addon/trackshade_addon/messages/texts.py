# SPDX-License-Identifier: GPL-3.0-or-later
"""What the panel says, in an artist's words and in Blender's language.

Sentences that are put together here go through `tr`, so that a translation of the pattern is found before its gaps are
filled. What the job path raises speaks to people at a command line too; where its way out is an option of a command,
`told` names the panel's setting instead.
"""

from __future__ import annotations

import bpy

from trackshade.client.progress import Progress
from trackshade.core.errors import TrackshadeError

from .translations import CONTEXT

_STATES = {
    "planning": "Planning",
    "capturing": "Capturing the scene",
    "stepping": "Stepping the simulation",
    "rendering": "Rendering",
    "starting": "Starting the backend",
    "sending": "Sending the shot",
    "queued": "Waiting for its turn",
    "loading": "Loading",
    "running": "Shading",
    "decoding": "Decoding the frames",
    "fetching": "Fetching the result",
    "baking": "Baking the textures",
    "placing": "Placing the result",
    "done": "Done",
    "failed": "Failed",
    "cancelled": "Cancelled",
}
_SAID_ALREADY = ("starting", "decoding", "fetching", "planning")  # states whose details add nothing in a line

# The way out in Blender, by the error's code, of errors whose own speaks of options or commands.
FIXES = {
    "no-camera": "Press Add Framing Camera, or choose a camera under Shot.",
    "nothing-visible": "Point the camera at the scene and check its clip distances, or press Add Framing Camera.",
    "render-failed": "Choose another render engine, or set First Frame to Image under Look.",
    "output-exists": "Choose another folder for the results in the add-on's preferences.",
    "output-not-ours": "Choose another folder for the results in the add-on's preferences.",
    "incomplete-scene": "Use File > External Data > Find Missing Files, or open the file with Trust Source.",
    "no-animations": "Open the file without choosing an animation.",
    "missing-weights": "Fetch the model under Models.",
    "unknown-device": "Choose another device in the add-on's preferences.",
    "backend-incomplete": "Press Set Up under Backend, or choose another Python in the add-on's preferences.",
    "backend-unreachable": "Start it in the Backend panel, or empty its address in the add-on's preferences.",
}


def tr(text: str, **values: object) -> str:
    """A sentence in Blender's language, its gaps filled."""
    return bpy.app.translations.pgettext_iface(text, CONTEXT).format(**values)


def fix_of(error: TrackshadeError) -> str | None:
    """What to do about an error, as the panel says it."""
    fix = error.fix
    if fix is None or not speaks_of_commands(fix):
        return fix
    found = FIXES.get(error.code)
    return None if found is None else tr(found)


def speaks_of_commands(text: str) -> bool:
    return "--" in text or "`" in text


def told(error: TrackshadeError) -> str:
    """An error as the panel says it."""
    fix = fix_of(error)
    return error.message if fix is None else f"{error.message} {fix}"


def state_name(state: str) -> str:
    return tr(_STATES.get(state, state.capitalize()))


def headline(progress: Progress, seconds_left: float | None = None) -> str:
    """Where a job is, in one line."""
    words = state_name(progress.state)
    held = progress.state == "rendering" and not progress.waits  # by what this very Blender renders
    if held:
        words = tr("Blender waits: rendering {what}", what=progress.message)
    if progress.state == "stepping":
        words = tr("{state}, frame {step} of {steps}", state=words, step=progress.step, steps=progress.steps)
    elif progress.step is not None and progress.steps is not None:
        words = tr("{state}, {step} of {steps}", state=words, step=progress.step, steps=progress.steps)
    elif progress.message and progress.state not in _SAID_ALREADY and not held:
        words = tr("{state}: {detail}", state=words, detail=progress.message.partition("\n")[0])
    if seconds_left is not None:
        words = tr("{state}, {time} left", state=words, time=duration(seconds_left))
    return words


def duration(seconds: float) -> str:
    """About how long, in words."""
    if seconds < 55:
        return tr("{count} s", count=max(1, round(seconds)))
    if seconds < 3570:
        return tr("{count} min", count=max(1, round(seconds / 60)))
    return tr("{hours} h {minutes} min", hours=int(seconds // 3600), minutes=int(seconds % 3600 // 60))
