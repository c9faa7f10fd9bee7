"""Joins through jobs and queries, both parties in one process, against DuckDB over the joined tables.

Random small tables with repeated, missing and unmatched keys; inner, LEFT and RIGHT JOIN; one key, one of two columns,
two keys tried in order; every meaning of repeated keys. DuckDB joins on the same keys; two keys in order and "first"
are written out in SQL.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from tests.e2e.joined import same
from tests.pipelines.two_homes import TABLES, TwoHomes

Row = tuple[Any, ...]
NAMES = {"bank": ("phone", "email", "balance", "region"), "telco": ("msisdn", "mail", "minutes", "plan")}
DOMAINS = {"region": ["north", "south"], "plan": ["basic", "family", "none"]}
KEYS = {"one": "[{0}]", "composite": "[{0}, {1}]", "in order": "[[{0}], [{1}]]"}
ON = {
    "one": "b.phone = t.msisdn",
    "composite": "b.phone = t.msisdn AND b.email = t.mail",
    "in order": "b.phone = t.msisdn OR b.email = t.mail",
}
JOIN = "FROM bank.customers b {kind} JOIN telco.subscribers t ON {on}"
ASKED = [
    "SELECT COUNT(*) AS n, COUNT(b.balance) AS b, COUNT(t.minutes) AS m, SUM(t.minutes) AS v {join}",
    "SELECT t.plan, COUNT(*) AS n, SUM(b.balance * t.minutes) AS w {join} GROUP BY t.plan",
    "SELECT b.region, AVG(t.minutes) AS a, COUNT(*) AS n {join} WHERE t.minutes > 3 OR b.balance < 5 GROUP BY b.region",
]


def rows(rng: random.Random, side: str, count: int, repeats: bool) -> list[Row]:
    """Keys of a few people, some of them nobody the other side knows; every tenth key column is empty."""
    many = range(60) if side == "bank" else range(10, 70)
    people = rng.choices(many, k=count) if repeats else rng.sample(many, min(count, len(many)))
    found = []
    for person in people:
        phone = None if rng.random() < 0.1 else f"p{person}"
        mail = None if rng.random() < 0.1 else f"m{person if rng.random() < 0.7 else rng.choice(many)}"
        value = None if rng.random() < 0.1 else rng.randrange(10)
        found.append((phone, mail, value, rng.choice([*DOMAINS[NAMES[side][3]], None])))
    if repeats:
        return found
    seen: set[str] = set()
    return [row for row in found if row[1] is None or not (row[1] in seen or seen.add(row[1]))]  # type: ignore[func-returns-value]


def frame(side: str, content: Sequence[Row]) -> dict[str, list[Any]]:
    return {name: [row[place] for row in content] for place, name in enumerate(NAMES[side])}


def policy(side: str, duplicates: str = "all", alignment: str = "rows", min_size: int = 1, min_rows: int = 1) -> str:
    grants = ("[join]", "[join]", "[aggregate, filter]", "[group, filter]")
    columns = "".join(f"  {TABLES[side]}.{name}: {words}\n" for name, words in zip(NAMES[side], grants, strict=True))
    head = f"alignment: {alignment}\nmin_size: {min_size}\nmin_rows: {min_rows}\napprove: auto\n"
    return f"{head}duplicates: {duplicates}\ncolumns:\n{columns}"


def declaration(side: str, key: str, duplicates: str) -> str:
    first, second, value, group = NAMES[side]
    return (
        f"key: {KEYS[key].format(first, second)}\nduplicates: {duplicates}\ncolumns:\n"
        f"  {value}: {{type: integer, range: [0, 9]}}\n"
        f"  {group}: {{type: string, domain: [{', '.join(DOMAINS[group])}]}}\n"
    )


class World:
    """Two homes and DuckDB over what they hold."""

    def __init__(self, pair: TwoHomes) -> None:
        self.pair = pair
        self.db = duckdb.connect()
        self.db.execute("CREATE SCHEMA bank; CREATE SCHEMA telco")

    def set(self, key: str, duplicates: dict[str, str], seed: int, count: int = 50) -> None:
        rng = random.Random(seed)
        for side in TABLES:
            content = rows(rng, side, count, duplicates[side] != "error")
            self.pair.declare(side, declaration(side, key, duplicates[side]), policy(side))
            types = dict(zip(NAMES[side], (pa.string(), pa.string(), pa.int64(), pa.string()), strict=True))
            self.pair.fill(side, frame(side, content), types)
            path = self.pair.homes[side] / "data.parquet"
            self.db.execute(
                f"CREATE OR REPLACE TABLE {side}.numbered AS"
                f" SELECT file_row_number AS r, * FROM read_parquet('{path}', file_row_number = true)"
            )
            if duplicates[side] == "first":
                first, second = NAMES[side][:2]
                for columns in {"one": [first], "composite": [f"{first}, {second}"], "in order": [first]}[key]:
                    known = " AND ".join(f"{column} IS NOT NULL" for column in columns.split(", "))
                    self.db.execute(
                        f"DELETE FROM {side}.numbered WHERE {known} AND r NOT IN"
                        f" (SELECT min(r) FROM {side}.numbered WHERE {known} GROUP BY {columns})"
                    )

    def truth(self, sql: str, key: str, kind: str) -> list[dict[str, Any]]:
        """The statement's answer over the join as this project means it, made by DuckDB."""
        if key == "in order":
            source = self._in_order(kind)
        else:
            source = f"FROM bank.numbered b {kind} JOIN telco.numbered t ON {ON[key]}"
        cursor = self.db.execute(sql.format(join=source))
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, map(plain, row), strict=True)) for row in cursor.fetchall()]

    def _in_order(self, kind: str) -> str:
        """Pairs by phone; then pairs by e-mail of the rows on both sides that no phone has matched."""
        self.db.execute(
            "CREATE OR REPLACE TABLE pairs AS SELECT b.r AS br, t.r AS tr FROM bank.numbered b"
            " JOIN telco.numbered t ON b.phone = t.msisdn"
        )
        self.db.execute(
            "INSERT INTO pairs SELECT b.r, t.r FROM bank.numbered b JOIN telco.numbered t ON b.email = t.mail"
            " WHERE b.r NOT IN (SELECT br FROM pairs) AND t.r NOT IN (SELECT tr FROM pairs)"
        )
        return (
            f"FROM (bank.numbered b {kind} JOIN (pairs p JOIN telco.numbered t ON p.tr = t.r) ON p.br = b.r)"
            if kind != "RIGHT"
            else "FROM (pairs p JOIN bank.numbered b ON p.br = b.r) RIGHT JOIN telco.numbered t ON p.tr = t.r"
        )


