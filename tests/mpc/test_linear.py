"""The linear engine between two threads: exact shares, declared bytes and rounds, bad peers, an independent library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kernels.ntt import N, basis
from mpc import encrypted, exchange, lattice
from mpc.exchange import Ciphertexts, Firsts, PublicKey, Ready, Rows
from mpc.lattice import NARROW, TRAIN, WIDE, WORD, Key, Secrets
from mpc.linear import Linear, smallest_slot_prime
from mpc.linear_cost import Cost, key_bytes, predict_inner, predict_matvec, predict_slots, predict_upload
from party.errors import InternalError, PeerError
from tests.support import channels, run_pair

SLOT = smallest_slot_prime(21)


def _pair() -> tuple[Linear, Linear, Callable[..., Any]]:
    ours, theirs = channels()

    def run(f: Callable[[], Any], g: Callable[[], Any]) -> tuple[Any, Any]:
        return run_pair(f, g, ours, theirs)

    return Linear(ours, 0), Linear(theirs, 1), run


def _inner(columns: np.ndarray, rows: np.ndarray, bits: int) -> np.ndarray:
    a, b, run = _pair()
    ours, theirs = run(
        lambda: a.inner_owner(a.upload(columns), len(rows), bits),
        lambda: b.inner_multiplier(b.receive(*columns.shape), rows, bits),
    )
    assert ours.dtype == theirs.dtype == np.uint64
    return np.asarray(ours + theirs)


def _words(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 2**64, shape, dtype=np.uint64)


@pytest.mark.parametrize("n", [0, 1, 2, N - 1, N, N + 1, 2 * N + 3])
def test_inner_products_are_exact_modulo_2_64(n: int) -> None:
    rng = np.random.default_rng(n)
    columns, rows = _words(rng, 2, n), rng.integers(-(2**21) + 1, 2**21, (3, n))
    assert np.array_equal(_inner(columns, rows, 22), columns @ rows.T.view(np.uint64))


@pytest.mark.parametrize("bits", [1, 2, 22, 23, 44, 45, 63])
def test_inner_products_with_every_number_of_limbs_at_the_ends_of_the_range(bits: int) -> None:
    top = 2 ** (bits - 1) - 1
    rng = np.random.default_rng(bits)
    rows = np.stack([np.full(N + 5, top), np.full(N + 5, -top), rng.integers(-top, top, N + 5, endpoint=True)]).astype(
        np.int64
    )
    columns = np.stack([np.full(N + 5, 2**64 - 1, np.uint64), np.full(N + 5, 1 << 63, np.uint64), _words(rng, N + 5)])
    assert np.array_equal(_inner(columns, rows, bits), columns @ rows.T.view(np.uint64))


def test_shares_alone_say_nothing_and_change_with_every_run() -> None:
    columns, rows = np.zeros((1, 10), np.uint64), np.zeros((1, 10), np.int64)
    a, b, run = _pair()
    shares = []
    for _ in range(8):
        ours, theirs = run(
            lambda: a.inner_owner(a.upload(columns), 1, 22), lambda: b.inner_multiplier(b.receive(1, 10), rows, 22)
        )
        assert (ours + theirs).tolist() == [[0]]
        shares.append(int(theirs[0, 0]))
    assert len(set(shares)) == 8 and 0 not in shares


def test_one_upload_answers_several_queries_also_when_it_is_kept_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    columns = _words(rng, 3, N + 7)
    queries = [rng.integers(-1000, 1000, (r, N + 7)) for r in (1, 30, 2)]  # 90 answers: two messages
    for room, answers, factors, segment in (
        (1 << 30, 256, 64, 1 << 28),
        (0, 256, 64, 0),
        (0, 64, 30, 0),
        (1 << 30, 4, 7, 0),
    ):
        monkeypatch.setattr(encrypted, "_EXPANDED_BYTES", room)
        monkeypatch.setattr(encrypted, "_ANSWERS", answers)  # tiles of whole columns, or of some rows of one column
        monkeypatch.setattr(encrypted, "_FACTORS", factors)
        monkeypatch.setattr(encrypted, "_SEGMENT_BYTES", segment)  # block by block, or all at once
        a, b, run = _pair()
        up, got = run(lambda a=a: a.upload(columns), lambda b=b: b.receive(3, N + 7))
        for rows in queries:
            ours, theirs = run(
                lambda a=a, up=up, rows=rows: a.inner_owner(up, len(rows), 11),
                lambda b=b, got=got, rows=rows: b.inner_multiplier(got, rows, 11),
            )
            assert np.array_equal(ours + theirs, columns @ rows.T.view(np.uint64))


@pytest.mark.parametrize("n", [0, 1, N, N + 1])
@pytest.mark.parametrize("bits", [20, 40])
def test_matrix_times_encrypted_vector_is_exact(n: int, bits: int) -> None:
    rng = np.random.default_rng(6)
    top = 2 ** (bits - 1) - 1
    weights, matrix = _words(rng, 5), rng.integers(-top, top, (5, n), endpoint=True)
    weights[:2] = [2**64 - 1, 2**63]
    matrix[:, :1] = [[top], [-top], [top], [-top], [top]]
    a, b, run = _pair()
    ours, theirs = run(lambda: a.matvec_vector(weights, n), lambda: b.matvec_matrix(matrix, bits))
    assert np.array_equal(ours + theirs, matrix.T.view(np.uint64) @ weights)


@pytest.mark.parametrize("t", [SLOT, smallest_slot_prime(25), smallest_slot_prime(35), smallest_slot_prime(49)])
@pytest.mark.parametrize("n", [0, 3, N + 1])
def test_slot_products_are_exact_modulo_the_prime(t: int, n: int) -> None:
    rng = np.random.default_rng(7)
    values, factors = rng.integers(0, t, (3, n), dtype=np.uint64), rng.integers(0, t, (2, 3, n), dtype=np.uint64)
    values[:, :1], factors[:, :, :1] = t - 1, t - 1
    factors[0, :, 1:2] = 0
    a, b, run = _pair()
    ours, theirs = run(lambda: a.slots_owner(values, t, 2), lambda: b.slots_multiplier(factors, t))
    exact = (factors.astype(object) * values.astype(object)).sum(axis=1) % t
    assert (ours < t).all() and (theirs < t).all()
    assert np.array_equal((ours + theirs) % np.uint64(t), exact.astype(np.uint64))


def test_both_directions_run_over_one_pair_with_their_own_keys() -> None:
    a, b, run = _pair()
    rng = np.random.default_rng(8)
    column, row = _words(rng, 1, 100), rng.integers(-99, 99, (1, 100))
    for owner, multiplier, swap in ((a, b, False), (b, a, True), (a, b, False)):
        sides = (
            lambda o=owner: o.inner_owner(o.upload(column), 1, 8),
            lambda m=multiplier: m.inner_multiplier(m.receive(1, 100), row, 8),
        )
        shares = run(*sides) if not swap else run(sides[1], sides[0])
        assert np.array_equal(shares[0] + shares[1], column @ row.T.view(np.uint64))


def test_worst_case_noise_does_not_move_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise at its bound with the multiplier's signs, |x| = 2^21: sums 2^19.4 times what chance would make them."""
    signs = np.where(np.random.default_rng(9).integers(0, 2, N) == 1, 1, -1)
    monkeypatch.setattr(lattice, "noise", lambda stream, count: 21 * signs[:count].astype(np.int64))
    rows = (signs * (2**21 - 1)).reshape(1, N).repeat(4, axis=0).reshape(1, -1).astype(np.int64)
    columns = _words(np.random.default_rng(10), 1, 4 * N)
    for _ in range(3):
        assert np.array_equal(_inner(columns, rows, 22), columns @ rows.T.view(np.uint64))


