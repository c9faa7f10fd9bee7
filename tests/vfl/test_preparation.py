"""Preparation over the real engine: the feature holder's weights of evidence, the screen, training on both."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import vfl
from party.errors import DataError, PeerError, PolicyRefused
from party.request import Opening, Request, Use
from tests.vfl import tables
from tests.vfl.real import Pair
from vfl import evidence, lines, prepare, recipes, screening, spec
from vfl.preparation import Shape, made_ready
from vfl.recipes import Preparing, Recipe, Screen

SALT = b"agreement and alignment"
ROWS, LEAST = 500, 12
SPEC = vfl.TrainSpec(
    parties=("bank", "telco"),
    tables={"bank": "customers", "telco": "subscribers"},
    label=("bank", "bad"),
    features={"bank": ("age", "income", "branch"), "telco": ("tenure", "plan", "minutes", "late")},
)
WOE = Preparing(
    {
        "bank.age": Recipe(woe=True, bins=6),
        "bank.branch": Recipe(one_hot=True),
        "telco.tenure": Recipe(woe=True, bins=8, merge=0.05),
        "telco.plan": Recipe(woe=True),
        "telco.late": Recipe(indicator=True, impute="median"),
    }
)


def world(seed=2, rows=ROWS):
    """Both sides' columns and the label, as (values, valid)."""
    rng = np.random.default_rng(seed)

    def known(values, part=0.0):
        return np.asarray(values), rng.random(rows) >= part

    tenure = rng.integers(0, 120, rows)
    plan = rng.choice(["basic", "gold", "plus", "vip"], rows, p=[0.5, 0.2, 0.28, 0.02])
    logits = (60 - tenure) / 40 + (plan == "gold") * 1.2 - 0.9
    bank = {
        "age": known(rng.integers(18, 90, rows)),
        "income": known(rng.lognormal(10, 0.5, rows)),
        "branch": known(rng.choice(["n", "s", "w"], rows).astype(object)),
        "bad": known((rng.random(rows) < 1 / (1 + np.exp(-logits))).astype(np.int64)),
    }
    telco = {
        "tenure": known(tenure, 0.04),
        "plan": known(plan.astype(object)),
        "minutes": known(rng.normal(200, 50, rows)),
        "late": known(rng.poisson(1.0, rows), 0.2),
    }
    return bank, telco


def both(job, table, min_rows=LEAST, pair=None):
    """`made_ready` at both sides; test rows as in training."""
    bank, telco = table
    label = bank["bad"][0]
    test = prepare.split(len(label), job.test_fraction, SALT)
    pair = pair or Pair(vfl.request(job), min_rows)
    ours = {name: bank[name] for name in job.features["bank"]}
    theirs = {name: telco[name] for name in job.features["telco"]}
    halves = pair.run(
        lambda engine: made_ready(engine, ours, job, test, label),
        lambda engine: made_ready(engine, theirs, job, test, None),
    )
    return pair, test, halves


def twin(column, recipe, table, test, label):
    """Weight of evidence with the label in the clear."""
    values, valid = table
    one = lines.fit(column, recipe, (values[~test], valid[~test]), LEAST)
    rows = evidence.Sorted.of(column, one, one.of(values[~test], valid[~test]))
    groups = evidence.protected(rows, evidence.count(rows, label[~test]), LEAST)
    return evidence.evidence(one, groups, recipe.merge)


# --- weight of evidence -----------------------------------------------------------------------------------------------


