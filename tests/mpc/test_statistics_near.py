"""Statistics and the guard of the history: what is compared, and when it says that a few rows would show."""

from __future__ import annotations

import pyarrow as pa
import pytest

from mpc.statistics import plan as statistics
from mpc.statistics.wanted import Wanted
from tests.mpc.near_twin import Session
from tests.mpc.sqlkit import Pair, context, tables
from tests.mpc.statkit import TABLES

ROWS, LEAST = 200, 20
FLAG = "telco.prepaid"


def session(ages: list[int | None], incomes: list[int | None]) -> Session:
    """Bank columns as given; the telco's flag is true in every second row."""
    bank, telco = tables(ROWS, 3)
    bank = bank.set_column(3, "age", pa.array(ages, pa.int64())).set_column(2, "income", pa.array(incomes, pa.int64()))
    telco = telco.set_column(4, "prepaid", pa.array([i % 2 == 0 for i in range(ROWS)]))
    return Session(Pair.ideal(), bank, telco, LEAST)


def near(asked: Session, kind: str, wanted: Wanted) -> bool:
    """What the guard says; it counts as answered when it is not refused."""
    (made,) = statistics.plan({kind: wanted}, TABLES, context(ROWS, min_rows=LEAST)).plans
    said = asked.near(made)
    if not said:
        asked.answered.append(made)
    return said


def test_columns_with_other_missing_values_are_the_same_rows() -> None:
    asked = session([20 + i % 50 if i > 4 else None for i in range(ROWS)], [i * 37 % 1000 for i in range(ROWS)])
    for kind, column in (
        ("t_test", "bank.age"),
        ("t_test", "bank.income"),
        ("auc", "bank.age"),
        ("auc", "bank.income"),
    ):
        assert not near(asked, kind, Wanted((column,), FLAG)), (kind, column)


def test_the_same_bins_again_are_compared_with_nothing() -> None:
    asked = session([20 + i % 50 for i in range(ROWS)], list(range(ROWS)))
    assert not near(asked, "woe", Wanted(("bank.age",), FLAG, bins=3))
    (again,) = statistics.plan(
        {"woe": Wanted(("bank.age",), FLAG, bins=3)}, TABLES, context(ROWS, min_rows=LEAST)
    ).plans
    assert not asked.near(again) and asked.probed == []


@pytest.mark.parametrize(("apart", "refused"), [(0, False), (1, True), (12, True), (60, False)])
def test_histograms_that_a_few_rows_tell_apart_are_refused(apart: int, refused: bool) -> None:
    """Cut at 30 and at 31: so many rows lie between."""
    asked = session([31 if i < apart else 30 if i < 100 else 40 for i in range(ROWS)], list(range(ROWS)))
    assert not near(asked, "histogram", Wanted(("bank.age",), edges=("30",)))
    assert near(asked, "histogram", Wanted(("bank.age",), edges=("31",))) is refused
