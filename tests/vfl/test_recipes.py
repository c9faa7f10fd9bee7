"""Each preparation of a column against scikit-learn, pandas and plain twins; fitted on training rows, applied alike."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from party.errors import DataError
from vfl import evidence, lines, prepare
from vfl.fitted import Number, OneHot, Preparation, Weighted
from vfl.preparation import fit_local
from vfl.recipes import Preparing, Recipe, Screen

ROWS = 600
RNG = np.random.default_rng(3)
TEST = np.arange(ROWS) % 4 == 0
ALL = np.ones(ROWS, dtype=bool)


def fitted(recipe, values, valid=ALL, least=20, winsorise=3.0, label=None):
    """One column's preparation, with the label's counts in the clear where it wants them."""
    one = fit_local("x", recipe, ((values[~TEST], valid[~TEST]), winsorise), least)
    if isinstance(one, lines.Lines):
        table = evidence.Sorted.of("x", one, one.of(values[~TEST], valid[~TEST]))
        groups = evidence.protected(table, evidence.count(table, label[~TEST]), least)
        one = Weighted(*evidence.evidence(one, groups, recipe.merge))
    return Preparation.fit((one,), {"x": (values, valid)}, ~TEST)


def apply(ready, values, valid=None):
    return ready.apply({"x": (values, np.ones(len(values), dtype=bool) if valid is None else valid)})


def holes(values, part=0.2):
    valid = RNG.random(len(values)) > part
    return np.where(valid, values, np.nan)[:, None], np.where(valid, values, 0.0), valid


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_without_a_recipe_a_number_is_prepared_bit_for_bit_as_ever():
    _, values, valid = holes(RNG.lognormal(size=ROWS))
    plain = prepare.prepare({"x": (values, valid)}, TEST, 3.0)
    ready = fitted(Recipe(), values, valid)
    np.testing.assert_array_equal(apply(ready, values, valid)[0], plain.values)
    assert (ready.means, ready.sds) == (tuple(plain.means), tuple(plain.sds))
    assert ready.names == ("x",)


@pytest.mark.parametrize("form", ["mean", "median"])
def test_numbers_are_scaled_and_imputed_as_scikit_learn_does(form):
    table, values, valid = holes(RNG.lognormal(size=ROWS))
    found, _ = apply(fitted(Recipe(impute=form, winsorise=()), values, valid), values, valid)
    scaler = StandardScaler().fit(table[~TEST])
    fill = SimpleImputer(strategy=form).fit(scaler.transform(table[~TEST]))
    np.testing.assert_allclose(found, fill.transform(scaler.transform(table)), rtol=1e-12, atol=1e-12)


def test_missing_rows_become_a_column_where_they_are_enough():
    table, values, valid = holes(RNG.normal(size=ROWS))
    ready = fitted(Recipe(indicator=True), values, valid)
    found, names = apply(ready, values, valid)
    assert names == ("x", "x:missing") and ready.sources == ("x", "x")
    flag = np.isnan(table).astype(float)
    np.testing.assert_allclose(found[:, 1:], StandardScaler().fit(flag[~TEST]).transform(flag), rtol=1e-12)
    few = np.arange(ROWS) >= 25  # 18 of the first 25 are training rows
    assert fitted(Recipe(indicator=True), values, few).names == ("x",)
    assert fitted(Recipe(indicator=True), values, few, least=18).names == ("x", "x:missing")
    assert fitted(Recipe(indicator=True), values, ~few, least=20).names == ("x",)


def test_percentiles_clip_before_scaling_and_are_those_of_training_rows():
    values = RNG.standard_t(2, size=ROWS)
    found, _ = apply(fitted(Recipe(winsorise=(1.0, 99.0)), values), values)
    low, high = np.percentile(values[~TEST], [1, 99])
    clipped = np.clip(values, low, high)
    np.testing.assert_allclose(found[:, 0], (clipped - clipped[~TEST].mean()) / clipped[~TEST].std(), rtol=1e-12)
    wide, _ = apply(fitted(Recipe(winsorise=(2.0,)), values), values)
    assert np.abs(wide).max() == 2.0
    assert np.abs(apply(fitted(Recipe(winsorise=()), values), values)[0]).max() > 4


def test_columns_without_values_or_without_two_of_them_become_zero():
    values = RNG.normal(size=ROWS)
    label = np.arange(ROWS) % 2
    nothing = ~ALL
    for recipe in (Recipe(impute="median", winsorise=(1.0, 99.0)), Recipe(woe=True), Recipe(one_hot=True, bins=4)):
        assert not apply(fitted(recipe, values, nothing, label=label), values, nothing)[0].any()
        assert not apply(fitted(recipe, np.full(ROWS, 7.0), label=label), np.full(ROWS, 7.0))[0].any()


@pytest.mark.parametrize("recipe", [Recipe(impute="median"), Recipe(bins=3, woe=True), Recipe(bins=3, one_hot=True)])
def test_nan_infinities_and_texts_where_numbers_are_wanted_are_refused(recipe):
    for odd in (np.nan, np.inf):
        values = RNG.normal(size=ROWS)
        values[1] = odd
        with pytest.raises(DataError, match="x holds NaN or an infinity"):
            fitted(recipe, values, label=np.arange(ROWS) % 2)
    with pytest.raises(DataError, match="x is not a number"):
        fitted(recipe, np.array(["a", "b"] * (ROWS // 2), dtype=object), label=np.arange(ROWS) % 2)


# --- one-hot ----------------------------------------------------------------------------------------------------------


def plans():
    return RNG.choice(
        ["gold", "silver", "basic", "rare1", "rare2", "rare3"], ROWS, p=[0.3, 0.25, 0.27, 0.06, 0.06, 0.06]
    )


@pytest.mark.parametrize("least", [45, 60])
def test_one_hot_columns_are_scikit_learns_with_infrequent_values_merged(least):
    values = plans().astype(object)
    ready = fitted(Recipe(one_hot=True), values, least=least)
    encoder = OneHotEncoder(min_frequency=least, handle_unknown="infrequent_if_exist", sparse_output=False)
    encoder.fit(values[~TEST, None])
    new = np.append(values, "never seen").astype(object)
    found, names = apply(ready, new)
    raw = found * np.array(ready.sds) + np.array(ready.means)
    assert names == ("x=basic", "x=gold", "x=silver", "x=other")
    np.testing.assert_allclose(raw, encoder.transform(new[:, None]), atol=1e-12)
    assert raw[-1].round(9).tolist() == [0, 0, 0, 1]


def test_a_share_of_the_rows_merges_more_and_a_value_called_other_is_merged():
    values = np.where(RNG.random(ROWS) < 0.3, "other", plans()).astype(object)
    assert fitted(Recipe(one_hot=True, min_share=0.25), values).names[-1] == "x=other"
    kept = set(fitted(Recipe(one_hot=True, min_share=0.215), values, least=1).names)
    counts = pd.Series(values[~TEST]).value_counts()
    assert kept == {f"x={v}" for v, n in counts.items() if n >= 0.215 * (~TEST).sum() and v != "other"} | {"x=other"}


def test_no_made_column_speaks_of_few_rows():
    """Rare values are merged until each line, and what is left of it, has the smallest number of rows."""
    values = np.array(["a"] * 430 + ["b"] * 150 + ["c"] * 15 + ["d"] * 5, dtype=object)[RNG.permutation(ROWS)]
    for least in (1, 5, 12, 16, 30, 200, 460):
        ready = fitted(Recipe(one_hot=True), values, least=least)
        found = apply(ready, values)[0][~TEST]
        for column in found.T:
            rare = len(column) - np.unique(column, return_counts=True)[1].max()
            assert rare == 0 or rare >= least
        test = prepare.Prepared(ready.names, np.array(ready.means), np.array(ready.sds), apply(ready, values)[0])
        try:
            prepare.check_columns(test, TEST, least, ready.sources)
        except DataError as error:
            assert "features vary" in error.message
    assert fitted(Recipe(one_hot=True), values, least=460).names == ("x=other",)


def test_missing_values_are_a_value_of_their_own_or_the_most_frequent_one():
    values = plans().astype(object)
    many, few = RNG.random(ROWS) > 0.2, np.arange(ROWS) >= 10
    found, names = apply(fitted(Recipe(one_hot=True), values, many), values, many)
    assert names[-1] == "x:missing"
    assert len(np.unique(found[~many][:, -1])) == 1 and (found[~many][:, -1] > 0).all()
    ready = fitted(Recipe(one_hot=True), values, few)
    found, names = apply(ready, values, few)
    top = pd.Series(values[~TEST & few]).mode()[0]
    assert "x:missing" not in names
    assert (found[~few][:, names.index(f"x={top}")] > 0).all()


def test_the_reference_is_the_most_frequent_value_and_integers_and_booleans_are_values():
    values = RNG.choice([1, 2, 10], ROWS, p=[0.2, 0.5, 0.3])
    assert fitted(Recipe(one_hot=True, reference=True), values).names == ("x=1", "x=10")
    assert fitted(Recipe(one_hot=True), values > 1).names == ("x=0", "x=1")


def test_bins_become_one_hot_columns_that_hold_what_pandas_cuts():
    values = RNG.normal(50, 20, ROWS).round(2)
    ready = fitted(Recipe(one_hot=True, edges=("30", "50.5")), values)
    assert ready.names == ("x=<= 30", "x=(30, 50.5]", "x=> 50.5")
    raw = (apply(ready, values)[0] * ready.sds + ready.means).round(9)
    np.testing.assert_array_equal(raw, pd.get_dummies(pd.cut(values, [-np.inf, 30, 50.5, np.inf])).to_numpy())
    few = fitted(Recipe(one_hot=True, edges=("-50", "30", "50.5", "130")), values)  # the ends are joined
    assert few.names == ready.names


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.linspace(0, 1, ROWS), "is no category"),
        (np.arange(ROWS).astype("M8[D]"), "is no category"),
        (np.array([f"v{i}" for i in range(ROWS)], dtype=object), "values, more than"),
    ],
)
def test_floats_dates_and_too_many_values_are_no_categories(values, reason):
    with pytest.raises(DataError, match=reason):
        fitted(Recipe(one_hot=True), values, least=1)


# --- weight of evidence -----------------------------------------------------------------------------------------------


def scored():
    values = RNG.normal(size=ROWS).round(3)
    return values, (RNG.random(ROWS) < 1 / (1 + np.exp(-values))).astype(np.int64)


def test_quantile_bins_are_pandas_qcut_and_weights_are_the_formula():
    values, label = scored()
    ready = fitted(Recipe(woe=True, bins=5), values, label=label)
    (feature,) = ready.features
    train, truth = values[~TEST], label[~TEST]
    np.testing.assert_allclose(feature.lines.edges, np.quantile(train, [0.2, 0.4, 0.6, 0.8], method="inverted_cdf"))
    table = pd.crosstab(pd.cut(train, [-np.inf, *feature.lines.edges, np.inf]), truth)
    share = table / table.sum()
    np.testing.assert_allclose(feature.weights, np.log(share[0] / share[1]), rtol=1e-12)
    raw = apply(ready, values)[0][:, 0] * ready.sds[0] + ready.means[0]
    expected = np.array(feature.weights)[np.searchsorted(feature.lines.edges, values)]
    np.testing.assert_allclose(raw, expected, atol=1e-12)
    assert ready.names == ("x:woe",)


def test_bins_that_do_not_differ_are_merged_and_missing_ones_stay_apart():
    values, _ = scored()
    label = (RNG.random(ROWS) < np.where(values > 0, 0.7, 0.3)).astype(np.int64)
    valid = RNG.random(ROWS) > 0.15
    fine = fitted(Recipe(woe=True, bins=8), values, valid, 5, label=label).features[0]
    ready = fitted(Recipe(woe=True, bins=8, merge=0.01), values, valid, 5, label=label).features[0]
    assert len(fine.weights) == 9 and fine.lines.missing
    assert ready.lines.missing and len(ready.weights) == len(ready.lines) < len(fine.weights)
    assert set(ready.lines.edges) < set(fine.lines.edges)
    assert any(abs(edge) < 0.3 for edge in ready.lines.edges)  # the one true step


def test_weights_of_texts_and_of_rows_that_have_none():
    values = plans().astype(object)
    label = (RNG.random(ROWS) < np.where(values == "gold", 0.7, 0.3)).astype(np.int64)
    ready = fitted(Recipe(woe=True, min_share=0.1), values, label=label)
    (feature,) = ready.features
    assert feature.lines.values == ("basic", "gold", "silver") and feature.lines.other
    new = np.array(["gold", "unheard of", "rare1", "gold"], dtype=object)
    found = apply(ready, new, np.array([True, True, True, False]))[0][:, 0] * ready.sds[0] + ready.means[0]
    np.testing.assert_allclose(found, [feature.weights[1], feature.weights[3], feature.weights[3], 0.0], atol=1e-12)
    few = np.arange(ROWS) >= 10
    assert fitted(Recipe(woe=True), values, few, label=label).features[0].lines.missing  # joined with `other`


def in_order(lines_):
    return evidence.Sorted("x", np.zeros(0, dtype=np.int64), tuple(range(lines_)))


def test_bins_are_joined_until_each_has_enough_rows_of_either_label():
    counts = [(50, 2), (50, 12), (50, 9), (50, 30), (5, 90), (3, 0)]
    groups = evidence.protected(in_order(6), counts, 20)
    assert groups == (evidence.Group((0, 1, 2), 150, 23), evidence.Group((3, 4, 5), 58, 120))
    found, weights = evidence.evidence(lines.Lines("x", edges=(0.0, 1.0, 2.0, 3.0), missing=True), groups, None)
    assert found == lines.Lines("x", edges=(2.0,), missing=True)
    assert weights == (np.log(150 * 143 / 23 / 208), *[np.log(58 * 143 / 120 / 208)] * 2)
    assert evidence.protected(in_order(2), [(50, 1), (50, 1)], 20) == (evidence.Group((0, 1), 100, 2),)


def test_groups_have_enough_rows_of_either_label_and_leave_none_out():
    rng = np.random.default_rng(4)
    for least in (1, 10):
        for _ in range(300):
            counts = [tuple(map(int, pair)) for pair in rng.integers(0, 40, (int(rng.integers(2, 9)), 2))]
            groups = evidence.protected(in_order(len(counts)), counts, least)
            totals = [sum(pair[label] for pair in counts) for label in (0, 1)]
            assert [sum(g.zeros for g in groups), sum(g.ones for g in groups)] == totals
            assert all(min(group.zeros, group.ones) >= least for group in groups) or min(totals) < least


def test_values_are_joined_from_the_most_frequent_on():
    values = np.array(["a"] * 50 + ["b"] * 200 + ["c"] * 60 + ["d"] * 290, dtype=object)[RNG.permutation(ROWS)]
    label = np.where(np.isin(values, ["b", "d"]), np.arange(ROWS) % 2, 0)
    label[np.flatnonzero(values == "a")[:9]] = 1
    label[np.flatnonzero(values == "c")[:9]] = 1
    table = evidence.Sorted.of(
        "x", lines.Lines("x", values=("a", "b", "c", "d")), np.searchsorted(list("abcd"), values.astype(str))
    )
    assert [g.places for g in evidence.protected(table, evidence.count(table, label), 12)] == [(3,), (1,), (2, 0)]


# --- fitted once, applied alike ---------------------------------------------------------------------------------------

RECIPES = [
    Recipe(impute="median", indicator=True, winsorise=(2.5, 97.5)),
    Recipe(one_hot=True, bins=5, reference=True),
    Recipe(woe=True, bins=6, merge=0.2, min_share=0.05),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_only_training_rows_count_and_a_reloaded_recipe_gives_the_same_bits(recipe):
    values, label = scored()
    _, values, valid = holes(values)
    ready = fitted(recipe, values, valid, label=label)
    moved = np.where(TEST, values * 50 + 3, values)
    again = fitted(recipe, moved, np.where(TEST, ~valid, valid), label=np.where(TEST, 1 - label, label))
    assert json.dumps(ready.to_json()) == json.dumps(again.to_json())
    loaded = Preparation.from_json(json.loads(json.dumps(ready.to_json())))
    assert loaded == ready
    new = RNG.normal(size=999) * 3
    for one, other in zip(apply(ready, new), apply(loaded, new), strict=True):
        np.testing.assert_array_equal(one, other)
    assert apply(ready, new[:1])[0].tolist() == apply(ready, new)[0][:1].tolist()


def test_texts_survive_json_too():
    values = np.where(RNG.random(ROWS) < 0.5, 'é "x",=', "ß\n").astype(object)
    ready = fitted(Recipe(one_hot=True), values)
    loaded = Preparation.from_json(json.loads(json.dumps(ready.to_json())))
    assert loaded == ready and ready.names == ("x=ß\n", 'x=é "x",=')


def test_left_out_columns_are_not_made_and_missing_ones_are_named():
    two = Preparation(
        (Number("a"), OneHot(lines.Lines("b", values=("u", "v")))), (0.0, 0.5, 0.5), (1.0, 0.5, 0.5), (0, 2)
    )
    rows = {"b": (np.array(["u", "v"]), np.ones(2, bool)), "a": (np.array([2.0, 3.0]), np.ones(2, bool))}
    values, names = two.apply(rows)
    assert names == ("a", "b=v") and values.tolist() == [[2.0, -1.0], [3.0, 1.0]]
    with pytest.raises(DataError, match="column a is missing"):
        two.apply({"b": rows["b"]})


BROKEN = {
    "format": 2, "means": [0.0], "sds": [-1.0, 1.0], "kept": [1, 0], "more": 1,
    "features": [{"form": "log", "column": "x"}],
}  # fmt: skip


@pytest.mark.parametrize("key", BROKEN)
def test_anything_else_is_no_preparation(key):
    values, label = scored()
    good = Preparation.fit(
        (Number("x", (0.0, 1.0), 0.5, False, None), *fitted(Recipe(woe=True), values, label=label).features),
        {"x": (values, ALL)},
        ~TEST,
    ).to_json()
    assert Preparation.from_json(good).to_json() == good
    with pytest.raises(DataError, match="not a fitted preparation"):
        Preparation.from_json({**good, key: BROKEN[key]})
    for change in ({"weights": [0.0]}, {"edges": [1.0, 0.0]}, {"edges": [1, 2]}, {"missing": 1}, {"fill": 90}):
        broken = {**good, "features": [good["features"][0], {**good["features"][1], **change}]}
        with pytest.raises(DataError, match="not a fitted preparation"):
            Preparation.from_json(broken)
    for change in ({"clip": [1.0, 0.0]}, {"fill": "0"}, {"indicator": 0}, {"column": 5}):
        broken = {**good, "features": [{**good["features"][0], **change}, good["features"][1]]}
        with pytest.raises(DataError, match="not a fitted preparation"):
            Preparation.from_json(broken)


# --- what a job may say -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "key", "reason"),
    [
        (Recipe(), "", "says nothing"),
        (Recipe(impute="mode"), "impute", "cannot be 'mode'"),
        (Recipe(one_hot=True, woe=True), "woe", "not possible with `one_hot`"),
        (Recipe(woe=True, impute="mean"), "impute", "a value of their own"),
        (Recipe(one_hot=True, indicator=True), "indicator", "a value of their own"),
        (Recipe(woe=True, winsorise=()), "winsorise", "bins know no tails"),
        (Recipe(bins=5), "bins", "needs `woe: true` or"),
        (Recipe(edges=("1",)), "edges", "needs `woe: true` or"),
        (Recipe(min_share=0.1), "min_share", "needs `woe: true` or"),
        (Recipe(one_hot=True, merge=0.1), "merge", "needs `woe: true`"),
        (Recipe(woe=True, reference=True), "reference", "needs `one_hot: true`"),
        (Recipe(winsorise=(0.1,)), "winsorise", "between 0.5 and 100"),
        (Recipe(winsorise=(99.0, 1.0)), "winsorise", "ascending percentiles"),
        (Recipe(winsorise=(1.0, 101.0)), "winsorise", "ascending percentiles"),
        (Recipe(woe=True, bins=65), "bins", "between 2 and 64"),
        (Recipe(woe=True, bins=5, edges=("1",)), "edges", "either `bins` or `edges`"),
        (Recipe(woe=True, edges=("2", "1")), "edges", "must ascend"),
        (Recipe(woe=True, min_share=0.6), "min_share", "between 0 and 0.5"),
        (Recipe(woe=True, merge=1.0), "merge", "level of significance"),
    ],
)
def test_recipes_that_make_no_sense_are_named(recipe, key, reason):
    told = [(place, why) for place, why, _ in Preparing({"a.x": recipe}).complaints({"a.x"})]
    assert any(place == "prepare.a.x" + f".{key}" * bool(key) and reason in why for place, why in told), told
    with pytest.raises(StopIteration):
        next(Preparing({"*": Recipe(impute="mean")}, Screen(0.9)).complaints({"a.x"}))


def test_features_that_are_none_and_screens_out_of_range_are_named():
    (told,) = Preparing({"bank.incme": Recipe(impute="mean")}).complaints({"bank.income", "bank.age"})
    assert told == ("prepare.bank.incme", "bank.incme is no feature of this job", "did you mean `bank.income`?")
    for screen, key in (
        (Screen(), ""),
        (Screen(1.0), ".correlation"),
        (Screen(0.05), ".correlation"),
        (Screen(vif=1.0), ".vif"),
    ):
        assert [place for place, _, _ in Preparing({}, screen).complaints(set())] == [f"screen{key}"]


@pytest.mark.parametrize(
    "recipe", [*RECIPES, Recipe(winsorise=()), Recipe(woe=True, edges=("0", "1.50"), min_share=0.0)]
)
def test_a_recipe_survives_its_canonical_form(recipe):
    assert Recipe.from_canonical(json.loads(json.dumps(recipe.canonical()))) == recipe


@pytest.mark.parametrize(
    "raw",
    [None, [], {"bin": 3}, {"bins": 3.0}, {"bins": True}, {"woe": 1}, {"edges": [1]}, {"winsorise": 3.0},
     {"merge": "x"}, {"winsorise": [1, 2, 3]}, {"impute": 1}],
)  # fmt: skip
def test_other_words_of_a_peer_are_refused(raw):
    with pytest.raises((ValueError, TypeError)):
        Recipe.from_canonical(raw)
