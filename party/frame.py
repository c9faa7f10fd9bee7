"""Frames: the header before every message, the channel's own messages, and how an abort reads on the other side."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated

from party import limits
from party.errors import (
    DataError,
    NetworkError,
    PeerError,
    PeerRefused,
    TallyError,
)
from party.message import Bytes, Message, Text

__all__ = ["HEARTBEAT", "VERSION", "Abort", "Closing", "Frame", "Header", "Transcript", "abort_of", "error_of"]

VERSION = 1
HEARTBEAT = 0x0001


@dataclass(frozen=True, repr=False)
class Abort(Message, kind=0x0002):
    """The sender stops this run. Reveals the error's code, stage and text, never a value of a table."""

    code: Annotated[str, Text(40)]
    stage: Annotated[str, Text(40)]
    text: Annotated[str, Text(2000)]


@dataclass(frozen=True, repr=False)
class Closing(Message, kind=0x0003):
    """The sender has nothing more to say and is content; the digest is a last transcript."""

    digest: Annotated[bytes, Bytes(32)]


@dataclass(frozen=True, repr=False)
class Transcript(Message, kind=0x0004):
    """SHA-256 over all frames so far in both directions, the lower-named party's first."""

    digest: Annotated[bytes, Bytes(32)]


@dataclass(frozen=True)
class Header:
    """24 bytes, little-endian: version, stage number, kind, length of the body, sequence number, tag of the run."""

    stage: int
    kind: int
    length: int
    sequence: int
    tag: bytes

    _LAYOUT = struct.Struct("<BBHIQ8s")
    SIZE = _LAYOUT.size

    def pack(self) -> bytes:
        """The bytes on the wire."""
        return self._LAYOUT.pack(VERSION, self.stage, self.kind, self.length, self.sequence, self.tag)

    @classmethod
    def unpack(cls, data: bytes | bytearray) -> Header:
        """Read a header; PeerRefused for another version, PeerError for a length over the cap."""
        version, stage, kind, length, sequence, tag = cls._LAYOUT.unpack(data)
        if version != VERSION:
            raise PeerRefused(
                f"the peer speaks version {version} of the protocol, we speak {VERSION}",
                hint="install the same release of tallystick on both sides",
            )
        if length > (0 if kind == HEARTBEAT else limits.FRAME_BYTES):
            raise PeerError(f"the peer announces a frame of {length} bytes")
        return cls(stage, kind, length, sequence, tag)


@dataclass(frozen=True, repr=False)
class Frame:
    """One frame as it came: parsed header, its bytes, body."""

    header: Header
    head: bytes
    body: bytes | bytearray


def abort_of(error: TallyError, stage: str) -> Abort:
    """What the peer is told of our error. Our own bugs, data, files and command line are none of its business."""
    text = error.message
    if error.code == "internal":
        text = "it failed by its own fault"
    elif error.code in ("usage", "file"):
        text = "its own files or command line are wrong"
    elif error.code == "data":
        text = "its own data does not fit"
    return Abort(_plain(error.code, 40), _plain(error.stage or stage, 40), _plain(text, 2000))


def error_of(abort: Abort, peer: str) -> TallyError:
    """The error that the peer's abort is on our side.

    A refusal (policy, approval, version, its files) is PeerRefused, its data DataError; all else, its claim that we
    broke the protocol too, is a NetworkError: the run ended over there, and our own checks found no fault.
    """
    text = _plain(abort.text, 2000)
    where = {"party": peer, "stage": _plain(abort.stage, 40) or None}
    if abort.code in ("policy", "refused_by_peer", "usage", "file"):
        return PeerRefused(f"{peer} refuses: {text}", **where)
    if abort.code == "data":
        hint = f"{peer} is told row and column by its own `tally show`: ask it to correct the table"
        return DataError(f"{peer} cannot go on with its data: {text}", hint=hint, **where)
    if abort.code == "integrity":
        return NetworkError(
            f"{peer} says that we broke the protocol: {text}",
            hint="install the same release on both sides; if it happens again, report it",
            **where,
        )
    if abort.code == "interrupted":
        return NetworkError(f"the run was stopped at {peer}: {text}", hint="run the same command again", **where)
    return NetworkError(f"{peer} stopped the run: {text}", hint="run the same command again", **where)


def _plain(text: str, most: int) -> str:
    """Printable text of at most `most` bytes: a peer's words end in a terminal and in a log."""
    clean = "".join(letter if letter.isprintable() else " " for letter in text)
    return clean.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")
