"""Garbled signs against Python integers and a plain twin, their costs, what each side sees, and peers that cheat."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.blockhash import hash_blocks
from kernels.prg import Prg
from mpc import garbled
from mpc.cost import Meter
from mpc.garbled import Asked, Evaluator, Garbled, Garbler, Outcomes, circuit, fresh_offset, truncate_and_test
from mpc.ot import Correction
from party.errors import InternalError, PeerError, PolicyRefused
from party.message import encode
from tests.kernels.test_blockhash import plain_hash
from tests.mpc.ot_support import Half, both, halves, opened, split
from tests.support import run_pair

WHAT = "a test: signs"
NOISE = Prg(bytes(32), "tests")
NONE = np.empty(0, dtype=np.uint64)
Numbers = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def pair() -> Any:
    with halves([(WHAT, "bank"), (WHAT, "telco")]) as made:
        yield made


def singles(count: int) -> tuple[slice, ...]:
    return tuple(slice(place, place + 1) for place in range(count))


def outcomes(pair: tuple[Half, Half], shares: tuple[Numbers, Numbers], bits: int, groups: Any = None) -> list[int]:
    """Both sides' outcomes, which are the same."""
    groups = groups or singles(len(shares[0]))
    asked = [Asked(share, bits, groups) for share in shares]
    got = both(*pair, lambda half: truncate_and_test(half, NONE, 1, asked[half.index], WHAT))
    assert np.array_equal(got[0][1], got[1][1]) and got[0][1].dtype == np.uint8
    return got[0][1].tolist()


@pytest.mark.parametrize("bits", range(2, 7))
def test_all_small_values_under_all_low_shares_have_their_sign(pair: tuple[Half, Half], bits: int) -> None:
    table = [(v, a) for v in range(-(2 ** (bits - 1)), 2 ** (bits - 1)) for a in range(2**bits)]
    left = np.array([a for _, a in table], dtype=np.uint64)
    right = np.array([(v - a) % 2**64 for v, a in table], dtype=np.uint64)
    expected = [int(v < 0) for v, _ in table]
    assert outcomes(pair, (left, right), bits) == expected
    assert outcomes(pair, (right, left), bits) == expected  # the roles exchanged


