"""A table of ours, wherever it lies: declared types, the Source that every connector derives from, and its checks.

A connector answers four questions about its table (`_stamp`, `_native`, `_batches`, `_count`); everything that must
hold for every table alike stands here: declared types and ranges, keys always text, changes noticed, errors without
values.
"""

from __future__ import annotations

import difflib
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from connectors.convert import arrow_type, convert, native_declaration, refuse_key_type
from connectors.declare import Bound, Declared
from connectors.digest import ContentDigest
from connectors.infer import Inference
from party.errors import DataError, FileError, TallyError, UsageError

__all__ = ["BATCH_ROWS", "Bound", "Declared", "Field", "Source", "Stamp"]

_REMEDY = "correct the table, or what party.yaml declares of this column"

BATCH_ROWS = 65536


@dataclass(frozen=True)
class Field:
    """One column as `scan` delivers it: `kind` says its type; `declared` tells a declaration from an inference."""

    name: str
    kind: Declared
    key: bool
    declared: bool


@dataclass(frozen=True)
class Stamp:
    """What tells one state of a table from another without reading it: size in bytes, time of last change, identity."""

    size: int
    changed_ns: int
    identity: str


@dataclass
class _Memory:
    """What one Source has found out about its table so far; only ever true for one Stamp."""

    stamp: Stamp | None = None
    native: pa.Schema | None = None
    inferred: dict[str, Declared] = field(default_factory=dict)
    rows: int | None = None


