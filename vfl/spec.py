"""The training part of a job as both sides read it: what it asks of the tables, what it opens, what it will cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from party.errors import PolicyRefused, UsageError
from party.request import Opening, Request, Use
from party.scores import logit_bits
from vfl import cost, inference_cost, proximal, schedule
from vfl.checks import CHECK_BITS
from vfl.crossval_cost import predict_folds
from vfl.folds import CrossValidation
from vfl.inference import DETERMINED, LIKELIHOOD, REACH, errors_name, period_of
from vfl.metrics_cost import declared
from vfl.newton import INVERTIBLE
from vfl.preparation_cost import predict_preparation
from vfl.prepare import LEAST_FEATURES
from vfl.recipes import Preparing
from vfl.wanted import ENDS, FOLDS, METRICS, Wanted

__all__ = [
    "AUTO",
    "ENDS",
    "FIRST_ORDER",
    "FOLDS",
    "METHODS",
    "METRICS",
    "NEWTON",
    "SCALE",
    "SCORES",
    "WEIGHING",
    "Plan",
    "TrainSpec",
    "plan",
    "request",
    "scores_name",
    "weights_name",
]

_MOST_INFERRED = 400  # more would use up the hiding of a run (docs/protocols/04-lattice-linear.md)
_LIKELY_PERIOD = period_of(1, 1)  # both parts of the logits under 8
SCALE = "train: fixed-point scale"
AUTO, FIRST_ORDER, NEWTON = METHODS = ("auto", "first_order", "newton")
WEIGHING = "train: size of the weights of rows"


def scores_name(decimals: int) -> str:
    """How the ledger calls scores to so many decimals."""
    return f"score: logits to 1/{2 ** logit_bits(decimals)}, the score to {decimals} decimals"


SCORES = scores_name(3)

_SETUP_SECONDS = 0.2
_INFERENCE_ROUNDS = 91
_METRICS_ROUNDS = 85


def weights_name(owner: str) -> str:
    """How the ledger calls one party's own block of weights."""
    return f"train: weights of {owner}"


