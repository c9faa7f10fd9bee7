"""An incremental job through the installed command: the same answers with a fraction of the bytes, and its refusals."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from .homes import expect, make_pair, tally
from .small import check_ledgers

JOB = """\
version: 1
name: nightly
peer: telco
align: {bank: customers, telco: subscribers, learns: both, incremental: true}
analyse:
  - name: total
    sql: |
      SELECT COUNT(*) AS n, SUM(b.balance * t.bills) AS weighted
      FROM bank.customers b JOIN telco.subscribers t ON b.id = t.id
"""
TABLES = """\
{name}:
  url: parquet:data.parquet
  key: [id]
  columns:
    {column}: {{type: integer, range: [0, 1000]}}
"""
POLICY = """\
alignment: rows
min_size: 20
min_rows: 10
approve: auto
{series}columns:
  {name}.id: [join]
  {name}.{column}: [aggregate]
"""
SIDES = {"bank": ("customers", "balance"), "telco": ("subscribers", "bills")}


def half(side: str, series: str = "series: {runs: 3, days: 30}\n") -> tuple[str, str]:
    name, column = SIDES[side]
    return TABLES.format(name=name, column=column), POLICY.format(name=name, column=column, series=series)


def write(home: Path, column: str, rows: dict[int, int], rng: random.Random) -> None:
    keys = rng.sample(sorted(rows), len(rows))
    ids = pa.array([f"customer-{key:06d}" for key in keys])
    pq.write_table(pa.table({"id": ids, column: [rows[key] for key in keys]}), home / "data.parquet")


@pytest.mark.alone
def test_nightly_runs_send_what_changed_and_answer_as_the_joined_table_does(tmp_path: Path) -> None:
    rng = random.Random(1)
    pair = make_pair(tmp_path, half("bank"), half("telco"))
    (pair.bank / "job.yaml").write_text(JOB)
    bank = {key: rng.randrange(1000) for key in range(2000)}
    telco = {key: rng.randrange(1000) for key in range(1000, 3500)}
    sent = []
    with pair.served():
        for night in range(4):
            for home, column, rows in ((pair.bank, "balance", bank), (pair.telco, "bills", telco)):
                write(home, column, rows, rng)
            found = expect(tally(pair.bank, "run", str(pair.bank / "job.yaml"), "--direct", "--json")).json
            common = bank.keys() & telco.keys()
            total = sum(bank[key] * telco[key] for key in common)
            assert found["queries"]["total"] == [{"n": len(common), "weighted": total}]
            assert found["rows"] == len(common)
            stage = next(entry for entry in found["details"]["stages"] if entry["stage"] == "align")
            sent.append(stage["sent"] + stage["received"])
            for rows in (bank, telco):
                for key in rng.sample(sorted(rows), 20):
                    del rows[key]
                rows |= {key: rng.randrange(1000) for key in rng.sample(range(4000, 4040), 20)}
    assert max(sent[1], sent[2]) < 0.1 * sent[0]
    assert sent[3] > 0.8 * sent[0]  # three runs a key
    check_ledgers(pair)
    for home in (pair.bank, pair.telco):
        assert len(list((home / "state" / "series").iterdir())) == 1
        content = b"".join(path.read_bytes() for path in (home / "state" / "series").rglob("*") if path.is_file())
        assert b"customer-" not in content
        assert not list((home / "state" / "series").rglob("*.new")) and not list((home / "state").rglob("work-*"))


@pytest.mark.parametrize(("closed", "code"), [("bank", 3), ("telco", 4)])
@pytest.mark.alone
def test_a_policy_without_series_refuses(closed: str, code: int, tmp_path: Path) -> None:
    halves = [half(side, "" if side == closed else "series: {runs: 3, days: 30}\n") for side in ("bank", "telco")]
    pair, rng = make_pair(tmp_path, *halves), random.Random(2)
    (pair.bank / "job.yaml").write_text(JOB)
    write(pair.bank, "balance", dict.fromkeys(range(100), 1), rng)
    write(pair.telco, "bills", dict.fromkeys(range(100), 1), rng)
    with pair.served():
        answer = expect(tally(pair.bank, "run", str(pair.bank / "job.yaml"), "--direct", "--json"), code)
    assert "series" in answer.json["error"]["message"]
    check_ledgers(pair)
    assert not (pair.bank / "state" / "series").exists()
