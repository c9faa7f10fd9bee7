"""The result of a run as the contract has it: what `tally run --json` prints and `result.json` keeps."""

from __future__ import annotations

import re
from dataclasses import astuple
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from kernels import curve25519, digest, native, ntt
from pipelines.live import Live

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "alignment_lines",
    "hidden_text",
    "inference_lines",
    "kernels",
    "make",
    "null_text",
    "printable",
    "rows_table",
    "rows_text",
    "table_text",
    "text",
    "validation_lines",
    "validation_rows",
]

_WORD = 1 << 63  # Arrow's integers end here
_LONG, _LONGEST = 1e4, 1e15  # floats between them are shown with two decimals
_FIT = {
    "log_likelihood": "log-likelihood",
    "llr": "likelihood ratio",
    "llr_dof": "degrees of freedom",
    "llr_p_value": "its p value",
    "pseudo_r_squared": "pseudo R-squared",
    "aic": "AIC",
    "bic": "BIC",
}
_NUMBER = re.compile(r"-?(\d{1,3}(,\d{3})+|\d+)(\.\d+)?")


def kernels() -> str:
    """Which kernels compute here."""
    variants = ntt.variants()
    transforms = native.active("ntt", variants[-1] if variants else None)
    return f"{curve25519.active()}; {digest.active()}; {transforms}"


def rows_table(columns: list[str], rows: list[dict[str, Any]]) -> pa.Table:
    """Rows of an answer as an Arrow table; a column with integers of more than 64 bits is one of decimals."""
    import pyarrow as pa

    found = {}
    for name in columns:
        values = [row[name] for row in rows]
        if any(isinstance(value, int) and not -_WORD <= value < _WORD for value in values):
            values = [None if value is None else Decimal(value) for value in values]
        found[name] = values
    return pa.table(found)


def make(live: Live) -> dict[str, Any]:
    """The result object of this side: what we received, nothing of the peer's."""
    found: dict[str, dict[str, Any]] = {"queries": {}, "statistics": {}, "suppressed_groups": {}, "columns": {}}
    for item in live.job.analyse:
        answer = live.state.get_json(f"analyse-{item.name}")
        if answer is None:
            continue
        if "statistics" in answer:
            found["statistics"][item.name] = answer["statistics"]
        else:
            found["queries"][item.name] = answer["rows"]
            found["columns"][item.name] = answer["columns"]
            found["suppressed_groups"][item.name] = answer["suppressed_groups"]
    stages = live.stages
    timings = {entry["stage"]: round(entry["seconds"], 4) for entry in stages}
    return {
        "run": live.state.run,
        "job": live.job.name,
        "status": "done",
        "rows": _rows(live),
        **found,
        "model": _model(live),
        "scores": live.state.get_json("scores"),
        "timings": {name: timings.get(name, 0.0) for name in ("connect", "align", "analyse", "train", "score")},
        "bytes": {"sent": live.channel.counters.sent, "received": live.channel.counters.received},
        "details": {
            "stages": stages,
            "kernels": kernels(),
            "alignment": _alignment(live),
        },
    }


def _rows(live: Live) -> int | None:
    """Aligned rows, or, where one side alone learns or nobody learns which, how many identifiers both have."""
    found = live.alignment
    return None if found is None else len(found.rows) if live.job.align.learns == "both" else found.count


def _alignment(live: Live) -> dict[str, Any]:
    """What our table gave, and how many keys of each kind matched."""
    found = live.alignment
    facts = found.facts if found is not None else None
    shown = live.catalogues[live.index].table(dict(live.job.align.tables)[live.us])
    names = ("distinct", "rows", "nulls", "unreadable", "duplicates")
    return {
        "reused": live.reused,
        "prepared": live.prepared,
        "identifiers": dict(zip(names, astuple(facts), strict=True)) if facts else None,
        "keys": [list(form) for form in shown.key] if shown is not None else [],
        "matches_by_key": list(found.by_key) if found is not None else None,
        "unmatched": found.unmatched if found is not None else None,
    }


