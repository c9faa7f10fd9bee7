"""Scores of a new cohort: rows aligned anew, a model trained earlier, of which each side holds its half.

Steps 11 and 12 of docs/protocols/09-split-logistic-regression.md. Each side computes its own part of the logit in the
clear; the two parts are shares already. What is opened to the receiver is the logit at the agreed precision, one linear
combination of the other side's features a row. Where the receiver asks for some of the aligned rows only (`Chosen`),
the other side learns which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from mpc.engine import Engine
from party.errors import PeerError, PolicyRefused, UsageError
from party.message import Array, Cap, Message
from party.request import Opening, Request, Use
from vfl import prepare
from vfl.fitted import standardised
from vfl.model import ModelHalf
from vfl.rows import offset_of
from vfl.score import open_partial_logits, rounded
from vfl.spec import scores_name

__all__ = ["CHOSEN", "Cohort", "Forms", "choose", "explain", "learn_chosen", "partial_logits", "request", "score_bytes"]

CHOSEN = "score: which of the aligned rows are asked for"
_CHUNK = 1 << 20
_ROWS = 1 << 16  # rows prepared at a time

Columns = Mapping[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, repr=False)
class Chosen(Message, kind=0x0630):
    """Step 11, receiver to the other side: places of the aligned rows it asks for, ascending; `last` ends the list."""

    places: Annotated[np.ndarray, Array("i8", Cap(1 << 20))]
    last: bool


@dataclass(frozen=True)
class Cohort:
    """What is scored, as both sides read it. tables: party -> aligned table; features: party -> its columns."""

    parties: tuple[str, str]
    tables: Mapping[str, str]
    features: Mapping[str, tuple[str, ...]]
    model: str
    receiver: str
    decimals: int
    chosen: bool

    @property
    def giver(self) -> str:
        """The side whose features show in the scores."""
        return next(party for party in self.parties if party != self.receiver)

    def check(self) -> None:
        """UsageError for a receiver that takes no part, PolicyRefused where scores would show single columns."""
        if self.receiver not in self.parties:
            raise UsageError(f"score.receiver {self.receiver} does not take part")
        if len(self.features[self.giver]) < prepare.LEAST_FEATURES:
            raise PolicyRefused(
                f"scores of a model with fewer than {prepare.LEAST_FEATURES} features of {self.giver} would show single"
                " columns"
            )


def request(cohort: Cohort) -> Request:
    """All uses and openings of scoring a cohort."""
    cohort.check()
    uses = {
        Use(party, cohort.tables[party], column, "feature")
        for party in cohort.parties
        for column in cohort.features[party]
    }
    openings = {Opening(scores_name(cohort.decimals), cohort.receiver)}
    if cohort.chosen:
        openings.add(Opening(CHOSEN, cohort.giver))
    return Request(frozenset(uses), frozenset(openings))


def explain(cohort: Cohort, rows: int) -> list[str]:
    """What each side learns, a line each, for about this many aligned rows."""
    count, giver, receiver = len(cohort.features[cohort.giver]), cohort.giver, cohort.receiver
    which = "each row that it asks for" if cohort.chosen else f"each of at most {rows} aligned rows"
    lines = [
        f"score: {receiver} learns for {which} {scores_name(cohort.decimals).removeprefix('score: ')}, of model"
        f" {cohort.model}: one linear combination of {count} features of {giver} a row; {giver} learns no score"
    ]
    if cohort.chosen:
        lines.append(f"score: {giver} learns which of its aligned rows {receiver} asks for")
    return lines


def score_bytes(rows: int) -> int:
    """Bytes of both sides for opening so many logits: a correlated transfer (12) and one word (8) a row, and frames."""
    return 20 * rows + 270


def choose(engine: Engine, places: np.ndarray) -> None:
    """Tell the other side which aligned rows we ask for. places: int64, ascending. Bytes: 8 a row."""
    engine.guard.disclose(CHOSEN, engine.channel.peer, len(places))
    for start in range(0, max(len(places), 1), _CHUNK):
        engine.channel.send(Chosen(places[start : start + _CHUNK], start + _CHUNK >= len(places)))


def learn_chosen(engine: Engine, rows: int) -> np.ndarray:
    """The places the receiver asks for, int64, of so many aligned rows. PeerError unless they ascend and exist."""
    parts, count = [], 0
    while True:
        part = engine.channel.recv(Chosen)
        parts.append(part.places)
        count += len(part.places)
        if part.last:
            break
        if count > rows or len(part.places) < _CHUNK:
            raise PeerError("asks for more rows than there are", party=engine.channel.peer, stage="score")
    places = np.concatenate(parts)
    if len(places) and not (places[0] >= 0 and places[-1] < rows and bool(np.all(np.diff(places) > 0))):
        raise PeerError("asks for rows that are not there, or twice", party=engine.channel.peer, stage="score")
    return places


def partial_logits(model: ModelHalf, columns: Columns) -> np.ndarray:
    """Our part of the logits of new rows, float64 (n,), prepared as the training rows were.

    columns: name -> (values (n,), valid (n,)). In parts, so that memory grows by 8 bytes a row only.
    """
    rows = len(next(iter(columns.values()))[0])
    found = np.empty(rows)
    for start in range(0, rows, _ROWS):
        part = {name: (v[start : start + _ROWS], k[start : start + _ROWS]) for name, (v, k) in columns.items()}
        here = slice(start, start + _ROWS)
        found[here] = model.partial_logits(standardised(model, part))
        if model.offset is not None:
            found[here] += offset_of(model.offset, part)
    return found


@dataclass(frozen=True)
class Forms:
    """How a receiver writes logits: `score` to decimals, `logit` as opened, `points`: offset - factor * logit."""

    form: str
    decimals: int
    offset: float = 0.0
    factor: float = 0.0

    def of(self, logits: np.ndarray) -> np.ndarray:
        """float64 (n,); points as whole numbers."""
        if self.form == "logit":
            return logits
        if self.form == "points":
            return np.round(self.offset - self.factor * logits)
        return rounded(logits, self.decimals)


def score(engine: Engine, partial: np.ndarray, cohort: Cohort) -> np.ndarray | None:
    """The logits of these rows, float64 (n,), at the receiver; None at the other side. Both call it.

    partial: our part of them, float64 (n,). Rounds: 3. Bytes: `score_bytes`.
    """
    return open_partial_logits(engine, partial, scores_name(cohort.decimals), cohort.receiver, cohort.decimals)
