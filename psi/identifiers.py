"""From key columns to identifiers: one byte string for each row that can match, by rules with a version.

Both sides must turn the same customer into the same bytes, so the rules carry a number, NORMALISATION, and their
digest is agreed before anything is masked. Changing any rule's result means a new number. Nothing here is sent.

An identifier of k key columns is, for each of them, the rule's name and the normalised value, each with its length
in front: no two different keys give one byte string, and a phone number never meets an equal text.

Rows with a missing key, and rows whose value a rule cannot read (an impossible phone number), never match; they are
counted. What repeated identifiers mean (`duplicates`) is for `psi.masking`, which finds them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from party.errors import DataError, InternalError, UsageError
from psi.normalise import NORMALISERS, KeyColumn, Normaliser
from psi.phones import known_region

__all__ = ["NORMALISATION", "Batch", "Counts", "Identifiers", "KeyColumn", "from_items", "from_scan", "settings_digest"]

Rows = npt.NDArray[np.int64]

NORMALISATION = 1
CHUNK = 65_536
_DUPLICATES = ("error", "first", "all")


@dataclass(frozen=True, repr=False)
class Batch:
    """One chunk: identifier i is data[offsets[i]:offsets[i + 1]]; rows[i] its row in the table. Not yet distinct."""

    data: npt.NDArray[np.uint8]
    offsets: Rows
    rows: Rows


@dataclass(frozen=True)
class Counts:
    """Rows read, rows with a missing key column, rows that a rule could not read."""

    total: int
    nulls: int = 0
    failures: int = 0


class Identifiers:
    """The identifiers of a table: a source that can be read more than once, as a resumed run does.

    settings: digest of rules and version, 32 bytes, to be equal on both sides. duplicates: what equal identifiers mean,
    "error", "first" (the first row stands for all) or "all" (each row stands for itself).
    """

    def __init__(self, read: Callable[[], Iterator[_Piece]], settings: bytes, duplicates: str) -> None:
        self.settings = settings
        self.duplicates = duplicates
        self._read = read
        self._counts: Counts | None = None
        self._left_out = np.empty(0, dtype=np.int64)

    def without(self, rows: Rows) -> Identifiers:
        """The same source without these rows of the table; the counts stay those of the whole."""
        found = Identifiers(self._read, self.settings, self.duplicates)
        found._left_out = np.union1d(self._left_out, rows)
        return found

    def batches(self) -> Iterator[Batch]:
        """Every batch has CHUNK identifiers, the last one fewer; the same content each time."""
        waiting: list[tuple[pa.Array, Rows]] = []
        ready, counts = 0, Counts(0)
        for piece in self._read():
            items, rows, counts = piece
            keep = _others(rows, self._left_out)
            if not keep.all():
                items, rows = items.filter(pa.array(keep)), rows[keep]
            waiting.append((items, rows))
            ready += len(rows)
            while ready >= CHUNK:
                yield _taken(waiting, CHUNK)
                ready -= CHUNK
        if ready:
            yield _taken(waiting, ready)
        self._counts = counts

    @property
    def counts(self) -> Counts:
        """What was read, once `batches` has been read to its end; InternalError before."""
        if self._counts is None:
            raise InternalError("identifiers are counted when all were read")
        return self._counts


_Piece = tuple[pa.Array, Rows, Counts]  # binary without nulls, their rows, and what has been read so far


def _others(rows: Rows, left_out: Rows) -> npt.NDArray[np.bool_]:
    """Which of the rows are not left out; both ascend, so only the part around the rows is looked at."""
    if not len(rows):
        return np.empty(0, dtype=np.bool_)
    first, end = np.searchsorted(left_out, [rows[0], rows[-1] + 1])
    return np.isin(rows, left_out[first:end], assume_unique=True, invert=True)


def _taken(waiting: list[tuple[pa.Array, Rows]], count: int) -> Batch:
    """The first `count` of what waits, as one batch."""
    items, rows = [], []
    while count:
        array, numbers = waiting.pop(0)
        items.append(array[:count])
        rows.append(numbers[:count])
        if len(numbers) > count:
            waiting.insert(0, (array[count:], numbers[count:]))
        count -= len(items[-1])
    whole = pa.concat_arrays(items)
    _, ends, content = whole.buffers()
    offsets = np.frombuffer(ends, dtype=np.int32)[whole.offset : whole.offset + len(whole) + 1].astype(np.int64)
    data = np.frombuffer(content, dtype=np.uint8)[offsets[0] : offsets[-1]] if content else np.empty(0, np.uint8)
    return Batch(data, offsets - offsets[0], np.concatenate(rows))


def settings_digest(rules: Sequence[str]) -> bytes:
    """SHA-256 over the version and the rule of each key column; regions and column names may differ."""
    return hashlib.sha256(b"tallystick/v1/psi/settings/" + f"{NORMALISATION}:{','.join(rules)}".encode()).digest()


def from_items(items: Sequence[bytes]) -> Identifiers:
    """Identifiers that are already normalised and distinct: for tests, and for callers with their own rules."""
    if len(set(items)) != len(items):
        raise DataError("the identifiers are not distinct")
    whole = pa.array(list(items), pa.binary())
    rows = np.arange(len(items), dtype=np.int64)
    return Identifiers(lambda: iter([(whole, rows, Counts(len(items)))]), settings_digest(["bytes"]), "error")


def from_scan(
    scan: Callable[[], Iterable[pa.RecordBatch]], key: Sequence[KeyColumn], *, duplicates: str = "error"
) -> Identifiers:
    """The key columns of a table, normalised batch by batch each time they are read.

    Raises UsageError for an unknown rule, a region that is unknown, an unknown `duplicates`; when read, DataError for a
    key column that is not there, of numbers with a fraction, or of a type that a rule does not read.
    """
    if not key:
        raise UsageError("a key has at least one column")
    if duplicates not in _DUPLICATES:
        raise UsageError(f"`duplicates: {duplicates}` is none of {', '.join(_DUPLICATES)}")
    rules = [_rule(column) for column in key]

    def read() -> Iterator[_Piece]:
        total = nulls = failures = 0
        for batch in _sliced(scan()):
            for column in key:
                if column.name not in batch.schema.names:
                    raise DataError(f"the table has no key column {column.name}")
            columns = [batch.column(column.name) for column in key]
            encoded = _encoded([rule(*pair) for rule, *pair in zip(rules, columns, key, strict=True)], key)
            there = np.asarray(encoded.is_valid().to_numpy(zero_copy_only=False))
            missing = np.zeros(batch.num_rows, dtype=np.bool_)
            for values in columns:
                missing |= np.asarray(values.is_null().to_numpy(zero_copy_only=False))
            rows = np.flatnonzero(there) + total
            total += batch.num_rows
            nulls += int(missing.sum())
            failures += int((~there & ~missing).sum())
            yield (encoded if there.all() else encoded.drop_null()), rows, Counts(total, nulls, failures)

    return Identifiers(read, settings_digest([column.normalise for column in key]), duplicates)


def _sliced(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of CHUNK at most, so that what a rule takes in memory is the same for any caller."""
    for batch in batches:
        for start in range(0, max(batch.num_rows, 1), CHUNK):
            yield batch.slice(start, CHUNK)


def _rule(column: KeyColumn) -> Normaliser:
    rule = NORMALISERS.get(column.normalise)
    if rule is None:
        raise UsageError(
            f"column {column.name}: `normalise: {column.normalise}` is unknown", hint=f"one of {', '.join(NORMALISERS)}"
        )
    if column.normalise == "phone" and column.region is not None and not known_region(column.region):
        raise UsageError(f"column {column.name}: region {column.region} is unknown", hint="two capitals, such as GB")
    return rule


def _encoded(columns: Sequence[pa.Array], key: Sequence[KeyColumn]) -> pa.Array:
    """Each row's identifier, binary; null where any part is."""
    parts: list[pa.Array | pa.Scalar] = []
    for values, column in zip(columns, key, strict=True):
        rule = column.normalise.encode()
        sizes = np.asarray(pc.fill_null(pc.binary_length(values), 0).to_numpy(zero_copy_only=False))
        lengths = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(4), len(values), [None, pa.py_buffer(sizes.astype(">u4"))]
        )
        head = pa.scalar(len(rule).to_bytes(4, "big") + rule)
        parts += [head, lengths.cast(pa.binary()), values.cast(pa.binary())]
    return pc.binary_join_element_wise(*parts, pa.scalar(b""))
