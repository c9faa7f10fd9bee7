"""`tally demo` as a new user runs it: offline, two processes, a Prefect flow, beside the pooled answer."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pipelines.demo import same_rows
from tests.e2e.homes import descendants, expect, tally

pytestmark = [pytest.mark.alone, pytest.mark.timeout(400)]


def test_the_demo_equals_the_pooled_answer_and_leaves_nothing_running(tmp_path: Path) -> None:

    before = set(descendants(os.getpid()))
    answer = expect(tally(tmp_path / "demo", "demo", "--rows", "3000", "--json", timeout=350))
    result = answer.json
    joint, pooled, bank = result["model"]["metrics"], result["pooled"], result["bank_only"]
    for name, gap in (("auc", 0.001), ("log_loss", 0.001), ("ks", 0.003)):
        assert abs(joint[name] - pooled[name]) < gap
    assert joint["auc"] > bank["auc"] + 0.03
    for name, rows in pooled["queries"].items():
        assert rows and same_rows(rows, result["queries"][name]), name
    assert result["rows"] > 1000 and result["seconds"] > 0
    for report in result["reports"]:
        page = Path(report).read_text()
        assert page.startswith("<!doctype html>") and "http" not in page
    for home in ("bank", "telco"):
        assert expect(tally(tmp_path / "demo" / home, "audit", "verify", "--json")).json["status"] == "ok"
        (listed,) = json.loads(tally(tmp_path / "demo" / home, "runs", "--json").stdout)
        assert listed["status"] == "done"
    assert set(descendants(os.getpid())) <= before


def test_the_demo_never_overwrites_what_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    answer = tally(tmp_path, "demo", "--json")
    assert answer.code == 2 and "not empty" in answer.json["error"]["message"]
    assert (tmp_path / "letter.txt").read_text() == "mine"
