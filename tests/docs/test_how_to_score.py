"""The commands of the how-to on scoring new customers work as they stand, after the tutorial's first five sections."""

from __future__ import annotations

import csv
from pathlib import Path

from tests.docs.pages import DOCS
from tests.docs.walk import Walk


def test_every_command_of_the_how_to_works(tmp_path: Path) -> None:
    walk = Walk.after_the_tutorial(tmp_path)
    before = len(walk.said)
    walk.follow(DOCS / "how-to/score-new-customers.md")
    ready, listed, _, scored, more, refused, one, session, cards = walk.said[before:]
    assert ready.startswith("ready telco")
    first, second = [line for line in listed.split("\n") if " default-risk " in line][-2:]
    assert first.split()[0] == second.split()[0] and "with telco" in first and "with bank" in second
    assert "rows in common" in scored and "phone,score" in scored.replace('"', "")
    assert more.count("rows in common") == 1 and refused == ""
    rows = list(csv.DictReader((tmp_path / "bank/results/applicants.csv").open()))
    points = list(csv.DictReader((tmp_path / "bank/results/points.csv").open()))
    assert len(rows) == len(points) > 100 and all(float(row["points"]).is_integer() for row in points)
    assert "NULL" in one and rows[0]["score"].rstrip("0") in one
    assert session.count("'score': 0.") == 4
    assert "base" in cards and "minutes" in cards and "intercept, our part" in cards
