# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user wants of lifting a picture: where its depth comes from, its objects, and the handles that were moved."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from trackshade.core.errors import UsageError
from trackshade.shot.lifted import Perspective, Rectangle

DepthKind = Literal["auto", "z", "distance", "inverse"]
DEPTH_KINDS = ("auto", "z", "distance", "inverse")
Behind = Literal["fill", "none"]
BEHIND = ("fill", "none")
CAMERA_HEIGHT = 1.6  # metres above the ground, where nothing else is known
STRIDE = 4


@dataclass(frozen=True)
class ObjectBox:
    """An object that is cut out of the picture, and stands on the ground as a card.

    Attributes:
        rectangle: left, top, right and bottom around the object, pixels of the picture.
        name: name of the object; empty for a number.
        foot: row of the picture at which the object touches the ground, pixels; None to find it.
        depth: distance along the camera's axis, metres; None to find it where the foot touches the ground.
    """

    rectangle: Rectangle
    name: str = ""
    foot: float | None = None
    depth: float | None = None

    def __post_init__(self) -> None:
        left, top, right, bottom = self.rectangle
        if not all(map(math.isfinite, self.rectangle)) or right <= left or bottom <= top:
            raise UsageError("bad-box", f"The box {self.rectangle} is empty.", "Give left, top, right and bottom.")
        if self.foot is not None and not math.isfinite(self.foot):
            raise UsageError("bad-box", f"The foot of the box {self.rectangle} is not a row of the picture.")
        if self.depth is not None and not 0 < self.depth < math.inf:
            raise UsageError("bad-box", f"The depth of the box {self.rectangle} must be above 0 meters.")


@dataclass(frozen=True)
class LiftRequest:
    """How a picture is lifted to a scene.

    Attributes:
        depth: path of a depth file (.npy, .npz, OpenEXR, or an 8-bit or 16-bit picture); None without one.
        depth_kind: what its values are: "z" (along the camera's axis), "distance" (from the camera), "inverse" (of z,
            in any unit: white is near) or "auto": "inverse" for 8-bit and 16-bit pictures, otherwise "z".
        depth_unit: metres of a value of 1; None for 1 m, and for a scale by the camera's height with "inverse".
        depth_model: folder or identifier of a depth network, which is used if there is no depth file; or a .pt file of
            MoGe-2's weights, which also say the field of view if it is not known.
        masks: paths of masks, one for each object: white where it is seen.
        boxes: objects that are cut out by their boxes.
        mask_model: folder or identifier of a mask network (SAM 2, EdgeTAM) that cuts them out; None for GrabCut.
        fov: horizontal field of view, degrees; None to use the picture's metadata or to find it.
        perspective: how the camera stands, as found earlier or moved by the user; None to find it.
        indoors: whether there are side walls and a ceiling; None to decide by the picture.
        camera_height: metres above the ground; None for that of metric depth, otherwise `CAMERA_HEIGHT`.
        stride: pixels of the depth between vertices of flat regions.
        behind: what is behind objects: "fill" continues the background, "none" leaves a hole.
    """

    depth: str | None = None
    depth_kind: DepthKind = "auto"
    depth_unit: float | None = None
    depth_model: str | None = None
    masks: tuple[str, ...] = ()
    boxes: tuple[ObjectBox, ...] = ()
    fov: float | None = None
    perspective: Perspective | None = None
    indoors: bool | None = None
    camera_height: float | None = None
    stride: int = STRIDE
    behind: Behind = "fill"
    mask_model: str | None = None

    def __post_init__(self) -> None:
        checks = (
            (self.depth_kind in DEPTH_KINDS, f"The kind of depth must be one of {', '.join(DEPTH_KINDS)}."),
            (self.depth_unit is None or 0 < self.depth_unit < math.inf, "The unit of depth must be above 0 meters."),
            (self.fov is None or 1 <= self.fov <= 170, "The field of view must be from 1 to 170 degrees."),
            (self.camera_height is None or 0 < self.camera_height < 1e6, "The camera's height must be above 0 meters."),
            (self.mask_model is None or self.boxes, "A mask network is named, but no box for it."),
            (1 <= self.stride <= 64, "The stride must be from 1 to 64 pixels."),
            (self.behind in BEHIND, f"What is behind objects must be one of {', '.join(BEHIND)}."),
        )
        for holds, sentence in checks:
            if not holds:
                raise UsageError("bad-setting", sentence)

    def to_dict(self) -> dict[str, Any]:
        """Return the plain values."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> LiftRequest:
        """Return the request of plain values. Raise UsageError, which names the bad value."""
        known = {item.name for item in dataclasses.fields(LiftRequest)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise UsageError("bad-setting", f"Lifting has no setting {unknown[0]!r}.")
        values = dict(data)
        try:
            if values.get("perspective") is not None:
                values["perspective"] = Perspective.from_dict(values["perspective"])
            values["masks"] = tuple(str(path) for path in values.get("masks", ()))
            values["boxes"] = tuple(_box(item) for item in values.get("boxes", ()))
            for key in ("fov", "camera_height", "depth_unit"):
                if values.get(key) is not None:
                    values[key] = float(values[key])
            values["stride"] = int(values.get("stride", STRIDE))
            return LiftRequest(**values)
        except (KeyError, TypeError, ValueError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise UsageError("bad-setting", f"The settings of lifting are not valid: {reason}.") from error


def _box(data: Mapping[str, Any]) -> ObjectBox:
    left, top, right, bottom = (float(value) for value in data["rectangle"])
    foot, depth = (None if data.get(key) is None else float(data[key]) for key in ("foot", "depth"))
    return ObjectBox((left, top, right, bottom), str(data.get("name", "")), foot, depth)
