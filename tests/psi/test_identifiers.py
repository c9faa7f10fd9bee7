"""From key columns to identifiers: rules, composite keys, missing and repeated keys."""

from __future__ import annotations

import phonenumbers
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from party.errors import DataError, UsageError
from psi import Identifiers, KeyColumn, from_batches, from_items, settings_digest
from psi.normalise import _country, _is_final, _one_phone


def one(
    values: list[object], rule: str, region: str | None = None, kind: pa.DataType | None = None
) -> list[bytes | None]:
    """Each value's identifier by itself, the prefix of rule and length cut off."""
    out: list[bytes | None] = []
    for value in values:
        batch = pa.record_batch({"k": pa.array([value], kind or (pa.string() if not isinstance(value, int) else None))})
        found = from_batches([batch], [KeyColumn("k", rule, region)]).items
        out.append(found[0][4 + len(rule) + 4 :] if found else None)
    return out


def table(**columns: list[object]) -> pa.RecordBatch:
    return pa.record_batch({name: pa.array(values, pa.string()) for name, values in columns.items()})


def read(batch: pa.RecordBatch, *names: str, duplicates: str = "error") -> Identifiers:
    return from_batches([batch], [KeyColumn(name) for name in names], duplicates=duplicates)


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


CODES = sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)


@settings(max_examples=600, deadline=None, derandomize=True)
@given(st.sampled_from(CODES), st.from_regex(r"[0-9]{4,12}", fullmatch=True))
def test_the_fast_path_for_clean_numbers_equals_parsing(code: int, national: str) -> None:
    value = f"+{code}{national}"
    fast = _one_phone(value, "GB")
    if 8 <= len(value) <= 16 and _is_final(value):
        parsed = phonenumbers.parse(value, "GB")
        assert phonenumbers.is_possible_number(parsed)
        assert phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164) == value
        assert fast == value.encode()


def test_the_fast_path_is_taken_for_ordinary_numbers() -> None:
    assert all(_is_final(number) for number in ("+447900123456", "+12025550123", "+4915112345678", "+33612345678"))
    assert not _is_final("+4407900123456")
    assert _country(44) is not None and _country(999) is None


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
    assert one([7, -12, 0], "integer", kind=pa.int64()) == [b"7", b"-12", b"0"]


@pytest.mark.parametrize("rule", ["integer", "text", "phone", "email", "name"])
def test_float_keys_are_refused(rule: str) -> None:
    batch = pa.record_batch({"k": pa.array([447900123456.0])})
    with pytest.raises(DataError, match="lost digits"):
        from_batches([batch], [KeyColumn("k", rule, "GB")])


def test_whole_numbers_are_not_text() -> None:
    with pytest.raises(DataError, match="reads text"):
        from_batches([pa.record_batch({"k": pa.array([1])})], [KeyColumn("k", "phone", "GB")])


def test_composite_keys_are_unambiguous() -> None:
    found = read(table(a=["ab", "a", "", "abc"], b=["c", "bc", "abc", ""]), "a", "b")
    assert len(set(found.items)) == 2 and found.rows.tolist() == [0, 1] and found.failures == 2


@given(st.lists(st.tuples(st.text(max_size=6), st.text(max_size=6)), max_size=20))
@settings(deadline=None, derandomize=True)
def test_two_identifiers_are_equal_only_when_all_normalised_parts_are(pairs: list[tuple[str, str]]) -> None:
    import unicodedata

    def plain(value: str) -> str:
        return unicodedata.normalize("NFC", value).strip()

    pairs = [pair for pair in pairs if all("\ud800" > char or char > "\udfff" for char in "".join(pair))]
    found = read(table(a=[a for a, _ in pairs], b=[b for _, b in pairs]), "a", "b", duplicates="first")
    assert len(found.items) == len({(plain(a), plain(b)) for a, b in pairs if plain(a) and plain(b)})


def test_the_rule_is_part_of_the_identifier_and_of_the_settings() -> None:
    batch = table(k=["12"])
    as_text = from_batches([batch], [KeyColumn("k", "text")])
    as_number = from_batches([batch], [KeyColumn("k", "integer")])
    assert as_text.items != as_number.items and as_text.settings != as_number.settings
    assert settings_digest(["text", "name"]) != settings_digest(["name", "text"])


def test_regions_and_column_names_may_differ_between_the_sides() -> None:
    ours = from_batches([table(phone=["07900123456"])], [KeyColumn("phone", "phone", "GB")])
    theirs = from_batches([table(msisdn=["+447900123456"])], [KeyColumn("msisdn", "phone", "FR")])
    assert ours.items == theirs.items and ours.settings == theirs.settings


def test_missing_and_unreadable_keys_are_counted_and_never_match() -> None:
    batches = [table(k=["+447900123456", None, "junk"]), table(k=[None, "+447900123457"])]
    found = from_batches(batches, [KeyColumn("k", "phone", "GB")])
    assert (found.total, found.nulls, found.failures, found.duplicates) == (5, 2, 1, 0)
    assert found.rows.tolist() == [0, 4]


def test_a_missing_part_of_a_composite_key_is_a_missing_key() -> None:
    found = read(table(a=["x", None, "y"], b=["1", "2", None]), "a", "b")
    assert (found.nulls, found.failures, found.rows.tolist()) == (2, 0, [0])


def test_repeated_keys_are_an_error_that_names_rows_and_no_value() -> None:
    batch = table(k=["secretkey", "b", "secretkey", "b", "secretkey"])
    with pytest.raises(DataError) as caught:
        read(batch, "k")
    assert "3 rows" in caught.value.message and "2, 3, 4" in caught.value.message
    assert "secretkey" not in str(caught.value.as_dict())
    found = read(batch, "k", duplicates="first")
    assert found.rows.tolist() == [0, 1] and found.duplicates == 3


def test_what_is_not_available_or_unknown_is_refused() -> None:
    batch = table(k=["x"])
    for duplicates, text in (("all", "not available"), ("some", "neither")):
        with pytest.raises(UsageError, match=text):
            read(batch, "k", duplicates=duplicates)
    with pytest.raises(UsageError, match="unknown"):
        from_batches([batch], [KeyColumn("k", "soundex")])
    with pytest.raises(UsageError, match="region"):
        from_batches([batch], [KeyColumn("k", "phone", "Britain")])
    with pytest.raises(DataError, match="no key column"):
        read(batch, "other")
    with pytest.raises(UsageError, match="at least one"):
        read(batch)
    with pytest.raises(DataError, match="distinct"):
        from_items([b"a", b"a"])


def test_dictionary_and_large_text_columns_are_read() -> None:
    values = ["a", "b", None]
    for column in (pa.array(values).dictionary_encode(), pa.array(values, pa.large_string())):
        found = from_batches([pa.record_batch({"k": column})], [KeyColumn("k")])
        assert found.items == read(table(k=["a", "b"]), "k").items and found.nulls == 1


def test_an_empty_table_has_no_identifiers() -> None:
    found = read(table(k=[]), "k")
    assert found.items == [] and found.rows.shape == (0,) and found.rows.dtype.kind == "i"
