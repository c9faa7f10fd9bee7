"""The codec: what is written reads back; whatever else comes is a value of that kind or PeerError."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from party.errors import InternalError, PeerError
from party.message import Array, Bytes, Cap, Int, Message, Text, decode, encode


@dataclass(frozen=True, repr=False)
class Everything(Message, kind=0x7F01):
    flag: bool
    count: Annotated[int, Int(-5, 1000)]
    ratio: float
    name: Annotated[str, Text(12)]
    digest: Annotated[bytes, Bytes(4)]
    blob: Annotated[bytes, Bytes(1, 9)]
    points: Annotated[np.ndarray, Array("u1", Cap(10), 4)]
    words: Annotated[np.ndarray, Array("u8", Cap(3), Cap(5))]


@dataclass(frozen=True, repr=False)
class Numbers(Message, kind=0x7F02):
    values: Annotated[np.ndarray, Array("f8", 3)]


@dataclass(frozen=True, repr=False)
class Vast(Message, kind=0x7F03):
    values: Annotated[np.ndarray, Array("u8", Cap(2**32 - 1), Cap(2**32 - 1), Cap(2**32 - 1))]


def sample(**changes: Any) -> Everything:
    fields: dict[str, Any] = {
        "flag": True, "count": 7, "ratio": -0.5, "name": "é12", "digest": b"abcd", "blob": b"x",
        "points": np.arange(12, dtype="u1").reshape(3, 4), "words": np.arange(10, dtype="<u8").reshape(2, 5),
    }  # fmt: skip
    return Everything(**(fields | changes))


def same(one: Everything, other: Everything) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        and type(getattr(one, name)) is type(getattr(other, name))
        for name in one.__dataclass_fields__
    )


small = st.integers(0, 3)


@settings(max_examples=60, deadline=None)
@given(
    st.booleans(), st.integers(-5, 1000), st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=3), st.binary(min_size=1, max_size=9), small, small,
)  # fmt: skip
def test_round_trip(flag: bool, count: int, ratio: float, name: str, blob: bytes, rows: int, columns: int) -> None:
    points = np.full((rows, 4), 9, dtype="u1")
    words = np.full((rows, columns), 2**64 - 1, dtype="<u8")
    message = sample(flag=flag, count=count, ratio=ratio, name=name, blob=blob, points=points, words=words)
    back = decode(Everything, encode(message))
    assert same(back, message) and back.words.shape == (rows, columns) and back.points.dtype == np.uint8
    assert not back.words.flags.writeable and not back.points.flags.writeable and back.words.flags.aligned


def test_transposed_arrays_are_written_by_value() -> None:
    words = np.arange(6, dtype="<u8").reshape(3, 2).T
    assert np.array_equal(decode(Everything, encode(sample(words=words))).words, words)


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_mutated_bytes_are_a_value_or_a_peer_error(data: st.DataObject) -> None:
    body = bytearray(encode(sample()))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body) - 1)) if body else 0
        way = data.draw(st.sampled_from(["set", "cut", "insert", "length"]))
        if way == "set" and body:
            body[at] = data.draw(st.integers(0, 255))
        elif way == "cut":
            del body[at : at + data.draw(st.integers(1, 20))]
        elif way == "insert":
            body[at:at] = data.draw(st.binary(min_size=1, max_size=20))
        else:
            body[at : at + 4] = struct.pack("<I", data.draw(st.sampled_from([0, 1, 2**16, 2**31, 2**32 - 1])))
    try:
        message = decode(Everything, bytes(body))
    except PeerError:
        return
    assert encode(message) == bytes(body)  # what is accepted has one spelling only


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_random_bytes_are_a_value_or_a_peer_error(body: bytes) -> None:
    for kind in (Everything, Numbers, Vast):
        try:
            decode(kind, body)
        except PeerError:
            continue


def test_every_truncation_and_every_tail_is_refused() -> None:
    body = encode(sample())
    for length in range(len(body)):
        with pytest.raises(PeerError, match="shorter"):
            decode(Everything, body[:length])
    with pytest.raises(PeerError, match="longer"):
        decode(Everything, body + b"\0")


# Where the fields of `sample()` stand in its bytes.
FLAG, COUNT, RATIO, NAME, DIGEST, BLOB, POINTS, WORDS = 0, 1, 9, 17, 25, 33, 38, 54


@pytest.mark.parametrize(
    ("at", "content"),
    [
        (FLAG, b"\x02"), (COUNT, struct.pack("<q", 1001)), (COUNT, struct.pack("<q", -6)),
        (RATIO, struct.pack("<d", float("nan"))), (RATIO, struct.pack("<d", float("inf"))),
        (NAME, struct.pack("<I", 13)), (NAME + 4, b"\xff"), (DIGEST, struct.pack("<I", 3)),
        (DIGEST, struct.pack("<I", 5)),
        (BLOB, struct.pack("<I", 0)), (BLOB, struct.pack("<I", 10)), (POINTS, struct.pack("<I", 11)),
        (WORDS, struct.pack("<I", 4)), (WORDS + 4, struct.pack("<I", 6)),
    ],
)  # fmt: skip
def test_each_limit_is_checked(at: int, content: bytes) -> None:
    body = bytearray(encode(sample()))
    body[at : at + len(content)] = content
    with pytest.raises(PeerError):
        decode(Everything, body)


def test_a_huge_length_is_refused_before_anything_is_allocated() -> None:
    for shape in [(2**32 - 1, 2**32 - 1, 1), (0, 2**32 - 1, 2**32 - 1), (2**32 - 1, 1, 1)]:
        with pytest.raises(PeerError):
            decode(Vast, struct.pack("<III", *shape))
    assert decode(Vast, struct.pack("<III", 0, 5, 7)).values.shape == (0, 5, 7)


@pytest.mark.parametrize(
    "changes",
    [
        {"count": 1001}, {"count": -6}, {"name": "x" * 13}, {"name": "\ud800"}, {"digest": b"abc"}, {"blob": b""},
        {"blob": b"x" * 10}, {"ratio": float("nan")}, {"points": np.zeros((11, 4), "u1")},
        {"points": np.zeros((1, 5), "u1")}, {"points": np.zeros((1, 4), "u2")}, {"points": np.zeros(4, "u1")},
        {"words": np.zeros((4, 1), "<u8")}, {"words": np.zeros((1, 1), "<i8")},
    ],
)  # fmt: skip
def test_a_message_of_ours_that_breaks_its_limits_is_our_fault(changes: dict[str, Any]) -> None:
    with pytest.raises(InternalError):
        encode(sample(**changes))


def test_a_kind_belongs_to_one_class() -> None:
    with pytest.raises(InternalError, match="is taken by"):

        class Other(Message, kind=0x7F01):
            pass


def test_a_field_without_a_specification_is_our_fault() -> None:
    @dataclass(frozen=True)
    class Bare(Message, kind=0x7F04):
        count: int

    with pytest.raises(InternalError, match="no wire specification"):
        encode(Bare(1))
