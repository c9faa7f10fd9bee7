"""Waiting is told, names the side and the step, and ends; masking tells how many a second."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import psi.means
from party.channel import memory_pair
from party.errors import DeadlineExceeded
from party.message import Message
from psi import Means, MemoryStore, match
from psi.means import Reporter, awaited
from psi.messages import Enough, Masked, Tags
from tests.psi.support import Tampered, guard, ids, terms
from tests.support import channels


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psi.means, "_LOOK", 0.05)
    monkeypatch.setattr(psi.means, "_STALLED", 0.3)


def test_waiting_is_told_until_the_message_comes(short_waits: None) -> None:
    ours, theirs = memory_pair()
    told: list[tuple[int, int, str]] = []
    report = Reporter(lambda *line: told.append(line), 100)
    report.begin("masking the keys of bank")
    report.step(40)

    def late() -> None:
        while len(told) < 3:
            pass
        theirs.send(Enough(True))

    thread = threading.Thread(target=late)
    thread.start()
    assert awaited(ours, Enough, report, "word whether enough keys match", 60.0).enough
    thread.join()
    assert told[0][:2] == (40, 100) and told[0][2].startswith("masking the keys of bank, ")
    assert told[0][2].endswith(" a second")
    assert all(line == (40, 100, "waiting for word whether enough keys match since 0 s") for line in told[1:])


def test_a_peer_that_sends_nothing_is_named_with_the_step_and_the_seconds(
    short_waits: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = memory_pair()
    ours.stage_name = "align"
    told: list[str] = []
    report = Reporter(lambda done, total, note: told.append(note), 10)
    monkeypatch.setattr(psi.means, "_STALLED", 1.2)
    with pytest.raises(DeadlineExceeded) as raised:
        awaited(ours, Tags, report, "chunk 3 of 16 of our tags")
    error = raised.value
    assert error.exit_code == 5 and error.party == "telco" and error.stage == "align"
    assert error.message == "telco is there, but chunk 3 of 16 of our tags has not come for 1 s"
    assert error.hint is not None and "telco's machine" in error.hint and "same command" in error.hint
    assert told[-1] == "waiting for chunk 3 of 16 of our tags since 1 s" and len(told) > 5
    del theirs


def test_what_the_peer_may_need_to_compute_is_waited_for(short_waits: None) -> None:
    ours, theirs = memory_pair()
    told: list[str] = []
    with pytest.raises(DeadlineExceeded, match="has not come for 1 s"):
        awaited(ours, Tags, Reporter(lambda done, total, note: told.append(note), 10), "our tags", 0.9)
    del theirs


STEPS: list[tuple[type[Message], str]] = [
    (psi.messages.Agreed, "the beginning of the alignment"),
    (psi.messages.Listed, "the end of masking at telco"),
    (Masked, "chunk 1 of 1 of the masked list of telco"),
    (psi.messages.Commitment, "our tags"),
    (Tags, "chunk 1 of 1 of our tags"),
    (psi.messages.Seed, "the order of our tags"),
    (psi.messages.Digest, "the alignment's digest"),
]


@pytest.mark.parametrize(("kind", "step"), STEPS, ids=[kind.__name__ for kind, _ in STEPS])
def test_a_stall_at_any_step_of_the_alignment_names_it(
    kind: type[Message], step: str, short_waits: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (psi.run, psi.ecdh, psi.reveal):
        monkeypatch.setattr(module, "SLOW", 0.0)
    first, second = channels()
    stopped = threading.Event()

    class Stalls(Exception):
        pass

    def stall(message: Message) -> Message:
        if isinstance(message, kind):
            stopped.wait(30)
            raise Stalls
        return message

    def peer() -> Any:
        with pytest.raises(Stalls):
            match(ids(range(5, 30)), Tampered(second, stall), guard("bank")[0], terms(), Means(MemoryStore()))

    thread = threading.Thread(target=peer, daemon=True)
    thread.start()
    told: list[str] = []
    with pytest.raises(DeadlineExceeded) as raised:
        match(
            ids(range(12)),
            first,
            guard("telco")[0],
            terms(),
            Means(MemoryStore(), progress=lambda done, total, note: told.append(note)),
        )
    stopped.set()
    thread.join(10)
    assert raised.value.message.startswith(f"telco is there, but {step} has not come for ")
    assert f"waiting for {step} since" in " ".join(told)
