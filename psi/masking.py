"""Steps 1 and 2 of the alignment on our side alone: draw the scalar, mask the table chunk by chunk, sort, keep.

What is kept, and in which order, is what makes a crash harmless: the scalar before the first chunk, each chunk when it
is masked, the sorted list before its first byte leaves. Identifiers themselves are never kept: two equal ones give
equal points, and so repeated keys are found in the sorted list.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kernels import curve25519
from party.errors import DataError, InternalError
from psi.identifiers import Batch, Counts
from psi.messages import CHUNK
from psi.rows import Bytes2D, Rows, repeated
from psi.sorter import Sorter
from psi.store import Store

__all__ = [
    "POINTS",
    "Facts",
    "KeyList",
    "Secret",
    "Source",
    "chain",
    "kept_list",
    "prepare",
    "repeated_keys",
    "secret_of",
]

_DOMAIN = b"tallystick/v1/psi/identifier/curve25519_XMD:SHA-512_ELL2_NU_/"
_SECRET, _LIST = "secret", "list"  # records
_MASKING, POINTS, _OTHERS = "masking", "points", "others"  # journals
_FACTS = struct.Struct("<QQQQQ32s")
_FIRST_NAMED = 5  # repeated rows named in an error


@dataclass(frozen=True, repr=False)
class Secret:
    """What a run draws once: never printed, stored sealed only."""

    scalar: bytes
    seed: bytes
    settings: bytes
    inverse: bytes  # of the scalar, in the unbalanced form


@dataclass(frozen=True)
class Facts:
    """What our table gave: `count` distinct identifiers of `total` rows; `nulls` have a missing key column,
    `unreadable` one that a rule could not read, `duplicates` the identifier of an earlier row."""

    count: int
    total: int
    nulls: int
    unreadable: int
    duplicates: int


class Source(Protocol):
    """Identifiers that can be read more than once: `psi.identifiers.Identifiers`, or a part of them."""

    settings: bytes
    duplicates: str

    def batches(self) -> Iterator[Batch]:
        """Chunks, the same each time."""
        ...

    @property
    def counts(self) -> Counts:
        """What was read, once all was."""
        ...


class KeyList:
    """Our distinct keys as the peer sees them, one row of bytes each, ascending, with the table's row of each.

    `journal` holds the chunks: rows of bytes of one width, and the table's rows.
    """

    def __init__(self, store: Store, facts: Facts, digest: bytes, journal: str = POINTS) -> None:
        self.facts = facts
        self.digest = digest
        self._chunks = store.journal(journal)
        self._others = store.journal(_OTHERS)

    def __len__(self) -> int:
        return self.facts.count

    @property
    def chunks(self) -> int:
        """How many chunks of CHUNK keys, the last one shorter."""
        return -(-len(self) // CHUNK)

    def content(self, chunk: int) -> Bytes2D:
        """One chunk, uint8 (k, width)."""
        rows = self.rows(chunk)
        return np.frombuffer(self._chunks.read(chunk, 0), dtype=np.uint8).reshape(len(rows), -1)

    def rows(self, chunk: int) -> Rows:
        """The table's row of each key of a chunk; the first one's where a key is repeated: int64 (k,)."""
        return np.frombuffer(self._chunks.read(chunk, 1), dtype="<u4").astype(np.int64)

    def others(self) -> Rows:
        """Rows that repeat a key: int64 (d, 2), (first row of that key, row), ascending."""
        parts = [np.frombuffer(self._others.read(entry), dtype="<u4") for entry in range(len(self._others))]
        found = np.concatenate([np.empty(0, "<u4"), *parts]).reshape(-1, 2).astype(np.int64)
        return found[np.lexsort((found[:, 1], found[:, 0]))]


def kept_list(store: Store) -> KeyList:
    """The list that `prepare` has made and kept."""
    stored = store.load(_LIST)
    if stored is None:
        raise InternalError("no masked list is stored for this run")
    *numbers, digest = _FACTS.unpack(stored)
    return KeyList(store, Facts(*numbers), digest)


def _one_scalar() -> tuple[bytes, bytes]:
    return curve25519.random_scalar(), b""


def secret_of(store: Store, identifiers: Source, draw: Callable[[], tuple[bytes, bytes]] = _one_scalar) -> Secret:
    """This run's scalar (and its inverse, where `draw` gives one) and seed, drawn and stored at the first call."""
    stored = store.load(_SECRET)
    if stored is None:
        scalar, inverse = draw()
        stored = scalar + secrets.token_bytes(32) + identifiers.settings + inverse
        store.save(_SECRET, stored)
    return Secret(stored[:32], stored[32:64], stored[64:96], stored[96:])


def chain(digest: bytes, chunk: Bytes2D) -> bytes:
    """The running digest of a list, carried over one more chunk: unlike a hash object it can be stored."""
    return hashlib.sha256(digest + chunk.tobytes()).digest()


