"""Plaintext moduli of slot products: primes modulo which a polynomial is a row of 8192 values."""

from __future__ import annotations

from kernels.ntt import N
from mpc.lattice import TRAIN, WIDE, Parameters
from party.errors import InternalError

__all__ = ["slot_set", "smallest_slot_prime"]


def smallest_slot_prime(bits: int) -> int:
    """The smallest prime >= 2^bits that is 1 modulo 16384: a plaintext modulus for slots (bits up to 49)."""
    candidate = (1 << bits) + 1 + (-(1 << bits)) % (2 * N)
    while not _is_prime(candidate):
        candidate += 2 * N
    return candidate


def _is_prime(n: int) -> bool:
    """Miller and Rabin with bases that decide every n below 2^64 (Sorenson and Webster 2015)."""
    bases = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
    if any(n % base == 0 for base in bases):
        return n in bases
    twos = (n - 1 & 1 - n).bit_length() - 1
    for base in bases:
        x = pow(base, (n - 1) >> twos, n)
        if x not in (1, n - 1) and all(pow(x, 1 << i, n) != n - 1 for i in range(1, twos)):
            return False
    return True


def slot_set(t: int) -> Parameters:
    """The parameter set of slot products modulo t; InternalError when t does not fit."""
    if not 2 * N < t < 1 << 50 or t % (2 * N) != 1 or not _is_prime(t):
        raise InternalError(f"{t} is not a prime below 2^50 that is 1 modulo {2 * N}")
    return TRAIN if t < 1 << 26 else WIDE
