"""The channel: typed messages to one peer and back, over TLS or between two threads.

`send` hands a frame to a writer thread and returns (a small one on a free line it writes itself); a reader thread
takes frames off the transport, so that two sides which send first never wait for each other and a dead or aborting
peer is noticed while we compute. Each frame carries version, stage, kind, length, sequence number and a tag of the
run; both directions are hashed into a transcript, which the two sides compare at the end of each stage. End of stream
is never success: a run ends with `close`, or with `abort`. docs/protocols/01-channel.md has the steps.

Longer than 250 lines because the user's calls and the two threads share one state and one lock, and are only safe
to read together.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from party import limits
from party.errors import DeadlineExceeded, InternalError, PeerError, PeerVanished, TallyError
from party.frame import HEARTBEAT, Abort, Closing, Frame, Header, Transcript, abort_of, error_of
from party.message import Message, decode, encode
from party.transport import Buffer, CutTransport, Transport, memory_transports

__all__ = ["Channel", "Counters", "CutTransport", "Transport", "memory_pair"]

M = TypeVar("M", bound=Message)

_TICK = 0.5  # longest sleep before flags are looked at again
_DIRECT = 32 << 10  # up to this size `send` writes itself when the line is free: it saves a change of threads
_OVERHEAD = 512  # what an empty frame costs in our memory
_BEAT = (Header(0, HEARTBEAT, 0, 0, bytes(8)).pack(),)


@dataclass
class Counters:
    """What the two users of a channel exchanged: bytes of frames, messages, and rounds (waits after a send).

    Counted by `send` and `recv`, so they are exact at any time and the same over TLS and in memory; heartbeats
    (24 bytes every few idle seconds) and TLS records are not in them.
    """

    sent: int = 0
    received: int = 0
    messages_sent: int = 0
    messages_received: int = 0
    rounds: int = 0


class Channel:
    """Typed messages to one peer. One thread may use it; its own two threads do the moving."""

    def __init__(self, transport: Transport, us: str, peer: str, *, silence: float = limits.SILENCE_SECONDS) -> None:
        if us == peer:
            raise InternalError(f"both ends of a channel are named {us}")
        self.us = us
        self.peer = peer
        self.counters = Counters()
        self.stage_name = "connect"
        self._transport = transport
        self._silence = silence
        self._beat = min(limits.HEARTBEAT_SECONDS, silence / 5)
        self._run_tag = bytes(8)
        self._stage_number = 0
        self._stage_label = ""
        self._in_stage = False
        self._next_out = 0
        self._next_in = 0
        self._hash_out = hashlib.sha256()
        self._hash_in = hashlib.sha256()
        self._asked = False  # we sent since we last waited
        self._interrupted: TallyError | None = None
        self._closed = False
        # Below: shared with the two threads, under this lock.
        self._changed = threading.Condition()
        self._outbox: deque[tuple[Buffer, ...]] = deque()
        self._outbox_bytes = 0  # queued and the frame being written
        self._writing = False  # one thread at a time uses the transport's writing half
        self._inbox: deque[Frame] = deque()
        self._inbox_bytes = 0
        self._blocked = False  # we wait in `send`: the inbox may grow
        self._failure: TallyError | None = None
        self._aborted = False  # the peer stopped the run: nothing is sent any more
        self._peer_done = False  # the peer's Closing is here
        self._finishing = False  # write what is queued, then end
        self._writer = threading.Thread(target=self._write_loop, name=f"to-{peer}", daemon=True)
        self._reader = threading.Thread(target=self._read_loop, name=f"from-{peer}", daemon=True)
        self._writer.start()
        self._reader.start()

    # --- what protocols use -------------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Queue one message; waits only while more than OUTBOX_BYTES are queued."""
        body = encode(message)
        if len(body) > limits.FRAME_BYTES:
            raise InternalError(f"a message of {len(body)} bytes is larger than a frame", stage=self.stage_name)
        if self._closed:
            raise InternalError("send on a closed channel", stage=self.stage_name)
        head = Header(self._stage_number, message.kind, len(body), self._next_out, self._run_tag).pack()
        with self._changed:
            self._wait_for_room()
            direct = len(body) <= _DIRECT and not self._outbox and not self._writing
            if direct:
                self._writing = True
            else:
                self._outbox.append((head, body))
                self._outbox_bytes += len(head) + len(body)
                self._changed.notify_all()
        if direct:
            self._write_directly((head, body))
        self._next_out += 1
        self._hash_out.update(head)
        self._hash_out.update(body)
        self._asked = True
        self.counters.sent += len(head) + len(body)
        self.counters.messages_sent += 1

    def recv(self, kind: type[M], timeout: float = limits.STAGE_SECONDS) -> M:
        """The next message, which must be of this kind; PeerError otherwise, NetworkError when none comes."""
        if self._closed:
            raise InternalError("recv on a closed channel", stage=self.stage_name)
        if self._asked:
            self.counters.rounds += 1
            self._asked = False
        frame = self._next_frame(timeout)
        header = frame.header
        if header.kind == Closing.kind and kind is not Closing:
            raise self._placed(PeerVanished(f"{self.peer} ended the run early"))
        if header.sequence != self._next_in or header.stage != self._stage_number or header.kind != kind.kind:
            raise self._placed(
                PeerError(
                    f"{self.peer} sent message {header.kind:#06x} number {header.sequence} of stage {header.stage}"
                    f" where {kind.__name__} ({kind.kind:#06x}) number {self._next_in} of stage {self._stage_number}"
                    " was due"
                )
            )
        if header.tag != self._run_tag:
            raise self._placed(PeerError(f"{self.peer} sent a message of another run"))
        self._next_in += 1
        self._hash_in.update(frame.head)
        self._hash_in.update(frame.body)
        self.counters.received += len(frame.head) + len(frame.body)
        self.counters.messages_received += 1
        try:
            return decode(kind, frame.body)
        except PeerError as error:
            raise self._placed(error) from None

    def swap(self, message: M) -> M:
        """Send ours, receive theirs of the same kind: one round."""
        self.send(message)
        return self.recv(type(message))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Run one stage: names it in errors; at its end both transcripts must agree (one round, 112 bytes)."""
        if self._in_stage:
            raise InternalError(f"stage {name} inside stage {self.stage_name}", stage=name)
        self._in_stage = True
        self.stage_name = self._stage_label = name
        self._stage_number = (self._stage_number + 1) % 256
        try:
            yield
            digest = self._digest()
            if self.swap(Transcript(digest)).digest != digest:
                raise PeerError(f"we and {self.peer} saw different messages")
        except TallyError as error:
            error.stage = error.stage or name
            raise
        finally:
            self._in_stage = False

    def bind(self, run: str) -> None:
        """From here on every frame carries a tag of this run; both sides call it at the same place."""
        self._run_tag = hashlib.sha256(b"tallystick/v1/channel/run/" + run.encode()).digest()[:8]

    def interrupt(self, error: TallyError) -> None:
        """Make a `send` or `recv` that waits, or the next one, raise this error within half a second.

        Takes no lock: safe in a signal handler and in any thread. The user of the channel then calls `abort`.
        """
        self._interrupted = error

    def abort(self, error: TallyError) -> None:
        """Tell the peer why we stop, as far as it can still be told within ABORT_SECONDS, and shut the channel.

        Does nothing on a closed channel, and only shuts when it was the peer that stopped: an abort is never
        answered.
        """
        if self._closed:
            return
        abort = abort_of(error, self.stage_name)
        body = encode(abort)
        head = Header(self._stage_number, Abort.kind, len(body), self._next_out, self._run_tag).pack()
        with self._changed:
            waiting = sum(len(part) for frame in self._outbox for part in frame)
            self._outbox.clear()
            self._outbox_bytes -= waiting
            if not self._aborted:
                self._outbox.append((head, body))
                self._outbox_bytes += len(head) + len(body)
                self.counters.sent += len(head) + len(body)
                self.counters.messages_sent += 1
            self._changed.notify_all()
        self._shut(_TICK if isinstance(self._failure, PeerVanished) else limits.ABORT_SECONDS)

    def close(self, timeout: float = limits.CLOSE_SECONDS) -> None:
        """End in agreement: each side says that it is done, with a last transcript, and hears the same.

        Afterwards no thread of the channel runs. Raises as `recv` does, after telling the peer.
        """
        if self._closed:
            return
        try:
            digest = self._digest()
            self.send(Closing(digest))
            if self.recv(Closing, timeout).digest != digest:
                raise self._placed(PeerError(f"we and {self.peer} saw different messages"))
        except TallyError as error:
            self.abort(error)
            raise
        self._shut(limits.ABORT_SECONDS)

    # --- helpers of the above -----------------------------------------------------------------------------------

    def _wait_for_room(self) -> None:
        start = time.monotonic()
        try:
            while True:
                self._raise_if(self._interrupted or self._failure)
                if self._outbox_bytes <= limits.OUTBOX_BYTES:
                    return
                if time.monotonic() - start > limits.STAGE_SECONDS:
                    raise self._placed(DeadlineExceeded(f"{self.peer} took nothing for {limits.STAGE_SECONDS:.0f} s"))
                if not self._blocked:
                    self._blocked = True
                    self._changed.notify_all()
                self._changed.wait(_TICK)
        finally:
            self._blocked = False

    def _write_directly(self, frame: tuple[Buffer, ...]) -> None:
        left = False
        try:
            left = not self._transport.write_now(frame)
        except OSError as error:
            self._fail(_broken(self.peer, error))
        finally:
            with self._changed:
                self._writing = False
                if left:
                    self._outbox.append(())  # the writer thread goes on with the rest
                    self._changed.notify_all()

    def _next_frame(self, timeout: float) -> Frame:
        end = time.monotonic() + timeout
        with self._changed:
            while True:
                self._raise_if(self._interrupted or (self._failure if self._aborted else None))
                if self._inbox:
                    frame = self._inbox.popleft()
                    self._inbox_bytes -= len(frame.body) + _OVERHEAD
                    self._changed.notify_all()
                    return frame
                self._raise_if(self._failure)
                left = end - time.monotonic()
                if left <= 0:
                    raise self._placed(
                        DeadlineExceeded(
                            f"{self.peer} is there but sent nothing for {timeout:.0f} s",
                            hint="run the same command again",
                        )
                    )
                self._changed.wait(min(_TICK, left))

    def _raise_if(self, error: TallyError | None) -> None:
        if error is not None:
            raise self._placed(error)

    def _placed(self, error: TallyError) -> TallyError:
        error.stage = error.stage or self.stage_name
        error.party = error.party or self.peer
        return error

    def _digest(self) -> bytes:
        ours, theirs = self._hash_out.digest(), self._hash_in.digest()
        both = ours + theirs if self.us < self.peer else theirs + ours
        return hashlib.sha256(b"tallystick/v1/channel/transcript/" + both + self._stage_label.encode()).digest()

    def _shut(self, seconds: float) -> None:
        """Let the writer write what is queued, wait until the peer has ended too, release everything."""
        self._closed = True
        end = time.monotonic() + seconds
        with self._changed:
            self._finishing = True
            self._changed.notify_all()
        # A socket closed with unread bytes in it resets the connection and may destroy our last words on their way.
        for thread in (self._writer, self._reader):
            thread.join(max(0.0, end - time.monotonic()))
        self._transport.shutdown()
        for thread in (self._writer, self._reader):
            thread.join()
        self._transport.close()
        self._outbox.clear()
        self._inbox.clear()

    # --- the two threads ----------------------------------------------------------------------------------------

    def _write_loop(self) -> None:
        try:
            while True:
                with self._changed:
                    if not self._outbox and not self._finishing and not self._aborted:
                        self._changed.wait(self._beat)
                    if self._aborted or (self._finishing and not self._outbox):
                        break
                    if self._writing:
                        continue  # `send` writes: no need for a heartbeat
                    self._writing = True
                    frame = self._outbox.popleft() if self._outbox else _BEAT
                self._transport.write(frame)
                with self._changed:
                    self._writing = False
                    if frame is not _BEAT:
                        self._outbox_bytes -= sum(len(part) for part in frame)
                        self._changed.notify_all()
        except OSError as error:
            self._fail(_broken(self.peer, error))
        except Exception as error:  # noqa: BLE001  # edge of a thread: whoever waits must be told
            self._fail(InternalError(f"the writer thread failed: {type(error).__name__}"))
        with contextlib.suppress(OSError):
            self._transport.finish()

    def _read_loop(self) -> None:
        try:
            while not self._peer_done or not self._finishing:
                self._read_frame()
        except TallyError as error:
            self._fail(error)
        except OSError as error:
            self._fail(_broken(self.peer, error))
        except Exception as error:  # noqa: BLE001  # edge of a thread: whoever waits must be told
            self._fail(InternalError(f"the reader thread failed: {type(error).__name__}"))
        with self._changed:
            while not self._finishing and not self._aborted:
                self._changed.wait()
        scratch = memoryview(bytearray(1 << 16))
        with contextlib.suppress(OSError):
            while self._transport.read_into(scratch, limits.ABORT_SECONDS):
                pass  # until the peer ends, or `_shut` loses patience

    def _read_frame(self) -> None:
        with self._changed:
            while self._inbox_bytes > limits.INBOX_SOFT_BYTES and not self._blocked and not self._finishing:
                self._changed.wait()
            if self._inbox_bytes > limits.INBOX_BYTES:
                raise PeerError(f"{self.peer} sends more than we can hold")
        head = self._read_exactly(Header.SIZE)
        header = Header.unpack(head)
        body = self._read_exactly(header.length)
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
            self._inbox.append(Frame(header, bytes(head), body))
            self._inbox_bytes += len(body) + _OVERHEAD
            self._changed.notify_all()

    def _read_exactly(self, length: int) -> bytearray:
        """So many bytes. The peer is gone when our own clock saw `silence` seconds pass in which nothing came.

        A wait counts as at most two ticks however long it took: when we ourselves were stopped, or another thread
        of ours held the interpreter, the peer's heartbeats lie in the socket and are read next.
        """
        data = bytearray(length)
        view = memoryview(data)
        at, silent, tick = 0, 0.0, min(_TICK, self._silence / 8)
        while at < length:
            start = time.monotonic()
            try:
                count = self._transport.read_into(view[at:], tick)
            except TimeoutError:
                silent += min(time.monotonic() - start, 2 * tick)
                if silent > self._silence:
                    raise PeerVanished(
                        f"{self.peer} has been silent for {self._silence:g} s",
                        hint=f"see whether the process at {self.peer} still runs, then run the same command again",
                    ) from None
                continue
            if not count:
                raise PeerVanished(
                    f"{self.peer} ended the connection without a closing message",
                    hint=f"ask {self.peer} what its ledger says, then run the same command again",
                )
            at += count
            silent = 0.0
        return data

    def _fail(self, error: TallyError, *, aborted: bool = False) -> None:
        with self._changed:
            if self._failure is None or (aborted and not self._aborted):
                self._failure = error
            self._aborted = self._aborted or aborted
            self._changed.notify_all()


def _broken(peer: str, error: OSError) -> PeerVanished:
    return PeerVanished(f"the connection to {peer} broke: {error.strerror or error}", hint="run the same command again")


def memory_pair(
    us: str = "bank",
    peer: str = "telco",
    *,
    silence: float = limits.SILENCE_SECONDS,
    wrap: Callable[[Transport], Transport] | None = None,
) -> tuple[Channel, Channel]:
    """Two channels that talk to each other inside this process: every protocol runs in two threads.

    `wrap` changes the first one's transport, for tests: `lambda inner: CutTransport(inner, 5)`.
    """
    ours, theirs = memory_transports()
    wrapped: Transport = ours if wrap is None else wrap(ours)
    return Channel(wrapped, us, peer, silence=silence), Channel(theirs, peer, us, silence=silence)
