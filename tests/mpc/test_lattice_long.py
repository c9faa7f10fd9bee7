"""Inner products modulo 2^104: encoding, masks and formats against integers; the engine between two threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kernels.ntt import N, basis
from kernels.prg import Prg
from mpc import exchange, lattice, lattice_long, long
from mpc.exchange import Ciphertexts, Firsts, LongFirsts
from mpc.lattice import NARROW, WIDE, Budget, Key, PublicKey, Secrets
from mpc.lattice_long import LONG
from mpc.linear import Linear
from mpc.linear_cost import Cost, key_bytes, predict_inner, predict_long, predict_upload, predict_upload_long
from party.errors import InternalError, PeerError
from tests.support import channels, run_pair

TOP = 2**62
ENDS = [0, 1, -1, TOP, -TOP, TOP - 1, 1 - TOP, 2**63 - 1, -(2**63), 2**40, -(2**40), 2**32 - 1]


def _keys() -> tuple[Secrets, Key, PublicKey]:
    secrets = Secrets()
    key = Key(WIDE, secrets)
    return secrets, key, PublicKey(WIDE, *key.encrypt(None))


def test_encoding_is_the_exactly_rounded_quotient() -> None:
    values = np.concatenate([np.array(ENDS), np.random.default_rng(1).integers(-(2**63), 2**63 - 1, 60)])
    q = WIDE.basis.modulus
    exact = [(2 * q * int(m) + LONG) // (2 * LONG) for m in values]
    assert lattice_long.encode_long(values).tolist() == [[v % p for v in exact] for p in WIDE.primes]
    with pytest.raises(InternalError):
        lattice_long.encode_long(values.astype(np.uint64))


def test_wire_fractions_round_to_120_bits_and_wrap() -> None:
    high = np.array([0, 1, 2**64 - 1, 2**64 - 1, 5], dtype=np.uint64)
    low = np.array([127, 128, 2**64 - 1, 2**64 - 129, 2**63 + 200], dtype=np.uint64)
    data = lattice_long.to_wire_long(high, low)
    assert data.shape == (5, 15) and data.dtype == np.uint8
    for row, h, rest in zip(data, high, low, strict=True):
        assert int.from_bytes(row.tobytes(), "little") == ((int(h) << 64 | int(rest)) + 128 >> 8) % 2**120


def test_masks_are_uniform_and_stay_away_from_halves() -> None:
    stream, nearest, sixteenths = Prg(b"m" * 16, "test"), LONG, np.zeros((5, 16))
    modulus, factors = WIDE.basis.modulus, [WIDE.basis.modulus // p for p in WIDE.primes]
    for _ in range(4000):
        r, share = lattice_long.mask_long(stream)
        parts = zip(r[:, 0], factors, WIDE.basis.parts, strict=True)
        whole = sum(int(residue) * factor * part for residue, factor, part in parts) % modulus
        assert share == -((2 * LONG * whole + modulus) // (2 * modulus)) % LONG
        fraction = (LONG * whole % modulus << 20) // modulus
        nearest = min(nearest, abs(fraction - (1 << 19)))
        for place, (value, of) in enumerate(zip([*r[:, 0], share], [*WIDE.primes, LONG], strict=True)):
            sixteenths[place, int(value) * 16 // of] += 1
    assert (1 << 14) - 1 <= nearest < 1 << 14 + 1  # 1/64, and it is this limit that bites
    assert (((sixteenths - 250) ** 2 / 250).sum(axis=1) < 60).all()  # chi-squared, 15 degrees of freedom


def test_no_share_of_hundreds_is_off_by_one() -> None:
    secrets, key, public = _keys()
    ring = WIDE.basis
    for value in ENDS * 16:
        seed, body = key.encrypt(lattice_long.encode_long(np.full(N, value)))
        cipher = lattice.expanded(WIDE, seed, body)
        total = ring.dot(cipher[0], np.ones_like(cipher[0]))
        first, second, share = lattice_long.answer_long(public, secrets, total, cipher[1])
        assert (lattice_long.decrypt_long(key, first, second) + share - value) % LONG == 0


def test_without_rerandomising_a_division_returns_the_multipliers_column() -> None:
    """As for narrow answers: the second half of a bare product is a x; an answer's says nothing."""
    _, key, public = _keys()
    ring, p = WIDE.basis, WIDE.primes[0]
    x = np.random.default_rng(4).integers(-(2**21) + 1, 2**21, N)
    seed, _ = key.encrypt(None)
    a = lattice.expand(WIDE, seed)
    bare = ring.multiply(a, ring.forward(ring.residues(x)))

    def divided(second: np.ndarray) -> np.ndarray:
        one = basis((p,))
        inverse = np.array([[pow(int(v), -1, p) for v in a[0]]], dtype=np.uint64)
        found = one.inverse(one.multiply(np.ascontiguousarray(second[:1]), inverse))[0].astype(np.int64)
        return np.where(found > p // 2, found - p, found)

    assert np.array_equal(divided(bare), x)
    _, second, _ = lattice_long.answer_long(public, Secrets(), np.zeros(4, np.uint64), bare)
    q = ring.modulus
    up = [(int.from_bytes(row.tobytes(), "little") * q + (1 << 119)) >> 120 for row in second]
    rows = np.array([[value % prime for value in up] for prime in WIDE.primes], dtype=np.uint64)
    guess = divided(ring.forward(rows))
    assert np.mean(guess == x) < 0.01
    assert abs(np.corrcoef(guess.astype(np.float64), x.astype(np.float64))[0, 1]) < 0.05


def test_hiding_is_ten_bits_more_than_narrow_and_the_budget_ends() -> None:
    narrow, wide = (lattice.hiding_bits(one, 2**20, 22, 1, t) for one, t in ((NARROW, 2**64), (WIDE, LONG)))
    assert 62 < wide < 64 and 9.9 < wide - narrow < 10.1
    budget = Budget()
    budget.spend(WIDE, 2**20, 22, 2**22, LONG)
    with pytest.raises(InternalError, match="bits of hiding"):
        budget.spend(WIDE, 2**20, 22, 2**23, LONG)


# --- between two threads ----------------------------------------------------------------------------------------------


def _pair() -> tuple[Linear, Linear, Callable[..., Any]]:
    ours, theirs = channels()
    return Linear(ours, 0), Linear(theirs, 1), lambda f, g: run_pair(f, g, ours, theirs)


def _inner(columns: np.ndarray, rows: np.ndarray, bits: int) -> list[list[int]]:
    a, b, run = _pair()
    ours, theirs = run(
        lambda: a.long_owner(a.upload_long(columns), len(rows)),
        lambda: b.long_multiplier(b.receive_long(*columns.shape), rows, bits),
    )
    assert ours.shape == theirs.shape == (len(columns), len(rows), 2)
    assert int(ours[..., 1].max(initial=0)) < 2**40 > int(theirs[..., 1].max(initial=0))
    found = [value % LONG for value in long.integers(long.add(ours, theirs, 2).reshape(-1, 2))]
    signed = [value - LONG if value >= LONG // 2 else value for value in found]
    return [signed[start : start + len(rows)] for start in range(0, len(signed), len(rows))]


def _exact(columns: np.ndarray, rows: np.ndarray) -> list[list[int]]:
    return [[sum(int(x) * int(y) for x, y in zip(c, r, strict=True)) for r in rows] for c in columns]


@pytest.mark.parametrize("n", [0, 1, N - 1, N + 1, 2 * N + 3])
def test_inner_products_are_exact(n: int) -> None:
    rng = np.random.default_rng(n)
    top = 2**21 - 1
    columns = np.stack([rng.integers(-TOP, TOP, n, endpoint=True), np.full(n, TOP), np.full(n, -TOP)])
    rows = np.stack([rng.integers(-top, top, n, endpoint=True), np.full(n, top), np.full(n, -top)])
    assert _inner(columns, rows, 22) == _exact(columns, rows)
    assert _inner(columns[:1], rows[:2] >> 10, 13) == _exact(columns[:1], rows[:2] >> 10)


def test_worst_case_noise_does_not_move_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise at its bound with the multiplier's signs: sums 2^18.6 times what chance would make them."""
    signs = np.where(np.random.default_rng(9).integers(0, 2, N) == 1, 1, -1)
    monkeypatch.setattr(lattice, "noise", lambda stream, count: 21 * signs[:count].astype(np.int64))
    rows = np.tile(signs * (2**21 - 1), 2)[None].astype(np.int64)
    columns = np.random.default_rng(10).integers(-TOP, TOP, (1, 2 * N))
    assert _inner(columns, rows, 22) == _exact(columns, rows)


def test_bytes_and_rounds_are_the_declared_ones_beside_narrow_columns() -> None:
    a, b, run = _pair()
    n, rng = N + 100, np.random.default_rng(11)
    columns, rows = rng.integers(-TOP, TOP, (20, n)), rng.integers(-2, 2, (4, n))
    up, got = run(lambda: a.upload_long(columns), lambda: b.receive_long(20, n))
    narrow, kept = run(lambda: a.upload(columns.view(np.uint64)), lambda: b.receive(20, n))
    for _ in range(2):  # an upload meets many multipliers
        ours, theirs = run(lambda: a.long_owner(up, 4), lambda: b.long_multiplier(got, rows, 3))
        found = [v % LONG for v in long.integers(long.add(ours, theirs, 2).reshape(-1, 2))]
        assert found == [v % LONG for some in _exact(columns, rows) for v in some]
    run(lambda: a.inner_owner(narrow, 4, 3), lambda: b.inner_multiplier(kept, rows, 3))
    costs = [predict_upload_long(20, n), predict_long(20, 4), predict_long(20, 4)]
    costs += [predict_upload(20, n), predict_inner(20, 4, 3)]
    assert a.channel.counters.sent == key_bytes(WIDE) + key_bytes(NARROW) + sum(cost.owner for cost in costs)
    assert b.channel.counters.sent == sum(cost.multiplier for cost in costs)
    million = predict_upload_long(1, 1_000_000)
    assert 25.0 < million.owner / (-(-1_000_000 // N) * N) < 25.01 and million.rounds == 0
    assert predict_long(1, 1) == Cost(0, 122_895 + 32, 1)


@pytest.mark.parametrize(
    ("rows", "bits"),
    [
        (np.full((1, 10), 8, np.int64), 4),
        (np.zeros((1, 10), np.int64), 23),
        (np.zeros((1, 9), np.int64), 4),
        (np.zeros((1, 10), np.uint64), 4),
    ],
)
def test_a_multiplier_outside_its_declaration_is_refused_before_anything_is_sent(rows: np.ndarray, bits: int) -> None:
    a, b, run = _pair()
    _, got = run(lambda: a.upload_long(np.zeros((1, 10), np.int64)), lambda: b.receive_long(1, 10))
    with pytest.raises(InternalError):
        b.long_multiplier(got, rows, bits)
    assert b.channel.counters.messages_sent == 0


def test_columns_modulo_2_64_are_not_answered_modulo_2_104() -> None:
    a, b, run = _pair()
    _, got = run(lambda: a.upload(np.zeros((1, 10), np.uint64)), lambda: b.receive(1, 10))
    with pytest.raises(InternalError):
        b.long_multiplier(got, np.zeros((1, 10), np.int64), 4)


def test_a_run_that_asks_for_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lattice, "HIDING_BITS", 68.0)  # 100 rows at 22 bits leave 70 of one answer
    a, b, run = _pair()
    up, got = run(lambda: a.upload_long(np.zeros((1, 100), np.int64)), lambda: b.receive_long(1, 100))
    rows, answers = np.ones((1, 100), np.int64), 0
    with pytest.raises(InternalError, match="bits of hiding"):
        for _ in range(32):
            run(lambda: a.long_owner(up, 1), lambda: b.long_multiplier(got, rows, 22))
            answers += 1
    assert 0 < answers < 32


@pytest.mark.parametrize(
    "answer",
    [
        LongFirsts(np.zeros((2, 1, 15), np.uint8), np.zeros((2, N, 15), np.uint8)),
        LongFirsts(np.zeros((1, 1, 15), np.uint8), np.zeros((2, N, 15), np.uint8)),
        LongFirsts(np.zeros((0, 1, 15), np.uint8), np.zeros((0, N, 15), np.uint8)),
        Firsts(np.zeros((1, 1, 10), np.uint8), np.zeros((1, N, 10), np.uint8)),
    ],
    ids=["too-many", "halves-differ", "none", "modulo-2^64"],
)
def test_a_wrong_answer_is_refused(answer: Any) -> None:
    ours, theirs = channels()
    theirs.send(answer)
    engine = Linear(ours, 0)
    with pytest.raises(PeerError):
        engine.long_owner(engine.upload_long(np.ones((1, 10), np.int64)), 1)


def test_narrow_ciphertexts_and_keys_are_refused_where_wide_ones_are_due() -> None:
    for number, parameters in ((0, NARROW), (1, WIDE)):
        ours, theirs = channels()
        ours.send(exchange.PublicKey(number, *Key(parameters, Secrets()).encrypt(None)))
        seed, body = Key(NARROW, Secrets()).encrypt(None)
        ours.send(Ciphertexts(np.frombuffer(seed, np.uint8)[None], body[None]))
        with pytest.raises(PeerError):
            Linear(theirs, 1).receive_long(1, 10)
