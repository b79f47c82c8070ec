# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that several workers of a Ray cluster share, without the cluster."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from tests.helpers.result_shots import at, shot
from trackshade.core.errors import CancelledError
from trackshade.propagation import KeyPicture, Propagation
from trackshade.server import parts
from trackshade.server.parts import AHEAD, GRACE, LATE, Packed, PartQueue, do_in_order
from trackshade.server.propagate import FrameParts
from trackshade.server.ray_worker import Offer, RayWorker
from trackshade.shot import Shot

COUNT = 6


def result(value: float) -> Packed:
    return {"value": value}, []


def test_parts_are_dealt_out_once_and_not_far_ahead() -> None:
    queue = PartQueue(20)
    assert [queue.take("a") for _ in range(9)] == [*range(1 + AHEAD), *[None] * (8 - AHEAD)]
    assert queue.take("b") == 1 + AHEAD  # another worker, so that more results may wait
    for index in reversed(range(1 + AHEAD)):
        queue.put(index, result(index))
    yielded = queue.results(lambda index: result(-index), lambda: None)
    assert [next(yielded)[0]["value"] for _ in range(2)] == [0, 1]
    queue.close()
    assert (queue.take("a"), queue.is_open) == (None, False)


def test_a_part_that_is_late_is_given_out_again_and_its_first_result_counts() -> None:
    now = 0.0
    queue = PartQueue(3, now=lambda: now)
    assert [queue.take("lost"), queue.take("a"), queue.take("b")] == [0, 1, 2]
    now = 100.0
    assert queue.take("c") is None  # how long a part takes is not known yet
    for index in (1, 2):
        queue.put(index, result(index))
    now = 100.0 * LATE + GRACE + 0.1
    assert queue.take("lost") is None  # that has it already
    assert queue.take("b") == 0
    queue.put(0, result(10))
    queue.put(0, result(20))
    yielded = queue.results(lambda index: result(-index), lambda: None)
    assert next(yielded)[0]["value"] == 10


def lit_shot() -> tuple[Shot, Propagation, dict[int, np.ndarray]]:
    """A square that turns, its clay renders, and its propagation from two pictures and frames of a video."""
    found = shot([("Square", [at(0.1 * t, 0, 0, 0.2 * t) for t in range(COUNT)])])
    random = np.random.default_rng(0)
    light = {t: random.uniform(0.5, 1.0, (64, 96, 3)).astype(np.float32) for t in range(COUNT)}
    image = (random.random((64, 96, 3)) * 255).astype(np.uint8)
    keys = [KeyPicture(0, image), KeyPicture(3, image.astype(np.float32) / 255)]
    keys += [KeyPicture(t, image[:40, :60], detail=False) for t in (1, 4)]
    propagation = Propagation(found, keys, light=light.__getitem__)
    propagation.prepare()
    return found, propagation, light


class SharedFrames(FrameParts):
    """Frames of which the first one waits until another worker has begun."""

    def __init__(self, image_format: str = "png") -> None:
        _, propagation, light = lit_shot()
        super().__init__(propagation, range(COUNT), light.__getitem__, image_format, alpha=image_format == "exr")
        self.others = threading.Event()
        self.done_here: list[int] = []

    def do(self, index: int) -> Packed:
        self.done_here.append(index)
        assert self.others.wait(60)
        return super().do(index)


@pytest.fixture
def workers() -> Iterator[tuple[RayWorker, RayWorker]]:
    made = RayWorker("cpu"), RayWorker("cpu")
    yield made
    for worker in made:
        worker._folder_lock.release()
        shutil.rmtree(worker._folder)


def frozen(offer: Offer) -> Offer:
    """As Ray passes it to another process: arrays that cannot be written."""
    copies = [np.array(array) for array in offer.arrays]
    for array in copies:
        array.flags.writeable = False
    return Offer(offer.number, offer.job, offer.kind, offer.header, copies)


def start(owner: RayWorker, work: SharedFrames) -> tuple[threading.Thread, list[Packed], list[BaseException]]:
    """Let a worker do its job, up to where others can help."""
    owner._job = "a"
    results: list[Packed] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.extend(owner.spread(work))
        except CancelledError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while owner.offer() is None:
        thread.join(0.01)
    return thread, results, errors


def same(one: Sequence[Packed], other: Sequence[Packed]) -> None:
    for (values, arrays), (expected_values, expected) in zip(one, other, strict=True):
        assert values == expected_values
        for array, expected_array in zip(arrays, expected, strict=True):
            np.testing.assert_array_equal(array, expected_array)


@pytest.mark.parametrize("image_format", ["png", "exr"])
def test_a_helper_draws_the_same_frames_bit_for_bit(
    workers: tuple[RayWorker, RayWorker], image_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One helper does parts, another one takes a part and is never heard of again."""
    monkeypatch.setattr(parts, "GRACE", 0.1)
    owner, helper = workers
    work = SharedFrames(image_format)
    thread, results, _ = start(owner, work)
    offer = owner.offer()
    assert offer is not None
    assert owner.take_part(offer.number, "lost") is not True
    helped: list[int] = []

    def put(index: int, found: Packed) -> None:
        owner.put_part(offer.number, index, found)
        helped.append(index)
        work.others.set()

    helper.help(1, frozen(offer), lambda: owner.take_part(offer.number, "helper"), put)
    thread.join()
    assert helped
    assert work.done_here
    work.done_here.clear()
    same(results, list(do_in_order(work)))
    assert owner.take_part(offer.number, "helper") is False
    assert owner.offer() is None


def test_a_cancel_and_a_recall_end_the_help(workers: tuple[RayWorker, RayWorker]) -> None:
    owner, helper = workers
    work = SharedFrames()
    thread, _, errors = start(owner, work)
    offer = owner.offer()
    assert offer is not None
    helper.recall(1)
    helper.help(1, frozen(offer), lambda: owner.take_part(offer.number, "helper"), lambda *_: None)
    assert len(work.done_here) == 1  # and none by the helper
    owner.cancel("a")
    helper.help(
        2, frozen(offer), lambda: owner.take_part(offer.number, "helper"), lambda *_: pytest.fail("a part was done")
    )
    work.others.set()
    thread.join()
    assert [type(error) for error in errors] == [CancelledError]
