"""The channel: typed messages to one peer and back, over TLS or between two threads.

`send` hands a frame to a writer thread and returns; a reader thread takes frames off the transport, so that two
sides which send first never wait for each other and a dead or aborting peer is noticed at once. Each frame carries
version, stage, kind, length, sequence number and a tag of the run; both directions are hashed into a transcript,
which the two sides compare at the end of each stage. End of stream is never success: a run ends with `close`.
"""

from __future__ import annotations

import hashlib
import queue
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Protocol, TypeVar

from party import limits
from party.errors import DeadlineExceeded, InternalError, NetworkError, PeerError, PeerRefused, PeerVanished, TallyError
from party.message import Bytes, Message, Text, decode, encode

__all__ = ["Channel", "Counters", "Transport", "memory_pair"]

M = TypeVar("M", bound=Message)

VERSION = 1
_HEADER = struct.Struct("<BBHIQ8s")  # version, stage number, kind, length, sequence, tag of the run
_HEARTBEAT = 0x0001


@dataclass(frozen=True, repr=False)
class Abort(Message, kind=0x0002):
    """The sender stops this run. Reveals the error's code, stage and text, never a value of a table."""

    code: Annotated[str, Text(40)]
    stage: Annotated[str, Text(40)]
    text: Annotated[str, Text(2000)]


@dataclass(frozen=True, repr=False)
class Closing(Message, kind=0x0003):
    """The sender has nothing more to say and is content."""


@dataclass(frozen=True, repr=False)
class Transcript(Message, kind=0x0004):
    """SHA-256 over all frames of a stage in both directions, the lower-named party's first."""

    digest: Annotated[bytes, Bytes(32)]


class Transport(Protocol):
    """A reliable byte stream to one authenticated peer; `read` blocks, returns b"" at the end, raises OSError."""

    def read(self, most: int) -> bytes: ...

    def write(self, data: bytes) -> None: ...

    def shutdown(self) -> None: ...


@dataclass
class Counters:
    """What went over this channel: bytes of frames, messages without heartbeats, and rounds (waits after a send)."""

    sent: int = 0
    received: int = 0
    messages_sent: int = 0
    messages_received: int = 0
    rounds: int = 0


