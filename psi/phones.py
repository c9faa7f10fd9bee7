"""Phone numbers in batches: the ones whose E.164 form follows from digits, lengths and a plan's prefixes.

`read` gives what `phonenumbers.parse` and its E.164 format give, or says that a value is not for it. For it are ASCII
digits, one "+" in front of them and the separators that people write; not letters, extensions, codes of no region
(+800), or a prefix that is rewritten and not just taken off. Prefixes and numbering plans are the library's own
metadata; where they are patterns they run over the whole batch (Arrow's regular expressions, which take the first
alternative that fits, as Python's do). `psi.normalise` hands the rest to the library, one by one; a test compares both
over every region.

The steps have the library's names: an international prefix, the country code, the default region's own country code
without a "+", the national prefix, the possible lengths.
"""

from __future__ import annotations

import itertools
import re
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

WIDTH = 20  # digits of the longest value read here: a country code's 3 and the 17 that the library reads behind it
_DIGIT, _SEPARATOR, _PLUS, _EDGE, _BAD = range(5)
_CLASS = np.full(256, _BAD, dtype=np.uint8)
_CLASS[ord("0") : ord("9") + 1] = _DIGIT
_CLASS[[ord(char) for char in " -.()/[]"]] = _SEPARATOR  # between digits the library skips them
_CLASS[ord("+")] = _PLUS
_CLASS[[ord(char) for char in "\t\n\r'\""]] = _EDGE  # skipped around a number only
_LONGEST_VALUE = 250  # characters of a longer one the library does not read


@dataclass(frozen=True)
class _Plan:
    """One region's numbering plan. `prefix` and `dialled` (the international prefix) are patterns, "" for none;
    `rewrites`: the national prefix may be replaced by other digits. Lengths are masks: `possible` from anywhere,
    `local` in a town only, `final` those that count in the end: `possible` of the country code's main region.
    """

    code: str
    prefix: str
    rewrites: bool
    pattern: str
    dialled: str
    possible: Mask
    local: Mask
    longest: int
    final: Mask


def read(values: pa.Array, region: str | None) -> tuple[pa.Array, Mask, Mask]:
    """For texts without nulls: E.164 forms, "" for none; which were read here, to a form or to none; which have one."""
    count = len(values)
    digits, lengths, plus, fine = _digits(values)
    out, out_lengths = np.zeros((count, WIDTH), dtype=np.uint8), np.zeros(count, dtype=np.int64)
    found = np.zeros(count, dtype=np.bool_)
    plan = _region_plan(region) if region is not None else None
    if region is not None and plan is None:
        fine &= plus
    home = np.flatnonzero(~plus & fine)
    if plan is not None and len(home):
        ours, size = digits[home], lengths[home]
        by, _ = _front(ours, size, plan.dialled)
        fine[home[(by > 0) & (by >= size)]] = False  # nothing behind it: rare, and the library's own affair
        dialled = np.flatnonzero((by > 0) & (by < size))
        digits[home[dialled]], lengths[home[dialled]] = _cut(ours[dialled], size[dialled], by[dialled])
        plus[home[dialled]] = True
        home = home[by == 0]
    _read_abroad(digits, lengths, np.flatnonzero(plus & fine), fine, (out, out_lengths, found))
    if plan is not None:
        _read_at_home(digits, lengths, home, plan, fine, (out, out_lengths, found))
    found &= fine
    return _texts(out, np.where(found, out_lengths, 0)), fine, found


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
    fine = (lengths >= 3) & (lengths <= WIDTH) & (np.diff(offsets) <= _LONGEST_VALUE)
    at = np.flatnonzero(kinds >= _PLUS)
    row = np.searchsorted(offsets, at, side="right") - 1
    before = counted[at] - starts[row]  # digits in front of it
    is_plus, is_edge = kinds[at] == _PLUS, kinds[at] == _EDGE
    plus_at = np.full(count, len(data), dtype=np.int64)
    plus_at[row[is_plus]] = at[is_plus]
    proper = is_plus & (before == 0) & (plus_at[row] == at)  # of two, only the last would be
    proper |= is_edge & ((before == lengths[row]) | (before == 0) & (at < plus_at[row]))
    fine[row[~proper]] = False
    padded = np.zeros(int(counted[-1]) + WIDTH, dtype=np.uint8)
    np.subtract(data[is_digit], ord("0"), out=padded[:-WIDTH])
    matrix = np.lib.stride_tricks.sliding_window_view(padded, WIDTH)[starts]
    return matrix, lengths, plus_at < len(data), fine


