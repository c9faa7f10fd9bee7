"""`tally query` with several tables of an owner, UNION ALL and WITH: answers, policy, errors, agreement, ledger."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from party.errors import DataError, PolicyRefused, UsageError
from tests.pipelines.two_homes import TwoHomes

ROWS = 60
CUSTOMERS = "key: [phone]\ncolumns:\n  balance: {type: integer, range: [0, 1000]}\n"
SUBSCRIBERS = "key: [msisdn]\ncolumns:\n  late: {type: integer, range: [0, 9]}\n"
BRANCHES = (
    "  branches:\n    url: parquet:branches.parquet\n    key: [name]\n    columns:\n"
    "      rent: {type: integer, range: [0, 100]}\n      city: {type: string, domain: [York, Bath]}\n"
)
HEAD = "alignment: rows\nmin_size: 1\nmin_rows: 1\napprove: auto\ncolumns:\n"
GRANTS = (
    "  customers.phone: [join]\n  customers.balance: [aggregate, filter]\n  customers.branch: [join]\n"
    "  branches.name: [join]\n  branches.rent: [aggregate]\n  branches.city: [group]\n"
)
JOIN = "FROM bank.customers b JOIN telco.subscribers t ON b.phone = t.msisdn"
LOOKUP = f"SELECT r.city, COUNT(*) AS n, SUM(r.rent * t.late) AS s {JOIN} JOIN bank.branches r ON b.branch = r.name GROUP BY 1"  # noqa: E501


class World(TwoHomes):
    def branches(self, names: Sequence[str], rents: Sequence[int], cities: Sequence[str]) -> None:
        """The bank's second table."""
        table = pa.table({"name": names, "rent": pa.array(rents, pa.int64()), "city": cities})
        pq.write_table(table, self.homes["bank"] / "branches.parquet")

    def open(self, grants: str = GRANTS) -> None:
        """Declare both tables of the bank with these grants."""
        self.declare("bank", CUSTOMERS, HEAD + grants)
        party = self.homes["bank"] / "party.yaml"
        party.write_text(party.read_text() + BRANCHES)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("further"))
    keys = [f"+4479{i:08d}" for i in range(ROWS)]
    branch = [("north", "south", "east")[i % 3] for i in range(ROWS)]
    balance = pa.array([i * 7 % 1000 for i in range(ROWS)], pa.int64())
    world.fill("bank", {"phone": keys, "balance": balance, "branch": branch})
    world.fill("telco", {"msisdn": keys[10:], "late": pa.array([i % 10 for i in range(10, ROWS)], pa.int64())})
    world.declare(
        "telco", SUBSCRIBERS, HEAD + "  subscribers.msisdn: [join]\n  subscribers.late: [aggregate, filter]\n"
    )
    return world


def truth() -> dict[str, tuple[int, int]]:
    """City -> rows and sum of rent times late; the branch `east` is in no table of branches."""
    found: dict[str, tuple[int, int]] = {}
    for row in range(10, ROWS):
        if row % 3 < 2:
            city, rent = (("York", 3), ("Bath", 50))[row % 3]
            count, total = found.get(city, (0, 0))
            found[city] = count + 1, total + rent * (row % 10)
    return found


def test_an_owner_joins_its_second_table_before_the_parties_join(world: World) -> None:
    world.open()
    world.branches(["north", "south", "west"], [3, 50, 9], ["York", "Bath", "York"])
    answers = world.ask(LOOKUP, LOOKUP)
    wanted = [{"city": city, "n": n, "s": s} for city, (n, s) in truth().items()]
    for answer in answers:
        assert sorted(answer["rows"], key=str) == sorted(wanted, key=str)


def test_a_column_of_a_further_table_needs_its_grant(world: World) -> None:
    world.branches(["north", "south", "west"], [3, 50, 9], ["York", "Bath", "York"])
    for lacking in ("branches.name: [join]", "customers.branch: [join]", "branches.rent: [aggregate]"):
        name = lacking.partition(":")[0]
        world.open(GRANTS.replace(lacking, f"{name}: [output]"))
        with pytest.raises(PolicyRefused, match=name):
            world.ask(LOOKUP)


def test_more_than_one_row_that_answers_is_an_error_of_the_owner_and_nothing_is_sent(world: World) -> None:
    world.open()
    world.branches(["north", "south", "north"], [3, 50, 9], ["York", "Bath", "York"])
    before = len(world.events("bank", "disclosure"))
    with pytest.raises(DataError, match=r"name is not unique in table branches") as caught:
        world.ask(LOOKUP)
    assert caught.value.party == "bank"
    assert caught.value.hint
    opened = [event["what"] for event in world.events("bank", "disclosure")[before:]]
    assert not [what for what in opened if str(what).startswith("query.")]


