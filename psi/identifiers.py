"""From key columns to identifiers: one byte string for each row that can match, by rules with a version.

Both sides must turn the same customer into the same bytes, so the rules carry a number, NORMALISATION, and their
digest is agreed before anything is masked. Changing any rule's result means a new number. Nothing here is sent.

An identifier of k key columns is, for each of them, the rule's name and the normalised value, each with its length
in front: no two different keys give one byte string, and a phone number never meets an equal text.

Rows with a missing key, and rows whose value a rule cannot read (an impossible phone number), never match; they are
counted. Rows of one identifier are an error, or the first of them stands for all (`duplicates`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from party.errors import DataError, UsageError
from psi.normalise import NORMALISERS, KeyColumn, Normaliser

__all__ = ["NORMALISATION", "Identifiers", "KeyColumn", "from_batches", "from_items", "settings_digest"]

NORMALISATION = 1
_FIRST_NAMED = 5  # duplicate rows named in an error


@dataclass(frozen=True, repr=False)
class Identifiers:
    """Distinct identifiers of a table.

    items: n byte strings. rows: int64 (n,), the row of each in the table. total: rows read. nulls: rows with a
    missing key column. failures: rows a rule could not read. duplicates: rows left out because an earlier one has
    the same identifier. settings: digest of rules and version, 32 bytes, to be equal on both sides.
    """

    items: list[bytes]
    rows: npt.NDArray[np.int64]
    settings: bytes
    total: int
    nulls: int = 0
    failures: int = 0
    duplicates: int = 0


def settings_digest(rules: Sequence[str]) -> bytes:
    """SHA-256 over the version and the rule of each key column; regions and column names may differ."""
    return hashlib.sha256(b"tallystick/v1/psi/settings/" + f"{NORMALISATION}:{','.join(rules)}".encode()).digest()


def from_items(items: Sequence[bytes]) -> Identifiers:
    """Identifiers that are already normalised and distinct: for tests, and for callers with their own rules."""
    if len(set(items)) != len(items):
        raise DataError("the identifiers are not distinct")
    return Identifiers(list(items), np.arange(len(items), dtype=np.int64), settings_digest(["bytes"]), len(items))


def from_batches(
    batches: Iterable[pa.RecordBatch], key: Sequence[KeyColumn], *, duplicates: str = "error"
) -> Identifiers:
    """Normalise the key columns of a table, batch by batch.

    duplicates: "error" (DataError with their number and first rows, never values) or "first". Raises UsageError for
    an unknown rule, a region that is missing or unknown, `duplicates: all` (not available yet); DataError for a key
    column of numbers with a fraction, or of a type that a rule does not read.
    """
    if not key:
        raise UsageError("a key has at least one column")
    if duplicates == "all":
        raise UsageError("`duplicates: all` is not available yet", hint="use error or first")
    if duplicates not in ("error", "first"):
        raise UsageError(f"`duplicates: {duplicates}` is neither error nor first")
    rules = [_rule(column) for column in key]
    heads = [_sized(column.normalise.encode()) for column in key]
    seen: dict[bytes, int] = {}
    repeated: list[int] = []
    total = nulls = failures = 0
    for batch in batches:
        for column in key:
            if column.name not in batch.schema.names:
                raise DataError(f"the table has no key column {column.name}")
        columns = [rule(batch.column(column.name), column) for rule, column in zip(rules, key, strict=True)]
        missing = np.zeros(batch.num_rows, dtype=np.bool_)
        for column in key:
            missing |= np.asarray(batch.column(column.name).is_null().to_numpy(zero_copy_only=False))
        nulls += int(missing.sum())
        for row, item in enumerate(_encoded(columns, heads), start=total):
            if item is None:
                failures += 1
            elif seen.setdefault(item, row) != row:
                repeated.append(row)
        total += batch.num_rows
    failures -= nulls  # a missing key was counted as unreadable above
    if repeated and duplicates == "error":
        first = ", ".join(str(row) for row in repeated[:_FIRST_NAMED])
        raise DataError(
            f"{len(repeated)} rows repeat the key of an earlier row (row numbers from 0: {first}"
            f"{', ...' if len(repeated) > _FIRST_NAMED else ''})",
            stage="align",
            hint="remove them, or set `duplicates: first` to let the first row stand for all",
        )
    rows = np.fromiter(seen.values(), dtype=np.int64, count=len(seen))
    settings = settings_digest([column.normalise for column in key])
    return Identifiers(list(seen), rows, settings, total, nulls, failures, len(repeated))


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
