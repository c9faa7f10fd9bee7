"""Statistics through job.yaml, from both homes' files to results, frames, plan and ledgers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from party.errors import FileError, PeerRefused, PolicyRefused
from pipelines import results, verbs_plan
from pipelines.facade import RunResult
from tests.pipelines.two_homes import TABLES, TwoHomes

ROWS = 600
HEAD = "version: 1\nname: shared\npeer: telco\nalign: {bank: customers, telco: subscribers, learns: both}\n"
STATISTICS = """analyse:
  - name: drivers
    to: [bank, telco]
    statistics:
      woe: {columns: [telco.minutes, telco.plan], by: bank.bad, bins: 6, min_share: 0.1, merge: 0.05}
      auc: {columns: [telco.minutes], by: bank.bad}
      t_test: {columns: [telco.minutes, bank.age], by: bank.bad}
      ks: {columns: [telco.minutes], by: bank.bad, bins: 5}
      stability: {columns: [bank.age], by: telco.recent, bins: 5}
      chi_squared: {columns: [telco.plan], by: bank.region}
      histogram: {columns: [bank.age], edges: [30, 50.5]}
      vif: [bank.age, telco.minutes, telco.days]
      mean: [bank.age, telco.minutes]
      quantiles: {columns: [telco.minutes], at: [0.1, 0.50]}
      sum: [bank.age]
      correlation: [bank.age, telco.minutes]
