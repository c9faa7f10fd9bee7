"""Plaintexts modulo 2^104 under the wide set: encoding, mask, formats and decryption of one coefficient.

What `mpc.lattice` does modulo 2^64, for inner products whose sums take up to 103 bits: columns of up to 63 bits
times multipliers of up to 22. q / t is 2^96, as much room for noise as the narrow set has at 2^64 and ten bits more; an
answer has 120 bits a coefficient, 16 after those of t, as there.

Source: as `mpc.lattice`; docs/protocols/04-lattice-linear.md, "Why the shares add up".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kernels.ntt import high_product
from kernels.prg import Prg
from mpc import lattice
from mpc.lattice import WIDE, Key, PublicKey, Secrets
from party.errors import InternalError

__all__ = [
    "LONG",
    "LONG_BITS",
    "LONG_BYTES",
    "answer_long",
    "decrypt_long",
    "encode_long",
    "mask_long",
    "to_wire_long",
    "two_words",
]

LONG_BITS = 104
LONG = 1 << LONG_BITS
LONG_BYTES = 15  # one coefficient of an answer: v / q as a binary fraction of 120 bits
_HALF = LONG // 2
_REST = 128 - LONG_BITS  # bits of a fraction of 128 after those of t
_FIVE = 40  # bits: an answer's coefficient is three numbers of five bytes
_LOW = np.uint64((1 << _FIVE) - 1)


def encode_long(values: np.ndarray) -> np.ndarray:
    """round(q m / 2^104) modulo each prime, exactly, (4, n), for signed m, int64 (n,).

    As `lattice.encode`: rem = (q m + 2^103) mod 2^104 in two words, then (2^103 - rem) 2^-104 mod p.
    """
    if values.dtype != np.int64:
        raise InternalError(f"columns modulo 2^104 are int64, not {values.dtype}")
    ring = WIDE.basis
    lower, upper = ring.modulus % 2**64, (ring.modulus >> 64) % 2**_FIVE
    words = values.view(np.uint64)
    low = words * np.uint64(lower)
    high = high_product(words, lower) + words * np.uint64(upper)
    high -= np.where(values < 0, np.uint64(lower), np.uint64(0))  # a word is m + 2^64 there
    high = (high + np.uint64(_HALF >> 64)) & _LOW
    inverse = [pow(LONG, -1, p) for p in ring.primes]
    encoded = ring.affine(low, [-i for i in inverse], [_HALF * i for i in inverse])
    ring.add(encoded, ring.affine(high, [-i << 64 for i in inverse], [0] * len(ring)))
    return encoded


def mask_long(stream: Prg) -> tuple[np.ndarray, int]:
    """R uniform in Z_q, (4, 1), drawn again while t R / q is within 1/64 of a half-integer, and -round(t R / q)."""
    while True:
        r = lattice.uniform(WIDE, stream, 1)
        high, low = WIDE.basis.fraction(r)
        scaled = int(high[0]) << 64 | int(low[0])
        half, sixty_fourth = 1 << (_REST - 1), 1 << (_REST - 6)
        if abs(scaled % (1 << _REST) - half) >= sixty_fourth:
            return r, -((scaled + half) >> _REST) % LONG


def to_wire_long(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Binary fractions rounded to 120 bits, little-endian, uint8 (n, 15)."""
    up = low + np.uint64(1 << 7)
    top = high + (up < low)
    return np.ascontiguousarray(np.stack([up, top], axis=1).view(np.uint8)[:, 1:])


def answer_long(
    public: PublicKey, secrets: Secrets, total0: np.ndarray, total1: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """`PublicKey.answer_first` modulo 2^104: uint8 (1, 15), uint8 (N, 15), and our own share."""
    r, share = mask_long(secrets.masks)
    first, second = public.masked_first(secrets, (total0, total1), r)
    return to_wire_long(*first), to_wire_long(*second), share


def decrypt_long(key: Key, answer0: np.ndarray, answer1: np.ndarray) -> int:
    """Decrypt coefficient 0: answer0 uint8 (1, 15), answer1 uint8 (N, 15); the owner's share modulo 2^104.

    Three sums of 8192 signed numbers below 2^40 each stay within words.
    """
    fives = np.zeros((len(answer1), 3, 8), dtype=np.uint8)
    fives[:, :, :5] = answer1.reshape(-1, 3, 5)
    sums = key.row @ fives.view("<i8")[:, :, 0]
    total = int.from_bytes(answer0.tobytes(), "little")
    total += sum(int(part) << (_FIVE * place) for place, part in enumerate(sums))
    rest = 8 * LONG_BYTES - LONG_BITS
    return ((total + (1 << (rest - 1))) >> rest) % LONG


def two_words(shares: Sequence[int], shape: tuple[int, int]) -> np.ndarray:
    """Numbers below 2^104 as words, uint64 (*shape, 2)."""
    data = b"".join(share.to_bytes(16, "little") for share in shares)
    return np.frombuffer(data, dtype="<u8").astype(np.uint64).reshape(*shape, 2)
