"""Joint cross-validation against scikit-learn on the same folds; what is opened, what it costs, runs that were cut."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, cross_val_score

import vfl
from party.errors import DataError, PeerError, UsageError
from tests.vfl import ideal, tables
from tests.vfl.real import Pair, valid
from tests.vfl.test_train import SALT, _spec
from vfl import cost, crossval_cost, schedule, spec
from vfl.crossval import Table, choose
from vfl.folds import CrossValidation, folds_of
from vfl.grid import Ends
from vfl.prepare import Known
from vfl.sides import Settings
from vfl.state import FileCheckpoints, MemoryCheckpoints
from vfl.train import fit_shared
from vfl.wanted import ENDS, FOLDS

OPENED = [FOLDS, ENDS, spec.SCALE, spec.CHECK_BITS]


def _choose(table, wanted, known=None, settings=None, stores=None, pair=None, cut=None):
    """Both sides' answers: passes over the ideal oracle, logits and metrics over real engines."""
    ours, theirs, label = table
    oracle = ideal.pair(3)
    if cut is not None:
        oracle[0].cut_after = cut
    stores = stores or (MemoryCheckpoints(), MemoryCheckpoints())
    settings = settings or Settings()
    known = known or (Known(label), Known())
    told = []

    def fit(place):
        def over(arithmetic, table, settings, kept, progress):
            return fit_shared(oracle[place], table, settings, kept, progress)

        return over

    pair = pair or Pair(min_rows=5, openings=OPENED)
    sides = [Table(ours, known[0], theirs.shape[1], settings), Table(theirs, known[1], ours.shape[1] + 1, settings)]
    found = pair.run(
        lambda engine: choose(engine, wanted, sides[0], SALT, fit(0), (stores[0], lambda n, t: told.append((n, t)))),
        lambda engine: choose(engine, wanted, sides[1], SALT, fit(1), (stores[1], None)),
    )
    assert found[0] == found[1]
    return found[0], told


def _scikit(blocks, label, wanted, rows=slice(None)):
    """cross_val_score over the same folds: of each penalty, (AUC, log-loss) of each fold."""
    fold = folds_of(len(label), wanted.folds, SALT)
    columns = np.hstack(blocks)
    found = []
    for l2 in wanted.l2:
        model = LogisticRegression(C=1 / l2, tol=1e-10, max_iter=5000)
        aucs, losses = (
            cross_val_score(model, columns, label, cv=PredefinedSplit(fold), scoring=scoring)
            for scoring in ("roc_auc", "neg_log_loss")
        )
        found += list(zip(aucs, -losses, strict=True))
    return np.array(found)


def _numbers(validated):
    return np.array([(one.auc, one.log_loss) for one in validated.folds])


@pytest.fixture(scope="module")
def validated():
    table = tables.synthetic(1500, seed=11)
    wanted = CrossValidation(2, (0.5, 300.0))
    return table, wanted, _choose(table, wanted)


def test_every_fold_is_scikit_learns(validated):
    table, wanted, (found, _) = validated
    assert [(one.l2, one.fold) for one in found.folds] == [(0.5, 1), (0.5, 2), (300.0, 1), (300.0, 2)]
    assert np.abs(_numbers(found) - _scikit(table[:2], table[2], wanted)).max() < 2e-3


def test_the_best_mean_chooses_and_of_equal_ones_the_largest(validated):
    _, wanted, (found, told) = validated
    losses = {l2: np.mean([one.log_loss for one in found.folds if one.l2 == l2]) for l2 in wanted.l2}
    assert found.l2 == min(losses, key=losses.get)
    assert told[0] == (1, "l2 0.5, fold 1 of 2: fitting") and told[-1][1].startswith("l2 300, fold 2 of 2: ")
    rows = [(1.0, 0.7, 0.5), (1.0, 0.8, 0.7), (2.0, 0.75, 0.6), (2.0, 0.75, 0.6), (3.0, 0.9, 0.9), (3.0, 0.9, 0.9)]
    tried = CrossValidation(2, (2.0, 1.0, 3.0))
    assert tried.best(rows) == 2.0
    assert replace(tried, metric="auc").best(rows) == 3.0


