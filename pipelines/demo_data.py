"""Synthetic tables for `tally demo`: a bank's and a telco's, as messy as real ones.

Nobody's data: the phone numbers are random draws from ranges that GB mobile operators use (the range reserved for drama
has only a thousand numbers), so some may exist, but nothing here belongs to anyone. numpy's generator is enough for
synthetic data; the same arguments give the same bytes.

The mess: phones are written in eight ways, 1 % are missing; a few per cent of the people stand in a table twice, with
another spelling and slightly other values (a job takes the `first` row in file order, its default `error` would refuse
the table); values are missing; both tables are shuffled; 60 % of the bank's people are the telco's too.

`defaulted` is drawn from a logistic model over three columns of each side, and is never missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

__all__ = ["BANK", "DUPLICATES", "TELCO", "DemoTable", "DemoTables", "make_tables"]

SHARED = 0.6  # of the bank's people are the telco's customers too
TWICE = 0.03  # of the rows repeat a person
DUPLICATES = "first"  # what a job over these tables says about repeated keys
FIRST_NUMBER, LAST_NUMBER = 7_400_000_000, 7_599_999_999
REGIONS = ("north", "south", "east", "west")
PLANS = ("basic", "family", "business", "unlimited")


@dataclass(frozen=True)
class DemoTable:
    """One table's entry for party.yaml, and the grants its owner gives the peer in policy.yaml."""

    party: str
    name: str
    url: str
    key: tuple[str, ...]
    columns: dict[str, dict[str, Any]]
    grants: dict[str, list[str]]


BANK = DemoTable(
    "bank",
    "customers",
    "parquet:data/customers.parquet",
    ("phone",),
    {
        "phone": {"type": "string", "normalise": "phone", "region": "GB"},
        "balance": {"type": "decimal(12,2)", "range": [-100000, 1000000]},
        "income": {"type": "integer", "range": [0, 1000000]},
        "age": {"type": "integer", "range": [18, 100]},
        "region": {"type": "string", "domain": list(REGIONS)},
        "defaulted": {"type": "bool"},
    },
    {
        "phone": ["join"],
        "balance": ["filter", "aggregate", "feature"],
        "income": ["filter", "aggregate", "feature"],
        "age": ["filter", "aggregate", "feature"],
        "region": ["filter", "group", "aggregate"],
        "defaulted": ["filter", "group", "aggregate", "label"],
    },
)
TELCO = DemoTable(
    "telco",
    "subscribers",
    "csv:data/subscribers.csv",
    ("msisdn",),
    {
        "msisdn": {"type": "string", "normalise": "phone", "region": "GB"},
        "minutes": {"type": "decimal(8,1)", "range": [0, 10000]},
        "late_bills": {"type": "integer", "range": [0, 100]},
        "tenure": {"type": "integer", "range": [0, 600]},
        "plan": {"type": "string", "domain": list(PLANS)},
    },
    {
        "msisdn": ["join"],
        "minutes": ["filter", "aggregate", "feature"],
        "late_bills": ["filter", "aggregate", "feature"],
        "tenure": ["filter", "aggregate", "feature"],
        "plan": ["filter", "group", "aggregate"],
    },
)


@dataclass(frozen=True)
class DemoTables:
    """The two files, and how many people (distinct keys) they share."""

    bank: Path
    telco: Path
    shared: int


def make_tables(folder: Path, rows_bank: int = 20_000, rows_telco: int = 30_000, seed: int = 2026) -> DemoTables:
    """Write folder/customers.parquet and folder/subscribers.csv (the folder is made), rows exactly as asked."""
    random = np.random.default_rng(seed)
    bank_people = max(1, rows_bank - int(rows_bank * TWICE))
    telco_people = max(1, rows_telco - int(rows_telco * TWICE))
    shared = min(int(bank_people * SHARED), telco_people)
    people = bank_people + telco_people - shared
    traits = random.standard_normal((people, 6))
    traits[:, 1] = 0.5 * traits[:, 0] + 0.87 * traits[:, 1]  # balance and income go together
    traits[:, 3] = 0.3 * traits[:, 1] + 0.95 * traits[:, 3]  # and so does what people spend on calls
    phones = _distinct_numbers(random, people)
    folder.mkdir(parents=True, exist_ok=True)

    in_bank = _with_repeats(random, np.arange(bank_people), rows_bank)
    in_telco = _with_repeats(random, np.arange(people - telco_people, people), rows_telco)
    bank = _bank(random, traits, in_bank)
    telco = _telco(random, traits, in_telco)
    label = _labels(random, traits)[in_bank]
    bank_table = pa.table({"phone": _spelled(random, phones[in_bank]), **bank, "defaulted": pa.array(label)})
    telco_table = pa.table({"msisdn": _spelled(random, phones[in_telco]), **telco})
    pq.write_table(bank_table, folder / "customers.parquet")
    arrow_csv.write_csv(telco_table, folder / "subscribers.csv", arrow_csv.WriteOptions(quoting_style="needed"))
    return DemoTables(folder / "customers.parquet", folder / "subscribers.csv", shared)


