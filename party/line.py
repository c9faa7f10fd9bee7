"""The line under a channel: frames in both directions, moved by the user's thread when it waits, else by two others.

Writing: a frame goes to a queue and a writer thread; a small one on a free line is written by the user itself.
Reading: whoever waits for a frame reads it off the transport itself, because on a busy machine a change of threads
costs ten times what the socket does. When the user has been away for GRACE seconds (it computes), waits in `put`, or
has just read a large frame, the reader thread takes over, so that the peer is never held up, and its abort, its end or
its silence is noticed. `_reading` and `_writing` say that one thread is at that half of the transport.

Longer than 250 lines because the users' calls and the two threads share one state and one lock, and are only safe
to read together.
"""

from __future__ import annotations

import contextlib
import copy
import threading
import time
from collections import deque

from party import limits
from party.errors import DeadlineExceeded, InternalError, PeerError, PeerVanished, TallyError
from party.frame import HEARTBEAT, Abort, Closing, Frame, Header, error_of
from party.message import decode
from party.transport import Buffer, Transport

__all__ = ["Line"]

_TICK = 0.5  # longest sleep before flags are looked at again
_GRACE = 0.05  # the reader thread takes over when the user has not read for so long
_SMALL = 32 << 10  # frames up to this size change threads as rarely as possible
_OVERHEAD = 512  # what an empty frame costs in our memory
_BEAT = (Header(0, HEARTBEAT, 0, 0, bytes(8)).pack(),)


