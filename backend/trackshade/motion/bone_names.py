# SPDX-License-Identifier: GPL-3.0-or-later
"""Which bone of a rig, or joint of a motion file, is which joint of `trackshade.motion.skeleton`, by its name."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from trackshade.core.errors import ShotError, UsageError
from trackshade.motion.skeleton import JOINTS

NEEDED = ("pelvis", "upper_arm_l", "upper_arm_r", "thigh_l", "thigh_r")
"""Joints that say how a body is turned, without which nothing is transferred."""

# The names of each convention's bones, in lower case without separators and namespaces; {l} is l or r, and {left} is
# left or right. Of names that are joined by bars, the first one that a rig has is taken.
_CONVENTIONS: Mapping[str, str] = {
    "Trackshade": """
        pelvis=pelvis spine=spine chest=chest neck=neck head=head
        upper_arm=upperarm{l} forearm=forearm{l} hand=hand{l} fingers=fingers{l}
        thigh=thigh{l} shin=shin{l} foot=foot{l}""",
    "Mixamo": """
        pelvis=hips spine=spine chest=spine2|spine1 neck=neck head=head
        upper_arm={left}arm forearm={left}forearm hand={left}hand fingers={left}handmiddle1|{left}handindex1
        thigh={left}upleg shin={left}leg foot={left}foot""",
    "CMU": """
        pelvis=hips|hip spine=lowerback|abdomen chest=spine1|spine|chest neck=neck|neck1 head=head
        upper_arm={left}arm|{l}shldr forearm={left}forearm|{l}forearm hand={left}hand|{l}hand
        fingers={left}fingerbase|{left}handindex1
        thigh={left}upleg|{l}thigh shin={left}leg|{l}shin foot={left}foot|{l}foot""",
    "Biovision": """
        pelvis=hips spine=chest chest=chest4|chest3|chest2 neck=neck head=head
        upper_arm={left}shoulder|{left}uparm forearm={left}elbow|{left}lowarm hand={left}wrist|{left}hand
        thigh={left}hip|{left}upleg shin={left}knee|{left}lowleg foot={left}ankle|{left}foot""",
    "Rigify": """
        pelvis=spine spine=spine001 chest=spine003 neck=spine004 head=spine006
        upper_arm=upperarm{l} forearm=forearm{l} hand=hand{l} fingers=fmiddle01{l}
        thigh=thigh{l} shin=shin{l} foot=foot{l}""",
    "Rigify controls": """
        pelvis=torso spine=spinefk001 chest=chest neck=neck head=head
        upper_arm=upperarmfk{l} forearm=forearmfk{l} hand=handfk{l}
        thigh=thighfk{l} shin=shinfk{l} foot=footfk{l}""",
    "Unreal": """
        pelvis=pelvis spine=spine01 chest=spine03|spine02 neck=neck01 head=head
        upper_arm=upperarm{l} forearm=lowerarm{l} hand=hand{l} fingers=middle01{l}
        thigh=thigh{l} shin=calf{l} foot=foot{l}""",
    "Low-poly": """
        pelvis=body|hips|pelvis|hip spine=abdomen|spine chest=torso|chest|upperbody neck=neck head=head
        upper_arm=upperarm{l}|arm{l}|{left}upperarm forearm=lowerarm{l}|forearm{l}|{left}lowerarm
        hand=palm2{l}|palm{l}|hand{l}|fist{l}|{left}hand fingers=middle1{l}|fingers{l}
        thigh=upperleg{l}|thigh{l}|{left}upperleg shin=lowerleg{l}|shin{l}|calf{l}|{left}lowerleg
        foot=foot{l}|{left}foot""",
}


def conventions() -> tuple[str, ...]:
    """Return the names of the naming conventions that are known."""
    return tuple(_CONVENTIONS)


def match_bones(names: Iterable[str]) -> dict[str, str]:
    """Return the bone of each joint of the skeleton, for those that are found.

    The convention that knows most of the names decides; what it lacks is taken from the others. No bone stands twice.

    Args:
        names: names of the bones of a rig, or of the joints of a motion file.
    """
    plain: dict[str, str] = {}
    for name in names:
        plain.setdefault(_plain(name), name)
    tables = sorted((_match(table, plain) for table in _CONVENTIONS.values()), key=len, reverse=True)
    found = tables[0]
    for table in tables[1:]:
        for joint, name in table.items():
            if joint not in found and name not in found.values():
                found[joint] = name
    return {joint: found[joint] for joint in JOINTS if joint in found}


def require_bones(table: Mapping[str, str], what: str, needed: Iterable[str] = NEEDED) -> None:
    """Raise ShotError unless a table names the joints that are needed; `what` begins the sentence."""
    missing = [joint for joint in needed if not table.get(joint)]
    if missing:
        raise ShotError(
            "unknown-bones",
            f"{what} has no bones with known names for {', '.join(missing)}.",
            "Say which bones they are, in the table of bones or in a file of them.",
        )


def read_bone_table(path: Path) -> dict[str, str]:
    """Read a JSON or TOML file that names the bone of joints, such as {"forearm_l": "LowerArm.L"}.

    Raises:
        UsageError: it cannot be read, or names a joint that the skeleton does not have.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
        if not isinstance(data, dict) or not all(isinstance(bone, str) for bone in data.values()):
            raise ValueError("it is no table of names")
    except (OSError, ValueError) as error:
        raise UsageError(
            "bad-bone-table", f"The table of bones {path} cannot be read: {error}.", "Give a JSON or TOML file."
        ) from error
    unknown = sorted({*data} - {*JOINTS})
    if unknown:
        raise UsageError(
            "bad-bone-table",
            f"The table of bones {path.name} names the joint '{unknown[0]}', which the skeleton does not have.",
            f"Its joints are: {', '.join(JOINTS)}.",
        )
    return {joint: bone for joint, bone in data.items() if bone}


def _match(convention: str, plain: Mapping[str, str]) -> dict[str, str]:
    """Return the bones that a convention names, from names by their plain form."""
    table = dict(entry.split("=") for entry in convention.split())
    found: dict[str, str] = {}
    for joint in JOINTS:
        part, _, side = joint.rpartition("_") if joint.endswith(("_l", "_r")) else (joint, "", "")
        sides = {"l": side, "left": {"l": "left", "r": "right"}.get(side, "")}
        for pattern in table.get(part, "").split("|"):
            name = plain.get(pattern.format(**sides))
            if pattern and name is not None and name not in found.values():
                found[joint] = name
                break
    return found


def _plain(name: str) -> str:
    """Return a name in lower case without separators, namespace and the prefix of deforming bones."""
    name = name.rsplit(":", 1)[-1]
    name = re.sub(r"^(?:DEF|ORG)-|^mixamorig\d*_|^bip0*1?[_ ]", "", name, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]", "", name.lower())
