"""`train.l1` from the job file to both sides' results."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from party.canonical import canonical
from party.errors import FileError
from pipelines import asked, fitting, results
from pipelines.job import Job
from pipelines.spec import read_job
from tests.pipelines.test_inference_jobs import NAMES, _job, world
from tests.pipelines.two_homes import TwoHomes
from vfl import spec

__all__ = ["world"]


def test_zeros_are_exact_and_shown_as_such(world: TwoHomes) -> None:
    run = world.run(_job(", l1: 40").replace("max_passes: 2", "max_passes: 9"), new=True)
    other = world.result("telco", run["run"])
    own, theirs = run["model"]["coefficients"], other["model"]["coefficients"]
    assert own["a"] > 0.5 and any(value == 0.0 for value in theirs.values())
    zero = next(name for name, value in theirs.items() if value == 0.0)
    assert any(line.split() == [zero, "0"] for line in results.text(other).splitlines())
    assert set(theirs) == set(NAMES)


def test_the_key_is_part_of_what_both_sign(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    found = []
    for extra in (", l1: 2", ", l1: 0", "", ", l1: 2, l2: 0"):
        path.write_text(_job(extra))
        found.append(read_job(path, "bank"))
    assert found[1] == found[2] and len({canonical(job.canonical()) for job in found}) == 3
    assert [asked.train_spec(job).l1 for job in found] == [2.0, 0.0, 0.0, 2.0]
    for job in found:
        assert asdict(Job.from_canonical(canonical(job.canonical()))) == asdict(job)


def test_second_order_steps_are_asked_for_by_name(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    found = []
    for extra in (", method: newton", ", method: auto", "", ", method: first_order"):
        path.write_text(_job(extra))
        found.append(read_job(path, "bank"))
    assert found[1] == found[2] and len({canonical(job.canonical()) for job in found}) == 3
    assert [asked.train_spec(job).method for job in found] == ["newton", "auto", "auto", "first_order"]
    assert fitting.METHODS == spec.METHODS  # written twice: a query imports no training
    for job in found:
        assert asdict(Job.from_canonical(canonical(job.canonical()))) == asdict(job)


def test_a_job_with_second_order_steps_runs(world: TwoHomes) -> None:
    run = world.run(_job(", method: newton").replace("max_passes: 2", "max_passes: 9"), new=True)
    plain = world.run(_job("").replace("max_passes: 2", "max_passes: 60"), new=True)
    for name, value in plain["model"]["coefficients"].items():
        assert run["model"]["coefficients"][name] == pytest.approx(value, abs=0.02)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (", method: second", "auto, first_order or newton"),
        (", l1: -1", "between 0 and 1e6"),
        (", l1: 2, inference: true", "valid after l1"),
        (", l1: 2, metrics: {likelihood_ratio: true}", "valid after l1"),
        (", l2: 0", "with l1 it may be 0"),
    ],
)
def test_what_does_not_go_with_it_is_refused(tmp_path: Path, extra: str, words: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(_job(extra))
    with pytest.raises(FileError, match=words):
        read_job(path, "bank")
