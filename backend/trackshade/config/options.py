# SPDX-License-Identifier: GPL-3.0-or-later
"""The command-line options: one table, from which the command line and Blender build their parsers (see `parsing`).

`COMMANDS` holds the commands that the add-on runs in Blender. Those of the command line only are in
`trackshade.cli.app`, and use the option groups defined here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from trackshade.config.export_formats import EXPORT_FORMATS, SHOT_FORMAT
from trackshade.config.image_models import DEFAULT_IMAGE_MODEL
from trackshade.config.memory_presets import MEMORY_CHOICES
from trackshade.config.model_table import MINI_MOTION
from trackshade.config.settings import (
    CACHES,
    CONTROL_CHOICES,
    CONTROLS,
    GLASS,
    HAIR,
    IMAGE_FORMATS,
    KEY_PICTURES,
    LIGHTS,
    OUTPUT_SIZES,
    QUANTIZATIONS,
    TRACKING_RANGES,
)
from trackshade.config.trackers import TRACKER_NETWORKS, TRACKERS
from trackshade.core.farm_lines import FARMS
from trackshade.core.fitting import FRAME_RULES


@dataclass(frozen=True)
class Option:
    """An option of a command, or a positional argument if the name has no dashes."""

    name: str  # the name as typed, such as "--frame-rule"
    help: str  # the help text
    metavar: str = ""  # what stands for the value in the help
    default: Any = None  # the value if the option is not given
    kind: type = str  # str, int, float, or bool for a switch
    choices: tuple[str, ...] = ()  # the allowed values, or empty
    short: str = ""  # A one-letter form, such as "-o"
    required: bool = False  # whether a positional argument has to be given
    repeat: bool = False  # whether it may be given several times; its value is a list
    dest: str = ""  # the key of its value, if that is not made of the name's words

    @property
    def key(self) -> str:
        """The key of its value, such as "frame_rule"."""
        return self.dest or self.name.lstrip("-").replace("-", "_")

    @property
    def is_positional(self) -> bool:
        """Whether it is a positional argument."""
        return not self.name.startswith("-")


_Switch = partial(Option, kind=bool, default=False)


def _choice(name: str, text: str, choices: tuple[str, ...]) -> Option:
    """Make an option with fixed choices; the first one is the default."""
    return Option(name, text, default=choices[0], choices=choices)


GENERATE = "generate"  # instead of the path of a first frame
DEPTH_KINDS = ("auto", "z", "distance", "inverse")  # as `trackshade.shot.lift_request` has them
PLACES = ("auto", "indoors", "outdoors")
MOTION_MODES = ("reenact", "stabilise", "novel-view")  # as `trackshade.motion.request` has them
CAMERA_MODES = ("override", "append")  # as `trackshade.core.camera_motion.move_camera` has them
PLACEMENT_MODES = (
    "both",
    "plate",
    "background",
    "compositor",
    "sequencer",
    "image",
    "splats",
    "projected",
    "baked",
    "heat",
)

SCENE = Option("scene", "Scene file: .blend, .glb, .gltf, .usd*, .abc, .fbx, .obj, .ply or .stl.", "SCENE")
RESULT = Option("result", "Folder of a result.", "RESULT", required=True)
MODEL = Option("--model", "Name of the model. 'trackshade models' lists them.", "NAME", "mini")
FOLDER = Option("--out", "Folder of the result. Default: a new folder in the current one.", "DIR", short="-o")
JSON = _Switch("--json", "Print one JSON object to standard output at the end.")
PROGRESS = _choice(
    "--progress", "Also print the lines by which a render farm shows progress, saved pictures and failures.", FARMS
)
PLACEMENT = _choice(
    "--way",
    "How the result is placed: as a plate and a background image (both) or one of them, over the render (compositor, "
    "sequencer), as an image data-block (image), as splats, or on the surfaces (projected, baked, heat).",
    PLACEMENT_MODES,
)
FITTING = (
    _choice(
        "--frame-rule",
        "Which frames the model sees if it does not take the whole range: the first ones (choose), every n-th (step), "
        "or evenly spread ones, at subframes if necessary (resample, which auto does as well).",
        FRAME_RULES,
    ),
    Option(
        "--size",
        "How the frame is fitted to the model's size: 'pad' widens the view, 'crop' cuts it. WxH selects a size.",
        "pad|crop|WxH[:pad|crop]",
        "pad",
    ),
)
CAPTURE = (
    Option(
        "--camera",
        "Name of the camera. 'auto' creates one that frames the animated objects. Default: the scene's.",
        "NAME|auto",
    ),
    Option("--frames", "First and last scene frame, and the step. Default: the scene's range.", "A-B[:STEP]"),
    *FITTING,
    Option("--view-layer", "Name of the view layer. Default: the active one.", "NAME"),
)
CONTROL = (
    _choice("--control", "Color all surface points (mesh) or sampled points.", CONTROLS),
    Option("--points", "Number of points for --control points.", "N", 4900, int),
)
_SEED = Option("--seed", "Random seed.", "N", 0, int)
SAMPLING_OPTIONS = (
    Option("--prompt", "Prompt.", "TEXT", ""),
    Option("--negative-prompt", "Negative prompt. Default: the model's.", "TEXT"),
    Option("--steps", "Number of denoising steps. Default: the model's.", "N", kind=int),
    Option("--guidance", "Classifier-free guidance scale. Default: the model's.", "X", kind=float),
    _SEED,
    *CONTROL,
    Option("--control-scale", "Strength of the tracks: 1 as in training, 0 ignores them.", "X", 1.0, float),
    Option("--control-start", "Fraction of the steps at which the tracks begin to apply.", "X", 0.0, float),
    Option("--control-end", "Fraction of the steps at which the tracks stop applying.", "X", 1.0, float),
    _choice("--tracking-range", "Value range of the tracking video: as in training or the demo.", TRACKING_RANGES),
    _choice(
        "--key-pictures",
        "Pictures that are carried to all frames: the first frame alone, the model's video, too, or what suits the "
        "model (auto).",
        KEY_PICTURES,
    ),
    _choice(
        "--output-size", "Every frame at the scene's own size (full), or the model's frames as they are.", OUTPUT_SIZES
    ),
    _choice(
        "--light",
        "How the light changes: as in clay renders of the scene, as in renders by its own engine (render), or not at "
        "all.",
        LIGHTS,
    ),
    _choice("--image-format", "Frames of 8 bits (png), or scene-linear half floats (exr).", IMAGE_FORMATS),
    Option(
        "--multiview-model",
        "Model that samples the frames of several cameras together: mini-matrix, or a folder that 'trackshade train "
        "multiview' has exported. The result follows its light and colors.",
        "NAME|FOLDER",
        "",
    ),
    Option(
        "--arm",
        "How the multiview model combines videos and camera sweeps, such as 'logistic'. Default: all-alternating.",
        "NAME",
        "",
    ),
    Option(
        "--splats",
        "Number of Gaussian splats that are also written, as splats.usdc. They move with the surfaces; 200000 suit "
        "most scenes.",
        "N",
        0,
        int,
    ),
    _choice(
        "--control-clip",
        "What the video model follows, if it knows several: the tracking video, gray clay (layout), depth, tracks of "
        "points, the scene's own render or footage. 'trackshade models' lists what each follows.",
        CONTROL_CHOICES,
    ),
    Option(
        "--footage",
        "Video, on the backend's machine, whose motion the character does, for video models that follow footage.",
        "VIDEO",
        "",
    ),
    Option(
        "--video-lora",
        "LoRA file of the video model, on the backend's machine, and its strength. Repeat it for more.",
        "FILE[:X]",
        repeat=True,
        dest="video_loras",
    ),
    Option(
        "--cache",
        "Skip most of the video model in steps in which its first block changes by less than this share. 0.05 to 0.2 "
        "is faster and less exact.",
        "X",
        0.0,
        float,
    ),
    _choice(
        "--cache-method",
        "What skips parts of the video model's steps: first-block goes by --cache; taylorseer runs every few steps and "
        "continues the others from those before.",
        CACHES,
    ),
    Option("--cache-interval", "taylorseer runs every N-th step.", "N", 3, int),
    Option("--cache-order", "Order of taylorseer's Taylor series; 0 repeats the last step that was run.", "N", 1, int),
    _choice(
        "--quantize",
        "Store the weights of the video model in 4 bits (nf4): a quarter of the memory, less exact. Needs a graphics "
        "card and the package bitsandbytes.",
        QUANTIZATIONS,
    ),
    _Switch("--compile", "Compile the blocks of the video model: the first step takes minutes, the others are faster."),
    _Switch("--alpha", "Give the frames an alpha channel: how much of a pixel tracked surfaces cover."),
    _choice(
        "--memory",
        "Memory for the video model on the graphics card, or for a multiview model, GiB: less takes longer. "
        "'auto' goes by what is free.",
        MEMORY_CHOICES,
    ),
)
_LOOK = (
    Option(
        "--image-model",
        "Image model that paints the first frame: from the prompt with --first-frame generate (default there: "
        f"{DEFAULT_IMAGE_MODEL}), else from the first frame given. 'trackshade models' lists them; sd15:, sdxl: or "
        "flux: and a path use your own.",
        "NAME",
        "",
    ),
    Option("--strength", "How far the image model changes a given first frame, 0 to 1.", "X", 0.7, float),
    Option("--lora", "LoRA file of the image model and its strength. Repeat it for more.", "FILE[:X]", repeat=True),
    Option("--stills", "Paint this many stills of the first frame to choose a look from, and end there.", "N", 0, int),
)
_KEY_LOOK = (
    replace(_LOOK[0], help="Image model that paints what no key picture shows, around what they show."),
    replace(_LOOK[1], help="How far the image model changes the fills that are there without it, 0 to 1."),
    _LOOK[2],
)
CONNECTION = (
    Option("--endpoint", "Address of a running backend. Default: the one on this machine, or a new one.", "ADDRESS"),
    Option("--curve", "Folder of the client's CURVE keys, for a backend on another machine.", "DIR"),
)
SERVE = (
    Option("--endpoint", "Address to listen on. Default: a socket of this user.", "ipc://PATH|tcp://HOST:PORT"),
    Option("--store", "Folder of the job store. Default: one for this user.", "DIR"),
    Option(
        "--device",
        "Device of a worker (auto, cpu, cuda:0, ...), or several that share its video model (cuda:0+cuda:1). Repeat it "
        "for more workers.",
        "NAME",
        repeat=True,
    ),
    Option(
        "--workers",
        "Number of workers, which share the devices in turn; 0 to accept jobs only. With --ray, their number at most.",
        "N",
        kind=int,
    ),
    Option(
        "--ray",
        "Run the workers on the nodes of a Ray cluster: its address, 'auto' on one of its nodes, or 'local'.",
        "ADDRESS|local",
    ),
    Option("--curve", "Folder of CURVE keys, required for an address that other machines reach.", "DIR"),
    Option("--result-days", "Delete results that are older than this. Default: 30.", "DAYS", kind=float),
    Option("--result-gb", "Delete the oldest results above this size of all. Default: 50.", "GB", kind=float),
    Option("--idle-exit", "Exit after this many seconds without clients and jobs.", "SECONDS", kind=float),
)
OPEN_SCENE = (
    Option("--scene", "Name of the scene. Default: the active one.", "NAME", dest="scene_name"),
    Option("--animation", "Name of the animation (FBX: take). Default: the first one.", "NAME"),
    _Switch("--trust-scripts", "Run Python scripts and drivers that are stored in a .blend file."),
)
_STRICT = _Switch("--strict", "Fail if files are missing or scripts are blocked, instead of warning.")
_FIRST_FRAME = Option(
    "--first-frame",
    "First frame: 'render' renders it with the scene's engine, 'generate' has an image model paint it from the prompt, "
    "'none' uses none; or an image file, or image:NAME for an image in the scene file.",
    "render|generate|none|PATH",
    "render",
)
_SURFACES = (
    _choice("--glass", "Capture surfaces that transmit most of the light (opaque), or ignore them (through).", GLASS),
    _choice("--hair", "Ignore hair (none), or capture it as thin tubes, which can be large (strands).", HAIR),
)
_BACKEND_PYTHON = Option("--backend-python", "Python interpreter of the backend's environment.", "PATH")
BACKEND = (*CONNECTION, _BACKEND_PYTHON)
_FILE = Option("--out", "File to write.", "FILE", short="-o")
EXPORT = (
    _choice(
        "--format",
        "What is written: a shot file, or files for another system. "
        + " ".join(f"{name}: {form.description}" for name, form in EXPORT_FORMATS.items()),
        (SHOT_FORMAT, *EXPORT_FORMATS),
    ),
    Option("--points", "Number of tracked points, or of splats. Default: the format's.", "N", kind=int),
    Option("--fps", "Frame rate to resample to: 16 for Wan, 24 for LTX. Default: the scene's.", "X", kind=float),
    Option(
        "--images",
        "Folder of an image for each frame, or of a folder for each of several cameras (nerfstudio, splats, textures). "
        "Default: the one beside the shot.",
        "DIR",
    ),
)
FORCE = _Switch("--force", "Replace an existing output.")
TRACKING_VIDEO = (*CONTROL, _SEED)  # the sampling options that the tracking video depends on
_DESCRIPTIONS = Option("descriptions", "Folder of scene descriptions, or one file (.npz).", "FOLDER", required=True)
_REFERENCE = (
    Option("--kind", "Kind of generated scene, instead of a file.", "NAME"),
    _SEED,
    Option("--size", "Largest width and height of the frames, pixels.", "WxH", "480x320"),
    Option("--every", "Distance of the true frames; longer scenes than 33 frames have as many.", "N", 8, int),
    Option("--samples", "Cycles' samples per pixel.", "N", 24, int),
    Option("--length", "Number of frames of a generated scene. Default: the kind's.", "N", kind=int),
    Option("--look", "Give the generated scene other materials, chosen by this number.", "N", 0, int),
    _Switch("--all-frames", "Render all true frames, without light and ideal video."),
)
_SHOT_FILE = Option(
    "shot", "Shot file of 'export', folder of its parts, or folder of tracks kept by a render.", "SHOT", required=True
)
_IMAGE = Option("picture", "PNG, JPEG, TIFF, WebP, BMP, OpenEXR or Radiance HDR file.", "PICTURE", required=True)
_EXPORT_MODEL = replace(
    MODEL, help="Capture the frames and the size that this model takes. Default: every frame as rendered.", default=None
)
_CAPTURE_ALL = (SCENE, *OPEN_SCENE, _STRICT, *CAPTURE, _FIRST_FRAME, *_SURFACES)
_RESULT_OUTPUT = (FOLDER, FORCE, JSON, PROGRESS, *BACKEND)
_FILE_OUTPUT = (_FILE, FORCE, JSON, PROGRESS)
_RENDER = _Switch("--input-render", "Also render all frames, to compare them with the result.")
_EXPORT_RENDER = replace(_RENDER, help="Also render all frames to a folder of images beside the shot file.")
_EXPORT_LIGHT = Option(
    "--light",
    "Also render clay, by which the light changes, to a file beside the shot file.",
    default="none",
    choices=("clay", "none"),
)
_CHUNK = Option(
    "--chunk",
    "Capture only the part of --frames that begins at FIRST and covers COUNT frames: every one, unless --frames names "
    "a step. 'shade' takes the folder of all parts.",
    "FIRST:COUNT",
)
_SHADE_FIRST_FRAME = replace(
    _FIRST_FRAME,
    help="Image file, 'generate' or 'none'. Default: the one beside the shot.",
    metavar="generate|none|PATH",
    default=None,
)
_KEY = Option(
    "--key",
    "Picture of another frame, carried to all frames, too. Repeat it for more.",
    "[CAMERA@]FRAME=PICTURE",
    repeat=True,
)
_REFERENCES = Option(
    "--reference",
    "Picture of what is to be seen, such as a character, for video models that use it. Repeat it for more.",
    "PICTURE",
    repeat=True,
)
_CAMERAS = (
    Option(
        "--cameras",
        "Names of several cameras: the same frames are shaded through each of them, and agree with each other. Names "
        "with commas are quoted, as in '\"Left, near\",Right'.",
        "NAME,NAME,...",
    ),
    Option(
        "--orbit",
        "Shade through N cameras around what the camera looks at. ELEVATION: degrees above the horizon (default: the "
        "camera's). ARC: degrees over which they are spread (default: 360).",
        "N[:ELEVATION[:ARC]]",
    ),
)
_FRAME = Option(
    "--frame",
    "Scene frame to write. Needed at least once; repeat it for more.",
    "N",
    kind=float,
    repeat=True,
    dest="key_frames",
)
_CONTROL_SIZE = _choice(
    "--output-size", "The model's frames (model), or every frame at the scene's own size (full).", ("model", "full")
)
_CONTROL_COMMAND = (
    *(SCENE, *OPEN_SCENE, _STRICT, *CAPTURE, MODEL, *_SURFACES),
    *(*TRACKING_VIDEO, _CONTROL_SIZE, *_RESULT_OUTPUT),
)
_PICTURE_COMMAND = (_IMAGE, Option("--shot", "Shot file that the image is for.", "SHOT"), *_FILE_OUTPUT)

_CAMERA_MOTION = Option("--camera-motion", "Motion of the camera, such as 'trans 0 0 -0.5; rot y 10 0 24'.", "MOVES")
_OBJECT_MOTION = Option(
    "--object-motion", "Motion of an object, such as 'Person: right 0.5'. Repeat it for more.", "NAME:MOVES",
    repeat=True,
)  # fmt: skip
_CAMERA_PATH = Option(
    "--camera-path", "File with a camera to follow: .npz, .json, or a scene file such as .blend, .fbx or .usd.", "FILE"
)
_CAMERA_MODE = _choice(
    "--camera-mode", "Replace the camera's own motion, or move it relative to where it is.", CAMERA_MODES
)
_MOTION = (_CAMERA_MOTION, _CAMERA_PATH, _CAMERA_MODE, _OBJECT_MOTION)
_FOV = Option(
    "--fov",
    "Horizontal field of view, degrees. Default: that of the photo's metadata, or estimated.",
    "DEG",
    kind=float,
)
_MASK_MODEL = Option(
    "--mask-model", "Mask network (SAM 2, EdgeTAM) that cuts boxes out, a folder or an identifier.", "NAME"
)
_MASKS = Option("--masks", "Mask of an object, white where it is seen. Repeat it for more.", "FILE", repeat=True)
_SCENE_FILE = Option("--out", "Scene to write. Default: named after the source, in the current folder.",
                     "SCENE.blend", short="-o")  # fmt: skip
_LIFT = (
    Option("image", "Photo: PNG, JPEG, TIFF, WebP, BMP, OpenEXR or Radiance HDR file.", "IMAGE", required=True),
    Option("--depth", "Depth file: .npy, .npz, OpenEXR, or an image. Default: estimated from the perspective.", "FILE"),
    _choice("--depth-kind", "What depth values are: along the axis (z), from the camera, or inverse.", DEPTH_KINDS),
    Option("--depth-unit", "Meters of a depth value of 1.", "X", kind=float),
    Option(
        "--depth-model",
        "Depth network if there is no depth file: a folder or an identifier, or the .pt file of MoGe-2.",
        "NAME",
    ),
    _MASKS,
    Option("--box", "Box around an object that is cut out, pixels. Repeat it for more.", "L,T,R,B", repeat=True),
    _MASK_MODEL,
    _FOV,
    Option("--place", "Whether there are side walls and a ceiling.", default="auto", choices=PLACES),
    Option(
        "--handles", "JSON file with the horizon, the back wall and the focal length, as --json prints them.", "FILE"
    ),
    Option("--camera-height", "Height of the camera above the ground, meters. Default: 1.6.", "X", kind=float),
    _choice("--behind", "What is behind objects: the background continued (fill), or a hole (none).", ("fill", "none")),
    Option("--length", "Number of frames of the scene.", "N", 49, int),
)
_TRACK = (
    Option("video", "Video file.", "VIDEO", required=True),
    Option("--start", "Time of the first frame, seconds.", "S", 0.0, float),
    Option("--duration", "Length of the part that is tracked, seconds. Default: up to the next cut or the end.", "S",
           kind=float),
    Option("--max-frames", "Maximum number of frames that are tracked; longer footage is resampled.", "N", 49, int),
    Option("--spacing", "Distance of the points in the first frame, pixels of the tracked footage.", "X", 6.0, float),
    replace(_MASKS, help="Mask of something that moves, in the first frame. Repeat it for more."),
    Option("--box", "Box around something that moves, in the first frame, pixels. Repeat it for more.", "L,T,R,B",
           repeat=True),
    _MASK_MODEL,
    _choice("--tracker", "What follows points that move: optical flow, or a network that you have installed: "
            + "; ".join(f"{name} is {spec.title} ({spec.terms})" for name, spec in TRACKER_NETWORKS.items()) + ".",
            TRACKERS),
    Option("--tracker-weights", "File of the weights of the tracker's network.", "FILE"),
    replace(_FOV, help="Horizontal field of view, degrees. Default: estimated."),
)  # fmt: skip

_DRIVING = (
    Option("driving", "Video, or folder of pictures. A novel view also takes one picture.", "DRIVING", required=True),
    Option("--start", "Time of the first frame that is used, seconds.", "S", 0.0, float),
    Option("--end", "Time of the last frame that is used, seconds. Default: the end, at most a minute.", "S",
           kind=float),
    Option("--box", "Box around the figure, pixels. Default: detected.", "L,T,R,B"),
    Option("--mask", "Picture that is white where the figure is, instead of a box.", "FILE"),
    Option("--person", "Number of the figure, from the left, if there are several.", "N", kind=int),
    Option("--rate", "Frames per second of a folder of pictures.", "X", 24.0, float),
    Option("--hands", "Where the hands are: looked for if mediapipe is installed in an environment of its own (auto), "
           "as a file of 'trackshade hands' says, or not read (none).", "auto|none|FILE", "auto"),
    Option("--model", "Motion model: mini-motion, or a folder that 'trackshade train motion' has exported.",
           "NAME|FOLDER", MINI_MOTION),
)  # fmt: skip
REENACT = (
    *_DRIVING,
    Option("--reference", "Picture of the figure that is to move. Default: the first frame, except in reenact.",
           "PICTURE"),
    Option("--reference-box", "Box around the figure in the reference, pixels. Default: detected.", "L,T,R,B"),
    Option("--camera", "Camera move in words, such as 'circles to the left' or 'from behind, rises'.", "WORDS",
           "static"),
    _choice("--mode", "What is made: the reference in the footage's motion (reenact), the footage's figure from a "
            "still camera (stabilise), or a still figure from a moving camera (novel-view).", MOTION_MODES),
    Option("--frames", "Number of frames of a novel view.", "N", 16, int),
    _SEED,
    Option("--steps", "Number of denoising steps. Default: the model's.", "N", kind=int),
    Option("--armature", "Also write the joint rotations to this BVH file.", "FILE.bvh"),
    *_RESULT_OUTPUT,
)  # fmt: skip
MOTION = (
    replace(_DRIVING[0], help="Video, or folder of pictures."),
    *_DRIVING[1:],
    Option("--fps", "Frame rate of the motion file. Default: the model's.", "X", kind=float),
    *(_FILE, FORCE, JSON, *BACKEND),
)
_RIG = (
    Option("--armature", "Name of the armature. Default: the only one of the scene.", "NAME"),
    Option("--bones", 'JSON or TOML file that names the bone of joints, such as {"forearm_l": "Arm.L"}.', "FILE"),
)

COMMANDS: Mapping[str, tuple[str, tuple[Option, ...]]] = {
    "render": (
        "Shade a scene, and place the result in a copy of it.",
        (
            *_CAPTURE_ALL,
            *_CAMERAS,
            *_MOTION,
            _KEY,
            _REFERENCES,
            MODEL,
            _RENDER,
            *SAMPLING_OPTIONS,
            *_LOOK,
            *_RESULT_OUTPUT,
        ),
    ),
    "control": ("Make the tracking video of a scene. No model is needed.", _CONTROL_COMMAND),
    "export": (
        "Capture a scene to a shot file and its first frame.",
        (*_CAPTURE_ALL, *_CAMERAS, *_MOTION, _EXPORT_MODEL, _EXPORT_RENDER, _EXPORT_LIGHT, _CHUNK, *_FILE_OUTPUT),
    ),
    "shade": (
        "Shade a shot file, or the tracks kept by a render.",
        (
            *(_SHOT_FILE, *FITTING, MODEL, _SHADE_FIRST_FRAME, _KEY, _REFERENCES),
            *(*SAMPLING_OPTIONS, *_LOOK, *_RESULT_OUTPUT),
        ),
    ),
    "key": (
        "Write what a shot's key pictures show of some frames, to paint on them.",
        (_SHOT_FILE, _FRAME, *FITTING, MODEL, _SHADE_FIRST_FRAME, _KEY, *SAMPLING_OPTIONS, *_KEY_LOOK, *_RESULT_OUTPUT),
    ),
    "picture": ("Fit an image to a shot as its first frame.", _PICTURE_COMMAND),
    "place": ("Place a result in a copy of the scene.", (RESULT, SCENE, *OPEN_SCENE, PLACEMENT, *_FILE_OUTPUT)),
    "lift": (
        "Lift a photo to a scene: meshes that show the photo, which the camera and you can move.",
        (*_LIFT, *_MOTION, _SCENE_FILE, FORCE, JSON, _BACKEND_PYTHON),
    ),
    "track": (
        "Turn footage into a scene of tracked points, whose motion another first frame follows.",
        (*_TRACK, _CAMERA_MOTION, _CAMERA_PATH, _CAMERA_MODE, _SCENE_FILE, FORCE, JSON, _BACKEND_PYTHON),
    ),
    "animate": (
        "Animate an armature of a scene with a motion: a BVH file, or the result of 'trackshade reenact'.",
        (
            Option("motion", "BVH file, or folder of a result.", "MOTION", required=True),
            *(SCENE, *OPEN_SCENE),
            *_RIG,
            Option("--at", "Scene frame of the motion's first frame. Default: the scene's first one.", "N", kind=float),
            *_FILE_OUTPUT,
        ),
    ),
    "character": (
        "Write the rigged character of a scene as a small file, for 'trackshade train motion --characters'.",
        (SCENE, *OPEN_SCENE, *_RIG, *_FILE_OUTPUT),
    ),
    "hands": (
        "Write where a scene's camera shows the hands of its rig, for 'trackshade reenact --hands' on a render of it.",
        (SCENE, *OPEN_SCENE, *_RIG, *_FILE_OUTPUT),
    ),
    "actions": (
        "Write the actions of a scene's rig as BVH files, for 'trackshade train motion --motions'.",
        (SCENE, *OPEN_SCENE, *_RIG, FOLDER, FORCE, JSON),
    ),
    "scene": ("Build the demonstration scene.", _FILE_OUTPUT),
    "synthesise": (
        "Render generated scenes for training clips. 'trackshade train data --rendered' runs it.",
        (_DESCRIPTIONS, FOLDER, JSON),
    ),
    "reference": (
        "Render frames and light of a scene for 'trackshade evaluate propagation' and 'tracking', which run it.",
        (SCENE, *OPEN_SCENE, *_REFERENCE, FOLDER, FORCE, JSON),
    ),
}
"""Description and options of each command that the add-on runs."""
