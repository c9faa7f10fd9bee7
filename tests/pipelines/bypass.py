"""Statements and jobs that use a column without one of its grants: every place of the grammar, every way to write it.

Each table has a column with every grant but one (`no_filter`, `no_group`, ...), columns with one grant only, a column
without any, and names that are hard to tell apart. A template says which grant its place needs; `tries` fills it with
columns that lack it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from party.request import GRANTS

__all__ = ["COLUMNS", "JOIN", "KEYS", "STATISTICS", "TABLES", "TEMPLATES", "Try", "filled", "granted", "tries"]

TABLES = {"bank": "customers", "telco": "subscribers"}
KEYS = {"bank": "phone", "telco": "msisdn"}
ALIAS = {"bank": "b", "telco": "t"}
JOIN = "FROM bank.customers b JOIN telco.subscribers t ON b.phone = t.msisdn"
ONE = {"aggregate": "money", "filter": "sieve", "group": "kind", "compare": "rating", "rank": "best"}


def _columns(party: str) -> dict[str, frozenset[str]]:
    """name -> grants of one party's columns; `both` and what begins with the party's letter differ between parties."""
    letter = ALIAS[party]
    found = {KEYS[party]: frozenset({"join"}), "closed": frozenset[str](), "both": frozenset({"output"})}
    found |= {f"{letter}_{name}": frozenset({grant}) for grant, name in ONE.items()}
    found |= {f"{letter}_no_{grant}": frozenset(GRANTS) - {grant} for grant in GRANTS}
    found |= {f"{letter}_trait": frozenset({"feature"}), f"{letter}_tag": frozenset({"label"})}
    found |= {f"{letter} odd": frozenset({"label"}), f"{letter}_Mixed": frozenset({"feature"})}
    found |= {f"{letter}_f{place}": frozenset({"feature"}) for place in range(3)}
    return found


COLUMNS = {party: _columns(party) for party in TABLES}

# Place by the grant that it needs. {c}: the column under attack; {m} {f} {g} {r} {k}: columns of either party with the
# grant aggregate, filter, group, rank, compare; {x}: one of the other party than {c}'s with compare; {j}: the join.
# {t} {a} {key}: {c}'s table with its alias, the alias, the key; {o}: the join of the other party's table to it;
# {e}: a column of its own party with the grant filter.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "filter": (
        "SELECT COUNT(*) AS n {j} WHERE {c} = 1", "SELECT COUNT(*) AS n {j} WHERE NOT ({c} < 2)",
        "SELECT SUM({m}) AS n {j} WHERE {c} IN (1, 2)", "SELECT SUM({m}) AS n {j} WHERE {c} IS NULL",
        "SELECT COUNT(*) AS n {j} WHERE {c} BETWEEN 1 AND 2", "SELECT COUNT(*) AS n {j} WHERE {f} = 1 OR {c} = 2",
        "SELECT COUNT(*) AS n {j} WHERE TRUE OR {c} = 1", "SELECT COUNT(*) AS n {j} WHERE FALSE AND {c} = 1 OR {f} > 1",
        "SELECT COUNT(*) AS n {j} WHERE {c} = {c}", "SELECT COUNT(*) AS n {j} WHERE 0 * {c} = 0",
        "SELECT COUNT(*) AS n {j} WHERE ({c} > 1) IS NOT TRUE", "SELECT COUNT(*) AS n {j} WHERE 1 < {c} AND {f} > 2",
        "SELECT COUNT(*) FILTER (WHERE {c} > 1) AS n {j}",
        "SELECT SUM({m}) FILTER (WHERE {f} > 0 AND {c} > 1) AS n {j}",
        "SELECT AVG({m}) FILTER (WHERE NOT ({f} > 0 OR {c} > 1)) AS n {j}",
        "SELECT MAX({r}) FILTER (WHERE {c} > 1) AS n {j}",
        "SELECT CASE WHEN {c} > 2 THEN 1 ELSE 0 END AS g, COUNT(*) AS n {j} GROUP BY 1",
        "SELECT CASE {c} WHEN 1 THEN 'a' ELSE 'b' END AS g, COUNT(*) AS n {j} GROUP BY g",
        "SELECT SUM(CASE WHEN {c} > 1 THEN {m} ELSE 0 END) AS n {j}",
        "SELECT SUM(CASE {c} WHEN 1 THEN {m} END) AS n {j}",
        "SELECT SUM(CASE WHEN {f} > 1 THEN 0 WHEN {c} > 1 THEN {m} END) AS n {j}",
        "SELECT SUM(IF({c} > 1, {m}, 0)) AS n {j}", "SELECT COUNT(CASE WHEN {c} > 1 THEN 1 END) AS n {j}",
        "SELECT SUM(CAST({c} > 1 AS INTEGER)) AS n {j}",
        "SELECT SUM({c} > 1) AS n {j}", "SELECT AVG({m} * CAST({c} > 1 AS INTEGER)) AS n {j}",
        "SELECT {g}, COUNT(*) AS n {j} GROUP BY {g} HAVING COUNT(*) FILTER (WHERE {c} > 1) > 3",
        "SELECT {g}, COUNT(*) AS n {j} GROUP BY {g} ORDER BY COUNT(*) FILTER (WHERE {c} > 1)",
        "SELECT {g}, SUM({m}) AS n {j} WHERE {c} > 1 GROUP BY {g} ORDER BY n DESC LIMIT 2 OFFSET 1",
        "SELECT COUNT(*) AS n FROM (SELECT * FROM {t} WHERE {c} > 1) {a} {o}",
        "SELECT COUNT(*) AS n FROM (SELECT {a}.{key}, {c} AS z FROM {t}) {a} {o} WHERE {a}.z = 2",
        "SELECT COUNT(*) AS n FROM (SELECT {a}.{key}, {c} > 1 AS z FROM {t}) {a} {o} WHERE {a}.z",
        "WITH w AS (SELECT {a}.{key}, {c} AS z FROM {t}) SELECT COUNT(*) AS n FROM w {a} {o} WHERE {a}.z + 1 > 2",
        "SELECT COUNT(*) AS n {j} UNION ALL SELECT COUNT(*) {j} WHERE {c} > 1",
        "SELECT n FROM (SELECT COUNT(*) AS n {j} WHERE {c} > 1) q",
        "SELECT COUNT(*) AS n {j} WHERE {e} > (SELECT COUNT(*) FROM {t} WHERE {c} > 1)",
    ),
    "aggregate": (
        "SELECT SUM({c}) AS n {j}", "SELECT COUNT({c}) AS n {j}", "SELECT AVG({c} + 1) AS n {j}",
        "SELECT SUM({c} * {m}) AS n {j}", "SELECT CORR({m}, {c}) AS n {j}", "SELECT COVAR_POP({c}, {m}) AS n {j}",
        "SELECT VAR_SAMP(ABS({c})) AS n {j}", "SELECT SUM(COALESCE({c}, 0)) AS n {j}", "SELECT SUM(-{c}) AS n {j}",
        "SELECT SUM(CASE WHEN {f} > 1 THEN {c} ELSE 0 END) AS n {j}", "SELECT 2 * SUM({m} - {c}) AS n {j}",
        "SELECT SUM({m}) / SUM({c}) AS n {j}", "SELECT STDDEV({c}) AS n {j}", "SELECT SUM(0 * {c}) AS n {j}",
        "SELECT SUM({c} - {c}) AS n {j}", "SELECT REGR_SLOPE({c}, {m}) AS n {j}", "SELECT COUNT(DISTINCT {c}) AS n {j}",
        "SELECT SUM(CASE WHEN TRUE THEN {c} END) AS n {j}",
        "SELECT SUM(CASE WHEN FALSE THEN {c} ELSE {m} END) AS n {j}",
        "SELECT {g}, COUNT(*) AS n {j} GROUP BY {g} HAVING SUM({c}) > 1",
        "SELECT {g}, COUNT(*) AS n {j} GROUP BY {g} HAVING COUNT(*) > 1 OR NOT AVG({c}) < 3",
        "SELECT {g}, COUNT(*) AS n {j} GROUP BY {g} ORDER BY SUM({c}) DESC",
        "SELECT {g}, SUM({c}) AS n {j} GROUP BY {g} HAVING n > 1 ORDER BY n LIMIT 3",
        "SELECT SUM({c}) FILTER (WHERE {f} > 1) AS n {j}", "SELECT CAST(SUM({c}) AS DOUBLE) AS n {j}",
        "SELECT SUM({a}.z) AS n FROM (SELECT {a}.{key}, {c} AS z FROM {t}) {a} {o}",
        "WITH w AS (SELECT {a}.{key}, {c} * 2 AS z FROM {t}) SELECT AVG({a}.z) AS n FROM w {a} {o}",
        "SELECT COUNT(*) AS n {j} WHERE {e} > (SELECT SUM({c}) FROM {t})",
        "SELECT COUNT(*) AS n {j} UNION ALL SELECT SUM({c}) {j}", "SELECT n + 1 AS k FROM (SELECT SUM({c}) AS n {j}) q",
        "SELECT SUM({m}) AS n, -COUNT({c}) + 1 AS o {j}",
        "SELECT SUM({c} // 2) AS n {j}", "SELECT AVG(ROUND({c})) AS n {j}",
    ),
    "group": (
        "SELECT {c} AS g, COUNT(*) AS n {j} GROUP BY {c}", "SELECT {c} AS g, COUNT(*) AS n {j} GROUP BY g",
        "SELECT {c} AS g, COUNT(*) AS n {j} GROUP BY 1", "SELECT COUNT(*) AS n {j} GROUP BY {c}",
        "SELECT {c} AS g, {g} AS h, SUM({m}) AS n {j} GROUP BY {c}, {g}",
        "SELECT {c} + 1 AS g, COUNT(*) AS n {j} GROUP BY 1",
        "SELECT {c} // 2 AS g, COUNT(*) AS n {j} GROUP BY g", "SELECT {c} > 3 AS g, COUNT(*) AS n {j} GROUP BY 1",
        "SELECT {c} AS g, COUNT(*) AS n {j} GROUP BY {c} HAVING n > 3 ORDER BY {c}",
        "SELECT {g}, COUNT(*) AS n {j} GROUP BY {g}, {c} ORDER BY {c} DESC LIMIT 2",
        "SELECT CASE WHEN TRUE THEN {c} ELSE 3 END AS g, COUNT(*) AS n {j} GROUP BY g",
        "SELECT COALESCE({c}, 0) AS g, MAX({r}) AS n {j} GROUP BY g",
        "SELECT {a}.z, COUNT(*) AS n FROM (SELECT {a}.{key}, {c} AS z FROM {t}) {a} {o} GROUP BY {a}.z",
        "SELECT k, n FROM (SELECT {c} AS k, COUNT(*) AS n {j} GROUP BY 1) q WHERE n > 3",
    ),
    "compare": (
        "SELECT COUNT(*) AS n {j} WHERE {c} > {x}", "SELECT COUNT(*) AS n {j} WHERE {x} = {c}",
        "SELECT COUNT(*) FILTER (WHERE {c} <> {x}) AS n {j}", "SELECT COUNT(*) AS n {j} WHERE {x} BETWEEN {c} AND {c}",
        "SELECT SUM(CASE WHEN {c} + 1 <= {x} THEN {m} END) AS n {j}",
        "SELECT COUNT(*) AS n {j} WHERE {x} IN ({c}, {c} + 1)",
        "SELECT COUNT(*) AS n {j} WHERE NOT ({c} - {x} > 0) OR {f} > 1",
    ),
    "rank": (
        "SELECT MIN({c}) AS n {j}", "SELECT MAX({c}) AS n {j}", "SELECT MEDIAN({c}) AS n {j}",
        "SELECT PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY {c}) AS n {j}", "SELECT QUANTILE_DISC({c}, 0.25) AS n {j}",
        "SELECT {g}, MAX({c}) AS n {j} GROUP BY {g}", "SELECT MIN({c} + 1) FILTER (WHERE {f} > 2) AS n {j}",
        "SELECT MIN(-{c}) AS n, COUNT(*) AS o {j}", "SELECT MIN({c} * 0) AS n {j}",
        "SELECT COUNT(*) AS n {j} WHERE {e} = (SELECT MAX({c}) FROM {t})",
        "SELECT MAX({a}.z) AS n FROM (SELECT {a}.{key}, {c} AS z FROM {t}) {a} {o}",
    ),
    "output": (  # rows are never shown
        "SELECT {c} AS n {j}", "SELECT DISTINCT {c} AS n {j}", "SELECT {c} AS n, COUNT(*) AS o {j}",
        "SELECT * {j}", "SELECT b.* {j}", "SELECT COUNT(*) AS n {j} ORDER BY {c}", "SELECT FIRST({c}) AS n {j}",
        "SELECT LIST({c}) AS n {j}",
        "SELECT {c} AS n {j} LIMIT 1 OFFSET 3", "SELECT SUM({m}) OVER (ORDER BY {c}) AS n {j}",
        "SELECT COUNT(*) AS n {j} AND {c} = 1", "SELECT COUNT(*) AS n {j} WHERE EXISTS (SELECT {c})",
        "SELECT COUNT(*) AS n {j} WHERE {f} IN (SELECT {c} FROM bank.customers b)",
        "SELECT (SELECT MAX({c}) FROM bank.customers b) AS n, COUNT(*) AS o {j}", "SELECT ANY_VALUE({c}) AS n {j}",
        "SELECT COUNT(*) AS n FROM bank.customers b JOIN telco.subscribers t USING (closed)",
        "SELECT COUNT(*) AS n {j} QUALIFY {c} > 1", "SELECT COUNT(*) AS n {j} GROUP BY ROLLUP ({c})",
        "WITH w AS (SELECT {c} FROM bank.customers b) SELECT COUNT(*) AS n {j}",
    ),
}  # fmt: skip
STATISTICS = ("count", "sum", "mean", "variance", "std", "covariance", "correlation")


@dataclass(frozen=True)
class Try:
    """One attempt: a statement, or else a statistic or part of a training; the column it is after, and the grant."""

    party: str
    column: str
    needs: str
    sql: str | None = None
    statistic: str | None = None


def granted(use: str, party: str, aliases: dict[str, str] = ALIAS) -> str:
    """A party's column with this grant alone, as SQL."""
    return f"{aliases[party]}.{ALIAS[party]}_{ONE[use]}"


