"""Statistics of one column against another equal pandas, scipy and scikit-learn on the pooled rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from mpc.statistics.wanted import Wanted
from tests.mpc.sqlkit import Pair, tables
from tests.mpc.statkit import ask, frame, joined

LABELS = {"bank.balance": "telco.prepaid", "telco.late": "bank.defaulted", "bank.income": "bank.defaulted"}


@pytest.fixture(scope="module")
def pair() -> Pair:
    return Pair.ideal()


def data(rows: int, seed: int = 1) -> tuple[pa.Table, pa.Table]:
    """Bank rows of which the balance depends on the telco's flag."""
    bank, telco = tables(rows, seed)
    rng = np.random.default_rng(seed)
    late = [int(v) for v in rng.poisson(3, rows).clip(0, 12)]
    return bank, telco.set_column(telco.column_names.index("late"), "late", pa.array(late, pa.int64()))


def whole(column: pd.Series) -> pd.Series:
    return column.astype(float)


@pytest.mark.parametrize("min_rows", [1, 20])
def test_chi_squared_is_scipys(pair: Pair, min_rows: int) -> None:
    bank, telco = data(900)
    telco = telco.set_column(3, "plan", pa.array([("a", "b", None, "c")[i * i % 4] for i in range(900)]))
    found = ask(
        pair, {"chi_squared": Wanted(("bank.region", "bank.defaulted"), "telco.plan")}, bank, telco, min_rows=min_rows
    )
    summary = frame(found["chi_squared"]).set_index("column")
    pooled = joined(bank, telco)
    for name in ("bank.region", "bank.defaulted"):
        table = pd.crosstab(pooled[name], pooled["telco.plan"])
        wanted = stats.chi2_contingency(table, correction=False)
        row = summary.loc[name]
        assert (row["rows"], row["dof"], row["complete"]) == (int(table.to_numpy().sum()), wanted.dof, True)
        assert row["statistic"] == pytest.approx(wanted.statistic, rel=1e-9)
        assert row["p"] == pytest.approx(wanted.pvalue, rel=1e-9)
        details = frame(found["chi_squared"]["details"])
        mine = details[details["column"] == name]
        counts = mine.pivot(index="value", columns="by_value", values="rows")
        assert (counts.to_numpy() == table.to_numpy()).all()
        expected = mine.pivot(index="value", columns="by_value", values="expected")
        np.testing.assert_allclose(expected.to_numpy(), wanted.expected_freq, rtol=1e-12)


def test_a_table_with_a_small_cell_is_not_shown_at_all_and_an_empty_cell_is_zero(pair: Pair) -> None:
    bank, _ = data(300)
    bank = bank.set_column(4, "region", pa.array([("north", "south")[i % 2] for i in range(300)]))
    for small in (0, 1, 19, 20):
        # of 60 rows with plan b, all but `small` are in the north
        north = [i for i in range(300) if i % 2 == 0][: 60 - small]
        south = [i for i in range(300) if i % 2][:small]
        _, telco = data(300)
        telco = telco.set_column(3, "plan", pa.array(["b" if i in (*north, *south) else "a" for i in range(300)]))
        found = ask(pair, {"chi_squared": Wanted(("bank.region",), "telco.plan")}, bank, telco, min_rows=20)
        summary, rows = frame(found["chi_squared"]).iloc[0], found["chi_squared"]["details"]["rows"]
        if 0 < small < 20:
            assert not rows and not summary["complete"]
            assert summary[["rows", "statistic", "dof", "p"]].isna().all()
        else:
            assert sorted(row[4] for row in rows) == sorted([60 - small, small, 90 + small, 150 - small])
            table = [[60 - small, 90 + small], [small, 150 - small]]
            assert summary["p"] == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue, rel=1e-9)


@pytest.mark.parametrize("min_rows", [1, 20])
@pytest.mark.parametrize("name", LABELS)
def test_t_tests_are_scipys(pair: Pair, name: str, min_rows: int) -> None:
    bank, telco = data(700)
    found = frame(ask(pair, {"t_test": Wanted((name,), LABELS[name])}, bank, telco, min_rows=min_rows)["t_test"]).iloc[
        0
    ]
    pooled = joined(bank, telco)[[name, LABELS[name]]].dropna()
    zeros, ones = (whole(pooled[pooled[LABELS[name]] == flag][name]) for flag in (False, True))
    assert (found["rows_0"], found["rows_1"]) == (len(zeros), len(ones))
    for form, equal in (("welch", False), ("pooled", True)):
        wanted = stats.ttest_ind(ones, zeros, equal_var=equal)
        assert found[f"{form}_t"] == pytest.approx(wanted.statistic, rel=1e-9)
        assert found[f"{form}_dof"] == pytest.approx(wanted.df, rel=1e-9)
        assert found[f"{form}_p"] == pytest.approx(wanted.pvalue, rel=1e-9)
    for flag, rows in enumerate((zeros, ones)):
        assert found[f"mean_{flag}"] == pytest.approx(rows.mean(), rel=1e-9)
        assert found[f"std_{flag}"] == pytest.approx(rows.std(), rel=1e-9)