# --- bytes and rounds -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocks_in_window", [exchange.WINDOW, 32])
def test_bytes_and_rounds_are_the_declared_ones(monkeypatch: pytest.MonkeyPatch, blocks_in_window: int) -> None:
    monkeypatch.setattr(exchange, "WINDOW", blocks_in_window)
    a, b, run = _pair()
    rng = np.random.default_rng(11)
    n = 2 * N + 100
    columns, rows = _words(rng, 35, n), rng.integers(-2, 2, (2, n))
    weights, matrix = _words(rng, 40), rng.integers(-2, 2, (40, n))
    values, factors = rng.integers(0, SLOT, (33, n), dtype=np.uint64), np.ones((2, 33, n), np.uint64)
    up, got = run(lambda: a.upload(columns), lambda: b.receive(35, n))
    run(lambda: a.inner_owner(up, 2, 30), lambda: b.inner_multiplier(got, rows, 30))
    run(lambda: a.matvec_vector(weights, n), lambda: b.matvec_matrix(matrix, 20))
    run(lambda: a.slots_owner(values, SLOT, 2), lambda: b.slots_multiplier(factors, SLOT))
    costs = [predict_upload(35, n), predict_inner(35, 2, 30), predict_matvec(40, n), predict_slots(33, n, SLOT, 2)]
    keys = sum(key_bytes(parameters) for parameters in (NARROW, WIDE, TRAIN))
    assert a.channel.counters.sent == keys + sum(cost.owner for cost in costs)
    assert b.channel.counters.sent == sum(cost.multiplier for cost in costs)
    assert a.channel.counters.rounds == sum(cost.rounds for cost in costs)


