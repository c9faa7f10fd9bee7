"""Large batches in pieces: threads, processes of the fallback, an executor of the caller; which kernel answers."""

from __future__ import annotations

import multiprocessing
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from kernels import curve25519, curve25519_batches, curve25519_scalar
from kernels.curve25519_workers import Pool

ROOT = Path(__file__).parents[2]
needs_library = pytest.mark.skipif(not curve25519.variants(), reason="kernels/_curve25519*.so is not built")


@contextmanager
def dask(processes: bool) -> Iterator[Executor]:
    """The executor of a real Dask cluster."""
    import distributed

    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=processes, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
        client.get_executor() as executor,
    ):
        yield executor


@contextmanager
def spawned() -> Iterator[Executor]:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


@pytest.mark.parametrize(
    "opened",
    [
        pytest.param(lambda: ThreadPoolExecutor(2), id="threads"),
        pytest.param(spawned, id="spawned processes"),
        pytest.param(lambda: dask(False), id="Dask in this process"),
        pytest.param(lambda: dask(True), id="Dask in processes"),
    ],
)
def test_a_given_executor_gives_the_same_bytes(opened: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curve25519_batches, "_PIECE", 64)  # several pieces
    monkeypatch.setattr(curve25519_batches, "_SMALLEST", 64)
    monkeypatch.setattr(curve25519_batches, "_FALLBACK_PIECE", 64)
    data, offsets = curve25519.pack([b"%d" % i for i in range(200)])
    scalar = curve25519.random_scalar()
    points = curve25519.hash_to_curve(data, offsets, b"t")
    product = curve25519.multiply_checked(scalar, points)
    bent = points.copy()
    bent[150] = 255
    bent[199] = 0
    with opened() as executor:  # type: ignore[operator]
        assert np.array_equal(curve25519.hash_to_curve(data, offsets, b"t", executor), points)
        got = curve25519.multiply_checked(scalar, points, executor)
        assert np.array_equal(got.points, product.points) and (got.canonical, got.nonzero) == (True, True)
        assert np.array_equal(curve25519.multiply(scalar, points, executor), product.points)
        got = curve25519.multiply_checked(scalar, bent, executor)
        assert (got.canonical, got.nonzero) == (False, False)
        keys = np.broadcast_to(np.frombuffer(scalar, np.uint8), points.shape)
        assert np.array_equal(curve25519.multiply_each(keys, points, executor), product.points)
        expected = curve25519.base_multiply_each(keys)
        assert np.array_equal(curve25519.base_multiply_each(keys, executor), expected)
        assert curve25519.multiply(scalar, points[:0], executor).shape == (0, 32)


@needs_library
def test_threads_give_the_same_bytes_and_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    data, offsets = curve25519.pack([b"%d" % i for i in range(5000)])
    scalar = curve25519.random_scalar()
    results = []
    for threads in (1, 3):
        monkeypatch.setattr(curve25519_batches, "workers", lambda threads=threads: threads)
        points = curve25519.hash_to_curve(data, offsets, b"t")
        good = curve25519.multiply_checked(scalar, points)
        bent = points.copy()
        bent[4999] = 0
        bad = curve25519.multiply_checked(scalar, bent)
        assert (good.canonical, good.nonzero, bad.canonical, bad.nonzero) == (True, True, True, False)
        results.append((points.tobytes(), good.points.tobytes(), bad.points.tobytes()))
    assert results[0] == results[1]


@needs_library
def test_an_executor_s_worker_without_the_library_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    request = (curve25519_scalar.BASE_EACH, b"", curve25519.random_scalar())
    expected = curve25519_batches.run(curve25519.variants()[-1], *request)
    monkeypatch.setattr(curve25519_batches, "variants", lambda: ())
    assert curve25519_batches.run(curve25519.variants()[-1], *request) == expected


def test_what_is_submitted_is_a_function_of_the_module_and_bytes() -> None:
    seen: list[object] = []

    class Watched(ThreadPoolExecutor):
        def submit(self, function, /, *arguments):  # type: ignore[no-untyped-def]
            seen.extend((function, *arguments))
            return super().submit(function, *arguments)

    with Watched(1) as executor:
        curve25519.multiply(curve25519.random_scalar(), np.ones((3, 32), np.uint8), executor)
        curve25519.hash_to_curve(*curve25519.pack([b"a"]), b"t", executor)
    assert curve25519_batches.run.__qualname__ == "run"
    assert {type(item) for item in seen if item is not curve25519_batches.run} <= {bytes, int, str, type(None)}


def test_the_fallback_s_processes_give_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    data, offsets = curve25519.pack([b"%d" % i for i in range(2500)])
    scalar = curve25519.random_scalar()
    points = curve25519.hash_to_curve(data, offsets, b"t")
    expected = curve25519.multiply_checked(scalar, points)
    bent = points.copy()
    bent[2400] = 0
    pool = Pool(2)
    monkeypatch.setattr(curve25519_batches, "THRESHOLD", 10)
    monkeypatch.setattr(curve25519_batches, "workers", lambda: 2)
    monkeypatch.setattr(curve25519_batches, "_processes", lambda: pool)
    fallback = curve25519.Kernel(None)
    assert np.array_equal(fallback.hash_to_curve(data, offsets, b"t"), points)
    got = fallback.multiply_checked(scalar, points)
    assert np.array_equal(got.points, expected.points) and (got.canonical, got.nonzero) == (True, True)
    assert not fallback.multiply_checked(scalar, bent).nonzero
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
    root = str(ROOT)
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


def test_the_fallback_announces_itself_once_and_in_active() -> None:
    program = (
        "import warnings, numpy as np; from kernels import curve25519, digest\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    for _ in range(2):\n"
        "        curve25519.multiply(bytes(32), np.ones((1, 32), np.uint8))\n"
        "print(curve25519.variants(), [(w.category.__name__, str(w.message)) for w in caught])\n"
        "print(curve25519.active())\n"
        "print(digest.active())\n"
    )
    masked = {**os.environ, "TALLYSTICK_KERNELS": "numpy", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=masked, capture_output=True, text=True, check=True)
    first, active, digests = done.stdout.splitlines()
    assert first.startswith("() [('RuntimeWarning', 'no native curve kernel") and first.count("RuntimeWarning") == 1
    assert "unset TALLYSTICK_KERNELS" in first
    assert "cryptography" in active and "no library" in active
    assert digests == "sha256: hashlib, no library"


@needs_library
def test_active_names_the_fastest_variant() -> None:
    assert curve25519.active().startswith(f"curve25519: {curve25519.variants()[-1]}, ")
    assert curve25519.best() == curve25519.Kernel(curve25519.variants()[-1])
