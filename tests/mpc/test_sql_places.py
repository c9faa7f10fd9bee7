"""Every refusal of a statement says where: line and column of the construct, and what is supported instead."""

from __future__ import annotations

import pytest

from mpc.sql import plan
from mpc.sql.syntax.places import StatementError
from party.errors import UsageError
from tests.mpc.sqlkit import context

FROM = "FROM bank.customers b JOIN telco.subscribers t\n  ON b.phone = t.msisdn"
REFUSED = {  # `^` stands before the first character of what is refused; the other words are of the message
    "any_value": f"SELECT COUNT(*),\n  ^ANY_VALUE(b.age) {FROM}|ANY_VALUE",
    "window": f"SELECT COUNT(*),\n  ^SUM(b.age) OVER () AS w\n{FROM}|Window",
    "nested": f"SELECT\n  SUM(^COUNT(*))\n{FROM}|COUNT",
    "star": f"SELECT\n\n  ^* {FROM}|rows are never shown",
    "rows": f"SELECT\n  ^b.age\n{FROM} GROUP BY b.region|neither aggregated",
    "function": f"SELECT COUNT(*)\n{FROM}\nWHERE ^getenv('HOME') = 'x'|getenv",
    "regexp": f"SELECT COUNT(*)\n{FROM}\nWHERE b.age > 3\n  AND ^b.region ~ b.branch|Regexp",
    "exists": f"SELECT COUNT(*) {FROM}\nWHERE EXISTS (SELECT ^1)|Exists",
    "placeholder": f"SELECT COUNT(*) {FROM}\nWHERE ^b.age = ?|Placeholder",
    "cast": f"SELECT COUNT(*) {FROM}\nWHERE b.age > 1 AND CAST(^b.score AS BLOB) = 1|Cast",
    "type": f"SELECT COUNT(*) {FROM}\nWHERE ^b.region = 3|string compared",
    "no_condition": f"SELECT COUNT(*) {FROM}\nWHERE b.age = 1\n  AND ^b.region|string where a condition is due",
    "pattern": f"SELECT COUNT(*) {FROM}\nWHERE ^b.region LIKE b.branch|constant pattern",
    "bad_date": f"SELECT COUNT(*) {FROM}\nWHERE ^b.opened > '2020-13-01'|not a date",
    "exponent": f"SELECT COUNT(*) {FROM}\nWHERE b.age > ^1e3|1e3",
    "unknown": f"SELECT COUNT(*),\n  SUM(^b.nothing)\n{FROM}|no column b.nothing",
    "float": f"SELECT COUNT(*),\n  AVG(^b.score)\n{FROM}|float",
    "division": f"SELECT\tSUM(^b.age / 2) AS s\n{FROM}|division",
    "two_names": f"SELECT COUNT(*) AS n,\n  ^SUM(b.age) AS n\n{FROM}|'n'",
    "no_range": f"SELECT COUNT(*),\n  ^SUM(b.free)\n{FROM}|would overflow",
    "across": f"SELECT COUNT(*),\n  ^SUM(round(b.balance - t.bill)) AS x\n{FROM}|round",
    "qualify": f"SELECT COUNT(*)\n{FROM}\n^QUALIFY TRUE|QUALIFY",
    "distinct": f"SELECT\n  ^DISTINCT COUNT(*)\n{FROM}|DISTINCT",
    "rollup": f"SELECT COUNT(*)\n{FROM}\nGROUP BY ROLLUP (^b.region)|ROLLUP",
    "group_across": f"SELECT COUNT(*)\n{FROM}\nGROUP BY\n  ^b.age + t.late|one party",
    "group_decimal": f"SELECT COUNT(*)\n{FROM}\nGROUP BY ^b.balance|decimal",
    "group_place": f"SELECT COUNT(*) AS n\n{FROM}\nGROUP BY ^7|no such column",
    "too_many_groups": f"SELECT COUNT(*)\n{FROM}\nGROUP BY ^b.age % 60, t.late, b.region|4096",
    "having_key": f"SELECT t.plan, COUNT(*) AS n\n{FROM}\nGROUP BY t.plan\nHAVING COUNT(*) > 1 AND ^t.plan = 'x'|key",
    "having_alone": f"SELECT COUNT(*) AS n\n{FROM}\nHAVING ^COUNT(*) > 1|HAVING without GROUP BY",
    "order": f"SELECT t.plan, COUNT(*) AS n\n{FROM}\nGROUP BY t.plan\nORDER BY n,\n  ^b.age|neither aggregated",
    "limit": f"SELECT t.plan, COUNT(*) AS n\n{FROM}\nGROUP BY t.plan\nLIMIT ^1.5|whole number",
    "offset": f"SELECT COUNT(*) AS n\n{FROM}\nOFFSET ^1|OFFSET without LIMIT",
    "no_table": "SELECT COUNT(*)\nFROM ^bank.nothing b JOIN telco.subscribers t ON b.phone = t.msisdn|bank.nothing",
    "one_table": "SELECT COUNT(*)\nFROM ^bank.customers b|one table of each party",
    "full": "SELECT COUNT(*) FROM bank.customers b\nFULL JOIN ^telco.subscribers t ON b.phone = t.msisdn|FULL JOIN",
    "natural": "SELECT COUNT(*) FROM bank.customers b\nNATURAL JOIN ^telco.subscribers t|NATURAL JOIN",
    "wrong_key": "SELECT COUNT(*) FROM bank.customers b\nJOIN telco.subscribers t\n  ON ^b.branch = t.plan|keys",
    "in_on": f"SELECT COUNT(*) {FROM} AND ^b.age > 3|join condition",
    "syntax": f"SELECT COUNT(*)\n{FROM}\nWHERE b.age >\n^GROUP BY b.age|not SQL",
    "insert": "INSERT INTO\n  ^bank.customers VALUES (1)|Insert",
    "two": f"SELECT COUNT(*) {FROM};\n\nSELECT ^COUNT(*) {FROM}|one SELECT statement",
}


