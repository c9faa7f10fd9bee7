"""The history of answers in real runs: kept by both sides, asked before each answer, written before anything leaves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mpc import sql
from party.errors import InternalError, PeerError, PolicyRefused, TallyError, UsageError
from pipelines import history
from tests.pipelines.two_homes import TABLES, TwoHomes

KEYS = {"bank": "phone", "telco": "msisdn"}
JOIN = "FROM bank.customers b JOIN telco.subscribers t ON b.phone = t.msisdn"
ALL = f"SELECT COUNT(*) AS n, SUM(b.balance) AS s {JOIN}"
FEW_LESS = f"{ALL} WHERE t.minutes > 2"  # 3 of 100 rows less
MANY_LESS = f"{ALL} WHERE t.minutes > 60"
COLUMNS = {"bank": "balance", "telco": "minutes"}


def declare(pair: TwoHomes, side: str, more: str = "") -> None:
    key, column = KEYS[side], COLUMNS[side]
    policy = f"alignment: rows\nmin_size: 1\nmin_rows: 10\napprove: auto\n{more}\ncolumns:\n"
    grants = f"  {TABLES[side]}.{key}: [join]\n  {TABLES[side]}.{column}: [aggregate, filter]\n"
    pair.declare(side, f"key: [{key}]\ncolumns:\n  {column}: {{type: integer, range: [0, 1000]}}\n", policy + grants)


@pytest.fixture
def pair(tmp_path: Path) -> TwoHomes:
    made = TwoHomes(tmp_path)
    for side, key in KEYS.items():
        declare(made, side)
        made.fill(side, {key: [f"p{n}" for n in range(100)], COLUMNS[side]: list(range(100))})
    return made


def kept(pair: TwoHomes, side: str) -> list[dict[str, Any]]:
    folder = pair.homes[side] / "state" / "history"
    return [json.loads(path.read_bytes()) for path in sorted(folder.glob("*.json"))]


def disclosed(pair: TwoHomes, side: str) -> list[str]:
    return [event["what"] for event in pair.events(side, "disclosure")]


def test_a_statement_that_is_nearly_an_earlier_one_is_refused_on_both_sides(pair: TwoHomes) -> None:
    (answer,) = pair.ask(ALL)
    assert answer["rows"] == [{"n": 100, "s": 4950}]
    before = {side: len(pair.events(side, "disclosure")) for side in TABLES}
    with pytest.raises(TallyError, match=r"differ by fewer than min_rows \(10\)") as met:
        pair.ask(FEW_LESS)
    assert met.value.exit_code in (3, 4) and isinstance(pair.met[0], TallyError)
    assert {met.value.exit_code, pair.met[0].exit_code} <= {3, 4}
    assert not {"97", "3 rows"} & set(met.value.message.replace(",", " ").split())
    for side in TABLES:
        told = disclosed(pair, side)[before[side] :]
        assert "query.query.history" in told and not [what for what in told if what.startswith("query.query.n")]
        assert pair.events(side, "refused")[-1]["by"] == "history"
    assert [event["queries"] for event in pair.events("telco", "debit")] == [1, 1]
    (answer,) = pair.ask(MANY_LESS)  # nothing is spoilt by a refusal
    assert answer["rows"] == [{"n": 39, "s": sum(range(61, 100))}] and answer["alignment"]["reused"]


def test_what_was_answered_is_written_down_once_and_before_it_leaves(
    pair: TwoHomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_execution: list[int] = []
    real = sql.execute

    def watched(*args: Any) -> Any:
        at_execution.extend(len(one["entries"]) for side in TABLES for one in kept(pair, side))
        return real(*args)

    monkeypatch.setattr(sql, "execute", watched)
    pair.ask(ALL, ALL)
    assert at_execution and 0 not in at_execution
    bank, telco = kept(pair, "bank"), kept(pair, "telco")
    assert len(bank) == len(telco) == 1 and bank[0]["entries"].keys() == telco[0]["entries"].keys()
    assert len(bank[0]["entries"]) == 1


def test_a_first_statement_and_the_same_again_cost_no_round_more(pair: TwoHomes) -> None:
    def rounds(*asked: str) -> list[int]:
        runs = [answer["run"] for answer in pair.ask(*asked)]
        stages = [pair.result("bank", run)["details"]["stages"] for run in runs]
        return [stage["rounds"] for found in stages for stage in found if stage["stage"] == "analyse"]

    first, again, other = rounds(ALL, ALL, MANY_LESS)
    assert again <= first < other
    for side in TABLES:
        shutil.rmtree(pair.homes[side] / "state" / "history")
    (alone,) = rounds(ALL)
    assert alone == first


def test_a_new_alignment_has_a_history_of_its_own(pair: TwoHomes) -> None:
    pair.ask(ALL)
    (answer,) = pair.ask(FEW_LESS, realign=True)
    assert answer["rows"][0]["n"] == 97 and not answer["alignment"]["reused"]
    assert len(kept(pair, "bank")) == 2


def test_a_side_that_lost_its_history_aligns_anew(pair: TwoHomes) -> None:
    pair.ask(ALL)
    shutil.rmtree(pair.homes["telco"] / "state" / "history")
    (answer,) = pair.ask(ALL)
    assert not answer["alignment"]["reused"]
    (answer,) = pair.ask(MANY_LESS)
    assert answer["alignment"]["reused"]


def test_a_damaged_history_is_said_to_be_one(pair: TwoHomes) -> None:
    pair.ask(ALL)
    (path,) = (pair.homes["bank"] / "state" / "history").glob("*.json")
    path.write_text("{")
    with pytest.raises(InternalError, match="damaged") as met:
        pair.ask(ALL)
    assert "--realign" in (met.value.hint or "")
    (answer,) = pair.ask(FEW_LESS, realign=True)
    assert answer["rows"][0]["n"] == 97


def test_statistics_and_statements_are_compared(pair: TwoHomes) -> None:
    job = f"""\
