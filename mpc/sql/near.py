"""The guard of the history: are two answer sets nearly the same? Decided on shares; one bit is opened.

Who is told a number over the rows A and the same over A', where fewer than `min_rows` rows are in one of them and not
in the other, learns that number of these few rows. So before a statement is answered, its answer sets are compared with
each other and with those of earlier statements of the same alignment. The rows in just one of two sets are
d = |A| + |A'| - 2 |A AND A'|, and each of the three is a sum over rows of products of one column of each owner: the
engine's own inner products. Bad is |A| >= min_rows AND |A'| >= min_rows AND 0 < d < min_rows, in any pair of cells; the
OR over all of them is the bit. No count is opened, and where nothing has to be compared nothing is sent.

Which pairs have to be compared follows from the two statements alone, so both sides compare the same
(docs/protocols/13-history-guard.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from mpc.compare import at_least, logic_and, logic_not, negative, to_arithmetic
from mpc.cost import Meter
from mpc.engine import Engine
from mpc.opening import open_bits
from mpc.sql.algebra import Poly
from mpc.sql.expr import Expr
from mpc.sql.joint import Joint
from mpc.sql.labels import GroupCount
from mpc.sql.local import Groups, LocalColumns, column_length, groups, has_rest
from mpc.sql.ordered import ORDERED
from mpc.sql.products import ASSUMED_GROUPS, CELLS, Builder, cells_of, check_held, groups_of, padded
from mpc.sql.sets import AnswerSet, alike
from mpc.sql.step import local_select
from mpc.sql.types import GroupKey, Plan
from mpc.sql.uploading import bytes_of, cheapest, pairs_of, transferred
from party.errors import InternalError, PeerError, UsageError
from party.request import Request

__all__ = ["COMPARED", "MOVED", "Dim", "Probe", "comparing", "differ_by_few", "probes"]

Words = npt.NDArray[np.uint64]
Key = tuple[int, Expr]

MOVED = 4 << 30  # bytes of one statement's probes
COMPARED = 50_000  # pairs of cells of one statement's probes: about 35 MB
_HINT = "ask within fewer different conditions, group by fewer keys, or begin a new alignment with `--realign`"


@dataclass(frozen=True)
class Dim:
    """Some group keys of one owner that are numbered together: one of a declared domain, or all of a statement's."""

    owner: int
    keys: tuple[GroupKey, ...]

    @property
    def size(self) -> int | None:
        """How many groups they make; None when that is known at the run only."""
        return cells_of(self.keys, self.owner)


@dataclass(frozen=True)
class Pair:
    """Two answer sets. Numbers of quantities: the rows of each; the rows in which they are compared, of each and of
    both. grouped: by which of the probe's dims each is grouped."""

    shown: tuple[int, int]
    compared: tuple[int, int]
    both: int
    grouped: tuple[frozenset[Dim], frozenset[Dim]]


@dataclass(frozen=True)
class Probe:
    """Pairs whose groups together are the same, and the plan that counts them in the cells of these. It opens nothing.

    dims: those of party 0 first; a cell's number has them as digits."""

    plan: Plan
    dims: tuple[Dim, ...]
    pairs: tuple[Pair, ...]


# --- which pairs ------------------------------------------------------------------------------------------------------


def probes(plan: Plan, earlier: Sequence[Plan]) -> tuple[Probe, ...]:
    """What must be compared before a statement is answered, after these were; () where nothing must.

    Raises UsageError (exit 2) where it would be too much, and for group keys that cannot be compared.
    """
    if plan.min_rows <= 1 or plan.rows < plan.min_rows:
        return ()
    made: dict[tuple[Dim, ...], _Making] = {}
    for first, second, other in _pairs(plan, earlier):
        try:
            compared = first.compared(second, frozenset(plan.to) & frozenset(other.to))
            both = None if compared is None else compared[0] * compared[1]
        except UsageError as error:
            raise UsageError(f"compared with an earlier answer, {error.message}", hint=_HINT) from None
        if compared is None or (alike(compared[0]) == alike(compared[1]) and _same_keys(plan, other)):
            continue
        if both is not None and both.terms:
            grouped = _dims(plan, other), _dims(other, plan)
            dims = tuple(sorted(dict.fromkeys((*grouped[0], *grouped[1])), key=lambda dim: dim.owner))
            making = made.setdefault(dims, _Making(plan, dims))
            making.add((first, second), compared, both, (frozenset(grouped[0]), frozenset(grouped[1])))
            making.others.append(other)
    found = tuple(making.probe() for making in made.values())
    moved, cells = sum(map(_moved, found)), sum(len(probe.pairs) * _cells(probe.dims) for probe in found)
    if moved > MOVED or cells > COMPARED:
        raise UsageError(
            f"comparing this statement with what was answered before takes {-(-moved // 10**6):,} MB and {cells:,}"
            f" comparisons, at most {MOVED // 10**6:,} and {COMPARED:,} are allowed",
            hint=_HINT,
        )
    return found


