"""Sums over 64 bits: cut into digits, joined on shares, exact to the last one; or refused before anything runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpc.sql import Context, plan
from mpc.sql.cutting import cut_of
from party.catalogue import Catalogue, Column, Table
from party.errors import UsageError
from tests.mpc.sqlkit import JOIN, Pair, arrow

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


def test_terms_of_different_widths_keep_their_signs(ideal: Pair) -> None:
    bank, telco = ends(200, 7), ends(200, 8)
    sql = (
        "SELECT SUM(b.pence * t.pence + b.small - 3) AS s, SUM(CASE WHEN t.on THEN b.pence ELSE -1 END * t.pence) AS u"
    )
    (row,) = run(ideal, sql, bank, telco, wide_context())
    pairs = list(enumerate(zip(bank, telco, strict=True)))
    assert row["s"] == sum(x * y + (x >> 31) - 3 for _, (x, y) in pairs)
    assert row["u"] == sum((x if place % 3 else -1) * y for place, (x, y) in pairs)


def test_as_many_rows_as_were_planned_reach_the_ends_of_the_limbs(ideal: Pair) -> None:
    rows = 5000
    for x, y in ((TOP, TOP), (-TOP, TOP), (TOP - 1, TOP - 1)):
        (row,) = run(ideal, "SELECT SUM(b.pence * t.pence) AS s", [x] * rows, [y] * rows, wide_context(rows))
        assert row["s"] == rows * x * y


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
