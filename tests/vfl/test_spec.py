"""What a training job asks for, opens and refuses."""

from dataclasses import replace

import pytest

from party.errors import DataError, PolicyRefused, UsageError
from party.request import Opening, Use
from vfl import cost, spec
from vfl.schedule import Scales, momentum, slot_prime, wider
from vfl.wanted import BRIER, CONFUSION, LIKELIHOOD, STABILITY, TABLE, Wanted

SPEC = spec.TrainSpec(
    parties=("bank", "telco"),
    tables={"bank": "customers", "telco": "subscribers"},
    label=("bank", "defaulted"),
    features={"bank": ("balance", "income", "age"), "telco": ("minutes", "bills", "tenure")},
)


def test_request_names_every_column_once_with_its_use():
    asked = spec.request(SPEC).uses
    assert Use("bank", "customers", "defaulted", "label") in asked
    assert Use("telco", "subscribers", "tenure", "feature") in asked
    assert len(asked) == 7


def test_weights_are_opened_to_their_owner_only_and_scores_to_the_receiver_only():
    asked = spec.request(SPEC, "telco").openings
    for owner, other in (("bank", "telco"), ("telco", "bank")):
        assert Opening(spec.weights_name(owner), owner) in asked
        assert Opening(spec.weights_name(owner), other) not in asked
    assert Opening(spec.SCORES, "telco") in asked and Opening(spec.SCORES, "bank") not in asked
    assert not any("logits of test rows" in opening.what for opening in asked)
    assert not any(opening.what == spec.SCORES for opening in spec.request(SPEC).openings)


@pytest.mark.parametrize("party", ["bank", "telco"])
def test_fewer_than_three_features_of_a_side_are_refused(party):
    few = replace(SPEC, features={**SPEC.features, party: ("a", "b")})
    with pytest.raises(PolicyRefused, match=f"features of {party}"):
        few.check()


@pytest.mark.parametrize(
    "change",
    [
        {"l2": -1.0},
        {"l2": float("nan")},
        {"winsorise": 0.0},
        {"test_fraction": 1.0},
        {"label": ("shop", "x")},
        {"features": {"bank": ("defaulted", "b", "c"), "telco": ("a", "b", "c")}},
        {"features": {"bank": ("b", "b", "c"), "telco": ("a", "b", "c")}},
    ],
)
def test_values_out_of_range_are_usage_errors(change):
    with pytest.raises(UsageError):
        replace(SPEC, **change).check()


def test_plan_says_who_learns_what_and_warns_without_winsorising():
    lines = "\n".join(spec.plan(SPEC, 30_000, "telco").lines)
    assert "telco learns for each aligned row" in lines and "bank's features" in lines
    assert "no accuracy is promised" not in lines
    assert "no accuracy is promised" in "\n".join(spec.plan(replace(SPEC, winsorise=None), 30_000).lines)


def test_the_plan_tells_what_one_pass_moves_and_what_the_last_look_at_the_window_does():
    lines = "\n".join(spec.plan(SPEC, 30_000).lines)
    shape = cost.Shape(24_000, 0, (4, 3), 64, 9, second=True)
    assert f"passes of {cost.of_pass(shape, 1).bytes / 1e6:.1f} MB" in lines
    assert f"outside that window ({cost.of_window(shape).bytes / 1e6:.0f} MB)" in lines


def test_scales_that_do_not_fit_64_bits_are_refused():
    Scales(15, 9, 7).check()
    with pytest.raises(DataError, match="64-bit"):
        Scales(19, 13, 11).check()


def test_momentum_and_primes_are_those_of_the_page():
    assert [momentum(k) for k in (0, 1, 3, 1000)] == [0, 64, 128, 230]
    for bits in (9, 11, 13):
        t = slot_prime(bits)
        assert t >= 2 ** (2 * bits + 3) and t % 2**14 == 1


def test_margins_beyond_the_widest_window_are_called_separable():
    assert wider(64) == 128
    with pytest.raises(DataError, match="separable"):
        wider(256)


def test_metrics_go_to_whom_the_job_says_and_only_those_asked():
    everyone = spec.request(SPEC).openings
    assert {opening.to for opening in everyone if opening.what == spec.METRICS} == {"bank", "telco"}
    assert not any(opening.what in (BRIER, CONFUSION, TABLE, STABILITY, LIKELIHOOD) for opening in everyone)
    asked = replace(SPEC, metrics=Wanted(("telco",), True, 0.5, 10, True, True))
    told = {(opening.what, opening.to) for opening in spec.request(asked).openings}
    for name in (spec.METRICS, BRIER, CONFUSION, TABLE, STABILITY, LIKELIHOOD):
        assert (name, "telco") in told and (name, "bank") not in told
    lines = "\n".join(spec.plan(asked, 30_000).lines)
    for word in ("Brier", "above 0.5", "10 groups", "ten cuts", "likelihood-ratio"):
        assert word in lines
    assert "telco learns of the test rows AUC" in lines


@pytest.mark.parametrize(
    "wrong", [Wanted(("shop",)), Wanted(("bank", "bank")), Wanted(threshold=1.0), Wanted(groups=7)]
)
def test_metrics_that_cannot_be_are_usage_errors(wrong):
    with pytest.raises(UsageError):
        replace(SPEC, metrics=wrong).check()
