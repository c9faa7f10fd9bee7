"""The encryption: encodings against Python integers, formats, randomness, and what the noise tells."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kernels.ntt import N, basis
from kernels.prg import Prg
from mpc import lattice
from mpc.lattice import NARROW, SETS, TRAIN, WIDE, WORD, Budget, Key, Parameters, PublicKey, Secrets
from mpc.linear import smallest_slot_prime
from party.errors import InternalError, PeerError

SLOT = smallest_slot_prime(21)
MODULI = [WORD, SLOT, smallest_slot_prime(33), smallest_slot_prime(48)]


class Scripted:
    """A stream whose next bytes are known."""

    def __init__(self, words: list[int]) -> None:
        self._words = np.array(words, dtype=np.uint64)

    def words(self, count: int) -> np.ndarray:
        taken, self._words = self._words[:count], self._words[count:]
        return taken

    def bytes(self, count: int) -> np.ndarray:
        return self.words(-(-count // 8)).view(np.uint8)[:count]

    @property
    def left(self) -> int:
        return len(self._words)


@pytest.mark.parametrize("parameters", SETS, ids=lambda p: p.name)
def test_primes_are_the_largest_fit_ones_and_within_128_bits_of_security(parameters: Parameters) -> None:
    assert all(p % (2 * N) == 1 and p < 1 << parameters.bits for p in parameters.primes)
    assert len(set(parameters.primes)) == len(parameters.primes)
    assert parameters.modulus_bits <= 218


@pytest.mark.parametrize("t", MODULI)
@pytest.mark.parametrize("parameters", [NARROW, TRAIN], ids=lambda p: p.name)
def test_encoding_is_the_exactly_rounded_quotient(parameters: Parameters, t: int) -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate(
        [np.array([0, 1, 2, t // 2, t // 2 + 1, t - 2, t - 1], np.uint64), rng.integers(0, t, 50, dtype=np.uint64)]
    )
    q = parameters.basis.modulus
    exact = [(2 * q * int(m) + t) // (2 * t) for m in values]
    assert lattice.encode(parameters, values, t).tolist() == [[v % p for v in exact] for p in parameters.primes]


@pytest.mark.parametrize("t", MODULI)
def test_scaling_and_rounding_a_fraction_equal_integers(t: int) -> None:
    rng = np.random.default_rng(2)
    high = np.concatenate([rng.integers(0, 2**64, 200, dtype=np.uint64), np.array([0, 2**64 - 1], np.uint64)])
    low = rng.integers(0, 2**64, 202, dtype=np.uint64)
    whole, fraction = lattice.scaled(high, low, t)
    result = lattice.rounded(high, low, t)
    for i in range(202):
        exact = t * ((int(high[i]) << 64) | int(low[i])) >> 64  # 64 bits after the point
        got = (int(whole[i]) << 64) | int(fraction[i])
        assert 0 <= exact - got <= (2 if t < 1 << 32 or t == WORD else 1 << 34)  # of 2^64: far under the 1/64 kept free
        assert int(result[i]) == ((got + (1 << 63)) >> 64) % t


def test_wire_fractions_round_to_80_bits_and_wrap() -> None:
    high = np.array([0, 1, 2**64 - 1, 2**64 - 1, 5], dtype=np.uint64)
    low = np.array([2**47 - 1, 2**47, 2**64 - 1, 2**64 - 2**47 - 1, 0], dtype=np.uint64)
    data = lattice.to_wire(high, low)
    assert data.shape == (5, 10) and data.dtype == np.uint8
    for i in range(5):
        exact = ((int(high[i]) << 64 | int(low[i])) + (1 << 47) >> 48) % 2**80
        assert int.from_bytes(data[i].tobytes(), "little") == exact
        top, rest = lattice.from_wire(data[i : i + 1])
        assert int(top[0]) << 16 | int(rest[0]) == exact


def test_uniform_skips_words_that_are_too_large_and_takes_the_next() -> None:
    p1, p2, p3 = TRAIN.primes
    high = 0xABCD << 48  # bits over 40 are cut
    script = Scripted([high | 5, 2**40 - 1, p1, 6, p2, p2 - 1, 2**40 - 1, 7, p3, p3 - 1, p3 + 1, 8, 99])
    assert lattice.uniform(TRAIN, script, 2).tolist() == [[5, 6], [p2 - 1, 7], [p3 - 1, 8]]  # type: ignore[arg-type]
    assert script.left == 1  # the page's rule names every word: nothing more is consumed than it says


def test_expansion_depends_on_the_seed_and_on_the_parameter_set_only() -> None:
    first = lattice.expand(NARROW, bytes(16))
    assert np.array_equal(first, lattice.expand(NARROW, bytes(16)))
    assert not np.array_equal(first, lattice.expand(NARROW, bytes(15) + b"\x01"))
    assert not np.array_equal(first, lattice.expand(WIDE, bytes(16))[:3])
    assert (first < NARROW.basis.column).all()
    assert abs(first.astype(np.float64).mean() / 2**50 - 0.5) < 0.01


def test_noise_and_ternary_have_the_distributions_they_claim() -> None:
    e = lattice.noise(Prg(bytes(16), "test"), 1 << 18)
    assert np.abs(e).max() <= 21 and abs(e.mean()) < 0.05 and abs(e.std() - math.sqrt(10.5)) < 0.05
    extreme = Scripted([(1 << 21) - 1, ((1 << 21) - 1) << 21, 2**64 - 1, 0])
    assert lattice.noise(extreme, 4).tolist() == [21, -21, 0, 0]  # type: ignore[arg-type]
    s = lattice.ternary(Prg(bytes(16), "test"), 1 << 18)
    assert sorted(set(s.tolist())) == [-1, 0, 1]
    assert all(abs((s == v).mean() - 1 / 3) < 0.01 for v in (-1, 0, 1))


def test_ternary_skips_byte_255() -> None:
    script = Scripted([0xFF00FF01FF02FFFF] * 40)
    assert set(lattice.ternary(script, 9).tolist()) == {-1, 0, 1}  # type: ignore[arg-type]


@pytest.mark.parametrize("t", MODULI)
def test_masks_are_uniform_and_stay_away_from_halves(t: int) -> None:
    parameters = TRAIN if t < 1 << 40 else WIDE
    r, share = lattice.masks(parameters, Prg(b"m" * 16, "test"), 20_000, t)
    assert r.shape == (len(parameters.primes), 20_000)
    high, low = parameters.basis.fraction(r)
    whole, fraction = lattice.scaled(high, low, t)
    distance = np.abs(fraction.astype(np.float64) / 2**64 - 0.5)
    assert distance.min() >= 1 / 64 - 1e-9
    assert distance.min() < 1 / 60  # it is this limit that bites
    expected = [(-(int(w) + (int(f) >> 63))) % t for w, f in zip(whole[:100], fraction[:100], strict=True)]
    assert share[:100].tolist() == expected
    for row, p in zip(r, parameters.primes, strict=True):
        counts = np.bincount((row.astype(np.float64) / p * 16).astype(int), minlength=16)
        assert ((counts - 1250) ** 2 / 1250).sum() < 60  # chi-squared, 15 degrees of freedom
    counts = np.bincount((share.astype(np.float64) / t * 16).astype(int).clip(0, 15), minlength=16)
    assert ((counts - 1250) ** 2 / 1250).sum() < 60


def _keys(parameters: Parameters) -> tuple[Secrets, Key, PublicKey]:
    secrets = Secrets()
    key = Key(parameters, secrets)
    return secrets, key, PublicKey(parameters, *key.encrypt(None))


def _cipher(parameters: Parameters, seed: bytes, body: np.ndarray) -> np.ndarray:
    return np.stack([lattice.unpack_rows(parameters, body), lattice.expand(parameters, seed)])


@pytest.mark.parametrize("parameters,t", [(NARROW, WORD), (WIDE, WORD), (TRAIN, SLOT), (WIDE, MODULI[3])])
def test_answers_decrypt_to_shares_of_every_coefficient(parameters: Parameters, t: int) -> None:
    secrets, key, public = _keys(parameters)
    values = np.random.default_rng(3).integers(0, t, N, dtype=np.uint64)
    values[:3] = [0, t - 1, t // 2]
    cipher = _cipher(parameters, *key.encrypt(lattice.encode(parameters, values, t)))
    first, second, ours = public.answer_all(secrets, cipher, N, t)
    theirs = key.all(first, second, t)
    assert [(int(a) + int(b)) % t for a, b in zip(ours, theirs, strict=True)] == values.tolist()
    ones = np.ones_like(cipher[0])
    sums = parameters.basis.dot(cipher[0], ones)
    one, all_, share = public.answer_first(secrets, sums, cipher[1], t)
    assert (key.first(one, all_, t) + share) % t == int(values[0])


def test_no_share_of_half_a_million_is_off_by_one() -> None:
    """Must-fail vector: fractions with two-word weights were 2^-76 too small, and one coefficient in 6,000 was off."""
    secrets, key, public = _keys(WIDE)
    values = np.random.default_rng(13).integers(0, 2**64, N, dtype=np.uint64)
    cipher = _cipher(WIDE, *key.encrypt(lattice.encode(WIDE, values, WORD)))
    for _ in range(64):
        first, second, ours = public.answer_all(secrets, cipher, N, WORD)
        assert np.array_equal(ours + key.all(first, second, WORD), values)


def test_the_smallest_prime_set_is_of_the_recipe() -> None:
    assert SLOT == 2277377 and SLOT % (2 * N) == 1
    assert [p for p in (smallest_slot_prime(20), smallest_slot_prime(23)) if p % (2 * N) != 1] == []


def test_without_rerandomising_a_division_returns_the_multipliers_column() -> None:
    """The must-fail attack: c1 of a bare product is a x with a public; the division must find nothing in an answer."""
    _, key, public = _keys(NARROW)
    ring = NARROW.basis
    x = np.random.default_rng(4).integers(-(2**21) + 1, 2**21, N)
    seed, _ = key.encrypt(None)
    a = lattice.expand(NARROW, seed)
    bare = ring.multiply(a, ring.forward(ring.residues(x)))
    assert np.array_equal(_divided(bare, a), x)  # flooding the first half alone would not have changed this half
    _, second, _ = public.answer_first(Secrets(), np.zeros(3, np.uint64), bare, WORD)
    answered = _switched_up(second)
    guess = _divided(answered, a)
    assert np.mean(guess == x) < 0.01
    assert abs(np.corrcoef(guess.astype(np.float64), x.astype(np.float64))[0, 1]) < 0.05


def _divided(second: np.ndarray, a: np.ndarray) -> np.ndarray:
    p = NARROW.primes[0]
    one = basis((p,))
    inverse = np.array([[pow(int(v), -1, p) for v in a[0]]], dtype=np.uint64)
    found = one.inverse(one.multiply(np.ascontiguousarray(second[:1]), inverse))[0].astype(np.int64)
    return np.where(found > p // 2, found - p, found)


def _switched_up(second: np.ndarray) -> np.ndarray:
    """What the owner can rebuild of the second half from 80 bits: the nearest element modulo q, transformed."""
    top, rest = lattice.from_wire(second)
    q = NARROW.basis.modulus
    values = [((int(h) << 16 | int(low)) * q + (1 << 79)) >> 80 for h, low in zip(top, rest, strict=True)]
    rows = np.array([[v % p for v in values] for p in NARROW.primes], dtype=np.uint64)
    return NARROW.basis.forward(rows)


def test_two_answers_to_one_question_share_nothing() -> None:
    secrets, key, public = _keys(NARROW)
    cipher = _cipher(NARROW, *key.encrypt(None))
    sums = NARROW.basis.dot(cipher[0], cipher[0])
    one, two = (public.answer_first(secrets, sums, cipher[1], WORD) for _ in range(2))
    assert not np.array_equal(one[0], two[0]) and one[2] != two[2]
    assert np.mean(one[1] == two[1]) < 0.02


def test_seeds_never_repeat_and_a_second_use_is_refused() -> None:
    secrets = Secrets()
    seeds = [secrets.seed() for _ in range(2000)] + [Secrets().seed() for _ in range(100)]
    assert len(set(seeds)) == len(seeds)
    with pytest.raises(InternalError):
        secrets.claim(seeds[7])
    key = Key(TRAIN, secrets)
    first, second = key.encrypt(None), key.encrypt(None)
    assert first[0] != second[0] and not np.array_equal(first[1], second[1])


def test_residues_at_or_over_the_prime_are_refused() -> None:
    for parameters in SETS:
        rows = np.zeros((len(parameters.primes), N), dtype=np.uint64)
        rows[-1, -1] = parameters.primes[-1] - 1
        assert np.array_equal(lattice.unpack_rows(parameters, parameters.basis.pack(rows, parameters.bits)), rows)
        rows[-1, -1] += np.uint64(1)
        with pytest.raises(PeerError):
            lattice.unpack_rows(parameters, parameters.basis.pack(rows, parameters.bits))


def test_hiding_is_what_the_recipe_says() -> None:
    assert round(lattice.hiding_bits(NARROW, 2**20, 22, 1)) == 53
    assert round(lattice.hiding_bits(TRAIN, N * 48, math.log2(SLOT), 1, SLOT)) == 68
    assert 33 <= lattice.hiding_bits(NARROW, N * 50, 22, 2**20) <= 34  # why matrix products take four primes
    assert lattice.hiding_bits(WIDE, N * 50, 22, 2**20) > 80


def test_budget_refuses_the_answer_that_would_leave_less_than_40_bits() -> None:
    budget = Budget()
    one = 2.0 ** -lattice.hiding_bits(NARROW, 2**20, 22, 1024)
    allowed = int(2.0**-40 / one)
    for _ in range(allowed):
        budget.spend(NARROW, 2**20, 22, 1024)
    with pytest.raises(InternalError):
        budget.spend(NARROW, 2**20, 22, 1024)
    budget.spend(NARROW, 2**20, 2, 1)  # narrower ones still fit what is left
