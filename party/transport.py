"""What a channel stands on: a reliable byte stream to one authenticated peer. Here the one inside a process.

`party.tls` has the real one. A transport is used by two threads at once, one reading and one writing, and may be
shut down by a third.
"""

from __future__ import annotations

import struct
import threading
from collections import deque
from collections.abc import Sequence
from typing import Protocol

__all__ = ["Buffer", "CutTransport", "MemoryTransport", "Transport", "memory_transports"]

Buffer = bytes | bytearray | memoryview

_PIPE_BYTES = 1 << 20  # as a socket's buffers: a writer waits when the other side does not read
_HEARTBEAT = 0x0001


class Transport(Protocol):
    """A byte stream both ways. Every failure is an OSError."""

    def read_into(self, buffer: memoryview, seconds: float) -> int:
        """Fill a part of the buffer and return its length; 0 at the end; TimeoutError when nothing came in time."""

    def write(self, frame: Sequence[Buffer]) -> None:
        """Hand over one frame, all of it, behind what `write_now` left; waits as long as the peer does not read."""

    def write_now(self, frame: Sequence[Buffer]) -> bool:
        """Hand over one small frame without waiting; False when some of it is left for the next `write`, even `()`."""

    def finish(self) -> None:
        """Say that nothing more will be written; reading goes on."""

    def shutdown(self) -> None:
        """Break both directions at once and wake whoever waits; safe from any thread, any number of times."""

    def close(self) -> None:
        """Release what is held, when no thread uses it any more."""


class _Pipe:
    """One direction in memory."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._parts: deque[memoryview] = deque()
        self._bytes = 0
        self._ended = False

    def put(self, part: Buffer) -> None:
        with self._changed:
            while self._bytes > _PIPE_BYTES and not self._ended:
                self._changed.wait()
            if self._ended:
                raise BrokenPipeError("the other side is gone")
            if len(part):
                self._parts.append(memoryview(part))
                self._bytes += len(part)
                self._changed.notify_all()

    def take(self, buffer: memoryview, seconds: float) -> int:
        with self._changed:
            if not self._parts and not self._ended:
                self._changed.wait(seconds)
            if not self._parts:
                if self._ended:
                    return 0
                raise TimeoutError("nothing came")
            part = self._parts.popleft()
            count = min(len(part), len(buffer))
            buffer[:count] = part[:count]
            if count < len(part):
                self._parts.appendleft(part[count:])
            self._bytes -= count
            self._changed.notify_all()
            return count

    def has_room(self) -> bool:
        return self._bytes <= _PIPE_BYTES

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()


class MemoryTransport:
    """One end of two pipes inside this process."""

    def __init__(self, incoming: _Pipe, outgoing: _Pipe) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._left: Sequence[Buffer] = ()

    def read_into(self, buffer: memoryview, seconds: float) -> int:
        return self._incoming.take(buffer, seconds)

    def write(self, frame: Sequence[Buffer]) -> None:
        left, self._left = self._left, ()
        for part in (*left, *frame):
            self._outgoing.put(part)

    def write_now(self, frame: Sequence[Buffer]) -> bool:
        if not self._outgoing.has_room():
            self._left = frame
            return False
        self.write(frame)
        return True

    def finish(self) -> None:
        self._outgoing.end()

    def shutdown(self) -> None:
        self._incoming.end()
        self._outgoing.end()

    def close(self) -> None:
        self.shutdown()


class CutTransport:
    """Breaks the connection when the k-th frame has been handed over: what a crash at that moment looks like.

    For tests. Heartbeats are not counted, so that the cut falls on the same message in every run.
    """

    def __init__(self, inner: Transport, frames: int) -> None:
        self._inner = inner
        self._left = frames

    def read_into(self, buffer: memoryview, seconds: float) -> int:
        return self._inner.read_into(buffer, seconds)

    def write(self, frame: Sequence[Buffer]) -> None:
        if frame and struct.unpack_from("<H", frame[0], 2) != (_HEARTBEAT,):
            if self._left <= 0:
                self._inner.shutdown()
                raise ConnectionResetError("cut here by a test")
            self._left -= 1
        self._inner.write(frame)
        if self._left == 0:
            self._inner.shutdown()

    def write_now(self, frame: Sequence[Buffer]) -> bool:
        self.write(frame)
        return True

    def finish(self) -> None:
        self._inner.finish()

    def shutdown(self) -> None:
        self._inner.shutdown()

    def close(self) -> None:
        self._inner.close()


def memory_transports() -> tuple[MemoryTransport, MemoryTransport]:
    """Two connected ends."""
    there, back = _Pipe(), _Pipe()
    return MemoryTransport(back, there), MemoryTransport(there, back)
