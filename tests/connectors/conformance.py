"""What every connector must do. A connector's test inherits `SourceConformance` and says how to make a table.

class TestMine(SourceConformance):
    def put(self, folder, table): ...  # write this Arrow table where the connector finds it, return its URL
"""

from __future__ import annotations

import datetime
from abc import ABC, abstractmethod
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from connectors import Declared, Source, measure, open_source
from party.errors import DataError, FileError, InternalError, UsageError

SECRET = b"a secret of this side alone....."
AMOUNTS = (150, None, -225, 0, 1001, 310)
SAMPLE = pa.table(
    {
        "id": pa.array(["007", "+4479", None, "1e5", 'Zoë, "x"', "a\nb"]),
        "n": pa.array([1, None, -3, 2**62, 0, 5], pa.int64()),
        "amount": pa.array([Decimal(n).scaleb(-2) if n is not None else None for n in AMOUNTS], pa.decimal128(9, 2)),
        "x": pa.array([0.5, -1.25e-9, None, 3.75e10, 0.1, 2.5], pa.float64()),
        "flag": pa.array([True, False, None, True, False, True]),
        "day": pa.array([datetime.date(2020, 2, 29), None, *[datetime.date(1969, 12, 31)] * 4]),
        "at": pa.array([datetime.datetime(2020, 1, 2, 3, 4, 5, 678900), None, *[datetime.datetime(1960, 1, 1)] * 4]),
        "word": pa.array(["north", "", None, "it's", " padded ", "south"]),
    }
)
KINDS = {
    "n": Declared.of("integer"),
    "amount": Declared.of("decimal(12,2)"),
    "x": Declared.of("float"),
    "flag": Declared.of("bool"),
    "day": Declared.of("date"),
    "at": Declared.of("timestamp"),
    "word": Declared.of("string"),
}
EXPECTED = SAMPLE.set_column(2, "amount", SAMPLE["amount"].cast(pa.decimal128(12, 2)))


