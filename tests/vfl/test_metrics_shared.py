"""Metrics on shares against scikit-learn, statsmodels and scipy on the joined scores, and against the plain twin."""

import json

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from sklearn import metrics as sk

from party.errors import DataError, PeerError, PolicyRefused
from tests.support import run_pair
from tests.vfl.measuring import allowed, coarse, measured, scored, shared
from tests.vfl.real import Pair
from vfl import metrics, metrics_reference, wanted
from vfl.grid import Ends, ends_of, grid
from vfl.metrics_shared import measure
from vfl.wanted import Wanted

ALL = Wanted(brier=True, threshold=0.5, groups=20, stability=True, likelihood=True)


@pytest.fixture(scope="module")
def everything():
    table = scored(10_500)
    pair = Pair(allowed(ALL), 5)
    halves = measured(table, ALL, pair=pair)
    return table, halves, pair


@pytest.fixture
def few_bins(monkeypatch):
    coarse(monkeypatch, 128)


def _joined(table):
    ours, theirs, label, test = table
    return (ours + theirs)[test], label[test]


def test_single_numbers_are_those_of_the_joined_scores(everything):
    table, (found, other), _ = everything
    z, y = _joined(table)
    p = 1 / (1 + np.exp(-z))
    assert found == other
    assert found.auc == pytest.approx(sk.roc_auc_score(y, z), abs=1e-4)
    assert found.ks == pytest.approx(stats.ks_2samp(z[y == 1], z[y == 0]).statistic, abs=3e-3)
    assert found.log_loss == pytest.approx(sk.log_loss(y, p), abs=1e-4)
    assert found.more["brier"] == pytest.approx(sk.brier_score_loss(y, p), abs=1e-4)
    assert (found.n_train, found.n_test) == (8400, 2100)


def test_counts_are_those_of_the_plain_twin(everything):
    (ours, theirs, label, test), (found, _), _ = everything
    twin = metrics_reference.measure((ours, theirs), label, test, ALL, 5)
    assert found.auc == pytest.approx(twin["auc"], abs=2e-5)
    assert found.ks == pytest.approx(twin["ks"], abs=2e-5)
    names = ("false_positive", "true_positive", "true_negative", "false_negative")
    assert [found.more["confusion"][name] for name in names] == twin["confusion"]
    for line, wanted_line in zip(found.more["by_score"], twin["by_score"], strict=True):
        assert line == pytest.approx(wanted_line, abs=1e-4)
    assert found.more["psi"]["value"] == pytest.approx(twin["psi"], rel=1e-9)
    assert found.more["hosmer_lemeshow"] == pytest.approx(twin["hosmer_lemeshow"], rel=1e-3)


def test_the_confusion_is_that_of_the_edge_it_names(everything):
    table, (found, _), _ = everything
    z, y = _joined(table)
    confusion = found.more["confusion"]
    assert confusion["threshold"] == pytest.approx(0.5, abs=5e-3)
    edge = np.log(confusion["threshold"] / (1 - confusion["threshold"]))
    tn, fp, fn, tp = sk.confusion_matrix(y, z > edge).ravel()
    names = ("true_negative", "false_positive", "false_negative", "true_positive")
    assert np.abs(np.subtract([confusion[name] for name in names], [tn, fp, fn, tp])).max() <= 6


def test_hosmer_lemeshow_and_psi_are_near_those_of_unrounded_deciles():
    ours, theirs, label, test = scored(6000)
    ours = np.where(test, ours + 0.8, ours)  # badly calibrated on test rows, whose scores have moved
    found, _ = measured((ours, theirs, label, test), Wanted(groups=10, stability=True), min_rows=5)
    z, y = _joined((ours, theirs, label, test))
    order = np.argsort(z)
    p = (1 / (1 + np.exp(-z)))[order]
    plain = 0.0
    for here in np.array_split(np.arange(len(z)), 10):
        n, o, e = len(here), y[order][here].sum(), p[here].sum()
        plain += (o - e) ** 2 / (e * (1 - e / n))
    told = found.more["hosmer_lemeshow"]
    assert plain > 50 and told["statistic"] == pytest.approx(plain, rel=0.05)
    assert told["p"] == pytest.approx(stats.chi2.sf(told["statistic"], 8), rel=1e-9) and told["dof"] == 8
    whole = ours + theirs
    cuts = np.quantile(whole[~test], np.arange(1, 10) / 10)
    counts = [np.bincount(np.searchsorted(cuts, whole[rows]), minlength=10) for rows in (~test, test)]
    assert found.more["psi"]["groups"] == 10
    assert found.more["psi"]["value"] == pytest.approx(metrics.stability(*counts), rel=0.05)


def test_everything_opened_is_in_the_ledger_by_its_name(everything):
    _, _, pair = everything
    for ledger, party in zip(pair.ledgers, ("telco", "bank"), strict=True):
        wrote = {(fields["what"], fields["to"]) for _, fields in ledger.events}
        assert wrote == {(name, party) for name in (*ALL.names, wanted.ENDS)}
        assert sum(fields["rows"] for _, fields in ledger.events) < 300  # nothing a row


