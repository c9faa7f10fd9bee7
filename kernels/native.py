"""Finding the optional shared libraries beside this package, and saying which kernels are active.

A library is built by the installation when a compiler is there (`kernels/_NAME*.so`, a plain shared library, no
Python in it) and called through ctypes, which releases the interpreter lock. Without it the numpy twins answer,
never silently: `active()` goes into a run's manifest and into `tally check`.

TALLYSTICK_KERNELS=numpy switches every library off (tests, and a way out on a machine where one misbehaves);
TALLYSTICK_KERNELS=portable or avx2 leaves the transforms' variants up to that one.
"""

from __future__ import annotations

import ctypes
import os
import sysconfig
from functools import cache
from pathlib import Path

__all__ = ["active", "allowed", "library"]

_FOLDER = Path(__file__).parent
_SUFFIXES = tuple(dict.fromkeys((sysconfig.get_config_var("EXT_SUFFIX") or ".so", ".abi3.so", ".so")))


@cache
def library(name: str) -> ctypes.CDLL | None:
    """The shared library `kernels/_NAME*.so` built for this interpreter's platform, or None when there is none."""
    if os.environ.get("TALLYSTICK_KERNELS", "").lower() == "numpy":
        return None
    return load(name, _FOLDER)


def load(name: str, folder: Path) -> ctypes.CDLL | None:
    """Try the known suffixes in one folder; a file that cannot be loaded counts as absent."""
    for suffix in _SUFFIXES:
        path = folder / f"_{name}{suffix}"
        if path.is_file():
            try:
                return ctypes.CDLL(str(path))
            except OSError:
                continue
    return None


def allowed(variants: tuple[str, ...]) -> tuple[str, ...]:
    """Of variants, slowest first, those up to the one that TALLYSTICK_KERNELS names; all if it names none of them."""
    most = os.environ.get("TALLYSTICK_KERNELS", "").lower()
    return variants[: variants.index(most) + 1] if most in variants else variants


def active(name: str, variant: str | None) -> str:
    """One line for manifests: the kernel's name and what computes it."""
    return f"{name}: {'numpy twin, no library' if variant is None else variant}"