class SourceConformance(ABC):
    """Inherit, implement `put`, and the tests below run for your connector."""

    @abstractmethod
    def put(self, folder: Path, table: pa.Table) -> str:
        """Store the table under this folder; the URL to open it by, relative to the folder."""

    def touch(self, folder: Path, table: pa.Table) -> None:
        """Store another table in the place of the first."""
        self.put(folder, table)

    def open(self, folder: Path, table: pa.Table = SAMPLE, key: tuple[str, ...] = ("id",), **kinds: Declared) -> Source:
        return open_source(self.put(folder, table), folder, kinds, key)

    def refused(self, folder: Path, values: list[Any], kind: Declared, what: str, row: int) -> None:
        """This column is refused: the error names row and column, and no value."""
        source = self.open(folder, pa.table({"id": ["k"] * len(values), "v": values}), v=kind)
        with pytest.raises(DataError, match=f"row {row}, column 'v': .*{what}") as caught:
            source.read(["v"])
        assert caught.value.exit_code == 6
        assert caught.value.message.startswith(f"{source.label}: ") and caught.value.hint
        text = f"{caught.value} {caught.value.hint or ''}"
        assert caught.value.__context__ is None or not str(caught.value.__context__)
        secret = str(values[row - 1])
        assert secret in ("nan", "inf") or len(secret) < 3 or secret not in text

    # ---- values

    def test_declared_types_come_out_exactly(self, tmp_path: Path) -> None:
        source = self.open(tmp_path, **KINDS)
        assert source.read(SAMPLE.column_names).equals(EXPECTED.cast(source.read(SAMPLE.column_names).schema))
        assert source.rows() == 6

    def test_types_are_found_without_declarations(self, tmp_path: Path) -> None:
        fields = {field.name: field for field in self.open(tmp_path).schema()}
        assert [fields[name].kind.type for name in SAMPLE.column_names] == [
            "string",
            "integer",
            "decimal",
            "float",
            "bool",
            "date",
            "timestamp",
            "string",
        ]
        assert fields["amount"].kind.scale == 2
        assert fields["id"].key
        assert not any(field.declared for field in fields.values())

    def test_a_declaration_wins_and_is_marked(self, tmp_path: Path) -> None:
        source = self.open(tmp_path, n=Declared.of("float", range=[-10, 2**63]))
        fields = {field.name: field for field in source.schema()}
        assert fields["n"].declared
        assert fields["n"].kind.type == "float"

    def test_limits_apply_to_a_type_that_was_found(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="row 4, column 'n': outside the declared range"):
            self.open(tmp_path, n=Declared.of(range=[-10, 10])).read(["n"])

    def test_keys_are_text_whatever_they_look_like(self, tmp_path: Path) -> None:
        table = pa.table({"id": ["007", "12", "+44", "1.0", None, "9" * 25], "v": [1, 2, 3, 4, 5, 6]})
        assert self.open(tmp_path, table).read(["id"])["id"].to_pylist() == table["id"].to_pylist()

    def test_whole_number_keys_become_canonical_text(self, tmp_path: Path) -> None:
        table = pa.table({"id": pa.array([5, 12345678901234567, -1], pa.int64())})
        assert self.open(tmp_path, table).read(["id"])["id"].to_pylist() == ["5", "12345678901234567", "-1"]

    def test_columns_come_in_the_order_asked_for(self, tmp_path: Path) -> None:
        assert self.open(tmp_path).read(["word", "id", "n"]).column_names == ["word", "id", "n"]

    @pytest.mark.parametrize(("columns", "batch_rows"), [([], 10), (["n", "n"], 10), (["n"], 0)])
    def test_a_scan_that_makes_no_sense_is_refused(self, tmp_path: Path, columns: list[str], batch_rows: int) -> None:
        with pytest.raises(UsageError):
            self.open(tmp_path).scan(columns, batch_rows)

    @pytest.mark.parametrize("batch_rows", [1, 7, 1000, 5000])
    def test_batches_have_the_rows_asked_for_in_order(self, tmp_path: Path, batch_rows: int) -> None:
        table = pa.table({"id": [f"k{i:05}" for i in range(3000)], "n": list(range(3000))})
        batches = list(self.open(tmp_path, table).scan(["n"], batch_rows))
        assert all(batch.num_rows == batch_rows for batch in batches[:-1])
        assert pa.Table.from_batches(batches)["n"].to_pylist() == list(range(3000))

    def test_a_table_without_rows_is_a_table(self, tmp_path: Path) -> None:
        source = self.open(tmp_path, SAMPLE.slice(0, 0), **KINDS)
        assert source.rows() == 0
        assert source.read(["id", "n"]).num_rows == 0

    def test_a_column_without_values_is_all_null(self, tmp_path: Path) -> None:
        table = pa.table({"id": ["a", "b"], "n": pa.array([None, None], pa.int64())})
        assert self.open(tmp_path, table, n=Declared.of("decimal(5,1)")).read(["n"])["n"].to_pylist() == [None, None]

    def test_a_float_column_declared_decimal_is_read_by_its_shortest_form(self, tmp_path: Path) -> None:
        values = [0.1, 2.675, -1.005, 123456789.12, 0.29, 1e15 + 0.5, None]
        table = pa.table({"id": ["k"] * 7, "v": pa.array(values, pa.float64())})
        read = self.open(tmp_path, table, v=Declared.of("decimal(20,3)")).read(["v"])["v"].to_pylist()
        assert read == [None if value is None else Decimal(repr(value)) for value in values]

    # ---- refusals

    @pytest.mark.parametrize(
        ("values", "kind", "what", "row"),
        [
            ([0.5, 1.234567, 0.1], Declared.of("decimal(8,2)"), "does not fit", 2),
            ([1.0, 123456.5], Declared.of("decimal(6,2)"), "does not fit", 2),
            ([1.5, float("nan")], Declared.of("float"), "NaN", 2),
            ([1.5, 2.5, float("inf")], Declared.of("float"), "infinite", 3),
            ([1.5, float("-inf")], Declared.of("decimal(9,3)", nan_null=True), "(infinite|not a number)", 2),
            ([10, 20, 12345], Declared.of("integer", range=[0, 100]), "declared range", 3),
            ([10.5, -777.25], Declared.of("decimal(9,2)", range=[-700, 700]), "declared range", 2),
            ([10.5, 700.25], Declared.of("float", range=[0, 700]), "declared range", 2),
            (["north", "western"], Declared.of("string", domain=["north", "south"]), "declared domain", 2),
            (["true", "maybe"], Declared.of("bool"), "neither true nor false", 2),
            ([1, 0, 222], Declared.of("bool"), "neither true nor false", 3),
            (["1", "2", "12a45"], Declared.of("integer"), "whole number", 3),
            (["1", "9" * 19], Declared.of("integer"), "64 bits", 2),
            ([1.0, 1.75], Declared.of("integer"), "whole number", 2),
            (["1.5", "someone"], Declared.of("decimal(9,2)"), "not a number", 2),
            (["2020-01-01", "2020-02-31"], Declared.of("date"), "not a date", 2),
            ([1, 2, None], Declared.of("integer", nullable=False), "missing, declared `nullable: false`", 3),
            (["a", None], Declared.of("string", nullable=False), "missing, declared `nullable: false`", 2),
            ([float("nan"), 1.5], Declared.of("float", nan_null=True, nullable=False), "missing", 1),
            (["2020-01-01 10:00:00", "2020-01-01T25:00:00"], Declared.of("timestamp"), "not a timestamp", 2),
        ],
    )
    def test_values_that_do_not_fit_are_refused(
        self, tmp_path: Path, values: list[Any], kind: Declared, what: str, row: int
    ) -> None:
        self.refused(tmp_path, values, kind, what, row)

    def test_rows_are_counted_through_the_batches(self, tmp_path: Path) -> None:
        values = [1] * 70_000
        values[69_123] = 10**6
        self.refused(tmp_path, values, Declared.of("integer", range=[0, 10]), "range", 69_124)

    def test_nan_is_missing_where_the_owner_says_so(self, tmp_path: Path) -> None:
        table = pa.table({"id": ["a", "b"], "v": [float("nan"), 1.5]})
        for kind in ("float", "decimal(5,1)"):
            assert self.open(tmp_path, table, v=Declared.of(kind, nan_null=True)).read(["v"])["v"].null_count == 1

    @pytest.mark.parametrize("key", [("id",), ("idd",)])
    def test_a_missing_column_names_the_nearest(self, tmp_path: Path, key: tuple[str, ...]) -> None:
        source = self.open(tmp_path, key=key, wrod=Declared.of("string"))
        with pytest.raises(FileError) as caught:
            source.schema()
        assert caught.value.hint in ("did you mean 'word'?", "did you mean 'id'?")
        with pytest.raises(UsageError, match="no column 'amuont'"):
            self.open(tmp_path).scan(["amuont"])

    def test_a_missing_table_is_a_file_error(self, tmp_path: Path) -> None:
        url = self.put(tmp_path, SAMPLE)
        with pytest.raises(FileError) as caught:
            open_source(url + "x", tmp_path).rows()
        assert caught.value.exit_code == 2

    # ---- changes

    def test_a_change_between_two_questions_is_noticed(self, tmp_path: Path) -> None:
        source = self.open(tmp_path, **KINDS)
        source.read(["n"])
        self.touch(tmp_path, SAMPLE.slice(0, 3))
        with pytest.raises(DataError, match="changed while it was being read"):
            source.read(["n"])

    def test_a_change_during_a_scan_is_noticed(self, tmp_path: Path) -> None:
        table = pa.table({"id": [f"key {i}" for i in range(300_000)], "n": list(range(300_000))})
        source = self.open(tmp_path, table, n=Declared.of("integer"))
        scan = source.scan(["n"], 1000)
        next(scan)
        self.touch(tmp_path, table.slice(0, 250_000))
        with pytest.raises(DataError, match="changed while it was being read"):
            list(scan)

    def test_the_digest_follows_content_order_and_secret(self, tmp_path: Path) -> None:
        columns = ["id", "n", "amount", "x", "flag", "day", "at", "word"]
        seen = {self.open(tmp_path, **KINDS).content_digest(columns, SECRET)}
        assert self.open(tmp_path, **KINDS).content_digest(columns, SECRET) in seen
        seen.add(self.open(tmp_path, **KINDS).content_digest(columns, SECRET[::-1]))
        seen.add(self.open(tmp_path, **KINDS).content_digest(columns[::-1], SECRET))
        order = [1, 0, 2, 3, 4, 5]
        seen.add(self.open(tmp_path, SAMPLE.take(order), **KINDS).content_digest(columns, SECRET))
        for name in columns:
            place = columns.index(name)
            swapped = SAMPLE.set_column(place, name, SAMPLE[name].take(order))
            seen.add(self.open(tmp_path, swapped, **KINDS).content_digest(columns, SECRET))
        assert len(seen) == 4 + len(columns)
        assert all(len(digest) == 32 for digest in seen)
        with pytest.raises(InternalError):
            self.open(tmp_path).content_digest(columns, b"short")

    def test_measures_are_those_of_the_values(self, tmp_path: Path) -> None:
        source = self.open(tmp_path, **KINDS)
        assert (measure(source, "n").low, measure(source, "n").high) == (-3, 2**62)
        amount = measure(source, "amount")
        assert (amount.rows, amount.nulls, amount.low, amount.high) == (6, 1, -225, 1001)
        assert (measure(source, "day").low, measure(source, "at").high) == (-1, 1_577_934_245_678_900)
        assert measure(source, "word").distinct == ("", " padded ", "it's", "north", "south")
        assert measure(source, "word", cap=4).distinct is None
        assert measure(source, "flag").distinct == (False, True)
