"""How a job's model is fitted: the keys `l1` and `method` of `train`, for every reader of a job."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from party.yamlfile import Reader

__all__ = ["Fitting"]

METHODS = AUTO, FIRST_ORDER, NEWTON = (
    "auto",
    "first_order",
    "newton",
)  # as vfl.spec has them; a query does not import it
_MOST = 1e6


@dataclass(frozen=True)
class Fitting:
    """As the job file says; equal on both sides."""

    l1: float = 0.0
    method: str = AUTO

    @staticmethod
    def read(train: Reader) -> Fitting:
        """Of the job file's `train`."""
        l1 = train.optional("l1")
        method = train.optional("method")
        return Fitting(0.0 if l1 is None else l1.number(), AUTO if method is None else method.text(20))

    @staticmethod
    def from_canonical(train: dict[str, Any]) -> Fitting:
        """Of a peer's words. Raises ValueError or TypeError."""
        method = train.get("method", AUTO)
        if not isinstance(method, str):
            raise ValueError("not a text")
        return Fitting(float(train.get("l1", 0.0)), method)

    def canonical(self) -> dict[str, Any]:
        """What is said otherwise than by default."""
        found: dict[str, Any] = {"l1": self.l1} if self.l1 else {}
        return found if self.method == AUTO else found | {"method": self.method}

    def complaints(
        self, l2: float, *, tried: bool, inference: bool, likelihood_ratio: bool
    ) -> Iterator[tuple[str, str, str | None]]:
        """Each thing wrong: where in the job file, why, and a hint."""
        if not (0 < l2 <= _MOST or (self.l1 > 0 and l2 == 0)):
            yield "train.l2", "is above 0 (with l1 it may be 0) and at most 1e6", "1.0 is scikit-learn's C=1"
        if not 0 <= self.l1 <= _MOST:
            yield "train.l1", "is between 0 and 1e6", "0 is the default"
        if self.method not in METHODS:
            yield "train.method", f"is {AUTO}, {FIRST_ORDER} or {NEWTON}", f"{AUTO} is the default"
        if self.l1 and tried:
            yield "train.cross_validation", "compares values of l2, without l1", "leave l1 out"
        if self.l1 and (inference or likelihood_ratio):
            asked = "train.inference" if inference else "train.metrics.likelihood_ratio"
            reason = "cannot be had with l1: no standard error or p value is valid after l1 has chosen"
            yield asked, reason, "leave out l1, or this"
