"""The rules that turn one key column into comparable bytes. Version: `identifiers.NORMALISATION`.

text     Unicode NFC, white space at both ends removed; an empty text is missing.
phone    E.164 ("+" and digits) by `phonenumbers`: a value with "+" is international, any other is read in the column's
         region, without one it is a failure; so are numbers of an impossible length, or only possible inside a town.
         An extension is dropped. Whether a number is in service is not checked.
email    NFC, trimmed, lower case on both sides of the last "@"; the domain in IDNA's ASCII form (Python's `idna` codec,
         RFC 3490), a dot at its end removed. Dots and "+tags" in the local part stay: they may be other people.
name     NFKC, folded to ASCII letters (anyascii), lower case; apostrophes vanish, other punctuation and
         white space become one space.
integer  decimal digits without leading zeros, "-" in front of a negative one; "-0" is "0". Texts and whole numbers
         are read, floats are refused: a key that went through a float has lost digits.

A rule takes a batch and gives texts, null where a value is missing or cannot be read. Most values take a path without a
Python object a row; what that path is not proven for goes through `one_*`, which say what each rule means and are the
oracle of tests.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from party.errors import DataError
from psi import phones

__all__ = ["NORMALISERS", "ONE", "KeyColumn", "Normaliser"]


@dataclass(frozen=True)
class KeyColumn:
    """One column of the key: `normalise` is text, phone, email, name or integer; `region` reads national numbers."""

    name: str
    normalise: str = "text"
    region: str | None = None


Normaliser = Callable[[pa.Array, KeyColumn], pa.Array]

_SPACES = "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f "  # what str.strip takes off an ASCII text
_INTEGER = re.compile(r"([+-]?)0*([0-9]+)", re.ASCII)
_NOT_WORD = re.compile(r"[^0-9a-z]+", re.ASCII)
_ASCII_INTEGER = r"^[+-]?[0-9]+$"
_PLAIN_EMAIL = r"^[!-~]+@[!-?A-~]*[!-\-/-?A-~]$"  # no space, no "@" in the domain, no dot at its end


# --- one value ------------------------------------------------------------------------------------------------------


def one_text(value: str, region: str | None = None) -> bytes | None:
    """NFC, trimmed."""
    return unicodedata.normalize("NFC", value).strip().encode() or None


def one_phone(value: str, region: str | None = None) -> bytes | None:
    """E.164."""
    import phonenumbers

    try:
        number = phonenumbers.parse(value, region)
    except phonenumbers.NumberParseException:
        return None
    if phonenumbers.is_possible_number_with_reason(number) != phonenumbers.ValidationResult.IS_POSSIBLE:
        return None
    number.extension = None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164).encode()


def one_email(value: str, region: str | None = None) -> bytes | None:
    """local@domain, lower case, domain in ASCII."""
    local, at, domain = unicodedata.normalize("NFC", value).strip().lower().rpartition("@")
    domain = domain.rstrip(".")
    if not at or not local or not domain or any(char.isspace() for char in local + domain):
        return None
    if not domain.isascii():
        try:
            domain = domain.encode("idna").decode("ascii")
        except UnicodeError:
            return None
    return f"{local}@{domain}".encode()


def one_name(value: str, region: str | None = None) -> bytes | None:
    """Folded to ASCII, lower case, single spaces."""
    from anyascii import anyascii

    plain = anyascii(unicodedata.normalize("NFKC", value)).lower().replace("'", "")
    return _NOT_WORD.sub(" ", plain).strip().encode() or None


def one_integer(value: str, region: str | None = None) -> bytes | None:
    """Canonical decimal."""
    found = _INTEGER.fullmatch(value.strip())
    if found is None:
        return None
    sign = "-" if found[1] == "-" and found[2] != "0" else ""
    return (sign + found[2]).encode()


One = Callable[[str, str | None], bytes | None]
ONE: dict[str, One] = {
    "text": one_text,
    "phone": one_phone,
    "email": one_email,
    "name": one_name,
    "integer": one_integer,
}


# --- a batch --------------------------------------------------------------------------------------------------------


def text(values: pa.Array, column: KeyColumn) -> pa.Array:
    """NFC, trimmed."""
    texts = _texts(values, column)
    plain = pc.string_is_ascii(texts)
    return _finished(texts, plain, pc.ascii_trim(texts, characters=_SPACES), column)


def integer(values: pa.Array, column: KeyColumn) -> pa.Array:
    """Canonical decimal."""
    if pa.types.is_integer(values.type):
        return values.cast(pa.string())
    texts = _texts(values, column)
    trimmed = pc.ascii_trim(texts, characters=_SPACES)
    digits = pc.ascii_ltrim(trimmed, characters="+-0")  # more than one sign, or one inside: not `good`
    empty, zero = pa.scalar("", digits.type), pa.scalar("0", digits.type)
    digits = pc.if_else(pc.equal(digits, empty), zero, digits)
    negative = pc.and_(pc.starts_with(trimmed, pattern="-"), pc.not_equal(digits, zero))
    good = pc.match_substring_regex(trimmed, _ASCII_INTEGER)
    whole = pc.binary_join_element_wise(pc.if_else(negative, pa.scalar("-", digits.type), empty), digits, empty)
    return _finished(texts, pc.string_is_ascii(texts), pc.if_else(good, whole, empty), column)


def email(values: pa.Array, column: KeyColumn) -> pa.Array:
    """local@domain, lower case, domain in ASCII."""
    texts = _texts(values, column)
    lower = pc.ascii_lower(pc.ascii_trim(texts, characters=_SPACES))
    plain = pc.and_(pc.string_is_ascii(texts), pc.match_substring_regex(lower, _PLAIN_EMAIL))
    return _finished(texts, plain, lower, column)


def name(values: pa.Array, column: KeyColumn) -> pa.Array:
    """Folded to ASCII, lower case, single spaces."""
    texts = _texts(values, column)
    words = pc.replace_substring(pc.ascii_lower(texts), pattern="'", replacement="")
    words = pc.replace_substring_regex(words, pattern="[^0-9a-z]+", replacement=" ")
    return _finished(texts, pc.string_is_ascii(texts), pc.ascii_trim(words, characters=" "), column)


def phone(values: pa.Array, column: KeyColumn) -> pa.Array:
    """E.164."""
    texts = _texts(values, column)
    forms, read, _ = phones.read(pc.fill_null(texts, ""), column.region)
    return _finished(texts, pa.array(read), forms, column)


NORMALISERS: dict[str, Normaliser] = {"text": text, "phone": phone, "email": email, "name": name, "integer": integer}


def _texts(values: pa.Array, column: KeyColumn) -> pa.Array:
    """The values as an array of texts; DataError for a type that does not hold keys."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_floating(values.type):
        raise DataError(
            f"key column {column.name} is of type {values.type}: a key that went through a float has lost digits",
            hint="read it as text",
        )
    if pa.types.is_string_view(values.type):
        return values.cast(pa.string())
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        raise DataError(
            f"key column {column.name} is of type {values.type}, `normalise: {column.normalise}` reads text",
            hint="read it as text, or use `normalise: integer` for whole numbers",
        )
    return values


def _finished(texts: pa.Array, plain: pa.Array, fast: pa.Array, column: KeyColumn) -> pa.Array:
    """`fast` where `plain` says that it holds, else the rule one by one (each value once); empty ones are null."""
    known = np.asarray(pc.fill_null(plain, True).to_numpy(zero_copy_only=False), dtype=np.bool_)
    nothing = pc.or_(pc.equal(pc.binary_length(fast), 0), texts.is_null())
    filled = pc.if_else(nothing, pa.scalar(None, fast.type), fast) if pc.any(nothing).as_py() else fast
    rest = np.flatnonzero(~known & np.asarray(texts.is_valid().to_numpy(zero_copy_only=False)))
    if not len(rest):
        return filled.cast(pa.binary())
    coded = texts.take(pa.array(rest)).dictionary_encode()
    one = ONE[column.normalise]
    made = pa.array([one(value, column.region) for value in coded.dictionary.to_pylist()], pa.binary())
    slow = made.take(coded.indices)
    return pc.replace_with_mask(filled.cast(pa.binary()), pa.array(_mask(len(texts), rest)), slow)


def _mask(count: int, rows: np.ndarray) -> np.ndarray:
    mask = np.zeros(count, dtype=np.bool_)
    mask[rows] = True
    return mask
