"""Results out: to a temporary name beside the target, synced, then renamed; never over a file we did not write."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from party.certificate import sync_folder
from party.errors import InternalError, UsageError

__all__ = ["CsvSink", "ParquetSink", "Receipt", "Sink"]

PROTECTED = ("party.yaml", "policy.yaml", "keys", "state")


@dataclass(frozen=True)
class Receipt:
    """What was written: the path as given in the URL, rows, the file's SHA-256 in hex, its bytes."""

    path: str
    rows: int
    sha256: str
    bytes: int


class Sink(ABC):
    """One place for one result."""

    def __init__(self, path: Path, label: str, base: Path, inside: bool) -> None:
        self.label = label
        home = base.resolve()
        self._path = path.parent.resolve() / path.name  # the name itself is never followed if it is a link
        if path.name in ("", ".", ".."):
            raise UsageError(f"{label}: names no file")
        under = self._path.is_relative_to(home)
        if inside and not under:
            raise UsageError(f"{label}: leaves the home folder", hint="results of a job stay inside it")
        if under and self._path.relative_to(home).parts[0].lower() in PROTECTED:
            raise UsageError(f"{label}: no result is written over party.yaml, policy.yaml, keys/ or state/")

    @abstractmethod
    def _write(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch], file: pa.NativeFile) -> None:
        """Write all batches in this format."""

    def check(self, previous: Receipt | None = None) -> None:
        """Refuse now what `write` would refuse later: a file that is there and is not the one of `previous`.

        `previous` is the receipt of an earlier write of the same job. Raises UsageError.
        """
        if not os.path.lexists(self._path):
            return
        if self._path.is_symlink() or not self._path.is_file():
            raise UsageError(f"{self.label}: is there already and is not a plain file")
        if previous is None or previous.path != self.label or previous.sha256 != _file_digest(self._path):
            raise UsageError(
                f"{self.label}: is there already and was not written by this job, or was changed since",
                hint="move it away, or name another file",
            )

    def write(self, data: pa.Table | pa.RecordBatchReader, previous: Receipt | None = None) -> Receipt:
        """Write the rows, all or nothing: after an error the folder is as it was.

        Returns once file and folder are synced. Raises UsageError as `check` does, InternalError when the disk refuses.
        """
        self.check(previous)
        reason = ""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            return self._replace(data, previous is not None)
        except FileExistsError:
            reason = "appeared while it was being written"
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            reason = "no space left" if full else str(error.strerror)
        except pa.ArrowException as error:
            reason = f"the rows cannot be written ({type(error).__name__})"
        raise InternalError(f"{self.label}: could not be written: {reason}")

    def _replace(self, data: pa.Table | pa.RecordBatchReader, over: bool) -> Receipt:
        folder = self._path.parent
        temporary = folder / f".{self._path.name[:100]}.{secrets.token_hex(8)}.part"
        try:
            with _Digesting(temporary) as file:
                rows = _Counting(data)
                self._write(data.schema, rows, pa.PythonFile(file, "w"))
                os.fsync(file.fileno())
            if over:
                os.replace(temporary, self._path)
            else:
                _rename_new(temporary, self._path)
            sync_folder(folder)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        return Receipt(self.label, rows.rows, file.digest.hexdigest(), file.written)


class CsvSink(Sink):
    """RFC 4180 text in UTF-8: texts quoted, an empty field for a missing value, lines end in a line feed."""

    def _write(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch], file: pa.NativeFile) -> None:
        with arrow_csv.CSVWriter(file, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)


class ParquetSink(Sink):
    """One Parquet file, compressed with zstd, with page checksums."""

    def _write(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch], file: pa.NativeFile) -> None:
        with pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer:
            for batch in batches:
                writer.write_batch(batch)


class _Counting:
    """The batches of a table or a stream, counted while they pass."""

    def __init__(self, data: pa.Table | pa.RecordBatchReader) -> None:
        self._data = data
        self.rows = 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        batches = self._data.to_batches() if isinstance(self._data, pa.Table) else self._data
        for batch in batches:
            self.rows += batch.num_rows
            yield batch


class _Digesting(io.FileIO):
    """A new file of mode 0600 that knows the SHA-256 of what was written to it."""

    def __init__(self, path: Path) -> None:
        super().__init__(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w")
        self.digest = hashlib.sha256()
        self.written = 0

    def write(self, data: bytes | memoryview, /) -> int:  # type: ignore[override]
        view = memoryview(data).cast("B")
        place = 0
        while place < len(view):  # a disk may take less than it is given
            place += super().write(view[place:]) or 0
        self.digest.update(view)
        self.written += len(view)
        return len(view)


def _file_digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _rename_new(temporary: Path, target: Path) -> None:
    """Rename that fails when the target exists: a link is made in one step, a plain rename would replace."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
            raise
        os.replace(temporary, target)  # a file system without hard links