@pytest.mark.parametrize("bits", [2, 5, 32, 62, 63, 64])
def test_signs_at_the_edges_of_a_width_and_of_the_shares(pair: tuple[Half, Half], bits: int) -> None:
    edge = 2 ** (bits - 1)
    values = sorted({v for v in (-edge, -edge + 1, -2, -1, 0, 1, edge - 2, edge - 1) if -edge <= v < edge})
    firsts = [0, 1, edge - 1, edge, edge + 1, 2 * edge - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**45 + 99]
    table = [(v, a % 2**64) for v in values for a in firsts]
    left = np.array([a for _, a in table], dtype=np.uint64)
    right = np.array([(v - a) % 2**64 for v, a in table], dtype=np.uint64)
    for shares in ((left, right), (right, left)):
        assert outcomes(pair, shares, bits) == [int(v < 0) for v, _ in table]


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(st.integers(-(2**61), 2**61 - 1), min_size=1, max_size=40),
    cuts=st.sets(st.integers(1, 39)),
    seed=st.integers(0, 2**32),
    shift=st.integers(1, 62),
)
def test_any_groups_of_62_bit_values_beside_any_truncation(
    pair: tuple[Half, Half], values: list[int], cuts: set[int], seed: int, shift: int
) -> None:
    edges = [0, *sorted(cut for cut in cuts if cut < len(values)), len(values)]
    groups = tuple(slice(*edge) for edge in itertools.pairwise(edges))
    rng = np.random.default_rng(seed)
    shares, words = split(values, rng), split(np.array(values[: 3 * (len(values) // 3)]).reshape(3, -1) * 2, rng)
    asked = [Asked(share, 62, groups) for share in shares]
    got = both(*pair, lambda half: truncate_and_test(half, words[half.index], shift, asked[half.index], WHAT))
    assert got[0][1].tolist() == got[1][1].tolist() == [int(any(v < 0 for v in values[g])) for g in groups]
    cut = opened((got[0][0], got[1][0]))
    assert cut.shape == words[0].shape
    for value, result in zip(opened(words).reshape(-1).tolist(), cut.reshape(-1).tolist(), strict=True):
        assert result in (value >> shift, -(-value >> shift))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9])
def test_one_negative_value_anywhere_is_enough_for_its_group(pair: tuple[Half, Half], size: int) -> None:
    groups = tuple(slice(size * k, size * (k + 1)) for k in range(size + 1))
    values = np.ones((size + 1, size), dtype=np.int64)
    values[np.arange(size), np.arange(size)] = -1  # the last group has none
    shares = split(values.reshape(-1), np.random.default_rng(size))
    assert outcomes(pair, shares, 12, groups) == [1] * size + [0]


def test_more_words_and_transfers_than_one_message_takes(pair: tuple[Half, Half], monkeypatch: Any) -> None:
    monkeypatch.setattr(garbled.ot, "WORDS", 1000)
    values = np.random.default_rng(3).integers(-(2**50), 2**50, 1100)  # 70,400 transfers: two corrections
    shares = split(values, np.random.default_rng(4))
    groups = (slice(0, 1), slice(1, 2), slice(2, 1100))
    assert outcomes(pair, shares, 64, groups) == [int(values[0] < 0), int(values[1] < 0), 1]


# --- the circuit, and its plain twins ----------------------------------------------------------------------------


class Plain:
    """The gates on bits in the clear: what the garbled ones compute."""

    def __init__(self, known: Numbers) -> None:
        self.known, self.gates = known, 0

    def both(self, x: Numbers, y: Numbers) -> Numbers:
        self.gates += len(x)
        return x & y

    def flip(self, x: Numbers, place: int) -> Numbers:
        return x ^ self.known[place]

    def opposite(self, x: Numbers) -> Numbers:
        return x ^ 1


GROUPS = (slice(0, 5), slice(5, 6), slice(6, 60))


def prepared(seed: int, bits: int = 9) -> tuple[Asked, Asked, list[int]]:
    """Shares of 60 small values, and whether each group has a negative one."""
    values = np.random.default_rng(seed).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), 60)
    values[6:] = np.abs(values[6:]) // 2
    left, right = split(values, np.random.default_rng(seed + 1))
    expected = [int((values[group] < 0).any()) for group in GROUPS]
    return Asked(left, bits, GROUPS), Asked(right, bits, GROUPS), expected


def garbled_locally(ours: Asked, theirs: Asked, seed: int) -> tuple[Garbler, Numbers, Numbers]:
    """What the transfers leave behind, without them: the garbler, all false labels, and the evaluator's."""
    known, bits = ours.ours(), theirs.ours()
    gates = Garbler(known, fresh_offset(NOISE))
    false = np.random.default_rng(seed).integers(0, 2**64, (*known.shape, 2), dtype=np.uint64)
    carried = bits.copy()
    carried[0] &= known[0]
    return gates, false, false ^ (carried[..., None].astype(np.uint64) * gates.offset)


@pytest.mark.parametrize("bits", [2, 3, 9, 64])
def test_the_circuit_on_plain_bits_is_the_sign(bits: int) -> None:
    for seed in range(5):
        ours, theirs, expected = prepared(seed, bits)
        gates = Plain(ours.ours())
        inputs = theirs.ours()
        inputs[0] &= ours.ours()[0]  # what the first transfer gives
        assert circuit(gates, inputs, GROUPS).tolist() == expected  # type: ignore[arg-type]
        assert gates.gates == ours.gates == (bits - 1) * 60 - 3


