"""Statements that use a column beyond its grants, in every place a column can stand: none gets past the policy."""

from __future__ import annotations

import itertools
import random

from mpc import sql
from party.catalogue import Catalogue, Column, Table
from party.errors import UsageError
from party.policy import PeerPolicy, decide
from party.request import Use

JOIN = "FROM bank.customers b JOIN telco.subscribers t ON b.phone = t.msisdn"
GRANTS = {
    "bank": {"phone": "join", "money": "aggregate", "sieve": "filter", "kind": "group", "trait": "feature"},
    "telco": {"msisdn": "join", "minutes": "aggregate", "plan": "filter", "tier": "group", "bill": "label"},
}
TABLES = {"bank": "customers", "telco": "subscribers"}
USES = {
    "aggregate": [
        "SELECT SUM({c}) AS x {j}", "SELECT COUNT({c}) AS x {j}", "SELECT AVG({c} + 1) AS x {j}",
        "SELECT SUM({c} * {o}) AS x {j}", "SELECT CORR({o}, {c}) AS x {j}", "SELECT COVAR_POP({c}, {o}) AS x {j}",
        "SELECT VAR_SAMP(ABS({c})) AS x {j}", "SELECT SUM(COALESCE({c}, 0)) AS x {j}", "SELECT SUM(-{c}) AS x {j}",
        "SELECT SUM(CASE WHEN {f} > 1 THEN {c} ELSE 0 END) AS x {j}", "SELECT 2 * SUM({o} - {c}) AS x {j}",
        "SELECT SUM({o}) / SUM({c}) AS x {j}", "SELECT SUM(NULLIF({c}, 3)) AS x {j}",
    ],
    "filter": [
        "SELECT COUNT(*) AS x {j} WHERE {c} = 1", "SELECT COUNT(*) AS x {j} WHERE NOT ({c} < 2)",
        "SELECT SUM({o}) AS x {j} WHERE {c} IN (1, 2)", "SELECT SUM({o}) AS x {j} WHERE {c} IS NULL",
        "SELECT COUNT(*) AS x {j} WHERE {c} BETWEEN 1 AND 2", "SELECT COUNT(*) AS x {j} WHERE {f} = 1 OR {c} = 2",
        "SELECT COUNT(*) FILTER (WHERE {c} > 1) AS x {j}",
        "SELECT SUM({o}) FILTER (WHERE {f} > 0 AND {c} > 1) AS x {j}",
        "SELECT CASE WHEN {c} > 2 THEN 1 ELSE 0 END AS g, COUNT(*) AS x {j} GROUP BY 1",  # its values do not show
        "SELECT SUM(CASE WHEN {c} > 1 THEN {o} ELSE 0 END) AS x {j}", "SELECT COUNT(*) AS x {j} WHERE ABS({c}) > 2",
        "SELECT SUM(CASE {c} WHEN 1 THEN {o} END) AS x {j}", "SELECT COUNT(*) AS x {j} WHERE {c} + {c} > 3",
    ],
    "group": [
        "SELECT {c} AS g, COUNT(*) AS x {j} GROUP BY {c}",
        "SELECT {c} AS g, {g} AS h, SUM({o}) AS x {j} GROUP BY {c}, {g}",
        "SELECT COUNT(*) AS x {j} GROUP BY {c}", "SELECT {c} + 1 AS g, COUNT(*) AS x {j} GROUP BY 1",
    ],
}  # fmt: skip


def catalogues() -> tuple[Catalogue, Catalogue]:
    found = []
    for party, grants in GRANTS.items():
        columns = tuple(
            Column(name, "string" if use == "join" else "integer", low=0, high=9, grants=frozenset({use}))
            for name, use in grants.items()
        )
        found.append(Catalogue(party, (Table(TABLES[party], ((columns[0].name,),), columns, 1000),)))
    return found[0], found[1]


def missing(statement: str) -> tuple[str, ...] | None:
    """What both policies lack for it, after each side's own reading; None when it cannot be planned at all."""
    try:
        plan = sql.plan(statement, sql.Context("q", catalogues(), ("bank",), 1000, 20))
    except UsageError:
        return None
    lacking: tuple[str, ...] = ()
    for party, peer in (("bank", "telco"), ("telco", "bank")):
        columns = {f"{TABLES[party]}.{name}": frozenset({use}) for name, use in GRANTS[party].items()}
        lacking += decide(PeerPolicy(peer, alignment="rows", columns=columns), party, peer, plan.request)
    return lacking


def statements() -> list[tuple[str, Use]]:
    found = []
    for use, templates in USES.items():
        for party, alias in (("bank", "b"), ("telco", "t")):
            for name, granted in GRANTS[party].items():
                if granted == use:
                    continue
                for template, (other, o_alias) in itertools.product(templates, (("bank", "b"), ("telco", "t"))):
                    named = {use_: name_ for name_, use_ in GRANTS[other].items()}
                    for column in (f"{alias}.{name}", f'{alias}."{name}"', f"({alias}.{name})", f"+{alias}.{name}"):
                        text = template.format(
                            c=column, j=JOIN, o=f"{o_alias}.{named['aggregate']}", f=f"{o_alias}.{named['filter']}",
                            g=f"{o_alias}.{named['group']}",
                        )  # fmt: skip
                        found.append((text, Use(party, TABLES[party], name, use)))
    return found


def test_no_statement_uses_a_column_beyond_its_grants() -> None:
    asked = statements()
    assert len(asked) >= 1500
    sample = random.Random(7).sample(asked, 700)
    planned = 0
    for text, use in sample:
        lacking = missing(text)
        if lacking is not None:
            planned += 1
            assert any(f"{use.table}.{use.column} needs `" in line for line in lacking), text
    assert planned > 100, "most of the statements must reach the policy to prove anything"


def test_the_same_statements_pass_where_the_grant_is_there() -> None:
    good = [
        f"SELECT SUM(b.money * t.minutes) AS x {JOIN} WHERE b.sieve = 1 AND t.plan > 2",
        f"SELECT b.kind AS g, t.tier AS h, COUNT(*) AS x {JOIN} GROUP BY b.kind, t.tier",
        f"SELECT SUM(CASE WHEN t.plan > 1 THEN t.minutes ELSE 0 END) AS x {JOIN}",
    ]
    assert [missing(text) for text in good] == [(), (), ()]
