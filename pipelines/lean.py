"""What our processes load, and when.

Processes of our own load no pandas: pyarrow would import it, for its own convenience, at the first array it makes.

That costs 0.3 s and 40 MB a process, and nothing here needs it. Only the edges of a process call this, never a library
function: who uses `pipelines.Party` gets `.to_pandas()` as ever.

While a command waits for the peer's worker to start it loads what the run will need.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import ModuleType
from typing import NoReturn

__all__ = ["leave", "load_meanwhile", "refuse_pandas"]


class _Refusal:
    """A finder that ends the search for one module."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        """Nothing for all others."""
        if name == "pandas":
            raise ModuleNotFoundError("pandas is not loaded in this process", name=name)


def refuse_pandas() -> None:
    """From here on `import pandas` fails in this process, as if it were not installed."""
    sys.meta_path.insert(0, _Refusal())


def leave(code: int) -> NoReturn:
    """End this process. Taking large libraries down takes a short command 0.1 s, and they have nothing left to do;
    Prefect has."""
    if "prefect" in sys.modules:
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def load_meanwhile(*names: str) -> threading.Thread:
    """Import these modules in a thread; whoever imports one of them meanwhile waits for it, and sees its error."""

    def load() -> None:
        for name in names:
            with suppress(Exception):  # whoever needs it meets the same error where it can be told
                importlib.import_module(name)

    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    return thread
