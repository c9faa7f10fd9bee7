"""Expressions as SQL text, rendered from our own syntax tree; numbers as integers in units of 10**-scale.

Arithmetic runs in BIGINT where the interval of a node is known to fit, in HUGEINT elsewhere; a value that does not fit
its result column is an error of the evaluation, never a wrapped number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import lru_cache

from mpc.sql.expr import Expr
from mpc.sql.lookups import TRUE
from mpc.sql.ordered import ORDERED
from party.errors import UsageError

__all__ = ["constant", "from_text", "further_name", "quoted", "reach", "render"]

_INT64 = 2**63 - 1
_HUGE = 2**120


# --- further tables of the owner --------------------------------------------------------------------------------------


def further_name(table: str) -> str:
    """The name under which a whole table of the owner is evaluated."""
    return f"table {table}"


def _rows(table: str, exprs: Iterable[Expr], condition: Expr) -> str:
    """FROM and WHERE over a whole table."""
    where = "" if condition == TRUE else f" WHERE {render(condition)}"
    return from_text(quoted(further_name(table)), exprs) + where


def from_text(table: str, exprs: Iterable[Expr]) -> str:
    """A table, and beside each of its rows those that the expressions look up."""
    found: dict[Expr, dict[Expr, None]] = {}
    for expr in exprs:
        _collect(expr, found)
    text = table
    for row, values in found.items():
        if row.op == "scalar":
            text += f" CROSS JOIN ({_number(row)}) AS {_label('s', row)}"
            continue
        name, keys, here = _label("l", row), row.args[1::2], row.args[2::2]
        columns = [f"{render(key)} AS {name}_k{place}" for place, key in enumerate(keys)]
        columns += [f"{render(value)} AS {_label('v', value)}" for value in values]
        rows = f"SELECT {', '.join(columns)} FROM {_rows(str(row.value), [*row.args[:1], *keys, *values], row.args[0])}"  # noqa: S608
        if row.op == "grouped":
            rows += f" GROUP BY {', '.join(str(place + 1) for place in range(len(keys)))}"
        equal = " AND ".join(f"{name}.{name}_k{place} = {render(expr)}" for place, expr in enumerate(here))
        text += f" LEFT JOIN ({rows}) AS {name} ON {equal}"
    return text


def _collect(expr: Expr, found: dict[Expr, dict[Expr, None]]) -> None:
    """The lookups of an expression over the rows here, those that others build on first, each with its values."""
    if expr.op in ("looked", "matched"):
        row = expr.args[0]
        for here in row.args[2::2]:
            _collect(here, found)
        values = found.setdefault(row, {})
        if expr.op == "looked":
            values[expr.args[1]] = None
    elif expr.op == "member":
        _collect(expr.args[3], found)
    elif expr.op == "scalar":
        found.setdefault(expr, {})
    elif expr.op != "column":
        for arg in expr.args:
            _collect(arg, found)


def _label(kind: str, expr: Expr) -> str:
    """A name that tells one expression from all others."""
    return f"{kind}_{hashlib.sha256(repr(expr).encode()).hexdigest()[:20]}"


def _looked(expr: Expr) -> str:
    return f"{_label('l', expr.args[0])}.{_label('v', expr.args[1])}"


def _matched(expr: Expr) -> str:
    name = _label("l", expr.args[0])
    return f"({name}.{name}_k0 IS NOT NULL)"


def _scalar(expr: Expr) -> str:
    name = _label("s", expr)
    return f"{name}.{name}_v"


def _number(expr: Expr) -> str:
    """A number of a whole table; NULL where too few rows enter it in one of its ways."""
    table, condition, value, least, *ways = expr.args
    text = _total(expr, value)
    enough = " AND ".join(f"count(*) FILTER (WHERE {render(way)}) >= {int(least.value or 0)}" for way in ways)
    text = f"CASE WHEN {enough} THEN {text} END" if ways else text
    rows = _rows(str(table.value), [condition, value, *ways], condition)
    return f"SELECT {text} AS {_label('s', expr)}_v FROM {rows}"  # noqa: S608


def _total(expr: Expr, value: Expr) -> str:
    """An aggregate of the rows of a whole table, or of each group."""
    if expr.value == "count":
        return "count(*)" if value == TRUE else f"count({render(value)})"
    text = f"{expr.value}({render(value)})"
    if expr.value == "avg":
        return f"({text} / {10**value.scale})" if value.scale else text
    if expr.kind in ("integer", "decimal"):
        return f"CAST({text} AS {'HUGEINT' if _wide(expr) else 'BIGINT'})"
    return text


def _member(expr: Expr) -> str:
    table, condition, column, here = expr.args
    rows = _rows(str(table.value), [condition, column], condition)
    return f"({render(here)} IN (SELECT {render(column)} FROM {rows}))"  # noqa: S608


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def constant(value: str | int | bool | None) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int):
        return f"({value})" if value < 0 else str(value)
    if "\0" in value:
        raise UsageError("a text constant holds a zero byte")
    return "'" + value.replace("'", "''") + "'"


def render(expr: Expr) -> str:
    """One expression; every operand is in brackets or a call, so precedence never matters."""
    return _OPS[expr.op](expr)


@lru_cache(maxsize=4096)
def reach(expr: Expr) -> int:
    """The largest magnitude it can take: by declared ranges, else by what an integer column can hold."""
    if expr.most is not None:
        return expr.most
    if expr.op == "column" or not expr.args:
        return 2**63
    reaches: list[int] = [reach(arg) for arg in expr.args]
    if expr.op == "*":
        return reaches[0] * reaches[1]
    if expr.op == "scale":
        return int(reaches[0] * 10 ** int(expr.value or 0))
    return sum(reaches) if expr.op in "+-" else max(reaches)


def _wide(expr: Expr) -> bool:
    """Whether it needs more than 64 bits. More than 120 are refused: an overflow in one row would tell of that row."""
    most = reach(expr)
    if most > _HUGE:
        raise UsageError(
            f"a number of up to {most.bit_length()} bits would overflow",
            hint="declare a smaller range or precision of its columns in party.yaml",
        )
    return most > _INT64


def _column(expr: Expr) -> str:
    name = quoted(str(expr.value))
    if expr.kind == "integer":
        return f"CAST({name} AS BIGINT)"
    if expr.kind == "bool":
        return f"CAST({name} AS BOOLEAN)"
    if expr.kind == "decimal":
        precision = int(expr.args[0].value or 18)
        if precision + expr.scale + 1 > 38:
            raise UsageError(
                f"column {expr.value} has too many digits", hint="declare decimal(p,s) with p + s at most 37"
            )
        return _in_units(name, precision, expr.scale)
    return name


def _literal(expr: Expr) -> str:
    if expr.kind == "date":
        return f"DATE {constant(expr.value)}"
    if expr.kind == "timestamp":
        return f"TIMESTAMP {constant(expr.value)}"
    if expr.kind in ("integer", "decimal"):
        most = expr.most or 0
        return f"CAST({constant(expr.value)} AS {'HUGEINT' if most > _INT64 else 'BIGINT'})"
    if expr.kind == "null":
        return "NULL"
    return constant(expr.value)


def _operands(expr: Expr) -> tuple[str, ...]:
    if _wide(expr):
        return tuple(f"CAST({render(arg)} AS HUGEINT)" for arg in expr.args)
    return tuple(render(arg) for arg in expr.args)


def _infix(op: str) -> Callable[[Expr], str]:
    def text(expr: Expr) -> str:
        left, right = _operands(expr)
        return f"({left} {op} {right})"

    return text


def _scale(expr: Expr) -> str:
    return f"({_operands(expr)[0]} * {10 ** int(expr.value or 0)})"


def _compare(op: str) -> Callable[[Expr], str]:
    def text(expr: Expr) -> str:
        left, right = expr.args
        if "float" in (left.kind, right.kind):
            return f"({_as_float(left)} {op} {_as_float(right)})"
        return f"({render(left)} {op} {render(right)})"

    return text


def _as_float(expr: Expr) -> str:
    if expr.op == "literal" and expr.kind in ("integer", "decimal"):
        digits = f"{abs(int(expr.value or 0)):0{expr.scale + 1}d}"
        sign = "-" if int(expr.value or 0) < 0 else ""
        text = f"{digits[: len(digits) - expr.scale]}.{digits[len(digits) - expr.scale :]}" if expr.scale else digits
        return f"CAST('{sign}{text}' AS DOUBLE)"
    if expr.kind in ("integer", "decimal"):
        text = f"CAST({render(expr)} AS DOUBLE)"
        return f"({text} / {10**expr.scale})" if expr.scale else text
    return render(expr)


def _float(expr: Expr) -> str:
    """Arithmetic and functions of floats; every operand becomes one."""
    args = [_as_float(arg) for arg in expr.args]
    if expr.value == "CAST":
        return args[0]
    if str(expr.value) in "+-*/":
        return f"({args[0]} {expr.value} {args[1]})"
    return f"TRY({expr.value}({', '.join(args)}))"  # sqrt(-1) is NULL: an error would tell of a row


def _argument(expr: Expr) -> str:
    """An argument of a function; a constant takes the type that the function wants."""
    return constant(expr.value) if expr.op == "literal" and expr.kind == "integer" else render(expr)


def _as_kind(expr: Expr, text: str) -> str:
    return f"CAST({text} AS BIGINT)" if expr.kind == "integer" else text


def _units(expr: Expr) -> str:
    """A text or float as a decimal, in units; NULL where it does not convert."""
    precision = len(str(expr.high))
    tried = f"TRY_CAST({render(expr.args[0])} AS DECIMAL({precision},{expr.scale}))"
    return _in_units(tried, precision, expr.scale)


def _in_units(text: str, precision: int, scale: int) -> str:
    """A decimal of this precision and scale as a whole number."""
    # DuckDB multiplies in 64 bits when both factors have at most 18 digits, however many their product has
    digits = precision if precision + scale + 1 <= 18 else max(precision, 19)
    exact, power = f"DECIMAL({digits},{scale})", f"DECIMAL({scale + 1},0)"
    units = f"CAST({text} AS {exact}) * CAST({10**scale} AS {power})"
    return f"CAST({units} AS {'HUGEINT' if precision > 18 else 'BIGINT'})"


def _within(expr: Expr) -> str:
    """A number, NULL outside of its bounds."""
    a = render(expr.args[0])
    return f"(CASE WHEN {a} BETWEEN {expr.low} AND {expr.high} THEN {a} END)"


def _tried(expr: Expr) -> str:
    text = f"TRY_CAST({render(expr.args[0])} AS {expr.value})"
    return _moved(text) if expr.kind in ("date", "timestamp") else _as_kind(expr, text)


def _moved(text: str) -> str:
    """A computed date or timestamp; NULL outside of the years 1 to 9999."""
    return f"(CASE WHEN TRY({text}) BETWEEN TIMESTAMP '0001-01-01' AND TIMESTAMP '9999-12-31' THEN TRY({text}) END)"


def _join(word: str) -> Callable[[Expr], str]:
    return lambda expr: "(" + f" {word} ".join(render(arg) for arg in expr.args) + ")"


def _suffix(words: str) -> Callable[[Expr], str]:
    return lambda expr: f"({render(expr.args[0])} {words})"


def _call(name: str) -> Callable[[Expr], str]:
    return lambda expr: f"{name}({', '.join(render(arg) for arg in expr.args)})"


def _case(expr: Expr) -> str:
    wide = expr.kind in ("integer", "decimal") and _wide(expr)
    arms = []
    for place in range(0, len(expr.args) - 1, 2):
        arms.append(f"WHEN {render(expr.args[place])} THEN {_branch(expr.args[place + 1], wide)}")
    return f"(CASE {' '.join(arms)} ELSE {_branch(expr.args[-1], wide)} END)"


def _coalesce(expr: Expr) -> str:
    wide = expr.kind in ("integer", "decimal") and _wide(expr)
    return f"COALESCE({', '.join(_branch(arg, wide) for arg in expr.args)})"


def _branch(expr: Expr, wide: bool) -> str:
    return f"CAST({render(expr)} AS HUGEINT)" if wide else render(expr)


def _rounded(expr: Expr) -> str:
    a = f"CAST({render(expr.args[0])} AS HUGEINT)"
    one = 10 ** int(expr.value or 0)
    if expr.op == "round":  # half away from zero
        return f"(CASE WHEN {a} < 0 THEN -((-{a} + {one // 2}) // {one}) ELSE ({a} + {one // 2}) // {one} END)"
    if expr.op == "floor":
        return f"(CASE WHEN {a} < 0 THEN -((-{a} + {one - 1}) // {one}) ELSE {a} // {one} END)"
    return f"(CASE WHEN {a} > 0 THEN ({a} + {one - 1}) // {one} ELSE -((-{a}) // {one}) END)"


def _place(expr: Expr) -> str:
    text, *values = (render(arg) for arg in expr.args)
    arms = [f"WHEN {text} IS NULL THEN NULL", *(f"WHEN {text} = {value} THEN {n}" for n, value in enumerate(values))]
    return f"CAST(CASE {' '.join(arms)} ELSE -1 END AS BIGINT)"


_OPS: dict[str, Callable[[Expr], str]] = {
    "column": _column,
    "literal": _literal,
    "number": lambda expr: f"CAST({render(expr.args[0])} AS BIGINT)",
    "scale": _scale,
    "+": _infix("+"),
    "-": _infix("-"),
    "*": _infix("*"),
    "//": _infix("//"),
    "%": _infix("%"),
    "neg": lambda expr: f"(-{_operands(expr)[0]})",
    "abs": lambda expr: f"abs({_operands(expr)[0]})",
    **{op: _compare(op) for op in ("=", "<>", "<", "<=", ">", ">=")},
    "and": _join("AND"),
    "or": _join("OR"),
    "not": lambda expr: f"(NOT {render(expr.args[0])})",
    "isnull": _suffix("IS NULL"),
    "istrue": _suffix("IS TRUE"),
    "isfalse": _suffix("IS FALSE"),
    "like": _join("LIKE"),
    "ilike": _join("ILIKE"),
    "case": _case,
    "coalesce": _coalesce,
    **dict.fromkeys(("round", "floor", "ceil"), _rounded),
    **{op: _call(op) for op in ("lower", "upper", "trim", "length", "substring")},
    "extract": lambda expr: f"CAST(extract({expr.value} FROM {render(expr.args[0])}) AS BIGINT)",
    "date_trunc": lambda expr: f"date_trunc('{expr.value}', {render(expr.args[0])})",
    "day": lambda expr: f"date_diff('day', DATE '1970-01-01', {render(expr.args[0])})",
    "microsecond": lambda expr: f"epoch_us({render(expr.args[0])})",
    "place": _place,
    "digest": lambda expr: f"CAST('0x' || substring(sha256({render(expr.args[0])}), 1, 15) AS BIGINT)",
    "call": lambda expr: _as_kind(expr, f"{expr.value}({', '.join(map(_argument, expr.args))})"),
    "concat": _call("concat"),
    "||": _join("||"),
    "float": _float,
    "cast": lambda expr: _as_kind(expr, f"CAST({render(expr.args[0])} AS {expr.value})"),
    "trycast": _tried,
    "tryunits": _units,
    "within": _within,
    "interval": lambda expr: _moved(f"{render(expr.args[0])} + INTERVAL '{expr.value}'"),
    "days": lambda expr: _moved(f"{render(expr.args[0])} + CAST({render(expr.args[1])} AS INTEGER)"),
    "date_diff": lambda expr: f"date_diff('{expr.value}', {', '.join(render(arg) for arg in expr.args)})",
    "looked": _looked,
    "total": lambda expr: _total(expr, expr.args[0]),
    "matched": _matched,
    "scalar": _scalar,
    "member": _member,
    **dict.fromkeys(("granted", *ORDERED), lambda expr: render(expr.args[0])),
    "to_date": lambda expr: f"CAST({render(expr.args[0])} AS DATE)",
}
