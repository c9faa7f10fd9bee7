"""A recorded view tells nothing but the answer: two secrets of the other side with the same answer look the same.

A view is all messages that a party receives in one run of a statement, and the lattice answers as it decrypts them:
they come under its own key, so their bytes alone could hide a missing mask. For two tables of the other side that give
the same public answer, over many fresh runs: the same kinds, lengths and number of messages in the same order;
and the bytes of each kind come from one distribution, by chi-squared, corrected by Bonferroni over all kinds,
statements and viewers. What this cannot show: what a party could work out from masks of transfers that it chose itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import chi2_contingency

from mpc import lattice, lattice_long
from mpc.linear import Linear
from mpc.sql import Context, Plan, Result, plan
from party.catalogue import Catalogue, Column, Table
from party.channel import Channel
from party.message import Message, encode
from tests.mpc.sqlkit import JOIN, Pair

ROWS = 72
REGIONS, TIERS = ("north", "south", "east"), ("basic", "plus", "pro", "lite")
BANK = (
    Column("phone", "string"),
    Column("region", "string", domain=REGIONS, nullable=False),
    Column("branch", "string"),
    Column("x", "integer", low=-1000, high=1000, nullable=False),
)
TELCO = (
    Column("msisdn", "string"),
    Column("tier", "string", domain=TIERS, nullable=False),
    Column("y", "integer", low=-1000, high=1000, nullable=False),
)
DECRYPTED = "decrypted answers"
Numbers = np.ndarray[Any, Any]


@dataclass
class Tables:
    """Both parties' rows: groups as numbers."""

    region: Numbers
    x: Numbers
    tier: Numbers
    y: Numbers

    def arrow(self) -> tuple[pa.Table, pa.Table]:
        keys = [f"+44790{number:07d}" for number in range(ROWS)]
        names = [REGIONS[place] for place in self.region]
        bank = {"phone": keys, "region": names, "branch": names, "x": self.x}
        telco = {"msisdn": keys, "tier": [TIERS[place] for place in self.tier], "y": self.y}
        return pa.table(bank), pa.table(telco)


def base() -> Tables:
    """24 rows a region; tiers of 40, 24, 5 and 3 rows; y large in the first region only."""
    rng = np.random.default_rng(5)
    region = np.repeat(np.arange(3), 24)
    tier = rng.permutation(np.repeat(np.arange(4), (40, 24, 5, 3)))
    y = np.where(region == 0, rng.integers(10, 14, ROWS), rng.integers(0, 4, ROWS))
    return Tables(region, rng.integers(1, 4, ROWS), tier, y)


def _shuffled(values: Numbers, classes: Numbers, seed: int = 9) -> Numbers:
    """The values moved about inside each class of rows."""
    rng, found = np.random.default_rng(seed), values.copy()
    for one in np.unique(classes):
        places = np.flatnonzero(classes == one)
        found[places] = values[rng.permutation(places)]
    return found


def _turned(values: Numbers, others: Numbers) -> Numbers:
    """Other values with the same inner product: each pair of rows moves at a right angle to the other side's."""
    found = values.copy()
    found[0::2] += 7 * others[1::2]
    found[1::2] -= 7 * others[0::2]
    return found


@dataclass(frozen=True)
class Case:
    """A statement, and what changes a secret of the bank or of the telco but not the answer."""

    sql: str
    min_rows: int
    bank: Callable[[Tables], dict[str, Numbers]]
    telco: Callable[[Tables], dict[str, Numbers]]
    reach: int = 1000  # declared range of both numbers


def _other_hidden_tiers(t: Tables) -> dict[str, Numbers]:
    """5 rows of `pro` and 3 of `lite` become 2 and 6, at other places; all but `basic` is hidden either way."""
    tier = t.tier.copy()
    hidden = np.flatnonzero(tier > 0)
    tier[hidden] = np.random.default_rng(3).permutation(np.repeat((1, 2, 3), (24, 2, 6)))
    return {"tier": tier}


