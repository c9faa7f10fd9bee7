"""Attacks on recorded trainings: they find nothing, and find what they look for where it leaks.

Shares come from the ideal oracle, so every statistic is that of honest shares whatever the engine; the same attacks on
the wire of the real engine are slow tests below. A control hands out the values of some steps without a mask, or uses
the masks of pass 1 in all passes.
"""

from dataclasses import dataclass

import numpy as np
import pytest

from kernels.ntt import N
from mpc import lattice
from tests.support import run_pair
from tests.vfl import attacks, ideal, tables
from tests.vfl.real import Pair
from tests.vfl.recording import Fixed, Record, Watched, listen
from vfl import prepare
from vfl.prepare import Known
from vfl.secure import Secure
from vfl.sides import Settings
from vfl.train import fit_weights

RESIDUAL, LOGITS, GRADIENT = ("slots", "lift"), ("products", "truncate", "truncate_and_test"), ("gradients",)


class Leaky(ideal.Ideal):
    """Hands out the values of some steps as they are to index 1; or draws the masks of all passes alike."""

    def __init__(self, table, index, naked=(), reused=False):
        super().__init__(table, index)
        self.naked, self.reused, self.step = naked, reused, ""

    def _shares(self, value, modulus=ideal.WORDS):
        if self.step in self.naked:
            return np.zeros_like(value), value
        return super()._shares(value, modulus)

    def begin(self, label, number):
        super().begin(b"" if self.reused else label, number)


def _stepping(name):
    plain = getattr(ideal.Ideal, name)

    def method(self, *given):
        self.step = name.replace("slots_owner", "slots").replace("slots_multiplier", "slots")
        return plain(self, *given)

    return method


for _name in ("products", "gradients", "slots_owner", "slots_multiplier", "lift", "truncate", "truncate_and_test"):
    setattr(Leaky, _name, _stepping(_name))


@dataclass
class World:
    """A finished training: records of label holder and feature holder, their columns and weights, the label."""

    records: tuple[Record, Record]
    blocks: tuple[np.ndarray, np.ndarray]
    weights: tuple[np.ndarray, np.ndarray]
    label: np.ndarray

    @property
    def residuals(self):
        """The true ones of each pass, from both sides' shares."""
        shares = [[one.words for one in record.long if one.name == "lifted 0"] for record in self.records]
        return [(ours + theirs).view(np.int64).astype(float) for ours, theirs in zip(*shares, strict=True)]

    @property
    def known(self):
        """What each side knows at the end anyway: its columns and its part of the logit."""
        parts = (self.blocks[0] @ self.weights[0][1:], self.blocks[1] @ self.weights[1])
        return tuple(np.column_stack([block, part]) for block, part in zip(self.blocks, parts, strict=True))

    @property
    def parts(self):
        """Each side's part of the logit, a column of its own columns."""
        return tuple(known[:, -1] for known in self.known)


def trained(rows, passes=12, first=0, second=False, **leaks):
    """Over the oracle. first: the index of the label holder. second: with steps of second order at the end. What leaks,
    leaks to index 1."""
    *blocks, label = tables.synthetic(rows, 4, 5)
    table = ideal._Table(11)
    sides = [Leaky(table, index, **leaks) for index in (first, 1 - first)]
    return fitted(sides, (Record(rows), Record(rows)), (blocks, label), Settings(passes=passes, second=second))


def fitted(sides, records, table, settings, run=run_pair):
    """The world after `fit_weights` at both sides, label holder first."""
    blocks, label = table
    given = [(blocks[0], Known(label), 5), (blocks[1], Known(), 5)]
    jobs = [
        lambda place=place: fit_weights(
            Watched(sides[place], records[place]), given[place], settings, Fixed(f"secret of {place}")
        )
        for place in (0, 1)
    ]
    halves = run(*jobs)
    return World(records, tuple(blocks), tuple(half.weights for half in halves), label)


@pytest.fixture(scope="module")
def honest():
    return trained(5000)


def _worst(table_of, label):
    return max(abs(auc - 0.5) for table in table_of.values() for auc in attacks.label_attacks(table, label).values())


def test_nothing_either_side_sees_orders_the_labels(honest):
    for record in honest.records:
        assert len(record.long) > 100
        assert _worst(attacks.everything(record), honest.label) < attacks.bound(honest.label)


def test_nothing_of_a_training_that_ends_in_second_order_tells_anything_either():
    world = trained(4000, second=True)
    for record in world.records:
        assert _worst(attacks.everything(record), world.label) < attacks.bound(world.label)
    for table in attacks.everything(world.records[1]).values():
        assert abs(attacks.label_beyond(table, world.label, world.known[1])) < 3.5
    for table in attacks.everything(world.records[0]).values():
        assert abs(attacks.extraction(table, world.parts[1], world.known[0])) < 3.5


def test_nothing_the_feature_holder_sees_adds_to_its_own_columns_and_weights(honest):
    for table in attacks.everything(honest.records[1]).values():
        assert abs(attacks.label_beyond(table, honest.label, honest.known[1])) < 3.5


