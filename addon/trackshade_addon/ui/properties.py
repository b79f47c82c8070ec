# SPDX-License-Identifier: GPL-3.0-or-later
"""What an artist sets in the panel; it is saved with the scene."""

# No postponed annotations here: Blender reads the properties from them.
import bpy

from trackshade import registry
from trackshade.fit import FRAME_RULES, SIZE_MODES
from trackshade.settings import ShadeSettings

from ..job import What

_DEFAULTS = ShadeSettings()
_RULES = {
    "auto": "Keep the range where it fits, else resample it",
    "choose": "Keep the first frames that the model takes",
    "step": "Widen the step by a whole factor",
    "resample": "Spread the model's frames evenly over the range",
}
_MODES = {"pad": "Widen the view until it has the model's aspect", "crop": "Cut the frame to the model's aspect"}


class TrackshadeSettings(bpy.types.PropertyGroup):
    """Settings of the next job."""

    model: bpy.props.EnumProperty(
        name="Model",
        items=[(item.name, item.title, item.licence) for item in registry.models()],
        default=_DEFAULTS.model,
    )
    prompt: bpy.props.StringProperty(name="Prompt", description="What to show", default=_DEFAULTS.prompt)
    negative_prompt: bpy.props.StringProperty(
        name="Avoid", description="What to avoid; the model's own if left empty", default=""
    )
    seed: bpy.props.IntProperty(name="Seed", description="Of the noise", min=0, default=_DEFAULTS.seed)
    steps: bpy.props.IntProperty(
        name="Steps", description="Denoising steps; 0 for the model's own number", min=0, max=1000, default=0
    )
    guidance: bpy.props.FloatProperty(
        name="Guidance", description="Classifier-free guidance; 0 for the model's own", min=0, max=100, default=0
    )
    first_frame: bpy.props.EnumProperty(
        name="First Frame",
        items=[
            ("render", "Render", "Render it with the scene's engine; Blender waits for that one frame"),
            ("file", "Picture", "Take a picture file"),
            ("none", "None", "Go without; the prompt alone says what to show"),
        ],
        default="render",
    )
    picture: bpy.props.StringProperty(name="Picture", description="First frame", subtype="FILE_PATH")
    frame_rule: bpy.props.EnumProperty(
        name="Frames", items=[(name, name.title(), _RULES[name]) for name in FRAME_RULES], default=FRAME_RULES[0]
    )
    size_mode: bpy.props.EnumProperty(
        name="Size", items=[(name, name.title(), _MODES[name]) for name in SIZE_MODES], default=SIZE_MODES[0]
    )

    def what(self, view_layer: str) -> What:
        """What of the scene becomes the shot."""
        picture = bpy.path.abspath(self.picture) if self.first_frame == "file" else self.first_frame
        return What(
            model=self.model,
            frame_rule=self.frame_rule,
            size_mode=self.size_mode,
            view_layer=view_layer,
            first_frame=picture,
        )

    def settings(self) -> ShadeSettings:
        """How it is shaded."""
        return ShadeSettings(
            model=self.model,
            prompt=self.prompt,
            negative_prompt=self.negative_prompt or None,
            steps=self.steps or None,
            guidance=self.guidance or None,
            seed=self.seed,
        )


def attach() -> None:
    """Gives every scene its settings."""
    bpy.types.Scene.trackshade = bpy.props.PointerProperty(type=TrackshadeSettings)


def detach() -> None:
    del bpy.types.Scene.trackshade


CLASSES = (TrackshadeSettings,)
