"""Attacks with more than one transcript: a run that was cut and repeated, a run on changed inputs, two runs compared;
and the form of the messages, which is the same for any two data sets of one shape."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import vfl
from tests.support import run_pair
from tests.vfl import attacks, ideal, tables
from tests.vfl.measuring import coarse
from tests.vfl.real import Pair
from tests.vfl.recording import Fixed, Record, Watched, listen
from tests.vfl.test_attacks import Leaky, fitted
from vfl import prepare
from vfl.prepare import Known
from vfl.recipes import Preparing, Recipe, Screen
from vfl.secure import Secure
from vfl.sides import Settings
from vfl.train import fit_weights
from vfl.wanted import Wanted

SETTINGS = Settings(passes=4)


class Cut(Exception):
    pass


def _recorded(table, stores, cut=None, settings=SETTINGS):
    """Both sides' records of a training on the real engine, which both leave after pass `cut`."""
    ours, theirs, label = table
    pair, records = Pair(), (Record(len(label)), Record(len(label)))
    for channel, record in zip(pair.channels, records, strict=True):
        listen(channel, record)

    def progress(number, _):
        if number == cut:
            raise Cut

    def side(place, given):
        def run(engine):
            watched = Watched(Secure(engine, prepare.MATRIX_BITS), records[place])
            try:
                fit_weights(watched, given, settings, stores[place], progress)
            except Cut:
                return

        return run

    pair.run(side(0, (ours, Known(label), theirs.shape[1])), side(1, (theirs, Known(), ours.shape[1] + 1)))
    return records


def test_a_cut_and_resumed_training_gives_no_second_view():
    table = tables.synthetic(300, 3, 3)
    stores = Fixed("a"), Fixed("b")
    first = _recorded(table, stores, cut=2)
    del stores[1]._kept[2]  # one side had not stored pass 2: it is repeated
    again = _recorded(table, stores)
    for before, after in zip(first, again, strict=True):
        repeated = {(kind, body) for number, kind, body in after.bodies if number == 2}
        known = {(kind, body) for _, kind, body in before.bodies}
        assert len(repeated) > 4 and repeated <= known
        # what comes later is new, and only that
        later = {(kind, body) for number, kind, body in after.bodies if number > 2}
        assert len(later) > 9 and not later & known


@pytest.mark.parametrize("change", ["label", "features of the label holder", "features of the feature holder"])
def test_changed_inputs_meet_fresh_randomness_everywhere(change):
    table = tables.synthetic(300, 3, 3)
    first = _recorded(table, (Fixed("a"), Fixed("b")), cut=1)
    moved = [part.copy() for part in table]
    if change == "label":
        moved[2][7] ^= 1
    else:
        moved[0 if "label" in change else 1][7, 1] += 0.5
    again = _recorded(moved, (Fixed("a"), Fixed("b")), cut=1)
    twice = []
    for before, after in zip(first, again, strict=True):
        one, other = ({(kind, body) for _, kind, body in record.bodies} for record in (before, after))
        twice.append({kind for kind, _ in one & other})
        assert len(other - one) > 6
    # keys and base transfers hold no value; who changed nothing says so in Resume; nothing else comes twice
    unchanged = 0 if change == "features of the feature holder" else 1
    assert twice[1 - unchanged] - twice[unchanged] == {"Resume"}
    assert twice[0] | twice[1] <= {"PublicKey", "BaseTransfer", "Trees", "Scale", "Resume"}


def _changed(seed, rows=3000, part=0.1):
    """A table, the same with some labels turned, and which."""
    *blocks, label = tables.synthetic(rows, 4, 5)
    turned = np.random.default_rng(seed).random(rows) < part
    return blocks, label, label ^ turned, turned


def _subtracted(reused):
    """AUCs of telling whose label was changed by each difference of two transcripts, at the feature holder."""
    blocks, label, other, turned = _changed(1)
    records = []
    for values in (label, other):
        table = ideal._Table(11)
        sides = [Leaky(table, index, reused=reused) for index in (0, 1)]
        world = fitted(sides, (Record(len(label)), Record(len(label))), (blocks, values), Settings(passes=6))
        records.append(world.records[1])
    one, two = (record.long for record in records)
    assert [seen.name for seen in one] == [seen.name for seen in two]
    found = []
    for before, after in zip(one, two, strict=True):
        pair = [replace(before, name="x"), replace(after, name="x")]
        moved = np.abs(attacks.columns(pair, "differences")).sum(axis=1)  # none where all are equal
        found.append(roc_auc_score(turned, moved))
    return found, attacks.bound(np.tile(turned.astype(int), 2))


def test_subtracting_two_transcripts_tells_nothing():
    found, bound = _subtracted(reused=False)
    assert max(np.abs(np.array(found) - 0.5)) < bound


def test_subtracting_two_transcripts_tells_all_if_masks_were_used_again():
    found, _ = _subtracted(reused=True)
    assert max(found) > 0.95


