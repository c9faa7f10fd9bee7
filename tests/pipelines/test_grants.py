"""What a job needs of both policies, printed as lines that make the job run once they are put into policy.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from party.errors import UsageError
from party.home import Home
from party.yamlfile import parse
from pipelines import verbs_plan
from pipelines.tables import catalogue, keep_catalogue
from tests.pipelines.two_homes import TABLES, TwoHomes

JOIN = "FROM bank.customers b JOIN telco.subscribers t ON b.phone = t.msisdn"
WHERE = "b.region LIKE 'n%' AND t.minutes > 3"
SQL = f"SELECT t.plan, COUNT(*) AS n, AVG(b.balance) AS a {JOIN} WHERE {WHERE} GROUP BY t.plan"
JOB = f"""\
version: 1
name: asked
peer: telco
align: {{bank: customers, telco: subscribers, learns: both}}
analyse:
  - {{name: one, sql: "{SQL}"}}
  - {{name: two, statistics: {{mean: [bank.income, telco.minutes]}}}}
"""
KEYS = {"bank": "phone", "telco": "msisdn"}
NUMBER = "{type: integer, range: [0, 9]}"
DECLARED = {
    "bank": f"key: [phone]\ncolumns:\n  balance: {NUMBER}\n  income: {NUMBER}\n",
    "telco": f"key: [msisdn]\ncolumns:\n  minutes: {NUMBER}\n  plan: {{type: string, domain: [a, b]}}\n",
}
HEAD = "alignment: rows\nmin_size: 1\nmin_rows: 1\napprove: auto\ncolumns:\n"


def declare(pair: TwoHomes, side: str, *granted: str) -> None:
    lines = [f"{TABLES[side]}.{KEYS[side]}: [join]", *granted]
    pair.declare(side, DECLARED[side], HEAD + "".join(f"  {line}\n" for line in lines))


@pytest.fixture
def pair(tmp_path: Path) -> TwoHomes:
    made = TwoHomes(tmp_path)
    rows = 40
    keys = [f"p{n}" for n in range(rows)]
    numbers = [n % 10 for n in range(rows)]
    made.fill("bank", {"phone": keys, "balance": numbers, "income": numbers, "region": ["north", "south"] * 20})
    made.fill("telco", {"msisdn": keys, "minutes": numbers, "plan": ["a", "b"] * 20})
    for side in TABLES:
        declare(made, side)
    return made


def planned(pair: TwoHomes, job: str = JOB) -> dict[str, Any]:
    """`tally plan --offline` at the bank, which has seen what the telco shows now."""
    keep_catalogue(Home.open(pair.homes["bank"]), catalogue(Home.open(pair.homes["telco"]), "bank"))
    path = pair.homes["bank"] / "job.yaml"
    path.write_text(job)
    return verbs_plan.plan(pair.homes["bank"], path, True)


def columns(patch: list[str], peer: str) -> list[str]:
    """The lines under `peers.PEER.columns` of a patch, which is YAML as it stands."""
    tree = parse("version: 1\n" + "\n".join(patch) + "\n", "patch")
    section = tree.required("peers").required(peer).required("columns").mapping()
    return [f"{name}: [{', '.join(item.text() for item in words.list())}]" for name, words in section.items()]


def test_closed_columns_of_both_sides_are_in_the_patch_and_the_patch_lets_the_job_run(pair: TwoHomes) -> None:
    found = planned(pair)
    ours, theirs = columns(found["patch"]["bank"], "telco"), columns(found["patch"]["telco"], "bank")
    assert ours == [
        "customers.balance: [aggregate]",
        "customers.income: [aggregate]",
        "customers.region: [filter]",
    ]
    assert theirs == ["subscribers.minutes: [filter, aggregate]", "subscribers.plan: [group]"]
    assert any("guess" in line for line in found["explain"])
    declare(pair, "bank", *ours)
    declare(pair, "telco", *theirs)
    again = planned(pair)
    assert again["missing"] == {"bank": [], "telco": []} and again["patch"] == {"bank": [], "telco": []}
    assert not any("guess" in line for line in again["explain"])
    rows = pair.run(JOB)["queries"]["one"]
    assert [row["plan"] for row in rows] == ["a"] and rows[0]["n"] > 0


def test_a_column_that_may_be_a_slip_of_the_pen_is_named_with_the_nearest(pair: TwoHomes) -> None:
    declare(pair, "telco", "subscribers.minutes: [filter, aggregate]", "subscribers.plan: [group]")
    lines = planned(pair, JOB.replace("telco.minutes", "telco.minuts"))["explain"]
    (told,) = [line for line in lines if "guess" in line]
    assert told.startswith("telco does not show minuts (or is it minutes?): planned as a guess")


def test_what_is_true_of_every_answer_stands_once(pair: TwoHomes) -> None:
    lines = planned(pair)["explain"]
    assert lines.count("every answer: 40 aligned rows at most, min_rows 1") == 1
    assert not any(line.startswith(("one (", "two (")) and "aligned rows" in line for line in lines)
    assert any(line.startswith("one (to bank): bank learns") for line in lines)
    alone = planned(pair, JOB.partition("  - {name: two")[0])["explain"]
    assert "one (to bank): 40 aligned rows at most, min_rows 1" in alone


def test_what_is_granted_already_stays_in_the_line(pair: TwoHomes) -> None:
    declare(pair, "telco", "subscribers.minutes: [feature, aggregate]", "subscribers.plan: [group]")
    found = planned(pair)
    (line,) = columns(found["patch"]["telco"], "bank")
    assert line == "subscribers.minutes: [filter, aggregate, feature]"
    assert found["missing"]["telco"] == ["subscribers.minutes needs `filter`"]
    assert "in place of" in found["patch"]["telco"][-1]


def test_the_text_has_the_patch_of_each_side_under_its_name(pair: TwoHomes) -> None:
    text = verbs_plan.plan_text(planned(pair))
    assert "\n# policy.yaml of bank\npeers:\n  telco:\n    columns:\n      customers.balance: [aggregate]" in text
    assert (
        "\n# policy.yaml of telco\npeers:\n  bank:\n    columns:\n      subscribers.minutes: [filter, aggregate]"
        in text
    )


def test_a_column_that_our_table_does_not_have_is_no_missing_grant(pair: TwoHomes) -> None:
    declare(pair, "telco", "subscribers.minutes: [filter, aggregate]", "subscribers.plan: [group]")
    with pytest.raises(UsageError, match=r"no column b\.balanse"):
        planned(pair, JOB.replace("b.balance", "b.balanse"))


def test_what_is_wrong_with_our_own_column_is_told_though_the_peers_are_closed(pair: TwoHomes) -> None:
    with pytest.raises(UsageError, match=r"SUM of string: b\.region"):
        planned(pair, JOB.replace("AVG(b.balance)", "SUM(b.region)"))


def test_a_table_that_the_peer_does_not_show_says_what_its_policy_lacks(pair: TwoHomes) -> None:
    pair.declare("telco", DECLARED["telco"], "alignment: rows\napprove: auto\n")
    with pytest.raises(UsageError, match="telco shows bank no table 'subscribers'") as caught:
        planned(pair)
    assert "telco opens the key's columns" in str(caught.value.hint) and caught.value.party == "telco"


def test_the_nearest_table_is_named(pair: TwoHomes) -> None:
    with pytest.raises(UsageError, match="telco shows bank no table 'subscriber'") as caught:
        planned(pair, JOB.replace("subscribers", "subscriber"))
    assert caught.value.hint == "did you mean `subscribers`?"


def test_a_statement_that_nothing_would_make_right_is_refused_as_before(pair: TwoHomes) -> None:
    with pytest.raises(UsageError):
        planned(pair, JOB.replace("t.minutes > 3", "soundex(t.colour) = 'x'"))