CASES = {
    "dot": Case(
        f"SELECT SUM(b.x * t.y) AS s {JOIN}",
        20,
        lambda t: {"x": _turned(t.x, t.y)},
        lambda t: {"y": _turned(t.y, t.x)},
    ),
    "wide": Case(  # modulo 2^104, three digits a value
        f"SELECT SUM(b.x * t.y) AS s {JOIN}",
        20,
        lambda t: {"x": _turned(t.x, t.y)},
        lambda t: {"y": _turned(t.y, t.x)},
        2**61,
    ),
    "groups of both": Case(
        f"SELECT b.region, t.tier, COUNT(*) AS n, SUM(t.y) AS s {JOIN} GROUP BY b.region, t.tier",
        1,
        lambda t: {"region": _shuffled(t.region, 100 * t.tier + t.y)},
        lambda t: {"tier": _shuffled(t.tier, t.region), "y": _shuffled(t.y, t.region)},  # moved together
    ),
    "suppressed": Case(
        f"SELECT t.tier, COUNT(*) AS n, SUM(b.x) AS s {JOIN} GROUP BY t.tier",
        20,
        lambda t: {"x": np.where(t.tier > 0, 500 - t.x, _shuffled(t.x, t.tier))},
        _other_hidden_tiers,
    ),
    "having": Case(
        f"SELECT b.region, COUNT(*) AS n {JOIN} GROUP BY b.region HAVING SUM(t.y) > 100",
        1,
        lambda t: {"region": _shuffled(t.region, (t.region > 0).astype(np.int64))},
        lambda t: {"y": np.where(t.region > 0, t.y - 20 * t.region, _shuffled(t.y, t.region))},
    ),
    "limit": Case(
        f"SELECT b.region, SUM(t.y) AS s {JOIN} GROUP BY b.region ORDER BY s DESC LIMIT 1",
        1,
        lambda t: {"region": _shuffled(t.region, (t.region > 0).astype(np.int64))},
        lambda t: {"y": np.where(t.region > 0, t.y - 20 * t.region, _shuffled(t.y, t.region))},
    ),
    "undeclared keys": Case(
        f"SELECT b.branch, COUNT(*) AS n {JOIN} WHERE t.y > 8 GROUP BY b.branch",
        20,
        lambda t: {"region": _shuffled(t.region, (t.region > 0).astype(np.int64))},
        lambda t: {"y": np.where(t.region > 0, t.y - 20 * t.region, _shuffled(t.y, t.region))},
    ),
}


def planned(case: Case) -> Plan:
    ours, theirs = (
        tuple(replace(c, low=-case.reach, high=case.reach) if c.type == "integer" else c for c in columns)
        for columns in (BANK, TELCO)
    )
    catalogues = (
        Catalogue("bank", (Table("customers", (("phone",),), ours, ROWS),)),
        Catalogue("telco", (Table("subscribers", (("msisdn",),), theirs, ROWS),)),
    )
    return plan(case.sql, Context("q", catalogues, ("bank", "telco"), ROWS, case.min_rows))


@dataclass
class View:
    """What one party got, run for run: (kind, bytes) in order."""

    runs: list[list[tuple[str, bytes]]] = field(default_factory=list)
    answers: list[Result | None] = field(default_factory=list)

    def shapes(self) -> list[tuple[tuple[str, int], ...]]:
        """What came in which order; what is decrypted of it is no message."""
        return [tuple((kind, len(body)) for kind, body in run if kind != DECRYPTED) for run in self.runs]

    def counts(self) -> dict[str, Numbers]:
        """How often each byte comes in each kind."""
        found: dict[str, Numbers] = {}
        for run in self.runs:
            for kind, body in run:
                here = np.bincount(np.frombuffer(body, np.uint8), minlength=256)
                found[kind] = found.get(kind, 0) + here
        return found


@dataclass
class Recorder:
    """Hands everything that goes to `viewer` to the view that is open."""

    viewer: str
    open: list[tuple[str, bytes]] = field(default_factory=list)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        send, recorder = Channel.send, self

        def sent(channel: Channel, message: Message) -> None:
            if channel.peer == recorder.viewer:
                recorder.open.append((type(message).__name__, encode(message)))
            send(channel, message)

        def watched(inner: Callable[..., Any], width: int) -> Callable[..., Any]:
            def decrypted(linear: Linear, *told: Any) -> Any:
                share = inner(linear, *told)
                if linear.channel.us == recorder.viewer:
                    numbers = np.ascontiguousarray(share).view(np.uint8).reshape(share.shape[0] * share.shape[1], -1)
                    recorder.open.append((DECRYPTED, numbers[:, :width].tobytes()))
                return share

            return decrypted

        patch.setattr(Channel, "send", sent)
        patch.setattr(Linear, "inner_owner", watched(Linear.inner_owner, 8))
        patch.setattr(Linear, "long_owner", watched(Linear.long_owner, 13))  # of two words, 104 bits


