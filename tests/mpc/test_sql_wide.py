"""Sums over 64 bits: cut into digits, joined on shares, exact to the last one; or refused before anything runs."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpc import lattice, long
from mpc.sql import Context, plan, uploading
from mpc.sql.cost import Held, steps_of
from mpc.sql.cutting import cut_of, long_cut_of
from mpc.sql.products import Builder
from mpc.sql.uploading import bytes_of
from party.catalogue import Catalogue, Column, Table
from party.errors import UsageError
from tests.mpc.sqlkit import JOIN, Pair, arrow, oracle

TOP = 2**62
BANK = (
    Column("phone", "string"),
    Column("pence", "integer", low=-TOP, high=TOP),
    Column("small", "integer", low=-(2**31), high=2**31),
    Column("grp", "string", domain=("a", "b")),
)
TELCO = (
    Column("msisdn", "string"),
    Column("pence", "integer", low=-TOP, high=TOP),
    Column("bill", "decimal", 2, 18),
    Column("on", "bool"),
)
PLANNED = 1_000_000  # a plan for a million rows, run on fewer: its digits are as narrow as they get


def wide_context(rows: int = PLANNED, min_rows: int = 1) -> Context:
    made = (
        Catalogue("bank", (Table("customers", (("phone",),), BANK, rows),)),
        Catalogue("telco", (Table("subscribers", (("msisdn",),), TELCO, rows),)),
    )
    return Context("q", made, ("bank",), rows, min_rows)


def wide_tables(bank: list[int], telco: list[int]) -> tuple[pa.Table, pa.Table]:
    rows = range(len(bank))
    keys = [f"+{row}" for row in rows]
    first = {"phone": keys, "pence": bank, "small": [v >> 31 for v in bank], "grp": ["ab"[row % 2] for row in rows]}
    bills = pa.array([v >> 5 for v in telco], pa.decimal128(19, 0)).to_pylist()
    second = {
        "msisdn": keys,
        "pence": telco,
        "bill": [v.scaleb(-2) for v in bills],
        "on": [row % 3 != 0 for row in rows],
    }
    return arrow(BANK, first), arrow(TELCO, second)


def ends(rows: int, seed: int) -> list[int]:
    """Random values, and in between the ends of the range."""
    rng = np.random.default_rng(seed)
    values = [int(v) for v in rng.integers(-TOP, TOP, rows, endpoint=True)]
    special = [TOP, -TOP, TOP - 1, 1 - TOP, 0, 1, -1, 2**31, -(2**31), 2**32 - 1]
    return [special[row // 2 % len(special)] if row % 2 else value for row, value in enumerate(values)]


def run(pair: Pair, sql: str, bank: list[int], telco: list[int], context: Context) -> tuple[dict[str, Any], ...]:
    made = plan(f"{sql} {JOIN}" if "FROM" not in sql else sql, context)
    answer = pair.run(made, *wide_tables(bank, telco))[0]
    if answer is None:
        raise AssertionError("no answer")
    return answer.rows


@pytest.fixture(scope="module")
def ideal() -> Pair:
    return Pair.ideal()


@pytest.fixture(params=["cheapest", "modulo 2^64", "telco uploads"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How sums over 64 bits are made: as planned, or as they may be in other statements."""
    forms = Builder.forms
    wanted = {"modulo 2^64": None, "telco uploads": 1}
    if request.param in wanted:
        one = wanted[request.param]
        monkeypatch.setattr(Builder, "forms", lambda self, n: [one] if one in forms(self, n) else forms(self, n))
    return str(request.param)