@dataclass(frozen=True)
class TrainSpec:
    """The job's `train` and who takes part; equal on both sides.

    parties: in the job's order (`align`); tables: party -> table; label: (party, column);
    features: party -> columns in the job's order.
    """

    parties: tuple[str, str]
    tables: Mapping[str, str]
    label: tuple[str, str]
    features: Mapping[str, tuple[str, ...]]
    l2: float = 1.0
    winsorise: float | None = 3.0
    test_fraction: float = 0.2
    tolerance: float = 1e-6
    passes: int | None = None  # None: 60, or 120 under 1,000 training rows
    weights: str | None = None  # a column of the label holder: weights of rows
    class_weight: str | tuple[float, float] | None = None  # "balanced", or of class 0 and 1
    offset: Mapping[str, str] = field(default_factory=dict)  # party -> column that is added to the logit
    early_stopping: int | None = None  # checks without a lower held-out loss
    validation_fraction: float = 0.1  # of the training rows, held out where early_stopping is set
    preparing: Preparing = field(default_factory=Preparing)
    inference: bool = False  # standard errors of each party's own weights
    metrics: Wanted = field(default_factory=Wanted)
    cross_validation: CrossValidation | None = None  # in place of l2
    l1: float = 0.0
    method: str = AUTO  # second order where it goes; FIRST_ORDER: never; NEWTON: refused where it does not

    @property
    def label_holder(self) -> str:
        """The party that brings the label."""
        return self.label[0]

    @property
    def feature_holder(self) -> str:
        """The other one."""
        return next(party for party in self.parties if party != self.label_holder)

    @property
    def held_fraction(self) -> float:
        """Part of the training rows that ends the training instead of being in it."""
        return self.validation_fraction if self.early_stopping else 0.0

    @property
    def second(self) -> bool:
        """Whether training ends in second-order steps, if there are few enough weights."""
        weighed = self.weights is not None or self.class_weight is not None
        return self.method != FIRST_ORDER and not (weighed or self.early_stopping or self.l1)

    @property
    def period(self) -> int:
        """The window that training begins with."""
        return first_period(None if self.preparing.tails(self.features, self.winsorise) else 3.0)

    def check(self) -> None:
        """Raises UsageError for numbers out of range, PolicyRefused for fewer than three features on either side."""
        if self.label_holder not in self.parties or set(self.features) - set(self.parties):
            raise UsageError("train names a party that does not take part")
        if not (math.isfinite(self.l2) and self.l2 >= 0):
            raise UsageError("train.l2 is a number of at least 0")
        if not (math.isfinite(self.l1) and self.l1 >= 0):
            raise UsageError("train.l1 is a number of at least 0")
        if self.l1 and (self.inference or self.metrics.likelihood):
            raise UsageError(
                "train.inference and the likelihood-ratio test cannot be had with l1: it chooses coefficients by the"
                " data, and after that no standard error or p value is valid",
                hint="set l1 to 0, or leave inference out",
            )
        self._check_method()
        if self.winsorise is not None and not 0 < self.winsorise <= 100:
            raise UsageError("train.winsorise is null or a number of at most 100 above 0")
        if not 0 <= self.test_fraction < 1:
            raise UsageError("train.test_fraction lies in [0, 1)")
        if self.early_stopping is not None and not 1 <= self.early_stopping <= 100:
            raise UsageError("train.early_stopping is a number of checks between 1 and 100")
        if not 0 < self.validation_fraction <= 0.5:
            raise UsageError("train.validation_fraction lies in (0, 0.5]")
        if isinstance(self.class_weight, str) and self.class_weight != "balanced":
            raise UsageError("train.class_weight is balanced, or two numbers: of class 0 and of class 1")
        if isinstance(self.class_weight, tuple) and not all(1e-3 <= w <= 1e3 for w in self.class_weight):
            raise UsageError("train.class_weight lies between 0.001 and 1000")
        known = {f"{party}.{column}" for party, columns in self.features.items() for column in columns}
        for place, reason, hint in self.preparing.complaints(known):
            raise UsageError(f"train.{place}: {reason}", hint=hint)
        if self.inference and sum(map(len, self.features.values())) > _MOST_INFERRED:
            raise UsageError(f"train.inference takes at most {_MOST_INFERRED} features of both sides together")
        if self.cross_validation is not None and self.l1 > 0.0:
            raise UsageError("train.cross_validation compares values of l2, without l1", hint="leave l1 out")
        self.metrics.check(self.parties)
        if self.cross_validation is not None:
            self.cross_validation.check()
        for party in self.parties:
            columns = self.features.get(party, ())
            if len(set(columns)) != len(columns):
                raise UsageError(f"train.features names a column of {party} twice")
            if party == self.label_holder and self.label[1] in columns:
                raise UsageError("train.features names the label")
            if len(columns) < LEAST_FEATURES:
                raise PolicyRefused(
                    f"training with {len(columns)} features of {party} is refused: with fewer than {LEAST_FEATURES} a"
                    " score would show single columns",
                    hint=f"name at least {LEAST_FEATURES} features of {party}",
                )

    def _check_method(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"train.method is {', '.join(METHODS[:-1])} or {METHODS[-1]}")
        if self.method != NEWTON:
            return
        if sum(map(self.most_columns, self.parties)) + 1 > schedule.SECOND_WEIGHTS:
            raise UsageError(f"method newton takes at most {schedule.SECOND_WEIGHTS} weights of both sides together")
        if not self.second:
            raise UsageError(
                "method newton takes no weights of rows or classes, no l1 and no early stopping",
                hint="leave them out, or train without `method: newton`",
            )

    def most_columns(self, party: str) -> int:
        """At most so many columns this party's features make."""
        return sum(self.preparing.of(party, column).most_columns for column in self.features.get(party, ()))


@dataclass(frozen=True)
class Plan:
    """What `tally plan` says of training and scoring: lines for people, predictions for the progress display."""

    lines: tuple[str, ...]
    passes: int
    most: cost.Cost  # of all passes that are allowed
    likely: cost.Cost  # of as many as are usual


