"""Jobs over joins: what a run says of its alignment, what plan and policy refuse, what is scored where rows stay."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from party.errors import FileError, PeerRefused, PolicyRefused, UsageError
from party.home import Home
from pipelines import report, results, verbs_plan
from pipelines.runs import RunState
from tests.pipelines.two_homes import TABLES, TwoHomes

HEAD = "version: 1\nname: shared\npeer: telco\n"


def job(more: str = "", analyse: str = "", learns: str = "both") -> str:
    return f"{HEAD}align: {{bank: customers, telco: subscribers, learns: {learns}{more}}}\n{analyse}"


def sql(join: str, name: str = "total") -> str:
    columns = "COUNT(*) AS n, SUM(b.v) AS s, SUM(t.w) AS u"
    statement = f"SELECT {columns} FROM bank.customers b {join} telco.subscribers t ON b.id = t.id"
    return f"analyse:\n  - name: {name}\n    to: [bank, telco]\n    sql: {statement}\n"


class World(TwoHomes):
    """Tables of (id, mail, v or w); policies that open them."""

    def set(self, ours: range, theirs: range, key: str = "[id]", **policies: str) -> None:
        for side, ids, name in (("bank", ours, "v"), ("telco", theirs, "w")):
            content = {"id": [f"k{i}" for i in ids], "mail": [f"m{i}" for i in ids], name: [i % 7 for i in ids]}
            self.fill(side, content)
            self.declare(
                side,
                f"key: {key}\ncolumns:\n  {name}: {{type: integer, range: [0, 9]}}\n",
                policies.get(side, self.policy(side)),
            )

    @staticmethod
    def policy(side: str, alignment: str = "rows", min_size: int = 1, more: str = "") -> str:
        name = "v" if side == "bank" else "w"
        columns = "".join(f"  {TABLES[side]}.{column}: [join]\n" for column in ("id", "mail"))
        return (
            f"alignment: {alignment}\nmin_size: {min_size}\nmin_rows: 1\napprove: auto\n{more}"
            f"columns:\n{columns}  {TABLES[side]}.{name}: [aggregate, feature, label]\n"
        )

    def opened(self, side: str, run: str) -> list[str]:
        return [str(event["what"]) for event in self.events(side, "disclosure") if event["run"] == run]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("jobs"))


def total(ids: Any) -> int:
    return sum(i % 7 for i in ids)


@pytest.mark.parametrize("keeper", ["bank", "telco"])
def test_an_inner_join_over_kept_rows_runs_over_the_matched_ones_and_an_outer_join_over_all(
    keeper: str, world: World
) -> None:
    world.set(range(40), range(30, 80))
    kept, alone = (range(40), "bank") if keeper == "bank" else (range(30, 80), "telco")
    for join in ("JOIN", "LEFT JOIN" if keeper == "bank" else "RIGHT JOIN"):
        run = world.run(job(f", keep: {keeper}", sql(join)), new=True)
        everyone = len(kept) if join != "JOIN" else 10
        (answer,) = run["queries"]["total"]
        assert answer["n"] == everyone
        assert answer["s"] == total(range(40) if everyone == 40 else range(30, 40))
        assert answer["u"] == total(range(30, 80) if everyone == 50 else range(30, 40))
        for side in TABLES:
            found = world.result(side, run["run"])
            assert found["rows"] == len(kept) and found["queries"] == run["queries"]
            assert found["details"]["alignment"]["matches_by_key"] == [10]
            assert found["details"]["alignment"]["unmatched"] == len(kept) - 10
            assert f"{len(kept)} rows, {len(kept) - 10} of them without a match" in results.text(found)
        assert ("alignment.unmatched" in world.opened(alone, run["run"])) == (not run["details"]["alignment"]["reused"])


def test_statistics_run_over_all_aligned_rows(world: World) -> None:
    world.set(range(40), range(30, 80))
    wanted = "analyse:\n  - name: means\n    statistics: {count: [bank.v, telco.w], sum: [bank.v, telco.w]}\n"
    found = world.run(job(", keep: bank", wanted), new=True)["statistics"]["means"]
    assert found["count"] == {"bank.v": 40, "telco.w": 10}
    assert found["sum"] == {"bank.v": total(range(40)), "telco.w": total(range(30, 40))}


def test_a_statement_that_keeps_what_the_job_does_not_is_refused(world: World) -> None:
    world.set(range(40), range(30, 80))
    with pytest.raises(UsageError, match="keeps rows of bank without a match") as caught:
        world.run(job("", sql("LEFT JOIN")), new=True)
    assert caught.value.exit_code == 2


WRONG = {
    "keep needs both": (job(", keep: bank", learns="bank"), "need `learns: both`"),
    "all needs both": (job(", duplicates: all", learns="size"), "need `learns: both`"),
    "keep of nobody": (job(", keep: insurer"), "no party of this job"),
    "duplicates": (job(", duplicates: some"), "error, first or all"),
    "analysis of a size": (job("", sql("JOIN"), learns="size"), "only align"),
    "label of nobody": (
        job(", keep: telco", "train: {label: bank.v, features: {bank: [v], telco: [w]}}\n"),
        "have no label",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_impossible_jobs_are_refused_with_file_and_line(case: str, world: World) -> None:
    content, text = WRONG[case]
    with pytest.raises(FileError) as caught:
        world.run(content, new=True)
    assert caught.value.exit_code == 2 and text in f"{caught.value.message} {caught.value.hint}"


UNLIKE = {
    "[id]": ("[[id], [mail]]", "each needs its counterpart"),
    "[id, mail]": ("[id]", "different numbers of columns"),
}


@pytest.mark.parametrize("bank", UNLIKE)
def test_keys_that_do_not_fit_each_other_are_refused(bank: str, world: World) -> None:
    telco, text = UNLIKE[bank]
    world.set(range(40), range(30, 80))
    for side, key in (("bank", bank), ("telco", telco)):
        world.declare(side, f"key: {key}\n", world.policy(side).replace("customers.v", "customers.id2"))
        world.declare(side, f"key: {key}\n", _join_only(side))
    with pytest.raises(UsageError, match=text) as caught:
        world.run(job(), new=True)
    assert caught.value.exit_code == 2


def _join_only(side: str, alignment: str = "rows", more: str = "") -> str:
    columns = "".join(f"  {TABLES[side]}.{column}: [join]\n" for column in ("id", "mail"))
    return f"alignment: {alignment}\nmin_size: 1\napprove: auto\n{more}columns:\n{columns}"


@pytest.mark.parametrize("learns", ["bank", "size"])
def test_several_keys_need_that_both_learn(learns: str, world: World) -> None:
    world.set(range(40), range(30, 80), "[[id], [mail]]")
    with pytest.raises(UsageError, match="tried in order needs `learns: both`"):
        world.run(job(learns=learns), new=True)


@pytest.mark.parametrize("closed", ["bank", "telco"])
def test_a_policy_that_tells_the_size_allows_the_size_and_refuses_rows(closed: str, world: World) -> None:
    """`alignment: size` of one side towards the other."""
    world.set(range(40), range(30, 80), **{closed: World.policy(closed, "size")})
    kind = PolicyRefused if closed == "bank" else PeerRefused
    with pytest.raises(kind, match="alignment: rows") as caught:
        world.run(job(), new=True)
    assert caught.value.exit_code == (3 if closed == "bank" else 4)
    run = world.run(job(learns="size"), new=True)
    assert run["rows"] == 10
    for side in TABLES:
        assert world.result(side, run["run"])["rows"] == 10
        assert not {"alignment.rows", "alignment.unmatched"} & set(world.opened(side, run["run"]))
        with np.load(world.homes[side] / "state" / "runs" / run["run"] / "alignment.npz") as kept:
            assert not len(kept["rows"])
    again = world.run(job(learns="size"), new=True)
    assert again["details"]["alignment"]["reused"] and again["rows"] == 10
    assert [world.opened(side, again["run"]) for side in TABLES] == [["alignment.count"]] * 2


@pytest.mark.parametrize("learns", ["both", "size", "bank"])
def test_a_policy_that_tells_nothing_refuses_every_form(learns: str, world: World) -> None:
    world.set(range(40), range(30, 80), telco=World.policy("telco", "nothing"))
    with pytest.raises(PeerRefused):
        world.run(job(learns=learns), new=True)


@pytest.mark.parametrize("closed", ["bank", "telco"])
def test_repeated_keys_that_stand_for_each_row_need_a_word_of_both_policies(closed: str, world: World) -> None:
    more = {side: World.policy(side, more="" if side == closed else "duplicates: all\n") for side in TABLES}
    world.set(range(40), range(30, 80), **more)
    with pytest.raises(PolicyRefused if closed == "bank" else PeerRefused, match="duplicates: all"):
        world.run(job(", duplicates: all"), new=True)


def test_an_intersection_below_the_minimum_is_refused_in_every_form(world: World) -> None:
    for bank, telco in ((range(40), range(30, 80)), (range(12), range(2, 200))):
        world.set(bank, telco, telco=World.policy("telco", min_size=11))
        for learns in ("both", "size", "bank"):
            with pytest.raises(PeerRefused, match="minimum of 11"):
                world.run(job(learns=learns), new=True)


def test_a_run_says_of_each_key_how_many_it_matched_and_what_the_table_gave(world: World) -> None:
    """Of 40 and 50 rows eight match by id, and two more by mail: fewer than the minimum; then three."""
    world.set(range(40), range(30, 80), "[[id], [mail]]", bank=World.policy("bank", min_size=3))
    mails = [f"m{i}" for i in range(40)]
    world.fill("bank", {"id": [f"k{i}" for i in range(38)] + [None, None], "mail": mails, "v": [1] * 40})
    for more, by_mail in ((0, None), (1, 3)):
        mail = [*(f"x{i}" for i in range(12)), "m38", "m39", *(f"y{i}" for i in range(36))]
        mail[14] = "m0" if more else "y99"
        world.fill("telco", {"id": [f"k{i}" for i in range(30, 80)], "mail": mail, "w": [1] * 50})
        run = world.run(job(), new=True)
        found = run["details"]["alignment"]
        assert found["matches_by_key"] == [8, by_mail] and found["keys"] == [["id"], ["mail"]]
        assert run["rows"] == 8 + (by_mail or 0)
        text = results.text(run)
        assert "matched by id: 8 of 40 rows" in text
        assert ("fewer than the minimum" in text) == (by_mail is None)
        assert "our table: 40 rows, 38 keys, 2 without a key" in text
        home = Home.open(world.homes["bank"])
        page = report.write_report(home, RunState(home.state / "runs", run["run"])).read_text()
        assert "matched by id: 8 of 40 rows" in page


def test_the_plan_says_which_form_is_taken_and_what_it_costs(world: World) -> None:
    path = world.homes["bank"] / "job.yaml"
    bytes_of = {}
    for telco in (range(2, 81), range(2, 2000)):
        world.set(range(10), telco, telco=World.policy("telco"))
        path.write_text(job())
        with world.linked():
            pass
        plan = verbs_plan.plan(world.homes["bank"], path, offline=True)
        assert any("unbalanced" in line for line in plan["explain"]) == (len(telco) > 80)
        bytes_of[len(telco)] = plan["predicted"]["align"]["bytes"]
        run = world.run(job(), new=True)
        stage = next(entry for entry in run["details"]["stages"] if entry["stage"] == "align")
        assert abs(stage["sent"] + stage["received"] - bytes_of[len(telco)]) < 600  # frames around it


def test_scores_where_the_other_side_keeps_its_rows_are_of_the_receivers_rows_only(world: World) -> None:
    rng = random.Random(1)
    for side, ids in (("bank", range(300)), ("telco", range(100, 350))):
        names = ("a", "b", "c")
        content: dict[str, list[Any]] = {"id": [f"k{i}" for i in ids]}
        content |= {name: [rng.gauss(0, 1) for _ in ids] for name in names}
        if side == "bank":
            content["bad"] = [value + rng.gauss(0, 1) > 0 for value in content["a"]]
        world.fill(side, content)
        columns = "".join(f"  {TABLES[side]}.{name}: [feature]\n" for name in names)
        label = "  customers.bad: [label]\n" if side == "bank" else ""
        policy = f"alignment: rows\nmin_size: 1\nmin_rows: 1\napprove: auto\ncolumns:\n  {TABLES[side]}.id: [join]\n"
        world.declare(side, "key: [id]\n", policy + columns + label)
    train = "train: {label: bank.bad, features: {bank: [a, b, c], telco: [a, b, c]}, max_passes: 2}\n"
    for receiver in TABLES:
        run = world.run(job(", keep: bank", f"{train}score: {{receiver: {receiver}}}\n"), new=True)
        assert run["rows"] == 300 and run["model"]["metrics"]["n_train"] == 240
        table = pq.read_table(world.homes[receiver] / "results" / "shared" / "scores.parquet")
        keys = range(300) if receiver == "bank" else range(100, 300)
        assert sorted(table.column("id").to_pylist()) == sorted(f"k{i}" for i in keys)
        assert table.column("score").null_count == 0


def test_a_list_made_ahead_serves_the_first_of_several_keys(world: World) -> None:
    from pipelines import prepared
    from pipelines.progress import Progress

    world.set(range(20), range(10, 300), "[[id], [mail]]")
    ids = [f"k{i}" for i in range(10, 300)]
    world.fill(
        "telco",
        {"id": [*ids[:5], *(f"z{i}" for i in range(285))], "mail": [f"m{i}" for i in range(10, 300)], "w": [1] * 290},
    )
    made = prepared.prepare(world.homes["telco"], "bank", "subscribers", Progress(quiet=True))
    assert made["keys"] == 290
    run = world.run(job(), new=True)
    assert run["rows"] == 10 and run["details"]["alignment"]["matches_by_key"] == [5, 5]
    assert world.result("telco", run["run"])["details"]["alignment"]["prepared"]
    assert (
        json.loads(Path(world.homes["bank"] / "state" / "runs" / run["run"] / "status.json").read_text())["status"]
        == "done"
    )
