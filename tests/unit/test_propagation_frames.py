# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames propagated from key pictures, against rays and numpy; what must hold for any shot."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, shift

from tests.helpers import propagation_reference as reference
from tests.helpers.shots import changing_shot
from trackshade.core.colors import linear_to_srgb, srgb_to_linear, to_uint8
from trackshade.core.errors import CancelledError, ShotError, UsageError
from trackshade.propagation import KeyPicture, Propagation
from trackshade.propagation.packing import pack, unpack
from trackshade.shot import Cutout, Geometry, Shot, Surfaces


def coded(linear: np.ndarray) -> np.ndarray:
    return linear_to_srgb(linear).astype(np.float32)


def prepared(shot: Shot, keys: dict[int, np.ndarray], **more) -> Propagation:
    """A propagation of linear pictures, without mixed rims."""
    found = Propagation(shot, [KeyPicture(t, coded(image)) for t, image in keys.items()], threads=2, **more)
    found.prepare()
    return found


@settings(max_examples=12)
@given(
    orthographic=st.booleans(),
    eye=st.tuples(st.floats(-3, 3), st.floats(-6, -3), st.floats(2, 5)),
    offset=st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.75, 1.5)),
    larger=st.sampled_from([1, 2]),
)
def test_same_as_rays(orthographic, eye, offset, larger):
    """Colors and occlusion, for any camera and movement of the box, pictures of the frame's size and larger ones."""
    shot = reference.box_over_floor(2, orthographic)
    cameras = replace(
        shot.camera, world_to_camera=np.stack([shot.camera.world_to_camera[0], reference.look_at(eye, (0, 0, 0.5))])
    )
    shot = replace(
        shot, camera=cameras,
        meshes=(shot.meshes[0], replace(shot.meshes[1], matrix_world=reference.moved((0, 0, 1), offset))),
    )  # fmt: skip
    size = (reference.SIZE[0] * larger, reference.SIZE[1] * larger)
    image = reference.paint(shot, 0, reference.smooth_texture, size)
    color, right, hidden = reference.carry(shot, image, 0, 1, shot.size)
    frame = prepared(shot, {0: image}, samples=1).frame(1)
    assert (frame.shown[right] == 1).all()
    assert (frame.shown[hidden] == 0).all()
    # Rims in the picture take the colors beside them, and where it is minified, several pixels are averaged.
    error = np.abs(srgb_to_linear(frame.image) - color).max(axis=2)[right]
    if right.sum() > 100:
        assert np.percentile(error, 75) < (1e-5 if larger == 1 else 5e-3)
        assert np.percentile(error, 99) < 0.05


