"""The attack suite: a receiver that obeys the protocol asks on and on, within one alignment, for what min_rows hides.

The bank receives and knows all of its own columns; it wants the telco's. Each attack has its queries of a day, reads
off the answers what it can, and must not learn a count or a sum over fewer than min_rows rows. Trackers of three
queries do learn some: how many is measured here, and said in docs/explanation/what-each-side-learns.md.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.mpc.near_twin import JOIN, Asked, Session, Truth
from tests.mpc.sqlkit import Pair, oracle, tables

ROWS, LEAST, DAY = 160, 20, 24  # aligned rows, min_rows, queries of a day


@pytest.fixture(scope="module")
def world() -> tuple[pa.Table, pa.Table]:
    """Incomes are all different, so that the bank can name any row; few of the telco's rows have the plan x."""
    bank, telco = tables(ROWS, 21)
    incomes = np.random.default_rng(3).permutation(ROWS) * 1000
    bank = bank.set_column(bank.column_names.index("income"), "income", pa.array(incomes))
    plans = np.array(["basic", "plus", "pro"])[np.arange(ROWS) % 3].astype(object)
    plans[:5] = "x"
    return bank, telco.set_column(telco.column_names.index("plan"), "plan", pa.array(plans, pa.string()))


@pytest.fixture
def session(world: tuple[pa.Table, pa.Table]) -> Session:
    return Session(Pair.ideal(), *world, LEAST)


class Attacker:
    """Asks at most a day's queries; a refused one counts."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.left = DAY
        self.answered = 0

    def ask(self, sql: str) -> list[dict[str, Any]] | None:
        """The rows of the answer; None where it is refused, or the day is over."""
        if self.left == 0:
            return None
        self.left -= 1
        result = self.session.ask(sql)
        self.answered += result is not None
        return None if result is None else [dict(row) for row in result.rows]

    def number(self, what: str, where: str = "") -> int | None:
        """One number; None where it is refused or hidden."""
        rows = self.ask(f"SELECT {what} AS n {JOIN}{f' WHERE {where}' if where else ''}")
        return None if rows is None else rows[0]["n"]


def late(session: Session, place: int) -> int:
    return int(session.telco.column("late")[place].as_py())


def targets() -> Iterator[tuple[int, str]]:
    """Rows of the bank's that it would like to know more of, and how it names each alone."""
    for place in (11, 57, 101):
        yield place, f"b.income = {int(np.random.default_rng(3).permutation(ROWS)[place]) * 1000}"


@pytest.mark.parametrize("what", ["COUNT(*)", "SUM(t.late)", "AVG(t.late)"])
def test_two_query_tracker(session: Session, what: str) -> None:
    """C, and C without the one: the difference is the one."""
    attacker, learnt = Attacker(session), []
    for _, name in targets():
        for padding in ("t.late >= 0", "b.age > 30", "t.prepaid", "b.age > 30 AND t.late < 12"):
            whole = attacker.number(what, padding)
            less = attacker.number(what, f"{padding} AND NOT {name}")
            more = attacker.number(what, f"{padding} OR {name}")
            learnt += [(name, a, b) for a, b in ((whole, less), (whole, more)) if None not in (a, b) and a != b]
    assert learnt == []
    assert 0 < attacker.answered < DAY  # it was answered something, and refused something


def test_difference_to_a_total(session: Session) -> None:
    """All rows, and those without the rare plan: the difference is how many have it, and what they use."""
    attacker, learnt = Attacker(session), []
    rare = "t.plan = 'x'"
    for what in ("COUNT(*)", "SUM(t.late)", "SUM(b.age)", "COUNT(t.late)"):
        for padding in ("b.age >= 18", "b.age > 20", "t.late >= 0"):
            whole, less = attacker.number(what, padding), attacker.number(what, f"{padding} AND NOT {rare}")
            if None not in (whole, less) and whole != less:
                learnt.append((what, padding))
    assert learnt == []
    assert attacker.answered