def test_a_number_of_a_whole_table_takes_in_rows_that_are_not_aligned(world: World) -> None:
    world.open()
    world.branches(["north", "south", "west"], [3, 50, 9], ["York", "Bath", "York"])
    (answer,) = world.ask(f"SELECT COUNT(*) AS n {JOIN} WHERE b.balance > (SELECT AVG(balance) FROM bank.customers)")
    mean = sum(i * 7 % 1000 for i in range(ROWS)) / ROWS
    assert answer["rows"] == [{"n": sum(i * 7 % 1000 > mean for i in range(10, ROWS))}]
    with pytest.raises(PolicyRefused, match="rank"):
        world.ask(f"SELECT COUNT(*) AS n {JOIN} WHERE b.balance = (SELECT MAX(balance) FROM bank.customers)")


def test_many_rows_of_a_further_table_are_summed_up_for_each_row(world: World) -> None:
    keys = [f"+4479{i:08d}" for i in range(ROWS)]
    world.branches([keys[20], keys[20], keys[30], keys[2]], [3, 50, 9, 7], ["York", "Bath", "York", "York"])
    inner = "(SELECT name, SUM(rent) AS total FROM bank.branches GROUP BY name)"
    sql = f"SELECT COUNT(*) AS n, SUM(g.total) AS s {JOIN} JOIN {inner} g ON g.name = b.phone"
    world.open()
    (answer,) = world.ask(sql)
    assert answer["rows"] == [{"n": 2, "s": 62}]
    with pytest.raises(DataError, match="branch is not unique in table customers"):
        world.ask(sql.replace("g.name = b.phone", "g.name = b.branch"))


def test_before_in_stands_a_column_that_is_unique_in_its_whole_table(world: World) -> None:
    world.open()
    world.branches(["north", "south", "west"], [3, 50, 9], ["York", "Bath", "York"])
    with pytest.raises(DataError, match=r"branch is not unique in table customers"):
        world.ask(f"SELECT COUNT(*) AS n {JOIN} WHERE b.branch IN (SELECT name FROM bank.branches)")
    (answer,) = world.ask(f"SELECT COUNT(*) AS n {JOIN} WHERE b.phone NOT IN (SELECT name FROM bank.branches)")
    assert answer["rows"] == [{"n": ROWS - 10}]


def test_union_all_is_one_answer_and_its_openings_are_apart_in_the_ledger(world: World) -> None:
    world.open()
    world.branches(["north", "south"], [3, 50], ["York", "Bath"])
    sql = (
        f"WITH rich AS (SELECT * FROM bank.customers WHERE balance > 200) SELECT COUNT(*) AS n, SUM(t.late) AS s {JOIN} "  # noqa: E501
        "UNION ALL SELECT COUNT(*), SUM(t.late * b.balance) FROM rich b JOIN telco.subscribers t ON b.phone = t.msisdn"
    )
    (answer,) = world.ask(sql)
    rich = [row for row in range(10, ROWS) if row * 7 % 1000 > 200]
    assert answer["columns"] == ["n", "s"]
    assert answer["rows"] == [
        {"n": ROWS - 10, "s": sum(row % 10 for row in range(10, ROWS))},
        {"n": len(rich), "s": sum(row % 10 * (row * 7 % 1000) for row in rich)},
    ]
    opened = {str(event["what"]) for event in world.events("telco", "disclosure")}
    assert {"query.query.1.s.sum", "query.query.2.s.sum"} <= opened


def test_a_job_answers_union_all_and_further_tables(world: World) -> None:
    world.open()
    world.branches(["north", "south", "west"], [3, 50, 9], ["York", "Bath", "York"])
    kept = (
        f"SELECT COUNT(*) AS n {JOIN} UNION ALL SELECT COUNT(*) FROM bank.customers b "
        "LEFT JOIN telco.subscribers t ON b.phone = t.msisdn"
    )
    job = (
        "version: 1\nname: both\npeer: telco\n"
        "align: {bank: customers, telco: subscribers, learns: both, keep: bank}\nanalyse:\n"
        f"  - {{name: lookup, sql: {LOOKUP!r}}}\n  - {{name: kept, sql: {kept!r}}}\n"
    )
    found = world.run(job)["queries"]
    assert {row["city"]: (row["n"], row["s"]) for row in found["lookup"]} == truth()
    assert [row["n"] for row in found["kept"]] == [ROWS - 10, ROWS]


def test_a_refusal_of_a_statement_tells_line_and_column_in_the_error_object(world: World) -> None:
    world.open()
    with pytest.raises(UsageError) as caught:
        world.ask(f"SELECT COUNT(*)\n{JOIN}\nWHERE getenv('x') = 'y'")
    told: dict[str, Any] = caught.value.as_dict()
    assert told["code"] == "usage"
    assert told["message"].startswith("line 3, column 7: getenv is not supported")
    assert told["hint"]


def test_a_changed_second_table_is_read_again(world: World, tmp_path: Path) -> None:
    world.open()
    world.branches(["north", "south", "west"], [3, 50, 9], ["York", "Bath", "York"])
    with world.linked() as link:
        from pipelines.verbs_run import ask

        first = ask(link, LOOKUP, False)["rows"]
        world.branches(["north", "south", "west"], [6, 100, 9], ["York", "Bath", "York"])
        second = ask(link, LOOKUP, False)["rows"]
    assert {row["city"]: row["s"] for row in second} == {row["city"]: 2 * row["s"] for row in first}
