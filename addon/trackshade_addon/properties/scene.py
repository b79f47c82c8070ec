# SPDX-License-Identifier: GPL-3.0-or-later
"""What an artist sets in the panel; it is saved with the scene."""

# No postponed annotations here: Blender reads the properties from them.
import secrets
import zlib
from typing import Any

import bpy

from trackshade.config import registry
from trackshade.config.registry import ModelSpec
from trackshade.config.settings import ShadeSettings
from trackshade.core.fitting import FRAME_RULES, SIZE_MODES

from .. import backend
from ..capture.given_image import IMAGE
from ..capture.request import ShotRequest, with_size
from ..messages.translations import CONTEXT
from ..placement.options import PlacementOptions
from ..ui.shared import MAY_BE_RELATIVE

_DEFAULTS = ShadeSettings()
_RULES = {
    "auto": ("Automatic", "Keep the range where the model takes it, else spread the model's frames evenly over it"),
    "choose": ("First Frames", "Keep as many of the first frames as the model takes"),
    "step": ("Wider Step", "Widen the step by a whole number, so that only whole frames are taken"),
    "resample": ("Spread", "Spread the model's frames evenly over the range, between whole frames if need be"),
}
_MODES = {
    "pad": ("Whole Frame", "Keep all of the frame; the view is widened to the model's shape, and cut back afterwards"),
    "crop": ("Fill", "Fill the model's shape; what sticks out at the sides of the frame is not shaded"),
}
_MAX_SEED = 2**31 - 1


Items = list[tuple[str, str, str, int]]
_models: dict[tuple[ModelSpec, ...], Items] = {}  # these two: kept for as long as Blender may read them
_sizes: dict[tuple[tuple[int, int], ...], Items] = {}


def _model_items(own: Any, context: bpy.types.Context | None) -> Items:
    specs = backend.models.specs()
    if specs not in _models:
        _models[specs] = [(item.name, item.title, item.licence, _number(item.name)) for item in specs]
    return _models[specs]


def _number(name: str) -> int:
    """What stands for a model in a file: the same whatever other models there are. Mini is 0, the default."""
    return 0 if name == _DEFAULTS.model else zlib.crc32(name.encode()) & 0x7FFFFFFF


def _size_items(own: Any, context: bpy.types.Context | None) -> Items:
    spec = backend.models.spec(own.model)
    sizes = () if spec is None else spec.sizes
    if sizes not in _sizes:
        found = [("auto", "Nearest", "The model's size whose shape is nearest to the frame's", 0)]
        found += [(f"{w}x{h}", f"{w} × {h}", "Pixels of the model's picture", (w << 14) + h) for w, h in sizes]
        _sizes[sizes] = found
    return _sizes[sizes]


def _is_camera(own: Any, obj: bpy.types.Object) -> bool:
    return obj.type == "CAMERA"


