"""10,000 statements and jobs that use a column beyond its grants, and none gets past its owner's own reading.

The path is that of a run: the job's canonical bytes, our reading of them, the request we derive, our policy's decision.
What gets past must not touch the column: not in the request, and not in the SQL that its owner would evaluate,
which is read again here by a parser and not by the planner.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest
import sqlglot
from sqlglot import exp

from mpc import sql
from mpc.statistics.wanted import Wanted
from party.canonical import canonical
from party.catalogue import Catalogue, Column, Table
from party.errors import PeerError, PolicyRefused, UsageError
from party.policy import PeerPolicy, decide, visible
from party.request import Request
from pipelines import asked
from pipelines.job import Align, Analysis, Job, Train
from tests.pipelines.bypass import COLUMNS, JOIN, KEYS, TABLES, TEMPLATES, Try, filled, granted, tries

ROWS = 1000
PEER = {"bank": "telco", "telco": "bank"}


def policy(party: str) -> PeerPolicy:
    """Each owner's own file, towards the other."""
    columns = {f"{TABLES[party]}.{name}": grants for name, grants in COLUMNS[party].items()}
    return PeerPolicy(PEER[party], alignment="rows", columns=columns, approve="auto")


def shown(party: str) -> Catalogue:
    """What the other side sees of all columns."""
    columns = tuple(
        Column(name, "string") if name == KEYS[party] else Column(name, "integer", low=0, high=9)
        for name in COLUMNS[party]
    )
    whole = Catalogue(party, (Table(TABLES[party], ((KEYS[party],),), columns, ROWS),))
    return visible(whole, policy(party))


CATALOGUES = (shown("bank"), shown("telco"))


def job_of(attempt: Try) -> Job:
    """The peer's job: it runs at the other side of the column's owner."""
    align, peer = Align(tuple(TABLES.items()), "both"), PEER[attempt.party]
    if attempt.sql is not None:
        return Job("query", peer, align, (Analysis("q", (peer,), attempt.sql),))
    column = f"{attempt.party}.{attempt.column}"
    if attempt.statistic in ("label", "feature"):
        features = {party: tuple(f"{party[0]}_f{place}" for place in range(3)) for party in TABLES}
        label = column if attempt.statistic == "label" else f"{attempt.party}.{attempt.party[0]}_tag"
        if attempt.statistic == "feature":
            features[attempt.party] = (*features[attempt.party][1:], attempt.column)
        return Job("model", peer, align, train=Train(label, tuple(features.items())))
    good = f"{peer}.{peer[0]}_money"
    wanted = ((str(attempt.statistic), Wanted((good, column))),)
    return Job("numbers", peer, align, (Analysis("q", (peer,), None, wanted),))


def read_again(job: Job) -> tuple[Request, Job]:
    """As the owner's side reads a proposal."""
    ours = Job.from_canonical(canonical(job.canonical()))
    return asked.request(ours, CATALOGUES), ours


def columns_read(text: str) -> set[str]:
    """Every column in the SQL of a local step."""
    return {str(node.this.this) for node in sqlglot.parse_one(text, dialect="duckdb").find_all(exp.Column)}


def outcome(attempt: Try) -> str:
    """`unreadable`, `refused` by policy, or `harmless`: AssertionError when it gets at the column."""
    try:
        request, job = read_again(job_of(attempt))
    except (UsageError, PeerError, PolicyRefused):
        return "unreadable"
    lacking = [line for party in TABLES for line in decide(policy(party), party, PEER[party], request)]
    if lacking:
        return "refused"
    for use in request.uses:  # what is allowed is granted, word by word
        assert use.use in COLUMNS[use.party][use.column], attempt
    used = {(use.party, use.column) for use in request.uses if use.use != "join"}
    assert (attempt.party, attempt.column) not in used, attempt
    for item in job.analyse:
        if item.sql is None:
            continue
        plans = sql.plans(item.sql, asked.context(job, item, CATALOGUES, ROWS))
        for party in TABLES:
            read = set().union(*(columns_read(plan.local[party]) for plan in plans))
            assert read <= {column for owner, column in used if owner == party}, attempt
            assert party != attempt.party or attempt.column not in read, attempt
    return "harmless"


def check(count: int, seed: int) -> Counter[str]:
    found = Counter(outcome(attempt) for attempt in tries(count, seed))
    assert sum(found.values()) == count
    assert found["refused"] * 3 > count, f"too few reach the policy to prove anything: {found}"
    assert found["harmless"] * 20 < count, f"too many do not mean the column at all: {found}"
    return found


def test_a_thousand_attempts_get_at_nothing() -> None:
    check(1000, 7)


@pytest.mark.slow
def test_ten_thousand_attempts_get_at_nothing() -> None:
    check(10_000, 11)


@pytest.mark.parametrize("needs", sorted(set(TEMPLATES) - {"output"}))
def test_the_same_places_are_open_to_a_column_with_the_grant(needs: str) -> None:
    """Else a template would be refused for its own sake, and say nothing about grants."""
    rng = random.Random(5)
    for template in TEMPLATES[needs]:
        for party in TABLES:
            text = filled(template, rng, party, granted(needs, party))
            request, _ = read_again(job_of(Try(party, "closed", needs, sql=text)))
            lacking = [line for owner in TABLES for line in decide(policy(owner), owner, PEER[owner], request)]
            assert not lacking, (text, lacking)


@pytest.mark.parametrize("number", ["SUM({c} > 1)", "AVG({c} IS NULL)", "SUM(NOT {c} = 2)", "VAR_POP({c} IN (1, 2))"])
def test_a_condition_that_is_summed_is_a_filter(number: str) -> None:
    """Found here: a column open for `aggregate` alone gave the number of rows under any condition on it."""
    text = f"SELECT {number.format(c='b.b_no_filter')} AS n {JOIN}"
    assert outcome(Try("bank", "b_no_filter", "filter", sql=text)) == "refused"


def test_a_hole_in_the_request_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were conditions of FILTER forgotten in the request, the parser over the local SQL sees them."""
    attempt = Try(
        "bank", "b_no_filter", "filter", sql=f"SELECT SUM(b.b_money) FILTER (WHERE b.b_no_filter > 1) AS n {JOIN}"
    )
    assert outcome(attempt) == "refused"
    honest = asked.request

    def careless(job: Job, catalogues: tuple[Catalogue, Catalogue]) -> Request:
        found = honest(job, catalogues)
        return Request(frozenset(use for use in found.uses if use.column != "b_no_filter"), found.openings)

    monkeypatch.setattr(asked, "request", careless)
    with pytest.raises(AssertionError):
        outcome(attempt)
