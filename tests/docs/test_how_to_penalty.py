"""The job of the how-to on penalties can be read, and its plan says what the page says."""

from __future__ import annotations

from pathlib import Path

import vfl
from pipelines import asked
from pipelines.spec import read_job
from tests.docs.pages import DOCS, blocks


def test_the_job_is_read_and_its_plan_says_what_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "penalty.yaml"
    path.write_text(
        next(block.text for block in blocks(DOCS / "how-to/choose-a-penalty.md") if block.language == "yaml")
    )
    job = read_job(path, "bank")
    told = "\n".join(vfl.plan(asked.train_spec(job), 5000).lines)
    assert "5 folds of the training rows x l2 0.1, 10, 1000: 15 trainings" in told and "opened to nobody" in told
    assert asked.queries(job, "telco") == 4
