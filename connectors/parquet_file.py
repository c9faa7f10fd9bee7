"""`parquet:` tables: one file, read row group by row group without read-ahead, checksums checked when present."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from connectors.convert import native_declaration
from connectors.declare import Declared
from connectors.files import stamp_of
from connectors.source import BATCH_ROWS, Source, Stamp
from party.errors import DataError

__all__ = ["ParquetSource"]

_BUFFER = 1 << 20  # bytes of a column read at one time, whatever a row group has


class ParquetSource(Source):
    """One Parquet file."""

    def __init__(self, path: Path, label: str, declared: Mapping[str, Declared], key: Sequence[str]) -> None:
        super().__init__(label, declared, key)
        self._path = path

    def _stamp(self) -> Stamp:
        return stamp_of(self._path, self.label)

    def _native(self) -> pa.Schema:
        with self._opened() as file:
            schema = file.schema_arrow
        for field in schema:
            native_declaration(field.type, field.name, self.label)  # refuses what nobody here can read
        return schema

    def _count(self) -> int:
        with self._opened() as file:
            return int(file.metadata.num_rows)

    def _batches(self, columns: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        with self._opened() as file:
            for batch in file.iter_batches(batch_rows or BATCH_ROWS, columns=list(columns), use_threads=False):
                yield batch.select(list(columns))

    @contextmanager
    def _opened(self) -> Iterator[pq.ParquetFile]:
        damaged = False
        try:
            # not mapped into memory: a file that shrinks under a mapping kills the process
            with pq.ParquetFile(
                self._path, memory_map=False, pre_buffer=False, buffer_size=_BUFFER, page_checksum_verification=True
            ) as file:
                yield file
        except (pa.ArrowException, OSError):
            damaged = True
        if damaged:
            raise DataError(f"{self.label}: is not a readable Parquet file, or is damaged")
