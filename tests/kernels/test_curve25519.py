"""Every variant of the curve kernel, and the fallback, against published vectors and against the plain twin."""

from __future__ import annotations

import hashlib
import json
import secrets
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernels import curve25519, curve25519_compute, curve25519_reference, curve25519_scalar

KERNELS = [pytest.param(curve25519.Kernel(name), id=name or "fallback") for name in (None, *curve25519.variants())]
every_kernel = pytest.mark.parametrize("kernel", KERNELS)
VECTORS = Path(__file__).parents[3] / "shared" / "vectors"
P = 2**255 - 19
SMALL_ORDER = [  # canonical u of small order on the curve and its twist
    0,
    1,
    P - 1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
]


def vectors(name: str) -> Any:
    path = VECTORS / name
    if not path.exists():
        pytest.skip(f"public vectors {name} are not here")
    return json.loads(path.read_text())


def rows(*points: bytes) -> np.ndarray:
    return np.frombuffer(b"".join(points), dtype=np.uint8).reshape(-1, 32)


def little(value: int) -> bytes:
    return value.to_bytes(32, "little")


@every_kernel
def test_rfc_9380_vectors_give_the_maps_own_output_and_three_doublings_give_p(kernel: curve25519.Kernel) -> None:
    suite = vectors("rfc9380_curve25519_XMD_SHA-512_ELL2_NU_.json")
    messages = [case["msg"].encode() for case in suite["vectors"]]
    got = kernel.hash_to_curve(*curve25519.pack(messages), suite["dst"].encode())
    assert len(got) >= 5
    for case, point in zip(suite["vectors"], got, strict=True):
        assert point.tobytes() == little(int(case["Q"]["x"], 16))
        assert curve25519_reference.double(point.tobytes(), 3) == little(int(case["P"]["x"], 16))
        assert curve25519_scalar.hash_to_field([case["msg"].encode()], suite["dst"].encode()) == [int(case["u"][0], 16)]


def test_rfc_9380_expand_message_vectors() -> None:
    suite = vectors("rfc9380_expand_message_xmd_SHA512_38.json")
    for case in suite["tests"]:
        length = int(case["len_in_bytes"], 16)
        got = curve25519_reference.expand_message(case["msg"].encode(), suite["DST"].encode(), length)
        assert got.hex() == case["uniform_bytes"]


@every_kernel
def test_a_domain_tag_over_255_bytes_is_hashed_first(kernel: curve25519.Kernel) -> None:
    item = curve25519.pack([b"x"])
    short = hashlib.sha512(b"H2C-OVERSIZE-DST-" + b"t" * 300).digest()
    assert (kernel.hash_to_curve(*item, b"t" * 300) == kernel.hash_to_curve(*item, short)).all()
    for size in (0, 1, 62, 63, 64, 190, 254, 255):  # around the blocks that the tag ends in
        assert kernel.hash_to_curve(*item, b"t" * size).tobytes() == curve25519_scalar.hash_to_curve(
            [b"x"], b"t" * size
        )


@every_kernel
def test_wycheproof_x25519_all_cases(kernel: curve25519.Kernel) -> None:
    suite = vectors("wycheproof_x25519.json")
    cases = [case for group in suite["testGroups"] for case in group["tests"]]
    assert len(cases) == suite["numberOfTests"] == 518
    scalars = rows(*(bytes.fromhex(case["private"]) for case in cases))
    points = rows(*(bytes.fromhex(case["public"]) for case in cases))
    got = kernel.multiply_each(scalars, points)
    for case, point in zip(cases, got, strict=True):
        assert point.tobytes().hex() == case["shared"], case["tcId"]
    for case, scalar, point in zip(cases, scalars, points, strict=True):  # the same with one scalar for a batch
        assert kernel.multiply(scalar.tobytes(), point[None]).tobytes().hex() == case["shared"], case["tcId"]
    canonical = curve25519.is_canonical(points)
    assert 0 < canonical.sum() < len(cases)
    for case, fine in zip(cases, canonical, strict=True):
        assert fine == (int.from_bytes(bytes.fromhex(case["public"]), "little") < P)


