# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of motion from footage, saved with the scene."""

# No postponed annotations here: Blender reads the properties from them.
from collections.abc import Iterable
from pathlib import Path

import bpy

from trackshade.motion.request import DrivingRequest

from ..messages.translations import CONTEXT
from .preferences import path_property

JOINT_LABELS = {
    "pelvis": "Hips",
    "spine": "Spine",
    "chest": "Chest",
    "neck": "Neck",
    "head": "Head",
    "upper_arm_l": "Left Upper Arm",
    "forearm_l": "Left Forearm",
    "hand_l": "Left Hand",
    "fingers_l": "Left Fingers",
    "upper_arm_r": "Right Upper Arm",
    "forearm_r": "Right Forearm",
    "hand_r": "Right Hand",
    "fingers_r": "Right Fingers",
    "thigh_l": "Left Thigh",
    "shin_l": "Left Shin",
    "foot_l": "Left Foot",
    "thigh_r": "Right Thigh",
    "shin_r": "Right Shin",
    "foot_r": "Right Foot",
}
"""Labels of the joints of `trackshade.motion.skeleton`."""
_MODES = [
    ("reenact", "Re-enact", "The figure of the reference does the motion of the footage"),
    ("stabilise", "Stabilize", "The figure of the footage, seen by a camera that stands still"),
    ("novel-view", "Novel View", "The figure keeps the pose of the first frame, and the camera moves"),
]
_REFERENCES = [
    ("render", "Render", "Render the current frame through the scene's camera"),
    ("file", "Image File", "An image of the figure"),
    ("footage", "Footage", "The first frame of the footage"),
]
_CAMERAS = [
    ("words", "Words", "A camera move in words"),
    ("scene", "Scene Camera", "The motion of the scene's camera around the center"),
]

_HANDS = [
    ("auto", "Detect", "Look for them, if the hand detector is installed"),
    ("armature", "Armature", "The footage is a render of this scene: hands are where its camera shows an armature's"),
    ("none", "Ignore", "Read the motion from the body alone"),
]


def _is_armature(_: object, candidate: bpy.types.Object) -> bool:
    return candidate.type == "ARMATURE"


def _to_floats(box: Iterable[int]) -> tuple[float, float, float, float]:
    left, top, right, bottom = map(float, box)
    return left, top, right, bottom


class TrackshadeBone(bpy.types.PropertyGroup):
    """The bone of an armature that follows a joint; its name is that of the joint."""

    bone: bpy.props.StringProperty(name="Bone", description="Bone that follows the joint. Leave empty for none")


class TrackshadeMotion(bpy.types.PropertyGroup):
    """Driving footage, reference, camera and armature."""

    footage: path_property("Footage", "Video of a moving figure, or a folder of its frames")
    rate: bpy.props.FloatProperty(
        name="Frame Rate", description="Frames per second of a folder of frames", min=0.1, max=1000, default=24
    )
    start: bpy.props.FloatProperty(
        name="Start", description="Time of the first frame in seconds", min=0, subtype="TIME_ABSOLUTE"
    )
    end: bpy.props.FloatProperty(
        name="End",
        description="Time of the last frame in seconds. 0 goes to the end, at most a minute",
        min=0,
        subtype="TIME_ABSOLUTE",
    )
    person: bpy.props.IntProperty(
        name="Person", description="Number of the figure from the left, if there are several. 0 for the only one", min=0
    )
    use_box: bpy.props.BoolProperty(name="Box", description="Say where the figure is, instead of looking for it")
    box: bpy.props.IntVectorProperty(
        name="Box", description="Left, top, right and bottom of a box around the figure, pixels of the footage", size=4
    )
    mask: path_property("Mask", "Image that is white where the figure is. Leave empty to look for the figure")
    hands: bpy.props.EnumProperty(
        name="Hands", description="How the hands are found in the footage", items=_HANDS, translation_context=CONTEXT
    )
    driver: bpy.props.PointerProperty(
        name="Driver",
        description="Armature that the footage shows. Leave empty for the only one of the scene",
        type=bpy.types.Object,
        poll=_is_armature,
    )
    mode: bpy.props.EnumProperty(
        name="Mode", description="What is made of the footage", items=_MODES, translation_context=CONTEXT
    )
    reference: bpy.props.EnumProperty(
        name="Reference", description="Picture of the figure that moves", items=_REFERENCES,
        translation_context=CONTEXT,
    )  # fmt: skip
    picture: path_property("Image", "Image of the figure")
    use_reference_box: bpy.props.BoolProperty(
        name="Box in Image", description="Say where the figure is in the image, instead of looking for it"
    )
    reference_box: bpy.props.IntVectorProperty(
        name="Box in Image",
        description="Left, top, right and bottom of a box around the figure, pixels of the image",
        size=4,
    )
    camera: bpy.props.EnumProperty(
        name="Camera", description="How the camera moves around the figure", items=_CAMERAS, translation_context=CONTEXT
    )
    words: bpy.props.StringProperty(
        name="Camera Move",
        description="Camera move in words, such as: from behind, circles to the left by 90 degrees and rises",
        default="static",
    )
    center: bpy.props.PointerProperty(
        name="Center",
        description="Object that the scene's camera moves around, and that a render shows as the reference. Leave "
        "empty for the 3D cursor",
        type=bpy.types.Object,
    )
    frames: bpy.props.IntProperty(
        name="Frames", description="Number of frames of a novel view", min=1, max=1000, default=16
    )
    seed: bpy.props.IntProperty(name="Seed", description="Random seed", min=0)
    steps: bpy.props.IntProperty(
        name="Steps", description="Number of denoising steps. 0 uses the model's default", min=0, max=1000, soft_max=100
    )
    model: path_property(
        "Model Folder", "Folder of a motion model that you have trained. Leave empty for the embedded one", "DIR_PATH"
    )
    motion: path_property("Motion File", "BVH file with the motion. Leave empty to read the motion of the footage")
    armature: bpy.props.PointerProperty(
        name="Armature",
        description="Armature that is animated. Leave empty for the only one of the scene",
        type=bpy.types.Object,
        poll=_is_armature,
    )
    bones: bpy.props.CollectionProperty(type=TrackshadeBone)

    def driving_request(self) -> DrivingRequest:
        """Return what of the footage is used; the reference is left out. Raise UsageError."""
        return DrivingRequest(
            mode=self.mode,
            start=self.start,
            end=self.end or None,
            rate=round(self.rate, 4),  # Blender's floats have seven digits
            person=self.person or None,
            box=_to_floats(self.box) if self.use_box else None,
            hands="none" if self.hands == "none" else "auto",
            mask=bpy.path.abspath(self.mask) if self.mask and not self.use_box else "",
            reference_box=_to_floats(self.reference_box) if self._uses_reference_box() else None,
        )

    def _uses_reference_box(self) -> bool:
        return self.use_reference_box and self.reference == "file" and self.mode == "reenact"

    def is_folder(self) -> bool:
        """Return whether the footage is named like a folder."""
        return bool(self.footage) and not Path(self.footage).suffix

    def bone_table(self) -> dict[str, str] | None:
        """Return the bone of each joint; None if they are to be found by their names."""
        return {item.name: item.bone for item in self.bones if item.bone} if len(self.bones) else None