def _pairs(plan: Plan, earlier: Sequence[Plan]) -> Iterator[tuple[AnswerSet, AnswerSet, Plan]]:
    """Each pair that tells one receiver something: of the new statement's sets that were not answered before."""
    known = [_known(one, plan, earlier) for one in plan.sets]
    for place, first in enumerate(plan.sets):
        for other_place, second in enumerate(plan.sets[:place]):
            if not (known[place] and known[other_place]):
                yield first, second, plan
    seen: set[tuple[object, ...]] = set()
    for other in earlier:
        if not set(other.to) & set(plan.to) or not (_same_keys(plan, other) or not (_cut(plan) or _cut(other))):
            continue
        for second in other.sets:
            mark = (second, frozenset(map(_key, other.keys)), frozenset(other.to) & frozenset(plan.to))
            if mark in seen:
                continue
            seen.add(mark)
            for first, before in zip(plan.sets, known, strict=True):
                if not before:
                    yield first, second, other


def _known(one: AnswerSet, plan: Plan, earlier: Iterable[Plan]) -> bool:
    """Whether all of it was answered before, so that it was compared with all the others then."""
    return any(
        set(plan.to) <= set(other.to) and _same_keys(plan, other) and any(one.within(set_) for set_ in other.sets)
        for other in earlier
    )


def _key(key: GroupKey) -> Key:
    return key.owner, key.expr


def _same_keys(plan: Plan, other: Plan) -> bool:
    return set(map(_key, plan.keys)) == set(map(_key, other.keys))


def _cut(plan: Plan) -> bool:
    """Whether an owner cuts its column into bins of equal frequency: these are compared with the same bins only."""
    return any(key.expr.op in ORDERED for key in plan.keys)


def _dims(plan: Plan, other: Plan) -> tuple[Dim, ...]:
    """How a statement's groups are numbered beside another's: keys of declared domains each by itself, so that common
    ones meet; an owner's others together, as they occur, since only it knows which groups make up which."""
    found: list[Dim] = []
    for owner in (0, 1):
        keys, others = ([key for key in one.keys if key.owner == owner] for one in (plan, other))
        if all(key.domain is not None for key in (*keys, *others)):
            found += [Dim(owner, (replace(key, name=""),)) for key in keys]
        elif keys:
            ordered = sorted((replace(key, name="", domain=None) for key in keys), key=lambda key: repr(key.expr))
            found.append(Dim(owner, tuple(ordered)))
    return tuple(found)


def _moved(probe: Probe) -> int:
    """Bytes of a probe's products, about."""
    plan = probe.plan
    sizes = groups_of(plan.keys, 0), groups_of(plan.keys, 1)
    counted = sum(transferred(call, sizes, plan.rows) for call in plan.transfers)
    return bytes_of(plan.calls, plan.keys, plan.rows) + counted


def _cells(dims: Iterable[Dim]) -> int:
    return math.prod(dim.size or ASSUMED_GROUPS for dim in dims)


