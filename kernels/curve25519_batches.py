"""Large batches of the curve's operations in pieces: on threads, in the fallback's worker processes, or on an executor.

The kernel releases the interpreter's lock, so threads suffice for it: one shared pool, as many as we may use. The
fallback holds it, so it has processes (`curve25519_workers`). To a caller's executor goes `run`, a module-level
function, with arguments of bytes; the executor may pickle those, we never do.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import cache

import numpy as np

from kernels import curve25519_scalar as scalar
from kernels.curve25519_compute import Batch, Products, compute, packed, products_of, tested, unpacked
from kernels.curve25519_native import variants
from kernels.curve25519_workers import Pool

__all__ = ["gather", "run", "workers"]

THRESHOLD = 3000  # rows below which, 0.15 s of work, starting the fallback's processes does not pay
_FALLBACK_PIECE = 2048  # rows of one request to a worker process
_PIECE, _SMALLEST = 8192, 1024  # rows of one call into the library, at most and at least


def workers() -> int:
    """As many as there are processors for us, 64 at most."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(count, 64)


def gather(variant: str | None, batch: Batch, executor: Executor | None) -> Products:
    """The products of all pieces, in order."""
    tested(variant)
    count = _rows(batch)
    pieces = list(_pieces(batch, _piece(variant, count)))
    if executor is not None:
        futures = [executor.submit(run, variant, *packed(piece)) for piece in pieces]
        done = [_answered(future.result()) for future in futures]
    elif variant is None and count >= THRESHOLD and workers() > 1:
        answers = _processes().map([packed(piece) for piece in pieces])
        done = [products_of(piece, answer) for piece, answer in zip(pieces, answers, strict=True)]
    elif variant is None or len(pieces) == 1 or workers() == 1:
        done = [compute(variant, piece) for piece in pieces]
    else:
        done = list(_threads().map(compute, [variant] * len(pieces), pieces))
    if len(done) == 1:
        return done[0]
    points = np.concatenate([np.empty((0, 32), dtype=np.uint8), *(each.points for each in done)])
    return Products(points, all(each.canonical for each in done), all(each.nonzero for each in done))


def run(variant: str | None, operation: int, first: bytes, second: bytes) -> bytes:
    """One piece in a worker of the caller's executor: two bytes for the flags, then the points.

    A worker whose machine lacks the variant takes its own best one: all give the same points.
    """
    if variant not in variants():
        variant = variants()[-1] if variants() else None
    tested(variant)
    done = compute(variant, unpacked(operation, first, second))
    return bytes([done.canonical, done.nonzero]) + done.points.tobytes()


def _answered(answer: bytes) -> Products:
    return Products(np.frombuffer(answer, np.uint8, offset=2).reshape(-1, 32), bool(answer[0]), bool(answer[1]))


def _rows(batch: Batch) -> int:
    return len(batch.offsets) - 1 if batch.operation == scalar.HASH else len(batch.second)


def _piece(variant: str | None, count: int) -> int:
    """Rows of a piece: whole blocks of the library's shared inversions (512), and work for every thread."""
    if variant is None:
        return _FALLBACK_PIECE
    share = -(-count // workers() // 512) * 512
    return min(max(share, _SMALLEST), _PIECE)


def _pieces(batch: Batch, size: int) -> Iterator[Batch]:
    operation, first, second, offsets = batch
    for at in range(0, _rows(batch), size):
        if operation == scalar.HASH:
            yield Batch(operation, first, second, offsets[at : at + size + 1])
        else:
            head = first if isinstance(first, bytes) else first[at : at + size]
            yield Batch(operation, head, second[at : at + size], offsets)


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers(), thread_name_prefix="curve")


@cache
def _processes() -> Pool:
    pool = Pool(workers())
    atexit.register(pool.close)
    return pool


if hasattr(os, "register_at_fork"):  # a forked child has the pools but not their threads
    os.register_at_fork(after_in_child=_threads.cache_clear)
    os.register_at_fork(after_in_child=_processes.cache_clear)
