"""What a plan says that a receiver learns."""

from __future__ import annotations

from mpc.sql.learnt import learnt


def test_few_parts_are_named_one_by_one_many_once() -> None:
    names = ["rows", "m.count", "m.sum", "r.count", "r.sum_x", "r.sum_y", "q.count", "q.sum_x", "q.sum_y", "n.count"]
    assert learnt(names) == ["rows, m.count, m.sum, n.count", "count, sum_x, sum_y of r, q"]


def test_names_of_columns_may_have_dots() -> None:
    assert learnt(["correlation(bank.x, telco.y).count"]) == ["correlation(bank.x, telco.y).count"]


def test_lines_end_before_they_are_long_and_nothing_is_lost() -> None:
    names = [f"sum(bank.column_{n}).sum" for n in range(40)]
    lines = learnt(names)
    assert max(map(len, lines)) < 150 and len(lines) > 5
    assert ", ".join(lines).split(", ") == names
    many = [f"corr({n}).{part}" for n in range(40) for part in ("count", "sum_x", "sum_y")]
    lines = learnt(many)
    assert all(line.startswith("count, sum_x, sum_y of corr(") for line in lines) and max(map(len, lines)) < 150
    assert [item for line in lines for item in line.partition(" of ")[2].split(", ")] == [
        f"corr({n})" for n in range(40)
    ]
