# SPDX-License-Identifier: GPL-3.0-or-later
"""Photos and footage as scenes: import entries, drag and drop, and the panel with the handles."""

# No postponed annotations here: Blender reads the properties from them.
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bpy

from trackshade.client.job_run import run_to_end
from trackshade.config.trackers import FLOW
from trackshade.core.errors import CancelledError, ShotError
from trackshade.shot.lift_request import LiftRequest
from trackshade.shot.lifted import LiftedScene
from trackshade.shot.track_request import TrackRequest

from ..backend.prefs import current_prefs
from ..jobs.session import current
from ..lifting import build_scene
from ..lifting import run as lift_run
from ..lifting.task import StoredImages, lift
from ..lifting.update import update_scene
from ..messages import texts
from ..messages.texts import tr
from ..messages.translations import CONTEXT
from ..redraw import redraw, redraw_settled
from .camera_moves import draw_camera_moves
from .drawing import ActionOperator, SubPanel, action, draw_properties, draw_text, split_properties
from .lifting_objects import draw_objects, read_masks
from .modal import is_task_free

_PLACES = [
    ("auto", "Automatic", "Decide by the photo"),
    ("indoors", "Indoors", "Build side walls and a ceiling"),
    ("outdoors", "Outdoors", "Build the ground and what is behind it"),
]
_DEPTH_KINDS = [
    ("auto", "Automatic", "Inverse for images, distance along the axis for other files"),
    ("z", "Along the Axis", "Distance along the camera's axis, as Blender's depth pass has it"),
    ("distance", "From the Camera", "Distance from the camera's center"),
    ("inverse", "Inverse", "Large values are near, as depth networks write them"),
]
_TRACKERS = [
    (FLOW, "Optical Flow", "Needs no weights"),
    ("tapnext", "TAPNext++", "A network (Apache-2.0). The guide says how to install it"),
    ("cotracker", "CoTracker3", "A network (CC BY-NC 4.0, not for commercial use). The guide says how to install it"),
]


class _LiftOperator(ActionOperator):
    """An operator that lifts something; in a Blender with a window it goes on by a timer."""

    poll_message_set: Any

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return is_task_free(cls)

    def begin(
        self,
        source: Path,
        request: LiftRequest | TrackRequest,
        build: Callable[[LiftedScene], None],
        stored: StoredImages | None = None,
    ) -> None:
        """Start the task, or do all of it in a Blender without a window. May raise TrackshadeError."""
        steps = lift(source, request, current_prefs().python(), build, stored)
        if bpy.app.background:
            run_to_end(steps, lambda progress: None)
        else:
            lift_run.begin(steps, redraw, lambda: current().holds_scene or bpy.app.is_job_running("RENDER"))


class _ImportOperator(_LiftOperator):
    """An operator that asks for a file, and makes a new scene of it."""

    bl_options = {"REGISTER"}  # noqa: RUF012 - as Blender requires it

    filepath: bpy.props.StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE"})

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if self.filepath:  # a file was dropped
            return context.window_manager.invoke_props_dialog(self)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}


