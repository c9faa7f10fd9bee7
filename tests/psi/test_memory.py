"""Memory stays flat: what an alignment holds does not grow with the lists, but for the answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.psi import measure


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(900)
def test_four_times_the_keys_take_hardly_more_memory(tmp_path: Path) -> None:
    few = measure(200_000, "parquet", "text", tmp_path)
    many = measure(800_000, "parquet", "text", tmp_path)
    print(few, many)
    assert 0 < few["memory_mb"] < 200 and 0 < many["memory_mb"] < 200
    assert many["memory_mb"] - few["memory_mb"] < 40