def test_an_and_is_two_half_gates_as_published() -> None:
    """One gate at a time, on Python integers: Zahur, Rosulek, Evans, figure 2; and all four inputs of a gate."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 2**64, (2, 32, 2), dtype=np.uint64)
    gates = Garbler(np.zeros((1, 32), dtype=np.uint8), fresh_offset(NOISE))
    first, second = gates.both(y, x), gates.both(x, y)
    delta = number(gates.offset)
    for place in range(32):
        a, b, false, rows = number(x[place]), number(y[place]), number(second[place]), gates.tables[1]
        j, k = 64 + place, 96 + place  # the first AND used 64 tweaks
        generator = h(a, j) ^ h(a ^ delta, j) ^ (delta if b & 1 else 0)
        evaluator = h(b, k) ^ h(b ^ delta, k) ^ a
        label = h(a, j) ^ (generator if a & 1 else 0) ^ h(b, k) ^ (evaluator ^ a if b & 1 else 0)
        assert (number(rows[place]), number(rows[32 + place]), false) == (generator, evaluator, label)
    bits = np.array([*itertools.product((0, 1), repeat=2)] * 8, dtype=np.uint64)
    left, right = x ^ (bits[:, :1] * gates.offset), y ^ (bits[:, 1:] * gates.offset)
    there = Evaluator(np.concatenate(gates.tables))
    both_bits = (bits[:, :1] & bits[:, 1:]) * gates.offset
    assert np.array_equal(there.both(right, left), first ^ both_bits)
    assert np.array_equal(there.both(left, right), second ^ both_bits)


def number(block: Numbers) -> int:
    return int.from_bytes(block.tobytes(), "little")


def h(label: int, tweak: int) -> int:
    return int.from_bytes(plain_hash(label.to_bytes(16, "little"), tweak), "little")


def test_the_evaluator_ends_with_the_label_of_each_outcome() -> None:
    for seed in range(8):
        ours, theirs, expected = prepared(seed)
        gates, false, there = garbled_locally(ours, theirs, seed)
        ends = circuit(gates, false, GROUPS)
        got = circuit(Evaluator(np.concatenate(gates.tables)), there, GROUPS)
        assert np.array_equal(got, ends ^ (np.array(expected, dtype=np.uint64)[:, None] * gates.offset))


# --- what each side sees -----------------------------------------------------------------------------------------


class Watching(Evaluator):
    """An evaluator that keeps every label it meets."""

    def __init__(self, tables: Numbers) -> None:
        super().__init__(tables)
        self.seen: list[Numbers] = []

    def both(self, x: Numbers, y: Numbers) -> Numbers:
        self.seen += [x, y, super().both(x, y)]
        return self.seen[-1]


def test_no_two_blocks_that_the_evaluator_has_are_the_offset_apart() -> None:
    ours, theirs, _ = prepared(3)
    gates, false, there = garbled_locally(ours, theirs, 3)
    circuit(gates, false, GROUPS)
    watching = Watching(np.concatenate(gates.tables))
    circuit(watching, there, GROUPS)
    blocks = np.concatenate([*watching.seen, *gates.tables, there.reshape(-1, 2)])
    have = {block.tobytes() for block in blocks}
    assert len(have) > 2 * ours.gates
    assert not have & {(block ^ gates.offset).tobytes() for block in blocks}


def test_the_same_keys_bits_and_offset_give_the_same_circuit() -> None:
    ours, theirs, _ = prepared(5)
    tables = []
    for _ in range(2):
        gates, false, _ = garbled_locally(ours, theirs, 5)
        gates.offset = fresh_offset(Prg(b"a seed of sixteen", "tests"))
        circuit(gates, false, GROUPS)
        tables.append(np.concatenate(gates.tables))
    assert np.array_equal(*tables)


def test_another_offset_under_the_same_keys_would_show_both() -> None:
    """Why offsets must repeat where keys do: of a wire that is 1 both times, the evaluator has two labels."""
    ours, theirs, _ = prepared(6)
    runs = [garbled_locally(ours, theirs, 7) for _ in range(2)]
    for gates, false, _ in runs:
        circuit(gates, false, GROUPS)
    hashed = [hash_blocks(np.ascontiguousarray(there[2]), 2 * 60) for _, _, there in runs]  # at the second AND
    found = runs[0][0].tables[1][:60] ^ runs[1][0].tables[1][:60] ^ hashed[0] ^ hashed[1]
    secrets = {gates.offset.tobytes() for gates, _, _ in runs}
    assert secrets & {block.tobytes() for block in found}


def test_colours_of_inner_wires_say_nothing_of_their_bits() -> None:
    """A guess of each wire's bit by the colour of its label is right as often as a coin is."""
    count, groups = 3000, singles(3000)
    shares = split(np.full(count, -1), np.random.default_rng(1))
    ours, theirs = (Asked(share, 8, groups) for share in shares)
    gates, false, there = garbled_locally(ours, theirs, 2)
    circuit(gates, false, groups)
    watching = Watching(np.concatenate(gates.tables))
    circuit(watching, there, groups)
    carry = theirs.ours()[0] & ours.ours()[0]
    for place in range(1, 7):
        a, b = ours.ours()[place], theirs.ours()[place]
        carry = carry ^ ((a ^ carry) & (b ^ carry))
        colour = (watching.seen[3 * place - 1][:, 0] & np.uint64(1)).astype(np.uint8)
        assert abs((colour == carry).mean() - 0.5) < 0.05  # sd 0.009
        assert abs((colour == a).mean() - 0.5) < 0.05


