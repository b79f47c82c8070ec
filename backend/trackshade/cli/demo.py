# SPDX-License-Identifier: GPL-3.0-or-later
"""`trackshade demo`: builds a small scene and renders it as anybody would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trackshade.cli.blender import OnMessage, run_addon
from trackshade.config import options

PROMPT = (
    "a large red and white checked ball hopping, a blue and yellow striped cube tumbling and a green torus gliding "
    "on a checked grey floor, the camera circles"
)


def demo(folder: Path, blender: str | None, on_message: OnMessage) -> dict[str, Any]:
    """Makes `folder/demo.blend` and `folder/shaded`, replacing those of an earlier time; what was made."""
    scene = folder / "demo.blend"
    on_message({"state": "building", "message": "the demonstration scene"})
    run_addon(options.arguments("scene", {"out": str(scene), "force": True}), blender, on_message)
    values = {"scene": str(scene), "prompt": PROMPT, "input_render": True, "out": str(folder / "shaded"), "force": True}
    result = run_addon(options.arguments("render", values), blender, on_message)
    return {**result, "files": {"demo": str(scene.absolute()), **result["files"]}}
