"""Answers as Arrow tables: sums of more than 64 bits arrive whole."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from connectors import open_sink
from pipelines.results import rows_table


@pytest.mark.parametrize("big", [2**63, -(2**63) - 1, 2**144 + 1])
def test_integers_of_more_than_64_bits_are_decimals(big: int) -> None:
    table = rows_table(["s", "n", "t"], [{"s": big, "n": 2**63 - 1, "t": "a"}, {"s": None, "n": -(2**63), "t": None}])
    assert table["s"].to_pylist() == [Decimal(big), None]
    assert table.schema.field("n").type == pa.int64()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_they_can_be_written(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"out.{kind}"
    open_sink(f"{kind}:{path}", tmp_path).write(rows_table(["s"], [{"s": 2**100}]))
    assert path.stat().st_size
    if kind == "csv":
        assert str(2**100) in path.read_text()
