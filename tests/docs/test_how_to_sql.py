"""The commands of the how-to on SQL work as they stand, and answer what DuckDB does over the joined table."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path

import duckdb
import pyarrow as pa

from party.home import Home
from pipelines import alignments
from pipelines.runs import RunState, list_runs
from pipelines.tables import open_table
from tests.docs.pages import DOCS
from tests.docs.walk import Walk

PAGE = DOCS / "how-to/ask-in-sql.md"
TABLES = {"bank": ("customers", "phone"), "telco": ("subscribers", "msisdn")}


def joined(folder: Path) -> duckdb.DuckDBPyConnection:
    """The aligned rows of both, each pair under one key, and the bank's whole table under SELECTs of its own."""
    connection = duckdb.connect(":memory:")
    for party, (name, key) in TABLES.items():
        home = Home.open(folder / party)
        source = open_table(home, name)
        whole = source.read([field.name for field in source.schema()])
        arrays = next(
            found
            for run in list_runs(home.state / "runs")
            if (found := RunState(home.state / "runs", run["run"]).get_arrays("alignment"))
        )
        taken = whole.take(pa.array(alignments.from_arrays(arrays).rows))
        keys = pa.array([str(n) for n in range(taken.num_rows)])
        taken = taken.set_column(taken.schema.get_field_index(key), key, keys)
        connection.register("given", taken)
        connection.execute(f"CREATE SCHEMA {party}; CREATE TABLE {party}.{name} AS SELECT * FROM given")
        connection.register("given", whole)
        connection.execute(f"CREATE TABLE whole_{name} AS SELECT * FROM given")
    return connection


def test_every_command_of_the_how_to_works_and_the_answers_are_duckdbs(tmp_path: Path) -> None:
    walk = Walk.after_the_tutorial(tmp_path)
    walk.follow(PAGE)
    said = "\n".join(walk.said)
    assert "missing at telco: subscribers.minutes needs `rank`" in said
    assert "subscribers.minutes: [filter, compare, aggregate, rank, feature]" in said
    assert "customers.region: [join, filter, group, aggregate]" in said and "      offices.city: [group]\n" in said
    with joined(tmp_path) as connection:
        for name in ("by_plan", "share"):
            (statement,) = re.findall(rf'-o {name}\.csv "\n(.*?)"\n```', PAGE.read_text(), flags=re.S)
            plain = statement.replace("FROM bank.customers)", "FROM whole_customers)")
            due = connection.execute(plain).fetchall()
            header, *rows = csv.reader((tmp_path / f"{name}.csv").read_text().splitlines())
            assert header == [column[0] for column in connection.description or ()]
            assert len(rows) == len(due) > 0
            for row, want in zip(rows, due, strict=True):
                for cell, value in zip(row, want, strict=True):
                    assert cell == value or math.isclose(float(cell), float(value), rel_tol=1e-9), (name, row, want)
        (mean,) = connection.execute("SELECT AVG(minutes) FROM telco.subscribers").fetchone() or ()
    steps, answer = (json.loads(line) for line in walk.said[-1].strip().split("\n"))
    assert steps["explain"] and steps["run"] is None
    assert math.isclose(answer["rows"][0]["m"], mean, rel_tol=1e-9)
