"""Random small tables with missing values, ties and extremes: every statistic is that of the pooled rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from mpc.statistics import plan as statistics
from mpc.statistics.wanted import Wanted
from tests.mpc.sqlkit import BANK as BANK_COLUMNS
from tests.mpc.sqlkit import TELCO as TELCO_COLUMNS
from tests.mpc.sqlkit import Pair, arrow, context, tables
from tests.mpc.statkit import TABLES, both, frame

X, FLAG = "bank.income", "telco.prepaid"


@pytest.fixture(scope="module")
def pair() -> Pair:
    return Pair.ideal()


def drawn(seed: int) -> tuple[pd.DataFrame, Any, Any, int]:
    """A number column of the bank and a flag of the telco; few or many rows, values, missing ones."""
    rng = np.random.default_rng(seed)
    rows, spread = int(rng.integers(2, 90)), int(rng.choice([1, 2, 5, 1_000_001]))
    values = rng.integers(0, spread, rows)
    values[rng.random(rows) < 0.1] = spread - 1
    x = [None if miss else int(v) for v, miss in zip(values, rng.random(rows) < rng.choice([0, 0.2]), strict=True)]
    chance = rng.choice([0.1, 0.5])
    flag = [bool(v) for v in rng.random(rows) < chance]
    bank, telco = tables(rows, seed)
    bank = arrow(BANK_COLUMNS, {name: bank[name].to_pylist() for name in bank.column_names} | {"income": x})
    telco = arrow(TELCO_COLUMNS, {name: telco[name].to_pylist() for name in telco.column_names} | {"prepaid": flag})
    return pd.DataFrame({"x": pd.array(x, dtype="float64"), "flag": flag}), bank, telco, int(rng.choice([1, 1, 3, 8]))


def close(found: Any, wanted: float) -> bool:
    """Equal to 1e-9; nothing for what is no number."""
    if not math.isfinite(wanted):
        return found is None
    return found is not None and math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-12)


@pytest.mark.filterwarnings("ignore:Precision loss:RuntimeWarning")
@pytest.mark.parametrize("seed", range(40))
def test_random_tables(pair: Pair, seed: int) -> None:
    pooled, bank, telco, least = drawn(seed)
    asked = {kind: Wanted((X,), FLAG) for kind in ("t_test", "auc")}
    asked |= {kind: Wanted((X,), FLAG, bins=4) for kind in ("ks", "woe", "stability")}
    planned = statistics.plan(asked, TABLES, context(len(pooled), min_rows=least))
    tables_of = both(pair, planned, bank, telco)[0]
    found = {kind: frame(table).iloc[0] for kind, table in tables_of.items()}
    known = pooled.dropna()
    zeros, ones = known["x"][~known["flag"]], known["x"][known["flag"]]
    small = any(0 < len(part) < least for part in (zeros, ones)) or len(zeros) == 0 or len(ones) == 0
    if small:
        assert found["auc"]["auc"] is None and found["t_test"]["welch_t"] is None
    else:
        assert close(found["auc"]["auc"], roc_auc_score(known["flag"], known["x"]))
        if min(len(zeros), len(ones)) > 1:
            with np.errstate(all="ignore"):
                wanted = stats.ttest_ind(ones, zeros, equal_var=False)
            constant = zeros.var() + ones.var() == 0
            assert close(found["t_test"]["welch_t"], math.nan if constant else float(wanted.statistic))
            assert close(found["t_test"]["welch_p"], math.nan if constant else float(wanted.pvalue))
    if found["ks"]["complete"] and found["ks"]["ks"] is not None:
        edges = [float(row[3]) for row in tables_of["ks"]["details"]["rows"][:-1]]
        gaps = [abs((zeros <= edge).mean() - (ones <= edge).mean()) for edge in edges]
        assert close(found["ks"]["ks"], max(gaps, default=0.0))
    iv, psi = found["woe"]["iv"], found["stability"]["psi"]
    assert (iv is None and psi is None) or close(iv, psi)
    if least == 1 and len(zeros) and len(ones):
        assert found["woe"]["iv"] is not None and found["woe"]["rows_0"] + found["woe"]["rows_1"] == len(pooled)
