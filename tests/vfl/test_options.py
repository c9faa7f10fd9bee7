"""Weights of rows and classes, offsets, early stopping, the warm start: against scikit-learn and statsmodels."""

from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
from sklearn.linear_model import LogisticRegression

import vfl
from mpc.lattice import NARROW
from party.errors import DataError, InternalError, PeerError, UsageError
from party.message import encode
from tests.support import run_pair
from tests.vfl import ideal, tables
from tests.vfl.real import Pair, valid
from tests.vfl.test_train import SALT, _spec
from vfl import passes, prepare, rows, schedule, sides, spec
from vfl.prepare import Known
from vfl.secure import Secure
from vfl.sides import Settings
from vfl.state import MemoryCheckpoints
from vfl.train import fit_weights


def _fit(table, known=None, settings=None, theirs=None, seed=1, progress=None):
    ours, others, label = table
    a, b = ideal.pair(seed)
    return run_pair(
        lambda: fit_weights(
            a,
            (ours, known or Known(label), others.shape[1]),
            settings or Settings(),
            MemoryCheckpoints(),
            progress,
        ),
        lambda: fit_weights(
            b, (others, theirs or Known(), ours.shape[1] + 1), settings or Settings(), MemoryCheckpoints()
        ),
    )


def _weights(halves):
    return np.concatenate([half.weights for half in halves])


@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_weights_of_rows_are_scikit_learns(spread):
    table = tables.synthetic(1500, seed=2)
    weights = np.random.default_rng(3).lognormal(0.0, 0.3, 1500) * np.where(table[2] == 1, spread, 1.0)
    halves = _fit(table, Known(table[2], weights), Settings(weighed=True))
    model = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000).fit(np.hstack(table[:2]), table[2], weights)
    assert tables.distance(_weights(halves), np.concatenate([model.intercept_, model.coef_[0]])) < 0.01


def test_balanced_classes_are_scikit_learns():
    ours, theirs, label = tables.synthetic(1500, seed=4)
    label = label & (np.random.default_rng(5).random(1500) < 0.2)  # few events
    job = replace(_spec(ours, theirs), class_weight="balanced")
    test = prepare.split(1500, 0.0, SALT)
    known = rows.known_of(job, "bank", {}, label, (test, test))
    halves = _fit((ours, theirs, label), known, Settings(weighed=True))
    model = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000, class_weight="balanced")
    model.fit(np.hstack([ours, theirs]), label)
    assert tables.distance(_weights(halves), np.concatenate([model.intercept_, model.coef_[0]])) < 0.01


def test_offsets_of_both_sides_are_statsmodels_offset():
    table = tables.synthetic(1200, seed=6)
    rng = np.random.default_rng(7)
    offsets = rng.normal(size=(2, 1200)) * [[0.5], [0.8]] + [[1.0], [-0.3]]
    settings = Settings(l2=1e-3)
    halves = _fit(table, Known(table[2], offset=offsets[0]), settings, Known(offset=offsets[1]))
    columns = sm.add_constant(np.hstack(table[:2]))
    model = sm.GLM(table[2], columns, sm.families.Binomial(), offset=offsets.sum(axis=0)).fit(tol=1e-12)
    assert tables.distance(_weights(halves), model.params) < 0.01


def test_early_stopping_ends_on_the_held_out_loss_and_keeps_the_best_weights():
    rng = np.random.default_rng(8)
    ours, theirs = rng.normal(size=(2, 400, 15))
    label = (rng.random(400) < 1 / (1 + np.exp(-ours[:, 0]))).astype(np.int64)  # 29 columns of noise
    held = 150
    told = []
    settings = Settings(l2=1e-3, patience=3)
    halves = _fit(
        (ours, theirs, label), Known(label, held=held), settings, Known(held=held), progress=lambda n, t: told.append(t)
    )
    assert halves[0].stopped and halves[0].passes < 40
    assert told[-1] == "the held-out loss no longer falls: done"
    whole = _fit((ours[:-held], theirs[:-held], label[:-held]), settings=Settings(l2=1e-3))
    design, signs = np.hstack([np.ones((400, 1)), ours, theirs])[-held:], 2 * label[-held:] - 1
    losses = [np.logaddexp(0, -signs * (design @ _weights(one))).mean() for one in (halves, whole)]
    assert losses[0] < losses[1] - 0.02