@every_kernel
def test_rfc_7748_vectors_and_a_thousand_iterations(kernel: curve25519.Kernel) -> None:
    scalar = bytes.fromhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4")
    point = bytes.fromhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
    expected = "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"
    assert kernel.multiply(scalar, rows(point)).tobytes().hex() == expected
    k = u = little(9)
    for turn in range(1000):
        k, u = kernel.multiply(k, rows(u)).tobytes(), k
        if turn == 0:
            assert k.hex() == "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"
    assert k.hex() == "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"


def special_points() -> np.ndarray:
    """Edges of the encoding, small orders in all their spellings, and points with and without torsion."""
    values = [*SMALL_ORDER, 2, 9, P - 2, P, P + 1, 2 * P - 1, 2**255 - 1, 2**255, 2**256 - 1, 2**255 - 20]
    values += [value + P for value in SMALL_ORDER if value + P < 2**255]
    values += [value + 2**255 for value in SMALL_ORDER]
    torsion = curve25519.Kernel(None).hash_to_curve(*curve25519.pack([b"%d" % i for i in range(40)]), b"t")
    return np.concatenate([rows(*map(little, values)), torsion])


@pytest.fixture(scope="module")
def library() -> tuple[bytes, np.ndarray, np.ndarray]:
    """A scalar, points and their products by `cryptography`."""
    rng = np.random.default_rng(5)
    points = np.concatenate([special_points(), rng.integers(0, 256, (4096, 32), dtype=np.uint8)])
    scalar = curve25519.random_scalar()
    return scalar, points, rows(curve25519_scalar.multiply(scalar, points.tobytes()))


@every_kernel
def test_products_and_flags_equal_the_library_s(kernel: curve25519.Kernel, library: Any) -> None:
    scalar, points, expected = library
    got = kernel.multiply_checked(scalar, points)
    assert np.array_equal(got.points, expected)
    assert (got.canonical, got.nonzero) == (False, False)
    fine = points[curve25519.is_canonical(points) & expected.any(axis=1)]
    got = kernel.multiply_checked(scalar, fine)
    assert len(fine) > 1500 and (got.canonical, got.nonzero) == (True, True)


@every_kernel
@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 7, 8, 9, 63, 64, 65, 511, 512, 513])
def test_batches_of_every_size_about_the_lanes(kernel: curve25519.Kernel, library: Any, count: int) -> None:
    scalar, points, expected = library
    got = kernel.multiply_checked(scalar, points[-count:] if count else points[:0])
    assert np.array_equal(got.points, expected[-count:] if count else expected[:0])
    assert got.nonzero and got.canonical == curve25519.is_canonical(points[-count:] if count else points[:0]).all()


@every_kernel
def test_one_bad_point_at_every_place_is_noticed_and_spoils_no_other(kernel: curve25519.Kernel) -> None:
    scalar, count = curve25519.random_scalar(), 19  # two vectors of eight, and three over
    points = curve25519.Kernel(None).hash_to_curve(*curve25519.pack([b"%d" % i for i in range(count)]), b"t")
    good = kernel.multiply_checked(scalar, points)
    assert (good.canonical, good.nonzero) == (True, True)
    for at in range(count):
        for value, canonical in ((1, True), (P, False), (SMALL_ORDER[3] + 2**255, False)):
            bent = points.copy()
            bent[at] = rows(little(value))[0]
            got = kernel.multiply_checked(scalar, bent)
            assert (got.canonical, got.nonzero) == (canonical, False)
            assert not got.points[at].any() and np.array_equal(
                np.delete(got.points, at, 0), np.delete(good.points, at, 0)
            )
        bent = points.copy()
        bent[at, 31] |= 128
        got = kernel.multiply_checked(scalar, bent)
        assert (got.canonical, got.nonzero) == (False, True) and np.array_equal(got.points, good.points)
    everything = kernel.multiply_checked(scalar, np.zeros((count, 32), np.uint8))
    assert not everything.points.any() and (everything.canonical, everything.nonzero) == (True, False)


@every_kernel
def test_zeros_in_every_other_lane_spoil_none_between_them(kernel: curve25519.Kernel, library: Any) -> None:
    scalar, points, expected = library
    for start in (0, 1):
        some, right = points[-521:].copy(), expected[-521:].copy()
        some[start::2], right[start::2] = 0, 0
        got = kernel.multiply_checked(scalar, some)
        assert np.array_equal(got.points, right) and not got.nonzero