def test_each_form_is_the_one_it_is_said_to_be(form: str) -> None:
    made = plan(f"SELECT SUM(b.pence * t.pence) AS s {JOIN}", wide_context())
    both = {(call.owner, call.modulus) for call in made.calls if made.features[call.owner][call.uploaded[0]].most > 1}
    products = {"cheapest": {(0, 104)}, "telco uploads": {(1, 104)}}
    assert both >= products[form] if form in products else {modulus for _, modulus in both} == {64}


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize(
    ("bank", "telco"),
    [
        (ends(401, 1), ends(401, 2)),
        ([TOP] * 100, [TOP] * 100),
        ([TOP] * 100, [-TOP] * 100),
        ([-TOP] * 100, [-TOP] * 100),
        ([TOP - 1] * 100, [1 - TOP] * 100),
        ([TOP, -TOP] * 50, [TOP] * 100),
        ([0] * 10, [TOP] * 10),
    ],
)
def test_sums_of_products_of_62_bit_columns_are_exact(ideal: Pair, bank: list[int], telco: list[int]) -> None:
    sql = "SELECT SUM(b.pence * t.pence) AS s, SUM(b.pence) AS x, SUM(t.pence) AS y, SUM(b.small * t.pence) AS z"
    (row,) = run(ideal, f"{sql}, AVG(b.pence * t.pence) AS m, SUM(b.pence * t.bill) AS d", bank, telco, wide_context())
    pairs = list(zip(bank, telco, strict=True))
    assert row["s"] == sum(x * y for x, y in pairs)
    assert (row["x"], row["y"]) == (sum(bank), sum(telco))
    assert row["z"] == sum((x >> 31) * y for x, y in pairs)
    assert row["m"] == pytest.approx(row["s"] / len(bank), rel=1e-12, abs=1e-12)
    cents = sum(x * (y >> 5) for x, y in pairs)
    assert row["d"].replace(".", "").lstrip("-").lstrip("0") == str(abs(cents)).lstrip("0")
    assert row["d"].startswith("-") == (cents < 0)


@pytest.mark.usefixtures("form")
def test_terms_of_different_widths_keep_their_signs(ideal: Pair) -> None:
    bank, telco = ends(200, 7), ends(200, 8)
    sql = (
        "SELECT SUM(b.pence * t.pence + b.small - 3) AS s, SUM(CASE WHEN t.on THEN b.pence ELSE -1 END * t.pence) AS u"
    )
    (row,) = run(ideal, sql, bank, telco, wide_context())
    pairs = list(enumerate(zip(bank, telco, strict=True)))
    assert row["s"] == sum(x * y + (x >> 31) - 3 for _, (x, y) in pairs)
    assert row["u"] == sum((x if place % 3 else -1) * y for place, (x, y) in pairs)


@pytest.mark.usefixtures("form")
def test_as_many_rows_as_were_planned_reach_the_ends_of_the_limbs(ideal: Pair) -> None:
    rows = 5000
    for x, y in ((TOP, TOP), (-TOP, TOP), (TOP - 1, TOP - 1)):
        (row,) = run(ideal, "SELECT SUM(b.pence * t.pence) AS s", [x] * rows, [y] * rows, wide_context(rows))
        assert row["s"] == rows * x * y


@pytest.mark.usefixtures("form")
def test_groups_conditions_and_the_smallest_group_hold_for_wide_sums(ideal: Pair) -> None:
    bank, telco = ends(120, 3), ends(120, 4)
    sql = f"SELECT b.grp, SUM(b.pence * t.pence) FILTER (WHERE t.on) AS s, COUNT(*) AS n {JOIN} GROUP BY b.grp"
    found = run(ideal, sql, bank, telco, wide_context(min_rows=20))
    for place, row in enumerate(found):
        wanted = [x * y for n, (x, y) in enumerate(zip(bank, telco, strict=True)) if n % 2 == place and n % 3]
        assert (row["s"], row["n"]) == (sum(wanted), 60)
    hidden = run(ideal, sql, bank[:50], telco[:50], wide_context(min_rows=20))
    assert [row["s"] for row in hidden] == [None, None]  # 25 rows a group, 16 or 17 of them enter


def test_the_lattice_engine_gives_the_same(ideal: Pair) -> None:
    bank, telco = ends(9000, 5), ends(9000, 6)  # two blocks
    sql = "SELECT SUM(b.pence * t.pence) AS s, AVG(b.small * t.pence) AS m"
    found = run(Pair.real(), sql, bank, telco, wide_context())
    assert found == run(ideal, sql, bank, telco, wide_context())
    assert found[0]["s"] == sum(x * y for x, y in zip(bank, telco, strict=True))


