"""Documentation pages as tests read them: fenced blocks, the directive in front of each, links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

_BLOCK = re.compile(r"(?:^<!-- (?P<told>[^\n]*?) -->\n)?^```(?P<language>[a-z]+)\n(?P<text>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """One fenced block. `told` is the comment above it: `not run: ...`, `exit N`, `file: PATH`, `tables of: PATH`."""

    told: str
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [Block(found["told"] or "", found["language"], found["text"]) for found in _BLOCK.finditer(page.read_text())]


def all_pages() -> list[Path]:
    """Every page that people read."""
    return sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