"""
GRANTS = {
    "bank": {"id": "join", "age": "group, rank, aggregate", "bad": "aggregate", "region": "group"},
    "telco": {
        "id": "join", "minutes": "group, rank, aggregate", "plan": "group", "days": "aggregate", "recent": "aggregate",
    },
}  # fmt: skip
COLUMNS = {
    "bank": "  age: {type: integer, range: [0, 120]}\n  bad: {type: bool}\n  region: {type: string, domain: [n, s]}\n",
    "telco": "  minutes: {type: integer, range: [0, 10000]}\n  plan: {type: string, domain: [basic, plus]}\n"
    "  days: {type: integer, range: [0, 4000]}\n  recent: {type: integer, range: [0, 1]}\n",
}


class World(TwoHomes):
    """Both tables as one frame of the shared rows; the label follows the minutes."""

    def set(self, without: tuple[str, str] | None = None, min_rows: int = 10) -> pd.DataFrame:
        rng = np.random.default_rng(8)
        ids = [f"k{i}" for i in range(ROWS)]
        minutes = rng.integers(0, 5000, ROWS)
        pooled = {
            "age": [int(v) if v > 20 else None for v in rng.integers(18, 90, ROWS)],
            "bad": (rng.random(ROWS) < 0.2 + 0.5 * minutes / 5000).tolist(),
            "region": [("n", "s")[v] for v in rng.integers(0, 2, ROWS)],
            "minutes": minutes.tolist(),
            "plan": [("basic", "plus", None)[v] for v in rng.integers(0, 3, ROWS)],
            "days": rng.integers(0, 4000, ROWS).tolist(),
            "recent": rng.integers(0, 2, ROWS).tolist(),
        }
        for side, more in (("bank", range(5)), ("telco", range(9))):
            names = [name for name in GRANTS[side] if name != "id"]
            content: dict[str, Any] = {"id": ids + [f"{side}{i}" for i in more]}
            content |= {name: pooled[name] + [None] * len(more) for name in names}
            self.fill(side, content)
            lines = "".join(
                f"  {TABLES[side]}.{name}: [{uses if (side, name) != without else 'filter'}]\n"
                for name, uses in GRANTS[side].items()
            )
            policy = f"alignment: rows\nmin_size: 1\nmin_rows: {min_rows}\napprove: auto\ncolumns:\n{lines}"
            self.declare(side, f"key: [id]\ncolumns:\n{COLUMNS[side]}", policy)
        return pd.DataFrame(pooled)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("statistics"))


@pytest.fixture(scope="module")
def ran(world: World) -> Iterator[tuple[pd.DataFrame, dict[str, Any]]]:
    pooled = world.set(min_rows=1)
    yield pooled, world.run(HEAD + STATISTICS, new=True)


def test_a_job_gives_what_scipy_gives_on_the_pooled_table(ran: Any, world: World) -> None:
    pooled, run = ran
    result = RunResult(world.homes["bank"], run)
    bad = pooled["bad"].astype(bool)
    assert result.to_frame("drivers", "auc")["auc"][0] == pytest.approx(
        roc_auc_score(bad, pooled["minutes"]), rel=1e-12
    )
    welch = stats.ttest_ind(pooled["minutes"][bad], pooled["minutes"][~bad], equal_var=False)
    tests = result.to_frame("drivers", "t_test").set_index("column")
    assert tests.loc["telco.minutes", "welch_p"] == pytest.approx(welch.pvalue, rel=1e-9)
    table = pd.crosstab(pooled["plan"], pooled["region"])
    chi = result.to_frame("drivers", "chi_squared")
    assert chi["p"][0] == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue, rel=1e-9)
    quantiles = result.to_frame("drivers", "quantiles")["quantile"].astype(float)
    assert quantiles.tolist() == pytest.approx(np.quantile(pooled["minutes"], [0.1, 0.5]).tolist(), rel=1e-12)
    histogram = result.to_frame("drivers", "histogram")
    assert histogram["rows"].tolist() == pd.cut(pooled["age"], [0, 30, 50.5, 200]).value_counts(sort=False).tolist()
    assert histogram["bin"].tolist() == ["<= 30", "(30, 50.5]", "> 50.5"]
    bins = result.to_frame("drivers", "woe", "details")
    mine = bins[bins["column"] == "telco.minutes"]
    assert mine["rows_0"].sum() == (~bad).sum() and mine["rows_1"].sum() == bad.sum()
    assert 2 <= len(mine) <= 6 and mine["woe"].is_monotonic_decreasing
    cuts = [-1, *mine["to"].dropna(), 10_000]
    assert mine["rows_1"].tolist() == pd.cut(pooled["minutes"][bad], cuts).value_counts(sort=False).tolist()
    assert result.to_frame("drivers", "correlation").loc["bank.age", "telco.minutes"] == pytest.approx(
        pooled["age"].corr(pooled["minutes"]), rel=1e-9
    )
    assert result.to_frame("drivers", "mean")["bank.age"]["mean"] == pytest.approx(pooled["age"].mean(), rel=1e-12)
    assert result.to_frame("drivers", "sum")["sum"][0] == pooled["age"].sum()
    assert result.to_frame("drivers", "vif")["vif"][0] == pytest.approx(1, abs=0.1)
    assert set(run["statistics"]["drivers"]) == set(world.result("telco", run["run"])["statistics"]["drivers"])
    assert run["statistics"] == world.result("telco", run["run"])["statistics"]
    for wrong in (("drivers", "median"), ("drivers", "auc", "details"), ("drivers", None)):
        with pytest.raises(Exception, match=r"no statistic|no part"):
            result.to_frame(*wrong)
    text = results.text(run)
    assert "drivers, woe:" in text and "welch_p" in text


def test_the_ledgers_name_every_statistic_that_left(ran: Any, world: World) -> None:
    run = ran[1]["run"]
    for side in TABLES:
        what = {str(event["what"]) for event in world.events(side, "disclosure") if event["run"] == run}
        for name in ("woe.telco.minutes.rows", "auc.telco.minutes.ranks.sum", "histogram.bank.age.rows"):
            assert f"query.drivers.{name}" in what


def test_rows_kept_without_a_match_have_no_value_of_the_others_columns(world: World) -> None:
    pooled = world.set(min_rows=1)
    job = HEAD.replace("learns: both", "learns: both, keep: bank") + (
        "analyse:\n  - name: kept\n    statistics:\n      t_test: {columns: [bank.age], by: telco.recent}\n"
        "      chi_squared: {columns: [bank.region], by: telco.plan}\n"
    )
    result = RunResult(world.homes["bank"], world.run(job, new=True))
    assert result.rows == ROWS + 5
    tests = result.to_frame("kept", "t_test").iloc[0]
    known = pooled.dropna(subset=["age"])
    recent = known["recent"] == 1
    wanted = stats.ttest_ind(known["age"][recent], known["age"][~recent], equal_var=False)
    assert tests["welch_p"] == pytest.approx(wanted.pvalue, rel=1e-9) and tests["rows_1"] == recent.sum()
    assert result.to_frame("kept", "chi_squared")["rows"][0] == pooled["plan"].notna().sum()
    with pytest.raises(Exception, match="kept without a match"):
        world.run(job.replace("t_test", "auc"), new=True)


def test_each_statistic_of_a_column_takes_one_query_of_the_budget(ran: Any, world: World) -> None:
    run = ran[1]["run"]
    taken = {side: [e["queries"] for e in world.events(side, "debit") if e["run"] == run] for side in TABLES}
    # moments 1, woe 2, auc 1, t_test 2, ks 1, stability 1, chi_squared 1, histogram 1
    assert taken == {"bank": [10], "telco": [10]}


GUARDED = """analyse:
  - name: drivers
    statistics:
      woe: {columns: [telco.minutes, telco.days, telco.plan], by: bank.bad, bins: 3}
      auc: {columns: [telco.minutes], by: bank.bad}
