"""`train.prepare` and `train.screen` through job.yaml, from both homes' files to the scores, and their refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import vfl
from party.canonical import canonical
from party.errors import FileError, PeerError, PeerRefused, PolicyRefused
from pipelines import asked, verbs_plan
from pipelines.facade import RunResult
from pipelines.job import Job
from pipelines.spec import read_job
from tests.pipelines.two_homes import TABLES, TwoHomes

ROWS = 420
HEAD = "version: 1\nname: risk\npeer: telco\nalign: {bank: customers, telco: subscribers, learns: both}\n"
TRAIN = """train:
  label: bank.bad
  features: {bank: [income, region, age], telco: [tenure, plan, minutes, twice]}
  test_fraction: 0.25
  tol: 0.001
  prepare:
    bank.income: {impute: median, indicator: true, winsorise: [1, 99]}
    bank.region: {one_hot: true, min_share: 0.07}
    telco.tenure: {bins: 5, woe: true, merge: 0.05}
    telco.plan: {woe: true}
    "*": {winsorise: null}
  screen: {correlation: 0.95}
score: {receiver: bank}
"""
GRANTS = {
    "bank": {"id": "join", "income": "feature", "region": "feature", "age": "feature", "bad": "label, aggregate"},
    "telco": {"id": "join", "tenure": "feature", "plan": "feature", "minutes": "feature", "twice": "feature"},
}
COLUMNS = {"bank": "  bad: {type: bool}\n", "telco": ""}


class World(TwoHomes):
    """A label that follows the telco's tenure and plan; `twice` is twice the minutes."""

    def set(self, without: tuple[str, str, str] | None = None) -> pd.DataFrame:
        rng = np.random.default_rng(12)
        tenure, plan = rng.integers(0, 100, ROWS), rng.choice(["basic", "plus", "gold"], ROWS, p=[0.5, 0.3, 0.2])
        minutes = rng.integers(0, 3000, ROWS)
        odds = (50 - tenure) / 30 + (plan == "gold") * 1.5
        pooled = {
            "income": [float(v) if v < 60_000 else None for v in rng.lognormal(10.4, 0.6, ROWS)],
            "region": ["isle"] * 18 + rng.choice(["north", "south", "east"], ROWS - 18).tolist(),
            "age": rng.integers(18, 90, ROWS).tolist(),
            "bad": (rng.random(ROWS) < 1 / (1 + np.exp(-odds))).tolist(),
            "tenure": tenure.tolist(),
            "plan": plan.tolist(),
            "minutes": minutes.tolist(),
            "twice": (2 * minutes).tolist(),
        }
        for side in ("bank", "telco"):
            self.fill(side, {"id": [f"k{i}" for i in range(ROWS)]} | {n: pooled[n] for n in GRANTS[side] if n != "id"})
            lines = ""
            for name, uses in GRANTS[side].items():
                kept = [use for use in uses.split(", ") if (side, name, use) != without]
                lines += f"  {TABLES[side]}.{name}: [{', '.join(kept)}]\n"
            policy = (
                f"alignment: rows\nmin_size: 1\nmin_rows: 5\napprove: auto\nbudget: {{queries: 40}}\ncolumns:\n{lines}"
            )
            self.declare(side, f"key: [id]\ncolumns:\n{COLUMNS[side]}" if COLUMNS[side] else "key: [id]\n", policy)
        return pd.DataFrame(pooled)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="module")
def ran(world: World) -> tuple[pd.DataFrame, dict[str, Any]]:
    pooled = world.set()
    return pooled, world.run(HEAD + TRAIN, new=True)


def half(world: World, side: str, run: str) -> vfl.ModelHalf:
    kept = json.loads((world.homes[side] / "state" / "runs" / run / "model.json").read_bytes())
    return vfl.ModelHalf.from_json(kept["half"])