class Line:
    """Frames to one peer and back. One thread calls `put`, `take`, `stop`; any may call `interrupt`."""

    def __init__(self, transport: Transport, peer: str, silence: float) -> None:
        self.peer = peer
        self.silence = silence
        self._transport = transport
        self._interrupted: TallyError | None = None
        self._changed = threading.Condition()  # guards all below
        self._outbox: deque[tuple[Buffer, ...]] = deque()
        self._outbox_bytes = 0  # queued and the frame being written by the writer thread
        self._inbox: deque[Frame] = deque()
        self._inbox_bytes = 0
        self._failure: TallyError | None = None
        self._aborted = False  # the peer stopped the run: nothing is sent any more
        self._finishing = False  # write what is queued, then end
        self._writing = False
        self._reading = False
        self._ended = False  # nothing can be read any more
        self._waiting = False  # the user waits in `take`
        self._blocked = False  # the user waits in `put`: the inbox may grow
        self._left = time.monotonic()  # when the user last read
        # The frame being read, by whoever reads.
        self._head: bytearray | None = None  # None while the header is being read
        self._buffer = bytearray(Header.SIZE)
        self._filled = 0
        self._silent = 0.0
        self._peer_done = False
        self._threads = [
            threading.Thread(target=self._write_loop, name=f"to-{peer}", daemon=True),
            threading.Thread(target=self._read_loop, name=f"from-{peer}", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    # --- the user's side ------------------------------------------------------------------------------------------

    def put(self, head: bytes, body: bytes) -> None:
        """Queue one frame; waits while more than OUTBOX_BYTES are queued. Raises whatever has ended the line."""
        with self._changed:
            self._wait_for_room()
            direct = len(body) <= _SMALL and not self._outbox and not self._writing
            if direct:
                self._writing = True
            else:
                self._outbox.append((head, body))
                self._outbox_bytes += len(head) + len(body)
                self._changed.notify_all()
        if direct:
            self._write_directly((head, body))

    def take(self, timeout: float) -> Frame:
        """The next frame. Raises an interruption or the peer's abort at once, anything else behind what came before."""
        end = time.monotonic() + timeout
        self._waiting = True
        try:
            while True:
                with self._changed:
                    self._raise_if(self._interrupted or (self._failure if self._aborted else None))
                    if self._inbox:
                        return self._pop()
                    self._raise_if(self._failure)
                    left = end - time.monotonic()
                    if left <= 0:
                        raise DeadlineExceeded(
                            f"{self.peer} is there but sent nothing for {timeout:.0f} s",
                            hint="run the same command again",
                        )
                    if self._reading or self._ended:
                        self._changed.wait(min(_TICK, left))
                        continue
                    self._reading = True
                self._read_step(left)
        finally:
            self._waiting = False

    def interrupt(self, error: TallyError) -> None:
        """`put` or `take`, waiting now or called next, raises this. No lock: safe in a signal handler."""
        self._interrupted = error

    def stop(self, last: tuple[bytes, bytes] | None, seconds: float) -> bool:
        """Write what is queued, or drop it and write only `last`; wait for the peer's end; release everything.

        Takes at most about `seconds`. Whether `last` was given to the transport: never after the peer's own abort.
        """
        end = time.monotonic() + seconds
        with self._changed:
            said = last is not None and not self._aborted
            if last is not None:
                self._outbox_bytes -= sum(len(part) for frame in self._outbox for part in frame)
                self._outbox.clear()
                if said:
                    self._outbox.append(last)
                    self._outbox_bytes += sum(len(part) for part in last)
                if isinstance(self._failure, PeerVanished):
                    end = time.monotonic() + _TICK  # nobody there to wait for
            self._finishing = True
            self._changed.notify_all()
        # A socket closed with unread bytes in it resets the connection and may destroy our last words on their way.
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        self._transport.shutdown()
        for thread in self._threads:
            thread.join()
        self._transport.close()
        self._inbox.clear()
        self._outbox.clear()
        return said

    def drop(self) -> None:
        """End without a word, at once: the channel was forgotten, or the user wants no answer. Waits for nothing."""
        with self._changed:
            self._finishing = True
            self._outbox.clear()
            self._changed.notify_all()
        self._transport.shutdown()

    def _wait_for_room(self) -> None:
        end = time.monotonic() + limits.STAGE_SECONDS
        try:
            while True:
                self._raise_if(self._interrupted or self._failure)
                if self._outbox_bytes <= limits.OUTBOX_BYTES:
                    return
                if time.monotonic() > end:
                    raise DeadlineExceeded(f"{self.peer} took nothing for {limits.STAGE_SECONDS:.0f} s")
                if not self._blocked:
                    self._blocked = True
                    self._changed.notify_all()
                self._changed.wait(_TICK)
        finally:
            self._blocked = False

    def _pop(self) -> Frame:
        frame = self._inbox.popleft()
        full = self._inbox_bytes > limits.INBOX_SOFT_BYTES
        self._inbox_bytes -= len(frame.body) + _OVERHEAD
        if full or len(frame.body) > _SMALL:
            self._left = 0.0  # more of that size will follow: the reader thread shall go ahead
            self._changed.notify_all()
        return frame

    @staticmethod
    def _raise_if(error: TallyError | None) -> None:
        if error is not None:
            raise copy.copy(error)  # the kept one must not hold on to the frames, and so the channel, of who met it

    # --- writing --------------------------------------------------------------------------------------------------

    def _write_directly(self, frame: tuple[Buffer, ...]) -> None:
        left = False
        try:
            left = not self._transport.write_now(frame)
        except OSError as error:
            self._fail(self._broken(error))
        finally:
            with self._changed:
                self._writing = False
                if left:
                    self._outbox.append(())  # the writer thread goes on with the rest
                    self._changed.notify_all()

    def _write_loop(self) -> None:
        beat = min(limits.HEARTBEAT_SECONDS, self.silence / 5)
        wrote = time.monotonic()
        try:
            while True:
                with self._changed:
                    due = wrote + beat - time.monotonic()
                    if not self._outbox and not self._finishing and not self._aborted and due > 0:
                        self._changed.wait(due)
                    if self._aborted or (self._finishing and not self._outbox):
                        break
                    if self._writing:
                        wrote = time.monotonic()  # `put` writes: no need for a heartbeat
                        continue
                    if not self._outbox and time.monotonic() < wrote + beat:
                        continue  # woken for another reason: a frame has come, somebody reads
                    self._writing = True
                    frame = self._outbox.popleft() if self._outbox else _BEAT
                self._transport.write(frame)
                wrote = time.monotonic()
                with self._changed:
                    self._writing = False
                    if frame is not _BEAT:
                        self._outbox_bytes -= sum(len(part) for part in frame)
                        self._changed.notify_all()
        except OSError as error:
            self._fail(self._broken(error))
        except Exception as error:  # noqa: BLE001  # edge of a thread: whoever waits must be told
            self._fail(InternalError(f"the writer thread failed: {type(error).__name__}"))
        with contextlib.suppress(OSError):
            self._transport.finish()

    # --- reading --------------------------------------------------------------------------------------------------

    def _read_loop(self) -> None:
        while True:
            with self._changed:
                while not self._ended and not self._readers_turn():
                    self._changed.wait(_GRACE)
                if self._ended:
                    break
                self._reading = True
            self._read_step(_TICK)
        with self._changed:
            while not self._finishing and not self._aborted:
                self._changed.wait()
        scratch = memoryview(bytearray(1 << 16))
        with contextlib.suppress(OSError):
            while self._transport.read_into(scratch, limits.ABORT_SECONDS):
                pass  # until the peer ends, or `stop` loses patience

    def _readers_turn(self) -> bool:
        if self._reading:
            return False
        if self._finishing or self._aborted or self._blocked:
            return True
        return self._inbox_bytes <= limits.INBOX_SOFT_BYTES and time.monotonic() - self._left >= _GRACE

    def _read_step(self, seconds: float) -> None:
        """Read until a frame is whole or half a second is over. The caller has set `_reading`; here it is freed."""
        error: TallyError | None = None
        try:
            if self._inbox_bytes > limits.INBOX_BYTES:
                raise PeerError(f"{self.peer} sends more than we can hold")
            self._read_some(seconds)
        except TallyError as failure:
            error = failure
        except OSError as failure:
            error = self._broken(failure)
        except Exception as failure:  # noqa: BLE001  # edge of a thread: whoever waits must be told
            error = InternalError(f"reading failed: {type(failure).__name__}")
        finally:
            with self._changed:
                self._reading = False
                self._ended = self._ended or error is not None
                if self._waiting:
                    self._left = time.monotonic()  # the user goes on reading
                if threading.current_thread() is self._threads[1] or error is not None:
                    self._changed.notify_all()
        if error is not None:
            self._fail(error)

    def _read_some(self, seconds: float) -> None:
        """One frame, or a part of one.

        The peer is gone when our own clock saw `silence` seconds pass in which nothing came. A wait counts as at most
        two ticks however long it took: when we ourselves were stopped, or another thread of ours held the interpreter,
        the peer's heartbeats lie in the socket and are read next.
        """
        tick = min(_TICK, self.silence / 8, seconds)
        end = time.monotonic() + tick
        while True:
            while self._filled < len(self._buffer):
                start = time.monotonic()
                try:
                    count = self._transport.read_into(memoryview(self._buffer)[self._filled :], tick)
                except TimeoutError:
                    self._silent += min(time.monotonic() - start, 2 * tick)
                    if self._silent > self.silence:
                        raise PeerVanished(
                            f"{self.peer} has been silent for {self.silence:g} s",
                            hint=f"see whether the process at {self.peer} still runs, then run the same command again",
                        ) from None
                    return
                if not count:
                    raise PeerVanished(
                        f"{self.peer} ended the connection without a closing message",
                        hint=f"ask {self.peer} what its ledger says, then run the same command again",
                    )
                self._silent = 0.0
                self._filled += count
                if self._filled < len(self._buffer) and time.monotonic() > end:
                    return
            whole, self._filled = self._buffer, 0
            if self._head is None:
                self._buffer = bytearray(Header.unpack(whole).length)
                self._head = whole
            else:
                head, self._head, self._buffer = self._head, None, bytearray(Header.SIZE)
                self._arrived(Header.unpack(head), bytes(head), whole)
                return

    def _arrived(self, header: Header, head: bytes, body: bytearray) -> None:
        if header.kind == HEARTBEAT:
            return
        if header.kind == Abort.kind:
            self._fail(error_of(decode(Abort, body), self.peer), aborted=True)
            return
        with self._changed:
            if self._peer_done:
                raise PeerError(f"{self.peer} goes on after its closing message")
            self._peer_done = header.kind == Closing.kind
            if self._finishing:
                return  # nobody will read it
            self._inbox.append(Frame(header, head, body))
            self._inbox_bytes += len(body) + _OVERHEAD

    def _fail(self, error: TallyError, *, aborted: bool = False) -> None:
        with self._changed:
            if self._failure is None or (aborted and not self._aborted):
                self._failure = error
            self._aborted = self._aborted or aborted
            self._changed.notify_all()

    def _broken(self, error: OSError) -> PeerVanished:
        return PeerVanished(
            f"the connection to {self.peer} broke: {error.strerror or error}", hint="run the same command again"
        )