def test_held_out_rows_are_in_no_gradient():
    table = tables.synthetic(1500, seed=9)
    label = table[2].copy()
    label[-300:] = 1 - label[-300:]
    settings = Settings(patience=100)
    halves = _fit((*table[:2], label), Known(label, held=300), settings, Known(held=300))
    alone = tables.pooled([block[:-300] for block in table[:2]], table[2][:-300], 1.0)
    # the held-out labels are turned, so its best loss is the first: no weights are kept but those of the first check
    assert halves[0].passes > 60 or not halves[0].stopped or tables.distance(_weights(halves), alone) > 0.01
    fair = _fit(table, Known(table[2], held=300), settings, Known(held=300))
    assert tables.distance(_weights(fair), alone) < 0.2


def test_a_warm_start_saves_row_passes_and_ends_at_the_same_weights(monkeypatch):
    monkeypatch.setattr(schedule, "WARM_ROWS", 2000)
    ours, theirs, label = tables.synthetic(4000, seed=10)
    order = np.argsort(label, kind="stable")  # the worst order for a part that is not shuffled
    table = ours[order], theirs[order], label[order]
    halves = _fit(table)
    assert halves[0].stopped
    assert tables.distance(_weights(halves), tables.pooled(list(table[:2]), table[2], 1.0)) < 0.01


def test_the_first_passes_of_a_warm_start_see_a_quarter(monkeypatch):
    monkeypatch.setattr(schedule, "WARM_ROWS", 2000)
    ours, _, label = tables.synthetic(8000, seed=10)
    white = prepare.whiten(ours, 1.0, intercept=True)
    side = sides.ours(white, Known(label), 5, schedule.Scales(white.scale, 9, white.exponent), Settings())
    assert [side.part(number).rows for number in (1, 10, 11)] == [2000, 2000, 8000]
    assert side.part(1).shift == 2 and side.part(11).shift == 0
    assert len(set(sides.shuffled(8000, 100)[-100:])) == 100 and sides.shuffled(8000, 100)[-1] == 7999


def test_a_loss_that_rises_halves_the_step():
    table = tables.synthetic(1500, seed=11)
    a, b = ideal.pair(12)
    white = [prepare.whiten(table[0], 1.0, intercept=True), prepare.whiten(table[1], 1.0, intercept=False)]
    scales = schedule.Scales(min(w.scale for w in white), 12, white[0].exponent)
    known = (Known(table[2]), Known())
    both = [sides.ours(w, k, d, scales, Settings()) for w, k, d in zip(white, known, (5, 5), strict=True)]
    loss = np.array([2.0 ** scales.loss(64)]).astype(np.int64).view(np.uint64)
    zero = np.zeros(1, dtype=np.uint64)
    states = [
        passes.State(weights=np.zeros((3, 10), dtype=np.uint64), period=64, number=2, k=2, loss=share, has_loss=True)
        for share in (loss, zero)
    ]
    after = run_pair(lambda: passes.one_pass(a, both[0], states[0]), lambda: passes.one_pass(b, both[1], states[1]))
    assert [state.halvings for state in after] == [1, 1] and after[0].k == 0
    with pytest.raises(DataError, match="keeps rising"):
        scales.check(30)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weights": "w"}, "NULL or negative"),
        ({"weights": "one"}, "fewer rows of one class"),
        ({"weights": "far"}, "more than fixed point"),
        ({"offset": {"bank": "gap"}}, "offset gap is NULL"),
        ({"offset": {"bank": "big"}}, "offset big is over"),
        ({"offset": {"bank": "settled"}}, "offset rest on fewer rows of one class"),
    ],
)
def test_unfit_weights_and_offsets_are_refused_with_the_column(change, words):
    ours, theirs, label = tables.synthetic(200)
    job = replace(_spec(ours, theirs), **change)
    valid = np.ones(200, dtype=bool)
    columns = {
        "w": (np.where(np.arange(200) == 3, -1.0, 1.0), valid),
        "one": (np.where(np.arange(200) < 2, 1.0, 1e-9), valid),
        "far": (np.full(200, 3e6), valid),
        "gap": (np.zeros(200), np.arange(200) != 7),
        "big": (np.full(200, 51.0), valid),
        # right about all rows but three, so that these alone pull
        "settled": (np.where(np.arange(200) < 3, 0.0, 30.0 * (2 * label - 1)), valid),
    }
    test = np.zeros(200, dtype=bool)
    with pytest.raises(DataError, match=words):
        rows.check_weights(rows.known_of(job, "bank", columns, label, (test, test)), 5)


