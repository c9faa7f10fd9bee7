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

A rule gives None for a value that is missing or that it cannot read.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pyarrow as pa

from party.errors import DataError, UsageError

__all__ = ["NORMALISERS", "KeyColumn", "Normaliser"]


@dataclass(frozen=True)
class KeyColumn:
    """One column of the key: `normalise` is text, phone, email, name or integer; `region` reads national numbers."""

    name: str
    normalise: str = "text"
    region: str | None = None


Normaliser = Callable[[pa.Array, KeyColumn], list[bytes | None]]

_CLEAN_PHONE = re.compile(r"\+[1-9][0-9]{7,14}", re.ASCII)
_INTEGER = re.compile(r"([+-]?)0*([0-9]+)", re.ASCII)
_NOT_WORD = re.compile(r"[^0-9a-z]+", re.ASCII)


def _texts(values: pa.Array, column: KeyColumn) -> list[str | None]:
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_floating(values.type):
        raise DataError(
            f"key column {column.name} is of type {values.type}: a key that went through a float has lost digits",
            hint="read it as text",
        )
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type) or _is_view(values.type)):
        raise DataError(
            f"key column {column.name} is of type {values.type}, `normalise: {column.normalise}` reads text",
            hint="read it as text, or use `normalise: integer` for whole numbers",
        )
    found: list[str | None] = values.to_pylist()
    return found


def _is_view(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string_view(kind))


def text(values: pa.Array, column: KeyColumn) -> list[bytes | None]:
    """NFC, trimmed."""
    normal = unicodedata.normalize
    return [
        None if value is None else normal("NFC", value).strip().encode() or None for value in _texts(values, column)
    ]


def phone(values: pa.Array, column: KeyColumn) -> list[bytes | None]:
    """E.164."""
    import phonenumbers

    if column.region is not None and column.region not in phonenumbers.SUPPORTED_REGIONS:
        raise UsageError(f"column {column.name}: region {column.region} is unknown", hint="two capitals, such as GB")
    region = column.region
    return [None if value is None else _one_phone(value, region) for value in _texts(values, column)]


def _one_phone(value: str, region: str | None) -> bytes | None:
    import phonenumbers

    if _CLEAN_PHONE.fullmatch(value) and _is_final(value):
        return value.encode()
    try:
        number = phonenumbers.parse(value, region)
    except phonenumbers.NumberParseException:
        return None
    if phonenumbers.is_possible_number_with_reason(number) != phonenumbers.ValidationResult.IS_POSSIBLE:
        return None
    number.extension = None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164).encode()


def _is_final(value: str) -> bool:
    """Whether parsing would give the same text back, told without parsing: a possible length and no trunk prefix."""
    for digits in (1, 2, 3):
        rules = _country(int(value[1 : 1 + digits]))
        if rules is not None:
            prefix, lengths = rules
            national = value[1 + digits :]
            return len(national) in lengths and national[0] != "0" and (prefix is None or not prefix.match(national))
    return False


@cache
def _country(code: int) -> tuple[re.Pattern[str] | None, frozenset[int]] | None:
    """The pattern of trunk prefixes and the possible lengths of a country code's national numbers."""
    import phonenumbers

    region = phonenumbers.region_code_for_country_code(code)
    metadata = phonenumbers.PhoneMetadata.metadata_for_region(region, None)
    if metadata is None or metadata.general_desc is None:  # no country: parse those
        return None
    prefix = metadata.national_prefix_for_parsing
    return re.compile(prefix) if prefix else None, frozenset(metadata.general_desc.possible_length)


def email(values: pa.Array, column: KeyColumn) -> list[bytes | None]:
    """local@domain, lower case, domain in ASCII."""
    return [None if value is None else _one_email(value) for value in _texts(values, column)]


def _one_email(value: str) -> bytes | None:
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


def name(values: pa.Array, column: KeyColumn) -> list[bytes | None]:
    """Folded to ASCII, lower case, single spaces."""
    from anyascii import anyascii

    out: list[bytes | None] = []
    for value in _texts(values, column):
        plain = None if value is None else anyascii(unicodedata.normalize("NFKC", value)).lower().replace("'", "")
        out.append(None if plain is None else _NOT_WORD.sub(" ", plain).strip().encode() or None)
    return out


def integer(values: pa.Array, column: KeyColumn) -> list[bytes | None]:
    """Canonical decimal."""
    if pa.types.is_integer(values.type):
        return [None if value is None else b"%d" % value for value in values.to_pylist()]
    out: list[bytes | None] = []
    for value in _texts(values, column):
        found = None if value is None else _INTEGER.fullmatch(value.strip())
        if found is None:
            out.append(None)
        else:
            sign = "-" if found[1] == "-" and found[2] != "0" else ""
            out.append((sign + found[2]).encode())
    return out


NORMALISERS: dict[str, Normaliser] = {"text": text, "phone": phone, "email": email, "name": name, "integer": integer}