def test_weights_of_the_feature_holders_columns_are_those_of_the_plain_rule():
    job = replace(SPEC, preparing=WOE)
    table = world()
    pair, test, (bank, telco) = both(job, table)
    features = {one.column: one for one in vfl.Preparation.from_json(telco.recipe).features}
    for column in ("tenure", "plan"):
        found, weights = twin(column, WOE.of("telco", column), table[1][column], test, table[0]["bad"][0])
        assert (features[column].lines, features[column].weights) == (found, weights)
    assert features["tenure"].lines.missing and len(features["tenure"].weights) < 9
    assert telco.names == ("tenure:woe", "plan:woe", "minutes", "late", "late:missing")
    assert bank.names == ("age:woe", "income", "branch=n", "branch=s", "branch=w")
    assert (bank.theirs, telco.theirs) == (5, 5)
    assert any("weight of evidence of tenure" in note for note in telco.notes)
    # what left: sizes to both, counts to the telco alone
    wrote = {(fields["what"], fields["to"]) for ledger in pair.ledgers for _, fields in ledger.events}
    counts = {(recipes.counts_name(f"telco.{column}"), "telco") for column in ("tenure", "plan")}
    assert wrote == {(recipes.SHAPE, "bank"), (recipes.SHAPE, "telco")} | counts


def test_rows_of_the_test_part_change_nothing_on_either_side():
    job = replace(SPEC, preparing=replace(WOE, screen=Screen(0.9)))
    bank, telco = world()
    test = prepare.split(ROWS, job.test_fraction, SALT)
    _, _, first = both(job, (bank, telco))
    other_bank, other_telco = world(seed=9)

    def moved(old, new):
        return {name: tuple(np.where(test, *pair) for pair in zip(new[name], old[name], strict=True)) for name in old}

    _, _, second = both(job, (moved(bank, other_bank), moved(telco, other_telco)))
    for one, other in zip(first, second, strict=True):
        assert json.dumps(one.recipe) == json.dumps(other.recipe)
        assert (one.values[test] != other.values[test]).any()
        np.testing.assert_array_equal(one.values[~test], other.values[~test])


def allowing(*openings):
    return Request(frozenset(), frozenset(Opening(*one) for one in openings))


def warm(engine):
    """Keys and base transfers, which come on top of what a protocol declares."""
    if engine.index == 0:
        engine.linear.upload(np.zeros((1, 1), dtype=np.uint64))
        engine.linear.receive(1, 1)
    else:
        engine.linear.receive(1, 1)
        engine.linear.upload(np.zeros((1, 1), dtype=np.uint64))
    engine.ot.prepare()


def measured(pair, ours, theirs):
    """The results, and the bytes that each side sent."""
    pair.run(warm, warm)
    before = [channel.counters.sent for channel in pair.channels]
    found = pair.run(ours, theirs)
    return found, [channel.counters.sent - then for channel, then in zip(pair.channels, before, strict=True)]


@pytest.mark.parametrize("holder", [0, 1])
def test_counts_cost_what_is_declared_whatever_the_data(holder):
    rows, bins, sent = 300, (2, 7, 4), []
    owner = ("telco", "bank")[holder]
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        columns = [evidence.Sorted(f"{owner}.c{n}", rng.integers(0, n, rows), tuple(range(n))) for n in bins]
        label = rng.integers(0, 2, rows)
        asked = [(one.name, len(one.order)) for one in columns]
        pair = Pair(allowing(*((recipes.counts_name(one.name), owner) for one in columns)), 10)
        sides = [
            lambda engine, label=label, asked=asked: evidence.counts_label_holder(engine, label, asked),
            lambda engine, columns=columns: evidence.counts_feature_holder(engine, columns, rows),
        ]
        found, cost = measured(pair, *(sides if holder == 0 else sides[::-1]))
        assert found[1 - holder] == [evidence.protected(one, evidence.count(one, label), 10) for one in columns]
        assert found[holder] is None
        sent.append(cost)
    assert sent[0] == sent[1] == evidence.predict_counts(rows, bins, holder).sent


