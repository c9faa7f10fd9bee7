"""From key columns to identifiers: rules, composite keys, missing and repeated keys."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from party.errors import DataError, InternalError, UsageError
from psi import Identifiers, KeyColumn, from_items, from_scan, settings_digest
from psi.identifiers import CHUNK, Counts
from psi.normalise import NORMALISERS, ONE


@dataclass
class Found:
    """All that a source gives."""

    items: list[bytes]
    rows: np.ndarray
    settings: bytes
    counts: Counts


def everything(source: Identifiers) -> Found:
    batches = list(source.batches())
    items = [
        batch.data[start:end].tobytes()
        for batch in batches
        for start, end in itertools.pairwise(batch.offsets.tolist())
    ]
    rows = np.concatenate([np.empty(0, np.int64), *(batch.rows for batch in batches)])
    assert all(batch.offsets[0] == 0 and batch.offsets[-1] == len(batch.data) for batch in batches)
    assert all(len(batch.rows) == CHUNK for batch in batches[:-1])
    return Found(items, rows, source.settings, source.counts)


def scanned(batches: list[pa.RecordBatch], key: list[KeyColumn], duplicates: str = "error") -> Found:
    return everything(from_scan(lambda: batches, key, duplicates=duplicates))


def one(
    values: Sequence[object], rule: str, region: str | None = None, kind: pa.DataType | None = None
) -> list[bytes | None]:
    """Each value's identifier, the prefix of rule and length cut off; and the same for each value by itself."""

    def all_of(some: Sequence[object]) -> list[bytes | None]:
        column = pa.array(some, kind or (pa.string() if not isinstance(some[0], int) else None))
        found = scanned([pa.record_batch({"k": column})], [KeyColumn("k", rule, region)])
        out: list[bytes | None] = [None] * len(some)
        for item, row in zip(found.items, found.rows, strict=True):
            out[row] = item[4 + len(rule) + 4 :]
        return out

    together = all_of(values)
    assert together == [all_of([value])[0] for value in values]
    return together


def table(**columns: list[object]) -> pa.RecordBatch:
    return pa.record_batch({name: pa.array(values, pa.string()) for name, values in columns.items()})


def read(batch: pa.RecordBatch, *names: str, duplicates: str = "error") -> Found:
    return scanned([batch], [KeyColumn(name) for name in names], duplicates=duplicates)


def test_text_is_composed_and_trimmed_and_keeps_its_case() -> None:
    assert one([" Cafe\u0301 ", "caf\u00e9", "", "  ", "0042"], "text") == [
        "Café".encode(),
        "café".encode(),
        None,
        None,
        b"0042",
    ]


def test_phones_of_many_shapes_are_one_number() -> None:
    shapes = [
        "+447900123456",
        "07900 123456",
        "0044 7900 123-456",
        "(07900) 123456",
        "+44 (0)7900 123456",
        "+4407900123456",
    ]
    assert set(one(shapes, "phone", "GB")) == {b"+447900123456"}


def test_impossible_phones_never_match() -> None:
    assert one(["12", "+999123456789", "hello", "", "+44123", "07900123456789012"], "phone", "GB") == [None] * 6
    assert one(["07900123456"], "phone") == [None]


def test_an_italian_leading_zero_stays() -> None:
    assert one(["+390612345678", "06 1234 5678"], "phone", "IT") == [b"+390612345678"] * 2


def test_emails() -> None:
    given_values = [" Ann.Lee@Example.COM ", "ann.lee@example.com.", "ann@b\u00fccher.example", "ANN+x@EXAMPLE.com"]
    assert one(given_values, "email") == [
        b"ann.lee@example.com",
        b"ann.lee@example.com",
        b"ann@xn--bcher-kva.example",
        b"ann+x@example.com",
    ]
    assert one(["no-at", "@x.y", "a@", "a b@x.y", "", "a@" + "\u00fc" * 80 + ".de"], "email") == [None] * 6


def test_names() -> None:
    assert one(["  Renée  O\u2019Neill-Smith ", "RENEE ONEILL SMITH", "M\u00fcller, J.", "---"], "name") == [
        b"renee oneill smith",
        b"renee oneill smith",
        b"muller j",
        None,
    ]


def test_integers_from_text_and_from_whole_numbers_agree() -> None:
    assert one(["007", " +7", "-0", "-12", "1e3", "7.0", "", "\u0667"], "integer") == [
        b"7",
        b"7",
        b"0",
        b"-12",
        None,
        None,
        None,
        None,
    ]
    assert one(["+007", "-007", "+-7", "0-7", "--7", "+", "-", "000", "-000", "\x1c7\x1f", "7 7"], "integer") == [
        b"7",
        b"-7",
        *[None] * 5,
        b"0",
        b"0",
        b"7",
        None,
    ]
    assert one([7, -12, 0], "integer", kind=pa.int64()) == [b"7", b"-12", b"0"]
    assert one([2**64 - 1], "integer", kind=pa.uint64()) == [b"18446744073709551615"]


