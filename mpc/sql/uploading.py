"""Who uploads what, and how sums over 64 bits are cut: whatever moves the fewest bytes. The same on both sides.

A sum over 64 bits has up to three forms: digits of both factors modulo 2^64, or, modulo 2^104, one owner's columns
whole against digits of the other's. The first takes 18.75 B a row for each column or digit that is uploaded and
81,930 B an answer, the others 25 B and 122,895 B.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from mpc.counts import lane_of
from mpc.lattice import HIDING_BITS, NARROW, WIDE, WORD, hiding_bits
from mpc.lattice_long import LONG, LONG_BITS
from mpc.linear import limb_count
from mpc.ring import LIMB_BITS
from mpc.sql.products import BLOCK, Builder, check_held, groups_of, more_than_one, searched
from mpc.sql.types import Call, GroupKey
from party.errors import InternalError, UsageError

__all__ = ["answers_of", "bytes_of", "cheapest", "pairs_of", "settled", "still_due", "transferred"]

_SETS = {64: (NARROW, WORD), LONG_BITS: (WIDE, LONG)}
_UPLOAD_BYTES = {64: 153_616, LONG_BITS: 204_816}  # one block of 8192 values, seeded and packed
_ANSWER_BYTES = {64: 81_930, LONG_BITS: 122_895}  # one inner product
_SERVED = 4  # statements that an upload which recurs is taken to serve
_ALONE = 8  # so many sums over 64 bits are also tried one by one; more are cut alike, where they can be

Pairs = Iterable[tuple[int, int]]


def settled(builder: Builder) -> tuple[Builder, tuple[Call, ...]]:
    """The builder with every sum cut, and the lattice products.

    Of the forms the one of the fewest bytes, of equal ones the first in the order modulo 2^64, the first party uploads,
    the second. Raises UsageError where the products would leave too little hiding, or take too much memory.
    """
    forms = {number: builder.forms(number) for number in builder.pending}
    tried: list[dict[int, int | None]] = []
    for wish in (None, 0, 1) if forms else (None,):
        choice = {number: wish if wish in some else some[0] for number, some in forms.items()}
        tried += [choice] if choice not in tried else []
    costs = [_cost(builder.cut_as(choice)) for choice in tried]
    cost, choice = min(zip(costs, tried, strict=True), key=lambda pair: pair[0])
    for number, some in forms.items() if 1 < len(forms) <= _ALONE else ():
        for form in some:
            other = {**choice, number: form}
            if other != choice and (less := _cost(builder.cut_as(other))) < cost:
                cost, choice = less, other
    made = builder.cut_as(choice)
    _, calls = _cheapest(made)
    _check_hiding(made, calls)
    check_held(calls, (groups_of(made.keys, 0), groups_of(made.keys, 1)), made.rows)
    return made, calls


def cheapest(
    builder: Builder, bits: int, again: Collection[tuple[int, int]]
) -> tuple[tuple[Call, ...], tuple[Call, ...]]:
    """Products of bits whose counts take so many bits: the lattice's and those of transfers, each block by what
    moves less, with the owner who uploads, or chooses, for the least in all. again: products of features that
    occur in later plans, too, so that an upload of these is taken for a quarter."""
    if builder.pending:
        raise InternalError("counts of bits are no sums over 64 bits")
    pairs, sizes = (
        _joint(builder, range(len(builder.quantities))),
        (groups_of(builder.keys, 0), groups_of(builder.keys, 1)),
    )
    options = []
    for owner in (0, 1) if pairs else ():
        often = {pair[owner] for pair in again}
        calls = [(call, _again(builder, call, often)) for call in _calls(builder, pairs, owner, 64)]
        counts = [transferred(replace(call, bits=bits), sizes, builder.rows) for call, _ in calls]
        known = sum(min(moved, count) for (_, moved), count in zip(calls, counts, strict=True))
        options.append(
            (known, owner, [(call, count < moved) for (call, moved), count in zip(calls, counts, strict=True)])
        )
    chosen = min(options, key=lambda option: option[:2])[2] if options else []
    lattice = tuple(call for call, by_transfers in chosen if not by_transfers)
    _check_hiding(builder, lattice)
    check_held(tuple(call for call, _ in chosen), sizes, builder.rows)
    return lattice, tuple(replace(call, bits=bits) for call, by_transfers in chosen if by_transfers)


def _again(builder: Builder, call: Call, often: Collection[int]) -> int:
    """Predicted bytes of a call where some columns' uploads serve later ones, too."""
    answers = answers_of([call], builder.keys) * _ANSWER_BYTES[call.modulus]
    uploads = bytes_of([call], builder.keys, builder.rows) - answers
    once = sum(1 if number not in often else 1 / _SERVED for number in call.uploaded) / len(call.uploaded)
    return int(uploads * once) + answers


