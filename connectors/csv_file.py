"""`csv:` tables: RFC 4180, UTF-8 with or without a byte order mark, a header, comma, double quotes.

An empty field is missing; a quoted empty field is an empty text. Every column is read as text and converted by its
declaration, so nothing is guessed from the first block. Arrow's parser accepts stray and unclosed quotes silently, so
the bytes pass through a check of their own on the way.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv

from connectors.declare import Declared
from connectors.files import stamp_of
from connectors.source import Source, Stamp
from party.errors import DataError

__all__ = ["CsvSource"]

BLOCK_BYTES = 1 << 20
HEADER_BYTES = 1 << 20
QUOTE, COMMA, LINE_FEED, RETURN = b'",\n\r'


class CsvSource(Source):
    """One CSV file."""

    inferring = True

    def __init__(self, path: Path, label: str, declared: Mapping[str, Declared], key: Sequence[str]) -> None:
        super().__init__(label, declared, key)
        self._path = path

    def _stamp(self) -> Stamp:
        return stamp_of(self._path, self.label)

    def _native(self) -> pa.Schema:
        names = _header(self._path, self.label)
        return pa.schema([pa.field(name, pa.string()) for name in names])

    def _count(self) -> int:
        columns = [self._checked_native().names[0]]
        return sum(batch.num_rows for batch in self._batches(columns, 0))

    def _batches(self, columns: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        names = self._checked_native().names
        failure = ""
        with open(self._path, "rb", buffering=0) as raw:
            checked = _Checked(raw, self.label)
            try:
                reader = arrow_csv.open_csv(
                    pa.PythonFile(checked, "r"),
                    read_options=arrow_csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
                    parse_options=arrow_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=len(names) > 1),
                    convert_options=arrow_csv.ConvertOptions(
                        column_types={name: pa.string() for name in names},
                        include_columns=list(columns),
                        null_values=[""],
                        strings_can_be_null=True,
                        quoted_strings_can_be_null=False,
                    ),
                )
                yield from reader
            except pa.ArrowException as error:
                failure = str(error)
        if failure and "Empty CSV" not in failure:  # a header without a line break: no rows
            raise _explain(failure, self.label)


def _header(path: Path, label: str) -> list[str]:
    with open(path, "rb") as file:
        start = file.read(HEADER_BYTES)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{label}: is UTF-16", hint="save it as UTF-8")
    if not start.removeprefix(codecs.BOM_UTF8).strip(b"\r\n"):
        raise DataError(f"{label}: is empty: not even a header")
    _Checked(io.BytesIO(), label).check(start)
    text = codecs.getincrementaldecoder("utf-8")().decode(start.removeprefix(codecs.BOM_UTF8))
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        names = next((row for row in rows if row), [])
    except csv.Error:
        names = []
    if not names:
        raise DataError(f"{label}: has no readable header line")
    if len(names) == 1 and (";" in names[0] or "\t" in names[0]):
        raise DataError(f"{label}: its columns are not separated by commas", hint="export it with commas (RFC 4180)")
    for place, name in enumerate(names, 1):
        if not name.strip():
            raise DataError(f"{label}: column {place} of the header has no name")
        if names.count(name) > 1:
            raise DataError(f"{label}: column {name!r} occurs more than once in the header")
    return names


def _explain(failure: str, label: str) -> DataError:
    """Arrow's message holds the line's values: only its numbers are kept. Its rows count the header."""
    ragged = re.search(r"Row #([0-9]+): Expected ([0-9]+) columns, got ([0-9]+)", failure)
    if ragged:
        row, expected, got = (int(part) for part in ragged.groups())
        return DataError(f"{label}: row {row - 1} has {got} fields, the header {expected}")
    hint = "RFC 4180: commas, double quotes, one header line, no line over 1 MiB"
    return DataError(f"{label}: is not valid CSV", hint=hint)


class _Checked(io.RawIOBase):
    """A file whose bytes are checked while they are read: UTF-8, no NUL, quotes only where RFC 4180 has them.

    A quote that opens stands after a separator (or after a closing quote: the doubled one); a quote that closes stands
    before one. Which is which follows from counting, across blocks.
    """

    def __init__(self, raw: io.RawIOBase | io.BytesIO, label: str) -> None:
        self._raw = raw
        self._label = label
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._line = 1
        self._open = False  # inside quotes
        self._last = LINE_FEED  # the byte before this block
        self._first = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        count = self._raw.readinto(view) or 0
        self.check(bytes(view[:count]), last=count == 0 and len(view) > 0)
        return count

    def read(self, size: int | None = -1) -> bytes:
        data = self._raw.read(BLOCK_BYTES if size is None or size < 0 else size) or b""
        self.check(data, last=not data and size != 0)
        return data

    def check(self, data: bytes, last: bool = False) -> None:
        """One more block. Raises DataError naming the line of the file."""
        try:
            self._decoder.decode(data, last)
        except UnicodeDecodeError as error:
            line = self._line + data.count(b"\n", 0, error.start)
            raise DataError(f"{self._label}: line {line} is not valid UTF-8", hint="save it as UTF-8") from None
        block = np.frombuffer(data, dtype=np.uint8)
        if self._first and data:
            self._first = False
            if data.startswith(codecs.BOM_UTF8):
                block = block[3:]
        zero = data.find(b"\0")
        if zero >= 0:
            line = self._line + data.count(b"\n", 0, zero)
            raise DataError(f"{self._label}: line {line} holds a NUL byte")
        self._check_quotes(block, last)
        self._line += data.count(b"\n")

    def _check_quotes(self, block: np.ndarray, last: bool) -> None:
        padded = np.empty(len(block) + 1, dtype=np.uint8)
        padded[0] = self._last
        padded[1:] = block
        quotes = np.flatnonzero(padded == QUOTE)
        if last:
            if self._open:
                raise DataError(f"{self._label}: a quoted field is never closed")
            return
        if not len(block):
            return
        # `_open` and the quotes before belong to earlier blocks; a quote that ends a block is judged with the next one
        inside = self._open
        fresh = quotes[quotes > 0]
        opens = (np.arange(len(fresh)) % 2 == 0) ^ inside
        before = padded[fresh - 1]
        bad = opens & ~_separates(before)
        follows = np.flatnonzero(quotes < len(padded) - 1)
        closing = np.zeros(len(padded), dtype=bool)
        closing[fresh[~opens]] = True
        if self._last == QUOTE and not inside and len(quotes) and quotes[0] == 0:
            closing[0] = True
        held = quotes[follows]
        wrong_after = held[closing[held] & ~_separates(padded[held + 1])]
        faults = np.concatenate([fresh[bad], wrong_after])
        if len(faults):
            line = self._line + int(np.count_nonzero(padded[1 : int(faults.min()) + 1] == LINE_FEED))
            hint = 'write a quote as "" within quotes'
            raise DataError(f"{self._label}: line {line} has a quote in the wrong place", hint=hint)
        self._open = inside ^ bool(len(fresh) % 2)
        self._last = int(padded[-1])


def _separates(byte: np.ndarray) -> np.ndarray:
    return np.isin(byte, (COMMA, LINE_FEED, RETURN, QUOTE))
