# SPDX-License-Identifier: GPL-3.0-or-later
"""Handles of a lifted photo: how its camera stands, as the user sees and moves it; saved with the scene."""

# No postponed annotations here: Blender reads the properties from them.
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import bpy

from trackshade.shot.lift_request import LiftRequest, ObjectBox
from trackshade.shot.lifted import LiftedScene, Perspective
from trackshade.shot.track_request import TrackRequest

from ..messages.translations import CONTEXT
from ..redraw import redraw_views

_SAME = 0.01  # pixels


def _redraw(settings: Any, context: bpy.types.Context | None) -> None:
    """Redraws the viewports, which show the handles."""
    redraw_views()


class TrackshadeLiftObject(bpy.types.PropertyGroup):
    """An object of a photo, or something that moves in footage, by a box around it or by a mask."""

    name: bpy.props.StringProperty(name="Name", description="Name of the object in the scene", update=_redraw)
    kind: bpy.props.EnumProperty(
        name="By",
        description="How the picture says where the object is",
        items=[
            ("box", "Box", "It is cut out of a box around it"),
            ("mask", "Mask", "An image of the picture's size is white where it is seen"),
        ],
        translation_context=CONTEXT,
        update=_redraw,
    )
    box: bpy.props.FloatVectorProperty(
        name="Box",
        description="Left, top, right and bottom of the box, pixels from the picture's top left",
        size=4,
        update=_redraw,
    )
    mask: bpy.props.PointerProperty(
        name="Mask", description="Image of the picture's size, white where the object is seen", type=bpy.types.Image
    )
    use_foot: bpy.props.BoolProperty(
        name="Foot", description="Say where the object touches the ground, instead of finding it"
    )
    foot: bpy.props.FloatProperty(
        name="Foot", description="Row of the photo at which the object touches the ground, pixels from the top", min=0
    )


