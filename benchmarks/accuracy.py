"""Accuracy of whole trainings against the pooled model, on tables no constant was chosen on (two excepted).

    python benchmarks/accuracy.py [--table NAME]

Each table is cut by columns at random in three ways and split into training and test rows in three; `vfl.train` runs
both sides over the ideal oracle of the tests (exact shares, no cryptography: the passes, fixed point and bits are those
of the real engine). Printed: the largest gap of nine runs to scikit-learn's LogisticRegression at the same penalty, and
of standard errors to the information of that model. Needs scikit-learn and statsmodels.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # not this folder: its files are named as packages are

from tests.vfl import whole

HEAD = "| table | rows | columns | passes | period | AUC | KS | log-loss | weights | standard errors |"


def line(name: str) -> str:
    """One row of the table: the largest of all cuts and splits."""
    values, label = whole.table(name)
    found = []
    for number in range(whole.CUTS):
        at = whole.cut(values, label, number)
        job = whole.job(at, inference=True)
        found += [whole.compare(at, job, salt, whole.train(at, job, salt)) for salt in whole.SALTS]
    passes = sorted(gaps.passes for gaps in found)
    worst = [max(getattr(gaps, kind) for gaps in found) for kind in ("auc", "ks", "loss", "weights", "errors")]
    told = " | ".join(f"{value:.1e}" for value in worst[:3]) + "".join(f" | {value:.2%}" for value in worst[3:])
    period = max(gaps.period for gaps in found)
    return f"| {name} | {len(label)} | {values.shape[1]} | {passes[0]}-{passes[-1]} | {period} | {told} |"


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--table", action="append", choices=whole.TABLES)
    print(HEAD)
    print("|" + "---|" * (HEAD.count("|") - 1))
    for name in parser.parse_args().table or whole.TABLES:
        print(line(name), flush=True)


if __name__ == "__main__":
    main()
