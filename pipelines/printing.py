"""How a verb prints its result, and the flag that every verb has."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

import typer

__all__ = ["JsonFlag", "show"]

JsonFlag = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, also on failure.")]


def show(result: Any, as_json: bool, text: Callable[[Any], str]) -> None:
    """Print a result: JSON, or the text made of it."""
    print(json.dumps(result, indent=2, ensure_ascii=False) if as_json else text(result), flush=True)
