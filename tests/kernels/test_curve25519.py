"""The curve facade against published vectors and against the plain twin."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import select
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernels import curve25519, curve25519_batches, curve25519_compute, curve25519_reference, curve25519_scalar
from kernels.curve25519_workers import Pool

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


def test_rfc_9380_vectors_give_the_maps_own_output_and_three_doublings_give_p() -> None:
    suite = vectors("rfc9380_curve25519_XMD_SHA-512_ELL2_NU_.json")
    messages = [case["msg"].encode() for case in suite["vectors"]]
    got = curve25519.hash_to_curve(*curve25519.pack(messages), suite["dst"].encode())
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


def test_a_domain_tag_over_255_bytes_is_hashed_first() -> None:
    short = hashlib.sha512(b"H2C-OVERSIZE-DST-" + b"t" * 300).digest()
    assert (
        curve25519.hash_to_curve(*curve25519.pack([b"x"]), b"t" * 300)
        == curve25519.hash_to_curve(*curve25519.pack([b"x"]), short)
    ).all()


def test_wycheproof_x25519_all_cases() -> None:
    suite = vectors("wycheproof_x25519.json")
    cases = [case for group in suite["testGroups"] for case in group["tests"]]
    assert len(cases) == suite["numberOfTests"] == 518
    scalars = rows(*(bytes.fromhex(case["private"]) for case in cases))
    points = rows(*(bytes.fromhex(case["public"]) for case in cases))
    got = curve25519.multiply_each(scalars, points)
    for case, point in zip(cases, got, strict=True):
        assert point.tobytes().hex() == case["shared"], case["tcId"]
    canonical = curve25519.is_canonical(points)
    assert 0 < canonical.sum() < len(cases)
    for case, fine in zip(cases, canonical, strict=True):
        assert fine == (int.from_bytes(bytes.fromhex(case["public"]), "little") < P)


def test_rfc_7748_vectors_and_a_thousand_iterations() -> None:
    scalar = bytes.fromhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4")
    point = bytes.fromhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
    expected = "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"
    assert curve25519.multiply(scalar, rows(point)).tobytes().hex() == expected
    k = u = little(9)
    for turn in range(1000):
        k, u = curve25519.multiply(k, rows(u)).tobytes(), k
        if turn == 0:
            assert k.hex() == "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"
    assert k.hex() == "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"


def test_small_order_points_give_zero_rows_among_good_ones() -> None:
    good = curve25519.hash_to_curve(*curve25519.pack([b"a", b"b"]), b"t")
    points = np.concatenate([good[:1], rows(*map(little, SMALL_ORDER)), good[1:]])
    got = curve25519.multiply(curve25519.random_scalar(), points)
    assert [bool(row.any()) for row in got] == [True] + [False] * len(SMALL_ORDER) + [True]


def test_is_canonical_at_the_edges() -> None:
    values = [0, 1, P - 1, P, P + 1, 2**255 - 1, 2**255, 2**256 - 1, 9 + 2**255]
    assert curve25519.is_canonical(rows(*map(little, values))).tolist() == [True] * 3 + [False] * 6
    assert curve25519.is_canonical(np.empty((0, 32), np.uint8)).tolist() == []


def test_the_map_equals_the_plain_twin() -> None:
    items = [b"", b"\x00", *(secrets.token_bytes(1 + i % 40) for i in range(60))]
    got = curve25519.hash_to_curve(*curve25519.pack(items), b"tag")
    assert [row.tobytes() for row in got] == [curve25519_reference.hash_to_curve(item, b"tag") for item in items]


def test_the_quadratic_character_equals_eulers_criterion() -> None:
    values = [1, 2, 3, P - 1, P - 2, 2**200, *(secrets.randbelow(P - 1) + 1 for _ in range(300))]
    for value in values:
        assert curve25519_scalar._is_square(value) == (pow(value, (P - 1) // 2, P) == 1)


def test_multiplication_commutes_and_equals_the_edwards_twin() -> None:
    a, b = curve25519.random_scalar(), curve25519.random_scalar()
    points = curve25519.hash_to_curve(*curve25519.pack([b"1", b"2", b"3"]), b"t")
    there = curve25519.multiply(a, curve25519.multiply(b, points))
    assert (there == curve25519.multiply(b, curve25519.multiply(a, points))).all()
    twin = b"".join(curve25519_reference.multiply(a, row.tobytes()) for row in points)
    assert curve25519.multiply(a, points).tobytes() == twin


def test_base_multiplication_is_multiplication_of_nine() -> None:
    scalars = rows(*(curve25519.random_scalar() for _ in range(5)))
    nines = np.repeat(rows(little(9)), 5, axis=0)
    assert (curve25519.base_multiply_each(scalars) == curve25519.multiply_each(scalars, nines)).all()


def test_random_scalars_are_clamped_and_differ() -> None:
    drawn = {curve25519.random_scalar() for _ in range(50)}
    assert len(drawn) == 50
    assert all(s[0] & 7 == 0 and s[31] & 0xC0 == 0x40 for s in drawn)


def test_worker_processes_and_a_given_executor_give_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [str(i).encode() for i in range(2500)]
    scalar = curve25519.random_scalar()
    inline = curve25519.hash_to_curve(*curve25519.pack(items), b"t")
    product = curve25519.multiply(scalar, inline)
    pool = Pool(2)
    monkeypatch.setattr(curve25519_batches, "THRESHOLD", 10)
    monkeypatch.setattr(curve25519_batches, "workers", lambda: 2)
    monkeypatch.setattr(curve25519_batches, "_processes", lambda: pool)
    fallback = curve25519.Kernel(None)
    assert (fallback.hash_to_curve(*curve25519.pack(items), b"t") == inline).all()
    assert (fallback.multiply(scalar, inline) == product).all()
    with ThreadPoolExecutor(1) as executor:
        assert (curve25519.multiply(scalar, inline, executor) == product).all()
    worker = pool._idle.get()
    while worker is None:
        worker = pool._idle.get()
    worker.kill()
    pool._idle.put(worker)
    pool.close()
    assert worker.poll() is not None


def test_a_dead_worker_is_an_error_and_is_replaced() -> None:
    pool = Pool(1)
    request = (curve25519_scalar.BASE_EACH, b"", bytes(64))
    first = pool.map([request])
    worker = pool._idle.get()
    assert worker is not None
    worker.kill()
    worker.wait()
    pool._idle.put(worker)
    with pytest.raises(RuntimeError, match="ended early"):
        pool.map([request])
    assert pool.map([request]) == first
    pool.close()


def test_no_worker_outlives_a_killed_parent() -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from kernels.curve25519_workers import Pool;"
        "pool = Pool(1); pool.map([(2, b'', bytes(32))]); print(pool._idle.get().pid, flush=True); sys.stdin.read()"
    )
    root = str(Path(__file__).parents[2])
    parent = subprocess.Popen(
        [sys.executable, "-c", program, root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None and parent.stdin is not None
    watched = os.pidfd_open(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    waiting = select.poll()
    waiting.register(watched, select.POLLIN)
    assert waiting.poll(10_000), "the worker is still there"
    os.close(watched)
    parent.stdin.close()
    parent.stdout.close()


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        curve25519.multiply(b"short", np.zeros((1, 32), np.uint8))
    with pytest.raises(ValueError, match="shape"):
        curve25519.multiply(bytes(32), np.zeros((1, 31), np.uint8))
    with pytest.raises(ValueError, match="as many"):
        curve25519.multiply_each(np.zeros((2, 32), np.uint8), np.zeros((1, 32), np.uint8))


def test_the_self_test_notices_a_wrong_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    curve25519.self_test()
    right = curve25519_scalar.multiply
    monkeypatch.setattr(curve25519_scalar, "multiply", lambda s, p: bytes([right(s, p)[0] ^ 1]) + right(s, p)[1:])
    with pytest.raises(RuntimeError, match="wrong points"):
        curve25519_compute.self_test(None)


def test_empty_batches() -> None:
    empty = np.empty((0, 32), np.uint8)
    assert curve25519.multiply(curve25519.random_scalar(), empty).shape == (0, 32)
    assert curve25519.hash_to_curve(*curve25519.pack([]), b"t").shape == (0, 32)
    assert curve25519.base_multiply_each(empty).shape == (0, 32)