def _spellings(rng: random.Random, party: str, name: str) -> str:
    """One of the ways to name a column, some of which name nothing or the other party's."""
    alias, other = ALIAS[party], ALIAS["telco" if party == "bank" else "bank"]
    quoted = '"' + name + '"'
    bare = name if name.replace("_", "").isalnum() else quoted
    look_alike = name.replace("o", "\N{CYRILLIC SMALL LETTER O}").replace("e", "\N{CYRILLIC SMALL LETTER IE}")
    wide = "".join(chr(ord(letter) + 0xFEE0) if letter.isalpha() else letter for letter in name)
    return rng.choice(
        (
            f"{alias}.{bare}", f"{alias}.{bare}", f"{alias}.{quoted}", f'"{alias}".{quoted}', f"{alias.upper()}.{bare}",
            f"{alias}.{bare.upper()}", f"({alias}.{bare})", f"((({alias}.{bare})))", f"{alias}./* {other}.x */{bare}",
            f"{alias} . {bare} -- b.b_money\n", f"{party}.{TABLES[party]}.{bare}", bare, quoted, f"{other}.{bare}",
            f'{alias}."{name.upper()}"', f'{alias}."{look_alike}"', f'{alias}."{wide}"', f"main.{alias}.{bare}",
            f"{other}.{TABLES[party]}.{bare}", f"{party}.{bare}", f"(+{alias}.{bare})", f"{alias}.{bare}.x",
        )
    )  # fmt: skip


