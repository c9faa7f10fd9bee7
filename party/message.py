"""Wire format: frozen dataclasses of scalars and numpy arrays, each with one strict decoder.

A message class states its kind (a number of 16 bits, see the ranges below) and annotates every field with a
specification that holds its limits:

    @dataclass(frozen=True, repr=False)
    class Masked(Message, kind=0x0201):
        points: Annotated[np.ndarray, Array("u1", Cap(65536), 32)]
        last: bool

Fields are written in order, little-endian, without names or padding: bool 1 byte, int and float 8, text and bytes
a length of 4 bytes and the content, an array its variable dimensions (4 bytes each) and the content. `decode`
returns a value or raises PeerError; it checks every length against its cap and against the bytes that are really
there before it allocates anything, and refuses bytes left over.

Kinds: 0x00 channel, 0x01 party, 0x02 psi, 0x03 lattice, 0x04 oblivious transfer and comparison, 0x05 opening,
statistics and SQL, 0x06 vfl, 0x07 pipelines (high byte).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, TypeVar, get_args, get_type_hints

import numpy as np

from party.errors import InternalError, PeerError

__all__ = ["Array", "Bytes", "Cap", "Int", "Message", "Text", "decode", "encode"]

M = TypeVar("M", bound="Message")
_KNOWN: dict[type[Message], tuple[tuple[str, _Spec], ...]] = {}


class Message:
    """Base of every message; `kind` is unique over the whole program."""

    kind: ClassVar[int]
    _kinds: ClassVar[dict[int, str]] = {}

    def __init_subclass__(cls, *, kind: int) -> None:
        name = f"{cls.__module__}.{cls.__qualname__}"
        if Message._kinds.setdefault(kind, name) != name:
            raise InternalError(f"message kind {kind:#06x} of {name} is taken by {Message._kinds[kind]}")
        cls.kind = kind


class _Reader:
    def __init__(self, body: memoryview) -> None:
        self.body = body
        self.at = 0

    def take(self, length: int) -> memoryview:
        if length > len(self.body) - self.at:
            raise PeerError("a message is shorter than it says")
        self.at += length
        return self.body[self.at - length : self.at]


class _Spec(Protocol):
    def write(self, value: Any) -> list[bytes | memoryview]: ...

    def read(self, reader: _Reader) -> Any: ...


@dataclass(frozen=True)
class Int:
    """A signed integer of 64 bits within [low, high]."""

    low: int = -(2**63)
    high: int = 2**63 - 1

    def write(self, value: int) -> list[bytes | memoryview]:
        if not self.low <= value <= self.high:
            raise InternalError(f"integer outside {self.low}..{self.high} in a message of ours")
        return [struct.pack("<q", value)]

    def read(self, reader: _Reader) -> int:
        (value,) = struct.unpack("<q", reader.take(8))
        if not self.low <= value <= self.high:
            raise PeerError(f"an integer in a message is outside {self.low}..{self.high}")
        return int(value)


@dataclass(frozen=True)
class Bytes:
    """Between low and high bytes; exactly low when high is not given."""

    low: int
    high: int | None = None

    def write(self, value: bytes) -> list[bytes | memoryview]:
        if not self.low <= len(value) <= (self.low if self.high is None else self.high):
            raise InternalError("bytes of a wrong length in a message of ours")
        return [struct.pack("<I", len(value)), value]

    def read(self, reader: _Reader) -> bytes:
        (length,) = struct.unpack("<I", reader.take(4))
        if not self.low <= length <= (self.low if self.high is None else self.high):
            raise PeerError("bytes in a message have a wrong length")
        return bytes(reader.take(length))


@dataclass(frozen=True)
class Text:
    """UTF-8 text of at most `cap` bytes."""

    cap: int

    def write(self, value: str) -> list[bytes | memoryview]:
        try:
            return Bytes(0, self.cap).write(value.encode())
        except UnicodeEncodeError:
            raise InternalError("text that is not Unicode in a message of ours") from None

    def read(self, reader: _Reader) -> str:
        try:
            return Bytes(0, self.cap).read(reader).decode()
        except UnicodeDecodeError:
            raise PeerError("a text in a message is not UTF-8") from None


@dataclass(frozen=True)
class Cap:
    """A variable dimension of at most `most`."""

    most: int


class Array:
    """An array of a fixed dtype ("u1", "u2", "u4", "u8", "i8", "f8"); each dimension is exact (int) or capped (Cap)."""

    def __init__(self, dtype: str, *dims: int | Cap) -> None:
        self.dtype = np.dtype("<" + dtype)
        self.dims = dims

    def write(self, value: np.ndarray) -> list[bytes | memoryview]:
        if value.dtype != self.dtype or value.ndim != len(self.dims):
            raise InternalError(f"array of {value.dtype}, {value.ndim} dimensions in a message of ours")
        sizes = b""
        for size, dim in zip(value.shape, self.dims, strict=True):
            if isinstance(dim, Cap):
                sizes += struct.pack("<I", size)
            if size > dim.most if isinstance(dim, Cap) else size != dim:
                raise InternalError(f"array of shape {value.shape} in a message of ours")
        content = np.ascontiguousarray(value)
        return [sizes, content.reshape(-1).view(np.uint8).data if content.size else b""]

    def read(self, reader: _Reader) -> np.ndarray:
        shape = []
        for dim in self.dims:
            if isinstance(dim, Cap):
                (size,) = struct.unpack("<I", reader.take(4))
                if size > dim.most:
                    raise PeerError(f"an array in a message has {size} rows or columns, at most {dim.most} are allowed")
                shape.append(size)
            else:
                shape.append(dim)
        content = reader.take(math.prod(shape) * self.dtype.itemsize)
        if math.prod(max(size, 1) for size in shape) >= 2**48:  # nothing in it, but numpy has no such shape
            raise PeerError("an array in a message has an impossible shape")
        array = np.frombuffer(content, dtype=self.dtype).reshape(shape)
        if not array.flags.aligned:
            array = array.copy()
            array.flags.writeable = False
        return array


class _Bool:
    def write(self, value: bool) -> list[bytes | memoryview]:
        return [b"\x01" if value else b"\x00"]

    def read(self, reader: _Reader) -> bool:
        value = reader.take(1)[0]
        if value > 1:
            raise PeerError("a boolean in a message is neither 0 nor 1")
        return value == 1


class _Float:
    def write(self, value: float) -> list[bytes | memoryview]:
        if not math.isfinite(value):
            raise InternalError("a number that is not finite in a message of ours")
        return [struct.pack("<d", value)]

    def read(self, reader: _Reader) -> float:
        (value,) = struct.unpack("<d", reader.take(8))
        if not math.isfinite(value):
            raise PeerError("a number in a message is not finite")
        return float(value)


def _specs(kind: type[Message]) -> tuple[tuple[str, _Spec], ...]:
    known = _KNOWN.get(kind)
    if known is not None:
        return known
    hints = get_type_hints(kind, include_extras=True)
    specs: list[tuple[str, _Spec]] = []
    for field in fields(kind):  # type: ignore[arg-type]  # every message is a dataclass; a base cannot say so
        hint = hints[field.name]
        found = [part for part in get_args(hint)[1:] if isinstance(part, (Int, Bytes, Text, Array))]
        if hint is bool:
            specs.append((field.name, _Bool()))
        elif hint is float:
            specs.append((field.name, _Float()))
        elif len(found) == 1:
            specs.append((field.name, found[0]))
        else:
            raise InternalError(f"{kind.__qualname__}.{field.name} has no wire specification")
    return _KNOWN.setdefault(kind, tuple(specs))


def encode(message: Message) -> bytes:
    """The body of a frame for this message; InternalError when a field of ours breaks its own limits."""
    parts: list[bytes | memoryview] = []
    for name, spec in _specs(type(message)):
        parts.extend(spec.write(getattr(message, name)))
    return b"".join(parts)


def decode(kind: type[M], body: bytes | bytearray | memoryview) -> M:
    """The message in this body; PeerError when it is not exactly one of this kind. Arrays are read-only."""
    reader = _Reader(memoryview(body).toreadonly())
    values = {name: spec.read(reader) for name, spec in _specs(kind)}
    if reader.at != len(reader.body):
        raise PeerError("a message is longer than it says")
    return kind(**values)
