"""Phone numbers read in batches: equal to `phonenumbers` one by one, in every region, however they are written."""

from __future__ import annotations

import random
import re
from functools import cache

import numpy as np
import phonenumbers
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psi import KeyColumn, phones
from psi.normalise import one_phone, phone

REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)
CODES = sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)
DIALLED = ["00", "001", "0011", "0014", "0015", "011", "009", "119", "010", "000", "14110011"]
TRUNK = ["0", "1", "8", "80", "90", "06", "015", "1831", "1234", "17911", "180020", "01511", "00"]
INSIDE = [" ", " ", "-", ".", "(", ")", "/", " - ", ") ", "[", "]"]
ODD = ["~", "*", ",", "\t", "\u00a0", "\u2013", "x", "+"]
BEFORE = [" ", "  ", "(", "-", "'", '"', "\t", "\n", "- ", "tel:", "Tel ", "+", "p+", "\u00a0"]
BEHIND = [
    " ",
    ")",
    "-",
    "/",
    "\t",
    "\r\n",
    "'",
    "x",
    "#",
    " x12",
    " ext 5",
    ";ext=3",
    ",,3",
    "/5",
    "/x5",
    "+",
    "a",
    "(0)",
]


@cache
def examples(region: str) -> list[str]:
    found = [phonenumbers.example_number_for_type(region, kind) for kind in range(11)]
    return [phonenumbers.national_significant_number(number) for number in found if number] or ["1234567"]


def some_digits(region: str, rng: random.Random) -> str:
    """A national number: an example, one nearly, or any digits."""
    choice = rng.random()
    if choice < 0.15:
        return "".join(rng.choice("01") for _ in range(rng.randrange(1, 19)))
    if choice < 0.4:
        return "".join(rng.choice("0123456789") for _ in range(rng.randrange(1, 19)))
    digits = list(rng.choice(examples(region if choice < 0.85 else rng.choice(REGIONS))))
    for _ in range(rng.choice([0, 0, 1, 2, 4])):
        digits[rng.randrange(len(digits))] = rng.choice("0123456789")
    digits = digits[: len(digits) - rng.choice([0, 0, 0, 0, 1, 3])]
    return "".join(digits) + "".join(rng.choice("0123456789") for _ in range(rng.choice([0, 0, 0, 0, 1, 5])))


def written(region: str, rng: random.Random) -> str:
    """A number as somebody of this region may have written it, right or wrong."""
    metadata = phonenumbers.PhoneMetadata.metadata_for_region(region, None)
    assert metadata is not None
    code, trunk = str(metadata.country_code), metadata.national_prefix or "0"
    dialled = metadata.international_prefix or "00"
    dialled = dialled if dialled.isdigit() else rng.choice(DIALLED)
    other = str(rng.choice(CODES))
    front = rng.choice(
        ["", "", trunk, trunk, rng.choice(TRUNK), rng.choice(TRUNK), "+" + code, "+" + code, code, dialled + code]
        + [code + code, code + trunk, code + rng.choice(TRUNK), f"+{code}{rng.choice(TRUNK)}", f"+{code}(0)"]
        + [f"(+{code})", f"({trunk})", f"+{code}{code}", "+" + other, dialled + other, dialled + "0" + code, dialled]
        + ["+", "+0", "+" + dialled + code, dialled + code + code]
    )
    value = front + some_digits(region, rng)
    if rng.random() < 0.4:
        marks = INSIDE if rng.random() < 0.9 else INSIDE + ODD
        value = "".join(char + (rng.choice(marks) if rng.random() < 0.25 else "") for char in value)
    if rng.random() < 0.1:
        value = rng.choice(BEFORE) + value
    if rng.random() < 0.1:
        value += rng.choice(BEHIND)
    if rng.random() < 0.003:
        value = value[:1] + " " * rng.randrange(225, 255) + value[1:]
    return value


def quickly_read(values: list[str], region: str | None) -> int:
    """How many took the quick path; those must be what the library makes of them."""
    forms, read_here, found = phones.read(pa.array(values, pa.string()), region)
    for value, form, known, good in zip(values, forms.to_pylist(), read_here, found, strict=True):
        if known:
            assert one_phone(value, region) == (form.encode() if good else None), (region, value)
    return int(read_here.sum())


