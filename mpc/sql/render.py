"""An owner's local step as SQL text, rendered from our own syntax tree; numbers as integers in units of 10**-scale.

Arithmetic runs in BIGINT where the interval of a node is known to fit, in HUGEINT elsewhere; a value that does not fit
its result column is an error of the evaluation, never a wrapped number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mpc.sql.types import Expr, GroupKey, Source
from party.errors import UsageError

__all__ = ["TABLE", "local_select", "render"]

TABLE = "aligned"  # the name under which the owner's aligned table is evaluated
_INT64 = 2**63 - 1
_HUGE = 2**120


def local_select(sources: Sequence[Source], keys: Sequence[GroupKey]) -> str:
    """The SELECT of one owner: one column a source, by name; the rows and their order stay as they are."""
    by_expr = {key.expr: key for key in keys}
    parts = []
    for source in sources:
        if source.use == "code":
            text = _code(source.expr, by_expr[source.expr])
        elif source.use == "label" and source.expr.kind in ("date", "timestamp"):
            text = f"CAST({render(source.expr)} AS VARCHAR)"
        elif source.use == "present":
            text = f"CASE WHEN {render(source.expr)} IS NULL THEN NULL ELSE CAST(1 AS BIGINT) END"
        elif source.expr.kind in ("bool", "integer", "decimal", "null"):
            text = f"CAST({render(source.expr)} AS BIGINT)"
        else:
            text = render(source.expr)
        parts.append(f"{text} AS {source.name}")
    listed = ", ".join(parts) or "CAST(1 AS BIGINT) AS c0"
    return f"SELECT {listed} FROM {TABLE}"  # noqa: S608  # every part is rendered from our own tree


def _code(expr: Expr, key: GroupKey) -> str:
    text = render(expr)
    arms = [f"WHEN {text} IS NULL THEN NULL"]
    for place, value in enumerate(key.domain or ()):
        arms.append(f"WHEN {text} = {_constant(value)} THEN {place}")
    return f"CAST(CASE {' '.join(arms)} ELSE -1 END AS BIGINT)"


def _constant(value: str | int | bool | None) -> str:
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


def _wide(expr: Expr) -> bool:
    most = expr.most
    if most is not None and most > _HUGE:
        raise UsageError(
            f"a number of up to {most.bit_length()} bits would overflow",
            hint="declare a smaller range or precision of its columns in party.yaml",
        )
    return most is None or most > _INT64


def _column(expr: Expr) -> str:
    name = '"' + str(expr.value).replace('"', '""') + '"'
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
        # DuckDB multiplies in 64 bits when both factors have at most 18 digits, however many their product has
        digits = precision if precision + expr.scale + 1 <= 18 else max(precision, 19)
        exact, power = f"DECIMAL({digits},{expr.scale})", f"DECIMAL({expr.scale + 1},0)"
        units = f"CAST({name} AS {exact}) * CAST({10**expr.scale} AS {power})"
        return f"CAST({units} AS {'HUGEINT' if precision > 18 else 'BIGINT'})"
    return name


def _literal(expr: Expr) -> str:
    if expr.kind == "date":
        return f"DATE {_constant(expr.value)}"
    if expr.kind == "timestamp":
        return f"TIMESTAMP {_constant(expr.value)}"
    if expr.kind in ("integer", "decimal"):
        most = expr.most or 0
        return f"CAST({_constant(expr.value)} AS {'HUGEINT' if most > _INT64 else 'BIGINT'})"
    if expr.kind == "null":
        return "NULL"
    return _constant(expr.value)


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
    return render(expr)


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
    "to_date": lambda expr: f"CAST({render(expr.args[0])} AS DATE)",
}
