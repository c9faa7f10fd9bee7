"""The demo's tables: deterministic, messy in the ways promised, and a label that needs both sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import phonenumbers
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from connectors import Declared, Source, open_source
from pipelines.demo_data import BANK, TELCO, DemoTable, make_tables


def opened(path: Path, table: DemoTable) -> Source:
    """The table read with the very declarations that the demo writes into party.yaml."""
    declared = {
        name: Declared.of(spec.get("type"), spec.get("range"), spec.get("domain"))
        for name, spec in table.columns.items()
    }
    scheme = table.url.partition(":")[0]
    return open_source(f"{scheme}:{path}", path.parent, declared, table.key)


def e164(text: str | None) -> str | None:
    if text is None:
        return None
    number = phonenumbers.parse(text, "GB")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[pa.Table, pa.Table, int]:
    made = make_tables(tmp_path_factory.mktemp("demo"))
    bank = opened(made.bank, BANK).read(list(BANK.columns))
    telco = opened(made.telco, TELCO).read(list(TELCO.columns))
    return bank, telco, made.shared


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path: Path) -> None:
    one, two, other = (make_tables(tmp_path / name, 500, 700, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert one.bank.read_bytes() == two.bank.read_bytes()
    assert one.telco.read_bytes() == two.telco.read_bytes()
    assert one.telco.read_bytes() != other.telco.read_bytes()


@pytest.mark.parametrize(("rows_bank", "rows_telco"), [(50, 60), (400, 100), (1, 1)])
def test_rows_are_as_asked(tmp_path: Path, rows_bank: int, rows_telco: int) -> None:
    made = make_tables(tmp_path, rows_bank, rows_telco)
    assert opened(made.bank, BANK).rows() == rows_bank
    assert opened(made.telco, TELCO).rows() == rows_telco


def test_values_fit_their_declarations_and_are_messy(tables: tuple[pa.Table, pa.Table, int]) -> None:
    bank, telco, _ = tables
    assert (bank.num_rows, telco.num_rows) == (20_000, 30_000)
    for table, label in ((bank, "defaulted"), (telco, None)):
        for name in table.column_names:
            assert (table[name].null_count > 0) == (name != label), name
    assert {len(str(text)) for text in telco["msisdn"].to_pylist()} >= {11, 12, 13, 14}


def test_every_phone_is_a_valid_number(tables: tuple[pa.Table, pa.Table, int]) -> None:
    bank, telco, _ = tables
    sample = bank["phone"].to_pylist()[:1500] + telco["msisdn"].to_pylist()[:1500]
    for text in sample:
        assert text is None or phonenumbers.is_valid_number(phonenumbers.parse(text, "GB"))


def test_people_overlap_in_part_and_some_stand_twice(tables: tuple[pa.Table, pa.Table, int]) -> None:
    bank, telco, shared = tables
    ours = [phone for phone in map(e164, bank["phone"].to_pylist()) if phone]
    theirs = [phone for phone in map(e164, telco["msisdn"].to_pylist()) if phone]
    assert 0.95 < len(set(ours)) / len(ours) < 0.99
    assert 0.95 < len(set(theirs)) / len(theirs) < 0.99
    both = set(ours) & set(theirs)
    assert 0.96 * shared < len(both) <= shared
    assert 0.55 < len(both) / len(set(ours)) < 0.62
    order = {phone: place for place, phone in enumerate(theirs)}
    places = [order[phone] for phone in ours if phone in both]
    assert abs(np.corrcoef(places, np.arange(len(places)))[0, 1]) < 0.05


def test_the_label_needs_both_sides(tables: tuple[pa.Table, pa.Table, int]) -> None:
    bank, telco, _ = tables
    ours: dict[str, int] = {}
    theirs: dict[str, int] = {}
    for index, table, column in ((ours, bank, "phone"), (theirs, telco, "msisdn")):
        for row, phone in enumerate(map(e164, table[column].to_pylist())):
            if phone is not None:
                index.setdefault(phone, row)
    both = sorted(ours.keys() & theirs.keys())
    bank_side = features(bank, ["balance", "income", "age"])[[ours[phone] for phone in both]]
    telco_side = features(telco, ["minutes", "late_bills", "tenure"])[[theirs[phone] for phone in both]]
    label = bank["defaulted"].to_numpy()[[ours[phone] for phone in both]]
    assert 0.15 < label.mean() < 0.4
    pooled = auc(np.hstack([bank_side, telco_side]), label)
    alone = auc(bank_side, label)
    assert pooled > 0.77
    assert 0.62 < alone < pooled - 0.06


def features(table: pa.Table, names: list[str]) -> np.ndarray:
    columns = [table[name].cast(pa.float64()).to_numpy() for name in names]
    raw = np.stack(columns, axis=1)
    return np.nan_to_num((raw - np.nanmean(raw, axis=0)) / np.nanstd(raw, axis=0)).clip(-3, 3)


def auc(rows: np.ndarray, label: np.ndarray) -> float:
    train, test, train_label, test_label = train_test_split(rows, label, test_size=0.3, random_state=0)
    model = LogisticRegression().fit(train, train_label)
    return float(roc_auc_score(test_label, model.decision_function(test)))
