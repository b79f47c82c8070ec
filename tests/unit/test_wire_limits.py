# SPDX-License-Identifier: GPL-3.0-or-later
"""Measuring messages without decoding them."""

from __future__ import annotations

import itertools

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.zmtp import GREETING, hello, message, ready
from trackshade.core.errors import ProtocolError
from trackshade.ipc.message_scan import find_number, skip_value
from trackshade.server.sessions import is_hello
from trackshade.server.zmtp_limits import EARLY_BYTES, ClientStream, LimitError

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=300)
    | st.binary(max_size=300)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=20))
    | st.lists(st.binary(min_size=32, max_size=32), max_size=20),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=40), inner, max_size=20),
    max_leaves=30,
)
TOKEN = "t" * 40


def count(value: object) -> int:
    if isinstance(value, dict):
        return 1 + sum(1 + count(item) for item in value.values())
    return 1 + sum(map(count, value)) if isinstance(value, list) else 1


@given(VALUES, st.data())
def test_a_value_is_measured(value: object, data: st.DataObject) -> None:
    packed = bytes(msgpack.packb(value) or b"")
    size = count(value)
    assert skip_value(packed, 0, size) == skip_value(memoryview(packed + b"rest"), 0, size) == len(packed)
    if size > 1:
        with pytest.raises(ProtocolError) as caught:
            skip_value(packed, 0, size - 1)
        assert caught.value.code == "oversized-message"
    cut = data.draw(st.integers(0, len(packed) - 1))
    with pytest.raises(ProtocolError):
        skip_value(packed[:cut], 0, size)


@given(st.binary(max_size=60))
def test_any_bytes_are_measured_as_they_are_decoded(data: bytes) -> None:
    try:
        end = skip_value(data, 0, 100)
    except ProtocolError:
        return
    unpacker = msgpack.Unpacker(strict_map_key=False, raw=True)
    unpacker.feed(data)
    unpacker.skip()
    assert unpacker.tell() == end


@given(st.integers(0, 2**64 - 1), VALUES)
def test_a_number_is_found_beside_anything(number: int, other: object) -> None:
    packed = bytes(msgpack.packb({"body": other, "id": number}) or b"")
    assert find_number(packed, "id", 10_000) == number
    assert find_number(packed, "v", 10_000) is None


def stream() -> ClientStream:
    return ClientStream(lambda frame: is_hello(TOKEN, frame), encrypted=False)


def feed(data: bytes, cuts: list[int]) -> ClientStream:
    """Feed a stream with pieces of the data."""
    fed = stream()
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    for start, end in itertools.pairwise(edges):
        fed.feed(memoryview(data)[start:end])
    return fed


@given(st.lists(st.integers(0, 2000), max_size=12))
def test_a_stream_is_read_alike_in_any_pieces(cuts: list[int]) -> None:
    start = GREETING + ready() + hello("wrong")
    assert not feed(start, cuts).is_admitted
    admitted = start + hello(TOKEN) + message(*[b"x" * 300] * 3) + message(b"", b"y")
    assert feed(admitted, cuts).is_admitted
    for data in (start + hello(TOKEN) + message(*[b""] * 1025), start + b"\2" + b"\1" * 8, start + bytes(EARLY_BYTES)):
        with pytest.raises(LimitError):
            feed(data, cuts)


def test_hello_with_another_token_admits_nobody() -> None:
    fed = stream()
    fed.feed(memoryview(GREETING + ready() + hello("x" * 40)))
    assert not fed.is_admitted
    with pytest.raises(LimitError):
        fed.feed(memoryview(hello("x") * 20))
