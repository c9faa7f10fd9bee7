"""The transforms: every backend against the twin, the twin against Python's own long integers."""

from __future__ import annotations

import numpy as np
import pytest

from kernels import ntt, ntt_native, ntt_reference

WIDE = (0x3FFFFFFFFC001, 0x3FFFFFFFCC001, 0x3FFFFFFEF4001, 0x3FFFFFFE94001)
TRAIN = (0xFFFFFDC001, 0xFFFFF4C001, 0xFFFFF3C001)
SETS = [WIDE, TRAIN, (114689,)]
N = ntt.N
needs_library = pytest.mark.skipif(not ntt_native.built(), reason="kernels/_ntt*.so is not built")


def _schoolbook(a: np.ndarray, b: np.ndarray, p: int) -> np.ndarray:
    """a b modulo X^N + 1 and p by one product of long integers with 16-byte places (Kronecker substitution)."""
    place = 16
    as_bytes = [np.zeros((N, place), dtype=np.uint8) for _ in range(2)]
    for raw, x in zip(as_bytes, (a, b), strict=True):
        raw[:, :8] = x.astype("<u8").view(np.uint8).reshape(N, 8)
    product = int.from_bytes(as_bytes[0].tobytes(), "little") * int.from_bytes(as_bytes[1].tobytes(), "little")
    raw_product = product.to_bytes(2 * N * place, "little")
    places = [int.from_bytes(raw_product[i : i + place], "little") for i in range(0, 2 * N * place, place)]
    return np.array([(places[i] - places[i + N]) % p for i in range(N)], dtype=np.uint64)