@dataclass
class _Making:
    """One probe as it grows."""

    base: Plan
    dims: tuple[Dim, ...]
    pairs: list[Pair] = field(default_factory=list)
    others: list[Plan] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.keys = tuple(key for dim in self.dims for key in dim.keys)
        self.builder = Builder(self.base.rows, self.keys, self.base.parties)
        if _cells(self.dims) > CELLS:
            raise UsageError(
                f"the groups of this statement and of an earlier one make {_cells(self.dims)} cells together, at most"
                f" {CELLS} can be compared",
                hint=_HINT,
            )

    def add(
        self,
        sets: tuple[AnswerSet, AnswerSet],
        compared: tuple[Poly, Poly],
        both: Poly,
        grouped: tuple[frozenset[Dim], frozenset[Dim]],
    ) -> None:
        """One more pair: the first of the new statement, the second of another."""
        shown = self._count(sets[0].rows), self._count(sets[1].rows)
        places = self._count(compared[0]), self._count(compared[1])
        self.pairs.append(Pair(shown, places, self._count(both), grouped))

    def _count(self, rows: Poly) -> int:
        return self.builder.quantity("a number of rows", rows, 0, 1)

    def _alone(self) -> set[tuple[int, int]]:
        """Products that count one set, not two together: they are made again for every later statement."""
        numbers = {number for pair in self.pairs for number in (*pair.shown, *pair.compared)}
        terms = (term for number in numbers for limb in self.builder.quantities[number].limbs for term in limb)
        return {(first, second) for _, first, second in terms}

    def probe(self) -> Probe:
        """The finished probe."""
        builder, base = self.builder, self.base
        for key in self.keys:
            builder.source(key.owner, "label" if key.domain is None else "code", key.expr)
        uses = base.request.uses.union(*(other.request.uses for other in self.others))
        alone = self._alone()
        calls, transfers = cheapest(builder, _width(base.rows, base.min_rows), alone)
        selects = [local_select(builder.sources[o], [key for key in self.keys if key.owner == o]) for o in (0, 1)]
        plan = Plan(
            name=f"{base.name}.history",
            parties=base.parties,
            tables=base.tables,
            to=base.parties,
            rows=base.rows,
            min_rows=base.min_rows,
            keys=self.keys,
            aggregates=(),
            outputs=(),
            sources=(tuple(builder.sources[0]), tuple(builder.sources[1])),
            features=(tuple(builder.features[0]), tuple(builder.features[1])),
            quantities=tuple(builder.quantities),
            opened=(),
            counts=(),
            values=(),
            calls=calls,
            transfers=transfers,
            kept=tuple(pair for pair in pairs_of((*calls, *transfers)) if pair in alone),
            request=Request(uses),
            local_sql=(selects[0], selects[1]),
            keep=base.keep,
            tests=tuple(builder.tests),
            joints=tuple(builder.joints),
        )
        return Probe(plan, self.dims, tuple(self.pairs))


# --- on shares --------------------------------------------------------------------------------------------------------


def differ_by_few(
    engine: Engine, what: str, found: Sequence[Probe], columns: Sequence[LocalColumns], alignment: bytes | None = None
) -> bool:
    """Whether any two answer sets differ by fewer than min_rows rows and not by none: one bit, opened to both.

    columns: our local step of each probe. what: the name of the opening. Rounds: those of the products, a comparison,
    two ANDs, a conversion, a comparison, an opening. Bytes: four comparisons a pair of cells.
    """
    if not found:
        raise InternalError("there is nothing to compare")
    try:
        return _differ(engine, what, found, columns, alignment)
    except BaseException:
        engine.forget()
        raise


def _differ(
    engine: Engine, what: str, found: Sequence[Probe], columns: Sequence[LocalColumns], alignment: bytes | None
) -> bool:
    least, rows = found[0].plan.min_rows, found[0].plan.rows
    cells: list[list[Words]] = [[], [], []]
    compared: list[npt.NDArray[np.bool_]] = []
    for probe, ours in zip(found, columns, strict=True):
        quantities, sizes = _counted(engine, probe, ours, alignment)
        for pair in probe.pairs:
            sides = [[dim in grouped for dim in probe.dims] for grouped in pair.grouped]
            compared.append(_shown(probe, pair, sizes))
            shown = [_spread(quantities[n], sizes, kept) for n, kept in zip(pair.shown, sides, strict=True)]
            a, b = (_spread(quantities[n], sizes, kept) for n, kept in zip(pair.compared, sides, strict=True))
            for place, words in enumerate((*shown, a + b - quantities[pair.both] - quantities[pair.both])):
                cells[place].append(words)
    first, second, apart = (np.concatenate(words) for words in cells)
    bits = _width(rows, least)
    thresholds = np.array([[least], [least], [1], [least]], dtype=np.uint64)
    values = np.stack([first, second, apart, apart])
    below = negative(engine, values - thresholds if engine.index == 0 else values, bits)
    left = np.stack([logic_not(engine, below[0]), logic_not(engine, below[2])])
    right = np.stack([logic_not(engine, below[1]), below[3]])
    shown, few = logic_and(engine, left, right)
    bad = to_arithmetic(engine, logic_and(engine, shown, few) & np.concatenate(compared))
    number = np.sum(bad, dtype=np.uint64).reshape(1)
    bit = at_least(engine, number, 1, len(bad).bit_length() + 1)
    told = open_bits(engine, bit, what, sorted((engine.channel.us, engine.channel.peer)))
    if told is None:
        raise InternalError("the bit is opened to both")
    return bool(told[0])


