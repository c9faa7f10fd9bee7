"""`train.inference: true` from the job file to the result of either side, its text and its report."""

from __future__ import annotations

import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from party.canonical import canonical
from party.errors import FileError
from party.home import Home
from pipelines import asked, results
from pipelines.job import Job
from pipelines.report import write_report
from pipelines.runs import RunState
from pipelines.spec import read_job
from tests.pipelines.two_homes import TABLES, TwoHomes

NAMES = ("a", "b", "c")


def _job(extra: str) -> str:
    return (
        "version: 1\nname: fit\npeer: telco\nalign: {bank: customers, telco: subscribers, learns: both}\n"
        f"train: {{label: bank.bad, features: {{bank: [a, b, c], telco: [a, b, c]}}, max_passes: 2{extra}}}\n"
    )


@pytest.fixture
def world(tmp_path: Path) -> TwoHomes:
    found = TwoHomes(tmp_path)
    rng = random.Random(1)
    for side in TABLES:
        content: dict[str, list[Any]] = {"id": [f"k{i}" for i in range(400)]}
        content |= {name: [rng.gauss(0, 1) for _ in range(400)] for name in NAMES}
        if side == "bank":
            content["bad"] = [value + rng.gauss(0, 1) > 0 for value in content["a"]]
        found.fill(side, content)
        columns = "".join(f"  {TABLES[side]}.{name}: [feature]\n" for name in NAMES)
        label = "  customers.bad: [label]\n" if side == "bank" else ""
        policy = f"alignment: rows\nmin_size: 1\nmin_rows: 1\napprove: auto\ncolumns:\n  {TABLES[side]}.id: [join]\n"
        found.declare(side, "key: [id]\n", policy + columns + label)
    return found


def test_each_side_gets_the_rows_of_its_own_coefficients(world: TwoHomes) -> None:
    run = world.run(_job(", inference: true"), new=True)
    other = world.result("telco", run["run"])
    assert [row["name"] for row in run["model"]["inference"]] == ["(intercept)", *NAMES]
    assert [row["name"] for row in other["model"]["inference"]] == list(NAMES)
    assert run["model"]["inference_refused"] is None
    assert run["model"]["fit"]["rows"] == 320 and run["model"]["fit"]["llr_dof"] == 6 and other["model"]["fit"] is None
    for row in run["model"]["inference"][1:]:
        assert row["coefficient"] == run["model"]["coefficients"][row["name"]]
        assert row["low"] < row["coefficient"] < row["high"] and 0 < row["standard_error"] < 0.3
        assert row["unit_odds_low"] < row["unit_odds_ratio"] < row["unit_odds_high"]
    text = results.text(run)
    assert "likelihood ratio" in text and "AIC" in text
    assert "std err" in text and "odds ratio" in text and "(intercept)" in text
    home = Home.open(world.homes["bank"])
    page = write_report(home, RunState(home.state / "runs", run["run"])).read_text()
    assert "std err" in page and "standard errors of telco" in page and "(intercept)" in page


def test_without_the_key_there_are_no_errors_and_no_words_about_them(world: TwoHomes) -> None:
    run = world.run(_job(""), new=True)
    assert run["model"]["inference"] is None and run["model"]["inference_refused"] is None
    assert "std err" not in results.text(run)


def test_why_there_are_none_is_told() -> None:
    lines = results.inference_lines({"inference": [], "inference_refused": "collinear columns"})
    assert lines == ["", "no standard errors: collinear columns"]


def test_the_key_is_part_of_what_both_sign(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    found = []
    for extra in (", inference: true", ", inference: false", ""):
        path.write_text(_job(extra))
        found.append(read_job(path, "bank"))
    assert found[1] == found[2] != found[0]
    assert asked.train_spec(found[0]).inference and not asked.train_spec(found[1]).inference
    for job in found:
        again = Job.from_canonical(canonical(job.canonical()))
        assert asdict(again) == asdict(job)
    path.write_text(_job(", inference: 1"))
    with pytest.raises(FileError):
        read_job(path, "bank")