def test_typical_amounts_are_uploaded_whole_and_sums_that_fit_are_not_cut() -> None:
    pence = 2**30
    made = [replace(column, low=-pence, high=pence) if column.name == "pence" else column for column in (*BANK, *TELCO)]
    for rows, limbs in ((PLANNED, 3), (7, 1)):  # 2^60 times 7 is below 2^63
        both = (
            Catalogue("bank", (Table("customers", (("phone",),), tuple(made[:4]), rows),)),
            Catalogue("telco", (Table("subscribers", (("msisdn",),), tuple(made[4:]), rows),)),
        )
        context = Context("q", both, ("bank",), rows, 1)
        found = plan(f"SELECT SUM(b.pence * t.pence) AS s {JOIN}", context)
        assert max(len(quantity.limbs) for quantity in found.quantities) == limbs
        widest = next(quantity for quantity in found.quantities if len(quantity.limbs) == limbs)
        firsts = {first for limb in widest.limbs for _, first, _ in limb}
        seconds = {second for limb in widest.limbs for _, _, second in limb}
        assert min(len(firsts), len(seconds)) == 1


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        (f"SELECT b.grp {JOIN} GROUP BY b.grp HAVING SUM(b.pence * t.pence) > 0", "HAVING"),
        (f"SELECT b.grp {JOIN} GROUP BY b.grp ORDER BY SUM(b.pence * t.pence) LIMIT 1", "LIMIT"),
        (f"SELECT SUM({' * '.join(['b.pence * t.pence'] * 8)}) AS s {JOIN}", "SUM"),
        (f"SELECT SUM(b.pence * 4) AS s {JOIN}", "SUM"),  # one row's value is no word
        (f"SELECT VAR_POP(b.pence * b.small) AS s {JOIN}", "VAR_POP"),
    ],
)
def test_what_does_not_fit_is_refused_when_it_is_planned(sql: str, word: str) -> None:
    with pytest.raises(UsageError, match="would overflow 64 bits") as caught:
        plan(sql, wide_context())
    assert word in caught.value.message
    assert "range" in str(caught.value.hint)


@settings(max_examples=25, deadline=None)
@given(st.tuples(st.integers(1, 62), st.integers(1, 62)), st.integers(1, 10**7), st.integers(0, 2**32), st.booleans())
def test_random_ranges_and_rows_are_exact_and_agree_with_integers(
    ideal: Pair, bits: tuple[int, int], planned: int, seed: int, grouped: bool
) -> None:
    rng = np.random.default_rng(seed)
    rows = min(planned, int(rng.integers(1, 60)))
    most = [2**one - 1 for one in bits]
    bank, telco = ([int(v) for v in rng.integers(-top, top, rows, endpoint=True)] for top in most)
    bank[0], telco[0] = (int(rng.choice([-top, top])) for top in most)
    select = (
        f"SELECT {'b.grp, ' * grouped}SUM(b.pence * t.pence) AS s, SUM(t.pence) AS y, SUM(b.pence - t.pence + 5) AS d"
    )
    found = run(ideal, f"{select} {JOIN}{' GROUP BY b.grp' * grouped}", bank, telco, sized(*bits, planned))
    assert len(found) == (min(rows, 2) if grouped else 1)
    for row in found:
        chosen = [
            pair for n, pair in enumerate(zip(bank, telco, strict=True)) if not grouped or "ab"[n % 2] == row["grp"]
        ]
        assert row["s"] == sum(x * y for x, y in chosen)
        assert row["y"] == sum(y for _, y in chosen)
        assert row["d"] == sum(x - y + 5 for x, y in chosen)


# --- modulo 2^104 -----------------------------------------------------------------------------------------------------

NEVER_NULL = tuple(replace(column, nullable=False) for column in (*BANK, *TELCO))