def bytes_of(calls: Sequence[Call], keys: tuple[GroupKey, ...], rows: int) -> int:
    """Predicted bytes of these products, both directions, keys and headers left out."""
    height = -(-rows // BLOCK)
    uploaded = {(call.owner, call.uploaded, call.modulus) for call in calls}
    uploads = sum(len(block) * groups_of(keys, owner) * _UPLOAD_BYTES[modulus] for owner, block, modulus in uploaded)
    return uploads * height + sum(answers_of([call], keys) * _ANSWER_BYTES[call.modulus] for call in calls)


def answers_of(calls: Sequence[Call], keys: tuple[GroupKey, ...]) -> int:
    """How many inner products are answered."""
    pairs = sum(len(call.uploaded) * len(call.rows) * limb_count(call.bits) for call in calls)
    return pairs * groups_of(keys, 0) * groups_of(keys, 1)


def pairs_of(calls: Iterable[Call]) -> list[tuple[int, int]]:
    """The products of calls as features of party 0 and of party 1, each once."""
    found = [(u, r) if call.owner == 0 else (r, u) for call in calls for u in call.uploaded for r in call.rows]
    return list(dict.fromkeys(found))


def still_due(calls: Iterable[Call], known: Collection[tuple[int, int]]) -> list[Call]:
    """What is left of calls when some products are known: blocks without the columns that need none."""
    found = []
    for call in calls:
        missing = {
            (u, r) for u in call.uploaded for r in call.rows if ((u, r) if call.owner == 0 else (r, u)) not in known
        }
        uploaded, rows = ({pair[place] for pair in missing} for place in (0, 1))
        if missing:
            kept = tuple(u for u in call.uploaded if u in uploaded), tuple(r for r in call.rows if r in rows)
            found.append(replace(call, uploaded=kept[0], rows=kept[1]))
    return found


def transferred(call: Call, sizes: tuple[int, int], rows: int) -> int:
    """Bytes of a call by transfers, but for frames (`mpc.counts`)."""
    chosen, offered = len(call.uploaded) * sizes[call.owner], len(call.rows) * sizes[1 - call.owner]
    return chosen * rows * (4 + lane_of(call.bits) * offered)


def _cost(builder: Builder) -> int:
    return _cheapest(builder)[0]


def _cheapest(builder: Builder) -> tuple[int, tuple[Call, ...]]:
    """Bytes and products; of those modulo 2^64 the cheaper owner uploads; equal cost: that of the wider columns."""
    long: tuple[Call, ...] = ()
    for owner in (0, 1):
        numbers = [number for number, uploader in builder.uploaders.items() if uploader == owner]
        long += _calls(builder, _joint(builder, numbers), owner, LONG_BITS)
    pairs = _joint(builder, [number for number, one in enumerate(builder.quantities) if one.modulus == 64])
    options = []
    for owner in (0, 1) if pairs else ():
        calls = _calls(builder, pairs, owner, 64)
        here = {number for call in calls for number in call.uploaded}
        more = sum(number not in here or other != owner for other, number in searched(builder))
        width = max(builder.features[owner][pair[owner]].most for pair in pairs)
        more *= groups_of(builder.keys, owner) * -(-builder.rows // BLOCK) * _UPLOAD_BYTES[64]
        options.append((bytes_of((*calls, *long), builder.keys, builder.rows) + more, -width, owner, calls))
    if not options:
        return bytes_of(long, builder.keys, builder.rows), long
    cost, _, _, calls = min(options, key=lambda option: option[:3])
    return cost, (*calls, *long)


def _joint(builder: Builder, numbers: Iterable[int]) -> list[tuple[int, int]]:
    """The products of these quantities that neither owner knows alone."""
    pairs: set[tuple[int, int]] = set()
    for number in numbers:
        for limb in builder.quantities[number].limbs:
            pairs |= {(a, b) for _, a, b in limb}
    return sorted(pair for pair in pairs if all(more_than_one(builder, owner, pair[owner]) for owner in (0, 1)))


def _calls(builder: Builder, pairs: Pairs, owner: int, modulus: int) -> tuple[Call, ...]:
    partners: dict[int, list[int]] = {}
    for pair in pairs:
        partners.setdefault(pair[owner], []).append(pair[1 - owner])
    blocks: dict[tuple[int, ...], list[int]] = {}
    for uploaded, rows in sorted(partners.items()):
        blocks.setdefault(tuple(rows), []).append(uploaded)
    calls = []
    for others, block in blocks.items():
        classes: dict[int, list[int]] = {}
        for row in others:
            bits = builder.features[1 - owner][row].most.bit_length() + 1
            classes.setdefault(limb_count(bits), []).append(row)
        for _, members in sorted(classes.items()):
            bits = max(builder.features[1 - owner][row].most.bit_length() + 1 for row in members)
            calls.append(Call(owner, tuple(block), tuple(members), bits, modulus))
    return tuple(calls)


def _check_hiding(builder: Builder, calls: tuple[Call, ...]) -> None:
    """Every answer tells the owner a little of the multiplier's column; together they must leave 40 bits."""
    told = 0.0
    for call in calls:
        parameters, t = _SETS[call.modulus]
        answers, bits = answers_of([call], builder.keys), min(call.bits, LIMB_BITS)
        told += 2.0 ** -hiding_bits(parameters, max(builder.rows, 1), bits, answers, t)
    if told > 2.0**-HIDING_BITS:
        raise UsageError(
            f"the products of this statement would leave {-math.log2(told):.0f} bits of hiding,"
            f" {HIDING_BITS:.0f} are required",
            hint="ask for fewer groups or fewer aggregates in one statement",
        )