def _texts(digits: Digits, lengths: Lengths) -> pa.Array:
    """ "+" and the digits of each row; an empty text where there are none."""
    whole = np.empty((len(digits), WIDTH + 1), dtype=np.uint8)
    whole[:, 0] = ord("+")
    whole[:, 1:] = digits + np.uint8(ord("0"))
    sizes = np.where(lengths > 0, lengths + 1, 0)
    offsets = np.zeros(len(digits) + 1, dtype=np.int32)
    np.cumsum(sizes, out=offsets[1:])
    if len(sizes) and (sizes == sizes[0]).all():
        content = whole[:, : sizes[0]].reshape(-1)
    else:
        content = whole[np.arange(WIDTH + 1) < sizes[:, None]]
    return pa.Array.from_buffers(pa.string(), len(digits), [None, pa.py_buffer(offsets), pa.py_buffer(content)])


def _cut(digits: Digits, lengths: Lengths, by: Lengths) -> tuple[Digits, Lengths]:
    """Each row without its first `by` digits."""
    out = digits.copy()
    for size in _present(by):
        rows = np.flatnonzero(by == size) if (by != size).any() else slice(None)
        out[rows, : WIDTH - size] = digits[rows, size:]
    return out, lengths - by


def _present(numbers: Lengths) -> list[int]:
    """Which positive numbers occur, ascending."""
    return [number for number in np.flatnonzero(np.bincount(numbers)).tolist() if number > 0]


def _starts(digits: Digits, lengths: Lengths, prefix: str) -> Mask:
    wanted = np.array([int(char) for char in prefix], dtype=np.uint8)
    found: Mask = (digits[:, : len(wanted)] == wanted).all(axis=1) & (lengths >= len(wanted))
    return found


def _front(digits: Digits, lengths: Lengths, pattern: str) -> tuple[Lengths, Mask]:
    """How many digits in front the pattern takes, 0 where it does not fit, and whether its last group took some."""
    none = np.zeros(len(digits), dtype=np.bool_)
    if not pattern or not len(digits):
        return np.zeros(len(digits), dtype=np.int64), none
    plain = pattern.split("|")
    if all(part.isdigit() for part in plain):
        taken = np.zeros(len(digits), dtype=np.int64)
        for part in reversed(plain):  # the first that fits is the one
            taken[_starts(digits, lengths, part)] = len(part)
        return taken, none
    named, groups = _named(pattern)
    parts = pc.extract_regex(_texts(digits, lengths), rf"^\+(?P<whole>{named})")
    sizes = [
        np.asarray(pc.fill_null(pc.binary_length(part), 0).to_numpy(zero_copy_only=False), dtype=np.int64)
        for part in (parts.field(0), parts.field(groups))
    ]
    fits = np.asarray(parts.is_valid().to_numpy(zero_copy_only=False))
    return np.where(fits, sizes[0], 0), fits & (sizes[1] > 0) if groups else none


@cache
def _named(pattern: str) -> tuple[str, int]:
    """The pattern with names for its groups, as Arrow wants them, and how many there are."""
    groups = itertools.count(1)
    named = re.sub(r"\((?!\?)", lambda _: f"(?P<g{next(groups)}>", pattern)
    return named, next(groups) - 1


# --- numbering plans ------------------------------------------------------------------------------------------------


