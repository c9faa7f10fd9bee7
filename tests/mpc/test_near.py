"""The guard of the history on shares says what its twin says in the clear, and costs nothing where nothing is near."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from connectors import evaluate
from mpc.engine import Engine
from mpc.sql import TABLE, near, plan, probes
from mpc.sql.labels import GroupCount
from party.errors import PeerError, PolicyRefused, UsageError
from party.guard import Guard
from tests.mpc.near_twin import JOIN, Asked, Session, Truth
from tests.mpc.sqlkit import Pair, context, tables
from tests.support import Ledger, channels, run_pair

OWN = ["b.age > {a}", "b.defaulted", "b.income IS NULL", "b.region = 'north'", "b.region <> 'east'", "b.age <= {a}"]
OTHER = ["t.late > {l}", "t.prepaid", "NOT t.prepaid", "t.minutes IS NOT NULL", "t.plan = 'pro'", "t.late <= {l}"]
KEYS = ["b.region", "b.defaulted", "t.prepaid", "t.late", "b.age > 50"]


def condition(rng: random.Random) -> str:
    """One of one side, or of both joined by AND or OR."""
    own = rng.choice(OWN).format(a=rng.choice([18, 19, 20, 50, 97, 98]))
    other = rng.choice(OTHER).format(l=rng.choice([0, 1, 11, 12]))
    return rng.choice(["", own, other, f"{own} AND {other}", f"{own} OR {other}", f"NOT ({own} OR {other})"])


def asked(rng: random.Random) -> Asked:
    keys = tuple(sorted(rng.sample(KEYS, rng.choice([0, 0, 0, 0, 0, 1, 1, 2]))))
    conditions = tuple(dict.fromkeys(condition(rng) for _ in range(rng.choice([1, 1, 2]))))
    receivers = rng.choice([("bank",), ("bank",), ("telco",), ("bank", "telco")])
    return Asked(conditions, keys, rng.choice(["", "", condition(rng)]), receivers)


@pytest.mark.parametrize("seed", range(4))
def test_it_is_what_the_twin_says(seed: int) -> None:
    rng = random.Random(seed)
    bank, telco = tables(120, seed)
    truth, session = Truth(bank, telco), Session(Pair.ideal(), bank, telco, rng.choice([12, 20, 30]))
    earlier: list[Asked] = []
    verdicts = []
    for _ in range(16):
        one = asked(rng)
        wanted = truth.near(one, earlier, session.least)
        assert session.refused(one) is wanted, one.sql
        verdicts.append(wanted)
        earlier += [] if wanted else [one]
    assert True in verdicts and False in verdicts  # both were tried


def test_comparisons_of_both_sides_columns_are_conditions_like_others() -> None:
    bank, telco = tables(120, 3)
    truth, session = Truth(bank, telco), Session(Pair.ideal(), bank, telco, 20)
    first, second = Asked(("t.late < b.age",)), Asked(("t.late < b.age AND b.age > 19",))
    assert not truth.near(first, [], 20) and truth.near(second, [first], 20)
    assert not session.refused(first)
    assert session.refused(second)


def test_over_the_real_engine() -> None:
    bank, telco = tables(200, 9)
    session = Session(Pair.real(), bank, telco, 20)
    truth = Truth(bank, telco)
    one, other, third = Asked(("",)), Asked(("b.age > 19 OR t.prepaid",)), Asked(("b.age > 50 AND t.prepaid",))
    assert [truth.near(other, [one], 20), truth.near(third, [one], 20)] == [True, False]
    assert not session.refused(one)
    assert session.refused(other)
    assert not session.refused(third)


def edge(apart: int) -> tuple[pa.Table, pa.Table]:
    """100 rows, of which so many are younger than 20."""
    bank, telco = tables(100, 5)
    ages = np.full(100, 40)
    ages[:apart] = 18
    place = bank.column_names.index("age")
    return bank.set_column(place, "age", pa.array(ages)), telco


@pytest.mark.parametrize(("apart", "bad"), [(0, False), (1, True), (19, True), (20, False), (80, False), (81, False)])
def test_the_bounds_are_those_of_the_rule(apart: int, bad: bool) -> None:
    bank, telco = edge(apart)
    session = Session(Pair.ideal(), bank, telco, 20)
    assert not session.refused(Asked(("",)))
    assert session.refused(Asked(("b.age >= 20",))) is bad


def answered(*statements: str, least: int = 20, to: tuple[str, ...] = ("bank",)) -> list[int]:
    """How many pairs are compared for each statement, all of them answered."""
    made, found = [], []
    for sql in statements:
        one = plan(sql, context(100, to, least))
        found.append(sum(len(probe.pairs) for probe in probes(one, made)))
        made.append(one)
    return found


def test_nothing_is_compared_for_a_first_statement_nor_for_the_same_again() -> None:
    sql = f"SELECT t.prepaid, COUNT(*) AS n, SUM(b.income) AS s {JOIN} WHERE b.age > 30 GROUP BY t.prepaid"
    assert answered(sql, sql, sql.replace("SUM(", "AVG(")) == [0, 0, 0]


def test_structure_saves_what_cannot_be_near() -> None:
    count = f"SELECT COUNT(*) AS n {JOIN} WHERE "
    assert answered(count + "b.defaulted AND t.prepaid", count + "NOT b.defaulted AND t.prepaid") == [0, 0]
    assert answered(count + "b.defaulted", count + "t.prepaid") == [0, 1]
    assert answered(count + "b.defaulted", count + "t.prepaid", least=1) == [0, 0]
    assert answered(f"SELECT COUNT(*) AS n, AVG(b.income) AS a, SUM(t.minutes) AS s {JOIN}") == [0]
    assert answered(f"SELECT COUNT(*) AS n, COUNT(b.income) AS i {JOIN}") == [1]
    assert answered(f"SELECT COUNT(*) AS n, COUNT(*) FILTER (WHERE b.defaulted) AS d {JOIN}") == [1]
    assert answered(f"SELECT SUM(CASE WHEN b.defaulted THEN b.income ELSE 0 END) AS s, COUNT(*) AS n {JOIN}") == [0]
    assert answered(f"SELECT SUM(CASE WHEN b.defaulted THEN 1 ELSE 0 END) AS s, COUNT(*) AS n {JOIN}") == [1]
    assert answered(f"SELECT SUM(CASE WHEN b.defaulted THEN b.income ELSE 0 END) AS s, SUM(b.income) AS i {JOIN}") == [
        1
    ]


def test_order_statistics_and_distinct_values_are_numbers_like_others() -> None:
    for what in ("MEDIAN(t.minutes)", "MIN(t.late)", "COUNT(DISTINCT t.late)", "REGR_SLOPE(b.income, t.late)"):
        sql = f"SELECT {what} AS m {JOIN} WHERE b.age > {{}}"
        assert answered(sql.format(30), sql.format(30), sql.format(31)) == [0, 0, 1], what


def test_a_receiver_s_own_missing_values_are_a_condition_for_the_other_side_s_sums() -> None:
    """It knows which they are: SUM(t.minutes), less the sum over the rows where its own income is there."""
    own, other = "AVG(b.income) AS a", "AVG(t.minutes) AS a"
    both = "CORR(b.income, t.minutes) AS c"
    for said, to, compared in ((own, "bank", 0), (other, "bank", 1), (own, "telco", 1), (other, "telco", 0)):
        assert answered(f"SELECT {said}, {both} {JOIN}", to=(to,)) == [compared], (said, to)
    bank, telco = tables(100, 5)
    place = bank.column_names.index("income")
    bank = bank.set_column(place, "income", pa.array([None] + [7] * 99, pa.int64()))
    session = Session(Pair.ideal(), bank, telco, 20)
    assert session.ask(f"SELECT {other}, {both} {JOIN}") is None
    assert session.ask(f"SELECT {own}, {both} {JOIN}") is not None


def test_missing_values_hide_no_condition_that_is_another() -> None:
    """North by plan, and region and plan: the same rows said in two ways, whatever values are missing in them."""
    bank, telco = tables(120, 7)
    first = f"SELECT t.prepaid, COUNT(*) AS n, SUM(b.income) AS s {JOIN} WHERE b.region = 'north' GROUP BY t.prepaid"
    second = f"SELECT b.region, t.prepaid, SUM(b.income * t.late) AS s {JOIN} GROUP BY b.region, t.prepaid"
    near = first.replace("= 'north'", "= 'north' AND b.age > 35")
    for statements, refused in (((first, second), False), ((second, first), False), ((first, near), True)):
        session = Session(Pair.ideal(), bank, telco, 10)
        assert session.ask(statements[0]) is not None
        assert (session.ask(statements[1]) is None) is refused, statements
        assert session.probed


def test_a_total_is_compared_with_the_cells_of_its_groups() -> None:
    bank, telco = tables(100, 5)
    place = bank.column_names.index("defaulted")
    bank = bank.set_column(place, "defaulted", pa.array([None, None, None] + [True] * 97))
    cells, total = Asked(("",), ("b.defaulted",)), Asked(("",))
    for first, second in ((cells, total), (total, cells)):
        session = Session(Pair.ideal(), bank, telco, 20)
        assert Truth(bank, telco).near(second, [first], 20)  # 97 of 100: three were left out
        assert not session.refused(first)
        assert session.refused(second)


def test_one_side_s_conditions_take_no_joint_product() -> None:
    first, second = (
        plan(f"SELECT COUNT(*) AS n {JOIN} WHERE b.age > {age}", context(100, min_rows=20)) for age in (20, 30)
    )
    (probe,) = probes(second, [first])
    assert probe.plan.calls == probe.plan.transfers == ()


def test_conditions_whose_product_is_too_long_are_refused_with_a_way_out() -> None:
    first, second, third = (
        " OR ".join(f"(b.{own} > {20 + n} AND t.{other} > {n})" for n in range(3))
        for own, other in (("age", "late"), ("income", "minutes"), ("balance", "bill"))
    )
    long = plan(f"SELECT COUNT(*) FILTER (WHERE {first}) AS n {JOIN} WHERE {second}", context(100, min_rows=20))
    with pytest.raises(UsageError, match="compared with an earlier answer, an expression across both parties") as met:
        probes(plan(f"SELECT COUNT(*) AS n {JOIN} WHERE {third}", context(100, min_rows=20)), [long])
    assert "--realign" in (met.value.hint or "")


def test_the_declared_cost_is_what_is_counted() -> None:
    bank, telco = tables(120, 2)
    session = Session(Pair.ideal(), bank, telco, 20)
    for least_age in (30, 40, 50):  # the first comparison brings the base transfers
        by = ("b.age > 50", "b.defaulted", "b.region")
        made = plan(Asked((f"b.age > {least_age}",), by).sql, context(120, min_rows=20))
        counters = [channel.counters for channel in session.pair.channels]
        before = [(one.sent, one.rounds) for one in counters]
        session.near(made)
        moved = [(one.sent - sent, one.rounds - r) for one, (sent, r) in zip(counters, before, strict=True)]
        cells = sum(len(probe.pairs) for probe in session.probed) * 3 * 3 * 5  # NULL is a group
        declared = near.comparing(cells, 120, 20)
        session.answered.append(made)
    assert all(probe.plan.calls == probe.plan.transfers == () for probe in session.probed) and cells >= 60
    assert moved == list(zip(declared.sent, declared.waits, strict=True))


def test_having_is_an_opening_of_what_it_reads() -> None:
    test = "SUM(b.income) FILTER (WHERE b.age > {}) > 9"
    having = f"SELECT t.prepaid, COUNT(*) AS n {JOIN} GROUP BY t.prepaid HAVING {test}"
    assert answered(having.format(30)) == [1]
    assert answered(having.format(30), having.format(31)) == [1, 3]


def test_a_peer_that_tells_no_number_of_groups_is_stopped() -> None:
    _, telco = tables(60, 2)
    by = f"SELECT b.branch, COUNT(*) AS n {JOIN} WHERE t.late > {{}} GROUP BY b.branch"
    first, second = (plan(by.format(n), context(60, min_rows=20)) for n in (1, 2))
    (probe,) = probes(second, [first])
    ours, theirs = channels()
    guard = Guard("r", ours.peer, second.request.openings, Ledger(), 20)
    engine = Engine.start(theirs, Guard("r", theirs.peer, second.request.openings, Ledger(), 20), 1)
    columns = evaluate(telco, probe.plan.local["telco"], TABLE)
    guard.disclose("query.q.history.groups", "telco", 1)
    ours.send(GroupCount(3))
    with pytest.raises(PeerError, match="no power of 4"):
        near.differ_by_few(engine, "query.q.history", [probe], [columns])


def test_a_guard_that_does_not_know_of_it_lets_no_bit_out() -> None:
    bank, telco = tables(60, 2)
    count = f"SELECT COUNT(*) AS n {JOIN} WHERE b.age > {{}}"
    first, second = (plan(count.format(n), context(60, min_rows=20)) for n in (20, 30))
    found = probes(second, [first])
    pair = Pair.ideal()  # its guards allow nothing
    columns = [evaluate(t, found[0].plan.local[n], TABLE) for n, t in (("bank", bank), ("telco", telco))]
    with pytest.raises(PolicyRefused):
        run_pair(
            lambda: near.differ_by_few(pair.engines[0], "query.q.history", found, columns[:1]),
            lambda: near.differ_by_few(pair.engines[1], "query.q.history", found, columns[1:]),
            *pair.channels,
        )


def test_receivers_that_have_nothing_in_common_tell_nobody_a_difference() -> None:
    bank = plan(f"SELECT COUNT(*) AS n {JOIN} WHERE b.age > 20", context(100, ("bank",), 20))
    telco = plan(f"SELECT COUNT(*) AS n {JOIN} WHERE b.age > 21", context(100, ("telco",), 20))
    both = plan(f"SELECT COUNT(*) AS n {JOIN} WHERE b.age > 22", context(100, ("bank", "telco"), 20))
    assert probes(telco, [bank]) == () and len(probes(both, [bank, telco])[0].pairs) == 2


def test_a_set_that_one_side_knows_is_compared_for_the_other() -> None:
    sql = f"SELECT COUNT(*) AS n {JOIN} WHERE b.age > 20"
    made = [plan(sql, context(100, to, 20)) for to in (("bank",), ("telco",), ("bank", "telco"))]
    near = plan(sql.replace("20", "21"), context(100, ("telco",), 20))
    assert len(probes(near, made[:1])) == 0 and len(probes(near, made[:2])[0].pairs) == 1
    assert len(probes(made[2], [made[0], near])[0].pairs) == 1


def test_open_ended_groups_are_compared_with_the_same_and_with_none() -> None:
    by = f"SELECT b.branch, COUNT(*) AS n {JOIN} WHERE t.late > {{}} GROUP BY b.branch"
    assert answered(by.format(1), by.format(2)) == [0, 1]
    assert answered(by.format(1), f"SELECT COUNT(*) AS n {JOIN} WHERE t.late > 1") == [0, 1]
    two = f"SELECT b.branch, b.region, COUNT(*) AS n {JOIN} GROUP BY b.branch, b.region"
    made = [plan(sql, context(100, min_rows=20)) for sql in (by.format(1), two)]
    (probe,) = probes(made[1], made[:1])
    assert sorted(len(dim.keys) for dim in probe.dims) == [1, 2]  # each statement's are numbered by themselves


def test_open_ended_groups_say_what_the_twin_says() -> None:
    bank, telco = tables(150, 4)
    truth = Truth(bank, telco)
    for first, second in (
        (Asked(("",), ("b.branch",)), Asked(("",), (), "b.branch = 'b'")),
        (Asked(("t.prepaid",), ("b.branch",)), Asked(("t.prepaid",), ("b.branch",), "b.age > 20")),
        (Asked(("",), ("b.branch",)), Asked(("",), ("b.branch", "b.region"), "b.branch <> 'b' OR b.region = 'north'")),
        (Asked(("",), ("t.plan",)), Asked(("",), ("t.plan = 'pro'", "t.prepaid"))),
        (Asked(("",), ("b.branch", "t.plan")), Asked(("b.age > 40",), ("b.branch", "t.plan"))),
    ):
        session = Session(Pair.ideal(), bank, telco, 15)
        assert not session.refused(first)
        assert session.refused(second) is truth.near(second, [first], 15)


def test_more_than_can_be_compared_is_refused_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    where = "WHERE b.age > {0} AND t.minutes > {0} GROUP BY b.region, t.late"
    sql = f"SELECT b.region, t.late, COUNT(*) AS n {JOIN} {where}"
    made = [plan(sql.format(n), context(100, min_rows=20)) for n in range(80)]
    (probe,) = probes(made[-1], made[:-1])  # 17,000 products, which took 1.4 GB of answers as inner products
    counts = ", ".join(f"COUNT(*) FILTER (WHERE t.bill > {n}) AS n{n}" for n in range(10))
    many = plan(sql.format(90).replace("COUNT(*) AS n", counts), context(100, min_rows=20))
    with pytest.raises(UsageError, match=r"comparisons, at most 4,294 and 50,000") as met:
        probes(many, made)
    assert "--realign" in (met.value.hint or "")
    monkeypatch.setattr(near, "MOVED", near._moved(probe) - 1)
    with pytest.raises(UsageError, match=r"takes \d+ MB") as met:
        probes(made[-1], made[:-1])
    assert "--realign" in (met.value.hint or "")
