"""`tally scheduler`: one long-lived process that serves all schedules of this home, its Prefect server as its child."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from party.home import Home
from pipelines import prefect_server, schedules

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.runner import Runner

__all__ = ["serve"]

WATCH_SECONDS = 2.0


def serve(home: Home) -> None:
    """Serve until SIGINT or SIGTERM; prints `ready scheduler URL` when schedules are live."""
    with prefect_server.find(home.state) as url:
        prefect_server.announce(home.state, url)
        try:
            asyncio.run(_serve(home.root, home.state, url))
        finally:
            (home.state / "scheduler.json").unlink(missing_ok=True)


async def _serve(root: Path, state: Path, url: str) -> None:
    from prefect.runner import Runner

    runner = Runner(name="tallystick", limit=1, pause_on_shutdown=False)
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    known: dict[str, tuple[str, UUID]] = {}
    await _follow(runner, root, state, known)
    serving = asyncio.create_task(runner.start())
    print(f"ready scheduler {url}", flush=True)
    waiting = asyncio.create_task(stopping.wait())
    while not stopping.is_set() and not serving.done():
        await asyncio.wait({waiting, serving}, timeout=WATCH_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not stopping.is_set():
            await _follow(runner, root, state, known)
    if serving.done():
        serving.result()
    serving.cancel()
    with suppress(asyncio.CancelledError):
        await serving


async def _follow(runner: Runner, root: Path, state: Path, known: dict[str, tuple[str, UUID]]) -> None:
    """Bring the deployments in line with the files under state/schedules."""
    from prefect.client.orchestration import get_client

    wanted = {schedule.name: schedule for schedule in schedules.load_all(state)}
    for name in [name for name in known if name not in wanted]:
        _, gone = known.pop(name)
        async with get_client() as client:
            await client.delete_deployment(gone)
        print(f"schedule {name} removed", file=sys.stderr, flush=True)
    for name, schedule in wanted.items():
        if name in known and known[name][0] == schedule.version:
            continue
        deployment = await schedules.deployment(root, schedule)
        known[name] = (schedule.version, await runner.aadd_deployment(deployment))
        print(f"schedule {name}: {schedule.cron} ({schedule.timezone})", file=sys.stderr, flush=True)