def required(bank: pa.Table, telco: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Both flags without missing values."""

    def flags(table: pa.Table, name: str) -> pa.Table:
        column = table[name].combine_chunks().fill_null(False)
        return table.set_column(table.column_names.index(name), name, column)

    return flags(bank, "defaulted"), flags(telco, "prepaid")


@pytest.mark.parametrize("min_rows", [1, 20])
@pytest.mark.parametrize("name", LABELS)
def test_auc_is_scikit_learns_with_ties_and_missing_values(pair: Pair, name: str, min_rows: int) -> None:
    bank, telco = required(*data(700))
    found = frame(ask(pair, {"auc": Wanted((name,), LABELS[name])}, bank, telco, min_rows=min_rows)["auc"]).iloc[0]
    pooled = joined(bank, telco)[[name, LABELS[name]]].dropna()
    area = roc_auc_score(pooled[LABELS[name]].astype(int), whole(pooled[name]))
    assert found["auc"] == pytest.approx(area, rel=1e-12)
    assert found["gini"] == pytest.approx(2 * area - 1, rel=1e-9)
    assert found["rows_0"] + found["rows_1"] == len(pooled)


def cut(values: pd.Series, bins: int, least: int = 1) -> list[float]:
    """The inner edges: quantiles of the inverted distribution function, bins under the least joined upwards."""
    edges = np.unique(np.quantile(values, [i / bins for i in range(1, bins)], method="inverted_cdf"))
    edges = edges[edges < values.max()]
    kept: list[float] = []
    for edge in edges:
        if ((values > (kept[-1] if kept else -np.inf)) & (values <= edge)).sum() >= least:
            kept.append(float(edge))
    while kept and (values > kept[-1]).sum() < least:
        kept.pop()
    return kept


@pytest.mark.parametrize("min_rows", [1, 20])
@pytest.mark.parametrize(("name", "bins"), [("bank.balance", 10), ("telco.late", 10), ("bank.income", 3)])
def test_ks_is_the_largest_distance_of_both_shares_at_the_cuts(pair: Pair, name: str, bins: int, min_rows: int) -> None:
    bank, telco = data(1500)
    found = ask(pair, {"ks": Wanted((name,), LABELS[name], bins=bins)}, bank, telco, min_rows=min_rows)["ks"]
    summary, details = frame(found).iloc[0], frame(found["details"])
    pooled = joined(bank, telco)[[name, LABELS[name]]]
    edges = cut(whole(pooled[name].dropna()), bins, min_rows)
    assert [float(edge) for edge in details["to"][:-1]] == edges
    pooled = pooled.dropna()
    zeros, ones = (whole(pooled[pooled[LABELS[name]] == flag][name]) for flag in (False, True))
    distances = [abs((zeros <= edge).mean() - (ones <= edge).mean()) for edge in edges]
    assert summary["complete"] and summary["bins"] == len(edges) + 1
    assert summary["ks"] == pytest.approx(max(distances), rel=1e-12)
    assert float(summary["at"]) == edges[int(np.argmax(distances))]
    if name == "telco.late" and min_rows == 1:  # with a bin for every value it is scipy's
        found = ask(pair, {"ks": Wanted((name,), LABELS[name], bins=64)}, bank, telco, min_rows=1)["ks"]
        assert frame(found).iloc[0]["ks"] == pytest.approx(stats.ks_2samp(zeros, ones).statistic, rel=1e-12)


def shares(pooled: pd.DataFrame, groups: pd.Series, by: str) -> pd.DataFrame:
    counts = pd.crosstab(groups, pooled[by]).rename(columns={False: "zeros", True: "ones"})
    more = np.where((counts["zeros"] == 0) | (counts["ones"] == 0), 0.5, 0)
    counts["share_0"] = (counts["zeros"] + more) / counts["zeros"].sum()
    counts["share_1"] = (counts["ones"] + more) / counts["ones"].sum()
    counts["woe"] = np.log(counts["share_0"] / counts["share_1"])
    counts["iv"] = (counts["share_0"] - counts["share_1"]) * counts["woe"]
    return counts


def binned(values: pd.Series, edges: list[float]) -> pd.Series:
    """The number of the bin, -1 for a missing value."""
    return pd.cut(whole(values), [-np.inf, *edges, np.inf], labels=False).fillna(-1)


@pytest.mark.parametrize("min_rows", [1, 20])
@pytest.mark.parametrize("name", LABELS)
def test_weight_of_evidence_and_stability_are_those_of_pandas(pair: Pair, name: str, min_rows: int) -> None:
    bank, telco = data(1500)
    by = LABELS[name]
    wanted = Wanted((name,), by, bins=5, min_share=0.1)
    found = ask(pair, {"woe": wanted, "stability": wanted}, bank, telco, min_rows=min_rows)
    pooled = joined(bank, telco)
    values = whole(pooled[name].dropna())
    edges = cut(values, 5, max(min_rows, -(-len(values) // 10)))
    told = shares(pooled[pooled[by].notna()], binned(pooled[name], edges)[pooled[by].notna()], by)
    details, summary = frame(found["woe"]["details"]), frame(found["woe"]).iloc[0]
    missing = told.index[0] == -1
    order = [*told.index[1:], -1] if missing else list(told.index)
    told = told.loc[order]
    assert details["rows_0"].tolist() == told["zeros"].tolist() and details["rows_1"].tolist() == told["ones"].tolist()
    np.testing.assert_allclose(details["woe"].astype(float), told["woe"], rtol=1e-9)
    np.testing.assert_allclose(details["iv"].astype(float), told["iv"], rtol=1e-9)
    assert summary["iv"] == pytest.approx(told["iv"].sum(), rel=1e-9)
    assert summary["complete"] and summary["bins"] == len(told)
    assert details["bin"].isna().tolist() == [False] * (len(told) - missing) + [True] * int(missing)
    assert frame(found["stability"]).iloc[0]["psi"] == pytest.approx(told["iv"].sum(), rel=1e-9)


def test_weight_of_evidence_of_categories(pair: Pair) -> None:
    bank, telco = data(800)
    found = ask(pair, {"woe": Wanted(("bank.region", "bank.branch"), "telco.prepaid")}, bank, telco, min_rows=1)["woe"]
    pooled = joined(bank, telco)
    pooled = pooled[pooled["telco.prepaid"].notna()]
    details = frame(found["details"])
    for name in ("bank.region", "bank.branch"):
        told = shares(pooled, pooled[name].fillna("-"), "telco.prepaid")
        mine = details[details["column"] == name].fillna({"bin": "-"}).set_index("bin")
        assert set(mine.index) == set(told.index)
        np.testing.assert_allclose(mine["woe"].astype(float), told.loc[mine.index, "woe"], rtol=1e-9)
        row = frame(found).set_index("column").loc[name]
        assert row["iv"] == pytest.approx(told["iv"].sum(), rel=1e-9)


def test_merged_bins_all_differ_from_their_neighbours_and_keep_all_rows(pair: Pair) -> None:
    bank, telco = data(2000)
    high = [bool(v > 5) if v is not None else None for v in telco["late"].to_pylist()]
    bank = bank.set_column(6, "defaulted", pa.array(high))
    plain, merged = (
        ask(pair, {"woe": Wanted(("telco.late", "bank.income"), "bank.defaulted", bins=10, merge=level)}, bank, telco)[
            "woe"
        ]
        for level in (None, 0.01)
    )
    for name, bins in (("telco.late", 2), ("bank.income", 1)):
        before, after = (frame(one["details"]) for one in (plain, merged))
        before, after = before[before["column"] == name], after[after["column"] == name]
        known = after[after["bin"].notna()]
        assert len(known) == bins < len(before)
        for column in ("rows_0", "rows_1"):
            assert before[column].sum() == after[column].sum()
        assert known[["to"]].iloc[-1].isna().all() and known[["above"]].iloc[0].isna().all()
        assert set(known["to"].dropna()) <= set(before["to"])
    assert frame(merged["details"])["to"].iloc[0] == 5


def test_histograms_are_numpys(pair: Pair) -> None:
    bank, telco = data(500)
    asked = {"histogram": Wanted(("bank.balance", "telco.late"), edges=("-100.5", "0", "99999.99"))}
    found = frame(ask(pair, asked, bank, telco)["histogram"])
    pooled = joined(bank, telco)
    for name in ("bank.balance", "telco.late"):
        wanted = np.histogram(-whole(pooled[name].dropna()), [-np.inf, -99999.99, 0, 100.5, np.inf])[0][::-1]
        # numpy's bins hold their lower edge, ours their upper one: so the numbers are negated
        assert found[found["column"] == name]["rows"].tolist() == wanted.tolist()
    found = frame(ask(pair, {"histogram": Wanted(("telco.late", "bank.balance"), bins=4)}, bank, telco)["histogram"])
    late = found[found["column"] == "telco.late"]
    assert late["to"].tolist() == [3, 6, 9, None]
    assert late["rows"].tolist() == pd.cut(pooled["telco.late"], [-1, 3, 6, 9, 12]).value_counts(sort=False).tolist()
    assert found[found["column"] == "bank.balance"]["to"].tolist()[:3] == ["1750000.00", "4500000.00", "7250000.00"]
    floats = ask(pair, {"histogram": Wanted(("bank.score",), edges=("0.25", "0.5"))}, bank, telco)["histogram"]
    score = pooled["bank.score"]
    assert [row[-1] for row in floats["rows"]] == [
        int((score <= 0.25).sum()),
        int(((score > 0.25) & (score <= 0.5)).sum()),
        int((score > 0.5).sum()),
    ]


def test_quantiles_are_numpys(pair: Pair) -> None:
    bank, telco = data(301)
    names, at = ("bank.balance", "telco.late"), ("0", "0.05", "0.5", "0.75", "1")
    found = frame(ask(pair, {"quantiles": Wanted(names, at=at), "mean": ["bank.age"]}, bank, telco)["quantiles"])
    pooled = joined(bank, telco)
    for name in names:
        wanted = np.quantile(whole(pooled[name].dropna()), [float(one) for one in at])
        np.testing.assert_allclose(found[found["column"] == name]["quantile"].astype(float), wanted, rtol=1e-9)
    quartiles = ask(pair, {"quantiles": ["telco.late"]}, bank, telco)["quantiles"]["rows"]
    assert [row[1] for row in quartiles] == [0.25, 0.5, 0.75]
    few = ask(pair, {"quantiles": ["telco.late"]}, *data(19), min_rows=20)["quantiles"]["rows"]
    assert [row[2] for row in few] == [None] * 3


def test_variance_inflation_is_the_diagonal_of_the_inverse_correlations(pair: Pair) -> None:
    bank, telco = data(600)
    base = [v or 0 for v in bank["income"].to_pylist()]
    minutes = [min(100_000, v // 20 + i * 37 % 9000) for i, v in enumerate(base)]
    telco = telco.set_column(1, "minutes", pa.array(minutes, pa.int64()))
    bank = bank.set_column(2, "income", pa.array(base, pa.int64()))
    names = ["bank.income", "telco.minutes", "bank.age", "telco.late"]
    found = frame(ask(pair, {"vif": names}, bank, telco)["vif"])
    pooled = joined(bank, telco)[names].astype(float)
    for place, name in enumerate(names):
        others = np.column_stack([np.ones(600), pooled.drop(columns=name)])
        y = pooled[name].to_numpy()
        rest = y - others @ np.linalg.lstsq(others, y, rcond=None)[0]
        assert found["vif"][place] == pytest.approx(((y - y.mean()) ** 2).sum() / (rest**2).sum(), rel=1e-8)
    assert found["vif"][0] > 10


def test_constants_and_empty_classes_have_no_statistic(pair: Pair) -> None:
    bank, telco = required(*data(200))
    bank = bank.set_column(2, "income", pa.array([7] * 200, pa.int64()))
    by = "telco.prepaid"
    found = ask(
        pair,
        {kind: Wanted(("bank.income",), by) for kind in ("t_test", "auc", "ks", "woe", "stability")}
        | {"vif": ["bank.income", "bank.age", "telco.late"]},
        bank,
        telco,
    )
    assert frame(found["t_test"]).iloc[0]["welch_t"] is None
    assert frame(found["auc"]).iloc[0]["auc"] == 0.5
    assert frame(found["ks"]).iloc[0]["ks"] == 0.0
    assert found["ks"]["details"]["rows"][0][1] == "all"
    assert frame(found["woe"]).iloc[0][["iv", "bins"]].tolist() == [0.0, 1]
    assert frame(found["stability"]).iloc[0]["psi"] == 0.0
    assert found["vif"]["rows"][0][1] is None and found["vif"]["rows"][1][1] == pytest.approx(1.0, abs=0.1)
    telco = telco.set_column(4, "prepaid", pa.array([False] * 200))
    found = ask(
        pair, {kind: Wanted(("bank.age",), by) for kind in ("t_test", "auc", "ks", "woe", "stability")}, bank, telco
    )
    assert [found[kind]["rows"][0][4] for kind in ("auc", "ks", "woe", "stability")] == [None] * 4
    assert frame(found["t_test"]).iloc[0]["welch_t"] is None


def test_a_collinear_column_has_no_variance_inflation(pair: Pair) -> None:
    bank, telco = data(300)
    telco = telco.set_column(1, "minutes", pa.array([v * 3 for v in bank["age"].to_pylist()], pa.int64()))
    found: Any = ask(pair, {"vif": ["bank.age", "telco.minutes", "telco.late"]}, bank, telco)["vif"]
    assert [row[1] for row in found["rows"]] == [None, None, None]
