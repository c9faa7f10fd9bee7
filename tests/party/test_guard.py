"""The guard: only what was agreed leaves, only to whom it was agreed, only after it is written down."""

from __future__ import annotations

import pytest

from party.errors import InternalError, PolicyRefused
from party.guard import Guard
from party.request import Opening, Request, Use
from tests.support import open_guard


def test_an_agreed_value_is_written_down_and_let_out() -> None:
    guard, ledger = open_guard([("query.q", "telco")])
    guard.disclose("query.q", "telco", 7)
    assert ledger.events == [("disclosure", {"run": "test-run", "what": "query.q", "to": "telco", "rows": 7})]


@pytest.mark.parametrize(("what", "to"), [("query.q", "bank"), ("query.r", "telco"), ("query", "telco"), ("", "telco")])
def test_anything_else_is_refused_and_not_written_as_disclosed(what: str, to: str) -> None:
    guard, ledger = open_guard([("query.q", "telco")])
    with pytest.raises(PolicyRefused):
        guard.disclose(what, to, 1)
    assert not [event for event, _ in ledger.events if event == "disclosure"]


def test_nothing_leaves_when_the_ledger_fails() -> None:
    class Full:
        def append(self, event: str, /, **fields: str | int) -> None:
            raise InternalError("the disk is full")

    with pytest.raises(InternalError, match="disk is full"):
        Guard("run", "telco", [Opening("x", "telco")], Full()).disclose("x", "telco", 1)


def test_requests_join() -> None:
    use, other = Use("bank", "t", "a", "join"), Use("bank", "t", "a", "label")
    joined = Request(frozenset({use})) | Request(frozenset({other}), frozenset({Opening("x", "bank")}))
    assert joined == Request(frozenset({use, other}), frozenset({Opening("x", "bank")}))
