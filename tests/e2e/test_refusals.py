"""Every exit code through the installed command: what is refused, who says so, what the ledgers hold, what is left."""

from __future__ import annotations

import dataclasses
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from party import tls
from party.errors import TallyError, UsageError
from party.home import Home
from party.ledger import Ledger
from pipelines import execute, link, worker
from pipelines.progress import Progress
from pipelines.spec import read_job
from psi.messages import Masked
from tests.e2e.homes import Answer, Pair, tally, wait_until
from tests.e2e.test_schedule import small_pair

pytestmark = pytest.mark.timeout(300)

FROM = "FROM bank.customers b JOIN telco.subscribers t ON b.id = t.id"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return small_pair(tmp_path_factory.mktemp("refusals"))


@pytest.fixture(autouse=True)
def as_it_was(pair: Pair) -> Any:
    """Each case changes files; they are put back."""
    files = [home / name for home in (pair.bank, pair.telco) for name in ("party.yaml", "policy.yaml")]
    files += [pair.bank / "job.yaml", *pair.bank.parent.glob("*.csv")]
    before = {path: path.read_bytes() for path in files}
    yield
    for path, content in before.items():
        path.write_bytes(content)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def run(pair: Pair, *words: str) -> Answer:
    return tally(pair.bank, "run", str(pair.bank / "job.yaml"), "--direct", "--new", "--json", *words)


def events(home: Path) -> list[tuple[str, dict[str, Any]]]:
    ledger = Ledger.open(home / "state" / "ledger.db")
    try:
        ledger.verify()
        return [(event.event, dict(event.fields)) for event in ledger.events()]
    finally:
        ledger.close()


def refused(answer: Answer, code: int, *words: str) -> dict[str, Any]:
    assert answer.code == code, (answer.stdout, answer.stderr)
    error = answer.json["error"]
    assert set(error) == {"code", "party", "stage", "message", "hint"}
    assert all(word in error["message"] for word in words), error
    assert "Traceback" not in answer.stderr
    return error


def told(home: Path) -> None:
    """The service's worker is done with the run: stopped now, it would write that it was."""
    wait_until(lambda: any(event == "abort" for event, _ in events(home)), 20, "the other ledger to be written")


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("party.yaml", "version: 1", "version: 2", ("party.yaml", "version")),
        ("party.yaml", "key: [id]", "kye: [id]", ("party.yaml", "kye")),
        ("party.yaml", "key: [id]", "key: [ident]", ("ident",)),
        ("party.yaml", "type: integer", "type: integre", ("party.yaml", "integre")),
        ("party.yaml", "url: csv:", "url: csw:", ("csw",)),
        ("policy.yaml", "min_rows: 5", "min_rows: five", ("policy.yaml", "min_rows")),
        ("policy.yaml", "[aggregate]", "[agregate]", ("policy.yaml", "agregate")),
        ("policy.yaml", "min_rows: 5", "min_rows: 5\n    min_rows: 6", ("policy.yaml", "twice")),
        ("policy.yaml", "customers.v", "customers.nothing", ("nothing",)),
        ("job.yaml", "name: nightly", "nmae: nightly", ("job.yaml", "nmae")),
        ("job.yaml", "learns: both", "learns: size", ("job.yaml", "learns")),
        ("job.yaml", "peer: telco", "peer: nobody", ("job.yaml",)),
        ("job.yaml", "version: 1", "version: 1\n<<: *a", ("job.yaml",)),
    ],
)
def test_a_malformed_file_is_exit_2_with_place_and_reason(
    pair: Pair, file: str, old: str, new: str, words: tuple[str, ...]
) -> None:
    change(pair.bank / file, old, new)
    error = refused(run(pair), 2, *words)
    assert error["hint"]
    assert not list((pair.bank / "results").iterdir())


def test_a_job_that_does_not_fit_the_catalogues_is_exit_2(pair: Pair) -> None:
    for old, new, word in (
        ("bank: customers", "bank: orders", "orders"),
        ("SUM(b.v * t.w)", "MODE(b.v)", "MODE"),
        ("SUM(b.v * t.w)", "SUM(b.x)", "x"),
    ):
        change(pair.bank / "job.yaml", old, new)
        with pair.served():
            refused(run(pair), 2, word)
        change(pair.bank / "job.yaml", new, old)


