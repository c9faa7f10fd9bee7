"""Which connector reads or writes which URL scheme. A new connector is one module and one line here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from connectors.csv_file import CsvSource
from connectors.declare import Declared
from connectors.files import local_path, split_url
from connectors.parquet_file import ParquetSource
from connectors.sink import CsvSink, ParquetSink, Sink
from connectors.source import Source
from party.errors import UsageError

__all__ = ["SINKS", "SOURCES", "open_sink", "open_source"]

SOURCES: dict[str, type[CsvSource] | type[ParquetSource]] = {"csv": CsvSource, "parquet": ParquetSource}
SINKS: dict[str, type[Sink]] = {"csv": CsvSink, "parquet": ParquetSink}


def open_source(
    url: str, base: Path, declared: Mapping[str, Declared] | None = None, key: Sequence[str] = ()
) -> Source:
    """The table at this URL (`csv:data/customers.csv`), relative to `base` (the home folder) or absolute.

    Nothing is read yet. Raises UsageError for an unknown scheme.
    """
    scheme, rest = split_url(url)
    return SOURCES[_known(scheme, SOURCES)](local_path(rest, base), rest, declared or {}, key)


def open_sink(url: str, base: Path, inside: bool = True) -> Sink:
    """A place for results. `inside`: the path stays under `base` (the home folder), links resolved.

    Raises UsageError for an unknown scheme, a path that leaves, or a file of the home that no result may replace.
    """
    scheme, rest = split_url(url)
    return SINKS[_known(scheme, SINKS)](local_path(rest, base), rest, base, inside)


def _known(scheme: str, table: Mapping[str, object]) -> str:
    if scheme in table:
        return scheme
    near = difflib.get_close_matches(scheme, list(table), 1, 0.5)
    hint = f"did you mean {near[0]}:?" if near else "known: " + ", ".join(f"{name}:" for name in sorted(table))
    raise UsageError(f"no connector for {scheme}:", hint=hint)