def compare_all_regions(each: int, seed: int) -> tuple[int, int]:
    """How many of how many numbers took the quick path."""
    rng, quick, total = random.Random(seed), 0, 0
    for region in REGIONS:
        values = [written(region, rng) for _ in range(each)]
        quick += quickly_read(values, region) + quickly_read(values[: each // 8], None)
        total += each + each // 8
    return quick, total


def test_numbers_of_every_region_equal_the_library() -> None:
    quick, total = compare_all_regions(48, 1)
    assert quick > 0.6 * total


@pytest.mark.slow
def test_numbers_of_every_region_equal_the_library_a_million_times() -> None:
    assert sum(compare_all_regions(1000, seed)[1] for seed in range(2, 6)) > 1_000_000


@pytest.mark.slow
@pytest.mark.parametrize("region", ["AR", "AU", "BR", "CA", "CN", "DE", "GB", "IT", "JP", "KR", "KZ", "MX", "US"])
def test_numbers_of_odd_plans_equal_the_library_at_length(region: str) -> None:
    rng = random.Random(region)
    quickly_read([written(region, rng) for _ in range(40_000)], region)


@given(st.lists(st.text(" 0123456789+-()./'\t\nx", max_size=18), max_size=20), st.sampled_from([*REGIONS, None]))
@settings(deadline=None, derandomize=True, max_examples=150)
def test_any_digits_and_marks_equal_the_library(values: list[str], region: str | None) -> None:
    quickly_read(values, region)


def formatted(region: str) -> list[str]:
    """Numbers of a region in the forms that the library itself writes."""
    kinds = phonenumbers.PhoneNumberFormat
    values = []
    for kind in (0, 1, 3, 4):
        number = phonenumbers.example_number_for_type(region, kind)
        if number:
            shapes = [
                phonenumbers.format_number(number, how) for how in (kinds.E164, kinds.INTERNATIONAL, kinds.NATIONAL)
            ]
            values += [*shapes, shapes[0][1:], f" {shapes[1]}\n", shapes[1].replace(" ", "/")]
    return values


def test_what_the_library_writes_is_read_quickly_in_every_region() -> None:
    odd = {region: len(values) - quickly_read(values, region) for region in REGIONS if (values := formatted(region))}
    assert {region: count for region, count in odd.items() if count} == {"AR": 1}  # 011 15-2345-6789 is rewritten


@pytest.mark.parametrize(
    ("value", "region"),
    [
        ("+44 7900 123456", "GB"),
        ("07900-123456", "GB"),
        ("0044 7900 123456", "GB"),
        ("447900123456", "GB"),
        (" (020) 7946 0958 ", "GB"),
        ("'07900123456", "GB"),
        ("1 (202) 555-0123", "US"),
        ("202.555.0123", "US"),
        ("011 44 7900 123456", "US"),
        ("1-416-555-0123", "CA"),
        ("+33 6 12 34 56 78", None),
        ("06 12 34 56 78", "FR"),
        ("0151/12345678", "DE"),
        ("0412 345 678", "AU"),
        ("0011 44 7900 123456", "AU"),
        ("(11) 96123-4567", "BR"),
        ("010-1234-5678", "KR"),
        ("8 701 123 45 67", "KZ"),
    ],
)
def test_ordinary_ways_of_writing_a_number_take_the_quick_path(value: str, region: str | None) -> None:
    forms, read_here, found = phones.read(pa.array([value]), region)
    assert read_here.all() and found.all() and forms.to_pylist()[0].encode() == one_phone(value, region)


@pytest.mark.parametrize(
    "value",
    [
        "0" + " " * 240 + "7900123456",  # 251 characters: the library reads at most 250
        "+" + " " * 239 + "447900123456",
        "+44 7900 123456 x1",
        "+44\t7900 123456",
        "+\t447900123456",
        "++447900123456",
        "07900+123456",
        "0790\n0123456",
        "\uff10\uff17\uff19\uff10\uff10\uff11\uff12\uff13\uff14\uff15\uff16",
        "0800 FLOWERS",
        "+800 1234 5678",
        "07900~123456",
    ],
)
def test_what_the_quick_path_cannot_know_is_left_to_the_library(value: str) -> None:
    _, read_here, _ = phones.read(pa.array(["+447900123456", value]), "GB")
    assert read_here.tolist() == [True, False]
    made = phone(pa.array([value, None, value]), KeyColumn("k", "phone", "GB"))
    assert made.to_pylist() == [one_phone(value, "GB"), None, one_phone(value, "GB")]


def test_zeros_and_ones_of_every_length_equal_the_library_in_every_region() -> None:
    for region in REGIONS:
        code = phonenumbers.country_code_for_region(region)
        fronts = ["", "0", "1", "00", "011", f"+{code}", f"+{code}0", str(code), f"00{code}", "000"]
        values = [
            front + digit * size for front in fronts for digit in "01" for size in (1, 2, 6, 8, 9, 10, 11, 16, 18)
        ]
        quickly_read(values, region)


@pytest.mark.parametrize(
    "pattern", ["0", "0|01", "01|0", "1|12|123", "(1[2-4])|1", "0?(?:(11|2)15)?", "0(?:1(2)?)", "(0{3})$|0"]
)
@given(st.lists(st.text("0125", max_size=8), min_size=1, max_size=20))
@settings(deadline=None, derandomize=True, max_examples=60)
def test_a_prefix_is_what_python_matches(pattern: str, numbers: list[str]) -> None:
    digits = np.array([[int(char) for char in number.ljust(phones.WIDTH, "1")] for number in numbers], dtype=np.uint8)
    taken, grouped = phones._front(digits, np.array([len(number) for number in numbers]), pattern)
    found = [re.match(pattern, number) for number in numbers]
    assert taken.tolist() == [match.end() if match else 0 for match in found]
    assert grouped.tolist() == [bool(match and match.re.groups and match[match.re.groups]) for match in found]


def test_a_value_of_the_longest_length_is_still_read() -> None:
    value = "0" + " " * 239 + "7900123456"
    assert quickly_read([value], "GB") == 1 and one_phone(value, "GB") == b"+447900123456"


def test_slices_and_large_texts_are_read() -> None:
    values = pa.array(["junk", "+447900123456", "", "07900 123457", "+3"], pa.large_string())[1:4]
    forms, read_here, found = phones.read(values, "GB")
    assert forms.to_pylist() == ["+447900123456", "", "+447900123457"]
    assert read_here.tolist() == found.tolist() == [True, False, True]
    assert [len(part) for part in phones.read(values[:0], "GB")] == [0, 0, 0]
