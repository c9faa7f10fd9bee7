"""The fallback backend of the curve: `cryptography` for secret scalars, Python integers for the map to the curve.

Everything here works on packed bytes, 32 a point, and imports nothing of ours, because this file is also the program
of the worker processes: `python -I curve25519_scalar.py` reads requests from stdin and answers on stdout until stdin
ends. Processes, because X25519 in `cryptography` holds the interpreter's lock (two threads are no faster than one);
plain pipes instead of `multiprocessing`, because that would pickle secrets and run the user's `__main__` again.

Time: 50 us a multiplication, about 60 us an identifier to the curve. The map's running time depends on the hashed
identifier (Python integers, a Jacobi symbol by Euclid); scalars go through `cryptography` only, in constant time.

Sources: RFC 7748 (X25519); RFC 9380 sections 5.2, 5.3.1 (expand_message_xmd), 6.7.1 and appendix G.2.1 (Elligator2);
Jacobi symbol by reciprocity: Cohen, A Course in Computational Algebraic Number Theory, 1.4.2.
"""

from __future__ import annotations

import hashlib
import signal
import struct
import sys
from collections.abc import Sequence
from typing import BinaryIO

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

__all__ = ["base_multiply_each", "hash_to_curve", "hash_to_field", "multiply", "multiply_each"]

P = 2**255 - 19
J = 486662
_ZERO = bytes(32)
_TRAILING_ZEROS = tuple([8] + [(value & -value).bit_length() - 1 for value in range(1, 256)])


def multiply(scalar: bytes, points: bytes) -> bytes:
    """X25519(scalar, u) for each packed u; 32 zero bytes where the library refuses (small order)."""
    exchange = X25519PrivateKey.from_private_bytes(scalar).exchange
    public = X25519PublicKey.from_public_bytes
    out = []
    for at in range(0, len(points), 32):
        try:
            out.append(exchange(public(points[at : at + 32])))
        except ValueError:  # the product is zero
            out.append(_ZERO)
    return b"".join(out)


def multiply_each(scalars: bytes, points: bytes) -> bytes:
    """X25519(scalar_i, u_i)."""
    return b"".join(multiply(scalars[at : at + 32], points[at : at + 32]) for at in range(0, len(points), 32))


def base_multiply_each(scalars: bytes) -> bytes:
    """X25519(scalar_i, 9)."""
    private = X25519PrivateKey.from_private_bytes
    return b"".join(private(scalars[at : at + 32]).public_key().public_bytes_raw() for at in range(0, len(scalars), 32))


def hash_to_field(items: Sequence[bytes], tag: bytes) -> list[int]:
    """One field element an item (L = 48): RFC 9380 section 5.2, with the fixed parts hashed once."""
    if len(tag) > 255:
        tag = hashlib.sha512(b"H2C-OVERSIZE-DST-" + tag).digest()
    tag_prime = tag + bytes([len(tag)])
    start = hashlib.sha512(bytes(128))
    middle, last = b"\x00\x30\x00" + tag_prime, b"\x01" + tag_prime
    sha512, number, out = hashlib.sha512, int.from_bytes, []
    for item in items:
        state = start.copy()
        state.update(item + middle)
        out.append(number(sha512(state.digest() + last).digest()[:48], "big") % P)
    return out


def _is_square(a: int) -> bool:
    """Whether 0 < a < P is a square mod P: Jacobi symbol by Euclid with even remainders, a third of a power's time."""
    n, flips = P, 0  # bit 1 of `flips` is the symbol's sign
    table = _TRAILING_ZEROS
    while a:
        zeros = table[a & 255]
        while zeros == 8:  # eight at a time keep the sign: (2/n)**8 = 1
            a >>= 8
            zeros = table[a & 255]
        a >>= zeros
        m, low = n & 7, a & 7
        flips ^= (low & m) ^ ((m ^ m >> 1) * (zeros & 1))  # reciprocity, and (2/n) for each odd power of two
        rest = n % a
        n = a
        if rest & 1:  # a - rest is even: one more halving for the sign (-1/n)
            a -= rest
            flips ^= low
        else:
            a = rest
    return not flips & 2


def _invert(values: list[int]) -> list[int]:
    """1/v mod P of each (none is zero), with one inversion in all (Montgomery's trick)."""
    product, before = 1, []
    for value in values:
        before.append(product)
        product = product * value % P
    inverse, out = pow(product, -1, P), [0] * len(values)
    for place in range(len(values) - 1, -1, -1):
        out[place] = inverse * before[place] % P
        inverse = inverse * values[place] % P
    return out


def hash_to_curve(items: Sequence[bytes], tag: bytes) -> bytes:
    """u-coordinate of Q = map_to_curve_elligator2_curve25519(hash_to_field(item)), cofactor not cleared, packed.

    With r the field element and d = 1 + 2 r^2 (never 0: -1/2 is no square), x1 = -J/d and g(x1) = x1^3 + J x1^2 + x1
    has the quadratic character of J d (J^2 + d^2 - J^2 d); the answer is x1 when that is a square, else -J - x1.
    """
    bottoms = [(1 + 2 * r * r) % P for r in hash_to_field(items, tag)]
    j2, out = J * J, []
    for d, inverse in zip(bottoms, _invert(bottoms), strict=True):
        x1 = -J * inverse % P
        character = J * d * (j2 + d * (d - j2)) % P
        x = x1 if not character or _is_square(character) else -J - x1
        out.append((x % P).to_bytes(32, "little"))
    return b"".join(out)


# --- the worker process -------------------------------------------------------------------------------------------
# A request: operation (1 byte), lengths of the two arguments (8 bytes each), the arguments. The second argument of HASH
# is the number of items (8 bytes), their lengths (4 bytes each), the items. The answer: length (8 bytes), points.

MULTIPLY, MULTIPLY_EACH, BASE_EACH, HASH = range(4)
REQUEST = struct.Struct("<BQQ")
ANSWER = struct.Struct("<Q")


def run(operation: int, first: bytes, second: bytes) -> bytes:
    """One request; the same function serves workers, a caller's executor and the caller's own process."""
    if operation == MULTIPLY:
        return multiply(first, second)
    if operation == MULTIPLY_EACH:
        return multiply_each(first, second)
    if operation == BASE_EACH:
        return base_multiply_each(second)
    return hash_to_curve(unpack(second), first)


def pack(items: Sequence[bytes]) -> bytes:
    """Items as the argument of HASH."""
    return struct.pack(f"<Q{len(items)}I", len(items), *map(len, items)) + b"".join(items)


def unpack(packed: bytes) -> list[bytes]:
    """The items of an argument of HASH."""
    (count,) = struct.unpack_from("<Q", packed)
    lengths = struct.unpack_from(f"<{count}I", packed, 8)
    at, items = 8 + 4 * count, []
    for length in lengths:
        items.append(packed[at : at + length])
        at += length
    return items


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the requests end, which they do when the parent ends, however it ends."""
    while len(header := requests.read(REQUEST.size)) == REQUEST.size:
        operation, first, second = REQUEST.unpack(header)
        answer = run(operation, requests.read(first), requests.read(second))
        answers.write(ANSWER.pack(len(answer)) + answer)
        answers.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    try:
        serve(sys.stdin.buffer, sys.stdout.buffer)
    except BrokenPipeError:  # the parent is gone
        sys.exit(0)
