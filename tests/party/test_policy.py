"""policy.yaml, the decision on it, and its laws: deny by default, more grants never allow less."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from party.catalogue import Catalogue, Column, Table
from party.errors import FileError
from party.files import read_party
from party.policy import ALIGNMENTS, PeerPolicy, PolicyFile, decide, load_policy, read_policy, round_rows, visible
from party.request import GRANTS, Opening, Request, Use
from party.scores import Scores
from party.yamlfile import parse

FULL = """version: 1
peers:
  telco:
    alignment: rows
    min_size: 50
    min_rows: 5
    approve: auto
    columns:
      customers.phone: [join]
      customers.balance: [aggregate, feature]
      customers.closed: []
"""


def read(text: str) -> PolicyFile:
    return read_policy(parse(text, "policy.yaml"))


def uses(*words: str) -> Request:
    return Request(frozenset(Use(*word.split(".")) for word in words))


def opens(*pairs: tuple[str, str]) -> Request:
    return Request(openings=frozenset(Opening(*pair) for pair in pairs))


def test_reads_every_key_and_knows_its_defaults() -> None:
    telco = read(FULL).peers["telco"]
    assert (telco.alignment, telco.min_size, telco.min_rows, telco.approve) == ("rows", 50, 5, "auto")
    assert telco.grants("customers", "balance") == {"aggregate", "feature"}
    empty = read("version: 1\npeers:\n  telco:\n").peers["telco"]
    assert (empty.alignment, empty.min_size, empty.min_rows, empty.approve) == ("nothing", 100, 20, "manual")
    assert read("version: 1\n").towards("telco") == PeerPolicy("telco")


C = "version: 1\npeers:\n  telco:\n    columns:\n      "
REFUSED = [
    ("peers: {}\n", 1, "lacks the key `version`"),
    ("version: 1\npeer: {}\n", 2, "unknown key `peer`"),
    ("version: 1\npeers:\n  telco: {min_row: 1}\n", 3, "unknown key `min_row`"),
    ("version: 1\npeers:\n  telco: {alignment: NO}\n", 3, "cannot be `NO`"),
    ("version: 1\npeers:\n  telco: {alignment: true}\n", 3, "cannot be `true`"),
    ("version: 1\npeers:\n  telco: {min_rows: 0}\n", 3, "between 1"),
    ("version: 1\npeers:\n  telco: {min_rows: 2.5}\n", 3, "must be an integer"),
    ("version: 1\npeers:\n  telco: {min_rows: true}\n", 3, "must be an integer"),
    ("version: 1\npeers:\n  telco: {min_size: -1}\n", 3, "between 0"),
    ("version: 1\npeers:\n  telco: {approve: always}\n", 3, "cannot be `always`"),
    ("version: 1\npeers:\n  telco: {scores: {decimals: 7}}\n", 3, "between 0 and 6"),
    ("version: 1\npeers:\n  telco: {scores: {decimals: true}}\n", 3, "must be an integer"),
    ("version: 1\npeers:\n  telco: {scores: {receive: 0}}\n", 3, "must be true or false"),
    ("version: 1\npeers:\n  telco: {scores: {per_day: -1}}\n", 3, "between 0"),
    ("version: 1\npeers:\n  telco: {scores: {a_day: 1}}\n", 3, "a_day"),
    ("version: 1\npeers:\n  Telco: {}\n", 3, "cannot be `Telco`"),
    ("version: 1\npeers:\n  size: {}\n", 3, "cannot be `size`"),
    ("version: 1\npeers: [telco]\n", 2, "must be a mapping"),
    (C + "balance: [join]\n", 5, "is not TABLE.COLUMN"),
    (C + "t.a b: [join]\n", 5, "is not TABLE.COLUMN"),
    (C + "t.a: join\n", 5, "must be a list"),
    (C + "t.a: [agregate]\n", 5, "cannot be `agregate`"),
    (C + "t.a: [join, join]\n", 5, "twice"),
    (C + "t.a: [join]\n      t.a: [label]\n", 6, "given twice"),
]


@pytest.mark.parametrize(("text", "line", "reason"), REFUSED, ids=range(len(REFUSED)))
def test_refuses_and_names_the_line(text: str, line: int, reason: str) -> None:
    with pytest.raises(FileError) as caught:
        read(text)
    assert reason in str(caught.value) and str(caught.value).startswith(f"policy.yaml:{line}: ")


def test_a_table_that_party_yaml_lacks_is_refused_with_the_nearest_name() -> None:
    party = read_party(
        parse("version: 1\nname: bank\ntables:\n  customer: {url: 'csv:a', key: [phone]}\n", "party.yaml")
    )
    with pytest.raises(FileError, match=r"policy.yaml:9: .*party.yaml has no table `customers`") as caught:
        read(FULL).check_tables(party)
    assert caught.value.hint == "did you mean `customer`?"


def test_lists_every_missing_grant_of_ours_only() -> None:
    policy = read(FULL).peers["telco"]
    asked = uses(
        "bank.customers.balance.aggregate", "bank.customers.balance.group", "bank.customers.phone.filter",
        "bank.customers.unknown.join", "bank.customers.closed.join", "telco.subscribers.plan.output",
    )  # fmt: skip
    assert decide(policy, "bank", "telco", asked) == (
        "customers.balance needs `group`", "customers.closed needs `join`", "customers.phone needs `filter`",
        "customers.unknown needs `join`",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "opening", "allowed"),
    [
        ("rows", "alignment.rows", True), ("rows", "alignment.count", True), ("size", "alignment.count", True),
        ("size", "alignment.rows", False), ("nothing", "alignment.count", False), ("nothing", "alignment.rows", False),
        ("nothing", "alignment.list", True), ("nothing", "alignment.enough", True),
        ("size", "alignment.something_new", False), ("rows", "alignment.something_new", True),
    ],
)  # fmt: skip
def test_what_the_peer_learns_of_the_intersection_needs_its_mode(mode: str, opening: str, allowed: bool) -> None:
    missing = decide(PeerPolicy("telco", alignment=mode), "bank", "telco", opens((opening, "telco")))
    assert (missing == ()) is allowed
    assert (
        decide(PeerPolicy("telco"), "bank", "telco", opens((opening, "bank"))) == ()
    )  # what we learn is theirs to grant


def test_a_policy_towards_another_peer_and_strangers_in_a_request_are_refused() -> None:
    assert decide(PeerPolicy("insurer"), "bank", "telco", Request()) != ()
    assert decide(PeerPolicy("telco"), "bank", "telco", opens(("result", "insurer"))) != ()
    assert decide(PeerPolicy("telco"), "bank", "telco", uses("insurer.t.c.join")) != ()


@pytest.mark.parametrize(
    ("scores", "opening", "to", "allowed"),
    [
        (Scores(), "score: logits to 1/512, the score to 3 decimals", "telco", True),
        (Scores(), "score: logits to 1/8192, the score to 4 decimals", "telco", False),
        (Scores(decimals=4), "score: logits to 1/8192, the score to 4 decimals", "telco", True),
        (Scores(decimals=2), "train: logits of test rows to 1/512, for the metrics", "telco", False),
        (Scores(decimals=0), "score: logits to 1/1, the score to 0 decimals", "telco", True),
        (Scores(receive=False), "score: logits to 1/1, the score to 0 decimals", "telco", False),
        (Scores(receive=False), "score: logits to 1/1, the score to 0 decimals", "bank", True),  # theirs to grant
        (Scores(receive=False), "train: metrics of the test rows", "telco", True),
    ],
)
def test_scores_go_to_the_peer_as_finely_as_policy_says(scores: Scores, opening: str, to: str, allowed: bool) -> None:
    assert (decide(PeerPolicy("telco", scores=scores), "bank", "telco", opens((opening, to))) == ()) is allowed


columns = st.sampled_from(["t.a", "t.b", "u.a"])
grant_sets = st.dictionaries(columns, st.frozensets(st.sampled_from(GRANTS)), max_size=3)
our_uses = st.frozensets(
    st.builds(lambda column, use: Use("bank", *column.split("."), use), columns, st.sampled_from(GRANTS)), max_size=6
)
told = st.frozensets(
    st.builds(
        Opening, st.sampled_from(["alignment.rows", "alignment.count", "query.x"]), st.sampled_from(["bank", "telco"])
    )
)
requests = st.builds(Request, our_uses, told)


def policy(alignment: str, columns: dict[str, frozenset[str]]) -> PeerPolicy:
    return PeerPolicy("telco", alignment=alignment, columns=MappingProxyType(columns))


@given(grant_sets, grant_sets, st.sampled_from(ALIGNMENTS), requests)
def test_more_grants_never_allow_less(
    some: dict[str, frozenset[str]], more: dict[str, frozenset[str]], mode: str, request: Request
) -> None:
    both = {column: some.get(column, frozenset()) | more.get(column, frozenset()) for column in {*some, *more}}
    before = set(decide(policy(mode, some), "bank", "telco", request))
    assert set(decide(policy(mode, both), "bank", "telco", request)) <= before
    assert len(decide(policy("rows", both), "bank", "telco", request)) <= len(before)


@given(requests)
def test_an_empty_policy_refuses_whatever_needs_a_grant(request: Request) -> None:
    learns = any(o.to == "telco" and o.what.startswith("alignment") for o in request.openings)
    assert bool(decide(PeerPolicy("telco"), "bank", "telco", request)) is (bool(request.uses) or learns)


@given(grant_sets, our_uses)
def test_allowed_means_that_every_use_is_granted(some: dict[str, frozenset[str]], asked: frozenset[Use]) -> None:
    granted = all(use.use in some.get(f"{use.table}.{use.column}", ()) for use in asked)
    assert (decide(policy("nothing", some), "bank", "telco", Request(asked)) == ()) is granted


@given(st.integers(0, 10**9))
def test_rows_are_shown_to_two_digits_rounded_up(rows: int) -> None:
    shown = round_rows(rows)
    assert rows <= shown <= rows * 1.1 + 1 and len(str(shown).rstrip("0")) <= 2


def test_a_peer_sees_granted_columns_only() -> None:
    columns = tuple(Column(name, "string") for name in ("phone", "name", "balance"))
    full = Catalogue("bank", (
        Table("customers", (("phone",), ("name",)), columns, 12_345),
        Table("secret", (("phone",),), (Column("phone", "string"),), 5),
    ))  # fmt: skip
    seen = visible(full, read(FULL).peers["telco"])
    (table,) = seen.tables
    assert [column.name for column in table.columns] == ["phone", "balance"]
    assert (table.key, table.rows, seen.min_rows, seen.min_size) == ((("phone",),), 13_000, 5, 50)
    assert table.columns[1].grants == {"aggregate", "feature"}
    assert visible(full, PeerPolicy("telco")).tables == ()


def test_the_page_is_valid_and_names_every_grant() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/reference/policy-yaml.md").read_text()
    telco = read(page.split("```yaml\n")[1].split("```")[0]).peers["telco"]
    assert telco.grants("customers", "region") == {"filter", "group", "aggregate"}
    assert all(f"| `{grant}` |" in page for grant in GRANTS)


@pytest.mark.parametrize(
    ("what", "words", "text"),
    [
        ("alignment.series", "series: {runs: 3, days: 2}", "`series: {runs: ..., days: ...}`"),
        ("alignment.multiplicities", "duplicates: all", "`duplicates: all`"),
    ],
)
def test_series_and_repeated_keys_are_allowed_by_a_word_of_their_own(
    what: str, words: str, text: str, tmp_path: Path
) -> None:
    asked = Request(frozenset(), frozenset({Opening(what, "telco"), Opening(what, "bank")}))
    for line, allowed in (("", False), (f"    {words}\n", True)):
        path = tmp_path / "policy.yaml"
        path.write_text(f"version: 1\npeers:\n  telco:\n    alignment: rows\n{line}")
        missing = decide(load_policy(path).towards("telco"), "bank", "telco", asked)
        assert (not missing) is allowed and (allowed or text in missing[0])


@pytest.mark.parametrize("words", ["series: {runs: 3}", "series: {runs: 0, days: 3}", "series: 3", "duplicates: error"])
def test_malformed_words_are_refused_with_their_line(words: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(f"version: 1\npeers:\n  telco:\n    {words}\n")
    with pytest.raises(FileError) as caught:
        load_policy(path)
    assert caught.value.line == 4
