# SPDX-License-Identifier: GPL-3.0-or-later
"""How the render shows the material slots of evaluated meshes: what of them is see-through, and what is cut out.

Cycles and EEVEE evaluate shader nodes, each from its own Material Output; EEVEE leaves out the backs of materials that
cull them. Workbench ignores nodes: it has the alpha of the viewport display's color, or of an image. Every other
engine is taken to follow the nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import bpy
import numpy as np

from .animation import has_frame_scripts
from .cutouts import Cutouts
from .engines import EEVEE, WORKBENCH, look_engine
from .shader_nodes import LEVELS, Evaluator, Judgement, Source, trees

_CUTOFF = 0.1  # alpha below which Workbench draws nothing of an image
_UNKNOWN_SIDES = "the side it is seen from, together with an image"


class Look(NamedTuple):
    """How a material slot is shown in one sample.

    Attributes:
        front, back: whether that side is drawn.
        cutout: number of its cut-out, or None.
        uv: the texture coordinates of the cut-out; None for those that renders use.
        holdout: it is a hole in the picture.
    """

    front: bool = True
    back: bool = True
    cutout: int | None = None
    uv: str | None = None
    holdout: bool = False

    @property
    def shown(self) -> bool:
        return self.front or self.back


PLAIN = Look()
Looks = tuple[Look, ...]


@dataclass(frozen=True, eq=False)
class _Material:
    """What is known of a material on an object."""

    look: Look
    partly: bool = False
    unknown: str = ""
    displaces: bool = False


@dataclass(eq=False)
class Findings:
    """What there is to say of the objects' materials.

    Attributes:
        unknown: by (object, material): why it cannot be told what shows through.
        partly: names of objects that let more than half through and are to be seen themselves.
        displaced: by (object, material), what the engine moves after Blender's evaluation.
        diced: names of objects that Cycles subdivides by what the picture shows.
    """

    unknown: dict[tuple[str, str], str] = field(default_factory=dict)
    partly: dict[str, None] = field(default_factory=dict)
    displaced: dict[tuple[str, str], None] = field(default_factory=dict)
    diced: dict[str, None] = field(default_factory=dict)

    def add(self, other: Findings) -> None:
        """What there is to say of another sample."""
        self.unknown |= other.unknown
        self.partly |= other.partly
        self.displaced |= other.displaced
        self.diced |= other.diced


class Materials:
    """Answers for one sample at a time.

    Args:
        view_layer: whose materials are asked for.
        glass: "opaque" or "through": whether what lets more than half through counts as a surface.
        cutouts: where images go; None to leave images unread, so that what they cut out counts as drawn.
    """

    def __init__(self, view_layer: bpy.types.ViewLayer, glass: str = "opaque", cutouts: Cutouts | None = None) -> None:
        scene = view_layer.id_data
        assert isinstance(scene, bpy.types.Scene)
        self.findings = Findings()
        self._scene = scene
        self._through, self._cutouts = glass == "through", cutouts
        self.engine = look_engine(scene)
        self._shading = scene.display.shading
        self._target = {"CYCLES": "CYCLES", **dict.fromkeys(EEVEE, "EEVEE")}.get(self.engine, "ALL")
        self._override = None
        # EEVEE knows the view layer's material since Blender 5.0, Workbench never.
        if self.engine != WORKBENCH and not (self.engine in EEVEE and bpy.app.version < (5, 0, 0)):
            self._override = view_layer.material_override
        # An evaluated object has its mesh's material in an empty slot of its own; Cycles has not, since Blender 5.
        self._leaves_empty = self.engine == "CYCLES" and bpy.app.version >= (5, 0, 0)
        self._depsgraph: bpy.types.Depsgraph | None = None
        self._images: dict[int, bpy.types.Image] = {}
        self._lasting: dict[int, _Material] = {}  # by material: the same in all samples and on all objects
        self._known: dict[tuple[int, int], _Material] = {}  # by material and object, in this sample
        self._constant: dict[int, bool] = {}
        self._diced: dict[int, bool] = {}

    def begin(self, depsgraph: bpy.types.Depsgraph) -> None:
        """Starts a sample."""
        self._depsgraph = depsgraph
        self._known.clear()

    def of(self, obj: bpy.types.Object, mesh: bpy.types.Mesh, name: str) -> Looks:
        """How each material slot of an evaluated object's mesh is shown; () where all are solid.

        Args:
            name: of the object, for what there is to say of it.
        """
        if self.engine == "CYCLES" and self._is_diced(obj.original):
            self.findings.diced.setdefault(name)
        looks = tuple(self._look(material, obj, name) for material in self.slots(obj, mesh))
        return () if all(look == PLAIN for look in looks) else looks

    def slots(self, obj: bpy.types.Object, mesh: bpy.types.Mesh) -> Iterator[bpy.types.Material | None]:
        """The material of each slot as the render has it."""
        own, slots = mesh.materials, obj.material_slots
        count = max(len(own), len(slots), 1)
        if self._override is not None:
            yield from [self._override] * count
            return
        for index in range(count):
            slot = slots[index] if index < len(slots) else None
            if slot is not None and slot.link == "OBJECT":
                yield None if self._leaves_empty and _is_empty(obj.original, index) else slot.material
            else:
                yield own[index] if index < len(own) else None

    def _look(self, material: bpy.types.Material | None, obj: bpy.types.Object, name: str) -> Look:
        if self.engine == WORKBENCH:
            found = self._workbench(material, obj)
        elif material is None:
            return PLAIN
        else:
            found = self._by_nodes(material, obj)
        if found.partly:
            self.findings.partly.setdefault(name)
        if found.unknown and material is not None:
            self.findings.unknown.setdefault((name, material.name), found.unknown)
        if found.displaces and material is not None:
            self.findings.displaced.setdefault((name, material.name))
        return found.look

    # Shader nodes

    def _by_nodes(self, material: bpy.types.Material, obj: bpy.types.Object) -> _Material:
        uid = material.original.session_uid
        found = self._lasting.get(uid) or self._known.get((uid, obj.original.session_uid))
        if found is not None:
            return found
        evaluated = material.original.evaluated_get(self._depsgraph) if self._depsgraph is not None else material
        sides, by_object, displaces = [], False, False
        for backfacing in (False, True):
            evaluator = Evaluator(self._target, obj, backfacing, self._images)
            sides.append(evaluator.judge(evaluated, self._through))
            if not backfacing and material.displacement_method in ("DISPLACEMENT", "BOTH"):
                displaces = evaluator.displaces(evaluated)
            by_object = by_object or evaluator.by_object
        if self._target == "EEVEE" and material.use_backface_culling:
            sides[1] = Judgement(shown=False)
        found = replace(self._put_together(*sides), displaces=displaces)
        if not by_object and self._is_constant(material.original):
            self._lasting[uid] = found
        else:
            self._known[uid, obj.original.session_uid] = found
        return found

    def _put_together(self, front: Judgement, back: Judgement) -> _Material:
        """One look of what both sides are."""
        partly, unknown = front.partly or back.partly, front.unknown or back.unknown
        if front.shown and back.shown and (front.source, front.opaque) != (back.source, back.opaque):
            return _Material(PLAIN, partly, unknown or _UNKNOWN_SIDES)
        shown = front if front.shown else back
        look = Look(front.shown, back.shown, holdout=shown.holdout)
        if shown.source is not None and shown.opaque is not None and look.shown:
            look = self._cut(look, shown.source, shown.opaque)
        return _Material(look, partly, unknown)

    def _cut(self, look: Look, source: Source, opaque: tuple[bool, ...]) -> Look:
        if self._cutouts is None:
            return look
        found = self._cutouts.of(self._images[source.image], source, opaque)
        if found is True:
            return look
        if found is False:
            return Look(False, False)
        return look._replace(cutout=found, uv=source.uv)

    def _is_diced(self, obj: bpy.types.Object) -> bool:
        """Whether Cycles subdivides an original object itself, which it does where the last modifier does."""
        uid = obj.session_uid
        if uid not in self._diced:
            last = obj.modifiers[-1] if obj.modifiers else None
            diced = last is not None and last.type == "SUBSURF" and last.show_render
            if last is not None and diced and hasattr(last, "use_adaptive_subdivision"):  # Blender 5
                diced = last.use_adaptive_subdivision
            elif diced:
                own, scene = getattr(obj, "cycles", None), getattr(self._scene, "cycles", None)
                experimental = scene is not None and scene.feature_set == "EXPERIMENTAL"
                diced = experimental and own is not None and own.use_adaptive_subdivision
            self._diced[uid] = diced
        return self._diced[uid]

    def _is_constant(self, material: bpy.types.Material) -> bool:
        """Whether a material is the same in every frame."""
        uid = material.session_uid
        constant = self._constant.get(uid)
        if constant is None:
            owners = [material, *trees(material)]
            constant = not has_frame_scripts() and all(item.animation_data is None for item in owners)
            self._constant[uid] = constant
        return constant

    # Workbench

    def _workbench(self, material: bpy.types.Material | None, obj: bpy.types.Object) -> _Material:
        """By the display settings of renders."""
        shading = self._shading
        back = not shading.show_backface_culling
        kind = shading.color_type
        look, alpha = Look(back=back), 1.0
        if kind == "OBJECT":
            alpha = obj.color[3]
        elif kind in ("MATERIAL", "TEXTURE") and material is not None:
            image = _painted_image(material) if kind == "TEXTURE" else None
            if image is not None:
                return _Material(self._cut(look, *self._painted(image)) if self._cutouts is not None else look)
            alpha = material.diffuse_color[3]
        if alpha >= 0.5:
            return _Material(look)
        if alpha < 1 / 255 or self._through:
            return _Material(Look(False, False), partly=alpha >= 1 / 255)
        return _Material(look, partly=True)

    def _painted(self, image: bpy.types.Image) -> tuple[Source, tuple[bool, ...]]:
        uid = image.original.session_uid
        self._images[uid] = image.original
        source = Source(uid, "alpha", None, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), "REPEAT", True)
        return source, tuple((np.arange(LEVELS) / (LEVELS - 1) >= _CUTOFF).tolist())


def _is_empty(obj: bpy.types.Object, index: int) -> bool:
    return index < len(obj.material_slots) and obj.material_slots[index].material is None


def _painted_image(material: bpy.types.Material) -> bpy.types.Image | None:
    """The image that Workbench shows on a material: that of the active image node, else of any."""
    original = material.original
    if not original.use_nodes or original.node_tree is None:
        return None
    nodes = [node for tree in trees(original) for node in tree.nodes if node.type == "TEX_IMAGE" and node.image]
    active = original.node_tree.nodes.active
    node = active if active is not None and active in nodes else (nodes or [None])[-1]
    image = None if node is None else node.image
    if image is None or image.source not in ("FILE", "GENERATED") or not image.size[0]:
        return None
    return image