def prepare(
    store: Store,
    identifiers: Source,
    start: bytes,
    salt: bytes,
    report: Callable[[int], None],
    executor: Executor | None,
) -> KeyList:
    """Our list under this run's scalar; goes on where an interrupted call ended. `start` begins the digest's chain.

    Raises DataError for repeated keys where the table's owner says that they are an error.
    """
    if store.load(_LIST) is None:
        _mask(store, identifiers, salt, report, executor)
        store.save(_LIST, _sort(store, identifiers, start))
    store.drop(_MASKING)
    return kept_list(store)


def _mask(
    store: Store, identifiers: Source, salt: bytes, report: Callable[[int], None], executor: Executor | None
) -> None:
    """Map each identifier to the curve and mask it; what an interrupted call has done is not done again."""
    sorter = Sorter(store.journal(_MASKING), 36)
    scalar = secret_of(store, identifiers).scalar
    there = sorter.chunks
    for place, batch in enumerate(identifiers.batches()):
        if place >= there:
            mapped = curve25519.hash_to_curve(batch.data, batch.offsets, _DOMAIN + salt, executor)
            records = np.empty((len(mapped), 36), dtype=np.uint8)
            records[:, :32] = curve25519.multiply(scalar, mapped, executor)
            records[:, 32:] = _big_endian(batch.rows)
            sorter.append(records)
        report(len(batch.rows))


def _big_endian(rows: Rows) -> Bytes2D:
    if len(rows) and int(rows.max()) >= 1 << 32:
        raise DataError("a table of more than 4,294,967,296 rows cannot be aligned", stage="align")
    return rows.astype(">u4").view(np.uint8).reshape(-1, 4)


def _sort(store: Store, identifiers: Source, digest: bytes) -> bytes:
    """Merge the masked chunks into the list to be sent, each key once; the list's record."""
    store.drop(POINTS)  # of a call that was interrupted here
    store.drop(_OTHERS)
    points, others = store.journal(POINTS), store.journal(_OTHERS)
    count = duplicates = 0
    named: list[int] = []
    for chunk in _chunks(_distinct(Sorter(store.journal(_MASKING), 36).ranges())):
        records, repeats = chunk
        count += len(records)
        duplicates += len(repeats)
        if identifiers.duplicates == "error" and len(repeats):
            named = sorted(named + np.sort(repeats[:, 1])[:_FIRST_NAMED].tolist())[:_FIRST_NAMED]
            continue
        if len(repeats):
            others.append([repeats.astype("<u4")])
        if len(records):
            content = records[:, :32]
            digest = chain(digest, content)
            points.append([content, records[:, 32:].copy().view(">u4").astype("<u4")])
    if named:
        raise repeated_keys(duplicates, named)
    counts = identifiers.counts
    return _FACTS.pack(count, counts.total, counts.nulls, counts.failures, duplicates, digest)


def repeated_keys(count: int, rows: Iterable[int]) -> DataError:
    """The error of `count` rows that repeat a key; the first of `rows` are named, no value is."""
    first = sorted(rows)[:_FIRST_NAMED]
    return DataError(
        f"{count} rows repeat the key of an earlier row (row numbers from 0: {', '.join(map(str, first))}"
        f"{', ...' if count > _FIRST_NAMED else ''})",
        stage="align",
        hint="remove them, or set `duplicates: first` to let the first row stand for all, or `all` to join each",
    )


def _distinct(ranges: Iterator[Bytes2D]) -> Iterator[tuple[Bytes2D, Rows]]:
    """Each range without repeated points, and the rows left out: (d, 2), (first row, row)."""
    for records in ranges:
        same = repeated(records[:, :32])
        rows = records[:, 32:].copy().view(">u4").ravel().astype(np.int64)
        first = np.flatnonzero(~same)
        group = np.cumsum(~same) - 1
        repeats = np.column_stack([rows[first[group[same]]], rows[same]]) if same.any() else np.empty((0, 2), np.int64)
        yield records[first], repeats


def _chunks(ranges: Iterator[tuple[Bytes2D, Rows]]) -> Iterator[tuple[Bytes2D, Rows]]:
    """The same records in chunks of exactly CHUNK, the last one shorter; repeats go with the chunk that is next."""
    waiting, repeats = np.empty((0, 36), dtype=np.uint8), np.empty((0, 2), dtype=np.int64)
    for records, more in ranges:
        waiting, repeats = np.concatenate([waiting, records]), np.concatenate([repeats, more])
        whole = len(waiting) // CHUNK * CHUNK
        for at in range(0, whole, CHUNK):
            yield waiting[at : at + CHUNK], repeats
            repeats = repeats[:0]
        waiting = waiting[whole:].copy()
    yield waiting, repeats
