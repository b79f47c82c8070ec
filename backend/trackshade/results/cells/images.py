# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of a shot's cells: the same moments through several cameras.

In a folder, the pictures of a camera are in a folder of its name, as `CAMERA/0001.png` for the first frame and so on,
or in the folder `frames` in that, as in results. A file that is missing is a cell without a picture.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trackshade.control.scene import ShotRaster
from trackshade.core.colors import linear_to_srgb
from trackshade.core.errors import ShotError
from trackshade.propagation.poses import resize_shot
from trackshade.results.cells.views import Views, draw_views
from trackshade.results.frames import read_frame
from trackshade.shot import Shot
from trackshade.shot.cameras import stored_camera_names, unroll_cameras

_KEPT = 3  # columns that are kept
_SUFFIXES = (".png", ".exr", ".jpg", ".jpeg")

Picture = np.ndarray | Path | None


class Column(NamedTuple):
    """The cells of one frame that have a picture."""

    views: Views
    images: np.ndarray  # [S, H, W, 3] uint8, or float32 of the same scale


class CellImages:
    """The pictures of a shot's cells. Columns are read and drawn when they are asked for, and a few are kept.

    Args:
        shot: the shot, as it was captured or unrolled.
        pictures: the picture of each sample of the unrolled shot: [H, W, 3] uint8 or float32 in 8-bit values, a file,
            or None. All have one size, of the cameras' aspect.

    Attributes:
        shot: the shot, unrolled, at the pictures' size.
        cameras: number of cameras.
        frames: number of frames.

    Raises:
        ShotError: there is another number of pictures than of cells or no picture at all, or what `Shot.check_values`
            finds.
        UsageError: the pictures do not have the aspect of the cameras.
    """

    def __init__(self, shot: Shot, pictures: Sequence[Picture]) -> None:
        shot = unroll_cameras(shot)
        shot.check_values()  # the kernels trust indices
        count = len(shot.frame_numbers)
        if len(pictures) != count:
            raise ShotError(
                "image-count",
                f"There are {len(pictures)} pictures for {count} cells.",
                "Give a picture for each frame of each camera.",
            )
        self._pictures = tuple(pictures)
        self.cameras, self.frames = shot.views, count // shot.views
        first = next((n for n, picture in enumerate(pictures) if picture is not None), None)
        if first is None:
            raise ShotError("no-images", "None of the shot's cells has a picture.", "Give at least one.")
        height, width = self._read(first).shape[:2]
        self.shot = resize_shot(shot, (width, height))
        self._raster = ShotRaster(self.shot)
        self._columns: OrderedDict[int, Column] = OrderedDict()

    @classmethod
    def from_folder(cls, shot: Shot, folder: Path) -> CellImages:
        """Return the pictures of a folder; see the module.

        Args:
            shot: the shot as it was captured.
            folder: the folder.

        Raises:
            ShotError: the folder holds no picture of a cell.
        """
        return cls(shot, cell_files(shot, folder))

    @classmethod
    def from_light(cls, shot: Shot, light: Callable[[int], np.ndarray], size: tuple[int, int]) -> CellImages:
        """Return the clay renders of all cells, with the usual light at middle gray, as pictures of the light.

        Args:
            shot: the shot.
            light: returns the clay render of a sample of the unrolled shot, [h, w, 3] linear.
            size: (width, height) of the clay renders.
        """
        shot = unroll_cameras(shot)
        images = [np.asarray(light(t), np.float32) for t in range(len(shot.frame_numbers))]
        usual = float(np.median(np.concatenate([image[::4, ::4].ravel() for image in images])))
        scale = 0.2 / max(usual, 1e-6)
        assert images[0].shape[1::-1] == tuple(size)
        return cls(shot, [(255 * linear_to_srgb(image * scale)).astype(np.float32) for image in images])

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the pictures."""
        return self.shot.size

    def samples(self, frame: int) -> list[int]:
        """Return the samples of the unrolled shot that show a frame and have a picture."""
        first = frame * self.cameras
        return [t for t in range(first, first + self.cameras) if self._pictures[t] is not None]

    def column(self, frame: int) -> Column:
        """Return the cells of a frame that have a picture.

        Raises:
            ShotError: a picture cannot be read, or has another size.
        """
        if frame in self._columns:
            self._columns.move_to_end(frame)
            return self._columns[frame]
        samples = self.samples(frame)
        width, height = self.size
        images = [self._read(t) for t in samples]
        for t, image in zip(samples, images, strict=True):
            if image.shape != (height, width, 3):
                raise ShotError(
                    "image-size",
                    f"The picture of frame {self.shot.frame_numbers[t]:g} through '{self.shot.camera.sources[t]}' is "
                    f"not of {width}×{height} pixels like the others.",
                    "Give pictures of one size.",
                )
        stack = np.stack(images) if images else np.zeros((0, height, width, 3), np.uint8)
        column = Column(draw_views(self._raster, samples), stack)
        self._columns[frame] = column
        if len(self._columns) > _KEPT:
            self._columns.popitem(last=False)
        return column

    def _read(self, t: int) -> np.ndarray:
        picture = self._pictures[t]
        if not isinstance(picture, Path):
            assert picture is not None
            return picture
        return read_frame(picture)


def cell_files(shot: Shot, folder: Path) -> list[Path | None]:
    """Return the file of each sample of the unrolled shot in a folder (see the module), or None.

    Args:
        shot: the shot as it was captured.
        folder: the folder.

    Raises:
        ShotError: the folder holds no picture of a cell.
    """
    names = stored_camera_names(shot.cameras, lambda name: (folder / name).is_dir())
    count = len(shot.frame_numbers)
    found: dict[tuple[int, int], Path] = {}
    for view, name in enumerate(names):
        frames = folder / name / "frames"  # of a result
        for path in sorted((frames if frames.is_dir() else folder / name).glob("*")):
            if path.suffix.lower() in _SUFFIXES and path.stem.isdecimal() and 0 < int(path.stem) <= count:
                found[view, int(path.stem) - 1] = path
    if not found:
        raise ShotError(
            "no-images",
            f"{folder} has no pictures of the shot's cells, such as {names[0]}/0001.png.",
            "Name the folder that has a folder of pictures for each camera.",
        )
    return [found.get((view, t)) for t in range(count) for view in range(len(names))]