def test_shares_of_the_gradient_have_no_direction(honest):
    found, chance = attacks.direction(honest.records[1], honest.residuals)
    assert found < chance


def test_nothing_the_label_holder_sees_tells_the_other_sides_part_of_the_logit_or_its_features(honest):
    own, features = honest.known[0], honest.blocks[1]
    for table in attacks.everything(honest.records[0]).values():
        assert abs(attacks.extraction(table, honest.parts[1], own)) < 3.5
        found, chance = attacks.canonical(table, features, own)
        assert found[0] < chance


# --- the same attacks where something leaks ---------------------------------------------------------------------------


def test_plain_residuals_give_the_labels_away():
    world = trained(2000, 4, naked=RESIDUAL)
    table = attacks.columns(world.records[1].long, "words")
    found = attacks.label_attacks(table, world.label)
    assert min(found.values()) > 0.95
    assert attacks.label_beyond(table, world.label, world.known[1]) > 10


def test_plain_gradients_have_a_direction():
    world = trained(2000, 12, naked=GRADIENT)
    found, chance = attacks.direction(world.records[1], world.residuals)
    assert found > 1.5 * chance


def test_plain_logits_give_the_other_sides_features_away():
    world = trained(2000, 8, first=1, naked=LOGITS)
    table = attacks.columns(world.records[0].long, "words")
    assert attacks.extraction(table, world.parts[1], world.known[0]) > 10
    found, chance = attacks.canonical(table, world.blocks[1], world.known[0])
    assert (found[:2] > chance).all()  # the trajectory shows more than one direction


def test_masks_used_in_two_passes_give_both_away_by_subtraction():
    world = trained(2000, 8, reused=True)
    table = attacks.everything(world.records[1])["differences"]
    assert max(attacks.label_attacks(table, world.label).values()) > 0.7
    world = trained(2000, 8, first=1, reused=True)
    table = attacks.everything(world.records[0])["differences"]
    found, chance = attacks.canonical(table, world.blocks[1], world.known[0])
    assert found[0] > 1.5 * chance


# --- the wire of the real engine --------------------------------------------------------------------------------------


def on_the_wire(rows, passes):
    """A training on the real engine with fixed secrets, every message of it recorded: the same bytes whenever run."""
    *blocks, label = tables.synthetic(rows, 4, 5)
    pair, records = Pair(), (Record(rows), Record(rows))
    for channel, record in zip(pair.channels, records, strict=True):
        listen(channel, record)
    sides = [Secure(engine, prepare.MATRIX_BITS) for engine in pair.engines]

    def run(ours, theirs):
        return pair.run(lambda _: ours(), lambda _: theirs(), timeout=900)

    return fitted(sides, records, (blocks, label), Settings(passes=passes), run)


def test_the_wire_of_a_short_training_is_all_recorded_and_says_nothing():
    world = on_the_wire(2000, 3)
    for place, record in enumerate(world.records):
        slots = ["slots: first halves", "slots: second halves", "slots: below the share"]
        heard = [*slots, "lift: replies"] if place else ["slots: ciphertexts", "lift: corrections"]
        for name in (*heard, "products: first halves", "gradients: ciphertexts", "series", "lifted", "share of the"):
            numbers = {one.number for one in record.long if one.name.startswith(name)}
            assert {number for number in numbers if number < 1 << 19} == {1, 2, 3}, name  # beyond: the window
        for view in ("words", "low bits"):
            table = attacks.columns(record.long, view)
            assert abs(attacks.label_beyond(table, world.label, world.known[place])) < 3.5
    table = attacks.columns(world.records[0].long, "words")
    assert abs(attacks.extraction(table, world.parts[1], world.known[0])) < 3.5


def test_ciphertexts_without_a_secret_give_the_labels_away(monkeypatch):
    """The control of the wire: were their public half 0, the label holder's residual shares could be read in them."""
    monkeypatch.setattr(lattice, "expand", lambda parameters, _: np.zeros((len(parameters.primes), N), dtype=np.uint64))
    world = on_the_wire(1000, 3)
    table = attacks.columns(world.records[1].long, "words")
    assert attacks.label_attacks(table, world.label)["strongest"] > 0.95


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_wire_of_30000_rows_is_useless_to_every_attack():
    world = on_the_wire(30_000, 10)
    for place, record in enumerate(world.records):
        assert len(record.long) > (250 if place else 700)
        for view in attacks.VIEWS:
            table = attacks.columns(record.long, view)
            found = attacks.label_attacks(table, world.label)
            assert max(abs(auc - 0.5) for auc in found.values()) < 0.015, (place, view, found)
            assert abs(attacks.label_beyond(table, world.label, world.known[place])) < 3.5
            if place == 0:
                assert abs(attacks.extraction(table, world.parts[1], world.known[0])) < 3.5
                found, chance = attacks.canonical(table, world.blocks[1], world.known[0])
                assert found[0] < chance, view
    found, chance = attacks.direction(world.records[1], world.residuals)
    assert found < chance