def sized(first: int, second: int, rows: int = PLANNED, min_rows: int = 1) -> Context:
    """Columns of so many bits, which are never NULL."""
    bits = (first, second)
    made = []
    for place, columns in enumerate((NEVER_NULL[:4], NEVER_NULL[4:])):
        most = 2 ** bits[place] - 1
        named = tuple(replace(c, low=-most, high=most) if c.name == "pence" else c for c in columns)
        made.append(named)
    both = (
        Catalogue("bank", (Table("customers", (("phone",),), made[0], rows),)),
        Catalogue("telco", (Table("subscribers", (("msisdn",),), made[1], rows),)),
    )
    return Context("q", both, ("bank",), rows, min_rows)


@pytest.mark.parametrize(
    ("bits", "modulus", "uploads", "answers"),
    [
        ((30, 30), 64, 1, 3),
        ((61, 20), 64, 1, 3),
        ((40, 40), 104, 1, 2),
        ((61, 61), 104, 1, 3),
        ((62, 62), 104, 1, 4),
        ((62, 35), 64, 1, 9),
        ((62, 39), 104, 1, 2),
    ],
)
def test_the_form_of_the_fewest_bytes_is_taken(bits: tuple[int, int], modulus: int, uploads: int, answers: int) -> None:
    made = plan(f"SELECT SUM(b.pence * t.pence) AS s {JOIN}", sized(*bits))
    assert {call.modulus for call in made.calls} == {modulus}
    assert sum(len(call.uploaded) for call in made.calls) == uploads
    assert sum(len(call.uploaded) * len(call.rows) for call in made.calls) == answers


def test_two_62_bit_columns_over_a_million_rows_take_26_mb_and_no_round_more_than_narrow_ones() -> None:
    for min_rows, rounds in ((1, 2), (20, 7)):
        made = plan(f"SELECT SUM(b.pence * t.pence) AS s {JOIN}", sized(61, 61, min_rows=min_rows))
        steps = steps_of(made, held=Held(keys={(o, m) for o in (0, 1) for m in (64, 104)}, transfers=True))
        assert sum(step.bytes for step in steps) <= 26_000_000
        assert sum(step.rounds for step in steps) <= rounds
        again = Held(keys={(0, 104)}, transfers=True)
        steps_of(made, held=again)
        assert sum(step.bytes for step in steps_of(made, held=again)) <= 400_000


def test_each_sum_of_a_statement_has_its_own_form() -> None:
    sql = f"SELECT SUM(b.pence * t.pence) AS s, SUM(b.small * t.pence) AS z, SUM(b.pence) AS x {JOIN}"
    made = plan(sql, sized(61, 61))
    assert {call.modulus for call in made.calls} == {104}  # 31 x 61 bits ride on the upload that is there
    owners = {call.owner for call in made.calls}
    assert owners == {1} and len({call.uploaded for call in made.calls}) == 1
    for number in range(2):
        for form in (None, 0, 1):
            forms = Builder.forms
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(
                    Builder, "forms", lambda self, n, at=number, to=form, all_=forms: [to] if n == at else all_(self, n)
                )
                other = plan(sql, sized(61, 61))
            assert bytes_of(other.calls, (), PLANNED) >= bytes_of(made.calls, (), PLANNED)