@pytest.mark.parametrize("operation", ["map", "product"])
def test_outputs_look_random(operation: str) -> None:
    """No repeats, every bit below the highest about half the time, as many bits apart as chance has it."""
    count = 20_000 if curve25519.variants() else 1_000
    points = curve25519.hash_to_curve(*curve25519.pack([b"%07d" % i for i in range(count)]), b"statistics")
    if operation == "product":
        points = curve25519.multiply(curve25519.random_scalar(), points)
    assert len(np.unique(points, axis=0)) == count
    bits = np.unpackbits(points, axis=1, bitorder="little")[:, :255]
    assert (np.abs(bits.mean(axis=0) - 0.5) < 6 * 0.5 / np.sqrt(count)).all()
    apart = (bits[1:] != bits[:-1]).sum(axis=1)  # of neighbours, whose items differ in a digit
    assert abs(apart.mean() - 255 / 2) < 6 * np.sqrt(255) / 2 / np.sqrt(count / 2)


@every_kernel
def test_the_fixed_bits_of_a_scalar_do_not_matter(kernel: curve25519.Kernel, library: Any) -> None:
    scalar, points, expected = library
    raw = bytearray(scalar)
    raw[0] |= 7
    raw[31] = raw[31] & 63 | 128
    assert np.array_equal(kernel.multiply(bytes(raw), points[:40]), expected[:40])
    each = np.broadcast_to(rows(bytes(raw)), (40, 32))
    assert np.array_equal(kernel.multiply_each(each, points[:40]), expected[:40])


@every_kernel
def test_scalars_of_extreme_bits(kernel: curve25519.Kernel) -> None:
    scalars = [
        bytes(32),
        b"\xff" * 32,
        little(2**254),
        little(2**255 - 8),
        little(int("10" * 127, 2)),
        little(int("01" * 127, 2)),
    ]
    points = np.concatenate([special_points()[-9:], rows(little(9))])
    for scalar in scalars:
        assert kernel.multiply(scalar, points).tobytes() == curve25519_scalar.multiply(scalar, points.tobytes())
    keys = rows(*scalars, *scalars)
    bases = np.concatenate([points, points])[: len(keys)]
    assert kernel.multiply_each(keys, bases).tobytes() == curve25519_scalar.multiply_each(
        keys.tobytes(), bases.tobytes()
    )


def test_is_canonical_at_the_edges() -> None:
    values = [0, 1, P - 1, P, P + 1, 2**255 - 1, 2**255, 2**256 - 1, 9 + 2**255]
    assert curve25519.is_canonical(rows(*map(little, values))).tolist() == [True] * 3 + [False] * 6
    assert curve25519.is_canonical(np.empty((0, 32), np.uint8)).tolist() == []


@every_kernel
def test_the_map_equals_the_plain_twin(kernel: curve25519.Kernel) -> None:
    items = [b"", b"\x00", *(secrets.token_bytes(1 + i % 40) for i in range(60))]
    got = kernel.hash_to_curve(*curve25519.pack(items), b"tag")
    assert [row.tobytes() for row in got] == [curve25519_reference.hash_to_curve(item, b"tag") for item in items]


@every_kernel
def test_items_of_every_length_in_one_batch(kernel: curve25519.Kernel) -> None:
    items = [secrets.token_bytes(size) for size in (*range(300), 1000, 5000, 0, 3)]
    expected = curve25519_scalar.hash_to_curve(items, b"t" * 94)
    assert kernel.hash_to_curve(*curve25519.pack(items), b"t" * 94).tobytes() == expected
    data, offsets = curve25519.pack(items)
    some = kernel.hash_to_curve(data, offsets[100:130], b"t" * 94)  # a part of a buffer
    assert some.tobytes() == expected[32 * 100 : 32 * 129]
    for count in (1, 7, 8, 9, 33):
        assert kernel.hash_to_curve(*curve25519.pack(items[:count]), b"t" * 94).tobytes() == expected[: 32 * count]


