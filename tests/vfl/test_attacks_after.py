"""The attacks on what surrounds the passes: preparation, inference, metrics, scores; and runs that are repeated.

All on the real engine with fixed secrets, so that the same bytes are attacked whenever the tests run.
"""

import numpy as np
import pytest

from party.request import Opening
from tests.vfl import attacks, tables
from tests.vfl.real import Pair
from tests.vfl.recording import Record, watch
from vfl import inference, prepare, spec
from vfl.evidence import Sorted, counts_feature_holder, counts_label_holder
from vfl.inference import Sample, infer
from vfl.metrics_shared import measure
from vfl.model import ModelHalf
from vfl.recipes import DROPPED, MATRIX, TIES, Screen, counts_name
from vfl.score import open_partial_logits
from vfl.screening import Side, screen
from vfl.secure import Secure
from vfl.wanted import ENDS, Wanted

ROWS = 2000
BOTH = ("bank", "telco")


class Allowed:
    """A request that opens these names to both."""

    def __init__(self, *names):
        self.openings = [Opening(name, party) for name in names for party in BOTH]


class World:
    """Two sides' columns, the label at bank, weights near the pooled ones, and a record of each side's view."""

    def __init__(self, *names, rows=ROWS, seed=4):
        *self.blocks, self.label = tables.synthetic(rows, 4, 5, seed)
        whole = tables.pooled(self.blocks, self.label, 1.0)
        self.weights = whole[1:5], whole[5:]
        self.parts = [block @ own for block, own in zip(self.blocks, self.weights, strict=True)]
        self.parts[0] += whole[0]
        self.intercept = float(whole[0])
        self.pair = Pair(Allowed(*names))
        self.pair.engines = [engine.seeded(name.encode()) for engine, name in zip(self.pair.engines, BOTH, strict=True)]
        self.records = Record(rows), Record(rows)
        for engine, record in zip(self.pair.engines, self.records, strict=True):
            watch(engine, record)

    def run(self, ours, theirs):
        found = self.pair.run(ours, theirs)
        for record in self.records:
            record.end()
        return found

    def only(self, rows):
        """Leave the other rows out of what the attacks compare with."""
        self.blocks, self.parts = [block[rows] for block in self.blocks], [part[rows] for part in self.parts]
        self.label = self.label[rows]

    @property
    def known(self):
        return [np.column_stack([block, part]) for block, part in zip(self.blocks, self.parts, strict=True)]


def says_nothing(world):
    """The label holder's view says nothing of the other side's features, the feature holder's nothing of the labels.

    One in a hundred honest records has a correlation above the 99th percentile; these have fixed bytes.
    """
    for view in ("words", "low bits"):
        if world.records[0].long:
            table, own = attacks.columns(world.records[0].long, view), world.known[0]
            assert abs(attacks.extraction(table, world.parts[1], own)) < 3.5, view
            correlations, chance = attacks.canonical(table, world.blocks[1], own)
            assert correlations[0] < chance < 0.8, view
        if world.records[1].long:
            table = attacks.columns(world.records[1].long, view)
            found = attacks.label_attacks(table, world.label)
            assert max(abs(auc - 0.5) for auc in found.values()) < attacks.bound(world.label), (view, found)
            assert abs(attacks.label_beyond(table, world.label, world.known[1])) < 3.5, view


def heard(world, place, *names):
    """That the record is not empty where messages came: names of what is row-shaped at this side."""
    seen = {one.name for one in world.records[place].long}
    for name in names:
        assert any(one.startswith(name) for one in seen), (name, sorted(seen))


def test_weights_of_evidence_show_counts_and_nothing_of_a_row():
    world = World(counts_name("telco.x0"), counts_name("telco.x1"))
    lines = [Sorted(f"telco.x{i}", np.digitize(world.blocks[1][:, i], (-1.0, 0.0, 1.0)), (0, 1, 2, 3)) for i in (0, 1)]
    _, groups = world.run(
        lambda engine: counts_label_holder(engine, world.label, [("telco.x0", 4), ("telco.x1", 4)]),
        lambda engine: counts_feature_holder(engine, lines, ROWS),
    )
    assert len(groups[0]) == 4
    heard(world, 1, "receive: ciphertexts")
    heard(world, 0, "inner_owner: second halves")
    says_nothing(world)


