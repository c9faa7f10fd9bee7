"""Tables and pooled answers for the tests of training."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

FATE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "fate"


def synthetic(rows: int, ours: int = 4, theirs: int = 5, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Standardised blocks of two sides, correlated across them, and a label that depends on both."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(rows, 2))
    blocks = [rng.normal(size=(rows, d)) + common @ rng.normal(size=(2, d)) for d in (ours, theirs)]
    blocks = [np.clip((block - block.mean(0)) / block.std(0), -3, 3) for block in blocks]
    logits = sum(block @ rng.normal(size=block.shape[1]) * 0.6 for block in blocks) - 0.8
    label = (rng.random(rows) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    return blocks[0], blocks[1], label


def fate(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(label holder's columns, feature holder's columns, label) of a public table, rows joined on id."""
    if not FATE.exists():
        pytest.skip("the public tables are not beside this checkout")
    tables = []
    for side in ("guest", "host"):
        with open(FATE / f"{name}_hetero_{side}.csv") as file:
            lines = csv.reader(file)
            next(lines)
            tables.append({row[0]: [float(x) for x in row[1:]] for row in lines})
    ids = sorted(set(tables[0]) & set(tables[1]), key=int)
    left = np.array([tables[0][key] for key in ids])
    return left[:, 1:], np.array([tables[1][key] for key in ids]), left[:, 0].astype(np.int64)


def pooled(blocks: list[np.ndarray], label: np.ndarray, l2: float) -> np.ndarray:
    """scikit-learn's answer: intercept, then all weights."""
    model = LogisticRegression(C=1 / l2, tol=1e-10, max_iter=5000).fit(np.hstack(blocks), label)
    return np.concatenate([model.intercept_, model.coef_[0]])


def distance(found: np.ndarray, wanted: np.ndarray) -> float:
    """Relative L2."""
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