@pytest.mark.parametrize("rule", ["integer", "text", "phone", "email", "name"])
def test_float_keys_are_refused(rule: str) -> None:
    batch = pa.record_batch({"k": pa.array([447900123456.0])})
    with pytest.raises(DataError, match="lost digits"):
        scanned([batch], [KeyColumn("k", rule, "GB")])


def test_whole_numbers_are_not_text() -> None:
    with pytest.raises(DataError, match="reads text"):
        scanned([pa.record_batch({"k": pa.array([1])})], [KeyColumn("k", "phone", "GB")])


def test_composite_keys_are_unambiguous() -> None:
    found = read(table(a=["ab", "a", "", "abc"], b=["c", "bc", "abc", ""]), "a", "b")
    assert len(set(found.items)) == 2 and found.rows.tolist() == [0, 1] and found.counts.failures == 2


@given(st.lists(st.tuples(st.text(max_size=6), st.text(max_size=6)), max_size=20))
@settings(deadline=None, derandomize=True)
def test_two_identifiers_are_equal_only_when_all_normalised_parts_are(pairs: list[tuple[str, str]]) -> None:
    import unicodedata

    def plain(value: str) -> str:
        return unicodedata.normalize("NFC", value).strip()

    pairs = [pair for pair in pairs if all("\ud800" > char or char > "\udfff" for char in "".join(pair))]
    found = read(table(a=[a for a, _ in pairs], b=[b for _, b in pairs]), "a", "b", duplicates="first")
    assert len(set(found.items)) == len({(plain(a), plain(b)) for a, b in pairs if plain(a) and plain(b)})


def test_the_rule_is_part_of_the_identifier_and_of_the_settings() -> None:
    batch = table(k=["12"])
    as_text = scanned([batch], [KeyColumn("k", "text")])
    as_number = scanned([batch], [KeyColumn("k", "integer")])
    assert as_text.items != as_number.items and as_text.settings != as_number.settings
    assert settings_digest(["text", "name"]) != settings_digest(["name", "text"])


def test_regions_and_column_names_may_differ_between_the_sides() -> None:
    ours = scanned([table(phone=["07900123456"])], [KeyColumn("phone", "phone", "GB")])
    theirs = scanned([table(msisdn=["+447900123456"])], [KeyColumn("msisdn", "phone", "FR")])
    assert ours.items == theirs.items and ours.settings == theirs.settings


def test_missing_and_unreadable_keys_are_counted_and_never_match() -> None:
    batches = [table(k=["+447900123456", None, "junk"]), table(k=[None, "+447900123457"])]
    found = scanned(batches, [KeyColumn("k", "phone", "GB")])
    assert found.counts == Counts(5, 2, 1)
    assert found.rows.tolist() == [0, 4]


def test_a_missing_part_of_a_composite_key_is_a_missing_key() -> None:
    found = read(table(a=["x", None, "y"], b=["1", "2", None]), "a", "b")
    assert (found.counts, found.rows.tolist()) == (Counts(3, 2, 0), [0])


def test_repeated_keys_are_all_given_and_left_to_the_protocol() -> None:
    found = read(table(k=["a", "b", "a"]), "k", duplicates="first")
    assert found.rows.tolist() == [0, 1, 2] and found.items[0] == found.items[2]


def test_rows_can_be_left_out_and_counts_stay_those_of_the_table() -> None:
    source = from_scan(lambda: [table(k=["a", None, "b"]), table(k=["c", "d"])], [KeyColumn("k")])
    rest = everything(source.without(np.array([2, 4])).without(np.array([0])))
    assert rest.rows.tolist() == [3] and rest.counts == Counts(5, 1, 0)
    with pytest.raises(InternalError, match="counted"):
        _ = source.counts


@given(
    st.lists(st.one_of(st.none(), st.integers(0, 9).map(str)), max_size=30),
    st.lists(st.integers(0, 40), max_size=30),
    st.lists(st.integers(0, 30), max_size=3).map(sorted),
)
@settings(deadline=None, derandomize=True)
def test_any_rows_can_be_left_out_in_any_order(values: list[str | None], left_out: list[int], cuts: list[int]) -> None:
    column = pa.array(values, pa.string())
    ends = [*(min(cut, len(values)) for cut in cuts), len(values)]
    batches = [pa.record_batch({"k": column[a:b]}) for a, b in itertools.pairwise([0, *ends])]
    found = everything(from_scan(lambda: batches, [KeyColumn("k")]).without(np.array(left_out, dtype=np.int64)))
    wanted = [row for row, value in enumerate(values) if value is not None and row not in left_out]
    assert found.rows.tolist() == wanted and found.counts == Counts(len(values), values.count(None))
    assert [item[-1:].decode() for item in found.items] == [values[row] for row in wanted]