def _wrapped(rng: random.Random, text: str) -> str:
    """The column inside a function that changes little or nothing."""
    forms = (
        "{}",
        "{}",
        "{}",
        "abs({})",
        "({} + 0)",
        "({} * 1)",
        "(- -{})",
        "coalesce({}, 1)",
        "round({})",
        "({} // 1)",
    )
    return rng.choice(forms).format(text)


def filled(
    template: str, rng: random.Random, party: str, column: str, join: str = JOIN, aliases: dict[str, str] = ALIAS
) -> str:
    """A template with a column in its place, and granted ones of either party around it."""
    other = "telco" if party == "bank" else "bank"
    place = {"a": aliases[party], "key": KEYS[party], "t": f"{party}.{TABLES[party]} {aliases[party]}"}
    equal = f"{aliases[party]}.{KEYS[party]} = {aliases[other]}.{KEYS[other]}"
    place["e"] = granted("filter", party, aliases)
    place["o"] = f"JOIN {other}.{TABLES[other]} {aliases[other]} ON {equal}"
    letters = {"m": "aggregate", "f": "filter", "g": "group", "r": "rank", "k": "compare"}
    around = {letter: granted(use, rng.choice((party, other)), aliases) for letter, use in letters.items()}
    return template.format(c=column, j=join, x=granted("compare", other, aliases), **around, **place)