class TRACKSHADE_OT_lift_photo(_ImportOperator, bpy.types.Operator):
    """Make a new scene of a photo: meshes that show the photo, which the camera and you can move"""

    bl_idname = "trackshade.lift_photo"
    bl_label = "Photo as Scene"

    filter_glob: bpy.props.StringProperty(
        default="*.png;*.jpg;*.jpeg;*.tif;*.tiff;*.webp;*.bmp;*.exr;*.hdr", options={"HIDDEN"}
    )
    place: bpy.props.EnumProperty(
        name="Surroundings", description="Whether there are side walls and a ceiling", items=_PLACES,
        translation_context=CONTEXT,
    )  # fmt: skip
    fov: bpy.props.FloatProperty(
        name="Field of View",
        description="Horizontal field of view in degrees. 0 uses that of the file, or finds it",
        min=0,
        max=170,
        precision=1,
    )
    depth: bpy.props.StringProperty(
        name="Depth",
        description="File with the depth of each pixel (.npy, .npz, OpenEXR or an image). Leave empty to find the "
        "depth from the perspective",
        subtype="FILE_PATH",
    )
    depth_kind: bpy.props.EnumProperty(
        name="Depth Values", description="What the values of the depth file are", items=_DEPTH_KINDS,
        translation_context=CONTEXT,
    )  # fmt: skip
    depth_model: bpy.props.StringProperty(
        name="Depth Network",
        description="Folder or identifier of a network that estimates the depth where no file is given, such as "
        "depth-anything/Depth-Anything-V2-Small-hf, or the .pt file of MoGe-2",
    )
    frames: bpy.props.IntProperty(name="Frames", description="Number of frames of the scene", min=1, default=49)

    def draw(self, context: bpy.types.Context) -> None:
        names = "place", "fov", "depth", "depth_kind", "depth_model", "frames"
        draw_properties(split_properties(self.layout), self, *names)

    def act(self, context: bpy.types.Context) -> None:
        source = Path(bpy.path.abspath(self.filepath))
        request = LiftRequest(
            fov=self.fov or None,
            indoors=None if self.place == "auto" else self.place == "indoors",
            depth=bpy.path.abspath(self.depth) if self.depth else None,
            depth_kind=self.depth_kind,
            depth_model=bpy.path.abspath(self.depth_model.strip()) or None,
        )
        frames = self.frames
        self.begin(source, request, lambda lifted: _new_scene(source.stem, lifted, frames, request))


class TRACKSHADE_OT_track_footage(_ImportOperator, bpy.types.Operator):
    """Make a new scene of a video: tracked points that move as in the footage, for another first frame to follow"""

    bl_idname = "trackshade.track_footage"
    bl_label = "Footage as Tracks"

    filter_glob: bpy.props.StringProperty(
        default="*.mp4;*.mov;*.mkv;*.avi;*.webm;*.m4v;*.mpg;*.mpeg", options={"HIDDEN"}
    )
    start: bpy.props.FloatProperty(name="Start", description="Time of the first frame in seconds", min=0)
    max_frames: bpy.props.IntProperty(
        name="Frames", description="Maximum number of frames; longer footage is resampled", min=2, max=1000, default=49
    )
    spacing: bpy.props.FloatProperty(
        name="Spacing", description="Distance of the points in the first frame, in pixels", min=2, max=64, default=6
    )
    fov: bpy.props.FloatProperty(
        name="Field of View", description="Horizontal field of view in degrees. 0 finds it", min=0, max=150, precision=1
    )
    tracker: bpy.props.EnumProperty(
        name="Tracker", description="What follows points that move", items=_TRACKERS, translation_context=CONTEXT
    )
    tracker_weights: bpy.props.StringProperty(
        name="Weights", description="File of the weights of the tracker's network", subtype="FILE_PATH"
    )

    def draw(self, context: bpy.types.Context) -> None:
        names = ["start", "max_frames", "spacing", "fov", "tracker", *(["tracker_weights"] * (self.tracker != FLOW))]
        draw_properties(split_properties(self.layout), self, *names)

    def act(self, context: bpy.types.Context) -> None:
        source = Path(bpy.path.abspath(self.filepath))
        values = {"start": self.start, "max_frames": self.max_frames, "spacing": self.spacing, "fov": self.fov or None}
        if self.tracker != FLOW:
            weights = bpy.path.abspath(self.tracker_weights) if self.tracker_weights else None
            values |= {"tracker": self.tracker, "tracker_weights": weights}
        request = TrackRequest.from_dict(values)
        self.begin(source, request, lambda lifted: _new_scene(source.stem, lifted, 0, request))