def test_still_scene_is_the_picture():
    """Bit for bit inside of surfaces, in 8 bits, at the picture's size; close to it at others."""
    shot = reference.still(reference.box_over_floor(3))
    image = to_uint8(coded(reference.paint(shot, 0, reference.smooth_texture)))
    found = Propagation(shot, [KeyPicture(0, image)])
    found.prepare()
    label = reference.look(shot, 0, shot.size).mesh
    inner = np.ones(label.shape, bool)
    for down in range(-2, 3):
        for right in range(-2, 3):
            inner &= np.roll(label, (down, right), (0, 1)) == label
    inner[[0, 1, -2, -1]] = inner[:, [0, 1, -2, -1]] = False
    assert inner.mean() > 0.7
    frame = to_uint8(found.frame(2).image)
    flat = inner & (label < 1)
    np.testing.assert_array_equal(frame[flat], image[flat])
    np.testing.assert_allclose(frame[inner].astype(int), image[inner], atol=1)  # of the box: its edges bend in a pixel
    np.testing.assert_array_equal(to_uint8(found.frame(0).image), image)  # rims included
    large = Propagation(shot, [KeyPicture(0, image)], size=(144, 96))
    large.prepare()
    wide = large.frame(1).image
    assert wide.shape == (96, 144, 3)
    halved = wide.reshape(48, 2, 72, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(halved[inner] * 255, image[inner], atol=2.5)


def test_a_frame_is_the_same_in_any_order_and_on_any_threads():
    shot = reference.box_over_floor(4)
    image = reference.paint(shot, 0, reference.smooth_texture)
    one, many = (Propagation(shot, [KeyPicture(0, coded(image))], threads=n) for n in (1, 3))
    one.prepare()
    many.prepare()
    with ThreadPoolExecutor(3) as pool:
        others = list(pool.map(many.frame, [3, 1, 2, 1, 3]))
    for t, other in zip([3, 1, 2, 1, 3], others, strict=True):
        alone = one.frame(t)
        np.testing.assert_array_equal(alone.image, other.image)
        np.testing.assert_array_equal(alone.alpha, other.alpha)


def test_unseen_surface_keeps_its_color():
    """A point that no picture shows is filled once: it has the same color in all frames."""
    shot = reference.box_over_floor(4, travel=0.0)
    image = reference.paint(shot, 0, reference.smooth_texture)
    found = prepared(shot, {0: image}, samples=1)
    frames = [found.frame(t) for t in (2, 3)]
    labels = [reference.look(shot, t, shot.size).mesh for t in (2, 3)]
    both = (labels[0] == 0) & (labels[1] == 0) & (frames[0].shown == 0) & (frames[1].shown == 0)
    assert both.sum() > 20
    np.testing.assert_array_equal(frames[0].image[both], frames[1].image[both])
    # and one like those around it
    assert np.abs(frames[0].image[both] - coded(reference.paint(shot, 2, reference.smooth_texture))[both]).mean() < 0.1


def test_unseen_meshes_take_the_colors_around_them():
    """Also one that grows from nothing, beside a flattened one."""
    shot = reference.still(reference.box_over_floor(3))
    box = next(index for index, mesh in enumerate(shot.meshes) if mesh.geometry == 1)
    matrices = [mesh.matrix_world.copy() for mesh in shot.meshes]
    matrices[box][0, :3, :3] = 0
    matrices[1 - box][:, 2, 2] = 0
    meshes = tuple(replace(mesh, matrix_world=matrix) for mesh, matrix in zip(shot.meshes, matrices, strict=True))
    shot = replace(shot, meshes=meshes)
    color = np.array([0.2, 0.5, 0.1])
    label = reference.look(shot, 0, shot.size).mesh
    picture = np.where(label[..., None] >= 0, color, [0.9, 0.1, 0.9])
    frame = srgb_to_linear(prepared(shot, {0: picture}).frame(2).image)
    grown = reference.look(shot, 2, shot.size).mesh == box
    assert grown.sum() > 100
    np.testing.assert_allclose(np.median(frame[grown], axis=0), color, atol=0.02)


def test_two_pictures_blend_without_a_jump():
    """As the camera passes from one picture to another of other brightness, no pixel changes much in a frame."""
    shot = reference.box_over_floor(25, travel=0.02)
    shot = replace(
        shot, meshes=tuple(replace(item, matrix_world=item.matrix_world[:1].repeat(25, 0)) for item in shot.meshes)
    )
    pictures = {t: reference.paint(shot, t, reference.smooth_texture) * (1 if t == 0 else 1.3) for t in (0, 24)}
    found = prepared(shot, pictures, size=(36, 24))  # so that no frame is a picture
    frames = np.stack([found.frame(t).image for t in range(0, 25)])
    steps = np.abs(np.diff(frames, axis=0)).max(axis=3)
    whole = np.abs(frames[-1] - frames[0]).max(axis=2).mean()
    assert whole > 0.04
    assert np.median(steps, axis=(1, 2)).max() < 0.25 * whole
    bright = frames.mean(axis=(1, 2, 3))
    assert (np.diff(bright) > -1e-3).all()


def test_the_picture_with_more_detail_is_used():
    """Of a picture of few pixels and one of many, both of the same sample, the finer one decides."""
    shot = reference.still(reference.box_over_floor(2))
    fine = reference.paint(shot, 0, reference.smooth_texture)
    coarse = np.full((12, 18, 3), 0.9)
    frame = prepared(shot, {0: coarse, 1: fine}, size=(144, 96)).frame(0)
    truth = reference.paint(shot, 0, reference.smooth_texture, (144, 96))
    surface = reference.look(shot, 0, (144, 96)).mesh >= 0
    assert np.median(np.abs(srgb_to_linear(frame.image) - truth)[surface]) < 0.05


def test_frames_of_a_video_show_what_no_other_picture_does():
    """Where the sharp picture does not show the surface; elsewhere the frame stays as it is."""
    shot = reference.box_over_floor(2, travel=2.5)
    grain = lambda mesh, points: reference.smooth_texture(mesh, 9 * points)  # noqa: E731
    sharp, truth = reference.paint(shot, 0, grain), reference.paint(shot, 1, grain)
    soft, errors, shown = KeyPicture(1, coded(truth), detail=False), [], np.zeros(0)
    for keys in ([KeyPicture(0, coded(sharp))], [KeyPicture(0, coded(sharp)), soft]):
        propagation = Propagation(shot, keys, threads=2)
        propagation.prepare()
        frame = propagation.frame(1)
        shown = frame.shown if len(keys) == 1 else shown
        errors.append(np.abs(srgb_to_linear(frame.image) - truth).max(axis=2))
    hidden = shown == 0
    assert hidden.mean() > 0.02
    assert errors[1][hidden].mean() < 0.6 * errors[0][hidden].mean()
    kept = errors[0][shown == 1].mean()
    assert abs(errors[1][shown == 1].mean() - kept) < 0.3 * kept


def test_rough_frames_of_a_video_show_nothing_by_themselves():
    """Their low frequencies count; blocks of a small model are not seen where no other picture shows the surface."""
    shot = reference.box_over_floor(2, travel=2.5)
    sharp, truth = (reference.paint(shot, t, reference.smooth_texture) for t in range(2))
    blocks = 0.6 * (np.indices(truth.shape[:2]).sum(axis=0) // 2 % 2)[..., None] + 0.7
    frames = []
    for is_filling in (True, False):
        rough = KeyPicture(1, coded(truth * blocks), detail=False, is_filling=is_filling)
        propagation = Propagation(shot, [KeyPicture(0, coded(sharp)), rough], threads=2)
        propagation.prepare()
        frames.append(propagation.frame(1))
    hidden = frames[1].shown == 0
    filling, not_filling = (np.abs(np.diff(frame.image.mean(axis=2)))[hidden[:, 1:]].mean() for frame in frames)
    assert not_filling < 0.5 * filling


def test_rims_of_shadows_are_those_of_the_frames_of_a_video():
    """Such a frame shows what the sharp picture does not, at the rims of its shadows as well; no fill does."""
    shot = reference.box_over_floor(2, travel=2.5)
    shadow = np.ones((shot.size[1], shot.size[0], 3), np.float32)
    shadow[::8] = shadow[1::8] = shadow[2::8] = 0.4
    light = gaussian_filter(shadow, (0.5, 0, 0))
    meshes = [reference.look(shot, t, shot.size).mesh for t in range(2)]
    keys, truth = [], np.zeros(0)
    for t, mesh in enumerate(meshes):
        texture = reference.paint(shot, t, lambda mesh, points: reference.smooth_texture(mesh, 3 * points))
        truth = np.where(mesh[..., None] >= 0, texture * light, texture)
        keys.append(KeyPicture(t, coded(truth), detail=t == 0))
    frames = []
    for some in (keys[:1], keys):
        found = Propagation(shot, some, light=lambda t: light, threads=2)
        found.prepare()
        frames.append(found.frame(1))
    hidden = (meshes[1] == 0) & (frames[0].shown == 0)
    error = np.abs(srgb_to_linear(frames[1].image) / truth - 1).max(axis=2)
    assert hidden.sum() > 100
    assert np.percentile(error[hidden], 75) < 0.15


def test_cut_outs_show_what_is_behind():
    """A picture taken through a grating shows the floor behind its holes, and a frame sees through it as well."""
    alpha = np.zeros((8, 8), np.uint8)
    alpha[:, ::2] = 255
    corners = np.array([(-2, 0, 0), (2, 0, 0), (2, 0, 3), (-2, 0, 3)], np.float32)
    triangles = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    uv = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float32)[triangles]
    grating = Geometry(corners[None], triangles, uv)
    cut = Cutout(alpha, np.arange(256) > 127, np.eye(2, 3), smooth=False)
    both, none = np.ones((1, 1), bool), np.zeros(1, np.int32)
    sides = Surfaces(both, both, none, none)
    fixed = reference.moved(*[(0, 0, 0)] * 2)
    views = [reference.look_at((-0.3 + 0.3 * t, -5, 3), (0, 0, 0.5)) for t in range(2)]
    shot = reference.make_shot(
        (reference.floor(), grating),
        (reference.mesh(0, fixed), reference.mesh(1, fixed, surfaces=0)),
        reference.camera(views), surfaces=(sides,), cutouts=(cut,),
    )  # fmt: skip
    from trackshade.control.scene import ShotRaster

    labels = [ShotRaster(shot).draw(t).label.copy() for t in range(2)]
    colors = np.array([(0.8, 0.1, 0.1), (0.1, 0.1, 0.8), (0.2, 0.3, 0.4)])
    frame = prepared(shot, {0: colors[labels[0]]}, samples=1).frame(1)
    assert 0.1 < (labels[1] == 1).mean() < 0.5
    np.testing.assert_allclose(srgb_to_linear(frame.image), colors[labels[1]], atol=2e-3)


def test_relit_by_clay():
    """A picture whose light is that of its clay render gets the light of the frame, whatever that is."""
    shot = reference.still(reference.box_over_floor(3))
    label = reference.look(shot, 0, shot.size).mesh
    albedo = np.array([0.3, 0.6, 0.2])[label][..., None] * np.random.default_rng(0).uniform(
        0.95, 1.05, (*label.shape, 3)
    )

    def light(t: int) -> np.ndarray:
        x = np.linspace(0, 6, shot.size[0])[None, :, None] + np.linspace(0, 2, shot.size[1])[:, None, None]
        return (3.0 + np.sin(x + 2 * t) * [1.0, 0.9, 0.8]).astype(np.float32)

    picture = np.where(label[..., None] >= 0, albedo * light(0), albedo)
    found = prepared(shot, {0: picture / 4}, light=light)
    assert found.light_match is not None
    assert found.light_match.slope == pytest.approx(1, abs=0.1)
    frame = srgb_to_linear(found.frame(1).image)
    np.testing.assert_array_equal(unpack(*pack(found), light).frame(1).image, found.frame(1).image)
    truth = np.where(label[..., None] >= 0, albedo * light(1), albedo) / 4
    assert np.median(np.abs(frame / truth - 1)) < 0.02
    assert np.abs(truth / (picture / 4) - 1).mean() > 0.1  # the light does change
    assert np.median(np.abs(frame - truth)[label < 0]) < 1e-5


def test_no_outline_is_left_where_a_shadow_was():
    """A clay render is softer than the picture; where the light has changed, the rim of the shadow does not show."""
    shot = reference.box_over_floor(4, travel=1.5)
    shadow = np.ones((shot.size[1], shot.size[0], 3), np.float32)
    shadow[:, shot.size[0] // 2 :] = 0.3

    def light(t: int) -> np.ndarray:
        return gaussian_filter(shadow, (0, 1.5, 0)) if t == 0 else np.ones_like(shadow)

    albedo = np.array([0.4, 0.4, 0.1])
    before, after = (reference.look(shot, t, shot.size).mesh for t in (0, 3))
    found = prepared(shot, {0: albedo[before][..., None] * np.where(before[..., None] >= 0, shadow, 1)}, light=light)
    frame = srgb_to_linear(found.frame(3).image)
    floor = (after == 0) & (before == 0)
    error = np.abs(np.log(frame[floor] / 0.4)).max(axis=-1)
    assert np.quantile(error, 0.99) < 0.1
    assert np.abs(np.log(gaussian_filter(shadow, (0, 1.5, 0)) / shadow)).max() > 0.5  # what the rim was off by


def test_the_rim_of_a_shadow_that_stays_keeps_the_pictures_texture():
    """Clay renders of one light differ at its rims by a part of a pixel, which is no change of the light."""
    shot = reference.box_over_floor(4, travel=0.0)
    width, height = shot.size
    shadow = np.ones((height, width, 3))
    shadow[:, width // 4 :] = 0.3

    def light(t: int) -> np.ndarray:
        moved = shift(shadow, (0, 0.4 * (t == 3), 0), order=1, mode="nearest")
        return gaussian_filter(moved, (0, 1.0, 0)).astype(np.float32)

    grain = np.random.default_rng(0).uniform(0.3, 0.6, shadow.shape)
    before, after = (reference.look(shot, t, shot.size).mesh for t in (0, 3))
    found = prepared(shot, {0: np.where(before[..., None] >= 0, grain * light(0), grain)}, light=light)
    error = np.abs(srgb_to_linear(found.frame(3).image) / (grain * light(3)) - 1).max(axis=2)
    rim = (before == 0) & (after == 0)
    rim[:, : width // 4 - 4] = rim[:, width // 4 + 4 :] = rim[:3] = rim[-3:] = False
    assert rim.sum() > 100
    assert np.percentile(error[rim], 95) < 0.02


def test_light_that_is_not_the_scenes_is_not_used():
    shot = reference.still(reference.box_over_floor(2))

    def light(t: int) -> np.ndarray:
        return np.tile((1 + (np.arange(shot.size[0]) // 6) % 2)[None, :, None], (shot.size[1], 1, 3)).astype(np.float32)

    image = reference.paint(shot, 0, reference.smooth_texture)
    found = prepared(shot, {0: image}, light=light)
    assert found.light_match is not None
    assert not found.light_match.agrees
    np.testing.assert_array_equal(found.frame(1).image, prepared(shot, {0: image}).frame(1).image)


def test_growing_geometry_keeps_the_colors_of_its_points():
    """A square that becomes a fan of triangles, and itself again: its points are found again."""
    shot = changing_shot()
    intrinsics = np.tile(np.array([[60.0, 0, 20], [0, 60, 20], [0, 0, 1]]), (4, 1, 1))
    shot = replace(shot, camera=replace(shot.camera, intrinsics=intrinsics))
    texture = lambda mesh, points: 0.3 + 0.4 * points[:, :1] * [1, 0.5, 0.2] + 0.2 * points[:, 1:2]  # noqa: E731
    image = reference.paint(shot, 0, texture)
    found = prepared(shot, {0: image}, samples=1)
    for t, exact in ((3, True), (1, False)):  # the fan's middle is a new point, far from the square
        frame, truth = found.frame(t), reference.paint(shot, t, texture)
        own = reference.look(shot, t, shot.size).mesh == 0
        assert own.sum() > 30
        errors = np.abs(srgb_to_linear(frame.image) - truth)[own].max(axis=1)
        assert np.percentile(errors, 60) < (0.01 if exact else 0.07)
        assert (frame.shown[own].mean() > 0.6) == exact
        np.testing.assert_array_equal(unpack(*pack(found)).frame(t).image, frame.image)


def test_background_by_direction():
    """The camera turns: what it saw of the background moves with it, and the rest continues it."""
    views = [reference.look_at((0, -5, 1), (0.6 * t, 0, 1)) for t in range(4)]
    shot = reference.make_shot(
        (reference.box(),), (reference.mesh(0, reference.moved(*[(0, 0, 1)] * 4)),), reference.camera(views)
    )
    rows = np.linspace(0.1, 0.9, shot.size[1])[:, None, None]
    image = np.broadcast_to(rows * [0.5, 0.7, 1.0], (shot.size[1], shot.size[0], 3)).copy()
    frame = srgb_to_linear(prepared(shot, {0: image}).frame(3).image)
    label = reference.look(shot, 3, shot.size).mesh
    errors = np.abs(frame - image)[label < 0]
    assert np.percentile(errors, 95) < 0.08


def test_holdouts_are_black_and_transparent():
    shot = reference.box_over_floor(2)
    shot = replace(shot, meshes=(shot.meshes[0], replace(shot.meshes[1], holdout=True)))
    frame = prepared(shot, {0: reference.paint(shot, 0, reference.smooth_texture)}, samples=1).frame(1)
    seen = reference.look(shot, 1, shot.size)
    own = (seen.mesh == 1) & seen.sure
    assert own.any()
    assert (frame.image[own] == 0).all()
    assert (frame.alpha[own] == 0).all()
    assert (frame.alpha[(seen.mesh == 0) & seen.sure] == 1).all()


def test_cancelled_by_its_progress():
    shot = reference.box_over_floor(3)
    found = Propagation(shot, [KeyPicture(0, coded(reference.paint(shot, 0, reference.smooth_texture)))])

    def progress(fraction: float, stage: str) -> None:
        assert 0 <= fraction <= 1
        if fraction > 0.25:
            raise CancelledError()

    with pytest.raises(CancelledError):
        found.prepare(progress)
    with pytest.raises(UsageError, match="before"):
        found.frame(1)


def test_bad_input():
    shot = reference.box_over_floor(2)
    good = np.zeros((48, 72, 3), np.uint8)
    for code, keys, more in (
        ("no-key-picture", [], {}),
        ("no-key-picture", [KeyPicture(0, good, detail=False)], {}),
        ("no-sample", [KeyPicture(2, good)], {}),
        ("bad-key-picture", [KeyPicture(0, good[..., 0])], {}),
        ("bad-key-picture", [KeyPicture(0, good.astype(np.float64))], {}),
        ("other-aspect", [KeyPicture(0, good[:, :48])], {}),
        ("other-aspect", [KeyPicture(0, good)], {"size": (100, 100)}),
        ("bad-samples", [KeyPicture(0, good)], {"samples": 0}),
    ):
        with pytest.raises(UsageError) as caught:
            Propagation(shot, keys, **more)  # type: ignore[arg-type]
        assert caught.value.code == code
    bad = Propagation(shot, [KeyPicture(0, good)], light=lambda t: np.full((48, 72, 3), np.nan, np.float32))
    with pytest.raises(ShotError, match="clay"):
        bad.prepare()
