"""Two homes in one process: the telco's worker in a thread behind a real socket, the bank's runs in the test's own."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from party.errors import TallyError
from party.home import Home
from party.ledger import Ledger
from pipelines import execute, verbs_home, worker
from pipelines.link import Link, dial
from pipelines.progress import Progress
from pipelines.spec import read_job
from pipelines.verbs_run import ask
from tests.e2e.homes import free_port, indent, write_tables

TABLES = {"bank": "customers", "telco": "subscribers"}
Columns = Mapping[str, Sequence[Any]]


class TwoHomes:
    """The bank dials, the telco listens; each has one Parquet table, `customers` and `subscribers`."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.homes = {"bank": folder / "bank", "telco": folder / "telco"}
        self.met: list[BaseException] = []
        verbs_home.init(self.homes["bank"], "bank", None, None)
        address = f"127.0.0.1:{self.port}"
        verbs_home.init(self.homes["telco"], "telco", address, address)
        for name, other in (("bank", "telco"), ("telco", "bank")):
            card = folder / f"{other}.card"
            card.write_text(verbs_home.card(self.homes[other]))
            verbs_home.trust(self.homes[name], card, False)
        self._bare = {name: (home / "party.yaml").read_text() for name, home in self.homes.items()}

    def declare(self, name: str, table: str, policy: str) -> None:
        """What stands under the table's name in party.yaml, and under the peer's in policy.yaml."""
        (self.homes[name] / "party.yaml").write_text(self._bare[name])
        write_tables(self.homes[name], f"{TABLES[name]}:\n  url: parquet:data.parquet\n{indent(table, 2)}")
        peer = "telco" if name == "bank" else "bank"
        text = f"version: 1\npeers:\n  {peer}:\n{indent(policy, 4)}"
        (self.homes[name] / "policy.yaml").write_text(text)

    def fill(self, name: str, columns: Columns, types: Mapping[str, pa.DataType] | None = None) -> None:
        """Write the table."""
        table = pa.table({key: pa.array(column, (types or {}).get(key)) for key, column in columns.items()})
        pq.write_table(table, self.homes[name] / "data.parquet")

    @contextmanager
    def linked(self) -> Iterator[Link]:
        """A link of the bank's; what the telco's worker raised is in `met`."""
        with socket.create_server(("127.0.0.1", self.port)) as listener:

            def work() -> None:
                sock, _ = listener.accept()
                try:
                    worker.serve_connection(Home.open(self.homes["telco"]), sock)
                except Exception as error:
                    self.met.append(error)

            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            try:
                with dial(Home.open(self.homes["bank"]), "telco") as link:
                    yield link
                    link.close()
            except TallyError:
                thread.join(30)
                raise
            thread.join(30)
        if thread.is_alive():
            raise TimeoutError("the telco's worker does not end")

    def run(self, job: str, *, new: bool = False) -> dict[str, Any]:
        """`tally run JOB --direct` at the bank; the result."""
        path = self.homes["bank"] / "job.yaml"
        path.write_text(job)
        with self.linked() as link:
            return execute.run_job(link, read_job(path, "bank"), Progress(quiet=True), new=new)

    def ask(self, *statements: str, realign: bool = False) -> list[dict[str, Any]]:
        """`tally query -` at the bank: one answer a statement."""
        with self.linked() as link:
            return [ask(link, statement, realign) for statement in statements]

    def result(self, name: str, run: str) -> dict[str, Any]:
        """A side's own result.json."""
        found: dict[str, Any] = json.loads((self.homes[name] / "state" / "runs" / run / "result.json").read_bytes())
        return found

    def events(self, name: str, kind: str) -> list[dict[str, Any]]:
        """Events of a ledger, oldest first; the chain holds."""
        ledger = Ledger.open(self.homes[name] / "state" / "ledger.db")
        try:
            ledger.verify()
            return [dict(event.fields) for event in ledger.events() if event.event == kind]
        finally:
            ledger.close()