def _inputs(primes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    column = np.array(primes, dtype=np.uint64)[:, None]
    random = np.stack([rng.integers(0, p, (2, N), dtype=np.uint64) for p in primes], axis=1)
    top = np.broadcast_to(column - np.uint64(1), (len(primes), N)).copy()
    alternating = top.copy()
    alternating[:, ::2] = 0
    half = np.broadcast_to(column // np.uint64(2), (len(primes), N)).copy()
    half[:, 1::2] += np.uint64(1)
    last = np.eye(1, N, N - 1, dtype=np.uint64).repeat(len(primes), 0)
    return [random, top, alternating, half, np.zeros_like(top), last, _climbing(primes)]


def _climbing(primes: tuple[int, ...]) -> np.ndarray:
    """Each of the 13 products on the way to place 0 is (p - 1)/2: lazy sums there reach 7 p, the most there can be."""
    x = np.zeros((len(primes), N), dtype=np.uint64)
    for row, table in zip(x, (ntt_reference.tables(p) for p in primes), strict=True):
        row[0] = table.p // 2
        for layer in range(13):
            row[N >> (layer + 1)] = table.p // 2 * pow(int(table.root[1 << layer]), -1, table.p) % table.p
    return x


@pytest.mark.parametrize("primes", SETS)
def test_twin_multiplies_like_long_integers(primes: tuple[int, ...]) -> None:
    twin = ntt.Basis(primes)
    for x in _inputs(primes)[:3]:
        first = x if x.ndim == 2 else x[0]
        second = x if x.ndim == 2 else x[1]
        product = twin.inverse(twin.multiply(twin.forward(first), twin.forward(second)))
        for i, p in enumerate(primes):
            assert np.array_equal(product[i], _schoolbook(first[i], second[i], p))


def test_twin_order_is_bit_reversed_values_at_odd_powers_of_psi() -> None:
    p = TRAIN[0]
    twin = ntt.Basis((p,))
    psi = next(r for r in (pow(g, (p - 1) // (2 * N), p) for g in range(2, 99)) if pow(r, N, p) == p - 1)
    line = np.zeros((1, N), dtype=np.uint64)
    line[0, 1] = 1
    values = twin.forward(line)[0]
    for i in (0, 1, 2, 3, 4097, N - 1):
        assert int(values[i]) == pow(psi, 2 * int(f"{i:013b}"[::-1], 2) + 1, p)


@pytest.mark.parametrize("primes", SETS)
def test_twin_inverse_undoes_forward(primes: tuple[int, ...]) -> None:
    twin = ntt.Basis(primes)
    for x in _inputs(primes):
        assert np.array_equal(twin.inverse(twin.forward(x)), x)


@needs_library
@pytest.mark.parametrize("variant", ntt_native.built())
@pytest.mark.parametrize("primes", SETS)
def test_kernel_equals_twin(primes: tuple[int, ...], variant: str) -> None:
    twin, kernel = ntt.Basis(primes), ntt.Native(primes, variant)
    rng = np.random.default_rng(3)
    for x in _inputs(primes):
        assert np.array_equal(kernel.forward(x), twin.forward(x))
        assert np.array_equal(kernel.inverse(x), twin.inverse(x))
        one = x if x.ndim == 2 else x[1]
        top = np.broadcast_to(twin.column - np.uint64(1), one.shape).copy()
        for other in (one, top):
            assert np.array_equal(kernel.multiply(x, other), twin.multiply(x, other))
            first, second = top.copy() if x.ndim == 2 else x.copy(), top.copy() if x.ndim == 2 else x.copy()
            kernel.multiply_add(first, x, other)
            twin.multiply_add(second, x, other)
            assert np.array_equal(first, second)
            assert np.array_equal(kernel.dot(one, other), twin.dot(one, other))
        assert all(np.array_equal(f, s) for f, s in zip(kernel.fraction(x), twin.fraction(x), strict=True))
    words = rng.integers(0, 2**64, (2, 1000), dtype=np.uint64)
    words[:, :6] = [0, 2**64 - 1, 2**63, 2**52, 2**52 - 1, 2**64 - 2**52]
    for factors in ([p - 1 for p in primes], [1] * len(primes), [0] * len(primes), [p // 2 for p in primes]):
        offsets = [-(2**63)] * len(primes)
        for some in (words, words[:, :1], words[0, :13]):  # whole vectors, and what is left
            assert np.array_equal(kernel.affine(some, factors, offsets), twin.affine(some, factors, offsets))
    assert np.array_equal(kernel.residues(words.view(np.int64)), twin.residues(words.view(np.int64)))
    for n in (1, 7, 8, 13):
        some = np.stack([rng.integers(p - 3, p, n, dtype=np.uint64) for p in primes])
        assert all(np.array_equal(f, s) for f, s in zip(kernel.fraction(some), twin.fraction(some), strict=True))


def _kept(ring: ntt.Basis, blocks: list[np.ndarray]) -> np.ndarray:
    room = ntt.kept(len(ring), len(blocks), blocks[0].shape[0])
    ring.place(room, 0, np.stack(blocks[:3]))
    ring.place(room, 3, np.stack(blocks[3:]))
    return room


@pytest.mark.parametrize("variant", [None, *ntt_native.built()])
@pytest.mark.parametrize("primes", SETS)
def test_rows_are_transforms_of_the_polynomial_that_makes_inner_products(
    primes: tuple[int, ...], variant: str | None
) -> None:
    plain = ntt.Basis(primes)
    ring = plain if variant is None else ntt.Native(primes, variant)
    x = np.random.default_rng(6).integers(-(2**62), 2**62, (11, N))  # eight blocks go together, and three are left
    x[1], x[10] = -(2**63), 2**63 - 1
    room = ntt.kept(len(primes), 12, 1)
    ring.rows(x.reshape(-1), room)
    for block, values in enumerate(x):
        negated = (-values[:0:-1].astype(object)).tolist()
        rest = [[int(values[0]) % p, *(v % p for v in negated)] for p in primes]
        wanted = plain.forward(np.array(rest, dtype=np.uint64))
        assert np.array_equal(room[:, :, block, 0].reshape(len(primes), N), wanted)


@pytest.mark.parametrize("variant", [None, *ntt_native.built()])
@pytest.mark.parametrize("primes", SETS)
def test_sums_of_kept_columns_equal_products_block_by_block(primes: tuple[int, ...], variant: str | None) -> None:
    plain = ntt.Basis(primes)
    ring = plain if variant is None else ntt.Native(primes, variant)
    rng = np.random.default_rng(5)
    blocks, k, r, start = 7, 2, 6, 1  # a group of four rows and two more; the column's first block is left out
    top = np.broadcast_to(plain.column - np.uint64(1), (2, len(primes), N)).copy()

    def values(halves: int) -> np.ndarray:
        return np.stack([rng.integers(0, p, (halves, N), dtype=np.uint64) for p in primes], axis=1)

    columns = [[top if j else values(2) for _ in range(blocks)] for j in range(k)]
    rows = [[top[:1] if i < 2 else values(1) for _ in range(blocks - start)] for i in range(r)]
    first = np.stack([rng.integers(0, p, (k, r), dtype=np.uint64) for p in primes], axis=-1)
    second = np.broadcast_to(top[0], (k, r, len(primes), N)).copy()
    wanted_first, wanted = first.copy(), second.copy()
    for j, column in enumerate(columns):
        for i, row in enumerate(rows):
            for x, y in zip(column[start:], row, strict=True):
                wanted_first[j, i] = (wanted_first[j, i] + plain.dot(x[0], y[0])) % plain.column[:, 0]
                plain.multiply_add(wanted[j, i], x[1], y[0])
    kept_rows = np.stack([_kept(ring, [*row, row[0]]) for row in rows])  # room for one block more than is meant
    found = [(_kept(ring, columns[0]), start), (_kept(ring, columns[1][start:]), 0)]  # of different lengths
    ring.sums(first, second, found, kept_rows, blocks - start)
    assert np.array_equal(second, wanted)
    assert np.array_equal(first, wanted_first)


@needs_library
@pytest.mark.parametrize("variant", ntt_native.built())
def test_sums_of_the_most_blocks_do_not_overflow(variant: str) -> None:
    """p - 1 times p - 1, so 1, as often as one call may add it: Python's integers are the judge."""
    p = WIDE[0]
    kernel = ntt.Native((p,), variant)
    room = np.full((1, N // ntt.LANES, ntt.MOST_BLOCKS, 2, ntt.LANES), p - 1, dtype=np.uint64)
    row = np.full((1, 1, N // ntt.LANES, ntt.MOST_BLOCKS, 1, ntt.LANES), p - 1, dtype=np.uint64)
    first, second = np.full((1, 1, 1), p - 1, np.uint64), np.full((1, 1, 1, N), p - 1, np.uint64)
    kernel.sums(first, second, [(room, 0)], row, ntt.MOST_BLOCKS)
    assert first.item() == (N * ntt.MOST_BLOCKS - 1) % p
    assert (second == ntt.MOST_BLOCKS - 1).all()


@needs_library
def test_a_variant_that_errs_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    variant = ntt_native.built()[0]
    ntt.self_test.cache_clear()
    ntt.self_test(variant)
    monkeypatch.setattr(ntt.Native, "dot", lambda self, a, b: self.multiply(a, b)[:, 0])
    ntt.self_test.cache_clear()
    with pytest.raises(RuntimeError, match=f"{variant}.*disagrees"):
        ntt.self_test(variant)
    ntt.self_test.cache_clear()


@needs_library
def test_kernel_refuses_shapes_it_would_overrun() -> None:
    kernel = ntt.Native(TRAIN, ntt_native.built()[-1])
    for bad in (np.zeros((3, N - 1), np.uint64), np.zeros((2, N), np.uint64), np.zeros((3, N), np.int64)):
        with pytest.raises(ValueError):
            kernel.forward(bad)
    with pytest.raises(ValueError):
        kernel.dot(np.zeros((3, N), np.uint64), np.zeros((3, N - 1), np.uint64))
    with pytest.raises(ValueError):
        kernel.multiply(np.zeros((4, 3, N), np.uint64), np.zeros((3, 3, N), np.uint64))
    with pytest.raises(ValueError):
        kernel.place(ntt.kept(3, 2, 2), 1, np.zeros((2, 2, 3, N), np.uint64))
    with pytest.raises(ValueError):
        kernel.place(ntt.kept(3, 2, 1), 0, np.zeros((1, 2, 3, N), np.uint64))
    for values, room in ((N - 1, ntt.kept(3, 1, 1)), (2 * N, ntt.kept(3, 1, 1)), (N, ntt.kept(3, 1, 2))):
        with pytest.raises(ValueError):
            kernel.rows(np.zeros(values, np.int64), room)
    with pytest.raises(ValueError):
        kernel.rows(np.zeros(N, np.int64), ntt.kept(3, 2, 1)[:, :, ::2])
    column, rows = ntt.kept(3, 2, 2), np.stack([ntt.kept(3, 2, 1)])
    first, second = np.zeros((1, 1, 3), np.uint64), np.zeros((1, 1, 3, N), np.uint64)
    for columns in ([(column, 1)], [(column, -1)], [], [(column, 0)] * 2, [(column[:, :, ::2], 0)]):
        with pytest.raises(ValueError):
            kernel.sums(first, second, columns, rows, 2)
    with pytest.raises(ValueError):
        kernel.sums(first, second[..., :8], [(column, 0)], rows, 2)
    for blocks in (0, 3):
        with pytest.raises(ValueError):
            kernel.sums(first, second, [(ntt.kept(3, 3, 2), 0)], rows, blocks)


@pytest.mark.parametrize("primes", SETS)
def test_affine_residues_and_fraction_equal_integers(primes: tuple[int, ...]) -> None:
    twin = ntt.Basis(primes)
    numbers = np.array([0, 1, -1, 2**63 - 1, -(2**63), 2**50, -(2**50)], dtype=np.int64)
    rest = twin.residues(numbers)
    for i, p in enumerate(primes):
        assert rest[i].tolist() == [int(v) % p for v in numbers]
    q = twin.modulus
    values = [0, 1, q // 2, q - 1, q // 3, *(q * k // 997 for k in range(1, 997))]
    x = np.array([[v % p for v in values] for p in primes], dtype=np.uint64)
    high, low = twin.fraction(x)
    for j, v in enumerate(values):
        exact = (v << 128) // q
        got = (int(high[j]) << 64) | int(low[j])
        assert min((exact - got) % 2**128, (got - exact) % 2**128) <= 2 * len(primes)  # 2^53 with two-word weights


@pytest.mark.parametrize("bits", [17, 31, 32, 33, 40, 49, 50, 56])
def test_packing_returns_and_backends_agree(bits: int) -> None:
    rng = np.random.default_rng(4)
    x = rng.integers(0, 2**bits, 2 * N, dtype=np.uint64)
    x[:3] = [0, 2**bits - 1, 1]
    twin = ntt.Basis(TRAIN)
    data = twin.pack(x, bits)
    assert data.size == x.size * bits // 8
    assert int.from_bytes(data.tobytes(), "little") == sum(int(v) << (bits * i) for i, v in enumerate(x))
    assert np.array_equal(twin.unpack(data, bits), x)
    for variant in ntt_native.built():
        kernel = ntt.Native(TRAIN, variant)
        assert np.array_equal(kernel.pack(x, bits), data)
        assert np.array_equal(kernel.unpack(data, bits), x)


@pytest.mark.parametrize("p", [2**50 + 1, 65537 + 2, 16385])
def test_unfit_moduli_are_refused(p: int) -> None:
    with pytest.raises(ValueError):
        ntt.Basis((p,))
