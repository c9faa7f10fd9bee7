"""Comparison of private or shared values; the answer is an XOR-shared bit. Exact for every input.

Called by both sides at the same time, each with its own half. Steps (docs/protocols/06-comparison.md):

1. The sign of x = a + b mod 2^w is top(a) ^ top(b) ^ carry, and the carry out of the low w - 1 bits is [c < b_low] with
   c = 2^(w-1) - 1 - a_low: a comparison of two private numbers, c at index 0, b_low at index 1.
2. Both numbers are cut into digits of 4 bits. Per digit one 1-of-16 transfer: index 0 offers, for each value m the
   other digit may have, the bits [c < m] and [c = m], each XOR a fresh random bit, its share.
3. In the same messages one AND triple for each inner node of the tree comes from random transfers in both directions.
4. Neighbouring digits are joined, level by level: less = less_high ^ equal_high AND less_low,
   equal = equal_high AND equal_low; both ANDs share equal_high, so one triple (a; b, b'; ab, ab') serves both.

Reveals: nothing but sizes. Corrections are masked (`mpc.ot`), leaf replies lie under keys of which index 1 has one a
digit, openings of a triple are masked by its random bits. Rounds: 2 + ceil(log2(digits)), and once a session the 2 of
the base transfers. Bytes a comparison of d digits, both sides: 20 d + 8.75 (d - 1): 451 for 64-bit values.
Source: Rathee et al., "CrypTFlow2", CCS 2020, section 3; Garay, Schoenmakers, Villegas, PKC 2007 (the tree).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt

from mpc.convert import select, to_arithmetic
from mpc.engine import Engine
from party.errors import InternalError, PeerError
from party.message import Array, Cap, Message

__all__ = [
    "at_least",
    "equal",
    "less_than",
    "logic_and",
    "logic_every",
    "logic_not",
    "logic_or",
    "negative",
    "select",
    "to_arithmetic",
]

Bits = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]

_DIGIT = 4
_OFFERER = 0  # the side whose number is compared against all values of a digit
_LEAVES = 1 << 20  # leaf replies a message: 4 MiB
_OCTETS = 1 << 22  # packed bits a message


@dataclass(frozen=True, repr=False)
class Leaf(Message, kind=0x0411):
    """Step 2, index 0 to 1: per digit 16 pairs of masked bits, each under the key of its value."""

    pairs: Annotated[np.ndarray, Array("u4", Cap(_LEAVES))]


@dataclass(frozen=True, repr=False)
class Masked(Message, kind=0x0412):
    """Step 4 and logic_and, both ways: packed bits, each XOR a random bit that the other side lacks."""

    bits: Annotated[np.ndarray, Array("u1", Cap(_OCTETS))]


@dataclass(frozen=True, repr=False)
class _Triples:
    """Our halves of random bits a, b (two columns) and of a AND b."""

    a: Bits  # (n,)
    b: Bits  # (2, n)
    product: Bits  # (2, n)


def less_than(engine: Engine, ours: Words, bits: int) -> Bits:
    """XOR shares of [x < y], x being index 0's private numbers and y index 1's.

    ours: uint64, any shape, values under 2^bits; bits: 1 to 64, public. Returns uint8 of that shape.
    Peer learns nothing. Rounds: 2 + ceil(log2(digits)). Raises InternalError on a value of ours that does not fit.
    """
    return _compare(engine, ours, bits)[0]


def equal(engine: Engine, ours: Words, bits: int) -> Bits:
    """XOR shares of [x = y]; all else as `less_than`."""
    return _compare(engine, ours, bits)[1]


def _compare(engine: Engine, ours: Words, bits: int) -> tuple[Bits, Bits]:
    """XOR shares of [x < y] and of [x = y]."""
    if ours.dtype != np.uint64 or not 1 <= bits <= 64:
        raise InternalError("compared numbers are uint64 and declare 1 to 64 bits")
    if bits < 64 and bool((ours >> np.uint64(bits)).any()):
        raise InternalError("a compared number does not fit its declared bits")
    flat = ours.reshape(-1)
    count = -(-bits // _DIGIT)
    shifts = np.arange(0, _DIGIT * count, _DIGIT, dtype=np.uint64)
    digits = ((flat >> shifts[:, None]) & np.uint64(15)).astype(np.uint8)  # least significant digit first
    # 2. and 3. Leaves and triples, their corrections in one go.
    less, same, triples = _leaves(engine, digits)
    # 4. Join from neighbours upwards; an odd highest node waits for the next level.
    used = 0
    while len(less) > 1:
        pairs = len(less) // 2
        low, high = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
        inner = _cut(triples, used, used + pairs * flat.size)
        used += pairs * flat.size
        right = np.stack([less[low].reshape(-1), same[low].reshape(-1)])
        both = _and_with(engine, same[high].reshape(-1), right, inner).reshape(2, pairs, flat.size)
        less = np.concatenate([less[high] ^ both[0], less[2 * pairs :]])
        same = np.concatenate([both[1], same[2 * pairs :]])
    return less[0].reshape(ours.shape), same[0].reshape(ours.shape)


def negative(engine: Engine, share: Words, bits: int) -> Bits:
    """XOR shares of [value < 0] from additive shares mod 2^64 of values in [-2^(bits-1), 2^(bits-1)).

    share: uint64, any shape; bits: 2 to 64, public. A value outside gives the sign of its low `bits` bits. Returns
    uint8 of that shape. Peer learns nothing. Rounds and bytes: as `less_than` with bits - 1.
    """
    if share.dtype != np.uint64 or not 2 <= bits <= 64:
        raise InternalError("a sign is taken of uint64 shares of 2 to 64 bits")
    top = np.uint64(bits - 1)
    low = share & np.uint64(2 ** (bits - 1) - 1)
    ours = np.uint64(2 ** (bits - 1) - 1) - low if engine.index == _OFFERER else low
    carry = less_than(engine, ours, bits - 1)
    own = ((share >> top) & np.uint64(1)).astype(np.uint8)
    return own ^ carry


def at_least(engine: Engine, share: Words, threshold: int, bits: int) -> Bits:
    """XOR shares of [value >= threshold], threshold public; both in [-2^(bits-1), 2^(bits-1)).

    share: uint64 mod 2^64, any shape; bits: 1 to 63. Returns uint8 of that shape. Peer learns nothing.
    Rounds and bytes: as `negative` with bits + 1, which the difference always fits.
    """
    if not 1 <= bits <= 63 or not -(2 ** (bits - 1)) <= threshold < 2 ** (bits - 1):
        raise InternalError("a threshold lies within its declared bits, 63 at most")
    moved = share - np.uint64(threshold % 2**64) if engine.index == _OFFERER else share
    return logic_not(engine, negative(engine, moved, bits + 1))


def logic_not(engine: Engine, bits: Bits) -> Bits:
    """XOR shares of the opposite bits. Local."""
    return bits ^ np.uint8(1) if engine.index == _OFFERER else bits.copy()


def logic_and(engine: Engine, left: Bits, right: Bits) -> Bits:
    """XOR shares of left AND right, from XOR shares: uint8 0 or 1, any shape, both the same.

    Each side chooses by its half of left and offers its half of right. Peer learns nothing.
    Rounds: 2. Bytes sent by each side: 4.125 an element.
    """
    if left.shape != right.shape:
        raise InternalError("two arrays of bits differ in shape")
    a, b = left.reshape(-1).astype(np.uint8), right.reshape(-1).astype(np.uint8)
    chosen = _low(engine.ot.choose(a), 1)
    zero, one = (_low(keys, 1) for keys in engine.ot.offer(a.size))
    theirs = _swap_bits(engine, zero ^ one ^ b)
    return ((a & (b ^ theirs)) ^ chosen ^ zero).reshape(left.shape)


def logic_every(engine: Engine, lists: Sequence[Sequence[Bits]]) -> list[Bits]:
    """XOR shares of the AND of each list, none of which is empty; all arrays have one shape.

    Neighbours of all lists at once, level by level. Rounds: 2 ceil(log2 of the longest). Bytes: as `logic_and`.
    """
    left = [list(some) for some in lists]
    while any(len(some) > 1 for some in left):
        pairs = [(place, n) for place, some in enumerate(left) for n in range(0, len(some) - 1, 2)]
        first, second = (np.stack([left[place][n + after] for place, n in pairs]) for after in (0, 1))
        joined = logic_and(engine, first, second)
        odd = [some[len(some) - len(some) % 2 :] for some in left]
        left = [[bits for bits, pair in zip(joined, pairs, strict=True) if pair[0] == n] for n in range(len(left))]
        left = [some + last for some, last in zip(left, odd, strict=True)]
    return [some[0] for some in left]


def logic_or(engine: Engine, left: Bits, right: Bits) -> Bits:
    """XOR shares of left OR right = NOT (NOT left AND NOT right). Costs as `logic_and`."""
    return logic_not(engine, logic_and(engine, logic_not(engine, left), logic_not(engine, right)))


def _leaves(engine: Engine, digits: Bits) -> tuple[Bits, Bits, _Triples]:
    """Steps 2 and 3: shares of [x < y] and [x = y] a digit, (d, n) each, and the triples of the tree's inner nodes."""
    count = (len(digits) - 1) * digits.shape[1]
    flat = digits.reshape(-1)
    share: Bits
    ot = engine.ot
    a: Bits = ot.private.bytes(count) & np.uint8(1)
    chosen = _low(ot.choose(a), 3)
    if engine.index == _OFFERER:
        triples = _triples(a, chosen, ot.offer(count))
        keys = ot.offer16(flat.size)
        share = ot.private.bytes(flat.size) & np.uint8(3)
        for start in range(0, flat.size, _LEAVES):
            part = slice(start, start + _LEAVES)
            reply = np.zeros(len(flat[part]), dtype=np.uint32)
            for m in range(16):
                pair = (flat[part] < m).view(np.uint8) | ((flat[part] == m).view(np.uint8) << 1)
                reply |= ((pair ^ share[part] ^ keys[m, part]) & 3).astype(np.uint32) << np.uint32(2 * m)
            engine.channel.send(Leaf(reply))
    else:
        key = ot.choose16(flat)
        triples = _triples(a, chosen, ot.offer(count))
        share = np.empty(flat.size, dtype=np.uint8)
        for start in range(0, flat.size, _LEAVES):
            part = slice(start, start + _LEAVES)
            reply = engine.channel.recv(Leaf).pairs
            if len(reply) != len(flat[part]):
                raise PeerError("a leaf reply has a wrong number of digits")
            share[part] = ((reply >> (2 * flat[part]).astype(np.uint32)).astype(np.uint8) ^ key[part]) & 3
    pairs: Bits = np.stack([share & np.uint8(1), share >> np.uint8(1)]).reshape(2, *digits.shape)
    return pairs[0], pairs[1], triples