def heard(pair: tuple[Half, Half], action: Callable[[Half], Any]) -> list[Any]:
    """The messages of both sides while both do this."""
    kept: list[Any] = []
    receive = [half.channel.recv for half in pair]

    def watch(half: Half) -> Callable[..., Any]:
        def recv(kind: type, *rest: Any) -> Any:
            kept.append(receive[half.index](kind, *rest))
            return kept[-1]

        return recv

    try:
        for half in pair:
            half.channel.recv = watch(half)  # type: ignore[method-assign]
        both(*pair, action)
    finally:
        for half in pair:
            del half.channel.recv  # type: ignore[attr-defined]
    return kept


def test_a_circuit_is_garbled_afresh_each_time_and_looks_random(pair: tuple[Half, Half]) -> None:
    shares, words = split(np.full(60, 5), np.random.default_rng(1)), split(np.zeros(9, int), np.random.default_rng(2))
    asked = [Asked(share, 62, (slice(0, 60),)) for share in shares]
    views = []
    for _ in range(2):
        got = heard(pair, lambda half: truncate_and_test(half, words[half.index], 20, asked[half.index], WHAT))
        assert [type(message) for message in got] == [Correction, Garbled, Outcomes]
        views.append(np.concatenate([got[1].words[:-1], got[2].labels.reshape(-1)]))
    assert not set(views[0].tolist()) & set(views[1].tolist())
    for view in views:
        assert len(set(view.tolist())) == len(view) > 20_000
        assert abs(np.unpackbits(view.view(np.uint8)).mean() - 0.5) < 0.005  # sd 0.0004


def test_a_step_that_is_repeated_sends_the_same_bytes_and_another_one_none_of_them(pair: tuple[Half, Half]) -> None:
    """`Ot.begin`: the offset begins anew with the transfers' keys."""
    shares = split(np.arange(-30, 30), np.random.default_rng(1))
    asked = [Asked(share, 62, (slice(0, 60),)) for share in shares]

    def step(half: Half, label: bytes, number: int) -> Any:
        half.ot.begin(label, number)
        return truncate_and_test(half, NONE, 1, asked[half.index], WHAT)

    views = [heard(pair, partial(step, label=label, number=n)) for label, n in ((b"7", 7), (b"7", 7), (b"8", 8))]
    first, again, other = ([encode(message) for message in view] for view in views)
    assert first == again
    words = [view[1].words[:-1].tolist() for view in views]
    assert not set(words[0]) & set(words[2]) and first[0] != other[0] and first[2] != other[2]