class TrackshadeSettings(bpy.types.PropertyGroup):
    """Settings of the next job."""

    # the look
    prompt: bpy.props.StringProperty(
        name="Prompt",
        description="What the video should show: material, light, place, style",
        default=_DEFAULTS.prompt,
        options={"TEXTEDIT_UPDATE"},
    )
    negative_prompt: bpy.props.StringProperty(
        name="Avoid", description="What it should not show; the model's own words where this is empty", default=""
    )
    first_frame: bpy.props.EnumProperty(
        name="First Frame",
        description="What the video starts from and takes its colors and light from",
        items=[
            (
                "render",
                "This Render",
                "Render the first frame with the scene's engine; Blender waits for that one frame",
                0,
            ),
            ("file", "Image", "Take an image file of the first frame, such as a painted-over render", 1),
            ("image", "Image in Blender", "Take an image that is open in Blender, with what was painted on it", 3),
            ("none", "Generated", "Start from the prompt alone", 2),
        ],
        default="render",
        translation_context=CONTEXT,
    )
    look_engine: bpy.props.EnumProperty(
        name="Rendered by",
        description="What renders the first frame where the scene's engine is Trackshade itself",
        items=[
            ("CYCLES", "Cycles", "Path tracing; needs no graphics hardware"),
            ("BLENDER_EEVEE", "EEVEE", "Fast; needs graphics hardware"),
            ("BLENDER_WORKBENCH", "Workbench", "Flat and fast; needs graphics hardware"),
        ],
        default="CYCLES",
    )
    picture: bpy.props.StringProperty(
        name="Image",
        description="Image of the shot's first frame, seen through its camera",
        subtype="FILE_PATH",
        options={"ANIMATABLE", *MAY_BE_RELATIVE},
    )
    image: bpy.props.PointerProperty(
        name="Image in Blender",
        description="Image of the shot's first frame, seen through its camera",
        type=bpy.types.Image,
    )
    model: bpy.props.EnumProperty(name="Model", description="What shades", items=_model_items)
    steps: bpy.props.IntProperty(
        name="Steps",
        description="More steps take longer and come out cleaner; 0 for the model's own number",
        min=0, max=1000, soft_max=100, default=0,
    )  # fmt: skip
    guidance: bpy.props.FloatProperty(
        name="Guidance",
        description="How closely to follow the prompt; 0 for the model's own",
        min=0, max=100, soft_max=15, default=0, precision=1, step=50,
    )  # fmt: skip
    control_scale: bpy.props.FloatProperty(
        name="Motion Strength",
        description="How strictly the video follows the scene's motion; 1 is what the model was made for",
        min=0, max=2, default=_DEFAULTS.control_scale, precision=2, step=5,
    )  # fmt: skip
    control_start: bpy.props.FloatProperty(
        name="Start",
        description="Share of the steps after which the scene's motion begins to count",
        min=0, max=1, default=_DEFAULTS.control_start, subtype="FACTOR",
        update=lambda own, context: own.keep_order("control_start"),
    )  # fmt: skip
    control_end: bpy.props.FloatProperty(
        name="End",
        description="Share of the steps after which the video is free of the scene's motion",
        min=0, max=1, default=_DEFAULTS.control_end, subtype="FACTOR",
        update=lambda own, context: own.keep_order("control_end"),
    )  # fmt: skip
    seed: bpy.props.IntProperty(
        name="Seed",
        description="Another number makes another video of the same scene and prompt",
        min=0, max=_MAX_SEED, default=_DEFAULTS.seed,
    )  # fmt: skip
    seed_lock: bpy.props.BoolProperty(
        name="Lock Seed",
        description="Keep this seed. Unlocked, every job gets a new one, which is shown here afterwards",
        default=False,
    )

    # the shot
    use_range: bpy.props.BoolProperty(
        name="Own Range", description="Shade other frames than the scene's range", default=False
    )
    first: bpy.props.IntProperty(name="First", description="First frame of the shot", default=1)
    last: bpy.props.IntProperty(name="Last", description="Last frame of the shot", default=250)
    step: bpy.props.FloatProperty(
        name="Step", description="Frames from one to the next", default=1, min=0.01, soft_min=1, precision=2, step=100
    )
    frame_rule: bpy.props.EnumProperty(
        name="Fit Frames",
        description="How the range becomes as many frames as the model takes",
        items=[(name, *_RULES[name]) for name in FRAME_RULES],
        default=FRAME_RULES[0],
        translation_context=CONTEXT,
    )
    view_layer: bpy.props.StringProperty(
        name="View Layer",
        description="What is shaded; the active view layer where this is empty",
        translation_context=CONTEXT,
    )
    camera: bpy.props.PointerProperty(
        name="Camera",
        description="Seen through in every frame; where this is empty, the scene's own, as its markers switch it",
        type=bpy.types.Object,
        poll=_is_camera,
    )
    size: bpy.props.EnumProperty(
        name="Size", description="Size of the video in pixels", items=_size_items, translation_context=CONTEXT
    )
    size_mode: bpy.props.EnumProperty(
        name="Fit Frame",
        description="How the frame is laid into the model's, where their shapes differ",
        items=[(name, *_MODES[name]) for name in SIZE_MODES],
        default=SIZE_MODES[0],
        translation_context=CONTEXT,
    )

    glass: bpy.props.EnumProperty(
        name="Glass",
        description="Surfaces that let more than half of the light through and are to be seen themselves",
        items=[
            (
                "opaque",
                "As a Surface",
                "The tracks are those of the glass: its reflections and refractions move with it",
            ),
            ("through", "See Through", "The tracks are those of what is behind the glass"),
        ],
        default="opaque",
        translation_context=CONTEXT,
    )
    hair: bpy.props.EnumProperty(
        name="Hair",
        description="Hair curves, and hair of particle systems that renders as strands",
        items=[
            ("none", "Left Out", "Hair has the tracks of what is behind it"),
            ("strands", "As Strands", "Each strand is a thin tube; the shot can become very large"),
        ],
        default="none",
        translation_context=CONTEXT,
    )

    # placing
    place_as: bpy.props.EnumProperty(
        name="Place",
        description="How the result comes into the scene",
        items=[
            ("both", "Plate and Background", "A plate that renders, and the camera's background image in the viewport"),
            ("plate", "Plate", "A plane before the camera that only the camera sees; it renders"),
            ("background", "Background", "The camera's background image, in the viewport only"),
            ("compositor", "Compositor", "Over the composited picture, just before its output"),
            ("sequencer", "Sequencer", "A strip in the video sequencer, above what is there"),
            (
                "projected",
                "Texture, Projected",
                "On the meshes, frame by frame: each point shows the pixel that the camera saw it in, and a baked "
                "texture where it did not. It sticks to the surface under any camera",
            ),
            (
                "baked",
                "Texture, Baked",
                "On the meshes, as one still texture for each: the median of all frames",
            ),
            (
                "heat",
                "Texture, Heat Map",
                "On the meshes, how much the color of each point varies through time: bright where the shading swims",
            ),
            ("none", "Not", "Only fetch the result into its folder"),
        ],
        default="both",
        translation_context=CONTEXT,
    )
    distance: bpy.props.FloatProperty(
        name="Distance",
        description="Of the plate from the camera; 0 for as near as can be, before everything else",
        min=0, default=0, subtype="DISTANCE", unit="LENGTH",
    )  # fmt: skip
    interpolation: bpy.props.EnumProperty(
        name="Interpolation",
        description="How the plate's pixels are scaled",
        items=[
            ("auto", "Automatic", "Pixel by pixel where the result has the frame's own pixels, else smooth"),
            ("Linear", "Linear", "Smooth"),
            ("Closest", "Closest", "Hard pixels"),
            ("Cubic", "Cubic", "Smoother"),
        ],
        default="auto",
    )

    texture_size: bpy.props.EnumProperty(
        name="Texture Size",
        description="Texels along a side of each mesh's texture",
        items=[
            ("auto", "Automatic", "A little finer than the picture shows the mesh, at most 2048"),
            *((str(side), str(side), "For each mesh") for side in (512, 1024, 2048, 4096, 8192)),
        ],
        default="auto",
    )

    def keep_order(self, changed: str) -> None:
        """The start is never after the end."""
        if self.control_start > self.control_end:
            other = "control_end" if changed == "control_start" else "control_start"
            setattr(self, other, getattr(self, changed))

    def what(self, view_layer: str) -> ShotRequest:
        """What of the scene becomes the shot."""
        picture = self.first_frame
        if picture == "file":
            picture = bpy.path.abspath(self.picture)
        elif picture == "image":
            picture = "" if self.image is None else f"{IMAGE}{self.image.name}"
        width, _, height = self.size.partition("x")
        return ShotRequest(
            model=self.model or _DEFAULTS.model,
            camera=self.camera.name if self.camera is not None and self.camera.name in self.id_data.objects else None,
            frames=(float(self.first), float(self.last), self.step) if self.use_range else (None, None, None),
            frame_rule=self.frame_rule,
            size_mode=self.size_mode,
            size=(int(width), int(height)) if height else None,
            view_layer=self.view_layer if self.view_layer in self.id_data.view_layers else view_layer,
            first_frame=picture,
            glass=self.glass,
            hair=self.hair,
        )

    def settings(self) -> ShadeSettings:
        """How it is shaded."""
        return ShadeSettings(
            model=self.model or _DEFAULTS.model,
            prompt=self.prompt,
            negative_prompt=self.negative_prompt or None,
            steps=self.steps or None,
            guidance=self.guidance or None,
            seed=self.seed,
            control_scale=round(self.control_scale, 4),  # a float of Blender's has seven digits
            control_start=round(self.control_start, 4),
            control_end=round(self.control_end, 4),
        )

    def placing(self) -> PlacementOptions:
        """How the result comes into the scene."""
        return PlacementOptions(
            None if self.place_as == "none" else self.place_as,
            self.distance or None,
            None if self.interpolation == "auto" else self.interpolation,
            None if self.texture_size == "auto" else int(self.texture_size),
        )

    def new_seed(self) -> None:
        """Another seed, unless it is locked."""
        if not self.seed_lock:
            self.seed = secrets.randbelow(_MAX_SEED)

    def take(self, what: ShotRequest, settings: ShadeSettings) -> None:
        """Becomes what a job was made with.

        Raises ModelError, UsageError where its model, or that size of it, is not there any more; nothing is changed
        then.
        """
        with_size(registry.spec(settings.model), what.size)
        self.model = settings.model
        self.prompt, self.negative_prompt = settings.prompt, settings.negative_prompt or ""
        self.steps, self.guidance = settings.steps or 0, settings.guidance or 0
        self.control_start, self.control_end = 0, 1  # which makes room for any order
        self.control_end, self.control_start = settings.control_end, settings.control_start
        self.control_scale = settings.control_scale
        self.seed, self.seed_lock = settings.seed, True
        if what.first_frame in ("render", "none"):
            self.first_frame = what.first_frame
        elif what.first_frame.startswith(IMAGE):
            self.first_frame, self.image = "image", bpy.data.images.get(what.first_frame.removeprefix(IMAGE))
        else:
            self.first_frame, self.picture = "file", what.first_frame
        self.use_range = what.frames[0] is not None
        if what.frames[0] is not None and what.frames[1] is not None and what.frames[2] is not None:
            self.first, self.last, self.step = int(what.frames[0]), int(what.frames[1]), what.frames[2]
        self.frame_rule, self.size_mode = what.frame_rule, what.size_mode
        self.glass, self.hair = what.glass, what.hair
        self.size = "auto" if what.size is None else f"{what.size[0]}x{what.size[1]}"
        self.view_layer = what.view_layer or ""
        self.camera = None if what.camera is None else self.id_data.objects.get(what.camera)


def attach() -> None:
    """Gives every scene its settings."""
    bpy.types.Scene.trackshade = bpy.props.PointerProperty(type=TrackshadeSettings)


def detach() -> None:
    del bpy.types.Scene.trackshade


CLASSES = (TrackshadeSettings,)
