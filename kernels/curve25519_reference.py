"""The plain twin of the curve kernel: slow, by the book, for PUBLIC values only (self-tests and tests).

Multiplication runs on `ecdsa`'s Edwards arithmetic, the map on straight integers in the order of RFC 9380. Both take
time that depends on their input, so no secret scalar and no table's identifier may come here.

Sources: RFC 7748 section 4.1 (birational maps between the curves), RFC 9380 sections 5.2, 5.3.1, 6.7.1; RFC 8032.
"""

from __future__ import annotations

import hashlib

from ecdsa.eddsa import generator_ed25519
from ecdsa.ellipticcurve import PointEdwards

__all__ = ["base_multiply", "double", "expand_message", "hash_to_curve", "lift", "multiply"]

P = 2**255 - 19
J = 486662
_D = -121665 * pow(121666, -1, P) % P
_ROOT_OF_MINUS_1 = pow(2, (P - 1) // 4, P)


def clamp(scalar: bytes) -> int:
    """decodeScalar25519 of RFC 7748 section 5."""
    return int.from_bytes(scalar, "little") & ~7 & (2**254 - 1) | 2**254


def lift(u: bytes) -> PointEdwards:
    """One of the two Edwards points over this u; ValueError when u is on the twist or has no Edwards form."""
    value = (int.from_bytes(u, "little") & (2**255 - 1)) % P
    if (value + 1) % P == 0:
        raise ValueError("u = -1 has no Edwards form")
    y = (value - 1) * pow(value + 1, -1, P) % P
    squared = (y * y - 1) * pow(_D * y * y + 1, -1, P) % P
    x = pow(squared, (P + 3) // 8, P)
    if x * x % P != squared:
        x = x * _ROOT_OF_MINUS_1 % P
    if x * x % P != squared:
        raise ValueError("u lies on the twist")
    return PointEdwards(generator_ed25519.curve(), x, y, 1, x * y)


def coordinate(point: PointEdwards) -> bytes:
    """u = (1 + y)/(1 - y), with 0 for the neutral element as X25519 has it."""
    y = int(point.y())
    return ((1 + y) * pow(1 - y, -1, P) % P).to_bytes(32, "little") if y % P != 1 else bytes(32)


def multiply(scalar: bytes, u: bytes) -> bytes:
    """X25519(scalar, u) for a u on the curve, through Edwards arithmetic."""
    return coordinate(_times(clamp(scalar), lift(u)))


def base_multiply(scalar: bytes) -> bytes:
    """X25519(scalar, 9)."""
    return multiply(scalar, (9).to_bytes(32, "little"))


def double(u: bytes, times: int) -> bytes:
    """u(2^times Q)."""
    return coordinate(_times(2**times, lift(u)))


def _times(factor: int, point: PointEdwards) -> PointEdwards:
    """Double and add: `ecdsa` may reduce its own factors by an order that a point with torsion does not have."""
    total = PointEdwards(generator_ed25519.curve(), 0, 1, 1, 0)
    for bit in bin(factor)[2:]:
        total = total + total
        if bit == "1":
            total = total + point
    return total


def expand_message(message: bytes, tag: bytes, length: int) -> bytes:
    """expand_message_xmd with SHA-512, in the steps of RFC 9380 section 5.3.1."""
    tag_prime = tag + bytes([len(tag)])
    b = [hashlib.sha512(bytes(128) + message + length.to_bytes(2, "big") + bytes(1) + tag_prime).digest()]
    b.append(hashlib.sha512(b[0] + b"\x01" + tag_prime).digest())
    for i in range(2, -(-length // 64) + 1):
        mixed = (int.from_bytes(b[0], "big") ^ int.from_bytes(b[i - 1], "big")).to_bytes(64, "big")
        b.append(hashlib.sha512(mixed + bytes([i]) + tag_prime).digest())
    return b"".join(b[1:])[:length]


def hash_to_field(message: bytes, tag: bytes) -> int:
    """u of RFC 9380 section 5.2, count 1, L = 48."""
    return int.from_bytes(expand_message(message, tag, 48), "big") % P


def map_to_curve(u: int) -> int:
    """map_to_curve_elligator2_curve25519, RFC 9380 section 6.7.1, x only, in the words of the section."""
    x1 = -J * pow(1 + 2 * u * u, P - 2, P) % P
    if x1 == 0:
        x1 = -J % P
    gx1 = (x1**3 + J * x1**2 + x1) % P
    return x1 if pow(gx1, (P - 1) // 2, P) in (0, 1) else (-x1 - J) % P


def hash_to_curve(message: bytes, tag: bytes) -> bytes:
    """Q.x, little-endian."""
    return map_to_curve(hash_to_field(message, tag)).to_bytes(32, "little")