def test_usage_errors_are_exit_2_in_json_too(pair: Pair) -> None:
    refused(tally(pair.bank, "query", "--peer", "nobody", "--json", f"SELECT COUNT(*) AS n {FROM}"), 2, "nobody")
    refused(tally(pair.bank, "dance", "--json"), 2, "dance")
    refused(tally(pair.bank, "run", "missing.yaml", "--json"), 2)
    refused(tally(pair.bank / "nowhere", "runs", "--json"), 2, "home")
    refused(tally(pair.bank, "show", "20200101-000000-0000000000", "--json"), 2)


def test_our_policy_is_exit_3_and_both_ledgers_say_so(pair: Pair) -> None:
    change(pair.bank / "policy.yaml", "customers.v: [aggregate]", "customers.v: [filter]")
    with pair.served():
        error = refused(run(pair), 3, "customers.v", "aggregate")
        told(pair.telco)
    assert error["party"] == "bank"
    for home in (pair.bank, pair.telco):
        assert any(event == "refused" for event, _ in events(home)[-4:])  # then debit, abort, the end of the worker
    assert tally(pair.bank, "runs", "--json").json[0]["status"] == "failed"


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("subscribers.w: [aggregate]", "subscribers.w: [filter]", "subscribers.w"),
        ("approve: auto", "approve: manual", "approve"),
        ("alignment: rows", "alignment: nothing", "alignment"),
    ],
)
def test_the_peers_policy_is_exit_4_and_both_ledgers_say_so(pair: Pair, old: str, new: str, word: str) -> None:
    change(pair.telco / "policy.yaml", old, new)
    with pair.served():
        error = refused(run(pair), 4, word)
        told(pair.telco)
    assert error["party"] == "telco"
    for home in (pair.bank, pair.telco):
        assert any(event == "refused" for event, _ in events(home)[-4:])  # then debit, abort, the end of the worker


def test_an_unreachable_or_false_peer_is_exit_5(pair: Pair, tmp_path: Path) -> None:
    assert refused(run(pair), 5, "telco")["hint"]  # nobody listens
    assert events(pair.bank)[-1][0] == "unreachable"
    other = small_pair(tmp_path)  # another telco, with other keys, at the address that bank knows
    change(other.telco / "party.yaml", f":{other.port}", f":{pair.port}")
    with other.served():
        assert "certificate" in refused(run(pair), 5, "telco")["message"]


def test_data_that_does_not_fit_is_exit_6_on_either_side(pair: Pair) -> None:
    folder = pair.bank.parent
    with pair.served():
        change(folder / "customers.csv", "k150,3", "k150,77")  # beyond the declared range
        error = refused(run(pair), 6, "v")
        assert "77" not in error["message"].replace(str(folder), "") and error["stage"]
        change(folder / "customers.csv", "k150,77", "k150,3\nk150,3")
        refused(run(pair), 6, "repeat")
        change(folder / "customers.csv", "k150,3\nk150,3", "k150,3")
        change(folder / "subscribers.csv", "k150,3", "k150,88")
        theirs = refused(run(pair), 6)
        assert "telco is told row and column" in theirs["hint"]
        assert theirs["party"] == "telco" and "88" not in theirs["message"] and "150" not in theirs["message"]
    for home in (pair.bank, pair.telco):
        assert events(home)[-1][0] == "abort"


