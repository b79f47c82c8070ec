# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames drawn with torch, on the processor here, are those that numba's kernels draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from tests.helpers import propagation_reference as reference
from tests.helpers.shots import changing_shot
from trackshade.core.colors import linear_to_srgb
from trackshade.core.errors import UsageError
from trackshade.propagation import KeyPicture, Propagation, canvases
from trackshade.shot import Shot

pytestmark = pytest.mark.slow

torch = pytest.importorskip("torch")

TOLERANCE = 1e-5  # sRGB-coded; 1/255 would be a level of 8 bits


def painted(shot: Shot, t: int, scale: float = 1.0, **more) -> KeyPicture:
    size = (round(shot.size[0] * scale), round(shot.size[1] * scale))
    return KeyPicture(
        t, linear_to_srgb(reference.paint(shot, t, reference.smooth_texture, size)).astype(np.float32), **more
    )


def assert_same(shot: Shot, keys: Sequence[KeyPicture], times: Sequence[int], **more) -> np.ndarray:
    """Compare frames; returns the shown share of the pixels of the last one."""
    made = [Propagation(shot, keys, threads=2, device=device, **more) for device in ("cpu", "torch:cpu")]
    for propagation in made:
        propagation.prepare()
    shown = np.zeros(0)
    for t in times:
        one, other = (propagation.frame(t) for propagation in made)
        for name in ("image", "alpha", "shown"):
            np.testing.assert_allclose(getattr(other, name), getattr(one, name), rtol=0, atol=TOLERANCE, err_msg=name)
        assert one.alpha.max() <= 1
        shown = one.shown
    return shown


@pytest.mark.parametrize("orthographic", [False, True])
@pytest.mark.parametrize("samples", [1, 2])
def test_several_pictures(orthographic: bool, samples: int) -> None:
    """A picture that is minified and one that is enlarged; some of the background is unseen."""
    shot = reference.box_over_floor(4, orthographic, travel=1.0)
    shown = assert_same(shot, [painted(shot, 0, 3), painted(shot, 3, 0.5)], (1, 2), samples=samples)
    assert 0.01 < (shown < 1).mean() < 0.5, (shown < 1).mean()


def test_canvases_with_insets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(canvases.LARGEST, "plane", 96)
    shot = reference.plain_to_the_horizon()
    shown = assert_same(shot, [painted(shot, 0)], (1, 2))
    assert (shown < 1).mean() > 0.3


@pytest.mark.parametrize("orthographic", [False, True])
def test_light_and_frames_of_a_video(orthographic: bool) -> None:
    """Clay renders with sharp shadows that move; a holdout; soft pictures."""
    shot = reference.box_over_floor(4, orthographic, travel=1.0)
    shot = replace(
        shot, meshes=(*shot.meshes, replace(shot.meshes[1], matrix_world=reference.moved(*[(-1, 0, 0.5)] * 4)))
    )
    shot = replace(shot, meshes=(*shot.meshes[:2], replace(shot.meshes[2], holdout=True)))

    def light(t: int) -> np.ndarray:
        x = np.linspace(0, 6, 36)[None, :, None] + np.linspace(0, 2, 24)[:, None, None]
        return (3.0 + 2.5 * np.sign(np.sin(x + 2 * t)) * [1.0, 0.9, 0.8]).astype(np.float32)

    first = painted(shot, 0)
    lit = replace(first, image=np.clip(first.image * (light(0).repeat(2, 0).repeat(2, 1) / 5.5) ** 0.45, 0, 1))
    keys = [lit, painted(shot, 0, 0.5, detail=False), painted(shot, 3, 0.5, detail=False)]
    shown = assert_same(shot, keys, (1, 3), light=light, size=(144, 96))
    assert (shown < 1).mean() > 0.02


def test_background_instances_and_cut() -> None:
    """Boxes of one geometry, some of them hidden in the picture's sample, before the sky of a camera that turns."""
    offsets = np.random.default_rng(0).uniform((-2, 0, 0), (2, 3, 3), (9, 3))
    meshes = [reference.mesh(0, reference.moved(*[tuple(offset + 0.2 * t) for t in range(3)])) for offset in offsets]
    meshes[0] = replace(meshes[0], visible=np.array([False, True, True]))
    views = [reference.look_at((0, -6, 1), (0.8 * t, 0, 1.2)) for t in range(3)]
    shot = reference.make_shot((reference.box(0.3),), meshes, reference.camera(views))
    shown = assert_same(shot, [painted(shot, 0)], (1, 2))
    assert (shown < 1).mean() > 0.1


def test_changing_topology() -> None:
    shot = changing_shot()
    intrinsics = np.tile(np.array([[60.0, 0, 20], [0, 60, 20], [0, 0, 1]]), (4, 1, 1))
    shot = replace(shot, camera=replace(shot.camera, intrinsics=intrinsics))
    assert_same(shot, [painted(shot, 0)], (1, 3))


def test_the_processor_draws_when_the_device_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    shot = reference.box_over_floor(2)
    made = Propagation(shot, [painted(shot, 0)], device="torch:cpu")
    made.prepare()
    before = made.frame(1).image

    def fill_memory(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(torch, "unique", fill_memory)
    np.testing.assert_allclose(made.frame(1).image, before, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_unknown_device(device: str) -> None:
    shot = reference.box_over_floor(2)
    with pytest.raises(UsageError, match="cannot be drawn on"):
        Propagation(shot, [painted(shot, 0)], device=device)
