"""Curve25519 in batches, u-coordinates only: the facade that psi and the base oblivious transfer use.

Points and scalars are uint8 arrays of shape (n, 32), little-endian as in RFC 7748. The backend for now is
`cryptography` with batched integers (`curve25519_scalar`), from THRESHOLD points on in worker processes; `active()`
names it for manifests. Nothing is sent to a peer here. At first use the backend is checked against the plain twin
on random public points (`curve25519_reference`); a difference raises RuntimeError.

`executor`: None for our own worker processes; else any concurrent.futures.Executor, whose workers then see the scalar.

Sources: RFC 7748 section 5; RFC 9380 suite curve25519_XMD:SHA-512_ELL2_NU_, of which Q (not P = 8Q) is returned.
"""

from __future__ import annotations

import atexit
import os
import secrets
from collections.abc import Sequence
from concurrent.futures import Executor
from functools import cache

import numpy as np
import numpy.typing as npt

from kernels import curve25519_scalar as scalar_backend
from kernels.curve25519_workers import Pool

__all__ = [
    "THRESHOLD",
    "active",
    "base_multiply_each",
    "hash_to_curve",
    "is_canonical",
    "multiply",
    "multiply_each",
    "random_scalar",
    "self_test",
]

Points = npt.NDArray[np.uint8]

THRESHOLD = 3000  # below it, 0.15 s of work, starting processes does not pay
_CHUNK = 2048  # points of one request to a worker


def active() -> str:
    """The backend in use, as manifests and `tally check` name it."""
    return f"cryptography X25519, integer Elligator2, {_workers()} processes"


def random_scalar() -> bytes:
    """A fresh secret scalar, clamped as in RFC 7748 section 5: 32 bytes, a multiple of 8, bit 254 set."""
    raw = bytearray(secrets.token_bytes(32))
    raw[0] &= 248
    raw[31] = raw[31] & 127 | 64
    return bytes(raw)


def multiply(scalar: bytes, points: Points, executor: Executor | None = None) -> Points:
    """X25519(scalar, u) of each row: (n, 32) -> (n, 32). Small-order rows give all zeros: the caller refuses them.

    The scalar is clamped by X25519 itself. Non-canonical rows are reduced silently: check `is_canonical` first.
    """
    if len(scalar) != 32:
        raise ValueError("a scalar has 32 bytes")
    return _run(scalar_backend.MULTIPLY, scalar, _checked(points), executor)


def multiply_each(scalars: Points, points: Points, executor: Executor | None = None) -> Points:
    """X25519(scalar_i, u_i) of each pair of rows: (n, 32), (n, 32) -> (n, 32)."""
    if len(scalars) != len(points):
        raise ValueError("as many scalars as points")
    return _run(scalar_backend.MULTIPLY_EACH, _checked(scalars), _checked(points), executor)


def base_multiply_each(scalars: Points, executor: Executor | None = None) -> Points:
    """X25519(scalar_i, 9) of each row: (n, 32) -> (n, 32)."""
    return _run(scalar_backend.BASE_EACH, b"", _checked(scalars), executor)


def hash_to_curve(items: Sequence[bytes], dst: bytes, executor: Executor | None = None) -> Points:
    """The map's own output Q.x for each item, (n, 32); `dst` is the domain separation tag.

    Q lies anywhere on the curve, seven in eight carry torsion: only masked by a clamped scalar may it be sent.
    """
    _tested()
    work = [(scalar_backend.HASH, dst, scalar_backend.pack(items[at : at + _CHUNK])) for at in _starts(len(items))]
    return _gather(work, len(items), executor)


def is_canonical(points: Points) -> npt.NDArray[np.bool_]:
    """Per row of (n, 32): bit 255 is clear and u < p."""
    top = points[:, 31]
    over = (top == 127) & (points[:, 0] >= 237) & (points[:, 1:31] == 255).all(axis=1)
    fine: npt.NDArray[np.bool_] = (top < 128) & ~over
    return fine


def self_test() -> None:
    """Compare the backend with the plain twin on random public points and scalars; RuntimeError on a difference."""
    from kernels import curve25519_reference as twin

    bases = np.frombuffer(b"".join(random_scalar() for _ in range(2)), dtype=np.uint8).reshape(2, 32)
    scalar = random_scalar()  # public: the twin's time depends on it
    points = scalar_backend.base_multiply_each(bases.tobytes())
    expected = b"".join(twin.multiply(scalar, points[at : at + 32]) for at in (0, 32))
    items = [secrets.token_bytes(9), b""]
    mapped = scalar_backend.hash_to_curve(items, b"tallystick/v1/self-test/")
    fine = (
        points == b"".join(twin.base_multiply(row.tobytes()) for row in bases)
        and scalar_backend.multiply(scalar, points) == expected
        and mapped == b"".join(twin.hash_to_curve(item, b"tallystick/v1/self-test/") for item in items)
        and scalar_backend.multiply(scalar, bytes(32)) == bytes(32)
    )
    if not fine:
        raise RuntimeError("the curve kernel gives wrong points: do not use this machine")


@cache
def _tested() -> None:
    self_test()


@cache
def _pool() -> Pool:
    pool = Pool(_workers())
    atexit.register(pool.close)
    return pool


def _workers() -> int:
    return min(len(os.sched_getaffinity(0)), 16) if hasattr(os, "sched_getaffinity") else min(os.cpu_count() or 1, 16)


def _checked(points: Points) -> Points:
    if points.dtype != np.uint8 or points.ndim != 2 or points.shape[1] != 32:
        raise ValueError("points and scalars are uint8 arrays of shape (n, 32)")
    return points


def _starts(count: int) -> range:
    return range(0, count, _CHUNK)


def _run(operation: int, first: bytes | Points, second: Points, executor: Executor | None) -> Points:
    _tested()
    work = []
    for at in _starts(len(second)):
        head = first if isinstance(first, bytes) else first[at : at + _CHUNK].tobytes()
        work.append((operation, head, second[at : at + _CHUNK].tobytes()))
    return _gather(work, len(second), executor)


def _gather(work: list[tuple[int, bytes, bytes]], count: int, executor: Executor | None) -> Points:
    if executor is not None:
        futures = [executor.submit(scalar_backend.run, *request) for request in work]
        answers = [future.result() for future in futures]
    elif count >= THRESHOLD and _workers() > 1:
        answers = _pool().map(work)
    else:
        answers = [scalar_backend.run(*request) for request in work]
    return np.frombuffer(b"".join(answers), dtype=np.uint8).reshape(count, 32)
