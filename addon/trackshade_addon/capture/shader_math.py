# SPDX-License-Identifier: GPL-3.0-or-later
"""The functions of converter nodes in the shader editor, over arrays.

`FUNCTIONS` maps the type of a node to a function of (node, output). That returns a function of arrays (numbers [N],
colors and vectors [N, 3]) and the inputs to apply it to; None and [] for a setting that is not supported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Function = Callable[..., Values] | None
Inputs = list[Any]

LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


def luminance(color: Values) -> Values:
    """Luminance [N] of scene-linear colors [N, 3]."""
    return color @ LUMINANCE


def _wrap(x: Values, high: Values, low: Values) -> Values:
    span = high - low
    return np.where(span != 0, x - span * np.floor((x - low) / span), low)


def _ping_pong(x: Values, scale: Values) -> Values:
    return np.where(scale != 0, np.abs(np.mod((x - scale) / (2 * scale), 1) * 2 * scale - scale), 0)


_MATH: Mapping[str, tuple[int, Callable[..., Values]]] = {
    "ADD": (2, lambda a, b: a + b),
    "SUBTRACT": (2, lambda a, b: a - b),
    "MULTIPLY": (2, lambda a, b: a * b),
    "DIVIDE": (2, lambda a, b: np.where(b != 0, a / b, 0)),
    "MULTIPLY_ADD": (3, lambda a, b, c: a * b + c),
    "POWER": (2, np.power),
    "LOGARITHM": (2, lambda a, b: np.log(a) / np.log(b)),
    "SQRT": (1, np.sqrt),
    "INVERSE_SQRT": (1, lambda a: np.where(a > 0, 1 / np.sqrt(a), 0)),
    "ABSOLUTE": (1, np.abs),
    "EXPONENT": (1, np.exp),
    "MINIMUM": (2, np.minimum),
    "MAXIMUM": (2, np.maximum),
    "LESS_THAN": (2, lambda a, b: (a < b) * 1.0),
    "GREATER_THAN": (2, lambda a, b: (a > b) * 1.0),
    "SIGN": (1, np.sign),
    "COMPARE": (3, lambda a, b, c: (np.abs(a - b) <= np.maximum(c, 1e-5)) * 1.0),
    "ROUND": (1, lambda a: np.floor(a + 0.5)),
    "FLOOR": (1, np.floor),
    "CEIL": (1, np.ceil),
    "TRUNC": (1, np.trunc),
    "FRACT": (1, lambda a: a - np.floor(a)),
    "MODULO": (2, lambda a, b: np.where(b != 0, np.fmod(a, b), 0)),
    "FLOORED_MODULO": (2, lambda a, b: np.where(b != 0, np.mod(a, b), 0)),
    "WRAP": (3, _wrap),
    "SNAP": (2, lambda a, b: np.where(b != 0, np.floor(a / b) * b, 0)),
    "PINGPONG": (2, _ping_pong),
    "SINE": (1, np.sin),
    "COSINE": (1, np.cos),
    "TANGENT": (1, np.tan),
    "RADIANS": (1, np.radians),
    "DEGREES": (1, np.degrees),
}
_BLEND: Mapping[str, Callable[[Values, Values], Values]] = {
    "MIX": lambda a, b: b,
    "ADD": lambda a, b: a + b,
    "SUBTRACT": lambda a, b: a - b,
    "MULTIPLY": lambda a, b: a * b,
    "SCREEN": lambda a, b: 1 - (1 - a) * (1 - b),
    "DARKEN": np.minimum,
    "LIGHTEN": np.maximum,
    "DIFFERENCE": lambda a, b: np.abs(a - b),
}


def _with_clamp(function: Callable[..., Values], clamp: bool) -> Callable[..., Values]:
    return (lambda *values: np.clip(function(*values), 0, 1)) if clamp else function


def _math(node: Any, output: Any) -> tuple[Function, Inputs]:
    count, function = _MATH.get(node.operation, (0, None))
    if function is None:
        return None, []
    return _with_clamp(function, node.use_clamp), list(node.inputs)[:count]


def _clamp(node: Any, output: Any) -> tuple[Function, Inputs]:
    if node.clamp_type == "RANGE":
        return lambda x, a, b: np.clip(x, np.minimum(a, b), np.maximum(a, b)), list(node.inputs)[:3]
    return lambda x, a, b: np.minimum(np.maximum(x, a), b), list(node.inputs)[:3]


def _map_range(node: Any, output: Any) -> tuple[Function, Inputs]:
    kind = node.interpolation_type
    if node.data_type != "FLOAT" or kind not in ("LINEAR", "STEPPED", "SMOOTHSTEP", "SMOOTHERSTEP"):
        return None, []
    names = ["Value", "From Min", "From Max", "To Min", "To Max"] + (["Steps"] if kind == "STEPPED" else [])

    def map_range(x: Values, low: Values, high: Values, to_low: Values, to_high: Values, *steps: Values) -> Values:
        fraction = np.where(high != low, (x - low) / (high - low), 0)
        if steps:
            fraction = np.where(steps[0] > 0, np.floor(fraction * (steps[0] + 1)) / steps[0], 0)
        elif kind != "LINEAR":
            fraction = np.clip(fraction, 0, 1)
            smoother = fraction**3 * (fraction * (fraction * 6 - 15) + 10)
            fraction = fraction**2 * (3 - 2 * fraction) if kind == "SMOOTHSTEP" else smoother
        result = to_low + fraction * (to_high - to_low)
        if node.clamp and kind in ("LINEAR", "STEPPED"):
            result = np.clip(result, np.minimum(to_low, to_high), np.maximum(to_low, to_high))
        return result

    return map_range, [node.inputs[name] for name in names]


def _mix(node: Any, output: Any) -> tuple[Function, Inputs]:
    kind = {"FLOAT": "Float", "RGBA": "Color", "VECTOR": "Vector"}.get(node.data_type)
    blend = _BLEND.get(node.blend_type if node.data_type == "RGBA" else "MIX")
    if kind is None or blend is None or (kind == "Vector" and node.factor_mode != "UNIFORM"):
        return None, []
    by_identifier = {item.identifier: item for item in node.inputs}
    inputs = [by_identifier[f"{name}_{part}"] for name, part in (("Factor", "Float"), ("A", kind), ("B", kind))]
    return _blend(blend, node.clamp_factor, node.data_type == "RGBA" and node.clamp_result), inputs


def _mix_rgb(node: Any, output: Any) -> tuple[Function, Inputs]:
    blend = _BLEND.get(node.blend_type)
    return (None if blend is None else _blend(blend, True, node.use_clamp)), list(node.inputs)[:3]


def _blend(blend: Callable[[Values, Values], Values], clamp_factor: bool, clamp: bool) -> Callable[..., Values]:
    def mix(factor: Values, a: Values, b: Values) -> Values:
        factor = np.clip(factor, 0, 1) if clamp_factor else factor
        factor = factor.reshape(-1, *[1] * (a.ndim - 1))
        return a + factor * (blend(a, b) - a)

    return _with_clamp(mix, clamp)


def _ramp(node: Any, output: Any) -> tuple[Function, Inputs]:
    evaluate = node.color_ramp.evaluate
    alpha = output == node.outputs[1]

    def ramp(x: Values) -> Values:
        result = np.array([tuple(evaluate(float(value))) for value in x])
        return result[:, 3] if alpha else result[:, :3]

    return ramp, list(node.inputs)[:1]


def _float_curve(node: Any, output: Any) -> tuple[Function, Inputs]:
    mapping = node.mapping

    def curve(factor: Values, x: Values) -> Values:
        result = np.array([mapping.evaluate(mapping.curves[0], float(value)) for value in x])
        return x + factor * (result - x)

    mapping.initialize()
    return curve, list(node.inputs)[:2]


def _rgb_curves(node: Any, output: Any) -> tuple[Function, Inputs]:
    mapping = node.mapping
    mapping.initialize()

    def curve(factor: Values, color: Values) -> Values:
        def along(index: int, x: float) -> float:
            return mapping.evaluate(mapping.curves[index], mapping.evaluate(mapping.curves[3], x))

        result = np.array([[along(index, float(x)) for index, x in enumerate(row)] for row in color])
        return color + factor[:, None] * (result - color)

    return curve, list(node.inputs)[:2]


def _contrast(color: Values, bright: Values, contrast: Values) -> Values:
    return np.maximum((1 + contrast[:, None]) * color + (bright - contrast * 0.5)[:, None], 0)


def _simple(count: int, function: Callable[..., Values]) -> Callable[[Any, Any], tuple[Function, Inputs]]:
    """For a node without settings, whose function takes the first `count` inputs."""
    return lambda node, output: (function, list(node.inputs)[:count])


def _combine(node: Any, output: Any) -> tuple[Function, Inputs]:
    if getattr(node, "mode", "RGB") != "RGB":
        return None, []
    return lambda a, b, c: np.stack(np.broadcast_arrays(a, b, c), -1), list(node.inputs)[:3]


def _separate(node: Any, output: Any) -> tuple[Function, Inputs]:
    index = list(node.outputs).index(output)
    return lambda vector: vector[:, index], list(node.inputs)[:1]


FUNCTIONS: Mapping[str, Callable[[Any, Any], tuple[Function, Inputs]]] = {
    "MATH": _math,
    "CLAMP": _clamp,
    "MAP_RANGE": _map_range,
    "MIX": _mix,
    "MIX_RGB": _mix_rgb,
    "INVERT": _simple(2, lambda f, c: c + f[:, None] * (1 - 2 * c)),
    "VALTORGB": _ramp,
    "CURVE_FLOAT": _float_curve,
    "CURVE_RGB": _rgb_curves,
    "BRIGHTCONTRAST": _simple(3, _contrast),
    "GAMMA": _simple(2, lambda color, gamma: np.where(color > 0, np.power(color, gamma[:, None]), color)),
    "RGBTOBW": _simple(1, luminance),
    "COMBINE_COLOR": _combine,
    "COMBRGB": _combine,
    "COMBXYZ": _combine,
    "SEPXYZ": _separate,
}