def test_the_likelihood_ratio_is_that_of_statsmodels(few_bins):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(3000, 6))
    label = (rng.random(3000) < 1 / (1 + np.exp(1 - x @ [0.3, -0.1, 0, 0.2, 0.05, 0]))).astype(np.int64)
    test = np.arange(3000) >= 2400
    fit = sm.Logit(label[~test], sm.add_constant(x[~test])).fit(disp=0)
    parts = fit.params[0] + x[:, :3] @ fit.params[1:4], x[:, 3:] @ fit.params[4:]
    found, _ = measured((*parts, label, test), Wanted(likelihood=True), features=6)
    told = found.more["likelihood_ratio"]
    assert told["statistic"] == pytest.approx(fit.llr, abs=0.1)
    assert told["dof"] == 6 and told["p"] == pytest.approx(fit.llr_pvalue, rel=0.05)


@pytest.mark.parametrize("to", ["bank", "telco"])
def test_one_receiver_learns_and_the_other_side_does_not(to, few_bins):
    asked = Wanted(to=(to,), brier=True, groups=10, threshold=0.3)
    ours, theirs, label, test = scored(1500)
    pair = Pair(allowed(asked), 2)
    # the label at the second party, too
    halves = pair.run(
        lambda engine: measure(engine, asked, theirs, None, test, 8),
        lambda engine: measure(engine, asked, ours, label, test, 8),
    )
    told, silent = halves if to == "bank" else halves[::-1]
    assert told.auc is not None and told.more["brier"] is not None and told.more["by_score"]
    assert silent.as_dict() == {"auc": None, "ks": None, "log_loss": None, "n_train": 1200, "n_test": 300}
    giver = pair.ledgers[1 if to == "bank" else 0]
    assert {fields["what"] for _, fields in giver.events} == {wanted.ENDS, *asked.names}
    other = pair.ledgers[0 if to == "bank" else 1]
    assert {fields["what"] for _, fields in other.events} == {wanted.ENDS}


def test_shares_of_logits_give_the_same_metrics():
    table = scored(5000)
    z, y = _joined(table)
    p = 1 / (1 + np.exp(-z))
    asked = Wanted(brier=True, threshold=0.4, groups=10)
    found, other = measured(shared(table, period=32), asked, min_rows=5)
    assert found == other
    assert found.auc == pytest.approx(sk.roc_auc_score(y, z), abs=5e-4)
    assert found.ks == pytest.approx(stats.ks_2samp(z[y == 1], z[y == 0]).statistic, abs=5e-3)
    assert found.log_loss == pytest.approx(sk.log_loss(y, p), abs=2e-4)
    assert found.more["brier"] == pytest.approx(sk.brier_score_loss(y, p), abs=2e-4)
    assert sum(line["rows"] for line in found.more["by_score"]) == 1000
    edge = found.more["confusion"]["threshold"]
    assert abs(found.more["confusion"]["true_positive"] - ((p > edge) & (y == 1)).sum()) <= 4


def test_what_the_request_does_not_name_is_refused(few_bins):
    pair = Pair(allowed(Wanted()), 1)
    with pytest.raises(PolicyRefused, match="Brier"):
        measured(scored(300), Wanted(brier=True), pair=pair)


def test_a_class_with_too_few_test_rows_leaves_no_metric():
    ours, theirs, label, test = scored(600)
    label = label.copy()
    label[test] = 0
    label[np.flatnonzero(test)[:4]] = 1
    pair = Pair(allowed(ALL), 5)
    found, other = measured((ours, theirs, label, test), ALL, pair=pair)
    assert found == other and found.auc is None and found.log_loss is None
    assert found.more == dict.fromkeys(("brier", "confusion", "by_score", "hosmer_lemeshow", "psi", "likelihood_ratio"))
    assert all(channel.counters.messages_sent == 1 for channel in pair.channels)


def test_without_test_rows_nothing_is_sent():
    ours, theirs, label, test = scored(300)
    pair = Pair(allowed(Wanted()), 1)
    found, _ = measured((ours, theirs, label, test & False), Wanted(), pair=pair)
    assert (found.auc, found.n_train, found.n_test) == (None, 300, 0)
    assert all(channel.counters.messages_sent == 0 for channel in pair.channels)


def test_equal_scores_separate_nothing(few_bins):
    _, _, label, test = scored(400)
    ours, theirs = np.full(400, -0.5), np.zeros(400)
    found, _ = measured((ours, theirs, label, test), Wanted(brier=True, groups=10), min_rows=3)
    assert found.auc == pytest.approx(0.5, abs=2e-5) and found.ks == pytest.approx(0, abs=2e-5)
    p = 1 / (1 + np.exp(0.5))
    assert found.log_loss == pytest.approx(sk.log_loss(label[test], np.full(80, p)), abs=1e-4)
    assert found.more["by_score"] is None  # all rows are one group: the others are empty


