# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of a scene: what the user sets in the panel, saved with the scene."""

# No postponed annotations here: Blender reads the properties from them.
import math
import secrets
import zlib
from collections.abc import Callable
from typing import Any

import bpy

from trackshade.config import registry
from trackshade.config.model_spec import ModelSpec
from trackshade.config.settings import ShadeSettings

from ..capture.given_image import IMAGE
from ..capture.request import ShotRequest
from ..messages.translations import CONTEXT
from . import choices
from .placement_options import PlacementOptions
from .preferences import path_property

_DEFAULTS = ShadeSettings()
_MAX_SEED = 2**31 - 1
SPLATS = 200_000  # where splats are placed, unless another number is set
FIRST_FRAME_DESCRIPTION = "Image that the video starts from and takes its colors and light from"
find_specs: Callable[[], tuple[ModelSpec, ...]] = registry.models  # registration sets a faster source
Items = list[tuple[str, str, str, int]]
_model_items: dict[tuple[ModelSpec, ...], Items] = {}  # these two are kept, since Blender may still read the strings
_size_items: dict[tuple[tuple[int, int], ...], Items] = {}


def _get_model_items(settings: Any, context: bpy.types.Context | None) -> Items:
    specs = find_specs()
    if specs not in _model_items:
        _model_items[specs] = [(item.name, item.title, item.license, _model_number(item.name)) for item in specs]
    return _model_items[specs]


def _model_number(name: str) -> int:
    """Returns the number that stands for a model in a file, whatever other models there are. The default is 0."""
    return 0 if name == _DEFAULTS.model else zlib.crc32(name.encode()) & 0x7FFFFFFF


def _get_size_items(settings: Any, context: bpy.types.Context | None) -> Items:
    sizes = next((spec.sizes for spec in find_specs() if spec.name == settings.model), ())
    if sizes not in _size_items:
        items: Items = [("auto", "Nearest", "The size whose aspect ratio is nearest to that of the frame", 0)]
        items += [(f"{w}x{h}", f"{w} × {h}", "Size of the model's image in pixels", (w << 14) + h) for w, h in sizes]
        _size_items[sizes] = items
    return _size_items[sizes]


def _enum(name: str, description: str, items: list[Any], **options: Any) -> Any:
    """Returns an enum property whose default is its first item and whose labels have a translation context."""
    options = {"default": items[0][0], "translation_context": CONTEXT, **options}
    return bpy.props.EnumProperty(name=name, description=description, items=items, **options)


class TrackshadeKeyPicture(bpy.types.PropertyGroup):
    """A key picture: what the scene looks like in one frame."""

    enabled: bpy.props.BoolProperty(name="Use", description="Carry this picture to all frames", default=True)
    frame: bpy.props.IntProperty(name="Frame", description="Scene frame that the picture shows", default=1)
    source: _enum("Picture", "Where the picture is", choices.KEY_SOURCES)
    path: path_property("Image", "Image of this frame, as the shot's camera sees it")
    image: bpy.props.PointerProperty(
        name="Image", description="Image of this frame, as the shot's camera sees it", type=bpy.types.Image
    )
    camera: bpy.props.PointerProperty(
        name="Camera",
        description="Camera of the picture, if the shot has several. Leave empty for the first one",
        type=bpy.types.Object,
        poll=lambda key, obj: obj.type == "CAMERA",
    )

    @property
    def picture(self) -> str:
        """The picture, as `ShotRequest.keys` names it; "" if none was chosen."""
        if self.source == "file":
            return bpy.path.abspath(self.path) if self.path else ""
        return "" if self.image is None else f"{IMAGE}{self.image.name}"

    def set_picture(self, picture: str) -> None:
        """Set where the picture is, from how `ShotRequest.keys` names it."""
        if picture.startswith(IMAGE):
            self.source, self.image = "image", bpy.data.images.get(picture.removeprefix(IMAGE))
        else:
            self.source, self.path = "file", picture


class TrackshadeCamera(bpy.types.PropertyGroup):
    """A camera of a shot with several cameras."""

    enabled: bpy.props.BoolProperty(name="Use", description="Shade the shot through this camera", default=True)
    camera: bpy.props.PointerProperty(
        name="Camera", description="Camera", type=bpy.types.Object, poll=lambda item, obj: obj.type == "CAMERA"
    )