@pytest.mark.parametrize("change", [(0, 1), (1, 0), (30, -30)])
def test_counts_that_do_not_fit_our_bins_are_the_peers_fault(change):
    """What is opened is checked against the rows of our own bins, and against the smallest count."""
    column = evidence.Sorted("telco.c", np.repeat([0, 1], 60), (0, 1))
    opened = np.array([[30, 30], [31, 29]], dtype=np.uint64)
    sizes = np.array([60, 60], dtype=np.uint64)
    assert len(evidence._groups(opened, column, sizes, 10)) == 2
    opened[1] += np.array(change, dtype=np.int64).view(np.uint64)
    with pytest.raises(PeerError, match=r"bins of telco\.c"):
        evidence._groups(opened, column, sizes, 10)


def test_counts_are_opened_to_nobody_whom_the_agreement_does_not_name():
    job = replace(SPEC, preparing=WOE)
    asked = vfl.request(job)
    fewer = replace(asked, openings=asked.openings - {Opening(recipes.counts_name("telco.plan"), "telco")})
    with pytest.raises(PolicyRefused, match=r"telco\.plan"):
        both(job, world(), pair=Pair(fewer, LEAST))
    for name in ("tenure", "plan"):
        assert Opening(recipes.counts_name(f"telco.{name}"), "bank") not in asked.openings
    assert Use("bank", "customers", "bad", "aggregate") in asked.uses
    assert Use("bank", "customers", "bad", "aggregate") not in vfl.request(SPEC).uses
    assert not any(recipes.counts_name("bank.age") == opening.what for opening in asked.openings)


@pytest.mark.parametrize(
    "change", [{"columns": [1, 1, 1]}, {"columns": [1, 1, 1, 3]}, {"columns": [2, 1, 1, 2]}, {"lines": [0, 3, 0, 0]},
               {"lines": [9, 4, 1, 0]}, {"lines": [300, 4, 0, 0]}],
)  # fmt: skip
def test_a_peer_that_brings_other_columns_than_the_jobs_is_stopped(change):
    job = replace(SPEC, preparing=WOE)
    shape = {"columns": [1, 1, 1, 2], "lines": [9, 4, 0, 0]} | change
    bank, _ = world()
    ours = {name: bank[name] for name in job.features["bank"]}
    test = prepare.split(ROWS, job.test_fraction, SALT)
    pair = Pair(vfl.request(job), LEAST)
    told = Shape(*(np.array(shape[key], dtype=np.uint16) for key in ("columns", "lines")))
    with pytest.raises(PeerError, match="telco brings columns"):
        pair.run(
            lambda engine: made_ready(engine, ours, job, test, bank["bad"][0]),
            lambda engine: engine.channel.swap(told),
        )


# --- the screen -------------------------------------------------------------------------------------------------------