def _triples(a: Bits, chosen: Bits, offered: tuple[Words, Words]) -> _Triples:
    """Triples from random transfers: our b is the XOR of the two keys we offer, so that no reply is needed.

    As offerer our share of (their a) AND (our b) is key 0; as chooser our key is their key 0, plus our a AND their b.
    """
    zero, one = _low(offered[0], 3), _low(offered[1], 3)
    b = zero ^ one
    product = (a * b) ^ chosen ^ zero  # a is 0 or 1
    return _Triples(a, np.stack([b & 1, b >> 1]), np.stack([product & 1, product >> 1]))


def _cut(triples: _Triples, start: int, stop: int) -> _Triples:
    return _Triples(triples.a[start:stop], triples.b[:, start:stop], triples.product[:, start:stop])


def _and_with(engine: Engine, left: Bits, right: Bits, triples: _Triples) -> Bits:
    """Shares of left AND each row of right (2, n): one round, 3 bits an element each way."""
    ours = np.stack([left ^ triples.a, right[0] ^ triples.b[0], right[1] ^ triples.b[1]])
    opened = ours ^ _swap_bits(engine, ours)
    e, f = opened[0], opened[1:]
    shares: Bits = (e & triples.b) ^ (f & triples.a) ^ triples.product
    return shares ^ (e & f) if engine.index == _OFFERER else shares


def _swap_bits(engine: Engine, ours: Bits) -> Bits:
    """Send our masked bits, receive as many of theirs: one round."""
    packed = np.packbits(ours.reshape(-1), bitorder="little")
    for start in range(0, len(packed), _OCTETS):
        engine.channel.send(Masked(packed[start : start + _OCTETS]))
    theirs = np.empty_like(packed)
    for start in range(0, len(packed), _OCTETS):
        part = engine.channel.recv(Masked).bits
        if len(part) != len(packed[start : start + _OCTETS]):
            raise PeerError("masked bits of a wrong number")
        theirs[start : start + len(part)] = part
    return np.unpackbits(theirs, count=ours.size, bitorder="little").reshape(ours.shape)


def _low(keys: Words, mask: int) -> Bits:
    """The lowest bits of keys (n, 1)."""
    bits: Bits = keys[:, 0].astype(np.uint8) & np.uint8(mask)
    return bits
