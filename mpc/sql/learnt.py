"""What a receiver learns, as a plan tells it to people."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["learnt"]

_LINE = 110  # characters
_FEW = 2  # so many parts of an aggregate are named one by one


def learnt(names: Iterable[str]) -> list[str]:
    """Names of openings in lines of some width: `s.count, s.sum`; aggregates of many parts stand behind these."""
    parts: dict[str, list[str]] = {}
    for name in names:
        whole, _, part = name.rpartition(".")
        parts.setdefault(whole, []).append(part)
    single: list[str] = []
    alike: dict[str, list[str]] = {}
    for whole, made_of in parts.items():
        if whole and len(made_of) > _FEW:
            alike.setdefault(", ".join(made_of), []).append(whole)
        else:
            single += [f"{whole}.{part}" if whole else part for part in made_of]
    lines = _filled(single, "")
    for told, wholes in alike.items():
        lines += _filled(wholes, f"{told} of ")
    return lines


def _filled(items: list[str], head: str) -> list[str]:
    """As many items a line as fit, each line with the head in front."""
    lines: list[str] = []
    for item in items:
        if lines and len(lines[-1]) + len(item) <= _LINE:
            lines[-1] += f", {item}"
        else:
            lines.append(f"{head}{item}")
    return lines
