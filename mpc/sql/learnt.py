"""What a receiver learns, as a plan tells it to people."""

from __future__ import annotations

__all__ = ["learnt"]

_LINE = 110  # characters


def learnt(names: list[str]) -> list[str]:
    """Names of openings in lines of some width; of an aggregate that is made of many, its name stands once."""
    parts: dict[str, list[str]] = {}
    for name in names:
        whole, _, part = name.rpartition(".")
        parts.setdefault(whole, []).append(part)
    told = []
    for whole, made_of in parts.items():
        if whole and len(made_of) > 2:
            told.append(f"{whole} ({', '.join(made_of)})")
        else:
            told += [f"{whole}.{part}" if whole else part for part in made_of]
    lines = [""]
    for item in told:
        if lines[-1] and len(lines[-1]) + len(item) > _LINE:
            lines.append("")
        lines[-1] += f", {item}" if lines[-1] else item
    return lines
