"""Statistics ask for the right grants, open what they name and no small cell, and refuse what makes no sense."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from connectors import evaluate
from mpc.sql import TABLE
from mpc.sql.expr import Expr
from mpc.sql.local import groups
from mpc.sql.ordered import ordered
from mpc.statistics import plan as statistics
from mpc.statistics.distributions import chi_squared_tail, t_two_sided
from mpc.statistics.wanted import Wanted
from party.errors import DataError, PeerError, UsageError
from party.request import Use
from tests.mpc.sqlkit import Pair, context, tables
from tests.mpc.statkit import TABLES, ask, both, frame

AGE = "bank.age"
PREPAID = "telco.prepaid"


@pytest.fixture(scope="module")
def pair() -> Pair:
    return Pair.ideal()


def plan(asked: dict[str, Any], **options: Any) -> statistics.StatisticsPlan:
    return statistics.plan(asked, TABLES, context(100, **options))


# --- tail probabilities -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dof", [1, 2, 3, 10, 63, 100, 1000, 3969])
def test_the_chi_squared_tail_is_scipys(dof: int) -> None:
    spread = dof**0.5
    for x in (0, 1e-12, 0.3, dof - spread / 2, dof, dof + 1, dof + 1.0001, dof + 3 * spread, 3 * dof + 20, 12 * dof):
        wanted = stats.chi2.sf(x, dof)
        if wanted > 1e-290:
            assert chi_squared_tail(max(x, 0), dof) == pytest.approx(wanted, rel=1e-11)


@pytest.mark.parametrize("dof", [1, 1.5, 2, 3.7, 10, 59, 61, 500, 9_999, 10_001, 1e6, 2e9])
def test_the_tails_of_t_are_scipys(dof: float) -> None:
    for t in (0, 1e-4, -0.3, 1.2, 1.7, 1.74, -2.5, 5, 12, 30):
        wanted = 2 * stats.t.sf(abs(t), dof)
        if wanted > 1e-290:
            assert t_two_sided(t, dof) == pytest.approx(wanted, rel=1e-10)


# --- what an owner computes over all its rows -------------------------------------------------------------------------


class Column:
    categories = None

    def __init__(self, values: list[int | None]) -> None:
        self.values = np.array([value or 0 for value in values], dtype=np.int64)
        self.valid = np.array([value is not None for value in values], dtype=np.uint8)


def made(op: str, values: list[int | None], *sizes: int) -> list[int | None]:
    args = (Expr("column", "integer"), *(Expr("literal", "integer", value=size) for size in sizes))
    found = ordered(Expr(op, "integer", args), Column(values))
    return [int(value) if valid else None for value, valid in zip(found.values, found.valid, strict=True)]


def test_ranks_are_twice_scipys_mid_ranks() -> None:
    values = [5, -1, 5, None, 9, 5, -1, 0]
    known = [value for value in values if value is not None]
    ranks = iter((2 * stats.rankdata(known)).astype(int).tolist())
    assert made("rank", values) == [0 if value is None else next(ranks) for value in values]
    assert made("rank", [None, None]) == [0, 0] and made("rank", []) == []


def test_no_bin_is_under_the_smallest_size_and_none_shows_an_end() -> None:
    rng = np.random.default_rng(4)
    for trial in range(200):
        rows, spread = int(rng.integers(1, 80)), int(rng.integers(1, 40))
        values = [int(v) if v < spread - 1 else None for v in rng.integers(0, spread, rows)]
        bins, least, share = int(rng.integers(2, 12)), int(rng.integers(1, 9)), int(rng.integers(0, 200_000))
        number, above, to = (made(op, values, bins, least, share) for op in ("bin", "bin_above", "bin_to"))
        known = [v for v in values if v is not None]
        smallest = max(least, -(-share * len(known) // 10**6))
        sizes = [number.count(place) for place in range(max([n for n in number if n is not None], default=-1) + 1)]
        assert all(size >= smallest for size in sizes) or len(sizes) == 1, trial
        assert sum(sizes) == len(known) and len(sizes) <= bins
        for value, place, low, high in zip(values, number, above, to, strict=True):
            assert (value is None) == (place is None)
            if value is not None:
                assert (low is None) == (place == 0) and (high is None) == (place == len(sizes) - 1)
                assert (low is None or low < value) and (high is None or value <= high)
                assert {low, high} - {None} <= set(known)


def test_a_column_without_any_value_has_no_bin() -> None:
    for values in ([], [None], [None, None]):
        for op in ("bin", "bin_above", "bin_to"):
            assert made(op, values, 3, 1, 0) == values


def test_rows_without_a_value_are_a_bin_only_if_there_are_enough() -> None:
    values = [1, 2, None, None, 3]
    assert made("binned", values, 2, 2, 0) == [1, 1, 1, 1, 1]
    assert made("binned", values, 2, 3, 0) == [1, 1, 0, 0, 1]
    assert made("binned", values, 2, 1, 500_000) == [1, 1, 0, 0, 1]


# --- grants and openings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "wanted", "uses"),
    [
        ("histogram", Wanted((AGE,)), {"bank.age group"}),
        ("chi_squared", Wanted(("bank.region",), "telco.plan"), {"bank.region group", "telco.plan group"}),
        ("t_test", Wanted(("bank.income",), PREPAID), {"bank.income aggregate", "telco.prepaid aggregate"}),
        ("auc", Wanted(("bank.income",), PREPAID), {"bank.income rank", "telco.prepaid aggregate"}),
        ("ks", Wanted(("bank.income",), PREPAID), {"bank.income group", "bank.income rank", "telco.prepaid aggregate"}),
        (
            "woe",
            Wanted(("bank.income",), PREPAID),
            {"bank.income group", "bank.income rank", "telco.prepaid aggregate"},
        ),
        ("woe", Wanted(("bank.region",), PREPAID), {"bank.region group", "telco.prepaid aggregate"}),
        ("stability", Wanted((AGE,), PREPAID), {"bank.age group", "bank.age rank", "telco.prepaid aggregate"}),
        ("quantiles", Wanted((AGE,)), {"bank.age rank"}),
        ("vif", Wanted((AGE, "telco.late")), {"bank.age aggregate", "telco.late aggregate"}),
    ],
)
def test_each_kind_asks_for_its_grants_and_no_other(kind: str, wanted: Wanted, uses: set[str]) -> None:
    found = plan({kind: wanted}).request.uses
    keys = {Use("bank", "customers", "phone", "join"), Use("telco", "subscribers", "msisdn", "join")}
    assert {f"{use.party}.{use.column} {use.use}" for use in found - keys} == uses and keys <= found


def test_plans_of_one_item_have_names_of_their_own_and_are_equal_on_both_sides() -> None:
    asked = {kind: Wanted((AGE, "bank.income"), PREPAID) for kind in ("t_test", "auc", "ks", "woe", "stability")}
    first, second = plan(asked), plan(dict(asked))
    assert [one.canonical() for one in first.plans] == [one.canonical() for one in second.plans]
    names = [one.name for one in first.plans]
    assert len(set(names)) == len(names) == 10 and "q.woe.bank.income" in names


def test_the_plan_says_what_each_kind_opens() -> None:
    asked = {
        "woe": Wanted((AGE,), PREPAID, bins=7),
        "auc": Wanted((AGE,), PREPAID),
        "histogram": Wanted(("telco.late",), bins=3),
        "t_test": Wanted((AGE,), PREPAID),
        "chi_squared": Wanted(("bank.region",), "telco.plan"),
    }
    told = "\n".join(line for one in plan(asked, to=("telco",), min_rows=20).plans for line in one.explain())
    for words in (
        "woe of bank.age by telco.prepaid: the rows of each bin in each of both groups, and the bins' inner edges",
        "at most 7 bins",
        "auc of bank.age by telco.prepaid: rows, and the sum of the ranks",
        "histogram of telco.late: the rows of each of 3 bins, cut at 4, 8",
        "sum of squares of bank.age",
        "the table of rows of both columns' values",
        "telco learns the values of bin of bank.age, its lower edge, its upper edge of shown groups",
        "numbers over fewer than 20 rows stay hidden",
        "a bin with fewer than 20 rows in either group is hidden",
        "the table is hidden if a cell of it has rows, but fewer than 20",
    ):
        assert words in told, told


@pytest.mark.parametrize("to", [("bank",), ("telco",), ("bank", "telco")])
def test_each_receiver_gets_the_same_and_the_ledgers_name_it(pair: Pair, to: tuple[str, ...]) -> None:
    bank, telco = tables(400)
    asked = {"woe": Wanted((AGE, "telco.bill"), PREPAID, bins=4), "t_test": Wanted((AGE,), PREPAID)}
    planned = statistics.plan(asked, TABLES, context(400, to=to, min_rows=10))
    wanted = ask(pair, asked, bank, telco, min_rows=10)
    results = both(pair, planned, bank, telco)
    for party, found in zip(("bank", "telco"), results, strict=True):
        assert found == (wanted if party in to else None)
    named = {(opening.what, opening.to) for opening in planned.request.openings}
    for ledger in pair.ledgers:
        assert {(fields["what"], fields["to"]) for _, fields in ledger.events} <= named
    assert all(pair.ledgers[place].events for place in (0, 1) if ("telco", "bank")[place] in to)


def test_a_small_cell_is_hidden_and_its_bin_has_no_weight(pair: Pair) -> None:
    """Bin 3 of 4 holds 100 rows, 4 of them of group 1: neither these nor what a total would tell of them is shown."""
    values, flags = [i // 100 for i in range(400)], [i % 100 < (4 if i // 100 == 2 else 40) for i in range(400)]
    bank, telco = tables(400)
    bank = bank.set_column(3, "age", pa.array([20 + v for v in values], pa.int64()))
    telco = telco.set_column(4, "prepaid", pa.array(flags))
    asked = {kind: Wanted((AGE,), PREPAID, bins=4) for kind in ("woe", "stability", "ks")}
    found = ask(pair, asked, bank, telco, min_rows=20)
    for kind, table in found.items():
        summary, details = frame(table).iloc[0], frame(table["details"])
        assert not summary["complete"]
        # the bin, and the smallest other one: else who knows that 124 rows are of group 1 would subtract
        assert details["bin"].tolist() == ["(20, 21]", "> 22"]
        assert details[["rows_0", "rows_1"]].to_numpy().tolist() == [[60, 40]] * 2
        if kind == "ks":
            assert summary["ks"] is None
        else:
            assert summary["iv" if kind == "woe" else "psi"] == 0.0


def test_a_group_under_the_smallest_size_shows_neither_mean_nor_area(pair: Pair) -> None:
    bank, telco = tables(300)
    telco = telco.set_column(4, "prepaid", pa.array([i < 5 for i in range(300)]))
    found = ask(pair, {kind: Wanted((AGE,), PREPAID) for kind in ("t_test", "auc")}, bank, telco, min_rows=20)
    assert [frame(found[kind]).iloc[0, 2:].isna().all() for kind in ("t_test", "auc")] == [True, True]


def test_fewer_rows_than_the_smallest_group_show_nothing(pair: Pair) -> None:
    bank, telco = tables(19)
    telco = telco.set_column(4, "prepaid", pa.array([i % 2 == 0 for i in range(19)]))
    kinds = ("t_test", "auc", "ks", "woe", "stability")
    found = ask(pair, {kind: Wanted((AGE,), PREPAID) for kind in kinds}, bank, telco, min_rows=20)
    assert found["woe"]["details"]["rows"] == found["ks"]["details"]["rows"] == []
    assert not found["woe"]["rows"][0][-1]
    histogram = ask(pair, {"histogram": Wanted((AGE,), bins=3)}, bank, telco, min_rows=20)["histogram"]
    assert [row[-1] for row in histogram["rows"]] == [None] * 3


def test_the_real_engine_gives_what_the_ideal_one_gives(pair: Pair) -> None:
    bank, telco = tables(300)
    telco = telco.set_column(4, "prepaid", pa.array([i % 3 == 0 for i in range(300)]))
    asked: dict[str, Any] = {
        kind: Wanted((AGE, "bank.balance"), PREPAID) for kind in ("t_test", "auc", "ks", "woe", "stability")
    } | {"chi_squared": Wanted(("bank.region",), "telco.plan"), "vif": [AGE, "telco.bill", "telco.late"]}
    assert ask(Pair.real(), asked, bank, telco, min_rows=5) == ask(pair, asked, bank, telco, min_rows=5)


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_a_missing_label_stops_an_auc_at_its_owner_before_anything_is_sent() -> None:
    _, telco = tables(50)
    (made,) = plan({"auc": Wanted((AGE,), PREPAID)}).plans
    with pytest.raises(DataError) as caught:
        groups(made, 1, evaluate(telco, made.local["telco"], TABLE), 50)
    assert caught.value.exit_code == 6 and "prepaid is missing" in caught.value.message
    assert "every aligned row" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"median": [AGE]}, "no statistic 'median'"),
        ({"woe": [AGE]}, "woe wants `by`"),
        ({"woe": Wanted((AGE,), AGE)}, "by itself"),
        ({"woe": Wanted((AGE,), "bank.region")}, "declared to hold 0 and 1"),
        ({"auc": Wanted((AGE,), "telco.late")}, "range: [0, 1]"),
        ({"woe": Wanted((AGE,), PREPAID, bins=1)}, "between 2 and 64"),
        ({"woe": Wanted((AGE,), PREPAID, bins=65)}, "between 2 and 64"),
        ({"woe": Wanted((AGE,), PREPAID, min_share=0.6)}, "between 0 and 0.5"),
        ({"woe": Wanted((AGE,), PREPAID, merge=1.0)}, "level of significance"),
        ({"woe": Wanted((AGE,), PREPAID, edges=("1",))}, "woe takes no `edges`"),
        ({"t_test": Wanted((AGE,), PREPAID, bins=3)}, "t_test takes no `bins`"),
        ({"count": Wanted((AGE,), PREPAID)}, "count takes no `by`"),
        ({"t_test": Wanted(("bank.region",), PREPAID)}, "t_test takes numbers"),
        ({"t_test": Wanted(("bank.score",), PREPAID)}, "decimal(p,s)"),
        ({"t_test": Wanted(("bank.free",), PREPAID)}, "range"),
        ({"auc": Wanted(("bank.score",), PREPAID)}, "decimal(p,s)"),
        ({"auc": Wanted(("bank.region",), PREPAID)}, "auc orders numbers"),
        ({"ks": Wanted(("bank.opened",), PREPAID)}, "ks orders numbers"),
        ({"ks": Wanted(("bank.region",), PREPAID)}, "ks orders numbers"),
        ({"chi_squared": Wanted(("bank.balance",), "telco.plan")}, "categories are texts"),
        ({"chi_squared": Wanted(("bank.region",), "telco.bill")}, "categories are texts"),
        ({"histogram": Wanted(("bank.region",))}, "GROUP BY"),
        ({"histogram": Wanted(("bank.free",))}, "edges"),
        ({"histogram": Wanted(("bank.score",))}, "edges"),
        ({"histogram": Wanted((AGE,), edges=("3", "2"))}, "ascend"),
        ({"histogram": Wanted((AGE,), edges=("x",))}, "numbers in digits"),
        ({"histogram": Wanted((AGE,), bins=3, edges=("2",))}, "either `bins` or `edges`"),
        ({"woe": Wanted((), PREPAID)}, "one or more"),
        ({"woe": Wanted((AGE, AGE), PREPAID)}, "different columns"),
        ({"woe": Wanted(("bank.nothing",), PREPAID)}, "nothing"),
        ({"woe": Wanted(("age",), PREPAID)}, "party.column"),
        ({"quantiles": Wanted((AGE,), at=("1.1",))}, "between 0 and 1"),
        ({"quantiles": Wanted((AGE,), at=("0.5", "0.50"))}, "twice"),
        ({"quantiles": Wanted(("bank.free",))}, "range"),
        ({"quantiles": Wanted(("bank.region",))}, "quantiles takes numbers"),
        ({"mean": Wanted((AGE,), at=("0.5",))}, "mean takes no `at`"),
        ({"vif": [AGE]}, "two or more"),
        ({"vif": [AGE, "bank.region"]}, "vif takes numbers"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan(asked)
    assert caught.value.exit_code == 2
    assert words in f"{caught.value.message} {caught.value.hint}"


def test_an_area_over_rows_that_have_no_label_is_refused() -> None:
    kept = replace(context(100), unmatched="telco")
    with pytest.raises(UsageError, match="kept without a match"):
        statistics.plan({"auc": Wanted((AGE,), PREPAID)}, TABLES, kept)
    assert statistics.plan({"t_test": Wanted((AGE,), PREPAID)}, TABLES, kept).plans


BINS = [(0, None, 20), (1, 20, 30), (2, 30, None)]
WRONG_BINS = {
    "twice": [(0, None, 20), (0, None, 21), (2, 30, None)],
    "overlapping": [(0, None, 20), (1, 19, 30), (2, 30, None)],
    "a gap": [(0, None, 20), (1, 21, 30), (2, 30, None)],
    "backwards": [(0, None, 20), (1, 20, 10), (2, 10, None)],
    "a closed end": [(0, 1, 20), (1, 20, 30), (2, 30, None)],
    "an open middle": [(0, None, 20), (1, 20, None), (2, 30, None)],
    "a negative number": [(-1, None, 20), (1, 20, 30), (2, 30, None)],
}


@pytest.mark.parametrize("case", WRONG_BINS)
def test_labels_that_are_no_bins_are_the_peers_fault(case: str) -> None:
    from mpc.sql.result import Result
    from mpc.statistics import binned

    planned = plan({"woe": Wanted((AGE,), PREPAID)})

    def close(bins: list[tuple[int, int | None, int | None]]) -> Any:
        rows = [
            {"bin": number, "above": above, "to": to, "class": flag, "rows": 30}
            for number, above, to in bins
            for flag in (False, True)
        ]
        result = Result(("bin", "above", "to", "class", "rows"), tuple(rows), 0)
        return binned.close("woe", planned.asked["woe"], {AGE: result}, planned.setting)

    assert len(close(BINS)["details"]["rows"]) == 3
    with pytest.raises(PeerError) as caught:
        close(WRONG_BINS[case])
    assert caught.value.exit_code == 7