def test_the_quadratic_character_equals_eulers_criterion() -> None:
    values = [1, 2, 3, P - 1, P - 2, 2**200, *(secrets.randbelow(P - 1) + 1 for _ in range(300))]
    for value in values:
        assert curve25519_scalar._is_square(value) == (pow(value, (P - 1) // 2, P) == 1)


@every_kernel
def test_multiplication_commutes_and_equals_the_edwards_twin(kernel: curve25519.Kernel) -> None:
    a, b = curve25519.random_scalar(), curve25519.random_scalar()
    points = kernel.hash_to_curve(*curve25519.pack([b"1", b"2", b"3"]), b"t")
    there = kernel.multiply(a, kernel.multiply(b, points))
    assert (there == kernel.multiply(b, kernel.multiply(a, points))).all()
    twin = b"".join(curve25519_reference.multiply(a, row.tobytes()) for row in points)
    assert kernel.multiply(a, points).tobytes() == twin


@every_kernel
def test_base_multiplication_is_multiplication_of_nine(kernel: curve25519.Kernel) -> None:
    scalars = rows(*(curve25519.random_scalar() for _ in range(21)))
    nines = np.repeat(rows(little(9)), 21, axis=0)
    assert (kernel.base_multiply_each(scalars) == kernel.multiply_each(scalars, nines)).all()
    one_by_one = [kernel.multiply(row.tobytes(), nines[:1]) for row in scalars]
    assert (kernel.base_multiply_each(scalars) == np.concatenate(one_by_one)).all()


def test_random_scalars_are_clamped_and_differ() -> None:
    drawn = {curve25519.random_scalar() for _ in range(50)}
    assert len(drawn) == 50
    assert all(s[0] & 7 == 0 and s[31] & 0xC0 == 0x40 for s in drawn)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        curve25519.multiply(b"short", np.zeros((1, 32), np.uint8))
    with pytest.raises(ValueError, match="shape"):
        curve25519.multiply(bytes(32), np.zeros((1, 31), np.uint8))
    with pytest.raises(ValueError, match="as many"):
        curve25519.multiply_each(np.zeros((2, 32), np.uint8), np.zeros((1, 32), np.uint8))
    data, offsets = curve25519.pack([b"ab", b"c"])
    for bad in (offsets[::-1], offsets + 1, offsets - 1, offsets[:0], offsets.astype(np.int32), offsets.reshape(1, -1)):
        with pytest.raises(ValueError, match="packed items"):
            curve25519.hash_to_curve(data, bad, b"t")
    with pytest.raises(ValueError, match="not available"):
        curve25519.Kernel("abacus")


@every_kernel
def test_arrays_that_are_not_contiguous_are_read_right(kernel: curve25519.Kernel, library: Any) -> None:
    scalar, points, expected = library
    assert np.array_equal(kernel.multiply(scalar, points[60:100:3]), expected[60:100:3])
    assert np.array_equal(kernel.multiply(scalar, np.asfortranarray(points[60:100])), expected[60:100])


@every_kernel
def test_the_self_test_notices_a_wrong_kernel(kernel: curve25519.Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    right = curve25519_compute.compute
    curve25519_compute.self_test(kernel.variant)
    for at in (0, -1):

        def bent(variant: str | None, batch: curve25519_compute.Batch, at: int = at) -> curve25519_compute.Products:
            products = right(variant, batch)
            points = products.points.copy()
            points[at, 0] ^= 1
            return products._replace(points=points)

        monkeypatch.setattr(curve25519_compute, "compute", bent)
        with pytest.raises(RuntimeError, match="wrong points"):
            curve25519_compute.self_test(kernel.variant)
    for flag in ("canonical", "nonzero"):
        monkeypatch.setattr(curve25519_compute, "compute", lambda v, b, f=flag: right(v, b)._replace(**{f: True}))
        with pytest.raises(RuntimeError, match="wrong points"):
            curve25519_compute.self_test(kernel.variant)


@every_kernel
def test_empty_batches(kernel: curve25519.Kernel) -> None:
    empty = np.empty((0, 32), np.uint8)
    assert kernel.multiply_checked(bytes(32), empty).points.shape == (0, 32)
    assert kernel.hash_to_curve(*curve25519.pack([]), b"t").shape == (0, 32)
    assert kernel.base_multiply_each(empty).shape == (0, 32)
    assert kernel.multiply_each(empty, empty).shape == (0, 32)