def test_weights_are_those_of_training_rows():
    """Weights that rest on test rows leave few training rows to speak of."""
    label = np.arange(200) % 2
    training = np.arange(200) < 100
    known = Known(label, np.where(training & (np.arange(200) > 3), 1e-4, 1.0))
    rows.check_weights(known, 5)
    with pytest.raises(DataError, match="fewer rows of one class"):
        rows.check_weights(known, 5, training)


def test_a_common_offset_is_no_refusal():
    known = Known(np.arange(200) % 2, None, np.full(200, -4.6))
    rows.check_weights(known, 100)


def test_few_held_out_rows_are_refused_before_any_message():
    ours, theirs, label = tables.synthetic(400)
    job = replace(_spec(ours, theirs), early_stopping=3, validation_fraction=0.01)
    pair = Pair(vfl.request(job), 5)
    columns = valid(ours) | {"y": (label, np.ones(400, dtype=bool))}
    with pytest.raises(DataError, match="3 rows would be held out, fewer than min_rows"):
        pair.run(
            lambda engine: vfl.train(engine, columns, job, b"salt of an alignment"),
            lambda engine: vfl.train(engine, valid(theirs), job, b"salt of an alignment"),
        )
    assert all(channel.counters.messages_sent == 0 for channel in pair.channels)


@pytest.mark.parametrize(
    "change",
    [
        {"class_weight": "even"},
        {"class_weight": (0.0, 1.0)},
        {"early_stopping": 0},
        {"early_stopping": 3, "validation_fraction": 0.9},
    ],
)
def test_options_out_of_range_are_refused(change):
    with pytest.raises(UsageError):
        replace(_spec(*tables.synthetic(100)[:2]), **change).check()


def test_a_peer_that_weighs_without_agreement_broke_the_protocol():
    table = tables.synthetic(200)
    pair = Pair(openings=[spec.WEIGHING, spec.SCALE])

    def fit(place, settings):
        what = (table[place], Known(table[2] if place == 0 else None), 5)
        return lambda engine: fit_weights(Secure(engine, prepare.MATRIX_BITS), what, settings, MemoryCheckpoints())

    with pytest.raises(PeerError):
        pair.run(fit(0, Settings(weighed=True)), fit(1, Settings()), timeout=20)


def test_repeated_passes_on_the_real_engine_send_the_same_bytes_and_others_do_not():
    table = tables.synthetic(300, 3, 3)
    stores = (MemoryCheckpoints(), MemoryCheckpoints())

    def run(values, stores):
        pair, sent = Pair(), []
        for channel in pair.channels:
            plain = channel.send

            def send(message, plain=plain):
                sent.append((type(message).__name__, encode(message)))
                plain(message)

            channel.send = send
        halves = pair.run(
            lambda engine: fit_weights(
                Secure(engine, prepare.MATRIX_BITS), (values, Known(table[2]), 3), Settings(passes=1), stores[0]
            ),
            lambda engine: fit_weights(
                Secure(engine, prepare.MATRIX_BITS), (table[1], Known(), 4), Settings(passes=1), stores[1]
            ),
        )
        return np.concatenate([half.weights for half in halves]), sorted(sent)

    first, sent = run(table[0], stores)
    for store in stores:
        store._kept = {}  # as if both had been killed before their first checkpoint
    again, repeated = run(table[0], stores)
    np.testing.assert_array_equal(first, again)
    assert sent == repeated
    for store in stores:
        store._kept = {}
    moved = table[0].copy()
    moved[5, 1] += 1.0
    _, others = run(moved, stores)
    # another run: keys and base transfers, which hold no value, are the same, nothing else that is random is
    same = {kind for kind, body in set(sent) & set(others) if len(body) > 100}
    assert same == {"PublicKey", "BaseTransfer", "Trees"}


def test_what_seeded_engines_tell_counts_in_the_budget_of_the_run():
    """Passes, and each fold of a cross-validation, have keys of their own; 40 bits of hiding are those of one run."""
    engine = Pair().engines[0]
    first, second = (engine.seeded(name) for name in (b"a", b"b"))
    first.linear.budget.spend(NARROW, 8192, 20, 10)
    assert second.linear.budget is first.linear.budget is engine.linear.budget
    with pytest.raises(InternalError, match="bits of hiding"):
        for _ in range(1 << 20):
            second.linear.budget.spend(NARROW, 1 << 20, 40, 1 << 20)