def plain(value: Any) -> Any:
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(TwoHomes(tmp_path_factory.mktemp("joins")))


SETTINGS = [
    ("one", {"bank": "error", "telco": "error"}),
    ("one", {"bank": "all", "telco": "error"}),
    ("one", {"bank": "all", "telco": "all"}),
    ("one", {"bank": "first", "telco": "first"}),
    ("one", {"bank": "first", "telco": "all"}),
    ("composite", {"bank": "error", "telco": "error"}),
    ("composite", {"bank": "all", "telco": "all"}),
    ("in order", {"bank": "error", "telco": "error"}),
]


@pytest.mark.parametrize(
    ("key", "duplicates"), SETTINGS, ids=lambda value: value if isinstance(value, str) else "-".join(value.values())
)
@pytest.mark.parametrize("kind", ["INNER", "LEFT", "RIGHT"])
def test_statements_equal_duckdb(key: str, duplicates: dict[str, str], kind: str, world: World) -> None:
    world.set(key, duplicates, seed=len(key) + len(kind))
    join = JOIN.format(kind=kind, on=ON[key])
    answers = world.pair.ask(*[sql.format(join=join) for sql in ASKED])
    wrong = [
        (sql, answer["rows"], truth)
        for sql, answer in zip(ASKED, answers, strict=True)
        if not same(answer["rows"], truth := world.truth(sql, key, kind))
    ]
    assert not wrong
    assert answers[0]["rows"][0]["n"] > 4
    assert [answer["alignment"]["reused"] for answer in answers] == [False, True, True]