version: 1
name: both
peer: telco
align: {{bank: customers, telco: subscribers, learns: both}}
analyse:
  - {{name: mean, statistics: {{mean: [bank.balance, telco.minutes]}}}}
  - {{name: few, sql: "{FEW_LESS}"}}
"""
    with pytest.raises(TallyError, match="rows of few and those of an earlier answer"):
        pair.run(job)
    assert any(what.startswith("query.mean.") for what in disclosed(pair, "telco"))


def test_the_selects_of_a_union_are_compared_with_one_another(pair: TwoHomes) -> None:
    (answer,) = pair.ask(f"{ALL} UNION ALL {MANY_LESS}")
    assert [row["n"] for row in answer["rows"]] == [100, 39]
    with pytest.raises(TallyError, match="differ by fewer than"):
        pair.ask(f"{MANY_LESS} UNION ALL {MANY_LESS} AND b.balance > 62")
    assert len(kept(pair, "bank")[0]["entries"]) == 1


def test_another_run_at_the_same_time_is_not_overlooked(pair: TwoHomes, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.ask(ALL)
    real, other = history._add, {"entry": {"sql": "other"}, "pending": None}

    def interrupted(live: Any, before: history.Answered, entry: dict[str, Any], unit: str) -> None:
        if live.us == "bank":  # another process of this home writes after we have read
            content = json.loads(before.path.read_bytes())
            content["entries"]["f" * 64] = other
            before.path.write_text(json.dumps(content))
        real(live, before, entry, unit)

    monkeypatch.setattr(history, "_add", interrupted)
    with pytest.raises(PolicyRefused, match="at the same time"):
        pair.ask(MANY_LESS)
    for side in TABLES:
        assert len([what for what in disclosed(pair, side) if what == "query.query.n.count"]) <= 1
        assert len(pair.events(side, "result")) == 1  # of the first statement


def test_a_run_that_broke_goes_on_and_is_remembered_once(pair: TwoHomes, monkeypatch: pytest.MonkeyPatch) -> None:
    job = f"""\
version: 1
name: two
peer: telco
align: {{bank: customers, telco: subscribers, learns: both}}
analyse:
  - {{name: one, sql: "{ALL}"}}
  - {{name: two, sql: "{MANY_LESS}"}}
"""
    real, calls = sql.execute, []

    def broken(plan: sql.Plan, *args: Any) -> Any:
        if plan.name == "two" and args[1].channel.us == "bank":
            calls.append(plan.name)
            if len(calls) == 1:
                raise OSError(28, "No space left on device")
        return real(plan, *args)

    monkeypatch.setattr(sql, "execute", broken)
    with pytest.raises(InternalError):
        pair.run(job)
    assert {len(one["entries"]) for side in TABLES for one in kept(pair, side)} == {2}
    pair.met.clear()
    result = pair.run(job)
    assert result["queries"]["two"] == [{"n": 39, "s": sum(range(61, 100))}] and len(calls) == 2
    assert {len(one["entries"]) for side in TABLES for one in kept(pair, side)} == {2}


def test_a_run_cannot_go_on_when_the_sides_remember_different_answers(
    pair: TwoHomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = f"""\
