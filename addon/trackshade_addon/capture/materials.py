# SPDX-License-Identifier: GPL-3.0-or-later
"""How the render shows the material slots of evaluated meshes: opaque, transparent, from one side, or cut out.

Cycles and EEVEE evaluate shader nodes, each from its own Material Output; EEVEE omits the backs of materials with
backface culling. Workbench ignores nodes: it uses the alpha of the viewport display color, or of an image. Every other
engine is assumed to follow the nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import bpy
import numpy as np

from .animation import has_frame_scripts
from .cutouts import Cutouts
from .scene_settings import EEVEE, WORKBENCH, first_frame_engine
from .shader_nodes import ShaderEvaluator, SideAppearance
from .shader_values import LEVELS, ImageChannel, node_trees

_CUTOFF = 0.1  # alpha below which Workbench draws nothing of an image
_UNKNOWN_SIDES = "the side it is seen from, together with an image"


class SlotAppearance(NamedTuple):
    """How a material slot is shown in one sample.

    Attributes:
        front: whether its front is drawn.
        back: whether its back is drawn.
        cutout: index of its cutout, or None.
        uv: name of the cutout's UV map; None for the one that renders use.
        holdout: whether it is a hole in the image.
    """

    front: bool = True
    back: bool = True
    cutout: int | None = None
    uv: str | None = None
    holdout: bool = False

    @property
    def is_shown(self) -> bool:
        """Whether any side of it is drawn."""
        return self.front or self.back


SlotAppearances = tuple[SlotAppearance, ...]  # by slot; () if all are opaque
OPAQUE = SlotAppearance()
_HIDDEN = SlotAppearance(False, False)


@dataclass(frozen=True, eq=False)
class _MaterialResult:
    """The evaluation of a material on an object; attributes as in `SlotAppearance` and `SideAppearance`."""

    appearance: SlotAppearance
    partly: bool = False
    unknown: str = ""
    displaces: bool = False


@dataclass(eq=False)
class MaterialNotes:
    """Facts about materials that warnings are made from.

    Attributes:
        unknown: by (object, material): why its transparency is unknown.
        partly: names of objects that transmit more than half of the light and are visible themselves.
        displaced: (object, material) pairs with displacement, which the engine applies after Blender's evaluation.
        diced: names of objects with adaptive subdivision in Cycles.
    """

    unknown: dict[tuple[str, str], str] = field(default_factory=dict)
    partly: dict[str, None] = field(default_factory=dict)
    displaced: dict[tuple[str, str], None] = field(default_factory=dict)
    diced: dict[str, None] = field(default_factory=dict)

    def add(self, other: MaterialNotes) -> None:
        """Adds the notes of another sample."""
        self.unknown |= other.unknown
        self.partly |= other.partly
        self.displaced |= other.displaced
        self.diced |= other.diced


class MaterialEvaluator:
    """Evaluates material slots, one sample at a time.

    Args:
        view_layer: the view layer that is rendered.
        glass: "opaque" or "through": whether what transmits more than half of the light counts as a surface.
        cutouts: receives images; None to not read images, so that what they cut out counts as drawn.

    Attributes:
        engine: the render engine.
        notes: facts about the materials that were evaluated.
    """

    def __init__(self, view_layer: bpy.types.ViewLayer, glass: str = "opaque", cutouts: Cutouts | None = None) -> None:
        scene = view_layer.id_data
        assert isinstance(scene, bpy.types.Scene)
        self.notes = MaterialNotes()
        self._scene = scene
        self._through, self._cutouts = glass == "through", cutouts
        self.engine = first_frame_engine(scene)
        self._shading = scene.display.shading
        self._target = {"CYCLES": "CYCLES", **dict.fromkeys(EEVEE, "EEVEE")}.get(self.engine, "ALL")
        self._override = None
        # EEVEE applies the view layer's material override since Blender 5.0, Workbench never.
        if self.engine != WORKBENCH and not (self.engine in EEVEE and bpy.app.version < (5, 0, 0)):
            self._override = view_layer.material_override
        # An evaluated object has its mesh's material in an empty slot of its own; not in Cycles since Blender 5.
        self._leaves_empty = self.engine == "CYCLES" and bpy.app.version >= (5, 0, 0)
        self._depsgraph: bpy.types.Depsgraph | None = None
        self._images: dict[int, bpy.types.Image] = {}
        self._constant: dict[int, _MaterialResult] = {}  # by material: the same in all samples and on all objects
        self._known: dict[tuple[int, int], _MaterialResult] = {}  # by material and object, in this sample
        self._is_static: dict[int, bool] = {}  # by material
        self._is_diced: dict[int, bool] = {}  # by object

    def begin_sample(self, depsgraph: bpy.types.Depsgraph) -> None:
        """Starts a sample."""
        self._depsgraph = depsgraph
        self._known.clear()

    def evaluate(self, obj: bpy.types.Object, mesh: bpy.types.Mesh, name: str) -> SlotAppearances:
        """The appearance of each material slot of an evaluated object's mesh; () if all are opaque.

        `name` is the object's name for notes.
        """
        if self.engine == "CYCLES" and self._has_adaptive_subdivision(obj.original):
            self.notes.diced.setdefault(name)
        slots = tuple(self._evaluate(material, obj, name) for material in self._slot_materials(obj, mesh))
        return () if all(slot == OPAQUE for slot in slots) else slots

    def _slot_materials(self, obj: bpy.types.Object, mesh: bpy.types.Mesh) -> Iterator[bpy.types.Material | None]:
        """The material that the render uses for each slot."""
        of_mesh, of_object = mesh.materials, obj.material_slots
        count = max(len(of_mesh), len(of_object), 1)
        if self._override is not None:
            yield from [self._override] * count
            return
        for index in range(count):
            slot = of_object[index] if index < len(of_object) else None
            if slot is not None and slot.link == "OBJECT":
                yield None if self._leaves_empty and _is_empty_slot(obj.original, index) else slot.material
            else:
                yield of_mesh[index] if index < len(of_mesh) else None

    def _evaluate(self, material: bpy.types.Material | None, obj: bpy.types.Object, name: str) -> SlotAppearance:
        if self.engine == WORKBENCH:
            found = self._evaluate_workbench(material, obj)
        elif material is None:
            return OPAQUE
        else:
            found = self._evaluate_nodes(material, obj)
        if found.partly:
            self.notes.partly.setdefault(name)
        if found.unknown and material is not None:
            self.notes.unknown.setdefault((name, material.name), found.unknown)
        if found.displaces and material is not None:
            self.notes.displaced.setdefault((name, material.name))
        return found.appearance

    # Shader nodes

    def _evaluate_nodes(self, material: bpy.types.Material, obj: bpy.types.Object) -> _MaterialResult:
        uid = material.original.session_uid
        found = self._constant.get(uid) or self._known.get((uid, obj.original.session_uid))
        if found is not None:
            return found
        evaluated = material.original.evaluated_get(self._depsgraph) if self._depsgraph is not None else material
        sides, depends_on_object, displaces = [], False, False
        for backfacing in (False, True):
            evaluator = ShaderEvaluator(self._target, obj, backfacing, self._images)
            sides.append(evaluator.appearance(evaluated, self._through))
            if not backfacing and material.displacement_method in ("DISPLACEMENT", "BOTH"):
                displaces = evaluator.displaces(evaluated)
            depends_on_object = depends_on_object or evaluator.depends_on_object
        if self._target == "EEVEE" and material.use_backface_culling:
            sides[1] = SideAppearance(shown=False)
        found = replace(self._combine(*sides), displaces=displaces)
        if not depends_on_object and self._is_static_material(material.original):
            self._constant[uid] = found
        else:
            self._known[uid, obj.original.session_uid] = found
        return found

    def _combine(self, front: SideAppearance, back: SideAppearance) -> _MaterialResult:
        """Combines the appearances of both sides."""
        partly, unknown = front.partly or back.partly, front.unknown or back.unknown
        if front.shown and back.shown and (front.source, front.opaque) != (back.source, back.opaque):
            return _MaterialResult(OPAQUE, partly, unknown or _UNKNOWN_SIDES)
        shown = front if front.shown else back
        appearance = SlotAppearance(front.shown, back.shown, holdout=shown.holdout)
        if shown.source is not None and shown.opaque is not None and appearance.is_shown:
            appearance = self._cut_out(appearance, shown.source, shown.opaque)
        return _MaterialResult(appearance, partly, unknown)

    def _cut_out(self, appearance: SlotAppearance, source: ImageChannel, opaque: tuple[bool, ...]) -> SlotAppearance:
        if self._cutouts is None:
            return appearance
        found = self._cutouts.add(self._images[source.image], source, opaque)
        if isinstance(found, bool):
            return appearance if found else _HIDDEN
        return appearance._replace(cutout=found, uv=source.uv)

    def _has_adaptive_subdivision(self, obj: bpy.types.Object) -> bool:
        """Whether Cycles subdivides an original object itself, by its last modifier."""
        uid = obj.session_uid
        if uid not in self._is_diced:
            last = obj.modifiers[-1] if obj.modifiers else None
            diced = last is not None and last.type == "SUBSURF" and last.show_render
            if last is not None and diced and hasattr(last, "use_adaptive_subdivision"):  # Blender 5
                diced = last.use_adaptive_subdivision
            elif diced:
                settings, scene = getattr(obj, "cycles", None), getattr(self._scene, "cycles", None)
                experimental = scene is not None and scene.feature_set == "EXPERIMENTAL"
                diced = experimental and settings is not None and settings.use_adaptive_subdivision
            self._is_diced[uid] = diced
        return self._is_diced[uid]

    def _is_static_material(self, material: bpy.types.Material) -> bool:
        """Whether a material is the same in every frame."""
        uid = material.session_uid
        static = self._is_static.get(uid)
        if static is None:
            owners = [material, *node_trees(material)]
            static = not has_frame_scripts() and all(item.animation_data is None for item in owners)
            self._is_static[uid] = static
        return static

    # Workbench

    def _evaluate_workbench(self, material: bpy.types.Material | None, obj: bpy.types.Object) -> _MaterialResult:
        """Evaluates a slot by the scene's shading settings for Workbench renders."""
        kind = self._shading.color_type
        appearance, alpha = SlotAppearance(back=not self._shading.show_backface_culling), 1.0
        if kind == "OBJECT":
            alpha = obj.color[3]
        elif kind in ("MATERIAL", "TEXTURE") and material is not None:
            image = _workbench_image(material) if kind == "TEXTURE" else None
            if image is not None:
                if self._cutouts is not None:
                    appearance = self._cut_out(appearance, *self._alpha_channel(image))
                return _MaterialResult(appearance)
            alpha = material.diffuse_color[3]
        if alpha >= 0.5:
            return _MaterialResult(appearance)
        if alpha < 1 / 255 or self._through:
            return _MaterialResult(_HIDDEN, partly=alpha >= 1 / 255)
        return _MaterialResult(appearance, partly=True)

    def _alpha_channel(self, image: bpy.types.Image) -> tuple[ImageChannel, tuple[bool, ...]]:
        """The alpha channel of an image as Workbench maps it, and which of its levels are drawn."""
        uid = image.original.session_uid
        self._images[uid] = image.original
        source = ImageChannel(uid, "alpha", None, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), "REPEAT", True)
        return source, tuple((np.arange(LEVELS) / (LEVELS - 1) >= _CUTOFF).tolist())


def _is_empty_slot(obj: bpy.types.Object, index: int) -> bool:
    return index < len(obj.material_slots) and obj.material_slots[index].material is None


def _workbench_image(material: bpy.types.Material) -> bpy.types.Image | None:
    """The image that Workbench shows on a material: that of the active image node, else of any."""
    original = material.original
    if not original.use_nodes or original.node_tree is None:
        return None
    nodes = [node for tree in node_trees(original) for node in tree.nodes if node.type == "TEX_IMAGE" and node.image]
    active = original.node_tree.nodes.active
    node = active if active is not None and active in nodes else (nodes or [None])[-1]
    image = None if node is None else node.image
    if image is None or image.source not in ("FILE", "GENERATED") or not image.size[0]:
        return None
    return image
