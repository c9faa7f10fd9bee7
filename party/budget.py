"""Budgets: how many queries a peer may have answered in a day, and how many rows it may be shown.

A day is one of UTC. What was taken is counted from the ledger itself, so all processes of a home share one budget and a
restart forgets nothing. It is debited, synced, before anything is disclosed; what is refused is debited, too.
"""

from __future__ import annotations

import datetime
from fnmatch import fnmatchcase

from party.errors import PolicyRefused
from party.ledger import Ledger, Spending
from party.policy import Budget
from party.scores import LOGITS

__all__ = ["DebitedLedger", "take_queries", "take_refused"]

_FREE = "alignment*"  # which rows are shared is the business of `alignment` and `min_size`


def take_queries(ledger: Ledger, run: str, peer: str, budget: Budget, count: int) -> tuple[str, ...]:
    """Debit the queries of one run, once however often it is resumed; the reason why not when they do not fit."""
    taken = Spending("debit", "queries", "peer", peer)
    if count == 0 or any(event.event == "debit" and event.fields["peer"] == peer for event in ledger.events(run)):
        return ()
    if ledger.spend(taken, budget.queries, "debit", run=run, peer=peer, queries=count):
        return ()
    take_refused(ledger, run, peer)
    return (_used_up("queries", budget.queries, peer),)


def take_refused(ledger: Ledger, run: str, peer: str) -> None:
    """A run of the peer's that is refused takes one query: trying costs as much as being answered."""
    ledger.append("debit", run=run, peer=peer, queries=1)


class DebitedLedger:
    """What the guard of one run writes to: a disclosure that would pass the peer's rows of the day is refused, and so
    is one of scores that would pass its scores of the day, if policy has such a limit."""

    def __init__(self, ledger: Ledger, peer: str, budget: Budget, scores: int | None = None) -> None:
        self._ledger = ledger
        self._peer = peer
        self._most = {Spending("disclosure", "rows", "to", peer, _FREE): budget.rows}
        self._scores = Spending("disclosure", "rows", "to", peer, only=LOGITS)
        self._scores_most = scores

    def append(self, event: str, /, **fields: str | int) -> None:
        """As `Ledger.append`; PolicyRefused, the refusal written, when the budget is used up."""
        what, peer = str(fields.get("what", "")), self._peer
        if event != "disclosure" or fields.get("to") != peer or what.startswith(_FREE[:-1]):
            self._ledger.append(event, **fields)
            return
        budgets = dict(self._most)
        if self._scores_most is not None and fnmatchcase(what, LOGITS):
            budgets[self._scores] = self._scores_most
        short = self._ledger.spend_all(list(budgets.items()), event, **fields)
        if short is not None:
            rows, key = ("scores", "scores.per_day") if short == self._scores else ("rows", "budget")
            reason = _used_up(rows, budgets[short], peer)
            self._ledger.append("refused", run=fields["run"], peer=peer, by="budget", reasons=reason)
            raise PolicyRefused(
                f"our policy does not allow it: {reason}", hint=f"wait until then, or raise `{key}` in policy.yaml"
            )


def _used_up(what: str, most: int, peer: str) -> str:
    day = datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=1)
    return f"what is left of the {most} {what} a day for {peer} does not suffice; they renew on {day} at 00:00 UTC"
