"""A job in a peer's bytes: whatever is in them, it is read, or refused as the peer's fault or a job that cannot run."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpc.statistics.wanted import Wanted
from party.canonical import canonical, parse_canonical
from party.catalogue import Catalogue
from party.errors import PeerError, PolicyRefused, UsageError
from pipelines import asked
from pipelines.job import Align, Analysis, Job, Train
from pipelines.job_score import Score
from pipelines.predicted import predict
from tests.mpc.sqlkit import JOIN, catalogues

JOB = Job(
    "churn-risk",
    "bank",
    Align((("bank", "customers"), ("telco", "subscribers")), "both"),
    (
        Analysis("by_plan", ("bank",), f"SELECT t.plan, SUM(b.age) AS s {JOIN} GROUP BY t.plan"),
        Analysis(
            "together",
            ("bank", "telco"),
            None,
            (
                ("correlation", Wanted(("bank.age", "telco.late"))),
                ("woe", Wanted(("bank.income",), "telco.prepaid", bins=8, min_share=0.05, merge=0.1)),
                ("histogram", Wanted(("telco.minutes",), edges=("0", "99.5"))),
            ),
        ),
    ),
    Train(
        "bank.defaulted", (("bank", ("age", "income", "balance")), ("telco", ("minutes", "bill", "late"))), max_passes=9
    ),
    Score("bank"),
)
GONE = object()
ODD: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2**70,
    10**400,
    0.5,
    1e308,
    -0.0,
    "",
    "x",
    "x" * 30_000,
    [],
    {},
    [[]],
    ["a"],
    ["a", "b", "c"],
    {"a": 1},
    [None],
    [1, 2],
    "\0",
    "bank",
    "telco",
    "é",
    "bank.age",
    "bank.'; DROP TABLE x",
    'bank."x',
    "bank.*",
    "bank.age.age",
    "<script>",
    GONE,
]
STATEMENTS = [
    "SELECT",
    "SELECT 1; SELECT 2",
    "SELECT * FROM bank.customers",
    "WITH a AS (SELECT 1) SELECT 1",
    "INSERT INTO bank.customers VALUES (1)",
    "COPY bank.customers TO 'x'",
    "PRAGMA x",
    "ATTACH 'x'",
    "SET x = 1",
    "SELECT COUNT(*) FROM bank.customers b, telco.subscribers t",
    f'SELECT COUNT(*) AS "\0" {JOIN}',
    f"SELECT COUNT(*) {JOIN} WHERE b.age = $1",
    f"SELECT COUNT(*) {JOIN} GROUP BY ALL",
    f"SELECT COUNT(*) {JOIN} QUALIFY 1",
    f"SELECT SUM(b.age) OVER () {JOIN}",
    f"SELECT COUNT(*) {JOIN} GROUP BY 99999999999999999999",
    f"SELECT COUNT(*) {JOIN} WHERE b.age > 1e999",
    f"SELECT COUNT(*) {JOIN} WHERE b.opened > DATE '99999-01-01'",
    f"SELECT SUM(SUBSTR(b.branch, 99999999999999999999999)) {JOIN}",
    f"SELECT SUM(ROUND(b.age, 99999999)) {JOIN}",
    f"SELECT SUM(ROUND(b.age, -99999999)) {JOIN}",
    f"SELECT SUM(CAST(b.age AS DECIMAL(5, 99999999))) {JOIN}",
    f"SELECT SUM(CAST(b.age AS DECIMAL(x, y))) {JOIN}",
    f"SELECT SUM(b.age // 0) {JOIN}",
    f"SELECT SUM(b.age % 0) {JOIN}",
    f"SELECT COUNT(*) {JOIN} WHERE b.branch LIKE b.branch",
    f"SELECT COUNT(*) {JOIN} WHERE b.age IN (SELECT 1)",
    f"SELECT COUNT(*) {JOIN} WHERE EXISTS (SELECT 1)",
    f"SELECT SUM(CASE WHEN NULL THEN 1 END) {JOIN}",
    f"SELECT SUM(COALESCE(NULL, NULL)) {JOIN}",
    f"SELECT SUM(NULL) {JOIN}",
    f"SELECT AVG(TRUE) {JOIN}",
    f"SELECT extract(foo FROM b.opened), COUNT(*) {JOIN} GROUP BY 1",
    f"SELECT date_trunc('foo', b.opened) {JOIN} GROUP BY 1",
    f"SELECT date_trunc(b.branch, b.opened), COUNT(*) {JOIN} GROUP BY 1",
    f"SELECT COUNT(*) {JOIN} WHERE b.branch = 'a\0b'",
    f"SELECT read_csv('/etc/passwd'), COUNT(*) {JOIN} GROUP BY 1",
    f"SELECT SUM(CASE b.region WHEN 1 THEN 1 END) {JOIN}",
    f"SELECT COUNT(*) {JOIN} WHERE getenv('HOME') = 'x'",
    "SELECT COUNT(*) FROM 'x.csv' b JOIN telco.subscribers t ON 1 = 1",
]


@pytest.fixture(scope="module")
def shown() -> tuple[Catalogue, Catalogue]:
    return catalogues(1000)


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield way
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*way, key))


def put(value: Any, way: tuple[Any, ...], new: Any) -> Any:
    if not way:
        return new
    top = copy.deepcopy(value)
    inner = top
    for key in way[:-1]:
        inner = inner[key]
    if new is GONE:
        del inner[way[-1]]
    else:
        inner[way[-1]] = new
    return top


def read(content: bytes, shown: tuple[Catalogue, Catalogue]) -> bool:
    """As the answering side does: True when the job is read; what else may come out is raised on."""
    try:
        parse_canonical(content, "the job")
        job = Job.from_canonical(content)
    except PeerError:
        return False
    assert canonical(job.canonical()) == content
    for least in (1, 20):
        both = (replace(shown[0], min_rows=least), replace(shown[1], min_rows=least))
        try:
            asked.request(job, both)
            asked.explain(job, both)
            predict(job, both)
        except (UsageError, PolicyRefused, PeerError):
            pass
    return True


def test_a_job_comes_back_as_it_went(shown: tuple[Catalogue, Catalogue]) -> None:
    assert Job.from_canonical(canonical(JOB.canonical())) == JOB
    assert asked.request(JOB, shown).uses


@pytest.mark.parametrize("way", list(places(JOB.canonical()))[1:], ids=str)
def test_an_odd_value_anywhere_is_the_peers_fault_or_a_job_that_cannot_run(
    way: tuple[Any, ...], shown: tuple[Catalogue, Catalogue]
) -> None:
    for odd in ODD:
        read(canonical(put(JOB.canonical(), way, odd)), shown)


@pytest.mark.parametrize("sql", STATEMENTS)
def test_an_odd_statement_is_refused(sql: str, shown: tuple[Catalogue, Catalogue]) -> None:
    job = replace(JOB, analyse=(Analysis("q", ("bank",), sql),), train=None, score=None)
    try:
        assert asked.request(Job.from_canonical(canonical(job.canonical())), shown).openings
    except (UsageError, PeerError):
        return
    assert (
        "AVG(TRUE)" in sql
        or "SUBSTR" in sql
        or 'AS "' in sql
        or "a\0b" in sql
        or "CASE WHEN NULL" in sql
        or "ROUND(b.age, 9" in sql
    )


@pytest.mark.parametrize(
    ("way", "value"),
    [(("train",), {}), (("train",), False), (("train", "l2"), 10**400), (("version",), 1.5), (("score",), [])],
)
def test_these_were_not_caught_before(way: tuple[Any, ...], value: Any) -> None:
    with pytest.raises(PeerError):
        Job.from_canonical(canonical(put(JOB.canonical(), way, value)))


def test_changed_bytes_are_never_another_error(shown: tuple[Catalogue, Catalogue]) -> None:
    rng = random.Random(5)  # a fixed seed: the same bytes in every run
    content = canonical(JOB.canonical())
    kept = 0
    for _ in range(1500):
        made = bytearray(content)
        for _ in range(rng.choice((1, 1, 1, 2, 5))):
            at, kind = rng.randrange(len(made)), rng.randrange(4)
            if kind == 0:
                made[at] = rng.randrange(256)
            elif kind == 1:
                del made[at : at + rng.choice((1, 1, 20))]
            elif kind == 2:
                made[at:at] = rng.choice((b"{", b"[", b'"', b",", b"1", b"null", b"1e999", b"NaN", b"\xff", b"\\ud800"))
            else:
                made[at:at] = made[max(0, at - rng.randrange(60)) : at]
        kept += read(bytes(made), shown)
    assert 50 < kept < 1450  # both happened


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_bytes_are_the_peers_fault(content: bytes) -> None:
    with pytest.raises(PeerError):
        parse_canonical(content, "the job")
        Job.from_canonical(content)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'["a",{"b":['])
def test_deep_nesting_is_the_peers_fault(opening: bytes) -> None:
    with pytest.raises(PeerError):
        parse_canonical(opening * (500_000 // len(opening)), "the job")
    with pytest.raises(PeerError):
        Job.from_canonical(opening * (500_000 // len(opening)))
