"""Conversions of shared values, exact, by one correlated transfer an element.

`lift`: mod t to mod 2^64. `widen`: mod 2^b to more words. `truncate`: drop low bits. `to_arithmetic`: an XOR-shared bit
to a share mod 2^64. `select`: an XOR-shared bit times a shared value. All are called by both sides at the same time
with their own half. `cut_offered` and `cut_chosen` are a truncation's local parts, for protocols that make its transfer
beside their own.

Lift, widen and truncate need the *wrap bit* of two shares: whether a + b, as integers, reaches the modulus M. If the
value a + b mod M is known to lie in [0, M/2), the wrap bit is the OR of [a >= M/2] and [b >= M/2]: without a wrap,
a and b are at most a + b < M/2, so both bits are 0; with one, a + b >= M, so at least one of a, b is M/2 or more.
And OR(h, g) = h + (1 - h) g, where one side knows h and the other g: one correlated transfer with
delta = (1 - h) * correction.

Reveals: nothing but sizes; every message is one of `mpc.ot`. Source: docs/protocols/05-oblivious-transfer.md, steps 8
to 12; Rathee et al., "CrypTFlow2", CCS 2020, section 4 (truncation).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mpc import long
from mpc.engine import Engine
from party.errors import InternalError

__all__ = ["cut_chosen", "cut_offered", "lift", "select", "to_arithmetic", "truncate", "widen"]

Words = npt.NDArray[np.uint64]
Bits = npt.NDArray[Any]  # uint8 or bool

_SENDER = 0  # the side whose share carries the offset and which offers the transfer


def lift(engine: Engine, share: Words, t: int) -> Words:
    """Shares mod t of values with |value| < t/4, t any integer from 4 to 2^63, become shares mod 2^64, exactly.

    share: uint64, any shape, each under t. Returns uint64 of that shape. Peer learns nothing.
    Rounds: 2 at index 1, none at index 0 but its wait. Bytes: 4 a value from index 1, 8 a value from index 0.

    Proof. c = floor(t/4) is added to one share mod t: a' + b = w + t wrap with w = value + c. From |value| < t/4 and
    integers, value >= -c, and value < t/4 <= t/2 - c; so 0 <= w < t/2 and the wrap bit is the OR of [2 a' >= t] and
    [2 b >= t]. Then value = (a' - c - t W0) + (b - t W1), W0 + W1 = wrap, which holds over the integers and so mod
    2^64. Nothing asks t to be prime or a power of two.
    """
    _check(share)
    if not 4 <= t <= 2**63:
        raise InternalError("a modulus to lift from lies between 4 and 2^63")
    if share.size and int(share.max()) >= t:
        raise InternalError("a share to lift is not reduced")
    c = t // 4
    modulus = np.uint64(t)
    if engine.index == _SENDER:
        moved = share + np.uint64(c)
        moved -= np.where(moved >= modulus, modulus, np.uint64(0))
        wraps = _wraps_sent(engine, moved >= np.uint64(-(-t // 2)), modulus)
        return moved - np.uint64(c) - wraps
    return share - _wraps_received(engine, share >= np.uint64(-(-t // 2)))


def widen(engine: Engine, share: Words, bits: npt.NDArray[np.int64]) -> Words:
    """Shares mod 2^b of values with |value| < 2^(b-2), b a row, become shares mod 2^(64 k), exactly.

    share: uint64 (n, k), numbers as in `mpc.long`, each under its 2^b; bits: (n,), public, 2 to 64 k - 1. Returns
    uint64 (n, k). Peer learns nothing. Rounds as `lift`. Bytes: 4 a value from index 1, 8 k a value from index 0.

    Proof. As `lift` with t = 2^b: with c = 2^(b-2) on one share the wrap bit is the OR of the bits b - 1, and the
    value is (a' - c) + b_share - 2^b wrap over the integers, so mod 2^(64 k).
    """
    _check(share)
    k = share.shape[1]
    if bits.size and not 2 <= int(bits.min()) <= int(bits.max()) < 64 * k:
        raise InternalError("shares that are widened have fewer bits than they shall have")
    modulus, top = long.powers(bits, k), long.powers(bits - 1, k)
    below = long.subtract(modulus, long.powers(np.zeros_like(bits), k), k)
    if bool((share & ~below).any()):
        raise InternalError("a share to widen is not reduced")
    if engine.index == _SENDER:
        c = long.powers(bits - 2, k)
        moved = long.add(share, c, k) & below
        ours = modulus * (moved & top).any(axis=1, keepdims=True)
        wraps = long.add(ours, engine.ot.cot_send(modulus - ours, k), k)
        return long.subtract(long.subtract(moved, c, k), wraps, k)
    high: npt.NDArray[np.bool_] = np.not_equal(share & top, 0).any(axis=1)
    return long.subtract(share, engine.ot.cot_receive(high, k, k), k)


def truncate(engine: Engine, share: Words, shift: int) -> Words:
    """Shares mod 2^64 of values with |value| < 2^62 become shares of value / 2^shift, less than one unit off.

    share: uint64, any shape; shift: 0 to 62. The result opens to the floor or the ceiling of value / 2^shift, and so is
    exact on multiples of 2^shift. Peer learns nothing. Rounds and bytes as `lift`.

    Proof. a' = a + 2^62: a' + b = w + 2^64 wrap with w = value + 2^62 in (0, 2^63), so the wrap bit is the OR of the
    top bits. One side rounds its share down, the other up: floor(a' / 2^s) + ceil(b / 2^s) - 2^(64-s) wrap - 2^(62-s)
    differs from value / 2^s by the difference of two numbers in [0, 1), so by less than 1.
    """
    if shift == 0:
        _check(share)
        return share.copy()
    if engine.index == _SENDER:
        kept, deltas = cut_offered(share, shift)
        return kept - engine.ot.cot_send(deltas.reshape(-1)).reshape(share.shape)
    kept, high = cut_chosen(share, shift)
    return kept - _wraps_received(engine, high)


def cut_offered(share: Words, shift: int) -> tuple[Words, Words]:
    """Index 0's local part of `truncate`, shift 1 to 62: (kept, deltas), each of the shape of share.

    Its share of the result is kept less its share of bit * delta, the bits being those of `cut_chosen`.
    """
    unit = _unit(share, shift)
    moved = share + np.uint64(2**62)
    ours, deltas = _wraps_offered(moved >= np.uint64(2**63), unit)
    kept: Words = (moved >> np.uint64(shift)) - np.uint64(2 ** (62 - shift)) - ours
    return kept, deltas


def cut_chosen(share: Words, shift: int) -> tuple[Words, Bits]:
    """Index 1's local part of `truncate`: (kept, bits); its share of the result is kept less that of bit * delta."""
    _unit(share, shift)
    up = (share & np.uint64(2**shift - 1)) != 0
    kept: Words = (share >> np.uint64(shift)) + up.astype(np.uint64)
    return kept, share >= np.uint64(2**63)


def to_arithmetic(engine: Engine, bits: Bits) -> Words:
    """XOR shares of bits become shares mod 2^64 of 0 or 1.

    bits: uint8 or bool, any shape. Returns uint64 of that shape. b0 XOR b1 = b0 + (1 - 2 b0) b1. Peer learns nothing.
    Rounds and bytes as `lift`.
    """
    words = bits.astype(np.uint64)
    if engine.index == _SENDER:
        deltas = np.uint64(1) - np.uint64(2) * words
        return words + engine.ot.cot_send(deltas.reshape(-1)).reshape(bits.shape)
    return engine.ot.cot_receive(bits.reshape(-1).astype(np.uint8)).reshape(bits.shape)


def select(engine: Engine, bits: Bits, values: Words, length: int = 1) -> Words:
    """Shares of bit * value from XOR shares of the bits and shares mod 2^64 of the values.

    bits: uint8 or bool (n,); values: uint64 (n,) or (n, k), one bit a row. Returns uint64 of the shape of values.
    length: so many columns are one number mod 2^(64 length), as in `mpc.long`.
    b v = sum over both sides i of b_i v_i + b_j (1 - 2 b_i) v_i: one correlated transfer each way. Peer learns nothing.
    Rounds: 2. Bytes sent by each side: 4 n + 8 n k.
    """
    _check(values)
    if bits.shape != values.shape[:1]:
        raise InternalError("select takes one bit a row")
    ours = bits.astype(np.uint64).reshape((-1,) + (1,) * (values.ndim - 1))
    kept = ours * values
    deltas = long.subtract(long.subtract(values, kept, length), kept, length)  # (1 - 2 b_i) v_i
    sent, received = engine.ot.cot_both(deltas, bits.astype(np.uint8), length)
    return long.add(long.add(kept, sent, length), received, length)


def _wraps_sent(engine: Engine, high: Bits, correction: np.uint64) -> Words:
    """The share of wrap * correction at the side that offers; high is its bit."""
    ours, deltas = _wraps_offered(high, correction)
    return ours + engine.ot.cot_send(deltas.reshape(-1)).reshape(high.shape)


def _wraps_offered(high: Bits, correction: np.uint64) -> tuple[Words, Words]:
    """OR(high, g) * correction = ours + g * delta: (ours, deltas)."""
    ours: Words = high.astype(np.uint64) * correction
    return ours, correction - ours


def _wraps_received(engine: Engine, high: Bits) -> Words:
    return engine.ot.cot_receive(high.reshape(-1)).reshape(high.shape)


def _unit(share: Words, shift: int) -> np.uint64:
    """What a wrap of the ring is worth after the shift."""
    _check(share)
    if not 1 <= shift <= 62:
        raise InternalError("a truncation drops between 0 and 62 bits, and between 1 and 62 where it makes a transfer")
    return np.uint64(2 ** (64 - shift))


def _check(share: Words) -> None:
    if share.dtype != np.uint64:
        raise InternalError("shares are uint64")