def test_offsets_held_out_rows_and_weights_of_rows_are_kept():
    ours, theirs, label = tables.synthetic(1300, seed=12)
    rng = np.random.default_rng(13)
    offsets = 0.5 * rng.normal(size=(2, 1300))
    weights = np.where(label == 1, 1.5, 1.0)
    known = Known(label, weights, offsets[0], 100), Known(offset=offsets[1], held=100)
    wanted = CrossValidation(2, (1.0,))
    found, _ = _choose((ours, theirs, label), wanted, known, Settings(weighed=True, patience=50))
    fold, columns = folds_of(1200, 2, SALT), np.hstack([np.ones((1300, 1)), ours, theirs])
    for place, one in enumerate(found.folds):
        inside, out = np.flatnonzero(fold != place), np.flatnonzero(fold == place)
        beta = np.zeros(columns.shape[1])
        for _ in range(30):  # Newton's method: scikit-learn has no offset
            p = 1 / (1 + np.exp(-(columns[inside] @ beta + offsets[:, inside].sum(axis=0))))
            ridge = np.r_[0.0, np.ones(len(beta) - 1)]
            gradient = columns[inside].T @ (weights[inside] * (p - label[inside])) + ridge * beta
            hessian = (columns[inside].T * (weights[inside] * p * (1 - p))) @ columns[inside] + np.diag(ridge)
            beta -= np.linalg.solve(hessian, gradient)
        z = columns[out] @ beta + offsets[:, out].sum(axis=0)
        assert one.log_loss == pytest.approx(vfl.log_loss(label[out], z), abs=2e-3)
        assert one.auc == pytest.approx(vfl.auc(label[out], z), abs=2e-3)


def _train(table, job, pair, kept=(None, None)):
    ours, theirs, label = table
    left = {**valid(ours), "y": (label == 1, np.ones(len(label), dtype=bool))}
    return pair.run(
        lambda engine: vfl.train(engine, left, job, SALT, kept[0]),
        lambda engine: vfl.train(engine, valid(theirs), job, SALT, kept[1]),
    )


@pytest.fixture(scope="module")
def trained():
    """A whole training on the real engine, stores kept."""
    table = tables.synthetic(300, 3, 3, seed=14)
    job = _spec(*table[:2], passes=2, cross_validation=CrossValidation(2, (1.0, 50.0)), test_fraction=0.0)
    pair, stores = Pair(vfl.request(job), 5), (MemoryCheckpoints(), MemoryCheckpoints())
    return table, job, pair, stores, _train(table, job, pair, stores)


def test_only_metrics_of_folds_are_opened_and_the_best_penalty_makes_the_model(trained):
    table, job, pair, _, halves = trained
    assert halves[0].validated == halves[1].validated and halves[0].l2 == halves[0].validated.l2
    assert len(halves[0].validated.as_list()) == 4
    wrote = [[fields for _, fields in ledger.events] for ledger in pair.ledgers]
    for events, peer in zip(wrote, ("telco", "bank"), strict=True):
        assert {fields["to"] for fields in events} == {peer}
        names = [fields["what"] for fields in events]
        assert set(names) == {spec.SCALE, spec.CHECK_BITS, ENDS, FOLDS, spec.weights_name(peer)}
        # weights of the last model alone; two numbers of each fold, nothing a row
        assert names.count(spec.weights_name(peer)) == 1 and names.count(FOLDS) == 2 * 4
        assert {fields["rows"] for fields in events if fields["what"] == FOLDS} == {1}
    alone = replace(job, cross_validation=None, l2=halves[0].l2)
    again = _train(table, alone, Pair(vfl.request(alone), 5))
    for one, other in zip(halves, again, strict=True):
        assert tables.distance(np.array(one.model.weights), np.array(other.model.weights)) < 5e-3


def test_bytes_are_those_declared(trained):
    _, job, pair, _, _ = trained
    shape = cost.Shape(300, 0, (4, 3), 64, schedule.slot_bits(300))
    last = cost.of_passes(shape, 2).bytes + cost.setup_bytes(shape)
    declared = crossval_cost.predict_folds(job.cross_validation, shape, 0, 2).bytes + last
    counted = sum(engine.channel.counters.received for engine in pair.engines)
    assert counted == pytest.approx(declared, rel=0.005)
    plan = vfl.plan(job, 300)
    assert plan.most.bytes == pytest.approx(counted, rel=0.02)


def test_a_finished_fold_is_neither_trained_nor_opened_again(trained):
    table, job, _, stores, halves = trained
    pair = Pair(vfl.request(job), 5)
    again = _train(table, job, pair, stores)
    assert again[0].validated == halves[0].validated
    names = [fields["what"] for _, fields in pair.ledgers[0].events]
    assert FOLDS not in names and spec.CHECK_BITS not in names


def test_a_run_that_was_cut_goes_on_in_its_fold(tmp_path):
    table, wanted = tables.synthetic(700, 3, 3, seed=15), CrossValidation(2, (3.0,))
    settings = Settings(passes=6)
    stores = [FileCheckpoints(tmp_path / side) for side in ("bank", "telco")]
    with pytest.raises(ConnectionError):
        _choose(table, wanted, settings=settings, stores=stores, cut=55)
    pair = Pair(min_rows=5, openings=OPENED)
    found, told = _choose(table, wanted, settings=settings, stores=stores, pair=pair)
    assert told[0][1].startswith("l2 3, fold 2 of 2") and 1 < told[0][0] <= 6
    assert [fields["what"] for _, fields in pair.ledgers[0].events].count(FOLDS) == 2
    whole, _ = _choose(table, wanted, settings=settings)
    assert np.abs(_numbers(found) - _numbers(whole)).max() < 2e-3