class Channel:
    """Typed messages to one peer. One thread may use it; its own two threads do the moving."""

    def __init__(
        self, transport: Transport, us: str, peer: str, *, silence: float = limits.SILENCE_SECONDS
    ) -> None:
        self.us = us
        self.peer = peer
        self.counters = Counters()
        self.stage_name = "connect"
        self._transport = transport
        self._silence = silence
        self._run_tag = bytes(8)
        self._stage_number = 0
        self._next_out = 0
        self._next_in = 0
        self._hash_out = hashlib.sha256()
        self._hash_in = hashlib.sha256()
        self._waiting_reply = False
        self._outbox: deque[bytes] = deque()
        self._outbox_bytes = 0
        self._inbox: queue.SimpleQueue[tuple[int, int, int, bytes, bytes] | TallyError] = queue.SimpleQueue()
        self._inbox_bytes = 0
        self._heard = time.monotonic()
        self._closing = False
        self._failure: TallyError | None = None
        self._changed = threading.Condition()
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
        header = _HEADER.pack(VERSION, self._stage_number, message.kind, len(body), self._next_out, self._run_tag)
        self._next_out += 1
        self._hash_out.update(header)
        self._hash_out.update(body)
        with self._changed:
            while self._outbox_bytes > limits.OUTBOX_BYTES and self._failure is None:
                self._changed.wait(1.0)
            if self._failure is not None:
                raise self._failure
            self._outbox.append(header + body)
            self._outbox_bytes += len(header) + len(body)
            self._changed.notify_all()
        self.counters.messages_sent += 1
        self._waiting_reply = True

    def recv(self, kind: type[M], timeout: float = limits.STAGE_SECONDS) -> M:
        """The next message, which must be of this kind; PeerError otherwise, NetworkError when none comes."""
        if self._waiting_reply:
            self.counters.rounds += 1
            self._waiting_reply = False
        item = self._next_frame(timeout)
        if isinstance(item, TallyError):
            self._inbox.put(item)  # a broken channel stays broken
            raise self._placed(item)
        number, got, sequence, header, body = item
        if got == Abort.kind:
            raise self._aborted(decode(Abort, body))
        if got == Closing.kind and kind is not Closing:
            raise PeerVanished(f"{self.peer} closed the run early", party=self.peer, stage=self.stage_name)
        if sequence != self._next_in or number != self._stage_number or got != kind.kind:
            raise PeerError(
                f"{self.peer} sent message {got:#06x} number {sequence} of stage {number} where {kind.__name__}"
                f" ({kind.kind:#06x}) number {self._next_in} of stage {self._stage_number} was due",
                party=self.peer,
                stage=self.stage_name,
            )
        self._next_in += 1
        self._hash_in.update(header)
        self._hash_in.update(body)
        self.counters.messages_received += 1
        try:
            return decode(kind, body)
        except PeerError as error:
            raise self._placed(error) from None

    def swap(self, message: M) -> M:
        """Send ours, receive theirs of the same kind: one round."""
        self.send(message)
        return self.recv(type(message))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Run one stage: names it in errors; at its end both transcripts must agree."""
        self.stage_name = name
        self._stage_number = (self._stage_number + 1) % 256
        self._hash_out = hashlib.sha256(name.encode())
        self._hash_in = hashlib.sha256(name.encode())
        yield
        ours, theirs = self._hash_out.digest(), self._hash_in.digest()
        both = ours + theirs if self.us < self.peer else theirs + ours
        digest = hashlib.sha256(b"tallystick/v1/transcript/" + both).digest()
        if self.swap(Transcript(digest)).digest != digest:
            raise PeerError("the two sides saw different messages", party=self.peer, stage=name)

    def bind(self, run: str) -> None:
        """From here on every frame carries a tag of this run."""
        self._run_tag = hashlib.sha256(b"tallystick/v1/run/" + run.encode()).digest()[:8]

    def abort(self, error: TallyError) -> None:
        """Tell the peer why we stop, as far as it can still be told, and close."""
        try:
            self.send(Abort(error.code[:40], (error.stage or self.stage_name)[:40], error.message[:500]))
            self._drain(2.0)
        except TallyError:
            pass
        self._shut()

    def close(self) -> None:
        """End in agreement: each side says that it is done and hears the same."""
        try:
            self.send(Closing())
            self.recv(Closing, timeout=self._silence)
            self._drain(self._silence)
        finally:
            self._shut()

    # --- the two threads ----------------------------------------------------------------------------------------

    def _write_loop(self) -> None:
        beat = _HEADER.pack(VERSION, 0, _HEARTBEAT, 0, 0, bytes(8))
        try:
            while True:
                with self._changed:
                    if not self._outbox and not self._closing:
                        self._changed.wait(limits.HEARTBEAT_SECONDS)
                    if self._closing and not self._outbox:
                        return
                    data = self._outbox.popleft() if self._outbox else beat
                self._transport.write(data)
                self.counters.sent += len(data)
                if data is not beat:
                    with self._changed:
                        self._outbox_bytes -= len(data)
                        self._changed.notify_all()
        except OSError as error:
            self._fail(PeerVanished(f"the connection to {self.peer} broke: {error}", party=self.peer))

    def _read_loop(self) -> None:
        try:
            while True:
                header = self._read_exactly(_HEADER.size)
                version, number, kind, length, sequence, tag = _HEADER.unpack(header)
                if version != VERSION:
                    raise PeerRefused(f"{self.peer} speaks version {version}, we speak {VERSION}", party=self.peer)
                if length > limits.FRAME_BYTES or (kind == _HEARTBEAT and length):
                    raise PeerError(f"{self.peer} announces a frame of {length} bytes", party=self.peer)
                body = self._read_exactly(length)
                self.counters.received += len(header) + length
                if kind == _HEARTBEAT:
                    continue
                if kind not in (Abort.kind, Closing.kind) and tag != self._run_tag:
                    raise PeerError(f"{self.peer} sent a message of another run", party=self.peer)
                with self._changed:
                    self._inbox_bytes += length
                    if self._inbox_bytes > limits.INBOX_BYTES:
                        raise PeerError(f"{self.peer} sends more than we can hold", party=self.peer)
                self._inbox.put((number, kind, sequence, header, body))
        except TallyError as error:
            self._fail(error)
        except OSError as error:
            self._fail(PeerVanished(f"the connection to {self.peer} broke: {error}", party=self.peer))

    def _read_exactly(self, length: int) -> bytes:
        parts = bytearray()
        while len(parts) < length:
            data = self._transport.read(length - len(parts))
            if not data:
                raise PeerVanished(f"{self.peer} ended the connection without a closing message", party=self.peer)
            self._heard = time.monotonic()
            parts += data
        return bytes(parts)

    def _next_frame(self, timeout: float) -> tuple[int, int, int, bytes, bytes] | TallyError:
        start = time.monotonic()
        while True:
            try:
                item = self._inbox.get(timeout=0.5)
                if not isinstance(item, TallyError):
                    with self._changed:
                        self._inbox_bytes -= len(item[4])
                return item
            except queue.Empty:
                now = time.monotonic()
                if now - max(self._heard, start) > self._silence:
                    return PeerVanished(f"{self.peer} has been silent for {self._silence:.0f} s", party=self.peer)
                if now - start > timeout:
                    return DeadlineExceeded(f"{self.peer} sent nothing for {timeout:.0f} s", party=self.peer)

    def _fail(self, error: TallyError) -> None:
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()
        self._inbox.put(error)

    def _placed(self, error: TallyError) -> TallyError:
        error.stage = error.stage or self.stage_name
        error.party = error.party or self.peer
        return error

    def _aborted(self, abort: Abort) -> TallyError:
        text = f"{self.peer} stopped the run: {abort.text}"
        kind = PeerRefused if abort.code in ("policy", "refused_by_peer") else NetworkError
        return kind(text, party=self.peer, stage=abort.stage)

    def _drain(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        with self._changed:
            while self._outbox_bytes and self._failure is None and time.monotonic() < end:
                self._changed.wait(0.1)

    def _shut(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._writer.join(2.0)
        self._transport.shutdown()


class _MemoryTransport:
    def __init__(self, incoming: queue.SimpleQueue[bytes], outgoing: queue.SimpleQueue[bytes]) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._left = b""

    def read(self, most: int) -> bytes:
        if not self._left:
            self._left = self._incoming.get()
        data, self._left = self._left[:most], self._left[most:]
        return data

    def write(self, data: bytes) -> None:
        self._outgoing.put(data)

    def shutdown(self) -> None:
        self._outgoing.put(b"")
        self._incoming.put(b"")


def memory_pair(us: str = "bank", peer: str = "telco") -> tuple[Channel, Channel]:
    """Two channels that talk to each other inside this process: every protocol runs in two threads."""
    there: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    back: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    return Channel(_MemoryTransport(back, there), us, peer), Channel(_MemoryTransport(there, back), peer, us)
