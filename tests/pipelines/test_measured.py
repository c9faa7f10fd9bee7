"""`train.metrics` in a job file: read, signed, refused, asked; and what it becomes in results and the report."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from party.canonical import canonical
from party.errors import PeerError, TallyError
from pipelines import asked, results
from pipelines.job import Job
from pipelines.measured import Measured
from pipelines.plots import model_plots
from pipelines.spec import read_job

JOB = """
version: 1
name: risk
peer: telco
align: {bank: customers, telco: subscribers, learns: both}
train:
  label: bank.defaulted
  features: {bank: [balance, income, age], telco: [minutes, late_bills, tenure]}
"""
FLAGS = ("brier", "deciles", "curves", "hosmer_lemeshow", "psi", "likelihood_ratio")
ALL = "{to: [telco], threshold: 0.5, " + ", ".join(f"{flag}: true" for flag in FLAGS) + "}"


def _read(tmp_path: Path, metrics: str | None) -> Job:
    path = tmp_path / "job.yaml"
    path.write_text(JOB + (f"  metrics: {metrics}\n" if metrics else ""))
    return read_job(path, "bank")


@pytest.mark.parametrize("metrics", [None, "null", ALL, "{threshold: 0.25}", "{deciles: false}"])
def test_a_job_comes_back_from_its_canonical_bytes(tmp_path: Path, metrics: str | None) -> None:
    job = _read(tmp_path, metrics)
    assert Job.from_canonical(canonical(job.canonical())) == job


def test_what_is_asked_reaches_the_training(tmp_path: Path) -> None:
    found = asked.train_spec(_read(tmp_path, ALL)).metrics
    assert (found.to, found.threshold, found.groups) == (("telco",), 0.5, 20)
    assert found.brier and found.stability and found.likelihood
    plain = asked.train_spec(_read(tmp_path, None)).metrics
    assert plain.to == () and plain.groups == 0 and plain.threshold is None
    assert Measured(hosmer_lemeshow=True).wanted().groups == Measured(deciles=True).wanted().groups == 10


@pytest.mark.parametrize(
    ("metrics", "word"),
    [
        ("{to: [shop]}", "train.metrics.to|names one or both"),
        ("{to: [bank, bank]}", "names one or both"),
        ("{threshold: 1.0}", "between 0 and 1"),
        ("{decile: true}", "unknown key `decile`"),
        ("{brier: 1}", "true"),
    ],
)
def test_a_wrong_one_is_refused_with_its_line(tmp_path: Path, metrics: str, word: str) -> None:
    with pytest.raises(TallyError, match=word) as caught:
        _read(tmp_path, metrics)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "change", [{"to": "bank"}, {"to": [1]}, {"brier": 1}, {"threshold": "x"}, {"threshold": 2.0}, {"to": ["shop"]}]
)
def test_a_peers_job_with_wrong_metrics_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    raw = _read(tmp_path, ALL).canonical()
    raw["train"]["metrics"] |= change
    with pytest.raises(PeerError):
        Job.from_canonical(canonical(raw))


TABLE = [
    {"rows": 100, "events": 60, "rate": 0.6, "predicted": 0.55, "lift": 1.5, "gain": 0.6, "depth": 1 / 3},
    {"rows": 200, "events": 40, "rate": 0.2, "predicted": 0.22, "lift": 0.5, "gain": 1.0, "depth": 1.0},
]
EVIL = "<script>alert('x')</script>"


def test_plots_are_accessible_and_hold_no_markup_of_a_table() -> None:
    model = {"metrics": {"by_score": TABLE}, "coefficients": {EVIL: -0.5, "b": 0.25, "c": 0.0}}
    plots = dict(model_plots(model))
    assert list(plots) == ["ROC", "KS", "Calibration", "Coefficients"]
    for drawn in plots.values():
        root = ElementTree.fromstring(drawn)
        tags = {element.tag for element in root.iter()}
        assert root.get("role") == "img" and {"title", "desc"} <= tags
        assert tags <= {"svg", "title", "desc", "rect", "text", "line", "polyline", "circle"}
        ids = {element.get("id") for element in root.iter()}
        assert set(str(root.get("aria-labelledby")).split()) <= ids
    points = re.findall(r"points='([^']*)'", plots["ROC"])[1].split()
    assert points == ["46.0,272.0", "98.0,116.0", "306.0,12.0"]  # (0, 0), (0.2, 0.6), (1, 1)
    assert "0.400 apart at 33%" in plots["KS"]


def test_without_a_table_only_coefficients_are_drawn() -> None:
    assert [name for name, _ in model_plots({"metrics": {"by_score": None}, "coefficients": {"a": 1.0}})] == [
        "Coefficients"
    ]
    assert model_plots({"metrics": {}, "coefficients": {}}) == []


def test_results_for_people_show_what_was_asked() -> None:
    metrics = {
        "auc": 0.7,
        "brier": None,
        "confusion": {"threshold": 0.5, "true_positive": 30},
        "by_score": TABLE,
        "psi": None,
    }
    lines = "\n".join(results._measured(metrics))
    assert "confusion: threshold 0.5, true_positive 30" in lines and "depth" in lines
    assert results._measured({"auc": None, "psi": None}) == []
