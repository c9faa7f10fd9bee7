"""A few worker processes for the curve, started at first use, fed through pipes by one thread each.

A worker is `python -I curve25519_scalar.py`: no fork of a process with threads, no pickle, no second run of the user's
`__main__`. It ends when its stdin ends, so it cannot outlive us, however we end. Secret scalars reach it by pipe only.
"""

from __future__ import annotations

import queue
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kernels.curve25519_scalar import ANSWER, REQUEST

__all__ = ["Pool"]

_PROGRAM = Path(__file__).with_name("curve25519_scalar.py")


class Pool:
    """`count` workers; several threads may call `map` at once."""

    def __init__(self, count: int) -> None:
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes] | None] = queue.SimpleQueue()
        for _ in range(count):
            self._idle.put(None)  # a place for a worker not started yet, or that has ended
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="curve")

    def map(self, work: Sequence[tuple[int, bytes, bytes]]) -> list[bytes]:
        """The answers in the order of the requests; RuntimeError when a worker ends early."""
        return list(self._threads.map(self._ask, work))

    def close(self) -> None:
        """End the idle workers."""
        while True:
            try:
                worker = self._idle.get_nowait()
            except queue.Empty:
                return
            if worker is not None:
                _end(worker)

    def _ask(self, request: tuple[int, bytes, bytes]) -> bytes:
        operation, first, second = request
        worker = self._idle.get() or _start()
        try:
            if worker.stdin is None or worker.stdout is None:
                raise RuntimeError("a worker process of the curve kernel has no pipes")
            worker.stdin.write(REQUEST.pack(operation, len(first), len(second)) + first + second)
            worker.stdin.flush()
            header = worker.stdout.read(ANSWER.size)
            (length,) = ANSWER.unpack(header) if len(header) == ANSWER.size else (-1,)
            answer = worker.stdout.read(length) if length >= 0 else b""
            if len(answer) != length:
                raise RuntimeError("a worker process of the curve kernel ended early")
        except BaseException as error:
            _end(worker)  # its pipes may hold half a request: never use it again
            self._idle.put(None)
            if isinstance(error, OSError):
                raise RuntimeError("a worker process of the curve kernel ended early") from None
            raise
        self._idle.put(worker)
        return answer


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", str(_PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


def _end(worker: subprocess.Popen[bytes]) -> None:
    worker.kill()
    for pipe in (worker.stdin, worker.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:  # unsent bytes to a dead worker
                continue
    worker.wait()