def views(case: Case, viewer: str, runs: int, patch: pytest.MonkeyPatch) -> tuple[View, View]:
    """The viewer's views of two secrets of the other side, in turn."""
    first = base()
    changed = (case.telco if viewer == "bank" else case.bank)(first)
    second = Tables(**(vars(first) | changed))
    assert any((getattr(first, name) != values).sum() >= 10 for name, values in changed.items())
    recorder, made, found = Recorder(viewer), planned(case), (View(), View())
    recorder.install(patch)
    for _ in range(runs):
        for view, tables in zip(found, (first, second), strict=True):
            recorder.open = []
            ours, theirs = Pair.real().run(made, *tables.arrow())
            view.runs.append(recorder.open)
            view.answers.append(ours if viewer == "bank" else theirs)
    return found


def smallest_p(first: View, second: View) -> tuple[float, str]:
    """The least likely kind, after Bonferroni over the kinds of these views."""
    ours, theirs = first.counts(), second.counts()
    assert set(ours) == set(theirs)
    found = []
    for kind in sorted(ours):
        table = np.stack([ours[kind], theirs[kind]])
        if table.sum() >= 256 * 40:
            found.append((_homogeneous(table), kind))
        else:  # too few for a bin a value: the upper and the lower half of each byte
            halves = table.reshape(2, 16, 16)
            found += [(_homogeneous(halves.sum(axis=axis)), kind) for axis in (1, 2)]
    p, kind = min(found)
    return min(1.0, p * len(found)), kind


def _homogeneous(table: Numbers) -> float:
    """The chi-squared p that both rows were drawn from one distribution."""
    table = table[:, table.sum(axis=0) > 0]
    return float(chi2_contingency(table).pvalue) if table.shape[1] > 1 else 1.0


def check(name: str, viewer: str, runs: int, limit: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        first, second = views(CASES[name], viewer, runs, patch)
    answers = first.answers + second.answers
    assert answers[0] is not None and all(answer == answers[0] for answer in answers), "choose other secrets"
    assert len(set(first.shapes() + second.shapes())) == 1
    p, kind = smallest_p(first, second)
    assert p > limit, f"{kind} tells the two secrets apart: p = {p:.2g}"


VIEWERS = ("bank", "telco")


@pytest.mark.parametrize("viewer", VIEWERS)
@pytest.mark.parametrize("name", ["dot", "suppressed", "wide"])
def test_a_view_does_not_tell_two_secrets_apart(name: str, viewer: str) -> None:
    check(name, viewer, 4, 1e-6)  # runs with every `make test`: it must not cry wolf


@pytest.mark.slow
@pytest.mark.parametrize("viewer", VIEWERS)
@pytest.mark.parametrize("name", sorted(CASES))
def test_a_hundred_views_do_not_tell_two_secrets_apart(name: str, viewer: str) -> None:
    check(name, viewer, 100, 1e-3 / (len(CASES) * len(VIEWERS)))


def _zero_masks(parameters: lattice.Parameters, stream: Any, count: int, t: int) -> tuple[Numbers, Numbers]:
    return np.zeros((len(parameters.primes), count), np.uint64), np.zeros(count, np.uint64)


def _zero_mask(stream: Any) -> tuple[Numbers, int]:
    return np.zeros((4, 1), np.uint64), 0


OWNER = {"suppressed": "bank", "having": "telco", "wide": "bank"}  # who uploads, and so decrypts


@pytest.mark.parametrize("name", ["suppressed", "wide", pytest.param("having", marks=pytest.mark.slow)])
def test_a_constant_mask_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without masks the owner decrypts the hidden groups' own numbers, though the wire looks as random as ever."""
    monkeypatch.setattr(lattice, "masks", _zero_masks)
    monkeypatch.setattr(lattice_long, "mask_long", _zero_mask)
    with pytest.MonkeyPatch.context() as patch:
        first, second = views(CASES[name], OWNER[name], 30 if name == "having" else 10, patch)
    assert len(set(map(str, first.answers + second.answers))) == 1
    assert len(set(first.shapes() + second.shapes())) == 1
    p, kind = smallest_p(first, second)
    assert kind == DECRYPTED
    assert p < 1e-6