def blocks(seed=5, rows=400):
    """Columns of two sides: doubles of own ones, of the other's, a sum across, a constant."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(rows, 4))
    b = rng.normal(size=(rows, 6))
    a[:, 3] = -a[:, 0] + 0.01 * rng.normal(size=rows)  # goes: follows an own one
    b[:, 1] = a[:, 1] * 3 + 0.5 + 0.05 * rng.normal(size=rows)  # goes: follows the other's
    b[:, 2] = b[:, 1] + 0.05 * rng.normal(size=rows)  # goes, for it follows the other's as well
    b[:, 3] = b[:, 0] + 0.1 * rng.normal(size=rows)  # goes: follows an own one
    b[:, 4] = 2.0
    b[:, 5] = a[:, 2] + b[:, 0] + 0.05 * rng.normal(size=rows)  # no pair tells, its inflation does
    return a, b


def pooled(a, b, limit, vif=None):
    whole = screening.units(np.hstack([a, b]))
    correlations = whole.T @ whole
    gone = screening.greedy(correlations, limit, np.zeros(len(correlations), bool))
    return gone if vif is None else screening.factors(correlations, vif, gone)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("vif", [None, 8.0])
def test_the_screen_leaves_out_what_the_pooled_table_says_and_costs_what_it_declares(swapped, vif):
    a, b = blocks()
    names = [(recipes.DROPPED, p) for p in ("bank", "telco")]
    names += (
        [(recipes.MATRIX, p) for p in ("bank", "telco")] if vif else [(recipes.TIES, "bank" if swapped else "telco")]
    )
    pair = Pair(allowing(*names))
    sides = [
        lambda engine: screening.screen(engine, a, screening.Side(True, b.shape[1]), Screen(0.9, vif)),
        lambda engine: screening.screen(engine, b, screening.Side(False, a.shape[1]), Screen(0.9, vif)),
    ]
    found, sent = measured(pair, *(sides[::-1] if swapped else sides))
    first, second = found[::-1] if swapped else found
    expected = pooled(a, b, 0.9, vif)
    assert np.concatenate(first).tolist() == expected.tolist()
    assert np.concatenate(second[::-1]).tolist() == expected.tolist()
    assert expected.tolist() == [False] * 3 + [True] + [False, True, True, True, False, vif is not None]
    kept = 4 if vif else 3
    predict = screening.predict_inflate if vif else screening.predict_follow
    meter = predict(400, kept, 6, int(swapped))
    more = [0, 0]
    more[int(swapped)] = 0 if vif else 1  # the first told of all its four columns
    assert sent == [one + two for one, two in zip(meter.sent, more, strict=True)]


def test_limits_are_kept_to_a_millionth():
    rng = np.random.default_rng(7)
    base, noise = rng.normal(size=(2, 300))
    columns = screening.units(np.stack([base, noise], axis=1))
    columns[:, 1] -= columns[:, 0] * (columns[:, 0] @ columns[:, 1])
    columns = columns / np.sqrt((columns**2).sum(axis=0))
    limit = 0.8
    for sign in (1, -1):
        off = [limit - 3e-6, limit + 3e-6]
        b = np.stack([sign * (c * columns[:, 0] + np.sqrt(1 - c * c) * columns[:, 1]) for c in off], axis=1)
        pair = Pair(allowing((recipes.DROPPED, "bank"), (recipes.DROPPED, "telco"), (recipes.TIES, "telco")))
        a = np.stack([columns[:, 0], rng.normal(size=300)], axis=1)
        found = pair.run(
            lambda engine, a=a: screening.screen(engine, a, screening.Side(True, 2), Screen(limit)),
            lambda engine, b=b: screening.screen(engine, b, screening.Side(False, 2), Screen(limit)),
        )
        # the second of b follows the first of its own as well
        assert [one.tolist() for one in found[0]] == [[False, False], [False, True]]


def test_variance_inflation_is_the_inverse_of_the_correlations():
    from statsmodels.stats.outliers_influence import variance_inflation_factor

    a, b = blocks()
    table = np.hstack([a[:, :3], b[:, [0, 5]]])
    correlations = np.corrcoef(table.T)
    factors = [variance_inflation_factor(np.c_[np.ones(len(table)), table], n + 1) for n in range(5)]
    above = max(factors)
    assert screening.factors(correlations, above * 1.1, np.zeros(5, bool)).tolist() == [False] * 5
    assert screening.factors(correlations, 8.0, np.zeros(5, bool)).tolist() == [False] * 4 + [True]


@pytest.mark.parametrize("told", [[0, 0, 0], [0, 2, 0, 0], [1, 1, 1, 1]])
def test_a_peer_that_leaves_out_what_it_has_not_is_stopped(told):
    _, b = blocks()
    pair = Pair(allowing((recipes.DROPPED, "telco"), (recipes.DROPPED, "bank"), (recipes.TIES, "telco")))
    with pytest.raises(PeerError, match="left out"):
        pair.run(
            lambda engine: engine.channel.send(screening.Left(np.array(told, dtype=np.uint8))),
            lambda engine: screening.screen(engine, b, screening.Side(False, 4), Screen(0.9)),
        )


@pytest.mark.parametrize("upper", [np.zeros(5), np.full(6, 9000)])
def test_correlations_of_a_wrong_form_are_the_peers_fault(upper):
    a, b = blocks()
    pair = Pair(allowing((recipes.DROPPED, "telco"), (recipes.MATRIX, "telco"), (recipes.MATRIX, "bank")))

    def lying(engine):
        half = np.uint64(1 << 37) if engine.index == 0 else np.uint64(0)
        share = screening._products(engine, screening.units(a), screening.Side(True, 6)) + half
        share = screening.convert.truncate(engine, share, 38)
        screening.opening.open_to(engine, share, recipes.MATRIX, ("bank", "telco"))
        return engine.channel.swap(screening.Own(upper.astype(np.uint16), np.ones(4, dtype=np.uint8)))

    with pytest.raises(PeerError, match="correlation"):
        pair.run(lying, lambda engine: screening.screen(engine, b, screening.Side(False, 4), Screen(vif=9.0)))


# --- training ---------------------------------------------------------------------------------------------------------


def test_a_prepared_and_screened_model_is_the_pooled_one_and_scores_from_json():
    bank, telco = world()
    telco["tenure2"] = (telco["tenure"][0] * 2 + 1, telco["tenure"][1])
    features = {"bank": SPEC.features["bank"], "telco": ("tenure2", *SPEC.features["telco"])}
    preparing = replace(WOE, screen=Screen(0.95))
    preparing = replace(preparing, recipes=preparing.recipes | {"telco.tenure2": Recipe(woe=True, bins=8, merge=0.05)})
    job = replace(SPEC, features=features, preparing=preparing, tolerance=1e-4)
    pair = Pair(vfl.request(job, "bank"), LEAST)
    halves = pair.run(
        lambda engine: vfl.train(engine, bank, job, SALT), lambda engine: vfl.train(engine, telco, job, SALT)
    )
    assert halves[0].left_out == halves[1].left_out == ("telco.tenure",)
    test = halves[0].test
    wanted = tables.pooled([half.values[~test] for half in halves], bank["bad"][0][~test], 1.0)
    found = np.concatenate([[halves[0].model.intercept], halves[0].model.weights, halves[1].model.weights])
    assert tables.distance(found, wanted) < 0.03
    for half, columns in zip(halves, (bank, telco), strict=True):
        loaded = vfl.ModelHalf.from_json(half.model.to_json())
        np.testing.assert_array_equal(vfl.standardised(loaded, columns), half.values)
        assert vfl.columns_of(loaded) == job.features["bank" if half is halves[0] else "telco"]
    model = halves[1].model
    assert model.features == ("tenure2:woe", "plan:woe", "minutes", "late", "late:missing")


@pytest.mark.parametrize("screen", [Screen(0.9), Screen(vif=20.0)])
def test_the_plan_predicts_the_bytes_of_preparation(screen):
    """Close where all bins are there and nothing is left out; a text's values are a guess."""
    woe = {f"telco.{name}": Recipe(woe=True, bins=3) for name in ("tenure", "minutes", "late")}
    job = replace(SPEC, preparing=Preparing(woe, screen))
    job = replace(job, features={"bank": ("age", "income", "bad2"), "telco": ("tenure", "minutes", "late")})
    bank, telco = world()
    bank["bad2"] = bank["age"][0][::-1], bank["age"][1]
    pair = Pair(vfl.request(job), LEAST)
    pair.run(warm, warm)
    already = sum(channel.counters.sent for channel in pair.channels)
    both(job, (bank, telco), pair=pair)
    sent = sum(channel.counters.sent for channel in pair.channels) - already
    plan = spec.plan(job, ROWS)
    plain = spec.plan(replace(job, preparing=Preparing()), ROWS)
    before = plan.most.bytes - plain.most.bytes
    assert 0.85 * before < sent <= before
    assert f"{before / 1e6:.1f} MB" in "\n".join(plan.lines)