def test_a_source_is_read_again_from_the_start() -> None:
    source = from_scan(lambda: [table(k=["a", None, "b"])], [KeyColumn("k")])
    first, second = everything(source), everything(source)
    assert first.items == second.items and first.counts == second.counts


def test_a_rule_never_sees_more_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def spy(values: pa.Array, column: KeyColumn) -> pa.Array:
        seen.append(len(values))
        return NORMALISERS["integer"](values, column)

    monkeypatch.setitem(NORMALISERS, "text", spy)
    found = scanned([pa.record_batch({"k": pa.array(range(2 * CHUNK + 5))})], [KeyColumn("k")])
    assert len(found.items) == 2 * CHUNK + 5 and seen == [CHUNK, CHUNK, 5]


@pytest.mark.parametrize("size", [1, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 5])
def test_chunks_are_whole_however_the_table_is_cut(size: int) -> None:
    values = pa.array([f"v{number}" for number in range(size)])
    cuts = [0, size // 7, size // 3, size]
    batches = [pa.record_batch({"k": values[a:b]}) for a, b in itertools.pairwise(cuts)]
    cut, whole = (scanned(list(some), [KeyColumn("k")]) for some in (batches, [pa.record_batch({"k": values})]))
    assert cut.items == whole.items and cut.rows.tolist() == whole.rows.tolist() == list(range(size))


def test_what_is_not_available_or_unknown_is_refused() -> None:
    batch = table(k=["x"])
    with pytest.raises(UsageError, match="none of"):
        read(batch, "k", duplicates="some")
    with pytest.raises(UsageError, match="unknown"):
        scanned([batch], [KeyColumn("k", "soundex")])
    with pytest.raises(UsageError, match="region"):
        scanned([batch], [KeyColumn("k", "phone", "Britain")])
    with pytest.raises(DataError, match="no key column"):
        read(batch, "other")
    with pytest.raises(UsageError, match="at least one"):
        read(batch)
    with pytest.raises(DataError, match="distinct"):
        from_items([b"a", b"a"])


def test_dictionary_view_and_large_text_columns_are_read() -> None:
    values = ["a", "b", None]
    for column in (
        pa.array(values).dictionary_encode(),
        pa.array(values, pa.large_string()),
        pa.array(values, pa.string_view()),
    ):
        found = scanned([pa.record_batch({"k": column})], [KeyColumn("k")])
        assert found.items == read(table(k=["a", "b"]), "k").items and found.counts.nulls == 1


def test_an_empty_table_has_no_identifiers() -> None:
    found = read(table(k=[]), "k")
    assert found.items == [] and found.rows.shape == (0,) and found.rows.dtype.kind == "i"


# --- the quick paths against the rules one by one --------------------------------------------------------------------

CHARACTERS = st.text(
    st.one_of(
        st.sampled_from(" \t\n\x0b\x1c\x1f\x85\xa0\u2003\u3000'@.-+_09aZ\u0301\u00e9\u00df\u0130\u0667\uff10\x00\x01"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=14,
)


@pytest.mark.parametrize("rule", sorted(ONE))
@given(
    values=st.lists(st.one_of(st.none(), CHARACTERS), max_size=12),
    kind=st.sampled_from([pa.string(), pa.large_string()]),
    skip=st.integers(0, 3),
)
@settings(deadline=None, derandomize=True, max_examples=250)
def test_a_batch_equals_the_rule_one_by_one(rule: str, values: list[str | None], kind: pa.DataType, skip: int) -> None:
    column, values = pa.array(values, kind)[skip:], values[skip:]
    made = NORMALISERS[rule](column, KeyColumn("k", rule, "GB" if rule == "phone" else None))
    wanted = [None if value is None else ONE[rule](value, "GB") for value in values]
    assert [None if item is None else bytes(item) for item in made.to_pylist()] == wanted


NUMERIC = st.text("0123456789+-00  \t\n\x1c.\u0667", max_size=7)
MAIL = st.builds(
    "{}{}@{}{}".format, *[st.text("aB.+- \x01@\u00fc", max_size=4)] * 3, st.sampled_from(["", ".", ".. ", " "])
)


@given(values=st.lists(st.one_of(NUMERIC, MAIL), max_size=20))
@settings(deadline=None, derandomize=True, max_examples=250)
def test_numbers_and_mails_equal_the_rule_one_by_one(values: list[str]) -> None:
    for rule in ("integer", "email"):
        made = NORMALISERS[rule](pa.array(values, pa.string()), KeyColumn("k", rule))
        assert [item and bytes(item) for item in made.to_pylist()] == [ONE[rule](value, None) for value in values]
