"""What a job asks to be done to each column before training, and which columns to leave out: `train.prepare`, `screen`.

The words are those of `statistics: {woe: ...}` where they mean the same: bins, edges, min_share, merge. What was then
found in the training rows is `vfl.fitted`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from mpc.statistics.wanted import BINS, Wanted
from party.request import Opening, Use
from party.yamlfile import nearest

__all__ = ["DROPPED", "MATRIX", "SHAPE", "TIES", "Preparing", "Recipe", "Screen", "counts_name"]

EVERY = "*"
VALUES = 6  # of a category, for predictions: how many are not rare is known in the run
FORMS = ("mean", "median")
SHAPE = "train: columns and bins that each feature makes"
TIES = "train: which columns follow one of the other party's"
MATRIX = "train: correlations of all columns to 1 in 4096"
DROPPED = "train: columns that the screen leaves out"

_OF_NUMBERS = ("impute", "indicator", "winsorise")
_OF_LINES = ("bins", "edges", "min_share")
_MOST_VIF = 100.0
_TAIL = 0.1  # percent: beyond, clipping leaves heavy tails


def counts_name(column: str) -> str:
    """How the ledger calls the counts of both labels in the bins of party.column."""
    return f"train: rows of each label in bins of {column}"


@dataclass(frozen=True)
class Recipe:
    """One column's preparation; None, False or empty: not said.

    A number is imputed (`mean`, `median`), winsorised (() never, (w,) at w standard deviations, (low, high) at those
    percentiles of the training rows; None: as the job's `winsorise`) and standardised; `indicator` adds a 0/1 column of
    missing rows. `one_hot`: a 0/1 column for each value of a category, or for each bin; `reference`: but the most
    frequent one. `woe`: the weight of evidence of its value or bin. bins, edges, min_share, merge: as in statistics.
    """

    impute: str | None = None
    indicator: bool = False
    winsorise: tuple[float, ...] | None = None
    one_hot: bool = False
    reference: bool = False
    woe: bool = False
    bins: int | None = None
    edges: tuple[str, ...] = ()
    min_share: float | None = None
    merge: float | None = None

    @property
    def lines(self) -> bool:
        """Whether rows are sorted into values or bins; else the column stays a number."""
        return self.one_hot or self.woe

    @property
    def cuts(self) -> int | None:
        """Bins of a column of numbers by their frequency, if it is cut at all."""
        return self.bins or (BINS if self.woe and not self.edges else None)

    @property
    def values(self) -> bool:
        """Whether it makes a column for each value of a category."""
        return self.one_hot and self.bins is None and not self.edges

    @property
    def most_lines(self) -> int:
        """The most lines that rows are sorted into, as far as the job says: bins or VALUES, and the missing rows."""
        return 1 + (VALUES if self.values else self.cuts or len(self.edges) + 1)

    @property
    def most_columns(self) -> int:
        """The most columns that are made, as far as the job says."""
        return self.most_lines - self.reference if self.one_hot else 1 + self.indicator

    def complaints(self) -> Iterator[tuple[str, str, str | None]]:
        """Each thing wrong: the key it stands under ("" for the whole), why, and a hint."""
        said = self.canonical()
        if not said:
            yield "", "says nothing", "such as {impute: median}, {one_hot: true} or {bins: 10, woe: true}"
        if self.impute not in (None, *FORMS):
            yield "impute", f"cannot be {str(self.impute)[:40]!r}", nearest(str(self.impute), FORMS)
        if self.one_hot and self.woe:
            yield "woe", "is not possible with `one_hot`", "a column takes one of the two"
        for key in _OF_NUMBERS if self.lines else ():
            if key in said:
                reason = "missing values are a value of their own" if key != "winsorise" else "bins know no tails"
                yield key, f"is not possible with `{'one_hot' if self.one_hot else 'woe'}`: {reason}", None
        for key in _OF_LINES if not self.lines else ():
            if key in said:
                yield key, "needs `woe: true` or `one_hot: true`", None
        if self.merge is not None and not self.woe:
            yield "merge", "needs `woe: true`", "bins are joined by what the label says of them"
        if self.reference and not self.one_hot:
            yield "reference", "needs `one_hot: true`", None
        if self.winsorise is not None and not _tails(self.winsorise):
            hint = "3.0, or percentiles such as [1, 99], or null"
            yield "winsorise", "is between 0.5 and 100 standard deviations, two ascending percentiles, or null", hint
        same = Wanted(("a.b",), "a.c", self.bins, self.edges, self.min_share, self.merge)
        yield from (found for found in same.complaints("woe") if found[0] in ("bins", "min_share", "merge"))
        yield from (found for found in same.complaints("histogram") if found[0] == "edges")

    def canonical(self) -> dict[str, Any]:
        """What is said, as both sides digest it."""
        said = {item.name: getattr(self, item.name) for item in fields(self)}
        told = {key: list(value) if isinstance(value, tuple) else value for key, value in said.items()}
        return {key: value for key, value in told.items() if not _unsaid(key, value)}

    @classmethod
    def from_canonical(cls, raw: object) -> Recipe:
        """Of a peer's words: ValueError or TypeError where they are none of `canonical`'s."""
        if not isinstance(raw, dict) or not set(raw) <= {item.name for item in fields(cls)}:
            raise ValueError("not a recipe")
        winsorise = raw.get("winsorise")
        return cls(
            impute=_kind(raw.get("impute"), str),
            indicator=bool(_kind(raw.get("indicator"), bool)),
            winsorise=None if winsorise is None else tuple(float(x) for x in _numbers(winsorise)),
            one_hot=bool(_kind(raw.get("one_hot"), bool)),
            reference=bool(_kind(raw.get("reference"), bool)),
            woe=bool(_kind(raw.get("woe"), bool)),
            bins=_kind(raw.get("bins"), int),
            edges=tuple(str(_kind(edge, str)) for edge in _kind(raw.get("edges"), list) or ()),
            min_share=_float(raw.get("min_share")),
            merge=_float(raw.get("merge")),
        )


@dataclass(frozen=True)
class Screen:
    """Leave out a column that correlates more than `correlation` with an earlier one, or inflates variances beyond
    `vif`; the later in the job's order goes."""

    correlation: float | None = None
    vif: float | None = None

    def complaints(self) -> Iterator[tuple[str, str, str | None]]:
        """As `Recipe.complaints`."""
        if self.correlation is None and self.vif is None:
            yield "", "says nothing", "such as {correlation: 0.95}"
        if self.correlation is not None and not 0.1 <= self.correlation < 1:
            yield "correlation", "is at least 0.1 and under 1", "0.95 is common"
        if self.vif is not None and not 1 < self.vif <= _MOST_VIF:
            yield "vif", f"is above 1 and at most {_MOST_VIF:g}", "10 is common"

    def canonical(self) -> dict[str, float]:
        """What is said, as both sides digest it."""
        return {
            key: value for key, value in (("correlation", self.correlation), ("vif", self.vif)) if value is not None
        }

    @classmethod
    def from_canonical(cls, raw: object) -> Screen:
        """Of a peer's words: ValueError or TypeError where they are none of `canonical`'s."""
        if not isinstance(raw, dict) or not set(raw) <= {"correlation", "vif"}:
            raise ValueError("not a screen")
        return cls(_float(raw.get("correlation")), _float(raw.get("vif")))


@dataclass(frozen=True)
class Preparing:
    """A job's whole preparation. recipes: party.column -> recipe, `*` for all that are not named."""

    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    screen: Screen | None = None

    def __bool__(self) -> bool:
        """Whether anything is asked beyond standardising."""
        return bool(self.recipes) or self.screen is not None

    def of(self, party: str, column: str) -> Recipe:
        """The recipe of one column."""
        return self.recipes.get(f"{party}.{column}") or self.recipes.get(EVERY) or Recipe()

    def complaints(self, features: Collection[str]) -> Iterator[tuple[str, str, str | None]]:
        """Each thing wrong: where in `train`, why, and a hint. features: all of the job, as party.column."""
        for name, recipe in self.recipes.items():
            if name != EVERY and name not in features:
                yield f"prepare.{name}", f"{name} is no feature of this job", nearest(name, [*features, EVERY])
            for key, reason, hint in recipe.complaints():
                yield f"prepare.{name}" + f".{key}" * bool(key), reason, hint
        for key, reason, hint in self.screen.complaints() if self.screen is not None else ():
            yield "screen" + f".{key}" * bool(key), reason, hint

    def woe(self, party: str, columns: tuple[str, ...]) -> tuple[str, ...]:
        """Those of a party's columns that become their weight of evidence."""
        return tuple(column for column in columns if self.of(party, column).woe)

    def tails(self, features: Mapping[str, tuple[str, ...]], winsorise: float | None) -> bool:
        """Whether some number keeps its tails; winsorise: the job's own."""
        if not self.recipes:
            return winsorise is None
        recipes = [self.of(party, column) for party in features for column in features[party]]
        return any(not one.lines and _loose(one.winsorise, winsorise) for one in recipes)

    def openings(self, parties: tuple[str, ...], holder: str, features: Mapping[str, tuple[str, ...]]) -> set[Opening]:
        """What preparation opens, and to whom; holder: of the label."""
        names = [SHAPE] if self else []
        if self.screen is not None:
            names += [DROPPED, MATRIX if self.screen.vif is not None else TIES]
        found = {Opening(name, party) for name in names for party in parties}
        if self.screen is not None and self.screen.vif is None:
            found.discard(Opening(TIES, order(parties, features)[0]))
        for party in parties:
            if party != holder:
                woe = self.woe(party, tuple(features.get(party, ())))
                found |= {Opening(counts_name(f"{party}.{column}"), party) for column in woe}
        return found

    def uses(
        self, tables: Mapping[str, str], label: tuple[str, str], features: Mapping[str, tuple[str, ...]]
    ) -> set[Use]:
        """What is needed beyond `feature` and `label`: `aggregate` of a label that is counted in the other's bins, and
        of all features where their correlations are opened."""
        found = set()
        holder, column = label
        if any(self.woe(party, tuple(names)) for party, names in features.items() if party != holder):
            found.add(Use(holder, tables[holder], column, "aggregate"))
        if self.screen is not None and self.screen.vif is not None:
            found |= {Use(party, tables[party], name, "aggregate") for party in features for name in features[party]}
        return found

    def says(self, holder: str, features: Mapping[str, tuple[str, ...]], rows: int) -> list[str]:
        """The lines of `tally plan`: what preparation opens. rows: of training."""
        lines = []
        if self:
            lines.append(
                "prepare: fitted on the training rows alone; both learn how many columns each feature makes, and how"
                " many bins a weight of evidence has"
            )
        one_hot = [f"{party}.{name}" for party in features for name in features[party] if self.of(party, name).values]
        if one_hot:
            lines.append(
                f"prepare: {', '.join(one_hot)} make a column for each value that is not rare, counted here as {VALUES}"
                " and one of missing rows each"
            )
        for party, names in features.items():
            for column in self.woe(party, tuple(names)) if party != holder else ():
                recipe = self.of(party, column)
                most = recipe.cuts or len(recipe.edges) + 1
                lines.append(
                    f"prepare: {party} learns the weight of evidence of each of its bins of {column}: how many of the"
                    f" {rows} training rows in it have either label of {holder}'s, for at most {most} bins, or each"
                    " value of a text, and the rows without a value; neighbours are joined before, until each has"
                    " min_rows rows of either label"
                )
        if self.screen is not None and self.screen.vif is not None:
            lines.append(
                "screen: both learn the correlations of all columns with each other, to 1/4096, and which are left out"
            )
        elif self.screen is not None:
            first, second = order(tuple(features), features)
            lines.append(
                f"screen: both learn which columns are left out; {second} learns of each of its columns whether it"
                f" follows one of {first}'s (correlation beyond {self.screen.correlation:g}), no correlation is opened"
            )
        return lines


def order(parties: tuple[str, ...], features: Mapping[str, tuple[str, ...]]) -> tuple[str, str]:
    """The party whose features the job names first, and the other."""
    first = next(iter(features), parties[0])
    return first, next(party for party in parties if party != first)


def _tails(values: tuple[float, ...]) -> bool:
    if len(values) == 2:
        return 0 <= values[0] < values[1] <= 100
    return not values or (len(values) == 1 and 0.5 <= values[0] <= 100)


def _loose(said: tuple[float, ...] | None, winsorise: float | None) -> bool:
    """Never clipped, or only beyond a thousandth of the rows."""
    if said is None:
        return winsorise is None
    return not said or (len(said) == 2 and (said[0] < _TAIL or said[1] > 100 - _TAIL))


def _unsaid(key: str, value: object) -> bool:
    """`winsorise: null` says something, and so does a 0."""
    return value is None or value is False or (value == [] and key != "winsorise")


def _kind(value: Any, kind: type[Any]) -> Any:
    if value is not None and type(value) is not kind:
        raise ValueError("not an option's type")
    return value


def _float(value: object) -> float | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError("not a number")
    return None if value is None else float(value)


def _numbers(value: object) -> list[float]:
    if not isinstance(value, list) or len(value) > 2:
        raise ValueError("not a list of numbers")
    found = [_float(item) for item in value]
    if any(item is None for item in found):
        raise ValueError("not a number")
    return [item for item in found if item is not None]
