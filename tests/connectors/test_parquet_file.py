"""Parquet sources: the conformance suite, and what is special to typed files."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connectors import Declared, open_source
from party.errors import DataError, FileError
from tests.connectors.conformance import SAMPLE, SourceConformance


class TestParquetSource(SourceConformance):
    def put(self, folder: Path, table: pa.Table) -> str:
        pq.write_table(table, folder / "table.parquet", row_group_size=1000, write_page_checksum=True)
        return "parquet:table.parquet"


def stored(folder: Path, column: pa.Array, key: tuple[str, ...] = (), **kinds: Declared) -> list[object]:
    pq.write_table(pa.table({"v": column}), folder / "t.parquet")
    values: list[object] = open_source("parquet:t.parquet", folder, kinds, key).read(["v"])["v"].to_pylist()
    return values


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1.0, 2.0]),
        pa.array([Decimal("1.5")]),
        pa.array([True]),
        pa.array([datetime.datetime(2020, 1, 1)]),
    ],
)
def test_a_key_that_lost_its_digits_is_refused(tmp_path: Path, column: pa.Array) -> None:
    with pytest.raises(FileError, match="key column 'v' is stored as"):
        stored(tmp_path, column, key=("v",))


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1], [2]]),
        pa.array([{"a": 1}]),
        pa.array([b"x"]),
        pa.array([1], pa.duration("s")),
        pa.array([1], pa.time32("s")),
        pa.array([Decimal("1." + "1" * 45)], pa.decimal256(60, 45)),
        pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16], pa.binary(16))),
    ],
)
def test_types_nobody_can_compute_with_are_refused(tmp_path: Path, column: pa.Array) -> None:
    with pytest.raises(FileError, match="column 'v' has"):
        stored(tmp_path, column)


@pytest.mark.parametrize(
    ("column", "kind", "expected"),
    [
        (pa.array(["a", "b", None]).dictionary_encode(), None, ["a", "b", None]),
        (pa.array(["a"], pa.large_string()), None, ["a"]),
        (pa.array([1, 255], pa.uint8()), None, [1, 255]),
        (pa.array([1.5, None], pa.float32()), None, [1.5, None]),
        (pa.array([None, None], pa.null()), None, [None, None]),
        (pa.array([1.0, None, 3.0]), "integer", [1, None, 3]),
        (pa.array([1.0, 0.0, None]), "bool", [True, False, None]),
        (pa.array([7, None]), "decimal(4,2)", [Decimal("7.00"), None]),
        (pa.array([Decimal("1.50")]), "decimal(9,1)", [Decimal("1.5")]),
        (pa.array([12, None]), "string", ["12", None]),
        (pa.array([datetime.datetime(2020, 1, 2)]), "date", [datetime.date(2020, 1, 2)]),
        (
            pa.array([datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC)], pa.timestamp("us", "Europe/Berlin")),
            None,
            [datetime.datetime(2020, 1, 2)],
        ),
    ],
)
def test_other_stored_types_are_converted_exactly(
    tmp_path: Path, column: pa.Array, kind: str | None, expected: list[object]
) -> None:
    assert stored(tmp_path, column, **({"v": Declared.of(kind)} if kind else {})) == expected


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pa.array([1, 2**63], pa.uint64()), "integer"),
        (pa.array([1, 2**53 + 1]), "float"),
        (pa.array([Decimal("1.00"), Decimal("1.25")]), "decimal(9,1)"),
        (pa.array([datetime.datetime(2020, 1, 2), datetime.datetime(2020, 1, 2, 1)]), "date"),
        (pa.array([1, 1000]), "decimal(4,2)"),
    ],
)
def test_what_would_lose_something_is_refused(tmp_path: Path, column: pa.Array, kind: str) -> None:
    with pytest.raises(DataError, match="row 2, column 'v'"):
        stored(tmp_path, column, v=Declared.of(kind))


def test_shortest_form_agrees_with_repr_on_many_floats(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    units = np.concatenate([random.integers(-(10**17), 10**17, 4000), random.integers(-(10**6), 10**6, 4000)])
    values = units / 10 ** random.integers(0, 5, len(units))
    fits = [Decimal(repr(value)) == round(Decimal(repr(value)), 4) for value in values.tolist()]
    kept = values[np.array(fits)]
    read = stored(tmp_path, pa.array(kept), v=Declared.of("decimal(38,4)"))
    assert len(kept) > 4000
    assert read == [Decimal(repr(value)) for value in kept.tolist()]


@pytest.mark.parametrize("value", [0.12345, 1e-300, 5e-324, 1.7e308, 1e30])
def test_a_float_beyond_the_digits_is_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(DataError, match="row 2, column 'v': does not fit"):
        stored(tmp_path, pa.array([0.5, value]), v=Declared.of("decimal(20,4)"))


@pytest.mark.parametrize("at", [0.0, 0.3, 0.6, 0.999])
def test_a_damaged_file_is_refused(tmp_path: Path, at: float) -> None:
    table = pa.table({"id": [f"k{i}" for i in range(5000)], "n": list(range(5000))})
    pq.write_table(table, tmp_path / "t.parquet", write_page_checksum=True, compression="none")
    data = bytearray((tmp_path / "t.parquet").read_bytes())
    place = int(at * len(data))
    for offset in range(place, min(place + 40, len(data))):
        data[offset] ^= 0xA5
    (tmp_path / "t.parquet").write_bytes(data)
    source = open_source("parquet:t.parquet", tmp_path, {}, ["id"])
    with pytest.raises((DataError, FileError)):
        source.read(["id", "n"])


@pytest.mark.parametrize("data", [b"", b"PAR1", b"not parquet at all", b"PAR1" + b"\0" * 100 + b"PAR1"])
def test_what_is_no_parquet_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t.parquet").write_bytes(data)
    with pytest.raises(DataError, match="not a readable Parquet file"):
        open_source("parquet:t.parquet", tmp_path).schema()


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    pq.write_table(SAMPLE, tmp_path / "t.parquet")
    whole = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(whole[:-20])
    with pytest.raises(DataError):
        open_source("parquet:t.parquet", tmp_path).rows()


def test_a_column_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["v", "v"])
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(DataError, match="occurs more than once"):
        open_source("parquet:t.parquet", tmp_path).schema()


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    broken = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")])
    pq.write_table(pa.table({"v": broken}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="damaged"):
        open_source("parquet:t.parquet", tmp_path).read(["v"])