def test_both_sides_call_what_is_left_out_alike_and_name_no_value():
    bank, telco = world()
    bank["twin"] = bank["branch"]
    telco["again"] = telco["late"]
    features = {"telco": ("late", "again", *SPEC.features["telco"][:3]), "bank": (*SPEC.features["bank"], "twin")}
    recipes_ = {f"bank.{name}": Recipe(one_hot=True) for name in ("branch", "twin")}
    recipes_ |= {f"telco.{name}": Recipe(indicator=True) for name in ("late", "again")} | {
        "telco.plan": Recipe(woe=True)
    }
    job = replace(SPEC, features=features, preparing=Preparing(recipes_, Screen(0.99)))
    _, _, halves = both(job, (bank, telco))
    wanted = [f"telco.again ({n} of 2)" for n in (1, 2)] + [f"bank.twin ({n} of 3)" for n in (1, 2, 3)]
    assert [list(half.left_out) for half in halves] == [wanted, wanted]


def test_screens_and_recipes_that_leave_too_few_features_are_refused():
    job = replace(SPEC, preparing=Preparing({"*": Recipe(one_hot=True, bins=3)}))
    bank, telco = world()
    bank["branch"] = bank["age"]
    few = telco | {name: (np.ones(ROWS), np.ones(ROWS, bool)) for name in ("minutes", "late")}
    few["plan"] = telco["tenure"]
    with pytest.raises(DataError, match="only 2 of our features vary"):  # of six columns or more
        both(job, (bank, few))