def test_difference_inside_one_statement(session: Session) -> None:
    """The same with FILTER, CASE, and a column that is NULL where the statement wants it."""
    attacker = Attacker(session)
    few = "t.plan = 'x'"
    for pair in (
        f"COUNT(*) AS a, COUNT(*) FILTER (WHERE NOT {few}) AS b",
        f"SUM(t.late) AS a, SUM(t.late) FILTER (WHERE NOT {few}) AS b",
        f"COUNT(*) AS a, COUNT(CASE WHEN NOT {few} THEN 1 END) AS b",
        f"COUNT(*) AS a, SUM(CASE WHEN NOT {few} THEN 1 ELSE 0 END) AS b",
        f"SUM(t.late) AS a, SUM(CASE WHEN NOT {few} THEN t.late ELSE 0 END) AS b",
        "COUNT(t.late) AS a, COUNT(NULLIF(t.plan, 'x')) AS b",
        f"SUM(b.age) AS a, SUM(b.age) FILTER (WHERE NOT {few}) AS b",
    ):
        assert attacker.ask(f"SELECT {pair} {JOIN}") is None, pair


def test_averaging(session: Session) -> None:
    """Answers carry no noise, so nothing to average: a hidden number is hidden each time, in every spelling."""
    attacker = Attacker(session)
    spellings = ["t.plan = 'x'", "t.plan IN ('x')", "t.plan LIKE 'x%'", "NOT t.plan <> 'x'"]
    found = [
        attacker.number(what, spellings[turn % len(spellings)])
        for turn, what in enumerate(["COUNT(*)", "SUM(t.late)", "AVG(t.late)"] * (DAY // 3))
    ]
    assert found == [None] * DAY and attacker.answered == DAY  # asked, answered with NULL
    shown = Attacker(session)
    assert len({shown.number("SUM(t.late)", "t.prepaid") for _ in range(5)}) == 1


def test_halving(session: Session) -> None:
    """Half of the rows, half of these, and so on to one row; and each half taken from the whole before."""
    place, _ = next(targets())
    incomes = sorted(int(value) for value in session.bank.column("income").to_pylist())[:156]  # 156, 78, 39, 20 and 19
    own = int(session.bank.column("income")[place].as_py())
    attacker, low, high = Attacker(session), 0, len(incomes)
    known = {(low, high): attacker.number("SUM(t.late)", f"b.income <= {incomes[-1]}")}
    while high - low > 1 and attacker.left:
        middle = (low + high) // 2
        for start, stop in ((low, middle), (middle, high)):
            where = f"b.income >= {incomes[start]} AND b.income <= {incomes[stop - 1]}"
            known[start, stop] = attacker.number("SUM(t.late)", where)
        low, high = (low, middle) if own < incomes[middle] else (middle, high)
    shown = [interval for interval, value in known.items() if value is not None]
    for one in shown:
        for other in shown:
            apart = set(range(*one)) ^ set(range(*other))
            assert not 0 < len(apart) < LEAST, (one, other)
    assert len(shown) >= 4 and attacker.answered >= 8  # halves of fewer rows are NULL
    assert attacker.answered < DAY - attacker.left  # 20 of the 39 were refused


def test_group_key_probing(session: Session) -> None:
    """Groups whose border moves by one row, and groups of one row by itself."""
    attacker, borders = Attacker(session), []
    incomes = sorted(int(value) for value in session.bank.column("income").to_pylist())
    for place in (80, 81, 79, 85, 99, 100, 120):
        key = f"b.income < {incomes[place]}"
        rows = attacker.ask(f"SELECT {key} AS k, COUNT(*) AS n, SUM(t.late) AS s {JOIN} GROUP BY {key}")
        borders += [] if rows is None else [place]
    assert borders == [80, 100, 120]  # each at least min_rows from the others
    for place, name in targets():
        alone = f"CASE WHEN {name} THEN 1 ELSE 0 END"
        rows = attacker.ask(f"SELECT {alone} AS k, SUM(t.late) AS s {JOIN} GROUP BY {alone}")
        assert rows in (None, []), place  # the large group goes with the small one


def test_one_suppressed_cell_against_the_total(session: Session) -> None:
    """The rows of all shown groups from all rows: what is left is hidden by as many rows as any group."""
    attacker = Attacker(session)
    for where in ("b.age >= 18", "b.age > 40", "t.late > 3"):
        groups = attacker.ask(f"SELECT t.plan, COUNT(*) AS n, SUM(t.late) AS s {JOIN} WHERE {where} GROUP BY t.plan")
        total = attacker.ask(f"SELECT COUNT(*) AS n, SUM(t.late) AS s {JOIN} WHERE {where}")
        if groups is None or total is None or total[0]["n"] is None:
            continue
        assert "x" not in {row["plan"] for row in groups}
        left = total[0]["n"] - sum(row["n"] for row in groups)
        assert left == 0 or left >= LEAST
    assert attacker.answered >= 4
    for having in ("COUNT(*) < 20", "COUNT(*) <= 5", "SUM(t.late) < 40"):
        rows = attacker.ask(f"SELECT t.plan, COUNT(*) AS n {JOIN} GROUP BY t.plan HAVING {having}")
        assert not rows  # no group, or refused


def conditions(rng: random.Random) -> tuple[str, str]:
    own = rng.choice(["b.age > {}", "b.age <= {}"]).format(rng.randrange(20, 97))
    other = rng.choice(["t.late > {}", "t.late <= {}"]).format(rng.randrange(0, 12))
    return own, other


TRIES, LEARNT = 200, 20  # as docs/explanation/what-each-side-learns.md says


def allowed(truth: Truth, texts: tuple[str, ...]) -> bool:
    """Whether the guard would answer these one after the other, with a number each."""
    asked = [Asked((text,)) for text in texts]
    shown = all(truth.cells(one)[0][0].sum() >= LEAST for one in asked)
    return shown and not any(truth.near(one, asked[:place], LEAST) for place, one in enumerate(asked))


def small(truth: Truth, text: str) -> int:
    """How many rows fulfil a condition, if they are too few to be told, else 0."""
    count = int(np.count_nonzero(truth.cells(Asked((text,)))[0][0]))
    return count if count < LEAST else 0


def test_three_query_trackers_learn_what_the_docs_say(world: tuple[pa.Table, pa.Table]) -> None:
    """|A|, |B| and |A OR B| are far from one another, and give |A AND B|, which may be small: not prevented."""
    rng, truth = random.Random(1), Truth(*world)
    tries = [conditions(rng) for _ in range(TRIES)]
    learnt = [a for a, b in tries if small(truth, f"{a} AND {b}") and allowed(truth, (a, b, f"{a} OR {b}"))]
    assert len(learnt) == LEARNT
    page = (Path(__file__).resolve().parents[2] / "docs/explanation/what-each-side-learns.md").read_text()
    assert f"{LEARNT} of {TRIES}" in page


def directed(session: Session, name: str) -> tuple[str, str, str]:
    """Two sets far from one another and without the wanted row, and both together with it."""
    incomes = sorted(int(value) for value in session.bank.column("income").to_pylist())
    a = f"b.income < {incomes[60]} AND NOT {name}"
    b = f"b.income > {incomes[100]} AND NOT {name}"
    return a, b, f"b.income < {incomes[60]} OR b.income > {incomes[100]} OR {name}"


def test_a_three_query_tracker_that_is_made_for_one_row_learns_it(session: Session) -> None:
    """One that works, on shares, so that nobody thinks the guard stops it: the budget and `filter` are the brakes."""
    place, name = next(targets())
    attacker = Attacker(session)
    first, second, all_of_it = (attacker.number("SUM(t.late)", text) for text in directed(session, name))
    assert first is not None and second is not None and all_of_it is not None
    assert all_of_it - first - second == late(session, place)
    assert attacker.number("SUM(t.late)", name) is None


@pytest.mark.parametrize("keys", ["b.region, t.plan", "b.defaulted, t.plan", "t.plan, b.age // 50"])
def test_one_hidden_cell_against_the_totals_of_ones_own_groups(session: Session, keys: str) -> None:
    """The bank knows how many rows each group of its own has: what a line hides must not be few."""
    attacker = Attacker(session)
    own = next(key for key in keys.split(", ") if key.startswith("b."))
    rows = attacker.ask(f"SELECT {own} AS k, t.plan AS p, COUNT(*) AS n {JOIN} GROUP BY {keys}")
    assert rows  # something is shown
    totals = {
        row["k"]: row["n"]
        for row in oracle(f"SELECT {own} AS k, COUNT(*) AS n {JOIN} GROUP BY 1", session.bank, session.telco)
    }
    for key, total in totals.items():
        seen = sum(row["n"] for row in rows if row["k"] == key)
        assert not seen or total - seen == 0 or total - seen >= LEAST, (key, total, seen)