def request(spec: TrainSpec, receiver: str | None = None, decimals: int = 3) -> Request:
    """All uses and openings of training and, with a receiver, of scoring to so many decimals."""
    uses = {
        Use(party, spec.tables[party], column, "feature")
        for party in spec.parties
        for column in spec.features.get(party, ())
    }
    uses.add(Use(spec.label_holder, spec.tables[spec.label_holder], spec.label[1], "label"))
    extra = list(spec.offset.items())
    if spec.weights is not None:
        extra.append((spec.label_holder, spec.weights))
    uses |= {Use(party, spec.tables[party], column, "feature") for party, column in extra}
    openings = {Opening(what, party) for party in spec.parties for what in (SCALE, CHECK_BITS, ENDS)}
    if spec.weights is not None or spec.class_weight is not None:
        openings.add(Opening(WEIGHING, spec.feature_holder))
    openings |= {Opening(weights_name(party), party) for party in spec.parties}
    uses |= spec.preparing.uses(spec.tables, spec.label, spec.features)
    openings |= spec.preparing.openings(spec.parties, spec.label_holder, spec.features)
    if spec.second:
        openings |= {Opening(INVERTIBLE, party) for party in spec.parties}
    if spec.inference:
        openings |= {Opening(what, party) for party in spec.parties for what in (REACH, DETERMINED)}
        openings |= {Opening(errors_name(party), party) for party in spec.parties}
        openings.add(Opening(LIKELIHOOD, spec.label_holder))
    openings |= {Opening(name, party) for name in spec.metrics.names for party in spec.metrics.receivers(spec.parties)}
    if spec.cross_validation is not None:
        openings |= {Opening(FOLDS, party) for party in spec.parties}
    if receiver is not None:
        if receiver not in spec.parties:
            raise UsageError(f"score.receiver {receiver} does not take part")
        openings.add(Opening(scores_name(decimals), receiver))
    return Request(frozenset(uses), frozenset(openings))


def plan(spec: TrainSpec, rows: int, receiver: str | None = None, decimals: int = 3) -> Plan:
    """What will happen with about this many aligned rows. Raises as `TrainSpec.check`."""
    spec.check()
    training = rows - int(rows * spec.test_fraction + 0.5)
    weighed = spec.weights is not None or spec.class_weight is not None
    most = spec.passes or schedule.pass_limit(training, weighed=weighed)
    held = int(training * spec.held_fraction + 0.5)
    label, other = spec.label_holder, spec.feature_holder
    columns = spec.most_columns(label) + 1, spec.most_columns(other)
    # weights of rows may need finer slots, by how far the largest lies over the mean: only the run tells
    slots = schedule.slot_bits(training - held)
    shape = cost.Shape(training - held, held, columns, spec.period, slots, spec.l1 > 0, spec.second)
    expected = min(most, _expected(shape))
    whole, likely = (cost.of_passes(shape, passes) for passes in (most, expected))
    before = predict_preparation(spec.preparing, spec.parties, label, spec.features, training)
    measured = _metrics_bytes(spec, rows, training)
    first = cost.of_pass(shape, 1)
    lines = [
        f"train: {training} of {rows} rows, {sum(columns)} weights, passes of {first.bytes / 1e6:.1f} MB:"
        f" at most {most} ({whole.bytes / 1e6:.0f} MB), usually about {expected}",
        "both learn: the fixed-point scale (one small integer), the number of passes, on checking passes whether"
        f" margins left the window of {shape.period}, whether the loss rose and whether steps are still large",
        "each learns its own weights on the standardised scale; the intercept goes to " + label,
        *spec.metrics.lines(spec.parties),
        f"metrics: {measured / 1e6:.0f} MB",
        *spec.preparing.says(label, spec.features, training),
        *(
            [f"prepare: {before.bytes / 1e6:.1f} MB and {before.rounds} rounds before the first pass"]
            if before.bytes
            else []
        ),
    ]
    once = _inference_cost(spec, training, columns)
    tried = [_folds_cost(spec, shape, passes) for passes in (most, expected)]
    if spec.cross_validation is not None:
        lines += spec.cross_validation.lines(tried[1].bytes)
    lines += _inference_lines(spec, once)
    if shape.is_second:
        lines.append(
            "passes after the first seven are of second order, with an inverse on shares every three"
            f" ({cost.of_inverse(shape).bytes / 1e6:.0f} MB); with each both learn whether columns are too collinear"
        )
    lines.append(
        "both learn, before weights are opened, whether any training row's margin lies outside that window"
        f" ({cost.of_window(shape).bytes / 1e6:.0f} MB)"
    )
    if spec.preparing.tails(spec.features, spec.winsorise):
        lines.append("winsorise is off: with heavy tails no accuracy is promised")
    if spec.l1:
        lines.append(
            f"l1: some weights become exactly 0, and each side sees which of its own; {proximal.STEPS} small steps on"
            f" shares after each pass, {cost.shrinking(columns).bytes / 1e6:.1f} MB, with which nothing more is opened"
        )
    if weighed:
        lines.append(
            f"{other} learns the size of the weights of rows, as two powers of two: their mean and the largest"
        )
    if spec.early_stopping:
        lines.append("both learn on checking passes whether the loss over the held-out rows is the lowest so far")
    if receiver is not None:
        giver = other if receiver == label else label
        lines.append(
            f"{receiver} learns for each aligned row its {scores_name(decimals).removeprefix('score: ')}: one linear"
            f" combination of {giver}'s features a row"
        )
    setup = cost.Cost(cost.setup_bytes(shape) + before.bytes, 4 + before.rounds, _SETUP_SECONDS)
    setup += cost.Cost(measured, _METRICS_ROUNDS, 5e-8 * measured)
    return Plan(tuple(lines), most, whole + setup + once + tried[0], likely + setup + once + tried[1])


