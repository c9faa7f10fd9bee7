"""Which prepared columns of both parties are left out: those that follow an earlier one, or inflate variances.

Steps of docs/protocols/09-split-logistic-regression.md, "Screen". Columns stand in the job's order, one party's (the
first's) before the other's; u is a column of training rows less its mean, over its length, so that a correlation is one
inner product. A constant column follows nothing and is never left out.

By correlations alone (`follow`): 1. the first leaves out, in the clear, each column that correlates beyond the limit
with an earlier one it keeps, and tells. 2. Shares of the correlations of its kept columns with the other's. 3. On
shares: does a column of the other's correlate beyond the limit with any of them? That bit is opened to its owner.
4. The other leaves out those, and each that follows an earlier one of its own that it keeps, and tells.

With variance inflation factors (`inflate`) the correlations are opened to both to 1/4096, and both decide alike: first
by the limit of correlations, then, as long as a factor is above its limit, the last column in order of those above it
goes. Rounding limits factors to about 1 / RIDGE; a factor near 10 is good to 2 percent, unless columns are many.

Peer learns: which columns are left out; the other of each of its columns whether it follows a kept one of the first's;
with factors, the correlations. Rounds: 1 for the products, and 10 to 20. Bytes: 18.8 a row for each column of the side
with fewer, 81,930 a pair, about 0.8 kB a pair compared.
Source: Belsley, Kuh, Welsch, "Regression Diagnostics", 1980 (variance inflation from the inverse correlation matrix).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt

from mpc import convert, linear_cost, opening, ring
from mpc.compare import logic_every, negative
from mpc.cost import Meter
from mpc.engine import Engine
from party.errors import InternalError, PeerError
from party.message import Array, Cap, Message
from vfl.recipes import DROPPED, MATRIX, TIES, Screen

__all__ = ["Side", "factors", "greedy", "predict_follow", "predict_inflate", "screen", "units"]

Bits = npt.NDArray[np.bool_]
Words = npt.NDArray[np.uint64]

FINE, COARSE = 30, 20  # fraction bits of the uploaded columns and of the multiplier's
TOLD = 12  # fraction bits of an opened correlation
_UNIT = 1 << TOLD
RIDGE = 2e-3  # added to the diagonal of rounded correlations, so that they can be inverted
_WIDTH = FINE + COARSE + 3  # signed bits of a correlation less a limit
_MULTIPLIER = COARSE + 2
_MOST = 4096
_HEADER, _DIMENSION = 24, 4  # of a message, of an array


@dataclass(frozen=True, repr=False)
class Left(Message, kind=0x0621):
    """Steps 1 and 4, to the other side: 1 for each column that is left out, of our own or, with factors, of all."""

    columns: Annotated[np.ndarray, Array("u1", Cap(2 * _MOST))]


@dataclass(frozen=True, repr=False)
class Own(Message, kind=0x0622):
    """Both ways, with factors: our columns' correlations with each other in units of 1/4096, and 4096 more, row by row
    above the diagonal; and which columns vary."""

    upper: Annotated[np.ndarray, Array("u2", Cap(_MOST * (_MOST - 1) // 2))]
    varies: Annotated[np.ndarray, Array("u1", Cap(_MOST))]


@dataclass(frozen=True)
class Side:
    """first: whether our columns stand before the peer's in the job's order; theirs: how many it has."""

    first: bool
    theirs: int


def screen(engine: Engine, values: np.ndarray, side: Side, wanted: Screen) -> tuple[Bits, Bits]:
    """Which of our columns and of the peer's are left out, bool (d,) and (theirs,); the same on both sides.

    values: our prepared training rows, float64 (n, d). Raises PeerError when the peer's answers have the wrong form.
    """
    ours = units(values)
    if wanted.vif is not None:
        return _inflate(engine, ours, side, wanted)
    return _follow(engine, ours, side, wanted.correlation or 1.0)


def units(values: np.ndarray) -> np.ndarray:
    """Columns less their mean and over their length: float64 (n, d), zeros for a constant one."""
    centred = values - values.mean(axis=0)
    length = np.sqrt((centred**2).sum(axis=0))
    varies = (values.max(axis=0) > values.min(axis=0)) & (length > 0)
    return np.where(varies, centred / np.where(varies, length, 1.0), 0.0)


def greedy(correlations: np.ndarray, limit: float, out: Bits) -> Bits:
    """In order: a column goes if it is `out` already, or correlates beyond the limit with an earlier one that stays."""
    gone = out.copy()
    for place in range(len(gone)):
        earlier = np.abs(correlations[place, :place])[~gone[:place]]
        gone[place] |= bool((earlier > limit).any())
    return gone


def factors(correlations: np.ndarray, limit: float, out: Bits) -> Bits:
    """As long as a variance inflation factor of those that stay is above the limit, the last of these goes."""
    gone = out.copy()
    while True:
        stay = np.flatnonzero(~gone & (np.diag(correlations) > 0))
        if len(stay) < 2:
            return gone
        inverse = np.linalg.inv(correlations[np.ix_(stay, stay)] + RIDGE * np.eye(len(stay)))
        found = np.diag(inverse)
        above = stay[(found > limit) | (found <= 0)]
        if not len(above):
            return gone
        gone[above[-1]] = True


# --- by correlations alone --------------------------------------------------------------------------------------------


def _follow(engine: Engine, ours: np.ndarray, side: Side, limit: float) -> tuple[Bits, Bits]:
    nothing = np.zeros(ours.shape[1], dtype=bool)
    if side.first:
        # 1. Our own, in the clear; told.
        gone = greedy(ours.T @ ours, limit, nothing)
        _tell(engine, gone)
        stays = ours[:, ~gone]
        # 2. and 3. Shares of the correlations, and of whether they are beyond the limit.
        small = _small(engine, _products(engine, stays, side), limit)
        opening.open_bits(engine, small, TIES, (engine.channel.peer,))
        return gone, _told(engine, side.theirs)
    theirs = _told(engine, side.theirs)
    other = Side(first=False, theirs=int((~theirs).sum()))
    small = _small(engine, _products(engine, ours, other), limit)
    opened = opening.open_bits(engine, small, TIES, (engine.channel.us,))
    if opened is None:
        raise InternalError("bits opened to us did not arrive")
    # 4. What follows the first's, and our own, in the clear; told.
    gone = greedy(ours.T @ ours, limit, opened == 0)
    _tell(engine, gone)
    return gone, theirs


def _small(engine: Engine, correlations: Words, limit: float) -> npt.NDArray[np.uint8]:
    """XOR shares (d,) of [no correlation of the second's column is beyond the limit], from shares (first, second)."""
    bound = np.uint64(round(limit * 2.0 ** (FINE + COARSE)) + 1)
    ends = np.stack([correlations, np.uint64(0) - correlations])
    below = negative(engine, ends - bound if engine.index == 0 else ends, _WIDTH)
    return logic_every(engine, [list(below.reshape(-1, correlations.shape[1]))])[0]


# --- with variance inflation factors ----------------------------------------------------------------------------------


def _inflate(engine: Engine, ours: np.ndarray, side: Side, wanted: Screen) -> tuple[Bits, Bits]:
    count = ours.shape[1]
    # Shares of the correlations across, opened to both to 1/4096; each side's own in the clear, rounded alike.
    half = np.uint64(1 << (FINE + COARSE - TOLD - 1)) if engine.index == 0 else np.uint64(0)
    share = convert.truncate(engine, _products(engine, ours, side) + half, FINE + COARSE - TOLD)
    across = opening.open_to(engine, share, MATRIX, (engine.channel.us, engine.channel.peer))
    if across is None:
        raise InternalError("correlations opened to both sides did not arrive")
    own = np.round(ours.T @ ours * _UNIT).astype(np.int64)[np.triu_indices(count, 1)]
    varies = np.asarray(ours.any(axis=0))
    engine.guard.disclose(MATRIX, engine.channel.peer, len(own))
    theirs = engine.channel.swap(Own((own + _UNIT).astype(np.uint16), varies.astype(np.uint8)))
    if len(theirs.varies) != side.theirs or len(theirs.upper) != side.theirs * (side.theirs - 1) // 2:
        raise PeerError("correlations of a wrong number of columns")
    blocks = _square(own, varies), _square(theirs.upper.astype(np.int64) - _UNIT, theirs.varies > 0)
    cross = ring.signed(across)
    if bool((np.abs(cross) > _UNIT + 2).any()) or bool((theirs.upper > 2 * _UNIT).any()):
        raise PeerError("a correlation beyond 1")
    first, second = blocks if side.first else blocks[::-1]
    whole = np.block([[first, cross], [cross.T, second]]) / _UNIT
    gone = np.zeros(len(whole), dtype=bool)
    if wanted.correlation is not None:
        gone = greedy(whole, wanted.correlation, gone)
    gone = factors(whole, wanted.vif or np.inf, gone)
    engine.guard.disclose(DROPPED, engine.channel.peer, len(gone))
    if engine.channel.swap(Left(gone.astype(np.uint8))).columns.tolist() != gone.tolist():
        raise PeerError("the two sides leave out different columns")
    mine = slice(0, count) if side.first else slice(side.theirs, None)
    peers = slice(count, None) if side.first else slice(0, side.theirs)
    return gone[mine], gone[peers]


def _square(upper: np.ndarray, varies: np.ndarray) -> np.ndarray:
    found = np.zeros((len(varies), len(varies)), dtype=np.int64)
    found[np.triu_indices(len(varies), 1)] = upper
    return np.asarray(found + found.T + np.diag(np.where(varies, _UNIT, 0)))


# --- what both share --------------------------------------------------------------------------------------------------


def _products(engine: Engine, ours: np.ndarray, side: Side) -> Words:
    """Shares of all correlations across, uint64 (first's columns, second's), with FINE + COARSE fraction bits."""
    uploads = _uploads(ours.shape[1], side.theirs, side.first)
    if uploads:
        handle = engine.linear.upload(ring.encode(np.ascontiguousarray(ours.T), FINE))
        found = engine.linear.inner_owner(handle, side.theirs, _MULTIPLIER)
    else:
        got = engine.linear.receive(side.theirs, len(ours))
        found = engine.linear.inner_multiplier(got, np.rint(ours.T * 2.0**COARSE).astype(np.int64), _MULTIPLIER)
    # (the uploader's, the multiplier's)
    return np.ascontiguousarray(found if uploads == side.first else found.T)


def _uploads(ours: int, theirs: int, first: bool) -> bool:
    """The side with fewer columns uploads, of equals the first."""
    return ours < theirs or (ours == theirs and first)


def _tell(engine: Engine, gone: Bits) -> None:
    engine.guard.disclose(DROPPED, engine.channel.peer, len(gone))
    engine.channel.send(Left(gone.astype(np.uint8)))


def _told(engine: Engine, count: int) -> Bits:
    found = engine.channel.recv(Left).columns
    if len(found) != count or bool((found > 1).any()) or bool(found.all()):
        raise PeerError("a wrong number of columns is left out")
    return np.asarray(found == 1)


def predict_follow(rows: int, first: int, second: int, index: int = 0) -> Meter:
    """Bytes and waits of `screen` by correlations alone, for a first party of so many columns that leaves out none.

    index: of the first party. Keys and base transfers come on top.
    """
    meter = Meter()
    meter.tell(index, _left(first))
    _count_products(meter, rows, (first, second), index)
    meter.negative(2 * first * second, _WIDTH)
    meter.logic_every([2 * first], second)
    meter.open(-(-second // 64), (index == 1, index == 0))
    meter.tell(1 - index, _left(second))
    return meter


def predict_inflate(rows: int, first: int, second: int, index: int = 0) -> Meter:
    """The same with variance inflation factors."""
    meter = Meter()
    _count_products(meter, rows, (first, second), index)
    meter.to_arithmetic(first * second)
    meter.open(first * second, (True, True))
    own = [_HEADER + 2 * _DIMENSION + d * (d - 1) + d for d in (first, second)]
    meter.swap(own[index], own[1 - index])
    meter.swap(_left(first + second), _left(first + second))
    return meter


def _left(columns: int) -> int:
    return _HEADER + _DIMENSION + columns


def _count_products(meter: Meter, rows: int, columns: tuple[int, int], index: int) -> None:
    uploader = index if _uploads(*columns, True) else 1 - index
    up = linear_cost.predict_upload(min(columns), rows)
    meter.tell(uploader, up.owner)
    if up.multiplier:
        meter.tell(1 - uploader, up.multiplier)
    meter.tell(1 - uploader, linear_cost.predict_inner(*columns, _MULTIPLIER).multiplier)