def test_other_rows_of_a_fold_are_measured_anew():
    table, wanted = tables.synthetic(300, 3, 3, seed=16), CrossValidation(2, (3.0,))
    stores, settings = (MemoryCheckpoints(), MemoryCheckpoints()), Settings(passes=1)
    first, _ = _choose(table, wanted, settings=settings, stores=stores)
    label = table[2].copy()
    out = np.flatnonzero(folds_of(300, 2, SALT) == 0)
    label[out] = 1 - label[out]
    second, _ = _choose((*table[:2], label), wanted, settings=settings, stores=stores)
    assert second.folds[0].auc == pytest.approx(1 - first.folds[0].auc, abs=5e-3)


def test_folds_are_even_disjoint_and_fixed_by_the_salt():
    fold = folds_of(1003, 5, SALT)
    assert sorted(np.bincount(fold).tolist()) == [200, 200, 201, 201, 201]
    np.testing.assert_array_equal(fold, folds_of(1003, 5, SALT))
    assert (fold != folds_of(1003, 5, b"another alignment")).mean() > 0.7


def test_a_fold_with_too_few_rows_of_a_class_is_refused_before_any_message():
    ours, theirs, label = tables.synthetic(400, 3, 3)
    few = np.zeros(400, dtype=np.int64)
    few[np.flatnonzero(label)[:12]] = 1
    pair = Pair(min_rows=5, openings=OPENED)

    def alone(side, known, rows, folds):
        table, kept = Table(side[:rows], known, 3, Settings()), (MemoryCheckpoints(), None)
        choose(pair.engines[0], CrossValidation(folds, (1.0,)), table, SALT, fit_shared, kept)

    with pytest.raises(DataError, match="a fold of cross-validation"):
        alone(ours, Known(few), 400, 4)
    with pytest.raises(DataError, match="too few for 2 folds"):
        alone(ours, Known(label[:60]), 60, 2)
    with pytest.raises(DataError, match="too few for 2 folds"):
        alone(theirs, Known(), 60, 2)
    assert pair.channels[0].counters.messages_sent == pair.channels[1].counters.messages_sent == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"folds": 1}, "folds"),
        ({"folds": 21}, "folds"),
        ({"l2": ()}, "1 to 20"),
        ({"l2": (1.0, 1.0)}, "each once"),
        ({"l2": (0.0, 1.0)}, "above 0"),
        ({"l2": (float("nan"),)}, "above 0"),
        ({"metric": "ks"}, "log_loss or auc"),
    ],
)
def test_what_cannot_be_tried_is_refused(change, words):
    ours, theirs, _ = tables.synthetic(100, 3, 3)
    with pytest.raises(UsageError, match=words):
        _spec(ours, theirs, cross_validation=replace(CrossValidation(), **change)).check()


def test_l1_is_not_cross_validated():
    ours, theirs, _ = tables.synthetic(100, 3, 3)
    with pytest.raises(UsageError, match="without l1"):
        _spec(ours, theirs, cross_validation=CrossValidation(), l1=1.0).check()


def test_a_peer_that_does_not_measure_a_fold_broke_the_protocol(monkeypatch):
    table = tables.synthetic(300, 3, 3)
    pair = Pair(min_rows=5, openings=OPENED)
    swap = pair.engines[1].channel.swap

    def lie(message):
        return swap(replace(message, enough=0) if isinstance(message, Ends) else message)

    pair.engines[1].channel.swap = lie
    with pytest.raises(PeerError, match="does not measure"):
        _choose(table, CrossValidation(2, (1.0,)), settings=Settings(passes=1), pair=pair)


def test_the_plan_says_what_is_opened_and_what_is_not():
    ours, theirs, _ = tables.synthetic(100, 3, 3)
    job = _spec(ours, theirs, cross_validation=CrossValidation(5, (0.1, 1.0)))
    told, plain = vfl.plan(job, 20_000), vfl.plan(replace(job, cross_validation=None), 20_000)
    lines = [line for line in told.lines if line not in plain.lines]
    assert "10 trainings" in lines[0] and "opened to nobody" in lines[1] and "log_loss" in lines[2]
    # ten trainings on four fifths of the rows and the last one; metrics of a fold are a tenth of its training
    assert 8 * plain.likely.bytes < told.likely.bytes < 12 * plain.likely.bytes
    assert {opening.to for opening in vfl.request(job).openings if opening.what == FOLDS} == {"bank", "telco"}
    assert FOLDS not in {opening.what for opening in vfl.request(replace(job, cross_validation=None)).openings}