class TrackshadeLift(bpy.types.PropertyGroup):
    """The photo or video that a scene was lifted from, and the handles of its perspective."""

    source: bpy.props.StringProperty(name="Photo", description="Photo or video that this scene was made from")
    photo: bpy.props.PointerProperty(name="Photo", type=bpy.types.Image)
    is_video: bpy.props.BoolProperty()
    objects: bpy.props.CollectionProperty(type=TrackshadeLiftObject)
    active_object: bpy.props.IntProperty(name="Object", description="Object that is edited below the list")
    mask_model: bpy.props.StringProperty(
        name="Mask Network",
        description="Folder or identifier of a network that cuts objects out of their boxes, such as "
        "facebook/sam2.1-hiera-tiny. Leave empty to cut them out by their colors",
    )
    size: bpy.props.IntVectorProperty(size=2)
    request: bpy.props.StringProperty(description="Settings of lifting, as JSON")
    found: bpy.props.StringProperty(
        description="Perspective as it was found at first, as JSON; empty where depth was given"
    )
    notes: bpy.props.StringProperty(description="Warnings, one a line")
    show: bpy.props.BoolProperty(
        name="Handles",
        description="Show the horizon, the vanishing point and the back wall in the camera view",
        default=True,
        update=_redraw,
    )
    horizon_left: bpy.props.FloatProperty(
        name="Horizon Left", description="Where the horizon meets the left border, pixels from the top", update=_redraw
    )
    horizon_right: bpy.props.FloatProperty(
        name="Horizon Right",
        description="Where the horizon meets the right border, pixels from the top",
        update=_redraw,
    )
    vanishing_x: bpy.props.FloatProperty(
        name="Vanishing Point",
        description="Where on the horizon lines meet that lead away from the camera, pixels from the left",
        update=_redraw,
    )
    use_rectangle: bpy.props.BoolProperty(
        name="Back Wall", description="Whether there is a wall at the back, as in a room or a street", update=_redraw
    )
    rectangle: bpy.props.FloatVectorProperty(
        name="Back Wall",
        description="Left, top, right and bottom of the back wall, pixels from the top left",
        size=4,
        update=_redraw,
    )
    focal: bpy.props.FloatProperty(
        name="Focal Length", description="Focal length of the photo's camera, pixels", min=1.0, soft_max=20000.0
    )
    indoors: bpy.props.BoolProperty(name="Indoors", description="Build side walls and a ceiling")
    camera_height: bpy.props.FloatProperty(
        name="Camera Height",
        description="Height of the camera above the ground. It scales the scene",
        min=0.001,
        soft_max=100.0,
        default=1.6,
        unit="LENGTH",
    )

    @property
    def is_lifted(self) -> bool:
        """Whether the scene was made from a photo or a video."""
        return bool(self.source)

    @property
    def found_perspective(self) -> Perspective | None:
        """The perspective as it was found."""
        return Perspective.from_dict(json.loads(self.found)) if self.found else None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about what is doubtful."""
        return tuple(self.notes.splitlines())

    def remember(self, lifted: LiftedScene, request: Any, warnings: tuple[str, ...]) -> None:
        """Takes over how a scene was lifted, and sentences about what is doubtful."""
        self.source, self.is_video, self.size = lifted.picture, lifted.fps > 0, lifted.size
        self.request = "" if request is None else json.dumps(request.to_dict())
        self.notes = "\n".join(warnings)
        if request is not None:
            self._list_objects(request)
        if self.found and getattr(request, "perspective", None) is not None:
            return  # lifted again, by these handles
        perspective = lifted.perspective
        self.found = "" if perspective is None else json.dumps(perspective.to_dict())
        self.reset()

    def _list_objects(self, request: LiftRequest | TrackRequest) -> None:
        """Lists the objects of a scene's first request; later ones are made from the list."""
        if self.objects:
            return
        self.mask_model = request.mask_model or ""
        boxes = [box if isinstance(box, ObjectBox) else ObjectBox(box) for box in request.boxes]
        for number, box in enumerate(boxes, 1):
            item = self.objects.add()
            item.name, item.kind, item.box = box.name or f"Object {number}", "box", box.rectangle
            item.use_foot, item.foot = box.foot is not None, box.foot or 0.0
        for path in request.masks:
            item = self.objects.add()
            item.name, item.kind = Path(path).stem, "mask"
            with suppress(RuntimeError):  # the file is gone
                item.mask = bpy.data.images.load(path)
                item.mask.pack()

    @property
    def masks(self) -> dict[str, bpy.types.Image]:
        """The images of the objects that have one, by their names."""
        return {item.name: item.mask for item in self.objects if item.kind == "mask" and item.mask is not None}

    def reset(self) -> None:
        """Sets the handles to the perspective as it was found."""
        perspective = self.found_perspective
        if perspective is None:
            return
        (_, self.horizon_left), (_, self.horizon_right) = perspective.horizon
        self.vanishing_x = perspective.vanishing_point[0]
        self.use_rectangle = perspective.rectangle is not None
        width, height = self.size
        default = (0.35 * width, 0.35 * height, 0.65 * width, 0.65 * height)
        self.rectangle = perspective.rectangle or default
        self.focal, self.indoors = perspective.focal, perspective.indoors

    @property
    def vanishing_point(self) -> tuple[float, float]:
        """The vanishing point, pixels from the top left."""
        slope = (self.horizon_right - self.horizon_left) / max(1, self.size[0])
        return self.vanishing_x, self.horizon_left + slope * self.vanishing_x

    @property
    def perspective(self) -> Perspective | None:
        """The perspective that the handles say; what was moved counts as sure."""
        found = self.found_perspective
        if found is None:
            return None
        width = float(self.size[0])
        (_, left), (_, right) = found.horizon
        is_level_kept = abs(left - self.horizon_left) < _SAME and abs(right - self.horizon_right) < _SAME
        is_focal_kept = abs(self.focal / found.focal - 1) < 1e-6
        return replace(
            found,
            horizon=((0.0, self.horizon_left), (width, self.horizon_right)),
            vanishing_point=self.vanishing_point,
            rectangle=tuple(self.rectangle) if self.use_rectangle else None,
            focal=found.focal if is_focal_kept else self.focal,
            focal_error=found.focal_error if is_focal_kept else 0.0,
            indoors=self.indoors,
            horizon_sure=found.horizon_sure or not is_level_kept,
            focal_sure=found.focal_sure or not is_focal_kept,
        )

    def lift_request(self) -> LiftRequest:
        """The request that lifts the photo again, with the handles and the boxes as they are now, without masks.

        Raises:
            UsageError: a box is empty.
        """
        request = LiftRequest.from_dict(json.loads(self.request)) if self.request else LiftRequest()
        boxes = tuple(
            ObjectBox(tuple(item.box), item.name, item.foot if item.use_foot else None) for item in self._boxes
        )
        request = replace(request, boxes=boxes, masks=(), mask_model=self._mask_model)
        perspective = self.perspective
        if perspective is None:
            return request
        return replace(request, perspective=perspective, indoors=self.indoors, camera_height=self.camera_height)

    def track_request(self) -> TrackRequest:
        """The request that tracks the footage again, with the boxes as they are now, without masks.

        Raises:
            UsageError: a box is empty.
        """
        request = TrackRequest.from_dict(json.loads(self.request)) if self.request else TrackRequest()
        boxes = tuple(tuple(item.box) for item in self._boxes)
        return replace(request, boxes=boxes, masks=(), mask_model=self._mask_model)

    @property
    def _boxes(self) -> list[TrackshadeLiftObject]:
        return [item for item in self.objects if item.kind == "box"]

    @property
    def _mask_model(self) -> str | None:
        """The network that cuts boxes out, where there is a box."""
        return bpy.path.abspath(self.mask_model.strip()) or None if self._boxes else None