@pytest.mark.parametrize(
    ("condition", "message", "hint"),
    [
        ("b.balanse > 5", "no column b.balanse, or it is not granted to telco", "did you mean balance?"),
        ("t.zzz > 5", "no column t.zzz, or it is not granted to bank", "columns that telco's policy.yaml opens: "),
        ("x.age > 5", "no column x.age: FROM has no such table here", "names in FROM: b, t"),
        ("zzz > 5", "no column zzz, or it is not granted to the other party", "columns that their owners open: "),
        ("b.age > 3 GROUP BY b.region HAVING MEDIAN(t.late) > 5", "HAVING compares MEDIAN", "COUNT, SUM, AVG"),
        ("b.score > t.late", "float and integer are not compared across parties", "declare a float decimal(p,s)"),
    ],
)
def test_what_is_refused_is_named_in_the_words_of_the_statement_with_what_is_near(
    condition: str, message: str, hint: str
) -> None:
    with pytest.raises(StatementError) as caught:
        plan(f"SELECT COUNT(*) {FROM} WHERE {condition}", context(1000))
    assert message in caught.value.message
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_refusal_says_where_and_what_is_supported(name: str) -> None:
    marked, _, words = REFUSED[name].rpartition("|")
    start = marked.index("^")
    before = marked[:start]
    line, column = before.count("\n") + 1, start - before.rfind("\n")
    with pytest.raises(StatementError) as caught:
        plan(marked[:start] + marked[start + 1 :], context(1000))
    error = caught.value
    assert (error.line, error.column) == (line, column), (error.message, line, column)
    assert error.message.startswith(f"line {line}, column {column}: ")
    assert words in error.message + (error.hint or "")
    told = error.as_dict()
    assert told["code"] == "usage"
    assert error.exit_code == UsageError.exit_code == 2
    assert told["message"] == error.message
    assert told["hint"]


def test_what_has_no_place_of_its_own_points_to_the_statements_beginning() -> None:
    with pytest.raises(StatementError, match=r"^line 1, column 1: the statement has more than"):
        plan("(" * 30_000, context(10))