def _model(live: Live) -> dict[str, Any] | None:
    kept = live.state.get_json("model")
    if kept is None:
        return None
    import vfl

    half = vfl.ModelHalf.from_json(kept["half"])
    return {
        "id": kept["id"],
        "metrics": kept["metrics"],
        "coefficients": half.coefficients,
        "intercept": half.intercept,
        "passes": kept["passes"],
        "converged": kept["converged"],
        "left_out": kept.get("left_out", []),
        "l2": kept.get("l2"),
        "cross_validation": kept.get("cross_validation"),
        "inference": kept.get("inference"),
        "inference_refused": kept.get("inference_refused"),
        "fit": kept.get("fit"),
    }


def text(result: dict[str, Any]) -> str:
    """The result for people."""
    lines = [f"run {result['run']}: {rows_text(result)}", *alignment_lines(result["details"]["alignment"])]
    for name, rows in result["queries"].items():
        lines += ["", f"{name}:", table_text(result["columns"][name], rows)]
        lines += [told] if (told := null_text(rows)) else []
        if result["suppressed_groups"].get(name):
            lines.append(hidden_text(result["suppressed_groups"][name]))
    for name, kinds in result["statistics"].items():
        for kind, value in kinds.items():
            lines += ["", f"{name}, {kind}:" + _statistic(value)]
    model = result["model"]
    if model:
        single = {key: value for key, value in model["metrics"].items() if not isinstance(value, dict | list)}
        lines += ["", f"model {model['id']}: " + ", ".join(f"{key} {_short(value)}" for key, value in single.items())]
        lines += [f"  {printable(name):24} {_signed(value)}" for name, value in model["coefficients"].items()]
        lines += inference_lines(model)
        lines += validation_lines(model)
        lines += _measured(model["metrics"])
    if result["scores"]:
        lines += ["", f"scores: {printable(result['scores']['path'])}, {result['scores']['rows']} rows"]
    spent = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in result["timings"].items() if seconds)
    total = (result["bytes"]["sent"] + result["bytes"]["received"]) / 1e6
    return "\n".join([*lines, "", f"{spent}; {total:.1f} MB"])


def _signed(value: float) -> str:
    """A coefficient; 0 alone where l1 made it exactly 0."""
    return f"{value:+.4f}" if value else "0"


def _measured(metrics: dict[str, Any]) -> list[str]:
    """What was asked of a model beyond single numbers."""
    lines = []
    for name, value in metrics.items():
        if isinstance(value, dict):
            lines.append(f"{name}: " + ", ".join(f"{key} {_short(cell)}" for key, cell in value.items()))
        elif isinstance(value, list):
            lines += ["", f"{name}:", table_text(list(value[0]), value)]
    return lines


def _statistic(value: Any) -> str:
    """Tables as tables, other values in a line."""
    if not isinstance(value, dict):
        return f" {_short(value)}"
    if "matrix" in value:
        names = value["columns"]
        rows = [
            {"": name} | dict(zip(names, row, strict=True)) for name, row in zip(names, value["matrix"], strict=True)
        ]
        return "\n" + table_text(["", *names], rows)
    if "rows" not in value:
        return "\n" + table_text(["column", "value"], [{"column": k, "value": v} for k, v in value.items()])
    tables = [value, value["details"]] if "details" in value else [value]
    shown = [
        table_text(one["columns"], [dict(zip(one["columns"], row, strict=True)) for row in one["rows"]])
        for one in tables
    ]
    return "\n" + "\n\n".join(shown)


def inference_lines(model: dict[str, Any]) -> list[str]:
    """Standard errors as a table, or why there are none; nothing where the job asks for none."""
    fit = model.get("fit")
    told = [] if not fit else [f"  {name} {_short(fit[key])}" for key, name in _FIT.items()]
    if model.get("inference_refused"):
        return [*told, "", f"no standard errors: {printable(model['inference_refused'])}"]
    if not model.get("inference"):
        return told
    names = {
        "name": "coefficient of",
        "coefficient": "value",
        "standard_error": "std err",
        "z": "z",
        "p_value": "P>|z|",
        "low": "2.5 %",
        "high": "97.5 %",
        "odds_ratio": "odds ratio",
    }
    rows = [{shown: row[key] for key, shown in names.items()} for row in model["inference"]]
    return [*told, "", table_text(list(names.values()), rows)]