def test_what_tells_outcomes_apart_is_even_whatever_they_are(pair: tuple[Half, Half]) -> None:
    for value in (3, -3):
        shares = split(np.full(2000, value), np.random.default_rng(4))
        asked = [Asked(share, 5, singles(2000)) for share in shares]
        got = heard(pair, lambda half: truncate_and_test(half, NONE, 1, asked[half.index], WHAT))
        colours = np.unpackbits(got[1].words[-32:].view(np.uint8), count=2000, bitorder="little")
        assert abs(colours.mean() - 0.5) < 0.06  # sd 0.011
        assert abs((got[2].labels[:, 0] & np.uint64(1)).mean() - 0.5) < 0.06


# --- cost and order ----------------------------------------------------------------------------------------------


def measured(half: Half, words: tuple[Numbers, Numbers], asked: list[Asked]) -> Any:
    return half.counted(lambda: truncate_and_test(half, words[half.index], 20, asked[half.index], WHAT))


@pytest.mark.parametrize(("n", "bits", "sizes"), [(0, 2, [1]), (12, 64, [1, 1, 24]), (5, 33, [3] * 70)])
def test_declared_bytes_messages_and_waits_whatever_the_values(
    pair: tuple[Half, Half], n: int, bits: int, sizes: list[int]
) -> None:
    edges = np.cumsum([0, *sizes]).tolist()
    groups = tuple(slice(*edge) for edge in itertools.pairwise(edges))
    seen = set()
    for value in (0, -1, 2 ** (bits - 2)):
        shares, words = (split(np.full(k, value % 2**60), np.random.default_rng(k)) for k in (edges[-1], n))
        asked = [Asked(share, bits, groups) for share in shares]
        got = both(*pair, partial(measured, words=words, asked=asked))
        seen.add((got[0][1], got[1][1]))
    ((left, right),) = seen
    meter = Meter()
    meter.truncate_and_test(n, bits, sizes)
    assert [left[0], right[0]] == meter.sent
    assert [left[3], right[3]] == meter.waits
    assert (left[1], right[1]) == (1, 2)  # one message more than a truncation alone
    m, g = edges[-1], len(sizes)
    assert meter.transfers == n + m * bits
    frames = 24 + 4
    assert meter.sent[0] == frames + 8 * n + 16 * m * bits + 32 * ((bits - 1) * m - g) + 8 * -(-g // 64)
    assert meter.sent[1] == 2 * frames + 32 * -(-(n + m * bits) // 8) + 16 * g


def test_both_sides_write_down_what_they_open_before_they_send(pair: tuple[Half, Half]) -> None:
    for half in pair:
        half.ledger.events.clear()
    marks: list[int] = []

    def watch(half: Half) -> Callable[..., None]:
        append, before = half.ledger.append, half.channel.counters.messages_sent

        def written(event: str, /, **fields: str | int) -> None:
            marks.append(half.channel.counters.messages_sent - before)
            append(event, **fields)

        return written

    try:
        for half in pair:
            half.ledger.append = watch(half)  # type: ignore[method-assign]
        outcomes(pair, split([1, -1, 1, 1], np.random.default_rng(1)), 8, (slice(0, 2), slice(2, 4)))
    finally:
        for half in pair:
            del half.ledger.append  # type: ignore[attr-defined]
    assert marks == [0, 0]
    for half, to in zip(pair, ("telco", "bank"), strict=True):
        assert half.ledger.events == [("disclosure", {"run": "test-run", "what": WHAT, "to": to, "rows": 2})]


@pytest.mark.parametrize("index", [0, 1])
def test_what_the_agreement_does_not_open_is_refused_before_anything_is_sent(index: int) -> None:
    with halves([(WHAT, "bank")] if index == 0 else [(WHAT, "telco")]) as made:
        half = made[index]
        before = half.channel.counters.messages_sent
        with pytest.raises(PolicyRefused, match=WHAT):
            truncate_and_test(half, NONE, 1, Asked(np.zeros(2, np.uint64), 8, singles(2)), WHAT)
        assert half.channel.counters.messages_sent == before and not half.ledger.events


# --- peers that break the rules, and wrong inputs of our own -----------------------------------------------------

FOUR = Asked(np.arange(4, dtype=np.uint64), 6, (slice(0, 4),))


@pytest.mark.parametrize("words", [0, 143, 145])
def test_a_garbled_circuit_of_a_wrong_number_of_words_is_refused(words: int) -> None:
    assert 2 * 4 * 6 + 4 * FOUR.gates + 1 == 125  # what is expected
    with halves([(WHAT, "bank"), (WHAT, "telco")]) as (left, right):

        def cheat() -> None:
            left.ot.offer(24, 2)
            left.channel.send(Garbled(np.zeros(words, dtype=np.uint64)))

        with pytest.raises(PeerError, match="wrong number of words"):
            run_pair(cheat, lambda: truncate_and_test(right, NONE, 1, FOUR, WHAT), left.channel, right.channel)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((0, 2), np.uint64), "wrong number of outcomes"),
        (np.zeros((2, 2), np.uint64), "wrong number of outcomes"),
        (np.zeros((1, 2), np.uint64), "none of its labels"),
        (None, "none of its labels"),
    ],
)
def test_an_answer_that_is_no_label_is_refused(labels: Numbers | None, message: str) -> None:
    with halves([(WHAT, "bank"), (WHAT, "telco")]) as (left, right):
        send = right.channel.send

        def other(sent: Any) -> None:
            if isinstance(sent, Outcomes):  # None: the right label with its lowest bit, the outcome, the other way
                sent = Outcomes(sent.labels ^ np.array([[1, 0]], np.uint64) if labels is None else labels)
            send(sent)

        right.channel.send = other  # type: ignore[method-assign]
        with pytest.raises(PeerError, match=message):
            both(left, right, lambda half: truncate_and_test(half, NONE, 1, FOUR, WHAT))