@pytest.mark.parametrize("min_rows", [1, 20])
@pytest.mark.parametrize("select", ["SUM(b.pence * t.pence) AS s", "AVG(b.pence * t.pence) AS s, SUM(t.pence) AS y"])
@pytest.mark.parametrize("tail", ["", " GROUP BY b.grp"])
def test_bytes_and_rounds_are_the_declared_ones(select: str, tail: str, min_rows: int) -> None:
    rows = 8200  # two blocks
    pair = Pair.real()
    made = plan(f"SELECT {'b.grp, ' * bool(tail)}{select} {JOIN}{tail}", sized(61, 61, rows, min_rows))
    assert 104 in {call.modulus for call in made.calls}
    bank, telco = ([v // 2 for v in ends(rows, seed)] for seed in (21, 22))
    bank, telco = ([min(max(v, 1 - 2**61), 2**61 - 1) for v in column] for column in (bank, telco))
    (answer, _) = pair.run(made, *wide_tables(bank, telco))
    assert answer is not None and (answer.rows[0]["s"] is not None)
    steps = steps_of(made)
    assert sum(step.bytes for step in steps) == pytest.approx(sum(c.counters.sent for c in pair.channels), rel=0.001)
    assert sum(step.rounds for step in steps) == max(channel.counters.rounds for channel in pair.channels)


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("seed", range(3))
def test_sums_of_groups_agree_with_duckdb(ideal: Pair, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bank, telco = ([int(v) for v in rng.integers(-(2**57), 2**57, 900)] for _ in range(2))
    tail = f"{JOIN} GROUP BY b.grp"
    found = run(
        ideal, f"SELECT b.grp, SUM(b.pence * t.pence) AS s, SUM(b.pence) AS x {tail}", bank, telco, wide_context()
    )
    cast = "SUM(CAST(b.pence AS HUGEINT) * t.pence) AS s, SUM(b.pence) AS x"
    wanted = oracle(f"SELECT b.grp, {cast} {tail} ORDER BY b.grp", *wide_tables(bank, telco))
    assert sorted(found, key=lambda row: str(row["grp"])) == wanted


@pytest.mark.usefixtures("form")
def test_moments_of_wide_columns_are_exact(ideal: Pair) -> None:
    bank, telco = ends(300, 31), ends(300, 32)
    names = ("COVAR_POP", "CORR", "REGR_SLOPE")
    sql = ", ".join(f"{name}(b.pence, t.pence) AS {name.lower()}" for name in names)
    (row,) = run(ideal, f"SELECT {sql}", bank, telco, wide_context())
    n, sx, sy = len(bank), sum(bank), sum(telco)
    xy = n * sum(x * y for x, y in zip(bank, telco, strict=True)) - sx * sy
    xx, yy = (n * sum(v * v for v in some) - total**2 for some, total in ((bank, sx), (telco, sy)))
    assert row["covar_pop"] == pytest.approx(xy / n**2, rel=1e-12)
    assert row["corr"] == pytest.approx(xy / (xx**0.5 * yy**0.5), rel=1e-12)
    assert row["regr_slope"] == pytest.approx(xy / yy, rel=1e-12)


@pytest.mark.usefixtures("form")
def test_of_a_small_group_no_word_is_opened(ideal: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    execution, seen = importlib.import_module("mpc.sql.execute"), []
    real = execution.open_long

    def watched(engine: Any, share: np.ndarray, what: str, to: Any) -> Any:
        words = real(engine, share, what, to)
        seen.extend([] if words is None else [(what, long.integers(words))])
        return words

    monkeypatch.setattr(execution, "open_long", watched)
    bank, telco = [TOP, -TOP + 1] * 35, [TOP - row**3 for row in range(70)]
    first, second = wide_tables(bank, telco)
    groups = pa.array(["a"] * 5 + ["b"] * 25 + ["c"] * 40)
    first = first.set_column(first.schema.get_field_index("grp"), "grp", groups)
    (ours, theirs), domain = wide_context().catalogues, ("a", "b", "c")
    named = tuple(replace(column, domain=domain) if column.name == "grp" else column for column in BANK)
    ours = replace(ours, tables=(replace(ours.tables[0], columns=named),))
    context = Context("q", (ours, theirs), ("bank",), PLANNED, 20)
    sql = f"SELECT b.grp, SUM(b.pence * t.pence) AS s, AVG(b.small * t.pence) AS m {JOIN} GROUP BY b.grp"
    answer, _ = ideal.run(plan(sql, context), first, second)
    assert answer is not None and len(seen) == 5
    assert all(numbers[0] == numbers[1] == numbers[3] == 0 != numbers[2] for _, numbers in seen)  # b goes with a; NULL
    assert [row["s"] for row in answer.rows] == [sum(x * y for x, y in zip(bank[30:], telco[30:], strict=True))]


def test_uploads_modulo_2_104_are_kept_and_sent_again_when_they_changed() -> None:
    pair, made = Pair.ideal(), plan(f"SELECT SUM(b.pence * t.pence) AS s {JOIN}", wide_context())
    bank, telco = ends(50, 41), ends(50, 42)

    def sent() -> int:
        return sum(len(engine.linear.calls) for engine in pair.engines)  # type: ignore[attr-defined]

    counts = []
    for ours, theirs in ((bank, telco), (bank, telco), (bank, telco[::-1]), (bank[::-1], telco), (bank[::-1], telco)):
        before = sent()
        answer, _ = pair.run(made, *wide_tables(ours, theirs), b"one")
        assert answer is not None and answer.rows[0]["s"] == sum(x * y for x, y in zip(ours, theirs, strict=True))
        counts.append(sent() - before)
    assert counts[0] > 0 and counts[1:3] == [0, 0] and counts[3] > 0 and counts[4] == 0
    narrow = plan(f"SELECT SUM(b.pence * t.on) AS s {JOIN}", wide_context())
    before = sent()
    pair.run(narrow, *wide_tables(bank[::-1], telco), b"one")
    assert sent() > before or not narrow.calls  # what is there modulo 2^104 is no column modulo 2^64


def test_too_little_hiding_is_refused_when_it_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    sql = f"SELECT SUM(b.pence * t.pence) AS s {JOIN}"
    bits = lattice.hiding_bits(lattice.WIDE, PLANNED, 22, 3, 2**104)
    monkeypatch.setattr(uploading, "HIDING_BITS", bits - 0.1)
    plan(sql, sized(61, 61))
    monkeypatch.setattr(uploading, "HIDING_BITS", bits + 0.1)
    with pytest.raises(UsageError, match="bits of hiding"):
        plan(sql, sized(61, 61))


@given(st.integers(1, 2**31), st.integers(1, 2**64), st.integers(1, 2**63), st.data())
def test_long_digits_make_up_the_product_and_fill_a_quarter_of_the_modulus(
    rows: int, whole: int, most: int, data: st.DataObject
) -> None:
    cut = long_cut_of(rows, [(3, most, whole)])
    if cut is None:
        assert whole >= 2**63 or rows * 3 * whole >= 2**98
        return
    x = data.draw(st.sampled_from([whole, -whole]) | st.integers(-whole, whole))
    y = data.draw(st.sampled_from([most, -most, 1 - most, -1]) | st.integers(-most, most))
    limbs = []
    for place in range(cut.limbs):
        digits = [(_digit(y, a), _digit(x, b)) for a, b in cut.products(place, most, whole)]
        assert all(abs(digit) < 2**21 for digit, _ in digits)
        limbs.append(3 * sum(digit * other for digit, other in digits))
    assert sum(limb << (cut.width * place) for place, limb in enumerate(limbs)) == 3 * x * y
    assert all(rows * abs(limb) < 2**102 for limb in limbs)


FACTORS = st.lists(
    st.tuples(st.integers(1, 10**4), st.integers(1, 2**100), st.integers(1, 2**63)).map(
        lambda term: (term[0], max(term[1:]), min(term[1:]))
    ),
    min_size=1,
    max_size=4,
)


def _digit(x: int, cut: tuple[int, int]) -> int:
    shift, width = cut
    return x >> shift & 2**width - 1 if width else x >> shift


@given(st.integers(1, 2**31), FACTORS, st.data())
def test_digits_make_up_the_product_and_no_limb_overflows(
    rows: int, factors: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    cut = cut_of(rows, factors)
    if cut is None:
        assert rows * sum(factor * most for factor, most, _ in factors) >= 2**63  # nothing small is refused
        return
    reached = [0] * cut.limbs
    for factor, most, other in factors:
        x = data.draw(st.sampled_from([most, -most, most - 1, 1 - most, -1]) | st.integers(-most, most))
        y = data.draw(st.sampled_from([other, -other, other - 1, 1 - other, -1]) | st.integers(-other, other))
        limbs = []
        for place in range(cut.limbs):
            digits = [(_digit(x, a), _digit(y, b)) for a, b in cut.products(place, most, other)]
            limbs.append(sum(first * second for first, second in digits))
        assert sum(limb << (cut.width * place) for place, limb in enumerate(limbs)) == x * y
        reached = [total + rows * factor * abs(limb) for total, limb in zip(reached, limbs, strict=True)]
    assert max(reached) < 2**62  # what `widen` takes of a share modulo 2^64
