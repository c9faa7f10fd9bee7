"""The channel: typed messages to one peer and back, over TLS or between two threads.

`send` queues a message and `recv` waits for the next one; two sides which send first never wait for each other, and a
dead or aborting peer is noticed while we compute (`party.line` moves the frames). Each frame carries version, stage,
kind, length, sequence number and a tag of the run; both directions are hashed into a transcript, which the two sides
compare at the end of each stage. End of stream is never success: a run ends with `close`, or with `abort`.
docs/protocols/01-channel.md has the steps.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from party import limits
from party.errors import InternalError, PeerError, PeerVanished, TallyError
from party.frame import Abort, Closing, Header, Transcript, abort_of
from party.line import Line
from party.message import Message, decode, encode
from party.transport import CutTransport, Transport, memory_transports

__all__ = ["Channel", "Counters", "CutTransport", "Transport", "memory_pair"]

M = TypeVar("M", bound=Message)


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
        self._line = Line(transport, peer, silence)
        # A channel that is forgotten without `close` looks to the peer like the crash it is, and leaves no thread.
        weakref.finalize(self, self._line.drop).atexit = False
        self._run_tag = bytes(8)
        self._stage_number = 0
        self._stage_label = ""
        self._in_stage = False
        self._next_out = 0
        self._next_in = 0
        self._hash_out = hashlib.sha256()
        self._hash_in = hashlib.sha256()
        self._asked = False  # we sent since we last waited
        self._closed = False

    # --- what protocols use -------------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Queue one message; waits only while more than OUTBOX_BYTES are queued."""
        body = encode(message)
        if len(body) > limits.FRAME_BYTES:
            raise InternalError(f"a message of {len(body)} bytes is larger than a frame", stage=self.stage_name)
        if self._closed:
            raise InternalError("send on a closed channel", stage=self.stage_name)
        head = Header(self._stage_number, message.kind, len(body), self._next_out, self._run_tag).pack()
        try:
            self._line.put(head, body)
        except TallyError as error:
            raise self._placed(error) from None
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
        try:
            frame = self._line.take(timeout)
        except TallyError as error:
            raise self._placed(error) from None
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

    def swap(self, message: M, timeout: float = limits.STAGE_SECONDS) -> M:
        """Send ours, receive theirs of the same kind: one round."""
        self.send(message)
        return self.recv(type(message), timeout)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Run one stage: names it in errors; at its end both transcripts must agree (one round, 60 bytes each way)."""
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
        self._line.interrupt(error)

    def abort(self, error: TallyError) -> None:
        """Tell the peer why we stop, as far as it can still be told within ABORT_SECONDS, and shut the channel.

        Does nothing on a closed channel, and only shuts when it was the peer that stopped: an abort is never
        answered.
        """
        if self._closed:
            return
        self._closed = True
        body = encode(abort_of(error, self.stage_name))
        head = Header(self._stage_number, Abort.kind, len(body), self._next_out, self._run_tag).pack()
        if self._line.stop((head, body), limits.ABORT_SECONDS):
            self.counters.sent += len(head) + len(body)
            self.counters.messages_sent += 1

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
        self._closed = True
        self._line.stop(None, limits.ABORT_SECONDS)

    def _placed(self, error: TallyError) -> TallyError:
        error.stage = error.stage or self.stage_name
        error.party = error.party or self.peer
        return error

    def _digest(self) -> bytes:
        ours, theirs = self._hash_out.digest(), self._hash_in.digest()
        both = ours + theirs if self.us < self.peer else theirs + ours
        return hashlib.sha256(b"tallystick/v1/channel/transcript/" + both + self._stage_label.encode()).digest()


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
