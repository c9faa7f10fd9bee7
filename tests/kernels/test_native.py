"""Finding libraries: absent, broken or switched off, the twin answers and says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernels import native, ntt, ntt_native


def _forget() -> None:
    for cached in (native.library, ntt.variants, ntt.basis, ntt_native.built):
        cached.cache_clear()


def test_absent_and_broken_libraries_count_as_none(tmp_path: Path) -> None:
    assert native.load("ntt", tmp_path) is None
    (tmp_path / "_ntt.so").write_bytes(b"not a library")
    assert native.load("ntt", tmp_path) is None


def test_the_environment_switches_libraries_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLYSTICK_KERNELS", "numpy")
    _forget()
    try:
        assert native.library("ntt") is None
        assert ntt.basis((114689,)).variant is None
        with pytest.raises(ValueError):
            ntt.Native((114689,), "portable")
    finally:
        monkeypatch.undo()
        _forget()


@pytest.mark.parametrize("variant", ntt_native.built())
def test_the_environment_names_the_fastest_variant_allowed(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLYSTICK_KERNELS", variant)
    _forget()
    try:
        assert ntt.basis((114689,)).variant == variant
        assert ntt.variants()[-1] == variant
    finally:
        monkeypatch.undo()
        _forget()


def test_a_library_of_another_layout_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ntt_native, "_LAYOUT", ntt_native._LAYOUT + 8)
    _forget()
    try:
        assert ntt.variants() == ()
    finally:
        monkeypatch.undo()
        _forget()


def test_the_active_kernel_is_named() -> None:
    assert native.active("ntt", None) == "ntt: numpy twin, no library"
    assert native.active("ntt", "avx2") == "ntt: avx2"


@pytest.mark.skipif(native.library("ntt") is None, reason="kernels/_ntt*.so is not built")
def test_the_library_is_used_where_it_is_there() -> None:
    assert ntt.basis((114689,)).variant == ntt.variants()[-1]
