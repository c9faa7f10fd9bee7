"""Finding libraries: absent, broken or switched off, the twin answers and says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernels import native, ntt


def test_absent_and_broken_libraries_count_as_none(tmp_path: Path) -> None:
    assert native.load("ntt", tmp_path) is None
    (tmp_path / "_ntt.so").write_bytes(b"not a library")
    assert native.load("ntt", tmp_path) is None


def test_the_environment_switches_libraries_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLYSTICK_KERNELS", "numpy")
    native.library.cache_clear()
    ntt.variants.cache_clear()
    ntt.basis.cache_clear()
    try:
        assert native.library("ntt") is None
        assert ntt.basis((114689,)).variant is None
        with pytest.raises(ValueError):
            ntt.Native((114689,), "portable")
    finally:
        monkeypatch.undo()
        native.library.cache_clear()
        ntt.variants.cache_clear()
        ntt.basis.cache_clear()


def test_a_library_of_another_layout_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ntt, "_LAYOUT", ntt._LAYOUT + 8)
    ntt.variants.cache_clear()
    try:
        assert ntt.variants() == ()
    finally:
        monkeypatch.undo()
        ntt.variants.cache_clear()


def test_the_active_kernel_is_named() -> None:
    assert native.active("ntt", None) == "ntt: numpy twin, no library"
    assert native.active("ntt", "avx2") == "ntt: avx2"


@pytest.mark.skipif(native.library("ntt") is None, reason="kernels/_ntt*.so is not built")
def test_the_library_is_used_where_it_is_there() -> None:
    assert ntt.basis((114689,)).variant == ntt.variants()[-1]
