"""A keyed digest of columns: finds out whether a table's content is still the same, without telling anyone else."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from party.errors import InternalError

__all__ = ["ContentDigest"]

LABEL = b"tallystick/v1/connectors/content/"


class ContentDigest:
    """Keyed BLAKE2b over columns fed batch by batch; how the rows were cut into batches does not matter.

    Three streams a column (which values are there, lengths of texts, bytes), each with a hasher; folded at the end.
    """

    def __init__(self, key: bytes) -> None:
        if not 16 <= len(key) <= 64:
            raise InternalError("a content digest needs a secret key of 16 to 64 bytes")
        self._key = key
        self._outer = hashlib.blake2b(LABEL, key=key, digest_size=32)
        self._streams: list[tuple[hashlib.blake2b, hashlib.blake2b, hashlib.blake2b]] = []
        self._rows = 0

    def column(self, name: str, kind: str) -> None:
        """Announce the next column."""
        for text in (name, kind):
            data = text.encode()
            self._outer.update(len(data).to_bytes(8, "big") + data)
        fresh = hashlib.blake2b(key=self._key)
        self._streams.append((fresh, fresh.copy(), fresh.copy()))

    def batch(self, batch: pa.RecordBatch) -> None:
        """Feed the next rows of all announced columns."""
        self._rows += batch.num_rows
        for array, (valid, lengths, content) in zip(batch.columns, self._streams, strict=True):
            valid.update(pc.is_valid(array).to_numpy(zero_copy_only=False).astype(np.uint8).tobytes())
            if pa.types.is_string(array.type):
                filled = pc.fill_null(array, "")
                lengths.update(pc.binary_length(filled).to_numpy(zero_copy_only=False).astype("<i8"))
                content.update("".join(filled.to_pylist()).encode())
            elif pa.types.is_decimal(array.type):
                content.update(_decimal_bytes(array))
            else:
                content.update(_number_bytes(array))

    def finish(self) -> bytes:
        """32 bytes."""
        self._outer.update(self._rows.to_bytes(8, "big"))
        for streams in self._streams:
            for stream in streams:
                self._outer.update(stream.digest())
        return self._outer.digest()


def _number_bytes(array: pa.Array) -> bytes:
    if pa.types.is_boolean(array.type):
        numbers = pc.fill_null(array, False).cast(pa.int64())
    elif pa.types.is_date(array.type):
        numbers = pc.fill_null(array.cast(pa.int32()), 0).cast(pa.int64())
    elif pa.types.is_timestamp(array.type):
        numbers = pc.fill_null(array.cast(pa.int64()), 0)
    else:
        numbers = pc.fill_null(array, 0)
    return np.ascontiguousarray(numbers.to_numpy(zero_copy_only=False)).tobytes()


def _decimal_bytes(array: pa.Array) -> bytes:
    """16 bytes a value, little-endian two's complement; zero where there is none."""
    words = np.frombuffer(array.buffers()[1], dtype="<i8").reshape(-1, 2)[array.offset : array.offset + len(array)]
    valid = pc.is_valid(array).to_numpy(zero_copy_only=False)
    return np.where(valid[:, None], words, 0).astype("<i8").tobytes()
