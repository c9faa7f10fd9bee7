"""A model trained by two processes scores a new cohort as the pooled model does, through the installed command."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression

from pipelines import Party
from tests.e2e.homes import Pair, expect, make_pair, tally

pytestmark = pytest.mark.timeout(300)

BANK, TELCO = ("balance", "income", "age"), ("minutes", "bills", "tenure")
POLICY = "alignment: rows\nmin_size: 20\nmin_rows: 5\napprove: auto\ncolumns:\n"
JOB = f"""\
version: 1
name: risk
peer: telco
align: {{bank: customers, telco: subscribers, learns: both}}
train:
  label: bank.bad
  features: {{bank: [{", ".join(BANK)}], telco: [{", ".join(TELCO)}]}}
  test_fraction: 0
"""


def truth(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Everybody's columns of both sides, and the label."""
    rng = np.random.default_rng(77)
    common = rng.standard_normal((rows, 1))
    values = (rng.standard_normal((rows, 6)) + 0.4 * common) * [900.0, 40.0, 11.0, 30.0, 2.0, 5.0] + [
        2e3,
        90,
        45,
        9,
        1,
        7,
    ]
    logit = (values - values.mean(0)) / values.std(0) @ [-0.8, 0.3, -0.2, 0.1, 0.9, -0.5] - 1.0
    return values, rng.random(rows) < 1 / (1 + np.exp(-logit))


VALUES, BAD = truth(1600)
OLD, NEW = np.arange(1000), np.arange(1000, 1500)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both homes with a model, the telco serving; the new cohort is the bank's table `fresh`."""
    folder = tmp_path_factory.mktemp("score")
    tables = "".join(f"{name}:\n  url: parquet:{name}.parquet\n  key: [id]\n" for name in ("customers", "fresh"))
    names = [f"{table}.{column}" for table in ("customers", "fresh") for column in BANK]
    bank = "".join(f"  {name}: [feature]\n" for name in names) + "  customers.bad: [label]\n"
    bank += "  customers.id: [join]\n  fresh.id: [join]\n"
    telco = "".join(f"  subscribers.{column}: [feature]\n" for column in TELCO) + "  subscribers.id: [join]\n"
    made = make_pair(
        folder,
        (tables, POLICY + bank),
        ("subscribers:\n  url: parquet:subscribers.parquet\n  key: [id]\n", POLICY + telco),
    )

    def write(path: Path, rows: np.ndarray, columns: dict[str, np.ndarray]) -> None:
        pq.write_table(pa.table({"id": [f"c{n}" for n in rows], **{k: v[rows] for k, v in columns.items()}}), path)

    own = dict(zip(BANK, VALUES[:, :3].T, strict=True))
    write(made.bank / "customers.parquet", OLD, own | {"bad": BAD})
    write(made.bank / "fresh.parquet", NEW, own)
    write(made.telco / "subscribers.parquet", np.arange(1600)[::-1], dict(zip(TELCO, VALUES[:, 3:].T, strict=True)))
    (made.bank / "job.yaml").write_text(JOB)
    with made.served():
        expect(tally(made.bank, "run", str(made.bank / "job.yaml"), "--direct"))
        yield made


@pytest.fixture(scope="module")
def model(pair: Pair) -> str:
    return str(expect(tally(pair.bank, "models", "--json")).json[0]["id"])


def pooled(rows: np.ndarray) -> np.ndarray:
    """What scikit-learn's model over the joined table gives these rows."""
    mean, sd = VALUES[OLD].mean(0), VALUES[OLD].std(0)
    X = np.clip((VALUES - mean) / sd, -3, 3)
    return np.asarray(LogisticRegression(C=1.0, tol=1e-8).fit(X[OLD], BAD[OLD]).predict_proba(X[rows])[:, 1])


def test_a_new_cohort_gets_the_pooled_models_scores(pair: Pair, model: str) -> None:
    found = expect(tally(pair.bank, "score", model, "--table", "fresh", "--to", "csv:fresh.csv", "--json")).json
    assert found["rows"] == 500 and found["scores"]["rows"] == 500 and found["answers"] is None
    with (pair.bank / "fresh.csv").open() as file:
        scores = {int(row["id"][1:]): float(row["score"]) for row in csv.DictReader(file)}
    assert sorted(scores) == list(NEW)
    found = np.array([scores[n] for n in NEW])
    assert np.abs(found - pooled(NEW)).max() < 0.01
    assert np.corrcoef(found, pooled(NEW))[0, 1] > 0.9999


def test_single_rows_by_command_file_and_session(pair: Pair, model: str, tmp_path: Path) -> None:
    one = expect(tally(pair.bank, "score", model, "--table", "fresh", "--id", "c1200", "--id", "c1599", "--json")).json
    assert [row["asked"] for row in one["answers"]] == ["c1200", "c1599"] and one["answers"][1]["score"] is None
    assert abs(one["answers"][0]["score"] - pooled(np.array([1200]))[0]) < 0.01
    (tmp_path / "ids.csv").write_text("id\nc1201\nc1202\n")
    words = ["--table", "fresh", "--ids", str(tmp_path / "ids.csv"), "--as", "points"]
    shown = expect(tally(pair.bank, "score", model, *words)).stdout.split("\n")
    assert shown[0].split() == ["asked", "id", "points"] and [line.split()[0] for line in shown[1:3]] == [
        "c1201",
        "c1202",
    ]
    with Party.open(pair.bank).session("telco") as session:
        assert session.score(model, "c1200", table="fresh").to_pylist() == [one["answers"][0]]
        assert session.score(model, table="fresh").num_rows == 500
        assert session.query(
            "SELECT COUNT(*) AS n FROM bank.fresh b JOIN telco.subscribers t ON b.id = t.id"
        ).to_pylist() == [{"n": 500}]


def test_each_side_shows_its_own_half_only(pair: Pair, model: str) -> None:
    for home, names in ((pair.bank, BANK), (pair.telco, TELCO)):
        found = expect(tally(home, "model", model, "--scorecard", "--json")).json
        assert tuple(found["coefficients"]) == names == tuple(row["feature"] for row in found["scorecard"]["features"])
        assert isinstance(found["scorecard"]["base"], float) is (home == pair.bank)