# --- the form of the messages -----------------------------------------------------------------------------------------

JOB = vfl.TrainSpec(
    parties=("bank", "telco"),
    tables={"bank": "customers", "telco": "subscribers"},
    label=("bank", "bad"),
    features={"bank": ("age", "income", "branch"), "telco": ("tenure", "plan", "minutes", "late")},
    passes=9,
    early_stopping=9,
    weights="w",
    class_weight="balanced",
    offset={"telco": "shift"},
    inference=True,
    metrics=Wanted(brier=True, threshold=0.3, groups=10, stability=True, likelihood=True),
    preparing=Preparing(
        {
            "bank.age": Recipe(woe=True, bins=4),
            "bank.branch": Recipe(one_hot=True),
            "telco.tenure": Recipe(woe=True, bins=5),
            "telco.plan": Recipe(woe=True),
            "telco.late": Recipe(indicator=True, impute="median"),
        },
        Screen(correlation=0.95),
    ),
)


def _customers(seed, rows=900):
    """Both sides' columns; every seed has other values, labels and missing rows, and as many rows."""
    rng = np.random.default_rng(seed)

    def known(values, part=0.0):
        return np.asarray(values), rng.random(rows) >= part

    tenure, effect = rng.integers(0, 120, rows), rng.normal()
    plan = rng.choice(["basic", "gold", "plus"], rows, p=[0.5, 0.3, 0.2])
    logits = effect * ((60 - tenure) / 40 + (plan == "gold")) - 0.6
    bank = {
        "age": known(rng.integers(18, 90, rows)),
        "income": known(rng.lognormal(10, 0.5, rows)),
        "branch": known(rng.choice(["n", "s", "w"], rows).astype(object)),
        "w": known(rng.uniform(0.8, 1.2, rows)),
        "bad": known((rng.random(rows) < 1 / (1 + np.exp(-logits))).astype(np.int64)),
    }
    telco = {
        "tenure": known(tenure, 0.1),
        "plan": known(plan.astype(object)),
        "minutes": known(rng.normal(200, 50, rows)),
        "late": known(rng.poisson(1.0, rows), 0.3),
        "shift": known(rng.normal(0, 0.2, rows)),
    }
    return bank, telco


def _form(job, world):
    """Kinds, shapes and order of all messages of a job, at either side; rounds and bytes; and what was opened."""
    pair = Pair(vfl.request(job, "telco"), 10)
    records = Record(900), Record(900)
    for channel, record in zip(pair.channels, records, strict=True):
        record.call = ("products", 0)  # nothing is decoded
        listen(channel, record)

    def side(place):
        def run(engine):
            half = vfl.train(engine, world[place], job, b"salt of this very alignment")
            vfl.score(engine, half.model, half.values, "telco")
            return half

        return run

    halves = pair.run(side(0), side(1))
    assert halves[0].inference.refusal is None and (halves[0].passes, halves[0].period) == (9, 64)
    counted = [(c.sent, c.messages_sent, c.rounds) for c in (channel.counters for channel in pair.channels)]
    opened = [[tuple(sorted(fields.items())) for _, fields in ledger.events] for ledger in pair.ledgers]
    return [record.kinds for record in records], counted, opened, [half.model.weights for half in halves]


def test_messages_have_the_same_form_for_any_two_data_sets_of_one_shape(monkeypatch):
    """Training with weights, an offset, held-out rows, weights of evidence, a screen, errors, metrics and scores."""
    coarse(monkeypatch, 128)
    kinds, counted, opened, weights = zip(*(_form(JOB, _customers(seed)) for seed in (1, 2)), strict=True)
    assert weights[0] != weights[1]
    assert len(kinds[0][0]) > 150 and kinds[0] == kinds[1]
    assert counted[0] == counted[1]
    assert opened[0] == opened[1]


# --- what the opened weights themselves tell --------------------------------------------------------------------------


def _opened(table, seed):
    """The feature holder's own weights, as training opens them."""
    ours, theirs, label = table
    a, b = ideal.pair(seed)
    jobs = [
        lambda: fit_weights(a, (ours, Known(label), theirs.shape[1]), Settings(), Fixed(f"a{seed}")),
        lambda: fit_weights(b, (theirs, Known(), ours.shape[1] + 1), Settings(), Fixed(f"b{seed}")),
    ]
    return run_pair(*jobs)[1].weights


def test_two_models_that_differ_by_one_row_tell_its_label():
    """Not a leak of the protocol but of its output, and measured so that the page may say it: the weights move along
    the added row's features, towards its label. Over 1,000 rows every label is told right."""
    rows, added = 1000, 6
    whole = tables.synthetic(rows + added, 4, 5, seed=3)
    before = _opened([part[:rows] for part in whole], 1)
    right = 0
    for place in range(rows, rows + added):
        kept = np.r_[0:rows, place]
        moved = _opened([part[kept] for part in whole], place) - before
        right += int((moved @ whole[1][place] > 0) == (whole[2][place] == 1))
    assert right == added
