"""What a plan says that a receiver learns."""

from __future__ import annotations

from mpc.sql.learnt import learnt


def test_an_aggregate_of_many_parts_is_named_once() -> None:
    names = ["rows", "m.count", "m.sum", "r.count", "r.sum_x", "r.sum_y"]
    assert learnt(names) == ["rows, m.count, m.sum, r (count, sum_x, sum_y)"]


def test_names_of_columns_may_have_dots() -> None:
    assert learnt(["correlation(bank.x, telco.y).count"]) == ["correlation(bank.x, telco.y).count"]


def test_lines_end_before_they_are_long_and_nothing_is_lost() -> None:
    names = [f"sum(bank.column_{n}).sum" for n in range(40)]
    lines = learnt(names)
    assert max(map(len, lines)) < 150 and len(lines) > 5
    assert ", ".join(lines).split(", ") == names