def test_numbers_that_keep_their_tails_start_with_the_wider_window():
    for recipes_, period in (
        ({}, 64),
        ({"telco.late": Recipe(winsorise=())}, 128),
        ({"telco.late": Recipe(winsorise=(1.0, 99.0))}, 64),
        ({"telco.late": Recipe(winsorise=(0.0, 100.0))}, 128),
        ({"telco.late": Recipe(woe=True)}, 64),
    ):
        job = replace(SPEC, preparing=Preparing(recipes_))
        assert job.period == period
        assert ("no accuracy is promised" in "\n".join(spec.plan(job, 5000).lines)) == (period == 128)
    every = replace(SPEC, winsorise=None, preparing=Preparing({"*": Recipe(winsorise=(3.0,))}))
    assert every.period == 64 and replace(every, preparing=Preparing()).period == 128


def test_counts_of_a_label_with_few_rows_of_a_class_are_not_opened():
    bank, telco = world()
    few = bank | {"bad": ((np.arange(ROWS) % 60 == 0).astype(np.int64), bank["bad"][1])}
    with pytest.raises(DataError, match="one class of the label"):
        both(replace(SPEC, preparing=WOE), (few, telco))


def test_plan_and_request_name_what_preparation_opens():
    job = replace(SPEC, preparing=replace(WOE, screen=Screen(0.95)))
    told = "\n".join(spec.plan(job, 30_000).lines)
    assert "telco learns the weight of evidence of each of its bins of tenure" in told
    assert "of age" not in told
    assert "telco learns of each of its columns whether it follows one of bank's" in told
    openings = vfl.request(job).openings
    assert Opening(recipes.TIES, "telco") in openings and Opening(recipes.TIES, "bank") not in openings
    with_vif = vfl.request(replace(job, preparing=replace(WOE, screen=Screen(vif=5.0))))
    assert Opening(recipes.MATRIX, "bank") in with_vif.openings
    assert Use("telco", "subscribers", "minutes", "aggregate") in with_vif.uses
    assert not any("train: col" in opening.what for opening in vfl.request(SPEC).openings)
    wrong = replace(SPEC, preparing=Preparing({"telco.tenur": Recipe(woe=True)}))
    with pytest.raises(vfl.spec.UsageError, match=r"telco\.tenur is no feature"):
        wrong.check()
