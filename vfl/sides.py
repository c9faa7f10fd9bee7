"""What one side brings to the passes: its whitened columns in fixed point, what it knows of the rows, the scales.

Local; nothing is sent here. Steps 0 and 2 of docs/protocols/09-split-logistic-regression.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np

from kernels.prg import Prg
from mpc import ring
from party.errors import InternalError
from vfl import information, schedule
from vfl.information import Block
from vfl.prepare import MATRIX_BITS, Known, Whitened
from vfl.proximal import Shrink, shrink_of
from vfl.schedule import WEIGHT_BITS, Scales
from vfl.state import State

__all__ = ["Ours", "Part", "Settings", "Trained", "first_state", "fixed", "ours", "shuffled"]


@dataclass(frozen=True)
class Settings:
    """What both sides must use alike.

    l1, l2: penalties of the weights' absolute values and of half their squares. tolerance: see `schedule.stop_limit`.
    passes: at most so many, None: the usual limit. period: the window to begin with. patience: stop after so many
    checks without a lower held-out loss, 0: never. warm: begin on a part of the rows from `schedule.WARM_ROWS` rows.
    weighed: rows have weights. second: end in second-order steps
    (`vfl.newton`) where there are few enough weights and nothing against them.
    """

    l2: float = 1.0
    tolerance: float = 1e-6
    passes: int | None = None
    period: int = 64
    patience: int = 0
    warm: bool = True
    weighed: bool = False
    l1: float = 0.0
    second: bool = True

    @property
    def against_second(self) -> bool:
        """Whether something does not go with second-order steps: weights of rows, early stopping, l1."""
        return self.weighed or self.patience > 0 or self.l1 > 0.0


@dataclass(frozen=True, repr=False)
class Part:
    """The rows of a pass, training rows first, then held-out ones; `columns` has the penalty's rows after them."""

    columns: np.ndarray  # int64 (d, rows + held + d): whitened rows at 2^fx, then the penalty's rows at 2^fp
    rows: int
    held: int
    shift: int  # the gradient of these rows times 2^shift stands for that of all
    signs: np.ndarray | None
    weights: np.ndarray | None  # divided by 2^e, so at most 1
    offset: np.ndarray | None


@dataclass(frozen=True, repr=False)
class Ours:
    """One side's input of every pass. Blocks of weights are ordered label holder, feature holder."""

    parts: tuple[Part, ...]  # all rows; before that, where the training begins on fewer, these
    block: slice  # our weights among all
    peer_block: slice
    scales: Scales
    settings: Settings
    shrink: Shrink | None = None  # where l1 is above 0
    second: Block | None = None  # of second-order steps, where these are asked for

    def part(self, number: int) -> Part:
        """The rows of pass `number`."""
        return self.parts[0] if number <= schedule.WARM_PASSES else self.parts[-1]

    @property
    def weights(self) -> int:
        """Weights of both sides."""
        return int(max(self.block.stop, self.peer_block.stop))

    def digest(self) -> bytes:
        """Of all that the passes compute with, 32 bytes: another digest, other randomness."""
        state = sha256(repr((self.block, self.peer_block, self.scales, self.settings)).encode())
        for part in self.parts:
            state.update(repr((part.rows, part.held, part.shift)).encode())
            for values in (part.columns, part.signs, part.weights, part.offset):
                state.update(b"\x00" if values is None else np.ascontiguousarray(values).data)
        for values in self.shrink.digest_parts() if self.shrink else ():
            state.update(np.ascontiguousarray(values).data)
        for values in (self.second.columns, self.second.own) if self.second else ():
            state.update(np.ascontiguousarray(values).data)
        return state.digest()

    def weights_of(self, whitened: Whitened, opened: np.ndarray) -> np.ndarray:
        """Our weights of the columns, (d,), from our opened block of `State.model`."""
        return opened if self.shrink else whitened.transform @ opened


@dataclass(frozen=True, repr=False)
class Trained:
    """After the last pass: nothing of the weights is open. aside: our whitened columns of the rows set aside, int64
    (d, m), no rows where there are none; run: the run's name, under which states are kept."""

    side: Ours
    state: State
    whitened: Whitened
    aside: np.ndarray
    run: bytes


def ours(whitened: Whitened, known: Known, theirs: int, scales: Scales, settings: Settings) -> Ours:
    """Our columns in fixed point and our place among the weights; theirs: how many columns the peer has."""
    scales.check()
    rows = len(whitened.values) - known.held
    data = fixed(whitened.values.T, scales.matrix)
    penalty = fixed(whitened.penalty, scales.penalty)
    signs = None if known.label is None else 2.0 * known.label - 1.0
    weights = None if known.weights is None else known.weights * 2.0**-scales.most

    def part(count: int, shift: int) -> Part:
        # `count` training rows, then the held-out ones, then the penalty's
        taken = np.r_[0:count, rows : rows + known.held] if count < rows else slice(None)
        columns = np.hstack([data[:, taken], penalty])
        vectors = (None if values is None else values[taken] for values in (signs, weights, known.offset))
        return Part(columns, count, known.held, shift, *vectors)

    warm = settings.warm and rows >= schedule.WARM_ROWS
    parts = (part(rows >> schedule.WARM_SHIFT, schedule.WARM_SHIFT),) if warm else ()
    width = len(data)
    first = known.label is not None
    block, peer_block = (
        (slice(0, width), slice(width, width + theirs)) if first else (slice(theirs, theirs + width), slice(0, theirs))
    )
    shrink = None
    if settings.l1 > 0.0:
        shrink = shrink_of(whitened, settings.l1, (block, peer_block), intercept=first)
    second = None
    if settings.second and not settings.against_second and width + theirs <= schedule.SECOND_WEIGHTS:
        second = information.block_of(whitened, scales.matrix, theirs, holder=first)
    return Ours((*parts, part(rows, 0)), block, peer_block, scales, settings, shrink, second)


def fixed(values: np.ndarray, bits: int) -> np.ndarray:
    """Whitened columns with so many fraction bits, int64 below 2^19."""
    found = np.rint(values * 2.0**bits).astype(np.int64)
    if int(np.abs(found).max(initial=0)) >= 1 << (MATRIX_BITS - 1):
        raise InternalError("a whitened column does not fit its fixed point")
    return np.asarray(found)


def shuffled(rows: int, held: int) -> np.ndarray:
    """A public order of the training rows, so that the first of them are a fair part; held-out rows stay last."""
    words = Prg(sha256(b"tallystick/v1/train/warm").digest(), "warm").words(rows - held)
    return np.concatenate([np.argsort(words, kind="stable"), np.arange(rows - held, rows)])


def first_state(side: Ours, whitened: Whitened, known: Known) -> State:
    """Shares to begin with: the intercept at logit(mean y), known to the label holder; all else 0."""
    weights = np.zeros((3, side.weights), dtype=np.uint64)
    split = np.zeros((3, 2, side.weights), dtype=np.uint64)
    if known.label is not None:
        rows = len(known.label) - known.held
        mean = float(np.average(known.label[:rows], weights=None if known.weights is None else known.weights[:rows]))
        begin = np.zeros(whitened.values.shape[1])
        begin[0] = np.log(mean / (1.0 - mean)) - (0.0 if known.offset is None else known.offset[:rows].mean())
        weights[:, side.block] = ring.encode(np.linalg.pinv(whitened.transform) @ begin, WEIGHT_BITS)
        split[:, 0, side.block] = ring.encode(begin, WEIGHT_BITS)
    state = State(weights=weights, period=side.settings.period)
    return replace(state, split=split) if side.shrink else state
