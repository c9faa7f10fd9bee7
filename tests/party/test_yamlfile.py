"""Strict YAML: what is read, what is refused, and that every refusal names file and line."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from party import limits
from party.errors import FileError
from party.yamlfile import Reader, load, nearest, parse


def test_only_true_and_false_are_booleans() -> None:
    top = parse("a: true\nb: NO\nc: on\nd: yes\ne: True\nf: 'true'\ng: [off, y, n]\n", "f").mapping()
    assert top["a"].boolean() is True
    assert [top[name].text() for name in "bcdef"] == ["NO", "on", "yes", "True", "true"]
    assert [item.text() for item in top["g"].list()] == ["off", "y", "n"]


def test_numbers_are_plain_ones_and_keep_their_digits() -> None:
    top = parse("a: 12\nb: -0.10\nc: 1e-6\nd: 0644\ne: 1_000\nf: 0x10\ng: 12:30\nh: .5\ni: .inf\n", "f").mapping()
    assert top["a"].integer(0, 100) == 12
    assert top["b"].decimal() == Decimal("-0.10") and str(top["b"].decimal()) == "-0.10"
    assert top["c"].number() == 1e-6
    for name in "defghi":
        assert isinstance(top[name].scalar(), str), name


def test_null_and_absent_differ() -> None:
    top = parse("a: null\nb:\nc: ~\nd: 'null'\n", "f")
    assert [top.required(name).is_null for name in "abcd"] == [True, True, True, False]
    assert top.optional("e") is None and top.has("a") and not top.has("e")
    assert top.required("b").mapping() == {}


REFUSED = [
    ("a: 1\nb: 2\na: 3\n", 3, "given twice, first in line 1"),
    ("a:\n  b: 1\n  b: 2\n", 3, "given twice"),
    ("a: {b: 1, b: 2}\n", 1, "given twice"),
    ("a: 1\n'a': 2\n", 2, "given twice"),
    ("a: &x 1\nb: 2\n", 1, "anchors"),
    ("a: 1\nb: *a\n", 2, "anchors"),
    ("a: &x {b: 1}\n", 1, "anchors"),
    ("a: 1\nb: !!python/object/apply:os.system [x]\n", 2, "tags"),
    ("a: !!str 1\n", 1, "tags"),
    ("a: ! 1\n", 1, "tags"),
    ("a: 1\n---\nb: 1\n", 2, "second document"),
    ("%YAML 1.1\n---\na: 1\n", 1, "directives"),
    ("%TAG ! !x\n---\na: 1\n", 1, "directives"),
    ("a: [1, 2\n", 2, "not YAML"),
    ("a: 1\n\tb: 2\n", 2, "not YAML"),
    ("a: 1\n b: 2\n", 2, "not YAML"),
    ("a: 1\nb: \x01\n", 2, "character"),
    ("? [a, b]\n: 1\n", 1, "a key must be a word"),
    ("'': 1\n", 1, "a key must be a word"),
    ('a: "\\ud800"\n', 1, "surrogate"),
    ("a: " + "[" * 40 + "]" * 40, 1, "nested"),
    ("a: 1\nb: " + "9" * 65, 2, "digits"),
    ("- 1\n", 1, "must be a mapping"),
    ("", 1, "must be a mapping"),
    ("text", 1, "must be a mapping"),
]


@pytest.mark.parametrize(("text", "line", "reason"), REFUSED, ids=range(len(REFUSED)))
def test_refuses_and_names_the_line(text: str, line: int, reason: str) -> None:
    with pytest.raises(FileError) as caught:
        parse(text, "job.yaml")
    assert (caught.value.line, caught.value.file) == (line, "job.yaml")
    assert str(caught.value).startswith(f"job.yaml:{line}: ") and reason in str(caught.value)


def test_a_merge_key_is_a_key_like_any_other() -> None:
    top = parse("a:\n  <<: {b: 1}\n", "f").required("a")
    with pytest.raises(FileError, match="unknown key `<<`"):
        top.refuse_unknown(["b"])


def test_a_file_is_capped_decoded_and_readable(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    with pytest.raises(FileError, match="No such file"):
        load(path)
    path.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(FileError) as caught:
        load(path)
    assert caught.value.line == 2 and "UTF-8" in str(caught.value)
    path.write_bytes(b"a: 1\n#" + b"x" * limits.FILE_BYTES)
    with pytest.raises(FileError, match="more than"):
        load(path)
    with pytest.raises(FileError):
        load(tmp_path)


def test_a_reader_names_place_and_nearest_key() -> None:
    top = parse("version: 1\ntables:\n  customers:\n    url: x\n    keys: [a]\n", "party.yaml")
    table = top.required("tables").required("customers")
    with pytest.raises(FileError) as caught:
        table.refuse_unknown(["url", "key", "columns"])
    assert str(caught.value) == "party.yaml:5: unknown key `keys` in `tables.customers`"
    assert caught.value.hint == "did you mean `key`?"
    with pytest.raises(FileError, match=r"party.yaml:4: `tables.customers` lacks `key`"):
        table.required("key")
    assert nearest("zzz", ["url", "key"]) == "known here: url, key"


TYPED = "t: text\ni: 5\nf: 1.5\nb: true\nl: [1, x]\nm: {a: 1}\nn: null\nq: '5'\n"


@pytest.mark.parametrize(
    ("key", "ask"),
    [
        ("i", Reader.text), ("b", Reader.text), ("l", Reader.text), ("n", Reader.text), ("f", Reader.text),
        ("t", Reader.boolean), ("i", Reader.boolean), ("q", Reader.number), ("b", Reader.number),
        ("n", Reader.number), ("t", Reader.list), ("m", Reader.list), ("n", Reader.list), ("t", Reader.mapping),
        ("l", Reader.mapping), ("m", Reader.scalar), ("l", Reader.scalar), ("t", Reader.decimal),
        ("b", lambda r: r.integer(0, 9)), ("f", lambda r: r.integer(0, 9)), ("q", lambda r: r.integer(0, 9)),
        ("i", lambda r: r.integer(6, 9)), ("f", lambda r: r.number(2, 3)), ("t", lambda r: r.choice(["test"])),
        ("i", lambda r: r.choice(["5"])), ("l", lambda r: r.choice(["l"])), ("t", lambda r: r.text(3)),
        ("l", lambda r: r.list(1)),
    ],
)  # fmt: skip
def test_a_typed_getter_refuses_other_types(key: str, ask: object) -> None:
    reader = parse(TYPED, "f.yaml").required(key)
    with pytest.raises(FileError) as caught:
        ask(reader)  # type: ignore[operator]
    assert caught.value.line == list("tifblmnq").index(key) + 1 and f"`{key}`" in str(caught.value)


@pytest.mark.parametrize("version", ["2", "'1'", "true", "1.0", "", "[1]"])
def test_another_version_is_refused(version: str) -> None:
    with pytest.raises(FileError, match="`version`"):
        parse(f"version: {version}\n", "f").version()


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.text(st.characters(max_codepoint=0xD7FF), max_size=8)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz é", min_size=1, max_size=6), inner, max_size=3)
    ),
)


def plain(reader: Reader) -> object:
    if reader.is_mapping:
        return {key: plain(item) for key, item in reader.mapping().items()}
    return [plain(item) for item in reader.list()] if reader.is_list else reader.scalar()


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(st.text("abcdef_", min_size=1, max_size=6), values, max_size=4))
def test_json_reads_as_itself(value: dict[str, object]) -> None:
    assert plain(parse(json.dumps(value), "f")) == value


@settings(max_examples=150, deadline=None)
@given(st.text("ab: -[]{}#&*!|>'\"%@`,?\n\t~1\u0085\u2028é", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        assert parse(text, "f").is_mapping
    except FileError as error:
        assert error.file == "f"