@cache
def _region_plan(region: str) -> _Plan | None:
    """The plan of a default region."""
    import phonenumbers

    plan = _plan(phonenumbers.PhoneMetadata.metadata_for_region(region, None))
    main = _code_plan(int(plan.code)) if plan is not None else None
    return replace(plan, final=main.possible) if plan is not None and main is not None else None


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
    possible, local = np.zeros(WIDTH + 1, dtype=np.bool_), np.zeros(WIDTH + 1, dtype=np.bool_)
    possible[[length for length in general.possible_length if 0 < length <= WIDTH]] = True
    local[[length for length in general.possible_length_local_only if 0 < length <= WIDTH]] = True
    return _Plan(
        str(getattr(metadata, "country_code", 0)),
        getattr(metadata, "national_prefix_for_parsing", None) or "",
        bool(getattr(metadata, "national_prefix_transform_rule", None)),
        general.national_number_pattern,
        getattr(metadata, "international_prefix", None) or "",
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
    """Numbers with a country code: find it, then the national prefix. One that starts with 0 is the library's affair:
    behind an international prefix it is read as if that were none."""
    first = digits[rows, :3].astype(np.int64) @ np.array([100, 10, 1])
    codes = _codes()[first].astype(np.int64)
    fine[rows[(codes == 0) | (lengths[rows] <= 4)]] = False
    for code in _present(codes):
        some = rows[(codes == code) & fine[rows]]
        plan = _code_plan(code)
        if plan is None:
            fine[some] = False
            continue
        behind = np.full(len(some), len(str(code)))
        _read_national(*_cut(digits[some], lengths[some], behind), some, plan, fine, out)


def _read_at_home(
    digits: Digits, lengths: Lengths, rows: npt.NDArray[np.int64], plan: _Plan, fine: Mask, out: _Out
) -> None:
    """Numbers as they are dialled in the default region; its country code may stand in front without a "+"."""
    ours, size = digits[rows], lengths[rows]
    moved = np.zeros(len(rows), dtype=np.bool_)
    coded = np.flatnonzero(_starts(ours, size, plan.code))
    if len(coded):
        rest, rest_size = _cut(ours[coded], size[coded], np.full(len(coded), len(plan.code)))
        fine[rows[coded[rest_size < 1]]] = False
        rest, rest_size, told = _without_prefix(rest, rest_size, plan)
        fine[rows[coded[~told]]] = False
        better = ~_matches(ours[coded], size[coded], plan) & _matches(rest, rest_size, plan)
        better |= (size[coded] > plan.longest) & ~plan.local[size[coded]]
        moved[coded[better]] = True
        ours[coded[better]], size[coded[better]] = rest[better], rest_size[better]
    main = _code_plan(int(plan.code)) or plan  # with a country code the library goes on with the main region's plan
    _read_national(ours[~moved], size[~moved], rows[~moved], plan, fine, out)
    _read_national(ours[moved], size[moved], rows[moved], main, fine, out)


def _read_national(
    digits: Digits, lengths: Lengths, rows: npt.NDArray[np.int64], plan: _Plan, fine: Mask, out: _Out
) -> None:
    """Take the national prefix off where that leaves a number, and check the length."""
    fine[rows[(lengths < 2)]] = False
    short, short_lengths, told = _without_prefix(digits, lengths, plan)
    fine[rows[~told]] = False
    if short is not digits:
        clipped = np.clip(short_lengths, 0, WIDTH)
        taken = plan.possible[clipped] | (short_lengths > plan.longest) & ~plan.local[clipped]
        digits, lengths = np.where(taken[:, None], short, digits), np.where(taken, short_lengths, lengths)
    fine[rows[lengths < 2]] = False
    good = plan.final[np.clip(lengths, 0, WIDTH)]
    target, target_lengths, found = out
    found[rows] = good
    code = np.array([int(char) for char in plan.code], dtype=np.uint8)
    target[rows[good], : len(code)] = code
    target[rows[good], len(code) :] = digits[good, : WIDTH - len(code)]
    target_lengths[rows[good]] = lengths[good] + len(code)


def _without_prefix(digits: Digits, lengths: Lengths, plan: _Plan) -> tuple[Digits, Lengths, Mask]:
    """The number behind the national prefix, unless it was viable before and is not after; and for which rows that is
    all there is to it: a prefix that is rewritten is not told here."""
    by, grouped = _front(digits, lengths, plan.prefix)
    told = ~grouped if plan.rewrites else np.ones(len(digits), dtype=np.bool_)
    rows = np.flatnonzero(by)
    if not len(rows):
        return digits, lengths, told
    rest, rest_lengths = _cut(digits[rows], lengths[rows], by[rows])
    keeps = _matches(digits[rows], lengths[rows], plan)
    keeps[keeps] = ~_matches(rest[keeps], rest_lengths[keeps], plan)
    out, out_lengths = digits.copy(), lengths.copy()
    out[rows[~keeps]], out_lengths[rows[~keeps]] = rest[~keeps], rest_lengths[~keeps]
    return out, out_lengths, told


def _matches(digits: Digits, lengths: Lengths, plan: _Plan) -> Mask:
    """Whether the plan's pattern of national numbers fits the whole number."""
    if not len(digits):
        return np.empty(0, dtype=np.bool_)
    texts = _texts(digits, np.maximum(lengths, 0))
    found = pc.match_substring_regex(texts, rf"^\+(?:{plan.pattern})$")
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.bool_)
