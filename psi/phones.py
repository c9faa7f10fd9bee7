"""Phone numbers in batches: the ones whose E.164 form follows from digits, lengths and plain prefixes.

`read` gives what `phonenumbers.parse` and its E.164 format give, or says that a value is not for it: anything but
digits, one leading "+" and the separators people write, and numbers whose region has prefixes that are no plain digits.
A numbering plan's rules are the library's own metadata; where they are patterns, the pattern runs over the few rows
that need it (Arrow's regular expressions). `psi.normalise` hands the rest to the library, one by one; a test compares
both over every region.

The steps have the library's names: an international prefix, the country code, the default region's own country code
without a "+", the national prefix, the possible lengths.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["known_region", "read"]

Mask = npt.NDArray[np.bool_]
Digits = npt.NDArray[np.uint8]  # (n, WIDTH), digits 0 to 9 from the left
Lengths = npt.NDArray[np.int64]

WIDTH = 20  # digits of the longest value read here; E.164 has 15, the library reads 17 behind a country code
_BAD, _DIGIT, _SEPARATOR, _PLUS = range(4)
_CLASS = np.zeros(256, dtype=np.uint8)
_CLASS[ord("0") : ord("9") + 1] = _DIGIT
_CLASS[[ord(char) for char in " -.()"]] = _SEPARATOR
_CLASS[ord("+")] = _PLUS
_LONGEST_NATIONAL = 17


@dataclass(frozen=True)
class _Plan:
    """One region's numbering plan: `prefixes` and `dialled` (the international prefix) are None where they are
    patterns. `final`: lengths that count in the end, those of the country code's main region, as `main` says this is.
    """

    code: str
    prefixes: tuple[str, ...] | None
    pattern: str
    dialled: str | None
    possible: npt.NDArray[np.bool_]  # by length
    local: npt.NDArray[np.bool_]
    longest: int
    final: npt.NDArray[np.bool_]
    main: bool = True


def read(values: pa.Array, region: str | None) -> tuple[pa.Array, Mask, Mask]:
    """For texts without nulls: their E.164 forms; which were read here, to a form or to none; which have a form."""
    count = len(values)
    digits, lengths, plus, fine = _digits(values)
    out, out_lengths = np.zeros((count, WIDTH), dtype=np.uint8), np.zeros(count, dtype=np.int64)
    found = np.zeros(count, dtype=np.bool_)
    plan = _region_plan(region) if region is not None else None
    if region is not None and plan is None:
        fine &= plus
    if plan is not None:
        dialled = _starts(digits, lengths, plan.dialled or "x") & ~plus & fine
        after = np.array(len(plan.dialled or ""))
        zero = dialled & (digits[np.arange(count), np.minimum(after, WIDTH - 1)] == 0) & (lengths > after)
        fine &= ~(dialled & (lengths <= after))  # nothing behind it: rare, and the library's own affair
        dialled &= fine & ~zero
        digits[dialled] = _shifted(digits[dialled], int(after))
        lengths[dialled] -= int(after)
        plus = plus | dialled
    abroad, home = np.flatnonzero(plus & fine), np.flatnonzero(~plus & fine)
    _read_abroad(digits, lengths, abroad, fine, (out, out_lengths, found))
    if plan is not None:
        _read_at_home(digits, lengths, home, plan, fine, (out, out_lengths, found))
    return _texts(out, out_lengths), fine, found & fine


def known_region(region: str) -> bool:
    """Whether numbers without a country code can be read in this region."""
    import phonenumbers

    return region in phonenumbers.SUPPORTED_REGIONS


# --- characters -----------------------------------------------------------------------------------------------------


def _digits(values: pa.Array) -> tuple[Digits, Lengths, Mask, Mask]:
    """The digits of each value, how many, whether a "+" leads, and whether that is all there is."""
    count = len(values)
    kind = np.int64 if pa.types.is_large_string(values.type) else np.int32
    _, ends, content = values.buffers()
    offsets = np.frombuffer(ends, dtype=kind)[values.offset : values.offset + count + 1].astype(np.int64)
    data = np.frombuffer(content, dtype=np.uint8)[offsets[0] : offsets[-1]] if content else np.empty(0, np.uint8)
    offsets = offsets - offsets[0]
    kinds = _CLASS[data]
    is_digit = kinds == _DIGIT
    counted = np.zeros(len(data) + 1, dtype=np.int32)
    np.cumsum(is_digit, out=counted[1:])
    starts = counted[offsets[:-1]].astype(np.int64)
    lengths = counted[offsets[1:]].astype(np.int64) - starts
    fine = (lengths >= 3) & (lengths <= WIDTH)
    odd = np.flatnonzero((kinds == _BAD) | (kinds == _PLUS))
    row = np.searchsorted(offsets, odd, side="right") - 1
    bad = kinds[odd] == _BAD
    fine[row[bad]] = False
    plus = np.zeros(count, dtype=np.bool_)
    at, row = odd[~bad], row[~bad]
    behind = at - offsets[row]  # a "+" leads, or stands behind one bracket
    leads = (behind == 0) | ((behind == 1) & (data[np.maximum(at - 1, 0)] == ord("(")))
    fine[row[~leads]] = False
    fine[row[1:][row[1:] == row[:-1]]] = False
    plus[row[leads]] = True
    some = np.flatnonzero(fine)
    first, last = data[offsets[some]], data[offsets[some + 1] - 1]
    proper = ((_CLASS[first] == _DIGIT) | (first == ord("+")) | (first == ord("("))) & (_CLASS[last] == _DIGIT)
    fine[some[~proper]] = False
    only = data[is_digit] - np.uint8(ord("0"))
    place = starts[:, None] + np.arange(WIDTH)
    matrix = only[np.minimum(place, max(len(only) - 1, 0))] if len(only) else np.zeros((count, WIDTH), np.uint8)
    return matrix, lengths, plus, fine


def _texts(digits: Digits, lengths: Lengths) -> pa.Array:
    """ "+" and the digits of each row; an empty text where there are none."""
    whole = np.empty((len(digits), WIDTH + 1), dtype=np.uint8)
    whole[:, 0] = ord("+")
    whole[:, 1:] = digits + np.uint8(ord("0"))
    sizes = np.where(lengths > 0, lengths + 1, 0)
    offsets = np.zeros(len(digits) + 1, dtype=np.int32)
    np.cumsum(sizes, out=offsets[1:])
    content = whole[np.arange(WIDTH + 1) < sizes[:, None]]
    return pa.Array.from_buffers(pa.string(), len(digits), [None, pa.py_buffer(offsets), pa.py_buffer(content)])


def _shifted(digits: Digits, by: int) -> Digits:
    out = np.zeros_like(digits)
    out[:, : WIDTH - by] = digits[:, by:]
    return out


def _starts(digits: Digits, lengths: Lengths, prefix: str) -> Mask:
    if not prefix.isdigit():
        return np.zeros(len(digits), dtype=np.bool_)
    wanted = np.array([int(char) for char in prefix], dtype=np.uint8)
    found: Mask = (digits[:, : len(wanted)] == wanted).all(axis=1) & (lengths >= len(wanted))
    return found


# --- numbering plans ------------------------------------------------------------------------------------------------


@cache
def _region_plan(region: str) -> _Plan | None:
    """The plan of a default region; None where its international prefix is a pattern."""
    import phonenumbers

    plan = _plan(phonenumbers.PhoneMetadata.metadata_for_region(region, None))
    whole = _code_plan(int(plan.code)) if plan is not None else None
    if plan is None or plan.dialled is None or whole is None:
        return None
    return replace(plan, final=whole.possible, main=phonenumbers.region_code_for_country_code(int(plan.code)) == region)


@cache
def _code_plan(code: int) -> _Plan | None:
    """The plan of a country code's main region; None for codes without a region, which the library reads itself."""
    import phonenumbers

    region = phonenumbers.region_code_for_country_code(code)
    return None if region in ("ZZ", "001") else _plan(phonenumbers.PhoneMetadata.metadata_for_region(region, None))


