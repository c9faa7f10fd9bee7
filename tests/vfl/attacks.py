"""Attackers on recorded transcripts. Each fits on half of the rows and is scored on the rest.

Against the label, by the feature holder: least squares, ridge, logistic regression, the strongest single vector; on
whole words, on low bits, on signs, on differences of consecutive passes; beyond what own columns and weights tell;
and the direction of the gradient. Against the features, by the label holder: a fit of the other side's part of the
logit, and the subspace of everything seen (canonical correlations), both beyond what own columns tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from tests.vfl.recording import Record, Seen

WORD = 2**64
VIEWS = ("words", "low bits", "signs", "differences", "low bits of differences")
_LOW = 16


# --- from words to columns --------------------------------------------------------------------------------------------


def columns(seen: Iterable[Seen], view: str) -> np.ndarray:
    """One view of all vectors, centred and scaled: float64 (n, p)."""
    some = list(seen)
    if view.endswith("differences"):
        some = _differences(some)
    read = {"signs": _sign, "words": _whole, "differences": _whole}.get(view, _low)
    found = np.stack([read(one) for one in some], axis=1)
    found -= found.mean(axis=0)
    spread = found.std(axis=0)
    return found[:, spread > 0] / spread[spread > 0]


def everything(record: Record) -> dict[str, np.ndarray]:
    """All views of what is row-shaped in a record."""
    return {view: columns(record.long, view) for view in VIEWS}


def _differences(some: list[Seen]) -> list[Seen]:
    last: dict[str, Seen] = {}
    found = []
    for one in some:
        if one.name in last:
            before = last[one.name].words.astype(np.uint64)
            moved = one.words.astype(np.uint64) - before
            if one.modulus != WORD:
                moved = (moved.view(np.int64) % one.modulus).view(np.uint64)
            found.append(Seen(one.number, one.name, moved, one.modulus))
        last[one.name] = one
    return found


def _whole(one: Seen) -> np.ndarray:
    if one.modulus == WORD:
        return one.words.view(np.int64).astype(np.float64) / 2.0**63
    values = one.words.astype(np.float64)
    return np.where(values > one.modulus / 2, values - one.modulus, values)


def _low(one: Seen) -> np.ndarray:
    """The low bits: the lowest 16 of a word, the lowest of a residue."""
    bits = _LOW if one.modulus == WORD else 1
    return (one.words.astype(np.uint64) & np.uint64((1 << bits) - 1)).astype(np.float64)


def _sign(one: Seen) -> np.ndarray:
    return np.asarray(one.words > np.array(one.modulus // 2, dtype=one.words.dtype)).astype(np.float64)


# --- against the label ------------------------------------------------------------------------------------------------


def label_attacks(table: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """AUC on the second half of the rows of what was fitted on the first."""
    half = len(label) // 2
    seen, wanted = table[:half], label[:half] - label[:half].mean()
    gram, right = seen.T @ seen, seen.T @ wanted
    linear = np.linalg.solve(gram + 1e-6 * half * np.eye(len(gram)), right)
    ridge = np.linalg.solve(gram + half * np.eye(len(gram)), right)
    logistic = LogisticRegression(C=1e-2, tol=1e-2, max_iter=20).fit(seen.astype(np.float32), label[:half]).coef_[0]
    strongest = np.zeros(len(gram))
    best = int(np.abs(right).argmax())
    strongest[best] = np.sign(right[best])
    fits = {"least squares": linear, "ridge": ridge, "logistic": logistic, "strongest": strongest}
    return {name: float(roc_auc_score(label[half:], table[half:] @ weights)) for name, weights in fits.items()}


def bound(label: np.ndarray, deviations: float = 3.5) -> float:
    """So many standard deviations of a coin's AUC on the scored half."""
    ones = int(label[len(label) // 2 :].sum())
    zeros = len(label) - len(label) // 2 - ones
    return deviations * float(np.sqrt((ones + zeros + 1) / (12 * ones * zeros)))


def label_beyond(table: np.ndarray, label: np.ndarray, own: np.ndarray) -> float:
    """What the transcript adds to own columns and weights, in standard deviations of a coin.

    A logistic fit on `own` (n, d) explains the label; ridge on the transcript explains what is left, on half the rows.
    """
    half = len(label) // 2
    base = LogisticRegression(C=1e3, max_iter=200).fit(own[:half], label[:half])
    return _fitted(table, label - base.predict_proba(own)[:, 1])


def direction(record: Record, residuals: Sequence[np.ndarray]) -> tuple[float, float]:
    """How well candidates point along our columns' gradient, and what uniform words reach in 99 of 100 cases.

    Candidates: each share of our gradient, and our columns times each row-shaped share. residuals: the true ones of
    each pass, (rows,): the fit of the residual by our columns is what a gradient shows. For each name, the mean over
    passes of the correlation of our columns @ candidate with that fit; the largest of all names in absolute value.
    """
    own = record.columns.astype(np.float64)
    names: dict[str, list[np.ndarray]] = {}
    for one in record.short:
        names.setdefault(one.name, []).append(one.words.view(np.int64) * 2.0**-63)
    for one in record.long:
        names.setdefault(one.name, []).append(own @ _whole(one))
    moments = np.stack([own @ residual for residual in residuals])
    root = np.linalg.cholesky(own @ own.T)
    wanted = np.linalg.solve(root, moments.T).T
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)

    def strength(some: np.ndarray) -> float:
        pointed = some @ root
        pointed /= np.linalg.norm(pointed, axis=1, keepdims=True)
        return abs(float((pointed * wanted[: len(pointed)]).sum(axis=1).mean()))

    every = [np.stack(some) for some in names.values() if len(some) == len(residuals)]
    rng = np.random.default_rng(5)
    chance = []
    for _ in range(100):
        short = strength(rng.uniform(-1, 1, (len(wanted), len(own))))
        # our columns times uniform rows: normal, with our columns' own products as covariance
        chance.append(max(short, *(strength(rng.normal(size=wanted.shape) @ root.T) for _ in every[1:])))
    return max(map(strength, every)), float(np.quantile(chance, 0.99))


# --- against the features ---------------------------------------------------------------------------------------------


def extraction(table: np.ndarray, target: np.ndarray, own: np.ndarray) -> float:
    """How well a fit of one number a row of the other side's is right beyond own columns, in deviations of a coin."""
    return _fitted(_beyond(table, own), _beyond(target[:, None], own)[:, 0])


def canonical(table: np.ndarray, features: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, float]:
    """Canonical correlations of what was seen with the other side's features beyond own columns, and what the largest
    reaches in 99 of 100 row-shuffled copies of the features."""
    seen = _beyond(table, own)
    gram = seen.T @ seen
    root = np.linalg.inv(np.linalg.cholesky(gram + 1e-9 * np.trace(gram) * np.eye(len(gram)))).T  # Cholesky's QR
    basis = np.linalg.qr(_beyond(features, own))[0]
    rng = np.random.default_rng(3)
    copies = np.concatenate([basis[rng.permutation(len(basis))] for _ in range(100)], axis=1)
    products = (root.T @ (seen.T @ copies)).reshape(len(gram), 100, -1).transpose(1, 0, 2)
    chance = np.linalg.norm(products, 2, axis=(1, 2))
    return np.linalg.svd(root.T @ (seen.T @ basis), compute_uv=False), float(np.quantile(chance, 0.99))


def _beyond(table: np.ndarray, own: np.ndarray) -> np.ndarray:
    known = np.linalg.qr(np.column_stack([np.ones(len(own)), own]))[0]
    return table - known @ (known.T @ table)


def _fitted(table: np.ndarray, target: np.ndarray) -> float:
    half = len(target) // 2
    gram = table[:half].T @ table[:half] + half / 10 * np.eye(table.shape[1])
    weights = np.linalg.solve(gram, table[:half].T @ (target[:half] - target[:half].mean()))
    guess = table[half:] @ weights
    return float(np.corrcoef(guess, target[half:])[0, 1] * np.sqrt(len(guess)))
