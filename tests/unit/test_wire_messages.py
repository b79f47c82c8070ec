# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages survive the way through frames, and nothing else is taken for a message."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackshade.core.errors import ProtocolError
from trackshade.ipc import PROTOCOL, Message, decode, digest_of, encode
from trackshade.ipc.messages import BufferEntry, pack, request_id
from trackshade.ipc.protocol import DTYPES, MAX_BUFFER_BYTES, MAX_BUFFERS, MAX_HEADER_BYTES, check_protocol

PLAIN = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text() | st.binary()
)
BODIES = st.dictionaries(
    st.text(), st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
)


@st.composite
def entries(draw: st.DrawFn) -> tuple[BufferEntry, bytes]:
    dtype = draw(st.sampled_from(DTYPES))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    entry = BufferEntry(dtype, shape, b"")
    data = draw(st.binary(min_size=entry.nbytes, max_size=entry.nbytes))
    return BufferEntry(dtype, shape, digest_of(data)), data


@given(st.text(max_size=64), st.integers(0, 2**63 - 1), BODIES, st.lists(entries(), max_size=4))
def test_a_message_survives(kind: str, number: int, body: dict, buffers: list) -> None:
    message = Message(kind, number, body, tuple(e for e, _ in buffers), tuple(b for _, b in buffers))
    assert decode([bytes(frame) for frame in encode(message)]) == message


@given(st.lists(st.binary(max_size=200), max_size=6))
def test_random_frames_are_no_message(frames: list[bytes]) -> None:
    with pytest.raises(ProtocolError):
        decode(frames)
    assert request_id(frames) == 0


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "v": PLAIN | st.just(PROTOCOL),
            "type": PLAIN,
            "id": PLAIN,
            "body": PLAIN | BODIES,
            "buffers": PLAIN | st.lists(PLAIN | st.dictionaries(st.sampled_from(["dtype", "shape", "digest"]), PLAIN)),
            "extra": PLAIN,
        },
    ),
    st.lists(st.binary(max_size=8), max_size=3),
)
def test_nearly_a_message_is_one_or_a_protocol_error(head: dict, buffers: list[bytes]) -> None:
    frames = [pack(head), *buffers]
    try:
        message = decode(frames)
    except ProtocolError:
        return
    assert isinstance(message.type, str)
    assert isinstance(message.body, dict)
    assert [e.nbytes for e in message.entries] == [len(b) for b in buffers]


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([b"\xc1"], "malformed-message"),
        ([b"\x91" * 5000], "malformed-message"),  # nested too deep
        ([b"\x81\x01\x02"], "malformed-message"),
        ([b"x" * (MAX_HEADER_BYTES + 1)], "oversized-message"),
        ([b"", *[b""] * (MAX_BUFFERS + 1)], "oversized-message"),
        ([b"", b"x" * (MAX_BUFFER_BYTES + 1)], "oversized-message"),
        ([pack({"v": PROTOCOL + 1, "type": "submit", "id": 1, "body": {}})], "version-mismatch"),
        ([pack({"v": PROTOCOL, "type": "chunk", "id": 1, "body": {}}), b"data"], "malformed-message"),
    ],
)
def test_limits(frames: list[bytes], code: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(frames)
    assert caught.value.code == code


@pytest.mark.parametrize("dtype", ["|O", ">f4", "<c8", "<M8[s]", "|S4", "f4"])
def test_only_plain_numbers_travel(dtype: str) -> None:
    described = {"dtype": dtype, "shape": [1], "digest": bytes(32)}
    head = {"v": PROTOCOL, "type": "chunk", "id": 1, "body": {}, "buffers": [described]}
    with pytest.raises(ProtocolError):
        decode([pack(head), b"1234"])


def test_the_digest_is_blake2b() -> None:
    assert digest_of(b"abc") == hashlib.blake2b(b"abc", digest_size=32).digest()


@pytest.mark.parametrize(("client", "backend", "side"), [(1, 2, "add-on or command"), (3, 2, "the backend")])
def test_a_version_mismatch_says_which_side_to_update(client: int, backend: int, side: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        check_protocol(client, backend, client_package="1.0", backend_package="2.0")
    assert caught.value.code == "version-mismatch"
    assert side in (caught.value.fix or "")
    check_protocol(2, 2, client_package="1.0", backend_package="2.0")
