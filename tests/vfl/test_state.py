"""A cut run goes on where both sides stood, with the same weights; anything else starts afresh or is refused."""

import numpy as np
import pytest

from party.errors import InternalError
from tests.support import run_pair
from tests.vfl import ideal, tables
from vfl.prepare import Known
from vfl.sides import Settings
from vfl.state import FileCheckpoints, MemoryCheckpoints, State, resume, saved
from vfl.train import fit_weights

TABLE = tables.synthetic(1500)


def _fit(stores, seed, cut=None, settings=None):
    a, b = ideal.pair(seed)
    if cut is not None:
        (a if cut[0] == 0 else b).cut_after = cut[1]
    numbers = []
    ours, theirs, label = TABLE
    settings = settings or Settings()
    halves = run_pair(
        lambda: fit_weights(a, (ours, Known(label), 5), settings, stores[0], lambda number, _: numbers.append(number)),
        lambda: fit_weights(b, (theirs, Known(), 5), settings, stores[1]),
    )
    return np.concatenate([half.weights for half in halves]), halves[0].passes, numbers


@pytest.mark.parametrize("cut", [(0, 61), (1, 62), (1, 90)])
def test_a_cut_run_repeats_at_most_one_pass_and_ends_with_the_very_same_weights(tmp_path, cut):
    folders = [(tmp_path / name / "bank", tmp_path / name / "telco") for name in ("cut", "whole")]
    stores = [tuple(FileCheckpoints(place) for place in pair) for pair in folders]
    for ours, others in zip(*stores, strict=True):  # the same secrets, as if the run had not been cut
        ours.secret()
        (others._folder / "secret").write_bytes(ours.secret())
    with pytest.raises(ConnectionError):
        _fit(stores[0], 2, cut)
    done = min(len_done(store) for store in stores[0])
    assert done > 2
    weights, passes, numbers = _fit(stores[0], 3)
    assert numbers[0] == done + 1
    whole, all_passes, _ = _fit(stores[1], 4)
    np.testing.assert_array_equal(weights, whole)
    assert passes == all_passes


def test_other_secrets_change_the_weights_by_rounding_only():
    settings = Settings(passes=24)
    found = [_fit((MemoryCheckpoints(), MemoryCheckpoints()), seed, settings=settings)[0] for seed in (1, 3)]
    assert 0 < tables.distance(*found) < 2e-3


def test_other_inputs_begin_anew_under_other_randomness():
    a, b = ideal.pair(9)
    stores = (MemoryCheckpoints(), MemoryCheckpoints())
    state = State(weights=np.zeros((3, 10), dtype=np.uint64), period=64, number=4)
    names = []
    for inputs in (b"table", b"table", b"changed"):
        (ours, run), (theirs, other) = run_pair(
            lambda inputs=inputs: resume(a, stores[0], inputs, 10), lambda: resume(b, stores[1], b"theirs", 10)
        )
        assert run == other and (ours is None) == (theirs is None)
        names.append((run, ours is not None))
        for store in stores:
            saved(store, state, run)
    assert names[0][0] == names[1][0] != names[2][0]
    assert [found for _, found in names] == [False, True, False]


def len_done(store):
    return max((int(entry["numbers"][0]) for entry in store.load()), default=0)


def test_a_finished_training_opens_the_same_shares_again():
    stores = (MemoryCheckpoints(), MemoryCheckpoints())
    first, passes, _ = _fit(stores, 4)
    again, passes_again, numbers = _fit(stores, 5)
    np.testing.assert_array_equal(first, again)
    assert numbers == [] and passes == passes_again


def test_checkpoints_of_different_runs_are_never_joined():
    stores = (MemoryCheckpoints(), MemoryCheckpoints())
    _fit(stores, 6, settings=Settings(passes=3))
    others = (MemoryCheckpoints(), MemoryCheckpoints())
    _fit(others, 7, settings=Settings(passes=3))
    _, _, numbers = _fit((stores[0], others[1]), 8, settings=Settings(passes=4))
    assert numbers == [1, 2, 3, 4]


def test_the_side_that_is_ahead_goes_back_to_the_common_pass():
    a, b = ideal.pair(9)
    stores = (MemoryCheckpoints(), MemoryCheckpoints())

    def both():
        return run_pair(lambda: resume(a, stores[0], b"ours", 10), lambda: resume(b, stores[1], b"theirs", 10))

    (_, run), _ = both()
    weights = np.arange(30, dtype=np.uint64).reshape(3, 10)
    for number in (4, 5):
        for store in stores[: 6 - number]:
            saved(store, State(weights=weights + np.uint64(number), period=64, number=number, k=number), run)
    # number 4 is at both sides, number 5 at the first only
    (ours, first), (theirs, second) = both()
    assert ours.number == theirs.number == 4 and first == second == run
    np.testing.assert_array_equal(ours.weights, weights + np.uint64(4))
    for name in ("best", "best_loss", "halvings", "waited", "has_best", "stopped"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(State(weights, 64), name))


def test_files_keep_the_last_passes_only_and_round_trip(tmp_path):
    store = FileCheckpoints(tmp_path / "c")
    state = State(weights=np.arange(9, dtype=np.uint64).reshape(3, 3), period=128, number=0, k=2, has_loss=True)
    for number in range(1, 8):
        saved(store, State(**{**state.__dict__, "number": number}), b"x")
    kept = store.load()
    assert [int(entry["numbers"][0]) for entry in kept] == [7, 6, 5]
    np.testing.assert_array_equal(kept[0]["weights"], state.weights)
    # after going back, what lay beyond is gone
    saved(store, State(**{**state.__dict__, "number": 6}), b"y")
    assert [int(entry["numbers"][0]) for entry in store.load()] == [6, 5]
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "c").iterdir()} == {0o600}


def test_the_secret_is_drawn_once_and_a_damaged_one_is_refused(tmp_path):
    store = FileCheckpoints(tmp_path / "c")
    first = store.secret()
    assert len(first) == 48 and FileCheckpoints(tmp_path / "c").secret() == first
    assert (tmp_path / "c" / "secret").stat().st_mode & 0o777 == 0o600
    assert FileCheckpoints(tmp_path / "d").secret() != first
    (tmp_path / "c" / "secret").write_bytes(first[:-1])
    with pytest.raises(InternalError, match="secret"):
        store.secret()


def test_a_damaged_file_is_our_own_fault_and_says_which(tmp_path):
    store = FileCheckpoints(tmp_path)
    saved(store, State(weights=np.zeros((3, 2), dtype=np.uint64), period=64, number=1), b"x")
    (tmp_path / "pass-0001.npz").write_bytes(b"not a zip")
    with pytest.raises(InternalError, match="pass-0001"):
        store.load()