def _plan(metadata: object) -> _Plan | None:
    general = getattr(metadata, "general_desc", None)
    if general is None or not general.national_number_pattern:
        return None
    prefix = getattr(metadata, "national_prefix_for_parsing", None) or ""
    rule = getattr(metadata, "national_prefix_transform_rule", None)
    plain = all(part.isdigit() for part in prefix.split("|")) and not rule
    dialled = getattr(metadata, "international_prefix", None) or ""
    possible, local = np.zeros(WIDTH + 1, dtype=np.bool_), np.zeros(WIDTH + 1, dtype=np.bool_)
    possible[[length for length in general.possible_length if 0 < length <= WIDTH]] = True
    local[[length for length in general.possible_length_local_only if 0 < length <= WIDTH]] = True
    return _Plan(
        str(getattr(metadata, "country_code", 0)),
        (tuple(prefix.split("|")) if plain else None) if prefix else (),
        general.national_number_pattern,
        dialled if dialled.isdigit() else None,
        possible & ~local,
        local,
        max(general.possible_length),
        possible & ~local,
    )


@cache
def _codes() -> npt.NDArray[np.int16]:
    """By the first three digits of a number: its country code, 0 for none."""
    import phonenumbers

    known = phonenumbers.COUNTRY_CODE_TO_REGION_CODE
    table = np.zeros(1000, dtype=np.int16)
    for first in range(100, 1000):
        table[first] = next((code for code in (first // 100, first // 10, first) if code in known), 0)
    return table


# --- the library's steps --------------------------------------------------------------------------------------------

_Out = tuple[Digits, Lengths, Mask]


def _read_abroad(digits: Digits, lengths: Lengths, rows: npt.NDArray[np.int64], fine: Mask, out: _Out) -> None:
    """Numbers with a country code: find it, then the national prefix."""
    first = digits[rows, :3].astype(np.int64) @ np.array([100, 10, 1])
    codes = _codes()[first].astype(np.int64)
    fine[rows[(codes == 0) | (lengths[rows] <= 4)]] = False
    for code in np.unique(codes[codes > 0]).tolist():
        some = rows[(codes == code) & fine[rows]]
        plan = _code_plan(code)
        if plan is None:
            fine[some] = False
            continue
        size = len(str(code))
        _read_national(_shifted(digits[some], size), lengths[some] - size, some, plan, fine, out)


def _read_at_home(
    digits: Digits, lengths: Lengths, rows: npt.NDArray[np.int64], plan: _Plan, fine: Mask, out: _Out
) -> None:
    """Numbers as they are dialled in the default region; its country code may stand in front without a "+"."""
    ours, size = digits[rows], lengths[rows]
    behind = len(plan.code)
    coded = np.flatnonzero(_starts(ours, size, plan.code))
    if len(coded):
        rest, rest_size = _shifted(ours[coded], behind), size[coded] - behind
        fine[rows[coded[rest_size < 1]]] = False
        rest, rest_size, told = _without_prefix(rest, rest_size, plan)
        fine[rows[coded[~told]]] = False
        better = ~_matches(ours[coded], size[coded], plan) & _matches(rest, rest_size, plan)
        better |= (size[coded] > plan.longest) & ~plan.local[size[coded]]
        if not plan.main:  # the library goes on with the main region's plan
            fine[rows[coded[better]]] = False
        ours[coded[better]], size[coded[better]] = rest[better], rest_size[better]
    _read_national(ours, size, rows, plan, fine, out)


def _read_national(
    digits: Digits, lengths: Lengths, rows: npt.NDArray[np.int64], plan: _Plan, fine: Mask, out: _Out
) -> None:
    """Take the national prefix off where that leaves a number, and check the length."""
    fine[rows[(lengths < 2)]] = False
    short, short_lengths, told = _without_prefix(digits, lengths, plan)
    fine[rows[~told]] = False
    clipped = np.clip(short_lengths, 0, WIDTH)
    taken = plan.possible[clipped] | (short_lengths > plan.longest) & ~plan.local[clipped]
    digits, lengths = np.where(taken[:, None], short, digits), np.where(taken, short_lengths, lengths)
    fine[rows[(lengths < 2) | (lengths > _LONGEST_NATIONAL)]] = False
    zeros = (digits == 0) | (np.arange(WIDTH) >= lengths[:, None])
    fine[rows[zeros.all(axis=1)]] = False
    good = plan.final[np.clip(lengths, 0, WIDTH)] & (lengths + len(plan.code) <= WIDTH)
    target, target_lengths, found = out
    found[rows] = good
    code = np.array([int(char) for char in plan.code], dtype=np.uint8)
    target[rows[good], : len(code)] = code
    target[rows[good], len(code) :] = digits[good, : WIDTH - len(code)]
    target_lengths[rows[good]] = lengths[good] + len(code)


def _without_prefix(digits: Digits, lengths: Lengths, plan: _Plan) -> tuple[Digits, Lengths, Mask]:
    """The number behind the national prefix, unless it was viable before and is not after; and for which rows that can
    be told from plain digits."""
    told = np.ones(len(digits), dtype=np.bool_)
    if plan.prefixes is None:
        return digits, lengths, np.zeros(len(digits), dtype=np.bool_)
    out, out_lengths, open_rows = digits.copy(), lengths.copy(), told.copy()
    for prefix in plan.prefixes:
        rows = np.flatnonzero(_starts(digits, lengths, prefix) & open_rows)
        open_rows[rows] = False  # the first alternative that fits is the one
        if len(rows):
            rest, rest_lengths = _shifted(digits[rows], len(prefix)), lengths[rows] - len(prefix)
            keeps = _matches(digits[rows], lengths[rows], plan)
            keeps[keeps] = ~_matches(rest[keeps], rest_lengths[keeps], plan)
            out[rows[~keeps]], out_lengths[rows[~keeps]] = rest[~keeps], rest_lengths[~keeps]
    return out, out_lengths, told


def _matches(digits: Digits, lengths: Lengths, plan: _Plan) -> Mask:
    """Whether the plan's pattern of national numbers fits the whole number."""
    if not len(digits):
        return np.empty(0, dtype=np.bool_)
    texts = _texts(digits, np.maximum(lengths, 0))
    found = pc.match_substring_regex(texts, rf"^\+(?:{plan.pattern})$")
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.bool_)