def test_declared_bytes_a_value_are_those_of_the_recipe() -> None:
    million = predict_upload(1, 1_000_000)
    assert 18.75 < million.owner / (-(-1_000_000 // N) * N) < 18.76 and million.rounds == 0
    assert predict_inner(1, 1, 22) == Cost(0, 81_930 + 32, 1)
    assert predict_slots(48, N, SLOT, 1).owner / (48 * N) < 15.01
    assert predict_inner(1, 1, 23).multiplier > 2 * 81_930


# --- misuse and bad peers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows,bits",
    [
        (np.full((1, 10), 8, np.int64), 4),
        (np.full((1, 10), -8, np.int64), 4),
        (np.zeros((1, 9), np.int64), 4),
        (np.zeros((1, 10), np.uint64), 4),
        (np.zeros((1, 10), np.int64), 64),
    ],
)
def test_a_multiplier_outside_its_declaration_is_refused_before_anything_is_sent(rows: np.ndarray, bits: int) -> None:
    a, b, run = _pair()
    _, got = run(lambda: a.upload(np.zeros((1, 10), np.uint64)), lambda: b.receive(1, 10))
    with pytest.raises(InternalError):
        b.inner_multiplier(got, rows, bits)
    assert b.channel.counters.messages_sent == 0


@pytest.mark.parametrize("t", [SLOT + 2 * N * 3, 2**50 + 1, 17, 2 * N * 2 + 1])
def test_a_plaintext_modulus_that_does_not_fit_is_refused(t: int) -> None:
    a, _, _ = _pair()
    with pytest.raises(InternalError):
        a.slots_owner(np.zeros((1, 4), np.uint64), t, 1)


def test_a_run_that_asks_for_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, run = _pair()
    monkeypatch.setattr(lattice, "HIDING_BITS", 57.0)  # 100 rows at 22 bits leave 60 of one answer
    up, got = run(lambda: a.upload(np.zeros((1, 100), np.uint64)), lambda: b.receive(1, 100))
    rows = np.ones((1, 100), np.int64)
    answers = 0
    with pytest.raises(InternalError, match="bits of hiding"):
        for _ in range(64):
            run(lambda: a.inner_owner(up, 1, 22), lambda: b.inner_multiplier(got, rows, 22))
            answers += 1
    assert 0 < answers < 64


def test_another_run_over_the_same_keys_has_a_budget_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, run = _pair()
    monkeypatch.setattr(lattice, "HIDING_BITS", 57.0)
    up, got = run(lambda: a.upload(np.ones((1, 100), np.uint64)), lambda: b.receive(1, 100))
    rows = np.ones((1, 100), np.int64)
    for _ in range(40):
        b.begin_run()
        ours, theirs = run(lambda: a.inner_owner(up, 1, 22), lambda: b.inner_multiplier(got, rows, 22))
        assert int((ours + theirs)[0, 0]) == 100


def _bad_upload(change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> None:
    ours, theirs = channels()
    key = Key(NARROW, Secrets())
    seed, body = key.encrypt(None)
    made = [key.encrypt(None) for _ in range(2)]
    seeds = np.frombuffer(b"".join(s for s, _ in made), np.uint8).reshape(2, 16)
    seeds, bodies = change(seeds, np.stack([b for _, b in made]))
    ours.send(PublicKey(0, seed, body))
    ours.send(Ciphertexts(seeds, bodies))
    Linear(theirs, 1).receive(2, 100)


def _with_large_residue(body: np.ndarray) -> np.ndarray:
    rows = NARROW.basis.unpack(body, 50)
    rows[5] = NARROW.primes[0]
    return NARROW.basis.pack(rows, 50)


def test_well_formed_ciphertexts_pass_the_harness_of_the_bad_ones() -> None:
    _bad_upload(lambda seeds, bodies: (seeds, bodies))


@pytest.mark.parametrize(
    "change",
    [
        lambda seeds, bodies: (seeds[:1], bodies[:1]),
        lambda seeds, bodies: (seeds, bodies[:1]),
        lambda seeds, bodies: (np.concatenate([seeds, seeds]), np.concatenate([bodies, bodies])),
        lambda seeds, bodies: (seeds, bodies[:, :-1].copy()),
        lambda seeds, bodies: (seeds, np.stack([bodies[0], _with_large_residue(bodies[1])])),
    ],
    ids=["too-few", "missing-body", "too-many", "short-body", "residue-over-prime"],
)
def test_malformed_ciphertexts_are_refused(change: Any) -> None:
    with pytest.raises(PeerError):
        _bad_upload(change)


def test_a_malformed_public_key_is_refused() -> None:
    seed, body = Key(NARROW, Secrets()).encrypt(None)
    for bad in (
        PublicKey(1, seed, body),
        PublicKey(0, seed, body[:-8].copy()),
        PublicKey(0, seed, _with_large_residue(body)),
    ):
        ours, theirs = channels()
        ours.send(bad)
        with pytest.raises(PeerError):
            Linear(theirs, 1).receive(1, 10)


def test_answers_of_a_wrong_size_are_refused() -> None:
    wide = np.zeros((N, 10), np.uint8)
    two = np.zeros((2, 1, 10), np.uint8)
    for answer, ask in (
        (Firsts(two, np.stack([wide, wide])), lambda e: e.inner_owner(e.upload(_ONE), 1, 22)),
        (Rows(np.zeros((9, 10), np.uint8), wide[None]), lambda e: e.matvec_vector(_ONE[0], 10)),
        (Rows(np.zeros((10, 10), np.uint8), np.stack([wide, wide])), lambda e: e.matvec_vector(_ONE[0], 10)),
        (Rows(np.zeros((10, 10), np.uint8), wide[None]), lambda e: e.slots_owner(_ONE, SLOT, 1)),
        (Ready(), lambda e: e.matvec_vector(_ONE[0], 10)),
    ):
        ours, theirs = channels()
        theirs.send(answer)
        with pytest.raises(PeerError):
            ask(Linear(ours, 0))


_ONE = np.ones((1, 10), np.uint64)


# --- an independent library -------------------------------------------------------------------------------------


def test_a_product_of_polynomials_agrees_with_seal() -> None:
    seal = pytest.importorskip("tenseal.sealapi", reason="the independent lattice library is not installed")
    t = smallest_slot_prime(30)
    rng = np.random.default_rng(12)
    left, right = (rng.integers(0, t, N, dtype=np.uint64) for _ in range(2))
    parms = seal.EncryptionParameters(seal.SCHEME_TYPE.BFV)
    parms.set_poly_modulus_degree(N)
    parms.set_coeff_modulus(seal.CoeffModulus.BFVDefault(N, seal.SEC_LEVEL_TYPE.TC128))
    parms.set_plain_modulus(t)
    context = seal.SEALContext(parms, True, seal.SEC_LEVEL_TYPE.TC128)
    generator = seal.KeyGenerator(context)
    public = seal.PublicKey()
    generator.create_public_key(public)
    encoder, evaluator = seal.BatchEncoder(context), seal.Evaluator(context)
    cipher, plain, factor = seal.Ciphertext(), seal.Plaintext(), seal.Plaintext()
    encoder.encode([int(v) for v in left], plain)
    encoder.encode([int(v) for v in right], factor)
    seal.Encryptor(context, public).encrypt(plain, cipher)
    evaluator.multiply_plain_inplace(cipher, factor)
    seal.Decryptor(context, generator.secret_key()).decrypt(cipher, plain)
    theirs = np.array(encoder.decode_uint64(plain), dtype=np.uint64)
    a, b, run = _pair()
    shares = run(lambda: a.slots_owner(left[None], t, 1), lambda: b.slots_multiplier(right[None, None], t))
    assert np.array_equal((shares[0] + shares[1])[0] % np.uint64(t), theirs)
    assert basis((t,)).primes == (t,) and WORD == 2**64


@pytest.mark.slow
def test_a_million_rows_with_packed_storage_and_pacing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "WINDOW", 64)
    monkeypatch.setattr(encrypted, "_EXPANDED_BYTES", 0)
    rng = np.random.default_rng(14)
    columns, rows = _words(rng, 2, 1_000_003), rng.integers(-(2**40), 2**40, (2, 1_000_003))
    assert np.array_equal(_inner(columns, rows, 42), columns @ rows.T.view(np.uint64))
