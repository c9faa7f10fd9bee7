"""kill -9 at twenty points of a training: both sides go on, and end with the very weights of a run that was not killed.

Two real processes over mutual TLS. The one to die does so in the middle of its work: right before its n-th message, for
twenty n spread over the whole training, half of them at either side.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.two_parties import NAMES, Record, meet
from mpc.engine import Engine
from party.channel import Channel
from party.errors import TallyError
from party.guard import Guard
from party.request import Opening
from tests.vfl import tables
from vfl import spec
from vfl.checks import CHECK_BITS
from vfl.prepare import MATRIX_BITS, Known
from vfl.secure import Secure
from vfl.sides import Settings
from vfl.state import FileCheckpoints
from vfl.train import fit_weights

_PASSES = 4
_POINTS = 20


def _side(place: int, pipe: Any, folder: Path, dies_at: int | None) -> None:
    keys = folder / f"keys-{os.getpid()}"
    channel = meet(place, pipe, keys)
    sent, plain = 0, channel.send

    def send(message: Any) -> None:
        nonlocal sent
        sent += 1
        if sent == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        plain(message)

    channel.send = send  # type: ignore[method-assign]
    try:
        pipe.send((_fit(place, channel, folder), sent))
    except TallyError as error:  # the other side is gone
        pipe.send((None, str(error)))


def _fit(place: int, channel: Channel, folder: Path) -> tuple[list[int], np.ndarray]:
    ours, theirs, label = tables.synthetic(200, 3, 3, seed=4)
    names = (spec.SCALE, CHECK_BITS, *map(spec.weights_name, NAMES))
    guard = Guard("run", NAMES[1 - place], [Opening(name, to) for name in names for to in NAMES], Record())
    table = (ours, Known(label), 3) if place == 0 else (theirs, Known(), 4)
    numbers: list[int] = []
    half = fit_weights(
        Secure(Engine.start(channel, guard, place), MATRIX_BITS),
        table,
        Settings(passes=_PASSES),
        FileCheckpoints(folder / NAMES[place]),
        lambda number, _: numbers.append(number),
    )
    channel.close()
    return numbers, half.weights


def _run(folder: Path, dies: tuple[int, int] | None = None) -> list[Any]:
    """What both processes report; None for one that was killed."""
    context = multiprocessing.get_context("fork")
    pipes, processes = [], []
    for place in (0, 1):
        ours, theirs = context.Pipe()
        at = dies[1] if dies is not None and dies[0] == place else None
        processes.append(context.Process(target=_side, args=(place, theirs, folder, at)))
        processes[-1].start()
        theirs.close()
        pipes.append(ours)
    cards = [pipe.recv() for pipe in pipes]
    pipes[0].send(cards[1])
    pipes[1].send(cards[0])
    pipes[1].send(pipes[0].recv())
    found = []
    for pipe, process in zip(pipes, processes, strict=True):
        try:
            found.append(pipe.recv())
        except EOFError:
            found.append(None)
        process.join()
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_kill_points_resume_with_the_very_same_weights(tmp_path: Path) -> None:
    start = tmp_path / "start"
    for name in NAMES:
        FileCheckpoints(start / name).secret()  # the same secrets in every run: then the same weights

    def fresh(name: str) -> Path:
        shutil.copytree(start, tmp_path / name)
        return tmp_path / name

    whole = _run(fresh("whole"))
    wanted, counts = [found[0][1] for found in whole], [found[1] for found in whole]
    assert [found[0][0] for found in whole] == [list(range(1, _PASSES + 1))] * 2
    points = [(place, 1 + step * counts[place] * 2 // _POINTS) for step in range(_POINTS // 2) for place in (0, 1)]
    for number, dies in enumerate(points):
        folder = fresh(f"point-{number}")
        killed = _run(folder, dies)
        assert killed[dies[0]] is None and killed[1 - dies[0]][0] is None
        kept = [max((int(e["numbers"][0]) for e in FileCheckpoints(folder / name).load()), default=0) for name in NAMES]
        assert abs(kept[0] - kept[1]) <= 1  # so at most one pass is repeated
        again = _run(folder)
        for found, weights in zip(again, wanted, strict=True):
            assert found[0][0] == list(range(min(kept) + 1, _PASSES + 1))
            np.testing.assert_array_equal(found[0][1], weights)
