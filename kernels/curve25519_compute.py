"""One batch of the curve's operations in this process and thread, by a variant of the library or by the fallback.

A variant (None: the fallback) is compared with the plain twin on random public points before its first use here, in
worker processes of an executor too.
"""

from __future__ import annotations

import secrets
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels import curve25519_native as native
from kernels import curve25519_scalar as scalar

__all__ = ["Batch", "Points", "Products", "clamped", "compute", "is_canonical", "random_scalar", "self_test", "tested"]

Points = npt.NDArray[np.uint8]

_TAG = b"tallystick/v1/self-test/"


class Batch(NamedTuple):
    """One operation of `curve25519_scalar`. HASH: first is the tag, second the data; else scalars and points."""

    operation: int
    first: bytes | Points
    second: Points
    offsets: npt.NDArray[np.int64]  # of the items of HASH in `second`, else empty


class Products(NamedTuple):
    """Rows of an operation; of MULTIPLY also whether all inputs were canonical and no product is zero, else True."""

    points: Points
    canonical: bool
    nonzero: bool


def compute(variant: str | None, batch: Batch) -> Products:
    """The batch's products; shapes are checked by the facade."""
    operation, first, second, offsets = batch
    if variant is None:
        return _fallback(batch)
    if isinstance(first, bytes):
        if operation == scalar.HASH:
            return Products(native.hash_to_curve(variant, second, offsets, first), True, True)
        if operation == scalar.MULTIPLY:
            return Products(*native.multiply(variant, first, second))
        nines = np.zeros_like(second)  # BASE_EACH
        nines[:, 0] = 9
        return Products(native.multiply_each(variant, second, nines), True, True)
    return Products(native.multiply_each(variant, first, second), True, True)


def packed(batch: Batch) -> tuple[int, bytes, bytes]:
    """The batch as a request of `curve25519_scalar.run`: operation and bytes."""
    operation, first, second, offsets = batch
    head = first if isinstance(first, bytes) else first.tobytes()
    if operation != scalar.HASH:
        return operation, head, second.tobytes()
    lengths = np.diff(offsets)
    if len(lengths) and int(lengths.max()) >= 1 << 32:
        raise ValueError("an item of 4 GiB or more")
    count = np.array([len(lengths)], dtype="<u8").tobytes()
    return operation, head, count + lengths.astype("<u4").tobytes() + second[offsets[0] : offsets[-1]].tobytes()


def unpacked(operation: int, first: bytes, second: bytes) -> Batch:
    """The inverse of `packed`."""
    none = np.empty(0, dtype=np.int64)
    if operation == scalar.MULTIPLY_EACH:
        return Batch(operation, _rows(first), _rows(second), none)
    if operation != scalar.HASH:
        return Batch(operation, first, _rows(second), none)
    (count,) = np.frombuffer(second, dtype="<u8", count=1)
    offsets = np.zeros(int(count) + 1, dtype=np.int64)
    np.cumsum(np.frombuffer(second, dtype="<u4", count=int(count), offset=8), out=offsets[1:])
    return Batch(operation, first, np.frombuffer(second, dtype=np.uint8, offset=8 + 4 * int(count)), offsets)


def products_of(batch: Batch, answer: bytes) -> Products:
    """A fallback worker's answer with the two flags, which it does not know of."""
    points = _rows(answer)
    if batch.operation != scalar.MULTIPLY:
        return Products(points, True, True)
    return Products(points, bool(is_canonical(batch.second).all()), bool(points.any(axis=1).all()))


def is_canonical(points: Points) -> npt.NDArray[np.bool_]:
    """Per row of (n, 32): bit 255 is clear and u < p."""
    top = points[:, 31]
    over = (top == 127) & (points[:, 0] >= 237) & (points[:, 1:31] == 255).all(axis=1)
    fine: npt.NDArray[np.bool_] = (top < 128) & ~over
    return fine


def random_scalar() -> bytes:
    """A fresh secret scalar, clamped."""
    return clamped(secrets.token_bytes(32))


def clamped(uniform: bytes) -> bytes:
    """A scalar of 32 uniform bytes as in RFC 7748 section 5: a multiple of 8, bit 254 set."""
    raw = bytearray(uniform)
    raw[0] &= 248
    raw[31] = raw[31] & 127 | 64
    return bytes(raw)


def _fallback(batch: Batch) -> Products:
    return products_of(batch, scalar.run(*packed(batch)))


def _rows(data: bytes) -> Points:
    return np.frombuffer(data, dtype=np.uint8).reshape(-1, 32)


def self_test(variant: str | None) -> None:
    """Compare a variant with the plain twin, in every lane and one more; RuntimeError on a difference."""
    from kernels import curve25519_reference as twin

    none = np.empty(0, dtype=np.int64)
    key = random_scalar()  # public, as all here: the twin's time depends on it
    scalars = _rows(random_scalar() + random_scalar())
    bases = compute(variant, Batch(scalar.BASE_EACH, b"", scalars, none)).points
    expected = [twin.base_multiply(row.tobytes()) for row in scalars]
    twice = [twin.multiply(key, row) for row in expected]
    count = 2 * native.lanes(variant) + 1 if variant else 3
    order = np.arange(count) % 2
    points = bases[order]
    good = compute(variant, Batch(scalar.MULTIPLY, key, points, none))
    bent = points.copy()
    bent[count // 2] = 0  # small order, among good points in its vector
    bent[-1] = 255  # not canonical, in the last vector's only lane
    bad = compute(variant, Batch(scalar.MULTIPLY, key, bent, none))
    keys = _rows(b"".join(key if odd else scalars[0].tobytes() for odd in order))
    each = compute(variant, Batch(scalar.MULTIPLY_EACH, keys, points, none)).points
    items = [secrets.token_bytes(9), b"", secrets.token_bytes(200)]
    offsets = np.cumsum([0] + [len(item) for item in items], dtype=np.int64)
    mapped = compute(variant, Batch(scalar.HASH, _TAG, np.frombuffer(b"".join(items), np.uint8), offsets)).points
    fine = (
        bases.tobytes() == b"".join(expected)
        and good.points.tobytes() == b"".join(twice[odd] for odd in order)
        and (good.canonical, good.nonzero) == (True, True)
        and (bad.canonical, bad.nonzero) == (False, False)
        and [bool(row.any()) for row in bad.points] == [at != count // 2 for at in range(count)]
        and (bad.points[: count // 2] == good.points[: count // 2]).all()
        and (each[order == 1] == good.points[order == 1]).all()
        and each[0].tobytes() == twin.multiply(scalars[0].tobytes(), expected[0])
        and mapped.tobytes() == b"".join(twin.hash_to_curve(item, _TAG) for item in items)
    )
    if not fine:
        raise RuntimeError(f"the curve kernel ({variant or 'fallback'}) gives wrong points: do not use this machine")


@cache
def tested(variant: str | None) -> None:
    """`self_test`, once in a process."""
    self_test(variant)
