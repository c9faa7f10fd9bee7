"""Statistics equal pandas on the joined rows, NULLs pairwise left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mpc.statistics import plan as statistics
from party.errors import UsageError
from tests.mpc.sqlkit import Pair, context, tables
from tests.mpc.statkit import TABLES, both

NAMES = ["bank.balance", "bank.income", "telco.minutes", "telco.bill", "bank.defaulted"]


@pytest.fixture(scope="module")
def pair() -> Pair:
    return Pair.ideal()


def run(pair: Pair, asked: dict[str, list[str]], bank: Any, telco: Any, **options: Any) -> dict[str, Any]:
    planned = statistics.plan(asked, TABLES, context(bank.num_rows, **options))
    first, second = both(pair, planned, bank, telco)
    assert second is None
    assert first is not None
    return first


def frame(bank: Any, telco: Any) -> pd.DataFrame:
    joined = {}
    for name in NAMES:
        party, column = name.split(".")
        joined[name] = (bank if party == "bank" else telco)[column].to_pandas().astype(float)
    return pd.DataFrame(joined)


def test_matrices_equal_pandas(pair: Pair) -> None:
    bank, telco = tables(600)
    found = run(pair, {"correlation": NAMES, "covariance": NAMES[:3]}, bank, telco)
    joined = frame(bank, telco)
    assert found["correlation"]["columns"] == NAMES
    np.testing.assert_allclose(found["correlation"]["matrix"], joined.corr().to_numpy(), rtol=1e-9)
    np.testing.assert_allclose(found["covariance"]["matrix"], joined[NAMES[:3]].cov().to_numpy(), rtol=1e-9)


def test_numbers_equal_pandas(pair: Pair) -> None:
    bank, telco = tables(300, seed=5)
    asked = dict.fromkeys(("count", "mean", "variance", "std"), NAMES) | {"sum": ["bank.balance"]}
    found = run(pair, asked, bank, telco)
    joined = frame(bank, telco)
    assert found["count"] == {name: int(joined[name].count()) for name in NAMES}
    for kind, wanted in (("mean", joined.mean()), ("variance", joined.var()), ("std", joined.std())):
        assert found[kind] == pytest.approx(dict(wanted), rel=1e-9)
    assert found["sum"] == str(sum(value for value in bank["balance"].to_pylist() if value is not None))


def test_few_rows_give_none(pair: Pair) -> None:
    bank, telco = tables(19)
    found = run(pair, {"correlation": NAMES[:3], "count": NAMES[:2]}, bank, telco, min_rows=20)
    assert found["correlation"]["matrix"] == [[None] * 3] * 3
    assert found["count"] == {NAMES[0]: None, NAMES[1]: None}


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ({"median": ["bank.age"]}, "median"),
        ({"mean": ["bank.region"]}, "region"),
        ({"mean": ["bank.score"]}, "decimal"),
        ({"mean": ["bank.free"]}, "range"),
        ({"mean": ["age"]}, "party.column"),
        ({"correlation": ["bank.age"]}, "two"),
        ({"count": ["bank.nothing"]}, "nothing"),
    ],
)
def test_refuses(asked: dict[str, list[str]], word: str) -> None:
    with pytest.raises(UsageError) as caught:
        statistics.plan(asked, TABLES, context(100))
    assert caught.value.exit_code == 2
    assert word in f"{caught.value.message} {caught.value.hint}"