def test_scores_are_those_of_the_pooled_model_on_columns_prepared_with_pandas(ran: Any, world: World) -> None:
    pooled, run = ran
    scores = RunResult(world.homes["bank"], run).to_frame()
    pooled = pooled.loc[[int(key[1:]) for key in scores["id"]]].reset_index(drop=True)
    train = (scores["split"] == "train").to_numpy()
    known = pooled["income"][train].dropna()
    income = pooled["income"].clip(*np.percentile(known, [1, 99]))
    scale = income[train].mean(), income[train].std(ddof=0)
    regions = pooled["region"].replace("isle", "other")
    assert half(world, "bank", run["run"]).features == (
        "income", "income:missing", "region=east", "region=north", "region=south", "region=other", "age",
    )  # fmt: skip
    assert half(world, "telco", run["run"]).features == ("tenure:woe", "plan:woe", "minutes")
    preparation = vfl.Preparation.from_json(half(world, "telco", run["run"]).recipe or {})
    made = {
        "income": (income.fillna(income[train].median()) - scale[0]) / scale[1],
        "missing": pooled["income"].isna().astype(float),
        **{name: (regions == name).astype(float) for name in ("east", "north", "south", "other")},
        "age": pooled["age"],
    }
    for feature in preparation.features[:2]:
        line = (
            np.searchsorted(feature.lines.edges, pooled[feature.column])
            if feature.column == "tenure"
            else np.searchsorted(feature.lines.values, pooled["plan"])
        )
        table = pd.crosstab(line[train], pooled["bad"][train])
        share = table / table.sum()
        if feature.column == "plan":  # each of the three has enough rows of either label
            np.testing.assert_allclose(feature.weights, np.log(share[False] / share[True]), rtol=1e-12)
        made[feature.column] = pd.Series(np.array(feature.weights)[line])
    made["minutes"] = pooled["minutes"]
    table = pd.DataFrame(made)
    columns = [name for name in table if name != "income"]
    table[columns] = StandardScaler().fit(table.loc[train, columns]).transform(table[columns])
    model = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(table[train], pooled["bad"][train])
    assert np.abs(model.predict_proba(table)[:, 1] - scores["score"]).max() < 0.01


def test_what_is_left_out_is_told_to_both_and_counts_take_from_the_budget(ran: Any, world: World) -> None:
    run = ran[1]
    assert run["model"]["left_out"] == ["telco.twice"]
    assert world.result("telco", run["run"])["model"]["left_out"] == ["telco.twice"]
    taken = {side: [e["queries"] for e in world.events(side, "debit") if e["run"] == run["run"]] for side in TABLES}
    # the telco's: the model, and the label's counts in the bins of tenure and of plan; the bank's: the model, scores
    assert sorted(map(sum, taken.values())) == [2, 3]
    for side, told in (("bank", True), ("telco", False)):  # the bank's ledger holds what left the bank
        what = {str(event["what"]) for event in world.events(side, "disclosure") if event["run"] == run["run"]}
        assert ("train: rows of each label in bins of telco.tenure" in what) is told


def test_the_plan_says_what_preparation_opens(world: World) -> None:
    world.set()
    path = world.homes["bank"] / "job.yaml"
    path.write_text(HEAD + TRAIN)
    with world.linked():
        pass
    plan = verbs_plan.plan(world.homes["bank"], path, offline=True)
    told = "\n".join(plan["explain"])
    assert "telco learns the weight of evidence of each of its bins of tenure" in told
    assert "bank.region make a column for each value" in told
    bare = read_job(path, "bank")
    assert asked.queries(bare, "telco") == 3 and asked.queries(bare, "bank") == 2


def test_label_counts_need_the_grant_aggregate_of_the_label(world: World) -> None:
    world.set(("bank", "bad", "aggregate"))
    with pytest.raises((PolicyRefused, PeerRefused), match="bad"):
        world.run(HEAD + TRAIN, new=True)
    world.set()


def test_texts_that_no_recipe_names_are_refused_with_the_remedies(world: World) -> None:
    world.set()
    with pytest.raises(Exception, match="region is not a number") as caught:
        world.run(HEAD + TRAIN.replace("    bank.region: {one_hot: true, min_share: 0.07}\n", ""), new=True)
    assert "one_hot: true" in str(getattr(caught.value, "hint", ""))