def test_a_correction_for_another_number_of_values_is_refused() -> None:
    with halves([(WHAT, "bank"), (WHAT, "telco")]) as (left, right):
        with pytest.raises(PeerError, match="wrong number of transfers"):
            run_pair(
                lambda: truncate_and_test(left, NONE, 1, FOUR, WHAT),
                lambda: right.ot.choose(np.zeros(16, np.uint8), 2),
                left.channel,
                right.channel,
            )


VALUES = np.arange(4, dtype=np.uint64)


@pytest.mark.parametrize(
    "asked",
    [
        Asked(VALUES.view(np.int64), 6, singles(4)),
        Asked(VALUES.reshape(2, 2), 6, singles(4)),
        Asked(VALUES, 1, singles(4)),
        Asked(VALUES, 65, singles(4)),
        Asked(VALUES, 6, ()),
        Asked(VALUES, 6, singles(3)),
        Asked(VALUES, 6, singles(5)),
        Asked(VALUES, 6, (slice(0, 2), slice(3, 4))),
        Asked(VALUES, 6, (slice(0, 3), slice(2, 4))),
        Asked(VALUES, 6, (slice(0, 2), slice(2, 2), slice(2, 4))),
        Asked(VALUES, 6, (slice(0, 4, 2),)),
        Asked(VALUES, 6, (slice(None, 4),)),
        Asked(NONE, 6, ()),
    ],
)
def test_questions_of_another_form_are_refused(pair: tuple[Half, Half], asked: Asked) -> None:
    with pytest.raises(InternalError):
        truncate_and_test(pair[0], NONE, 1, asked, WHAT)


@pytest.mark.parametrize("shift", [0, 63, -1])
def test_shifts_out_of_range_are_refused(shift: int) -> None:
    with halves([(WHAT, "bank"), (WHAT, "telco")]) as made:
        for half in made:
            with pytest.raises(InternalError):
                truncate_and_test(half, VALUES, shift, FOUR, WHAT)
            assert not half.ledger.events  # nor anything written down
