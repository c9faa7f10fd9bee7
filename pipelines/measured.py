"""`train.metrics` and `train.cross_validation` of a job: what is computed on shares of a model, and who receives it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from party.yamlfile import Reader

if TYPE_CHECKING:
    import vfl
    from vfl.folds import CrossValidation

__all__ = ["Measured", "cross_validation_of", "read_cross_validation", "read_measured"]

_FLAGS = ("brier", "deciles", "curves", "hosmer_lemeshow", "psi", "likelihood_ratio")


@dataclass(frozen=True)
class Measured:
    """What is asked beyond AUC, KS and log-loss of the test rows; `to` none means both parties."""

    to: tuple[str, ...] = ()
    threshold: float | None = None
    brier: bool = False
    deciles: bool = False
    curves: bool = False
    hosmer_lemeshow: bool = False
    psi: bool = False
    likelihood_ratio: bool = False

    def canonical(self) -> dict[str, Any]:
        """As both sides sign it."""
        return asdict(self) | {"to": list(self.to)}

    @classmethod
    def from_canonical(cls, raw: Mapping[str, Any]) -> Measured:
        """Back; ValueError, KeyError or TypeError when it cannot be."""
        to, threshold = raw["to"], raw["threshold"]
        if not isinstance(to, list) or not all(isinstance(party, str) for party in to):
            raise ValueError("not names")
        flags = {name: raw[name] for name in _FLAGS}
        if not all(isinstance(flag, bool) for flag in flags.values()):
            raise ValueError("not true or false")
        return cls(tuple(to), None if threshold is None else float(threshold), **flags)

    def complaints(self, parties: Sequence[str]) -> Iterator[tuple[str, str, str | None]]:
        """Each thing wrong: where in the job file, why, and a hint."""
        if set(self.to) - set(parties) or len(set(self.to)) < len(self.to):
            yield "train.metrics.to", "names one or both of the parties", f"use [{parties[0]}], [{parties[1]}] or both"
        if self.threshold is not None and not 0 < self.threshold < 1:
            yield "train.metrics.threshold", "is a probability between 0 and 1", "such as 0.5"

    def wanted(self) -> vfl.Wanted:
        """In the words of vfl."""
        import vfl

        groups = 20 if self.curves else 10 if self.deciles or self.hosmer_lemeshow else 0
        return vfl.Wanted(self.to, self.brier, self.threshold, groups, self.psi, self.likelihood_ratio)


def read_measured(node: Reader | None) -> Measured:
    """The mapping under `train.metrics`; the default where there is none."""
    if node is None or node.is_null:
        return Measured()
    node.refuse_unknown(("to", "threshold", "brier", "deciles", "curves", "hosmer_lemeshow", "psi", "likelihood_ratio"))
    to, threshold = node.optional("to"), node.optional("threshold")
    flags = {name: reader.boolean() for name in _FLAGS if (reader := node.optional(name)) is not None}
    return Measured(
        () if to is None else tuple(item.text(256) for item in to.list(2)),
        None if threshold is None or threshold.is_null else threshold.number(),
        **flags,
    )


def read_cross_validation(node: Reader | None) -> CrossValidation | None:
    """The mapping under `train.cross_validation`; None where there is none."""
    if node is None or node.is_null:
        return None
    from vfl.folds import CrossValidation  # a query trains nothing

    node.refuse_unknown(("folds", "l2", "metric"))
    default = CrossValidation()
    folds, penalties, metric = map(node.optional, ("folds", "l2", "metric"))
    return CrossValidation(
        default.folds if folds is None else folds.integer(0, 1000),
        default.l2 if penalties is None else tuple(item.number() for item in penalties.list(100)),
        default.metric if metric is None else metric.text(20),
    )


def cross_validation_of(train: Mapping[str, Any]) -> CrossValidation | None:
    """The same of a peer's words; ValueError, KeyError or TypeError when they are none."""
    if "cross_validation" not in train:
        return None
    from vfl.folds import CrossValidation

    return CrossValidation.from_canonical(train["cross_validation"])
