# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws frames with torch, for graphics cards.

What `surface` and `composing` do pixel by pixel, on threads of the processor, happens here for all pixels of many rows
at once, with the same operations in the same order, in float64. Almost all values are equal bit for bit; logarithms,
powers and angles of torch may differ in the last digit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from trackshade.propagation.composing import Fills, background_rays
from trackshade.propagation.drawing import Drawer, DrawnFrame, FrameSources, Source
from trackshade.propagation.gpu.composing import compose
from trackshade.propagation.gpu.pictures import to_device
from trackshade.propagation.gpu.surface import DevicePose, DeviceSource, Scene, find_points, pull
from trackshade.propagation.poses import Pose, PoseTable
from trackshade.propagation.surface import background_map

_AT_ONCE = 1 << 20  # samples that are drawn at a time: about 1 GB


class TorchDrawer:
    """Draws frames of a shot on a device of torch that has float64. Thread-safe.

    Args:
        table: the shot's poses.
        samples: visibility samples along each side of a pixel.
        device: the device.
        fallback: draws the frames once the device has run out of memory.
    """

    def __init__(self, table: PoseTable, samples: int, device: str, fallback: Drawer) -> None:
        self._table, self._samples, self._device = table, samples, torch.device(device)
        self._fallback, self._is_full = fallback, False
        self._kept: dict[int, tuple[np.ndarray, Tensor]] = {}
        self._most_faces = max((len(geometry.triangles) for geometry in table.shot.geometries), default=1)
        self._holdout = np.array([mesh.holdout for mesh in table.shot.meshes], np.bool_)

    def send(self, array: np.ndarray) -> Tensor:
        """Return a copy of an array on the device."""
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def keep(self, array: np.ndarray) -> Tensor:
        """Return an array on the device, where it stays for the next frames."""
        if id(array) not in self._kept:
            self._kept[id(array)] = array, self.send(array)
        return self._kept[id(array)][1]

    def draw(self, sources: FrameSources) -> DrawnFrame:
        """Draw a frame."""
        if not self._is_full:
            try:
                return self._draw(sources)
            except torch.OutOfMemoryError:
                self._is_full = True
                self._kept.clear()
        return self._fallback.draw(sources)

    def _draw(self, sources: FrameSources) -> DrawnFrame:
        height, width = (length // self._samples for length in sources.buffers.label.shape)
        frame = DrawnFrame(
            np.empty((height, width, 3), np.float32),
            np.empty((height, width), np.float32),
            np.empty((height, width), np.float32),
        )
        step = max(1, _AT_ONCE // (width * self._samples**2))
        with torch.inference_mode():
            scene = self._upload(sources)
            for row in range(0, height, step):
                rows = slice(row, min(row + step, height))
                for out, value in zip(frame, _draw_rows(scene, rows), strict=True):
                    out[rows] = value.reshape(out[rows].shape).cpu().numpy()
        return frame

    def _upload(self, sources: FrameSources) -> Scene:
        light = sources.light
        changing = ("vertex_start", "vertices")
        fills: dict[str, Any] = {}
        for name, array in sources.fills._asdict().items():
            tensor = self.send(array) if name in changing else self.keep(array)
            fills[name] = tensor if name == "panorama" else _padded(tensor)
        buffers = sources.buffers
        return Scene(
            samples=self._samples,
            most_faces=self._most_faces,
            label=self.send(buffers.label),
            triangle=self.send(buffers.triangle),
            depth=self.send(buffers.depth),
            frame=self._pose(sources.frame),
            rays=background_rays(sources.frame).tolist(),
            starts=_padded(self.send(sources.starts)),
            triangles=_padded(self.keep(self._table.triangles)),
            still=_padded(self.keep(self._table.still)),
            holdout=_padded(self.keep(self._holdout)),
            keys=[self._source(source, sources.frame) for source in sources.keys],
            soft=[self._source(source, sources.frame) for source in sources.soft],
            factors=[self._source(source, sources.frame) for source in sources.factors],
            fills=Fills(**fills),
            light=None if light is None else to_device(light, self.send),
        )

    def _source(self, source: Source, frame: Pose) -> DeviceSource:
        background = background_map(frame, source.pose).tolist()
        return DeviceSource(to_device(source.picture, self.keep), self._pose(source.pose), background, source.weight)

    def _pose(self, pose: Pose) -> DevicePose:
        moving, where, to_camera = (_padded(self.send(array)) for array in (pose.moving, pose.where, pose.to_camera))
        return DevicePose(moving, where, to_camera, pose.lens.tolist(), pose.orthographic)


def _padded(values: Tensor) -> Tensor:
    """Return an array with a row at least, so that it can be indexed where nothing of it is used."""
    return values if len(values) else values.new_zeros((1, *values.shape[1:]))


def _draw_rows(scene: Scene, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Return the colors [P, 3], sRGB-coded, alpha [P] and shown [P] of the pixels of some rows; float32."""
    points = find_points(scene, rows)
    soft, factor = (pull(scene, points, sources) if sources else None for sources in (scene.soft, scene.factors))
    return compose(scene, points, pull(scene, points, scene.keys), soft, factor)