"""


def test_statistics_go_through_the_guard_of_the_history(world: World) -> None:
    """Columns with other missing values, and the same again, are answered; a cut that moves a few rows is not."""
    pooled = world.set()
    (world.homes["telco"] / "policy.yaml").write_text(
        (world.homes["telco"] / "policy.yaml").read_text().replace("days: [aggregate]", "days: [group, rank]")
    )
    first = world.run(HEAD + GUARDED, new=True)["statistics"]["drivers"]
    assert [row[-1] for row in first["woe"]["rows"]] == [True, True, True]
    again = HEAD + GUARDED.replace("name: drivers", "name: again").replace("bins: 3", "bins: 3, merge: 0.5")
    assert world.run(again, new=True)["statistics"]["again"]["auc"] == first["auc"]
    ages = "analyse:\n  - {{name: ages, statistics: {{histogram: {{columns: [bank.age], edges: [{}]}}}}}}\n"
    rare = next(age for age in range(40, 70) if 0 < (pooled["age"] == age).sum() < 10)
    assert world.run(HEAD + ages.format(rare - 1), new=True)["statistics"]["ages"]["histogram"]["rows"]
    with pytest.raises((PolicyRefused, PeerRefused), match="differ by fewer than min_rows"):
        world.run(HEAD + ages.format(rare), new=True)  # the customers of that age would be the difference


def test_the_plan_tells_what_each_statistic_opens_and_what_it_costs(world: World) -> None:
    world.set(min_rows=1)
    path = world.homes["bank"] / "job.yaml"
    path.write_text(HEAD + STATISTICS)
    with world.linked():
        pass
    plan = verbs_plan.plan(world.homes["bank"], path, offline=True)
    told = "\n".join(plan["explain"])
    assert "(to bank and telco): auc of telco.minutes by bank.bad: rows, and the sum of the ranks" in told
    assert "histogram of bank.age: the rows of each of 3 bins, cut at 30, 50.5" in told
    run = world.run(HEAD + STATISTICS, new=True)
    stage = next(entry for entry in run["details"]["stages"] if entry["stage"] == "analyse")
    assert plan["predicted"]["analyse"]["bytes"] > 0.1 * (stage["sent"] + stage["received"])


@pytest.mark.parametrize(
    "closed", [("bank", "bad"), ("bank", "age"), ("bank", "region"), ("telco", "minutes"), ("telco", "recent")], ids=str
)
def test_a_column_without_its_grant_refuses_the_job(closed: tuple[str, str], world: World) -> None:
    world.set(closed, min_rows=1)
    with pytest.raises((PolicyRefused, PeerRefused), match=closed[1]) as caught:
        world.run(HEAD + STATISTICS, new=True)
    assert caught.value.exit_code == (3 if closed[0] == "bank" else 4)


WRONG = {
    "{woe: {columns: [telco.minutes]}}": "woe wants `by`",
    "{woe: {columns: [telco.minutes], by: shop.bad}}": "is not party.column",
    "{woe: {columns: [telco.minutes], by: bank.bad, bin: 3}}": "unknown key `bin`",
    "{woe: {columns: [telco.minutes], by: bank.bad, bins: 65}}": "between 2 and 64",
    "{woe: {columns: [telco.minutes], by: bank.bad, merge: 1}}": "level of significance",
    "{auc: {columns: [telco.minutes], by: bank.bad, bins: 3}}": "auc takes no `bins`",
    "{histogram: {columns: [bank.age], edges: [3, 2]}}": "must ascend",
    "{histogram: {columns: [bank.age], edges: [a]}}": "must be a number",
    "{woes: [bank.age]}": "did you mean `woe`",
    "{t_test: {by: bank.bad}}": "lacks `columns`",
}


def test_a_job_of_too_many_answers_is_refused(world: World) -> None:
    wanted = (
        f"{{t_test: {{columns: [{', '.join(f'bank.c{i}' for i in range(64))}], by: telco.recent}}, mean: [bank.age]}}"
    )
    items = "".join(f"  - {{name: i{i}, statistics: {wanted}}}\n" for i in range(16))
    with pytest.raises(FileError, match="more than 1000 answers") as caught:
        world.run(f"{HEAD}analyse:\n{items}", new=True)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("case", WRONG)
def test_a_job_that_makes_no_sense_is_refused_with_file_and_line(case: str, world: World) -> None:
    with pytest.raises(FileError) as caught:
        world.run(f"{HEAD}analyse:\n  - name: wrong\n    statistics: {case}\n", new=True)
    assert caught.value.exit_code == 2 and "job.yaml" in str(caught.value.message) + str(Path(caught.value.file or ""))
    assert WRONG[case] in f"{caught.value.message} {caught.value.hint}"