class TrackshadeSettings(bpy.types.PropertyGroup):
    """Settings of the next job."""

    # look
    prompt: bpy.props.StringProperty(
        name="Prompt",
        description="What the video should show: material, light, place, style",
        default=_DEFAULTS.prompt,
        options={"TEXTEDIT_UPDATE"},
    )
    negative_prompt: bpy.props.StringProperty(
        name="Negative Prompt", description="What the video should not show. Leave empty for the model's default"
    )
    first_frame: _enum("First Frame", FIRST_FRAME_DESCRIPTION, choices.FIRST_FRAMES)
    look_engine: _enum("Render Engine", "Engine that renders the first frame", choices.LOOK_ENGINES)
    picture: path_property("Image", "Image of the first frame of the shot, as its camera sees it")
    image: bpy.props.PointerProperty(
        name="Image", description="Image of the first frame of the shot, as its camera sees it", type=bpy.types.Image
    )
    image_model: _enum(
        "Image Model",
        "Image model that paints the first frame from the prompt and the depth of the scene. It starts from the first "
        "frame, if there is one. Image models need a GPU",
        choices.IMAGE_MODELS,
    )
    image_family: _enum("Family", "Family of models that the checkpoint belongs to", choices.IMAGE_FAMILIES)
    image_checkpoint: path_property("Checkpoint", "Folder in diffusers' layout, or .safetensors file")
    image_strength: bpy.props.FloatProperty(
        name="Strength",
        description="How far the image model changes the first frame: 0 not at all, 1 as if there was none",
        min=0,
        max=1,
        default=_DEFAULTS.strength,
        subtype="FACTOR",
    )
    lora: path_property("LoRA", "LoRA file of the image model (.safetensors)")
    lora_strength: bpy.props.FloatProperty(
        name="LoRA Strength", description="Strength of the LoRA", min=0, max=2, default=1
    )
    stills: bpy.props.IntProperty(
        name="Stills", description="Number of stills to choose from", min=1, max=64, default=_DEFAULTS.stills
    )
    keys: bpy.props.CollectionProperty(type=TrackshadeKeyPicture)
    active_key: bpy.props.IntProperty(name="Key Picture", description="Key picture that is edited below the list")
    model: bpy.props.EnumProperty(name="Model", description="Model that shades the shot", items=_get_model_items)
    steps: bpy.props.IntProperty(
        name="Steps",
        description="Number of denoising steps. More steps take longer and give cleaner results. 0 uses the model's "
        "default",
        min=0,
        max=1000,
        soft_max=100,
    )
    guidance: bpy.props.FloatProperty(
        name="Guidance",
        description="How closely the video follows the prompt. 0 uses the model's default",
        min=0,
        max=100,
        soft_max=15,
        precision=1,
        step=50,
    )
    control_scale: bpy.props.FloatProperty(
        name="Motion Strength",
        description="How strictly the video follows the motion of the scene. The model was trained with 1",
        min=0,
        max=2,
        default=_DEFAULTS.control_scale,
        precision=2,
        step=5,
    )
    control_start: bpy.props.FloatProperty(
        name="Motion Start",
        description="Fraction of the steps from which on the video follows the motion of the scene",
        min=0,
        max=1,
        default=_DEFAULTS.control_start,
        subtype="FACTOR",
        update=lambda settings, context: settings.keep_order("control_start"),
    )
    control_end: bpy.props.FloatProperty(
        name="Motion End",
        description="Fraction of the steps after which the video no longer follows the motion of the scene",
        min=0,
        max=1,
        default=_DEFAULTS.control_end,
        subtype="FACTOR",
        update=lambda settings, context: settings.keep_order("control_end"),
    )
    seed: bpy.props.IntProperty(
        name="Seed",
        description="Another seed gives another video of the same scene and prompt",
        min=0,
        max=_MAX_SEED,
        default=_DEFAULTS.seed,
    )
    seed_lock: bpy.props.BoolProperty(
        name="Lock Seed", description="Keep the seed. If disabled, every job gets a new one, which is shown here"
    )

    # shot
    use_range: bpy.props.BoolProperty(name="Custom Range", description="Use another frame range than the scene's")
    first: bpy.props.IntProperty(name="Frame Start", description="First frame of the shot", default=1)
    last: bpy.props.IntProperty(name="End", description="Last frame of the shot", default=250)
    step: bpy.props.FloatProperty(
        name="Step",
        description="Number of frames from one sample to the next; fractions give subframes",
        default=1,
        min=0.01,
        soft_min=1,
        precision=2,
        step=100,
    )
    frame_rule: _enum(
        "Frame Sampling", "Which frames the model sees if it does not take all of them", choices.FRAME_RULES
    )
    key_pictures: _enum("Source", "Images that all frames are made from, along the tracks", choices.KEY_PICTURES)
    output_size: _enum("Output", "Frames of the result", choices.OUTPUT_SIZES)
    image_format: _enum("File Format", "Image files of the result's frames", choices.IMAGE_FORMATS)
    alpha: bpy.props.BoolProperty(
        name="Alpha", description="Give the frames an alpha channel: how much of a pixel tracked surfaces cover"
    )
    light: _enum("Light", "What tells how the light on surfaces changes", choices.LIGHTS)
    splats: bpy.props.IntProperty(
        name="Splats",
        description="Number of Gaussian splats that are made of the result, for any camera to look at. 0 for none",
        min=0,
        max=2_000_000,
        soft_max=500_000,
        step=10_000,
    )
    view_layer: bpy.props.StringProperty(
        name="View Layer",
        description="View layer to shade. Leave empty for the active view layer",
        translation_context=CONTEXT,
    )
    camera: bpy.props.PointerProperty(
        name="Camera",
        description="Camera of all frames. Leave empty for the scene's camera and the cameras of timeline markers",
        type=bpy.types.Object,
        poll=lambda settings, obj: obj.type == "CAMERA",
    )
    cameras: bpy.props.CollectionProperty(type=TrackshadeCamera)
    active_camera: bpy.props.IntProperty(name="Camera", description="Active camera of the list")
    orbit_count: bpy.props.IntProperty(
        name="Cameras", description="Number of cameras, the shot's camera among them", min=2, max=64, default=5
    )
    orbit_arc: bpy.props.FloatProperty(
        name="Arc",
        description="Angle over which the cameras are spread",
        min=0.01,
        max=2 * math.pi,
        default=math.pi / 2,
        subtype="ANGLE",
    )
    orbit_raise: bpy.props.BoolProperty(
        name="Own Elevation", description="Place the new cameras at an elevation of their own, not at the camera's"
    )
    orbit_elevation: bpy.props.FloatProperty(
        name="Elevation",
        description="Angle of the new cameras above the horizon",
        min=-1.5,
        max=1.5,
        default=math.radians(20),
        subtype="ANGLE",
    )
    size: bpy.props.EnumProperty(
        name="Model Size",
        description="Size of the model's image in pixels",
        items=_get_size_items,
        translation_context=CONTEXT,
    )
    control_clip: _enum("Follow", "What the video model follows, if it knows several", choices.CONTROL_CLIPS)
    reference: path_property(
        "Reference", "Image of what is to be seen, such as a character, for video models that use it"
    )
    footage: path_property("Footage", "Video whose motion the character does, on the computer where the backend runs")
    video_lora: path_property("LoRA", "LoRA file of the video model (.safetensors), on the machine of the backend")
    video_lora_strength: bpy.props.FloatProperty(
        name="LoRA Strength", description="Strength of the LoRA", min=0, max=2, default=1
    )
    memory: _enum("Device Memory", "Memory of the device that the model may take. Less takes longer", choices.MEMORY)
    size_mode: _enum(
        "Frame Fit", "How the frame is fitted to the model's image if aspect ratios differ", choices.SIZE_MODES
    )
    glass: _enum("Glass", "How to track visible surfaces that let more than half of the light through", choices.GLASS)
    hair: _enum("Hair", "How to track hair curves and hair of particle systems", choices.HAIR)

    # placement
    place_as: _enum("Place As", "How the result is added to the scene", choices.PLACEMENTS)
    distance: bpy.props.FloatProperty(
        name="Distance",
        description="Distance of the plate from the camera. 0 places it as near as possible, in front of everything",
        min=0,
        subtype="DISTANCE",
        unit="LENGTH",
    )
    interpolation: _enum(
        "Interpolation", "How the pixels of the plate are interpolated", choices.INTERPOLATIONS, translation_context="*"
    )
    texture_size: _enum("Texture Size", "Width and height of each mesh's texture in pixels", choices.TEXTURE_SIZES)

    def keep_order(self, changed: str) -> None:
        """Keeps the start before the end by changing the one that the user has not changed."""
        if self.control_start > self.control_end:
            other = "control_end" if changed == "control_start" else "control_start"
            setattr(self, other, getattr(self, changed))

    def shot_request(self, view_layer: str) -> ShotRequest:
        """Returns what to capture.

        Args:
            view_layer: Name of the view layer to use unless one is set.
        """
        first_frame = self.first_frame
        if first_frame == "file":
            first_frame = bpy.path.abspath(self.picture)
        elif first_frame == "image":
            first_frame = "" if self.image is None else f"{IMAGE}{self.image.name}"
        scene = self.id_data
        camera = self.camera if self.camera is not None and self.camera.name in scene.objects else None
        more = [camera.name for camera in self.more_cameras()]
        if more and camera is None:
            camera = scene.camera
        keys = [key for key in self.keys if key.enabled and key.picture]
        follows = self.shade_settings().follows
        of_others = [key for key in keys if key.camera is not None and key.camera != camera]
        return ShotRequest(
            camera=None if camera is None else camera.name,
            more_cameras=tuple(more),
            camera_keys=tuple((key.camera.name, float(key.frame), key.picture) for key in of_others if more),
            frames=(float(self.first), float(self.last), self.step) if self.use_range else (None, None, None),
            view_layer=self.view_layer if self.view_layer in self.id_data.view_layers else view_layer,
            first_frame=first_frame,
            keys=tuple((float(key.frame), key.picture) for key in keys if key not in of_others),
            light=self.light,
            has_layout=follows == "layout",
            input_render=follows == "render",
            references=(bpy.path.abspath(self.reference),) if self.reference and self._uses_references() else (),
            glass=self.glass,
            hair=self.hair,
        )

    def more_cameras(self) -> list[bpy.types.Object]:
        """Returns the cameras of the list that are used beside the shot's own."""
        scene = self.id_data
        own = self.camera if self.camera is not None and self.camera.name in scene.objects else scene.camera
        listed = [item.camera for item in self.cameras if item.enabled and item.camera is not None]
        found = dict.fromkeys(camera.name for camera in listed if camera != own and camera.name in scene.objects)
        return [scene.objects[name] for name in found]

    def shade_settings(self) -> ShadeSettings:
        """Returns how to shade the shot."""
        width, _, height = self.size.partition("x")
        return ShadeSettings(
            model=self.model or _DEFAULTS.model,
            prompt=self.prompt,
            negative_prompt=self.negative_prompt or None,
            steps=self.steps or None,
            guidance=self.guidance or None,
            seed=self.seed,
            control_scale=round(self.control_scale, 4),  # Blender's floats have seven digits
            control_start=round(self.control_start, 4),
            control_end=round(self.control_end, 4),
            frame_rule=self.frame_rule,
            size_mode=self.size_mode,
            model_size=(int(width), int(height)) if height else None,
            key_pictures=self.key_pictures,
            output_size=self.output_size,
            image_format=self.image_format,
            alpha=self.alpha,
            light=self.light,
            splats=self.splats or (SPLATS if self.place_as == "splats" else 0),
            memory=self.memory,
            control_clip=self.control_clip if self._follows(self.control_clip) else "auto",
            footage=bpy.path.abspath(self.footage) if self._uses_footage() else "",
            image_model=self._image_model(),
            strength=round(self.image_strength, 4),
            loras=_lora_files(self.lora, self.lora_strength),
            video_loras=_lora_files(self.video_lora, self.video_lora_strength) if self._takes_loras() else (),
        )

    def _spec(self) -> ModelSpec | None:
        name = self.model or _DEFAULTS.model
        return next((spec for spec in find_specs() if spec.name == name), None)

    def _follows(self, control: str) -> bool:
        """Return whether the model follows a clip; one that was chosen for another model may not be known to it."""
        spec = self._spec()
        return spec is not None and control in spec.controls

    def _takes_loras(self) -> bool:
        spec = self._spec()
        return spec is not None and spec.takes_loras

    def _uses_references(self) -> bool:
        spec = self._spec()
        return spec is not None and "references" in spec.inputs

    def _uses_footage(self) -> bool:
        return self.control_clip == "footage" and self._follows("footage")

    def _image_model(self) -> str:
        """Return the name of the image model, empty for none."""
        if self.image_model == "custom":
            return f"{self.image_family}:{bpy.path.abspath(self.image_checkpoint)}"
        return "" if self.image_model == "none" else self.image_model

    def placement_options(self) -> PlacementOptions:
        """Returns how to place the result."""
        return PlacementOptions(
            None if self.place_as == "none" else self.place_as,
            self.distance or None,
            None if self.interpolation == "auto" else self.interpolation,
            None if self.texture_size == "auto" else int(self.texture_size),
        )

    def randomize_seed(self) -> None:
        """Sets another seed, unless it is locked."""
        if not self.seed_lock:
            self.seed = secrets.randbelow(_MAX_SEED)

    def apply_job(self, request: ShotRequest, settings: ShadeSettings) -> None:
        """Sets the properties to those of a job.

        Raises:
            ModelError: Its model is not known any more. Nothing is changed.
            UsageError: The model does not have its size any more. Nothing is changed.
        """
        spec, size = registry.spec(settings.model), settings.model_size
        if size is not None:
            spec.require_size(size)
        self.model = settings.model
        self.prompt, self.negative_prompt = settings.prompt, settings.negative_prompt or ""
        self.steps, self.guidance = settings.steps or 0, settings.guidance or 0
        self.control_start, self.control_end = 0, 1  # so that `keep_order` changes nothing
        self.control_end, self.control_start = settings.control_end, settings.control_start
        self.control_scale = settings.control_scale
        self.memory = settings.memory
        self.control_clip = settings.control_clip
        self.footage = settings.footage
        if settings.footage:
            self.control_clip = "footage"
        self.reference = request.references[0] if request.references else ""
        self.seed, self.seed_lock = settings.seed, True
        if request.first_frame in ("render", "none"):
            self.first_frame = request.first_frame
        elif request.first_frame.startswith(IMAGE):
            self.first_frame, self.image = "image", bpy.data.images.get(request.first_frame.removeprefix(IMAGE))
        else:
            self.first_frame, self.picture = "file", request.first_frame
        self.keys.clear()
        self.active_key = 0
        objects = self.id_data.objects
        for camera, frame, picture in (*((None, *key) for key in request.keys), *request.camera_keys):
            key = self.keys.add()
            key.frame = round(frame)
            key.camera = None if camera is None else objects.get(camera)
            key.set_picture(picture)
        self.cameras.clear()
        self.active_camera = 0
        for name in request.more_cameras:
            self.cameras.add().camera = objects.get(name)
        first, last, step = request.frames
        self.use_range = first is not None
        if first is not None and last is not None and step is not None:
            self.first, self.last, self.step = int(first), int(last), step
        self.frame_rule, self.size_mode = settings.frame_rule, settings.size_mode
        self.key_pictures, self.output_size = settings.key_pictures, settings.output_size
        self.image_format, self.alpha = settings.image_format, settings.alpha
        self.light = settings.light
        self.splats = settings.splats
        self.glass, self.hair = request.glass, request.hair
        family, colon, path = settings.image_model.partition(":")
        self.image_model = "custom" if colon else family or "none"
        if colon:
            self.image_family, self.image_checkpoint = family, path
        self.image_strength = settings.strength
        self.lora, self.lora_strength = _first_lora(settings.loras)
        self.video_lora, self.video_lora_strength = _first_lora(settings.video_loras)
        self.size = "auto" if size is None else f"{size[0]}x{size[1]}"
        self.view_layer = request.view_layer or ""
        self.camera = None if request.camera is None else self.id_data.objects.get(request.camera)


def _lora_files(path: str, strength: float) -> tuple[str, ...]:
    """Return a LoRA file and its strength as settings of a job have them; nothing if no file is named."""
    return (f"{bpy.path.abspath(path)}:{strength:.4g}",) if path else ()


def _first_lora(files: tuple[str, ...]) -> tuple[str, float]:
    """Return the first LoRA file of a job and its strength; an empty path if there is none."""
    path, _, strength = files[0].rpartition(":") if files else ("", "", "1")
    return path, float(strength)


class TrackshadeOverlay(bpy.types.PropertyGroup):
    """Settings of the tracking colors in the viewport."""

    show: bpy.props.BoolProperty(
        name="Tracking Colors",
        description="Show the colors by which the model follows each surface point: where the point is in the first "
        "frame of the shot",
    )
    opacity: bpy.props.FloatProperty(
        name="Opacity", description="Opacity of the tracking colors", min=0, max=1, default=1, subtype="FACTOR"
    )
    background: bpy.props.BoolProperty(
        name="Black Background", description="Show everything else in black, as in the tracking video"
    )
