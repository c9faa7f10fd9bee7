"""Scores of a new cohort on real engines: the plain sum at any precision, and nothing for a peer that lies."""

from __future__ import annotations

import numpy as np
import pytest

from party.errors import DataError, PeerError, PolicyRefused, UsageError
from party.request import Opening
from party.scores import LOGITS, Scores, lacking, logit_bits
from tests.vfl.real import Pair, valid
from vfl import cohort, prepare, spec
from vfl.model import ModelHalf

TABLES = {"bank": "customers", "telco": "subscribers"}
FEATURES = {"bank": ("a", "b", "c"), "telco": ("p", "q", "r")}


def asked(decimals: int = 3, receiver: str = "bank", chosen: bool = False) -> cohort.Cohort:
    return cohort.Cohort(("bank", "telco"), TABLES, FEATURES, "0" * 16, receiver, decimals, chosen)


def half(seed: int, intercept: float | None) -> ModelHalf:
    rng = np.random.default_rng(seed)
    names = tuple(f"x{n}" for n in range(3))
    return ModelHalf(
        names, tuple(rng.normal(0, 2, 3)), tuple(rng.random(3) + 0.5), tuple(rng.normal(0, 1, 3)), intercept, 3.0
    )


HALVES = half(1, -0.7), half(2, None)


