"""Append-only lists of sealed entries, each of several parts: how an alignment keeps what is too large for one record.

An entry is there whole or not at all: when a journal is opened again, everything from the first entry on that a
crash has cut off or left without its content is gone. Parts are sealed one by one (AES-256-GCM, a random nonce each,
bound to journal, place and part), so that one part can be read without the others. A killed process loses nothing
that `append` has taken; a power cut loses what was not synced since: `sync`, or saving a record of the same store.

File: entries one behind the other; an entry is the number of parts and their sealed lengths (4 bytes each, little
endian), then the sealed parts.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import struct
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from party.errors import InternalError

__all__ = ["Journal", "MemoryJournal", "SealedJournal"]

Part = bytes | memoryview | np.ndarray

_SEAL = 12 + 16  # nonce and tag
_MOST_PARTS = 64


class Journal(Protocol):
    """Entries of parts, numbered from 0."""

    def __len__(self) -> int: ...

    def append(self, parts: Sequence[Part]) -> None:
        """Add one entry. InternalError when it cannot be written: then it is not there."""
        ...

    def read(self, entry: int, part: int = 0) -> bytes:
        """One part of one entry. InternalError when it was changed."""
        ...

    def sync(self) -> None:
        """Return when all entries are on disk."""
        ...

    def close(self) -> None:
        """Release the file; `append` and `read` are over."""
        ...


class MemoryJournal:
    """A journal that ends with the process."""

    def __init__(self) -> None:
        self._entries: list[tuple[bytes, ...]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def append(self, parts: Sequence[Part]) -> None:
        """Keep one entry."""
        self._entries.append(tuple(bytes(part) for part in parts))

    def read(self, entry: int, part: int = 0) -> bytes:
        """One part of one entry."""
        return self._entries[entry][part]

    def sync(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to release: another opening of the same journal sees the same entries."""


class SealedJournal:
    """A journal in one file, 0600."""

    def __init__(self, path: Path, key: bytes, label: bytes) -> None:
        """`label` binds every part to run and journal; `key` has 32 bytes and belongs to this run alone."""
        self._name = path.name
        self._cipher = AESGCM(key)
        self._label = label
        self._places: list[list[tuple[int, int]]] = []  # per entry, per part: offset and sealed length
        self._unsynced = True
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            self._release = weakref.finalize(self, os.close, self._file)  # a journal that is forgotten holds no file
            self._end = self._scan()
            os.ftruncate(self._file, self._end)
        except OSError as error:
            raise InternalError(f"the alignment's journal {self._name} cannot be opened: {error.strerror}") from None

    def __len__(self) -> int:
        return len(self._places)

    def append(self, parts: Sequence[Part]) -> None:
        """Seal and write."""
        sealed = []
        for number, part in enumerate(parts):
            nonce = secrets.token_bytes(12)
            content = _flat(part) if isinstance(part, np.ndarray) else part
            sealed += [nonce, self._cipher.encrypt(nonce, content, self._bound_to(len(self), number))]
        lengths = [len(sealed[at]) + len(sealed[at + 1]) for at in range(0, len(sealed), 2)]
        head = struct.pack(f"<I{len(lengths)}I", len(lengths), *lengths)
        try:
            self._unsynced = True
            _write_all(self._file, [head, *sealed], self._end)
        except OSError as error:
            with contextlib.suppress(OSError):  # a full disk gets back what the half of an entry took
                os.ftruncate(self._file, self._end)
            raise self._unwritten(error) from None
        self._places.append(_parts(self._end + len(head), lengths))
        self._end += len(head) + sum(lengths)

    def read(self, entry: int, part: int = 0) -> bytes:
        """Read and open one part."""
        try:
            return self._open(entry, part)
        except InvalidTag:
            raise self._broken() from None

    def sync(self) -> None:
        """Return when all entries are on disk."""
        if self._unsynced:
            try:
                os.fsync(self._file)
            except OSError as error:
                raise self._unwritten(error) from None
            self._unsynced = False

    def close(self) -> None:
        """Close the file."""
        self._release()

    def _open(self, entry: int, part: int) -> bytes:
        at, length = self._places[entry][part]
        sealed = os.pread(self._file, length, at)
        if len(sealed) < _SEAL:
            raise InvalidTag
        return self._cipher.decrypt(sealed[:12], sealed[12:], self._bound_to(entry, part))

    def _scan(self) -> int:
        """Find the whole entries; the offset behind the last one."""
        size, at = os.fstat(self._file).st_size, 0
        while at + 4 <= size:
            (count,) = struct.unpack("<I", os.pread(self._file, 4, at))
            if not 0 < count <= _MOST_PARTS or at + 4 + 4 * count > size:
                break
            lengths = list(struct.unpack(f"<{count}I", os.pread(self._file, 4 * count, at + 4)))
            after = at + 4 + 4 * count + sum(lengths)
            if after > size:
                break
            self._places.append(_parts(at + 4 + 4 * count, lengths))
            try:
                for part in range(count):
                    self._open(len(self) - 1, part)
            except InvalidTag:
                if at == 0:  # another run's journal, or another key: nothing of it may be cut off
                    raise self._broken() from None
                self._places.pop()
                break
            at = after
        return at

    def _broken(self) -> InternalError:
        return InternalError(
            f"the alignment's journal {self._name} is broken: start a new run", hint="run again with --new"
        )

    def _unwritten(self, error: OSError) -> InternalError:
        return InternalError(
            f"the alignment's journal {self._name} cannot be written: {error.strerror}",
            hint="make room on the disk and run the same command again",
        )

    def _bound_to(self, entry: int, part: int) -> bytes:
        return self._label + struct.pack("<QI", entry, part)


def _flat(part: np.ndarray) -> memoryview:
    return np.ascontiguousarray(part).reshape(-1).view(np.uint8).data


def _parts(at: int, lengths: Sequence[int]) -> list[tuple[int, int]]:
    found = []
    for length in lengths:
        found.append((at, length))
        at += length
    return found


def _write_all(file: int, pieces: Sequence[bytes], at: int) -> None:
    for start in range(0, len(pieces), 512):  # below the system's limit of buffers in one call
        left = [memoryview(piece) for piece in pieces[start : start + 512]]
        while left:
            done = os.pwritev(file, left, at)
            at += done
            while left and done >= len(left[0]):
                done -= len(left.pop(0))
            if left:
                left[0] = left[0][done:]
