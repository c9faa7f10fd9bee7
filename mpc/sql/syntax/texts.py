"""Functions of one party's texts, typed. Each names the parts of sqlglot's node that are expressions, and those that
are not; whatever else a node holds is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlglot import exp

from mpc.sql.expr import Expr, Kind
from mpc.sql.syntax.scope import refuse

__all__ = ["NAMED", "TEXTS", "Build", "Function", "constant_text"]

_LONGEST = 2**31
_MOST_GROWTH = 100  # of a text by `replace` and `concat`: what a peer's statement may cost its owner in memory

Build = Callable[[exp.Expression, Sequence[Expr]], Expr]


@dataclass(frozen=True)
class Function:
    """How a node is read: its parts that are expressions, its other parts, and what it becomes."""

    bound: tuple[str, ...]
    build: Build
    plain: tuple[str, ...] = ()


def _strings(node: exp.Expression, args: Sequence[Expr]) -> None:
    for arg in args:
        if arg.kind != "string":
            raise refuse(node, hint="a string is due")


def _whole(node: exp.Expression, arg: Expr, least: int) -> None:
    if arg.op != "literal" or arg.kind != "integer" or not least <= int(arg.value or 0) < _LONGEST:
        raise refuse(node, hint="constant, non-negative positions" if least >= 0 else "constant positions")


def constant_text(node: exp.Expression, arg: Expr) -> str:
    if arg.op != "literal" or arg.kind != "string":
        raise refuse(node, hint="a constant text is due")
    return str(arg.value)


# --- texts ------------------------------------------------------------------------------------------------------------


def _text(op: str) -> Build:
    """lower, upper, trim, length."""

    def build(node: exp.Expression, args: Sequence[Expr]) -> Expr:
        _strings(node, args)
        if op == "length":
            return Expr(op, "integer", tuple(args), low=0, high=_LONGEST)
        return Expr(op, "string", tuple(args))

    return build


def _called(name: str, kind: Kind = "string") -> Build:
    """A function of texts that gives a text or a condition."""

    def build(node: exp.Expression, args: Sequence[Expr]) -> Expr:
        _strings(node, args)
        bounds = (0, 1) if kind == "bool" else (None, None)
        return Expr("call", kind, tuple(args), name, low=bounds[0], high=bounds[1])

    return build


def _concat(node: exp.Expression, args: Sequence[Expr]) -> Expr:
    """concat leaves out NULLs."""
    _strings(node, args)
    return Expr("concat", "string", tuple(args))


def _pipes(node: exp.Expression, args: Sequence[Expr]) -> Expr:
    _strings(node, args)
    return Expr("||", "string", tuple(args))


def _cut(name: str) -> Build:
    """left, right: the first or last letters."""

    def build(node: exp.Expression, args: Sequence[Expr]) -> Expr:
        _strings(node, args[:1])
        _whole(node, args[1], 0)
        return Expr("call", "string", tuple(args), name)

    return build


def _trimmed(node: exp.Expression, args: Sequence[Expr]) -> Expr:
    _strings(node, args)
    name = {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(str(node.args.get("position") or ""), "trim")
    return (
        Expr("call", "string", tuple(args), name)
        if len(args) > 1 or name != "trim"
        else Expr("trim", "string", tuple(args))
    )


def _padded(node: exp.Expression, args: Sequence[Expr]) -> Expr:
    _strings(node, (args[0], *args[2:]))
    _whole(node, args[1], 0)
    if len(args) != 3 or int(args[1].value or 0) > 1000 or not constant_text(node, args[2]):
        raise refuse(node, hint="lpad(text, at most 1000, constant filling)")  # an empty one would end the run
    return Expr("call", "string", tuple(args), "lpad" if node.args.get("is_left") else "rpad")


def _split(node: exp.Expression, args: Sequence[Expr]) -> Expr:
    _strings(node, args[:2])
    _whole(node, args[2], 1)
    return Expr("call", "string", tuple(args), "split_part")


def _position(node: exp.Expression, args: Sequence[Expr]) -> Expr:
    _strings(node, args)
    return Expr("call", "integer", tuple(args), "strpos", low=0, high=_LONGEST)


def _substring(node: exp.Expression, args: Sequence[Expr]) -> Expr:
    _strings(node, args[:1])
    for arg in args[1:]:
        _whole(node, arg, 0)
    return Expr("substring", "string", tuple(args))


def _regexp(name: str) -> Build:
    """A regular expression, a constant: DuckDB's take time linear in the text (RE2)."""

    def build(node: exp.Expression, args: Sequence[Expr]) -> Expr:
        _strings(node, args)
        constant_text(node, args[1])
        return Expr("call", "bool", tuple(args), name, low=0, high=1)

    return build


