"""A party from Python: `Party.open(home)`, then `query`, `run` and `session`, as the command line does them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from party.errors import InternalError, UsageError
from party.home import Home
from pipelines import execute, models
from pipelines.link import Link, dial
from pipelines.progress import Progress
from pipelines.queries import query_job
from pipelines.results import rows_table
from pipelines.scoring import Wanted, score_job
from pipelines.spec import read_job
from pipelines.verbs_model import ask_scores
from pipelines.verbs_run import ask, check_sink

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Party", "RunResult", "Session"]


@dataclass(frozen=True)
class RunResult:
    """What a run gave this party; `content` is the object of `tally run --json`."""

    home: Path
    content: dict[str, Any]

    @property
    def run(self) -> str:
        """The run's id."""
        return str(self.content["run"])

    @property
    def rows(self) -> int | None:
        """Rows in common; None where this party does not learn them."""
        rows: int | None = self.content["rows"]
        return rows

    @property
    def queries(self) -> dict[str, list[dict[str, Any]]]:
        """The rows of each query this party receives."""
        queries: dict[str, list[dict[str, Any]]] = self.content["queries"]
        return queries

    @property
    def statistics(self) -> dict[str, Any]:
        """The statistics this party receives."""
        statistics: dict[str, Any] = self.content["statistics"]
        return statistics

    @property
    def model(self) -> dict[str, Any] | None:
        """Metrics, and our own coefficients."""
        model: dict[str, Any] | None = self.content["model"]
        return model

    @property
    def scores(self) -> pa.Table | None:
        """The score table, if this party receives it: key, score, split."""
        kept = self.content["scores"]
        if kept is None:
            return None
        return _scores(self.home, str(kept["path"]))

    def to_frame(self, query: str | None = None, kind: str | None = None, part: str | None = None) -> pd.DataFrame:
        """The scores as a pandas frame; with a name, the rows of that query; with a kind, that statistic of the item;
        with the part "details", what the statistic was made of."""
        import pandas as pd

        if query is not None and query in self.statistics:
            return _statistic(self.statistics[query], query, kind, part)
        if query is not None:
            if query not in self.queries:
                known = ", ".join([*self.queries, *self.statistics])
                raise UsageError(f"this party received no answer named {query!r}", hint=f"one of {known or 'none'}")
            return pd.DataFrame(self.queries[query], columns=self.content["columns"][query])
        scores = self.scores
        if scores is None:
            raise UsageError("this run gave no scores to this party", hint="name a query: to_frame('by_plan')")
        frame: pd.DataFrame = scores.to_pandas()
        return frame


def _scores(home: Path, path: str) -> pa.Table:
    """A table of scores, as it was written."""
    from connectors import open_source

    source = open_source(f"{'csv:' if path.endswith('.csv') else 'parquet:'}{path}", home)
    return source.read([field.name for field in source.schema()])


def _statistic(found: dict[str, Any], name: str, kind: str | None, part: str | None) -> pd.DataFrame:
    """A table as it is, a matrix with named rows, numbers as one row."""
    import pandas as pd

    if kind not in found:
        raise UsageError(f"{name} has no statistic {kind!r}", hint=f"one of {', '.join(found)}")
    value = found[kind]
    if part is not None:
        if not isinstance(value, dict) or part != "details" or part not in value:
            raise UsageError(f"{kind} has no part {part!r}", hint="chi_squared, ks, woe and stability have `details`")
        value = value[part]
    if not isinstance(value, dict):
        return pd.DataFrame({kind: [value]})
    if "matrix" in value:
        return pd.DataFrame(value["matrix"], index=value["columns"], columns=value["columns"])
    if "rows" in value:
        return pd.DataFrame(value["rows"], columns=value["columns"])
    return pd.DataFrame([value], index=[kind])


class Session:
    """One connection to a peer that answers many requests; each is asked of policy and written to the ledger.

    An error ends the connection, as on the command line; the next request connects anew, under the policy of then.
    """

    def __init__(self, link: Link) -> None:
        self._root, self._peer = link.home.root, link.peer
        self._link: Link | None = link
        self._ended = False

    def query(self, sql: str, *, realign: bool = False) -> pa.Table:
        """One joint query: a table of its rows; decimals as text, NULL as null."""
        link = self._connected()
        try:
            answer = ask(link, sql, realign)
        except BaseException as error:
            self._end(error)
            raise
        return rows_table(answer["columns"], answer["rows"])

    def score(
        self,
        model: str,
        ids: str | Iterable[str] | None = None,
        *,
        table: str | None = None,
        decimals: int = 3,
        form: str = "score",
    ) -> pa.Table:
        """Scores of a model trained earlier: of the rows with these keys, a row each, null where not both have one; or
        of all rows that both have. table: ours; default: the one of the training. form: score, logit or points.
        """  # fmt: skip
        asked = None if ids is None else (ids,) if isinstance(ids, str) else tuple(ids)
        home = Home.open(self._root)
        wanted = Wanted(table, decimals=decimals, form=form, ids=asked)
        job = score_job(home, models.find(home, model), wanted)
        link = self._connected()
        try:
            answer = ask_scores(link, job, asked, new=False, realign=False)
        except BaseException as error:
            self._end(error)
            raise
        if answer["answers"] is not None:
            return rows_table(answer["columns"], answer["answers"])
        return _scores(self._root, answer["scores"]["path"])

    def _connected(self) -> Link:
        if self._ended:
            raise UsageError("this session has ended", hint="open another: Party.session(peer)")
        if self._link is None:
            self._link = dial(Home.open(self._root), self._peer)
        return self._link

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        link, self._link = self._link, None
        if link is None:
            return
        try:
            if error is None:
                link.close()
        finally:
            link.__exit__(None if error is None else type(error), error, None)


class Party:
    """This organisation, by its home folder."""

    def __init__(self, home: Home) -> None:
        self._home = home

    @classmethod
    def open(cls, path: Path | str) -> Party:
        """Open a home made by `tally init`; FileError when it is none."""
        return cls(Home.open(path))

    @property
    def name(self) -> str:
        """Our name."""
        return self._home.party.name

    def session(self, peer: str) -> Session:
        """Connect to a peer for several requests."""
        return Session(dial(self._home, peer))

    def models(self) -> list[dict[str, Any]]:
        """Our halves of trained models, newest first, as `tally models --json` lists them."""
        return models.listing(self._home)

    def query(self, sql: str, *, peer: str, realign: bool = False) -> pa.Table:
        """One joint query over a connection of its own."""
        query_job(self._home, peer, sql)
        with self.session(peer) as session:
            return session.query(sql, realign=realign)

    def run(self, job: Path | str, *, new: bool = False) -> RunResult:
        """Run a job file without Prefect, resuming an unfinished run of it; the same as `tally run JOB --direct`."""
        read = read_job(Path(job), self._home.party.name)
        execute.keep_job(self._home, read)
        if read.score is not None and read.score.receiver == self.name:
            check_sink(self._home, read)
        with dial(self._home, read.other(self.name)) as link:
            content = execute.run_job(link, read, Progress(quiet=True), new=new)
            link.close()
        if content["status"] != "done":
            raise InternalError("the run ended without a result")
        return RunResult(self._home.root, content)
