"""What a statement answers with: its output columns, HAVING and ORDER BY, over aggregates and group keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlglot import exp

from mpc.sql import numbers
from mpc.sql.entering import check_value
from mpc.sql.expr import Expr
from mpc.sql.syntax.places import locate, place_of, placed
from mpc.sql.syntax.reading import aggregated, bare, name_of
from mpc.sql.syntax.scope import refuse
from mpc.sql.types import Aggregate, Order, Output, Post
from party.errors import UsageError

__all__ = ["Answer"]

_FUNCTIONS: dict[type[exp.Expression], str] = {
    exp.Count: "count",
    exp.Sum: "sum",
    exp.Avg: "avg",
    exp.Variance: "var_samp",
    exp.VariancePop: "var_pop",
    exp.Stddev: "stddev_samp",
    exp.StddevSamp: "stddev_samp",
    exp.StddevPop: "stddev_pop",
    exp.CovarSamp: "covar_samp",
    exp.CovarPop: "covar_pop",
    exp.Corr: "corr",
    exp.RegrSlope: "regr_slope",
    exp.RegrIntercept: "regr_intercept",
    exp.RegrR2: "regr_r2",
    exp.Min: "min",
    exp.Max: "max",
    exp.Median: "quantile_cont",
    exp.PercentileCont: "quantile_cont",
    exp.PercentileDisc: "quantile_disc",
    exp.Quantile: "quantile_disc",
}
_NAMED = {"covar": "covar_samp", "mean": "avg"}
_ORDERED = ("count_distinct", "min", "max", "quantile_disc", "quantile_cont")
_PAIRS = ("covar_samp", "covar_pop", "corr", "regr_slope", "regr_intercept", "regr_r2")
_COMPARISONS: dict[type[exp.Expression], str] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}

Bind = Callable[[exp.Expression], Expr]


class Answer:
    """Of one SELECT whose FROM, WHERE and GROUP BY are known. `bind` and `condition` type what stands in a row."""

    def __init__(self, select: exp.Select, bind: Bind, condition: Bind, groups: tuple[Expr, ...]) -> None:
        self.select = select
        self.groups = groups
        self.aggregates: list[Aggregate] = []
        self.places: list[int | None] = []  # of each aggregate in the text
        self._places: dict[Aggregate, int] = {}
        self._bind = bind
        self._condition = condition
        self.within: Callable[[Expr | None], Expr | None] = lambda condition: condition  # of an aggregate's rows
        self.apart: Callable[[exp.Expression], Post] | None = None  # a SELECT over the same join, by itself

    def outputs(self, listed: Sequence[exp.Expression]) -> tuple[Output, ...]:
        """The columns of the answer."""
        found = tuple(Output(name_of(node), self._post(bare(node))) for node in listed)
        seen = [output.name.lower() for output in found]
        for output in found:
            if seen.count(output.name.lower()) > 1:
                twice = [node for node in listed if name_of(node).lower() == output.name.lower()][1]
                told = UsageError(f"two columns of the answer are named {output.name!r}", hint="name them with AS")
                raise locate(told, twice)
        return found

    def having(self) -> Post | None:
        """The condition on groups, over aggregates; None without one."""
        node = self.select.args.get("having")
        if node is None:
            return None
        if not self.groups:
            told = UsageError("HAVING without GROUP BY is not supported", hint="look at the one row of the answer")
            raise locate(told, node)
        return self._test(node.this)

    def order(self) -> tuple[Order, ...]:
        """ORDER BY: positions, names of the answer's columns, group keys, aggregates and arithmetic on them."""
        node = self.select.args.get("order")
        found = []
        for item in [] if node is None else node.expressions:
            for name, part in item.args.items():
                if part not in (None, False, []) and name not in ("this", "desc", "nulls_first"):
                    raise refuse(item, hint=f"its part {name!r} is not supported")
            source = self._listed(item.this)
            found.append(Order(self._post(source), bool(item.args.get("desc")), bool(item.args.get("nulls_first"))))
        return tuple(found)

    def limit(self) -> tuple[int, int] | None:
        """LIMIT and OFFSET as numbers of rows; None without a LIMIT."""
        limit, offset = (self._rows(name) for name in ("limit", "offset"))
        if limit is None and offset is not None:
            told = UsageError("OFFSET without LIMIT is not supported", hint="add a LIMIT")
            raise locate(told, self.select.args["offset"])
        return None if limit is None else (limit, offset or 0)

    def _rows(self, name: str) -> int | None:
        node = self.select.args.get(name)
        if node is None:
            return None
        number = node.expression
        others = [part for key, part in node.args.items() if key != "expression" and part not in (None, False, [])]
        whole = isinstance(number, exp.Literal) and not number.args.get("is_string") and str(number.this).isdecimal()
        if type(node) not in (exp.Limit, exp.Offset) or others or not whole or len(str(number.this)) > 9:
            told = UsageError(f"{name.upper()} takes a whole number of rows", hint="as in LIMIT 10 OFFSET 20")
            raise locate(told, node)
        return int(number.this)

    # --- conditions on groups ---------------------------------------------------------------------------------------

    @placed
    def _test(self, node: exp.Expression) -> Post:
        for name, part in node.args.items():
            if part not in (None, False, []) and name not in ("this", "expression", "expressions", "low", "high"):
                raise refuse(node, hint=f"its part {name!r} is not supported")
        if isinstance(node, exp.Paren):
            return self._test(node.this)
        if type(node) in (exp.And, exp.Or):
            return Post(type(node).__name__.lower(), tuple(self._test(part) for part in _chained(node)))
        if isinstance(node, exp.Not):
            return Post("not", (self._test(node.this),))
        if type(node) in _COMPARISONS:
            return Post(_COMPARISONS[type(node)], (self._number(node.this), self._number(node.expression)))
        if isinstance(node, exp.Between):
            low, high = (self._number(node.args[end]) for end in ("low", "high"))
            middle = self._number(node.this)
            return Post("and", (Post(">=", (middle, low)), Post("<=", (middle, high))))
        if isinstance(node, exp.In) and node.expressions:
            tests = [Post("=", (self._number(node.this), self._number(item))) for item in node.expressions]
            return tests[0] if len(tests) == 1 else Post("or", tuple(tests))
        if isinstance(node, exp.Is) and isinstance(node.expression, exp.Null):
            return Post("isnull", (self._number(node.this),))
        raise refuse(node, hint="HAVING compares aggregates with numbers and with one another, joined by AND, OR, NOT")

    @placed
    def _number(self, node: exp.Expression) -> Post:
        found = self._post(self._named(node))
        if found.op == "key":
            raise UsageError(
                f"HAVING {node.sql(dialect='duckdb')[:80]} is a group key", hint="conditions on keys go into WHERE"
            )
        return found

    def _named(self, node: exp.Expression) -> exp.Expression:
        """An alias of the answer means its column, where no column of a table has that name."""
        if not isinstance(node, exp.Column) or node.args.get("table") is not None:
            return node
        aliased = self._alias(str(node.this.this))
        if aliased is None:
            return node
        try:
            self._bind(node)
        except UsageError:
            return aliased
        raise UsageError(
            f"{node.sql(dialect='duckdb')[:80]} is a column of a table and of the answer",
            hint="write the aggregate, or another name after AS",
        )

    @placed
    def _listed(self, node: exp.Expression) -> exp.Expression:
        """ORDER BY 2 and ORDER BY alias mean a column of the answer."""
        listed = self.select.expressions
        if isinstance(node, exp.Literal):
            place = int(node.this) if not node.args.get("is_string") and str(node.this).isdecimal() else 0
            if not 1 <= place <= len(listed):
                raise UsageError(f"ORDER BY {node.this}: there is no such column in the answer")
            return bare(listed[place - 1])
        if isinstance(node, exp.Column) and node.args.get("table") is None:
            return self._alias(str(node.this.this)) or node
        if node.find(exp.Column, exp.AggFunc) is None:
            raise UsageError(f"ORDER BY {node.sql(dialect='duckdb')[:80]} is a constant")
        return node

    def _alias(self, name: str) -> exp.Expression | None:
        for node in self.select.expressions:
            if isinstance(node, exp.Alias) and node.alias.lower() == name.lower():
                return bare(node)
        return None

    # --- columns of the answer --------------------------------------------------------------------------------------

    @placed
    def _post(self, node: exp.Expression) -> Post:
        function = _function(node)
        if isinstance(node, exp.Subquery) and self.apart is not None:
            return self.apart(node)
        if function is not None or isinstance(node, exp.Filter):
            return Post("aggregate", value=self._aggregate(node))
        if isinstance(node, exp.Paren):
            return self._post(node.this)
        if isinstance(node, exp.Literal) and not node.args.get("is_string"):
            constant = numbers.literal(str(node.this))
            return Post("literal", value=int(constant.value or 0), scale=constant.scale)
        if isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal):
            return Post("neg", (self._post(node.this),))
        for kind, op in ((exp.Add, "+"), (exp.Sub, "-"), (exp.Mul, "*"), (exp.Div, "/")):
            if type(node) is kind and self._counted(node):
                return Post(op, (self._of_numbers(node.this), self._of_numbers(node.expression)))
        if isinstance(node, exp.Neg) and self._counted(node):
            return Post("neg", (self._of_numbers(node.this),))
        to_double = isinstance(node, exp.Cast) and node.args["to"].this == exp.DType.DOUBLE
        if to_double and self._counted(node):
            return Post("float", (self._of_numbers(node.this),))
        if isinstance(node, (exp.Window, exp.AggFunc)) or aggregated(node):
            raise refuse(node, hint="of aggregates: + - * / with numbers and one another; round what comes back")
        if isinstance(node, exp.Star):
            raise UsageError("SELECT * is not supported: rows are never shown", hint="ask for aggregates")
        expr = self._bind(node)
        if expr not in self.groups:
            raise UsageError(
                f"{node.sql(dialect='duckdb')[:80]} is neither aggregated nor in GROUP BY",
                hint="rows are never shown: aggregate it or group by it",
            )
        return Post("key", value=self.groups.index(expr))

    def _counted(self, node: exp.Expression) -> bool:
        """Whether arithmetic is on aggregates, those of SELECTs over the same join included."""
        return aggregated(node) or (self.apart is not None and node.find(exp.Subquery) is not None)

    def of_same_rows(self, inner: Answer) -> None:
        """Let another SELECT over the same join number its aggregates among ours."""
        inner.aggregates, inner.places, inner._places = self.aggregates, self.places, self._places

    def post(self, node: exp.Expression) -> Post:
        """One column of the answer."""
        return self._post(node)

    def _of_numbers(self, node: exp.Expression) -> Post:
        """An operand of arithmetic: MIN, MAX and quantiles may be of texts and dates, on which there is none."""
        post = self._post(node)
        if post.op == "aggregate":
            found = self.aggregates[post.value]
            if found.function in ("min", "max", "quantile_disc") and not numbers.numeric(found.args[0]):
                raise UsageError(f"arithmetic on {found.function.upper()} of a {found.args[0].kind}")
        return post

    @placed
    def _aggregate(self, node: exp.Expression) -> int:
        condition = None
        if isinstance(node, exp.Filter):
            condition = self._condition(node.expression.this)
            node = node.this
        function = _function(node)
        if function is None:
            raise refuse(node)
        if function in ("quantile_cont", "quantile_disc"):
            args = self._quantile(node)
        else:
            function, args = self._call(node, function)
        found = Aggregate(function, args, self.within(condition))
        place = self._places.setdefault(found, len(self.aggregates))
        if place == len(self.aggregates):
            self.aggregates.append(found)
            self.places.append(place_of(node))
        return place

    def _call(self, node: exp.Expression, function: str) -> tuple[str, tuple[Expr, ...]]:
        """The function and arguments of an aggregate that is written as a call."""
        for name, part in node.args.items():
            if part not in (None, False, []) and name not in ("this", "expression", "expressions", "big_int"):
                raise refuse(node, hint=f"its part {name!r} is not supported")
        parts = [*node.expressions] if isinstance(node, exp.Anonymous) else [node.this, node.args.get("expression")]
        if not isinstance(node, exp.Anonymous) and node.expressions:
            raise refuse(node, hint=f"{function} takes one expression")
        present = [part for part in parts if part is not None]
        if (
            function == "count"
            and len(present) == 1
            and type(present[0]) is exp.Star
            and not any(present[0].args.values())
        ):
            return function, ()
        if function == "count" and not present:
            raise refuse(node, hint="COUNT(*) or COUNT(expression)")
        if len(present) == 1 and isinstance(present[0], exp.Distinct):
            listed = present[0].expressions
            if function not in ("count", "min", "max") or len(listed) != 1 or present[0].args.get("on"):
                raise refuse(node, hint="DISTINCT is supported in COUNT(DISTINCT expression)")
            present, function = listed, "count_distinct" if function == "count" else function
        if function != "count" and len(present) != (2 if function in _PAIRS else 1):
            raise UsageError(f"{function.upper()} has a wrong number of arguments")
        return function, tuple(self._argument(part, function) for part in present)

    def _quantile(self, node: exp.Expression) -> tuple[Expr, ...]:
        """The column and the fraction of MEDIAN(x), QUANTILE_*(x, p), PERCENTILE_*(p) WITHIN GROUP (ORDER BY x)."""
        descending, inner = False, node.this if isinstance(node, exp.WithinGroup) else node
        for name, part in inner.args.items():
            if part not in (None, False, []) and name not in ("this", "expression", "quantile"):
                raise refuse(node, hint=f"its part {name!r} is not supported")
        if isinstance(node, exp.WithinGroup):
            order = node.expression.expressions if isinstance(node.expression, exp.Order) else []
            if len(order) != 1 or inner.args.get("expression") is not None:
                raise refuse(node, hint="WITHIN GROUP (ORDER BY one expression)")
            value, fraction, descending = order[0].this, inner.this, bool(order[0].args.get("desc"))
        else:
            value = node.this
            given = node.args.get("quantile") or node.args.get("expression")
            fraction = exp.Literal.number("0.5") if isinstance(node, exp.Median) else given
        if not isinstance(fraction, exp.Literal) or fraction.args.get("is_string"):
            raise refuse(node, hint="the fraction is a constant number from 0 to 1")
        function = _function(node) or ""
        p, x = numbers.literal(str(fraction.this)), self._argument(value, function)
        if not 0 <= int(p.value or 0) <= 10**p.scale:
            raise UsageError(f"a fraction of {fraction.this}", hint="from 0 to 1")
        if function == "quantile_cont" and not numbers.numeric(x):
            raise UsageError(f"MEDIAN or PERCENTILE_CONT of a {x.kind}", hint="PERCENTILE_DISC takes one of the values")
        if descending:
            if not numbers.numeric(x):
                raise UsageError(
                    f"a quantile of a {x.kind} in descending order", hint="ORDER BY it ascending, with 1 - p"
                )
            if function == "quantile_cont":
                return x, Expr("literal", "decimal", value=10**p.scale - int(p.value or 0), scale=p.scale)
            raise UsageError("PERCENTILE_DISC in descending order is not supported", hint="negate the expression")
        return x, p

    @placed
    def _argument(self, node: exp.Expression, function: str) -> Expr:
        if aggregated(node):
            raise refuse(node, hint="an aggregate inside an aggregate")
        if isinstance(node, exp.Div) and function != "count":
            raise UsageError(
                "division inside an aggregate gives floats and is not supported",
                hint="divide the aggregates instead, as in SUM(x) / COUNT(*)",
            )
        expr = self._bind(node)
        if function == "count":
            return expr
        if function not in _ORDERED and expr.kind != "float":
            check_value(expr)
        if function in _ORDERED and expr.kind not in ("float", "null"):
            return expr
        if expr.kind == "float":
            raise UsageError(
                f"{function.upper()} of a float column: {node.sql(dialect='duckdb')[:80]}",
                hint="declare the column decimal(p,s) in party.yaml, or TRY_CAST(x AS DECIMAL(p,s)): sums are exact",
            )
        if not numbers.numeric(expr) or expr.kind == "null":
            raise UsageError(f"{function.upper()} of {expr.kind}: {node.sql(dialect='duckdb')[:80]}")
        return expr


def _function(node: exp.Expression) -> str | None:
    if isinstance(node, exp.Anonymous):
        return _NAMED.get(str(node.this).lower())
    if isinstance(node, exp.WithinGroup):
        found = _FUNCTIONS.get(type(node.this))
        return found if found in ("quantile_cont", "quantile_disc") else None
    return _FUNCTIONS.get(type(node))


def _chained(node: exp.Expression) -> list[exp.Expression]:
    """The operands of a chain of one connector."""
    found: list[exp.Expression] = []
    left = [node]
    while left:
        part = left.pop()
        if type(part) is type(node):
            left += [part.expression, part.this]
        else:
            found.append(part)
    return found
