"""The plain floating-point twin of `vfl.train`: same schedule, same series, nothing shared. The oracle of the tests.

It sees both parties' columns and the label, so it is for tests, the documentation's figures and the demo's synthetic
tables only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vfl import series
from vfl.prepare import Whitened, whiten
from vfl.proximal import STEPS
from vfl.schedule import momentum, stop_limit

__all__ = ["errors", "fit", "shrunk"]


def errors(label_block: np.ndarray, feature_block: np.ndarray, logits: np.ndarray, l2: float) -> np.ndarray:
    """Standard errors of intercept, weights of A, weights of B, (1 + d_A + d_B,): roots of diag (X'WX + l2 P)^-1."""
    columns = np.hstack([np.ones((len(logits), 1)), label_block, feature_block])
    ridge = np.full(columns.shape[1], float(l2))
    ridge[0] = 0.0
    weights = 1 / (2 + 2 * np.cosh(logits))
    return np.asarray(np.sqrt(np.diag(np.linalg.inv(columns.T @ (weights[:, None] * columns) + np.diag(ridge)))))


def fit(
    label_block: np.ndarray,
    feature_block: np.ndarray,
    label: np.ndarray,
    *,
    l2: float,
    passes: int,
    l1: float = 0.0,
) -> tuple[Sequence[np.ndarray], int]:
    """Train on standardised blocks (n, d_A), (n, d_B): ([intercept + weights of A, weights of B], passes done).

    Stops early by the same rule as the protocol at tol 1e-6. No guard: the period stays 64. With l1 every pass ends
    with steps of `shrunk` on either block, and the weights are z.
    """
    period = 64
    sides = [whiten(label_block, l2, intercept=True), whiten(feature_block, l2, intercept=False)]
    columns = np.hstack([side.values for side in sides])
    cut = sides[0].values.shape[1]
    signs = 2.0 * label - 1.0
    start = np.zeros(cut)
    start[0] = np.log(label.mean() / (1 - label.mean()))
    weights = np.concatenate([np.linalg.pinv(sides[0].transform) @ start, np.zeros(columns.shape[1] - cut)])
    before, exponent = weights, sides[0].exponent
    limit = stop_limit(len(label), len(weights), 1e-6)
    first, second = slice(0, cut), slice(cut, len(weights))
    states = [np.stack([block, 0 * block]) for block in (start, np.zeros(len(weights) - cut))]
    done = 0
    for done in range(1, passes + 1):
        speed = momentum(done - 1) / 256
        ahead = weights + speed * (weights - before)
        residual = -signs * series.residual(period)(signs * (columns @ ahead))
        gradient = columns.T @ residual
        gradient[:cut] += sides[0].penalty @ ahead[:cut]
        gradient[cut:] += sides[1].penalty @ ahead[cut:]
        step = gradient * 2.0 ** (-2 * exponent - 1)
        before, weights = weights, ahead - step
        if l1 > 0.0:
            earlier, blocks = [state.sum(axis=0) for state in states], (first, second)
            found = [
                shrunk(side, weights[block], state, l1, intercept=block is first)
                for side, block, state in zip(sides, blocks, states, strict=True)
            ]
            weights, states = np.concatenate([u for u, _ in found]), [state for _, state in found]
            step = np.concatenate([now.sum(axis=0) - then for now, then in zip(states, earlier, strict=True)]) / 2
        if done > 1 and float(np.abs(step).max()) * 2.0**exponent <= limit:
            break
    if l1 > 0.0:
        return [states[0][0], states[1][0]], done
    return [sides[0].transform @ weights[:cut], sides[1].transform @ weights[cut:]], done


def shrunk(
    side: Whitened, reached: np.ndarray, state: np.ndarray, l1: float, *, intercept: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The steps of `vfl.proximal` by solving their equations: (whitened weights (d,), z and y (2, d)).

    reached: whitened weights after the gradient step; state: z and y of the pass before.
    """
    back = np.linalg.pinv(side.transform)
    metric = 2.0 * 4.0**side.exponent * back @ back  # 2 H
    size = float(np.trace(metric)) / len(metric)
    rho = min(max(5.0 * l1, 0.3 * size), size)
    threshold = np.full(len(metric), l1 / rho)
    threshold[0] = 0.0 if intercept else threshold[0]
    (z, y), at = state, side.transform @ reached
    for _ in range(STEPS):
        w = np.linalg.solve(metric + rho * np.eye(len(metric)), metric @ at + rho * (z - y))
        z = np.sign(w + y) * np.maximum(np.abs(w + y) - threshold, 0.0)
        y = w + y - z
    return back @ w, np.stack([z, y])