def test_extreme_logits_have_cells_of_their_own(monkeypatch):
    coarse(monkeypatch, 512)
    ours, theirs, label, test = scored(800)
    ours, theirs = ours.copy(), theirs.copy()
    rows = np.flatnonzero(test)
    ours[rows[:3]], theirs[rows[3:6]], ours[rows[6]], theirs[rows[6]] = 900.0, -700.0, 900.0, 800.0
    found, _ = measured((ours, theirs, label, test), Wanted(brier=True))
    twin = metrics_reference.measure((ours, theirs), label, test, Wanted(), 1)
    z, y = (ours + theirs)[test], label[test]
    assert found.auc == pytest.approx(twin["auc"], abs=2e-5) and found.ks == pytest.approx(twin["ks"], abs=2e-5)
    assert found.log_loss == pytest.approx(metrics.log_loss(y, z), rel=0.02)
    huge, _ = measured((ours * 500, theirs * 500, label, test), Wanted())
    assert huge.log_loss == pytest.approx(metrics.log_loss(y, 500 * z), rel=0.02)
    with pytest.raises(DataError, match="2\\^20"):
        ends_of(np.array([2.0**21]), True)
    with pytest.raises(DataError, match="finite"):
        ends_of(np.array([np.nan]), True)


def test_every_sum_has_a_cell():
    rng = np.random.default_rng(9)
    for _ in range(50):
        parts = [rng.normal(size=200) * 10.0 ** rng.integers(-4, 4) + rng.normal() for _ in range(2)]
        ends = [ends_of(part, True) for part in parts]
        for bins in (64, 1024):
            left, right = grid(ends[0], ends[1], bins, True), grid(ends[1], ends[0], bins, False)
            assert left.step == right.step and left.centres[0] == pytest.approx(right.centres[0])
            ours, theirs = left.rounded(parts[0], 2), right.rounded(parts[1], 1)
            assert 0 <= ours.min() and ours.max() < 2 * bins and 0 <= theirs.min()
            assert left.chunk - 1 + theirs.max() < bins
            assert np.abs(left.centres[ours + 2 * theirs] - parts[0] - parts[1]).max() <= 0.76 * left.step


def test_tables_hide_no_cell_but_grow_coarser(few_bins):
    ours, theirs, label, test = scored(3000, spread=0.4)
    asked = Wanted(groups=20)
    sizes = []
    for least in (1, 4, 15, 40, 400):
        found, _ = measured((ours, theirs, label, test), asked, min_rows=least)
        table = found.more["by_score"]
        sizes.append(0 if table is None else len(table))
        if table is not None and least > 1:
            assert all(min(line["events"], line["rows"] - line["events"]) >= least for line in table)
    assert sizes == sorted(sizes, reverse=True) and sizes[0] == 20 and sizes[-1] == 0 and len(set(sizes)) >= 4


def test_a_confusion_with_a_small_count_is_hidden(few_bins):
    ours, theirs, label, test = scored(1500, spread=0.4)
    lone = np.flatnonzero(test & (label == 0))[0]
    ours = np.where(ours + theirs > 2.0, 2.0 - theirs, ours)
    ours[lone] = 9.0
    found, _ = measured((ours, theirs, label, test), Wanted(threshold=0.97), min_rows=5)
    assert found.auc is not None and found.more["confusion"] is None


def test_a_threshold_beside_a_cut_makes_the_table_coarser(few_bins):
    ours, theirs, label, test = scored(1500, spread=0.4)
    sizes = set()
    for threshold in (0.23, 0.25, 0.27, 0.3, 0.33):
        asked = Wanted(groups=20, threshold=threshold)
        twins = [
            metrics_reference.measure((ours, theirs), label, test, which, 5)["by_score"]
            for which in (asked, Wanted(groups=20))
        ]
        size, alone = (0 if table is None else len(table) for table in twins)
        if size == alone or size in sizes:
            continue
        sizes.add(size)
        found, _ = measured((ours, theirs, label, test), asked, min_rows=5)
        assert found.more["confusion"] is not None
        assert (found.more["by_score"] is None and size == 0) or len(found.more["by_score"]) == size
    assert sizes


def test_a_peer_with_an_empty_range_is_refused():
    pair = Pair(allowed(Wanted()), 1)
    ours, _, label, test = scored(300)
    with pytest.raises(PeerError, match="empty"):
        run_pair(
            lambda: measure(pair.engines[0], Wanted(), ours, label, test, 8),
            lambda: pair.channels[1].swap(Ends(3, 5, 5, 1)),
            *pair.channels,
        )


def test_more_is_plain_json_beside_the_five_numbers(everything):
    found = everything[1][0].as_dict()
    assert list(found)[:5] == ["auc", "ks", "log_loss", "n_train", "n_test"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