def test_the_party_facade_answers_as_the_command_does(pair: Pair) -> None:
    from pipelines import Party

    bank = Party.open(pair.bank)
    with pair.served():
        result = bank.run(pair.bank / "job.yaml", new=True)
        assert result.rows == 200 and result.queries["totals"][0]["n"] == 200
        assert list(result.to_frame("totals")["n"]) == [200]
        assert result.model is None and result.scores is None
        with bank.session("telco") as session:
            counts = [session.query(f"SELECT COUNT(*) AS n {FROM}").to_pandas()["n"][0] for _ in range(2)]
            with pytest.raises(UsageError):
                session.score("model", ["k1"])
            with pytest.raises(UsageError, match=r"no column t\.wrong"):
                session.query(f"SELECT SUM(t.wrong) AS w {FROM}")
            counts += session.query(f"SELECT COUNT(*) AS n {FROM}").to_pylist()[0].values()  # over a new connection
        assert counts == [200, 200, 200]
        with pytest.raises(UsageError, match="has ended"):
            session.query(f"SELECT COUNT(*) AS n {FROM}")
        with pytest.raises(UsageError, match="no answer named 'total'") as caught:
            result.to_frame("total")
        assert "totals" in str(caught.value.hint)
        assert bank.query(f"SELECT SUM(t.w) AS w {FROM}", peer="telco").num_rows == 1


def small_order(points: np.ndarray) -> np.ndarray:
    points[0] = 0
    return points


def not_canonical(points: np.ndarray) -> np.ndarray:
    points[-1] = 255
    return points


def unsorted(points: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(points[::-1])


def repeated(points: np.ndarray) -> np.ndarray:
    points[1] = points[0]
    return points


def too_many(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points, np.full((1, 32), 127, dtype=np.uint8)])


BROKEN = [small_order, not_canonical, unsorted, repeated, too_many]


def corrupting(channel: Any, change_points: Callable[[np.ndarray], np.ndarray]) -> None:
    """From here on this side of the channel sends masked lists that break the rules."""
    honest = channel.send

    def send(message: Any) -> None:
        if isinstance(message, Masked):
            message = dataclasses.replace(message, points=change_points(message.points.copy()))
        honest(message)

    channel.send = send


@pytest.mark.parametrize("broken", BROKEN, ids=lambda function: function.__name__)
def test_a_worker_refuses_a_peer_that_breaks_the_protocol(pair: Pair, broken: Callable[..., Any]) -> None:
    with pair.served():
        home = Home.open(pair.bank)
        job = read_job(pair.bank / "job.yaml", "bank")
        with link.dial(home, "telco") as connection:
            corrupting(connection.channel, broken)
            with pytest.raises(TallyError):
                execute.run_job(connection, job, Progress(quiet=True), new=True, realign=True)
        wait_until(lambda: "abort" in [name for name, _ in events(pair.telco)[-2:]], 10, "the worker's ledger says so")
    aborts = [fields["code"] for name, fields in events(pair.telco)[-3:] if name == "abort"]
    assert aborts == ["integrity"]
    assert tally(pair.telco, "runs", "--json").json[0]["status"] == "failed"


@pytest.mark.parametrize("broken", BROKEN[:2], ids=lambda function: function.__name__)
def test_a_run_against_a_peer_that_breaks_the_protocol_is_exit_7(
    pair: Pair, broken: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for side in (pair.bank, pair.telco):
        for kept in (side / "state").glob("alignments/*/*"):
            kept.unlink()
    listener = socket.create_server(("127.0.0.1", pair.port))
    accepted = tls.accept

    def accept(*arguments: Any) -> Any:
        channel = accepted(*arguments)
        corrupting(channel, broken)
        return channel

    monkeypatch.setattr(tls, "accept", accept)

    def evil() -> None:
        sock, _ = listener.accept()
        try:
            worker.serve_connection(Home.open(pair.telco), sock)
        except TallyError:
            pass

    thread = threading.Thread(target=evil, daemon=True)
    thread.start()
    try:
        error = refused(run(pair), 7, "telco")
    finally:
        thread.join(20)
        listener.close()
    assert error["stage"] == "align"
    assert events(pair.bank)[-1][1]["code"] == "integrity"


def test_what_comes_later_is_refused_by_name(pair: Pair) -> None:
    refused(tally(pair.bank, "approve", "20200101-000000-0000000000", "--json"), 2)


def test_a_model_that_is_not_here_is_named(pair: Pair) -> None:
    for words in (["score", "0123456789abcdef"], ["model", "0123456789abcdef"], ["model", "nowhere.json"]):
        error = refused(tally(pair.bank, *words, "--json"), 2)
        assert words[1] in error["message"]