def _shadowed(rng: random.Random, template: str, party: str, name: str) -> str:
    """An alias, a comment or a text that has a granted name while the column is another, or the reverse."""
    text = filled(template, rng, party, f'{ALIAS[party]}."{name}"')
    good = f"{ALIAS[party]}_money"
    swapped = "FROM bank.customers telco JOIN telco.subscribers bank ON telco.phone = bank.msisdn"
    names = {"bank": "telco", "telco": "bank"}
    return rng.choice(
        (
            text.replace(" AS n", f" AS {good}"), text.replace(" AS g", f" AS {ALIAS[party]}_kind"),
            f"/* {good} */ {text}", f"{text} -- {good}", text.replace("SELECT", f"SELECT /*+ {good} */", 1),
            filled(template, rng, party, f'{ALIAS[party]}."{name}"', f"{JOIN} /* {JOIN} */"),
            filled(template, rng, party, f'{names[party]}."{name}"', swapped, names),
            filled(template, rng, party, f'{party}."{name}"', swapped, names),
            text.replace(" AS n", f' AS "{name}"'), text + ";", text + " " + "WHERE TRUE", f"({text})",
        )
    )  # fmt: skip


def tries(count: int, seed: int) -> Iterator[Try]:
    """So many different attempts."""
    rng, seen = random.Random(seed), set[tuple[str | None, str | None, str, str]]()
    while len(seen) < count:
        party = rng.choice(sorted(TABLES))
        kind = rng.random()
        if kind < 0.05:
            needs = rng.choice(("aggregate", "label", "feature"))
        else:
            needs = rng.choice(("filter", "filter", "aggregate", "aggregate", "group", "compare", "rank", "output"))
        lacking = [name for name, grants in COLUMNS[party].items() if needs == "output" or needs not in grants]
        column = rng.choice([f"{ALIAS[party]}_no_{needs}", *lacking, *lacking])
        if kind < 0.05:
            made = Try(party, column, needs, statistic=rng.choice(STATISTICS) if needs == "aggregate" else needs)
        else:
            template = rng.choice(TEMPLATES[needs])
            if kind < 0.2:
                sql = _shadowed(rng, template, party, column)
            else:
                sql = filled(template, rng, party, _wrapped(rng, _spellings(rng, party, column)))
            made = Try(party, column, needs, sql=sql)
        mark = (made.sql, made.statistic, made.party, made.column)
        if mark not in seen:
            seen.add(mark)
            yield made
