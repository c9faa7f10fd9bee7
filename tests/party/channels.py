"""What the tests of the channel share: two messages, frames by hand, and a peer of bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from party.channel import Channel
from party.frame import Header
from party.message import Array, Cap, Int, Message, encode
from party.transport import MemoryTransport, memory_transports


@dataclass(frozen=True, repr=False)
class Blob(Message, kind=0x7F10):
    content: Annotated[np.ndarray, Array("u1", Cap(1 << 24))]


@dataclass(frozen=True)
class Number(Message, kind=0x7F11):
    value: Annotated[int, Int()]


def blob(size: int) -> Blob:
    return Blob(np.zeros(size, dtype=np.uint8))


def frame(kind: int, body: bytes = b"", sequence: int = 0, stage: int = 0, tag: bytes = bytes(8)) -> bytes:
    return Header(stage, kind, len(body), sequence, tag).pack() + body


def number(value: int, sequence: int = 0, **fields: int) -> bytes:
    return frame(Number.kind, encode(Number(value)), sequence, **fields)  # type: ignore[arg-type]


def against(raw: bytes = b"", *, end: bool = False, silence: float = 5.0) -> tuple[Channel, MemoryTransport]:
    """A channel whose peer is these bytes."""
    ours, theirs = memory_transports()
    channel = Channel(ours, "bank", "telco", silence=silence)
    if raw:
        theirs.write((raw,))
    if end:
        theirs.finish()
    return channel, theirs


def heard(theirs: MemoryTransport, channel: Channel) -> bytes:
    """Everything the channel wrote until it ended."""
    buffer, found = memoryview(bytearray(1 << 16)), b""
    while count := theirs.read_into(buffer, 5.0):
        found += bytes(buffer[:count])
    return found
