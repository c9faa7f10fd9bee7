"""Cross-validation over penalties, jointly: of each fold and penalty only AUC and log-loss are opened, to both sides.

Steps of section "Cross-validation" of docs/protocols/09-split-logistic-regression.md. For each penalty and fold the
passes run over the other folds' rows and end with weights in shares; the fold's logits come as shares from the same
products as step 2's, and are measured as page 15 measures shares. No weight, logit or score is opened to anyone. No
message is defined here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mpc import ring
from mpc.engine import Engine
from party.errors import DataError, InternalError, PeerError
from vfl import schedule
from vfl.folds import CrossValidation, folds_of
from vfl.grid import Shares
from vfl.metrics_shared import measure
from vfl.passes import Progress
from vfl.prepare import MATRIX_BITS, Aside, Known
from vfl.rows import check_weights
from vfl.schedule import WEIGHT_BITS
from vfl.secure import Arithmetic, Secure
from vfl.sides import Settings, Trained
from vfl.state import Checkpoints, saved

__all__ = ["Fold", "Table", "Validated", "aside_logits", "choose"]

Fit = Callable[
    [Arithmetic, tuple[np.ndarray, Known, int], Settings, Checkpoints, Progress | None],
    Trained,
]


@dataclass(frozen=True)
class Fold:
    """What both sides learn of one training."""

    l2: float
    fold: int  # from 1
    auc: float
    log_loss: float


@dataclass(frozen=True)
class Validated:
    """All of them, in the order of the job's penalties, and the penalty that is best."""

    l2: float
    folds: tuple[Fold, ...]

    def as_list(self) -> list[dict[str, Any]]:
        """The `cross_validation` list of `tally run --json`."""
        return [{"l2": one.l2, "fold": one.fold, "auc": one.auc, "log_loss": one.log_loss} for one in self.folds]


@dataclass(frozen=True, repr=False)
class Table:
    """Our prepared rows (n, d), held-out ones last; what we know of them; columns of the peer; how passes are done."""

    values: np.ndarray
    known: Known
    theirs: int
    settings: Settings


def choose(
    engine: Engine,
    wanted: CrossValidation,
    table: Table,
    salt: bytes,
    fit: Fit,
    keeping: tuple[Checkpoints, Progress | None],
) -> Validated:
    """Try every penalty on every fold; the same answer at both sides.

    fit: `vfl.train.fit_shared`; keeping: where states and finished folds are kept, so that a run that was cut goes on
    within the fold it was in; and the progress display. Peer learns what `CrossValidation.lines` says. Raises DataError
    where a fold has fewer than min_rows rows of a class.
    """
    training = len(table.values) - table.known.held
    fold = folds_of(training, wanted.folds, salt)
    _check(table.known, fold, wanted.folds, engine.guard.min_rows)
    checkpoints, progress = keeping
    found = []
    for place, l2 in enumerate(wanted.l2):
        for number in range(wanted.folds):
            told = _telling(progress, f"l2 {l2:g}, fold {number + 1} of {wanted.folds}")
            part = _part(table, fold == number, l2)
            kept = checkpoints.under(f"l2-{place}-fold-{number}")
            auc, loss = _one(engine, wanted, part, (fit, kept, told))
            found.append(Fold(l2, number + 1, auc, loss))
    return Validated(wanted.best([(one.l2, one.auc, one.log_loss) for one in found]), tuple(found))


def aside_logits(arithmetic: Arithmetic, trained: Trained, offset: np.ndarray | None) -> Shares:
    """Shares of the logits of the rows set aside: step 2's products with the last weights, which stay shared.

    Rounds and bytes: `mpc.linear_cost.predict_matvec` of these rows, from either side. The period is twice that of the
    passes, so that every margin inside the window has a logit of its own.
    """
    side, model, columns = trained.side, trained.state.model, trained.aside
    bits = side.scales.matrix + WEIGHT_BITS
    mine, other = arithmetic.products(columns, model[side.peer_block], columns.shape[1])
    words = ring.matmul(columns.T, model[side.block], a_bits=MATRIX_BITS) + mine + other
    if offset is not None:
        words = words + ring.encode(offset, bits)
    return Shares(words, bits, 2 * trained.state.period)


def _one(
    engine: Engine, wanted: CrossValidation, table: Table, how: tuple[Fit, Checkpoints, Progress | None]
) -> tuple[float, float]:
    """AUC and log-loss of the rows set aside; from what is kept where both sides have measured them before."""
    fit, kept, told = how
    arithmetic = Secure(engine, MATRIX_BITS)
    trained = fit(arithmetic, (table.values, table.known, table.theirs), table.settings, kept, told)
    state, aside = trained.state, table.known.aside
    if aside is None:
        raise InternalError("cross-validation without rows to measure")
    if not len(state.found):
        # Randomness of the passes belongs to them alone; from here on it is fresh, so a repetition meets no mask twice.
        logits = aside_logits(arithmetic, trained, aside.offset)
        metrics = _measured(engine, wanted, logits, table)
        state = replace(state, number=state.number + 1, found=np.array(metrics))
        saved(kept, state, trained.run)
    auc, loss = state.found.tolist()
    return auc, loss


def _measured(engine: Engine, wanted: CrossValidation, logits: Shares, table: Table) -> tuple[float, float]:
    rows, count = len(table.values) - table.known.held, len(logits.words)
    words = np.concatenate([np.zeros(rows, dtype=np.uint64), logits.words])
    label = None
    if table.known.label is not None and table.known.aside is not None and table.known.aside.label is not None:
        label = np.concatenate([table.known.label[:rows], table.known.aside.label])
    test = np.arange(rows + count) >= rows
    found = measure(engine, wanted.wanted, replace(logits, words=words), label, test, 0)
    if found.auc is None or found.log_loss is None:
        raise PeerError(f"{engine.channel.peer} does not measure a fold that has enough rows of either class")
    return found.auc, found.log_loss


def _part(table: Table, out: np.ndarray, l2: float) -> Table:
    """The rows of the other folds, held-out ones after them, those of this fold set aside."""
    known, held = table.known, table.known.held
    training = np.concatenate([~out, np.zeros(held, dtype=bool)])
    inside = np.concatenate([np.flatnonzero(training), np.arange(len(out), len(out) + held)])
    aside = np.flatnonzero(out)
    label, offset = (None if values is None else values[aside] for values in (known.label, known.offset))
    part = replace(known.part(inside, held), aside=Aside(table.values[aside], label, offset))
    return Table(table.values[inside], part, table.theirs, replace(table.settings, l2=l2))


def _check(known: Known, fold: np.ndarray, folds: int, min_rows: int) -> None:
    """Before the first message. Raises DataError: for too few rows on both sides, for the label at its holder."""
    if len(fold) - -(-len(fold) // folds) < schedule.LEAST_ROWS:
        raise DataError(
            f"{len(fold)} training rows are too few for {folds} folds: each training needs {schedule.LEAST_ROWS}",
            hint="align more rows",
        )
    if known.label is None:
        return
    label = known.label[: len(fold)]
    sizes = np.bincount(2 * fold + label, minlength=2 * folds)
    if int(sizes.min()) < max(1, min_rows):
        raise DataError(
            f"a fold of cross-validation has fewer than min_rows rows of one class of the label ({folds} folds): its"
            " metrics would speak of single rows",
            hint="take fewer folds, or align more rows",
        )
    for number in range(folds):
        check_weights(known.part(np.flatnonzero(fold != number), 0), min_rows)


def _telling(progress: Progress | None, where: str) -> Progress | None:
    if progress is None:
        return None
    return lambda number, told: progress(number, f"{where}: {told}")