def _replace(name: str) -> Build:
    def build(node: exp.Expression, args: Sequence[Expr]) -> Expr:
        _strings(node, args)
        constant_text(node, args[1])
        constant_text(node, args[2])
        if name == "regexp_replace" and not _rewrites(str(args[1].value), str(args[2].value)):
            raise refuse(node, hint=r"in a replacement \1 is the first group of the pattern, \\ a backslash")
        found = Expr("call", "string", tuple(args), name)
        if _growth(found) > _MOST_GROWTH:
            raise refuse(node, hint="replace by shorter texts, or less often: the text may grow without bounds")
        return found

    return build


def _rewrites(pattern: str, by: str) -> bool:
    """Whether a replacement names groups only that the pattern has: another one would end the run at the first text."""
    if re.fullmatch(r"(?:[^\\]|\\[0-9\\])*", by, re.DOTALL) is None:
        return False
    wanted = [int(digit) for digit in re.findall(r"\\([0-9\\])", by) if digit != "\\"]
    if not any(wanted):
        return True
    try:
        groups = 0 if "[:" in pattern else re.compile(pattern).groups  # [[:alpha:]] is read otherwise here
    except re.error:
        groups = 0
    return max(wanted) <= groups


def _growth(expr: Expr) -> float:
    """How many times longer than its columns a text may become."""
    inner = [_growth(arg) for arg in expr.args]
    if expr.op == "call" and expr.value in ("replace", "regexp_replace"):
        pattern, by = (len(str(arg.value)) for arg in expr.args[1:3])
        return inner[0] * (max(1.0, by / max(pattern, 1)) if expr.value == "replace" else by + 1)
    if expr.op in ("concat", "||"):
        return sum(inner)
    if expr.op == "call" and expr.value in ("lpad", "rpad"):
        return max(inner[0], int(expr.args[1].value or 0) / 10)  # of columns of ten letters
    return max(inner, default=1.0)


_TWO = ("this", "expression")
TEXTS: dict[type[exp.Expression], Function] = {
    exp.Lower: Function(("this",), _text("lower")),
    exp.Upper: Function(("this",), _text("upper")),
    exp.Length: Function(("this",), _text("length")),
    exp.Trim: Function(_TWO, _trimmed, ("position",)),
    exp.Pad: Function(("this", "expression", "fill_pattern"), _padded, ("is_left",)),
    exp.Substring: Function(("this", "start", "length"), _substring),
    exp.Concat: Function(("expressions",), _concat, ("safe", "coalesce")),
    exp.DPipe: Function(_TWO, _pipes, ("safe",)),
    exp.Replace: Function((*_TWO, "replacement"), _replace("replace")),
    exp.Reverse: Function(("this",), _called("reverse")),
    exp.Left: Function(_TWO, _cut("left")),
    exp.Right: Function(_TWO, _cut("right")),
    exp.StartsWith: Function(_TWO, _called("starts_with", "bool")),
    exp.EndsWith: Function(_TWO, _called("suffix", "bool")),
    exp.Contains: Function(_TWO, _called("contains", "bool")),
    exp.StrPosition: Function(("this", "substr"), _position),
    exp.SplitPart: Function(("this", "delimiter", "part_index"), _split),
    exp.RegexpLike: Function(_TWO, _regexp("regexp_matches")),
    exp.RegexpFullMatch: Function(_TWO, _regexp("regexp_full_match")),
    exp.SimilarTo: Function(_TWO, _regexp("regexp_full_match")),
    exp.RegexpReplace: Function((*_TWO, "replacement"), _replace("regexp_replace"), ("single_replace",)),
}
NAMED = {
    "prefix": Function(("expressions",), _called("starts_with", "bool"), ("this",)),
    "suffix": Function(("expressions",), _called("suffix", "bool"), ("this",)),
}
