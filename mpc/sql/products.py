"""From polynomials to work: which columns each owner computes, which products are joint, who uploads what.

Every opened number (Quantity) is a sum over rows of products of one column of each party. Where it may exceed 64 bits
the factors are cut into digits (`cutting`), so that each limb fits; limbs are joined on shares before anything
is opened. How, and who uploads, is settled last (`uploading`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from mpc.lattice_long import LONG_BITS
from mpc.sql.across import test_of
from mpc.sql.algebra import Poly, Side
from mpc.sql.cutting import Cut, cut_of, long_cut_of
from mpc.sql.domains import domain_of
from mpc.sql.expr import Expr, never_null, owners
from mpc.sql.types import Call, Distinct, Factor, Feature, GroupKey, Opened, Pick, Plan, Quantity, Source, Test
from party.errors import InternalError, UsageError

__all__ = [
    "BLOCK",
    "CELLS",
    "RANGE_HINT",
    "Builder",
    "cells_of",
    "check_held",
    "groups_of",
    "more_than_one",
    "overflow",
    "padded",
    "searched",
]

CELLS = 4096  # most group cells of one statement
HELD_BYTES = 4 << 30  # of columns, one for each group, of one product: more are refused
BLOCK = 8192
ASSUMED_GROUPS = 16  # of an owner whose group keys have no declared domain, until the run knows


def cells_of(keys: tuple[GroupKey, ...], owner: int) -> int | None:
    """How many groups one owner's keys make, with NULL where it may occur; None when that is known at the run only."""
    count = 1
    for key in keys:
        if key.owner == owner:
            if key.domain is None:
                return None
            count *= key.places
    return count


def groups_of(keys: tuple[GroupKey, ...], owner: int) -> int:
    """How many groups of an owner to plan with. Where only the run knows, as many as its bins may be, or a guess."""
    count = cells_of(keys, owner)
    if count is not None:
        return count
    bins = next((key.expr for key in keys if key.owner == owner and key.expr.op == "bin"), None)
    if bins is None:
        return ASSUMED_GROUPS
    most = int(bins.args[1].value or 0) + (not never_null(bins.args[0]))
    return padded(most)


def padded(count: int) -> int:
    """The number of groups as the peer learns it: the next power of 4."""
    size = 1
    while size < count:
        size *= 4
    return size


def check_held(calls: tuple[Call, ...], sizes: tuple[int, int], rows: int) -> None:
    """Refuse a statement whose columns, one for each group, would not fit in memory. sizes: groups of each owner."""
    most = 0
    for call in calls:
        columns = len(call.uploaded) * sizes[call.owner], len(call.rows) * sizes[1 - call.owner]
        most = max(most, max(columns) * rows * 8)
    if most > HELD_BYTES:
        raise UsageError(
            f"the statement would hold {most / 1e9:.0f} GB: its columns, one for each group",
            hint="group by fewer or coarser keys, or ask for fewer aggregates in one statement",
        )


def overflow(what: str, bits: int, hint: str) -> UsageError:
    """The refusal of a sum that may take more than 64 bits."""
    return UsageError(f"{what} would overflow 64 bits: it may reach {bits} bits", hint=hint)


RANGE_HINT = "declare a smaller range of its columns in party.yaml, or aggregate fewer digits"