def _labels(random: np.random.Generator, traits: np.ndarray) -> np.ndarray:
    """One draw a person. traits: balance, income, age, minutes, late bills, tenure, all standardised."""
    weights = np.array([-0.55, -0.45, -0.3, 0.25, 0.9, -0.65])
    defaulted: np.ndarray = random.random(len(traits)) < 1 / (1 + np.exp(1.6 - traits @ weights))
    return defaulted


def _bank(random: np.random.Generator, traits: np.ndarray, people: np.ndarray) -> dict[str, pa.Array]:
    own = traits[people] + 0.02 * random.standard_normal((len(people), 6))
    balance = np.clip(np.rint(1e5 * (8 * own[:, 0] + 6)), -10_000_000, 100_000_000).astype(np.int64)
    income = np.clip(np.rint(32_000 * np.exp(0.45 * own[:, 1])), 0, 1_000_000).astype(np.int64)
    age = np.clip(np.rint(46 + 14 * own[:, 2]), 18, 100).astype(np.int64)
    region = random.integers(0, 4, len(people))
    return {
        "balance": _decimal(balance, _missing(random, len(people), 0.02), 12, 2),
        "income": pa.array(income, mask=_missing(random, len(people), 0.04)),
        "age": pa.array(age, mask=_missing(random, len(people), 0.01)),
        "region": pa.array(np.array(REGIONS)[region], mask=_missing(random, len(people), 0.01)),
    }


def _telco(random: np.random.Generator, traits: np.ndarray, people: np.ndarray) -> dict[str, pa.Array]:
    own = traits[people] + 0.02 * random.standard_normal((len(people), 6))
    minutes = np.clip(np.rint(3500 * np.exp(0.5 * own[:, 3])), 0, 100_000).astype(np.int64)
    late = np.clip(np.rint(4 + 2.5 * own[:, 4]), 0, 100).astype(np.int64)
    tenure = np.clip(np.rint(70 + 32 * own[:, 5]), 0, 600).astype(np.int64)
    plan = random.choice(4, len(people), p=[0.4, 0.3, 0.1, 0.2])
    return {
        "minutes": _decimal(minutes, _missing(random, len(people), 0.03), 8, 1),
        "late_bills": pa.array(late, mask=_missing(random, len(people), 0.01)),
        "tenure": pa.array(tenure, mask=_missing(random, len(people), 0.02)),
        "plan": pa.array(np.array(PLANS)[plan], mask=_missing(random, len(people), 0.005)),
    }


def _missing(random: np.random.Generator, rows: int, share: float) -> np.ndarray:
    missing: np.ndarray = random.random(rows) < share
    return missing


def _decimal(units: np.ndarray, missing: np.ndarray, precision: int, scale: int) -> pa.Array:
    """int64 counts of 10**-scale as decimal(precision, scale)."""
    words = np.empty((len(units), 2), dtype="<i8")
    words[:, 0] = units
    words[:, 1] = units >> 63
    there = pa.py_buffer(np.packbits(~missing, bitorder="little").tobytes())
    return pa.Array.from_buffers(pa.decimal128(precision, scale), len(units), [there, pa.py_buffer(words.tobytes())])


def _distinct_numbers(random: np.random.Generator, count: int) -> np.ndarray:
    numbers = np.unique(random.integers(FIRST_NUMBER, LAST_NUMBER + 1, count + count // 10 + 16))
    while len(numbers) < count:
        more = random.integers(FIRST_NUMBER, LAST_NUMBER + 1, count)
        numbers = np.unique(np.concatenate([numbers, more]))
    return random.permutation(numbers)[:count]


def _with_repeats(random: np.random.Generator, people: np.ndarray, rows: int) -> np.ndarray:
    """Everybody once, some twice, shuffled."""
    again = random.choice(people, rows - len(people), replace=len(people) < rows - len(people))
    return random.permutation(np.concatenate([people, again]))[:rows]


def _spelled(random: np.random.Generator, numbers: np.ndarray) -> pa.Array:
    """Phone numbers as people type them; 1 % are missing."""
    ways = random.integers(0, 8, len(numbers)).tolist()
    texts = [_spell(str(number), way) for number, way in zip(numbers.tolist(), ways, strict=True)]
    return pa.array(texts, pa.string(), mask=_missing(random, len(texts), 0.01))


def _spell(number: str, way: int) -> str:
    area, first, second = number[:4], number[4:7], number[7:]
    return (
        f"+44{number}",
        f"0{number}",
        f"0{area} {first}{second}",
        f"0{area}-{first}-{second}",
        f"+44 {area} {first}{second}",
        f"0044{number}",
        f"(0{area}) {first} {second}",
        f" +44 {area}-{first}-{second} ",
    )[way]