def comparing(cells: int, rows: int, least: int, meter: Meter | None = None) -> Meter:
    """What comparing so many pairs of cells moves, once their counts are shared; added to `meter`."""
    meter = Meter() if meter is None else meter
    meter.negative(4 * cells, _width(rows, least))
    meter.logic_and(2 * cells)
    meter.logic_and(cells)
    meter.to_arithmetic(cells)
    meter.at_least(1, cells.bit_length() + 1)
    meter.open(1, (True, True))
    return meter


def _width(rows: int, least: int) -> int:
    return max(2 * rows, least).bit_length() + 2


def _counted(
    engine: Engine, probe: Probe, columns: LocalColumns, alignment: bytes | None
) -> tuple[list[Words], tuple[int, ...]]:
    """Our shares (cells,) of a probe's quantities, and the sizes of its dims. Where a size is not public its owner
    tells it, rounded up to a power of 4."""
    plan, us, rows = probe.plan, engine.index, column_length(columns)
    places: npt.NDArray[np.int64] = np.zeros(rows, dtype=np.int64)
    sizes: list[int] = []
    for dim in probe.dims:
        size = dim.size
        if dim.owner == us:
            ours = groups(replace(plan, keys=dim.keys), us, columns, rows)
            if size is None:
                size = padded(ours.count)
                engine.guard.disclose(f"query.{plan.name}.groups", engine.channel.peer, 1)
                engine.channel.send(GroupCount(size))
            places = places * size + ours.places
        elif size is None:
            size = engine.channel.recv(GroupCount).count
            if padded(size) != size:
                raise PeerError("the number of groups is no power of 4")
        sizes.append(size)
    of_owner = [math.prod(n for n, dim in zip(sizes, probe.dims, strict=True) if dim.owner == o) for o in (0, 1)]
    if math.prod(of_owner) * len(probe.pairs) > COMPARED or math.prod(of_owner) > CELLS:
        raise UsageError(f"these groups and those of an earlier answer make {math.prod(of_owner)} cells", hint=_HINT)
    held = of_owner[0], of_owner[1]
    check_held((*plan.calls, *plan.transfers), held, rows)
    joint = Joint(engine, plan, columns, Groups(places, of_owner[us]), held, alignment)
    return [limbs[0] for limbs in joint.limbs()], tuple(sizes)


def _shown(probe: Probe, pair: Pair, sizes: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """In which cells both sets may be shown: not where an owner has put together its groups of too few rows."""
    found = np.ones(sizes, dtype=np.bool_)
    for place, dim in enumerate(probe.dims):
        if any(dim in grouped for grouped in pair.grouped) and has_rest(dim.keys, dim.owner, probe.plan.min_rows):
            found[(slice(None),) * place + (0,)] = False
    return found.reshape(-1)


def _spread(words: Words, sizes: tuple[int, ...], kept: Sequence[bool]) -> Words:
    """Counts by some of a probe's dims, from counts by all of them: summed over the others, at each of its cells."""
    summed = tuple(place for place, here in enumerate(kept) if not here)
    whole = np.sum(words.reshape(sizes), axis=summed, keepdims=True, dtype=np.uint64)
    spread: Words = np.broadcast_to(whole, sizes)
    return spread.reshape(-1)
