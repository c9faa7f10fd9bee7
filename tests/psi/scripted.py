"""A peer that says what it once said, frame by frame, but for one frame whose body was changed.

An honest run is recorded once. Then the honest side alone is run again and again on the same secrets, over a transport
that hands it the recorded frames: it says the same, so the recorded peer fits, up to the frame that was changed.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from party.channel import Channel
from party.errors import PeerError
from party.frame import Header
from party.guard import Guard
from party.message import Message, decode, encode
from party.request import Opening
from psi import Alignment, MemoryStore
from psi.journal import MemoryJournal
from psi.messages import Bitmap, Digest, Size
from tests.psi.support import Tampered, both_ends
from tests.support import Ledger, channels

Said = tuple[type[Message], bytes]  # a frame: kind and body


class Script:
    """A transport whose other end says `frames`. `digest`: its Digest after a Bitmap or a Size of ours, as a peer
    computes it that believes what we say."""

    def __init__(self, frames: Sequence[Said], digest: Callable[[Message], bytes] | None = None) -> None:
        self._digest = digest
        self._heard: Message | None = None
        self._frames = list(frames)
        self._waiting = memoryview(b"")
        self._number = 0
        self._changed = threading.Condition()
        self._ended = False

    def read_into(self, buffer: memoryview, seconds: float) -> int:
        with self._changed:
            ready = self._frames and (self._frames[0][0] is not Digest or not self._digest or self._heard)
            if not len(self._waiting) and ready and not self._ended:
                kind, body = self._frames.pop(0)
                if kind is Digest and self._digest is not None and self._heard is not None:
                    body = encode(Digest(self._digest(self._heard)))
                head = Header(0, kind.kind, len(body), self._number, bytes(8)).pack()
                self._number += 1
                self._waiting = memoryview(head + body)
            if not len(self._waiting):
                if not self._ended:
                    self._changed.wait(seconds)
                if not self._ended:
                    raise TimeoutError("nothing more is said")
                return 0
            count = min(len(buffer), len(self._waiting))
            buffer[:count] = self._waiting[:count]
            self._waiting = self._waiting[count:]
            return count

    def write(self, frame: Sequence[Any]) -> None:
        if not frame:
            return
        head = Header.unpack(bytes(frame[0]))
        for kind in (Bitmap, Size):
            if head.kind == kind.kind:
                with self._changed:
                    self._heard = decode(kind, frame[1])
                    self._changed.notify_all()

    def write_now(self, frame: Sequence[Any]) -> bool:
        self.write(frame)
        return True

    def finish(self) -> None:
        pass

    def shutdown(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def close(self) -> None:
        self.shutdown()


class Watched:
    """A channel that notes how much was disclosed when each message came."""

    def __init__(self, channel: Channel, ledger: Ledger) -> None:
        self._channel = channel
        self._ledger = ledger
        self.came: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def recv(self, kind: Any, *rest: Any) -> Any:
        found = self._channel.recv(kind, *rest)
        self.came.append(len(self._ledger.events))
        return found


def copied(store: MemoryStore, without: Sequence[str] = ()) -> MemoryStore:
    """The same records and journals, but for those named."""
    other = MemoryStore()
    other._records = {name: content for name, content in store._records.items() if name.split(".")[-1] not in without}
    for name, journal in store._journals.items():
        if name.split(".")[-1] not in without:
            other._journals[name] = MemoryJournal()
            other._journals[name]._entries = list(journal._entries)
    return other


Side = Callable[[Any, Guard, MemoryStore], Alignment]

# What a run writes after its own list is made: a try begins without it.
LATER = ("peer-list", "peer-commitment", "seed-told", "tagged", "our-tags", "their-tags", "evaluated", "order", "salt")


@dataclass(eq=False)
class Scene:
    """An honest side of one form of the alignment and its recorded peer. `later`: what a try begins without."""

    name: str
    honest: Side
    peer: Side
    openings: frozenset[Opening]
    frames: list[Said]
    after: MemoryStore  # of the honest side, when the recorded run was over
    right: Alignment
    later: tuple[str, ...] = LATER
    digest: Callable[[Message], bytes] | None = None

    def __post_init__(self) -> None:
        outcome = self.attempt(self.frames)
        if not isinstance(outcome.result, Alignment):
            raise AssertionError(f"{self.name}: the recording does not fit") from outcome.result
        assert outcome.result.rows.tolist() == self.right.rows.tolist()
        self.disclosed, self.came = outcome.disclosed, outcome.came

    def places(self, kind: type[Message]) -> list[int]:
        """Where the peer sends this kind."""
        return [place for place, (said, _) in enumerate(self.frames) if said is kind]

    def message(self, place: int) -> Any:
        kind, body = self.frames[place]
        return decode(kind, body)

    def changed(self, place: int, body: bytes) -> list[Said]:
        frames = list(self.frames)
        frames[place] = (frames[place][0], body)
        return frames

    def begin(self, without: Sequence[str] = ()) -> MemoryStore:
        """What the honest side holds when a try begins."""
        return copied(self.after, (*self.later, *without))

    def attempt(self, frames: Sequence[Said], store: MemoryStore | None = None) -> Outcome:
        """The honest side against the recorded peer, and what it then holds."""
        anew = self.digest if (Digest, self.frames[self.places(Digest)[-1]][1]) in frames else None
        store, ledger = self.begin() if store is None else store, Ledger()
        guard = Guard("r1", "telco", self.openings, ledger)
        result, came = replay(Script(frames, anew), lambda channel: self.honest(channel, guard, store), ledger)
        return Outcome(result, [str(told["what"]) for _, told in ledger.events], came, store)


@dataclass
class Outcome:
    """What the honest side returned or raised, what its ledger holds, how much of it when each message came."""

    result: Any
    disclosed: list[str]
    came: list[int]
    store: MemoryStore


def replay(script: Script, honest: Callable[[Any], Alignment], ledger: Ledger) -> tuple[Any, list[int]]:
    """What the honest side returns or raises, and how much was disclosed when each message came."""
    channel = Channel(script, "bank", "telco")
    watched = Watched(channel, ledger)
    try:
        return honest(watched), watched.came
    except Exception as error:
        return error, watched.came
    finally:
        channel._line.drop()


class Liar:
    """A channel that sends the n-th message of one kind with another body, as a raw frame."""

    def __init__(self, channel: Channel, kind: type[Message], number: int, rng: random.Random) -> None:
        self._channel = channel
        self._kind, self._left, self._rng = kind, number, rng
        self.body: bytes | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def send(self, message: Message) -> None:
        if type(message) is not self._kind or self._left:
            self._left -= type(message) is self._kind
            self._channel.send(message)
            return
        self._left = -1
        self.body = mutated(self._kind, encode(message), self._rng)
        channel = self._channel
        head = Header(0, message.kind, len(self.body), channel._next_out, bytes(8)).pack()
        channel._line.put(head, self.body)
        channel._next_out += 1


def record(name: str, honest: Side, peer: Side, openings: frozenset[Opening], **more: Any) -> Scene:
    """Run both once and keep what the peer says; `more`: further fields of the scene."""
    first, second = channels()
    frames: list[Said] = []

    def keep(message: Message) -> Message:
        frames.append((type(message), encode(message)))
        return message

    stores = MemoryStore(), MemoryStore()
    guards = Guard("r1", "telco", openings, Ledger()), Guard("r1", "bank", openings, Ledger())
    ours, theirs = both_ends(
        lambda: honest(first, guards[0], stores[0]),
        lambda: peer(Tampered(second, keep), guards[1], stores[1]),
        first,
        second,
    )
    for outcome in (ours, theirs):
        if not isinstance(outcome, Alignment):
            raise AssertionError(name) from outcome
    assert isinstance(ours, Alignment)
    return Scene(name, honest, peer, openings, frames, stores[0], ours, **more)


BOUNDARIES = [0, 1, 2, 7, 8, 9, 31, 32, 33, 255, 256, 65_535, 65_536, 65_537]
BOUNDARIES += [2**25 - 1, 2**25, 2**25 + 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]


def mutated(kind: type[Message], body: bytes, rng: random.Random) -> bytes:
    """Another body than this one."""
    while True:
        changed = rng.choice(CHANGES)(kind, bytearray(body), rng)
        if bytes(changed) != body:
            return bytes(changed)


Change = Callable[[type[Message], bytearray, random.Random], bytes | bytearray]


def _flip(kind: type[Message], body: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
    return body


def _byte(kind: type[Message], body: bytearray, rng: random.Random) -> bytearray:
    body[rng.randrange(len(body))] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
    return body


def _cut(kind: type[Message], body: bytearray, rng: random.Random) -> bytearray:
    return body[: rng.choice([0, len(body) - 1, rng.randrange(len(body))])]


def _longer(kind: type[Message], body: bytearray, rng: random.Random) -> bytes:
    more = rng.randbytes(rng.choice([1, 4, 8, 32, 1000]))
    at = rng.choice([len(body), rng.randrange(len(body))])
    return bytes(body[:at]) + more + bytes(body[at:])


def _length(kind: type[Message], body: bytearray, rng: random.Random) -> bytearray:
    """Four bytes that may be a length, or a count."""
    at = rng.choice([0, 4, 8, 12, rng.randrange(len(body))])
    old = int.from_bytes(body[at : at + 4], "little")
    new = rng.choice([*BOUNDARIES, old + 1, old - 1, 2 * old]) % 2**32
    body[at : at + 4] = new.to_bytes(4, "little")
    return body


def _number(kind: type[Message], body: bytearray, rng: random.Random) -> bytearray:
    """Eight bytes that may be a number."""
    at = rng.choice([0, 8, rng.randrange(len(body))])
    old = int.from_bytes(body[at : at + 8], "little")
    body[at : at + 8] = (rng.choice([*BOUNDARIES, old + 1, old - 1]) % 2**64).to_bytes(8, "little")
    return body


def _noise(kind: type[Message], body: bytearray, rng: random.Random) -> bytes:
    return rng.randbytes(rng.choice([len(body), len(body), rng.randrange(200)]))


def _field(kind: type[Message], body: bytearray, rng: random.Random) -> bytes:
    """Another value of one field that its own rules allow."""
    message = decode(kind, bytes(body))
    values = {field.name: getattr(message, field.name) for field in fields(message)}  # type: ignore[arg-type]
    name = rng.choice(list(values))
    old = values[name]
    if isinstance(old, bool):
        values[name] = not old
    elif isinstance(old, int):
        values[name] = rng.choice([0, 1, max(old - 1, 0), old + 1, rng.randrange(64), 2**25])
    elif isinstance(old, bytes):
        values[name] = rng.randbytes(len(old))
    else:
        values[name] = _rows(old, rng)
    try:
        return encode(kind(**values))
    except Exception:
        return bytes(body)


def _rows(old: np.ndarray, rng: random.Random) -> np.ndarray:
    """Rows exchanged, repeated, left out, sorted, another in the place of one, or a small number of other ones."""
    count = len(old)
    if not count:
        return old
    one, other = rng.randrange(count), rng.randrange(count)
    new = old.copy()
    what = rng.randrange(7)
    if what == 0:
        new[[one, other]] = new[[other, one]]
    elif what == 1:
        new[one] = new[other]
    elif what == 2:
        new = np.delete(new, one, axis=0)
    elif what == 3:
        new = np.insert(new, one, new[other], axis=0)
    elif what == 4:
        new = np.roll(new, 1, axis=0)
    elif what == 5:
        new = new[::-1].copy()
    else:
        bytewise = old.dtype == np.uint8
        drawn = [rng.randrange(256 if bytewise else 60) for _ in range(new[one].size)]
        new[one] = np.array(drawn, dtype=old.dtype).reshape(new[one].shape)
    return new


CHANGES: list[Change] = [_flip, _byte, _cut, _longer, _length, _number, _noise, _field, _field]


def decoded(kind: type[Message], body: bytes) -> Any:
    """The message, or None where the decoder refuses it."""
    try:
        return decode(kind, body)
    except PeerError:
        return None
