"""The commands of the how-to on weight of evidence work as they stand, after the tutorial's first five sections."""

from __future__ import annotations

from pathlib import Path

from tests.docs.pages import DOCS
from tests.docs.walk import Walk


def test_every_command_of_the_how_to_works(tmp_path: Path) -> None:
    walk = Walk.after_the_tutorial(tmp_path)
    walk.follow(DOCS / "how-to/choose-features-with-woe.md")
    said = "\n".join(walk.said)
    assert "woe of telco.minutes by bank.defaulted: the rows of each bin" in said
    assert "drivers, woe:" in said and "drivers, auc:" in said
    frames = walk.said[-1]
    best = frames.split("\n")[1]
    assert "telco.late_bills" in best  # as the made tables have it
    assert "(" in frames and "basic" in frames
