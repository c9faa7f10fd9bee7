"""The pooled answer of the demo: both tables joined in the clear, the same rows, split and preparation.

Only the demo can do this, because it made both tables. The model is fitted by plain Newton steps to convergence,
which shares no code with the joint training.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from party.home import Home
from pipelines import alignments
from pipelines.runs import RunState
from pipelines.tables import open_table
from vfl import metrics, prepare

__all__ = ["newton", "pooled_answer"]


def pooled_answer(
    bank: Home, telco: Home, run: str, features: dict[str, list[str]], queries: dict[str, str]
) -> dict[str, Any]:
    """`pooled` and `bank_only`: metrics on the same test rows, and the queries' answers from DuckDB."""
    halves = []
    for made, table in ((bank, "customers"), (telco, "subscribers")):
        home = Home.open(made.root)
        arrays = RunState(home.state / "runs", run).get_arrays("alignment") or {}
        alignment = alignments.from_arrays(arrays)
        source = open_table(home, table)
        names = [field.name for field in source.schema()]
        halves.append(source.read(names).take(pa.array(alignment.rows)))
    left, right = halves
    test = prepare.split(left.num_rows, 0.2, alignment.digest)
    label = _numbers(left, ["defaulted"])["defaulted"][0].astype(float)
    values = {
        name: prepare.prepare(_numbers(half, features[name]), test, 3.0).values
        for name, half in (("bank", left), ("telco", right))
    }
    both = np.hstack([values["bank"], values["telco"]])
    answers = {
        name: _metrics(columns, label, test) for name, columns in (("pooled", both), ("bank_only", values["bank"]))
    }
    place = pa.array(np.arange(left.num_rows))
    answers["pooled"]["queries"] = _queries(left.append_column("_p", place), right.append_column("_p", place), queries)
    return answers


def newton(X: np.ndarray, y: np.ndarray, l2: float = 1.0) -> np.ndarray:
    """Weights, intercept first, of the minimum of log-loss sums + l2/2 |w|^2 without the intercept."""
    A = np.hstack([np.ones((len(X), 1)), X])
    ridge = np.diag([0.0] + [l2] * X.shape[1])
    w = np.zeros(A.shape[1])
    for _ in range(50):
        p = 1.0 / (1.0 + np.exp(-A @ w))
        step = np.linalg.solve((A * (p * (1.0 - p))[:, None]).T @ A + ridge, A.T @ (p - y) + ridge @ w)
        w -= step
        if np.abs(step).max() < 1e-10:
            break
    return w


def _metrics(X: np.ndarray, y: np.ndarray, test: np.ndarray) -> dict[str, Any]:
    w = newton(X[~test], y[~test])
    logits = X[test] @ w[1:] + w[0]
    label = y[test]
    return {
        "auc": metrics.auc(label, logits),
        "ks": metrics.ks(label, logits),
        "log_loss": metrics.log_loss(label, logits),
    }


def _numbers(table: pa.Table, names: list[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    found = {}
    for name in names:
        column = table.column(name)
        number = column.cast(pa.int8()) if pa.types.is_boolean(column.type) else column
        valid = np.asarray(column.is_valid().to_numpy(zero_copy_only=False))
        found[name] = (np.asarray(number.cast(pa.float64()).fill_null(0).to_numpy(zero_copy_only=False)), valid)
    return found


def _queries(left: pa.Table, right: pa.Table, queries: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
    found = {}
    with duckdb.connect(":memory:") as connection:
        connection.execute("CREATE SCHEMA bank; CREATE SCHEMA telco")
        connection.register("left_rows", left)
        connection.register("right_rows", right)
        connection.execute(
            "CREATE TABLE bank.customers AS FROM left_rows; CREATE TABLE telco.subscribers AS FROM right_rows"
        )
        for name, sql in queries.items():
            plain = sql.replace("b.phone = t.msisdn", "b._p = t._p").replace("b.defaulted)", "b.defaulted::INTEGER)")
            grouped = "GROUP BY" in plain
            if grouped:
                plain = plain.replace("SELECT", "SELECT COUNT(*) AS _rows,", 1)
            cursor = connection.execute(plain)
            columns = [item[0] for item in cursor.description or ()]
            rows = [dict(zip(columns, map(_plain, row), strict=True)) for row in cursor.fetchall()]
            found[name] = _shown(rows, _lines(plain)) if grouped else rows
    return found


def _lines(sql: str) -> list[str]:
    """The bank's keys, where both parties have keys: it receives, so each group of its own is a line."""
    keys = sql.partition("GROUP BY")[2]
    ours, theirs = re.findall(r"\bb\.(\w+)", keys), re.findall(r"\bt\.(\w+)", keys)
    return ours if theirs else []


def _shown(rows: list[dict[str, Any]], keys: list[str], min_rows: int = 20) -> list[dict[str, Any]]:
    """What min_rows lets through, line by line (in the clear): docs/protocols/07-opening-and-min-rows.md."""
    lines: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["_rows"]):
        lines.setdefault(tuple(row[key] for key in keys), []).append(row)
    shown = []
    for line in lines.values():
        hidden = [row for row in line if row["_rows"] < min_rows]
        rest = line[len(hidden) :]
        shown += rest[1:] if 0 < sum(row["_rows"] for row in hidden) < min_rows else rest
    return [{name: value for name, value in row.items() if name != "_rows"} for row in shown]


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Decimal) else value
