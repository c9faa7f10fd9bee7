"""Local files: where a URL points, and what tells one state of a file from another."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from connectors.source import Stamp, path_identity
from party.errors import FileError, UsageError

__all__ = ["local_path", "split_url", "stamp_of"]


def split_url(url: str) -> tuple[str, str]:
    """`parquet:data/customers.parquet` -> its scheme and the rest. Raises UsageError."""
    scheme, colon, rest = url.partition(":")
    if not colon or not scheme.isascii() or not scheme.isalnum() or not rest:
        hint = "for example csv:data/customers.csv or parquet:scores.parquet"
        raise UsageError(f"{url!r} is not a table's URL", hint=hint)
    return scheme.lower(), rest


def local_path(rest: str, base: Path) -> Path:
    """The path part of a URL, relative to the home folder unless absolute."""
    if "\0" in rest or "\n" in rest:
        raise UsageError("a path holds no line break and no NUL")
    return base / rest


def stamp_of(path: Path, label: str) -> Stamp:
    """The file's present state. Raises FileError when it is missing, not a regular file, or not readable."""
    try:
        found = os.stat(path)
        readable = os.access(path, os.R_OK)
    except FileNotFoundError:
        raise FileError("no such file", file=label, hint="paths are relative to the home folder") from None
    except OSError as error:
        raise FileError(f"cannot be read: {error.strerror}", file=label) from None
    if not stat.S_ISREG(found.st_mode):
        raise FileError("is not a file", file=label)
    if not readable:
        raise FileError("cannot be read: permission denied", file=label)
    return Stamp(found.st_size, found.st_mtime_ns, path_identity(found.st_dev, found.st_ino))