def validation_lines(model: dict[str, Any]) -> list[str]:
    """The folds of each penalty and their mean, and which was taken; nothing where the job asks for none."""
    rows = validation_rows(model)
    return ["", f"cross-validation, l2 {model['l2']:g} taken:", table_text(list(rows[0]), rows)] if rows else []


def validation_rows(model: dict[str, Any]) -> list[dict[str, Any]]:
    """A line for each penalty and fold, and one of means for each penalty."""
    folds = model.get("cross_validation") or []
    found = []
    for l2 in dict.fromkeys(row["l2"] for row in folds):
        those = [row for row in folds if row["l2"] == l2]
        found += [{key: row[key] for key in ("l2", "fold", "auc", "log_loss")} for row in those]
        means = {key: sum(row[key] for row in those) / len(those) for key in ("auc", "log_loss")}
        found.append({"l2": l2, "fold": "mean", **means})
    return found


def rows_text(result: dict[str, Any]) -> str:
    """How many rows were aligned."""
    alone = (result["details"].get("alignment") or {}).get("unmatched")
    return f"{result['rows']} rows, {alone} of them without a match" if alone else f"{result['rows']} rows in common"


def alignment_lines(found: dict[str, Any]) -> list[str]:
    """What our table gave, and how many keys of each kind matched."""
    facts, lines = found.get("identifiers"), []
    if facts:
        odd = {"nulls": "without a key", "unreadable": "unreadable", "duplicates": "with the key of an earlier row"}
        told = [f"{facts['rows']:,} rows", f"{facts['distinct']:,} keys"]
        told += [f"{facts[name]:,} {words}" for name, words in odd.items() if facts[name]]
        lines.append(f"our table: {', '.join(told)}")
    matches, keys = found.get("matches_by_key") or [], found.get("keys") or []
    for count, columns in zip(matches, keys, strict=False):
        name = printable(", ".join(columns))
        if count is not None:
            rate = f" of {facts['rows']:,} rows, {100 * count / max(facts['rows'], 1):.1f} %" if facts else ""
            lines.append(f"matched by {name}: {count:,}{rate}")
        elif len(matches) > 1:
            lines.append(f"matched by {name}: fewer than the minimum, not revealed")
    return lines


def null_text(rows: list[dict[str, Any]]) -> str | None:
    """What NULL may mean, where there is one."""
    if not any(value is None for row in rows for value in row.values()):
        return None
    return "(NULL: a missing value, or a number that fewer than the minimum of rows entered)"


def hidden_text(groups: int) -> str:
    """Why groups are missing from an answer."""
    return (
        f"(groups not shown: {groups}; empty, under the minimum of rows, or the smallest other one where a total"
        " would show those)"
    )


def table_text(columns: list[str], rows: list[dict[str, Any]]) -> str:
    """Rows as aligned text, numbers to the right."""
    cells = [[_short(row[column]) for column in columns] for row in rows]
    names = [printable(column) for column in columns]
    widths = [max(map(len, [name, *(row[place] for row in cells)])) for place, name in enumerate(names)]
    pads = [str.rjust if _numbers([row[column] for row in rows]) else str.ljust for column in columns]
    lines = [
        "  ".join(pad(cell, width) for pad, cell, width in zip(pads, row, widths, strict=True))
        for row in [names, *cells]
    ]
    return "\n".join(line.rstrip() for line in lines)


def _numbers(values: list[Any]) -> bool:
    """Whether a column holds numbers, decimals as text among them."""
    told = [value for value in values if value is not None]
    return bool(told) and all(
        isinstance(value, int | float) or (isinstance(value, str) and _NUMBER.fullmatch(value)) for value in told
    )


def printable(text: str) -> str:
    """Text that a terminal shows and does not obey: group values and facts are a peer's words."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _short(value: Any) -> str:
    """Floats to six digits, but never without their whole part and, where it is long, two decimals."""
    if value is None:
        return "NULL"
    if isinstance(value, float):
        return f"{value:.2f}" if _LONG <= abs(value) < _LONGEST else f"{value:.6g}"
    return printable(str(value))