class Source(ABC):
    """One table of ours, read in streams. Nothing is opened until the first question."""

    inferring = False  # True for sources whose values are all text: undeclared types are then read off the values

    def __init__(self, label: str, declared: Mapping[str, Declared], key: Sequence[str]) -> None:
        self.label = label
        self.key = tuple(key)
        self.declared = dict(declared)
        self._memory = _Memory()

    # ---- what a connector answers

    @abstractmethod
    def _stamp(self) -> Stamp:
        """The table's present state; raises FileError when it is not there."""

    @abstractmethod
    def _native(self) -> pa.Schema:
        """Names and types as the table holds them."""

    @abstractmethod
    def _batches(self, columns: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        """These columns (at least one), in this order, in the table's row order, with their native types."""

    @abstractmethod
    def _count(self) -> int:
        """How many rows the table has."""

    # ---- what everybody else asks

    def schema(self) -> tuple[Field, ...]:
        """All columns in the table's order. Undeclared ones of a text source are read once to find their types.

        Raises FileError for a declared or key column that is missing, a float key, a type we cannot read.
        """
        native = self._checked_native()
        self._infer([name for name in native.names if self._unknown(name)])
        return tuple(Field(name, self._kind(name), name in self.key, name in self.declared) for name in native.names)

    def rows(self) -> int:
        """How many rows the table has."""
        self._checked_native()
        if self._memory.rows is None:
            self._memory.rows = self._count()
            self._same()
        return self._memory.rows

    def fingerprint(self) -> Stamp:
        """The state of the table that this Source reads; a change after the first question is a DataError."""
        self._same()
        return self._stamp()

    def scan(self, columns: Sequence[str], batch_rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Stream these columns in row order, batches of exactly `batch_rows` rows but the last.

        Types: integer int64, decimal decimal128(p,s), float float64, bool, date date32, timestamp microseconds,
        string utf8; key columns are always utf8. Raises DataError naming row (from 1) and column, never a value.
        """
        if not columns:
            raise UsageError(f"{self.label}: no columns asked for")
        if len(set(columns)) < len(columns):
            raise UsageError(f"{self.label}: a column is asked for twice")
        if batch_rows < 1:
            raise UsageError("a batch has at least one row")
        native = self._checked_native()
        for name in columns:
            self._expect(name, native, UsageError)
        self._infer([name for name in columns if self._unknown(name)])
        return self._scan(tuple(columns), batch_rows)

    def read(self, columns: Sequence[str]) -> pa.Table:
        """The same as one table in memory."""
        batches = list(self.scan(columns))
        schema = pa.schema([pa.field(name, arrow_type(self._kind(name))) for name in columns])
        return pa.Table.from_batches(batches, schema=schema)

    def content_digest(self, columns: Sequence[str], key: bytes) -> bytes:
        """Keyed BLAKE2b (32 bytes) over names, types and values of these columns in row order.

        `key` is our own secret of 16 to 64 bytes: an unkeyed hash of an identifier is as good as the identifier.
        """
        digest = ContentDigest(key)
        batches = self.scan(columns)
        for name in columns:
            digest.column(name, str(arrow_type(self._kind(name))))
        for batch in batches:
            digest.batch(batch)
        return digest.finish()

    # ---- the common part

    def _scan(self, columns: tuple[str, ...], batch_rows: int) -> Iterator[pa.RecordBatch]:
        schema = pa.schema([pa.field(name, arrow_type(self._kind(name))) for name in columns])
        row = 1
        waiting: list[pa.RecordBatch] = []
        held = 0
        for batch in self._watched(columns, batch_rows):
            kinds = [self._kind(name) for name in columns]
            try:
                arrays = [convert(batch.column(n), kinds[n], name, row) for n, name in enumerate(columns)]
            except DataError as error:  # the same error, which has no other behind it that holds a value
                error.message = f"{self.label}: {error.message}"
                error.args, error.hint = (error.message,), error.hint or _REMEDY
                raise
            row += batch.num_rows
            waiting.append(pa.RecordBatch.from_arrays(arrays, schema=schema))
            held += batch.num_rows
            if held >= batch_rows:
                table = pa.Table.from_batches(waiting, schema=schema).combine_chunks()
                full = held - held % batch_rows
                yield from table.slice(0, full).to_batches(max_chunksize=batch_rows)
                waiting = table.slice(full).to_batches()
                held -= full
        self._memory.rows = row - 1
        if held:
            yield from pa.Table.from_batches(waiting, schema=schema).combine_chunks().to_batches()

    def _watched(self, columns: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Native batches, checked in full; a table that changed meanwhile is named as the reason of any error."""
        try:
            for batch in self._batches(columns, batch_rows):
                _validate(batch, self.label)
                yield batch
        except TallyError:
            self._same()
            raise
        self._same()

    def _same(self) -> None:
        stamp = self._stamp()
        if self._memory.stamp is None:
            self._memory.stamp = stamp
        elif stamp != self._memory.stamp:
            hint = "start again once nobody writes to it"
            raise DataError(f"{self.label}: changed while it was being read", hint=hint)

    def _checked_native(self) -> pa.Schema:
        self._same()
        if self._memory.native is None:
            native = self._native()
            twice = {name for name in native.names if native.names.count(name) > 1}
            if twice:
                raise DataError(f"{self.label}: column {min(twice)!r} occurs more than once")
            for name in (*self.key, *self.declared):
                self._expect(name, native, FileError)
            for name in self.key:
                refuse_key_type(native.field(name).type, name, self.label)
            self._memory.native = native
        return self._memory.native

    def _expect(self, name: str, native: pa.Schema, error: type[TallyError]) -> None:
        if name not in native.names:
            near = difflib.get_close_matches(name, native.names, 1, 0.5)
            hint = f"did you mean {near[0]!r}?" if near else "its columns: " + ", ".join(native.names[:12])
            raise error(f"{self.label}: no column {name!r}", hint=hint)

    def _unknown(self, name: str) -> bool:
        if not self.inferring or name in self.key or name in self._memory.inferred:
            return False
        return name not in self.declared or self.declared[name].type is None

    def _kind(self, name: str) -> Declared:
        declared = self.declared.get(name, Declared())
        if name in self.key:
            return Declared("string", domain=declared.domain if declared.type == "string" else None)
        if declared.type is not None:
            return declared
        if name in self._memory.inferred:
            return self._memory.inferred[name].with_limits(declared)
        native = native_declaration(self._checked_native().field(name).type, name, self.label)
        return native.with_limits(declared)

    def _infer(self, columns: Sequence[str]) -> None:
        if not columns:
            return
        inference = {name: Inference() for name in columns}
        rows = 0
        for batch in self._watched(columns, BATCH_ROWS):
            rows += batch.num_rows
            for place, name in enumerate(columns):
                inference[name].take(batch.column(place))
        self._memory.rows = rows
        self._memory.inferred |= {name: found.result() for name, found in inference.items()}


def _validate(batch: pa.RecordBatch, label: str) -> None:
    try:
        batch.validate(full=True)
    except pa.ArrowException:
        pass
    else:
        return
    raise DataError(f"{label}: its content is damaged (a column fails Arrow's full validation)")


def path_identity(device: int, inode: int) -> str:
    """Tells one file from another of the same name, without saying where it lies."""
    return hashlib.sha256(f"{device}/{inode}".encode()).hexdigest()[:16]