@pytest.mark.parametrize("wanted", [Screen(correlation=0.9), Screen(correlation=0.9, vif=10.0)])
def test_a_screen_shows_its_bits_or_correlations_and_nothing_of_a_row(wanted):
    world = World(TIES, DROPPED, MATRIX)
    world.run(
        lambda engine: screen(engine, world.blocks[0], Side(True, 5), wanted),
        lambda engine: screen(engine, world.blocks[1], Side(False, 4), wanted),
    )
    heard(world, 1, "receive: ciphertexts")
    says_nothing(world)


def test_inference_shows_errors_and_nothing_of_a_row():
    names = (inference.REACH, inference.LIKELIHOOD, inference.DETERMINED, *map(inference.errors_name, BOTH))
    world = World(*names)

    def side(place):
        columns = tuple(f"x{i}" for i in range(world.blocks[place].shape[1]))
        scale = (0.0,) * len(columns), (1.0,) * len(columns)
        own = tuple(map(float, world.weights[place]))
        half = ModelHalf(columns, *scale, own, None if place else world.intercept, None)
        sample = Sample(world.blocks[place], world.parts[place], None if place else world.label)
        return lambda engine: infer(Secure(engine, prepare.MATRIX_BITS), sample, half, 1.0, 5)

    found = world.run(side(0), side(1))
    assert found[0].refusal is None
    heard(world, 0, "slots_multiplier: ciphertexts", "between: ciphertexts")
    heard(world, 1, "slots_owner: first halves", "slots_owner: below the share", "between: ciphertexts")
    says_nothing(world)


def test_metrics_show_their_numbers_and_nothing_of_a_row():
    wanted = Wanted(brier=True, threshold=0.3, groups=10)
    test = np.arange(ROWS) >= 100
    world = World(*wanted.names, ENDS)
    for record in world.records:
        record.rows = int(test.sum())
    world.records[0].characters = 1024  # of a row of 1,900, eight rows in a ciphertext
    found = world.run(
        lambda engine: measure(engine, wanted, world.parts[0], world.label, test, 9),
        lambda engine: measure(engine, wanted, world.parts[1], None, test, 9),
    )
    assert found[0].auc is not None and found[0].more["by_score"] is not None
    heard(world, 0, "slots_multiplier: ciphertexts 63", "receive: ciphertexts")
    world.only(test)
    for record in world.records:  # what follows the counts is of cells, not of rows
        record.long = [one for one in record.long if one.name.startswith(("slots", "receive", "inner"))]
    says_nothing(world)


def test_scores_show_one_direction_of_the_givers_features_to_the_agreed_rounding():
    world = World(spec.SCORES)
    logits, none = world.run(
        lambda engine: open_partial_logits(engine, world.parts[0], spec.SCORES, "bank"),
        lambda engine: open_partial_logits(engine, world.parts[1], spec.SCORES, "bank"),
    )
    assert none is None
    shown = (logits - world.parts[0])[:, None]
    record, own, features = world.records[0], world.known[0], world.blocks[1]
    table = np.hstack([shown / shown.std(), attacks.columns(record.long, "words")])
    found, chance = attacks.canonical(table, features, own)
    assert found[0] > 0.999 and found[1] < chance
    # what the cut leaves of the part is within one unit, fills it, and points nowhere
    left = shown[:, 0] - world.parts[1]
    assert np.abs(left).max() < 1 / 512 and left.std() > 0.2 / 512
    assert abs(attacks.extraction(np.column_stack([left / left.std(), table[:, 1:]]), world.parts[1], own)) < 3.5
    says_nothing(world)


def test_the_attack_finds_as_many_directions_as_models_were_shown():
    """The control, and why models are counted: two models' scores show two directions."""
    world = World(spec.SCORES)
    parts = [world.parts[1], world.blocks[1] @ np.random.default_rng(8).normal(size=5)]
    for part in parts:
        world.run(
            lambda engine: open_partial_logits(engine, world.parts[0], spec.SCORES, "bank"),
            lambda engine, part=part: open_partial_logits(engine, part, spec.SCORES, "bank"),
        )
    table = attacks.columns(world.records[0].long, "words")
    shown = np.column_stack(parts)
    found, chance = attacks.canonical(np.hstack([shown, table]), world.blocks[1], world.known[0])
    assert (found[:2] > 0.999).all() and found[2] < chance
