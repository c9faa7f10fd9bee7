"""`train.cross_validation` from the job file to the result of either side, its text and its report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from party.canonical import canonical
from party.errors import FileError, PeerError
from party.home import Home
from pipelines import asked, results
from pipelines.job import Job
from pipelines.report import write_report
from pipelines.runs import RunState
from pipelines.spec import read_job
from tests.pipelines.test_inference_jobs import NAMES, world
from tests.pipelines.two_homes import TwoHomes
from vfl.folds import CrossValidation

__all__ = ["NAMES", "world"]


def _job(extra: str) -> str:
    return (
        "version: 1\nname: fit\npeer: telco\nalign: {bank: customers, telco: subscribers, learns: both}\n"
        f"train: {{label: bank.bad, features: {{bank: [a, b, c], telco: [a, b, c]}}, max_passes: 1{extra}}}\n"
    )


def _read(tmp_path: Path, extra: str) -> Job:
    path = tmp_path / "job.yaml"
    path.write_text(_job(extra))
    return read_job(path, "bank")


def test_both_sides_get_the_folds_and_the_penalty_that_was_taken(world: TwoHomes) -> None:
    run = world.run(_job(", cross_validation: {folds: 2, l2: [100, 1], metric: auc}"), new=True)
    other = world.result("telco", run["run"])
    folds = run["model"]["cross_validation"]
    assert folds == other["model"]["cross_validation"]
    assert [(row["l2"], row["fold"]) for row in folds] == [(100.0, 1), (100.0, 2), (1.0, 1), (1.0, 2)]
    means = {l2: sum(row["auc"] for row in folds if row["l2"] == l2) for l2 in (100.0, 1.0)}
    assert run["model"]["l2"] == other["model"]["l2"] == max(means, key=lambda l2: (means[l2], l2))
    assert run["model"]["metrics"]["auc"] > 0.6 and all(0.5 < row["auc"] < 1 for row in folds)
    text = results.text(run)
    assert "cross-validation, l2 " in text and "mean" in text
    home = Home.open(world.homes["telco"])
    page = write_report(home, RunState(home.state / "runs", run["run"])).read_text()
    assert "Cross-validation" in page and f"{folds[0]['log_loss']:.4f}" in page
    assert not list((home.state / "runs" / run["run"]).glob("passes"))


def test_without_the_key_there_are_no_folds(world: TwoHomes) -> None:
    run = world.run(_job(", l2: 2.5"), new=True)
    assert run["model"]["cross_validation"] is None and run["model"]["l2"] == 2.5
    assert "cross-validation" not in results.text(run)


def test_the_key_is_part_of_what_both_sign_and_counts_against_budgets(tmp_path: Path) -> None:
    plain, default = _read(tmp_path, ""), _read(tmp_path, ", cross_validation: {}")
    chosen = _read(tmp_path, ", cross_validation: {folds: 3, l2: [0.5, 2], metric: auc}")
    assert asked.train_spec(chosen).cross_validation == CrossValidation(3, (0.5, 2.0), "auc")
    assert asked.train_spec(default).cross_validation == CrossValidation()
    assert asked.train_spec(plain).cross_validation is None
    assert _read(tmp_path, ", cross_validation: null") == plain
    for job in (plain, default, chosen):
        assert Job.from_canonical(canonical(job.canonical())) == job
    assert [asked.queries(job, "telco") for job in (plain, default, chosen)] == [1, 4, 3]


@pytest.mark.parametrize(
    ("extra", "word"),
    [
        (", cross_validation: {folds: 1}", "between 2 and 20"),
        (", cross_validation: {l2: [1, 1.0]}", "each once"),
        (", cross_validation: {l2: [0]}", "above 0"),
        (", cross_validation: {metric: accuracy}", "log_loss or auc"),
        (", cross_validation: {fold: 3}", "unknown key `fold`"),
        (", cross_validation: {}, l2: 1.0", "is to find"),
    ],
)
def test_a_wrong_one_is_refused_with_its_line(tmp_path: Path, extra: str, word: str) -> None:
    with pytest.raises(FileError, match=word) as caught:
        _read(tmp_path, extra)
    assert "job.yaml:5" in str(caught.value)


@pytest.mark.parametrize("change", [{"folds": True}, {"folds": 99}, {"l2": 1.0}, {"l2": []}, {"metric": 1}])
def test_a_peers_job_with_a_wrong_one_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    raw = _read(tmp_path, ", cross_validation: {}").canonical()
    raw["train"]["cross_validation"] |= change
    with pytest.raises(PeerError):
        Job.from_canonical(canonical(raw))