class TRACKSHADE_FH_photo(bpy.types.FileHandler):
    """Dropping a photo onto the sidebar, the outliner or the properties editor makes a scene of it.

    In the main region of a viewport, Blender's own operators come first, which make an image empty of it.
    """

    bl_idname = "TRACKSHADE_FH_photo"
    bl_label = "Photo as Scene"
    bl_import_operator = "trackshade.lift_photo"
    bl_file_extensions = ".png;.jpg;.jpeg;.tif;.tiff;.webp;.bmp;.exr;.hdr"

    @classmethod
    def poll_drop(cls, context: bpy.types.Context) -> bool:
        return context.area is not None and context.area.type in ("VIEW_3D", "OUTLINER", "PROPERTIES")


class _HandleOperator(_LiftOperator):
    """An operator on the handles of the scene's photo."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return context.scene.trackshade_lift.found_perspective is not None and super().poll(context)


class TRACKSHADE_OT_lift_again(_LiftOperator, bpy.types.Operator):
    """Build the scene again with the handles and objects as they are now. Objects and camera keep their keyframes"""

    bl_idname = "trackshade.lift_again"
    bl_label = "Lift Again"
    bl_options = {"REGISTER"}  # noqa: RUF012

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        settings = context.scene.trackshade_lift
        return settings.is_lifted and not settings.is_video and super().poll(context)

    def act(self, context: bpy.types.Context) -> None:
        settings = context.scene.trackshade_lift
        request, uid = settings.lift_request(), context.scene.session_uid

        def build(lifted: LiftedScene) -> None:
            scene = next((item for item in bpy.data.scenes if item.session_uid == uid), None)
            if scene is None:
                raise ShotError("scene-gone", "The photo's scene is gone.", "Open it, and lift the photo again.")
            update_scene(lifted, scene, request)
            _push_undo("Lift Again")

        source = Path(bpy.path.abspath(settings.source))
        self.begin(source, request, build, StoredImages(_packed(settings.photo), read_masks(settings)))


class TRACKSHADE_OT_track_again(_LiftOperator, bpy.types.Operator):
    """Track the footage again, with what moves as the list names it. The result is a new scene; this one is kept"""

    bl_idname = "trackshade.track_again"
    bl_label = "Track Again"
    bl_options = {"REGISTER"}  # noqa: RUF012

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        settings = context.scene.trackshade_lift
        return settings.is_lifted and settings.is_video and super().poll(context)

    def act(self, context: bpy.types.Context) -> None:
        settings, name = context.scene.trackshade_lift, context.scene.name
        source, request = Path(bpy.path.abspath(settings.source)), settings.track_request()
        objects = [
            (item.name, item.kind, tuple(item.box), item.mask and item.mask.session_uid) for item in settings.objects
        ]
        network = settings.mask_model

        def build(lifted: LiftedScene) -> None:
            made = _new_scene(name, lifted, 0, request).trackshade_lift
            made.objects.clear()
            made.mask_model = network
            images = {image.session_uid: image for image in bpy.data.images}
            for label, kind, box, mask in objects:
                item = made.objects.add()
                item.name, item.kind, item.box, item.mask = label, kind, box, images.get(mask)

        self.begin(source, request, build, StoredImages(masks=read_masks(settings)))


@action("Reset Handles", _HandleOperator, bl_options={"REGISTER", "UNDO"})
def reset_handles(operator: Any, context: bpy.types.Context) -> None:
    """Set the handles to what was found in the photo"""
    context.scene.trackshade_lift.reset()


@action("Cancel", bl_options={"INTERNAL"})
def cancel_lift(operator: Any, context: bpy.types.Context) -> None:
    """End the task; no scene is made"""
    lift_run.close()


class TRACKSHADE_PT_lifting(SubPanel, bpy.types.Panel):
    """Photos and footage as scenes."""

    bl_label = "Photo or Footage"
    bl_order = 12

    def draw(self, context: bpy.types.Context) -> None:
        layout, settings = self.layout, context.scene.trackshade_lift
        run = lift_run.current()
        if run is not None and run.progress is not None:
            row = layout.row(align=True)
            row.progress(factor=run.factor, text=texts.progress_text(run.progress))
            row.operator("trackshade.cancel_lift", text="", icon="X")
        else:
            column = layout.column(align=True)
            column.operator("trackshade.lift_photo", icon="IMAGE_DATA")
            column.operator("trackshade.track_footage", icon="TRACKER")
            if run is not None and run.error is not None and not isinstance(run.error, CancelledError):
                draw_text(layout, context, texts.error_text(run.error), "ERROR")
        if settings.is_lifted:
            for warning in settings.warnings:
                draw_text(layout, context, warning, "ERROR")
            draw_objects(layout, settings)
            if settings.found_perspective is not None:
                _draw_handles(layout, context, settings)
            again = "trackshade.track_again" if settings.is_video else "trackshade.lift_again"
            layout.operator(again, icon="FILE_REFRESH")
        draw_camera_moves(layout)
        layout.operator("trackshade.export_tracks", icon="EXPORT")


def _draw_handles(layout: bpy.types.UILayout, context: bpy.types.Context, settings: Any) -> None:
    found, now = settings.found_perspective, settings.perspective
    column = split_properties(layout.column())
    row = column.row(align=True)
    row.prop(settings, "show")
    row.operator("trackshade.drag_handles", text="", icon="MOUSE_LMB_DRAG")
    row.operator("trackshade.reset_handles", text="", icon="LOOP_BACK")
    if not now.horizon_sure:
        draw_text(column, context, tr("The horizon is not sure. Drag it to where it is"), "ERROR")
    draw_properties(column.column(align=True), settings, "horizon_left", "horizon_right", "vanishing_x")
    column.prop(settings, "use_rectangle")
    if settings.use_rectangle:
        column.prop(settings, "rectangle", text="")
    column.prop(settings, "focal")
    if not now.focal_sure:
        percent = round(100 * found.focal_error)
        draw_text(
            column, context, tr("The focal length is not sure: it may be {percent} % off", percent=percent), "ERROR"
        )
    draw_properties(column, settings, "indoors", "camera_height")


def _new_scene(name: str, lifted: LiftedScene, frames: int, request: LiftRequest | TrackRequest) -> bpy.types.Scene:
    """Build a lifted scene as a new scene of the open file, show it, and return it."""
    scene = bpy.data.scenes.new(name)
    try:
        build_scene(lifted, scene, frames or 1, request)
    except BaseException:
        bpy.data.scenes.remove(scene)
        raise
    for window in bpy.context.window_manager.windows:
        window.scene = scene
        for space in _viewports(window):
            space.shading.type = "MATERIAL"
            space.region_3d.view_perspective = "CAMERA"
    _push_undo("Photo as Scene")
    redraw_settled()
    return scene


def _packed(image: bpy.types.Image | None) -> bytes | None:
    return None if image is None or image.packed_file is None else bytes(image.packed_file.data)


def _viewports(window: bpy.types.Window) -> Iterator[Any]:
    for area in window.screen.areas:
        if area.type == "VIEW_3D":
            yield area.spaces.active


def _push_undo(message: str) -> None:
    if not bpy.app.background:
        with bpy.context.temp_override(window=bpy.context.window_manager.windows[0]):
            bpy.ops.ed.undo_push(message=message)


def _draw_import(menu: Any, context: bpy.types.Context) -> None:
    menu.layout.operator("trackshade.lift_photo", text="Photo as Scene (Trackshade)")
    menu.layout.operator("trackshade.track_footage", text="Footage as Tracks (Trackshade)")


def attach() -> None:
    """Add the entries to the import menu."""
    bpy.types.TOPBAR_MT_file_import.append(_draw_import)


def detach() -> None:
    """Remove the entries, and end what is in progress."""
    lift_run.close()
    bpy.types.TOPBAR_MT_file_import.remove(_draw_import)