version: 1
name: two
peer: telco
align: {{bank: customers, telco: subscribers, learns: both}}
analyse:
  - {{name: one, sql: "{ALL}"}}
  - {{name: two, sql: "{MANY_LESS}"}}
"""
    real = sql.execute

    def broken(plan: sql.Plan, *args: Any) -> Any:
        if plan.name == "two":
            raise OSError(28, "No space left on device")
        return real(plan, *args)

    monkeypatch.setattr(sql, "execute", broken)
    with pytest.raises(InternalError):
        pair.run(job)
    monkeypatch.setattr(sql, "execute", real)
    shutil.rmtree(pair.homes["telco"] / "state" / "history")
    with pytest.raises(PeerError, match="remember different answers") as met:
        pair.run(job)
    assert "--new" in (met.value.hint or "")
    assert pair.run(job, new=True)["queries"]["two"][0]["n"] == 39


def test_a_join_over_some_rows_and_one_over_all_of_an_alignment_are_not_mixed(pair: TwoHomes) -> None:
    job = f"""\
version: 1
name: mixed
peer: telco
align: {{bank: customers, telco: subscribers, learns: both, keep: bank}}
analyse:
  - {{name: inner, sql: "{ALL}"}}
  - {{name: outer, sql: "{ALL.replace("JOIN", "LEFT JOIN")}"}}
"""
    with pytest.raises(UsageError, match="JOIN and LEFT JOIN"):
        pair.run(job)


# --- numbers of whole tables ------------------------------------------------------------------------------------------

WHOLE = "(SELECT SUM(minutes) FROM telco.subscribers)"
LESS_ONE = "(SELECT SUM(minutes) FROM telco.subscribers WHERE minutes <> 42)"
LESS_MANY = "(SELECT SUM(minutes) FROM telco.subscribers WHERE minutes < 50)"


@pytest.mark.parametrize(
    "columns",
    [
        f"SUM({WHOLE} - {LESS_ONE})",
        f"COUNT(*) FILTER (WHERE {WHOLE} - {LESS_ONE} > 40)",
        f"COUNT(*) FILTER (WHERE t.minutes < {WHOLE}) AS n, COUNT(*) FILTER (WHERE t.minutes < {LESS_ONE})",
        f"COUNT(*) FILTER (WHERE t.minutes < {WHOLE}"
        " - (SELECT SUM(CASE WHEN minutes <> 42 THEN minutes ELSE 0 END) FROM telco.subscribers))",
    ],
)
def test_two_numbers_of_a_whole_table_do_not_tell_one_row_of_it(pair: TwoHomes, columns: str) -> None:
    with pytest.raises(TallyError, match=r"differ by fewer than min_rows \(10\)"):
        pair.ask(f"SELECT {columns} AS x {JOIN}")
    assert pair.events("telco", "refused")[-1]["by"] == "history"
    assert not [what for what in disclosed(pair, "telco") if what.startswith("query.query.")]


def test_nor_do_the_numbers_of_two_statements(pair: TwoHomes) -> None:
    def statement(number: str) -> str:
        return f"SELECT SUM({number}) AS x {JOIN}"

    (answer,) = pair.ask(statement(WHOLE))
    assert answer["rows"] == [{"x": 100 * 4950}]
    with pytest.raises(TallyError, match=r"differ by fewer than min_rows \(10\)"):
        pair.ask(statement(LESS_ONE))
    (answer,) = pair.ask(statement(LESS_MANY))
    assert answer["rows"] == [{"x": 100 * sum(range(50))}]
    (again,) = pair.ask(statement(WHOLE))
    assert again["rows"] == [{"x": 100 * 4950}]


def test_numbers_of_the_receiver_s_own_table_are_its_own(pair: TwoHomes) -> None:
    numbers = [f"(SELECT SUM(balance) FROM bank.customers{where})" for where in ("", " WHERE balance <> 42")]
    (answer,) = pair.ask(f"SELECT SUM({numbers[0]} - {numbers[1]}) AS x {JOIN}")
    assert answer["rows"] == [{"x": 100 * 42}]