@dataclass
class Builder:
    """Collects quantities and hands out numbers of sources, features and quantities; the same on both sides."""

    rows: int
    keys: tuple[GroupKey, ...]
    parties: tuple[str, str]
    sources: tuple[list[Source], list[Source]] = field(default_factory=lambda: ([], []))
    features: tuple[list[Feature], list[Feature]] = field(default_factory=lambda: ([], []))
    quantities: list[Quantity] = field(default_factory=list)
    opened: list[Opened] = field(default_factory=list)
    tests: list[Test] = field(default_factory=list)
    joints: list[tuple[int, ...]] = field(default_factory=list)
    picks: list[Pick] = field(default_factory=list)
    distincts: list[Distinct] = field(default_factory=list)
    uploaders: dict[int, int] = field(default_factory=dict)  # of quantities modulo 2^104, who uploads their columns
    pending: dict[int, Poly] = field(default_factory=dict)  # quantities over 64 bits that are not cut yet
    _known: dict[tuple[Poly, int], int] = field(default_factory=dict)
    _places: dict[object, int] = field(default_factory=dict)  # of sources, features and openings, by what they are

    def source(self, owner: int, use: str, expr: Expr) -> int:
        """The number of one column of an owner's local step."""
        place = self._places.setdefault((owner, use, expr), len(self.sources[owner]))
        if place == len(self.sources[owner]):
            self.sources[owner].append(Source(f"c{place}", expr, use))
        return place

    def joint(self, whole: Expr) -> int:
        """The number of a shared bit: that all of some comparisons of both parties' columns hold."""
        place = self._places.setdefault(whole, len(self.joints))
        if place == len(self.joints):
            self.joints.append(tuple(self._test(test) for test in whole.args))
        return place

    def _test(self, joint: Expr) -> int:
        place = self._places.setdefault(joint, len(self.tests))
        if place == len(self.tests):
            x, y = (self.source(owner, "value", expr) for owner, expr in enumerate(joint.args))
            self.tests.append(test_of(joint, x, y))
        return place

    def polys(self) -> dict[int, Poly]:
        """What each quantity is the sum of, by its number."""
        return {number: poly for (poly, _), number in self._known.items()}

    def open(self, what: str, quantity: int, *gates: int) -> int:
        """The number of an opening; one quantity under the same gates is opened once, under its first name."""
        wanted = tuple(sorted(set(gates)))
        place = self._places.setdefault((quantity, wanted), len(self.opened))
        if place == len(self.opened):
            self.opened.append(Opened(what, quantity, wanted))
        return place

    def quantity(self, what: str, poly: Poly, scale: int, most: int | None) -> int:
        """The number of an opened sum. most: bound of |value| of one row where the expression gives one."""
        if (poly, scale) in self._known:
            return self._known[poly, scale]
        rows = max(self.rows, 1)
        bound = rows * sum(abs(factor) * _most(a) * _most(b) for (a, b, _), factor in poly.terms)
        if most is not None:
            bound = min(bound, rows * most)
        largest = max((_most(side) for (a, b, _), _ in poly.terms for side in (a, b)), default=0)
        if bound < 2**63 and largest < 2**62:
            made = Quantity((self.terms(poly),), 0, bound, scale)
        else:
            self._check_cut(what, poly, bound)
            made = Quantity((), 0, bound, scale, max(2, -(-(bound.bit_length() + 1) // 64)))
            self.pending[len(self.quantities)] = poly
        self.quantities.append(made)
        self._known[poly, scale] = len(self.quantities) - 1
        return len(self.quantities) - 1

    def terms(self, poly: Poly) -> tuple[tuple[int, int, int], ...]:
        """A polynomial as coefficients and numbers of features."""
        return tuple((f, self._feature(0, a, 0, 0), self._feature(1, b, 0, 0)) for a, b, f in poly.lowered())

    def distinct(self, expr: Expr, weight: Poly) -> int:
        """The quantity of how many values of one owner's expression occur among the rows of a weight."""
        known = self._places.get((weight, expr))
        if known is not None:
            return known
        (party,) = owners(expr)
        owner = self.parties.index(party)
        source = self.source(owner, "label", expr)
        (((first, second, joint), factor), *others) = weight.terms or (((Side(), Side(), frozenset()), 0),)
        mine, other = (first, second) if owner == 0 else (second, first)
        alone = not others and factor == 1 and not joint and other == Side()
        if alone and cells_of(self.keys, 1 - owner) == 1:
            ours = self._feature(owner, mine, 0, 0, ("u", source))
            theirs = self._feature(1 - owner, Side(), 0, 0)
            limb = ((1, ours, theirs) if owner == 0 else (1, theirs, ours),)
            self.quantities.append(Quantity((limb,), 0, self.rows, 0))
        else:
            self.quantities.append(Quantity(((),), 0, self.rows, 0))
            size = None if (domain := domain_of(expr)) is None else max(len(domain), 1)
            made = Distinct(len(self.quantities) - 1, owner, source, self.terms(weight), size)
            self.distincts.append(made)
        self._places[weight, expr] = len(self.quantities) - 1
        return len(self.quantities) - 1

    # --- sums over 64 bits ------------------------------------------------------------------------------------------

    def _check_cut(self, what: str, poly: Poly, bound: int) -> None:
        values = [expr.most or 0 for (a, b, _), _ in poly.terms for expr in a.values + b.values]
        whole = max(values, default=0) >= 2**63  # a value of one row is a word in its owner's local step
        if whole or all(self._cut(poly, uploader) is None for uploader in (None, 0, 1)):
            raise overflow(what, max(bound, *values).bit_length() + 1, RANGE_HINT)

    def forms(self, number: int) -> list[int | None]:
        """How a pending quantity can be cut: None modulo 2^64, else who uploads its columns modulo 2^104."""
        return [uploader for uploader in (None, 0, 1) if self._cut(self.pending[number], uploader) is not None]

    def cut_as(self, forms: dict[int, int | None]) -> Builder:
        """A copy in which pending quantities are cut in these forms."""
        made = replace(
            self,
            sources=([*self.sources[0]], [*self.sources[1]]),
            features=([*self.features[0]], [*self.features[1]]),
            quantities=[*self.quantities],
            tests=[*self.tests],
            joints=[*self.joints],
            uploaders={**self.uploaders, **{n: owner for n, owner in forms.items() if owner is not None}},
            pending={n: poly for n, poly in self.pending.items() if n not in forms},
            _places=dict(self._places),
        )
        for number, uploader in forms.items():
            made._put_limbs(number, self.pending[number], uploader)
        return made

    def _put_limbs(self, number: int, poly: Poly, uploader: int | None) -> None:
        cut = self._cut(poly, uploader)
        if cut is None:
            raise InternalError("a sum is cut in a form that it does not fit")
        limbs = []
        for place in range(cut.limbs):
            terms = []
            for a, b, factor in poly.lowered():
                swapped = _most(a) < _most(b) if uploader is None else uploader == 0  # b's digits are what multiplies
                larger, smaller = (_most(b), _most(a)) if swapped else (_most(a), _most(b))
                for pair in cut.products(place, larger, smaller):
                    first, second = pair[::-1] if swapped else pair
                    terms.append((factor, self._feature(0, a, *first), self._feature(1, b, *second)))
            limbs.append(tuple(terms))
        modulus = 64 if uploader is None else LONG_BITS
        self.quantities[number] = replace(self.quantities[number], limbs=tuple(limbs), width=cut.width, modulus=modulus)

    def _cut(self, poly: Poly, uploader: int | None) -> Cut | None:
        rows, mosts = max(self.rows, 1), [(abs(factor), _most(a), _most(b)) for (a, b, _), factor in poly.terms]
        if uploader is None:
            return cut_of(rows, [(factor, max(a, b), min(a, b)) for factor, a, b in mosts])
        return long_cut_of(rows, [(factor, b, a) if uploader == 0 else (factor, a, b) for factor, a, b in mosts])

    def _feature(self, owner: int, side: Side, shift: int, width: int, last: Factor | None = None) -> int:
        factors = []
        for op, expr in sorted(side.bits, key=repr):
            if op == "j":
                factors.append((op, self.joint(expr)))
                continue
            numeric = expr.kind in ("integer", "decimal") and expr.most is not None and expr.most < 2**63
            use = "truth" if op in "tf" or expr.kind == "bool" else "value" if numeric else "present"
            factors.append((op, self.source(owner, use, expr)))
        factors += [("v", self.source(owner, "value", expr)) for expr in side.values]
        factors += [] if last is None else [last]
        most = _most(side)
        most = min(most, 2**width - 1) if width else (most >> shift) + (1 if shift else 0)
        feature = Feature(tuple(factors), shift, width, most)
        place = self._places.setdefault((owner, feature), len(self.features[owner]))
        if place == len(self.features[owner]):
            self.features[owner].append(feature)
        return place


def more_than_one(of: Builder | Plan, owner: int, feature: int) -> bool:
    """Whether an owner's side of a product is more than a 1: it has factors, or groups."""
    return bool(of.features[owner][feature].factors) or cells_of(of.keys, owner) != 1


def searched(of: Builder | Plan) -> list[tuple[int, int]]:
    """(owner, feature) of what is uploaded for searches and counts of the other's columns, each once."""
    found = [(1 - pick.owner, term[2 - pick.owner]) for pick in of.picks for term in pick.terms]
    found += [(1 - one.owner, term[2 - one.owner]) for one in of.distincts for term in one.terms]
    return [pair for pair in dict.fromkeys(found) if more_than_one(of, *pair)]


def _most(side: Side) -> int:
    product = 1
    for expr in side.values:
        most = expr.most
        if most is None:
            names = ", ".join(sorted(_columns(expr)))
            raise UsageError(
                f"a sum over {names} would overflow 64 bits: no range is declared for it",
                hint=f"declare `range: [low, high]` for {names} in its owner's party.yaml",
            )
        product *= most
    return product


def _columns(expr: Expr) -> set[str]:
    own = {f"{expr.owner}.{expr.value}"} if expr.op == "column" else set()
    return own.union(*(_columns(arg) for arg in expr.args))