WRONG = {
    "{bank.incom: {impute: mean}}": ("bank.incom is no feature of this job", "did you mean `bank.income`?"),
    "{bank.income: {imput: mean}}": ("unknown key `imput`", "did you mean `impute`?"),
    "{bank.income: {impute: medain}}": ("cannot be 'medain'", "did you mean `median`?"),
    "{bank.income: {}}": ("says nothing", "such as"),
    "{bank.income: 3}": ("must be a mapping", ""),
    "{bank.income: {woe: yes}}": ("must be true or false", ""),
    "{bank.income: {bins: 10}}": ("needs `woe: true` or `one_hot: true`", ""),
    "{bank.income: {bins: 1, woe: true}}": ("must lie between 2 and 64", ""),
    "{bank.income: {winsorise: [1, 2, 3]}}": ("has more than 2 items", ""),
    "{bank.income: {winsorise: [99, 1]}}": ("two ascending percentiles", ""),
    "{bank.income: {woe: true, edges: [3, 2]}}": ("must ascend", ""),
}


@pytest.mark.parametrize("prepare", WRONG)
def test_what_is_wrong_in_prepare_is_told_with_its_line_and_the_nearest_word(prepare: str, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    before, after = TRAIN.split("  prepare:\n")
    path.write_text(HEAD + before + f"  prepare: {prepare}\n" + after[after.index("  screen") :])
    with pytest.raises(FileError) as caught:
        read_job(path, "bank")
    reason, hint = WRONG[prepare]
    assert reason in str(caught.value) and hint in (caught.value.hint or "")
    assert caught.value.line == 10


@pytest.mark.parametrize(
    ("screen", "reason"),
    [("{}", "says nothing"), ("{correlation: 1}", "under 1"), ("{vif: 1}", "above 1"), ("{viv: 3}", "unknown key")],
)
def test_what_is_wrong_in_screen_is_told(screen: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(HEAD + TRAIN.replace("{correlation: 0.95}", screen))
    with pytest.raises(FileError, match=reason):
        read_job(path, "bank")


def test_a_line_of_prepare_is_named_even_if_its_column_has_a_dot(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(HEAD + TRAIN.replace("merge: 0.05", "merge: 1.5"))
    with pytest.raises(FileError, match="level of significance") as caught:
        read_job(path, "bank")
    assert "train.prepare.telco.tenure.merge" in str(caught.value)
    assert caught.value.line == 1 + path.read_text().splitlines().index(
        "    telco.tenure: {bins: 5, woe: true, merge: 1.5}"
    )


def test_both_sides_read_the_same_preparation_and_odd_bytes_are_the_peers_fault(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(HEAD + TRAIN.replace("{correlation: 0.95}", "{correlation: 0.95, vif: 10}"))
    job = read_job(path, "bank")
    assert job.train is not None and job.train.prepare[-1][0] == "*"
    content = canonical(job.canonical())
    assert Job.from_canonical(content) == job
    plain = tmp_path / "plain.yaml"
    plain.write_text(HEAD + TRAIN[: TRAIN.index("  prepare")])
    assert not {"prepare", "screen"} & set(read_job(plain, "bank").canonical()["train"])  # digests stay as they were
    for change in (
        {"prepare": [["bank.income", {"impute": "mode"}]]},
        {"prepare": [["bank.none", {"impute": "mean"}]]},
        {"prepare": [["bank.age", {"impute": "mean"}], ["bank.age", {"impute": "mean"}]]},
        {"prepare": [["bank.age", {"bins": 3.5, "woe": True}]]},
        {"prepare": [["bank.age", {"woe": True, "one_hot": False}]]},
        {"prepare": []},
        {"prepare": 5},
        {"screen": None},
        {"screen": {"vif": True}},
        {"screen": {}},
    ):
        raw = json.loads(content)
        raw["train"] |= change
        with pytest.raises(PeerError):
            Job.from_canonical(canonical(raw))
