# SPDX-License-Identifier: GPL-3.0-or-later
"""The first frame moved along tracks: what was seen keeps its color, what was hidden takes what is about it."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trackshade.models.track_warp import pull_push, track_coordinates, warp_first_frame

HEIGHT, WIDTH = 24, 36


def own_places() -> torch.Tensor:
    """[2, H, W] where every pixel is, 0..1."""
    columns, rows = (torch.arange(WIDTH) + 0.5) / WIDTH, (torch.arange(HEIGHT) + 0.5) / HEIGHT
    return torch.stack([columns.expand(HEIGHT, WIDTH), rows[:, None].expand(HEIGHT, WIDTH)])


def plane(depth: float, shift: int = 0) -> torch.Tensor:
    """[3, H, W] a tracking frame: a surface that fills the frame, moved to the right by pixels."""
    return torch.cat([own_places().roll(shift, 2), torch.full((1, HEIGHT, WIDTH), depth)])


def eight_bits(tracking: torch.Tensor) -> torch.Tensor:
    return (tracking * 255).round() / 255


def move(first: torch.Tensor, *frames: torch.Tensor):
    return warp_first_frame(first[None], track_coordinates(torch.stack(frames)[None]))


@settings(max_examples=30)
@given(shift=st.integers(0, 20), seed=st.integers(0, 2**31))
def test_what_was_seen_keeps_its_colors(shift: int, seed: int):
    first = torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed))
    moved = move(first, plane(0.5), plane(0.5, shift))
    torch.testing.assert_close(moved.colors[0, 0], first, atol=1e-3, rtol=0)
    torch.testing.assert_close(moved.colors[0, 1, :, :, shift:], first[:, :, : WIDTH - shift], atol=1e-3, rtol=0)
    assert moved.visibility[0].min() == 1


def test_the_steps_of_eight_bits_are_taken_out():
    """A picture of few pixels' detail, moved by places rounded to less than a pixel, comes near to where it belongs."""
    height, width = 16, 320  # a level is 1.25 pixels wide
    columns = ((torch.arange(width) + 0.5) / width).expand(height, width)
    rows = ((torch.arange(height) + 0.5) / height)[:, None].expand(height, width)
    first = torch.sin(columns * width * 0.5).expand(3, -1, -1)
    still = torch.stack([columns, rows, torch.full_like(rows, 0.5)])
    shifted = still.clone()
    shifted[0] = still[0] * 0.8 + 0.1
    exact = move(first, still, shifted).colors[0, 1]
    steps = move(first, eight_bits(still), eight_bits(shifted)).colors[0, 1]
    grid = eight_bits(shifted)[None, :2].permute(0, 2, 3, 1) * 2 - 1
    raw = torch.nn.functional.grid_sample(first[None], grid, mode="bicubic", align_corners=False)[0]
    inner = (slice(None), slice(4, -4), slice(4, -4))
    assert (steps - exact)[inner].square().mean() < 0.3 * (raw - exact)[inner].square().mean()


def test_hidden_ground_takes_the_color_of_ground():
    """A red box before a green wall moves away: the wall behind it is green, although red was all that was seen
    there.
    """
    red, green = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])
    box = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    box[6:18, 10:22] = True
    first = torch.where(box, red[:, None, None], green[:, None, None])
    before, after = plane(0.1), plane(0.1)
    before[2][box] = 0.9
    moved_box = box.roll(12, 1)
    after[:, moved_box] = before[:, box]
    moved = move(first, before, after)
    free = box & ~moved_box
    assert moved.visibility[0, 1, 0][free].max() == 0
    torch.testing.assert_close(
        moved.colors[0, 1][:, free], green[:, None].expand(-1, int(free.sum())), atol=0.02, rtol=0
    )
    torch.testing.assert_close(
        moved.colors[0, 1][:, moved_box], red[:, None].expand(-1, int(box.sum())), atol=0.02, rtol=0
    )


def test_what_no_track_tells_about_stays():
    first = torch.rand(3, HEIGHT, WIDTH)
    nothing = torch.zeros(3, HEIGHT, WIDTH)
    moved = move(first, nothing, nothing)
    torch.testing.assert_close(moved.colors[0, 1], first)
    assert moved.visibility.min() == 1


def test_sky_behind_what_left_is_filled_from_around_it():
    first = torch.zeros(3, HEIGHT, WIDTH)
    first[2] = 1.0
    box = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    box[6:18, 10:22] = True
    first[:, box] = 0.0
    before = plane(0.9) * box
    moved = move(first, before, torch.zeros_like(before))
    assert moved.visibility[0, 1, 0][box].max() == 0
    torch.testing.assert_close(moved.colors[0, 1, 2], torch.ones(HEIGHT, WIDTH), atol=1e-3, rtol=0)


def test_clips_of_a_batch_do_not_mix():
    first = torch.rand(2, 3, HEIGHT, WIDTH)
    tracking = torch.stack([torch.stack([plane(0.5), plane(0.5, 3)]), torch.rand(2, 3, HEIGHT, WIDTH)])
    both = warp_first_frame(first, track_coordinates(tracking))
    for index in range(2):
        alone = warp_first_frame(first[index : index + 1], track_coordinates(tracking[index : index + 1]))
        torch.testing.assert_close(both.colors[index], alone.colors[0])
        torch.testing.assert_close(both.visibility[index], alone.visibility[0])


@settings(max_examples=40)
@given(st.lists(st.integers(1, 13), min_size=2, max_size=3), st.integers(0, 2**31))
def test_filling_keeps_what_is_known_and_invents_no_colors(sides: list[int], seed: int):
    generator = torch.Generator().manual_seed(seed)
    known = (torch.rand(2, 1, *sides, generator=generator) < 0.4).float()
    known.flatten(2)[..., 0] = 1.0
    values = torch.randn(2, 3, *sides, generator=generator)
    filled = pull_push(values * known, known)
    torch.testing.assert_close(filled * known, values * known)
    for picture, original, mask in zip(filled, values, known, strict=True):
        seen = original[:, mask[0] > 0]  # [3, N]
        assert bool((picture.flatten(1) <= seen.amax(1, keepdim=True) + 1e-3).all())
        assert bool((picture.flatten(1) >= seen.amin(1, keepdim=True) - 1e-3).all())


def test_the_rim_of_what_left_leaves_with_it():
    """Pixels of the sky beside a box show some of its color: they keep it while the box is there, and lose it then."""
    first = torch.zeros(3, HEIGHT, WIDTH)
    first[2] = 1.0
    box, rim = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.bool)
    rim[5:19, 9:23] = True
    box[6:18, 10:22] = True
    first[0, rim], first[0, box] = 0.5, 1.0
    there = plane(0.9) * box
    moved = move(first, there, there, torch.zeros_like(there))
    torch.testing.assert_close(moved.colors[0, 1], first, atol=1e-3, rtol=0)
    assert moved.colors[0, 2, 0].max() < 1e-3


def test_a_surface_from_outside_the_frame_is_no_sky():
    """Without sky in the frame, what no track tells about is colored as the surfaces beside it; with sky elsewhere,
    too, as long as it does not reach there.
    """
    first = torch.zeros(3, HEIGHT, WIDTH)
    first[0], first[2, :4] = 1.0, 1.0
    first[0, :4] = 0.0  # a red wall under a blue sky
    before, after = plane(0.5), plane(0.5)
    before[:, :4] = 0.0
    after[:, :4] = 0.0
    after[:, 12:, 28:] = 0.0  # the wall's continuation, which was out of the frame
    moved = move(first, before, after)
    torch.testing.assert_close(moved.colors[0, 1], first, atol=0.01, rtol=0)
