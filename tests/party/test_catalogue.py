"""A catalogue from a peer: whatever is wrong with it is a PeerError, and only that."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from party.canonical import canonical
from party.catalogue import Catalogue, Column, Table
from party.catalogue_wire import decode_catalogue, encode_catalogue
from party.errors import PeerError

PHONE = Column("phone", "string", normalise="phone", grants=frozenset({"join", "filter"}))
BALANCE = Column("balance", "decimal", 2, 12, -100, 100, None, "text", frozenset({"aggregate"}))
FLAG = Column("flag", "bool", domain=(False, True), grants=frozenset({"label"}), nullable=False)
CODE = Column("code", "integer", low=-(10**30), domain=(1, 2), grants=frozenset({"group"}))
CATALOGUE = Catalogue(
    "telco",
    (Table("t", (("phone",), ("code", "flag")), (PHONE, BALANCE, FLAG, CODE), 120), Table("u", (), (FLAG,), 0)),
    5,
    0,
    3,
)


def test_a_catalogue_decodes_to_itself_and_is_looked_up_by_name() -> None:
    found = decode_catalogue(encode_catalogue(CATALOGUE), "telco")
    assert found == CATALOGUE
    table = found.table("t")
    assert table is not None and table.column("balance") == BALANCE
    assert found.table("v") is None and table.column("missing") is None


def column(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda top: top["tables"][0]["columns"][1].update(changes)


def table(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda top: top["tables"][0].update(changes)


def top(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.update(changes)


BROKEN = [
    top(party="bank"), lambda content: content.pop("min_rows"), top(min_rows=0), top(min_rows=True), top(min_rows="5"),
    top(min_size=-1), top(normalisation=0), top(tables={}), top(tables=[[]]), top(tables=[1]),
    lambda content: content["tables"].append(content["tables"][0]),
    table(name="T"), table(name="size"), table(name="a b"), table(name=5), table(rows=-1), table(rows=2**41),
    table(columns=[]), table(key=[["other"]]), table(key=[[]]), table(key=[["phone", "phone"]]), table(key=["phone"]),
    table(key=[["phone"]] * 17), table(extra=1), table(columns=None),
    lambda content: content["tables"][0]["columns"].append(content["tables"][0]["columns"][0]),
    column(name="a.b"), column(name="a\"b"), column(name=""), column(type="blob"), column(type=None), column(scale=13),
    column(scale=-1), column(precision=0), column(precision=39), column(type="integer"), column(low=101),
    column(low=1.5), column(low=10**39), column(high="9"), column(domain=[]), column(domain=[1, "a"]),
    column(domain=["a", "a"]), column(domain=[None]), column(domain=[["a"]]), column(domain=["\u001b[2J"]),
    column(domain="ab"), column(domain=[1.5]), column(normalise="none"), column(grants=[]), column(grants=["own"]),
    column(nullable=1), column(nullable=None),
    column(grants=["join", "join"]), column(grants="join"), column(extra=1),
]  # fmt: skip


@pytest.mark.parametrize("change", BROKEN, ids=range(len(BROKEN)))
def test_each_broken_part_is_refused(change: Callable[[dict[str, Any]], Any]) -> None:
    content = copy.deepcopy(json.loads(encode_catalogue(CATALOGUE)))
    change(content)
    with pytest.raises(PeerError, match="the peer's catalogue is malformed"):
        decode_catalogue(canonical(content), "telco")


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"\xff", b"{", b'{"a":1} ', b'"x"', b"[" * 100_000, b"1e999"])
def test_bytes_that_are_no_catalogue_are_refused(content: bytes) -> None:
    with pytest.raises(PeerError):
        decode_catalogue(content, "telco")


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_mutated_bytes_are_a_catalogue_or_a_peer_error(data: st.DataObject) -> None:
    body = bytearray(encode_catalogue(CATALOGUE))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at : at + data.draw(st.integers(0, 4))] = data.draw(
        st.sampled_from([b"", b"1", b'"', b"[", b"}", b"-9", b"\xc3", b"null"])
    )
    try:
        found = decode_catalogue(bytes(body), "telco")
    except PeerError:
        return
    assert decode_catalogue(encode_catalogue(found), "telco") == found


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "key", "x"]), inner, max_size=3)
    ),
)


@settings(max_examples=80, deadline=None)
@given(
    json_values,
    st.sampled_from(["tables", "name", "key", "columns", "rows", "type", "domain", "grants", "low", "scale"]),
)
def test_any_json_in_any_place_is_a_catalogue_or_a_peer_error(value: Any, place: str) -> None:
    content = json.loads(encode_catalogue(CATALOGUE))
    first = content["tables"][0]
    target = next(part for part in (content, first, first["columns"][1]) if place in part)
    target[place] = value
    try:
        decode_catalogue(canonical(content), "telco")
    except PeerError:
        pass