def parts(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Each side's own part of the logits."""
    rng = np.random.default_rng(rows)
    found = [cohort.partial_logits(model, valid(rng.normal(0, 3, (rows, 3)))) for model in HALVES]
    return found[0], found[1]


@pytest.mark.parametrize(("decimals", "receiver"), [(0, "bank"), (3, "telco"), (6, "bank")])
def test_opened_logits_are_the_plain_sum_to_less_than_one_unit(decimals: int, receiver: str) -> None:
    ours, theirs = parts(700)
    wanted = asked(decimals, receiver)
    pair = Pair(cohort.request(wanted))
    found = pair.run(lambda e: cohort.score(e, ours, wanted), lambda e: cohort.score(e, theirs, wanted))
    place = ("bank", "telco").index(receiver)
    assert found[1 - place] is None
    error = found[place] - (ours + theirs)
    unit = 2.0 ** -logit_bits(decimals)
    assert np.abs(error).max() < unit and abs(error.mean()) < unit / 8
    assert np.array_equal(found[place], np.round(found[place] / unit) * unit)
    scores = cohort.Forms("score", decimals).of(found[place])
    plain = 1 / (1 + np.exp(-(ours + theirs)))
    assert np.abs(scores - plain).max() <= 10.0**-decimals
    events = [event for ledger in pair.ledgers for event in ledger.events]
    assert [(e["what"], e["to"], e["rows"]) for _, e in events] == [(spec.scores_name(decimals), receiver, 700)]


def test_rows_are_prepared_in_parts_as_they_would_be_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = valid(np.random.default_rng(4).normal(0, 3, (101, 3)))
    columns["x1"][1][5] = False
    whole = cohort.partial_logits(HALVES[0], columns)
    model = HALVES[0]
    values = prepare.standardise(columns, np.array(model.means), np.array(model.sds), 3.0)
    np.testing.assert_allclose(whole, model.partial_logits(values), atol=1e-12)
    monkeypatch.setattr(cohort, "_ROWS", 10)
    np.testing.assert_allclose(cohort.partial_logits(HALVES[0], columns), whole, atol=1e-12)


def test_a_recipe_that_is_not_known_is_refused_and_not_left_out() -> None:
    from dataclasses import replace

    with pytest.raises(DataError, match="fitted preparation"):
        cohort.partial_logits(replace(HALVES[0], recipe={"kind": "other"}), valid(np.zeros((3, 3))))


@pytest.mark.parametrize("chunk", [4, 1 << 20])
def test_chosen_rows_arrive_in_any_number_of_messages(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(cohort, "_CHUNK", chunk)
    wanted = asked(chosen=True)
    for places in ([], [0], [1, 5, 9], list(range(8)), list(range(10))):
        pair = Pair(cohort.request(wanted))
        chosen = np.array(places, dtype=np.int64)
        _, found = pair.run(lambda e: cohort.choose(e, chosen), lambda e: cohort.learn_chosen(e, 10))
        assert found.tolist() == places
        assert pair.ledgers[0].events[0][1]["what"] == cohort.CHOSEN


@pytest.mark.parametrize("places", [[-1], [10], [3, 3], [4, 2], list(range(11))])
def test_places_that_are_not_there_or_out_of_order_break_the_protocol(places: list[int]) -> None:
    pair = Pair(cohort.request(asked(chosen=True)))
    with pytest.raises(PeerError, match="asks for rows that are not there, or twice"):
        pair.run(lambda e: cohort.choose(e, np.array(places, dtype=np.int64)), lambda e: cohort.learn_chosen(e, 10))


def test_a_list_that_never_ends_is_cut_off() -> None:
    pair = Pair(cohort.request(asked(chosen=True)))

    def flood(engine: object) -> None:
        for _ in range(3):
            pair.channels[0].send(cohort.Chosen(np.arange(4, dtype=np.int64), False))

    with pytest.raises(PeerError, match="more rows than there are"):
        pair.run(flood, lambda e: cohort.learn_chosen(e, 10))


def test_nothing_is_opened_that_was_not_asked() -> None:
    ours, theirs = parts(20)
    wanted = asked(3)
    pair = Pair(cohort.request(asked(2)))
    with pytest.raises(PolicyRefused, match="does not open"):
        pair.run(lambda e: cohort.score(e, ours, wanted), lambda e: cohort.score(e, theirs, wanted))
    pair = Pair(cohort.request(asked(3)))
    with pytest.raises(PolicyRefused, match="does not open"):
        pair.run(lambda e: cohort.choose(e, np.arange(2)), lambda e: cohort.learn_chosen(e, 10))


def test_who_takes_no_part_receives_nothing() -> None:
    with pytest.raises(UsageError, match="does not take part"):
        cohort.request(asked(receiver="nobody"))


def test_forms_are_the_receivers_own_writing() -> None:
    logits = np.array([-2.0, 0.0, 0.5])
    assert cohort.Forms("logit", 3).of(logits) is logits
    assert cohort.Forms("score", 1).of(logits).tolist() == [0.1, 0.5, 0.6]
    assert cohort.Forms("points", 3, 500.0, 20.0).of(logits).tolist() == [540.0, 500.0, 490.0]


# --- what policy reads in the names of openings -----------------------------------------------------------------------


@pytest.mark.parametrize("decimals", range(7))
def test_a_policy_allows_its_decimals_and_coarser_ones(decimals: int) -> None:
    allowed = [lacking(Scores(decimals=decimals), spec.scores_name(d)) is None for d in range(7)]
    assert allowed == [d <= decimals for d in range(7)]
    worst = 2.0 ** -logit_bits(decimals) / 4  # the sigmoid's steepest
    assert worst <= 10.0**-decimals / 2 or decimals == 0


def test_the_openings_that_show_rows_are_read_by_policy_and_no_others() -> None:
    from fnmatch import fnmatchcase

    shown = [spec.SCORES, *map(spec.scores_name, range(7))]
    others = [spec.SCALE, spec.METRICS, cohort.CHOSEN, spec.weights_name("bank"), "alignment.rows", "query.q.n.count"]
    closed = Scores(receive=False)
    assert all(lacking(closed, what) and fnmatchcase(what, LOGITS) for what in shown)
    assert not any(lacking(closed, what) or fnmatchcase(what, LOGITS) for what in others)
    assert Opening(spec.SCORES, "bank").what == "score: logits to 1/512, the score to 3 decimals"
