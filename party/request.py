"""What a job asks of the two parties: which columns for which use, and what is opened to whom.

`psi`, `mpc.sql` and `vfl` each derive a Request from the job, on each side by itself; `pipelines` joins them;
`party.policy` decides on it; `party.guard` lets nothing out that is not in it.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["GRANTS", "Opening", "Request", "Use"]

GRANTS = ("join", "filter", "compare", "group", "aggregate", "rank", "output", "feature", "label")


@dataclass(frozen=True, order=True)
class Use:
    """One column of one party put to one use (a word of GRANTS)."""

    party: str
    table: str
    column: str
    use: str


@dataclass(frozen=True, order=True)
class Opening:
    """One value, or one kind of value, that leaves: `what` as the plan and the ledger write it, and its receiver."""

    what: str
    to: str


@dataclass(frozen=True)
class Request:
    """All that a job, or one part of it, asks for."""

    uses: frozenset[Use] = frozenset()
    openings: frozenset[Opening] = frozenset()

    def __or__(self, other: Request) -> Request:
        return Request(self.uses | other.uses, self.openings | other.openings)
