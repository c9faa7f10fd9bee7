"""`tally score` between two homes: a cohort aligned anew, all rows or some, what is refused, what each side learns."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from party.canonical import canonical
from party.errors import DataError, NetworkError, PeerError, PeerRefused, PolicyRefused, UsageError
from party.home import Home
from pipelines import asked, cli, models, verbs_model, verbs_plan
from pipelines.job import Job
from pipelines.job_score import Scale
from pipelines.scoring import Wanted, score_job
from tests.pipelines.two_homes import TwoHomes
from vfl import cohort

FEATURES = {"bank": ["a", "b", "c"], "telco": ["p", "q", "r"]}
KEYS = {"bank": "phone", "telco": "msisdn"}
JOB = """\
version: 1
name: risk
peer: telco
align: {bank: customers, telco: subscribers, learns: both}
train:
  label: bank.bad
  features: {bank: [a, b, c], telco: [p, q, r]}
  max_passes: 2
"""
OLD, NEW = range(400), range(300, 900)  # the telco knows 0 to 799


def policy(side: str, more: str = "", features: str = "feature") -> str:
    table = "customers" if side == "bank" else "subscribers"
    tables = [table, "fresh"] if side == "bank" else [table]
    lines = [f"  {name}.{KEYS[side]}: [join]\n" for name in tables]
    lines += [f"  {name}.{column}: [{features}]\n" for name in tables for column in FEATURES[side]]
    lines += ["  customers.bad: [label]\n"] if side == "bank" else []
    return f"alignment: rows\nmin_size: 1\nmin_rows: 1\napprove: auto\n{more}\ncolumns:\n{''.join(lines)}"


def phone(n: int) -> str:
    return f"+4420794{n:05d}"


def declare(pair: TwoHomes, side: str, more: str = "", features: str = "feature") -> None:
    key = f"key: [{KEYS[side]}]\ncolumns:\n  {KEYS[side]}: {{type: string, normalise: phone, region: GB}}\n"
    pair.declare(side, key, policy(side, more, features))
    if side == "bank":
        path = pair.homes["bank"] / "party.yaml"
        block = "".join(f"    {line}\n" for line in key.splitlines())
        path.write_text(path.read_text() + "  fresh:\n    url: parquet:fresh.parquet\n" + block)


def columns(side: str, rows: range) -> dict[str, Any]:
    found = {}
    for place, name in enumerate(FEATURES[side]):
        rng = np.random.default_rng(100 * len(side) + place)
        values = rng.normal(place, 1 + place, 1000)
        values[7::50] *= 9.0  # beyond the clipping
        found[name] = pa.array(values[rows], mask=np.arange(rows.start, rows.stop) % 31 == place)
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[TwoHomes, str]:
    """Two homes with a model, and its id."""
    pair = TwoHomes(tmp_path_factory.mktemp("trained"))
    for side in KEYS:
        declare(pair, side)
    rng = np.random.default_rng(9)
    pair.fill("bank", {"phone": [phone(n) for n in OLD], **columns("bank", OLD), "bad": rng.random(len(OLD)) < 0.3})
    fresh = {"phone": [f" 0{phone(n)[3:]}" for n in NEW], **columns("bank", NEW)}
    pq.write_table(pa.table(fresh), pair.homes["bank"] / "fresh.parquet")
    order = rng.permutation(800)
    telco = {name: values.take(pa.array(order)) for name, values in columns("telco", range(800)).items()}
    pair.fill("telco", {"msisdn": [phone(n) for n in order], **telco})
    return pair, pair.run(JOB)["model"]["id"]


@pytest.fixture
def pair(trained: tuple[TwoHomes, str], tmp_path: Path) -> Iterator[tuple[TwoHomes, str]]:
    """Each test has copies of the homes as they were after the training."""
    made, name = trained
    homes = dict(made.homes)
    for side, home in homes.items():
        made.homes[side] = shutil.copytree(home, tmp_path / side)
    made.met.clear()
    try:
        yield made, name
    finally:
        made.homes.update(homes)


def half(pair: TwoHomes, side: str, name: str) -> Any:
    return models.find(Home.open(pair.homes[side]), name)


def job_of(pair: TwoHomes, name: str, wanted: Wanted) -> Job:
    return score_job(Home.open(pair.homes["bank"]), half(pair, "bank", name), wanted)


def ask(pair: TwoHomes, name: str, wanted: Wanted, realign: bool = False) -> dict[str, Any]:
    job = job_of(pair, name, wanted)
    with pair.linked() as link:
        return verbs_model.ask_scores(link, job, wanted.ids, new=True, realign=realign)


def logits(pair: TwoHomes, name: str, rows: list[int]) -> np.ndarray:
    """Both halves in one place: what nobody sees but this test."""
    total = np.zeros(len(rows))
    for side in KEYS:
        whole = columns(side, range(1000))
        given = {}
        for column, values in whole.items():
            taken = values.take(pa.array(rows))
            valid = np.asarray(taken.is_valid().to_numpy(False))
            given[column] = (np.asarray(taken.fill_null(0).to_numpy(False)), valid)
        total += cohort.partial_logits(half(pair, side, name), given)
    return total


def number(text: str) -> int:
    return int(text.strip()[-5:])


def written(pair: TwoHomes, found: dict[str, Any]) -> pa.Table:
    return pq.read_table(pair.homes["bank"] / found["scores"]["path"])


def test_both_sides_keep_a_half_under_one_id(pair: tuple[TwoHomes, str]) -> None:
    made, name = pair
    ours, theirs = half(made, "bank", name), half(made, "telco", name)
    assert ours.id == theirs.id == name and len(ours.agreement) == 64 and ours.agreement == theirs.agreement
    assert (ours.role, theirs.role) == ("label holder", "feature holder")
    assert ours.columns == theirs.columns and ours.tables == theirs.tables and theirs.intercept is None
    assert ours.metrics == theirs.metrics
    for side in KEYS:
        path = made.homes[side] / "state/models" / f"{name}.json"
        assert path.stat().st_mode & 0o777 == 0o600
        (listed,) = models.listing(Home.open(made.homes[side]))
        assert listed["id"] == name and listed["job"] == "risk" and listed["features"] == FEATURES[side]
        assert name in models.listing_text([listed])


def test_a_new_cohort_is_scored_as_both_halves_together_would(pair: tuple[TwoHomes, str]) -> None:
    made, name = pair
    found = ask(made, name, Wanted("fresh", to="parquet:results/fresh.parquet"))
    table = written(made, found)
    assert table.column_names == ["phone", "score"] and found["rows"] == table.num_rows == 500
    rows = [number(text) for text in table.column("phone").to_pylist()]
    assert sorted(rows) == list(range(300, 800))
    expected = 1 / (1 + np.exp(-logits(made, name, rows)))
    scores = np.asarray(table.column("score"))
    assert np.abs(scores - expected).max() <= 0.001 and np.array_equal(scores, np.round(scores, 3))
    assert made.result("telco", found["run"])["scores"] is None
    assert not list((made.homes["telco"] / "results").rglob("*.parquet"))


def test_only_the_logits_are_opened_and_their_bytes_are_the_declared_ones(pair: tuple[TwoHomes, str]) -> None:
    made, name = pair
    found = ask(made, name, Wanted("fresh"))
    shown = [event for event in made.events("telco", "disclosure") if event["run"] == found["run"]]
    scores = [event for event in shown if not event["what"].startswith("alignment")]
    assert [(event["what"], event["to"], event["rows"]) for event in scores] == [
        ("score: logits to 1/512, the score to 3 decimals", "bank", 500)
    ]
    assert not [e for e in made.events("bank", "disclosure") if e["run"] == found["run"] and "logits" in e["what"]]
    job = job_of(made, name, Wanted("fresh"))
    with made.linked() as link:  # base transfers are made by the first of both
        runs = [verbs_model.ask_scores(link, job, None, new=True, realign=False)["run"] for _ in range(2)]
    for side in KEYS:
        (stage,) = [e for e in made.result(side, runs[1])["details"]["stages"] if e["stage"] == "score"]
        counted = stage["sent"] + stage["received"]
        assert 0.98 * cohort.score_bytes(500) < counted < 1.02 * cohort.score_bytes(500)


@pytest.mark.parametrize(("decimals", "unit"), [(0, 1.0), (1, 1 / 8), (2, 1 / 64)])
def test_coarser_decimals_open_coarser_logits(pair: tuple[TwoHomes, str], decimals: int, unit: float) -> None:
    made, name = pair
    table = written(made, ask(made, name, Wanted("fresh", decimals=decimals, form="logit")))
    opened = np.asarray(table.column("logit"))
    assert np.array_equal(opened, np.round(opened / unit) * unit)
    expected = logits(made, name, [number(text) for text in table.column("phone").to_pylist()])
    assert unit / 8 < np.abs(opened - expected).max() < unit


def test_points_are_the_scorecards_of_both_sides_added_up(pair: tuple[TwoHomes, str]) -> None:
    made, name = pair
    scale = Scale(500.0, 20.0, 40.0)
    table = written(made, ask(made, name, Wanted("fresh", form="points", scale=scale)))
    rows = [number(text) for text in table.column("phone").to_pylist()]
    total = np.zeros(len(rows))
    for side in KEYS:
        card = verbs_model.model(made.homes[side], name, scale, sklearn=False)["scorecard"]
        total += card["base"] or 0.0
        for line in card["features"]:
            values = columns(side, range(1000))[line["feature"]].take(pa.array(rows))
            filled = np.asarray(values.fill_null(line["mean"]).to_numpy(False))
            total += line["points_per_unit"] * (np.clip(filled, line["low"], line["high"]) - line["mean"])
    assert np.abs(np.asarray(table.column("points")) - total).max() < 0.5 + scale.factor / 512
    np.testing.assert_allclose(total, scale.offset - scale.factor * logits(made, name, rows), atol=1e-9)


def test_single_rows_are_asked_by_their_keys_over_one_connection(pair: tuple[TwoHomes, str]) -> None:
    made, name = pair
    with made.linked() as link:

        def one(*ids: str) -> dict[str, Any]:
            home = Home.open(made.homes["bank"])
            job = score_job(home, half(made, "bank", name), Wanted("fresh", ids=ids))
            return verbs_model.ask_scores(link, job, ids, new=False, realign=False)

        answers = [one(phone(500)), one("020 794 00350", phone(5), phone(777), phone(850)), one(phone(850))]
    assert [[row["asked"] for row in answer["answers"]] for answer in answers] == [
        [phone(500)], ["020 794 00350", phone(5), phone(777), phone(850)], [phone(850)],
    ]  # fmt: skip
    scored = answers[1]["answers"]
    assert scored[1]["score"] is None and scored[3]["score"] is None and scored[1]["phone"] is None
    assert answers[2]["answers"][0]["score"] is None  # nobody: the telco does not have it
    expected = 1 / (1 + np.exp(-logits(made, name, [500, 350, 777])))
    found = [answers[0]["answers"][0]["score"], scored[0]["score"], scored[2]["score"]]
    assert np.abs(np.array(found) - expected).max() <= 0.001
    assert [answer["alignment"]["reused"] for answer in answers] == [False, True, True]
    assert answers[1]["scores"] is None
    told = [event["rows"] for event in made.events("bank", "disclosure") if event["what"] == cohort.CHOSEN]
    assert told == [1, 2, 0]
    shown = [event["rows"] for event in made.events("telco", "disclosure") if "logits" in event["what"]]
    assert shown[-2:] == [1, 2]


def test_ids_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text(f"{phone(400)}\n\n {phone(401)} \n")
    (tmp_path / "ids.csv").write_text(f'note,phone\n"a, b",{phone(402)}\n,\n')
    assert verbs_model.read_ids(tmp_path / "ids.txt", ["phone"]) == (phone(400), phone(401))
    assert verbs_model.read_ids(tmp_path / "ids.csv", ["phone"]) == (phone(402),)
    with pytest.raises(UsageError, match="no column msisdn"):
        verbs_model.read_ids(tmp_path / "ids.csv", ["msisdn"])
    with pytest.raises(UsageError, match="cannot be read"):
        verbs_model.read_ids(tmp_path / "none.txt", ["phone"])


def test_the_verbs_show_our_half_as_a_list_a_card_and_coefficients(pair: tuple[TwoHomes, str]) -> None:
    made, name = pair
    kept = half(made, "bank", name)

    def said(*words: str, side: str = "bank", code: int = 0) -> str:
        done = CliRunner().invoke(cli.app, ["--home", str(made.homes[side]), *words])
        assert done.exit_code == code, done.output
        return done.output

    assert said("models").startswith(name)
    shown = json.loads(said("model", name, "--json"))
    assert shown["id"] == name and shown["agreement"] == kept.agreement and "scorecard" not in shown
    assert f"model {name} of job risk, bank and telco, our half: label holder" in said("model", name)
    assert all(f"{feature} " in said("model", name, "--scorecard") for feature in FEATURES["bank"])
    assert "base: on the label holder's card" in said("model", name, "--scorecard", side="telco")
    card = json.loads(said("model", name, "--scorecard", "--points", "500", "--odds", "1", "--pdo", "10", "--json"))
    assert card["scorecard"]["scale"]["offset"] == 500
    own = json.loads(said("model", name, "--sklearn", "--json"))["sklearn"]
    assert own["coef_"][0] == kept.original().weights.tolist() and own["intercept_"] == [kept.original().intercept]
    assert "intercept, our part" in said("model", name, "--sklearn")
    for words in (["--scorecard", "--sklearn"], ["--scorecard", "--pdo", "0"]):
        assert CliRunner().invoke(cli.app, ["--home", str(made.homes["bank"]), "model", name, *words]).exit_code
    path = made.homes["bank"] / "state/models" / f"{name}.json"
    assert json.loads(said("model", str(path), "--json")) == shown


# --- what is refused --------------------------------------------------------------------------------------------------


def test_the_peer_without_its_half_says_so_and_what_to_do(pair: tuple[TwoHomes, str]) -> None:
    made, name = pair
    (made.homes["telco"] / "state/models" / f"{name}.json").unlink()
    with pytest.raises(PeerRefused, match=f"telco has no half of model {name}: telco restores state/models") as met:
        ask(made, name, Wanted("fresh"))
    assert met.value.exit_code == 4 and met.value.party == "telco"
    assert isinstance(made.met[0], PolicyRefused)


def test_the_peers_damaged_half_is_named(pair: tuple[TwoHomes, str]) -> None:
    made, name = pair
    path = made.homes["telco"] / "state/models" / f"{name}.json"
    content = json.loads(path.read_text())
    content["weights"][0] += 1e-9
    path.write_text(json.dumps(content))
    with pytest.raises(PeerRefused, match=f"{name}.json: .*`digest` does not match.*telco restores"):
        ask(made, name, Wanted("fresh"))


def test_our_own_half_missing_or_damaged_is_told_before_anything_is_sent(pair: tuple[TwoHomes, str]) -> None:
    made, name = pair
    with pytest.raises(UsageError, match="bank has no half of model 0123456789abcdef") as met:
        models.find(Home.open(made.homes["bank"]), "0123456789abcdef")
    assert "tally models" in (met.value.hint or "")
    path = made.homes["bank"] / "state/models" / f"{name}.json"
    path.write_text(path.read_text().replace("risk", "rusk"))
    with pytest.raises(DataError, match="`digest`") as damaged:
        models.find(Home.open(made.homes["bank"]), name)
    assert damaged.value.exit_code == 6
    (listed,) = models.listing(Home.open(made.homes["bank"]))
    assert "digest" in listed["error"] and "digest" in models.listing_text([listed])


@pytest.mark.parametrize("field", ["agreement", "columns"])
def test_halves_of_different_agreements_do_not_meet(pair: tuple[TwoHomes, str], field: str) -> None:
    made, name = pair
    ours = half(made, "bank", name)
    changed = (
        {"agreement": "0" * 64} if field == "agreement" else {"columns": {**ours.columns, "telco": ("p", "q", "x")}}
    )
    models.keep(Home.open(made.homes["telco"]), replace(half(made, "telco", name), **changed))
    with pytest.raises(PeerRefused, match="comes from another agreement"):
        ask(made, name, Wanted("fresh"))


def test_a_half_of_an_earlier_release_cannot_say_where_it_belongs(pair: tuple[TwoHomes, str], tmp_path: Path) -> None:
    made, name = pair
    found = json.loads(half(made, "bank", name).to_json())
    kept = ("features", "means", "sds", "weights", "intercept", "winsorise")
    old = {"format": 1, **{key: found[key] for key in kept}}
    (tmp_path / "old.json").write_text(json.dumps(old))
    read = models.find(Home.open(made.homes["bank"]), str(tmp_path / "old.json"))
    with pytest.raises(UsageError, match="does not say which training"):
        score_job(Home.open(made.homes["bank"]), read, Wanted("fresh"))


def test_a_column_without_its_grant_is_refused(pair: tuple[TwoHomes, str]) -> None:
    made, name = pair
    declare(made, "telco", features="aggregate")
    with pytest.raises(PeerRefused, match=r"subscribers.p needs `feature`"):
        ask(made, name, Wanted("fresh"))


@pytest.mark.parametrize(
    ("scores", "decimals", "reason"),
    [
        ("{receive: false}", 3, "receive: false"),
        ("{decimals: 2}", 3, r"finer than `scores: \{decimals: 2\}` in our policy, which shows logits to 1/64"),
        ("{}", 4, r"finer than `scores: \{decimals: 3\}`"),
    ],
)
def test_the_giver_s_policy_bounds_who_gets_scores_and_how_finely(
    pair: tuple[TwoHomes, str], scores: str, decimals: int, reason: str
) -> None:
    made, name = pair
    declare(made, "telco", f"scores: {scores}")
    with pytest.raises(PeerRefused, match=reason):
        ask(made, name, Wanted("fresh", decimals=decimals))
    assert not [event for event in made.events("telco", "disclosure") if event["what"].startswith("score")]


def test_policy_may_allow_more_decimals_and_the_job_asks_for_them(pair: tuple[TwoHomes, str]) -> None:
    made, name = pair
    declare(made, "telco", "scores: {decimals: 6}")
    table = written(made, ask(made, name, Wanted("fresh", decimals=6)))
    expected = logits(made, name, [number(text) for text in table.column("phone").to_pylist()])
    assert np.abs(np.asarray(table.column("score")) - 1 / (1 + np.exp(-expected))).max() <= 1e-6


def test_scores_a_day_end_the_request_that_would_show_more(pair: tuple[TwoHomes, str]) -> None:
    made, name = pair
    shown = [e for e in made.events("telco", "disclosure") if "logits to" in e["what"] and e["to"] == "bank"]
    assert not shown  # training opens no logit
    declare(made, "telco", "scores: {per_day: 503}")
    ask(made, name, Wanted("fresh"))
    ask(made, name, Wanted("fresh", ids=(phone(500), phone(501), phone(502))))
    with pytest.raises(PeerRefused, match=r"left of the 503 scores a day for bank"):
        ask(made, name, Wanted("fresh", ids=(phone(500),)))
    assert isinstance(made.met[-1], PolicyRefused) and "scores.per_day" in (made.met[-1].hint or "")
    assert made.events("telco", "refused")[-1]["by"] == "budget"


def test_more_models_than_half_the_features_are_not_shown_over_one_alignment(pair: tuple[TwoHomes, str]) -> None:
    made, name = pair
    ids = ("1" * 16, "2" * 16)
    for side in KEYS:
        home, kept = Home.open(made.homes[side]), half(made, side, name)
        weights = np.array(kept.weights)
        models.keep(home, replace(kept, id=ids[0], weights=tuple(weights * 1.01)))  # the job trained again
        models.keep(home, replace(kept, id=ids[1], weights=tuple(weights[::-1] + 0.3)))
    ask(made, name, Wanted("fresh"))
    ask(made, ids[0], Wanted("fresh"))
    ask(made, name, Wanted("fresh", decimals=1))
    with pytest.raises(
        PeerRefused, match="1 other models were shown to bank over this alignment, of 3 features of telco"
    ):
        ask(made, ids[1], Wanted("fresh"))
    assert made.events("telco", "refused")[-1]["by"] == "models"
    assert ask(made, ids[1], Wanted("fresh"), realign=True)["rows"] == 500


def test_the_other_side_may_receive(pair: tuple[TwoHomes, str]) -> None:
    made, name = pair
    found = ask(made, name, Wanted("fresh", receiver="telco", to="parquet:ignored.parquet"))
    assert found["scores"] is None and found["receiver"] == "telco"
    kept = made.result("telco", found["run"])["scores"]
    table = pq.read_table(made.homes["telco"] / kept["path"])
    assert kept["path"] == f"results/score-{name}/scores.parquet" and table.column_names == ["msisdn", "score"]
    expected = 1 / (1 + np.exp(-logits(made, name, [number(text) for text in table.column("msisdn").to_pylist()])))
    assert np.abs(np.asarray(table.column("score")) - expected).max() <= 0.001
    declare(made, "bank", "scores: {receive: false}")
    with pytest.raises(PolicyRefused, match="receive: false"):
        ask(made, name, Wanted("fresh", receiver="telco"))


def test_what_cannot_be_asked(pair: tuple[TwoHomes, str]) -> None:
    made, name = pair
    for wanted, reason in (
        (Wanted("nowhere"), "no table 'nowhere'"),
        (Wanted("fresh", receiver="nobody"), "no party of this job"),
        (Wanted("fresh", decimals=7), "between 0 and 6"),
        (Wanted("fresh", form="odds"), "not possible"),
        (Wanted("fresh", scale=Scale(odds=-1.0)), "odds above 0"),
        (Wanted("fresh", receiver="telco", ids=("x",)), "who asks for single rows"),
        (Wanted("fresh", ids=()), "between 1 and"),
    ):
        with pytest.raises(UsageError, match=reason):
            job_of(made, name, wanted)
    with pytest.raises(UsageError, match="a scorecard needs"):
        verbs_model.model(made.homes["bank"], name, Scale(pdo=0.0), sklearn=False)


def test_the_job_that_trains_may_score_coarsely_and_as_points(pair: tuple[TwoHomes, str]) -> None:
    made, _ = pair
    more = "score: {receiver: bank, decimals: 1, as: points, scale: {points: 100, odds: 1, pdo: 10}}\n"
    found = made.run(JOB.replace("risk", "coarse") + more)
    table = written(made, found)
    assert table.column_names == ["phone", "points", "split"] and table.num_rows == 400
    whats = {event["what"] for event in made.events("telco", "disclosure") if event["run"] == found["run"]}
    assert "score: logits to 1/8, the score to 1 decimals" in whats
    rows = [number(text) for text in table.column("phone").to_pylist()]
    due = 100 - Scale(pdo=10.0).factor * logits(made, found["model"]["id"], rows)
    assert np.abs(np.asarray(table.column("points")) - due).max() < 0.5 + Scale(pdo=10.0).factor / 8


# --- what both sides read ---------------------------------------------------------------------------------------------


def test_a_job_of_scores_comes_back_from_its_canonical_bytes_and_nothing_else_does(pair: tuple[TwoHomes, str]) -> None:
    made, name = pair
    job = job_of(made, name, Wanted("fresh", decimals=2, form="points", scale=Scale(500.5, 20.0, -7.0), ids=("x",)))
    assert Job.from_canonical(canonical(job.canonical())) == job
    for change in (
        {"receiver": "telco"},  # who does not run the job chooses rows
        {"decimals": 7},
        {"decimals": True},
        {"as": "odds"},
        {"scale": [1, 2]},
        {"scale": [1, 2, 0]},
        {"chosen": 1},
        {"model": None},
        {"model": {**job.canonical()["score"]["model"], "id": "../../x"}},
        {"model": {**job.canonical()["score"]["model"], "agreement": ""}},
        {"model": {**job.canonical()["score"]["model"], "label_holder": "nobody"}},
        {"model": {**job.canonical()["score"]["model"], "features": [["bank", ["a"]]]}},
    ):
        raw = job.canonical()
        raw["score"] = {**raw["score"], **change}
        with pytest.raises(PeerError):
            Job.from_canonical(canonical(raw))
    raw = job.canonical()
    raw["align"]["learns"] = "bank"
    with pytest.raises(PeerError, match="learns: both"):
        Job.from_canonical(canonical(raw))


def test_the_plan_says_what_the_receiver_and_the_giver_learn(pair: tuple[TwoHomes, str]) -> None:
    made, name = pair
    with made.linked() as link:
        for ids in (None, ("x",)):
            job = job_of(made, name, Wanted("fresh", decimals=2, ids=ids))
            lines = "\n".join(asked.explain(job, link.catalogues(job.parties)))
            assert "logits to 1/64, the score to 2 decimals" in lines and f"of model {name}" in lines
            assert "one linear combination of 3 features of telco a row; telco learns no score" in lines
            assert ("telco learns which of its aligned rows bank asks for" in lines) is (ids is not None)
            openings = asked.request(job, link.catalogues(job.parties)).openings
            assert {o.what for o in openings if not o.what.startswith("alignment")} == {
                "score: logits to 1/64, the score to 2 decimals", *([cohort.CHOSEN] if ids else []),
            }  # fmt: skip


def test_a_plan_of_scores_names_missing_grants_and_runs_nothing(pair: tuple[TwoHomes, str]) -> None:
    made, name = pair
    declare(made, "telco", features="aggregate")
    job = job_of(made, name, Wanted("fresh"))
    with made.linked():  # the telco shows its catalogue, as at any connection
        pass
    found = verbs_plan.plan_job(Home.open(made.homes["bank"]), job, offline=True)
    assert found["missing"]["telco"] == [f"subscribers.{name} needs `feature`" for name in FEATURES["telco"]]
    assert found["predicted"]["score"]["bytes"] == cohort.score_bytes(600) and found["stages"] == ["align", "score"]
    assert any(f"of model {name}" in line for line in found["explain"])
    assert not [event for event in made.events("telco", "disclosure") if "1/512, the score" in event["what"]]


def test_a_request_that_broke_goes_on_with_its_alignment(
    pair: tuple[TwoHomes, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, name = pair
    honest = cohort.partial_logits

    def broken(*words: Any) -> Any:
        raise NetworkError("the line is cut")

    monkeypatch.setattr(cohort, "partial_logits", broken)
    job = job_of(made, name, Wanted("fresh"))
    with pytest.raises(NetworkError), made.linked() as link:
        verbs_model.ask_scores(link, job, None, new=False, realign=False)
    monkeypatch.setattr(cohort, "partial_logits", honest)
    (first,) = {event["run"] for event in made.events("bank", "abort")}
    with made.linked() as link:
        found = verbs_model.ask_scores(link, job, None, new=False, realign=False)
    assert found["run"] == first and found["scores"]["rows"] == 500
    shown = [event for event in made.events("telco", "disclosure") if event["run"] == first]
    assert [event["what"] for event in shown].count("score: logits to 1/512, the score to 3 decimals") == 1


def test_two_features_are_too_few_to_be_scored(pair: tuple[TwoHomes, str]) -> None:
    made, name = pair
    kept = replace(half(made, "bank", name), columns={"bank": ("a", "b", "c"), "telco": ("p", "q")})
    job = score_job(Home.open(made.homes["bank"]), kept, Wanted("fresh"))
    with pytest.raises(PolicyRefused, match="fewer than 3 features of telco"):
        asked.cohort(job).check()
