"""The main job on default_credit, cut by columns, through the installed command: scikit-learn on the pooled rows."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from tests.e2e.homes import SHARED, Pair, expect, make_pair, tally

FATE = SHARED / "data" / "fate"
pytestmark = [
    pytest.mark.alone,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not FATE.exists(), reason="../shared/data/fate is not here"),
]
COLUMNS = {"bank": [f"x{i}" for i in range(13)], "telco": [f"x{i}" for i in range(10)]}
JOB = f"""version: 1
name: credit
peer: telco
align: {{bank: customers, telco: subscribers, learns: both}}
train:
  label: bank.y
  features: {{bank: [{", ".join(COLUMNS["bank"])}], telco: [{", ".join(COLUMNS["telco"])}]}}
score: {{receiver: bank, to: "parquet:scores.parquet"}}
"""


def thinned(source: Path, target: Path, seed: int) -> None:
    """Nine tenths of the rows, shuffled."""
    header, *rows = source.read_text().splitlines()
    chosen = random.Random(seed).sample(rows, int(len(rows) * 0.9))
    target.write_text("\n".join([header, *chosen]) + "\n")


def home(folder: Path, name: str, table: str, uses: dict[str, str]) -> tuple[str, str]:
    grants = "".join(f"  {table}.{column}: [{use}]\n" for column, use in uses.items())
    policy = f"alignment: rows\nmin_size: 100\nmin_rows: 20\napprove: auto\ncolumns:\n{grants}"
    return f"{table}:\n  url: csv:{folder / name}.csv\n  key: [id]\n", policy


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("credit")
    thinned(FATE / "default_credit_hetero_guest.csv", folder / "bank.csv", 1)
    thinned(FATE / "default_credit_hetero_host.csv", folder / "telco.csv", 2)
    features = {party: dict.fromkeys(columns, "feature") for party, columns in COLUMNS.items()}
    bank = home(folder, "bank", "customers", {"id": "join", "y": "label"} | features["bank"])
    telco = home(folder, "telco", "subscribers", {"id": "join"} | features["telco"])
    pair = make_pair(folder, bank, telco)
    (pair.bank / "job.yaml").write_text(JOB)
    with pair.served():
        answer = expect(tally(pair.bank, "run", str(pair.bank / "job.yaml"), "--direct", "--json", timeout=600))
    return pair, folder, answer.json


def pooled(folder: Path, keys: list[str], train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels and prepared features of these customers: the rules of the contract, written a second time."""
    halves = []
    for name in ("bank", "telco"):
        table = pyarrow.csv.read_csv(
            folder / f"{name}.csv", convert_options=pyarrow.csv.ConvertOptions(column_types={"id": "string"})
        ).to_pandas()
        halves.append(table.set_index("id").loc[keys])
    y = halves[0].pop("y").to_numpy()
    X = np.hstack([half.to_numpy() for half in halves])
    return y, np.clip((X - X[train].mean(0)) / X[train].std(0), -3, 3)


def test_the_model_equals_scikit_learn_on_the_pooled_rows(done: tuple[Pair, Path, dict[str, Any]]) -> None:
    pair, folder, result = done
    scores = pyarrow.parquet.read_table(pair.bank / "scores.parquet").to_pandas()
    train = (scores["split"] == "train").to_numpy()
    y, X = pooled(folder, list(scores["id"]), train)
    truth = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(X[train], y[train])
    expected = truth.predict_proba(X[~train])[:, 1]
    metrics = result["model"]["metrics"]
    assert abs(metrics["auc"] - roc_auc_score(y[~train], expected)) < 0.001
    assert abs(metrics["log_loss"] - log_loss(y[~train], expected)) < 0.001
    assert (metrics["n_train"], metrics["n_test"]) == (train.sum(), (~train).sum())
    theirs = json.loads((pair.telco / "state/runs" / result["run"] / "result.json").read_text())
    cut = len(COLUMNS["bank"])
    for model, weights in ((result["model"], truth.coef_[0][:cut]), (theirs["model"], truth.coef_[0][cut:])):
        ours = np.array(list(model["coefficients"].values()))
        assert np.linalg.norm(ours - weights) < 0.01 * np.linalg.norm(weights)
    assert abs(result["model"]["intercept"] - truth.intercept_[0]) < 0.01 * abs(truth.intercept_[0])
    assert theirs["model"]["intercept"] is None
    assert set(result["model"]["coefficients"]) == set(COLUMNS["bank"])


def test_scores_are_those_of_the_model_for_every_shared_customer(done: tuple[Pair, Path, dict[str, Any]]) -> None:
    pair, folder, result = done
    scores = pyarrow.parquet.read_table(pair.bank / "scores.parquet").to_pandas()
    ids = [{line.split(",")[0] for line in (folder / f"{n}.csv").read_text().splitlines()[1:]} for n in COLUMNS]
    assert set(scores["id"]) == ids[0] & ids[1] and len(scores) == len(ids[0] & ids[1]) == result["rows"]
    assert list(scores.columns) == ["id", "score", "split"]
    train = (scores["split"] == "train").to_numpy()
    y, X = pooled(folder, list(scores["id"]), train)
    expected = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(X[train], y[train]).predict_proba(X)[:, 1]
    assert np.abs(scores["score"].to_numpy() - expected).max() < 0.01


def test_both_ledgers_verify_and_name_what_was_opened(done: tuple[Pair, Path, dict[str, Any]]) -> None:
    pair, _, _ = done
    for side in (pair.bank, pair.telco):
        assert expect(tally(side, "audit", "verify", "--json")).json["status"] == "ok"


def test_the_result_has_the_keys_of_the_contract(done: tuple[Pair, Path, dict[str, Any]]) -> None:
    _, _, result = done
    assert {"run", "status", "rows", "queries", "statistics", "model", "timings", "bytes"} <= set(result)
    assert set(result["timings"]) == {"connect", "align", "analyse", "train", "score"}
    assert set(result["bytes"]) == {"sent", "received"}
    assert {"id", "metrics", "coefficients", "intercept"} <= set(result["model"])
    assert result["status"] == "done"
