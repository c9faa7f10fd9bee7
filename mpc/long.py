"""Numbers modulo 2^(64 k) as k words, lowest first: sums, shifts and signs, exact in every bit.

Arrays are uint64; the last axis holds numbers of `length` words side by side. With length 1 these are the operations
of words. Local work only. Source: schoolbook arithmetic with carries.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["add", "integers", "negative", "powers", "shifted", "subtract", "times", "words_of"]

Words = npt.NDArray[np.uint64]

_WORD = 64


def add(a: Words, b: Words, length: int) -> Words:
    """a + b, of one shape."""
    if length == 1:
        return a + b
    x = a.reshape(*a.shape[:-1], -1, length)
    total: Words = x + b.reshape(x.shape)
    carry = np.zeros(total.shape[:-1], dtype=np.bool_)
    for place in range(length):
        word = total[..., place]
        over = word < x[..., place]
        word += carry
        carry = over | (carry & (word == 0))
    return total.reshape(a.shape)


def subtract(a: Words, b: Words, length: int) -> Words:
    """a - b, of one shape."""
    if length == 1:
        return a - b
    x = a.reshape(*a.shape[:-1], -1, length)
    y = b.reshape(x.shape)
    rest: Words = x - y
    borrow = np.zeros(rest.shape[:-1], dtype=np.bool_)
    for place in range(length):
        word = rest[..., place]
        under = (x[..., place] < y[..., place]) | (borrow & (word == 0))
        word -= borrow
        borrow = under
    return rest.reshape(a.shape)


def negative(x: Words, length: int) -> Words:
    """-x."""
    return subtract(np.zeros_like(x), x, length)


def shifted(x: Words, bits: int) -> Words:
    """x 2^bits, for one number in the last axis."""
    words, rest = divmod(bits, _WORD)
    out = np.zeros_like(x)
    if words < x.shape[-1]:
        kept = x[..., : x.shape[-1] - words]
        out[..., words:] = kept << np.uint64(rest)
        if rest:
            out[..., words + 1 :] |= kept[..., :-1] >> np.uint64(_WORD - rest)
    return out


def times(x: Words, factor: int) -> Words:
    """x times a public integer, for one number in the last axis."""
    length = x.shape[-1]
    if length == 1:
        return x * np.uint64(factor % 2**_WORD)
    total, left = np.zeros_like(x), abs(factor)
    while left:
        bit = left & -left
        total = add(total, shifted(x, bit.bit_length() - 1), length)
        left -= bit
    return negative(total, length) if factor < 0 else total


def powers(exponents: Sequence[int] | np.ndarray, length: int) -> Words:
    """2^exponent of each row, (n, length); 0 where it is out of reach."""
    found: Words = np.zeros((len(exponents), length), dtype=np.uint64)
    words, bits = np.divmod(np.asarray(exponents, dtype=np.int64), _WORD)
    rows = np.flatnonzero(words < length)
    found[rows, words[rows]] = np.uint64(1) << bits[rows].astype(np.uint64)
    return found


def words_of(x: Words, length: int) -> Words:
    """Words not below 0 in a last axis of `length`: zeros are put on top."""
    found: Words = np.zeros((*x.shape[:-1], length), dtype=np.uint64)
    found[..., : x.shape[-1]] = x
    return found


def integers(x: Words) -> list[int]:
    """The numbers of (n, length), read as signed."""
    rows = np.ascontiguousarray(x)
    return [int.from_bytes(row.tobytes(), "little", signed=True) for row in rows]