def _folds_cost(spec: TrainSpec, shape: cost.Shape, passes: int) -> cost.Cost:
    """Of cross-validation, where the job asks for it."""
    if spec.cross_validation is None:
        return cost.Cost(0, 0, 0.0)
    return predict_folds(spec.cross_validation, shape, spec.parties.index(spec.label_holder), passes)


def _expected(shape: cost.Shape) -> int:
    """About how many passes it will be."""
    if shape.is_second:
        return schedule.first_second(warm=shape.rows >= schedule.WARM_ROWS) + (4 if shape.rows >= schedule.SMALL else 6)
    return 36 if shape.rows >= schedule.SMALL else 90


def _inference_cost(spec: TrainSpec, training: int, widths: tuple[int, int]) -> cost.Cost:
    if not spec.inference:
        return cost.Cost(0, 0, 0.0)
    moved, seconds = (f(training, widths, _LIKELY_PERIOD) for f in (inference_cost.predict, inference_cost.seconds))
    return cost.Cost(int(moved), _INFERENCE_ROUNDS, float(seconds))


def _inference_lines(spec: TrainSpec, once: cost.Cost) -> list[str]:
    """What is said of standard errors, where the job asks for them."""
    if not spec.inference:
        return []
    return [
        f"standard errors: about {once.bytes / 1e6:.0f} MB and {once.seconds:.0f} s once after the last pass (each part"
        " of the logits to 8; more where they reach further)",
        "both learn how far the other's part of the logits reaches on training rows, rounded up to 8, and whether"
        " standard errors are determined (one bit: no where columns are collinear)",
        "each learns the standard errors of its own weights, nothing of the joint information matrix;"
        f" {spec.label_holder} learns the log-likelihood of the training rows, for the likelihood-ratio test",
    ]


def _metrics_bytes(spec: TrainSpec, rows: int, training: int) -> int:
    receivers = spec.metrics.receivers(spec.parties)
    first, second = (party in receivers for party in spec.parties)
    label = spec.parties.index(spec.label_holder)
    return declared(spec.metrics, (rows, rows - training), label, (first, second)).bytes


def first_period(winsorise: float | None) -> int:
    """The window to begin with: 64, or 128 where heavy tails may jump over its return zone."""
    return 64 if winsorise is not None else 128
