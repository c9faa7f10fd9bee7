"""The README's statements work as they stand over the homes that `make demo` leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.demo import make_homes
from tests.docs.pages import ROOT
from tests.docs.walk import Walk

README = ROOT / "README.md"


@pytest.mark.alone
def test_the_readmes_commands_work_after_the_demo(tmp_path: Path) -> None:
    make_homes(tmp_path / "demo", 2000)
    walk = Walk(tmp_path, {". .venv/bin/activate\n": ""})
    walk.follow(README)
    ready, asked, explained = walk.said
    assert ready.startswith("ready telco")
    head, *rows = [line for line in asked.strip().split("\n") if not line.startswith("(")]
    assert head.split() == ["plan", "customers", "mean_balance", "r"]
    shown = [row.split() for row in rows]
    assert len(shown) >= 3 and all(int(row[1]) >= 100 for row in shown)
    means = [float(row[2]) for row in shown]
    assert means == sorted(means, reverse=True) and len(set(means)) == len(means)
    assert "encrypted column" in explained and "bank learns" in explained
