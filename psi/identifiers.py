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

from party.errors import DataError, InternalError, UsageError
from psi.normalise import NORMALISERS, KeyColumn, Normaliser

__all__ = ["NORMALISATION", "Batch", "Counts", "Identifiers", "KeyColumn", "from_items", "from_scan", "settings_digest"]

NORMALISATION = 1
CHUNK = 65_536
_DUPLICATES = ("error", "first", "all")


@dataclass(frozen=True, repr=False)
class Batch:
    """One chunk: identifier i is data[offsets[i]:offsets[i + 1]]; rows[i] its row in the table. Not yet distinct."""

    data: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Counts:
    """Rows read, rows with a missing key column, rows that a rule could not read."""

    total: int
    nulls: int = 0
    failures: int = 0


class Identifiers:
    """The identifiers of a table: a source that can be read more than once."""

    def __init__(self, read: Callable[[], Iterator[tuple[list[bytes], npt.NDArray[np.int64], Counts]]], settings: bytes,
                 duplicates: str) -> None:  # fmt: skip
        self._read = read
        self.settings = settings
        self.duplicates = duplicates
        self._counts: Counts | None = None
        self._left_out = np.empty(0, dtype=np.int64)

    def without(self, rows: npt.NDArray[np.int64]) -> Identifiers:
        """The same source without these rows of the table."""
        found = Identifiers(self._read, self.settings, self.duplicates)
        found._left_out = np.union1d(self._left_out, rows)
        return found

    def batches(self) -> Iterator[Batch]:
        """Every batch has CHUNK identifiers, the last one fewer; the same content each time."""
        items: list[bytes] = []
        rows = np.empty(0, dtype=np.int64)
        counts = Counts(0)
        for more, numbers, seen in self._read():
            keep = ~np.isin(numbers, self._left_out)
            items += [item for item, kept in zip(more, keep, strict=True) if kept]
            rows = np.concatenate([rows, numbers[keep]])
            counts = seen
            while len(items) >= CHUNK:
                yield _packed(items[:CHUNK], rows[:CHUNK])
                items, rows = items[CHUNK:], rows[CHUNK:]
        if items:
            yield _packed(items, rows)
        self._counts = counts

    @property
    def counts(self) -> Counts:
        """What was read, once `batches` has been read to its end."""
        if self._counts is None:
            raise InternalError("identifiers are counted when all were read")
        return self._counts


def _packed(items: list[bytes], rows: npt.NDArray[np.int64]) -> Batch:
    offsets = np.zeros(len(items) + 1, dtype=np.int64)
    np.cumsum([len(item) for item in items], out=offsets[1:])
    return Batch(np.frombuffer(b"".join(items), dtype=np.uint8), offsets, rows)


def settings_digest(rules: Sequence[str]) -> bytes:
    """SHA-256 over the version and the rule of each key column; regions and column names may differ."""
    return hashlib.sha256(b"tallystick/v1/psi/settings/" + f"{NORMALISATION}:{','.join(rules)}".encode()).digest()


def from_items(items: Sequence[bytes]) -> Identifiers:
    """Identifiers that are already normalised and distinct: for tests, and for callers with their own rules."""
    if len(set(items)) != len(items):
        raise DataError("the identifiers are not distinct")
    listed = list(items)
    return Identifiers(
        lambda: iter([(listed, np.arange(len(listed), dtype=np.int64), Counts(len(listed)))]),
        settings_digest(["bytes"]),
        "error",
    )


def from_scan(
    scan: Callable[[], Iterable[pa.RecordBatch]], key: Sequence[KeyColumn], *, duplicates: str = "error"
) -> Identifiers:
    """The key columns of a table, normalised batch by batch each time they are read."""
    if not key:
        raise UsageError("a key has at least one column")
    if duplicates not in _DUPLICATES:
        raise UsageError(f"`duplicates: {duplicates}` is none of {', '.join(_DUPLICATES)}")
    rules = [_rule(column) for column in key]
    heads = [_sized(column.normalise.encode()) for column in key]

    def read() -> Iterator[tuple[list[bytes], npt.NDArray[np.int64], Counts]]:
        total = nulls = failures = 0
        for batch in scan():
            for column in key:
                if column.name not in batch.schema.names:
                    raise DataError(f"the table has no key column {column.name}")
            columns = [rule(batch.column(column.name), column) for rule, column in zip(rules, key, strict=True)]
            missing = np.zeros(batch.num_rows, dtype=np.bool_)
            for column in key:
                missing |= np.asarray(batch.column(column.name).is_null().to_numpy(zero_copy_only=False))
            encoded = _encoded(columns, heads)
            places = [place for place, item in enumerate(encoded) if item is not None]
            nulls += int(missing.sum())
            failures += batch.num_rows - len(places) - int(missing.sum())
            rows = np.array(places, dtype=np.int64) + total
            total += batch.num_rows
            yield [item for item in encoded if item is not None], rows, Counts(total, nulls, failures)

    return Identifiers(read, settings_digest([column.normalise for column in key]), duplicates)


def _rule(column: KeyColumn) -> Normaliser:
    rule = NORMALISERS.get(column.normalise)
    if rule is None:
        raise UsageError(
            f"column {column.name}: `normalise: {column.normalise}` is unknown", hint=f"one of {', '.join(NORMALISERS)}"
        )
    return rule


def _sized(content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + content


def _encoded(columns: list[list[bytes | None]], heads: list[bytes]) -> list[bytes | None]:
    """Each row's identifier, or None when any part is None."""
    if len(columns) == 1:
        head = heads[0]
        return [None if value is None else head + _sized(value) for value in columns[0]]
    out: list[bytes | None] = []
    for values in zip(*columns, strict=True):
        parts = [head + _sized(value) for head, value in zip(heads, values, strict=True) if value is not None]
        out.append(b"".join(parts) if len(parts) == len(heads) else None)
    return out
